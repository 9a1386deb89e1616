"""What may be asked, what is refused and how, and what an answer holds."""

import datetime
import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pydantic
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from cada_jax.common.errors import UsageError
from cada_jax.common.images import resized
from cada_jax.gallery.web.search import Fields
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.query import Query
from tests.data import pictures
from tests.gallery.web.running import ListedGallery, StandIn, running, until

BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}


def seconds(month: int, day: int) -> float:
    return datetime.datetime(2026, month, day).timestamp()  # local time


def refused(answer: httpx.Response, status: int, part: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert part in message and "\n" not in message and "Traceback" not in message


def test_every_field_reaches_the_query(server, device):
    fields = [
        ("q", "a red coat"),
        ("q", "a coat, red"),
        ("not", "umbrella"),
        ("folder", "/photos/a+b #1?"),
        ("since", "2026-05-01"),
        ("until", "2026-05-31"),
        ("camera", "Nikon D70; left"),
        ("k", "7"),
        ("offset", "3"),
        ("rerank", "9"),
        ("group", "scene"),
        ("min_score", "-2"),
    ]
    query = Query(
        texts=("a red coat", "a coat, red"),
        exclude=("umbrella",),
        filter=Filter("/photos/a+b #1?", seconds(5, 1), seconds(6, 1), "Nikon D70; left"),
        k=7,
        offset=3,
        rerank=9,
        group="scene",
        min_score=-2.0,
    )
    found = server.client.get("api/search", params=fields).json()
    assert found["query"] == query.to_dict() and device.asked[0] == query
    assert found["notice"] == "folder='/photos/a+b #1?': no indexed picture is in it"
    form = [(name, (None, value)) for name, value in fields]
    assert server.client.post("api/search", files=form).status_code == 200
    assert device.asked[-1] == query


def test_pages_of_results_follow_each_other(server, device):
    ask = lambda **fields: server.client.get("api/search", params={"q": "a red coat", **fields})  # noqa: E731
    whole = [result["id"] for result in ask(k=45).json()["results"]]
    pages = [ask(k=20, offset=offset).json() for offset in (0, 20, 40)]
    parts = [[result["id"] for result in page["results"]] for page in pages]
    assert [len(part) for part in parts] == [20, 20, 20] and len(set(sum(parts, []))) == 60
    assert sum(parts, [])[:45] == whole and pages[0]["gallery_size"] == 60


def test_words_that_the_model_does_not_know_are_named(server):
    answer = server.client.get("api/search?q=a+red+xoodie").json()
    assert answer["notice"] == "not in the model's vocabulary: xoodie" and answer["results"]
    assert server.client.get("api/search?q=a+red+coat").json()["notice"] == ""


@pytest.mark.parametrize(
    ("address", "status", "part"),
    [
        ("api/search", 422, "nothing to search for"),
        ("api/search?q=" + "coat%20" * 1700, 422, "at most 2000 characters"),
        ("api/search?q=xoodie", 422, "not in the model's vocabulary: xoodie"),
        ("api/search?q=coat&top_k=3", 422, "top_k: "),
        ("api/search?q=coat&group=day", 422, "group is 'day'"),
        ("api/search?q=coat&since=yesterday", 422, "since="),
        ("api/search?like=..%2F..%2Fetc%2Fpasswd", 404, "no picture"),
        ("static/..%2Fapp.py", 404, "Not Found"),
    ],
)
def test_a_request_is_refused_in_one_sentence(server, address, status, part):
    # As bytes on the wire: a client library would tidy the path.
    url = httpx.URL(server.url, raw_path=f"/{address}".encode())
    refused(server.client.get(url), status, part)


VALUE = st.one_of(
    st.text(max_size=40), st.sampled_from(["0", "-1", "1e9", "nan", "", " ", "10", "2026-01-01"])
)


@hypothesis.given(st.dictionaries(st.sampled_from(sorted(Fields.model_fields)), VALUE))
def test_any_fields_are_a_query_or_one_sentence(fields):
    fields |= {name: [fields[name]] for name in ("q", "exclude") if name in fields}
    try:
        asked = Fields(**{("not" if name == "exclude" else name): v for name, v in fields.items()})
        filter = Filter.read(asked.model_dump(include={f.name for f in Filter.fields()}))
        query = Query(asked.q, asked.exclude, like_id=asked.like, filter=filter, k=asked.k)
    except (pydantic.ValidationError, UsageError):
        return
    assert query.texts or query.like_id
    assert Filter.read(query.filter.to_dict()) == query.filter


def png_of(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that says how many pixels it has."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_of(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "part"),
    [
        (b"", 415, "empty"),
        (jpeg_of((20, 20))[:100], 415, "cannot be decoded"),
        (png_of(2500, 2000), 413, "expected at most 4,000,000"),
        (png_of(20_000, 10_000), 413, "more pixels"),
    ],
    ids=["empty", "cut", "5 MP", "200 MP"],
)
def test_what_is_no_picture_or_has_too_many_pixels_is_refused(people, data, status, part):
    gallery, stand_in = people
    with running(gallery, stand_in.device, max_upload_megapixels=4) as server:
        answer = server.client.post("api/search", files={"image": ("a.jpg", data)})
        refused(answer, status, part)


def test_a_body_that_is_too_long_is_refused_announced_or_not(people, device):
    gallery, _ = people
    data = b"x" * 10_000_000
    with running(gallery, device.device, max_upload_mb=2) as server:
        assert server.client.post("api/search", files={"image": data}).status_code == 413

        def chunks():
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            for start in range(0, len(data), 100_000):
                yield data[start : start + 100_000]

        try:
            answer = server.client.post("api/search", content=chunks(), headers=BOUNDARY)
            assert answer.status_code == 413
        except httpx.WriteError:
            pass  # the server hung up before all of it was sent
        assert server.client.get("api/search?q=coat").status_code == 200
    assert len(device.asked) == 1


def test_a_form_that_is_cut_anywhere_is_no_smaller_question(server, device):
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    form = part % (b"q", b"", b"a coat") + part % (b"image", b'; filename="a"', jpeg_of((20, 20)))
    form += part % (b"camera", b"", b"North gate") + b"--b--\r\n"
    ask = lambda content: server.client.post("api/search", content=content, headers=BOUNDARY)  # noqa: E731
    for length in (0, 40, 70, len(form) // 2, len(form) - 90, len(form) - 20, len(form) - 4):
        assert ask(form[:length]).status_code in (400, 422), length
    assert not device.asked
    assert ask(form).status_code == 200 and len(device.asked) == 1


def test_a_body_that_is_no_form_of_a_search_is_refused(server):
    post = server.client.post
    refused(post("api/search", json={"q": "coat"}), 422, "nothing to search for")
    refused(
        post("api/search", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400, ""
    )
    picture = jpeg_of((20, 20))
    refused(post("api/search", files=[("image", picture), ("image", picture)]), 400, "files")
    id = next(iter(server.services.gallery.pictures))
    answer = post("api/search", data={"like": id}, files={"image": picture})
    refused(answer, 422, "two pictures")


@pytest.mark.parametrize("kind", ["JPEG, baseline", "HEIC"])
def test_uploaded_pixels_reach_the_search_in_the_size_of_the_network(server, device, kind):
    file = pictures.EVERY_KIND[kind]
    answer = server.client.post("api/search", files={"image": file}, data={"k": "3"})
    assert answer.json()["query"]["like"] is True and len(answer.json()["results"]) == 3
    (query,) = device.asked
    assert query.like.shape == (96, 48, 3) and query.like.dtype == np.uint8
    wanted = resized(pictures.PHOTO, (96, 48)).astype(int)
    assert abs(query.like - wanted).mean() < 5


def test_an_empty_gallery_has_no_results():
    with running(ListedGallery([]), StandIn().device) as server:
        answer = server.client.get("api/search", params={"q": "a coat"}).json()
        assert answer["results"] == [] and answer["gallery_size"] == 0


def test_a_gallery_that_refuses_is_503_and_a_fault_500_that_tells_nothing(server, device, caplog):
    device.raises = [UsageError("the database is gone")]
    refused(server.client.get("api/search?q=coat"), 503, "the database is gone")
    device.raises = [RuntimeError("secret path")]
    failed = server.client.get("api/search?q=coat")
    refused(failed, 500, "the server failed")
    assert failed.headers["connection"] == "close"  # the next request takes a new connection
    until(lambda: "secret path" in caplog.text)
    device.raises = [HTTPException(429, "busy", {"Retry-After": "1"})]
    answer = server.client.get("api/search?q=coat")
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert server.client.get("api/search?q=coat").status_code == 200


def test_a_query_whose_client_hung_up_is_not_computed(gallery):
    stand_in = StandIn()
    stand_in.hold = threading.Event()
    with running(gallery, stand_in.device) as server, ThreadPoolExecutor(1) as pool:
        held = pool.submit(server.client.get, "api/search?q=held")
        until(lambda: stand_in.asked)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{server.url}api/search?q=gone", timeout=0.2)
        until(lambda: len(server.server.server_state.tasks) == 1)  # that of the other client
        stand_in.hold.set()
        assert held.result(30).status_code == 200
        assert server.client.get("api/search?q=after").status_code == 200
    assert [query.texts for query in stand_in.asked] == [("held",), ("after",)]


def test_head_is_answered_wherever_get_is_and_has_no_body(server):
    id = next(iter(server.services.gallery.pictures))
    paths = ["", "api/search?q=coat", "healthz", "metrics", "docs", "openapi.json"]
    paths += ["static/main.js", "api/gallery", f"api/pictures/{id}", f"api/pictures/{id}/thumbnail"]
    for path in paths:
        head, got = server.client.head(path), server.client.get(path)
        assert head.status_code == got.status_code == 200 and not head.content, path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert "default-src 'none'" in head.headers["content-security-policy"]
    assert server.client.put("api/search").status_code == 405


def test_an_answer_and_the_fields_are_described_as_they_are(server):
    api = server.client.get("openapi.json").json()
    answer = server.client.get("api/search?q=coat").json()
    example = api["paths"]["/api/search"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer.keys() == example["example"].keys()
    assert answer["results"][0].keys() == example["example"]["results"][0].keys()
    fields = {each["name"] for each in api["paths"]["/api/search"]["get"]["parameters"]}
    assert fields == {"q", "not", "like", "k", "offset", "rerank", "group", "min_score"} | {
        field.name for field in Filter.fields()
    }
