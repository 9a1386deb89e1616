"""The files behind indexed pictures: read only if they are what was indexed, shown small or whole.

A picture is asked for by its id, so its path comes from the index alone. A file that is gone,
or that is another one by now, is answered with 410: what was indexed can no longer be shown.
"""

import hashlib
import io
import os
import pathlib
import stat
import tempfile
import threading
from http import HTTPStatus

import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.files import whole_file
from cada_jax.common.images import PictureError, open_picture, rgb_pixels
from cada_jax.gallery.photo import crop
from cada_jax.gallery.server.answers import readable
from cada_jax.gallery.server.problems import Problem
from cada_jax.retrieval.searchable import Picture

THUMBNAIL = (480, 320)  # most width and height in pixels
SHOWN = (1600, 1600)  # of a whole scene
QUALITY = 85  # of JPEG files
_LOCKS = 64
# Decoded pictures are large: 50 megapixels are 150 MB.
DECODERS = threading.BoundedSemaphore(4)


def file_bytes(picture: Picture) -> bytes:
    """The file of a picture, as it was indexed.

    Raises:
      Problem: 410, it is gone, cannot be read, or has changed.
    """
    path = picture.path
    try:
        # O_NONBLOCK: opening a pipe in the file's place would wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise _gone(path, "is no ordinary file any more")
            if picture.size and state.st_size != picture.size:
                raise _gone(path, "has changed since it was indexed")
            data = file.read()
    except FileNotFoundError:
        raise _gone(path, "was deleted after it was indexed") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _gone(path, f"cannot be read any more ({reason})") from None
    touched = bool(picture.modified_ns) and state.st_mtime_ns != picture.modified_ns
    if touched and picture.content != hashlib.sha256(data).hexdigest():
        raise _gone(path, "has changed since it was indexed")
    return data


def check_current(picture: Picture) -> None:
    """Raises as `file_bytes` does, and reads a file only if its time or size has changed."""
    try:
        state = os.stat(picture.path)
    except (OSError, ValueError):
        file_bytes(picture)
        return
    if (state.st_size, state.st_mtime_ns) != (picture.size, picture.modified_ns):
        file_bytes(picture)


def etag(picture: Picture, kind: str) -> str:
    """Names what is shown of a picture: another file or another box has another tag."""
    parts = (picture.id, picture.content, picture.modified_ns, picture.box, kind)
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def _gone(path: str, what: str) -> Problem:
    name = os.path.basename(readable(path))
    return Problem(HTTPStatus.GONE, f"the file {name!r} {what}; index its folder again")


def scene_of(picture: Picture) -> np.ndarray:
    """The upright scene, uint8 [H,W,3]; raises as `file_bytes`."""
    data = file_bytes(picture)
    try:
        with DECODERS, open_picture(data) as image:
            return rgb_pixels(image)
    except PictureError as error:
        raise _gone(picture.path, f"{error}") from None


def crop_of(picture: Picture) -> np.ndarray:
    """What was indexed of the scene, the person's box or all of it; otherwise as `scene_of`."""
    try:
        return crop(scene_of(picture), picture.box)
    except UsageError as error:
        raise _gone(picture.path, f"cannot be cut out: {error}") from None


def jpeg(pixels: np.ndarray, most: tuple[int, int]) -> bytes:
    """Pixels, uint8 [H,W,3], as a JPEG file, no larger than (width, height), its shape kept."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail(most, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


class Thumbnails:
    """Small pictures, each made once and kept in a file.

    A thumbnail has the time of modification of the file that it was made of, so that one of an
    older file under the same id is made again.

    Args:
      gallery: names the place of each by `thumbnail_path(id)`; without that, a temporary folder
        keeps them until `close`.
    """

    def __init__(self, gallery: object):
        self._place = getattr(gallery, "thumbnail_path", None)
        self._folder = None if self._place else tempfile.TemporaryDirectory(prefix="cada_thumbs_")
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self.made = 0

    def read(self, picture: Picture) -> bytes:
        """The thumbnail of a picture as JPEG.

        Raises:
          Problem: 410, see `file_bytes`.
        """
        path = self._path(picture)
        # Many requests for one picture make it once; those for others do not wait.
        with self._locks[hash(picture.id) % _LOCKS]:
            if kept := self._kept(path, picture):
                return kept
            data = jpeg(crop_of(picture), THUMBNAIL)
            self.made += 1
            try:
                self._keep(path, data, picture)
            except OSError:  # a full disk or a folder that only others may write to
                pass
            return data

    def _path(self, picture: Picture) -> pathlib.Path:
        if self._place:
            return pathlib.Path(self._place(picture.id))
        assert self._folder is not None
        return pathlib.Path(self._folder.name) / f"{picture.id}.jpg"

    def _kept(self, path: pathlib.Path, picture: Picture) -> bytes | None:
        check_current(picture)  # what is gone is reported, although its thumbnail is still there
        try:
            if path.stat().st_mtime_ns != picture.modified_ns:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def _keep(self, path: pathlib.Path, data: bytes, picture: Picture) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(data)
            os.utime(partial, ns=(picture.modified_ns, picture.modified_ns))

    def close(self) -> None:
        """Removes the temporary folder."""
        if self._folder is not None:
            self._folder.cleanup()
