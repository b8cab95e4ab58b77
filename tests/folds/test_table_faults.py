"""Impossible values of the tables end in an error with file, line and column, or in a warning that counts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from aneurysm.cache.tables import series_to_do
from aneurysm.folds.localizers import read_localizers
from aneurysm.folds.tables import labelled_series
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import DataPaths

N = 12


def write_tables(folder: Path, patient_ids=None, **cells) -> DataPaths:
    """Twelve sound series; `cells`: column -> (row, value) in its place."""
    train = pd.DataFrame({"SeriesInstanceUID": [f"1.{i}" for i in range(N)], "Modality": "CTA"})
    train[list(LABELS)] = 0
    meta = train[["SeriesInstanceUID"]].assign(series_type="CTA", plane="axial", n_slices=9)
    meta["patient_id"] = patient_ids or [f"p{i}" for i in range(N)]
    for column, (row, value) in cells.items():
        train[column] = train[column].astype(object)
        train.loc[row, column] = value
    train.to_csv(folder / "train.csv", index=False)
    meta.to_csv(folder / "train_meta.csv", index=False)
    return DataPaths(folder)


@pytest.mark.parametrize("value", ["", "2", "-1", "0.5", "nan", "inf", "yes", None])
@pytest.mark.parametrize("label", [LOCATIONS[3], PRESENT])
def test_a_label_that_is_not_0_or_1_is_named_with_file_line_and_column(tmp_path, value, label):
    paths = write_tables(tmp_path, **{label: (3, value)})
    with pytest.raises(ValueError, match=f"train.csv: expected 0 or 1, found .* in line 5, column {label}"):
        labelled_series(paths)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.5 ", "no blanks, found '1.5 '"),
        ("", "one row a series, found it empty 'nan'"),
        ("1.0", "one row a series, found repeated '1.0'"),
    ],
)
def test_a_uid_that_is_missing_repeated_or_has_a_blank_is_named(tmp_path, value, text):
    paths = write_tables(tmp_path, SeriesInstanceUID=(5, value))
    for read in (series_to_do, labelled_series):
        with pytest.raises(ValueError, match=f"train.csv: expected {text} in line 7, column SeriesInstanceUID"):
            read(paths)


def test_labels_written_as_decimals_are_read(tmp_path):
    assert labelled_series(write_tables(tmp_path, **{PRESENT: (3, "1.0")}))[PRESENT].tolist().count(1) == 1


def test_one_patient_id_for_everybody_counts_as_none_with_a_warning(tmp_path):
    paths = write_tables(tmp_path, patient_ids=["ANON"] * 10 + ["a", "b"])
    with pytest.warns(UserWarning, match="patient_id: 10 of 12 series have 'ANON': taken as not known"):
        assert labelled_series(paths).patient_id.dropna().tolist() == ["a", "b"]


def test_a_location_without_an_aneurysm_is_counted(tmp_path):
    with pytest.warns(UserWarning, match=f"train.csv: 1 rows have a location and 0 as {PRESENT}"):
        labelled_series(write_tables(tmp_path, **{LOCATIONS[0]: (4, 1)}))


GOOD = {
    "SeriesInstanceUID": "1.1",
    "SOPInstanceUID": "1.1.1",
    "coordinates": "{'x': 5.0, 'y': 6}",
    "location": LOCATIONS[0],
}


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ({"SeriesInstanceUID": ""}, ": expected a UID, found 'nan' in line 3, column SeriesInstanceUID"),
        ({"SOPInstanceUID": "1.1.2 "}, ": expected no blanks, found '1.1.2 ' in line 3, column SOPInstanceUID"),
        ({"coordinates": "{'x': -1, 'y': 2}"}, ", line 3: expected coordinates of at least 0"),
        (
            {"coordinates": "{'x': 1, 'y': 2, 'f': 1.5}"},
            ", line 3: expected .* a whole frame",
        ),
        ({"coordinates": "{'x': 1e999, 'y': 2}"}, ", line 3: expected coordinates like"),
        ({"location": ""}, ", line 3: unknown location nan"),
    ],
)
def test_an_impossible_localizer_is_named_with_file_and_line(tmp_path, cells, text):
    path = tmp_path / "train_localizers.csv"
    pd.DataFrame([GOOD, GOOD | {"SOPInstanceUID": "1.1.2"} | cells]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"train_localizers.csv{text}"):
        read_localizers(path)


def test_localizers_that_repeat_another_count_once_with_a_warning(tmp_path):
    path = tmp_path / "train_localizers.csv"
    pd.DataFrame([GOOD, GOOD, GOOD | {"SOPInstanceUID": "1.1.2"}]).to_csv(path, index=False)
    with pytest.warns(UserWarning, match="1 rows repeat another: counted once"):
        assert read_localizers(path).SOPInstanceUID.tolist() == ["1.1.1", "1.1.2"]
