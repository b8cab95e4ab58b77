"""Peaks and localizers: distances, suppression and FROC against numbers worked out by hand and plain loops."""

import numpy as np
import pandas as pd
import pytest

from aneurysm.stage1.localisation import froc, localisation, peak_distances, points_mm, suppress

POINT = ["SeriesInstanceUID", "x_mm", "y_mm", "z_mm"]


def candidates(*rows: tuple) -> pd.DataFrame:
    """Series, x, y, z in mm, probability."""
    return pd.DataFrame(rows, columns=[*POINT, "probability"])


def localizers(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=POINT)


def spots(*rows: tuple) -> pd.DataFrame:
    """Localizer x, y; peak x, y; width and height of a pixel in mm; modality, plane."""
    columns = ["x", "y", "peak_x", "peak_y", "cached_col_mm", "cached_row_mm", "modality", "plane"]
    return pd.DataFrame(rows, columns=columns)


SPOTS = spots(
    (100, 100, 106, 108, 0.5, 0.5, "CTA", "axial"),  # 10 pixels, 5 mm
    (100, 100, 88, 84, 0.5, 0.5, "CTA", "axial"),  # 20 pixels, 10 mm
    (100, 100, 100, 121, 0.3, 0.4, "MRA", "axial"),  # 21 pixels, 8.4 mm
    (100, 100, 106, 104, 2.0, 4.0, "MRA", "sagittal"),  # 7.2 pixels, 12 mm across and 16 mm down: 20 mm
)


def test_distances_from_peaks_to_localizers_by_hand():
    distances = peak_distances(SPOTS)
    assert distances.distance_px.tolist() == pytest.approx([10, 20, 21, 52**0.5])
    assert distances.distance_mm.tolist() == pytest.approx([5, 10, 8.4, 20])


def test_shares_and_medians_by_hand_for_all_and_by_modality_and_plane():
    table = localisation(SPOTS)
    assert list(table) == ["n", "within_10_mm", "within_20_px", "median_mm"]
    expected = {
        ("all", ""): [4, 3 / 4, 3 / 4, (8.4 + 10) / 2],
        ("modality", "CTA"): [2, 1, 1, 7.5],
        ("modality", "MRA"): [2, 1 / 2, 1 / 2, 14.2],
        ("plane", "axial"): [3, 1, 2 / 3, 8.4],
        ("plane", "sagittal"): [1, 0, 1, 20],
    }
    assert list(table.index) == list(expected)
    assert np.allclose(table, list(expected.values()))


def test_without_positive_spots_there_are_no_shares():
    table = localisation(SPOTS[:0])
    assert table.n.tolist() == [0] and table.drop(columns="n").isna().all(axis=None)


def test_a_spot_without_a_peak_is_refused():
    with pytest.raises(ValueError, match="1 have none"):
        localisation(SPOTS.assign(peak_x=[1, 2, np.nan, 4]))


def test_pixels_of_the_cache_become_millimetres():
    table = pd.DataFrame({"x": [10], "y": [10], "cached_col_mm": [0.5], "cached_row_mm": [0.25], "position_mm": [-7.0]})
    assert points_mm(table)[["x_mm", "y_mm", "z_mm"]].to_numpy().tolist() == [[5, 2.5, -7]]


def test_only_the_most_probable_peak_of_a_neighbourhood_is_kept():
    peaks = candidates(
        ("a", 0, 0, 0, 0.5),  # 10 mm below the best: goes
        ("a", 0, 0, 10, 0.9),
        ("a", 6, 8, 10, 0.8),  # exactly 10 mm from the best: goes
        ("a", 6, 8, 19, 0.7),  # 13.5 mm from the best, near only one that went: stays
        ("b", 0, 0, 10, 0.1),  # another series
        ("b", 0, 0, 21, 0.1),  # 11 mm away: stays
    )
    peaks.index = [7] * len(peaks)
    kept = suppress(peaks, radius_mm=10)
    assert kept.probability.tolist() == [0.9, 0.7, 0.1, 0.1]


def test_of_equally_probable_peaks_the_first_is_kept():
    kept = suppress(candidates(*[("a", 0, 0, z, 0.5) for z in range(5)]), radius_mm=2)
    assert kept.z_mm.tolist() == [0, 3]
    assert len(suppress(candidates(), radius_mm=2)) == 0


def test_suppression_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    peaks = candidates(*[(f"s{rng.integers(3)}", *rng.uniform(0, 50, 3), rng.integers(20) / 20) for _ in range(300)])
    kept = []
    for row in peaks.sort_values("probability", ascending=False, kind="stable").itertuples():
        others = [o for o in kept if o.SeriesInstanceUID == row.SeriesInstanceUID]
        if all(np.linalg.norm(np.subtract(row[2:5], other[2:5])) > 12 for other in others):
            kept.append(row)
    assert sorted(row.Index for row in kept) == suppress(peaks, radius_mm=12).index.tolist()
    assert 10 < len(kept) < 200


def test_froc_by_hand():
    found = candidates(
        ("a", 3, 4, 0, 0.9),  # exactly 5 mm from the first localizer: found at 0.9
        ("a", 1, 0, 0, 0.8),  # the same localizer again: neither a hit nor a false positive
        ("a", 0, 0, 49, 0.3),  # 1 mm from the second: found at 0.3
        ("b", 0, 0, 0, 0.7),  # where series a has its localizer: false
        ("c", 0, 0, 5.1, 0.5),  # 5.1 mm from the third, which nothing finds: false
        ("c", 9, 9, 9, 0.5),  # false, as probable as the one before
        ("d", 0, 0, 0, 0.2),  # false
    )
    marked = localizers(("a", 0, 0, 0), ("a", 0, 0, 50), ("c", 0, 0, 0), ("e", 0, 0, 0))
    # Of four series, one more without candidates: false positives 0, 1, 3, 3, 4 at 0.9, 0.7, 0.5, 0.3, 0.2.
    table = froc(found, marked, n_series=8, hit_mm=5, false_positives_per_series=(0, 0.125, 0.25, 0.375, 1))
    assert table.allowed.tolist() == [0, 0.125, 0.25, 0.375, 1]
    assert table.reached.tolist() == [0, 1 / 8, 1 / 8, 3 / 8, 4 / 8]
    assert table.threshold.tolist() == [0.8, 0.7, 0.7, 0.3, 0.2]
    assert table.found.tolist() == [1, 1, 1, 2, 2]
    assert table.sensitivity.tolist() == [1 / 4, 1 / 4, 1 / 4, 2 / 4, 2 / 4]


def test_where_the_most_probable_are_too_many_false_ones_nothing_is_found():
    found = candidates(("a", 90, 0, 0, 0.9), ("b", 0, 0, 0, 0.9), ("a", 0, 0, 0, 0.9))
    table = froc(found, localizers(("a", 0, 0, 0)), n_series=2, hit_mm=5, false_positives_per_series=(0.5, 1))
    assert table.threshold.tolist() == [np.inf, 0.9] and table.sensitivity.tolist() == [0, 1]


def test_one_candidate_finds_every_localizer_near_it():
    marked = localizers(("a", 0, 0, 0), ("a", 4, 0, 0))
    assert froc(candidates(("a", 2, 0, 0, 0.9)), marked, 1, hit_mm=5).found.tolist() == [2, 2, 2, 2]


def test_froc_without_candidates_or_without_localizers():
    nothing = froc(candidates(), localizers(("a", 0, 0, 0)), 3, hit_mm=5)
    assert nothing.sensitivity.tolist() == [0] * 4 and nothing.reached.tolist() == [0] * 4
    unmarked = froc(candidates(("a", 0, 0, 0, 0.9)), localizers(), 1, hit_mm=5, false_positives_per_series=(0.5, 1))
    assert unmarked.sensitivity.isna().all() and unmarked.reached.tolist() == [0, 1]


def test_froc_is_that_of_plain_loops_over_every_threshold():
    rng = np.random.default_rng(1)
    points = [(f"s{rng.integers(30)}", *rng.uniform(0, 40, 3)) for _ in range(440)]
    found = candidates(*[(*point, rng.integers(60) / 60) for point in points[:400]])
    marked = localizers(*points[400:])
    rates = (0.1, 0.5, 1, 2, 4, 8)
    table = froc(found, marked, 50, hit_mm=10, false_positives_per_series=rates)
    near = np.array(
        [
            [c[1] == m[1] and np.linalg.norm(np.subtract(c[2:5], m[2:5])) <= 10 for m in marked.itertuples()]
            for c in found.itertuples()
        ]
    )
    for rate, row in zip(rates, table.itertuples(), strict=True):
        best = 0.0
        for threshold in found.probability.unique():
            passing = near[found.probability >= threshold]
            if (~passing.any(axis=1)).sum() / 50 <= rate:
                best = max(best, passing.any(axis=0).mean())
        assert row.sensitivity == best and row.reached <= rate
    assert table.sensitivity.nunique() > 3 and table.sensitivity.max() < 1


def test_a_probability_that_is_no_number_or_too_few_series_are_refused():
    with pytest.raises(ValueError, match="found NaN"):
        froc(candidates(("a", 0, 0, 0, np.nan)), localizers(), 1, hit_mm=5)
    with pytest.raises(ValueError, match="at most 1 series, found 2"):
        froc(candidates(("a", 0, 0, 0, 0.9)), localizers(("b", 0, 0, 0)), 1, hit_mm=5)
