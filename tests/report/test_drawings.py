"""What the pages draw: the curve, the slices, their cut-outs, and the line around the heatmap, by hand-made numbers."""

from dataclasses import replace

import numpy as np
import pytest

from aneurysm.labels import LABELS, PRESENT
from aneurysm.report.curve import draw_curve, spread, ticks
from aneurysm.report.page import write_page
from aneurysm.report.slice_view import outline
from tests.read_html import Element, read_html
from tests.report_records import cone, make_pictures, make_record, make_slab

NO_HEAT = np.full((512, 512), np.nan, np.float32)


def points(path: str) -> list[np.ndarray]:
    """Each closed line of an SVG path as (n, 2) x and y."""
    assert path.startswith("M") and path.endswith("Z")
    lines = [line.strip(" Z").split("L") for line in path.split("M")[1:]]
    return [np.array([pair.split() for pair in line], float) for line in lines]


def page_of(folder, record: dict, pictures=()) -> Element:
    write_page(folder / "page.html", record, pictures)
    return read_html((folder / "page.html").read_text())


def test_the_line_runs_where_the_heat_is_half_of_its_highest():
    (line,) = points(outline(cone(300, 150, 0.8, 40)))  # falls to 0.4 at 20 pixels
    radius = np.hypot(line[:, 0] - 300, line[:, 1] - 150)
    assert np.abs(radius - 20).max() < 0.2
    angles = np.sort(np.arctan2(line[:, 1] - 150, line[:, 0] - 300))
    assert len(line) > 60 and np.diff(angles).max() < 0.2  # all the way round


def test_a_disc_is_lined_at_its_own_edge_within_a_pixel():
    y, x = np.mgrid[:512, :512]
    (line,) = points(outline(0.6 * (np.hypot(x - 100, y - 400) <= 15).astype(np.float32)))
    assert np.abs(np.hypot(line[:, 0] - 100, line[:, 1] - 400) - 15).max() < 1


def test_only_what_is_hotter_than_half_of_the_highest_is_lined():
    weaker = outline(np.maximum(cone(300, 150, 0.8, 40), cone(100, 300, 0.39, 40)))
    assert len(points(weaker)) == 1
    stronger = points(outline(np.maximum(cone(300, 150, 0.8, 40), cone(100, 300, 0.5, 40))))
    assert sorted(tuple(line.mean(0).round()) for line in stronger) == [(100, 300), (300, 150)]


def test_the_line_of_faint_heat_stays_at_the_floor_and_fainter_heat_has_none():
    (line,) = points(outline(cone(300, 150, 0.08, 40)))  # half would be 0.04; 0.05 is reached at 15 pixels
    assert np.abs(np.hypot(line[:, 0] - 300, line[:, 1] - 150) - 15).max() < 0.2
    assert outline(cone(300, 150, 0.04, 40)) == "" and outline(NO_HEAT) == "" and outline(0 * NO_HEAT) == ""


def test_a_line_at_the_edge_of_the_image_closes_there():
    (line,) = points(outline(cone(0, 250, 0.8, 40)))
    assert line[:, 0].min() == pytest.approx(-0.5, abs=0.05) and 19 < line[:, 0].max() < 21


@pytest.mark.parametrize(
    ("plane", "letters"), [("axial", ["R", "L"]), ("coronal", ["R", "L"]), ("sagittal", ["A", "P"])]
)
def test_letters_tell_the_sides_of_each_picture(tmp_path, plane, letters):
    page = page_of(tmp_path, make_record(plane=plane), make_pictures()[:1])
    panes = page.all(class_="pane")
    assert len(panes) == 3
    for pane in panes:
        first, last = pane.all(class_="first"), pane.all(class_="last")
        assert [letter.text for letter in first + last] == letters


def test_a_picture_has_its_finding_marked_and_stands_above_its_facts(tmp_path):
    page = page_of(tmp_path, make_record(), make_pictures())
    first = page.all("article")[0]
    crosses = [path for path in first.all("path") if path.has("class", "cross")]
    assert len(crosses) == 6  # two layers on three images
    assert {path.attributes["transform"] for path in crosses} == {"translate(300.00 150.00)"}
    rings = first.all("circle", class_="ring")
    assert len(rings) == 4  # on the slices; not on the projection, where the cross stays
    assert {ring.attributes["transform"] for ring in rings} == {"translate(300.00 150.00)"}
    assert all(path.attributes["d"].split("M")[1].startswith("0 -24V-14") for path in crosses)  # the middle is free
    lines = [path.attributes["d"] for path in first.all("path") if path.has("class", "line")]
    assert lines == [outline(make_pictures()[0].heatmap)] * 4  # two layers on two images
    facts = dict(zip(*([" ".join(e.text.split()) for e in first.all(tag)] for tag in ("dt", "dd")), strict=True))
    assert facts["Slice"] == "4, at 0.00 mm" and facts["Location"] == "Basilar Tip"
    assert facts["Place in the original image"] == "column 201.25, row 99.00"
    assert facts["Probability"] == "0.90" and "Strongest findings" in page.text
    assert facts["Original image"] == f"{make_pictures()[0].file}, frame 0"
    assert facts["SOP Instance UID"] == make_pictures()[0].sop_uid
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert not [path for path in page.all("article")[2].all("path") if path.has("class", "line")]  # too faint


def test_scale_bars_are_as_long_as_they_say(tmp_path):
    page = page_of(tmp_path, make_record(), make_pictures()[:1])  # 512, 128 and 256 pixels of 0.5 mm
    bars = [(bar.text, bar.attributes["style"]) for bar in page.all(class_="scale")]
    assert bars == [
        ("50 mm", f"width: {50 / 256:.2%}"),
        ("10 mm", f"width: {10 / 64:.2%}"),
        ("20 mm", f"width: {20 / 128:.2%}"),
    ]


def test_without_a_script_one_slice_is_shown_the_central_one(tmp_path):
    page = page_of(tmp_path, make_record(), make_pictures())
    for article, middle in zip(page.all("article"), (4, 6, 0), strict=True):
        shown = ["hidden" not in image.attributes for image in article.all(class_="frames")[0].all("img")]
        assert shown == [number == middle for number in range(len(shown))]
        (control,) = article.all(class_="control")
        assert "hidden" in control.attributes  # it would do nothing


def test_a_slice_without_others_around_it_has_nothing_to_scroll(tmp_path):
    alone = replace(make_pictures()[0], slab=make_slab(make_pictures()[0].image, 4, 4, 4))
    page = page_of(tmp_path, make_record(), [alone])
    assert not page.all(class_="control") and not page.all(type="range")
    assert "Maximum of 1 slice" in page.text


def test_without_heatmaps_there_is_the_slice_and_nothing_over_it(tmp_path):
    page = page_of(tmp_path, make_record(), [replace(make_pictures()[0], heatmap=NO_HEAT, x=np.nan, y=np.nan)])
    (article,) = page.all("article")
    assert len(article.all("img")) == 11 + 1 and not article.all("svg") and not article.all(type="checkbox")
    assert "Place in" not in article.text and "nan" not in article.text
    assert f"{PRESENT} in this slice" in article.text and "Most suspicious slices" in page.text


def test_the_curve_runs_through_each_windows_place_and_probability():
    curve = draw_curve(make_record(), make_pictures())  # at -10, 0 and 30 mm
    assert curve.points == "0.00,90.00 25.00,10.00 100.00,50.00"
    assert curve.other == "0.00,98.00 25.00,90.00 100.00,95.00" and curve.other_name == LABELS[0]
    assert [(mark.number, mark.x, mark.y) for mark in curve.annotations] == [
        (1, 25, pytest.approx(10)), (2, 100, 50), (3, 0, 90),
    ]  # fmt: skip
    assert [(stripe.x, stripe.width) for stripe in curve.hovers] == [(0, 12.5), (12.5, 50), (62.5, 37.5)]
    assert [(stripe.slice, stripe.position_mm, stripe.probability) for stripe in curve.hovers] == [
        (0, -10, 0.1), (4, 0, 0.9), (16, 30, 0.5),
    ]  # fmt: skip
    assert curve.ticks == [(0, "-10"), (25, "0"), (50, "10"), (75, "20"), (100, "30")]
    assert curve.axis == "neck at the left, vertex at the right"


def test_the_curve_names_slice_place_and_probability_and_links_to_the_pictures(tmp_path):
    (plot,) = page_of(tmp_path, make_record(), make_pictures()).all(class_="plot")
    assert [title.text for title in plot.all("title")] == [
        "Slice 0, -10.00 mm: 0.10", "Slice 4, 0.00 mm: 0.90", "Slice 16, 30.00 mm: 0.50",
    ]  # fmt: skip
    assert [link.attributes["href"] for link in plot.all("a")] == ["#picture-1", "#picture-2", "#picture-3"]


def test_the_curve_of_a_single_slice_is_a_point_in_the_middle():
    curves = {"slice": [3], "position_mm": [7.5], "probability": {label: [0.25] for label in LABELS}}
    curve = draw_curve(make_record(curves=curves), [replace(make_pictures()[0], position_mm=7.5, probability=0.9)])
    assert curve.points == "50.00,75.00" and curve.annotations[0].x == 50 and curve.hovers[0].width == 100


def test_a_record_without_curves_has_no_curve_on_its_page(tmp_path):
    assert draw_curve(make_record(curves=None), ()) is None
    assert not page_of(tmp_path, make_record(curves=None)).all(class_="plot")


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([50.0], [50]),
        ([10.0, 40.0, 25.0], [10, 40, 25]),
        ([50.0, 52.0, 51.0], [50, 70, 60]),
        ([99.0, 98.0], [100, 90]),
        ([0.0, 0.0, 0.0], [0, 10, 20]),
        ([], []),
    ],
)
def test_numbers_above_the_curve_keep_apart_and_in_their_order(places, moved):
    assert spread(places, gap=10) == pytest.approx(moved)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-87.5, 92.0, [-50, 0, 50]),
        (3.0, 3.0, [3]),
        (0.4, 5.2, [1, 2, 3, 4, 5]),
        (-1.0, 11.0, [0, 5, 10]),
    ],
)
def test_the_axis_has_round_millimetres(low, high, expected):
    assert ticks(low, high) == expected
    assert not any(value == 0 and np.signbit(value) for value in ticks(low, high))
