"""The slices that a page scrolls through, what is enlarged of them, their projection, and how many bytes they take."""

from dataclasses import replace

import numpy as np
import pytest

from aneurysm.inference.slab import Slab
from aneurysm.report.page import write_page
from aneurysm.report.slice_view import PAGE_BYTES, slice_views
from tests.report_records import decoded, make_pictures, make_record, make_slab


def test_a_picture_is_the_slice_itself_and_what_is_enlarged_lies_around_the_peak():
    image = np.zeros((512, 512), np.uint8)
    image[148:153, 298:303] = 255  # 5 x 5 pixels around x 300, y 150
    (view,) = slice_views([replace(make_pictures()[0], slab=make_slab(image, 4, 4, 4))], "axial", "CTA")
    assert np.abs(decoded(view.frames[view.middle].source) - image).max() < 30
    assert (
        view.whole.view_box == "-0.5 -0.5 512 512"
        and view.whole.style == "width: 100.0000%; left: 0.0000%; top: 0.0000%"
    )
    assert view.enlarged.view_box == "235.5 85.5 128 128"  # pixels 236 to 363 and 86 to 213
    # 512 pixels are 4 times as wide as the pane; its left edge is pixel 236, its upper one 86.
    assert view.enlarged.style == "width: 400.0000%; left: -184.3750%; top: -67.1875%"


def test_what_is_enlarged_of_a_peak_at_the_edge_stays_in_the_image():
    (view,) = slice_views([replace(make_pictures()[0], x=510.0, y=3.0)], "axial", "CTA")
    assert view.enlarged.view_box == "383.5 -0.5 128 128" and view.projected.view_box == "255.5 -0.5 256 256"


def test_the_slices_around_stand_in_their_order_with_their_distance_from_the_central_one():
    (view,) = slice_views(make_pictures()[:1], "axial", "CTA")
    assert len(view.frames) == 11 and view.middle == 4
    assert [frame.text for frame in view.frames[3:6]] == [
        "Slice 3 at -2.50 mm, -2.50 mm from it", "Slice 4 at 0.00 mm, the central one",
        "Slice 5 at 2.50 mm, +2.50 mm from it",
    ]  # fmt: skip
    columns = np.stack([decoded(frame.source)[100] for frame in view.frames])
    expected = np.stack([np.roll(np.arange(512) // 2, number - 4) for number in range(11)])
    assert np.abs(columns - expected)[:, 30:480].max() < 4  # JPEG; the ends are a step


@pytest.mark.parametrize(
    ("series_type", "value", "name"),
    [
        ("MRA", 200, "Maximum of 11 slices over 25.00 mm"),  # slice 0, 10 mm below
        ("MR", 200, "Maximum of 11 slices over 25.00 mm"),
        ("MRI T1post", 200, "Maximum of 11 slices over 25.00 mm"),
        ("MRI T2", 20, "Minimum of 11 slices over 25.00 mm"),
        ("CTA", 100, "Maximum of 5 slices over 10.00 mm"),  # slices 2 to 6: bone would be in the way
        ("CT", 100, "Maximum of 5 slices over 10.00 mm"),
    ],
)
def test_the_projection_is_the_brightest_or_darkest_value_of_the_slices(series_type, value, name):
    slab = make_slab(np.full((512, 512), 60, np.uint8), 0, 10, 4)
    slab.images[:, :, :8] = 70  # an image of one value was not decoded, and counts nowhere
    slab.images[0, 200:300, 100:200], slab.images[2, 200:300, 100:200] = 200, 100
    slab.images[9, 200:300, 100:200], slab.images[10] = 20, 0
    (view,) = slice_views([replace(make_pictures()[0], slab=slab)], "axial", series_type)
    shown = decoded(view.projection)
    assert abs(shown[250, 150] - value) < 4 and abs(shown[50, 50] - 60) < 4 and view.projected.name == name


def test_pictures_that_compress_badly_are_shown_in_a_lower_quality_so_that_a_page_stays_below_4_mb(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (21, 512, 512), np.uint8)
    slab = Slab(np.arange(21), np.arange(21) * 1.0, noise, 10)
    for n_pictures in (1, 3):
        write_page(tmp_path / "page.html", make_record(), [replace(make_pictures()[0], slab=slab)] * n_pictures)
        assert 1_500_000 < (tmp_path / "page.html").stat().st_size <= PAGE_BYTES
    write_page(tmp_path / "page.html", make_record(), make_pictures())
    assert (tmp_path / "page.html").stat().st_size < 1_000_000
