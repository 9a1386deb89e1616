"""The page, the server and the shipped model together, on files of generated people."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from cada_jax.gallery.boxes import read_boxes
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.server.device import device_of
from cada_jax.gallery.server.tokens import Tokens
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.searchable import Picture
from tests.gallery.page.browser import RESULT, Browser
from tests.gallery.server.double import load_retriever, write_people
from tests.gallery.server.running import QUICK, running

QUERY = "a woman in a yellow coat with a black backpack"
ROOT = "/people"
SECRET = "open-sesame"
HOSTILE_NAME = "<b> & \"quoted\" 'x' %41 #?+;é.jpg"


@pytest.fixture(scope="module")
def retriever():
    return load_retriever()


@pytest.fixture(scope="module")
def gallery(retriever, tmp_path_factory):
    """Twelve people of two cameras, indexed: one in a hostile file, one in a wide scene."""
    folder = tmp_path_factory.mktemp("people")
    boxes = []
    for i, path in enumerate(write_people(folder, 12)):
        camera = folder / ("north", "south")[i % 2]
        camera.mkdir(exist_ok=True)
        path = path.rename(camera / (HOSTILE_NAME if i == 0 else path.name))
        with Image.open(path) as person:
            size, x = person.size, 0
            if i == 1:
                scene = Image.new("RGB", (200, 120), (150, 150, 140))
                scene.paste(person, (x := 120, 0))
                scene.save(path, quality=95)
        boxes.append({"image_id": path.name, "bbox": [x, 0, *size], "score": 0.9})
    (folder / "boxes.json").write_text(json.dumps(boxes))
    options = IndexOptions(
        boxes=read_boxes(str(folder / "boxes.json")), camera_pattern="/(north|south)/"
    )
    Gallery.index(folder / "people.db", [folder], retriever, options).close()
    with Gallery.open(folder / "people.db", retriever) as gallery:
        yield gallery


@pytest.fixture(scope="module")
def pictures(retriever, gallery) -> list[Picture]:
    """What is indexed, the picture of the wide scene first."""
    hits = retriever.search(Query(texts=("a man",), k=12), gallery)
    return sorted((hit.picture for hit in hits), key=lambda picture: -picture.width)


@pytest.fixture(scope="module")
def real(retriever, gallery):
    """A server below a root path that needs a token."""
    with running(
        gallery,
        device_of(retriever),
        limits=dataclasses.replace(QUICK, max_batch=1),
        image_size=tuple(retriever.config.data.image_size),
        root_path=ROOT,
        tokens=Tokens({"me": SECRET}),
        compile_ahead=False,
    ) as server:
        yield server


@pytest.fixture
def url(real, chromium: Browser):
    """The address of the page, in a browser that has the token's cookie."""
    chromium.patience = 60  # programs are compiled when they are first needed
    chromium.look()
    address = f"http://127.0.0.1:{real.port}{ROOT}/"
    chromium.forget(f"http://127.0.0.1:{real.port}")
    chromium.driver.get(f"{address}?token={SECRET}")
    chromium.one(".example")
    assert chromium.driver.current_url == address
    chromium.complaints()
    yield address
    assert not chromium.complaints()
    chromium.patience = Browser.patience


def test_the_page_shows_what_the_library_finds(chromium: Browser, url, retriever, gallery):
    chromium.fill("#q", QUERY, Keys.ENTER)
    chromium.results()
    hits = retriever.search(Query(texts=(QUERY,), k=20, rerank=32), gallery)
    ids = [e.get_attribute("data-id") for e in chromium.all(f"{RESULT} .open")]
    assert ids == [hit.picture.id for hit in hits]
    for name, hit in zip(chromium.names(), hits, strict=True):
        assert f"score {hit.score:.2f}".replace("-", "\u2212") in name
    assert any(HOSTILE_NAME in name for name in chromium.names())
    drawn = (
        "return [...document.querySelectorAll(arguments[0] + ' img')]"
        ".every(i => i.complete && i.naturalWidth)"
    )
    chromium.js("scrollTo(0, 1e6)")
    chromium.until(lambda: chromium.js(drawn, RESULT), "a drawn picture")


def test_filters_and_excluded_words_are_understood(chromium: Browser, url):
    chromium.driver.get(f"{url}?q=a+man&not=backpack&camera=north&since=2020-01-01")
    assert len(chromium.results()) == 6
    chromium.driver.get(f"{url}?q=a+man&until=2020-01-01")
    chromium.says("#notice", "No picture passes the filters")


def test_words_light_up_and_attributes_are_read(chromium: Browser, url, pictures):
    chromium.driver.get(f"{url}?q={QUERY.replace(' ', '+')}&picture={pictures[0].id}")
    chromium.one("#words button")
    words = chromium.all("#words button .word")
    assert [word.text for word in words] == QUERY.split()
    assert chromium.all("#words .meter")  # the shipped model has gates
    ActionChains(chromium.driver).move_to_element(words[4]).perform()
    chromium.says("#map-text", "“yellow” looks most at the")
    assert chromium.lit()
    words[9].click()
    average = chromium.drawn()
    Select(chromium.one("#layer-choice")).select_by_visible_text("Layer 1")
    chromium.until(lambda: chromium.drawn() != average)
    layer = chromium.drawn()
    Select(chromium.one("#head-choice")).select_by_visible_text("Head 1")
    chromium.until(lambda: chromium.drawn() != layer)
    reading = chromium.one(".readings").text
    assert "top" in reading and "%" in reading
    assert not chromium.faults()


def test_an_uploaded_picture_finds_itself(chromium: Browser, url, pictures):
    picture = pictures[5]
    chromium.all("#upload")[0].send_keys(picture.path)
    chromium.results()
    assert chromium.one(f"{RESULT} .open").get_attribute("data-id") == picture.id
    assert "score 1.00" in chromium.names()[0]


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("large.jpg", b"\xff\xd8\xff" + bytes(3_000_000), "That picture is too large"),
        ("paper.jpg", b"%PDF-1.7\n%%EOF", "That file is no picture"),
    ],
)
def test_what_is_no_fit_upload_is_refused(chromium: Browser, url, tmp_path, name, content, title):
    (tmp_path / name).write_bytes(content)
    chromium.all("#upload")[0].send_keys(str(tmp_path / name))
    chromium.says(".panel[role=alert]", title)


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("?q=%3F%21", "There is no word in that description"),
        (f"?q={'long+' * 500}", "The search was not understood"),
        (f"?like={'f' * 32}", "That picture is not in the gallery"),
        ("?q=coat&since=soon", "The search was not understood"),
    ],
)
def test_a_refusal_has_a_title_and_the_servers_sentence(chromium: Browser, url, address, title):
    chromium.driver.get(url + address)
    chromium.says(".panel[role=alert] h2", title)
    assert len(chromium.text(".panel[role=alert] p")) > 20


def test_a_browser_without_the_token_is_asked_for_it(chromium: Browser, url):
    chromium.driver.delete_all_cookies()
    chromium.driver.get(f"{url}?q=coat")
    chromium.fill("#token", "wrong", Keys.ENTER)
    chromium.says("#token-help", "does not take this token")
    chromium.fill("#token", SECRET, Keys.ENTER)
    chromium.results()
    assert SECRET not in chromium.driver.current_url


def test_a_file_deleted_after_indexing_is_told(chromium: Browser, url, pictures, tmp_path):
    shutil.move(pictures[7].path, tmp_path / "away")
    try:
        chromium.driver.get(f"{url}?q=coat&picture={pictures[7].id}")
        chromium.says("#words-notice", "The file is gone")
        chromium.until(lambda: "missing" in chromium.one("#stage").get_attribute("class"))
    finally:
        shutil.move(tmp_path / "away", pictures[7].path)


def test_the_documents_of_the_page_are_served(chromium: Browser, url):
    chromium.click("footer a")
    assert chromium.one("main h1").text == "Responsible use"
    chromium.driver.get(url)
    chromium.click("footer a[href=docs]")
    assert "/api/search" in chromium.one("body").text
