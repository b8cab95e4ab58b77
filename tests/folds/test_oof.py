"""Tables of out-of-fold answers: asked folds are replaced, the others stay to the letter."""

import pandas as pd
import pytest

from aneurysm.folds.oof import replace_folds


def predictions(*rows: tuple[str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["SeriesInstanceUID", "fold", "p"])


def test_answers_about_one_fold_leave_those_about_the_others_as_they_are_to_the_letter(tmp_path):
    path = tmp_path / "model" / "oof.csv"
    replace_folds(predictions(("1.10", 0, 0.1), ("1.2", 1, 1 / 3), ("1.3", 2, 0.7), ("1.4", 2, 6e-17)), path)
    whole = path.read_text().splitlines()
    assert whole == ["SeriesInstanceUID,fold,p", "1.10,0,0.1", "1.2,1,0.3333333333333333", "1.3,2,0.7", "1.4,2,6e-17"]
    replace_folds(predictions(("1.2", 1, 0.5)), path)
    assert path.read_text().splitlines() == [*whole[:2], "1.2,1,0.5", *whole[3:]]
    replace_folds(predictions(("1.4", 2, 0.9)), path)  # a series that is gone from its fold is gone here, too
    assert path.read_text().splitlines() == [*whole[:2], "1.2,1,0.5", "1.4,2,0.9"]


@pytest.mark.parametrize(
    "before",
    [
        "SeriesInstanceUID,fold,p\n1.2,1,0.5\n1.3,1,0.5\n",  # 1.2 is of fold 0 now: folds were made anew
        "SeriesInstanceUID,fold,q\n1.3,1,0.5\n",
        "",
        "a,b\n1,2,3\n4,5,6,7,8\n",
    ],
)
def test_a_file_of_other_folds_or_columns_and_a_damaged_one_are_replaced_as_a_whole(tmp_path, before):
    (tmp_path / "oof.csv").write_text(before)
    replace_folds(predictions(("1.2", 0, 0.25)), tmp_path / "oof.csv")
    assert (tmp_path / "oof.csv").read_text() == "SeriesInstanceUID,fold,p\n1.2,0,0.25\n"
