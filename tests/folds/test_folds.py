"""Folds: no patient on two sides, even labels; spots: near a localizer or far from all, at the same heights."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from aneurysm.folds.folds import assign_folds, fold_counts, patients
from aneurysm.folds.spots import negative_spots, positive_spots
from aneurysm.labels import LOCATIONS, PRESENT
from aneurysm.phantom.plan import PREVALENCE, SERIES


def train_table(n_series: int, seed: int = 0) -> pd.DataFrame:
    """Like train.csv: the competition's prevalences, modality and sex by chance; some patients have two series."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n_series, 13)) < np.array(PREVALENCE) / SERIES
    table = pd.DataFrame(labels.astype(int), columns=list(LOCATIONS))
    table[PRESENT] = table.max(axis=1)
    table.insert(0, "SeriesInstanceUID", [f"s{i}" for i in range(n_series)])
    table["Modality"] = rng.choice(["CTA", "MRA", "MRI T2", "MRI T1post"], n_series, p=[0.42, 0.29, 0.22, 0.07])
    table["PatientSex"] = rng.choice(["Female", "Male"], n_series, p=[0.7, 0.3])
    table["patient_id"] = [f"p{min(i, i // 2 + 40)}" for i in range(n_series)]
    return table


@pytest.fixture(scope="module")
def whole() -> tuple[pd.DataFrame, pd.Series]:
    table = train_table(4348)
    return table, assign_folds(table, 5, seed=42)


def test_every_series_has_one_fold_and_no_patient_has_two(whole):
    table, fold = whole
    assert set(fold) == {0, 1, 2, 3, 4} and fold.notna().all() and len(fold) == len(table)
    assert (fold.groupby(table.patient_id).nunique() == 1).all()
    assert (table.patient_id.value_counts() > 1).any(), "the table holds no patient with two series"


def test_counts_of_two_folds_differ_by_at_most_2_or_a_fifth_for_every_label(whole):
    table, fold = whole
    for label in [*LOCATIONS, PRESENT]:
        counts = [int(table[label][fold == k].sum()) for k in range(5)]
        assert max(counts) - min(counts) <= max(2, 0.2 * np.mean(counts)), (label, counts)
        assert min(counts) > 0


def test_the_printed_counts_are_those_of_the_table(whole):
    table, fold = whole
    counts = fold_counts(table, fold, 5)
    assert counts.loc[PRESENT, [0, 1, 2, 3, 4]].tolist() == [table[PRESENT][fold == k].sum() for k in range(5)]
    assert counts.loc["series", [0, 1, 2, 3, 4]].sum() == 4348 and counts.even.all()


def test_uneven_folds_are_said_to_be_so():
    table = train_table(100)
    fold = pd.Series(np.where(table[PRESENT] == 1, 0, 1))
    assert not fold_counts(table, fold, 2).even[PRESENT]


def test_the_same_seed_gives_the_same_folds_and_another_one_others():
    table = train_table(300)
    first, again, other = (assign_folds(table, 5, seed) for seed in (1, 1, 99))
    assert first.equals(again) and not first.equals(other)


def test_a_series_without_a_patient_is_its_own():
    table = pd.DataFrame({"SeriesInstanceUID": ["a", "b", "c", "d"], "patient_id": ["x", None, "x", " "]})
    assert patients(table).tolist() == ["patient x", "b", "patient x", "d"]


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(ValueError, match="at least 5 patients for 5 folds, found 3"):
        assign_folds(train_table(3), 5, 0)


N_SLICES, SLICE_MM = 180, 1.0


@pytest.fixture(scope="module")
def spots() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Series, positives and negatives: 60 positive series with localizers about 90 mm below the top, 60 negative ones.

    Series 0 is positive without a localizer; series 1 has one more localizer, without a place.
    """
    rng = np.random.default_rng(3)
    uids = [f"s{i}" for i in range(120)]
    series = pd.DataFrame({"SeriesInstanceUID": uids, "fold": 0, "series_type": "CTA", "plane": "axial"})
    series[PRESENT] = [1] * 60 + [0] * 60
    placed = pd.DataFrame(
        [(uid, "i", "Basilar Tip", 200.0, 210.0, float(round(rng.normal(89, 12)))) for uid in uids[1:60]],
        columns=["SeriesInstanceUID", "SOPInstanceUID", "location", "cache_x", "cache_y", "slice"],
    )
    placed = pd.concat([placed, placed.iloc[[5]]])  # a row that stands there twice
    unplaced = pd.DataFrame({"SeriesInstanceUID": ["s1"]})
    positions = {uid: -300 + SLICE_MM * np.arange(N_SLICES) for uid in uids}
    positives = positive_spots(series, placed, positions)
    negatives = negative_spots(series, positives, unplaced, positions, per_series=12, safe_mm=20, seed=0)
    return series, positives, negatives


def test_each_localizer_is_one_positive_spot_at_its_slice_and_position(spots):
    _, positives, _ = spots
    assert len(positives) == 59 and (positives.x == 200).all() and (positives.y == 210).all()
    assert (positives.position_mm == -300 + positives.slice * SLICE_MM).all()


def test_negatives_keep_their_distance_from_every_localizer_of_their_series(spots):
    _, positives, negatives = spots
    both = negatives.merge(positives, on="SeriesInstanceUID", suffixes=("", "_marked"))
    assert len(both) > 100 and ((both.position_mm - both.position_mm_marked).abs() >= 20).all()


def test_a_series_whose_aneurysm_is_not_known_to_the_last_supplies_no_negatives(spots):
    _, _, negatives = spots
    assert not set(negatives.SeriesInstanceUID) & {"s0", "s1"}
    assert set(negatives.SeriesInstanceUID) == {f"s{i}" for i in range(2, 120)}


def test_heights_of_negatives_in_negative_series_follow_those_of_the_positives(spots):
    series, positives, negatives = spots
    healthy = negatives[negatives.SeriesInstanceUID.isin(series.SeriesInstanceUID[series[PRESENT] == 0])]
    assert len(healthy) > 400
    assert abs(healthy.position_mm.median() - positives.position_mm.median()) < 5
    assert ks_2samp(healthy.position_mm, positives.position_mm).statistic < 0.2
    uniform = np.random.default_rng(0).uniform(-300, -120, 500)
    assert ks_2samp(uniform, positives.position_mm).statistic > 0.25  # the measure can tell other heights


def test_a_series_draws_the_same_negatives_whatever_others_there_are(spots):
    series, positives, negatives = spots
    alone = series[series.SeriesInstanceUID == "s70"]
    positions = {uid: -300 + SLICE_MM * np.arange(N_SLICES) for uid in series.SeriesInstanceUID}
    again = negative_spots(alone, positives, pd.DataFrame({"SeriesInstanceUID": []}), positions, 12, 20, 0)
    assert again.slice.tolist() == negatives.slice[negatives.SeriesInstanceUID == "s70"].tolist()
