"""Score tables as text: AUCs and weighted score with 95 % intervals, for all cases and by subgroup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from aneurysm.labels import LOCATIONS, PRESENT
from aneurysm.metrics import QUANTILES, bootstrap_aucs, label_aucs, left_out, score_table, weighted_score

UNKNOWN = "unknown"  # name of the subgroup where modality, plane, sex or age band is empty
AGE_LIMITS = (0, 18, 40, 60, 80, 120)  # years; a band includes its lower limit and excludes its upper one
AGE_BANDS = ("0 to 17", "18 to 39", "40 to 59", "60 to 79", "80 and above")  # in alphabetical order


def score_text(
    truth: np.ndarray,
    predicted: np.ndarray,
    subgroups: pd.DataFrame,
    n_samples: int = 1000,
    seed: int = 0,
    groups: Sequence | None = None,
) -> str:
    """The text that an eval script prints: a table by label, a table by subgroup, the labels left out, and how the
    intervals were drawn. '-' marks a value that too few cases leave undefined.

    truth, predicted (rows, 14) and `groups` as for score_table: the series of each row if rows are windows.
    `subgroups` has one row per case and one column per way to divide them, e.g. modality and plane.
    """
    labels = score_table(truth, predicted, n_samples, seed, groups)
    parts = subgroup_table(truth, predicted, subgroups, n_samples, seed, groups)
    n_drawn = len(truth) if groups is None else pd.Series(groups).nunique()
    return "\n\n".join(
        [
            _label_text(labels),
            _subgroup_text(parts),
            "\n".join(_left_out_lines(truth)),
            f"95 % intervals: {n_samples} bootstrap samples of {n_drawn} series, seed {seed}",
        ]
    )


def compared_text(truth: np.ndarray, predictions: dict[str, np.ndarray], n_samples: int = 1000, seed: int = 0) -> str:
    """A table that compares predictions (rows, 14) by name: AUC of Aneurysm Present, mean AUC of the locations,
    weighted score, and the difference in score from the last one (interval from the same bootstrap rows for both).
    """
    samples = {name: weighted_score(bootstrap_aucs(truth, own, n_samples, seed)) for name, own in predictions.items()}
    last = list(predictions)[-1]
    rows = []
    for name, own in predictions.items():
        aucs = label_aucs(truth, own)
        score, behind = weighted_score(aucs), weighted_score(label_aucs(truth, predictions[last]))
        known = aucs[:-1][np.isfinite(aucs[:-1])]
        rows.append({
            f"AUC {PRESENT}": _number(aucs[-1]), "mean of locations": _number(known.mean() if len(known) else np.nan),
            "weighted score": _number(score), "95 % interval": _interval(samples[name]),
            "difference": "" if name == last else _number(score - behind, "+"),
            " 95 % interval": "" if name == last else _interval(samples[name] - samples[last], "+"),
        })  # fmt: skip
    note = f"Differences from {last}: 95 % intervals of {n_samples} bootstrap samples, the same for all, seed {seed}"
    return f"{pd.DataFrame(rows, index=list(predictions)).to_string()}\n\n{note}"


def subgroup_table(
    truth: np.ndarray,
    predicted: np.ndarray,
    subgroups: pd.DataFrame,
    n_samples: int = 1000,
    seed: int = 0,
    groups: Sequence | None = None,
) -> pd.DataFrame:
    """One row per subgroup, indexed by column and value: n, positives, and the AUC of Aneurysm Present and the weighted
    score with their 95 % intervals (auc, auc_low, auc_high, score, score_low, score_high).

    `locations` counts the locations with an AUC; weighted scores over different locations are not comparable.
    """
    if len(subgroups) != len(truth):
        raise ValueError(f"expected a row of subgroups for each of {len(truth)} cases, found {len(subgroups)}")
    groups = None if groups is None else np.asarray(groups)
    rows = []
    for by, value, own in each_subgroup(subgroups):
        table = score_table(truth[own], predicted[own], n_samples, seed, None if groups is None else groups[own])
        present, weighted = table.loc[PRESENT], table.loc["Weighted score"]
        rows.append({
            "by": by, "value": value, "n": int(own.sum()), "positives": int(present.positives),
            "auc": present.auc, "auc_low": present.low, "auc_high": present.high,
            "score": weighted.auc, "score_low": weighted.low, "score_high": weighted.high,
            "locations": int(table.auc[list(LOCATIONS)].notna().sum()),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index(["by", "value"])


def each_subgroup(subgroups: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields column, value and a mask (rows,) bool for every value of every column; empty values are 'unknown'."""
    for by in subgroups:
        values = subgroups[by].astype(object).where(subgroups[by].notna(), UNKNOWN).astype(str)
        for value in sorted(values.unique()):
            yield by, value, (values == value).to_numpy()


def series_subgroups(series: pd.DataFrame) -> pd.DataFrame:
    """Modality, plane, sex and age band of each series (rows of train_{F}_folds.csv), for score_text.

    Sex and age are included only if the table has the columns PatientSex and PatientAge.
    """
    subgroups = series[["series_type", "plane"]].rename(columns={"series_type": "modality"})
    if "PatientSex" in series:
        subgroups["sex"] = series.PatientSex
    if "PatientAge" in series:
        subgroups["age"] = age_bands(series.PatientAge)
    return subgroups


def age_bands(ages: pd.Series) -> pd.Series:
    """The name of the band of each age in years; NaN if it is not a number from above 0 to below 120.

    0 counts as unknown: anonymisers write it.
    """
    years = pd.to_numeric(ages, errors="coerce")
    return pd.cut(years.where(years > 0), AGE_LIMITS, right=False, labels=AGE_BANDS).astype(object)


def _label_text(table: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "positives": table.positives.astype(str),
            "AUC": table.auc.map(_number),
            "95 % interval": _intervals(table.low, table.high),
        }
    ).rename_axis(None)
    shown.loc["Weighted score", "positives"] = ""
    return f"{table.n.iloc[0]} cases\n{shown.to_string()}"


def _subgroup_text(table: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "n": table.n,
            "positives": table.positives,
            f"AUC {PRESENT}": table.auc.map(_number),
            "95 % interval": _intervals(table.auc_low, table.auc_high),
            "weighted score": table.score.map(_number),
            " 95 % interval": _intervals(table.score_low, table.score_high),
            "locations": table.locations,
        }
    )
    shown.index = [f"{by} {value}" for by, value in table.index]
    return shown.to_string()


def _left_out_lines(truth: np.ndarray) -> list[str]:
    labels = left_out(truth)
    locations = [label for label in labels if label != PRESENT]
    lines = [f"Left out of the mean, without a positive or a negative: {', '.join(locations) or 'none'}"]
    if PRESENT in labels:
        lines.append(f"No weighted score: {PRESENT} has no positive or no negative")
    return lines


def _intervals(low: pd.Series, high: pd.Series) -> list[str]:
    return [f"{_number(a)} to {_number(b)}" if np.isfinite(a) else "-" for a, b in zip(low, high, strict=True)]


def _interval(samples: np.ndarray, sign: str = "") -> str:
    """The 95 % interval of the finite bootstrap samples, as text; '-' if there are none."""
    known = samples[np.isfinite(samples)]
    return " to ".join(_number(q, sign) for q in np.quantile(known, QUANTILES)) if len(known) else "-"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if np.isfinite(value) else "-"
