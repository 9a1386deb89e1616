"""`cada maps`: figures and arrays of what words look at, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from cada_jax.data.datasets.synthetic import people
from cada_jax.gallery.commands import maps
from tests.gallery.in_memory import load_small_model

TEXT = "a man in $100$ brownish trousers"


@pytest.fixture(scope="module")
def retriever():
    return load_small_model()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "a man.jpg"
    path.write_bytes(next(people.generate(people.VARIANTS["tiny"], "test")).jpeg)
    return path


@pytest.fixture
def run(retriever, photo):
    """A function: flags -> exit code."""

    def call(*flags):
        flags = ["--model=unused", f"--image={photo}", *flags]
        try:
            return maps.main(flags, retriever)
        except SystemExit as e:
            return e.code

    return call


def test_arrays_have_the_names_that_are_documented(run, retriever, tmp_path):
    out = tmp_path / "maps.npz"
    assert run(TEXT, f"--out={out}") == 0
    with np.load(out) as file:
        assert set(file.files) == {"words", "maps", "weights", "gates", "caption", "cada_jax"}
        words = file["words"].tolist()
        assert words == ["a", "man", "in", "$", "100", "$", "brownish", "trousers"]
        assert file["weights"].shape == (8, 2, 3, 12, 3) and file["gates"].shape == (8, 2)
        assert str(file["cada_jax"]) == retriever.digest and str(file["caption"]) == TEXT
        mean = file["maps"]
    for name in file.files:
        assert f"{name} " in maps.__doc__ or name in ("caption", "cada_jax")
    one = tmp_path / "one.npz"
    assert run(TEXT, f"--out={one}", "--layer=1", "--head=0") == 0
    with np.load(one) as file:
        np.testing.assert_array_equal(file["maps"], file["weights"][:, 1, 0])
        assert np.abs(file["maps"] - mean).max() > 1e-3


def test_a_png_has_a_tile_for_every_word_and_layer(run, tmp_path):
    sizes = []
    for flags in ((), ("--per_layer",)):
        out = tmp_path / f"maps{len(sizes)}.png"
        assert run(TEXT, f"--out={out}", *flags) == 0
        with Image.open(out) as picture:
            sizes.append(picture.size)
            assert np.asarray(picture.convert("L")).std() > 20
    assert sizes[0][0] == sizes[1][0] and sizes[1][1] > 1.7 * sizes[0][1]


def test_a_pdf_is_drawn_with_paths_and_text(run, tmp_path):
    out = tmp_path / "maps.pdf"
    assert run("a man", f"--out={out}") == 0
    data = out.read_bytes()
    assert data.startswith(b"%PDF") and b"/CIDFontType2" in data


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--out=maps.gif", "a man"], "ends in .png or .pdf or .npz"),
        (["--out=m.png", "..."], "expected at least one word"),
        (
            ["--out=m.png", "a man", "--image=none.jpg"],
            "none.jpg: expected a picture",
        ),
        (["--out=m.png", "a man", "--layer=2"], "layer is 2, expected 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, tmp_path, monkeypatch, flags, part):
    monkeypatch.chdir(tmp_path)
    assert run(*flags) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and part in err
    assert not list(tmp_path.iterdir())
