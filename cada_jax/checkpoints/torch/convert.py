"""Converts the tensors of a PyTorch checkpoint to parameters of this project, and back.

The names are in `names`, the files in `files`. What is refused: everything that would leave a
weight unused, unset or other than it was saved.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from cada_jax.checkpoints.torch.files import same_values, to_numpy
from cada_jax.checkpoints.torch.names import (
    GATE,
    LEFT_OUT,
    OURS_ONLY,
    POSITION_IDS,
    TABLE,
    TIED,
    Dialect,
    Rule,
    dialect_of,
)
from cada_jax.common.errors import UsageError

Leaves = dict[str, np.ndarray]  # "text_encoder/layers/attn/query/kernel" -> array
LISTED = 20  # misfits that an error lists


def _to_ours(kind: str, array: np.ndarray) -> np.ndarray:
    """One layer's tensor with its axes as here: dense [in,out], conv [h,w,in,out]."""
    if kind == "dense":
        return array.T
    return array.transpose(*range(2, array.ndim), 1, 0) if kind == "conv" else array


def _to_theirs(kind: str, array: np.ndarray) -> np.ndarray:
    """One layer's leaf with its axes as in PyTorch: dense [out,in], conv [out,in,h,w]."""
    if kind == "dense":
        return array.T
    if kind == "conv":  # [..., in, out] here, [out, in, ...] there
        return array.transpose(-1, -2, *range(array.ndim - 2))
    return array


class _Import:
    """One conversion from PyTorch: what was found, and everything that does not fit."""

    def __init__(self, tensors: Mapping[str, Any]):
        self.dialect = dialect_of(tensors)
        self.remaining = dict(tensors)
        self.leaves: Leaves = {}
        self.left_out: dict[str, str] = {}
        self.misfits: list[str] = []

    def leave_out(self) -> None:
        """Takes away, by name, what only pretraining needs, and the second name of tied ones."""
        for name in sorted(self.remaining):
            reason = next((why for pattern, why in LEFT_OUT if pattern.search(name)), None)
            if name in TIED:
                reason, original = "tied", TIED[name]
                first = self.remaining.setdefault(original, self.remaining[name])
                if not same_values(first, self.remaining[name]):
                    self.misfits.append(f"{name} differs from {original}: here the two are one")
            if reason:
                self.left_out[name] = reason
                del self.remaining[name]

    def take(self, rule: Rule) -> None:
        """Moves the tensors of one rule, every layer of it, into its leaves."""
        template = getattr(rule, self.dialect)
        pattern = re.compile(re.escape(template).replace(r"\{i\}", r"(\d+)"))
        found = {m[m.lastindex or 0]: m[0] for n in self.remaining if (m := pattern.fullmatch(n))}
        arrays = []
        for layer in range(len(found)) if "{i}" in template else found:
            if str(layer) not in found:
                self.misfits.append(f"missing: {template.replace('{i}', str(layer))}")
                continue
            name = found[str(layer)]
            arrays.append(self._values(rule, name, self.remaining.pop(name)))
        fitting = [array for array in arrays if array is not None]
        if not fitting or len(fitting) < len(arrays):
            return
        if len({array.shape for array in fitting}) > 1:
            self.misfits.append(f"{template}: the layers have different shapes")
            return
        pieces = [np.split(array, len(rule.ours)) for array in fitting]  # [layer][leaf]
        for leaf, layers in zip(rule.ours, zip(*pieces, strict=True), strict=True):
            ours = [_to_ours(rule.kind, array) for array in layers]
            stacked = np.stack(ours)
            self.leaves[leaf] = stacked if "{i}" in template else stacked[0]

    def _values(self, rule: Rule, name: str, tensor: Any) -> np.ndarray | None:
        """A tensor as an array that can be one layer of a rule; None after noting why not."""
        array = to_numpy(name, tensor)
        axes = {"dense": 2, "conv": 3}.get(rule.kind, 1)
        if array.ndim < axes or len(array) % len(rule.ours):
            self.misfits.append(f"{name} has the shape {array.shape}")
        elif array.dtype.kind != "f":
            self.misfits.append(f"{name} is {array.dtype}, expected floating point")
        elif bad := array.size - np.isfinite(array).sum():
            self.misfits.append(f"not finite: {name} has {bad} NaN or infinite values")
        else:
            return array
        return None


def from_torch(
    tensors: Mapping[str, Any], origin: str = "the checkpoint"
) -> tuple[Leaves, dict[str, str]]:
    """Converts the tensors of a CADA, BLIP or Hugging Face BLIP checkpoint.

    Sizes are the checkpoint's own: `sizes.check_sizes` says whether they make one model.

    Args:
      tensors: PyTorch names -> tensors or arrays, as `files.read_checkpoint` gives them.

    Returns:
      (leaves, left out): float32 arrays by leaf path; tensor -> why no parameter was made of it.

    Raises:
      UsageError: another architecture, or tensors that are unknown, lack a layer, are not finite
        or no floating point numbers; the first of them listed, and how many there are.
    """
    work = _Import(tensors)
    work.leave_out()
    for rule in TABLE:
        work.take(rule)
    if not work.leaves and not work.misfits:
        begin = ", ".join(sorted(tensors)[:3])
        raise UsageError(f"{origin} is no CADA or BLIP checkpoint: its names begin with {begin}")
    work.misfits += [f"unexpected: {name}" for name in work.remaining]
    if work.misfits:
        raise misfit(origin, work.misfits)
    return work.leaves, work.left_out


def misfit(origin: str, misfits: list[str]) -> UsageError:
    """The error of a checkpoint that is not used as it is, with the reasons."""
    more = [f"and {len(misfits) - LISTED} more"] if len(misfits) > LISTED else []
    lines = "\n  ".join(misfits[:LISTED] + more)
    return UsageError(f"{origin} is no whole model, in {len(misfits)} places:\n  {lines}")


def to_torch(
    leaves: Mapping[str, np.ndarray],
    extras: Literal["refuse", "drop_gate", "keep"] = "refuse",
    dialect: Dialect = "cada",
) -> dict[str, np.ndarray]:
    """Converts parameters to the tensors that PyTorch code loads strictly.

    Args:
      leaves: all leaf paths -> arrays.
      extras: what to do with parameters the authors' network has no place for: a trained gate and
        a convolutional stem. "refuse"; "drop_gate" leaves the gate out, which changes the
        numbers; "keep" writes them under names which `from_torch` reads back and the authors'
        strict loading refuses. A gate that is still exactly 1 is left out by the first two.
      dialect: whose names to give.

    Returns:
      Names -> arrays, views where no value moves. "cada" has tied parameters twice, as the same
      object, and the int64 `position_ids`, as the authors' state_dict.

    Raises:
      UsageError: extras that were not allowed, or leaves the table does not know.
    """
    leaves = {path: np.asarray(array) for path, array in leaves.items()}
    if extras != "keep":
        leaves = _without_extras(leaves, extras == "drop_gate")
    tensors: dict[str, np.ndarray] = {}
    for rule in TABLE:
        if rule.ours[0] in leaves:
            arrays = [leaves.pop(leaf) for leaf in rule.ours]
            template = getattr(rule, dialect)
            layers = range(len(arrays[0])) if "{i}" in template else [None]
            for i in layers:
                pieces = [_to_theirs(rule.kind, a if i is None else a[i]) for a in arrays]
                joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
                tensors[template.replace("{i}", str(i))] = joined
    if leaves:
        raise UsageError(f"no PyTorch name is known for {', '.join(sorted(leaves))}")
    tensors |= {copy: tensors[first] for copy, first in TIED.items() if first in tensors}
    if dialect == "cada":
        for name in POSITION_IDS:
            positions = name.replace("position_ids", "position_embeddings.weight")
            if positions in tensors:
                tensors[name] = np.arange(len(tensors[positions]), dtype=np.int64)[None]
    return tensors


def _without_extras(leaves: Leaves, drop_gate: bool) -> Leaves:
    keep = "--keep_extras writes a file that only `cada convert` reads back"
    extras = [leaf for leaf in leaves if leaf.startswith(OURS_ONLY)]
    gate = [leaf for leaf in extras if leaf.startswith(GATE)]
    if len(extras) > len(gate):
        raise UsageError(
            "the authors' encoders have no convolutional stem (config.model.image.stem or "
            f"config.model.text.stem = 'conv'), so their code cannot load this model. {keep}"
        )
    if any(leaves[leaf].any() for leaf in gate) and not drop_gate:
        raise UsageError(
            "the authors' decoder has no gate (config.atp.gate = 'token'), and this model's gate "
            f"is trained. --drop_gate leaves it out, and the outputs move; {keep}"
        )
    return {leaf: array for leaf, array in leaves.items() if leaf not in gate}
