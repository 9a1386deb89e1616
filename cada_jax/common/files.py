"""Files and folders that are whole or not there, and never in the place of somebody else's.

A target is written under another name beside it, then renamed. What already lies there is replaced
only if the caller recognises it as written by this program.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from cada_jax.common.errors import UsageError

# In a folder that is being written. Without this file, a folder under our name is not ours.
BEING_WRITTEN = ".cada_jax_partial"
SHOWN = 5  # names of a foreign folder that a message lists


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
    path = pathlib.Path(path).expanduser()
    try:
        if not os.path.lexists(path):
            return
        if path.is_dir():
            if not any(path.iterdir()):
                return
            found = f"a folder with {contents(path)}"
        elif path.is_file():
            found = f"a file of {path.stat().st_size} bytes"
        else:
            found = "a link to nothing" if path.is_symlink() else "no ordinary file"
        ours = is_ours(path)
    except OSError as e:
        raise UsageError(f"{path}: expected a place for {what}, but {e.strerror}.") from e
    if not ours:
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


def _clear_partial(partial: pathlib.Path, is_ours: Callable[[pathlib.Path], bool]) -> None:
    """Removes what a killed process left half written, and nothing else."""
    if not os.path.lexists(partial):
        return
    folder = partial.is_dir() and not partial.is_symlink()
    if not folder or not (
        (partial / BEING_WRITTEN).is_file() or is_ours(partial) or not any(partial.iterdir())
    ):
        raise UsageError(
            f"{partial}: expected nothing under this name, where {partial.name} is written before "
            "it is renamed, but something is there that this program did not write. Move it away."
        )
    shutil.rmtree(partial)


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
    path = pathlib.Path(path).expanduser().absolute()
    if path.is_symlink():
        path = path.resolve()  # what the link names is written; the link stays
    try:
        settle(path, is_ours)
        check_target(path, overwrite, is_ours, what)
        partial, old = partial_folder(path), _moved_aside(path)
        if os.path.lexists(old):
            raise UsageError(
                f"{old}: expected nothing under this name, where the folder that is replaced goes, "
                "but something is there that this program did not write. Move it away."
            )
        _clear_partial(partial, is_ours)
        partial.mkdir(parents=True)
        (partial / BEING_WRITTEN).touch()
    except OSError as e:
        raise UsageError(
            f"{path}: expected a place for {what}, but writing there failed: {e}."
        ) from e
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
