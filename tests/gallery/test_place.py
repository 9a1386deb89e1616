"""Where a gallery lies: what `--db` may say, whose folder it is."""

import json

import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.place import MARKER, check_folder, make_folder, place_of, require_gallery


@pytest.mark.parametrize(
    "db, uri, collection",
    [
        ("http://localhost:19530", "http://localhost:19530", "pictures"),
        ("https://u:p@host/x#people_2", "https://u:p@host/x", "people_2"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1", "pictures"),
    ],
)
def test_an_address_is_a_server(db, uri, collection):
    place = place_of(db)
    assert (place.uri, place.collection, place.folder) == (uri, collection, None)


@pytest.mark.parametrize("name", ["people.db", "a b", "100%#?+;.db", "日本.db", "http:"])
def test_anything_else_is_a_folder(tmp_path, name):
    place = place_of(tmp_path / name)
    assert place.folder == tmp_path / name and place.name == str(tmp_path / name)


@pytest.mark.parametrize(
    "db, says",
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("gs://bucket/x", "'gs' is neither"),
        ("http://", "no host"),
        ("http://#x", "no host"),
        ("http://host#no-name", "names no collection"),
        ("http://host#1", "names no collection"),
        ("http://host#ä", "names no collection"),
        ("http://host:port", "port"),
        ("http://host:99999999", "Port"),
        ("http://[::1", "no address"),
    ],
)
def test_a_senseless_address_is_refused(db, says):
    with pytest.raises(UsageError, match=says):
        place_of(db)


def test_a_password_is_not_shown():
    place = place_of("https://user:secret@host:1/x")
    assert "secret" not in place.name and place.shown_uri == "https://host:1/x"


def test_a_new_path_and_an_empty_folder_may_become_a_gallery(tmp_path):
    assert not check_folder(tmp_path / "new") and not check_folder(tmp_path)
    with pytest.raises(MissingFileError, match="there is no gallery. Make one"):
        require_gallery(place_of(tmp_path))
    make_folder(tmp_path / "new")
    assert check_folder(tmp_path / "new")


def test_a_folder_that_holds_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="found a folder with thesis.tex. Nothing was touched"):
        check_folder(tmp_path)
    with pytest.raises(UsageError, match="found no folder"):
        check_folder(tmp_path / "thesis.tex")


def test_a_folder_whose_making_was_killed_may_become_a_gallery(tmp_path):
    (tmp_path / f".{MARKER}.4711.partial").write_text("")
    assert not check_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", "null", "\ud800"])
def test_a_damaged_mark_is_refused(tmp_path, text):
    (tmp_path / MARKER).write_text(text, errors="surrogatepass")
    with pytest.raises(UsageError, match="reading it failed"):
        check_folder(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path / MARKER).write_text(json.dumps({"format": 2}))
    with pytest.raises(UsageError, match="format 2, and this version reads 1"):
        check_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a place for a gallery"):
        make_folder(tmp_path / "file" / "db")
