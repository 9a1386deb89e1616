"""The page's files keep to what its strict content security policy allows."""

import re

import pytest

from tests.gallery.page.fake_server import STATIC

MOST_LINES = 300
FILES = sorted(p for p in STATIC.iterdir() if p.suffix in (".html", ".css", ".js", ".svg"))
NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_of_the_page_is_short_and_loads_nothing_from_elsewhere(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert not re.search(r"https?:|[\"'(]//", text.replace(NAMESPACE, ""))
    assert not re.search(
        r"[\"'(=]/(api|static|docs|pictures)\b", text
    )  # a root path comes before it


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".html"], ids=lambda p: p.name)
def test_markup_has_no_script_or_style_of_its_own(path):
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert re.findall(r"<script[^>]*></script>", text) == re.findall(r"<script.*?</script>", text)


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".js"], ids=lambda p: p.name)
def test_scripts_make_no_markup_of_text(path):
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|document\.write", path.read_text()
    )
