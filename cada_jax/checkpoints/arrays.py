"""Pytrees of arrays in folders, written and read by Orbax.

Orbax's `StandardCheckpointer` is of the API that Orbax calls V0, which has kept its names since
0.5; its successor is still experimental in 0.12.8.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from cada_jax.common import log_file
from cada_jax.common.errors import NoRoomError, UsageError, reading, reason
from cada_jax.common.files import local_path
from cada_jax.common.pytrees import compare_trees

# As the operating system words it, whatever library passes it on.
NO_ROOM = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
)


@epath.register_path_cls
class LocalPath(type(epath.Path("/"))):  # pyrefly: ignore[invalid-inheritance]
    """A local `epath.Path` whose own name is never read as a pattern.

    Orbax lists its folders with `path.glob`, and etils pastes path and pattern together: of
    `runs/lr[1e-3]` it then finds nothing, and of `runs/a*` also the files of `runs/ab`. Orbax
    derives its paths from the one that it is given, so this class reaches all of them.
    """

    def glob(self, pattern: str) -> Iterator["LocalPath"]:
        """Yields what matches `pattern` below this folder."""
        for found in pathlib.Path(str(self)).glob(pattern):
            yield type(self)(str(found))


def folder_path(text: str | os.PathLike) -> pathlib.Path:
    """`files.local_path` of a folder that is to hold arrays.

    Raises:
      UsageError: as that; or there is a back-slash, which TensorStore reads as a slash: the arrays
        would lie elsewhere.
    """
    path = local_path(text)
    if "\\" in str(path):
        raise UsageError(f"{path}: expected a path without a back-slash. Choose another name.")
    return path


def _check_devices() -> None:
    """Raises UsageError where JAX does not start: that is no damage of what is read."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as e:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UsageError(f"JAX finds no device for JAX_PLATFORMS={asked!r} ({reason(e)})") from e


def save(folder: pathlib.Path, tree: Any) -> None:
    """Writes a pytree to a new folder; every process calls it."""
    with ocp.StandardCheckpointer() as checkpointer:  # synchronises the processes itself
        checkpointer.save(LocalPath(folder), tree)


def read(folder: pathlib.Path, part: str | None = None) -> dict[str, Any]:
    """What lies in a folder, as NumPy, whatever devices wrote it.

    Args:
      folder: that `save` wrote.
      part: the only branch to read; it stays below this name.

    Raises:
      UsageError: it cannot be read.
    """
    _check_devices()
    handler = ocp.PyTreeCheckpointHandler()
    with reading(folder, "arrays"), log_file.quiet_libraries(None):
        with ocp.Checkpointer(handler) as checkpointer:
            tree = checkpointer.metadata(LocalPath(folder)).item_metadata.tree
            tree = {part: tree[part]} if part else tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
            args = ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True)
            return jax.tree.map(np.asarray, checkpointer.restore(LocalPath(folder), args=args))


def restore(folder: pathlib.Path, target: Any) -> Any:
    """What lies in a folder, on the shardings of `target` (`pytrees.abstract_arrays`).

    Raises:
      UsageError: it is of other names or shapes, all of which are listed; or it cannot be read.
    """
    _check_devices()
    with reading(folder, "arrays"), ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(LocalPath(folder)).item_metadata.tree
        check_fit(folder, target, stored)
        return checkpointer.restore(LocalPath(folder), target)


def check_fit(folder: pathlib.Path, expected: Any, came: Any) -> None:
    """Raises UsageError unless two pytrees have the same names and shapes."""
    difference = compare_trees(expected, came)
    if difference:
        raise UsageError(
            f"{folder} was saved for another model or optimizer:\n{difference}\n"
            "Use the configuration it was trained with, or another --workdir."
        )


def no_room(error: BaseException, kept: str) -> NoRoomError | None:
    """The error to raise in place of `error` where a disk has no room, None if it is another one.

    Args:
      error: that a library raised while writing.
      kept: the folder, and what is kept of it.
    """
    seen = " ".join(str(e) for e in (error, error.__cause__, error.__context__))
    found = next((words for words in NO_ROOM if words in seen), None)
    if found is None:
        return None
    return NoRoomError(f"{kept}. Not written: {found}. Make room, and the same command continues.")
