"""A server that really listens, in a thread, and a stand-in for the device that needs no model."""

import contextlib
import hashlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.gallery.server.engine import Device
from cada_jax.gallery.server.limits import Limits
from cada_jax.gallery.server.run import listen, serve, url_of
from cada_jax.gallery.server.services import Options, Services
from cada_jax.retrieval.searchable import Picture

QUICK = Limits(max_batch=2, max_upload_mb=2, max_upload_megapixels=4, max_k=100)


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Returns once a condition holds; fails when that takes too long."""
    moment, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        moment.wait(0.01)


class Running(NamedTuple):
    """A server: its client, what it serves with, and uvicorn's own object."""

    client: httpx.Client
    services: Services
    server: Any
    ended: threading.Event
    log: list[dict]

    @property
    def port(self) -> int:
        return self.client.base_url.port

    def entry(self, path: str) -> dict:
        """The last entry of the access log for a path; it is written just after the answer."""
        self.client.get("healthz")  # on the same connection, so answered after that
        until(lambda: any(entry["path"] == path for entry in self.log))
        return next(entry for entry in reversed(self.log) if entry["path"] == path)


@contextlib.contextmanager
def running(gallery, device: Device, **options) -> Iterator[Running]:
    """Serves on a free port until the block ends."""
    log: list[dict] = []
    setup = Options(**{"access_log": log.append, "limits": QUICK, **options})
    services = Services(gallery, device, setup)
    listener = listen("127.0.0.1", 0)
    url = url_of(listener, setup.root_path)
    up, ended, servers = threading.Event(), threading.Event(), []

    def started(server) -> None:
        servers.append(server)
        up.set()

    def work() -> None:
        try:
            serve(services, listener, started)
        finally:
            ended.set()
            up.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert up.wait(60) and servers
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Running(client, services, servers[0], ended, log)
    finally:
        for server in servers:
            server.stop(now=True)
        thread.join(60)


class Hit(NamedTuple):
    picture: Picture
    similarity: float
    match_logit: float | None
    score: float


class ListedGallery:
    """Records of pictures; nothing is searched in it."""

    model = "stand-in"

    def __init__(self, pictures: list[Picture]):
        self.pictures = {picture.id: picture for picture in pictures}

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, id: str) -> Picture:
        if id not in self.pictures:
            raise UsageError(f"no picture {id}")
        return self.pictures[id]

    def nearest(self, embeddings, k, where):
        raise AssertionError("the stand-in for the device searches nothing")

    embeddings_of = tokens_of = nearest

    def summary(self) -> dict:
        return {"pictures": len(self)}


def stand_in(search=None) -> Device:
    """A device that finds every picture, in their order; `search` may stand for its search."""

    def find_all(queries, gallery):
        pictures = list(gallery.pictures.values())
        hits = [Hit(p, 1 - i / 100, None, 1 - i / 100) for i, p in enumerate(pictures)]
        return [hits[: query.k] for query in queries]

    def associate(pixels, text, layer, head):
        tokens = [
            {"word": word, "gate": None, "gates": None, "map": [[float(pixels.mean())]]}
            for word in text.split()
        ]
        return {"grid": list(pixels.shape[:2]), "layers": 1, "heads": 1, "tokens": tokens}

    def read(pixels):
        words = [{"word": "black", "probability": 0.5}]
        return {"readings": [{"part": "top", "words": words}]}

    return Device(search or find_all, associate, read)


def write_picture(
    path: pathlib.Path, box=None, size: tuple[int, int] = (40, 60), colour: int = 90
) -> Picture:
    """A picture of (width, height) in one colour, and its record as an index has it."""
    pixels = np.full((size[1], size[0], 3), colour, np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255 - colour
    Image.fromarray(pixels).save(path, "PNG")
    return recorded(path, box, size)


def recorded(path: pathlib.Path, box=None, size: tuple[int, int] = (40, 60)) -> Picture:
    data, state = path.read_bytes(), path.stat()
    return Picture(
        id=hashlib.sha256(f"{path}{box}".encode("utf-8", "surrogateescape")).hexdigest()[:32],
        path=str(path),
        content=hashlib.sha256(data).hexdigest(),
        size=state.st_size,
        modified_ns=state.st_mtime_ns,
        taken=state.st_mtime,
        width=size[0],
        height=size[1],
        box=None if box is None else tuple(map(float, box)),
    )
