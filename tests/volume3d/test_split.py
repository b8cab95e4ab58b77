"""split_patients: a patient on one side, labels spread evenly, and no leak by whatever way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.folds.manifest import Entry, write_manifest
from aneurysm.labels import LABELS
from aneurysm.phantom.plan import PREVALENCE, SERIES
from tests.volume3d_series import entry
from volume3d.split import read_split, refuse_leak, split_counts, split_from_folds, stratified_split, write_split

ROOT = Path(__file__).parents[2]


def many(n_series: int) -> list[Entry]:
    """Series with the competition's prevalences; patients have one to three, and some labels nobody knows."""
    rng = np.random.default_rng(0)
    labels = (rng.random((n_series, 13)) < 4 * np.array(PREVALENCE) / SERIES).astype(float)
    labels = np.column_stack([labels, labels.max(axis=1)])
    labels[:5] = np.nan
    output = zip(labels, rng.choice(["CTA", "MRA", "MRI T2"], n_series), rng.choice(["F", "M"], n_series), strict=True)
    return [
        entry(f"s{i}", row, subtype=subtype, patient_sex=sex, patient_id=f"p{int(i * 0.7)}")
        for i, (row, subtype, sex) in enumerate(output)
    ]


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return many(600)


@pytest.fixture(scope="module")
def split(entries) -> dict[str, str]:
    return stratified_split(entries, (70, 20, 10), seed=1)


def test_every_series_is_somewhere_and_every_patient_on_one_side(entries, split):
    assert list(split) == [e.series_uid for e in entries]
    sides = {}
    for e in entries:
        sides.setdefault(e.patient_id, set()).add(split[e.series_uid])
    assert len(sides) < 500 and all(len(side) == 1 for side in sides.values())


def test_splits_take_their_shares_of_every_label(entries, split):
    for label in range(14):
        of_label = [split[e.series_uid] for e in entries if e.labels[label] == 1]
        for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
            due = share * len(of_label)
            assert abs(of_label.count(name) - due) <= max(2.5, 0.2 * due), (LABELS[label], name)
    sizes = [list(split.values()).count(name) / 600 for name in ("train", "val", "test")]
    assert sizes == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_the_same_seed_gives_the_same_split_and_another_one_another(entries, split):
    assert stratified_split(entries, (0.7, 0.2, 0.1), seed=1) == split != stratified_split(entries, (70, 20, 10), 99)


def test_a_share_of_nothing_gets_nothing(entries):
    assert set(stratified_split(entries, (0.8, 0.2, 0.0), seed=0).values()) == {"train", "val"}


@pytest.mark.parametrize("ratios", [(0, 0.5, 0.5), (0.5, -0.1, 0.6), (0.5, 0.5), (1, np.nan, 1)])
def test_ratios_that_make_no_sense_are_refused(entries, ratios):
    with pytest.raises(ValueError, match="expected 3 shares, the first above 0"):
        stratified_split(entries, ratios, seed=0)


def test_fewer_patients_than_splits_are_refused():
    with pytest.raises(ValueError, match="at least 3 patients for train, val, test, found 1"):
        stratified_split([entry("a", patient_id="p"), entry("b", patient_id="p")], (0.7, 0.15, 0.15), seed=0)


def test_a_leak_is_refused_by_the_names_of_patient_and_series():
    entries = [entry("a", patient_id="p"), entry("b"), entry("c", patient_id="p")]
    with pytest.raises(ValueError, match="1 patients .* patient p, series a in train, c in test"):
        refuse_leak(entries, {"a": "train", "b": "val", "c": "test"})
    refuse_leak(entries, {"a": "train", "b": "val", "c": "train"})


def test_counts_by_hand():
    tip, none = [0] * 11 + [1, 0, 1], [0] * 14
    entries = [entry("a", tip, patient_id="p", patient_sex="F"), entry("b", none, patient_id="p"), entry("c", tip)]
    counts = split_counts(entries, {"a": "train", "b": "train", "c": "test"})
    rows = {name: counts.loc[name].tolist() for name in ("Basilar Tip", "Aneurysm Present", "series", "patients")}
    assert rows == {
        "Basilar Tip": [1, 0, 1],
        "Aneurysm Present": [1, 0, 1],
        "series": [2, 0, 1],
        "patients": [1, 0, 1],
    }
    assert counts.columns.tolist() == ["train", "val", "test"]
    assert counts.loc["PatientSex_Female"].tolist() == [1, 0, 0]


def test_the_held_out_fold_is_val_and_the_others_are_train():
    folds = pd.DataFrame({"SeriesInstanceUID": ["c", "a", "b"], "fold": [1, 0, 2]})
    entries = [entry("a"), entry("b"), entry("c")]
    assert split_from_folds(entries, folds, 1) == {"a": "train", "b": "train", "c": "val"}
    with pytest.raises(ValueError, match="1 series are not in the folds, the first: d"):
        split_from_folds([*entries, entry("d")], folds, 1)
    with pytest.raises(ValueError, match="1 series are not in the manifest, the first: c"):
        split_from_folds(entries[:2], folds, 1)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "SeriesInstanceUID,fold\na,train\n",
            "expected the columns SeriesInstanceUID, split, found SeriesInstanceUID, fold",
        ),
        ("SeriesInstanceUID,split\na,train\nb,dev\n", "expected each series once, in train, val, test, found b, dev"),
        ("SeriesInstanceUID,split\na,train\na,val\n", "found a, val"),
        ("", "expected a CSV table"),
    ],
)
def test_a_damaged_split_is_named(tmp_path, text, message):
    (tmp_path / "volume_split.csv").write_text(text)
    with pytest.raises(ValueError, match=f"volume_split.csv: .*{message}"):
        read_split(tmp_path / "volume_split.csv")


def test_a_split_is_read_as_it_was_written(tmp_path):
    write_split(tmp_path / "s.csv", {"1.20": "train", "1.2": "test"})
    assert read_split(tmp_path / "s.csv") == {"1.20": "train", "1.2": "test"}
    with pytest.raises(ValueError, match="t.csv: not there; has volume3d.split_patients run"):
        read_split(tmp_path / "t.csv")


def run(data_dir: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "volume3d.split_patients", "--data_dir", str(data_dir), *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_script_writes_the_split_and_refuses_folds_that_leak_by_the_manifests_patients(tmp_path):
    write_manifest(tmp_path / "manifest.jsonl", [entry(f"s{i}", patient_id=f"p{i // 2}") for i in range(8)])
    table = pd.DataFrame({"SeriesInstanceUID": [f"s{i}" for i in range(8)], "fold": [0, 0, 1, 1, 0, 0, 1, 1]})
    table = table.assign(n_slices=1, series_type="CTA", plane="axial", **dict.fromkeys(LABELS, 0))
    table.to_csv(tmp_path / "train_2_folds.csv", index=False)
    good = run(tmp_path, "--from_folds", "1", "--folds", "2")
    assert good.returncode == 0 and "Aneurysm Present" in good.stdout, good.stderr
    split = read_split(tmp_path / "volume_split.csv")
    assert [uid for uid, side in split.items() if side == "val"] == ["s2", "s3", "s6", "s7"]
    table.assign(fold=[0, 1, 1, 1, 0, 0, 1, 1]).to_csv(tmp_path / "train_2_folds.csv", index=False)
    leak = run(tmp_path, "--from_folds", "1", "--folds", "2")
    assert leak.returncode == 1 and "patient p0, series s0 in train, s1 in val" in leak.stderr
    assert read_split(tmp_path / "volume_split.csv") == split
    drawn = run(tmp_path, "--ratios", "50,25,25", "--seed", "3")
    assert drawn.returncode == 0, drawn.stderr
    assert sorted(read_split(tmp_path / "volume_split.csv").values()) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
