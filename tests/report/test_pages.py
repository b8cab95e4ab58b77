"""The pages that people look at: what stands on them, what is drawn where, and that nothing hostile gets through."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError

from aneurysm.inference.prediction import Prediction
from aneurysm.inference.record import record_of
from aneurysm.labels import LABELS, PRESENT
from aneurysm.report.folder import write_series
from aneurysm.report.page import page_name, write_index, write_page
from aneurysm.report.thumbnail import thumbnail
from tests.read_html import Element, read_html
from tests.report_records import (
    HOSTILE,
    PREVALENCE,
    PROBABILITIES,
    make_failed,
    make_finding,
    make_pictures,
    make_record,
    make_slab,
)

LOADS = {"src", "href", "srcset", "action", "formaction", "poster", "data", "background", "xlink:href", "ping"}
DEVICE_LINE = "Research use, not a medical device"


def series_page(folder: Path, record: dict, pictures=()) -> Element:
    write_page(folder / "page.html", record, pictures)
    return read_html((folder / "page.html").read_text("utf-8"))


def index_page(folder: Path, records: list[dict]) -> Element:
    write_index(folder / "index.html", records)
    return read_html((folder / "index.html").read_text("utf-8"))


def words(element: Element) -> str:
    return " ".join(element.text.split())


def cells(row: Element) -> list[str]:
    return [words(cell) for cell in row.inside]


@pytest.fixture(params=["series", "series without heatmaps", "failed series", "index"])
def hostile(request, tmp_path) -> Element:
    """Every text that comes from files is hostile."""
    texts = {"place": f"/data/{HOSTILE}", "warnings": [HOSTILE, HOSTILE], "left_out": [HOSTILE], "type": HOSTILE}
    finding = make_finding("Basilar Tip", 0.5) | {"sop_instance_uid": HOSTILE, "file": HOSTILE}
    read, failed = make_record(HOSTILE, **texts, findings=[finding]), make_failed(HOSTILE, failure=HOSTILE, **texts)
    pictures = [replace(picture, sop_uid=HOSTILE, file=HOSTILE) for picture in make_pictures()]
    if request.param == "index":
        return index_page(tmp_path, [read, failed])
    if request.param == "failed series":
        return series_page(tmp_path, failed)
    if request.param == "series without heatmaps":
        pictures = [without_heat(picture) for picture in pictures]
    return series_page(tmp_path, read, pictures)


def without_heat(picture):
    return replace(picture, heatmap=np.full((512, 512), np.nan, np.float32), x=np.nan, y=np.nan)


def test_a_page_loads_nothing_but_what_it_holds_and_its_neighbours(hostile):
    for element in hostile.all():
        for name in LOADS & set(element.attributes):
            target = element.attributes[name]
            assert re.fullmatch(r"data:.*|#picture-\d|[A-Za-z0-9_-][A-Za-z0-9._-]*\.html", target), (element.tag, name)
        assert element.tag not in {"iframe", "object", "embed", "base", "form", "image", "use"}
        assert not any(name.startswith("on") for name in element.attributes)
        assert "url(" not in (element.attributes.get("style") or "")
    (style,) = hostile.all("style")
    assert not re.search(r"url\(|@import|http", style.text)
    (link,) = hostile.all("link")
    assert link.attributes == {"rel": "icon", "href": "data:,"}
    refresh = [meta for meta in hostile.all("meta") if meta.has("http-equiv", "refresh")]
    (policy,) = hostile.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert not refresh
    # No more than this may be loaded or run: the checksum is that of the one script, CSP level 3, section 2.3.1.
    scripts = hostile.all("script")
    digests = [base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == len(hostile.all("article")[:1]) and all(script.attributes == {} for script in scripts)
    allowed = "".join(f"; script-src 'sha256-{digest}'" for digest in digests)
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'" + allowed
    assert not any(re.search(r"https?:|fetch|XMLHttp|innerHTML|eval|import", script.text) for script in scripts)


def test_hostile_text_stands_on_the_page_as_text(hostile):
    main, pictures = hostile.all("main")[0], hostile.all("article")
    assert main.text.count(HOSTILE) >= 2
    assert all(image.attributes["src"].startswith("data:image/jpeg;base64,") for image in hostile.all("img"))
    assert all(article.text.count(HOSTILE) == 2 for article in pictures)


def test_all_14_labels_stand_with_probability_bar_and_prevalence(tmp_path):
    page = series_page(tmp_path, make_record())
    (table,) = page.all("table", class_="bars")
    rows = table.all("tbody")[0].all("tr")
    assert [cells(row)[0] for row in rows] == [PRESENT, *LABELS[:-1]]
    for row, label in zip(rows, [PRESENT, *LABELS[:-1]], strict=True):
        assert cells(row)[2:] == [f"{PROBABILITIES[label]:.2f}", f"{PREVALENCE[label]:.2f}"]
        (filled,), (tick,) = row.all("i"), row.all("b")
        assert filled.attributes["style"] == f"width: {100 * PROBABILITIES[label]:.2f}%"
        assert tick.attributes["style"] == f"left: {100 * PREVALENCE[label]:.2f}%"
    strong = [cells(row)[0] for row in rows if row.has("class", "strong")]
    assert strong == [PRESENT, "Left Infraclinoid Internal Carotid Artery"]  # 0.81, the highest of the 13


def test_the_headline_is_aneurysm_present_beside_its_prevalence(tmp_path):
    page = series_page(tmp_path, make_record())
    (headline,) = page.all("section", class_="headline")
    assert words(headline).startswith("Aneurysm Present 0.93 Prevalence in the training data: 0.15")
    assert "Strongest location: Left Infraclinoid Internal Carotid Artery, 0.81 (prevalence 0.02)" in words(headline)
    assert words(page.all(class_="research")[0]) == DEVICE_LINE
    assert words(page.all("title")[0]) == f"0.93, CTA, axial, {make_record()['series_uid']}"


def test_warnings_and_what_was_left_out_stand_in_words(tmp_path):
    (note,) = series_page(tmp_path, make_record()).all("section", class_="note")
    assert [words(item) for item in note.all("li")] == ["pixel spacing missing: taken as 0.5 mm", "mirrored views"]
    assert not series_page(tmp_path, make_record(warnings=[], left_out=[])).all("section", class_="note")


def test_findings_stand_with_their_place_in_image_and_patient(tmp_path):
    finding = make_finding("Basilar Tip", 0.126) | {"file": "a.dcm", "frame": 7, "patient_mm": [-0.001, -30.25, 1.005]}
    (table,) = series_page(tmp_path, make_record(findings=[finding])).all("table", class_="findings")
    (row,) = table.all("tbody")[0].all("tr")
    place = ["a.dcm, frame 7", "201.50", "143.25", "0.00", "-30.25"]
    assert cells(row)[:-1] == ["Basilar Tip", "0.13", "4", *place]


def test_a_failed_series_says_why_and_shows_no_number_of_an_answer(tmp_path):
    page = series_page(tmp_path, make_failed(warnings=["a.dcm: damaged"]), make_pictures())
    (stop,) = page.all("section", class_="stop")
    assert "There is no answer for this series no image found" in words(stop)
    assert "neither a negative nor a positive result" in words(stop)
    shown = words(page.all("main")[0])
    assert DEVICE_LINE in shown and "a.dcm: damaged" in shown and "Series of unknown type" in shown
    assert not re.search(r"\d\.\d\d(?!\d)", shown.replace("1.2.3", ""))
    assert "revalence" not in shown and not page.all("img") and not page.all("table") and not page.all(class_="bar")


def test_the_index_has_the_most_suspicious_first_and_those_unread_apart(tmp_path):
    def result(uid: str, present: float, **changes) -> dict:
        return make_record(uid, probabilities=PROBABILITIES | {PRESENT: present, "Basilar Tip": 0.9}, **changes)

    records = [result("1.1", 0.2), make_failed("1.9"), result("1.2", 0.7, warnings=["a", "b"]), result("1.3", 0.4)]
    page = index_page(tmp_path, records)
    (table,) = page.all("table")
    rows = [cells(row) for row in table.all("tbody")[0].all("tr")]
    assert [row[0] for row in rows] == ["1.2", "1.3", "1.1"]
    assert rows[0][2:] == ["0.70", "Basilar Tip, 0.90", "CTA, axial", "28", "3"]
    assert [link.attributes["href"] for link in page.all("a")] == ["1.9.html", "1.2.html", "1.3.html", "1.1.html"]
    (stop,) = page.all("section", class_="stop")
    assert "Could not be read: 1 series 1.9: no image found" in words(stop)
    assert "4 series, 1 could not be read" in words(page.all("header")[0])
    assert DEVICE_LINE in words(page.all("header")[0])
    assert "1 series, all of them read" in words(index_page(tmp_path, records[:1]))


def test_the_index_shows_what_each_series_first_picture_has_around_its_peak(tmp_path):
    image = np.zeros((512, 512), np.uint8)
    image[148:153, 298:303] = 255  # around x 300, y 150
    first = replace(make_pictures()[0], slab=make_slab(image, 0, 8, 4))
    record = make_record("1.1")
    write_series(tmp_path, record, [first, *make_pictures()[1:]])
    assert json.loads((tmp_path / "1.1.json").read_text())["thumbnail"] == record["thumbnail"]
    page = index_page(tmp_path, [record, make_record("1.2"), make_failed("1.9", thumbnail=None)])
    (shown,) = page.all("img")
    head, data = shown.attributes["src"].split(",")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert head == "data:image/jpeg;base64" and picture.shape == (144, 144, 3) and len(data) < 10_000
    rows, columns = np.nonzero(picture[60:84, 60:84].min(axis=2) > 160)  # 128 pixels around the peak are 144
    assert abs(rows.mean() - 12) < 1.5 and abs(columns.mean() - 12) < 1.5 and len(rows) > 15
    assert picture[72 - 26, 72, 0] > 150 > picture[72 - 26, 72, 2]  # a blue ring
    assert page.all("a")[1].all("img") == [shown] and page.all("a")[1].attributes["href"] == "1.1.html"


@pytest.mark.parametrize("peak", [(0.0, 511.0), (511.0, 0.0), (np.nan, np.nan)])
def test_a_peak_at_the_edge_or_none_has_a_thumbnail_too(peak):
    picture = replace(make_pictures()[0], x=peak[0], y=peak[1])
    assert thumbnail([picture]).startswith("data:image/jpeg;base64,") and thumbnail([]) is None


@pytest.mark.slow
def test_of_very_many_series_the_most_suspicious_have_thumbnails(tmp_path):
    source = "data:image/jpeg;base64," + 1000 * "A"

    def result(n: int) -> dict:
        return make_record(f"1.{n}", thumbnail=source, probabilities=PROBABILITIES | {PRESENT: n / 5000})

    page = index_page(tmp_path, [result(n) for n in range(3500)])
    shown = [bool(row.all("img")) for row in page.all("tbody")[0].all("tr")]
    n_shown = 3_000_000 // len(source)
    assert shown == [True] * n_shown + [False] * (3500 - n_shown)
    assert f"{3500 - n_shown} less suspicious series have none" in words(page)


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.113619", r"1\.2\.840\.113619\.html"),
        ("../../etc/x y", r"_\.\._etc_x_y-[0-9a-f]{12}\.html"),
        ("index", r"index-[0-9a-f]{12}\.html"),
        ("Index", r"Index-[0-9a-f]{12}\.html"),
        ("", r"-[0-9a-f]{12}\.html"),
        ("é\udce4" * 200, r"_{120}-[0-9a-f]{12}\.html"),
    ],
)
def test_a_pages_name_is_its_uid_made_safe(uid, name):
    found = page_name(make_record(uid))
    assert re.fullmatch(name, found) and len(found) < 200


def test_series_whose_safe_names_are_equal_have_pages_of_their_own():
    assert len({page_name(make_record(uid)) for uid in ("a b", "a_b", "a/b", "A" * 120, "A" * 121)}) == 5


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
    series_page(tmp_path, make_record("1.1"))
    broken = make_record("1.2")
    del broken["bundle"]
    with pytest.raises(UndefinedError, match="bundle"):
        series_page(tmp_path, broken)
    assert "1.1" in (tmp_path / "page.html").read_text() and [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_whose_name_is_no_valid_text_is_shown_all_the_same(tmp_path):
    page = series_page(tmp_path, make_record(place="/data/M\udcfcller"))
    assert r"/data/M\udcfcller" in page.text


def test_the_records_of_these_tests_are_like_those_of_real_series():
    failed = Prediction(Path("a"), np.zeros(14), {}, uid="1.2.3", failure="no image found")
    assert record_of(failed, np.array(list(PREVALENCE.values())), {}).keys() == make_record().keys()
