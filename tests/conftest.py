"""What tests of several files share, made once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SLOW = (
    "cache/cache_faults cache/full_disk cache/preprocess_killed dicom/damaged_files dicom/dicom_bombs "
    "inference/bundle_in_the_box inference/end_to_end inference/gateway inference/header_modality "
    "inference/kaggle_inference inference/models_for_use phantom/anatomy phantom/held_out phantom/leaks "
    "phantom/varied phantom/windows project/cache_dir project/parallel report/browser report/summary "
    "stage1/extract stage1/on_dask stage1/scripts stage2/fresh_features stage2/training training/elastic "
    "training/faults training/interrupted training/several_processes training/sync volume3d/blend "
    "volume3d/phantoms volume3d/predict volume3d/preprocess volume3d/training"
)  # files whose tests start processes, train models, draw many heads or fill disks: left out by `make test`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {
        Path(__file__).parent / folder / f"test_{name}.py" for folder, name in (one.split("/") for one in SLOW.split())
    }
    for item in items:
        if item.path in slow:
            item.add_marker(pytest.mark.slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--native_format",
        choices=["bf16", "fp32"],
        help="what every CPU of the tests' own process trains in by default",
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter) -> None:
    """The last lines: how many tests were left out, and what they would have needed."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    terminalreporter.write_line(f"{sum(reasons.values())} tests skipped" + (":" if reasons else ""))
    for reason, n_tests in reasons.most_common():
        terminalreporter.write_line(f"  {n_tests}: {reason}")


@pytest.fixture(scope="session", autouse=True)
def chosen_format(request) -> Iterator[None]:
    """With --native_format, the whole suite as on a processor of that kind."""
    chosen = request.config.getoption("native_format")
    with pytest.MonkeyPatch.context() as patch:
        if chosen:
            patch.setattr("aneurysm.training.precision.native_format", lambda *_: chosen)
        yield


@pytest.fixture(params=["fp32", "bf16"])
def native_format(request, monkeypatch) -> str:
    """Runs a test twice: as on a processor that trains in float32, and as on one that trains in bfloat16."""
    monkeypatch.setattr("aneurysm.training.precision.native_format", lambda *_: request.param)
    return request.param


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
