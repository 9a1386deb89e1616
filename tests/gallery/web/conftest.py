"""A browser and servers for the tests of the web package."""

import pytest

from tests.gallery.web import browser as browser_lib
from tests.gallery.web.running import ListedGallery, StandIn, running, write_people, write_picture

# What a name of a file can do to a page.
HOSTILE = [
    "<img src=x onerror=document.title='owned'>.jpg",
    "a&b \"quoted\" 'single' %41 #?+;.jpg",
    "two\nlines \u202egpj.jpg",
]


@pytest.fixture
def gallery(tmp_path) -> ListedGallery:
    """One picture in a file of its own."""
    return ListedGallery([write_picture(tmp_path / "a.png")])


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Sixty people, and a device that finds them by the words of their captions."""
    return write_people(tmp_path_factory.mktemp("people"), HOSTILE)


@pytest.fixture(scope="session")
def server(people):
    gallery, stand_in = people
    with running(gallery, stand_in.device) as server:
        yield server


@pytest.fixture
def device(people) -> StandIn:
    """What `server` computes with, as at the start."""
    _, stand_in = people
    stand_in.asked.clear()
    yield stand_in
    if stand_in.hold:
        stand_in.hold.set()
    stand_in.hold, stand_in.raises = None, []


@pytest.fixture(scope="session")
def chromium():
    browser_lib.require_installed()
    browser = browser_lib.Browser()
    yield browser
    browser.close()
