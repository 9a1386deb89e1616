"""A search in a real browser: words, filters, cut-off, pictures, and its address."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.gallery.page.browser import RESULT, Browser, go
from tests.gallery.page.fake_gallery import ADDRESS, PICTURES, QUERY
from tests.gallery.page.fake_server import Site


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
    folders = Select(page.one("#folder"))
    page.until(lambda: len(folders.options) > 1)
    labels = [option.text for option in folders.options]
    assert labels == ["All folders", "park", "station", "station/north"]
    folders.select_by_visible_text("park")
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
    page.until(lambda: "min_score" not in page.driver.current_url)


LEAVING = {
    "open": f"{RESULT} .open",
    "like": f"{RESULT} .like",
    "search": "#go",
    "copy": "#copy",
}


@pytest.mark.parametrize("leaving", LEAVING)
def test_a_cut_off_is_in_the_address_as_soon_as_anything_else_is_done(
    page: Browser, site: Site, leaving
):
    go(page, site, ADDRESS)
    # In one breath, as quick hands do: the address follows a moving cut-off with a delay.
    address = page.js(
        "const slider = document.getElementById('cutoff'); slider.value = 1.2;"
        "slider.dispatchEvent(new Event('input'));"
        "document.querySelector(arguments[0]).click(); return location.href",
        LEAVING[leaving],
    )
    if leaving in ("open", "like"):
        page.driver.back()
    else:
        assert address.endswith("&min_score=1.2")
    page.until(lambda: page.driver.current_url.endswith(f"{ADDRESS}&min_score=1.2"))
    page.until(lambda: page.all("#above .card") and page.all("#below .card"))


def test_cards_that_a_cut_off_moves_keep_the_focus(page: Browser, site: Site):
    go(page, site, f"{ADDRESS}&min_score=1.2")
    name = page.names()[4]
    page.all(f"{RESULT} .open")[4].click()
    page.press(Keys.ESCAPE)
    page.until(lambda: page.focused() == name)
    page.click("#cutoff-clear")
    page.until(lambda: "min_score" not in page.driver.current_url)
    page.driver.forward()  # the dialog, with the cut-off that was set when it was opened
    page.until(lambda: page.all("#below .card"))
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.all("#below .card"))
    assert page.focused() == name


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
