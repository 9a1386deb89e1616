"""Pictures are served by id, as they were indexed, and made small once."""

import concurrent.futures
import io
import os

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.gallery.server import answers, pictures
from cada_jax.gallery.server.problems import Problem
from tests.gallery.server.running import (
    ListedGallery,
    recorded,
    running,
    stand_in,
    until,
    write_picture,
)

ODD_NAMES = [
    "100%.png",
    "%2e%2e.png",
    "#1.png",
    "what?.png",
    "a+b;c.png",
    'it\'s "quoted".png',
    " blanks  around .png",
    "line\nbreak.png",
    "tab\t.png",
    "Zoë 東京 🧥.png",
    "<script>alert(1)</script>.png".replace("/", "_"),
    os.fsdecode(b"not utf-8 \xff\xfe.png"),
]


def shown(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return np.asarray(image)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_is_found_and_shown(tmp_path, name):
    picture = write_picture(tmp_path / name)
    with running(ListedGallery([picture]), stand_in()) as server:
        (result,) = server.client.get("api/search", params={"q": "coat"}).json()["results"]
        assert result["name"] == answers.readable(name)
        record = server.client.get(f"api/pictures/{result['id']}").json()
        assert record.items() <= result.items()
        thumbnail = server.client.get("api/" + result["thumbnail"])
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert shown(thumbnail.content).shape == (60, 40, 3)
        assert server.client.get(f"api/pictures/{result['id']}/image").status_code == 200


def test_a_thumbnail_shows_the_box_and_the_image_the_scene(tmp_path):
    path = tmp_path / "scene.png"
    scene = write_picture(path, size=(2000, 1000))
    person = recorded(path, (1000.0, 0.0, 300.0, 900.0), (2000, 1000))
    with running(ListedGallery([person]), stand_in()) as server:
        small = shown(server.client.get(f"api/pictures/{person.id}/thumbnail").content)
        assert small.shape == (320, 107, 3)
        assert abs(small.mean() - 90) < 2  # the box lies in the half of one colour
        assert shown(server.client.get(f"api/pictures/{person.id}/image").content).shape == (
            (800, 1600, 3)
        )
    assert scene.id != person.id


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((0, 0, 40, 60), (60, 40)),
        ((10.4, 20.6, 8.2, 9.8), (11, 9)),
        ((-5, -5, 20, 20), (15, 15)),
        ((30, 50, 100, 100), (10, 10)),
    ],
)
def test_a_box_is_cut_out_within_the_scene(tmp_path, box, shape):
    write_picture(tmp_path / "a.png")
    assert pictures.crop_of(recorded(tmp_path / "a.png", box)).shape == (*shape, 3)


def test_a_box_that_leaves_nothing_of_the_scene_is_gone(tmp_path):
    write_picture(tmp_path / "a.png")
    with pytest.raises(Problem, match="cannot be cut out") as raised:
        pictures.crop_of(recorded(tmp_path / "a.png", (500, 500, 10, 10)))
    assert raised.value.status == 410


def test_a_thumbnail_is_made_once_by_many_requests(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    with running(ListedGallery([picture]), stand_in()) as server:
        address = f"api/pictures/{picture.id}/thumbnail"
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda _: server.client.get(address).content, range(32)))
        assert len(set(found)) == 1
        assert server.services.thumbnails.made == 1


def test_a_thumbnail_lies_where_the_gallery_says_and_is_made_again_for_another_file(tmp_path):
    picture = write_picture(tmp_path / "a.png")

    class Kept(ListedGallery):
        def thumbnail_path(self, id: str):
            return tmp_path / "thumbs" / id[:2] / f"{id}.jpg"

    thumbnails = pictures.Thumbnails(Kept([picture]))
    first = thumbnails.read(picture)
    (file,) = (tmp_path / "thumbs").rglob("*.jpg")
    assert file.read_bytes() == first
    assert pictures.Thumbnails(Kept([picture])).read(picture) == first
    again = write_picture(tmp_path / "a.png", colour=10)
    os.utime(again.path, ns=(again.modified_ns + 10**9, again.modified_ns + 10**9))
    again = recorded(tmp_path / "a.png")
    assert thumbnails.read(again) != first and thumbnails.made == 2


def test_a_folder_that_takes_no_thumbnail_costs_only_time(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    (tmp_path / "file").touch()

    class Full(ListedGallery):
        def thumbnail_path(self, id: str):
            return tmp_path / "file" / f"{id}.jpg"

    thumbnails = pictures.Thumbnails(Full([picture]))
    assert thumbnails.read(picture) == thumbnails.read(picture)
    assert thumbnails.made == 2


def test_a_browser_that_has_it_gets_no_bytes(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    with running(ListedGallery([picture]), stand_in()) as server:
        for kind in ("thumbnail", "image"):
            address = f"api/pictures/{picture.id}/{kind}"
            first = server.client.get(address)
            assert first.headers["cache-control"].startswith("private")
            same = {"If-None-Match": first.headers["etag"]}
            again = server.client.get(address, headers=same)
            assert again.status_code == 304 and not again.content
            other = server.client.get(address, headers={"If-None-Match": '"other"'})
            assert other.content == first.content


def delete(path):
    path.unlink()


def replace_by_other_pixels(path):
    write_picture(path, colour=17)
    os.utime(path, (1, 1))


def replace_by_text(path):
    path.write_text("root:x:0:0")


def replace_by_a_link(path):
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def lock_away(path):
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize(
    "change",
    [
        delete,
        replace_by_other_pixels,
        replace_by_text,
        replace_by_a_link,
        replace_by_a_folder,
        replace_by_a_pipe,
        lock_away,
    ],
)
def test_a_file_that_is_another_one_by_now_is_not_shown(tmp_path, change):
    (tmp_path / "in").mkdir()
    picture = write_picture(tmp_path / "in" / "a.png")
    with running(ListedGallery([picture]), stand_in()) as server:
        address = f"api/pictures/{picture.id}"
        tag = server.client.get(f"{address}/thumbnail").headers["etag"]
        change(tmp_path / "in" / "a.png")
        for part in ("thumbnail", "image", "association?q=coat", "attributes"):
            answer = server.client.get(f"{address}/{part}", headers={"If-None-Match": tag})
            assert answer.status_code == 410, part
            assert "'a.png'" in answer.json()["error"]
            assert "index its folder again" in answer.json()["error"]
            assert str(tmp_path) not in answer.json()["error"]
        assert server.client.get(address).status_code == 200  # the record is still in the index


def test_a_file_that_was_only_touched_is_shown(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", (1, 1))
    assert pictures.crop_of(picture).shape == (60, 40, 3)


def test_a_file_that_cannot_be_decoded_any_more_is_gone(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(Problem, match="cannot be decoded") as raised:
        pictures.scene_of(recorded(tmp_path / "a.png"))
    assert raised.value.status == 410


def test_words_and_attributes_of_a_picture_are_read_from_its_box(tmp_path):
    write_picture(tmp_path / "a.png")
    person = recorded(tmp_path / "a.png", (20, 0, 10, 30))
    with running(ListedGallery([person]), stand_in()) as server:
        address = f"api/pictures/{person.id}"
        found = server.client.get(f"{address}/association", params={"q": "a coat"}).json()
        assert found["grid"] == [30, 10]
        assert [token["word"] for token in found["tokens"]] == ["a", "coat"]
        read = server.client.get(f"{address}/attributes").json()
        assert read == {
            "readings": [{"part": "top", "words": [{"word": "black", "probability": 0.5}]}]
        }


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?q=", 422),
        ("?q=...", 422),
        ("?q=" + "a" * 2001, 400),
        ("?q=coat&layer=-1", 400),
        ("?q=coat&layer=x", 400),
        ("?q=coat&head=1.5", 400),
    ],
)
def test_an_association_of_no_description_is_refused(tmp_path, query, status):
    picture = write_picture(tmp_path / "a.png")
    with running(ListedGallery([picture]), stand_in()) as server:
        answer = server.client.get(f"api/pictures/{picture.id}/association{query}")
        assert answer.status_code == status and list(answer.json()) == ["error"]


def test_a_layer_that_the_model_has_not_is_refused(tmp_path):
    def associate(pixels, text, layer, head):
        raise UsageError(f"layer is {layer}, expected 0 to 1")

    picture = write_picture(tmp_path / "a.png")
    device = stand_in()._replace(associate=associate)
    with running(ListedGallery([picture]), device) as server:
        answer = server.client.get(f"api/pictures/{picture.id}/association?q=coat&layer=9")
        assert answer.status_code == 400 and "layer is 9" in answer.json()["error"]


def test_a_model_that_reads_no_attributes_says_so(tmp_path):
    def read(pixels):
        raise UsageError("this model cannot read attributes")

    picture = write_picture(tmp_path / "a.png")
    with running(ListedGallery([picture]), stand_in()._replace(read=read)) as server:
        answer = server.client.get(f"api/pictures/{picture.id}/attributes")
        assert answer.status_code == 501 and "cannot read" in answer.json()["error"]
        until(lambda: server.client.get("healthz").status_code == 200)
