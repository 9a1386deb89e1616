"""A gallery that changes while it is served: nothing is stopped, and nothing is refused."""

import io
import os
import subprocess
import sys

import httpx
import pytest

from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.web.services import device_of
from tests.conftest import FAST_COMPILE, REPOSITORY
from tests.gallery.tiny import picture_bytes, tiny_retriever, write_pictures
from tests.gallery.web.running import running, until

BEFORE, AFTER = 6, 60
NOTICED = 2.0  # seconds
# Another process changes the gallery, as a user's `cada index` and `cada forget` do.
INDEX = """
import sys
from cada_jax.gallery.gallery import Gallery
from tests.gallery.tiny import tiny_retriever
Gallery.index(sys.argv[1], [sys.argv[2]], tiny_retriever()).close()
"""


def process(*arguments: str) -> subprocess.Popen:
    environment = os.environ | {"XLA_FLAGS": FAST_COMPILE, "JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=pipe, text=True)


def ask(client: httpx.Client, number: int, k: int = 1) -> httpx.Response:
    """What resembles a picture; the tiny network reads no text."""
    image = io.BytesIO(picture_bytes(number))
    return client.post("api/search", files={"image": image}, data={"k": str(k), "rerank": "0"})


def test_pictures_indexed_beside_a_server_are_found_and_forgotten_ones_are_gone(tmp_path):
    photos, db, retriever = tmp_path / "photos", tmp_path / "db", tiny_retriever()
    write_pictures(photos, [f"{number}.png" for number in range(BEFORE)])
    Gallery.index(db, [photos], retriever).close()
    with (
        Gallery.open(db, retriever) as gallery,
        running(gallery, device_of(retriever)) as server,
    ):
        write_pictures(photos, [f"{number}.png" for number in range(AFTER)])
        indexing, statuses = process("-c", INDEX, str(db), str(photos)), []
        while indexing.poll() is None:
            statuses.append(ask(server.client, len(statuses) % BEFORE).status_code)
        assert indexing.returncode == 0 and set(statuses) == {200} and len(statuses) > 10
        size = lambda: server.client.get("healthz").json()["gallery_size"]  # noqa: E731
        until(lambda: size() == AFTER, NOTICED)
        for number in range(AFTER):
            (found,) = ask(server.client, number).json()["results"]
            assert found["name"] == f"{number}.png"
            assert found["similarity"] == pytest.approx(1, abs=1e-4)
        (tmp_path / "paths").write_text(str(photos / "7.png"))
        flags = ["forget", f"--db={db}", f"--paths_from={tmp_path / 'paths'}", "--yes"]
        forgetting = process("-m", "cada_jax", *flags)
        _, errors = forgetting.communicate(timeout=120)
        assert forgetting.returncode == 0, errors
        until(lambda: size() == AFTER - 1, NOTICED)
        results = ask(server.client, 7, AFTER).json()["results"]
        assert len(results) == AFTER - 1 and "7.png" not in [one["name"] for one in results]
