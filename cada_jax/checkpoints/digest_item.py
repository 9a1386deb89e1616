"""The item `digests` of a checkpoint: checksums of its arrays, and what they were made from.

    STEP/digests/process_N.json    of the parts of the arrays that process N wrote

Orbax renames a checkpoint to its final name after all of its items are written, so a checkpoint
has its checksums or it does not appear.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from cada_jax.checkpoints import digests

ITEM = "digests"


@dataclasses.dataclass(frozen=True)
class StoredDigests:
    """What the item of a checkpoint holds.

    arrays: as `digests.merge` returns them; provenance: as given to `save`; info: SHA-256 of the
    dictionary saved beside the arrays, None if there was none.
    """

    arrays: dict[str, Any]
    provenance: dict[str, Any]
    info: str | None


def info_digest(info: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    plain = json.loads(json.dumps(info))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class DigestHandler(ocp.AsyncCheckpointHandler):
    """Writes the item; the checksums are computed while Orbax writes the arrays."""

    # pyrefly: ignore[bad-override]  (Orbax passes the item as args)
    async def async_save(self, directory, args: "DigestSave"):
        """Returns the future that writes this process's file."""
        write = self._write(directory, args)
        return [ocp.future.CommitFutureAwaitingContractedSignals(write, name="digests")]

    async def _write(self, directory, args: "DigestSave") -> None:
        text = digests.dumps(args.parts.checksums(), provenance=args.provenance, info=args.info)
        (directory / f"process_{jax.process_index()}.json").write_text(text)

    def save(self, directory, args: "DigestSave") -> None:
        """As `async_save`, and waits."""
        raise NotImplementedError("Orbax's manager saves asynchronously")

    def restore(self, directory, args=None):
        """Not used: `read` needs no manager."""
        raise NotImplementedError("use digest_item.read")


@ocp.args.register_with_handler(DigestHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class DigestSave(ocp.args.CheckpointArgs):
    """What `DigestHandler` saves.

    parts: of the arrays; provenance: JSON values; info: of `info_digest`, or None.
    """

    parts: digests.Parts
    provenance: dict[str, Any]
    info: str | None = None


def read(step_folder: pathlib.Path) -> StoredDigests | None:
    """The item of a checkpoint, None if it was saved by a version that stored none.

    Raises:
      ValueError: it is damaged.
      OSError: it cannot be read.
    """
    files = sorted((step_folder / ITEM).glob("process_*.json"))
    if not files:
        if (step_folder / ITEM).exists() or _was_written(step_folder):
            raise ValueError("its checksums (digests/process_0.json) are missing")
        return None
    parts = [digests.loads(file.read_text(encoding="utf-8", errors="replace")) for file in files]
    try:
        return StoredDigests(
            digests.merge([part["arrays"] for part in parts]),
            parts[0]["provenance"],
            parts[0]["info"],
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"its checksums cannot be read ({type(e).__name__}: {e})") from e


def read_info(step_folder: pathlib.Path, kept: StoredDigests | None) -> dict[str, Any]:
    """The dictionary that was saved beside the arrays of a checkpoint.

    Args:
      step_folder: of the checkpoint.
      kept: what `read` returns of it.

    Raises:
      ValueError: it is missing or damaged.
    """
    file = step_folder / "info" / "metadata"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ValueError("info/metadata in it is missing") from e
    except (OSError, ValueError) as e:
        raise ValueError(f"info/metadata in it cannot be read ({e})") from e
    if not isinstance(info, dict) or (kept and kept.info != info_digest(info)):
        raise ValueError("info/metadata in it is not what was written")
    return info


def _was_written(step_folder: pathlib.Path) -> bool:
    """Whether Orbax's list of the items of a checkpoint names this one."""
    try:
        return f'"{ITEM}"'.encode() in (step_folder / "_CHECKPOINT_METADATA").read_bytes()
    except OSError:
        return False
