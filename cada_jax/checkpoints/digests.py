"""Checksums of arrays: written with them, compared whenever they are read.

A checksum is of a block: a range of indices of one array. So every process can compute those of
the parts it holds, and whoever reads can compare them whatever devices the arrays went to. Neither
the blocks nor anything else of a checksum depends on how the files are laid out.

The checksum is CRC-32. SHA-256 takes twice as long (1.4 against 2.5 GB/s a core), or five times
where the processor has no instructions for it, and what is looked for is damage, not a forger.
"""

import concurrent.futures
import hashlib
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cada_jax.common.pytrees import flat_arrays

FORMAT = 1
BLOCK_BYTES = 2**24  # enough work for a thread, and all threads have some
Ranges = tuple[tuple[int, int], ...]  # [start, stop) of every dimension
Read = Callable[[Ranges], np.ndarray]


def _ranges(index: tuple[slice, ...], shape: tuple[int, ...]) -> Ranges:
    spans = [s.indices(n)[:2] for s, n in zip(index, shape, strict=False)]
    return tuple((start, max(start, stop)) for start, stop in spans)


def _size(ranges: Ranges) -> int:
    return math.prod(stop - start for start, stop in ranges)


def _blocks(ranges: Ranges, itemsize: int) -> Iterator[Ranges]:
    """`ranges` cut along its first dimension longer than 1 into blocks of BLOCK_BYTES or less."""
    axis = next((i for i, (start, stop) in enumerate(ranges) if stop - start > 1), None)
    if axis is None or _size(ranges) * itemsize <= BLOCK_BYTES:
        yield ranges
        return
    start, stop = ranges[axis]
    row = _size(ranges) // (stop - start) * itemsize
    step = max(1, BLOCK_BYTES // row)
    for low in range(start, stop, step):
        part = (*ranges[:axis], (low, min(low + step, stop)), *ranges[axis + 1 :])
        yield from _blocks(part, itemsize) if row > BLOCK_BYTES else (part,)


def _checksum(array: np.ndarray) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return f"{zlib.crc32(little.reshape(-1).view(np.uint8).data):08x}"


def _within(ranges: Ranges, whole: Ranges) -> bool:
    return all(a >= c and b <= d for (a, b), (c, d) in zip(ranges, whole, strict=True))


def _cut(array: np.ndarray, ranges: Ranges, origin: Ranges) -> np.ndarray:
    """The block `ranges` of an array of which `array` is the part that `origin` names."""
    return array[tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(ranges, origin, strict=True))]


def _map(function: Callable, *columns: list) -> list:
    """`function` of every row, by as many threads as there are cores: zlib lets them run."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return list(threads.map(function, *columns))


class Parts:
    """The parts of the arrays of a pytree that this process has to write, copied to the host.

    The copy lets training go on, and its arrays be donated, while the checksums are computed.

    Args:
      tree: pytree of `jax.Array` or NumPy arrays, the same on every process.
    """

    def __init__(self, tree: Any):
        self._arrays: dict[str, Any] = {}
        self._parts: list[tuple[str, Ranges, np.ndarray]] = []
        for name, leaf in flat_arrays(tree).items():
            self._arrays[name] = {"dtype": np.dtype(leaf.dtype).name, "shape": list(leaf.shape)}
            for index, part in _owned(leaf):
                self._parts.append((name, _ranges(index, leaf.shape), part))

    def checksums(self) -> dict[str, Any]:
        """Name -> {"dtype", "shape", "blocks": [[[start, stop], ...], checksum], ...}."""
        blocks = [
            (name, ranges, _cut(part, ranges, whole))
            for name, whole, part in self._parts
            for ranges in _blocks(whole, part.dtype.itemsize)
        ]
        sums = _map(lambda block: _checksum(block[2]), blocks)
        found = {name: {**entry, "blocks": []} for name, entry in self._arrays.items()}
        for (name, ranges, _), value in zip(blocks, sums, strict=True):
            found[name]["blocks"].append([[list(span) for span in ranges], value])
        return found


def _owned(leaf: Any) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    if not isinstance(leaf, jax.Array):
        if jax.process_index() == 0:
            array = np.asarray(leaf)
            yield (slice(None),) * array.ndim, array
        return
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:  # the same part lies on several devices; one of them counts
            yield shard.index, np.array(shard.data)


def dumps(arrays: dict[str, Any], **more: Any) -> str:
    """The checksums, and what else is to be kept with them, as JSON that notices its own damage."""
    body = json.dumps({"format": FORMAT, "arrays": arrays, **more}, sort_keys=True)
    seal = hashlib.sha256(body.encode()).hexdigest()
    return (
        json.dumps({"sha256": seal, "content": json.loads(body)}, indent=1, sort_keys=True) + "\n"
    )


def loads(text: str) -> dict[str, Any]:
    """What `dumps` was given.

    Raises:
      ValueError: that is not what `text` is.
    """
    try:
        whole = json.loads(text)
        seal, content = whole["sha256"], whole["content"]
        body = json.dumps(content, sort_keys=True)
        number = content["format"]
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"its checksums cannot be read ({type(e).__name__}: {e})") from e
    if hashlib.sha256(body.encode()).hexdigest() != seal:
        raise ValueError("its checksums are not those that were written")
    if number != FORMAT:
        raise ValueError(f"its checksums have format {number}; this program knows {FORMAT}")
    return content


def text_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a text file, whatever its line ends."""
    return hashlib.sha256(pathlib.Path(path).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The checksums of all processes as one.

    Raises:
      ValueError: they are not of the same arrays.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        for name, entry in part.items():
            mine = merged.setdefault(name, {**entry, "blocks": []})
            if (mine["dtype"], mine["shape"]) != (entry["dtype"], entry["shape"]):
                raise ValueError(f"the checksums of {name} are of two arrays")
            mine["blocks"] = mine["blocks"] + entry["blocks"]
    return merged


def find_damage(tree: Any, stored: dict[str, Any]) -> list[str]:
    """The names of the arrays that are not as they were when `stored` was made.

    Every process calls it with the same tree; the answer is of all of them together, and so is the
    same everywhere. Of an array whose blocks lie on no device whole, because it was saved on
    another mesh by several processes, every process gathers the whole.

    Args:
      tree: pytree of arrays; those that `stored` names and `tree` has not are not missed.
      stored: of `merge` or `Parts.checksums`.
    """
    bad, tasks = set(), []
    for name, leaf in flat_arrays(tree).items():
        entry = stored.get(name)
        if entry is None or not _same_kind(leaf, entry):
            bad.add(name)
            continue
        blocks = [(tuple(map(tuple, ranges)), value) for ranges, value in entry["blocks"]]
        if sum(_size(ranges) for ranges, _ in blocks) != math.prod(leaf.shape):
            bad.add(name)
            continue
        tasks += [(name, value, part) for part, value in _held(leaf, blocks)]
    same = _map(lambda task: _checksum(task[2]()) == task[1], tasks)
    bad |= {name for (name, *_), good in zip(tasks, same, strict=True) if not good}
    return _everyones(sorted(bad), sorted(flat_arrays(tree)))


def _same_kind(leaf: Any, entry: dict[str, Any]) -> bool:
    return [np.dtype(leaf.dtype).name, list(leaf.shape)] == [entry["dtype"], entry["shape"]]


def _held(leaf: Any, blocks: list[tuple[Ranges, str]]) -> Iterator[tuple[Callable, str]]:
    """(function that returns a block, its checksum) of the blocks that this process can compare."""
    shape = tuple(leaf.shape)
    whole = tuple((0, n) for n in shape)
    if not isinstance(leaf, jax.Array) or leaf.is_fully_replicated or not shape:
        array = np.asarray(leaf)
        yield from ((_cutter(array, ranges, whole), value) for ranges, value in blocks)
        return
    parts = {_ranges(i, shape) for i in leaf.sharding.devices_indices_map(shape).values()}
    if not all(any(_within(ranges, part) for part in parts) for ranges, _ in blocks):
        array = (
            np.asarray(leaf)
            if leaf.is_fully_addressable
            else multihost_utils.process_allgather(leaf, tiled=True)
        )
        yield from ((_cutter(array, ranges, whole), value) for ranges, value in blocks)
        return
    mine = {_ranges(shard.index, shape): shard for shard in leaf.addressable_shards}
    for part, shard in mine.items():
        array = np.asarray(shard.data)
        inside = ((ranges, value) for ranges, value in blocks if _within(ranges, part))
        yield from ((_cutter(array, ranges, part), value) for ranges, value in inside)


def _cutter(array: np.ndarray, ranges: Ranges, origin: Ranges) -> Callable[[], np.ndarray]:
    return lambda: _cut(array, ranges, origin)


def _everyones(bad: list[str], names: list[str]) -> list[str]:
    """The names that any process found bad; `names` is the same list on all of them."""
    if jax.process_count() == 1:
        return bad
    found = np.isin(names, bad)
    gathered = multihost_utils.process_allgather(found).reshape(-1, len(names))
    return list(itertools.compress(names, gathered.any(axis=0)))
