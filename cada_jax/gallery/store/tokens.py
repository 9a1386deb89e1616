"""Image tokens of a local gallery: one file of slots of one size, beside the gallery's own.

A slot is overwritten in place, so that what is forgotten is gone at once and the rest stays where
it is. The gallery keeps the number and a checksum of each slot. A file that is missing, cut, or
another gallery's holds no tokens: they are computed again from the pictures.
"""

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from cada_jax.common.errors import UsageError

_HEADER = struct.Struct("<8s32sIII")  # magic, the gallery's mark, S, Dv, CRC-32 of these
_MAGIC = b"CADATOK1"
_BEGIN = 64  # of the first slot


class TokenFile:
    """The tokens of one gallery; safe to use in threads. One process writes, others may read.

    Args:
      path: of the file.
      mark: of the gallery, 32 characters of ASCII; another gallery's file counts as missing.
    """

    def __init__(self, path: str, mark: str):
        self._path, self.mark = path, mark
        self._lock = threading.Lock()
        self._file: Any = None
        self._shape: tuple[int, int] = (0, 0)
        self._free: list[int] = []
        self._end = 0  # slots up to here are used or free

    def _open(self) -> bool:
        """Whether the file is there and open; its size may have changed since."""
        if self._file is None:
            try:
                file = open(self._path, "r+b" if os.access(self._path, os.W_OK) else "rb", 0)
            except FileNotFoundError:
                return False
            head = file.read(_HEADER.size).ljust(_HEADER.size)
            _, _, *shape, _ = _HEADER.unpack(head)
            if head != self._header(shape):
                file.close()
                return False
            self._file, self._shape = file, (shape[0], shape[1])
        return True

    def _header(self, shape: Sequence[int]) -> bytes:
        head = _HEADER.pack(_MAGIC, self.mark.encode(), *shape, 0)
        return head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little")

    @property
    def _size(self) -> int:
        return 2 * self._shape[0] * self._shape[1]

    def write(self, tokens: np.ndarray) -> list[tuple[int, int]]:
        """Writes tokens [n,S,Dv] into free slots; their numbers and checksums."""
        rounded = np.ascontiguousarray(tokens, ml_dtypes.bfloat16)
        with self._lock:
            if not self._open() or self._shape != rounded.shape[1:]:
                self._make(rounded.shape[1:])
            data = rounded.view(np.uint8).reshape(len(rounded), self._size)
            slots = [self._free.pop() for _ in range(min(len(data), len(self._free)))]
            slots += range(self._end, self._end + len(data) - len(slots))
            self._end = max(self._end, *(slot + 1 for slot in slots))
            for slot, one in zip(slots, data, strict=True):
                self._write_at(slot, one.data)
        return [(slot, zlib.crc32(one.data)) for slot, one in zip(slots, data, strict=True)]

    def _write_at(self, slot: int, data: memoryview) -> None:
        self._file.seek(_BEGIN + slot * self._size)
        while data:
            data = data[self._file.write(data) :]

    def _make(self, shape: tuple[int, ...]) -> None:
        """Begins the file anew, if what lies there is a file of tokens."""
        file = self._file or open(self._path, "a+b", 0)
        file.seek(0)
        if file.read(len(_MAGIC)) not in (b"", _MAGIC):
            raise UsageError(
                f"{self._path}: expected the image tokens of a gallery, or nothing; something else "
                "is there. Nothing was touched: move it away"
            )
        file.close()
        self._file, self._shape, self._free, self._end = None, (shape[0], shape[1]), [], 0
        self._file = open(self._path, "w+b", 0)
        self._file.write(self._header(shape).ljust(_BEGIN, b"\0"))

    def read(self, places: Sequence[tuple[int, int] | None]) -> list[np.ndarray | None]:
        """Tokens bfloat16 [S,Dv] of slots with these checksums; None for one that has another."""
        with self._lock:
            opened = self._open()
            found = [self._read_at(p[0]) if opened and p else b"" for p in places]
        return [
            np.frombuffer(data, ml_dtypes.bfloat16).reshape(self._shape)
            if data and place and zlib.crc32(data) == place[1]
            else None
            for data, place in zip(found, places, strict=True)
        ]

    def _read_at(self, slot: int) -> bytes:
        self._file.seek(_BEGIN + slot * self._size)
        return self._file.read(self._size)

    def begin(self, slots: Iterable[int]) -> set[int]:
        """Tells which slots are used, before anything is written: the others are free.

        Returns:
          Those that the file does not hold: it is missing, another gallery's, or cut.
        """
        used = set(slots)
        with self._lock:
            if not self._open():
                return used
            length = os.fstat(self._file.fileno()).st_size
            whole = max(0, length - _BEGIN) // self._size
            missing = {slot for slot in used if slot >= whole}
            self._end = max(used - missing, default=-1) + 1
            self._free = sorted(set(range(self._end)) - used, reverse=True)
            return missing

    def erase_free(self, slots: Iterable[int]) -> None:
        """Overwrites with zeros every slot but these, and cuts off the end."""
        self.begin(slots)
        with self._lock:
            if not self._open():
                return
            blank = bytes(self._size)
            for slot in self._free:
                if self._read_at(slot) != blank:
                    self._write_at(slot, memoryview(blank))
            self._file.truncate(_BEGIN + self._end * self._size)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
