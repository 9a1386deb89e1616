"""Photographs the search page for the README, wide and on a phone.

    cada serve --db=people.db --port=8000
    python -m tools.screenshots --url=http://127.0.0.1:8000/ --output=.github/images

Needs chromium and chromedriver, and selenium (`pip install -e '.[dev]'`). It writes
search-wide.png, results above and below a cut-off, and search-phone.png, the first result with a
word lit.
"""

import io
import itertools
import pathlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from tools.arguments import Parser, folder

WIDE, PHONE = (1280, 860, 1), (390, 844, 2)  # CSS pixels, and dots for each
QUERY = "a woman with grey hair in a green jacket and turquoise shorts"
FEWEST_ABOVE, MOST_ABOVE = 3, 6  # results above the cut-off
MOST_BYTES = 300_000
PATIENCE = 60  # seconds; the first query may have to be compiled
ATTEMPTS = 3
COLOURS = 256  # of a picture: PNG with a palette is a third of the size

Driver = Any  # selenium's, which is imported where a browser is started


def start_browser() -> Driver:
    """A chromium without a window.

    Raises:
      UsageError: chromium, its driver or selenium is missing.
    """
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        raise UsageError("selenium is missing: pip install -e '.[dev]'") from None
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise UsageError("chromium or chromedriver is missing: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(driver))


def wait(driver: Driver, script: str, what: str) -> Any:
    """What a script returns, once that is true.

    Raises:
      UsageError: it never is; `what` says what was waited for, with the page's own words.
    """
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    def holds(_: Any) -> Any:
        return driver.execute_script(script)

    try:
        return WebDriverWait(driver, PATIENCE, 0.1).until(holds)
    except TimeoutException:
        said = driver.execute_script("return document.getElementById('notice')?.innerText ?? ''")
        raise UsageError(
            f"the page shows no {what}; it says: {said.strip() or 'nothing'}"
        ) from None


def look(driver: Driver, size: tuple[int, int, int], dark: bool) -> None:
    """Sets the window's size and the system's scheme."""
    width, height, dots = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": dots, "mobile": dots > 1}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})


def photograph(driver: Driver) -> Image.Image:
    """The window, once the pictures in it are drawn."""
    drawn = (
        "return [...document.images].every(i => i.complete || "
        "i.getBoundingClientRect().top > innerHeight || !i.checkVisibility())"
    )
    wait(driver, drawn, "pictures")
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def results(driver: Driver, url: str, query: str) -> Image.Image:
    """Results above and below a cut-off, which lies in the widest gap of the first scores."""
    look(driver, WIDE, dark=False)
    open_page(driver, url, {"q": query})
    scores = wait(
        driver,
        "return [...document.querySelectorAll('.rank strong')].map("
        "e => Number(e.textContent.replace('\\u2212', '-')))",
        "results",
    )
    shown = scores[FEWEST_ABOVE - 1 : MOST_ABOVE + 1]
    if len(shown) < 2:
        raise UsageError(f"{len(scores)} results, expected at least {FEWEST_ABOVE + 1}")
    _, above, below = max((a - b, a, b) for a, b in itertools.pairwise(shown))
    cutoff = f"{(above + below) / 2:.1f}"
    open_page(driver, url, {"q": query, "min_score": cutoff})
    wait(driver, "return document.querySelector('#below .card')", "results below the cut-off")
    return photograph(driver)


def word(driver: Driver, url: str, query: str) -> Image.Image:
    """The first result on a phone, in the dark, with the longest word lit."""
    look(driver, PHONE, dark=True)
    open_page(driver, url, {"q": query})
    wait(driver, "return document.querySelector('.open')", "results").click()
    wait(driver, "return document.querySelector('.readings')", "attributes")
    wait(driver, "return document.querySelector('#words button')", "words")
    driver.execute_script(
        "const words = [...document.querySelectorAll('#words button')];"
        "const length = b => b.querySelector('.word').textContent.length;"
        "words.sort((a, b) => length(b) - length(a))[0].click();"
        "document.activeElement.blur(); document.getElementById('detail').scrollTop = 0;"
    )
    return photograph(driver)


def open_page(driver: Driver, url: str, fields: dict[str, str]) -> None:
    """Opens the page with a query.

    Raises:
      UsageError: it is not there.
    """
    from selenium.common.exceptions import WebDriverException

    said = ""
    for attempt in range(ATTEMPTS):  # a browser that has just started may refuse its first page
        time.sleep(attempt)
        try:
            driver.get(f"{url.rstrip('/')}/?{urlencode(fields)}")
        except WebDriverException as e:  # the browser shows a page of its own
            said = (e.msg or "").partition("\n")[0]
        if driver.execute_script("return document.getElementById('toolbar')"):
            return
    raise UsageError(
        f"--url={url}: there is no search page; start `cada serve`. The browser says: "
        f"{said or driver.title or 'nothing'}"
    )


def save(image: Image.Image, path: pathlib.Path) -> int:
    """Writes a PNG with a palette; returns its size in bytes.

    Raises:
      UsageError: it is larger than a README should load.
    """
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    size = len(file.getvalue())
    if size > MOST_BYTES:
        raise UsageError(f"{path} would have {size:,} bytes, expected at most {MOST_BYTES:,}")
    path.write_bytes(file.getvalue())
    return size


def main(argv: list[str] | None = None) -> int:
    """Takes both pictures; returns the exit status."""
    parser = Parser("tools.screenshots", __doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000/", help="of a running `cada serve`")
    parser.add_argument("--query", default=QUERY, help="what is searched for")
    parser.add_argument("--output", type=folder, required=True, help="folder of the pictures")
    flags = parser.flags(argv)

    def work() -> int:
        flags.output.mkdir(parents=True, exist_ok=True)
        shots: dict[str, Callable] = {"search-wide.png": results, "search-phone.png": word}
        driver = start_browser()
        try:
            for name, take in shots.items():
                size = save(take(driver, flags.url, flags.query), flags.output / name)
                print(f"{flags.output / name}: {size:,} bytes")
        finally:
            driver.quit()
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
