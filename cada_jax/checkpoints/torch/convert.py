"""Converts parameters between this project and PyTorch, NumPy arrays in and out.

The names are in `torch_names`, the files in `torch_files`.
"""

import os
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from cada_jax.checkpoints.torch.files import Checkpoint, read_checkpoint
from cada_jax.checkpoints.torch.names import (
    GATE,
    LEFT_OUT,
    OURS_ONLY,
    PARTS,
    POSITION_IDS,
    TABLE,
    TIED,
    Dialect,
    Rule,
    dialect_of,
    rules_by_name,
    template_of,
    translate,
)
from cada_jax.common.errors import UsageError
from cada_jax.models.position_embedding import find_grid, resize_positions

# Under this key of a .pth's "config" stand our config and vocabulary, so that it can come back.
OUR_KEY = "cada_jax"
Leaves = dict[str, np.ndarray]  # "text_encoder/layers/attn/query/kernel" -> array


class Row(NamedTuple):
    """One line of a report: a PyTorch tensor (or one per layer) and the leaves it became."""

    status: str  # "loaded", "new", "left out"
    theirs: str
    their_shape: str
    ours: str
    our_shape: str


def format_report(rows: list[Row]) -> str:
    """Aligned text of a report, loaded first, with a count of each status at the end."""
    header = Row("status", "PyTorch", "shape", "cada_jax", "shape")
    lines = [header, *rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(header))]
    text = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in lines]
    counts = ", ".join(
        f"{sum(row.status == status for row in rows)} {status}"
        for status in ("loaded", "new", "left out")
    )
    return "\n".join([*(line.rstrip() for line in text), f"rows: {counts}"])


def _shape(shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _part(leaf: str) -> str:
    return next((p for p in (GATE, *PARTS) if leaf.startswith(p)), leaf)


def _there(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The PyTorch shape of one layer's leaf of `shape`."""
    if kind == "dense":
        return shape[::-1]
    return (shape[-1], shape[-2], *shape[:-2]) if kind == "conv" else shape


def _to_ours(kind: str, array: np.ndarray) -> np.ndarray:
    if kind == "dense":
        return array.T
    return array.transpose(*range(2, array.ndim), 1, 0) if kind == "conv" else array


def _to_theirs(kind: str, array: np.ndarray) -> np.ndarray:
    if kind == "dense":
        return np.ascontiguousarray(array.T)
    if kind == "conv":  # [..., in, out] here, [out, in, ...] there
        return np.ascontiguousarray(array.transpose(-1, -2, *range(array.ndim - 2)))
    return array


def _names(rule: Rule, dialect: Dialect, layers: int) -> list[tuple[str, int | None]]:
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
            for name, layer in _names(rule, dialect, shapes[rule.ours[0]][0]):
                cut = 0 if layer is None else 1
                pieces = [_there(rule.kind, shapes[leaf][cut:]) for leaf in rule.ours]
                rows = sum(piece[0] for piece in pieces)
                there[name] = (rows, *pieces[0][1:]) if len(pieces) > 1 else pieces[0]
    return there


class _Import:
    """One conversion from PyTorch: what was found, and everything that does not fit."""

    def __init__(self, tensors, shapes, source_grid, target_grid):
        self.dialect = dialect_of(tensors)
        self.remaining = dict(tensors)
        self.shapes, self.grids = shapes, (source_grid, target_grid)
        self.wanted = torch_shapes(shapes, self.dialect)
        self.leaves: Leaves = {}
        self.rows: list[Row] = []
        self.left_out: list[Row] = []
        self.misfits: list[str] = []

    def leave_out(self):
        """Takes away, by name, what only pretraining needs, and the second name of tied ones."""
        for name in sorted(self.remaining):
            reason = next((why for pattern, why in LEFT_OUT if pattern.search(name)), None)
            if name in TIED:
                reason = self._untie(name)
            if reason:
                shape = _shape(self.remaining.pop(name).shape)
                self.left_out.append(Row("left out", name, shape, f"({reason})", ""))

    def _untie(self, copy: str) -> str:
        original = TIED[copy]
        first = self.remaining.setdefault(original, self.remaining[copy])
        second = self.remaining[copy]
        if first.shape != second.shape or not np.array_equal(first, second, equal_nan=True):
            self.misfits.append(f"{copy} differs from {original}: here the two are one parameter")
        return "tied"

    def take(self, rule: Rule):
        """Moves the tensors of one rule, every layer of it, into its leaves."""
        names = _names(rule, self.dialect, self.shapes[rule.ours[0]][0])
        ours = "+".join(rule.ours[:1] + tuple(leaf.split("/")[-2] for leaf in rule.ours[1:]))
        shape = _shape(self.shapes[rule.ours[0]])
        for leaf in rule.ours:
            self.leaves[leaf] = np.empty(self.shapes[leaf], np.float32)
        theirs = ""
        for name, layer in names:
            if name not in self.remaining:
                self.misfits.append(f"missing: {name} {_shape(self.wanted[name])}")
                continue
            array = self.remaining.pop(name)
            theirs = _shape(array.shape)
            self._store(rule, name, layer, array)
        shown = getattr(rule, self.dialect).replace("{i}", f"{{0..{len(names) - 1}}}")
        self.rows.append(Row("loaded", shown, theirs, ours, shape))

    def _store(self, rule: Rule, name: str, layer: int | None, array: np.ndarray):
        if array.dtype.kind != "f":
            self.misfits.append(f"dtype: {name} is {array.dtype}, expected floating point")
            return
        bad = array.size - np.isfinite(array).sum()
        if bad:
            self.misfits.append(f"not finite: {name} has {bad} NaN or infinite values")
            return
        if rule.ours == ("image_encoder/pos_embed",):
            array = self._resize(name, array)
            if array is None:
                return
        if array.shape != self.wanted[name]:
            hint = ""
            if name.endswith("word_embeddings.weight"):
                hint = " (another vocabulary: config.model.text.vocab_size is the first number)"
            expected = _shape(self.wanted[name])
            self.misfits.append(
                f"shape: {name} is {_shape(array.shape)}, expected {expected}{hint}"
            )
            return
        pieces = np.split(array, len(rule.ours)) if len(rule.ours) > 1 else [array]
        for leaf, piece in zip(rule.ours, pieces, strict=True):
            target = self.leaves[leaf] if layer is None else self.leaves[leaf][layer]
            target[...] = _to_ours(rule.kind, piece)

    def _resize(self, name: str, array: np.ndarray) -> np.ndarray | None:
        source, target = self.grids
        try:
            source = source or find_grid(array.shape[1] - 1, target)
            return resize_positions(array, source, target)
        except (ValueError, IndexError) as err:
            self.misfits.append(f"shape: {name} is {_shape(array.shape)}: {err}")
            return None

    def foreign(self) -> str | None:
        """Why this is no CADA or BLIP checkpoint at all, or None."""
        known = rules_by_name(self.dialect)
        fit = sum(template_of(name) in known for name in self.remaining)
        if 2 * fit >= len(self.remaining):
            return None
        clip = re.compile(r"(text_model|visual|transformer)\.")
        looks = " (it looks like CLIP)" if any(map(clip.match, self.remaining)) else ""
        return (
            f"{fit} of {len(self.remaining)} tensor names belong to CADA or BLIP{looks}; "
            f"its names begin with {', '.join(sorted(self.remaining)[:3])}"
        )


def from_torch(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    target_grid: tuple[int, int],
    source_grid: tuple[int, int] | None = None,
    origin: str = "the checkpoint",
) -> tuple[Leaves, list[Row]]:
    """Converts the tensors of a CADA, BLIP or Hugging Face BLIP checkpoint.

    A part (see `PARTS`, and the gate) of which the checkpoint has nothing stays out and is
    reported as new; the caller initialises it. A part of which it has something must be complete.

    Args:
      tensors: PyTorch names -> arrays.
      shapes: our leaf paths -> shapes, of the model wanted.
      target_grid: (rows, columns) of image patches of the model wanted.
      source_grid: the same of the checkpoint; None: see `posembed.find_grid`.
      origin: what error messages call the checkpoint.

    Returns:
      (leaves, report): float32 arrays by leaf path, without those of new parts, and what became
      of every tensor and every leaf.

    Raises:
      UsageError: another architecture, or tensors that are missing, unknown, of another shape or
        not finite; all of them listed.
    """
    work = _Import(tensors, shapes, source_grid, target_grid)
    work.leave_out()
    if reason := work.foreign():
        raise UsageError(f"{origin} is no CADA or BLIP checkpoint: {reason}")
    known = rules_by_name(work.dialect)
    rules = (known.get(template_of(name)) for name in work.remaining)
    present = {_part(leaf) for rule in rules if rule for leaf in rule.ours}
    for rule in TABLE:
        if rule.ours[0] in shapes and _part(rule.ours[0]) in present:
            work.take(rule)
    for name, array in work.remaining.items():
        work.misfits.append(
            f"unexpected: {name} {_shape(array.shape)}, for which there is no place"
        )
    new = [leaf for leaf in shapes if leaf not in work.leaves]
    for leaf in new:
        if leaf.split("/")[0] in present and not leaf.startswith(GATE):
            work.misfits.append(f"missing: {leaf} {_shape(shapes[leaf])}, which PyTorch has not")
    if work.misfits:
        raise UsageError(
            f"{origin} does not fit the model of the config, in {len(work.misfits)} places:\n  "
            + "\n  ".join(work.misfits)
        )
    rows = work.rows + [Row("new", "", "", leaf, _shape(shapes[leaf])) for leaf in new]
    return work.leaves, rows + work.left_out


def read_leaves(
    path: str | os.PathLike, shapes: Mapping[str, tuple[int, ...]], target_grid: tuple[int, int]
) -> tuple[Leaves, list[Row]]:
    """Reads and converts a PyTorch checkpoint: `torch_files.read_checkpoint` and `from_torch`.

    Raises:
      MissingFileError, UsageError: as those two.
    """
    checkpoint = read_checkpoint(path)
    return from_torch(checkpoint.tensors, shapes, target_grid, stored_grid(checkpoint), str(path))


def stored_grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """The (rows, columns) of patches of a checkpoint this project wrote, else None."""
    image = checkpoint.config.get(OUR_KEY, {}).get("config", {}).get("model", {}).get("image")
    if image is None:
        return None
    return tuple(s // p for s, p in zip(image["size"], image["patch"], strict=True))


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
        for name, layer in _names(rule, dialect, len(arrays[0])):
            pieces = [_to_theirs(rule.kind, a if layer is None else a[layer]) for a in arrays]
            tensors[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    tensors |= {copy: tensors[first] for copy, first in TIED.items() if first in tensors}
    if dialect == "cada":
        for name, leaf in POSITION_IDS.items():
            if leaf in leaves:
                tensors[name] = np.arange(len(leaves[leaf]), dtype=np.int64)[None]
    return tensors


def _without_extras(leaves: Leaves, drop_gate: bool) -> Leaves:
    extras = [leaf for leaf in leaves if leaf.startswith(OURS_ONLY)]
    gate = [leaf for leaf in extras if leaf.startswith(GATE)]
    trained = any(leaves[leaf].any() for leaf in gate)
    if len(extras) > len(gate):
        raise UsageError(
            "the authors' encoders have no convolutional stem (config.model.image.stem or "
            "config.model.text.stem = 'conv'), so their code cannot load this model. "
            "--keep_extras writes a file that only tools/convert_checkpoint.py reads back"
        )
    if trained and not drop_gate:
        raise UsageError(
            "the authors' decoder has no gate (config.atp.gate = 'token'), and this model's gate "
            "is trained. --drop_gate leaves it out and prints how far the outputs move; "
            "--keep_extras writes a file that only tools/convert_checkpoint.py reads back"
        )
    return {leaf: array for leaf, array in leaves.items() if leaf not in gate}


def infer_sizes(tensors: Mapping[str, np.ndarray], config) -> None:
    """Sets the sizes a checkpoint shows in `config.model`, in place.

    Width, depth, MLP width and the embedding's width. Vocabulary, patch and number of positions
    stay as they are, so that a checkpoint of others is refused. The number of heads cannot be seen:
    where the width changes it becomes width / 64, as in every published ViT and BERT.
    """
    dialect = dialect_of(tensors)
    names = {translate(name, dialect, "cada"): array.shape for name, array in tensors.items()}
    names.pop(None, None)

    def set_side(side, width, mlp, layers):
        if width not in names or mlp not in names:
            return
        new = names[width][-1]
        if new != side.width:
            side.width, side.heads = new, max(1, new // 64)
        side.mlp_dim = names[mlp][0]
        numbers = [int(m.group(1)) for m in map(re.compile(layers).match, names) if m]
        side.depth = 1 + max(numbers)

    image = "visual_encoder"
    set_side(
        config.model.image,
        f"{image}.cls_token",
        f"{image}.blocks.0.mlp.fc1.weight",
        rf"{image}\.blocks\.(\d+)\.",
    )
    for text in ("text_decoder.bert", "text_encoder"):
        set_side(
            config.model.text,
            f"{text}.embeddings.word_embeddings.weight",
            f"{text}.encoder.layer.0.intermediate.dense.weight",
            rf"{re.escape(text)}\.encoder\.layer\.(\d+)\.",
        )
    if "vision_proj.weight" in names:
        config.model.embed_dim = names["vision_proj.weight"][0]
