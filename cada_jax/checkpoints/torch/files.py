"""Reads and writes PyTorch checkpoints; knows files and wrappers, not what the tensors mean.

Nothing here runs code from a file: torch reads with `weights_only=True`, safetensors holds tensors
only. Both are imported where they are used, so that the rest runs without them.
"""

import dataclasses
import importlib.util
import os
import pathlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cada_jax.checkpoints.torch.names import WRAPPERS, known_name
from cada_jax.common.errors import MissingFileError, UsageError, needs_extra, reading
from cada_jax.common.files import read_json, whole_file

EXPECTED = (
    "a checkpoint: a file of torch.save of the authors' or BLIP's code, a .safetensors, or a "
    "folder of Hugging Face's BLIP"
)
# What such files are called. It decides only where no file is there yet.
SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".safetensors", ".tar")
# What a folder of Hugging Face's save_pretrained may hold, first found first read.
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
HUB_CONFIG = "config.json"
DEEPEST = 8  # nested mappings that are looked into


@dataclasses.dataclass
class Checkpoint:
    """Tensors of a PyTorch checkpoint.

    Attributes:
      path: where it was read.
      tensors: name without wrappers -> torch tensor or NumPy array, as stored; see `to_numpy`.
      config: what stands beside the tensors in the file under "config", {} if nothing does; of a
        Hugging Face folder its config.json.
    """

    path: pathlib.Path
    tensors: dict[str, Any]
    config: dict[str, Any]


def has_torch_suffix(path: str | os.PathLike) -> bool:
    """Whether `path` is called as PyTorch checkpoints are, in any case of letters."""
    return pathlib.Path(path).suffix.lower() in SUFFIXES


def is_torch_checkpoint(path: str | os.PathLike) -> bool:
    """Whether `read_checkpoint` is what reads `path`, or says why it cannot be read.

    That holds for every file, because our own models are folders, and for the folders of Hugging
    Face. Where nothing is there, the name decides.
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return any(os.path.exists(os.path.join(path, name)) for name in HUB_FILES)
    return os.path.exists(path) or has_torch_suffix(path)


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads a file of torch.save, a .safetensors file or a Hugging Face folder.

    Raises:
      MissingFileError: there is nothing at `path`, or torch / safetensors is not installed.
      UsageError: the file is damaged, no checkpoint, or a pickle that holds code; a weight stands
        twice in it with two values.
    """
    path = pathlib.Path(os.path.expanduser(path))
    if not path.is_dir():
        content = _read_file(path)
        config = content.get("config")
        tensors = _find_tensors(path, content)
        return Checkpoint(path, tensors, config if isinstance(config, dict) else {})
    found = next((path / name for name in HUB_FILES if (path / name).exists()), None)
    if found is None:
        raise MissingFileError(f"{path}: expected {EXPECTED}; it holds none of {HUB_FILES}")
    shards = [found.name]
    if found.suffix == ".json":
        with reading(found, "an index of shards"):
            shards = sorted(set(read_json(found, "an index of shards")["weight_map"].values()))
    contents = {name: _read_file(path / name) for name in shards}
    config = path / HUB_CONFIG
    values = read_json(config, "the configuration of a model") if config.exists() else {}
    return Checkpoint(path, _find_tensors(path, contents), dict(values))


def _read_file(path: pathlib.Path) -> Mapping:
    with reading(path, EXPECTED):
        with open(path, "rb") as file:
            head = file.read(9)
        if head[8:] == b"{":  # after the header's length
            return _read_safetensors(path)
        with needs_extra("torch"):
            import torch
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_zip(path)
        allowed = torch.serialization.safe_globals(_harmless())
        try:
            with allowed:
                content = torch.load(path, "cpu", weights_only=True, mmap=zipped or None)
        except pickle.UnpicklingError as e:
            raise UsageError(
                f"{path}: expected {EXPECTED}; it holds more than tensors and plain values, and "
                "reading that could run any code. If you trust it, save its weights alone: "
                "torch.save(torch.load(PATH, weights_only=False)['model'], 'weights.pth')"
            ) from e
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: expected {EXPECTED}, got a {type(content).__name__}")
    return content


def _read_safetensors(path: pathlib.Path) -> dict[str, Any]:
    with needs_extra("hub"):
        from safetensors import safe_open
    # NumPy has no bfloat16, and the library reads it into torch alone.
    framework = "pt" if importlib.util.find_spec("torch") else "np"
    with safe_open(path, framework=framework) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _harmless() -> list:
    """What may stand beside weights: flags and NumPy's scalars."""
    import argparse

    scalar = np._core.multiarray.scalar
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    # NumPy 1 and 2 call the module by two names.
    return [argparse.Namespace, np.dtype, *dtypes, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _check_zip(path: pathlib.Path) -> None:
    """Raises UsageError if a byte of a zip file was changed: torch reads it without its checksums.

    `torch.serialization.set_crc32_options(False)` writes zeros in their place.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.CRC for entry in archive.infolist()) and (broken := archive.testzip()):
            raise UsageError(f"{path} is damaged in {broken}: copy it again")


def _find_tensors(path: pathlib.Path, content: Mapping) -> dict[str, Any]:
    """The weights of CADA or BLIP in `content`, whatever wraps them: names -> tensors.

    A mapping without a tensor of a known name, as an optimizer's state, is not looked at.
    """
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    begin: list[str] = []
    for keys, tensors in _mappings(content, ()):
        full = {own: ".".join((*keys, own)) for own in tensors}
        known = {own: known_name(name) for own, name in full.items()}
        begin += list(full.values())[:3]
        if not any(known.values()):
            continue
        for own, value in tensors.items():
            name = known[own] or ".".join(p for p in own.split(".") if p not in WRAPPERS)
            if name in found and not same_values(found[name], value):
                raise UsageError(
                    f"{path} holds a weight twice, with different values: {spelled[name]} and "
                    f"{full[own]}. Save the one that you mean alone, with torch.save"
                )
            found.setdefault(name, value)
            spelled.setdefault(name, full[own])
    if not found:
        names = f"its names begin with {', '.join(begin[:3])}" if begin else "it holds no tensors"
        raise UsageError(f"{path} is no checkpoint of CADA or BLIP: {names}")
    return found


def _mappings(
    content: Mapping, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """(keys above, own name -> tensor) of every mapping that holds tensors."""
    tensors = {str(n): x for n, x in content.items() if hasattr(x, "shape") and hasattr(x, "dtype")}
    if tensors:
        yield keys, tensors
    if len(keys) < DEEPEST:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from _mappings(value, (*keys, str(name)))


def same_values(first: Any, second: Any) -> bool:
    """Whether two tensors have one shape and the same values; NaN equals NaN."""
    if first is second:
        return True
    a, b = to_numpy("", first), to_numpy("", second)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")


def to_numpy(name: str, value: Any) -> np.ndarray:
    """A tensor as an array; floating ones become float32.

    Raises:
      UsageError: it has no plain values (sparse, quantized, float8, meta), or is a view that
        repeats its values: a file of some kilobytes would ask for any number of gigabytes.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
    kind = f"{value.layout} {value.dtype} on {value.device}"
    plain = str(value.layout) == "torch.strided" and not (value.is_meta or value.is_quantized)
    if not plain or "float8" in kind or "float4" in kind:
        raise UsageError(f"{name} has no plain values ({kind}): save dense float32 weights")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UsageError(f"{name} is a view that repeats its values: save a copy of it")
    value = value.detach()
    return (value.float() if value.is_floating_point() else value).numpy()


def write_checkpoint(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], config: dict
) -> None:
    """Writes {"model": state_dict, "config": config} as the authors' code reads it, whole or not.

    Args:
      tensors: name -> array; equal memory stays shared, as tied parameters are.
    """
    with needs_extra("torch"):
        import torch
    shared: dict[int, Any] = {}
    state = {}
    for name, array in tensors.items():
        if id(array) not in shared:
            # A copy: torch warns about, and could write through, read-only arrays of JAX.
            shared[id(array)] = torch.from_numpy(np.array(array, order="C"))
        state[name] = shared[id(array)]
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        torch.save({"model": state, "config": config}, partial)
