"""The tables that create_folds.py has made, as later steps read them."""

import pandas as pd
import pytest

from aneurysm.folds.tables import chosen_folds, read_folds, read_spots, read_unplaced
from tests.stage1_cache import HEADS, write_data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def test_tables_are_read_with_uids_as_text_and_spots_as_they_were_written(tmp_path, data_dir):
    spots = read_spots(data_dir, 2)
    assert read_folds(data_dir, 2).SeriesInstanceUID.tolist() == [uid for uid, *_ in HEADS]
    first = spots[spots.kind == "positive"].iloc[0]
    assert (first.SeriesInstanceUID, first.slice, first.x, first.location) == ("s0", 3, 300.0, HEADS[0][4])
    assert spots[spots.kind == "negative"][["x", "y", "location"]].isna().all(axis=None)
    assert len(read_unplaced(data_dir, 2)) == 0
    spots.assign(SeriesInstanceUID="1.20").to_csv(tmp_path / "train_stage1_2_folds.csv", index=False)
    assert set(read_spots(tmp_path, 2).SeriesInstanceUID) == {"1.20"}


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_folds, "train_3_folds.csv"),
        (read_spots, "train_stage1_3_folds.csv"),
        (read_unplaced, "localizer_errors.csv"),
    ],
)
def test_a_table_that_is_missing_damaged_or_lacks_a_column_is_named(tmp_path, read, name):
    with pytest.raises(ValueError, match=f"{name}: not there; has create_folds.py run with --folds 3?"):
        read(tmp_path, 3)
    pd.DataFrame({"PatientAge": [50]}).to_csv(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: expected the columns .* found no SeriesInstanceUID"):
        read(tmp_path, 3)
    for damaged in (b"", b"a,b\n1,2,3\n4,5,6,7,8\n", b"\xff\xfe\x00\x81"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}: expected"):
            read(tmp_path, 3)


def test_a_fold_is_chosen_by_its_number_or_all_of_them():
    assert chosen_folds("all", 3) == [0, 1, 2] and chosen_folds("2", 3) == [2]


@pytest.mark.parametrize("fold", ["3", "-1", "one", "", "1.0", "0,1"])
def test_a_fold_that_does_not_exist_is_refused(fold):
    with pytest.raises(ValueError, match="expected a number below 3, or all"):
        chosen_folds(fold, 3)
