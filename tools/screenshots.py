"""Photographs the search page for the README, wide and on a phone.

    cada serve --db=people.db --port=8000
    python -m tools.screenshots --url=http://127.0.0.1:8000/ --output=.github/images

Needs chromium and chromedriver, and selenium (`pip install -e '.[dev]'`). It writes
search-wide.png, results above and below a cut-off, and search-phone.png, the first result with a
word lit.
"""

import io
import itertools
import shutil
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from cada_jax.common.errors import UsageError
from tools.arguments import Parser, command, folder

WIDE, PHONE = (1280, 860, 1), (390, 844, 2)  # CSS pixels, and dots for each
QUERY = "a woman with grey hair in a green jacket and turquoise shorts"
FEWEST_ABOVE, MOST_ABOVE = 3, 6  # results above the cut-off
PATIENCE = 60  # seconds; the first query may have to be compiled
SCORES = (
    "return [...document.querySelectorAll('.rank strong')].map("
    "e => Number(e.textContent.replace('\\u2212', '-')))"
)
DRAWN = (
    "return [...document.images].every(i => i.complete || "
    "i.getBoundingClientRect().top > innerHeight || !i.checkVisibility())"
)
LIGHT_THE_LONGEST_WORD = (
    "const words = [...document.querySelectorAll('#words button')];"
    "const length = b => b.querySelector('.word').textContent.length;"
    "words.sort((a, b) => length(b) - length(a))[0].click();"
    "document.activeElement.blur(); document.getElementById('detail').scrollTop = 0;"
)

Driver = Any  # selenium's, which is imported where a browser is started


def start_browser() -> Driver:
    """A chromium without a window; raises UsageError where it or its driver is missing."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise UsageError("chromium or chromedriver is missing: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def wait(driver: Driver, script: str, what: str) -> Any:
    """What a script returns, once that is true; a `TimeoutException` names `what` otherwise."""
    from selenium.webdriver.support.ui import WebDriverWait

    shown = WebDriverWait(driver, PATIENCE, 0.1)
    return shown.until(lambda _: driver.execute_script(script), f"the page shows no {what}")


def look(driver: Driver, size: tuple[int, int, int], dark: bool) -> None:
    """Sets the window's size and the system's scheme."""
    width, height, dots = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": dots, "mobile": dots > 1}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})


def open_page(driver: Driver, url: str, fields: dict[str, str]) -> None:
    """Opens the page with a query."""
    driver.get(f"{url.rstrip('/')}/?{urlencode(fields)}")


def results(driver: Driver, url: str, query: str) -> None:
    """Shows results above and below a cut-off, in the widest gap of the first scores."""
    look(driver, WIDE, dark=False)
    open_page(driver, url, {"q": query})
    shown = wait(driver, SCORES, "results")[FEWEST_ABOVE - 1 : MOST_ABOVE + 1]
    _, above, below = max((a - b, a, b) for a, b in itertools.pairwise(shown))
    open_page(driver, url, {"q": query, "min_score": f"{(above + below) / 2:.1f}"})
    wait(driver, "return document.querySelector('#below .card')", "results below the cut-off")


def word(driver: Driver, url: str, query: str) -> None:
    """Shows the first result on a phone, in the dark, with the longest word lit."""
    look(driver, PHONE, dark=True)
    open_page(driver, url, {"q": query})
    wait(driver, "return document.querySelector('.open')", "results").click()
    wait(driver, "return document.querySelector('.readings')", "attributes")
    wait(driver, "return document.querySelector('#words button')", "words")
    driver.execute_script(LIGHT_THE_LONGEST_WORD)


def run(argv: Sequence[str] | None) -> int:
    """Takes both pictures; returns the exit status."""
    parser = Parser("tools.screenshots", __doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000/", help="of a running `cada serve`")
    parser.add_argument("--query", default=QUERY, help="what is searched for")
    parser.add_argument("--output", type=folder, required=True, help="folder of the pictures")
    flags = parser.flags(argv)
    flags.output.mkdir(parents=True, exist_ok=True)
    driver = start_browser()
    try:
        for name, show in (("search-wide.png", results), ("search-phone.png", word)):
            show(driver, flags.url, flags.query)
            wait(driver, DRAWN, "pictures")
            shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            path = flags.output / name
            # A palette makes it a third as large.
            shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size:,} bytes")
    finally:
        driver.quit()
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
