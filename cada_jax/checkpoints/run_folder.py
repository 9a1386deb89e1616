"""What a run's folder holds, and how it is told from somebody else's folder."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import jax

from cada_jax.checkpoints import export
from cada_jax.checkpoints.local_path import absolute
from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError
from cada_jax.config import CONFIG_FILE

# Locked while a run trains, or results are written, in the folder. The first is also the mark of
# a folder in which only this program writes the names below.
LOCK_FILE = ".cada_jax.lock"
RESULTS_LOCK_FILE = ".cada_jax.results.lock"
MODEL = "model"
# What training and scoring write there, besides event files and log.txt, which are only added to.
OUTPUTS = (
    "best",
    "checkpoints",
    CONFIG_FILE,
    "cross_domain.json",
    "cross_domain.md",
    "eval",
    MODEL,
    "profile",
    "queries.jsonl",
    "results.json",
    "results_before.json",
    "retrieval.png",
    "test_selected.json",
)
RESULTS = {"results.json", "queries.jsonl", "retrieval.png"}


def locate(workdir: str | os.PathLike) -> pathlib.Path:
    """The absolute path of a run's folder, which need not exist.

    Raises:
      UsageError: no folder can have that path.
    """
    if "://" in str(workdir):
        raise UsageError(
            f"--workdir={workdir}: expected a folder, got an address. Mount the bucket (Cloud "
            "Storage FUSE) or use a shared disk (Filestore, NFS), and give the path there."
        )
    return absolute(workdir, f"--workdir={workdir}")


def _has_keys(file: pathlib.Path, keys: set[str]) -> bool:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and keys <= set(values)


def _is_ours(root: pathlib.Path) -> bool:
    """Whether this program worked in a folder before, now or in an older version."""
    return (root / LOCK_FILE).is_file() or _has_keys(root / CONFIG_FILE, {"data", "model", "train"})


def check_ours(root: pathlib.Path) -> None:
    """Raises UsageError if a run in `root` would replace what this program did not write.

    Args:
      root: the run's folder; need not exist.
    """
    if not root.is_dir():
        return
    there = {name for name in OUTPUTS if (root / name).exists()}
    if export.is_exported(root / MODEL):
        there.discard(MODEL)
    if _is_ours(root):
        there &= {MODEL}  # of everything else the user knows that it is a run's
    elif _has_keys(root / "results.json", {"global", "reranked"}):
        there -= RESULTS  # an older version scored here
    if there == {MODEL} and not any((root / MODEL).iterdir() if (root / MODEL).is_dir() else [1]):
        return
    if there:
        raise UsageError(
            f"--workdir={root}: expected a new folder or that of a run, but there are "
            f"{', '.join(sorted(there))} which this program did not write and a run would replace. "
            "They are left as they are; choose another --workdir."
        )


def has_saved(root: pathlib.Path) -> bool:
    """Whether a run saved anything there that belongs to its configuration."""
    steps = (p for name in ("checkpoints", "best") for p in (root / name).glob("*"))
    return any(p.name.isdigit() for p in steps) or (root / MODEL / CONFIG_FILE).exists()


@contextlib.contextmanager
def writing_results(root: pathlib.Path, wait: bool = False) -> Iterator[None]:
    """Lets one process at a time write results into a folder, which is made if missing.

    Args:
      root: the run's folder.
      wait: for the other one, as at the end of training, instead of raising UsageError.

    Raises:
      UsageError: another process is writing there, or the folder is not a run's or not writable.
    """
    if jax.process_index() > 0:
        yield
        return
    check_ours(root)
    lock = root / RESULTS_LOCK_FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder_lock.acquire(lock, wait)
        (root / LOCK_FILE).touch()
    except OSError as e:
        raise UsageError(
            f"--workdir={root}: expected a folder that can be created and written, but that "
            f"failed: {e}. Choose another --workdir or change its permissions."
        ) from e
    try:
        yield
    finally:
        folder_lock.release(lock)
