"""The folder of one run: whose it is, who works in it, and which configuration.

with working_in(workdir, config) as root:   # checked and locked; nothing says yet whose it is
    ...                                     # everything else that can be refused
    claim(root, config)                     # writes config.json
    ...                                     # train
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from cada_jax.checkpoints import arrays, manifest
from cada_jax.checkpoints.model import check_model_target
from cada_jax.checkpoints.run import ITEMS, steps_in
from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.common.folder_lock import locked
from cada_jax.config import CONFIG_FILE, check_same_config, to_json

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
    "results_baseline.json",
    "retrieval.png",
    "test_selected.json",
)


def check_ours(root: pathlib.Path) -> None:
    """Raises UsageError if a run in `root` would replace what this program did not write."""
    if (root / LOCK_FILE).is_file():
        return
    there = [name for name in OUTPUTS if (root / name).exists()]
    if there == [MODEL] and manifest.holds_nothing_else(root / MODEL):
        return
    if there:
        raise UsageError(
            f"--workdir={root}: expected a new folder or that of a run, but there are "
            f"{', '.join(there)} which this program did not write and a run would replace. "
            "They are left as they are; choose another --workdir."
        )


def has_saved(root: pathlib.Path) -> bool:
    """Whether a run saved anything there that belongs to its configuration."""
    return any(steps_in(root / name) for name in ITEMS) or (root / MODEL / CONFIG_FILE).exists()


@contextlib.contextmanager
def _held(root: pathlib.Path, lock: str, wait: bool = False) -> Iterator[None]:
    """Holds a lock file of a folder, which is made if missing; removed if nothing came into it."""
    try:
        made = not root.is_dir()
        root.mkdir(parents=True, exist_ok=True)
        holding = contextlib.ExitStack()
        holding.enter_context(locked(root / lock, wait))
        (root / LOCK_FILE).touch()
    except OSError as e:
        raise UsageError(
            f"--workdir={root}: expected a folder that can be created and written, but that "
            f"failed: {e}. Choose another --workdir or change its permissions."
        ) from e
    try:
        yield
    finally:
        holding.close()
        if {p.name for p in root.iterdir()} <= {LOCK_FILE, RESULTS_LOCK_FILE}:
            for name in (LOCK_FILE, RESULTS_LOCK_FILE):
                (root / name).unlink(missing_ok=True)
            if made:
                with contextlib.suppress(OSError):  # somebody has just come in
                    root.rmdir()


@contextlib.contextmanager
def working_in(workdir: str | os.PathLike, config: ConfigDict) -> Iterator[pathlib.Path]:
    """Locks the folder of a run for training, after checks; yields its absolute path.

    The folder is made; config.json is not written. Every process calls it. Process 0 locks for
    all of them, so they must wait for it before they read anything.

    Raises:
      UsageError: the folder cannot be written, another process works in it, another configuration
        wrote it, or the run would replace what this program did not write.
    """
    root = arrays.folder_path(workdir)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            if not (root / CONFIG_FILE).exists() and (root / "checkpoints").exists():
                raise UsageError(
                    f"{root} holds checkpoints but no {CONFIG_FILE}, so it cannot be told which "
                    "configuration they belong to. Restore that file, or choose another --workdir."
                )
            check_ours(root)
            check_model_target(root / MODEL, overwrite=True)
            stack.enter_context(_held(root, LOCK_FILE))
        if (root / CONFIG_FILE).exists() and has_saved(root):
            check_same_config(root, config)
        yield root


def claim(root: pathlib.Path, config: ConfigDict) -> None:
    """Writes config.json, unless a run of the same configuration has saved something there.

    To be called when nothing can be refused any more. Every process calls it; process 0 writes.
    """
    path = root / CONFIG_FILE
    if jax.process_index() == 0 and not (path.exists() and has_saved(root)):
        write_text(path, to_json(config))


@contextlib.contextmanager
def writing_results(root: pathlib.Path, wait: bool = False) -> Iterator[None]:
    """Lets one process at a time write results into a folder, which is made if missing.

    Args:
      wait: for the other one, as at the end of training, instead of raising UsageError.

    Raises:
      UsageError: another process is writing there, or the folder is not a run's or not writable.
    """
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            check_ours(root)
            stack.enter_context(_held(root, RESULTS_LOCK_FILE, wait))
        yield
