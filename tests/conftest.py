"""What tests of several files share, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory) -> Path:
    """A folder with bundle/, of two folds, and data/ and model/ that it was made from."""
    import torch

    from tests.kaggle_series import make_bundle

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained_root")
    make_bundle(root)
    return root


@pytest.fixture(scope="module")
def quick_pictures() -> Iterator[None]:
    """For tests that train many small models: drawing the histories takes longer than all else there."""
    from aneurysm.training import tracking

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "plot_history", lambda history, path: path.write_text(str(len(history))))
        yield


@pytest.fixture(scope="session")
def trained_stage1(tmp_path_factory) -> Path:
    """A folder with data/ and model/, a stage 1 for each of two folds: tests/stage1_scripts.py."""
    from aneurysm.training import tracking
    from tests.stage1_scripts import train_both_folds

    folder = tmp_path_factory.mktemp("trained_stage1")
    with pytest.MonkeyPatch.context() as patch:  # most of these short runs' time would go into history.png
        patch.setattr(tracking, "plot_history", lambda history, path: path.touch())
        train_both_folds(folder)
    return folder
