"""Files that are whole or not there: written under another name, then renamed."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

from cada_jax.common.errors import UsageError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write to; it becomes `path` at the end of the `with` block.

    No reader ever sees half of the file. When the block raises, `path` stays as it was.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_target(
    path: str | os.PathLike, overwrite: bool, is_ours: Callable[[pathlib.Path], bool], what: str
) -> None:
    """Raises UsageError unless `path` is free to be written.

    Free is what does not exist, an empty folder, and, with `overwrite`, what `is_ours` accepts.

    Args:
      path: the file or folder to be written.
      overwrite: whether the user allowed to replace what this project wrote.
      is_ours: whether this project wrote what lies at `path`, and nothing of the user's is in it.
      what: of what kind `path` will be, for the message: "a model folder".
    """
    path = pathlib.Path(path)
    if not os.path.lexists(path):
        return
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        if not names and not path.is_symlink():
            return
        lies = f"a folder with {', '.join(names[:3])}" + " ..." * (len(names) > 3)
    else:
        lies = f"a file of {path.stat().st_size if path.exists() else 0} bytes"
    if is_ours(path):
        if overwrite:
            return
        raise UsageError(f"{path} exists ({what}). --overwrite replaces it; nothing was touched")
    raise UsageError(
        f"{path} exists and is not {what} that was written here: {lies}. Name another place; "
        "nothing was touched, and --overwrite would not replace it"
    )
