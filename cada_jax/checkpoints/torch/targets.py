"""Where `python -m cada_jax convert` may write: nothing that it did not write is replaced."""

import os
from pathlib import Path

from cada_jax.checkpoints.export import check_model_target
from cada_jax.checkpoints.torch.files import expand, has_torch_suffix, read_checkpoint
from cada_jax.checkpoints.torch.sizes import OUR_KEY
from cada_jax.common import files
from cada_jax.common.errors import UsageError


def check_folder_target(target: str, source: Path, overwrite: bool) -> Path:
    """The folder that a model may be written to.

    Args:
      target: the flag DST.
      source: what is converted.
      overwrite: whether a model folder that is there may be replaced.

    Raises:
      UsageError: the folder is the source, holds the source, is the working folder or holds that,
        or holds anything that no conversion wrote; or `target` is called like a checkpoint file.
    """
    path = expand(target)
    _check_apart(path, source, target)
    if has_torch_suffix(path):
        raise UsageError(
            f"DST={target} is called like a PyTorch file, but a PyTorch checkpoint becomes a "
            "model folder: name a folder"
        )
    check_model_target(path, overwrite)
    _check_parents(path)
    return path


def check_file_target(target: str, source: str, overwrite: bool) -> Path:
    """The file that a model may be written to.

    Args:
      target: the flag DST.
      source: the model folder.
      overwrite: whether a .pth that this project wrote may be replaced.

    Raises:
      UsageError: there is a folder, or a file that no conversion wrote, or `target` is not called
        like a checkpoint file.
    """
    path = expand(target)
    if os.path.isdir(path) or not has_torch_suffix(path) or path.suffix == ".safetensors":
        raise UsageError(f"{source} is a model folder, so DST has to be a .pth, not {target}")
    files.check_target(path, overwrite, carries_our_marker, "a .pth")
    _check_parents(path)
    return path


def carries_our_marker(path: Path) -> bool:
    """Whether `path` is a .pth that this project wrote."""
    try:
        return os.path.isfile(path) and OUR_KEY in read_checkpoint(path).config
    except UsageError:
        return False


def _check_apart(path: Path, source: Path, target: str) -> None:
    """Raises UsageError if replacing `path` would take away the source or the working folder."""
    here = path.resolve()
    for other, what in ((source, "the source"), (Path.cwd(), "the working folder")):
        other = other.resolve()
        if here == other or here in other.parents:
            is_or_holds = "is" if here == other else "holds"
            raise UsageError(
                f"DST={target} {is_or_holds} {what} ({other}). Name a new folder; nothing was "
                "touched"
            )


def _check_parents(path: Path) -> None:
    """Raises UsageError if the folder above `path` cannot be made or written to."""
    parent = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not parent.is_dir():
        raise UsageError(f"cannot write {path}: {parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: the folder {parent} is not writable")
