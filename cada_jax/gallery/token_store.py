"""Image tokens for re-ranking, kept in bfloat16 through TensorStore: a folder or a bucket.

One value per content and box: header, then the numbers. One file each, so that deleting is real
and a killed writer leaves whole values or none.
"""

import contextlib
import os
import pathlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery.extra import require

_HEADER = struct.Struct("<4sIII")  # magic, CRC-32 of the numbers, S, Dv
_MAGIC = b"CTK1"


def _url(place: str | os.PathLike) -> str:
    text = os.fspath(place)
    if "://" in text:
        return text.rstrip("/") + "/"
    return pathlib.Path(text).expanduser().absolute().as_uri() + "/"


def _path(key: str) -> str:
    return f"{key[:2]}/{key}"


class TokenStore:
    """Tokens by key.

    Args:
      place: a folder, or "gs://BUCKET/PATH" and other URLs of TensorStore's key-value stores.

    Raises:
      UsageError: TensorStore is missing, or does not know the place.
    """

    def __init__(self, place: str | os.PathLike):
        self.place = os.fspath(place)
        tensorstore = require("tensorstore")
        try:
            # Waiting for the disk takes six times as long as writing. What a power failure takes is
            # missing or damaged, as its checksum tells, and is computed again.
            context = tensorstore.Context({"file_io_sync": False})
            self._store: Any = tensorstore.KvStore.open(_url(place), context=context).result()
        except Exception as err:  # TensorStore raises ValueError and NotImplementedError, and more
            raise UsageError(
                f"--token_store={self.place}: expected a folder or a bucket's URL (gs://, s3://): "
                f"{str(err).splitlines()[0]}"
            ) from err

    def write(self, tokens: dict[str, np.ndarray]) -> None:
        """Writes tokens [S,Dv] by key, rounded to bfloat16; returns when all are stored."""
        waiting = []
        for key, array in tokens.items():
            rounded = np.ascontiguousarray(array, ml_dtypes.bfloat16)
            data = rounded.tobytes()
            header = _HEADER.pack(_MAGIC, zlib.crc32(data), *rounded.shape)
            waiting.append(self._store.write(_path(key), header + data))
        with self._errors("written"):
            for future in waiting:
                future.result()

    def read(self, keys: Sequence[str]) -> list[np.ndarray | None]:
        """Tokens bfloat16 [S,Dv] by key; None for one that is missing or damaged."""
        waiting = [self._store.read(_path(key)) for key in keys]
        with self._errors("read"):
            return [_decoded(future.result()) for future in waiting]

    def remove(self, keys: Iterable[str]) -> None:
        """Deletes tokens; keys that are not there are ignored."""
        waiting = [self._store.write(_path(key), None) for key in keys]
        with self._errors("deleted"):
            for future in waiting:
                future.result()

    def keys(self) -> set[str]:
        """All keys."""
        with self._errors("listed"):
            names = self._store.list().result()
        found = (name.decode("utf-8", "replace").rpartition("/")[2] for name in names)
        return {name for name in found if len(name) == 64}

    @contextlib.contextmanager
    def _errors(self, what: str):
        try:
            yield
        except UsageError:
            raise
        except Exception as err:
            raise UsageError(
                f"{self.place}: image tokens could not be {what}: {str(err).splitlines()[0]}"
            ) from err


def _decoded(result: Any) -> np.ndarray | None:
    data = bytes(result.value)
    if result.state != "value" or len(data) < _HEADER.size:
        return None
    magic, crc, rows, width = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or len(body) != 2 * rows * width or zlib.crc32(body) != crc:
        return None
    return np.frombuffer(body, ml_dtypes.bfloat16).reshape(rows, width)
