"""Shapes and axes of a parameter here and in PyTorch, by the kind that the name table gives."""

from collections.abc import Mapping

import numpy as np

from cada_jax.checkpoints.torch.names import TABLE, Dialect, Rule


def their_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The PyTorch shape of one layer's leaf of `shape`."""
    if kind == "dense":
        return shape[::-1]
    return (shape[-1], shape[-2], *shape[:-2]) if kind == "conv" else shape


def to_ours(kind: str, array: np.ndarray) -> np.ndarray:
    """One layer's tensor with its axes as here: dense [in,out], conv [h,w,in,out]."""
    if kind == "dense":
        return array.T
    return array.transpose(*range(2, array.ndim), 1, 0) if kind == "conv" else array


def to_theirs(kind: str, array: np.ndarray) -> np.ndarray:
    """One layer's leaf with its axes as in PyTorch: dense [out,in], conv [out,in,h,w]."""
    if kind == "dense":
        return np.ascontiguousarray(array.T)
    if kind == "conv":  # [..., in, out] here, [out, in, ...] there
        return np.ascontiguousarray(array.transpose(-1, -2, *range(array.ndim - 2)))
    return array


def layer_names(rule: Rule, dialect: Dialect, layers: int) -> list[tuple[str, int | None]]:
    """The PyTorch tensors of one rule: (name, layer), or one (name, None) if it has no layers."""
    template = getattr(rule, dialect)
    if "{i}" not in template:
        return [(template, None)]
    return [(template.replace("{i}", str(layer)), layer) for layer in range(layers)]


def torch_shapes(
    shapes: Mapping[str, tuple[int, ...]], dialect: Dialect = "cada"
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that leaves of `shapes` become, by PyTorch name, each once."""
    there = {}
    for rule in TABLE:
        if rule.ours[0] in shapes:
            for name, layer in layer_names(rule, dialect, shapes[rule.ours[0]][0]):
                cut = 0 if layer is None else 1
                pieces = [their_shape(rule.kind, shapes[leaf][cut:]) for leaf in rule.ours]
                rows = sum(piece[0] for piece in pieces)
                there[name] = (rows, *pieces[0][1:]) if len(pieces) > 1 else pieces[0]
    return there
