"""Reading what was saved: whole, of the right shapes, and with the values that were written."""

import os
import pathlib
from typing import Any

import orbax.checkpoint as ocp

from cada_jax.checkpoints import digest_item, digests
from cada_jax.common import log_file
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import compare_trees

REMEDY = (
    "Delete that folder to continue from an older checkpoint, or use another --workdir to start "
    "again."
)
NAMED = 3  # damaged arrays that a message names
LONGEST = 200  # characters of a library's reason


def unreadable(
    location: str | os.PathLike,
    reason: Any,
    log: pathlib.Path | None = None,
    remedy: str = REMEDY,
) -> UsageError:
    """The error of what cannot be read, in three lines at most.

    Args:
      location: the folder.
      reason: words, or the exception that a library raised; its traceback goes to the log file.
      log: the folder of the log file.
      remedy: what to do.
    """
    account = ""
    if isinstance(reason, BaseException):
        file = log_file.record(log, reason)
        account = f"\nWhat the library said: {file}" if file else ""
        reason = shorten(reason)
    return UsageError(f"{location} cannot be read: {reason}\nIt may be damaged. {remedy}{account}")


def shorten(error: BaseException) -> str:
    """The first line of what a library says, in words that fit one line of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, KeyError | AttributeError | TypeError | IndexError):
        text = f"its metadata is not what was written ({type(error).__name__}: {text})"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def changed(names: list[str]) -> str:
    """The reason when arrays do not have the checksums that were stored with them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    listed = ", ".join(names[:NAMED]) + more
    return f"its values are not those that were saved (by their checksums), in {listed}"


def step_folder(manager: ocp.CheckpointManager, step: int) -> pathlib.Path:
    """Where a step of a manager lies."""
    return pathlib.Path(str(manager.directory)) / str(step)


def stored_digests(
    folder: pathlib.Path, log: pathlib.Path | None = None
) -> digest_item.StoredDigests | None:
    """The checksums of a checkpoint, None if it was saved without; UsageError if damaged."""
    try:
        return digest_item.read(folder)
    except ValueError as e:
        raise unreadable(folder, str(e)) from e
    except OSError as e:
        raise unreadable(folder, e, log) from e


def _stored_tree(manager: ocp.CheckpointManager, step: int, item: str) -> Any:
    folder = step_folder(manager, step)
    if not (folder / item).is_dir():
        raise unreadable(folder, f"the folder {item} in it is missing")
    try:
        tree = manager.item_metadata(step)[item].tree
    except Exception as e:
        raise unreadable(folder, e, folder.parents[1]) from e
    # None stands for the empty nodes of an optimizer state, and for a tree that is not there.
    if tree is None:
        raise unreadable(folder, f"the metadata in {item} is missing or cannot be read")
    return tree


def check_provenance(folder: pathlib.Path, theirs: dict, ours: dict) -> None:
    """Raises UsageError if a value that both have differs, and names it."""
    differing = [key for key in sorted(ours) if key in theirs and theirs[key] != ours[key]]
    if differing:
        lines = "\n".join(f"  {key}: {theirs[key]} there, {ours[key]} now" for key in differing)
        raise UsageError(
            f"{folder} was saved by a run on other data or another vocabulary:\n{lines}\n"
            "Prepare the data as it was, or give this run a --workdir of its own."
        )


def restore(
    manager: ocp.CheckpointManager, step: int, item: str, target: Any, provenance: dict
) -> Any:
    """Item `item` of a step, on the shardings of `target`, compared with its checksums.

    Raises:
      UsageError: it does not fit, is of another provenance, is damaged, or cannot be read.
    """
    folder = step_folder(manager, step)
    workdir = folder.parents[1]
    digest = stored_digests(folder, workdir)
    difference = compare_trees(target, _stored_tree(manager, step, item))
    if difference:
        raise UsageError(
            f"{folder} was saved for another model or optimizer:\n{difference}\n"
            "Use the configuration it was trained with, or another --workdir."
        )
    if digest:
        check_provenance(folder, digest.provenance, provenance)
    args = ocp.args.Composite(**{item: ocp.args.StandardRestore(target)})
    try:
        tree = manager.restore(step, args=args)[item]
    except Exception as e:
        raise unreadable(folder, e, workdir) from e
    damaged = digests.find_damage(tree, digest.arrays) if digest else []
    if damaged:
        raise unreadable(folder, changed(damaged))
    return tree
