"""Takes pictures out of a gallery so that nothing of them is left in its files."""

import os
from collections.abc import Iterable, Sequence

from cada_jax.common.errors import UsageError
from cada_jax.gallery.gallery import Gallery
from cada_jax.retrieval.filter import folders_below
from cada_jax.retrieval.searchable import Picture


def chosen(
    gallery: Gallery, ids: Sequence[str] = (), paths: Sequence[str] = (), folder: str = ""
) -> list[Picture]:
    """The pictures that ids, paths of files, or a folder name, and those of files with their bytes.

    Raises:
      UsageError: an id or a path is not in the gallery, or nothing is chosen.
    """
    everything = gallery.pictures()
    found = {picture.id for picture in gallery.pictures(ids)}
    wanted = {os.path.abspath(path) for path in paths}
    found |= {picture.id for picture in everything if picture.path in wanted}
    if missing := sorted(wanted - {picture.path for picture in everything}):
        more = f" nor are {len(missing) - 1} more:" if len(missing) > 1 else ""
        raise UsageError(
            f"{gallery.store.name}: {missing[0]!r} is not indexed,{more} nothing was removed. "
            "Expected paths as `cada search --paths` prints them"
        )
    if folder:
        below = set(folders_below(folder, {picture.folder for picture in everything}))
        found |= {picture.id for picture in everything if picture.folder in below}
    if not found:
        raise UsageError(f"{gallery.store.name}: no indexed picture is chosen; nothing was removed")
    return _with_copies((p for p in everything if p.id in found), everything)


def _with_copies(pictures: Iterable[Picture], everything: Sequence[Picture]) -> list[Picture]:
    contents = {picture.content for picture in pictures}
    return [picture for picture in everything if picture.content in contents]


def forget_pictures(gallery: Gallery, pictures: Sequence[Picture], exclude: bool = True) -> int:
    """Removes records, vectors and tokens, and leaves nothing of them in the gallery's files.

    A run that is killed has removed all of them or none; the next one to change the gallery then
    clears its files.

    Args:
      gallery: open for writing.
      pictures: of the gallery. Others of files with the same bytes go too.
      exclude: keep the SHA-256 of the files, so that the next indexing leaves them out.

    Returns:
      How many pictures were removed.
    """
    going = _with_copies(pictures, gallery.pictures())
    contents = {picture.content for picture in going} if exclude else set()
    gallery.store.forget([picture.id for picture in going], contents)
    gallery.store.compact()
    return len(going)
