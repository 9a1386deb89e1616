"""Prepared records on disk: whole, or not there at all.

TFDS writes into a folder `incomplete.XXXXXX_VERSION` and renames it when everything is in it. What
is added here: one process prepares a set at a time, what a killed one left behind is removed, a
folder that lost files later is noticed, and a full disk is one message.
"""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.digests import DIGEST_FILE, read_digests
from cada_jax.data.preparation.features import caption_features
from cada_jax.text.vocabulary import BERT_DIGEST, VOCABULARY_FILE, vocabulary_digest

METADATA_FILES = ("dataset_info.json", "features.json", VOCABULARY_FILE)
RECORD_FRAME = 16  # bytes that the TFRecord format puts around a record
LOCK_FILE = ".preparing.lock"
# Names that `caption_config` makes; they end in the beginning of the vocabulary's digest.
VARIANT = re.compile(
    r"(?P<tagger>[a-z]+)-(?P<unit>[a-z]+)-(?P<length>\d+)(-(?P<digest>[0-9a-f]{8}))?"
)


def find_defect(folder: str | Path) -> str | None:
    """Returns what a prepared folder lacks, None if it is whole.

    The number of bytes of every split is compared with what was written. Records are not read; what
    is in them is checked by `load_split`, and by `changed_file`.
    """
    folder = Path(folder)
    defect = find_metadata_defect(folder)
    if defect:
        return defect
    for split in tfds.builder_from_directory(folder).info.splits.values():
        files = [Path(path) for path in split.filepaths]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            return f"{missing[0]} is missing"
        size = sum(path.stat().st_size for path in files)
        expected = split.num_bytes + RECORD_FRAME * split.num_examples
        if size != expected:
            return f"the records of {split.name} have {size} bytes, expected {expected}"
    return None


def find_metadata_defect(folder: str | Path) -> str | None:
    """Returns what is wrong with the files that describe a prepared set, None if nothing is."""
    folder = Path(folder)
    for name in METADATA_FILES:
        if not (folder / name).is_file():
            return f"{name} is missing"
    for name in METADATA_FILES[:2]:
        try:
            described = json.loads((folder / name).read_text(encoding="utf-8"))
        except (ValueError, OSError, RecursionError) as err:
            return f"{name} cannot be read ({err})"
        if not isinstance(described, dict):
            return f"{name} holds a {type(described).__name__}, expected an object"
        version = described.get("version", folder.name) if name == METADATA_FILES[0] else None
        if version not in (None, folder.name):
            return f"{name} is of version {version}, expected {folder.name}"
    try:
        info = tfds.builder_from_directory(folder).info
        length = info.features["captions"]["token_ids"].shape[-1]
        if info.features.to_json() != caption_features(length).to_json():
            return "features.json describes other features than an image with its captions"
        if not info.splits:
            return "dataset_info.json names no split"
    except Exception as err:  # TFDS raises nearly every built-in exception on damaged files
        text = str(err).splitlines()[0][:200] if str(err) else type(err).__name__
        return f"dataset_info.json or features.json cannot be read ({text})"
    return _vocabulary_defect(folder)


def _vocabulary_defect(folder: Path) -> str | None:
    """Whether vocab.txt is what the digests and the folder's name say."""
    try:
        stored = read_digests(folder)
    except (ValueError, OSError) as err:
        return f"{DIGEST_FILE} cannot be read ({err})"
    digest = vocabulary_digest(folder / VOCABULARY_FILE)
    named = VARIANT.fullmatch(folder.parent.name)
    expected = (named["digest"] or BERT_DIGEST) if named else ""
    if not digest.startswith(expected) or (stored and stored["vocabulary"] != digest):
        return f"{VOCABULARY_FILE} is not the vocabulary that the records were made with"
    return None


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Tells whether everything that a preparation writes is there."""
    return Path(builder.data_dir).is_dir() and find_defect(builder.data_dir) is None


def check_whole(folder: str | Path, remedy: str = "remove that folder and run again") -> None:
    """Raises UsageError if a folder of this name exists and is not a complete preparation.

    Args:
      folder: of the prepared set.
      remedy: how to prepare it again.
    """
    folder = Path(folder)
    defect = find_defect(folder) if folder.exists() else None
    if defect:
        raise UsageError(
            f"{folder} exists and is not a complete preparation: {defect}. To prepare it again, "
            f"{remedy}"
        )


def write_records(
    builder: tfds.core.GeneratorBasedBuilder, source: str | Path | None = None
) -> None:
    """Runs a builder; afterwards the data is complete, or the folder is not there at all.

    Args:
      builder: nothing happens if its data is there.
      source: the published folder, None for generated data.

    Raises:
      UsageError: something in the source, or the folder cannot be written or is full.
    """
    settings = tfds.download.DownloadConfig(manual_dir=source and str(source))
    tfds.disable_progress_bar()
    folder = Path(builder.data_dir)
    check_whole(folder)
    try:
        with _only_writer(folder):
            if is_prepared(builder):
                return  # by another process, while this one waited
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS speaks of downloads there
                builder.download_and_prepare(download_config=settings)
    except Exception as err:  # TFDS wraps some errors in others
        if is_prepared(builder):
            return  # by another machine that shares the folder but not the lock
        reason = _root_cause(err)
        if isinstance(reason, UsageError):
            raise reason from None
        if reason is None:
            raise
        text = getattr(reason, "strerror", None) or getattr(reason, "message", None) or reason
        raise UsageError(
            f"cannot write prepared data under {folder}: {text}. Nothing half-written was left. "
            "Make room, or take another folder: --data_dir (config.data.data_dir) or $CADA_DATA_DIR"
        ) from err


def _root_cause(error: BaseException | None) -> Exception | None:
    """The usage error, or the error of a file system, that an exception stems from."""
    while error is not None:
        if isinstance(error, UsageError | OSError | tf.errors.OpError):
            return error
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Waits until no other process prepares `folder`, then removes what killed ones left there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / LOCK_FILE).open("w") as lock:
        if _lock(lock, folder):
            for left in folder.parent.glob(f"incomplete.*_{folder.name}"):
                print(f"Removing {left}, which an interrupted preparation left", flush=True)
                shutil.rmtree(left)
        yield


def _lock(file, folder: Path) -> bool:
    """Locks an open file until it is closed; False where the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Waiting for another process that prepares {folder} ...", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
