"""Headless Chromium for tests: which one, and what it saw, said and asked the network for."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def missing_browser() -> str | None:
    """What is not there, or None."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed; pip install 'serpent-restoration[dev]'"
    if not any(map(shutil.which, PROGRAMS)) or shutil.which("chromedriver") is None:
        return "no Chromium with its chromedriver on the PATH; apt-get install chromium chromium-driver"
    return None


@contextmanager
def chromium(width: int = 1000, height: int = 1000) -> Iterator[Chrome]:
    """A browser of a profile of its own, which writes down its console and its requests."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, PROGRAMS)))
    for argument in ("headless=new", f"window-size={width},{height}", "force-color-profile=srgb", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.add_argument("--disable-dev-shm-usage")  # containers have little of it
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to sandbox root's
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def seen(driver: Chrome) -> np.ndarray:
    """What the window shows: (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))


def requested(driver: Chrome) -> list[str]:
    """Addresses asked for since the last call, but for data within the page."""
    messages: list[dict[str, Any]] = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    sent = (each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent")
    return [url for url in sent if not url.startswith("data:")]
