"""The submission, asked by a stand-in for the competition's gateway over gRPC, in processes of their own."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS
from tests.end_to_end_data import ROUNDED
from tests.kaggle_series import UNREADABLE, make_hidden_series

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "tests" / "gateway"
PATHS = f"{ROOT}{os.pathsep}{GATEWAY}"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(trained_root) -> Path:
    """bundle/, and hidden/ with the series."""
    make_hidden_series(trained_root)
    return trained_root


def environment(root: Path, out: Path) -> dict[str, str]:
    (out / "shared").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    given = {"ANEURYSM_OUT": out, "ANEURYSM_SHARED": out / "shared", "ANEURYSM_THREADS": 1, "OMP_NUM_THREADS": 1,
             "GATEWAY_DATA": root / "hidden", "GATEWAY_SHARE": out / "shared", "GATEWAY_OUT": out,
             "GATEWAY_PORT": port, "GATEWAY_DEADLINE_S": 60}  # fmt: skip
    return kept | {name: str(value) for name, value in given.items()}


def start_local(root: Path, out: Path) -> subprocess.Popen:
    """`python kaggle_inference.py`, with the gateway in the same process, as when a notebook is saved."""
    own = environment(root, out) | {"ANEURYSM_BUNDLE": str(root / "bundle"), "PYTHONPATH": PATHS}
    return started([ROOT / "kaggle_inference.py"], out, own)


def start_rerun(root: Path, out: Path) -> tuple[subprocess.Popen, subprocess.Popen]:
    """The gateway, and in another process the notebook, where the image lacks polars and decoders.

    Code and gateway lie where Kaggle puts datasets and the competition's data, and nowhere else.
    """
    inputs, own = root / "input", environment(root, out)
    shutil.copytree(GATEWAY / "kaggle_evaluation", inputs / "competition" / "kaggle_evaluation")
    make = run_path(str(ROOT / "kaggle" / "make_dataset.py"))
    make["main"](make["DatasetConfig"](root / "bundle", inputs / "dataset", "me/aneurysm"))
    notebook = [ROOT / "tests" / "stock_image.py", ROOT / "kaggle" / "inference.ipynb"]
    there = own | {"ANEURYSM_INPUT": str(inputs), "KAGGLE_IS_COMPETITION_RERUN": "1"}
    gateway = ["-m", "kaggle_evaluation.rsna_gateway"]
    return started(gateway, out, own | {"PYTHONPATH": PATHS}), started(notebook, out, there)


def started(command: list, out: Path, variables: dict[str, str]) -> subprocess.Popen:
    """What it says goes to a file: nobody reads the server's while the gateway is waited for."""
    with open(out / f"{Path(command[-1]).name}.err", "w") as errors:
        return subprocess.Popen([sys.executable, *command], cwd=out, env=variables, stderr=errors)


@pytest.fixture(scope="module")
def runs(root) -> dict[str, Path]:
    """The folders in which both ways have left their files, run at the same time."""
    outs = {"local": root / "local", "rerun": root / "rerun"}
    local, (gateway, server) = start_local(root, outs["local"]), start_rerun(root, outs["rerun"])
    try:
        for process in (local, gateway):
            failed = process.wait(timeout=200)
            assert not failed, "\n".join(file.read_text()[-2000:] for file in root.glob("*/*.err"))
    finally:
        for process in (local, gateway, server):
            process.kill()
            process.wait()
    return outs


@pytest.fixture(scope="module")
def local(runs) -> Path:
    return runs["local"]


@pytest.fixture(scope="module")
def rerun(runs) -> Path:
    return runs["rerun"]


def predictions(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "submission.parquet").set_index("SeriesInstanceUID")


def log(out: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (out / "kaggle_inference.jsonl").read_text().splitlines()]
    return {line["uid"]: line for line in lines}


@pytest.mark.parametrize("way", ["local", "rerun"])
def test_every_series_has_a_valid_row_and_what_cannot_be_read_the_prevalences(root, way, runs):
    out = runs[way]
    table, lines = predictions(out), log(out)
    hidden = sorted(os.listdir(root / "hidden"))
    assert len(hidden) == 15 and sorted(table.index) == sorted(lines) == hidden
    assert list(table) == list(LABELS) and np.isfinite(table.to_numpy()).all()
    assert {uid for uid, line in lines.items() if line["failure"]} == set(UNREADABLE)
    assert max(line["failures"] for line in lines.values()) == len(UNREADABLE)
    about = json.loads((root / "bundle" / "card.json").read_text())["pairs"]
    prevalence = np.mean([pair["stage2"]["about"]["prevalence"] for pair in about], axis=0)
    for uid in UNREADABLE:
        np.testing.assert_allclose(table.loc[uid], prevalence, atol=1e-9)


def test_the_other_rows_are_what_the_models_say(root, local):
    predictor = Predictor(read_bundle(root / "bundle"), CPU)
    for uid in set(os.listdir(root / "hidden")) - set(UNREADABLE):
        expected = predictor.predict_series(root / "hidden" / uid).probabilities
        np.testing.assert_allclose(predictions(local).loc[uid], expected, atol=ROUNDED)


def test_without_polars_and_decoders_the_answers_are_the_same(local, rerun):
    np.testing.assert_allclose(predictions(rerun), predictions(local).loc[predictions(rerun).index], atol=ROUNDED)


@pytest.mark.parametrize("way", ["local", "rerun"])
def test_the_shared_folder_is_empty_at_the_end_and_the_files_that_its_links_led_to_are_still_there(root, way, runs):
    out = runs[way]
    assert (out / "shared").is_dir() and not os.listdir(out / "shared")
    assert len(list((root / "hidden").rglob("*.dcm"))) > 200 and len(os.listdir(root / "hidden" / "axial")) == 60
