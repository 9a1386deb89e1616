"""The folder of one run: whose it is, who works in it, and which configuration.

root = prepare(workdir, config)   # checks, and locks it; nothing in it says whose it is yet
...                               # everything else that can be refused
claim(root, config)               # writes config.json
...                               # train
release(root)                     # also done by the end of the process
"""

import os
import pathlib

import jax
from ml_collections import ConfigDict

from cada_jax.checkpoints import export, run_folder
from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.config import CONFIG_FILE, check_same_config, to_json


def prepare(workdir: str | os.PathLike, config: ConfigDict) -> pathlib.Path:
    """Checks that training may work in `workdir`, locks it, and returns its absolute path.

    The folder is created; config.json is not written. Every process calls it. Process 0 locks for
    all of them, so they must wait for it before they read anything.

    Raises:
      UsageError: the folder cannot be written, another process works in it, another configuration
        wrote it, or the run would replace what this program did not write.
    """
    path = run_folder.locate(workdir)
    if jax.process_index() == 0:
        if not (path / CONFIG_FILE).exists() and (path / "checkpoints").exists():
            raise UsageError(
                f"{path} holds checkpoints but no {CONFIG_FILE}, so it cannot be told which "
                "configuration they belong to. Restore that file, or choose another --workdir."
            )
        run_folder.check_ours(path)
        export.check_model_target(path / run_folder.MODEL, overwrite=True)
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Existing folders may be read-only, and permission bits do not tell (a full disk, a
            # read-only mount): only writing does, and this writes.
            folder_lock.acquire(path / run_folder.LOCK_FILE)
        except OSError as e:
            raise UsageError(
                f"--workdir={workdir}: expected a folder that can be created and written, but "
                f"that failed: {e}. Choose another --workdir or change its permissions."
            ) from e
    if (path / CONFIG_FILE).exists() and run_folder.has_saved(path):
        try:
            check_same_config(path, config)
        except UsageError:
            release(path)
            raise
    return path


def claim(root: pathlib.Path, config: ConfigDict) -> None:
    """Writes config.json, unless a run of the same configuration has saved something there.

    To be called when nothing can be refused any more. Every process calls it; process 0 writes.
    """
    path = root / CONFIG_FILE
    if jax.process_index() == 0 and not (path.exists() and run_folder.has_saved(root)):
        write_text(path, to_json(config))


def release(root: pathlib.Path) -> None:
    """Lets other processes work in the folder."""
    folder_lock.release(root / run_folder.LOCK_FILE)
