"""Takes pictures out of a gallery so that nothing of them is left, and looks whether that is so."""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.gallery import records
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.meta import EXCLUDED, SUMMARY
from cada_jax.gallery.summary import summarize
from cada_jax.gallery.traces import Trace, find_traces
from cada_jax.retrieval.searchable import Picture

UNREADABLE = "unreadable.jsonl"


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """What was taken out, and what a look into storage found afterwards.

    Attributes:
      pictures, files: removed.
      records_left, tokens_left, thumbnails_left, bytes_left: of the removed pictures, still found
        in the database, the token store, the thumbnails, and the files of a local database.
    """

    pictures: int
    files: int
    records_left: int
    tokens_left: int
    thumbnails_left: int
    bytes_left: int

    @property
    def left(self) -> int:
        """Everything still found; 0 if the pictures are gone."""
        return self.records_left + self.tokens_left + self.thumbnails_left + self.bytes_left


def chosen(
    gallery: Gallery,
    ids: Sequence[str] = (),
    paths: Sequence[str] = (),
    folder: str = "",
) -> list[Picture]:
    """The records that ids, paths of files, or a folder name, and those with the same bytes.

    Raises:
      UsageError: an id or a path is not in the gallery, or nothing is chosen.
    """
    everything = gallery.all_pictures()
    by_id = {picture.id: picture for picture in everything}
    found = {picture.id: picture for picture in gallery.pictures(ids)} if ids else {}
    wanted = {os.path.abspath(path) for path in paths}
    for picture in everything:
        if picture.path in wanted:
            found[picture.id] = picture
    missing = sorted(wanted - {picture.path for picture in found.values()})
    if missing:
        raise UsageError(
            f"{gallery.place.name}: {missing[0]!r} is not indexed"
            + (f", nor are {len(missing) - 1} more" if len(missing) > 1 else "")
            + ". Nothing was removed: expected paths as `cada search --paths` prints them"
        )
    if folder:
        root = os.path.abspath(os.path.expanduser(folder)).rstrip("/") + "/"
        found |= {id: p for id, p in by_id.items() if p.path.startswith(root)}
    if not found:
        raise UsageError(f"{gallery.place.name}: no indexed picture is chosen; nothing was removed")
    return _with_copies(found.values(), everything)


def _with_copies(pictures: Iterable[Picture], everything: Sequence[Picture]) -> list[Picture]:
    """Records, and all others of files with the same bytes: a copy shows the same person."""
    contents = {picture.content for picture in pictures}
    return [picture for picture in everything if picture.content in contents]


def forget(gallery: Gallery, pictures: Sequence[Picture], exclude: bool = True) -> Forgotten:
    """Removes vectors, records, tokens and thumbnails, then looks whether anything is left.

    Args:
      gallery: open for writing.
      pictures: of the gallery. Other records with the same bytes go too.
      exclude: keep the SHA-256 of the files, so that the next indexing leaves them out.

    Returns:
      What was removed; `left` is 0 if all of it is gone.
    """
    everything = gallery.all_pictures()
    going = _with_copies(pictures, everything)
    contents = {picture.content for picture in going}
    ids = [picture.id for picture in going]
    rows = gallery.vectors.get(ids, ["id", "vector"])
    if exclude:  # first: a kill after this leaves a gallery that the next indexing completes
        gallery.vectors.set_state({EXCLUDED + content: "" for content in sorted(contents)})
    gallery.vectors.remove(ids)
    gallery.remove_thumbnails(ids)
    remaining = [picture for picture in everything if picture.id not in set(ids)]
    used = {records.token_key(p.content, p.box) for p in remaining}
    tokens = {records.token_key(p.content, p.box) for p in going} - used
    if gallery.tokens:
        gallery.tokens.remove(tokens)
    gallery.vectors.set_state({SUMMARY: json.dumps(summarize(remaining))})
    _forget_problems(gallery, {picture.path for picture in going})
    gallery.vectors.rewrite()
    folder = gallery.place.folder
    return Forgotten(
        pictures=len(going),
        files=len({picture.path for picture in going}),
        records_left=len(gallery.vectors.get(ids, ["id"])),
        tokens_left=len(tokens & gallery.tokens.keys()) if gallery.tokens else 0,
        thumbnails_left=_thumbnails(gallery, ids),
        bytes_left=0
        if folder is None
        else find_traces(folder / "vectors.db", _trace(going, remaining, rows)),
    )


def _trace(going: Sequence[Picture], remaining: Sequence[Picture], rows: dict) -> Trace:
    """What tells of removed pictures in a file."""
    kept = {os.path.dirname(picture.path) for picture in remaining}
    folders = {os.path.dirname(picture.path) for picture in going} - kept
    return Trace(
        texts=frozenset(text for p in going for text in (p.id, records.encoded(p.path))),
        parts=tuple(json.dumps(folder) for folder in sorted(folders)),
        vectors=frozenset(np.asarray(row["vector"], np.float32).tobytes() for row in rows.values()),
    )


def _forget_problems(gallery: Gallery, paths: set[str]) -> None:
    """Drops lines of removed files from the list of what could not be read."""
    if not gallery.place.folder:
        return
    path = gallery.place.folder / UNREADABLE
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["path"] not in paths]
        write_text(path, "".join(kept))


def _thumbnails(gallery: Gallery, ids: Iterable[str]) -> int:
    place = gallery.thumbnail_path
    return sum(place(id).exists() for id in ids) if place else 0
