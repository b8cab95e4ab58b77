"""Hard negatives: chosen by probability and distance, written to Parquet and read back."""

import numpy as np
import pandas as pd
import pytest

from aneurysm.folds.hard_negatives import read_hard_negatives, select_hard_negatives, write_hard_negatives
from aneurysm.folds.spots import excluded_series
from aneurysm.labels import PRESENT
from aneurysm.paths import DataPaths


def slices(*rows: tuple[str, int, float, float]) -> pd.DataFrame:
    """Series, slice, position in mm, probability; all of fold 1, and a column that nobody asked for."""
    table = pd.DataFrame(rows, columns=["SeriesInstanceUID", "slice", "position_mm", "probability"])
    return table.assign(fold=1, Modality="CTA")


def marks(**position_mm: list[float]) -> pd.DataFrame:
    rows = [(uid, position) for uid, positions in position_mm.items() for position in positions]
    return pd.DataFrame(rows, columns=["SeriesInstanceUID", "position_mm"])


def test_a_series_is_barred_if_a_localizer_has_no_place_or_a_positive_one_has_none():
    series = pd.DataFrame({"SeriesInstanceUID": ["a", "b", "c", "d"], PRESENT: [1, 1, 1, 0]})
    positives = pd.DataFrame({"SeriesInstanceUID": ["a", "b"]})
    unplaced = pd.DataFrame({"SeriesInstanceUID": ["b"]})
    assert excluded_series(series, positives, unplaced) == {"b", "c"}


def test_hard_negatives_are_likely_and_far_from_every_localizer_of_their_own_series():
    table = slices(
        ("b", 9, 20.0, 0.9),  # 20 mm from nothing: the localizer at 20 mm is another series'
        ("a", 0, -10.0, 0.9),  # 30 mm from the one localizer, 60 from the other
        ("a", 1, 0.0, 0.5),  # exactly 20 mm, exactly at the threshold
        ("a", 2, 0.1, 0.9),  # 19.9 mm
        ("a", 3, 35.0, 0.9),  # 15 mm from both
        ("a", 4, 70.0, 0.49),  # far, and not likely
        ("a", 5, 70.0, 0.51),
    )
    chosen = select_hard_negatives(table, marks(a=[20.0, 50.0]), set(), threshold=0.5, safe_mm=20)
    assert list(zip(chosen.SeriesInstanceUID, chosen.slice, strict=True)) == [("a", 0), ("a", 1), ("a", 5), ("b", 9)]
    assert chosen.index.tolist() == [0, 1, 2, 3]
    assert list(chosen) == ["SeriesInstanceUID", "slice", "probability", "position_mm", "fold"]


def test_barred_series_supply_no_hard_negatives():
    table = slices(("a", 0, 0.0, 0.9), ("b", 0, 0.0, 0.9))
    assert select_hard_negatives(table, marks(), {"a"}, 0.5, safe_mm=1e9).SeriesInstanceUID.tolist() == ["b"]
    assert len(select_hard_negatives(table, marks(), {"a", "b"}, 0.5, 20)) == 0


def test_a_probability_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="found NaN in series b"):
        select_hard_negatives(slices(("a", 0, 0.0, 0.9), ("b", 0, 0.0, np.nan)), marks(), set(), 0.5, 20)


def test_a_table_is_written_and_read_back_as_sorted_indices_each_once(tmp_path):
    path = DataPaths(tmp_path).hard_negatives
    write_hard_negatives(slices(("b", 4, 1, 0.9), ("a", 7, 2, 0.8), ("a", 3, 1, 0.7), ("a", 7, 2, 0.8)), path)
    assert [file.name for file in tmp_path.iterdir()] == ["hard_negatives.parquet"]
    types = pd.read_parquet(path).dtypes.astype(str).to_dict()
    assert types.pop("SeriesInstanceUID") in ("str", "object")
    assert types == {"slice": "int32", "probability": "float32", "position_mm": "float64", "fold": "int32"}
    found = read_hard_negatives(path)
    assert {uid: indices.tolist() for uid, indices in found.items()} == {"a": [3, 7], "b": [4]}


def test_no_hard_negatives_are_a_table_too(tmp_path):
    write_hard_negatives(slices(("a", 0, 0.0, 0.1))[:0], tmp_path / "h.parquet")
    assert read_hard_negatives(tmp_path / "h.parquet") == {}


@pytest.mark.parametrize("wrong", [-1, 2**31])
def test_indices_that_no_slice_can_have_are_refused(tmp_path, wrong):
    path = tmp_path / "h.parquet"
    pd.DataFrame({"SeriesInstanceUID": ["a", "b"], "slice": [1, wrong]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"h.parquet: expected slice indices, found .* for b"):
        read_hard_negatives(path)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({"SeriesInstanceUID": ["a"]}, "found no slice"),
        ({"slice": [1]}, "found no SeriesInstanceUID"),
        ({"SeriesInstanceUID": [5], "slice": [1]}, "expected series uids as text, found int64"),
        ({"SeriesInstanceUID": ["a", None], "slice": [1, 2]}, "with 1 missing"),
        ({"SeriesInstanceUID": ["a"], "slice": [1.5]}, "expected slice indices as whole numbers, found float64"),
        ({"SeriesInstanceUID": ["a"], "slice": [-1]}, "expected slice indices, found -1 to -1 for a"),
    ],
)
def test_a_table_of_another_content_is_refused(tmp_path, table, found):
    path = tmp_path / "hard.parquet"
    pd.DataFrame(table).to_parquet(path)
    with pytest.raises(ValueError, match=f"hard.parquet: .*{found}"):
        read_hard_negatives(path)


def test_a_file_that_is_missing_or_cut_short_is_named(tmp_path):
    path = tmp_path / "hard.parquet"
    with pytest.raises(ValueError, match="hard.parquet: not there"):
        read_hard_negatives(path)
    write_hard_negatives(slices(("a", 0, 0.0, 0.9)), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="hard.parquet: expected a Parquet file"):
        read_hard_negatives(path)


def test_a_write_that_fails_half_way_leaves_the_earlier_table(tmp_path, monkeypatch):
    def fill_the_disk(rows, place):
        place.write_bytes(b"PAR1")
        raise OSError("disk full")

    write_hard_negatives(slices(("a", 0, 0.0, 0.9)), tmp_path / "h.parquet")
    monkeypatch.setattr("pyarrow.parquet.write_table", fill_the_disk)
    with pytest.raises(OSError, match="disk full"):
        write_hard_negatives(slices(("b", 0, 0.0, 0.9)), tmp_path / "h.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["h.parquet"]
    assert list(read_hard_negatives(tmp_path / "h.parquet")) == ["a"]


def test_a_table_without_a_column_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="h.parquet: .*found no fold"):
        write_hard_negatives(slices().drop(columns="fold"), tmp_path / "h.parquet")
    assert list(tmp_path.iterdir()) == []
