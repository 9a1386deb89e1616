"""Finds the weights in what a checkpoint file holds: unwrapped, as arrays, each name once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cada_jax.checkpoints.torch.kinds import EXPECTED
from cada_jax.checkpoints.torch.names import is_known, unwrapped
from cada_jax.common.errors import UsageError

DEEPEST = 8  # nested mappings that are looked into
_SHOWN = 5  # names listed in an error


class _Found(NamedTuple):
    """A mapping that holds tensors.

    Attributes:
      keys: under which keys it lies.
      tensors: its own tensors, by its own names.
      names: its own names -> names without wrappers.
      known: how many of these are CADA's or BLIP's.
    """

    keys: tuple[str, ...]
    tensors: dict[str, Any]
    names: dict[str, str]
    known: int


def find_tensors(path: Path, content: Mapping) -> dict[str, np.ndarray]:
    """The weights of CADA or BLIP in `content`, whatever wraps them.

    Wrappers are prefixes of names ("module.", "_orig_mod.", "model.") and nested mappings
    ("state_dict", "params"), in any order. Where no name is known, the mapping that holds most
    tensors is taken, so that the caller can say what it is.

    Args:
      path: of the file, for messages.
      content: the mapping that the file holds.

    Returns:
      Names without wrappers -> arrays; floating ones are float32.

    Raises:
      UsageError: there are no tensors, a weight stands twice with two values, or a tensor has no
        plain values (sparse, quantized, float8, meta).
    """
    found = [_name(keys, tensors) for keys, tensors in _walk(content, ())]
    if not found:
        raise UsageError(f"{path} holds no tensors. {EXPECTED}")
    chosen = [each for each in found if each.known]
    if not chosen:
        chosen = [max(found, key=lambda each: len(each.tensors))]
    arrays: dict[str, np.ndarray] = {}
    spelled: dict[str, str] = {}
    differ, unusable = [], []
    for each in chosen:
        for own, value in each.tensors.items():
            name, full = each.names[own], ".".join((*each.keys, own))
            problem = _problem(value)
            if problem:
                unusable.append(f"{full} {problem}")
                continue
            array = to_numpy(value)
            if name in arrays and not same_values(arrays[name], array):
                differ.append(f"{spelled[name]} and {full}")
            arrays.setdefault(name, array)
            spelled.setdefault(name, full)
    _refuse(path, "tensors without plain values", unusable, "Save dense float32 weights")
    _refuse(
        path,
        "weights that stand twice and differ",
        differ,
        "Save the ones that you mean alone, with torch.save",
    )
    return arrays


def _refuse(path: Path, what: str, which: list[str], advice: str) -> None:
    if which:
        more = f" and {len(which) - _SHOWN} more" if len(which) > _SHOWN else ""
        raise UsageError(f"{path} holds {what}: {'; '.join(which[:_SHOWN])}{more}. {advice}")


def _walk(content: Mapping, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    tensors = {str(name): value for name, value in content.items() if _is_tensor(value)}
    if tensors:
        yield keys, tensors
    if len(keys) < DEEPEST:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from _walk(value, (*keys, str(name)))


def _is_tensor(value: Any) -> bool:
    """Whether `value` is an array; a NumPy scalar is a plain value."""
    if isinstance(value, np.ndarray):
        return True
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "is_floating_point")


def _name(keys: tuple[str, ...], tensors: dict[str, Any]) -> _Found:
    """Finds how many of `keys` belong to the names: the fewest with most names known."""
    best = _Found(keys, tensors, {own: unwrapped(own) for own in tensors}, -1)
    for first in range(len(keys), -1, -1):
        names = {own: unwrapped(".".join((*keys[first:], own))) for own in tensors}
        known = sum(map(is_known, names.values()))
        if known > best.known:
            best = _Found(keys, tensors, names, known)
    return best


def same_values(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays have one shape and the same values; NaN equals NaN."""
    if first.shape != second.shape:
        return False
    floats = first.dtype.kind == second.dtype.kind == "f"
    return np.array_equal(first, second, equal_nan=floats)


def _problem(value: Any) -> str | None:
    """Why a tensor cannot become an array, None if it can."""
    if isinstance(value, np.ndarray):
        return None
    if value.is_meta:
        return "has no values (device meta)"
    if value.is_nested or str(value.layout) != "torch.strided":
        return f"is sparse or nested ({value.layout})"
    if value.is_quantized or "float8" in str(value.dtype) or "float4" in str(value.dtype):
        return f"is quantized ({value.dtype})"
    return None


def to_numpy(value: Any) -> np.ndarray:
    """A tensor as an array; floating ones become float32."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
    value = value.detach()
    return (value.float() if value.is_floating_point() else value.resolve_conj()).numpy()
