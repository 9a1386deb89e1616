"""The shipped model behind the server: HTTP gives what the library gives."""

import concurrent.futures
import contextlib
import dataclasses
import threading

import numpy as np
import pytest

from cada_jax.gallery.commands import serve
from cada_jax.gallery.commands.searched_gallery import Opened
from cada_jax.gallery.server.device import device_of
from cada_jax.retrieval.query import Query
from tests.gallery.server.double import MemoryGallery, load_retriever, picture_of, write_people
from tests.gallery.server.running import QUICK, running, until

WORDS = ["a man in a red coat", "a woman with a black backpack", "a person in blue jeans"]


@pytest.fixture(scope="module")
def retriever():
    return load_retriever()


@pytest.fixture(scope="module")
def gallery(retriever, tmp_path_factory):
    paths = write_people(tmp_path_factory.mktemp("people"), 12)
    return MemoryGallery(retriever, [picture_of(p, f"c{i % 2}") for i, p in enumerate(paths)])


@pytest.fixture(scope="module")
def server(retriever, gallery):
    # Nothing is compiled ahead: each test needs few of the programs.
    device = device_of(retriever)
    size = tuple(retriever.config.data.image_size)
    limits = dataclasses.replace(QUICK, max_batch=4)
    with running(gallery, device, limits=limits, image_size=size, compile_ahead=False) as server:
        yield server


def compare(results: list[dict], hits) -> None:
    assert [result["id"] for result in results] == [hit.picture.id for hit in hits]
    for result, hit in zip(results, hits, strict=True):
        for name in ("similarity", "match_logit", "score"):
            assert result[name] == pytest.approx(getattr(hit, name), abs=1e-4)


@pytest.mark.parametrize("rerank", [0, 4, 32])
def test_a_search_over_http_is_the_library_s(server, retriever, gallery, rerank):
    query = Query(texts=WORDS[:2], exclude=WORDS[2:] if rerank else (), k=6, rerank=rerank)
    fields = {"q": WORDS[:2], "not": WORDS[2:] if rerank else [], "k": 6, "rerank": rerank}
    answer = server.client.get("api/search", params=fields).json()
    compare(answer["results"], retriever.search(query, gallery))
    assert answer["gallery_size"] == 12 and answer["seconds"] > 0


def test_queries_that_share_a_batch_get_what_each_gets_alone(server, retriever, gallery):
    def ask(text: str) -> list[dict]:
        return server.client.get("api/search", params={"q": text, "k": 5}).json()["results"]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, WORDS * 2))
    for text, results in zip(WORDS * 2, found, strict=True):
        compare(results, retriever.search(Query(texts=(text,), k=5), gallery))


def test_an_uploaded_picture_finds_itself(server, gallery):
    for picture in gallery._pictures[:2]:
        with open(picture.path, "rb") as file:
            answer = server.client.post("api/search", files={"image": file}, data={"k": "3"})
        first = answer.json()["results"][0]
        assert first["id"] == picture.id and first["similarity"] == pytest.approx(1, abs=1e-4)


def test_a_picture_of_the_gallery_finds_the_others(server, gallery):
    id = gallery._pictures[0].id
    found = server.client.get("api/search", params={"like": id, "k": 12}).json()["results"]
    assert len(found) == 11 and id not in [result["id"] for result in found]


def test_filters_reach_the_gallery(server):
    fields = {"q": WORDS[0], "camera": "c1", "k": 12, "rerank": 0}
    found = server.client.get("api/search", params=fields).json()["results"]
    assert len(found) == 6 and {result["camera"] for result in found} == {"c1"}


def test_words_look_at_patches_of_the_picture(server, gallery):
    id = gallery._pictures[0].id
    answer = server.client.get(f"api/pictures/{id}/association", params={"q": WORDS[0]}).json()
    assert [token["word"] for token in answer["tokens"]] == WORDS[0].split()
    for token in answer["tokens"]:
        patches = np.asarray(token["map"])
        assert list(patches.shape) == answer["grid"] and 0 < patches.sum() <= 1.001
        assert len(token["gates"]) == answer["layers"]
    beyond = {"q": WORDS[0], "layer": answer["layers"]}
    refused = server.client.get(f"api/pictures/{id}/association", params=beyond)
    assert refused.status_code == 400 and "layer is" in refused.json()["error"]


def test_attributes_are_read_off_a_picture(server, gallery):
    id = gallery._pictures[0].id
    readings = server.client.get(f"api/pictures/{id}/attributes").json()["readings"]
    assert readings
    for reading in readings:
        chances = [word["probability"] for word in reading["words"]]
        assert reading["part"] and chances == sorted(chances, reverse=True)
        assert all(0 <= chance <= 1 for chance in chances)


def test_the_command_serves_what_it_opened_and_prints_where(retriever, gallery, capsys):
    opened_with = []

    @contextlib.contextmanager
    def opening(db, model):
        opened_with.append((db, model))
        yield Opened(retriever, gallery)

    codes = []
    flags = ["--db=people.db", "--port=0", "--no_access_log", "--stop_seconds=1"]
    servers = []
    thread = threading.Thread(
        target=lambda: codes.append(serve.main(flags, opening, servers.append))
    )
    thread.start()
    until(lambda: servers or codes, 60)
    servers[0].stop(now=True)
    thread.join(60)
    assert codes == [0] and opened_with == [("people.db", "")]
    assert capsys.readouterr().out.startswith("serving 12 pictures at http://127.0.0.1:")


@pytest.mark.slow
def test_after_the_start_no_query_waits_for_a_program(retriever, gallery):
    import jax.monitoring

    compiled: list[str] = []

    def note(name: str, seconds: float, **more) -> None:
        if "backend_compile" in name:
            compiled.append(name)

    size = tuple(retriever.config.data.image_size)
    with running(gallery, device_of(retriever), image_size=size) as server:
        server.client.timeout = 600
        until(lambda: server.client.get("healthz").status_code == 200, 600)
        jax.monitoring.register_event_duration_secs_listener(note)
        texts = [" ".join(WORDS[:n]) for n in (1, 2, 3)] + ["coat", "a coat " * 40]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for rerank in (0, 8, 32):
                answers = pool.map(
                    lambda text, rerank=rerank: server.client.get(
                        "api/search", params={"q": text, "rerank": rerank}
                    ),
                    texts * 4,
                )
                assert {answer.status_code for answer in answers} == {200}
        id = gallery._pictures[0].id
        server.client.get(f"api/pictures/{id}/association", params={"q": WORDS[0]})
        server.client.get(f"api/pictures/{id}/attributes")
    assert not compiled
