"""Scrolling through the slices around a finding, as a hand does it: by wheel, slider and keys."""

import itertools
from pathlib import Path

import pytest

from aneurysm.report.page import write_index, write_page
from aneurysm.report.thumbnail import thumbnail
from tests.browser import Browser, needs_browser
from tests.report_records import make_pictures, make_record

pytestmark = needs_browser

FIRST, SECOND = "#picture-1", "#picture-2"  # slices 0 to 10 around 4, and 10 to 22 around 16
# Of one viewer: the slice shown, what the slider and its texts say, and which marks are seen on the slice.
SHOWN = """(() => {
  const viewer = document.querySelector("%s .viewer"), slider = viewer.querySelector("input");
  const frames = [...viewer.querySelectorAll(".frames img")].filter(image => image.getBoundingClientRect().width > 0);
  const seen = name => getComputedStyle(viewer.querySelector(`.frames .${name}`)).display !== "none";
  return {
    frames: frames.map(image => image.alt), value: slider.valueAsNumber, spoken: slider.getAttribute("aria-valuetext"),
    text: viewer.querySelector(".now").textContent, same: viewer.querySelector(".enlarged img").src === frames[0].src,
    cross: seen("cross"), ring: seen("ring"), back: !viewer.querySelector("button").disabled,
    projected: getComputedStyle(viewer.querySelector(".projected .cross")).display !== "none",
  };
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "series.html"
    write_page(path, make_record(), make_pictures())
    return path


def shown(browser: Browser, picture: str = FIRST) -> int:
    """The slice that a picture shows, once all that is said of it agrees."""
    found = browser.predict(SHOWN % picture)
    (text,) = found["frames"]
    number = int(text.split()[1])
    first, middle = {FIRST: (0, 4), SECOND: (10, 16)}[picture]
    assert found["value"] == number - first and found["same"]
    assert found["spoken"] == found["text"] == text
    own = number == middle
    assert ("the central one" in text) == own
    assert (found["cross"], found["ring"], found["back"]) == (own, not own, not own) and found["projected"]
    return number


def test_the_central_slice_is_shown_first(browser, page):
    browser.open(page)
    assert shown(browser) == 4 and shown(browser, SECOND) == 16 and browser.complaints == []


def test_each_notch_of_the_wheel_over_a_picture_is_a_slice_up_is_up(browser, page):
    browser.open(page)
    for pixels, number in ((120, 3), (100, 2), (-120, 3), (-120, 4), (-120, 5), (-300, 6)):
        browser.wheel(f"{FIRST} .frames", pixels)
        assert shown(browser) == number
    browser.wheel(f"{FIRST} .enlarged", -120)
    assert shown(browser) == 7 and shown(browser, SECOND) == 16
    for pixels, number in ((-20, 7), (-20, 7), (-20, 8), (-20, 8), (20, 8), (20, 8), (20, 7)):  # a touchpad
        browser.wheel(f"{FIRST} .frames", pixels)
        assert shown(browser) == number
    assert browser.complaints == []


def test_the_wheel_moves_the_page_at_the_last_slice_and_beside_the_pictures_alone(browser, page):
    browser.open(page)
    before = browser.middle_of(f"{FIRST} .frames") and browser.predict("scrollY")
    browser.wheel(f"{FIRST} .frames", 120)
    assert browser.predict("scrollY") == before and shown(browser) == 3
    for _ in range(5):
        browser.wheel(f"{FIRST} .frames", 120)
    assert shown(browser) == 0 and browser.predict("scrollY") == before  # what overshoots does not move the page
    browser.predict("new Promise(done => setTimeout(done, 500))")
    browser.wheel(f"{FIRST} .frames", 120)
    browser.predict("new Promise(done => setTimeout(done, 500))")
    assert browser.predict("scrollY") > before and shown(browser) == 0
    browser.wheel(f"{FIRST} .projected", 120)
    assert shown(browser) == 0


def test_arrow_keys_and_their_neighbours_move_from_the_slider_and_after_a_click_on_the_picture(browser, page):
    browser.open(page)
    browser.click(f"{FIRST} .frames")
    for key, number in (
        ("ArrowUp", 5), ("ArrowRight", 6), ("ArrowDown", 5), ("ArrowLeft", 4), ("ArrowLeft", 3), ("PageUp", 8),
        ("PageUp", 10), ("ArrowUp", 10), ("Home", 0), ("ArrowDown", 0), ("End", 10), ("PageDown", 5),
    ):  # fmt: skip
        browser.press(key)
        assert shown(browser) == number
    assert browser.predict("document.activeElement === document.querySelector('#picture-1 input[type=range]')")
    assert shown(browser, SECOND) == 16


def test_the_slider_is_pulled_and_a_button_leads_back(browser, page):
    browser.open(page)
    browser.click(f"{SECOND} input[type=range]", 0.99)
    assert shown(browser, SECOND) == 22
    browser.click(f"{SECOND} input[type=range]", 0.01)
    assert shown(browser, SECOND) == 10 and shown(browser) == 4
    browser.click(f"{SECOND} button")
    assert shown(browser, SECOND) == 16
    browser.press("ArrowUp")  # the keys go on from there
    assert shown(browser, SECOND) == 17


def test_all_is_reached_by_tab_with_a_ring_around_it_and_has_a_name(browser, page):
    browser.open(page)
    for _ in range(30):
        browser.press("Tab")
        if browser.predict("document.activeElement.type") == "range":
            break
    assert browser.predict("document.activeElement.getAttribute('aria-label')") == "Slice around finding 1"
    for selector in ("input[type=range]", ".frames"):
        style = browser.predict(f"getComputedStyle(document.querySelector('{FIRST} {selector}')).outlineStyle")
        assert style == "solid"
    browser.press("ArrowUp")
    assert shown(browser) == 5


def test_without_a_script_the_central_slice_is_shown_and_nothing_that_would_need_one(browser, page):
    browser.open(page, script=False)
    # What the test asks runs all the same.
    seen = "[...document.querySelectorAll('%s')].filter(e => e.getBoundingClientRect().width > 0).length"
    assert browser.predict(seen % ".frames img") == 3 and browser.predict(seen % ".control") == 0
    assert browser.predict(seen % "#picture-1 .frames img[alt*=central]") == 1


def test_a_script_that_is_not_the_pages_own_to_the_letter_does_not_run(browser, page, tmp_path):
    other = tmp_path / "other.html"
    other.write_text(page.read_text().replace("const NOTCH = 50;", "const NOTCH = 51;"))
    browser.open(other)
    assert any("Content Security Policy" in text for text in browser.complaints)
    assert browser.predict("document.querySelector('.control').hidden")


@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(244, 246, 248)"), (True, "rgb(15, 20, 25)")])
def test_pages_fit_their_windows_and_show_their_pictures_without_complaints(page, tmp_path, dark, background):
    record = make_record(thumbnail=thumbnail(make_pictures()))
    write_index(tmp_path / "index.html", [record, make_record("1.2")])
    browser = Browser(tmp_path / "profile", dark)
    cases = [(page, ".pane", 9, 200), (tmp_path / "index.html", "img.thumbnail", 1, 72)]
    try:
        for (path, selector, n_shown, at_least), width in itertools.product(cases, (1280, 390)):
            browser.open(path, width)
            assert browser.predict("document.documentElement.scrollWidth") == width and browser.complaints == []
            assert browser.predict("getComputedStyle(document.body).backgroundColor") == background
            shown = f"[...document.querySelectorAll('{selector}')].map(e => e.getBoundingClientRect().width)"
            assert len(browser.predict(shown)) == n_shown and min(browser.predict(shown)) >= at_least
        assert browser.predict("document.querySelector('img.thumbnail').naturalWidth") == 144
    finally:
        browser.close()
