"""NLTK's tagger as the released code uses it, and what is wrong with its data if it fails."""

import os
import pathlib

from cada_jax.common.errors import UsageError
from cada_jax.text.attribute_phrases import Tagger, make_tagger

OLD_NAME, NAME = "averaged_perceptron_tagger", "averaged_perceptron_tagger_eng"


def load_nltk() -> Tagger:
    """The tagger "nltk" of `make_tagger`.

    Raises:
      MissingFileError: there is no data.
      ImportError: there is no NLTK.
      UsageError: the data is damaged, or NLTK_DATA names a folder with data of the old name alone.
    """
    try:
        tagger = make_tagger("nltk")
        tagger(["a", "red", "coat"])
    except (LookupError, UsageError, ImportError):
        if old := _old_data():
            raise UsageError(
                f"NLTK_DATA: {old} is data of the old name, which NLTK reads no more; expected "
                f"{NAME}. Get it: python -m nltk.downloader -d {old.parents[1]} {NAME}"
            ) from None
        raise
    except Exception as err:  # damaged JSON gives ValueError, KeyError, TypeError, OSError ...
        raise UsageError(
            f"NLTK's data {NAME} is damaged ({type(err).__name__}: {err}). Remove it, then "
            f"python -m nltk.downloader {NAME}"
        ) from err
    return tagger


def _old_data() -> pathlib.Path | None:
    """Data of the old name in a folder of NLTK_DATA, None if there is none."""
    for folder in filter(None, os.environ.get("NLTK_DATA", "").split(os.pathsep)):
        for name in (OLD_NAME, f"{OLD_NAME}.zip"):
            path = pathlib.Path(folder) / "taggers" / name
            if path.exists():
                return path
    return None
