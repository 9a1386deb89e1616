"""Starting weights from an exported model or a PyTorch checkpoint, filled in by name."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.convert import IMAGE_POSITIONS, from_torch
from cada_jax.checkpoints.torch.names import GATE, missing_for_retrieval
from cada_jax.checkpoints.torch.report import Row
from cada_jax.checkpoints.torch.sizes import stored_grid
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays, to_devices
from cada_jax.models.position_embedding import patch_grid, resize_positions
from cada_jax.text.vocabulary import check_same_ids

# With `init_parts` = "encoders": what of a source is taken, and what below it is not.
_ENCODERS = ("image_encoder/", "text_encoder/", "vision_proj/", "text_proj/")
_DECODER = ("text_encoder/layers/cross/", "text_encoder/layers/cross_norm/", GATE)


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
      notes: what else a reader should know, a sentence each.
      not_taken: in both, but initialised anew by `config.init_parts`.
    """

    loaded: dict[str, tuple[int, ...]]
    new: dict[str, tuple[int, ...]]
    left_out: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    not_taken: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

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


def _counts(shapes: dict[str, tuple[int, ...]]) -> str:
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    return f"{len(shapes)} arrays, {size:,} parameters"


def fill_params(params: Any, source: Any, origin: str) -> tuple[Any, FillReport]:
    """Replaces the arrays of `params` by those of the same name in `source`.

    Args:
      params: nested dict of global arrays, as initialised; their dtypes and shardings stay.
      source: nested dict of NumPy arrays, the same on every process.
      origin: what `source` is, for messages.

    Returns:
      (params, report).

    Raises:
      UsageError: shapes differ (all of them are listed), or no name is common to both.
    """
    ours, theirs = flat_arrays(params), flat_arrays(source)
    misshaped = {n for n in ours if n in theirs and ours[n].shape != theirs[n].shape}
    if misshaped:
        lines = "\n".join(
            f"  {n}: {theirs[n].shape} there, {ours[n].shape} in this configuration"
            for n in ours
            if n in misshaped
        )
        raise UsageError(
            f"{origin} does not fit the model of this configuration:\n{lines}\n"
            "Make config.model as it is in that model's config.json, or choose another "
            "config.init_from."
        )
    report = FillReport(
        loaded={n: x.shape for n, x in ours.items() if n in theirs},
        new={n: x.shape for n, x in ours.items() if n not in theirs},
        left_out={n: x.shape for n, x in theirs.items() if n not in ours},
    )
    if not report.loaded:
        raise UsageError(
            f"{origin} has no array of this model: expected names such as {next(iter(ours))}, "
            f"got {', '.join(itertools.islice(theirs, 3)) or 'none'}."
        )

    def fill(name, x):
        if name in theirs:
            return to_devices(np.asarray(theirs[name], x.dtype), x.sharding)
        if name.startswith(GATE):  # its initial value, also where `x` is a shape without values
            return to_devices(np.zeros(x.shape, x.dtype), x.sharding)
        return x

    leaves = [fill(name, x) for name, x in ours.items()]  # flat_arrays keeps the leaves' order
    return jax.tree.unflatten(jax.tree.structure(params), leaves), report


def load_initial(
    config: ConfigDict, params: Any, vocab_path: pathlib.Path
) -> tuple[Any, FillReport]:
    """Fills `params` from what `config.init_from` names, by `config.init_parts`.

    That is a model folder of ours, or a PyTorch checkpoint (see `torch.files`). Position
    embeddings of another image size are resized.

    Args:
      config: full config, with `init_from` set.
      params: as initialised, see `fill_params`.
      vocab_path: the vocabulary of the data; the model's must give the same ids.

    Returns:
      (params, report).

    Raises:
      UsageError: the model is missing, unreadable, or does not fit.
    """
    origin, grid = f"config.init_from={config.init_from}", patch_grid(config.model.image)
    if files.is_torch_checkpoint(config.init_from):
        checkpoint = files.read_checkpoint(config.init_from)
        shapes = {name: x.shape for name, x in flat_arrays(params).items()}
        leaves, rows = from_torch(
            checkpoint.tensors, shapes, grid, stored_grid(checkpoint), str(checkpoint.path)
        )
        params, report = _fill_parts(config.init_parts, params, leaves, origin)
        return params, _with_rows(report, rows, checkpoint.tensors)
    source, source_config, source_vocab = export.load_model(config.init_from)
    check_same_ids(pathlib.Path(vocab_path), source_vocab, origin)
    positions = flat_arrays(source).get(IMAGE_POSITIONS)
    source_grid = patch_grid(source_config.model.image)
    notes = ()
    if positions is not None and source_grid != grid:
        try:
            resized = resize_positions(positions, source_grid, grid)
        except ValueError as e:
            raise UsageError(f"{origin}: its config.json does not fit its parameters: {e}") from e
        source["image_encoder"]["pos_embed"] = resized
        notes = (_resized(source_grid, grid),)
    params, report = _fill_parts(config.init_parts, params, flat_arrays(source), origin)
    return params, dataclasses.replace(report, notes=notes)


def _fill_parts(
    parts: str, params: Any, leaves: Mapping[str, Any], origin: str
) -> tuple[Any, FillReport]:
    """`fill_params` from arrays by name, of which `parts` = "encoders" takes only some."""
    taken = {n: x for n, x in leaves.items() if parts == "all" or is_encoder(n)}
    params, report = fill_params(params, unflatten_dict(taken, sep="/"), origin)
    held_back = set(leaves) - set(taken)
    return params, dataclasses.replace(
        report,
        new={n: shape for n, shape in report.new.items() if n not in held_back},
        not_taken={n: shape for n, shape in report.new.items() if n in held_back},
    )


def _resized(source: tuple[int, int], target: tuple[int, int]) -> str:
    grids = [f"{rows}x{columns}" for rows, columns in (source, target)]
    return f"resized: {IMAGE_POSITIONS} from {grids[0]} to {grids[1]} patches"


def _with_rows(
    report: FillReport, rows: list[Row], tensors: Mapping[str, np.ndarray]
) -> FillReport:
    """`report` with what the conversion from PyTorch resized and left out."""
    notes = [
        f"resized: {row.ours} from {row.their_shape} to {row.our_shape}"
        for row in rows
        if row.status == "resized"
    ]
    left_out = {
        f"{row.theirs} {row.ours}": tensors[row.theirs].shape
        for row in rows
        if row.status == "left out"
    }
    return dataclasses.replace(report, left_out=left_out, notes=tuple(notes))
