"""Localizers: read with checks, placed by the mapping, and never lost."""

import numpy as np
import pandas as pd
import pytest

from aneurysm.cache.cache import open_cache
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.folds.localizers import place_localizers, read_localizers
from aneurysm.report.contact_sheet import contact_sheet
from tests.dicom_writer import write_enhanced, write_stack

HEADER = "SeriesInstanceUID,SOPInstanceUID,coordinates,location\n"


def test_coordinates_become_numbers_and_a_frame_where_there_is_one(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(
        HEADER + "s,i,\"{'x': 258.3, 'y': 261}\",Basilar Tip\n" + "s,j,\"{'x': 1, 'y': 2, 'f': 17}\",Basilar Tip\n"
    )
    table = read_localizers(path)
    assert table.x.tolist() == [258.3, 1.0] and table.y.tolist() == [261.0, 2.0]
    assert pd.isna(table.frame[0]) and table.frame[1] == 17


@pytest.mark.parametrize(
    "coordinates",
    [
        "{'x': 1}",
        "{'x': 1, 'y': 'a'}",
        "{'x': 1, 'y': 2, 'z': 3}",
        "[1, 2]",
        "__import__('os').getcwd()",
        "{'x': 1e999, 'y': 2}",
        "",
    ],
)
def test_anything_else_is_refused_with_the_line_named(tmp_path, coordinates):
    path = tmp_path / "train_localizers.csv"
    path.write_text(HEADER + "s,i,\"{'x': 1, 'y': 2}\",Basilar Tip\n" + f's,i,"{coordinates}",Basilar Tip\n')
    with pytest.raises(ValueError, match=r"train_localizers.csv, line 3: expected coordinates"):
        read_localizers(path)


def test_an_unknown_location_or_a_missing_column_is_refused(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(HEADER + "s,i,\"{'x': 1, 'y': 2}\",Spleen\n")
    with pytest.raises(ValueError, match="line 2: unknown location 'Spleen'"):
        read_localizers(path)
    path.write_text("SeriesInstanceUID,location\ns,Spleen\n")
    with pytest.raises(ValueError, match="found no SOPInstanceUID, coordinates"):
        read_localizers(path)


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A stack of four and a multi-frame file of three images of 60 x 60 pixels, cached whole."""
    root = tmp_path_factory.mktemp("data")
    volume = np.full((4, 60, 60), 1000, np.int16)
    uids = write_stack(root / "series" / "stack", volume, spacing=(5.0, 2.0, 2.0))
    write_enhanced(root / "series" / "frames" / "f.dcm", volume[:3], spacing=(5.0, 2.0, 2.0), SOPInstanceUID="1.2.9")
    for uid in ("stack", "frames"):
        assert preprocess_series(root, uid, CacheSettings(head_mm=0), slices=False).kind == ""
    return root, uids


def rows(*points) -> pd.DataFrame:
    columns = ["SeriesInstanceUID", "SOPInstanceUID", "location", "x", "y", "frame"]
    table = pd.DataFrame(points, columns=columns)
    return table.astype({"frame": "Int64"})


def test_a_localizer_is_placed_in_pixels_of_the_cache(cached):
    root, uids = cached
    table = rows(("stack", uids[2], "Basilar Tip", 10, 40, None), ("frames", "1.2.9", "Basilar Tip", 10, 40, 1))
    placed, errors = place_localizers(open_cache(root), table)
    assert len(errors) == 0 and placed.slice.tolist() == [2, 1]
    # The CT fills its image: with a margin of 4 % of 60 on each side 65 pixels are kept, from -2 on. In the MR, all of
    # one value, no head is found: its 60 are kept. Edges meet edges: pixel i of n goes to (i + 0.5) * 512 / n - 0.5.
    assert placed.cache_x.tolist() == pytest.approx([12.5 * 512 / 65 - 0.5, 10.5 * 512 / 60 - 0.5])
    assert placed.cache_y.tolist() == pytest.approx([42.5 * 512 / 65 - 0.5, 40.5 * 512 / 60 - 0.5])


def test_a_localizer_without_a_place_says_why(cached):
    root, uids = cached
    table = rows(
        ("absent", uids[0], "Basilar Tip", 1, 1, None),
        ("stack", "1.9.9", "Basilar Tip", 1, 1, None),
        ("stack", uids[0], "Basilar Tip", 99, 1, None),
        ("frames", "1.2.9", "Basilar Tip", 1, 1, 7),
        ("frames", "1.2.9", "Basilar Tip", 1, 1, None),
    )
    placed, errors = place_localizers(open_cache(root), table)
    assert len(placed) == 0 and len(errors) == 5
    reasons = (
        "not there",
        "no image 1.9.9",
        "outside the image of 60 columns",
        "no frame 7",
        "3 frames and none is named",
    )
    for error, reason in zip(errors.error, reasons, strict=True):
        assert reason in error


def test_the_contact_sheet_has_a_row_for_each_kind_of_series(cached):
    import matplotlib.image

    root, uids = cached
    (root / "train_localizers.csv").write_text(HEADER + f"stack,{uids[2]},\"{{'x': 20, 'y': 30}}\",Basilar Tip\n")
    meta = [open_cache(root).meta(uid) for uid in ("stack", "frames")]
    pd.DataFrame(meta).to_csv(root / "train_meta.csv", index=False)
    heights = []
    for kinds in (["CTA", "CTA"], ["CTA", "MRA"]):
        pd.DataFrame(meta).assign(series_type=kinds).to_csv(root / "train_meta.csv", index=False)
        contact_sheet(root, root / "sheet.png")
        heights.append(matplotlib.image.imread(root / "sheet.png").shape[0])
    assert heights[1] == 2 * heights[0]
    sheet = matplotlib.image.imread(root / "sheet.png")
    assert (sheet[..., 0] - sheet[..., 2] > 0.5).any()  # the orange circle
