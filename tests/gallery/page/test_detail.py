"""A result looked at: where its words look, and what is read off it."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.gallery.page.browser import RESULT, Browser, go
from tests.gallery.page.fake_gallery import ADDRESS, QUERY, SCENE
from tests.gallery.page.fake_server import Site


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
