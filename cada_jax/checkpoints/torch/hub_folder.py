"""Reads a folder as Hugging Face's save_pretrained writes it, in one file or in shards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cada_jax.checkpoints.torch.kinds import EXPECTED
from cada_jax.common.errors import MissingFileError, UsageError

# What such a folder may hold, first found first read.
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
CONFIG_FILE, VOCABULARY_FILE = "config.json", "vocab.txt"


def read_folder(
    path: Path, read: Callable[[Path], Any]
) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """The shards, the config and the vocabulary of a folder.

    Args:
      path: an existing folder.
      read: reads one file of tensors.

    Returns:
      (file name -> what `read` gave, config or {}, vocabulary file or None).

    Raises:
      MissingFileError: the folder holds no model, or lacks a shard.
      UsageError: the index or the config is not what it should be; as `read`.
    """
    found = next((path / name for name in HUB_FILES if (path / name).exists()), None)
    if found is None:
        files = sorted(p.name for p in path.iterdir() if p.is_file())[:3]
        holds = f"; it holds {', '.join(files)}. Name the file, if it is one of these" * bool(files)
        raise MissingFileError(f"{path} holds none of {', '.join(HUB_FILES)}{holds}. {EXPECTED}")
    index = _read_index(found) if found.suffix == ".json" else None
    names = sorted(set(index.values())) if index else [found.name]
    absent = [name for name in names if not (path / name).is_file()]
    if absent:
        raise MissingFileError(
            f"{found} names {', '.join(absent[:3])}, which is not beside it: "
            f"{len(absent)} of {len(names)} files are missing"
        )
    shards = {name: read(path / name) for name in names}
    for tensor, name in (index or {}).items():
        if tensor not in shards[name]:
            raise UsageError(f"{found} says that {name} holds {tensor}, but it does not")
    config = path / CONFIG_FILE
    vocab = path / VOCABULARY_FILE
    return (
        shards,
        _read_object(config) if config.exists() else {},
        vocab if vocab.is_file() else None,
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as err:
        raise UsageError(f"{path} is no readable JSON: {err}") from err
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def _read_index(path: Path) -> dict[str, str]:
    """Tensor names -> file names, all of them beside `path`."""
    index = _read_object(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise UsageError(
            f'{path} has no "weight_map" with tensor names and files, so it names no weights: '
            "download the folder again"
        )
    for tensor, name in index.items():
        if not isinstance(name, str) or not name or name != Path(name).name or "\\" in name:
            raise UsageError(
                f'{path}: "weight_map" has {name!r} for {tensor}, expected the name of a file '
                "beside it"
            )
    return index
