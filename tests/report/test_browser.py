"""The pages as a browser lays them out, on a desk and on a phone, light and dark: nothing overlaps, all can be read."""

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aneurysm.report.page import page_name, write_index, write_page
from aneurysm.report.thumbnail import thumbnail
from tests.browser import PROGRAM, needs_browser
from tests.report_records import HOSTILE, make_failed, make_pictures, make_record

pytestmark = needs_browser

POLICY = '<meta http-equiv="Content-Security-Policy"'  # would keep the script out
LOOK = (Path(__file__).parent / "look_at_page.js").read_text()
VIEWS = [(1280, "light"), (1280, "dark"), (900, "light"), (390, "light"), (390, "dark")]
PAGES = ["series", "hostile", "failed", "index"]
CASES = [(page, width, scheme) for page in PAGES for width, scheme in VIEWS]

# Gathers what the pages in the frames say of themselves; a frame is as wide as it likes, and picks the colour scheme.
GATHER = """<!DOCTYPE html><body><pre></pre><script>
const said = {};
addEventListener("message", event => {
  said[event.data.name] = event.data;
  document.querySelector("pre").textContent = JSON.stringify(said);
});
</script>%s</body>"""
FRAME = '<iframe name="%s" src="%s" width="%d" height="900" style="border: 0; color-scheme: %s"></iframe>'


def write_pages(folder: Path) -> None:
    many = {"warnings": [f"{HOSTILE} {number}" for number in range(12)], "left_out": [HOSTILE, "mirrored views"]}
    long = make_record("1.2." + "3" * 200, place="/data/" + "verylong" * 40, plane="sagittal", **many)
    failed = make_failed(HOSTILE, failure=f"/data/{'x' * 300}: no image found", **many)
    pictures = make_pictures()
    write_page(folder / "series.html", make_record(), pictures)
    write_page(folder / "hostile.html", long, [*pictures, *pictures[::-1]])
    write_page(folder / "failed.html", failed, ())
    write_index(
        folder / "index.html",
        [
            make_record("1.1", thumbnail=thumbnail(pictures)),
            long,
            failed,
            make_record("1.3", warnings=[], thumbnail=thumbnail(pictures)),
        ],
    )
    for page in PAGES:
        text = (folder / f"{page}.html").read_text()
        assert POLICY in text
        (folder / f"{page}.html").write_text(text.replace(POLICY, "<meta") + f"<script>{LOOK}</script>")


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, dict]:
    """What each page found when it looked at itself, by page, width and colour scheme."""
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder)
    frames = (FRAME % (f"{page} {width} {scheme}", f"{page}.html", width, scheme) for page, width, scheme in CASES)
    (folder / "frames.html").write_text(GATHER % "".join(frames))
    command = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "frames.html").as_uri(),
    ]  # fmt: skip
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    return json.loads(html.unescape(re.search("<pre>(.*?)</pre>", dumped, re.DOTALL)[1]))


@pytest.fixture(params=CASES, ids=lambda case: " ".join(map(str, case)))
def page(request, seen) -> dict:
    name, width, scheme = request.param
    found = seen[f"{name} {width} {scheme}"]
    assert found["texts"] > 15 and found["width"] == width
    assert np.mean(found["background"]) < 60 if scheme == "dark" else np.mean(found["background"]) > 200
    return found


def test_no_page_is_wider_than_its_window(page):
    assert page["page_width"] <= page["width"]


def test_no_two_texts_overlap_and_none_sticks_out_of_its_box(page):
    assert page["overlaps"] == [] and page["outside"] == []


def test_every_text_stands_out_from_what_is_behind_it(page):
    assert page["faint"] == []


def test_every_picture_is_shown_and_its_line_lies_exactly_over_it(page):
    assert all(image["natural_width"] == 512 for image in page["images"])
    assert all(image["off"] < 0.6 and image["wide"] >= 200 for image in page["images"])


def test_the_lines_over_a_picture_can_be_hidden(page):
    assert all(shown == [True, False, True] for shown in page["toggled"])


def test_pages_have_the_pictures_they_were_given(seen):
    assert [len(seen[f"{name} 390 dark"]["images"]) for name in PAGES] == [9, 18, 0, 0]
    assert [len(seen[f"{name} 390 dark"]["toggled"]) for name in PAGES] == [3, 6, 0, 0]


def test_links_of_the_index_are_the_names_of_the_pages(seen):
    assert f"{page_name(make_record('1.1'))}" in seen["index 1280 light"]["links"]
