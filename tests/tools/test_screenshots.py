"""Pictures of the page for the README."""

from PIL import Image

from tests.gallery.web.browser import require_installed
from tests.gallery.web.running import running, write_people
from tools import screenshots


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
        assert path.stat().st_size < 300_000, "what a README should load"
    assert sizes == {"search-wide.png": (1280, 860), "search-phone.png": (780, 1688)}
    assert "bytes" in capsys.readouterr().out
