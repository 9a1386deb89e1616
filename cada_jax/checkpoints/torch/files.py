"""Reads and writes PyTorch checkpoints; knows files, not what the tensors mean.

Nothing here runs code from a file: torch reads with `weights_only=True`, safetensors holds tensors
only. torch and safetensors are imported where they are used, so that the rest runs without them.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cada_jax.checkpoints.torch.hub_folder import HUB_FILES, read_folder
from cada_jax.checkpoints.torch.kinds import EXPECTED, file_kind
from cada_jax.checkpoints.torch.pickled import import_torch, read_pickled
from cada_jax.checkpoints.torch.safetensors_file import read_safetensors
from cada_jax.checkpoints.torch.state import find_tensors
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.files import whole_file

# What such files are called. It decides only where no file is there yet.
SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".safetensors", ".tar")


@dataclasses.dataclass
class Checkpoint:
    """Tensors of a PyTorch checkpoint as NumPy arrays.

    Attributes:
      path: where it was read.
      tensors: name without wrappers -> array; floating ones are float32 whatever they are in the
        file.
      config: what stands beside the tensors in the file under "config", {} if nothing does; of a
        Hugging Face folder its config.json.
      vocab: the vocabulary file lying beside the tensors, None if there is none.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    vocab: Path | None = None


def expand(path: str | os.PathLike) -> Path:
    """`path` with a leading ~ replaced by the home folder; ~NOBODY stays as it is."""
    return Path(os.path.expanduser(path))


def has_torch_suffix(path: str | os.PathLike) -> bool:
    """Whether `path` is called as PyTorch checkpoints are, in any case of letters."""
    return Path(path).suffix.lower() in SUFFIXES


def is_torch_checkpoint(path: str | os.PathLike) -> bool:
    """Whether `read_checkpoint` is what reads `path`, or says why it cannot be read.

    That holds for every file, because our own models are folders, and for the folders of Hugging
    Face. Where nothing is there, the name decides.
    """
    path = expand(path)
    if os.path.isdir(path):
        return any(os.path.exists(path / name) for name in HUB_FILES)
    return os.path.exists(path) or has_torch_suffix(path)


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads a file of torch.save, a .safetensors file or a Hugging Face folder.

    What a file is, its first bytes decide: see `kinds.file_kind`.

    Raises:
      MissingFileError: there is nothing at `path`, or torch / safetensors is not installed.
      UsageError: the file is truncated, no checkpoint, or a pickle that holds code; its tensors
        have no plain values or contradict each other.
    """
    path = expand(path)
    if not os.path.exists(path):
        raise MissingFileError(f"checkpoint {path} does not exist. {EXPECTED}")
    if os.path.isdir(path):
        try:
            shards, config, vocab = read_folder(path, _read_mapping)
        except OSError as err:
            if isinstance(err, UsageError):
                raise
            raise UsageError(f"{path} cannot be read: {err.strerror or err}") from err
        # Under the shards' names, so that a tensor that stands in two of them is compared.
        content = shards if len(shards) > 1 else next(iter(shards.values()))
        return Checkpoint(path, find_tensors(path, content), config, vocab)
    content = _read_mapping(path)
    config = content.get("config")
    return Checkpoint(path, find_tensors(path, content), config if isinstance(config, dict) else {})


def _read_mapping(path: Path) -> Mapping:
    kind = file_kind(path)
    if kind.reader is None:
        advice = f" {kind.advice}." if kind.advice else ""
        raise UsageError(f"{path} is no PyTorch checkpoint, but {kind.what}.{advice} {EXPECTED}")
    if kind.reader == "safetensors":
        return read_safetensors(path)
    content = read_pickled(path, zipped=kind.reader == "zip")
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds a {type(content).__name__}, no named tensors. {EXPECTED}")
    return content


def write_checkpoint(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], config: dict):
    """Writes {"model": state_dict, "config": config} as the authors' code reads it.

    A reader never meets half a file: it is written beside `path` and renamed.

    Args:
      path: the file to write; one that is there is replaced.
      tensors: name -> array; equal memory stays shared, as tied parameters are.
      config: plain Python values.

    Raises:
      UsageError: the folder cannot be written.
    """
    path = expand(path)
    torch = import_torch(path)
    shared: dict[int, Any] = {}
    state = {}
    for name, array in tensors.items():
        if id(array) not in shared:
            # A copy: torch warns about, and could write through, read-only arrays of JAX.
            shared[id(array)] = torch.from_numpy(np.array(array, order="C"))
        state[name] = shared[id(array)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            torch.save({"model": state, "config": config}, partial)
    except (OSError, RuntimeError) as err:
        raise UsageError(f"cannot write {path}: {err}") from err
