"""Drives the page in the chromium that is installed, as a person does; never sleeps."""

import importlib.util
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tools.screenshots import WIDE, look, start_browser

RESULT = "#results .card:not(.skeleton)"


def installed() -> tuple[str, str] | None:
    """Paths of chromium and of its driver, None where one of them is missing."""
    found = (shutil.which("chromium"), shutil.which("chromedriver"))
    return found if all(found) else None  # type: ignore[return-value]


def require_installed() -> None:
    """Skips a test where there is no chromium; with CADA_CI set, fails it."""
    if installed() is None:
        reason = "chromium and chromedriver are not installed"
        if os.environ.get("CADA_CI"):
            pytest.fail(f"{reason}: apt-get install chromium chromium-driver")
        pytest.skip(reason)


def axe_source() -> str:
    """The text of axe-core, from the wheel that holds it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None and spec.origin is not None, "pip install axe-playwright-python"
    return (pathlib.Path(spec.origin).parent / "axe.min.js").read_text()


class Browser:
    """A chromium without a window, and what a person does with it.

    Attributes:
      patience: seconds to wait for what is to come; a busy machine draws slowly.
    """

    patience = 10

    def __init__(self):
        self.driver = start_browser()
        self._axe = axe_source()

    def close(self) -> None:
        """Ends the browser."""
        self.driver.quit()

    def look(self, size: tuple[int, int, int] = WIDE, dark: bool = False) -> "Browser":
        """Sets the window's size in CSS pixels, and the system's scheme."""
        look(self.driver, size, dark)
        return self

    def forget(self, origin: str) -> None:
        """As one who was never here: no cookie, nothing stored, nowhere to go back to."""
        self.driver.execute_cdp_cmd("Page.resetNavigationHistory", {})
        self.driver.execute_cdp_cmd(
            "Storage.clearDataForOrigin", {"origin": origin.rstrip("/"), "storageTypes": "all"}
        )

    def online(self, is_online: bool) -> None:
        """Takes the network away, or gives it back."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        rates = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": not is_online, **rates}
        )

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Waits until the condition holds and returns its value."""
        wait = WebDriverWait(
            self.driver, self.patience, 0.03, ignored_exceptions=[StaleElementReferenceException]
        )
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:
            seen = {
                "address": self.driver.current_url,
                "notice": self.text("#notice"),
                "count": self.text("#count"),
                "results": len(self.names()),
                "focus": self.focused(),
                "console": self.driver.get_log("browser"),
            }
            raise AssertionError(f"{what or 'it'} never came; the page: {seen}") from None

    def all(self, selector: str) -> list[WebElement]:
        """The elements there are now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first visible element, once there is one."""
        return self.until(
            lambda: next((e for e in self.all(selector) if e.is_displayed()), None), selector
        )

    def click(self, selector: str) -> None:
        """Clicks a visible element."""
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def text(self, selector: str) -> str:
        """Text of an element, seen or not."""
        return self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def says(self, selector: str, part: str) -> None:
        """Waits until an element's text holds a part."""
        self.until(lambda: part in self.text(selector), f"{selector} never says {part!r}")

    def js(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def fill(self, selector: str, text: str, *keys: str) -> None:
        """Types into an empty or emptied field."""
        field = self.one(selector)
        field.clear()
        field.send_keys(text, *keys)

    def press(self, *keys: str) -> None:
        """Types where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        """The focused element: its id, or its name for a screen reader."""
        return self.js(
            "const e = document.activeElement;"
            "return e.id || e.ariaLabel || e.querySelector('img')?.alt || e.textContent"
        )

    def tab_to(self, name: str, most: int = 60) -> None:
        """Presses Tab until the focused element's id or name begins so."""
        for _ in range(most):
            if self.focused().startswith(name):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"Tab does not reach {name!r}; the focus is on {self.focused()!r}")

    def names(self) -> list[str]:
        """Alternative texts of the results, best first."""
        return self.js(
            "return [...document.querySelectorAll(arguments[0] + ' img')].map(i => i.alt)", RESULT
        )

    def results(self) -> list[WebElement]:
        """The results, once there are any."""
        return self.until(lambda: self.all(RESULT), "no results")

    def lit(self) -> bool:
        """Whether anything is drawn over the person."""
        return self.js(
            "const c = document.getElementById('heat');"
            "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"
        )

    def drawn(self) -> str:
        """What is drawn over the person, as text to compare."""
        return self.js("return document.getElementById('heat').toDataURL()")

    def faults(self) -> list[str]:
        """What axe-core finds serious or critical in the page as it stands."""
        if not self.js("return 'axe' in window"):
            self.js(self._axe)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations))"
        )
        return [
            f"{fault['id']}: {node['html'][:120]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def complaints(self) -> list[str]:
        """Errors in the browser's console since the last call, other than refusals by status."""
        log: list[dict] = self.driver.get_log("browser")
        severe = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
        return [message for message in severe if "status of" not in message]


def go(page: Browser, url: str, address: str, ready: str = RESULT) -> None:
    """Opens an address below a page's and waits for what makes it ready."""
    page.driver.get(url + address)
    page.one(ready)
