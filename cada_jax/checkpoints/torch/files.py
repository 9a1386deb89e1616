"""Reads and writes PyTorch checkpoint files; knows files, not what the tensors mean.

Nothing here runs code from a file: torch reads with `weights_only=True`, safetensors holds tensors
only. torch and safetensors are imported where they are used, so that the rest runs without them.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.files import whole_file

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
# What a Hugging Face folder may hold, first found first read.
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
EXPECTED = (
    "Expected: a .pth written by torch.save of the authors' or BLIP's code, a .safetensors, or a "
    "folder of Hugging Face's BLIP"
)


@dataclasses.dataclass
class Checkpoint:
    """Tensors of a PyTorch checkpoint as NumPy arrays.

    Attributes:
      path: where it was read.
      tensors: name -> array; floating tensors are float32 whatever they are in the file.
      config: what stands beside the tensors in the file under "config", {} if nothing does.
      vocab: the vocabulary file lying beside the tensors, None if there is none.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    vocab: Path | None = None


def is_torch_checkpoint(path: str | os.PathLike) -> bool:
    """Whether `path` looks like something `read_checkpoint` reads, by its name alone."""
    path = Path(path)
    if path.is_dir():
        return any((path / name).exists() for name in HUB_FILES)
    return path.suffix in SUFFIXES


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads a .pth, a .safetensors or a Hugging Face folder.

    Raises:
      MissingFileError: there is nothing at `path`, or torch / safetensors is not installed.
      UsageError: the file is truncated, no checkpoint, or a pickle that holds code.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingFileError(f"checkpoint {path} does not exist. {EXPECTED}")
    if path.is_dir():
        return _read_folder(path)
    content = _read_file(path)
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds a {type(content).__name__}, no named tensors. {EXPECTED}")
    state = content
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            state = content[key]
    config = content.get("config")
    return Checkpoint(path, _to_numpy(path, state), config if isinstance(config, dict) else {})


def write_checkpoint(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], config: dict):
    """Writes {"model": state_dict, "config": config} as the authors' code reads it.

    A reader never meets half a file: it is written beside `path` and renamed.

    Args:
      path: the .pth to write.
      tensors: name -> array; equal memory stays shared, as tied parameters are.
      config: plain Python values.

    Raises:
      UsageError: the folder cannot be written.
    """
    torch = _torch(path)
    shared: dict[int, Any] = {}
    state = {}
    for name, array in tensors.items():
        if id(array) not in shared:
            # A copy: torch warns about, and could write through, read-only arrays of JAX.
            shared[id(array)] = torch.from_numpy(np.array(array, order="C"))
        state[name] = shared[id(array)]
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            torch.save({"model": state, "config": config}, partial)
    except (OSError, RuntimeError) as err:
        raise UsageError(f"cannot write {path}: {err}") from err


def _torch(path):
    try:
        import torch
    except ImportError as err:
        raise MissingFileError(
            f"{path} needs PyTorch, which is not installed: pip install 'cada_jax[torch]'"
        ) from err
    return torch


def _read_folder(path: Path) -> Checkpoint:
    found = next((path / name for name in HUB_FILES if (path / name).exists()), None)
    if found is None:
        raise MissingFileError(f"{path} holds none of {', '.join(HUB_FILES)}. {EXPECTED}")
    files = [found]
    if found.suffix == ".json":
        files = [path / name for name in sorted(set(_read_json(found)["weight_map"].values()))]
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        if not file.exists():
            raise MissingFileError(f"{found} names {file.name}, which is not beside it")
        tensors |= _to_numpy(file, _read_file(file))
    config = _read_json(path / "config.json") if (path / "config.json").exists() else {}
    vocab = path / "vocab.txt"
    return Checkpoint(path, tensors, config, vocab if vocab.exists() else None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as err:
        raise UsageError(f"{path} is no readable JSON: {err}") from err


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError as err:
            raise MissingFileError(
                f"{path} needs safetensors, which is not installed: pip install 'cada_jax[torch]'"
            ) from err
        try:
            return load_file(path)
        except (SafetensorError, OSError, KeyError) as err:
            raise UsageError(f"{path} is truncated or no safetensors file ({err})") from err
    return _read_pickle(path)


def _read_pickle(path: Path) -> Any:
    import argparse
    import pickle
    import zipfile

    torch = _torch(path)
    zipped = zipfile.is_zipfile(path)
    try:
        # The authors' training script may put its parsed flags beside the weights: plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as err:
        found = re.search(r"GLOBAL (\S+)", str(err))
        with open(path, "rb") as file:
            is_pickle = zipped or file.read(1) == pickle.PROTO
        if not is_pickle:
            raise UsageError(f"{path} is no PyTorch checkpoint. {EXPECTED}") from err
        wanted = f" (it wants {found.group(1)})" if found else ""
        raise UsageError(
            f"{path} was not loaded: it holds more than tensors and plain values{wanted}, and "
            "unpickling that could run any code. Save the state_dict alone with torch.save"
        ) from err
    except Exception as err:  # whatever bytes can make torch raise: KeyError, OSError, EOFError ...
        with open(path, "rb") as file:
            begins_as_zip = file.read(4) == b"PK\x03\x04"
        if begins_as_zip or "EOF" in str(err):
            reason = f"truncated or damaged ({path.stat().st_size} bytes): copy it again"
        else:
            reason = f"no PyTorch checkpoint. {EXPECTED}"
        raise UsageError(f"{path} is {reason}") from err


def _to_numpy(path: Path, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors as arrays; floats become float32, and a `module.` prefix of DDP is dropped."""
    tensors = {}
    for name, value in state.items():
        if not hasattr(value, "shape"):
            continue  # a counter or a flag that somebody stored beside the tensors
        if not isinstance(value, np.ndarray):
            value = value.detach()
            value = (value.float() if value.is_floating_point() else value).numpy()
        elif value.dtype.kind == "f":
            value = value.astype(np.float32, copy=False)
        tensors[str(name).removeprefix("module.")] = value
    if not tensors:
        raise UsageError(f"{path} holds no tensors. {EXPECTED}")
    return tensors
