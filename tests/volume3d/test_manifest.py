"""build_manifest: one line a series with what train.csv and the headers say, by hand; nothing lost, nothing made up."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.folds.manifest import LABEL_KEYS, read_manifest, with_manifest, write_manifest
from aneurysm.labels import LABELS
from tests.dicom_writer import write_enhanced, write_image
from tests.mask_writer import save_mask
from tests.volume3d_series import entry
from volume3d.build_manifest import ManifestConfig, main
from volume3d.patient import years

PIXELS = np.zeros((4, 4), np.int16)


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """Five series: a CT and a multi-frame MR that say much, one that says nothing, a broken one, and no folder."""
    series = tmp_path / "series"
    output = {"PatientAge": "067Y", "PatientSex": "F", "PatientWeight": "72.5", "ContrastBolusAgent": "Iodine"}
    write_image(series / "ct" / "1.dcm", PIXELS, PatientID="Meyer", **output)
    output = {"PatientAge": "018M", "PatientSex": "O", "PatientWeight": "0", "SeriesDescription": "TOF 3D"}
    write_enhanced(series / "mr" / "1.dcm", PIXELS[None], PatientID="Meyer", **output)
    write_image(series / "mute" / "1.dcm", PIXELS, PatientID="ANONYMOUS", Modality="MR")
    (series / "mute" / "0.dcm").write_bytes(b"not an image")
    (series / "broken").mkdir()
    (series / "broken" / "1.dcm").write_bytes(b"not an image")
    save_mask(tmp_path / "segmentations" / "mr" / "mr_cowseg.nii", np.ones((4, 4, 1), np.uint8), np.eye(4))
    return tmp_path


def build(data_dir: Path) -> dict[str, dict]:
    """The lines of the manifest by SeriesInstanceUID, as plain JSON."""
    main(ManifestConfig(data_dir, workers=1))
    lines = map(json.loads, (data_dir / "manifest.jsonl").read_text().splitlines())
    return {line["SeriesInstanceUID"]: line for line in lines}


def write_train(data_dir: Path, **columns: list) -> None:
    uids = ["mute", "ct", "broken", "absent", "mr"]
    table = pd.DataFrame({"SeriesInstanceUID": uids}).assign(**(dict.fromkeys(LABELS, 0) | columns))
    table.to_csv(data_dir / "train.csv", index=False)


def test_keys_of_the_labels_are_their_names_in_snake_case_in_the_order_of_the_metric():
    assert LABEL_KEYS[:2] == ("left_infraclinoid_internal_carotid_artery", "right_infraclinoid_internal_carotid_artery")
    assert LABEL_KEYS[11:] == ("basilar_tip", "other_posterior_circulation", "label") and len(set(LABEL_KEYS)) == 14


def test_without_train_csv_the_headers_of_all_folders_speak(data_dir, capsys):
    lines = build(data_dir)
    assert list(lines) == ["broken", "ct", "mr", "mute"]
    assert {k: v for k, v in lines["ct"].items() if k not in LABEL_KEYS} == {
        "SeriesInstanceUID": "ct",
        "modality": "CT",
        "subtype": "CTA",
        "patient_id": "Meyer",
        "patient_age": 67.0,
        "patient_sex": "F",
        "patient_weight": 72.5,
        "image_path": "series/ct",
        "segmentation_path": None,
    }
    assert all(lines["ct"][key] is None for key in LABEL_KEYS)
    mr = lines["mr"]
    assert (mr["modality"], mr["subtype"], mr["patient_id"], mr["patient_age"]) == ("MR", "MRA", "Meyer", 1.5)
    assert mr["patient_sex"] is None and mr["patient_weight"] is None
    assert mr["segmentation_path"] == "segmentations/mr/mr_cowseg.nii"
    assert "1 series cannot be read" in capsys.readouterr().out


def test_who_is_anonymous_stands_for_himself(data_dir):
    assert build(data_dir)["mute"]["patient_id"] == "mute"
    for filler in ("", " ", "0000", "Unknown", "anonymized", "xxx", "N/A"):
        write_image(data_dir / "series" / "mute" / "1.dcm", PIXELS, PatientID=filler, Modality="MR")
        assert build(data_dir)["mute"]["patient_id"] == "mute", filler


def test_train_csv_wins_over_the_header_and_names_the_series(data_dir, capsys):
    (data_dir / "series" / "unlisted").mkdir()
    write_train(data_dir, PatientAge=[51, 52, None, 54, 55], PatientSex=["Female", "Male", "Female", None, "Male"])
    table = pd.read_csv(data_dir / "train.csv").assign(Modality=["MRI T2", "CTA", "CTA", "MRI T1post", None])
    table.loc[1, ["Basilar Tip", "Aneurysm Present"]] = 1
    table.to_csv(data_dir / "train.csv", index=False)
    lines = build(data_dir)
    assert list(lines) == ["mute", "ct", "broken", "absent", "mr"]
    ct, mute, broken, absent, mr = (lines[uid] for uid in ("ct", "mute", "broken", "absent", "mr"))
    assert (ct["patient_age"], ct["patient_sex"], ct["basilar_tip"], ct["label"]) == (52, "M", 1, 1)
    assert sum(ct[key] for key in LABEL_KEYS) == 2 and ct["patient_weight"] == 72.5
    assert (mute["modality"], mute["subtype"], mute["patient_sex"], mute["label"]) == ("MR", "MRI T2", "F", 0)
    assert (broken["modality"], broken["subtype"], broken["patient_id"], broken["patient_age"]) == (
        *("CT", "CTA", "broken"),
        None,
    )
    assert (absent["modality"], absent["patient_sex"], absent["image_path"]) == ("MR", None, "series/absent")
    assert (mr["subtype"], mr["patient_age"]) == ("MRA", 55)  # no Modality in its row: by the header
    output = capsys.readouterr().out
    assert "2 series cannot be read" in output and "1 folders" in output and "unlisted" in output


def test_a_label_that_is_none_is_refused_by_name(data_dir):
    write_train(data_dir, **{"Basilar Tip": [0, 1, 2, 0, 0]})
    with pytest.raises(ValueError, match="train.csv: expected 0 or 1 as Basilar Tip, found 2 for series broken"):
        build(data_dir)


@pytest.mark.parametrize(
    "text, expected",
    [("067Y", 67), ("018M", 1.5), ("026W", 0.5), ("073D", 0.2), ("67", 67), ("67.0", 67), ("000Y", None)]
    + [("", None), ("Y", None), ("old", None), ("-3Y", None), ("1067Y", None)],
)
def test_years_of_dicom_ages_by_hand(text, expected):
    assert years(text) == expected


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    labels = [0, 1, np.nan] + [0] * 10 + [1]
    written = [entry("a", labels, patient_age=61.0, patient_sex="F"), entry("b", segmentation_path="m.nii")]
    write_manifest(tmp_path / "m.jsonl", written)
    read = read_manifest(tmp_path / "m.jsonl")
    assert [e.series_uid for e in read] == ["a", "b"]
    assert read[0].labels.dtype == np.float32 and np.array_equal(read[0].labels, labels, equal_nan=True)
    assert (read[0].patient_age, read[0].patient_sex, read[1].patient_age) == (61.0, "F", None)
    assert read[1].segmentation_path == "m.nii"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda line: line[:-5], "line 2: "),
        (lambda line: "[1, 2]", "line 2: expected a JSON object, found list"),
        (
            lambda line: line.replace('"basilar_tip"', '"tip"'),
            "line 2: expected the keys of a series, found no",
        ),
        (lambda line: line.replace('"label": 0', '"label": 3'), "line 2: expected 0, 1 or null as label, found 3"),
        (lambda line: line.replace('"patient_id": "b"', '"patient_id": ""'), "line 2: expected a text as patient_id"),
        (lambda line: line.replace('"b"', '"a"'), "line 2: expected each series once, found a again"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, change, message):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [entry("a"), entry("b")])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{change(second)}\n")
    with pytest.raises(ValueError, match=f"m.jsonl, {message}"):
        read_manifest(path)


def test_a_missing_manifest_says_what_makes_it(tmp_path):
    with pytest.raises(ValueError, match="manifest.jsonl: not there; has volume3d.build_manifest run"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_the_first_systems_tables_take_patients_from_it_and_what_else_they_lack():
    entries = [entry("a", patient_id="p", patient_sex="M"), entry("b", patient_id="p", subtype="MRA")]
    table = pd.DataFrame({"SeriesInstanceUID": ["b", "a", "c"], "patient_id": ["x", None, "y"], "Modality": "CTA"})
    filled = with_manifest(table, entries)
    assert filled.patient_id.tolist() == ["p", "p", "y"] and filled.Modality.tolist() == ["CTA"] * 3
    assert filled.PatientSex[1] == "Male" and filled.PatientSex.isna().tolist() == [True, False, True]
