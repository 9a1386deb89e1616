"""What a gallery holds, for its page: counted once after every change, not at every request."""

import collections
import os
from collections.abc import Iterable
from typing import Any

from cada_jax.retrieval.searchable import Picture

MOST_FOLDERS, MOST_CAMERAS = 300, 100
MOST_BYTES = 60_000  # of a text in the database, with room for the rest


def _commonest(counts: collections.Counter, most: int) -> list[str]:
    """The most frequent names in the order of the alphabet, as many as fit."""
    names, used = [], 0
    for name, _ in counts.most_common(most):
        used += 6 * len(name)  # JSON writes a character with six at most
        if used > MOST_BYTES / 2:
            break
        names.append(name)
    return sorted(names)


def summarize(pictures: Iterable[Picture]) -> dict[str, Any]:
    """Counts pictures, folders and cameras.

    Returns:
      pictures: number; files: number; folders, cameras: names, the most frequent ones;
      first_taken, last_taken: seconds since 1970, None without a picture.
    """
    count, paths = 0, set()
    folders: collections.Counter = collections.Counter()
    cameras: collections.Counter = collections.Counter()
    times = []
    for picture in pictures:
        count += 1
        paths.add(picture.path)
        folders[os.path.dirname(picture.path)] += 1
        if picture.camera:
            cameras[picture.camera] += 1
        times.append(picture.taken)
    return {
        "pictures": count,
        "files": len(paths),
        "folders": _commonest(folders, MOST_FOLDERS),
        "cameras": _commonest(cameras, MOST_CAMERAS),
        "first_taken": min(times, default=None),
        "last_taken": max(times, default=None),
    }
