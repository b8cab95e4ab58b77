"""AUC of Aneurysm Present against series without an aneurysm, by size and by location of the aneurysm.

    python make_phantoms.py --out data --n_series 240 --seed 1 --balanced true
    python benchmarks/by_sac.py --data_dir data --predictions model/tf_efficientnet_lite0/oof_stage2.csv

Reads  truth.csv of phantoms, and the 14 probabilities of each series by models that have not seen it
Writes nothing
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.config import run_script
from aneurysm.folds.oof import read_predictions
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.metrics import score_table

DIAMETERS_MM = (0.0, 3.5, 4.5, 7.0, np.inf)


@dataclass(frozen=True)
class BySacConfig:
    data_dir: Path = Path("data")
    """folder that make_phantoms.py has filled"""
    predictions: Path = Path("model/tf_efficientnet_lite0/oof_stage2.csv")
    """what an eval script wrote: SeriesInstanceUID, fold and the 14 probabilities"""


def main(config: BySacConfig) -> None:
    predictions = read_predictions(config.predictions)
    truth = pd.read_csv(config.data_dir / "truth.csv", usecols=["SeriesInstanceUID", "sacs"])
    series = truth.merge(predictions, on="SeriesInstanceUID", validate="one_to_one")
    if len(series) != len(predictions):
        raise ValueError(f"{config.predictions}: expected series of {config.data_dir}/truth.csv, found others")
    sacs = series.sacs.map(json.loads)
    diameter_mm = sacs.map(lambda own: max((sac["diameter_mm"] for sac in own), default=np.nan))
    rows = {}
    for low, high in zip(DIAMETERS_MM, DIAMETERS_MM[1:], strict=False):
        rows[f"largest sac {low:g} mm {f'to {high:g} mm' if np.isfinite(high) else 'and more'}"] = (
            diameter_mm >= low
        ) & (diameter_mm < high)
    for location in LOCATIONS:
        rows[location] = sacs.map(lambda own, name=location: any(sac["location"] == name for sac in own))
    table = pd.DataFrame({name: against_none(series, own, diameter_mm.isna()) for name, own in rows.items()}).T
    print(f"{PRESENT}, against the {diameter_mm.isna().sum()} series without a sac, by {config.predictions}")
    print(table.to_string())


def against_none(series: pd.DataFrame, positive: pd.Series, negative: pd.Series) -> dict[str, str | int]:
    """Number of positives, and AUC of Aneurysm Present with its 95 % interval, on these rows only."""
    own = (positive | negative).to_numpy()
    truth = np.zeros((own.sum(), len(LABELS)))
    truth[:, -1] = positive[own]
    found = score_table(truth, series.loc[own, list(LABELS)].to_numpy()).loc[PRESENT]
    return {"series": int(found.positives), "AUC": f"{found.auc:.3f}", "95 %": f"{found.low:.3f} to {found.high:.3f}"}


if __name__ == "__main__":
    run_script(main, BySacConfig, __doc__)
