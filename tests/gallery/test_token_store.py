"""Image tokens on disk: what is written is read again, what is damaged is noticed."""

import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.indexing import index
from cada_jax.gallery.token_store import TokenStore
from tests.gallery.tiny import tiny_retriever, write_pictures

KEYS = [f"{n:064x}" for n in range(3)]


def tokens(seed=0):
    return np.random.default_rng(seed).normal(size=(9, 32)).astype(ml_dtypes.bfloat16)


@pytest.fixture
def store(tmp_path):
    return TokenStore(tmp_path / "to kens#1")


def file_of(store, key):
    import pathlib

    return pathlib.Path(store.place) / key[:2] / key


def test_tokens_come_back_to_the_bit_in_any_order(store):
    written = {key: tokens(n) for n, key in enumerate(KEYS)}
    store.write(written)
    found = store.read([KEYS[2], KEYS[0], "f" * 64])
    assert found[2] is None and found[0].dtype == ml_dtypes.bfloat16
    assert found[0].tobytes() == written[KEYS[2]].tobytes()
    assert found[1].tobytes() == written[KEYS[0]].tobytes()
    assert store.keys() == set(KEYS)


def test_other_numbers_are_rounded_to_bfloat16(store):
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    store.write({KEYS[0]: array})
    np.testing.assert_allclose(store.read(KEYS[:1])[0].astype(np.float32), array, rtol=2**-8)


def test_removed_tokens_are_gone_from_the_disk_and_unknown_ones_are_ignored(store):
    store.write({key: tokens() for key in KEYS})
    store.remove([KEYS[0], "e" * 64])
    assert not file_of(store, KEYS[0]).exists() and store.keys() == set(KEYS[1:])


def test_files_of_others_are_neither_listed_nor_touched(store):
    store.write({KEYS[0]: tokens()})
    other = file_of(store, KEYS[0]).with_name("notes.txt")
    other.write_text("x")
    assert store.keys() == {KEYS[0]}
    store.remove(store.keys())
    assert other.exists()


@hypothesis.given(st.data())
def test_any_damaged_byte_and_any_cut_is_noticed(tmp_path_factory, data):
    store = TokenStore(tmp_path_factory.mktemp("store"))
    store.write({KEYS[0]: tokens()})
    path = file_of(store, KEYS[0])
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        flipped = bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
    assert store.read(KEYS[:1]) == [None]


@pytest.mark.parametrize("place", ["nonsense://x", "gs://", "s3://"])
def test_a_place_that_is_unknown_is_refused(place):
    with pytest.raises(UsageError, match="expected a folder or a bucket's URL"):
        TokenStore(place)


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = TokenStore(tmp_path / "file" / "tokens")
    with pytest.raises(UsageError, match="image tokens could not be written") as caught:
        store.write({KEYS[0]: tokens()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:-1], lambda d: d[:-1] + b"\7"])
def test_damaged_tokens_are_computed_again_with_the_model_and_are_one_error_without(
    tmp_path, damage
):
    write_pictures(tmp_path / "photos", ["a.png", "b.png"])
    retriever = tiny_retriever()
    index(tmp_path / "db", [tmp_path / "photos"], retriever, IndexOptions())
    path = next((tmp_path / "db/tokens").rglob("*/*"))
    path.write_bytes(damage(path.read_bytes()))
    with Gallery.open(tmp_path / "db") as gallery:
        pictures = gallery.all_pictures()
        with pytest.raises(UsageError, match="not stored or damaged: open the gallery with its"):
            gallery.tokens_of(pictures)
    with Gallery.open(tmp_path / "db", retriever) as gallery:
        paths = [picture.path for picture in pictures]
        expected = retriever.encode_images(paths).tokens
        np.testing.assert_allclose(gallery.tokens_of(pictures), expected, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("module", ["pymilvus", "milvus_lite", "tensorstore"])
def test_a_missing_extra_is_one_line(tmp_path, module):
    write_pictures(tmp_path / "photos", ["a.png"])
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from cada_jax.gallery.commands import forget, index\n"
        "from cada_jax.gallery.place import make_folder, place_of\n"
        "from cada_jax.gallery.token_store import TokenStore\n"
        "from cada_jax.gallery.vectors import Vectors\n"
        "from cada_jax.common.command_line import run_command\n"
        "def use():\n"
        "    TokenStore(sys.argv[1] + '/tokens')\n"
        "    make = place_of(sys.argv[1])\n"
        "    make_folder(make.folder)\n"
        "    Vectors(make)\n"
        "    return 0\n"
        "sys.exit(run_command(use))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "db")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2 and len(ran.stderr.splitlines()) == 1
    assert f"{module} is not installed" in ran.stderr
    assert "pip install 'cada_jax[search]'" in ran.stderr
