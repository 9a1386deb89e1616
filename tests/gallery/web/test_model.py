"""The shipped model and a gallery on disk behind the server: HTTP gives what the library gives."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import cada_jax
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.web.services import device_of
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.query import Query
from tests.gallery.web.running import people, running, until

WORDS = ["a man in a red coat", "a woman with a black backpack", "a person in blue jeans"]


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def gallery(retriever, tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for i, (data, _) in enumerate(people()[:12]):
        place = folder / ("north", "south")[i % 2]
        place.mkdir(exist_ok=True)
        (place / f"{i}.jpg").write_bytes(data)
    Gallery.index(folder / "people.db", [folder], retriever).close()
    with Gallery.open(folder / "people.db", retriever) as gallery:
        yield gallery


@pytest.fixture(scope="module")
def server(retriever, gallery):
    with running(gallery, device_of(retriever), max_batch=4) as server:
        yield server


def compare(results: list[dict], hits) -> None:
    assert [result["id"] for result in results] == [hit.picture.id for hit in hits]
    for result, hit in zip(results, hits, strict=True):
        for name in ("similarity", "match_logit", "score"):
            assert result[name] == pytest.approx(getattr(hit, name), abs=1e-4)


@pytest.mark.parametrize("rerank", [0, 4, 32])
def test_a_search_over_http_is_the_library_s(server, retriever, gallery, rerank):
    query = Query(WORDS[:2], WORDS[2:] if rerank else (), k=6, offset=2, rerank=rerank)
    fields = {"q": WORDS[:2], "not": query.exclude, "k": 6, "offset": 2, "rerank": rerank}
    answer = server.client.get("api/search", params=fields).json()
    compare(answer["results"], retriever.search(query, gallery))
    assert answer["gallery_size"] == 12 and answer["seconds"] > 0


def test_the_gallery_says_what_its_model_knows(server):
    assert "no photographs" in server.client.get("api/gallery").json()["note"]


def test_queries_that_share_a_batch_get_what_each_gets_alone(server, retriever, gallery):
    def ask(text: str) -> list[dict]:
        return server.client.get("api/search", params={"q": text, "k": 5}).json()["results"]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, WORDS * 2))
    for text, results in zip(WORDS * 2, found, strict=True):
        compare(results, retriever.search(Query(texts=(text,), k=5), gallery))


def test_filters_and_pictures_to_resemble_reach_the_gallery(server, retriever, gallery):
    folder = gallery.summary()["folders"][0]
    ask = lambda **fields: server.client.get("api/search", params=fields).json()["results"]  # noqa: E731
    query = Query((WORDS[0],), filter=Filter(folder=folder), k=12, rerank=0)
    found = ask(q=WORDS[0], folder=folder, k=12, rerank=0)
    compare(found, retriever.search(query, gallery))
    assert len(found) == 6
    id = found[0]["id"]
    others = ask(like=id, k=12)
    assert len(others) == 11 and id not in [result["id"] for result in others]
    with open(found[0]["path"], "rb") as file:
        (itself, *_) = server.client.post("api/search", files={"image": file}).json()["results"]
    assert itself["id"] == id and itself["similarity"] == pytest.approx(1, abs=1e-4)


def test_words_look_at_patches_and_attributes_are_read(server):
    id = server.client.get("api/search", params={"q": WORDS[0]}).json()["results"][0]["id"]
    answer = server.client.get(f"api/pictures/{id}/association", params={"q": WORDS[0]}).json()
    assert [token["word"] for token in answer["tokens"]] == WORDS[0].split()
    for token in answer["tokens"]:
        patches = np.asarray(token["map"])
        assert list(patches.shape) == answer["grid"] and 0 < patches.sum() <= 1.001
        assert len(token["gates"]) == answer["layers"]
    beyond = {"q": WORDS[0], "layer": answer["layers"]}
    assert server.client.get(f"api/pictures/{id}/association", params=beyond).status_code == 422
    readings = server.client.get(f"api/pictures/{id}/attributes").json()["readings"]
    assert readings
    for reading in readings:
        chances = [word["probability"] for word in reading["words"]]
        assert chances == sorted(chances, reverse=True) and 0 <= min(chances) <= max(chances) <= 1


@pytest.mark.slow
def test_after_the_start_no_query_waits_for_a_program(retriever, gallery):
    import jax.monitoring

    compiled: list[str] = []

    def note(name: str, seconds: float, **more) -> None:
        if "backend_compile" in name:
            compiled.append(name)

    with running(gallery, device_of(retriever), no_warm_up=False) as server:
        server.client.timeout = 600
        until(lambda: server.client.get("healthz").status_code == 200, 600)
        jax.monitoring.register_event_duration_secs_listener(note)
        texts = [" ".join(WORDS[:n]) for n in (1, 2, 3)] + ["coat", "a coat " * 40]
        with ThreadPoolExecutor(8) as pool:
            for rerank in (0, 8, 32, 40):
                fields = [{"q": text, "k": 20, "rerank": rerank} for text in texts * 4]
                answers = pool.map(lambda one: server.client.get("api/search", params=one), fields)
                assert {answer.status_code for answer in answers} == {200}
        id = gallery.pictures()[0].id
        server.client.get(f"api/pictures/{id}/association", params={"q": WORDS[0]})
        server.client.get(f"api/pictures/{id}/attributes")
    assert not compiled
