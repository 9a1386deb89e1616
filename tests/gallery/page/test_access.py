"""Keyboard alone, screen readers, phones, zoom, schemes and motion."""

import threading

import pytest
from selenium.webdriver.common.keys import Keys

from tests.gallery.page.browser import PHONE, RESULT, WIDE, Browser, go
from tests.gallery.page.fake_gallery import ADDRESS, QUERY, SCENE
from tests.gallery.page.fake_server import Site


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


@pytest.mark.parametrize("address", ["", ADDRESS, f"{ADDRESS}&picture={SCENE}"])
def test_nothing_runs_out_of_a_narrow_window(page: Browser, site: Site, address):
    page.look((640, 600))  # as a wide window at 200 % zoom
    go(page, site, address, "#words button" if "picture" in address else f"{RESULT}, .example")
    for width in (640, 320):
        page.look((width, 600))
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


STATES = {
    "home": ("", ".example"),
    "results": (f"{ADDRESS}&q=orange&not=umbrella&min_score=1&folder=%2Fphotos", RESULT),
    "by a picture": (f"?like={SCENE}", RESULT),
    "dialog": (f"{ADDRESS}&picture={SCENE}", "#words button"),
    "nothing found": (f"{ADDRESS}&since=2031-01-01", ".panel"),
    "responsible use": ("static/responsible.html", "main h1"),
}


@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (PHONE, True)], ids=["wide and light", "phone and dark"]
)
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
