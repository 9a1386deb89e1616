"""The folder of one run."""

import os
import pathlib

import jax
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.config import CONFIG_FILE, check_same_config, to_json


def prepare(workdir: str | os.PathLike, config: ConfigDict) -> pathlib.Path:
    """Makes `workdir` ready for training and returns its absolute path.

    Creates the folder and writes config.json if that is not there yet. Every process calls it;
    process 0 alone writes, and the others must wait for it before they read anything.

    Raises:
      UsageError: the folder cannot be written, or another configuration wrote it.
    """
    if "://" in str(workdir):
        raise UsageError(
            f"--workdir={workdir}: expected a folder, got an address. Mount the bucket (Cloud "
            "Storage FUSE) or use a shared disk (Filestore, NFS), and give the path there."
        )
    path = pathlib.Path(workdir).expanduser().absolute()
    config_path = path / CONFIG_FILE
    if jax.process_index() == 0:
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Existing folders may be read-only, and permission bits do not tell (a full disk, a
            # read-only mount): only writing does.
            write_text(path / ".writable", "")
            (path / ".writable").unlink()
        except OSError as e:
            raise UsageError(
                f"--workdir={workdir}: expected a folder that can be created and written, but "
                f"that failed: {e}. Choose another --workdir or change its permissions."
            ) from e
    if config_path.exists():
        check_same_config(path, config)
    elif jax.process_index() == 0:
        if (path / "checkpoints").exists():
            raise UsageError(
                f"{path} holds checkpoints but no {CONFIG_FILE}, so it cannot be told which "
                "configuration they belong to. Restore that file, or choose another --workdir."
            )
        write_text(config_path, to_json(config))
    return path
