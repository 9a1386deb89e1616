"""The page in a real browser: what a person does with it, in order, and what it says."""

import re
import shutil
import threading

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from cada_jax.gallery.web.app import STATIC
from cada_jax.gallery.web.auth import Tokens
from tests.gallery.web.browser import RESULT, Browser, go
from tests.gallery.web.conftest import HOSTILE
from tests.gallery.web.running import ListedGallery, StandIn, running
from tools.screenshots import PHONE, WIDE

QUERY = "a man in orange shorts and a pink shirt"
ADDRESS = "?q=a+man+in+orange+shorts+and+a+pink+shirt"
WORD = "#words button:nth-child(2)"


@pytest.fixture
def page(chromium: Browser, server, device):
    """The page as a person finds it who comes for the first time."""
    chromium.look().forget(server.url)
    chromium.driver.get(server.url)
    chromium.one(".example")
    chromium.complaints()
    yield chromium
    chromium.online(True)
    assert not chromium.complaints()


@pytest.fixture
def scene(server) -> str:
    """The id of a person in a wide scene."""
    pictures = server.services.gallery.pictures.values()
    return next(picture.id for picture in pictures if picture.box)


def test_a_person_searches_narrows_looks_and_goes_back(page: Browser, server, device):
    page.fill("#q", QUERY, Keys.ENTER)
    assert len(page.results()) == 20
    scores = [float(e.text.replace("\u2212", "-")) for e in page.all(f"{RESULT} .rank strong")]
    assert scores == sorted(scores, reverse=True)
    assert page.names()[0].startswith(f"Result 1, score {scores[0]:.2f}: ")
    page.says("#status", "20 results")
    assert page.driver.current_url == server.url + ADDRESS
    before = page.names()

    folder = Select(page.one("[name=folder]"))
    assert [option.text for option in folder.options] == [
        *("All folders", "park", "station", "station/north")
    ]
    folder.select_by_visible_text("park")
    page.until(lambda: page.names() and page.names() != before)
    Select(page.one("[name=camera]")).select_by_visible_text("North gate")
    page.says("#filter-count", "2 set")
    page.until(lambda: len(page.names()) == 10)
    page.driver.back()
    page.driver.back()
    page.until(lambda: page.names() == before)
    page.driver.forward()
    page.says("#filter-count", "1 set")
    page.click("#clear-filters")
    page.until(lambda: page.names() == before)

    page.fill("#cutoff-number", f"{scores[4]:.2f}", Keys.ENTER)
    page.says("#below-title", "Below your cut-off of ")
    above, below = page.all("#above .card"), page.all("#below .card")
    assert len(above) + len(below) == 20 and above and below
    page.says("#status", f"{len(above)} above the line")
    asked = len(device.asked)
    page.driver.refresh()
    page.until(lambda: len(page.all("#below .card")) == len(below))
    assert len(device.asked) == asked + 1  # a cut-off asks the server nothing
    page.click("#cutoff-clear")
    page.until(lambda: not page.all("#below .card"))

    page.all(f"{RESULT} .open")[2].click()
    page.one("#detail[open]")
    page.until(lambda: page.focused() == "detail-title")
    page.driver.back()
    page.until(lambda: page.focused() == before[2])
    page.all(f"{RESULT} .open")[2].click()
    page.click("#next")
    page.says("#detail-score", "Result 4 ")
    page.click("#detail-like")
    page.one("#basis img")
    page.until(lambda: "like=" in page.driver.current_url and "q=" not in page.driver.current_url)
    page.says("#basis", "Results resemble this picture")
    page.fill("#q", "orange", Keys.ENTER)
    page.says("#basis", "ordered by your words")
    page.driver.back()
    page.driver.back()
    page.until(lambda: page.one("#detail[open]"))
    page.press(Keys.ESCAPE)
    page.until(lambda: page.names() == before)


def test_more_results_are_loaded_page_by_page_and_those_alike_alone_are_told_apart(
    page: Browser, server, device
):
    go(page, server.url, ADDRESS)
    page.click("#more")
    page.until(lambda: len(page.names()) == 40)
    page.until(lambda: page.focused().startswith("Result 21,"))
    page.click("#more")
    page.until(lambda: len(page.names()) == 60)
    assert [(query.offset, query.k) for query in device.asked] == [(0, 20), (20, 20), (40, 20)]
    assert len({query.rerank for query in device.asked}) == 1  # or the pages would not fit
    assert page.text("#below-title") == "By likeness alone: 20 results"
    names = page.names()
    page.driver.refresh()
    page.until(lambda: page.names() == names)


def test_phrasings_excluded_words_and_pictures_are_part_of_the_query(
    page: Browser, server, device, tmp_path
):
    page.fill("#q", QUERY)
    page.click("#add-phrasings")
    page.press("somebody in bright shorts")
    page.click("#add-excluded")
    page.press("umbrella", Keys.ENTER)
    page.results()
    page.driver.refresh()
    page.results()
    values = [e.get_attribute("value") for e in page.all("#ask .row input")]
    assert values == ["somebody in bright shorts", "umbrella"]
    assert device.asked[-1].texts[1] == values[0] and device.asked[-1].exclude == ("umbrella",)
    page.click("[aria-label='Remove excluded words 1']")
    Image.new("RGB", (48, 96), (200, 30, 30)).save(tmp_path / "me.png")
    page.all("#upload")[0].send_keys(str(tmp_path / "me.png"))
    page.until(lambda: device.asked[-1].like is not None and not device.asked[-1].exclude)
    page.says("#basis", "Pictures near your picture, ordered by your words")
    page.click("[aria-label='Search without this picture']")
    page.until(lambda: device.asked[-1].like is None)
    page.driver.back()  # the picture is still known to this page
    page.until(lambda: device.asked[-1].like is not None)
    drop = """
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], "d.png", {type: "image/png"}));
        for (const kind of ["dragover", "drop"])
          document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
    """
    count = len(device.asked)
    page.js(drop, list((tmp_path / "me.png").read_bytes()))
    page.until(lambda: len(device.asked) > count)


def test_a_word_lights_its_patches_and_layers_have_maps_of_their_own(page: Browser, server, scene):
    go(page, server.url, f"{ADDRESS}&picture={scene}", WORD)
    words = page.all("#words button")
    assert [w.find_element(By.CLASS_NAME, "word").text for w in words] == QUERY.split()
    assert not page.lit()
    ActionChains(page.driver).move_to_element(words[3]).perform()
    page.says("#map-text", "“orange” looks most at the")
    assert page.lit()
    words[1].click()
    ActionChains(page.driver).move_to_element(page.one("#detail-title")).perform()
    page.says("#map-text", "“man” looks most")
    average, gate = page.drawn(), page.text(f"{WORD} .value")
    Select(page.one("#layer-choice")).select_by_visible_text("Layer 2")
    page.until(lambda: page.drawn() != average)
    assert page.text(f"{WORD} .value") != gate and page.all("#words [aria-pressed=true]")
    wide = page.one("#stage").size
    page.click("#view-person")
    person = page.one("#stage").size
    assert person["height"] > person["width"] and wide["width"] > wide["height"]
    assert page.one(".readings").text.split() == "top black 83 % grey 9 %".split()
    page.fill("#explain-text", "yellow trainers", Keys.ENTER)
    page.until(lambda: len(page.all("#words button")) == 2)


def test_the_keyboard_alone_searches_opens_explains_and_closes(page: Browser, server):
    page.press("/")
    assert page.focused() == "q"
    page.press(QUERY, Keys.ENTER)
    page.results()
    page.tab_to("cutoff")
    page.press(Keys.ARROW_RIGHT * 5)
    page.until(lambda: "min_score=" in page.driver.current_url)
    page.tab_to("Result 1,")
    page.press(Keys.ARROW_RIGHT)
    assert page.focused().startswith("Result 2,")
    page.press(Keys.ARROW_DOWN)
    assert not page.focused().startswith("Result 2,")
    page.press(Keys.ARROW_UP, Keys.ENTER)
    page.one("#words button")
    page.tab_to("a")  # the first word of the description
    page.until(page.lit)
    page.press(Keys.ARROW_RIGHT, Keys.SPACE)
    assert page.one("#words [aria-pressed=true]").text.startswith("man")
    page.press(Keys.ESCAPE)
    page.until(lambda: page.focused().startswith("Result 2,"))


def test_a_phone_and_a_narrow_window_have_room_for_everything(page: Browser, server, scene):
    page.look(PHONE)
    for where in (ADDRESS, f"{ADDRESS}&picture={scene}"):
        go(page, server.url, where, WORD if "picture" in where else RESULT)
        small = page.js(
            "return [...document.querySelectorAll('button, select, input, summary')].map(e => "
            "[e.id || e.textContent, e.getBoundingClientRect()]).filter(([, r]) => "
            "r.width > 2 && (r.height < 44 || r.width < 44)).map(([name]) => name)"
        )
        assert not small  # targets for a thumb
        for width in (640, 320):
            page.look((width, 600, 1))
            assert page.js("return document.documentElement.scrollWidth") <= width
            dialog = "const d = document.getElementById('detail');"
            assert page.js(f"{dialog} return d.scrollWidth - d.clientWidth") <= 0
        page.look(PHONE)
    lefts = "return [...document.querySelectorAll(arguments[0])].map(e => e.offsetLeft)"
    go(page, server.url, ADDRESS)
    assert len(set(page.js(lefts, RESULT))) == 1


@pytest.mark.parametrize(("size", "dark"), [(WIDE, False), (PHONE, True)], ids=["wide", "phone"])
def test_axe_finds_no_serious_fault(page: Browser, server, device, scene, size, dark):
    states = {
        "": ".example",
        f"{ADDRESS}&q=orange&not=umbrella&min_score=1": RESULT,
        f"?like={scene}": RESULT,
        f"{ADDRESS}&picture={scene}": ".readings",
        f"{ADDRESS}&since=2031-01-01": ".panel",
        f"?q={'long+' * 500}": ".panel[role=alert]",
    }
    page.look(size, dark)
    for address, ready in states.items():
        go(page, server.url, address, ready)
        if "picture=" in address:
            page.click(WORD)
        assert not page.faults(), address


def test_an_answer_that_was_overtaken_is_not_shown(page: Browser, device):
    device.hold = threading.Event()
    page.fill("#q", "purple", Keys.ENTER)
    page.one(".skeleton")
    page.until(lambda: device.asked)
    held, device.hold = device.hold, None
    page.fill("#q", QUERY, Keys.ENTER)
    held.set()
    page.results()
    first = page.names()
    page.driver.execute_async_script("fetch('api/gallery').then(() => arguments[0]())")
    assert page.names() == first and page.one("#q").get_attribute("value") == QUERY


def test_what_goes_wrong_is_told_with_the_servers_sentence(page: Browser, server, device, tmp_path):
    device.raises = [RuntimeError("not for eyes")]
    page.fill("#q", QUERY, Keys.ENTER)
    page.says(".panel[role=alert]", "Something went wrong")
    assert not page.all(RESULT)
    page.click(".panel button")  # again
    page.results()
    page.driver.get(f"{server.url}{ADDRESS}&since=soon")
    page.says(".panel[role=alert]", "since=")
    page.driver.get(f"{server.url}{ADDRESS}&since=2031-01-01")
    page.says("#notice", "No picture passes the filters you set")
    page.click(".panel button")
    page.results()
    (tmp_path / "paper.jpg").write_bytes(b"%PDF-1.7")
    page.all("#upload")[0].send_keys(str(tmp_path / "paper.jpg"))
    page.says(".panel[role=alert]", "That file is no picture")
    page.online(False)
    page.driver.back()
    page.says(".panel[role=alert]", "No connection")
    page.online(True)
    page.complaints()  # the browser's own word on the lost connection
    page.click(".panel button")
    page.results()


def test_a_file_that_is_gone_leaves_the_rest_usable(page: Browser, server, tmp_path):
    pictures = server.services.gallery.pictures.values()
    scene = [picture.id for picture in pictures if picture.box][-1]  # not in the browser's cache
    path = server.services.gallery.pictures[scene].path
    shutil.move(path, tmp_path / "away")
    try:
        go(page, server.url, f"{ADDRESS}&picture={scene}", "#attributes .panel")
        page.says("#words-notice", "The file is gone")
        page.until(lambda: "missing" in page.one("#stage").get_attribute("class"))
    finally:
        shutil.move(tmp_path / "away", path)
    page.click("#close")
    assert len(page.results()) == 20
    go(page, server.url, f"{ADDRESS}&picture={'f' * 32}", "#words-notice .panel")
    page.says("#words-notice", "That picture is not in the gallery")


def test_hostile_file_names_are_shown_and_do_nothing(page: Browser, server):
    go(page, server.url, "?q=zzz")  # without a matching word, the order is that of the records
    names = page.names()
    for shown in (*HOSTILE[:2], "two\ufffdlines \ufffdgpj.jpg"):
        assert any(shown in name for name in names)
    assert len(page.all(".meta .badge")) == sum("no good match" in name for name in names) == 19
    page.click(f"{RESULT} .open")
    page.says("#detail-title", HOSTILE[0])
    assert "owned" not in page.driver.title and not page.all("img[src=x]")


def test_a_needed_token_is_asked_for_and_stays_out_of_the_address(page: Browser, people):
    gallery, stand_in = people
    with running(gallery, stand_in.device, tokens=Tokens({"me": "open-sesame"})) as locked:
        go(page, locked.url, ADDRESS, "#token")
        page.fill("#token", "wrong", Keys.ENTER)
        page.says("#token-help", "does not take this token")
        page.fill("#token", "open-sesame", Keys.ENTER)
        page.results()
        assert page.driver.current_url == locked.url + ADDRESS
        page.driver.get("about:blank")  # its pictures are still on their way


def test_an_empty_gallery_tells_how_to_fill_it_and_what_its_model_knows(page: Browser):
    device = StandIn().device._replace(note="this model knows drawings only")
    with running(ListedGallery([]), device) as empty:
        for address in ("", ADDRESS):
            go(page, empty.url, address, ".panel:not(.plain)")
            page.says("#banner", "This model knows drawings only.")
            page.says("#notice", "cada index --model=MODEL --images=FOLDER --db=DB")


def test_groups_are_counted_and_unknown_words_are_named(page: Browser, server, device):
    go(page, server.url, "?q=an+orange+xoodie")
    page.says("#advice", "Not in the model's vocabulary: xoodie.")
    Select(page.one("[name=group]")).select_by_visible_text("one a minute")
    page.until(lambda: page.all(".card .others"))
    assert device.asked[-1].group == "minute" and "group=minute" in page.driver.current_url
    assert page.one(".card .others").text == "+ 4"
    assert page.names()[0].endswith(", and 4 more like it")


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_a_file_of_the_page_keeps_to_its_content_security_policy(name):
    text = (STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|[\"'(]//", text)  # nothing from elsewhere
    assert not re.search(r"[\"'(=]/(api|static|docs)\b", text)  # a root path comes before it
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|document\.write", text)
