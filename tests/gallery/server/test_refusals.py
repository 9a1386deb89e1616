"""What a server refuses, with which status and words, and that it serves on afterwards."""

import io
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.gallery.server.running import ListedGallery, running, stand_in, write_picture

PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pictures = [write_picture(folder / f"{i}.png", colour=40 * i) for i in range(3)]
    with running(ListedGallery(pictures), stand_in()) as server:
        yield server


def png_header(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that says how many pixels it has."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def refused(answer: httpx.Response, status: int, part: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert part in message and "\n" not in message and "Traceback" not in message


def serves(server) -> None:
    found = server.client.get("api/search", params={"q": "a coat"})
    assert found.status_code == 200 and len(found.json()["results"]) == 3


@pytest.mark.parametrize(
    ("address", "status", "part"),
    [
        ("api/search", 400, "nothing to search for"),
        ("api/search?q=", 422, "at least one word"),
        ("api/search?q=%20%09", 422, "at least one word"),
        ("api/search?q=.,!%3F%23", 422, "at least one word"),
        ("api/search?q=%E2%80%8B", 422, "at least one word"),
        ("api/search?q=coat&not=...", 422, "not: "),
        ("api/search?q=" + "coat%20" * 1700, 400, "characters, expected at most 2,000"),
        ("api/search?" + "&".join(["q=coat"] * 9), 400, "came 9 times, expected at most 8"),
        ("api/search?" + "&".join(["q=coat"] * 99), 400, "at most 64 fields"),
        ("api/search?q=%ff%fe", 400, "not UTF-8"),
        ("api/search?q=coat&k=0", 400, "k: is '0'"),
        ("api/search?q=coat&k=-1", 400, "k: is '-1'"),
        ("api/search?q=coat&k=1000000", 400, "less than or equal to 100"),
        ("api/search?q=coat&k=ten", 400, "k: is 'ten', expected a valid integer"),
        ("api/search?q=coat&k=1.5", 400, "k: is '1.5'"),
        ("api/search?q=coat&k=", 400, "k: is ''"),
        ("api/search?q=coat&k=3&k=4", 400, "k: came more than once"),
        ("api/search?q=coat&top_k=3", 400, "top_k: no such field, expected one of q, not"),
        ("api/search?q=coat&rerank=-1", 400, "rerank"),
        ("api/search?q=coat&min_score=nan", 400, "min_score: is 'nan', expected a finite number"),
        ("api/search?q=coat&min_score=inf", 400, "min_score"),
        ("api/search?q=coat&min_score=high", 400, "min_score"),
        ("api/search?q=coat&since=yesterday", 400, "expected a date such as"),
        ("api/search?q=coat&until=2026-02-31", 400, "expected a date such as"),
        ("api/search?q=coat&since=2026-05-31&until=2026-05-01", 400, "until: "),
        ("api/search?q=coat&not=bag&rerank=0", 400, "expected rerank to be 1 or more"),
        ("api/search?q=coat&folder=%00", 400, "NUL"),
        ("api/search?like=abc", 404, "no picture has the id 'abc'"),
        ("api/search?like=" + "0" * 32, 404, "no picture has the id"),
        ("api/search?like=..%2F..%2Fetc%2Fpasswd", 404, "no picture has the id"),
        ("api/pictures/" + "0" * 32, 404, "no picture has the id"),
        ("api/pictures/" + "0" * 32 + "/image", 404, "no picture has the id"),
        ("api/pictures/etc/thumbnail", 404, "no picture has the id"),
        ("api/pictures/..%2F..%2F..%2Fetc%2Fpasswd", 404, "nothing at"),
        ("api/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image", 404, "nothing at"),
        ("static/..%2F..%2Fapp.py", 404, "nothing at"),
        ("static/%2e%2e/app.py", 404, "nothing at"),
        ("static//etc/passwd", 404, "nothing at"),
        ("static/", 404, "nothing at"),
        ("nothing", 404, "nothing at /nothing"),
        ("%ff", 400, "not UTF-8"),
    ],
)
def test_a_request_is_refused_and_the_server_serves_on(server, address, status, part):
    # As bytes on the wire: a client library would tidy the path.
    refused(
        server.client.get(httpx.URL(server.client.base_url, raw_path=f"/{address}".encode())),
        status,
        part,
    )
    serves(server)


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/static/../../../etc/passwd", "//etc/passwd"]
)
def test_a_path_with_dots_on_the_wire_finds_nothing(server, path):
    import socket

    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ") and b"root:" not in answer


def picture_of(width: int, height: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "part"),
    [
        (PDF, 415, "it is no image file"),
        (b"", 415, "the file is empty"),
        (b"<html></html>", 415, "web page"),
        (picture_of(20, 20, "PNG")[:40], 415, "cannot be decoded"),
        (picture_of(20, 20, "PPM"), 415, "is PPM, expected one of JPEG"),
        (png_header(20_000, 10_000), 413, "more pixels, expected at most"),
        (png_header(10_000, 10_000), 413, "10000 x 10000 pixels, expected at most"),
        (png_header(2500, 2000), 413, "2500 x 2000 pixels, expected at most 4,000,000"),
        (b"x" * 2_500_000, 413, "more than 2 MB"),
    ],
    ids=["pdf", "empty", "page", "cut", "other", "200 MP", "100 MP", "5 MP", "long"],
)
def test_an_upload_is_refused_and_the_server_serves_on(server, data, status, part):
    refused(server.client.post("api/search", files={"image": ("a.jpg", data)}), status, part)
    serves(server)


def test_50_megabytes_are_refused_by_what_the_client_announces_and_by_what_it_sends(server):
    data = b"x" * 50_000_000
    refused(server.client.post("api/search", files={"image": data}), 413, "more than 2 MB")

    def chunks():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(50):
            yield data[:1_000_000]

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        refused(server.client.post("api/search", content=chunks(), headers=kind), 413, "2 MB")
    except httpx.WriteError:
        pass  # the server hung up before all of it was sent
    serves(server)


@pytest.mark.parametrize(
    ("body", "kind", "status", "part"),
    [
        (b"{}", "application/json", 415, "expected multipart/form-data"),
        (b"q=coat", "application/x-www-form-urlencoded", 415, "expected multipart/form-data"),
        (b"", "", 415, "'of no type', expected multipart/form-data"),
        (b"hello", "multipart/form-data", 400, "the form is damaged"),
        (b"hello", "multipart/form-data; boundary=b", 400, "the form is damaged"),
        (b"--b\r\n\r\n\r\n--b--\r\n", "multipart/form-data; boundary=b", 400, "damaged"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 400, "nothing to search for"),
    ],
)
def test_a_body_that_is_no_form_is_refused(server, body, kind, status, part):
    headers = {"Content-Type": kind} if kind else {}
    refused(server.client.post("api/search", content=body, headers=headers), status, part)
    serves(server)


def form(**fields: bytes) -> dict:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields.items()
    ]
    return {
        "content": b"".join(parts) + b"--b--\r\n",
        "headers": {"Content-Type": "multipart/form-data; boundary=b"},
    }


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({"q": b"\xff\xfe coat"}, 400, "q: is not UTF-8"),
        ({"q": b"a" * 10_000}, 400, "10,000 characters"),
        ({"q": b"..."}, 422, "at least one word"),
        ({"q": b"coat", "k": b"0"}, 400, "k: is '0'"),
        ({"q": b"coat", "min_score": b"nan"}, 400, "min_score"),
        ({"image": b"coat"}, 400, "image: no such field"),
    ],
)
def test_a_field_of_a_form_is_refused_as_one_of_an_address(server, fields, status, part):
    refused(server.client.post("api/search", **form(**fields)), status, part)
    serves(server)


def test_a_picture_and_an_id_to_resemble_are_refused_together(server):
    id = next(iter(server.services.gallery.pictures))
    data = {"like": id}
    image = picture_of(20, 20, "PNG")
    answer = server.client.post("api/search", data=data, files={"image": image})
    refused(answer, 400, "like: came with a picture")
    files = [("image", image), ("image", image)]
    refused(server.client.post("api/search", files=files), 400, "expected one file")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "SEARCH"])
def test_other_methods_are_refused(server, method):
    refused(server.client.request(method, "api/search"), 405, f"takes no {method}")


@pytest.mark.parametrize("text", [b"\xff", b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n"])
def test_what_is_no_http_is_refused(server, text):
    import socket

    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(text + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    serves(server)


def test_an_empty_gallery_has_no_results():
    with running(ListedGallery([]), stand_in()) as server:
        answer = server.client.get("api/search", params={"q": "a coat"})
        assert answer.status_code == 200
        assert answer.json()["results"] == [] and answer.json()["gallery_size"] == 0
        assert server.client.get("healthz").json()["ready"] is True


def test_a_gallery_that_refuses_a_query_says_why_and_the_next_is_answered(tmp_path):
    from cada_jax.common.errors import UsageError

    def search(queries, gallery):
        if any(query.texts == ("bad",) for query in queries):
            raise UsageError("bad is refused")
        return [[] for _ in queries]

    gallery = ListedGallery([write_picture(tmp_path / "a.png")])
    with running(gallery, stand_in(search)) as server:
        refused(server.client.get("api/search?q=bad"), 503, "bad is refused")
        assert server.client.get("api/search?q=good").status_code == 200


def test_a_fault_of_the_program_is_a_500_that_tells_nothing(tmp_path, caplog):
    def search(queries, gallery):
        raise RuntimeError("secret path")

    gallery = ListedGallery([write_picture(tmp_path / "a.png")])
    with running(gallery, stand_in(search)) as server:
        refused(server.client.get("api/search?q=coat"), 500, "the server failed")
        assert server.client.get("api/gallery").status_code == 200
    assert "secret path" in caplog.text


def test_uploaded_pixels_reach_the_search_in_the_size_of_the_network(tmp_path):
    seen = []

    def search(queries, gallery):
        seen.extend(query.like for query in queries)
        return [[] for _ in queries]

    gallery = ListedGallery([write_picture(tmp_path / "a.png")])
    data = (tmp_path / "a.png").read_bytes()
    with running(gallery, stand_in(search), image_size=(96, 48)) as server:
        seen.clear()  # of what was compiled ahead
        answer = server.client.post("api/search", files={"image": data}, data={"k": "3"})
        assert answer.json()["query"]["image"] is True and answer.json()["query"]["k"] == 3
    (image,) = seen
    assert image.shape == (96, 48, 3) and image.dtype == np.uint8
