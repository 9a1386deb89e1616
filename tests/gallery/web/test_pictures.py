"""Pictures are served by id, as they were indexed, with a line of the audit log for each."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.gallery.audit import AuditLog
from tests.gallery.web.running import (
    ListedGallery,
    StandIn,
    lines,
    record_of,
    running,
    write_picture,
)

ODD_NAMES = [
    "%2e%2e #1 what?.png",
    "line\nbreak.png",
    "Zoë 東京 🧥.png",
    os.fsdecode(b"\xff\xfe.png"),
]


def shown(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return np.asarray(image)


def test_a_file_of_any_name_is_found_and_shown(tmp_path):
    gallery = ListedGallery([write_picture(tmp_path / name) for name in ODD_NAMES])
    with running(gallery, StandIn().device) as server:
        results = server.client.get("api/search?q=coat").json()["results"]
        names = [os.fsencode(name).decode("utf-8", "replace") for name in ODD_NAMES]
        assert [result["name"] for result in results] == names
        for result in results:
            record = server.client.get(f"api/pictures/{result['id']}").json()
            assert record.items() <= result.items()
            thumbnail = server.client.get(f"api/pictures/{result['id']}/thumbnail")
            assert thumbnail.headers["content-type"] == "image/jpeg"
            assert shown(thumbnail.content).shape == (60, 40, 3)


def test_a_thumbnail_shows_the_box_and_the_image_the_scene(tmp_path):
    scene = np.full((1000, 2000, 3), 250, np.uint8)
    scene[:900, 1000:1300] = 40
    Image.fromarray(scene).save(tmp_path / "scene.png")
    person = record_of(tmp_path / "scene.png", (1000, 0, 300, 900))
    with running(ListedGallery([person]), StandIn().device) as server:
        small = shown(server.client.get(f"api/pictures/{person.id}/thumbnail").content)
        assert small.shape == (320, 107, 3) and abs(small.mean() - 40) < 2
        whole = shown(server.client.get(f"api/pictures/{person.id}/image").content)
        assert whole.shape == (800, 1600, 3)


def test_a_browser_that_has_it_gets_no_bytes(gallery):
    (id,) = gallery.pictures
    with running(gallery, StandIn().device) as server:
        for kind in ("thumbnail", "image"):
            first = server.client.get(f"api/pictures/{id}/{kind}")
            assert first.headers["cache-control"].startswith("private")
            same = {"If-None-Match": first.headers["etag"]}
            again = server.client.get(f"api/pictures/{id}/{kind}", headers=same)
            assert again.status_code == 304 and not again.content


def delete(path):
    path.unlink()


def replace_by_other_pixels_of_the_same_size_and_time(path):
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_link(path):
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = [
    delete,
    replace_by_other_pixels_of_the_same_size_and_time,
    replace_by_a_link,
    replace_by_a_pipe,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_another_one_by_now_is_not_shown(tmp_path, gallery, change):
    (id,) = gallery.pictures
    with running(gallery, StandIn().device) as server:
        address = f"api/pictures/{id}"
        tag = server.client.get(f"{address}/thumbnail").headers["etag"]
        change(tmp_path / "a.png")
        for part in ("thumbnail", "image", "association?q=coat", "attributes"):
            answer = server.client.get(f"{address}/{part}", headers={"If-None-Match": tag})
            assert answer.status_code == 410, part
            assert "a.png" in answer.json()["error"]
        assert server.client.get(address).status_code == 200  # the record is still in the index


def test_whatever_is_shown_has_its_line_and_without_a_line_nothing_is_shown(tmp_path, gallery):
    """A full disk stands here for every reason: the file's place was taken by a folder."""
    (id,) = gallery.pictures
    path = tmp_path / "audit.jsonl"
    events = {
        "search": "search?q=coat",
        "record": f"pictures/{id}",
        "thumbnail": f"pictures/{id}/thumbnail",
        "image": f"pictures/{id}/image",
        "association": f"pictures/{id}/association?q=coat",
        "attributes": f"pictures/{id}/attributes",
    }
    with running(gallery, StandIn().device, audit=AuditLog(path)) as server:
        for address in events.values():
            assert server.client.get(f"api/{address}").status_code == 200
        assert server.client.get(f"api/pictures/{'0' * 32}/image").status_code == 404
        entries = lines(path)
        assert [entry["event"] for entry in entries] == list(events)
        assert all(entry["ids"] == [id] for entry in entries)
        assert entries[0]["query"]["texts"] == ["coat"] and entries[4]["q"] == "coat"
        path.unlink()
        path.mkdir()
        for address in events.values():
            answer = server.client.get(f"api/{address}")
            assert answer.status_code == 503 and "audit log cannot be written" in answer.text
        assert server.client.get("healthz").json()["state"] == "no audit log"
        path.rmdir()
        assert server.client.get("api/search?q=coat").status_code == 200
        assert server.client.get("healthz").status_code == 200


def test_words_and_attributes_are_those_of_the_model_and_its_refusals_too(gallery):
    (id,) = gallery.pictures
    stand_in = StandIn()

    def read(pixels):
        raise UsageError("this model cannot read attributes")

    with running(gallery, stand_in.device) as server:
        ask = lambda query: server.client.get(f"api/pictures/{id}/association{query}")  # noqa: E731
        assert [token["word"] for token in ask("?q=a+coat").json()["tokens"]] == ["a", "coat"]
        for query in (
            "",
            "?q=" + "a" * 2001,
            "?q=coat&layer=-1",
            "?q=coat&head=x",
            "?q=coat&layer=9",
        ):
            assert ask(query).status_code == 422, query
        assert server.client.get(f"api/pictures/{id}/attributes").json()["readings"]
    with running(gallery, stand_in.device._replace(read=read)) as server:
        answer = server.client.get(f"api/pictures/{id}/attributes")
        assert answer.status_code == 501 and "cannot read" in answer.json()["error"]
