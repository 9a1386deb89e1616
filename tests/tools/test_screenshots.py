"""Pictures of the page for the README."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from tests.gallery.web.browser import require_installed
from tests.gallery.web.running import running, write_people
from tools import screenshots


def test_a_picture_that_a_readme_should_not_load_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    with pytest.raises(UsageError, match="expected at most 300,000"):
        screenshots.save(Image.fromarray(noise), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_both_pictures_are_taken_of_a_running_page(tmp_path, capsys):
    require_installed()
    query = "a man in orange shorts and a pink shirt"
    gallery, stand_in = write_people(tmp_path / "people", [])
    with running(gallery, stand_in.device) as server:
        arguments = [f"--url={server.url}", f"--output={tmp_path / 'new'}", f"--query={query}"]
        assert screenshots.main(arguments) == 0
    sizes = {}
    for path in (tmp_path / "new").iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
            assert len(image.convert("RGB").getcolors(2**20) or []) > 50  # something is drawn
        assert path.stat().st_size < screenshots.MOST_BYTES
    assert sizes == {"search-wide.png": (1280, 860), "search-phone.png": (780, 1688)}
    assert "bytes" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_one_line(tmp_path, capsys):
    require_installed()
    assert screenshots.main(["--url=http://127.0.0.1:9/", f"--output={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(pathlib.Path(tmp_path).iterdir())
