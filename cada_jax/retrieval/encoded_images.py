"""Encoded images that texts search, and the file that keeps them."""

import contextlib
import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.files import check_target, local_path, whole_file
from cada_jax.common.shapes import Float, Float32, Int

# Types of image tokens by the name in the file; NumPy's format knows bfloat16 as two bytes only.
TOKEN_TYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
# What NumPy raises for a damaged file, and for one that is a single array.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)
ARRAYS = ("embeddings", "tokens", "token_type", "pids", "names", "model")


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of a file; NumPy leaves one open that it opened itself and could not read."""
    with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
        yield file


def _is_ours(path: pathlib.Path) -> bool:
    """Whether `EncodedImages.save` wrote a file."""
    try:
        with _opened(path) as file:
            return set(file.files) == set(ARRAYS)
    except UNREADABLE:
        return False


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """G encoded images, on the host.

    Attributes:
      embeddings: float32 [G,E] of length 1.
      tokens: [G,S,Dv] in the model's dtype, for re-ranking.
      pids: int [G], the person in each image, -1 for unknown.
      names: what each image is called, a path for instance; empty or G long.
      model: digest of the parameters that encoded them, "" for unknown. Embeddings of two models
        cannot be compared.
    """

    embeddings: Float32[np.ndarray, "G E"]
    tokens: Float[np.ndarray, "G S Dv"]
    pids: Int[np.ndarray, "G"]
    names: tuple[str, ...] = ()
    model: str = ""

    def __len__(self) -> int:
        return len(self.embeddings)

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything into one .npz file, whole or not at all.

        Raises:
          UsageError: something else than encoded images lies at `path`; it is left as it is.
        """
        check_target(path, True, _is_ours, "encoded images")
        tokens = self.tokens
        arrays = {
            "embeddings": self.embeddings,
            "tokens": tokens if tokens.dtype == np.float32 else tokens.view(np.uint16),
            "token_type": np.array(tokens.dtype.name),
            "pids": self.pids,
            "names": np.array(self.names, dtype=str),
            "model": np.array(self.model),
        }
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EncodedImages":
        """Reads what `save` wrote.

        Raises:
          MissingFileError: there is no such file.
          UsageError: it is damaged, or holds no encoded images.
        """
        path = local_path(path)
        if not path.is_file():
            raise MissingFileError(
                f"{path}: expected what EncodedImages.save writes, but there is no such file."
            )
        try:
            with _opened(path) as file:
                arrays = {name: file[name] for name in ARRAYS}
            tokens = arrays["tokens"]
            kind = TOKEN_TYPES[str(arrays["token_type"])]
            tokens = tokens if kind is np.float32 else tokens.view(kind)
            names = tuple(arrays["names"].tolist())
            encoded = cls(arrays["embeddings"], tokens, arrays["pids"], names, str(arrays["model"]))
            sizes = {len(encoded), len(tokens), len(encoded.pids), len(names) or len(encoded)}
            if len(sizes) != 1:
                raise ValueError(f"its arrays have {sorted(sizes)} rows")
        except UNREADABLE as e:
            raise UsageError(
                f"{path}: expected what EncodedImages.save writes, but reading it failed: {e}. "
                "Encode the images again."
            ) from e
        return encoded
