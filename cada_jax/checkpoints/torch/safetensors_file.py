"""Reads .safetensors, bfloat16 too, which the library's own NumPy reader refuses."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from cada_jax.checkpoints.torch.kinds import EXPECTED
from cada_jax.common.errors import MissingFileError, UsageError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name; bfloat16 ones as float32.

    Nothing but the header is read before an array is used: arrays map the file. The format has no
    checksum, so a byte that changed among the values cannot be noticed.

    Raises:
      MissingFileError: safetensors is not installed.
      UsageError: the file is truncated or damaged, or holds a dtype that is no weight (float8).
    """
    try:
        from safetensors import safe_open
    except ImportError as err:
        raise MissingFileError(
            f"{path} needs safetensors, which is not installed: pip install 'cada_jax[torch]'"
        ) from err
    try:
        # The library checks the header against the file: names, shapes, and that every byte
        # belongs to exactly one tensor.
        with safe_open(path, framework="numpy"):
            pass
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        odd = {name: x["dtype"] for name, x in header.items() if x["dtype"] not in DTYPES}
        if odd:
            raise UsageError(_other_dtypes(path, odd))
        return _arrays(path, header, 8 + size) if header else {}
    except UsageError:
        raise
    except Exception as err:  # whatever the library raises for whatever bytes
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise UsageError(
            f"{path} is truncated or no safetensors file ({reason}): copy it again. {EXPECTED}"
        ) from err


def _other_dtypes(path: Path, odd: dict[str, str]) -> str:
    name, dtype = next(iter(odd.items()))
    return (
        f"{path} holds {len(odd)} tensors that are no float32, float16 or bfloat16, {name} "
        f"({dtype}) first. Save the weights in one of these"
    )


def _arrays(path: Path, header: dict, start: int) -> dict[str, np.ndarray]:
    if path.stat().st_size == start:  # tensors without values only; an empty map is an error
        values = np.zeros(0, np.uint8)
    else:
        values = np.memmap(path, np.uint8, "r", start)
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.asarray(values[begin:end]).view(DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = array.astype(np.float32)
        arrays[name] = array.reshape(entry["shape"])
    return arrays
