"""Pytrees of arrays: names, comparison, and the way between host and devices."""

import dataclasses
from typing import Any

import jax
from jax.experimental import multihost_utils


def flat_arrays(tree: Any) -> dict[str, Any]:
    """The array-like leaves of `tree` by name, "text_encoder/layers/attn/query/kernel".

    Dictionary keys, attribute names and sequence positions all become path parts, so that a train
    state and the nested dicts and lists Orbax stores for it get the same names.
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        parts = []
        for key in path:
            fields = (getattr(key, f, None) for f in ("key", "name", "idx"))
            parts.append(str(next(field for field in fields if field is not None)))
        named["/".join(parts)] = leaf
    return named


@dataclasses.dataclass(frozen=True)
class TreeDifference:
    """How the arrays that came differ from those expected; shapes by name."""

    missing: dict[str, tuple[int, ...]]
    unexpected: dict[str, tuple[int, ...]]
    misshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # expected, came

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        lines = []
        for title, entries in (("missing", self.missing), ("unexpected", self.unexpected)):
            lines += [f"  {title}: {name} {shape}" for name, shape in entries.items()]
        lines += [
            f"  misshaped: {name}, expected {expected}, got {came}"
            for name, (expected, came) in self.misshaped.items()
        ]
        return "\n".join(lines)


def compare_trees(expected: Any, came: Any) -> TreeDifference:
    """Compares names and shapes of two pytrees of arrays (or of anything with a `shape`).

    Returns:
      The difference, false if there is none. Values and dtypes are not compared.
    """
    want = {name: tuple(leaf.shape) for name, leaf in flat_arrays(expected).items()}
    have = {name: tuple(leaf.shape) for name, leaf in flat_arrays(came).items()}
    return TreeDifference(
        missing={n: s for n, s in want.items() if n not in have},
        unexpected={n: s for n, s in have.items() if n not in want},
        misshaped={n: (s, have[n]) for n, s in want.items() if n in have and s != have[n]},
    )


def abstract_arrays(shapes: Any, shardings: Any) -> Any:
    """A pytree of `jax.ShapeDtypeStruct` with shardings: what `restore` is asked to return."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def to_host(tree: Any) -> Any:
    """`tree` with every array whole, as NumPy, on every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)


def to_devices(tree: Any, shardings: Any) -> Any:
    """NumPy arrays, the same on every process, as global arrays with `shardings`."""
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index]),
        tree,
        shardings,
    )
