"""Reads what torch.save wrote, without running code from the file."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cada_jax.checkpoints.torch.kinds import EXPECTED
from cada_jax.checkpoints.torch.names import STATE_KEYS
from cada_jax.common.errors import MissingFileError, UsageError

# Modules that NumPy 1 and 2, and Python up to 3.12 and from 3.13, put into a pickle.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_PATH_MODULES = ("pathlib", "pathlib._local")


def import_torch(path: Path):
    """The module torch.

    Raises:
      MissingFileError: it is not installed.
    """
    try:
        import torch
    except ImportError as err:
        raise MissingFileError(
            f"{path} needs PyTorch, which is not installed: pip install 'cada_jax[torch]'"
        ) from err
    return torch


def read_pickled(path: Path, zipped: bool) -> Any:
    """What torch.save wrote to `path`, tensors as CPU tensors.

    A zip file's checksums are compared, so a byte that changed is noticed. The format before
    PyTorch 1.6 has no checksum.

    Args:
      path: an existing file.
      zipped: whether it is a zip file, as PyTorch writes since 1.6, or a bare pickle.

    Raises:
      MissingFileError: torch is not installed.
      UsageError: the file is damaged, no checkpoint, or holds more than tensors and plain values.
    """
    import pickle
    import warnings

    torch = import_torch(path)
    if zipped:
        _check_zip(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")  # of tensors in formats that are refused later
            return _load(torch, path, zipped)
    except pickle.UnpicklingError as err:
        found = re.search(r"GLOBAL (\S+)", str(err))
        if found is None and "magic number" in str(err):
            raise UsageError(f"{path} is no PyTorch checkpoint, but a pickle. {EXPECTED}") from err
        raise UsageError(_refusal(path, found and found.group(1))) from err
    except Exception as err:  # whatever bytes can make torch raise: KeyError, OSError, EOFError ...
        raise UsageError(_damaged(path)) from err


def _load(torch, path: Path, zipped: bool) -> Any:
    common = dict(map_location="cpu", weights_only=True)
    if path.suffix.lower() != ".safetensors":
        return torch.load(path, mmap=zipped or None, **common)
    # torch believes this suffix; an open file has none.
    with open(path, "rb") as file:
        return torch.load(file, **common)


def _damaged(path: Path, part: str = "") -> str:
    where = f" in {part}" if part else ""
    return f"{path} is truncated or damaged{where} ({path.stat().st_size} bytes): copy it again"


def _harmless() -> list:
    """What may stand beside weights: flags, NumPy's scalars and arrays, paths."""
    import argparse
    import pathlib

    import numpy as np

    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    allowed: list[Any] = [argparse.Namespace, np.ndarray, np.dtype, *dtypes]
    for module in _NUMPY_MODULES:
        for name in ("scalar", "_reconstruct"):
            allowed.append((getattr(np._core.multiarray, name), f"{module}.{name}"))
    for module in _PATH_MODULES:
        for name in ("PurePosixPath", "PureWindowsPath"):
            kind = getattr(pathlib, name)
            allowed.append((kind, f"{module}.{name}"))
            allowed.append((kind, f"{module}.{name.removeprefix('Pure')}"))
    return allowed


def _check_zip(path: Path) -> None:
    """Raises UsageError unless the zip file is whole and one that torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # torch.serialization.set_crc32_options(False) writes zeros for the checksums.
            has_checksums = any(entry.CRC for entry in archive.infolist())
            broken = archive.testzip() if has_checksums else None
    except Exception as err:  # zipfile raises nine types for damaged archives
        raise UsageError(_damaged(path)) from err
    if broken:
        raise UsageError(_damaged(path, broken))
    if any(name.endswith("/constants.pkl") for name in names):
        raise UsageError(
            f"{path} is a TorchScript program, no checkpoint. Save its weights alone:\n"
            "  import torch\n"
            f"  program = torch.jit.load({str(path)!r}, map_location='cpu')\n"
            f"  torch.save(program.state_dict(), {_renamed(path)!r})"
        )
    if not any(name.endswith("data.pkl") for name in names):
        numpy = any(name.endswith(".npy") for name in names)
        what = "NumPy's .npz" if numpy else f"a zip archive of {', '.join(names[:3])} ..."
        raise UsageError(f"{path} is no PyTorch checkpoint, but {what}. {EXPECTED}")


def _renamed(path: Path) -> str:
    return str(path.with_name(path.name.partition(".")[0] + "_weights.pth"))


def _refusal(path: Path, wanted: str | None) -> str:
    """What to say of a file that holds more than tensors, with the lines that save these alone."""
    found = f" (it needs {wanted})" if wanted else ""
    package = f" where {wanted.split('.')[0]} is installed" if wanted and "." in wanted else ""
    return (
        f"{path} was not loaded: it holds more than tensors and plain values{found}, and "
        "unpickling that could run any code. If you trust the file, save its weights "
        f"alone{package}:\n"
        "  import torch\n"
        f"  whole = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
        f"  torch.save({_weights_of(path)}, {_renamed(path)!r})"
    )


def _weights_of(path: Path) -> str:
    """A Python expression for the weights in `whole`, as far as the pickle's opcodes tell."""
    strings: set[str] = set()
    container = False
    try:
        for opcodes in _pickles(path):
            for i, (name, argument) in enumerate(opcodes):
                if isinstance(argument, str):
                    strings.add(argument)
                if i < 3:  # after PROTO, what the whole is
                    container |= name == "EMPTY_DICT" or argument == "collections OrderedDict"
    except Exception:  # a pickle that cannot be followed gives the general answer
        pass
    key = next((key for key in STATE_KEYS if key in strings), None)
    if container and key:
        return f"whole[{key!r}]"
    if container:
        return "{n: x for n, x in whole.items() if isinstance(x, torch.Tensor)}"
    return "whole.state_dict()"


def _pickles(path: Path) -> Iterator[list[tuple[str, Any]]]:
    """The opcodes of the pickles in the file that hold the object; none of them is executed."""
    import io
    import pickletools

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            stream, before = io.BytesIO(archive.read(name)), 0
    else:
        # Before 1.6 magic number, version and system are pickles of their own.
        stream, before = open(path, "rb"), 3  # noqa: SIM115
    with stream:
        for _ in range(before):
            for _ in pickletools.genops(stream):
                pass
        yield [(code.name, argument) for code, argument, _ in pickletools.genops(stream)]
