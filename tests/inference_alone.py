"""Asks a bundle about one series where nothing can be imported that only training needs, as a script.

python tests/inference_alone.py BUNDLE FOLDER [what may be imported all the same]
"""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

BLOCKED = (
    "albumentations", "sklearn", "torchmetrics", "iterstrat", "nibabel", "jsonargparse", "matplotlib", "joblib",
    "scipy", "dask", "tensorboard", "wandb",
)  # fmt: skip


class Blocker:
    """Finds the blocked packages before anybody else does, and refuses to load them."""

    def __init__(self, names: tuple[str, ...] = BLOCKED):
        self.names = names

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.split(".")[0] in self.names else None

    def create_module(self, spec: ModuleSpec) -> None:
        raise ImportError(f"{spec.name} is not there")

    def exec_module(self, module) -> None:
        """The import system asks for it."""


def main(bundle: Path, folder: Path) -> None:
    import torch

    from aneurysm.inference.predict import Predictor

    torch.set_num_threads(1)
    prediction = Predictor.of_bundle(bundle, torch.device("cpu")).predict_series(folder)
    assert not prediction.failure, prediction.failure
    print(len(prediction.probabilities), "probabilities")


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker(tuple(name for name in BLOCKED if name not in sys.argv[3:])))
    main(*map(Path, sys.argv[1:3]))
