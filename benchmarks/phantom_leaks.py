"""How well tags, sizes, ages and global image statistics predict Aneurysm Present: an AUC of 0.5 is no leak.

    python make_phantoms.py --out leaks --n_series 200 --size 48 --clean true --balanced true --workers 2
    python benchmarks/phantom_leaks.py --data_dir leaks

Reads  series/ and train.csv of the data folder
Writes nothing
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aneurysm.config import run_script
from aneurysm.labels import PRESENT
from aneurysm.phantom.leaks import MODELS, describe_series, leak_auc


@dataclass(frozen=True)
class LeaksConfig:
    data_dir: Path = Path("data")
    """folder of series/ and train.csv"""


def main(config: LeaksConfig) -> None:
    data = config.data_dir
    train = pd.read_csv(data / "train.csv")
    rows = [describe_series(data / "series" / uid) for uid in tqdm(train.SeriesInstanceUID, desc="series")]
    features = pd.concat([pd.DataFrame(rows), train[["PatientAge", "PatientSex", "Modality"]]], axis=1)
    features["row"] = range(len(train))
    for model in MODELS:
        found = leak_auc(features, train[PRESENT].to_numpy(), model)
        control = leak_auc(
            features.assign(files=features.files * (1 + train[PRESENT])), train[PRESENT].to_numpy(), model
        )
        print(f"{model:9} AUC {found:.3f} of {len(train)} series; where the number of files leaks: {control:.3f}")


if __name__ == "__main__":
    run_script(main, LeaksConfig, __doc__)
