"""Converts the tensors of a PyTorch checkpoint to parameters of this project, NumPy arrays both.

The names are in `names`, the files in `files`, the way back in `to_torch`.
"""

import re
from collections.abc import Mapping

import numpy as np

from cada_jax.checkpoints.torch.layout import layer_names, to_ours, torch_shapes
from cada_jax.checkpoints.torch.names import (
    GATE,
    LEFT_OUT,
    PARTS,
    TABLE,
    TIED,
    Rule,
    dialect_of,
    rules_by_name,
    template_of,
)
from cada_jax.checkpoints.torch.report import Row, format_shape
from cada_jax.checkpoints.torch.state import same_values
from cada_jax.common.errors import UsageError
from cada_jax.models.position_embedding import find_grid, resize_positions

Leaves = dict[str, np.ndarray]  # "text_encoder/layers/attn/query/kernel" -> array
Shapes = Mapping[str, tuple[int, ...]]

IMAGE_POSITIONS = "image_encoder/pos_embed"
# Tensors with a row for every entry of the vocabulary.
VOCABULARY_ROWS = (".word_embeddings.weight", "cls.predictions.bias")
ADDED_TOKENS = ("[DEC]", "[ENC]")  # BLIP appends them to BERT's vocabulary, in this order
NEW_ROW_SCALE = 0.02  # standard deviation of BERT's initial embeddings
LISTED = 40  # misfits that an error lists


def _part(leaf: str) -> str:
    return next((p for p in (GATE, *PARTS) if leaf.startswith(p)), leaf)


class _Import:
    """One conversion from PyTorch: what was found, and everything that does not fit."""

    def __init__(self, tensors, shapes: Shapes, grids, new_rows: np.random.Generator | None):
        self.dialect = dialect_of(tensors)
        self.remaining = dict(tensors)
        self.shapes, self.grids, self.new_rows = shapes, grids, new_rows
        self.expected = torch_shapes(shapes, self.dialect)
        self.leaves: Leaves = {}
        self.rows: list[Row] = []
        self.changed: list[Row] = []
        self.left_out: list[Row] = []
        self.misfits: list[str] = []

    def leave_out(self):
        """Takes away, by name, what only pretraining needs, and the second name of tied ones."""
        for name in sorted(self.remaining):
            reason = next((why for pattern, why in LEFT_OUT if pattern.search(name)), None)
            if name in TIED:
                reason = self._untie(name)
            if reason:
                shape = format_shape(self.remaining.pop(name).shape)
                self.left_out.append(Row("left out", name, shape, f"({reason})", ""))

    def _untie(self, copy: str) -> str:
        original = TIED[copy]
        first = self.remaining.setdefault(original, self.remaining[copy])
        if not same_values(first, self.remaining[copy]):
            self.misfits.append(f"{copy} differs from {original}: here the two are one parameter")
        return "tied"

    def take(self, rule: Rule):
        """Moves the tensors of one rule, every layer of it, into its leaves."""
        names = layer_names(rule, self.dialect, self.shapes[rule.ours[0]][0])
        ours = "+".join(rule.ours[:1] + tuple(leaf.split("/")[-2] for leaf in rule.ours[1:]))
        arrays, theirs = [], ""
        for name, layer in names:
            if name not in self.remaining:
                self.misfits.append(f"missing: {name} {format_shape(self.expected[name])}")
                continue
            array = self.remaining.pop(name)
            theirs = format_shape(array.shape)
            array = self._fitted(rule, name, array)
            if array is not None:
                arrays.append((layer, array))
        if len(arrays) == len(names):
            self._store(rule, arrays)
        shown = getattr(rule, self.dialect).replace("{i}", f"{{0..{len(names) - 1}}}")
        shape = format_shape(self.shapes[rule.ours[0]])
        self.rows.append(Row("loaded", shown, theirs, ours, shape))

    def _store(self, rule: Rule, arrays: list[tuple[int | None, np.ndarray]]):
        for leaf in rule.ours:
            self.leaves[leaf] = np.empty(self.shapes[leaf], np.float32)
        for layer, array in arrays:
            pieces = np.split(array, len(rule.ours)) if len(rule.ours) > 1 else [array]
            for leaf, piece in zip(rule.ours, pieces, strict=True):
                target = self.leaves[leaf] if layer is None else self.leaves[leaf][layer]
                target[...] = to_ours(rule.kind, piece)

    def _fitted(self, rule: Rule, name: str, array: np.ndarray) -> np.ndarray | None:
        """`array` in the shape that the model expects, None after noting why it has not."""
        if array.dtype.kind != "f":
            self.misfits.append(f"dtype: {name} is {array.dtype}, expected floating point")
            return None
        bad = array.size - np.isfinite(array).sum()
        if bad:
            self.misfits.append(f"not finite: {name} has {bad} NaN or infinite values")
            return None
        if rule.ours == (IMAGE_POSITIONS,):
            return self._resized(name, array)
        if array.shape == self.expected[name]:
            return array
        if name.endswith(VOCABULARY_ROWS):
            return self._with_new_rows(rule, name, array)
        self._note_shape(name, array)
        return None

    def _note_shape(self, name: str, array: np.ndarray, hint: str = ""):
        expected = format_shape(self.expected[name])
        self.misfits.append(
            f"shape: {name} is {format_shape(array.shape)}, expected {expected}{hint}"
        )

    def _resized(self, name: str, array: np.ndarray) -> np.ndarray | None:
        source, target = self.grids
        width = self.expected[name][-1]
        if array.ndim != 3 or array.shape[0] != 1 or array.shape[2] != width:
            self._note_shape(name, array)
            return None
        try:
            origin = "stored with the checkpoint" if source else "by the number of positions"
            source = source or find_grid(array.shape[1] - 1, target)
            resized = resize_positions(array, source, target)
        except ValueError as err:
            self.misfits.append(f"shape: {name} is {format_shape(array.shape)}: {err}")
            return None
        if tuple(source) != tuple(target):
            before = f"{format_shape(source)} patches, {origin}"
            after = f"{format_shape(target)} patches"
            self.changed.append(Row("resized", name, before, IMAGE_POSITIONS, after))
        return resized

    def _with_new_rows(self, rule: Rule, name: str, array: np.ndarray) -> np.ndarray | None:
        """`array` with random rows for the tokens that BLIP appends, if the caller allows it."""
        expected = self.expected[name]
        lacking = expected[0] - array.shape[0] if array.ndim == len(expected) else 0
        if lacking not in (1, 2) or array.shape[1:] != expected[1:]:
            hint = " (another vocabulary: config.model.text.vocab_size is the first number)"
            self._note_shape(name, array, hint)
            return None
        tokens = " and ".join(ADDED_TOKENS[-lacking:])
        if self.new_rows is None:
            self._note_shape(
                name,
                array,
                f": the last {lacking} of the vocabulary, {tokens}, have no row. "
                "`python -m cada_jax convert SRC DST --append_tokens` adds random rows",
            )
            return None
        rows = np.zeros((lacking, *expected[1:]), np.float32)
        if len(expected) > 1:
            rows += self.new_rows.normal(0.0, NEW_ROW_SCALE, rows.shape).astype(np.float32)
        ours = f"{rule.ours[0]}, rows of {tokens}"
        self.changed.append(Row("new", "", "", ours, format_shape(rows.shape)))
        return np.concatenate([array, rows])

    def foreign(self) -> str | None:
        """Why this is no CADA or BLIP checkpoint at all, or None."""
        known = rules_by_name(self.dialect)
        fit = sum(template_of(name) in known for name in self.remaining)
        if fit and 2 * fit >= len(self.remaining):
            return None
        clip = re.compile(r"(text_model|visual|transformer)\.")
        looks = " (it looks like CLIP)" if any(map(clip.match, self.remaining)) else ""
        begin = ", ".join(sorted(self.remaining)[:3])
        return (
            f"{fit} of {len(self.remaining)} tensor names belong to CADA or BLIP{looks}"
            + f"; its names begin with {begin}" * bool(begin)
        )

    def finish(self, present: set[str]) -> list[str]:
        """Notes what is left over and what is lacking; returns the leaves that are new."""
        for name, array in self.remaining.items():
            shape = format_shape(array.shape)
            self.misfits.append(f"unexpected: {name} {shape}, for which there is no place")
        ours = {leaf for rule in TABLE for leaf in rule.ours if _part(leaf) in present}
        new = [leaf for leaf in self.shapes if leaf not in ours]
        for leaf in new:
            if leaf.split("/")[0] in present and not leaf.startswith(GATE):
                shape = format_shape(self.shapes[leaf])
                self.misfits.append(f"missing: {leaf} {shape}, which PyTorch has not")
        return new


def _misfit_message(origin: str, misfits: list[str]) -> str:
    if len(misfits) == 1:
        return f"{origin} does not fit the model of the config: {misfits[0]}"
    shown = misfits[:LISTED]
    if len(misfits) > LISTED:
        shown.append(f"and {len(misfits) - LISTED} more")
    lines = "\n  ".join(shown)
    return f"{origin} does not fit the model of the config, in {len(misfits)} places:\n  {lines}"


def from_torch(
    tensors: Mapping[str, np.ndarray],
    shapes: Shapes,
    target_grid: tuple[int, int],
    source_grid: tuple[int, int] | None = None,
    origin: str = "the checkpoint",
    new_rows: np.random.Generator | None = None,
) -> tuple[Leaves, list[Row]]:
    """Converts the tensors of a CADA, BLIP or Hugging Face BLIP checkpoint.

    A part (see `PARTS`, and the gate) of which the checkpoint has nothing stays out and is
    reported as new; the caller initialises it. A part of which it has something must be complete.

    Args:
      tensors: PyTorch names -> arrays.
      shapes: our leaf paths -> shapes, of the model wanted.
      target_grid: (rows, columns) of image patches of the model wanted.
      source_grid: the same of the checkpoint; None: see `position_embedding.find_grid`.
      origin: what error messages call the checkpoint.
      new_rows: draws rows for [DEC] and [ENC] where the checkpoint's vocabulary ends before them;
        None refuses such a checkpoint.

    Returns:
      (leaves, report): float32 arrays by leaf path, without those of new parts, and what became
      of every tensor and every leaf.

    Raises:
      UsageError: another architecture, or tensors that are missing, unknown, of another shape or
        not finite; the first of them listed, and how many there are.
    """
    work = _Import(tensors, shapes, (source_grid, target_grid), new_rows)
    work.leave_out()
    if reason := work.foreign():
        raise UsageError(f"{origin} is no CADA or BLIP checkpoint: {reason}")
    known = rules_by_name(work.dialect)
    rules = (known.get(template_of(name)) for name in work.remaining)
    present = {_part(leaf) for rule in rules if rule for leaf in rule.ours}
    for rule in TABLE:
        if rule.ours[0] in shapes and _part(rule.ours[0]) in present:
            work.take(rule)
    new = work.finish(present)
    if work.misfits:
        raise UsageError(_misfit_message(origin, work.misfits))
    rows = work.rows + work.changed
    rows += [Row("new", "", "", leaf, format_shape(shapes[leaf])) for leaf in new]
    return work.leaves, rows + work.left_out
