"""How much each image change lowers the AUCs of stage 1, at several strengths: a table, and a plot of its curves.

    python make_phantoms.py --out data/fresh --n_series 60 --seed 4 --balanced true
    python preprocess_data.py --data_dir data/fresh
    python create_folds.py --data_dir data/fresh --folds 2
    PYTHONPATH=. python benchmarks/robustness.py --data_dir data/fresh --folds 2 --plot robustness.png

Every cached slice is changed before it is cropped; aneurysm/phantom/looks.py explains the changes and strengths. All
slices of a series are changed in the same way. Prints the AUC of Aneurysm Present for the windows around spots, from
the maximum of the map, and the mean AUC of the 13 locations. The network must not have seen the series.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from aneurysm.cache.cache import Cache
from aneurysm.config import run_script, subset
from aneurysm.metrics import label_aucs
from aneurysm.phantom.looks import CHANGES, Change, changed
from aneurysm.stage1.fresh import FreshSeries
from aneurysm.stage1.predict import load_stage1
from aneurysm.stage1.weights import weights_path
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import end_distributed, init_distributed

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class RobustnessConfig(InferenceConfig):
    data_dir: Path = Path("data/fresh")
    """folder that create_folds.py has filled"""
    folds: int = 2
    """number of folds, as given to create_folds.py"""
    weights: str = "pretrained"
    """pretrained (the included weights), or a file of pretrain.py or train_stage1.py"""
    encoder: str = "tf_efficientnet_lite0"
    """encoder of the included weights"""
    strengths: tuple[float, ...] = (0.33, 0.67, 1.0)
    """strengths of each change"""
    changes: tuple[str, ...] = tuple(CHANGES)
    """names of the changes"""
    out: Path | None = None
    """a table of what is printed"""
    plot: Path | None = None
    """a picture (PNG) of the curves"""
    baseline: Path | None = None
    """a table of other weights, which --out has written: drawn beside them"""
    device: str = "auto"
    """cpu, cuda, or auto"""


class ChangedCache(Cache):
    """A cache that applies one change to its slices."""

    def __init__(self, cache: Cache, change: Change, strength: float):
        super().__init__(cache.paths.root, cache.paths.cache_dir)
        self.change, self.strength = change, strength

    def __reduce__(self) -> tuple:
        return ChangedCache, (Cache(self.paths.root, self.paths.cache_dir), self.change, self.strength)

    def window(self, series_uid: str, indices: Sequence[int]) -> np.ndarray:
        """As Cache.window."""
        rng = np.random.default_rng(zlib.crc32(series_uid.encode()))
        image = super().window(series_uid, indices).transpose(1, 2, 0).astype(np.float32)
        return np.ascontiguousarray(changed(image, self.change, self.strength, rng).transpose(2, 0, 1), np.float16)


def main(config: RobustnessConfig) -> None:
    if unknown := set(config.changes) - set(CHANGES):
        raise ValueError(f"changes: expected some of {', '.join(CHANGES)}, found {', '.join(sorted(unknown))}")
    world = init_distributed(config.device)
    model, stage1 = load_stage1(weights_path(config.encoder, config.weights), world.device)
    fresh = FreshSeries.read(config.data_dir, config.folds)
    rows = []
    for name in ("none", *config.changes):
        for strength in config.strengths if name in CHANGES else (0.0,):
            cache = ChangedCache(fresh.cache, CHANGES[name], strength) if name in CHANGES else fresh.cache
            held_out, predictions = replace(fresh, cache=cache).predict_spots(
                model, stage1, world, subset(InferenceConfig, config)
            )
            aucs = label_aucs(held_out.truth, predictions.heatmap_max)
            rows.append((name, strength, aucs[-1], np.nanmean(aucs[:-1])))
            print(
                f"{name:14} {strength:4.2f}  Aneurysm Present {aucs[-1]:.3f}, locations {rows[-1][3]:.3f}", flush=True
            )
    table = pd.DataFrame(rows, columns=["change", "strength", "present", "locations"])
    if config.out:
        table.to_csv(config.out, index=False)
    if config.plot:
        plot(table, pd.read_csv(config.baseline) if config.baseline else None, config.plot)
    end_distributed()


def plot(table: pd.DataFrame, baseline: pd.DataFrame | None, path: Path) -> None:
    """A small curve per change: AUC of Aneurysm Present against strength; dotted: 0.05 below the AUC at none."""
    names = [name for name in table.change.unique() if name != "none"]
    columns = min(5, len(names))
    figure, axes = plt.subplots(
        -(-len(names) // columns), columns, figsize=(2.4 * columns, 2 * -(-len(names) // columns)),
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for axis, name in zip(axes.flat, names, strict=False):
        for rows, style in ((baseline, "o--"), (table, "o-")):
            if rows is not None:
                none, own = rows[rows.change == "none"].iloc[0], rows[rows.change == name]
                axis.plot(
                    [0, *own.strength], [none.present, *own.present], style, color="grey" if "--" in style else "C0"
                )
        axis.axhline(none.present - 0.05, color="C0", linewidth=0.8, linestyle=":")
        axis.set_title(name.replace("_", " "), fontsize=9)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("strength", fontsize=9)
    figure.supylabel("AUC of Aneurysm Present", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main, RobustnessConfig, __doc__)
