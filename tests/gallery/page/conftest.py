"""A browser and a server for every test of the page."""

import pathlib

import pytest
from PIL import Image

from tests.gallery.page import browser as browser_lib
from tests.gallery.page.browser import Browser
from tests.gallery.page.fake_gallery import HOSTILE
from tests.gallery.page.fake_server import Site, running


@pytest.fixture(scope="session")
def chromium():
    browser_lib.require_installed()
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def server():
    with running(HOSTILE) as site:
        yield site


@pytest.fixture
def site(server: Site):
    server.reset()
    yield server
    if server.hold:
        server.hold.set()


@pytest.fixture
def page(chromium: Browser, site: Site):
    """The page as a person finds it who comes for the first time."""
    chromium.look().forget(site.url)
    chromium.driver.get(site.url)
    chromium.one(".example")
    chromium.complaints()
    yield chromium
    chromium.online(True)
    assert not chromium.complaints()


@pytest.fixture
def picture_file(tmp_path) -> pathlib.Path:
    path = tmp_path / "me.png"
    Image.new("RGB", (48, 96), (200, 30, 30)).save(path)
    return path
