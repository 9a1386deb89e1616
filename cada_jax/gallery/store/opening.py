"""Opens the store that an address names, and keeps other processes from changing it."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from cada_jax.common import folder_lock
from cada_jax.common.errors import UsageError
from cada_jax.gallery.store import Meta, Store, database
from cada_jax.gallery.store.sqlite import SqliteStore
from cada_jax.gallery.uri import GalleryUri

_CHANGED_HERE: set[str] = set()  # files; a lock holds off other processes alone


def open_store(uri: GalleryUri, writes: bool, new: Meta | None = None) -> Store:
    """The store of a gallery; with `new` one is made where there is none."""
    if not uri.file:
        from cada_jax.gallery.store.milvus import MilvusStore

        return MilvusStore(uri, writes, new)
    if new is not None and not database.exists(uri.file):
        database.create(uri.file, dataclasses.asdict(new))
    return SqliteStore(uri.file, writes)


@contextlib.contextmanager
def alone(uri: GalleryUri, wait: bool = False) -> Iterator[None]:
    """This process alone changes a local gallery; on a server the store sees to that.

    A UsageError names the other process that changes it, unless it is to wait for that.
    """
    if not uri.file:
        yield
        return
    lock = f"{uri.file}.lock"
    os.makedirs(os.path.dirname(uri.file), exist_ok=True)
    if uri.file in _CHANGED_HERE:
        raise UsageError(f"{uri.file} is changed by this process already: close it first")
    remedy = "It changes the gallery: wait until it ends."
    with folder_lock.locked(lock, wait, remedy, what=uri.file):
        _CHANGED_HERE.add(uri.file)
        try:
            yield
        finally:
            _CHANGED_HERE.remove(uri.file)
