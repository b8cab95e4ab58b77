"""Summary of a synthetic data set, as text for the terminal."""

from __future__ import annotations

import pandas as pd


def summarise(truth: pd.DataFrame) -> str:
    """Counts by modality, plane, transfer syntax and quirk, and the size on disk, of the rows of truth.csv."""
    positive = truth.sacs != "[]"
    quirks = truth.quirks[truth.quirks != ""].str.split(" ").explode()
    counts = {
        "modality": truth.modality.value_counts(),
        "plane": truth.plane.value_counts(),
        "syntax": truth.syntax.value_counts(),
        "quirks": quirks.value_counts(),
    }
    lines = [f"{len(truth)} series, {positive.sum()} with an aneurysm, {truth.megabytes.sum() / 1000:.2f} GB"]
    for title, count in counts.items():
        lines.append(f"{title:9}" + ", ".join(f"{name} {n}" for name, n in count.items()))
    return "\n".join(lines)
