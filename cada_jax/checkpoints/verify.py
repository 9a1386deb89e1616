"""Whether everything that a run saved is as it was written."""

import dataclasses
import os
import pathlib

from cada_jax.checkpoints import digest_item, digests, export, inspect
from cada_jax.checkpoints import stored as stored_lib
from cada_jax.checkpoints.local_path import absolute
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.pytrees import flat_arrays


@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of one checkpoint or model.

    folder: of it; damage: what is wrong with it, None if nothing is; stored: whether checksums
    were stored with it. Without them only that it can be read is known.
    """

    folder: pathlib.Path
    damage: str | None
    stored: bool = True

    def __str__(self) -> str:
        if self.damage:
            return f"{self.folder}: damaged ({self.damage})"
        return f"{self.folder}: {'ok' if self.stored else 'no digest stored'}"


def verify(path: str | os.PathLike) -> list[Finding]:
    """Compares everything at `path` with its checksums: one finding each, in order of their steps.

    Args:
      path: a run's folder, one of its checkpoints, or an exported model.

    Raises:
      MissingFileError: there is nothing of these.
    """
    path = absolute(path, str(path))
    found = []
    if path.name.isdigit() and path.parent.name in ("checkpoints", "best"):
        found = [_step(path)] if path.is_dir() else []
    elif (path / "params").is_dir() or (path / export.MARK_FILE).exists():
        found = [_model(path)]
    elif path.is_dir():
        for name in ("checkpoints", "best"):
            steps = (p for p in (path / name).glob("*") if p.name.isdigit())
            found += [_step(step) for step in sorted(steps, key=lambda p: int(p.name))]
        if (path / "model").exists():
            found.append(_model(path / "model"))
    if not found:
        raise MissingFileError(
            f"{path}: expected the folder of a run, one of its checkpoints, or an exported model; "
            f"{'it is none of these' if path.exists() else 'it does not exist'}."
        )
    return found


def _first_line(error: UsageError) -> str:
    return str(error).splitlines()[0].partition(" cannot be read: ")[2] or str(error)


def _model(folder: pathlib.Path) -> Finding:
    try:
        export.load_model(folder)
    except UsageError as e:
        return Finding(folder, _first_line(e))
    return Finding(folder, None, (folder / export.MARK_FILE).exists())


def _step(folder: pathlib.Path) -> Finding:
    item = "state" if folder.parent.name == "checkpoints" else "params"
    try:
        kept = stored_lib.stored_digests(folder)
        if not (folder / item).is_dir():
            return Finding(folder, f"the folder {item} in it is missing")
        arrays = inspect.read_arrays(folder / item)
        if item == "params":
            digest_item.read_info(folder, kept)
    except UsageError as e:
        return Finding(folder, _first_line(e))
    except ValueError as e:
        return Finding(folder, str(e))
    if kept is None:
        return Finding(folder, None, stored=False)
    missing = sorted(set(kept.arrays) - set(flat_arrays(arrays)))
    damaged = [*missing, *digests.find_damage(arrays, kept.arrays)]
    return Finding(folder, stored_lib.changed(damaged) if damaged else None)
