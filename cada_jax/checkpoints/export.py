"""The exported model folder: parameters, configuration, vocabulary."""

import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints.manager import _unreadable
from cada_jax.common import files
from cada_jax.common.errors import MissingFileError
from cada_jax.common.pytrees import to_host
from cada_jax.text.vocabulary import VOCABULARY_FILE

PRETRAINED = pathlib.Path(__file__).parent / "pretrained"


CARD_FILE = "card.json"


def list_pretrained() -> list[str]:
    """Names of the models that the package ships, as `load_model` takes them."""
    found = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{config_lib.CONFIG_FILE}"))
    return [f"pretrained:{name}" for name in found]


def resolve_model(name: str | os.PathLike) -> pathlib.Path:
    """The folder of an exported model; "pretrained:NAME" is the one shipped under that name.

    Raises:
      MissingFileError: there is no such folder, or it is not an exported model.
    """
    if str(name).startswith("pretrained:"):
        path = PRETRAINED / str(name).removeprefix("pretrained:")
        shipped = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{config_lib.CONFIG_FILE}"))
        hint = f"Shipped are: {', '.join(shipped) or 'none'}."
    else:
        path = pathlib.Path(name).expanduser().absolute()
        hint = "A finished run writes one to WORKDIR/model."
    needed = (config_lib.CONFIG_FILE, VOCABULARY_FILE, "params")
    lacking = [file for file in needed if not (path / file).exists()]
    if lacking:
        raise MissingFileError(
            f"{name}: expected the folder of an exported model with {', '.join(needed)}, but "
            f"{path} lacks {', '.join(lacking)}. {hint}"
        )
    return path


def save_model(
    path: str | os.PathLike,
    params: Any,
    config: ConfigDict,
    vocab_path: str | os.PathLike,
    card: dict | None = None,
) -> pathlib.Path:
    """Exports a model: params/ (Orbax), config.json, vocab.txt and, if given, card.json.

    The folder is made under another name and then renamed; a model that was there is replaced.
    Every process calls it; process 0 writes.

    Args:
      path: the folder to make.
      params: pytree of arrays, on devices or hosts; stored as NumPy, so that any machine reads it.
      config: full config of the model.
      vocab_path: its vocabulary, copied.
      card: what a reader should know of the model: how made, what it scores. JSON values.

    Returns:
      The absolute path.
    """
    path = pathlib.Path(path).expanduser().absolute()
    partial = path.with_name(f".{path.name}.partial")
    old = path.with_name(f".{path.name}.old")
    writer = jax.process_index() == 0
    host_params = to_host(params)
    if writer:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copyfile(vocab_path, partial / VOCABULARY_FILE)
        files.write_text(partial / config_lib.CONFIG_FILE, config_lib.to_json(config))
        if card is not None:
            files.write_text(partial / CARD_FILE, json.dumps(card, indent=2) + "\n")
    with ocp.StandardCheckpointer() as checkpointer:  # synchronises the processes itself
        checkpointer.save(partial / "params", host_params)
    if writer:
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_model(name: str | os.PathLike) -> tuple[dict, ConfigDict, pathlib.Path]:
    """Reads an exported model.

    Args:
      name: its folder, or "pretrained:NAME".

    Returns:
      (params, config, vocab_path): nested dicts of NumPy arrays, the locked config, a file.

    Raises:
      MissingFileError: it is not there.
      UsageError: it cannot be read.
    """
    path = resolve_model(name)
    config = config_lib.read_config(path / config_lib.CONFIG_FILE)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(path / "params")
    except Exception as e:
        raise _unreadable(str(path / "params"), e) from e
    return jax.tree.map(np.asarray, params), config, path / VOCABULARY_FILE
