"""Starting weights from a model folder or a PyTorch checkpoint, filled in by name."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cada_jax.checkpoints import model
from cada_jax.checkpoints.positions import find_grid, resize_positions
from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.convert import from_torch, misfit
from cada_jax.checkpoints.torch.names import GATE, missing_for_retrieval
from cada_jax.checkpoints.torch.sizes import IMAGE_POSITIONS, stored_grid
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays, to_devices
from cada_jax.models.vit import patch_grid
from cada_jax.text.vocabulary import check_same_ids

# With `init_parts` = "encoders": what of a source is taken, and what below it is not.
_ENCODERS = ("image_encoder/", "text_encoder/", "vision_proj/", "text_proj/")
_DECODER = ("text_encoder/layers/cross/", "text_encoder/layers/cross_norm/", GATE)

Shapes = dict[str, tuple[int, ...]]


def is_encoder(name: str) -> bool:
    """Whether an array takes part in the two embeddings: in the encoders or their projections.

    The text encoder and the decoder are one BERT. Its self-attention and MLPs are in both.
    """
    return name.startswith(_ENCODERS) and not name.startswith(_DECODER)


@dataclasses.dataclass(frozen=True)
class FillReport:
    """What became of every array; shapes by name.

    Attributes:
      loaded: taken from the source.
      new: not in the source. The gate's are 0, others keep their random values.
      left_out: in the source only.
      not_taken: in both, but initialised anew by `config.init_parts`.
      notes: what else a reader should know, a sentence each.
    """

    loaded: Shapes
    new: Shapes
    left_out: Shapes
    not_taken: Shapes = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def new_is_neutral(self) -> bool:
        """Whether the model computes what the source computes, in spite of what is new.

        A new gate is exactly 1, so that a source without a gate may be scored with one.
        """
        return not self.not_taken and all(name.startswith(GATE) for name in self.new)

    def __str__(self) -> str:
        """Counts, then every array that is new or left out."""
        lines = [f"  loaded: {_counts(self.loaded)}"]
        if self.not_taken:
            lines.append(
                f"  not taken (config.init_parts): {_counts(self.not_taken)} of the decoder, the "
                "attribute decoder and the match heads, which start anew"
            )
        if parts := missing_for_retrieval(self.new):
            lines.append(
                f"  WARNING: the source has no {', no '.join(parts)}. Retrieval needs them, and "
                "they are random until trained."
            )
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  new: {name} {shape}" for name, shape in self.new.items()]
        lines += [f"  left out: {name} {shape}" for name, shape in self.left_out.items()]
        return "\n".join(lines)


def _counts(shapes: Shapes) -> str:
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    return f"{len(shapes)} arrays, {size:,} parameters"


def fill_params(
    params: Any, leaves: Mapping[str, Any], origin: str, parts: str = "all"
) -> tuple[Any, FillReport]:
    """Replaces the arrays of `params` by those of the same name in `leaves`.

    Args:
      params: nested dict of global arrays, as initialised; their dtypes and shardings stay.
      leaves: leaf path -> NumPy array, the same on every process.
      origin: what `leaves` are, for messages.
      parts: "encoders" takes only those that `is_encoder` names.

    Returns:
      (params, report).

    Raises:
      UsageError: shapes differ (all of them are listed), or no name is common to both.
    """
    ours = flat_arrays(params)
    theirs = {n: x for n, x in leaves.items() if parts == "all" or is_encoder(n)}
    misshaped = [n for n in ours if n in theirs and ours[n].shape != theirs[n].shape]
    if misshaped:
        lines = "\n".join(
            f"  {n}: {theirs[n].shape} there, {ours[n].shape} in this configuration"
            for n in misshaped
        )
        raise UsageError(
            f"{origin} does not fit the model of this configuration:\n{lines}\n"
            "Make config.model as it is in that model's config.json, or choose another "
            "config.init_from."
        )
    new = {n: x.shape for n, x in ours.items() if n not in theirs}
    report = FillReport(
        loaded={n: x.shape for n, x in ours.items() if n in theirs},
        new={n: shape for n, shape in new.items() if n not in leaves},
        left_out={n: x.shape for n, x in theirs.items() if n not in ours},
        not_taken={n: shape for n, shape in new.items() if n in leaves},
    )
    if not report.loaded:
        raise UsageError(
            f"{origin} has no array of this model: expected names such as {next(iter(ours))}, "
            f"got {', '.join(itertools.islice(leaves, 3)) or 'none'}."
        )

    def fill(name, x):
        if name in theirs:
            return to_devices(np.asarray(theirs[name], x.dtype), x.sharding)
        if name.startswith(GATE):  # its initial value, also where `x` is a shape without values
            return to_devices(np.zeros(x.shape, x.dtype), x.sharding)
        return x

    filled = [fill(name, x) for name, x in ours.items()]  # flat_arrays keeps the leaves' order
    return jax.tree.unflatten(jax.tree.structure(params), filled), report


def _check_whole(params: Any, leaves: Mapping[str, Any], origin: str) -> None:
    """Raises UsageError if a checkpoint has some arrays of a part of the model, and not all."""
    parts = {name.split("/")[0] for name in leaves}
    names = (n for n in flat_arrays(params) if n not in leaves and not n.startswith(GATE))
    if lacking := [f"missing: {name}" for name in names if name.split("/")[0] in parts]:
        raise misfit(origin, lacking)


def load_initial(
    config: ConfigDict, params: Any, vocab_path: pathlib.Path
) -> tuple[Any, FillReport]:
    """Fills `params` from what `config.init_from` names, by `config.init_parts`.

    That is a model, see `model.resolve_model`, or a PyTorch checkpoint, see `torch.files`. Position
    embeddings of another image size are resized.

    Args:
      vocab_path: the vocabulary of the data; the model's must give the same ids.

    Returns:
      (params, report).

    Raises:
      UsageError: the model is missing, unreadable, or does not fit.
    """
    origin, grid = f"config.init_from={config.init_from}", patch_grid(config.model.image)
    left_out: dict[str, str] = {}
    if files.is_torch_checkpoint(config.init_from):
        checkpoint = files.read_checkpoint(config.init_from)
        leaves, left_out = from_torch(checkpoint.tensors, origin)
        _check_whole(params, leaves, origin)
        rows = leaves[IMAGE_POSITIONS].shape[1] - 1 if IMAGE_POSITIONS in leaves else 0
        source_grid = stored_grid(rows, checkpoint.config, config.model.image.patch)
    else:
        source = model.load_model(config.init_from)
        check_same_ids(pathlib.Path(vocab_path), source.vocab_path, origin)
        leaves, source_grid = flat_arrays(source.params), patch_grid(source.config.model.image)
    notes = [f"left out: {name} ({why})" for name, why in left_out.items()]
    positions = leaves.get(IMAGE_POSITIONS)
    if positions is not None and positions.ndim == 3:
        try:
            source_grid = source_grid or find_grid(positions.shape[1] - 1, grid)
            leaves[IMAGE_POSITIONS] = resize_positions(positions, source_grid, grid)
        except ValueError as e:
            raise UsageError(f"{origin}: {e}") from e
        if source_grid != grid:
            old, new = ("x".join(map(str, each)) for each in (source_grid, grid))
            notes.insert(0, f"resized: {IMAGE_POSITIONS} from {old} to {new} patches")
    params, report = fill_params(params, leaves, origin, config.init_parts)
    return params, dataclasses.replace(report, notes=tuple(notes))
