"""One's own list of images and captions, as CSV, TSV, JSON or JSON lines.

Its columns, or the keys of its objects: `image`, a path below the folder of the images; `caption`,
empty for an image that only stands in the gallery; `id`, the person; `split`, train, val or test.
One row is one caption: an image with two has two rows. Without `id` every image is a person of its
own. Where `split` is missing or empty it is drawn by person.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cada_jax.common.errors import UsageError, reading, shown
from cada_jax.common.files import local_path, read_bytes
from cada_jax.data.preparation.source import SPLITS, Entry, Problem, Source, make_source

COLUMNS = ("image", "caption", "id", "split")
_WHAT = "a list of images with the columns image and caption, and if wanted id and split"
_SEPARATORS = ",;\t|"
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # what UTF-16 begins with, as spreadsheets write it

Fields = dict[str, Any]  # column -> value


def read_own(folder: str | os.PathLike, captions: str | os.PathLike, seed: int = 0) -> Source:
    """Reads a list and looks for its images.

    Args:
      seed: of the splits that are drawn: a tenth of the persons for test, as many for val.

    Raises:
      MissingFileError: there is no such list.
      UsageError: it cannot be read, or has none of the columns.
    """
    path, root = local_path(captions), local_path(folder)
    data = read_bytes(path, _WHAT)
    with reading(path, f"{_WHAT}, in UTF-8"):
        text = data.decode("utf-16" if data.startswith(_WIDE) else "utf-8-sig")
        problems: list[Problem] = []
        read = _objects if text.lstrip()[:1] in ("[", "{") else _table
        fields = list(read(text, problems))
    if not fields or not all(any(name in f for _, f in fields) for name in COLUMNS[:2]):
        found = list(dict.fromkeys(name for _, f in fields for name in f))
        raise UsageError(f"{path}: expected {_WHAT}; got {', '.join(found) or 'nothing'}")
    rows = list(_images(fields, problems))
    notes = []
    others = sorted({name for _, f in fields for name in f} - {*COLUMNS})
    if others:
        notes.append(f"not read: the columns {', '.join(others)}")
    if not any(f.get("id") for _, f in fields):
        notes.append("no ids: every image is taken as a person of its own")
    rows, drawn = _with_splits(rows, seed, problems)
    if drawn:
        notes.append(f"the split of {drawn} persons was drawn, by --split_seed={seed}")
    return make_source(path, root, rows, problems, {}, tuple(notes))


def _table(text: str, problems: list[Problem]) -> Iterator[tuple[str, Fields]]:
    """(place, fields) of the lines of a table, whose first line names the columns."""
    header = text.lstrip().partition("\n")[0]

    def columns(separator: str) -> list[str]:
        return [name.strip(' "\r').lower() for name in header.split(separator)]

    separator = max(_SEPARATORS, key=lambda s: len({*COLUMNS} & {*columns(s)}))
    names = columns(separator)
    lines = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=separator)
    next(lines, None)
    for fields in lines:
        place = f"line {lines.line_num}"
        if len(fields) == len(names):
            yield place, dict(zip(names, map(str.strip, fields), strict=True))
        elif any(fields):
            expected = f"{len(names)} fields, {', '.join(names)}, separated by {separator!r}"
            text = f"{place}: expected {expected}; got {len(fields)}: {shown(fields)}"
            problems.append(Problem("lines", f"{text}. A text with the separator needs quotes"))


def _objects(text: str, problems: list[Problem]) -> Iterator[tuple[str, Fields]]:
    """(place, fields) of the objects of a JSON list, or of JSON lines."""
    try:
        items, unit = json.loads(text), "entry"
    except json.JSONDecodeError:
        items, unit = [json.loads(line) for line in text.splitlines() if line.strip()], "object"
    for number, item in enumerate(items if isinstance(items, list) else [items]):
        place = f"{unit} {number}"
        if not isinstance(item, dict):
            problems.append(Problem("entries", f"{place}: expected an object, {shown(item)}"))
            continue
        several = item.pop("captions", None)
        for caption in several if isinstance(several, list) and several else [None]:
            fields = item if caption is None else item | {"caption": caption}
            fields = {name: value for name, value in fields.items() if value is not None}
            bad = [k for k in COLUMNS if not isinstance(fields.get(k, ""), str | int)]
            if bad:
                text = f"{place}: {bad[0]} is {shown(fields[bad[0]])}, expected a text"
                problems.append(Problem("entries", text))
            else:
                yield place, fields | {k: str(fields[k]) for k in COLUMNS if k in fields}


def _images(fields: Iterable[tuple[str, Fields]], problems: list[Problem]) -> Iterator[Entry]:
    """One row for each image, with all of its captions; its split may be "" still."""
    fields = list(fields)
    with_ids = any(f.get("id") for _, f in fields)
    images: dict[str, list[tuple[str, Fields]]] = {}
    for place, f in fields:
        images.setdefault(f.get("image") or "", []).append((place, f))
    for image, of_image in images.items():
        place = of_image[0][0]
        captions = tuple(f["caption"] for _, f in of_image if f.get("caption"))
        values = {}
        for name in ("id", "split"):
            found = dict.fromkeys(str(f.get(name) or "") for _, f in of_image)
            values[name] = next(iter(found))
            if len(found) > 1:
                text = f"{place}: image {shown(image)} has the {name}s {', '.join(found)}"
                problems.append(Problem("images with two values", text))
        split = values["split"].lower()
        if split and split not in SPLITS:
            text = f"{place}: split is {shown(split)}, expected one of {', '.join(SPLITS)}"
            problems.append(Problem("splits", text))
        elif with_ids and captions and not values["id"]:
            problems.append(Problem("persons", f"{place}: image {shown(image)} has no id"))
        else:
            yield Entry(place, image, captions, values["id"] or f"of {image}", split)


def _with_splits(
    rows: Sequence[Entry], seed: int, problems: list[Problem]
) -> tuple[list[Entry], int]:
    """Rows of which each has a split, and the number of persons whose split was drawn."""
    given = {row.person: row.split for row in rows if row.split}
    missing = {row.person for row in rows if not row.split} - {*given}
    # By a hash, so that a person keeps its place in the order when others come.
    order = sorted(missing, key=lambda p: hashlib.sha256(f"{seed} {p}".encode()).digest())
    tenth = max(1, round(len(order) / 10))
    if order and not given and len(order) < len(SPLITS):
        text = f"{len(order)} persons cannot be split into {', '.join(SPLITS)}: expected three"
        problems.append(Problem("splits", text))
    drawn = {
        person: "test" if i < tenth else "val" if i < 2 * tenth else "train"
        for i, person in enumerate(order)
    }
    split_of = drawn | given
    return [row._replace(split=row.split or split_of[row.person]) for row in rows], len(drawn)
