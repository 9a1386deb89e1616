"""A server that really listens, in a thread, and a stand-in for the device that needs no model."""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import pathlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.people import VARIANTS, generate
from cada_jax.gallery.commands import serve
from cada_jax.gallery.thumbnails import thumbnail
from cada_jax.gallery.web.services import Device, Services
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.query_scores import Hit
from cada_jax.retrieval.searchable import Picture
from cada_jax.text.query_words import Understood

LAYERS, HEADS, GRID = 3, 2, (12, 6)


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What a condition returns, once that is true; fails when it takes too long."""
    moment, end = threading.Event(), time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        moment.wait(0.01)
    return found


class Running(NamedTuple):
    """A server: its client, what it serves with, and uvicorn's own object."""

    client: httpx.Client
    services: Services
    server: Any
    thread: threading.Thread

    @property
    def url(self) -> str:
        return str(self.client.base_url)


@contextlib.contextmanager
def running(gallery, device: Device, flags: tuple[str, ...] = (), **settings) -> Iterator[Running]:
    """Serves on a free port until the block ends."""
    parsed = serve.parse(["--db=x", "--stop_seconds=1", *flags])
    vars(parsed).update({"no_warm_up": True, **settings})
    services = Services(gallery, device, parsed)
    with serve.listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server = serve.server_of(services)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            with httpx.Client(base_url=url, timeout=60) as client:
                yield Running(client, services, server, thread)
        finally:
            server.should_exit = True
            thread.join(60)


class ListedGallery:
    """Records of pictures; a stand-in for the device searches them."""

    model = "stand-in"

    def __init__(self, pictures: list[Picture]):
        self.pictures = {picture.id: picture for picture in pictures}
        self.thumbnail = thumbnail

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, id: str) -> Picture:
        if id not in self.pictures:
            raise UsageError(f"there is no picture with the id {id[:64]!r}")
        return self.pictures[id]

    def summary(self) -> dict:
        folders = sorted({picture.folder for picture in self.pictures.values()})
        cameras = sorted({picture.camera for picture in self.pictures.values()})
        return {"pictures": len(self), "folders": folders, "cameras": cameras}


class StandIn:
    """A device that finds pictures by the words of their captions; see `device`.

    Attributes:
      asked: the queries that it searched.
      hold: searches wait for it.
      raises: what the next searches raise, one after the other.
    """

    def __init__(self, captions: dict[str, str] | None = None):
        self.captions = captions or {}
        self.asked: list[Query] = []
        self.hold: threading.Event | None = None
        self.raises: list[Exception] = []
        self.device = Device(self._search, _understood, self._associate, self._read, (96, 48))

    def _search(self, queries, gallery):
        self.asked += queries
        if self.hold:
            self.hold.wait(30)
        if self.raises:
            raise self.raises.pop(0)
        return [self._found(query, gallery) for query in queries]

    def _found(self, query: Query, gallery) -> list[Hit]:
        hits = []
        folders = {picture.folder for picture in gallery.pictures.values()}
        conditions = query.filter.conditions(folders)
        for number, picture in enumerate(gallery.pictures.values()):
            words = _words(self.captions.get(picture.id, ""))
            score = sum(len(_words(text) & words) for text in query.texts)
            score -= 3 * sum(len(_words(text) & words) for text in query.exclude)
            if query.like_id:
                score += len(_words(self.captions[query.like_id]) & words)
            score = score / 2 - number / 1000
            if all(c.holds(getattr(picture, c.column)) for c in conditions):
                others = 4 if query.group else 0
                logit = score if query.texts else None
                good = None if logit is None else score >= 0
                hits.append(Hit(picture, 0.2, logit, score, others=others, good_match=good))
        hits.sort(key=lambda hit: -hit.score)
        hits[query.rerank :] = [hit._replace(match_logit=None) for hit in hits[query.rerank :]]
        return hits[query.offset : query.offset + query.k]

    def _associate(self, pixels, text, layer, head):
        """A spot for each word, further to the right with each layer and down with each head."""
        if layer is not None and layer >= LAYERS:
            raise UsageError(f"layer is {layer}, expected 0 to {LAYERS - 1}")
        rows, columns = GRID
        tokens = []
        for i, word in enumerate(re.findall(r"[a-z]+", text.lower())):
            place = (2 + 2 * i + (head or 0)) % rows, (1 + i + (layer or 0)) % columns
            away = np.abs(np.indices(GRID) - np.reshape(place, (2, 1, 1))).sum(axis=0)
            gate = 0.4 + 0.3 * ((i + (layer or 0)) % 5)
            tokens.append({"word": word, "gate": gate, "map": (1 / (1 + away)).tolist()})
        return {"grid": list(GRID), "layers": LAYERS, "heads": HEADS, "tokens": tokens}

    def _read(self, pixels):
        words = [{"word": "black", "probability": 0.83}, {"word": "grey", "probability": 0.09}]
        return {"readings": [{"part": "top", "words": words}]}


def _understood(text: str) -> Understood:
    """A vocabulary without words that begin with x."""
    words = re.findall(r"\w+", text)
    unknown = tuple(word for word in words if word.startswith("x"))
    return Understood(tuple(word for word in words if word not in unknown), unknown, None)


def _words(text: str) -> set[str]:
    common = {"a", "an", "the", "and", "with", "in", "is", "of", "wears", "wearing", "person"}
    return set(re.findall(r"[a-z]+", text.lower())) - common


def record_of(path: pathlib.Path, box=None, camera: str = "", taken: float = 1.78e9) -> Picture:
    """The record of a file, as an index has it."""
    data, state = path.read_bytes(), path.stat()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    return Picture(
        id=hashlib.sha256(f"{path}{box}".encode("utf-8", "surrogateescape")).hexdigest()[:32],
        path=str(path),
        content=hashlib.sha256(data).hexdigest(),
        size=state.st_size,
        modified_ns=state.st_mtime_ns,
        taken=taken,
        camera=camera,
        width=width,
        height=height,
        box=None if box is None else tuple(map(float, box)),
    )


def write_picture(path: pathlib.Path) -> Picture:
    """A grey picture of 40 x 60 pixels, and its record."""
    Image.new("RGB", (40, 60), (90, 90, 90)).save(path, "PNG")
    return record_of(path)


@functools.cache
def people() -> list[tuple[bytes, str]]:
    """JPEG files of generated people, and a caption of each."""
    examples = itertools.islice(generate(VARIANTS["tiny"], "train"), 60)
    return [(example.jpeg, example.captions[0].text) for example in examples]


def write_people(folder: pathlib.Path, names: list[str]) -> tuple[ListedGallery, StandIn]:
    """Sixty people in three folders; every fourth stands in a wide scene, in a box."""
    pictures, captions = [], {}
    for i, (data, caption) in enumerate(people()):
        place = folder / ("station", "station/north", "park")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        path, box = place / (names[i] if i < len(names) else f"person_{i:03d}.jpg"), None
        path.write_bytes(data)
        if i % 4 == 3:
            with Image.open(io.BytesIO(data)) as person:
                scene = Image.new("RGB", (person.width * 5, person.height + 20), (150, 150, 140))
                box = (person.width * 3, 10, *person.size)
                scene.paste(person, box[:2])
            scene.save(path, "JPEG", quality=90)
        taken = 1.767e9 + i * 3 * 86_400
        picture = record_of(path, box, ("North gate", "South gate")[i % 2], taken)
        pictures.append(picture)
        captions[picture.id] = caption
    return ListedGallery(pictures), StandIn(captions)


def lines(path: pathlib.Path) -> list[dict]:
    """The entries of an audit log."""
    return [json.loads(line) for line in path.read_text().splitlines()]
