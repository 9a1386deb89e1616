"""Files and folders that are whole or not there, and never in the place of somebody else's.

A target is written under another name beside it, then renamed. What already lies there is replaced
only if the caller recognises it as written by this program.
"""

import contextlib
import json
import os
import pathlib
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Any

from cada_jax.common.errors import UsageError, reading

# In a folder that is being written. Without this file, a folder under our name is not ours.
BEING_WRITTEN = ".cada_jax_partial"
SHOWN = 5  # names of a foreign folder that a message lists


def absolute(path: str | os.PathLike) -> str:
    """The absolute path of what the system would open; "~" is the home folder.

    Links stay as they are, unless ".." comes after one: the system goes up from where it leads.
    """
    path = os.path.expanduser(os.fspath(path))
    if os.pardir in path.split(os.sep):
        return os.path.realpath(path)
    return os.path.abspath(path)


def local_path(text: str | os.PathLike) -> pathlib.Path:
    """The absolute path that a user named, with "~" expanded; nothing needs to lie there.

    Raises:
      UsageError: it is an address, as "gs://bucket/run", which would name a folder "gs:" here; or
        "~NAME" of a user that this machine has not.
    """
    if "://" in str(text):
        raise UsageError(
            f"{text}: expected a path, got an address. Mount the bucket (Cloud Storage FUSE) or "
            "use a shared disk (Filestore, NFS), and give the path there."
        )
    if os.path.expanduser(text).startswith("~"):
        raise UsageError(f"{text}: there is no user {str(text).split('/')[0]} here")
    return pathlib.Path(absolute(text))


def read_bytes(path: str | os.PathLike, what: str, most: int = 1 << 30) -> bytes:
    """The content of an ordinary file: never waits for a pipe, nor reads a device without end.

    Args:
      path: of the file; "~" is the home folder.
      what: it should be, for the message: "a list of boxes".
      most: bytes that it may have.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it is no ordinary file, is too large, or cannot be read.
    """
    with reading(path, what):
        path = pathlib.Path(path).expanduser()
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISDIR(found.st_mode):
                raise UsageError(f"{path}: expected {what}, got a folder")
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(f"{path}: expected {what}, got a pipe or a device")
            if found.st_size > most:
                raise UsageError(
                    f"{path}: expected {what} of at most {most:,} bytes, got {found.st_size:,}"
                )
            return file.read()


def read_json(path: str | os.PathLike, what: str) -> Any:
    """The value in a JSON file; arguments and errors as of `read_bytes`."""
    content = read_bytes(path, what)
    with reading(path, f"{what} in JSON"):
        return json.loads(content)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write to; it becomes `path` at the end of the `with` block.

    No reader ever sees half of the file. When the block raises, `path` stays as it was.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON value to `path`, indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def contents(folder: pathlib.Path) -> str:
    """What a folder holds, for a message: "a.txt, b.txt and 3 more", or "nothing"."""
    names = sorted(p.name for p in folder.iterdir())
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "nothing") + more


def check_target(
    path: str | os.PathLike, overwrite: bool, is_ours: Callable[[pathlib.Path], bool], what: str
) -> None:
    """Raises UsageError unless `path` may be written.

    It may if it is new, an empty folder, or, with `overwrite`, ours.

    Args:
      path: the file or folder to write.
      overwrite: whether what this program wrote there before may be replaced.
      is_ours: tells whether this program wrote everything that lies at a path.
      what: what is to be written, for the message: "a model folder".
    """
    path = local_path(path)
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_ours(path):
        found = f"a folder with {contents(path)}" if path.is_dir() else "no folder"
        raise UsageError(
            f"{path} exists and is not {what} that this program wrote, with nothing else in it: "
            f"{found}. Nothing was touched, and --overwrite would not replace it: choose another "
            "path."
        )
    if not overwrite:
        raise UsageError(
            f"{path} exists ({what}). Nothing was touched: choose another path; --overwrite "
            "replaces it."
        )


def partial_folder(path: str | os.PathLike) -> pathlib.Path:
    """Where `whole_folder` writes what becomes `path`."""
    path = pathlib.Path(path)
    return path.with_name(f".{path.name}.partial")


def _moved_aside(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{path.name}.old")


def settle(path: str | os.PathLike, is_ours: Callable[[pathlib.Path], bool]) -> None:
    """Finishes a replacement that a crash interrupted: afterwards `path` is the old or the new.

    Between its two renames, the old folder lies under another name and `path` is missing: it is
    moved back. After them it is a left-over and removed.
    """
    path = pathlib.Path(path)
    old = _moved_aside(path)
    if not old.is_dir() or old.is_symlink() or not is_ours(old):
        return
    if os.path.lexists(path):
        shutil.rmtree(old)
    else:
        old.rename(path)


def _is_left_over(partial: pathlib.Path, is_ours: Callable[[pathlib.Path], bool]) -> bool:
    """Whether a killed process left this folder half written, or just not renamed."""
    return (partial / BEING_WRITTEN).is_file() or is_ours(partial) or not any(partial.iterdir())


def _require_free(path: pathlib.Path, name: pathlib.Path) -> None:
    if os.path.lexists(name):
        raise UsageError(
            f"{name}: expected nothing under this name, which is needed while {path.name} is "
            "written, but something is there that this program did not write. Move it away."
        )


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike, overwrite: bool, is_ours: Callable[[pathlib.Path], bool], what: str
) -> Iterator[pathlib.Path]:
    """Yields a folder to fill; at the end of the `with` block it becomes `path`.

    Arguments as of `check_target`, which is called first. A folder that is replaced is moved aside
    and removed after the new one stands. A crash leaves the old one or the new one: `settle`, which
    the next call makes, tidies up. When the block raises, `path` stays as it was.

    Raises:
      UsageError: `path` may not be written.
    """
    path = local_path(path)
    if path.is_symlink() and path.is_dir():
        path = path.resolve()  # what the link names is written; the link stays
    settle(path, is_ours)
    check_target(path, overwrite, is_ours, what)
    partial, old = partial_folder(path), _moved_aside(path)
    if partial.is_dir() and not partial.is_symlink() and _is_left_over(partial, is_ours):
        shutil.rmtree(partial)
    for name in (partial, old):
        _require_free(path, name)
    partial.mkdir(parents=True)
    (partial / BEING_WRITTEN).touch()
    try:
        yield partial
        (partial / BEING_WRITTEN).unlink()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _put_in_place(partial, path, old)


def _put_in_place(partial: pathlib.Path, path: pathlib.Path, old: pathlib.Path) -> None:
    if not path.is_dir() or not any(path.iterdir()):
        partial.rename(path)  # also in the place of an empty folder
        return
    path.rename(old)
    try:
        partial.rename(path)
    except BaseException:
        old.rename(path)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old)
