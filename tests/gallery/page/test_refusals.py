"""What the page shows when there is nothing to show, and what hostile names and links do to it."""

import threading

import pytest
from selenium.webdriver.common.keys import Keys

from tests.gallery.page.browser import RESULT, Browser, go
from tests.gallery.page.fake_gallery import ADDRESS, HOSTILE, QUERY, SCENE
from tests.gallery.page.fake_server import Site


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
