"""Step 0 without a Kaggle account: a synthetic data set in the competition's own layout.

    python make_phantoms.py --out data --n_series 96 --seed 0 --workers 2
    python make_phantoms.py --out held_out --n_series 96 --seed 1 --style held_out    # to test on, never to train on

Reads  nothing
Writes <out>/series/<SeriesInstanceUID>/<SOPInstanceUID>.dcm, train.csv, train_localizers.csv,
       segmentations/<SeriesInstanceUID>/<SeriesInstanceUID>_cowseg.nii, and truth.csv: planes, quirks, sacs in mm
"""

from pathlib import Path

from aneurysm.config import run_script
from aneurysm.phantom.config import PhantomConfig


def main(config: PhantomConfig) -> None:
    # What takes a while to import is imported here: --help does not wait for it.
    from aneurysm.lock import locked
    from aneurysm.phantom.dataset import make_dataset
    from aneurysm.phantom.summary import summarise

    with locked(Path(config.out), "make_phantoms"):
        truth = make_dataset(config)
    print(summarise(truth))


def command() -> None:
    run_script(main, PhantomConfig, __doc__)


if __name__ == "__main__":
    command()
