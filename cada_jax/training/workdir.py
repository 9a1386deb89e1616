"""The folder of one run."""

import json
import os
import pathlib

import jax
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.config import CONFIG_FILE, differing_keys, read_config, to_json

# What a run may change when it is continued: where things are, how often they are said or kept, how
# the work is divided. Everything else decides the numbers. An entry ending in "." is a whole group.
FREE_KEYS = (
    "data.data_dir",
    "eval.batch_size",
    "eval.datasets",
    "eval.image_to_text_top_k",
    "eval.rerank_batch",
    "eval.save_queries",
    "eval.split",
    "mesh.",
    "model.remat",
    "train.accumulation",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.log_every",
    "train.profile_start",
    "train.profile_steps",
)


# What scoring a trained run may change besides: everything but the network and its input.
FREE_KEYS_OF_EVAL = (
    *FREE_KEYS,
    "augment.",
    "eval.",
    "init_from",
    "loss.",
    "optimizer.",
    "seed",
    "train.",
)


def check_same_config(
    workdir: str | os.PathLike, config: ConfigDict, free: tuple[str, ...] = FREE_KEYS
) -> None:
    """Raises UsageError if WORKDIR/config.json differs from `config` in a key that is not free."""
    path = pathlib.Path(workdir) / CONFIG_FILE
    if config.optimizer.schedule == "epoch":
        # Nothing else depends on where the run ends; the schedule "step" is stretched to it.
        free = (*free, "train.max_steps")
    different = differing_keys(config, read_config(path), free)
    if different:
        lines = "\n".join(
            f"  config.{key}: {json.dumps(theirs)} there, {json.dumps(ours)} now"
            for key, (ours, theirs) in different.items()
        )
        raise UsageError(
            f"{workdir} was written by another configuration ({CONFIG_FILE} in it):\n{lines}\n"
            "Continue with the values written there, or give this run a --workdir of its own. "
            f"These may change: {', '.join(f + '*' if f.endswith('.') else f for f in free)}."
        )


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
