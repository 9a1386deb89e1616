"""The folder of one run, and the configuration written into it.

    WORKDIR/config.json        the configuration, written when the run first starts
    WORKDIR/checkpoints/STEP   the training state, to continue from  (cada_jax.checkpoints.manager)
    WORKDIR/best/STEP          the parameters that scored best so far
    WORKDIR/model/             the same exported: parameters, configuration, vocabulary
    WORKDIR/results.json, queries.jsonl, retrieval.png, events.out.tfevents.*, profile/

A run is continued by the same command. Were the configuration another one, the result would be
neither of the two experiments, so that is refused; `FREE_KEYS` may change.
"""

import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError

CONFIG_FILE = "config.json"


def to_json(config: ConfigDict) -> str:
    """`config` as indented JSON with its keys in order; tuples become lists."""
    return json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True) + "\n"


def _tuples(value: Any) -> Any:
    """`value` with every list as a tuple, as the config files write them: tuples can be hashed."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def read_config(path: str | os.PathLike) -> ConfigDict:
    """The configuration in the JSON file `path`, locked, with sequences as tuples.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read as a JSON object.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise MissingFileError(f"{path}: there is no such file.") from e
    except (OSError, ValueError) as e:
        raise UsageError(
            f"{path}: expected the configuration of a run in JSON, but reading it failed: {e}. "
            "Restore the file, or start again in an empty folder."
        ) from e
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(values).__name__}.")
    return ConfigDict(_tuples(values)).lock()


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing_keys(
    config: ConfigDict, other: ConfigDict, free: tuple[str, ...] = ()
) -> dict[str, tuple[Any, Any]]:
    """The leaves that differ: dotted key -> (value in `config`, value in `other`).

    A key that one side lacks has the value "absent" there. Keys named by `free` are left out; an
    entry of `free` that ends in "." stands for all keys below it.
    """
    return differing_values(config.to_json(), other.to_json(), free)


def differing_values(
    ours: str, theirs: str, free: tuple[str, ...] = ()
) -> dict[str, tuple[Any, Any]]:
    """As `differing_keys`, for two configurations given as JSON."""
    ours, theirs = (_flat(json.loads(text)) for text in (ours, theirs))
    different = {}
    for key in sorted({*ours, *theirs}):
        pair = ours.get(key, "absent"), theirs.get(key, "absent")
        is_free = any(key == f or (f.endswith(".") and key.startswith(f)) for f in free)
        if not is_free and pair[0] != pair[1]:
            different[key] = pair
    return different


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


def validate(config: ConfigDict) -> None:
    """Placeholder until the table of fields is merged."""
