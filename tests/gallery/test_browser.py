"""The page in a real browser: what a person sees and does."""

import os
import pathlib
import threading

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.gallery import browser as browser_lib
from tests.gallery.browser import PHONE, RESULT, Browser
from tests.gallery.fake_gallery import HOSTILE, PICTURES
from tests.gallery.fake_server import Site, running

QUERY = "a man in orange shorts and a pink shirt"
ADDRESS = "?q=a+man+in+orange+shorts+and+a+pink+shirt"
SCENE = f"{3:032x}"  # a record with a person's box


@pytest.fixture(scope="module")
def chromium():
    if browser_lib.installed() is None:
        reason = "chromium and chromedriver are not installed"
        if os.environ.get("CADA_CI"):
            pytest.fail(f"{reason}: apt-get install chromium chromium-driver")
        pytest.skip(reason)
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
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
    chromium.look()
    chromium.driver.get(site.url)
    chromium.js("localStorage.clear()")
    chromium.driver.delete_all_cookies()
    chromium.driver.get(site.url)
    chromium.one(".example")
    chromium.complaints()
    yield chromium
    chromium.online(True)
    assert not chromium.complaints()


def go(page: Browser, site: Site, address: str, ready: str = RESULT) -> None:
    page.driver.get(site.url + address)
    page.one(ready)


@pytest.fixture
def picture_file(tmp_path) -> pathlib.Path:
    path = tmp_path / "me.png"
    Image.new("RGB", (48, 96), (200, 30, 30)).save(path)
    return path


def test_a_typed_query_shows_its_results_best_first(page: Browser, site: Site):
    page.fill("#q", QUERY, Keys.ENTER)
    assert len(page.results()) == 20
    scores = [float(e.text) for e in page.all(f"{RESULT} .rank strong")]
    assert scores == sorted(scores, reverse=True)
    assert page.names()[0].startswith(f"Result 1, score {scores[0]:.2f}: ")
    page.says("#status", "20 results")
    assert page.driver.current_url == site.url + ADDRESS
    assert "rerank=32" in site.asked[-1]  # so every shown score is of one kind


def test_an_example_is_a_link_to_its_query(page: Browser):
    text = page.one(".example").text
    page.click(".example")
    page.results()
    assert page.one("#q").get_attribute("value") == text


def test_filters_narrow_the_results_and_back_undoes_them(page: Browser, site: Site):
    go(page, site, ADDRESS)
    before = page.names()
    Select(page.one("#folder")).select_by_value("/photos/park")
    page.until(lambda: page.names() and page.names() != before)
    assert "folder=%2Fphotos%2Fpark" in page.driver.current_url
    Select(page.one("#camera")).select_by_visible_text("North gate")
    page.says("#filter-count", "2 set")
    page.until(lambda: 0 < len(page.names()) < 20)
    few = len(page.names())
    page.driver.back()
    page.until(lambda: len(page.names()) > few)
    assert page.one("#camera").get_attribute("value") == ""
    page.driver.back()
    page.until(lambda: page.names() == before)
    page.driver.forward()
    page.says("#filter-count", "1 set")
    page.click("#clear-filters")
    page.until(lambda: page.names() == before)


def test_dates_are_sent_as_they_were_chosen(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&since=2026-03-01&until=2026-05-31")
    assert page.one("#since").get_attribute("value") == "2026-03-01"
    assert "since=2026-03-01&until=2026-05-31" in site.asked[-1]
    assert 0 < len(page.names()) < 20


def test_the_cut_off_dims_what_is_below_and_counts_it(page: Browser, site: Site):
    go(page, site, ADDRESS)
    scores = [float(e.text) for e in page.all(f"{RESULT} .rank strong")]
    asked = len(site.asked)
    page.fill("#cutoff-number", f"{scores[4]:.2f}")
    page.says("#below-title", f"Below your cut-off of {scores[4]:.2f}".rstrip("0"))
    above, below = page.all("#above .card"), page.all("#below .card")
    assert len(above) + len(below) == 20 and below
    assert f": {len(below)} result" in page.text("#below-title")
    page.says("#status", f"{len(above)} above your cut-off")
    assert "min_score=" in page.driver.current_url
    assert len(site.asked) == asked  # the server is not asked again
    page.driver.refresh()
    page.until(lambda: len(page.all("#below .card")) == len(below))
    page.one("#cutoff").send_keys(Keys.ARROW_RIGHT * 3)
    page.until(lambda: page.one("#cutoff").get_attribute("aria-valuetext") != "no cut-off")
    page.click("#cutoff-clear")
    page.until(lambda: not page.all("#below .card"))
    assert "min_score" not in page.driver.current_url


def test_phrasings_and_excluded_words_are_part_of_the_query(page: Browser, site: Site):
    page.fill("#q", QUERY)
    page.click("#add-phrasing")
    page.press("somebody in bright shorts")
    page.click("#add-excluded")
    page.press("umbrella", Keys.ENTER)
    page.results()
    assert "&q=somebody+in+bright+shorts&not=umbrella" in site.asked[-1]
    page.driver.refresh()
    page.results()
    values = [e.get_attribute("value") for e in page.all("#ask .row input")]
    assert values == ["somebody in bright shorts", "umbrella"]
    page.click("[aria-label='Remove excluded words 1']")
    page.fill("#q", QUERY, Keys.ENTER)
    page.until(lambda: "not=" not in page.driver.current_url)


def test_more_results_are_loaded_and_the_first_of_them_has_the_focus(page: Browser, site: Site):
    go(page, site, ADDRESS)
    page.click("#more")
    page.until(lambda: len(page.names()) == 40)
    page.until(lambda: page.focused().startswith("Result 21,"))
    assert "k=40" in page.driver.current_url and "rerank=40" in site.asked[-1]
    page.click("#more")
    page.until(lambda: len(page.names()) == PICTURES)


def test_more_like_this_searches_by_that_picture_and_back_returns(page: Browser, site: Site):
    go(page, site, ADDRESS)
    before = page.names()
    page.click(f"{RESULT} .like")
    page.one("#basis img")
    page.until(lambda: page.names() and page.names() != before)
    assert "like=" in page.driver.current_url and "q=" not in page.driver.current_url
    page.fill("#q", "orange", Keys.ENTER)
    page.until(lambda: "q=orange&like=" in page.driver.current_url)
    page.driver.back()
    page.driver.back()
    page.until(lambda: page.names() == before)
    assert not page.one("#ask").find_element(By.ID, "basis").is_displayed()


def test_an_uploaded_picture_is_searched_by_alone_and_with_words(
    page: Browser, site: Site, picture_file
):
    page.all("#upload")[0].send_keys(str(picture_file))
    page.results()
    assert page.one("#basis img").get_attribute("src").startswith("blob:")
    assert '"image": ["yes"]' in site.asked[-1] and '"q"' not in site.asked[-1]
    page.fill("#q", "orange", Keys.ENTER)
    page.until(lambda: '"q": ["orange"]' in site.asked[-1])
    page.click("[aria-label='Search without this picture']")
    page.until(lambda: site.asked[-1].startswith("/api/search?q=orange"))
    page.driver.back()  # the picture is still known to this page
    page.until(lambda: site.asked[-1].startswith("POST"))
    page.one("#basis img")


def test_a_dropped_picture_is_searched_by(page: Browser, site: Site, picture_file):
    page.js(
        """
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], "d.png", {type: "image/png"}));
        for (const kind of ["dragover", "drop"])
          document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
        """,
        list(picture_file.read_bytes()),
    )
    page.results()
    assert site.asked[-1].startswith("POST")


def test_a_word_lights_its_patches_while_pointed_at_and_stays_lit_when_pressed(
    page: Browser, site: Site
):
    go(page, site, f"{ADDRESS}&picture={SCENE}", "#words button")
    assert page.one("#box").is_displayed()
    assert not page.lit()
    words = page.all("#words button")
    assert [w.find_element(By.CLASS_NAME, "word").text for w in words] == QUERY.split()
    ActionChains(page.driver).move_to_element(words[3]).perform()
    page.until(page.lit)
    page.says("#map-text", "“orange” looks most at the")
    ActionChains(page.driver).move_to_element(page.one("#detail-title")).perform()
    page.until(lambda: not page.lit())
    words[1].click()
    ActionChains(page.driver).move_to_element(page.one("#detail-title")).perform()
    assert words[1].get_attribute("aria-pressed") == "true"
    page.says("#map-text", "“man” looks most")
    assert page.lit()
    words[1].click()
    assert words[1].get_attribute("aria-pressed") == "false"


def test_layers_and_heads_have_maps_and_gates_of_their_own(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&picture={SCENE}", "#words button")
    page.click("#words button:nth-child(2)")
    average, gate = page.drawn(), page.text("#words button:nth-child(2) .value")
    Select(page.one("#layer-choice")).select_by_visible_text("Layer 2")
    page.until(lambda: page.drawn() != average)
    layer = page.drawn()
    assert page.text("#words button:nth-child(2) .value") != gate
    assert page.all("#words [aria-pressed=true]")  # the word stays pressed
    Select(page.one("#head-choice")).select_by_visible_text("Head 2")
    page.until(lambda: page.drawn() != layer)
    assert "layer=1&head=1" in site.asked[-1]


def test_other_words_than_those_of_the_search_can_be_explained(page: Browser, site: Site):
    go(page, site, f"?like={SCENE}&picture={SCENE}", "#detail")
    page.says("#map-text", "Describe the person")
    page.fill("#explain-text", "yellow trainers", Keys.ENTER)
    page.until(lambda: len(page.all("#words button")) == 2)


def test_attributes_are_read_with_their_probabilities(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&picture={SCENE}", ".readings")
    assert page.one(".readings").text.split() == (
        "top black 83 % grey 9 % blue 3 % carries backpack 71 % handbag 11 %".split()
    )


def test_the_close_up_shows_the_person_alone(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&picture={SCENE}", "#words button")
    scene = page.one("#stage").size
    page.click("#view-person")
    person = page.one("#stage").size
    assert person["height"] > person["width"] and scene["width"] > scene["height"]
    heat = page.one("#heat").rect
    assert heat["width"] == pytest.approx(person["width"], abs=2)


def test_a_dialog_is_closed_by_back_and_gives_the_focus_back(page: Browser, site: Site):
    go(page, site, ADDRESS)
    opened = page.all(f"{RESULT} .open")[2]
    name = page.names()[2]
    opened.click()
    page.one("#detail[open]")
    assert "picture=" in page.driver.current_url
    page.until(lambda: page.focused() == "detail-title")
    page.driver.back()
    page.until(lambda: not page.all("#detail[open]"))
    page.until(lambda: page.focused() == name)
    page.all(f"{RESULT} .open")[2].click()
    page.click("#next")
    page.says("#detail-score", "Result 4 ")
    page.click("#close")
    page.until(lambda: page.focused().startswith("Result 4,"))
    assert "picture=" not in page.driver.current_url


def test_the_keyboard_alone_searches_opens_explains_and_closes(page: Browser, site: Site):
    page.press("/")
    assert page.focused() == "q"
    page.press(QUERY, Keys.ENTER)
    page.results()
    page.tab_to("cutoff")
    page.press(Keys.ARROW_RIGHT * 5)
    page.tab_to("Result 1,")
    page.press(Keys.ARROW_RIGHT)
    assert page.focused().startswith("Result 2,")
    page.press(Keys.ARROW_DOWN)
    assert not page.focused().startswith("Result 2,")
    page.press(Keys.ARROW_UP)
    assert page.focused().startswith("Result 2,")
    page.press(Keys.ENTER)
    page.one("#words button")
    page.tab_to("a")  # the first word of the description
    page.until(page.lit)
    page.press(Keys.ARROW_RIGHT, Keys.SPACE)
    assert page.one("#words [aria-pressed=true]").text.startswith("man")
    page.press(Keys.ESCAPE)
    page.until(lambda: page.focused().startswith("Result 2,"))
    page.press("/")
    assert page.focused() == "q"


def test_a_phone_has_one_column_and_targets_for_a_thumb(page: Browser, site: Site):
    page.look(PHONE)
    go(page, site, f"{ADDRESS}&min_score=0.5")
    lefts = page.js(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.offsetLeft)", RESULT
    )
    assert len(set(lefts)) == 1
    for where in ("", f"&picture={SCENE}"):
        go(page, site, f"{ADDRESS}{where}", f"{'#words button' if where else RESULT}")
        small = page.js(
            "return [...document.querySelectorAll('button, select, input, summary')].map(e => "
            "[e.id || e.textContent, e.getBoundingClientRect()]).filter(([, r]) => "
            "r.width > 2 && (r.height < 44 || r.width < 44)).map(([name]) => name)"
        )
        assert not small
    page.click("#words button:nth-child(2)")
    assert page.lit()


@pytest.mark.parametrize("width", [320, 640])  # 640 is a wide window at 200 % zoom
@pytest.mark.parametrize("address", ["", ADDRESS, f"{ADDRESS}&picture={SCENE}"])
def test_nothing_runs_out_of_a_narrow_window(page: Browser, site: Site, width, address):
    page.look((width, 600))
    go(page, site, address, "#words button" if "picture" in address else "#results li, .example")
    assert page.js("return document.documentElement.scrollWidth") <= width
    dialog = "const d = document.getElementById('detail'); return d.scrollWidth - d.clientWidth"
    assert page.js(dialog) <= 0


def test_the_scheme_follows_the_system_until_it_is_chosen(page: Browser, site: Site):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.js(ground)
    page.look(dark=True)
    dark = page.js(ground)
    assert dark != light
    assert page.one("#theme").get_attribute("aria-pressed") == "true"
    page.click("#theme")
    assert page.js(ground) == light
    page.driver.refresh()
    assert page.js(ground) == light


def test_who_wants_no_motion_sees_none(page: Browser, site: Site):
    site.hold = threading.Event()
    page.driver.get(site.url + ADDRESS)
    page.one(".skeleton")
    running_now = "return document.getAnimations().filter(a => a.playState == 'running').length"
    assert page.js(running_now) == 0
    page.look(still=False)
    page.until(lambda: page.js(running_now))


def test_an_answer_that_was_overtaken_is_not_shown(page: Browser, site: Site):
    site.hold = threading.Event()
    page.fill("#q", "purple", Keys.ENTER)
    page.one(".skeleton")
    page.until(lambda: any("purple" in address for address in site.asked))
    assert page.one("#results").get_attribute("aria-busy") == "true"
    held, site.hold = site.hold, None
    page.fill("#q", QUERY, Keys.ENTER)
    page.results()
    first = page.names()
    held.set()
    page.driver.execute_async_script("fetch('api/gallery').then(() => arguments[0]())")
    assert page.names() == first


def test_a_search_that_finds_nothing_says_so_and_offers_to_clear_filters(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&since=2031-01-01", ".panel")
    page.says("#notice", "No results")
    page.says("#status", "No results")
    page.click(".panel button")
    assert len(page.results()) == 20


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_an_empty_gallery_tells_how_to_fill_it(page: Browser, site: Site, address):
    site.empty = True
    go(page, site, address, ".panel:not(.plain)")
    page.says("#notice", "cada index --db=DB --images=FOLDER")


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (400, "The search was not understood"),
        (404, "That picture is not in the gallery"),
        (413, "That picture is too large"),
        (415, "That file is no picture"),
        (422, "There is no word in that description"),
        (500, "Something went wrong"),
    ],
)
def test_a_refusal_is_told_with_the_servers_sentence(page: Browser, site: Site, status, title):
    site.refuse(status, "q: the server's <b>sentence</b>")
    page.fill("#q", QUERY, Keys.ENTER)
    page.says(".panel[role=alert]", title)
    page.says(".panel[role=alert]", "q: the server's <b>sentence</b>.")
    assert not page.all(RESULT)
    page.fill("#q", "orange", Keys.ENTER)
    page.results()
    assert not page.all(".panel")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_says(page: Browser, site: Site, status):
    site.refuse(status, "128 requests are being answered", headers={"Retry-After": "1"})
    page.fill("#q", QUERY, Keys.ENTER)
    page.says(".countdown", "Trying again in 1 s")
    page.results()
    assert not page.all(".panel")


def test_trying_again_can_be_stopped(page: Browser, site: Site):
    site.refuse(429, "too many", headers={"Retry-After": "60"})
    page.fill("#q", QUERY, Keys.ENTER)
    page.click(".panel .quiet")
    page.says(".countdown", "Waiting for you")
    page.click(".panel button")
    page.results()


def test_a_lost_network_is_told_and_survived(page: Browser, site: Site):
    page.online(False)
    page.fill("#q", QUERY, Keys.ENTER)
    page.says(".panel[role=alert]", "No connection")
    page.online(True)
    page.complaints()  # the browser's own word on the lost connection
    page.click(".panel button")
    page.results()


def test_a_needed_token_is_asked_for_and_stays_out_of_the_address(page: Browser, site: Site):
    site.token = "open sesame"
    go(page, site, ADDRESS, "#token")
    page.fill("#token", "wrong", Keys.ENTER)
    page.says("#token-help", "does not take this token")
    page.fill("#token", "open sesame", Keys.ENTER)
    page.results()
    assert page.driver.current_url == site.url + ADDRESS


def test_a_file_that_is_gone_leaves_the_rest_usable(page: Browser, site: Site):
    gone = f"/api/pictures/{SCENE}"
    for part in ("/image", "/thumbnail", "/association", "/attributes"):
        site.refuse(410, "the file is gone", path=gone + part, times=9)
    go(page, site, f"{ADDRESS}&picture={SCENE}", "#attributes .panel")
    page.until(lambda: "missing" in page.one("#stage").get_attribute("class"))
    page.says("#words-notice", "The file is gone")
    page.click("#close")
    assert len(page.results()) == 20


def test_a_link_to_an_unknown_picture_is_told(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&picture={'f' * 32}", "#words-notice .panel")
    page.says("#words-notice", "That picture is not in the gallery")


def test_hostile_file_names_are_shown_and_do_nothing(page: Browser, site: Site):
    go(page, site, "?q=zzz")  # without a matching word, the order is that of the records
    names = page.names()
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[3]):
        assert any(name in shown for shown in names)
    assert any("two\ufffdlines \ufffdgpj.jpg" in shown for shown in names)
    page.click(f"{RESULT} .open")
    page.says("#detail-title", HOSTILE[0])
    assert "owned" not in page.driver.title
    assert not page.all("img[src=x]")


def test_the_page_works_below_a_root_path(page: Browser, site: Site):
    site.root = "/people"
    go(page, site, f"people/{ADDRESS}&picture={SCENE}", "#words button")
    page.one(".readings")
    assert page.js(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).length == 0"
    )
    page.driver.get(f"{site.url}people/static/responsible.html")
    page.click("main a")
    page.one(".example")


def test_what_the_address_holds_may_be_nonsense(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&k=-3&min_score=abc&since=never&folder=/nowhere%3Cb%3E", ".panel")
    page.says("#notice", "No results")
    assert "k=20" in site.asked[-1]


STATES = {
    "home": ("", ".example"),
    "results": (f"{ADDRESS}&q=orange&not=umbrella&min_score=1&folder=%2Fphotos", RESULT),
    "by a picture": (f"?like={SCENE}", RESULT),
    "dialog": (f"{ADDRESS}&picture={SCENE}", "#words button"),
    "nothing found": (f"{ADDRESS}&since=2031-01-01", ".panel"),
    "responsible use": ("static/responsible.html", "main h1"),
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [browser_lib.WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_serious_fault(page: Browser, site: Site, state, size, dark):
    page.look(size, dark)
    go(page, site, *STATES[state])
    if state == "dialog":
        page.one(".readings")
        page.click("#words button:nth-child(2)")
    assert not page.faults()


@pytest.mark.parametrize("status", [401, 413, 429])
def test_axe_finds_no_serious_fault_in_an_error(page: Browser, site: Site, status):
    site.refuse(status, "a sentence", headers={"Retry-After": "60"})
    page.driver.get(site.url + ADDRESS)
    page.one(".panel[role=alert]")
    assert not page.faults()
    page.look(dark=True)
    assert not page.faults()
