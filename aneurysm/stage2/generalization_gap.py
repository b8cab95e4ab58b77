"""How differently stage 1 speaks about series that it was trained on and about others: what stage 2 has to bridge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aneurysm.cache.features import n_sampled_slices, read_features
from aneurysm.labels import LABELS
from aneurysm.metrics import label_aucs, weighted_score
from aneurysm.paths import ModelPaths

SIDES = ("training", "cross-fitted", "held-out")


def gap_table(series: pd.DataFrame, model_paths: ModelPaths, folds: Sequence[int]) -> pd.DataFrame:
    """One row for each fold and side, from the highest logit of each label over the slices of a series, as it is.

    Sides: `training`, what the fold's encoder says about the series it was trained on; `cross-fitted`, what is said
    about the same series by encoders that had not seen them; `held-out`, the fold's encoder on its own fold.
    Columns: n (series with features), the plain maximum's AUC of Aneurysm Present and weighted score, and mean and
    standard deviation of the highest logits of positive and negative series, for Aneurysm Present and for all
    locations together. NaN where there are no features or no such series.
    """
    own = {fold: highest_logits(series[series.fold == fold], model_paths, fold) for fold in series.fold.unique()}
    rows = []
    for fold in folds:
        others = series[series.fold != fold]
        found = {
            "training": highest_logits(others, model_paths, fold),
            "cross-fitted": pd.concat([own[k] for k in own if k != fold]),
            "held-out": own[fold],
        }
        labels = series.set_index("SeriesInstanceUID")[list(LABELS)]
        rows += [{"fold": fold, "side": side, **_row(found[side], labels.loc[found[side].index])} for side in SIDES]
    return pd.DataFrame(rows).set_index(["fold", "side"])


def highest_logits(series: pd.DataFrame, model_paths: ModelPaths, fold: int) -> pd.DataFrame:
    """One row a series that has features of fold `fold`, indexed by its UID: the highest of each label's logits."""
    rows = {}
    for uid in series.SeriesInstanceUID:
        path = model_paths.features(fold) / f"{uid}.safetensors"
        if n_sampled_slices(path):
            rows[uid] = read_features(path).logits[0].max(axis=0).astype(float)
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(LABELS))


def _row(logits: pd.DataFrame, labels: pd.DataFrame) -> dict[str, float]:
    values, truth = logits.to_numpy(), labels.to_numpy(int)
    aucs = label_aucs(truth, values) if len(values) else np.full(len(LABELS), np.nan)
    row = {"n": len(values), "auc_present": aucs[-1], "score": float(weighted_score(aucs))}
    for name, columns in (("present", slice(-1, None)), ("location", slice(0, -1))):
        for kind, value in (("positive", 1), ("negative", 0)):
            chosen = values[:, columns][truth[:, columns] == value]
            row[f"{name}_{kind}_mean"] = chosen.mean() if len(chosen) else np.nan
            row[f"{name}_{kind}_sd"] = chosen.std() if len(chosen) else np.nan
    return row


def gap_text(table: pd.DataFrame) -> str:
    """The table as it is printed; '-' for what is not known."""
    shown = table[["n", "auc_present", "score"]].rename(columns={"auc_present": "AUC Aneurysm Present"})
    for name in ("present", "location"):
        for kind in ("positive", "negative"):
            means, sds = table[f"{name}_{kind}_mean"], table[f"{name}_{kind}_sd"]
            pairs = [f"{m:.2f} ± {sd:.2f}" if np.isfinite(m) else "-" for m, sd in zip(means, sds, strict=True)]
            shown = shown.assign(**{f"{name} {kind}": pairs})
    text = shown.to_string(float_format=lambda x: f"{x:.3f}", na_rep="-")
    return (
        "plain maximum over slices of stage 1, on both sides of the gap; "
        f"highest logits of positive and negative series, mean ± sd\n{text}"
    )
