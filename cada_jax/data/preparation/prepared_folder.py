"""Prepared records on disk: whole, or not there at all, and what was written is what is read.

TFDS writes into a folder `incomplete.XXXXXX_VERSION` and renames it when everything is in it. What
is added here: one process prepares a set at a time, what a killed one left behind is removed, and
`digests.json` tells later damage:

  files: SHA-256 of every file of records, of vocab.txt and of persons.json
  source: `Source.digest` of the list that the set was prepared from, "" for generated people
"""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_json, write_json

DIGEST_FILE, PERSONS_FILE = "digests.json", "persons.json"
LOCK_FILE = ".preparing.lock"


def file_digest(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, in hexadecimal: 1.4 GB a second of one core."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: str | os.PathLike, source: str = "") -> None:
    """Writes the digests of all files of a folder; `source` is `Source.digest`."""
    files = {path.name: file_digest(path) for path in sorted(Path(folder).iterdir())}
    write_json(Path(folder) / DIGEST_FILE, {"files": files, "source": source})


def read_digests(folder: str | os.PathLike) -> tuple[dict[str, str], str]:
    """Returns the digests of the files, and that of the source.

    Raises:
      UsageError: they are missing or damaged.
    """
    path = Path(folder) / DIGEST_FILE
    stored = read_json(path, "the digests of prepared data")
    if not isinstance(stored, dict) or not isinstance(stored.get("files"), dict):
        raise UsageError(f"{path}: expected an object with files and source")
    return stored["files"], stored.get("source", "")


def check_files(folder: str | os.PathLike, names: Iterable[str] | None = None) -> None:
    """Raises UsageError unless files are what was written: all of them, or some by name."""
    stored, _ = read_digests(folder)
    for name in stored if names is None else names:
        path = Path(folder) / name
        if not path.is_file():
            raise UsageError(f"{path} is missing")
        if file_digest(path) != stored.get(name):
            raise UsageError(f"{path} is not the file that was written there (its digest differs)")


def write_persons(folder: str | os.PathLike, persons: tuple[str, ...]) -> None:
    """Writes the ids by number, see `source.number_persons`; no file where numbers are the ids."""
    if persons:
        write_json(Path(folder) / PERSONS_FILE, persons)


def read_persons(folder: str | os.PathLike) -> tuple[str, ...]:
    """Returns the ids by number, empty where the numbers are the ids."""
    path = Path(folder) / PERSONS_FILE
    return tuple(read_json(path, "the persons' ids")) if path.is_file() else ()


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Tells whether a preparation finished; its files may have been damaged since."""
    return (Path(builder.data_dir) / DIGEST_FILE).is_file()


def write_records(
    builder: tfds.core.GeneratorBasedBuilder, source: str | Path | None = None
) -> None:
    """Runs a builder; afterwards the data is complete, or the folder is not there at all.

    Args:
      builder: nothing happens if its data is there.
      source: the folder of the images, None for generated data.

    Raises:
      UsageError: something in the source; a folder of that name is there that lacks digests.
    """
    settings = tfds.download.DownloadConfig(manual_dir=source and str(source))
    tfds.disable_progress_bar()
    folder = Path(builder.data_dir)
    with _only_writer(folder):
        if is_prepared(builder):
            return  # by another process, while this one waited
        if folder.exists():
            raise UsageError(
                f"{folder} is no complete preparation: {DIGEST_FILE} is missing. Remove that "
                "folder and run the same command again"
            )
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS speaks of downloads there
            builder.download_and_prepare(download_config=settings)


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Waits until no other process prepares `folder`, then removes what killed ones left there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock.locked(folder.parent / LOCK_FILE, wait=True):
        for left in folder.parent.glob(f"incomplete.*_{folder.name}"):
            print(f"Removing {left}, which an interrupted preparation left", flush=True)
            shutil.rmtree(left)
        yield
