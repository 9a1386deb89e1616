"""Starting weights from an exported model, filled in by name."""

import dataclasses
import itertools
import pathlib
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import convert, files
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays, to_devices
from cada_jax.models.position_embedding import resize_positions
from cada_jax.text.vocabulary import check_same_ids

IMAGE_POSITIONS = "image_encoder/pos_embed"


@dataclasses.dataclass(frozen=True)
class FillReport:
    """What became of every array; shapes by name."""

    loaded: dict[str, tuple[int, ...]]
    new: dict[str, tuple[int, ...]]  # not in the source: these keep their random values
    left_out: dict[str, tuple[int, ...]]  # in the source only

    def __str__(self) -> str:
        """Counts, then every array that is new or left out."""
        size = sum(int(np.prod(shape)) for shape in self.loaded.values())
        lines = [f"  loaded: {len(self.loaded)} arrays, {size:,} parameters"]
        lines += [f"  new: {name} {shape}" for name, shape in self.new.items()]
        lines += [f"  left out: {name} {shape}" for name, shape in self.left_out.items()]
        return "\n".join(lines)


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
    filled = {
        name: to_devices(np.asarray(theirs[name], x.dtype), x.sharding) if name in theirs else x
        for name, x in ours.items()
    }
    leaves = [filled[name] for name in ours]  # flat_arrays keeps the order of the leaves
    return jax.tree.unflatten(jax.tree.structure(params), leaves), report


def _grid(config: ConfigDict) -> tuple[int, int]:
    image = config.model.image
    return image.size[0] // image.patch[0], image.size[1] // image.patch[1]


def load_initial(
    config: ConfigDict, params: Any, vocab_path: pathlib.Path
) -> tuple[Any, FillReport]:
    """Fills `params` from what `config.init_from` names.

    That is a model folder of ours, or a PyTorch checkpoint (see `torch_files`). Position
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
    origin = f"config.init_from={config.init_from}"
    if files.is_torch_checkpoint(config.init_from):
        shapes = {name: x.shape for name, x in flat_arrays(params).items()}
        leaves, _ = convert.read_leaves(config.init_from, shapes, _grid(config))
        return fill_params(params, unflatten_dict(leaves, sep="/"), origin)
    source, source_config, source_vocab = export.load_model(config.init_from)
    check_same_ids(pathlib.Path(vocab_path), source_vocab, origin)
    positions = flat_arrays(source).get(IMAGE_POSITIONS)
    if positions is not None and _grid(source_config) != _grid(config):
        resized = resize_positions(positions, _grid(source_config), _grid(config))
        source["image_encoder"]["pos_embed"] = resized
    return fill_params(params, source, origin)
