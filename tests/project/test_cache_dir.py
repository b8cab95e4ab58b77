"""--cache_dir: the data folder is only read, and all that is made beside models goes into the folder of the cache."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pandas as pd
import pytest
import yaml
from dask import distributed

from aneurysm.config import parse_config
from aneurysm.labels import LABELS
from aneurysm.paths import DataPaths, ModelPaths
from tests.dicom_writer import AXIAL, write_stack
from tests.end_to_end_data import head
from tests.mask_writer import grid_affine, numbered_slices, save_mask
from tests.stage1_scripts import ENCODER, PRESET

SERIES = [f"s{i}" for i in range(4)]
SPACING = (3.0, 3.0, 3.0)
STAGE2 = {"net": {"width": 16, "depth": 1, "heads": 2}}
VOLUME3D = {"input": {"shape": [8, 32, 32], "below_top_mm": 40.0}, "net": {"width": 16, "norm": "group"}}
TRAINING = {"training": {"epochs": 1, "batch_size": 2, "workers": 0, "precision": "fp32"}}
CHAIN = """
preprocess_data --workers 1 --slices
create_folds --folds 2 --safe_mm 15
train_stage1 --config stage1.yaml --training.batch_size 2 --training.epochs 1
eval_stage1 --folds 2 --device cpu --series --slice_spacing_mm 12
mine_hard_negatives --folds 2 --device cpu --threshold 0.01 --safe_mm 15 --slice_spacing_mm 12
extract_features --folds 2 --device cpu --slice_spacing_mm 12 --workers 0
train_stage2 --folds 2 --device cpu --config stage2.yaml
eval_stage2 --folds 2 --device cpu
eval_end_to_end --folds 2 --device cpu --workers 0
scripts.summary --folds 2
scripts.contact_sheet --out figures/phantoms.png
volume3d.build_manifest --workers 1
create_folds --folds 2 --safe_mm 15 --manifest cache/manifest.jsonl
volume3d.preprocess --workers 1 --size 32
volume3d.split_patients --from_folds 0 --folds 2
volume3d.train --folds 2 --device cpu --config volume3d.yaml
volume3d.eval --folds 2 --device cpu
volume3d.train --split cache/volume_split.csv --device cpu --config volume3d.yaml
volume3d.eval --split cache/volume_split.csv --part val --device cpu
"""
MADE = {
    *(f"npy_{kind}/{uid}{ending}" for kind in ("sequence", "volume") for uid in SERIES for ending in (".npy", ".json")),
    "npy_vessels/s0.npy", "npy_volume/s0_mask.npy", *(f"npy_slice/{uid}/0000.npy" for uid in SERIES),
    "train_meta.csv", "slices.parquet", "preprocess_errors.csv",
    "train_2_folds.csv", "train_stage1_2_folds.csv", "localizer_errors.csv", "hard_negatives.parquet",
    "manifest.jsonl", "volume_split.csv", "volume_errors.csv",
    ".preprocess_data.lock", ".create_folds.lock", ".mine_hard_negatives.lock", ".volume3d_preprocess.lock",
}  # fmt: skip


def write_input(data: Path) -> None:
    """Four series of two patients, one of which has an aneurysm in one series, and a mask of its vessels."""
    for i, uid in enumerate(SERIES):
        images = write_stack(data / "series" / uid, head(40, i), spacing=SPACING, PatientID=f"p{i // 2}")
        if i == 0:
            marked = images[20]
    save_mask(
        data / "segmentations" / "s0" / "s0_cowseg.nii", numbered_slices((64, 64, 40)), grid_affine(AXIAL, SPACING)
    )
    train = pd.DataFrame({"SeriesInstanceUID": SERIES, "Modality": "CTA"}).assign(**dict.fromkeys(LABELS, 0))
    train.loc[[0, 2], ["Basilar Tip", "Aneurysm Present"]] = 1
    train.to_csv(data / "train.csv", index=False)
    row = ["s0", marked, "{'x': 32, 'y': 32}", "Basilar Tip"]
    names = ["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"]
    pd.DataFrame([row], columns=names).to_csv(data / "train_localizers.csv", index=False)


def call(line: str, *args: str) -> None:
    """A script of the clone in this process, in the current folder."""
    name, *words = line.split()
    main = importlib.import_module(name).main
    folders = ["--data_dir", "data"]
    if "model_dir" in get_type_hints(get_type_hints(main)["config"]):
        folders += ["--model_dir", "model"]
    main(parse_config(get_type_hints(main)["config"], "", [*folders, *words, *args]))


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything in a folder, the folder too: size, time of the last change."""
    found = {path: path.stat() for path in (folder, *folder.rglob("*"))}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """data/, from which all scripts have made cache/ and model/; the current folder."""
    before, root = Path.cwd(), tmp_path_factory.mktemp("cache_dir")
    write_input(root / "data")
    for name, preset in (("stage1", PRESET), ("stage2", STAGE2 | TRAINING), ("volume3d", VOLUME3D | TRAINING)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(preset))
    os.chdir(root)
    untouched = state(root / "data")
    with pytest.MonkeyPatch.context() as patch:  # most of these short runs' time would go into history.png
        patch.setattr("aneurysm.training.tracking.plot_history", lambda history, path: path.touch())
        for line in CHAIN.strip().splitlines():
            call(line, "--cache_dir", "cache")
            assert state(root / "data") == untouched, line
    yield root
    os.chdir(before)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_step_writes_to_the_cache_and_leaves_the_data_as_they_were(folder):
    made = files(folder / "cache")
    assert made >= MADE
    assert {name for name in made - MADE if not name.startswith("npy_slice/")} == set()
    models = ModelPaths(folder / "model", ENCODER)
    assert all(len(list(models.features(fold).glob("*.safetensors"))) == 2 for fold in (0, 1))  # of its own series
    assert models.oof_end_to_end_csv.exists()
    assert {path.name for path in folder.iterdir()} >= {"data", "cache", "model", "figures"}


def test_dask_workers_read_and_write_the_same_folders(folder):
    untouched = state(folder / "data")
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        call("preprocess_data", "--cache_dir", "other", "--slices", "--dask", address)
        call("volume3d.build_manifest --workers 1", "--cache_dir", "other")
        call("volume3d.preprocess --size 32", "--cache_dir", "other", "--dask", address)
        call("mine_hard_negatives --folds 2 --threshold 0.01 --device cpu", "--cache_dir", "cache", "--dask", address)
        call("extract_features --folds 2 --slice_spacing_mm 24 --device cpu", "--cache_dir", "cache", "--dask", address)
    assert state(folder / "data") == untouched
    for name in MADE:
        if name.endswith(".npy"):
            assert (folder / "other" / name).read_bytes() == (folder / "cache" / name).read_bytes()


def test_without_a_cache_folder_that_of_the_data_takes_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_input(tmp_path / "data")
    before = files(tmp_path / "data")
    call("preprocess_data --workers 1 --slices")
    call("create_folds --folds 2 --safe_mm 15")
    call("volume3d.build_manifest --workers 1")
    call("volume3d.preprocess --workers 1 --size 32")
    made = {name for name in files(tmp_path / "data") - before if not name.startswith("npy_slice/")}
    later = {"hard_negatives.parquet", ".mine_hard_negatives.lock", "volume_split.csv"}
    assert made == {name for name in MADE - later if not name.startswith("npy_slice/")}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_cached_series_is_not_made_again_where_the_cache_has_moved(folder, capsys):
    (folder / "cache").rename(folder / "moved")
    call("preprocess_data --workers 1 --slices", "--cache_dir", "moved", "--verify", "true")
    (folder / "moved").rename(folder / "cache")
    assert "4 series in moved/npy_sequence (4 cached before), 0 errors" in capsys.readouterr().out


def test_only_the_files_of_the_competition_are_looked_for_in_the_data_folder():
    paths = DataPaths(Path("data"), Path("cache"))
    of_data = {"train_csv", "localizers_csv", "series", "segmentations"}
    names = {name for name, value in vars(DataPaths).items() if isinstance(value, property)} - {"cache"}
    assert {name for name in names if getattr(paths, name).is_relative_to("data")} == of_data
    assert {name for name in names if getattr(paths, name).is_relative_to("cache")} == names - of_data
