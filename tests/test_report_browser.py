"""The page of ``serpent-infer --report`` in headless Chromium, opened as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from browser import chromium, requested, seen
from serpent.pictures import read_picture, write_picture
from serpent_cli.main import run_infer
from tests.fakes import FakeSession

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.require("browser")

NAME = "<img src=x onerror=alert(1)><script>alert(2)<script>.png"
H, W = 40, 60
# Dark, and bright as the result of a session that gives back 1 - picture: a column tells which of them it shows.
DARK = np.random.default_rng(0).integers(0, 100, (H, W, 3), dtype=np.uint8)
BRIGHT = 255 - DARK
TRUTH = BRIGHT - 3


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name, levels in ((NAME, DARK), ("truth.png", TRUTH)):
        write_picture(folder / name, levels.astype(np.float32) / 255)
    arguments = [checkpoint, folder / NAME, "--reference", folder / "truth.png", "--report", folder / "out.html"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serpent.runtime.open.open_session", lambda path, *_, **__: FakeSession(path))
        patch.setattr(sys, "argv", ["serpent-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            run_infer()
    assert not leaving.value.code
    np.testing.assert_array_equal(np.rint(read_picture(next(folder.glob("*restored.png"))).pixels * 255), BRIGHT)
    return folder / "out.html"


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def browser(window: Chrome, page: Path) -> Iterator[Chrome]:
    """The page, opened afresh; what it complains about or asks the network for fails the test."""
    requested(window)
    window.get(page.as_uri())
    yield window
    assert window.get_log("browser") == []
    assert requested(window) == [page.as_uri()]


def element(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element("css selector", selector)


def stage(browser: Chrome, selector: str = "#stage") -> np.ndarray:
    """What the stage, or another element, shows."""
    edge = element(browser, selector).rect
    top, left = round(edge["y"]), round(edge["x"])
    return seen(browser)[top : top + round(edge["height"]), left : left + round(edge["width"])]


def split(browser: Chrome) -> float:
    """Where the dark picture ends and the bright one begins, in pixels, as the screen shows it."""
    shown = stage(browser)
    dark = (shown[-40:].mean(axis=(0, 2)) < 128).nonzero()[0]  # near the lower edge, below the line's handle
    return float(len(dark))


def scale(browser: Chrome) -> float:
    """Screen pixels to 100 picture pixels, as the page says it."""
    return float(element(browser, "#scale").text.removesuffix("%"))


def press(browser: Chrome, selector: str, *keys: str) -> None:
    element(browser, selector).send_keys(*keys)


def click(browser: Chrome, selector: str) -> None:
    browser.execute_script("arguments[0].click()", element(browser, selector))


def drag(browser: Chrome, selector: str, right: int, down: int = 0) -> None:
    from selenium.webdriver import ActionChains

    actions = ActionChains(browser, duration=20)
    actions.click_and_hold(element(browser, selector)).move_by_offset(right, down).release().perform()


def test_the_picture_lies_left_of_the_line_and_the_result_right(browser: Chrome) -> None:
    shown = stage(browser)[-40:]  # below the labels and the line's handle
    half = shown.shape[1] // 2
    assert shown[:, : half - 2].max() < 100
    assert shown[:, half + 2 :].min() > 150
    assert element(browser, "#left-tag").text == "Input"
    assert element(browser, "#right-tag").text == "Result"


@pytest.mark.parametrize("handle", ["#divider", "#stage"])
def test_a_drag_moves_the_line(browser: Chrome, handle: str) -> None:
    before = split(browser)
    drag(browser, handle, 200)
    assert split(browser) == pytest.approx(before + 200, abs=2)
    drag(browser, "#divider", -350)
    assert split(browser) == pytest.approx(before - 150, abs=2)


def test_a_finger_moves_the_line(browser: Chrome) -> None:
    before = split(browser)
    box = element(browser, "#divider").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, at in (("touchStart", x), ("touchMove", x + 60), ("touchMove", x + 120), ("touchEnd", None)):
        points = [] if at is None else [{"x": at, "y": y}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert split(browser) == pytest.approx(before + 120, abs=2)


def test_two_fingers_zoom(browser: Chrome) -> None:
    box = element(browser, "#stage").rect
    x, y = box["x"] + 200, box["y"] + 200
    before = scale(browser)
    for kind, apart in (("touchStart", 100), ("touchMove", 75), ("touchMove", 50), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y}, {"x": x + apart, "y": y}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert scale(browser) == pytest.approx(before / 2, rel=0.02)


def test_arrow_keys_move_the_line_and_say_where_it_is(browser: Chrome) -> None:
    from selenium.webdriver import Keys

    width = stage(browser).shape[1]
    divider = element(browser, "#divider")
    for keys, percent in (
        ((Keys.ARROW_RIGHT,) * 3, 53),
        ((Keys.PAGE_DOWN,), 43),
        ((Keys.SHIFT, Keys.ARROW_LEFT, Keys.NULL), 33),
        ((Keys.END,), 100),
        ((Keys.HOME,), 0),
    ):
        press(browser, "#divider", *keys)
        assert divider.get_attribute("aria-valuenow") == str(percent)
        assert split(browser) == pytest.approx(width * percent / 100, abs=2)
    assert (divider.aria_role, divider.accessible_name) == ("slider", "Line between the pictures")


def test_at_1_to_1_every_pixel_is_what_the_files_say(browser: Chrome) -> None:
    from selenium.webdriver import Keys

    click(browser, "[data-zoom=actual]")
    assert scale(browser) == 100
    press(browser, "#divider", Keys.END)
    np.testing.assert_array_equal(stage(browser, ".frame[data-side] img"), DARK)
    press(browser, "#divider", Keys.HOME)
    np.testing.assert_array_equal(stage(browser, ".frame[data-side] img"), BRIGHT)


def test_the_difference_is_that_of_the_files_times_the_stated_factor(browser: Chrome) -> None:
    click(browser, "[data-zoom=actual]")
    click(browser, "input[value=difference]")
    assert element(browser, "#left-tag").text == "Input and result, difference x1"
    np.testing.assert_array_equal(stage(browser, ".frame[data-side] img"), BRIGHT - DARK)
    click(browser, "input[value='result reference']")
    assert "3.00 levels of 255 in the mean, at most by 3." in element(browser, "#caption").text
    np.testing.assert_array_equal(stage(browser, ".frame[data-side] img"), np.full_like(DARK, 3))
    click(browser, "input[value=slider]")
    assert element(browser, "#right-tag").text == "Reference"


def test_buttons_zoom_and_large_pixels_stay_pixels(browser: Chrome) -> None:
    from selenium.webdriver import Keys

    press(browser, "#divider", Keys.END)
    fitted = scale(browser)
    click(browser, "[data-zoom=in]")
    assert scale(browser) == pytest.approx(fitted * 1.5, rel=0.01)
    shown = stage(browser)[-100:, :-5]  # without the labels, and without the line at the right edge
    known = {tuple(levels) for levels in DARK.reshape(-1, 3).tolist()}
    assert {tuple(levels) for levels in shown.reshape(-1, 3).tolist()} <= known  # no colour in between
    for _ in range(2):
        click(browser, "[data-zoom=out]")
    assert scale(browser) == pytest.approx(fitted / 1.5, rel=0.01)
    for _ in range(3):
        click(browser, "[data-zoom=in]")
    assert scale(browser) == 3200  # 32 screen pixels to a picture pixel are the most
    click(browser, "[data-zoom=fit]")
    assert scale(browser) == fitted


def test_the_wheel_zooms_where_it_points_and_a_drag_moves_the_picture(browser: Chrome) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    press(browser, "#divider", Keys.END)
    before = stage(browser)
    row, column = before.shape[0] // 2 + 95, before.shape[1] // 2 - 205
    origin = ScrollOrigin.from_element(element(browser, "#stage"), -205, 95)
    fitted = scale(browser)
    ActionChains(browser).scroll_from_origin(origin, 0, -300).perform()
    assert scale(browser) == pytest.approx(fitted * 1.0015**300, rel=0.01)
    enlarged = stage(browser)
    np.testing.assert_array_equal(enlarged[row, column], before[row, column])
    drag(browser, "#stage", 60, -30)
    moved = stage(browser)
    np.testing.assert_array_equal(moved[200:-100, 300:500], enlarged[230:-70, 240:440])
    press(browser, "#stage", "0")
    np.testing.assert_array_equal(stage(browser)[:, :-30], before[:, :-30])  # the line's handle shows the focus


def test_a_hostile_name_is_but_a_name(browser: Chrome) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    assert element(browser, "h1").text == NAME
    assert browser.title == f"{NAME}, restored"
    assert browser.execute_script("return [document.scripts.length, document.images.length]") == [1, 6]
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert.text


def test_other_code_does_not_run_and_nothing_is_fetched(window: Chrome, page: Path) -> None:
    window.get(page.as_uri())
    window.execute_script(
        """
        new Image().src = 'http://localhost:9/a.png';
        const script = document.createElement('script');
        try { script.text = 'window.ran = 1'; } catch { return; } // as trusted types refuse it
        document.body.append(script);
        """
    )
    assert window.execute_script("return window.ran") is None
    complaints = [line["message"] for line in window.get_log("browser")]
    assert any("http://localhost:9/a.png" in each and "Content Security Policy" in each for each in complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(browser: Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        sizes = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert sizes == [360, 360]
        ground = seen(browser)[2, 2].mean()
        assert ground > 200 if scheme == "light" else ground < 60
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
