"""Our parameters as the tensors that PyTorch code loads."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from cada_jax.checkpoints.torch.layout import layer_names, to_theirs
from cada_jax.checkpoints.torch.names import GATE, OURS_ONLY, POSITION_IDS, TABLE, TIED, Dialect
from cada_jax.common.errors import UsageError

_KEEP = "--keep_extras writes a file that only `python -m cada_jax convert` reads back"


def to_torch(
    leaves: Mapping[str, np.ndarray],
    extras: Literal["refuse", "drop_gate", "keep"] = "refuse",
    dialect: Dialect = "cada",
) -> dict[str, np.ndarray]:
    """Converts parameters to the tensors PyTorch code loads strictly.

    Args:
      leaves: all leaf paths -> arrays.
      extras: what to do with parameters the authors' network has no place for: a trained gate and
        a convolutional stem. "refuse"; "drop_gate" leaves the gate out, which changes the
        numbers; "keep" writes them under names which `from_torch` reads back and the authors'
        strict loading refuses. A gate that is still exactly 1 is left out by the first two.
      dialect: whose names to give.

    Returns:
      Names -> arrays. "cada" has tied parameters twice, as the same object, and the int64
      `position_ids`, as the authors' state_dict.

    Raises:
      UsageError: extras that were not allowed, or leaves the table does not know.
    """
    leaves = {path: np.asarray(array) for path, array in leaves.items()}
    if extras != "keep":
        leaves = _without_extras(leaves, extras == "drop_gate")
    unknown = sorted(set(leaves) - {leaf for rule in TABLE for leaf in rule.ours})
    if unknown:
        raise UsageError(f"no PyTorch name is known for {', '.join(unknown)}")
    tensors = {}
    for rule in TABLE:
        if rule.ours[0] not in leaves:
            continue
        arrays = [leaves[leaf] for leaf in rule.ours]
        for name, layer in layer_names(rule, dialect, len(arrays[0])):
            pieces = [to_theirs(rule.kind, a if layer is None else a[layer]) for a in arrays]
            tensors[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    tensors |= {copy: tensors[first] for copy, first in TIED.items() if first in tensors}
    if dialect == "cada":
        for name, leaf in POSITION_IDS.items():
            if leaf in leaves:
                tensors[name] = np.arange(len(leaves[leaf]), dtype=np.int64)[None]
    return tensors


def _without_extras(leaves: dict[str, np.ndarray], drop_gate: bool) -> dict[str, np.ndarray]:
    extras = [leaf for leaf in leaves if leaf.startswith(OURS_ONLY)]
    gate = [leaf for leaf in extras if leaf.startswith(GATE)]
    trained = any(leaves[leaf].any() for leaf in gate)
    if len(extras) > len(gate):
        raise UsageError(
            "the authors' encoders have no convolutional stem (config.model.image.stem or "
            "config.model.text.stem = 'conv'), so their code cannot load this model. " + _KEEP
        )
    if trained and not drop_gate:
        raise UsageError(
            "the authors' decoder has no gate (config.atp.gate = 'token'), and this model's gate "
            "is trained. --drop_gate leaves it out and prints how far the outputs move; " + _KEEP
        )
    return {leaf: array for leaf, array in leaves.items() if leaf not in gate}
