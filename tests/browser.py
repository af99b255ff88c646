"""Pages in headless Chromium, driven by Selenium: skipped without either, but not in CI."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("CI"):
    import selenium
else:
    selenium = pytest.importorskip("selenium", reason="pages are tested with Selenium")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("pages are tested in Chromium", allow_module_level=True)

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

__all__ = ["By", "Keys", "Page", "opened"]


class Page:
    """A page that is open in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *values: Any) -> Any:
        """The value of some JavaScript."""
        return self.driver.execute_script(script, *values)

    def all(self, selector: str) -> list[Any]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of these elements, of what is hidden too."""
        script = "return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)"
        return self.run(script, selector)

    def click(self, selector: str, number: int = 0) -> None:
        """Click on one of these elements."""
        self.all(selector)[number].click()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def lines(self) -> list[str]:
        """What the lines of the outline that are in view are called."""
        return self.texts("#tree .line .label b, #tree .line .label .name")

    def chosen(self) -> str:
        """What the chosen line is called."""
        (found,) = self.texts("#tree .line.chosen .label b, #tree .line.chosen .label .name")
        return found

    def check(self) -> None:
        """Nothing was written to the console, and nothing asked of a network."""
        assert self.driver.get_log("browser") == []
        asked: list[str] = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        assert asked
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@contextmanager
def opened(path: Path, width: int = 1440, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """The page of a file, in a window of so many pixels."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        driver.get(path.resolve().as_uri())
        page = Page(driver)
        assert page.run("return document.documentElement.dataset.ready") == "true"
        yield page
        page.check()
    finally:
        driver.quit()
