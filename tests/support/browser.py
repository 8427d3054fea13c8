"""Debian's Chromium without a window, for what only a browser shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.support.prefect_server import eventually

MISSING = next((f"{name} is not installed" for name in ("chromium", "chromedriver") if not shutil.which(name)), "")
"""Why there is no browser; empty where there is one. `apt-get install chromium chromium-driver` brings both."""

SCREENSHOTS = "BATCH_LLM_SCREENSHOTS"
"""The variable that names a folder for screenshots; without it they go where the test's other files are."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-dark-mode",
)


class Browser:
    """A window of a given size; every wait ends as soon as the page shows what is waited for."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self._driver = driver
        self._folder = folder

    def open(self, url: str, *shown: str) -> str:
        """Open a page, wait until it shows all of these texts, and return all of its text."""
        self._driver.get(url)
        return self.wait(*shown)

    def wait(self, *shown: str) -> str:
        """Wait until the page shows all of these texts, and return all of its text."""
        text = ""

        def has_all() -> bool:
            nonlocal text
            text = " ".join(self._driver.find_element(By.TAG_NAME, "body").text.split())
            return all(part in text for part in shown)

        try:
            eventually(has_all)
        except AssertionError:
            self.keep("missing")
            missing = [part for part in shown if part not in text]
            raise AssertionError(f"{self._driver.current_url} does not show {missing}: {text}") from None
        return text

    def click(self, text: str) -> None:
        """Click what has exactly this text."""
        found = f"//*[normalize-space(.)='{text}']"
        eventually(lambda: self._driver.find_elements(By.XPATH, found))
        innermost = self._driver.find_elements(By.XPATH, found)[-1]
        self._driver.execute_script("arguments[0].click()", innermost)  # pyright: ignore[reportUnknownMemberType]  untyped

    def pictures(self) -> list[tuple[int, int]]:
        """Return the sizes of the pictures in the page's markdown; (0, 0) for one that the browser cannot read."""
        script = (
            "return [...document.querySelectorAll('img[src^=\"data:\"]')].map(i => [i.naturalWidth, i.naturalHeight])"
        )
        return [(int(wide), int(high)) for wide, high in self._driver.execute_script(script)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]

    def keep(self, name: str) -> Path:
        """Keep a picture of what is to be seen."""
        path = self._folder / f"{name}.png"
        path.write_bytes(self._driver.get_screenshot_as_png())
        return path


@contextmanager
def browser(folder: Path, *, width: int = 1400, height: int = 1000) -> Generator[Browser]:
    """Open a browser that knows nothing yet, and close it at the end."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    kept = Path(os.environ.get(SCREENSHOTS) or folder)
    kept.mkdir(parents=True, exist_ok=True)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver, kept)
    finally:
        driver.quit()
