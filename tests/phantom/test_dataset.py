"""The synthetic data set: layout, labels, shares, geometry of the localizers and masks, restarts."""

import ast
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK

from aneurysm.labels import LOCATIONS, PRESENT, VESSEL_MASK
from aneurysm.phantom import series
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from aneurysm.phantom.plan import make_plan
from aneurysm.phantom.quirks import Quirks
from aneurysm.phantom.summary import summarise
from tests import phantom_spheres

SMALL = dict(n_series=24, seed=3, size=48, workers=1)
KEPT = """
    BitsAllocated BitsStored Columns FrameOfReferenceUID HighBit ImageOrientationPatient ImagePositionPatient
    InstanceNumber Modality PatientID PhotometricInterpretation PixelRepresentation PixelSpacing PlanarConfiguration
    RescaleIntercept RescaleSlope RescaleType Rows SOPClassUID SOPInstanceUID SamplesPerPixel SliceThickness
    SpacingBetweenSlices StudyInstanceUID PixelData NumberOfFrames PerFrameFunctionalGroupsSequence
    SharedFunctionalGroupsSequence
"""


@pytest.fixture(scope="module")
def spheres():
    """Persons and pictures that take milliseconds, for the tests that look at files and tables only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "draw_person", phantom_spheres.draw_person)
        patch.setattr(series, "render", phantom_spheres.render)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory, spheres) -> Path:
    out = tmp_path_factory.mktemp("phantoms")
    make_dataset(PhantomConfig(out=str(out), **SMALL))
    return out


@pytest.fixture(scope="module")
def clean(tmp_path_factory, spheres) -> Path:
    out = tmp_path_factory.mktemp("clean")
    make_dataset(PhantomConfig(out=str(out), n_series=14, seed=5, workers=1, size=64, clean=True, balanced=True))
    return out


def tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def by_position(folder: Path) -> list[pydicom.Dataset]:
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    x, y = np.array(files[0].ImageOrientationPatient, float).reshape(2, 3)
    return sorted(files, key=lambda f: np.dot(np.cross(x, y), np.array(f.ImagePositionPatient, float)))


def pixel_to_mm(file: pydicom.Dataset, x: float, y: float) -> np.ndarray:
    """The equation of DICOM PS3.3 C.7.6.2.1.1."""
    along_row, along_column = np.array(file.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = file.PixelSpacing
    return (
        np.array(file.ImagePositionPatient, float) + along_row * between_columns * x + along_column * between_rows * y
    )


def test_the_tables_have_the_competitions_columns_and_the_folders_its_layout(data):
    train, localizers = pd.read_csv(data / "train.csv"), pd.read_csv(data / "train_localizers.csv")
    expected = ["SeriesInstanceUID", "PatientAge", "PatientSex", "Modality", *LOCATIONS, PRESENT]
    assert list(train.columns) == expected
    assert list(localizers.columns) == ["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"]
    assert sorted(p.name for p in (data / "series").iterdir()) == sorted(train.SeriesInstanceUID)
    assert sorted(p.name for p in data.glob("[!.]*")) == sorted(
        ["segmentations", "series", "train.csv", "train_localizers.csv", "truth.csv"]
    )
    masks = sorted((data / "segmentations").rglob("*.nii"))
    assert len(masks) == 2
    assert all(path.name == f"{path.parent.name}_cowseg.nii" for path in masks)
    assert train.PatientAge.between(18, 89).all()
    assert set(train.PatientSex) <= {"Female", "Male"}


def test_aneurysm_present_is_the_maximum_of_the_locations_and_localizers_agree(data):
    train, localizers = pd.read_csv(data / "train.csv"), pd.read_csv(data / "train_localizers.csv")
    assert (train[PRESENT] == train[list(LOCATIONS)].max(axis=1)).all()
    assert 0 < train[PRESENT].sum() < len(train)
    for row in train.itertuples(index=False):
        output = {name for name, label in zip(LOCATIONS, row[4:17], strict=True) if label}
        assert output == set(localizers.location[localizers.SeriesInstanceUID == row[0]])


def test_files_hold_only_the_tags_that_the_anonymiser_keeps_under_valid_uids(data):
    for path in data.glob("series/*/*.dcm"):
        file = pydicom.dcmread(path)
        assert {element.keyword for element in file} <= set(KEPT.split())
        assert path.stem == file.SOPInstanceUID
        assert file.SOPInstanceUID.is_valid and file.SOPInstanceUID != path.parent.name
        assert pydicom.uid.UID(path.parent.name).is_valid
        assert file.Modality in ("CT", "MR")


def test_the_same_seed_gives_the_same_bytes_again_and_after_an_interruption(data, tmp_path):
    config = PhantomConfig(out=str(tmp_path), **SMALL)
    make_dataset(config)
    expected = tree(data)
    assert tree(tmp_path) == expected
    uids = sorted(p.name for p in (tmp_path / "series").iterdir())
    (tmp_path / ".phantoms" / f"{uids[0]}.json").unlink()  # killed before its record was written
    shutil.rmtree(tmp_path / "series" / uids[1])
    (tmp_path / ".phantoms" / f"{uids[1]}.json").unlink()
    half = tmp_path / ".phantoms" / f"{uids[1]}.partial" / "series"
    half.mkdir(parents=True)
    (half / "1.dcm").write_bytes(b"half a file")
    kept = next((tmp_path / "series" / uids[2]).iterdir())
    before = kept.stat().st_mtime_ns
    make_dataset(config)
    assert tree(tmp_path) == expected
    assert kept.stat().st_mtime_ns == before, "a finished series is made once"


def test_another_seed_gives_other_series_and_other_data_are_never_touched(data, tmp_path):
    with pytest.raises(ValueError, match="give another --out"):
        make_dataset(PhantomConfig(out=str(data), **{**SMALL, "seed": 4}))
    (tmp_path / "train.csv").write_text("the competition's own")
    with pytest.raises(ValueError, match="did not make"):
        make_dataset(PhantomConfig(out=str(tmp_path), **SMALL))


@pytest.mark.parametrize("field", ["n_series", "workers", "size"])
def test_a_senseless_setting_is_refused(field):
    with pytest.raises(ValueError, match=field):
        PhantomConfig(**{field: 0})


def test_every_localizer_lies_in_the_slice_and_pixel_of_its_sac(clean):
    truth = pd.read_csv(clean / "truth.csv").set_index("SeriesInstanceUID")
    localizers = pd.read_csv(clean / "train_localizers.csv")
    assert len(localizers) >= 7
    for row in localizers.itertuples():
        series = truth.loc[row.SeriesInstanceUID]
        sac = next(s for s in json.loads(series.sacs) if s["location"] == row.location)
        spot = ast.literal_eval(row.coordinates)
        file = pydicom.dcmread(clean / "series" / row.SeriesInstanceUID / f"{row.SOPInstanceUID}.dcm")
        away = np.linalg.norm(pixel_to_mm(file, spot["x"], spot["y"]) - sac["centre_mm"])
        assert away <= series.slice_step_mm / 2 + 0.1


def test_simpleitk_finds_the_sacs_where_the_localizers_say(clean):
    truth = pd.read_csv(clean / "truth.csv")
    localizers = pd.read_csv(clean / "train_localizers.csv").set_index("SeriesInstanceUID")
    row = truth[(truth.sacs != "[]") & (truth.plane == "axial")].iloc[0]
    files = by_position(clean / "series" / row.SeriesInstanceUID)
    image = SimpleITK.ReadImage([str(f.filename) for f in files])
    sac = json.loads(row.sacs)[0]
    x, y, k = image.TransformPhysicalPointToContinuousIndex(sac["centre_mm"])
    rows = localizers.loc[[row.SeriesInstanceUID]]
    mine = rows[rows.location == sac["location"]].iloc[0]
    spot = ast.literal_eval(mine.coordinates)
    assert (spot["x"], spot["y"]) == pytest.approx((x, y), abs=0.1)
    assert files[round(k)].SOPInstanceUID == mine.SOPInstanceUID


def test_masks_lie_where_nibabel_and_the_dicom_positions_agree(data):
    for path in data.glob("segmentations/*/*_cowseg.nii"):
        mask = nibabel.load(path)
        voxels = np.asarray(mask.dataobj)
        files = by_position(data / "series" / path.parent.name)
        files = [f for f in files if f.Rows == voxels.shape[1] and f.Columns == voxels.shape[0]]
        assert voxels.shape == (files[0].Columns, files[0].Rows, len(files))
        assert 0 < np.count_nonzero(voxels) < voxels.size / 10
        assert set(np.unique(voxels)) <= {0, *VESSEL_MASK}
        for x, y, k in ((0, 0, 0), (7, 3, 5), (voxels.shape[0] - 1, 1, len(files) - 1)):
            ras = mask.affine @ (x, y, k, 1)
            assert ras[:3] * (-1, -1, 1) == pytest.approx(pixel_to_mm(files[k], x, y), abs=1e-3)
        values = np.unique(voxels)
        left = [v for v in values if VESSEL_MASK.get(v, "").startswith("Left")]
        right = [v for v in values if VESSEL_MASK.get(v, "").startswith("Right")]
        x_of = {side: (mask.affine @ (*np.mean(np.nonzero(np.isin(voxels, of)), axis=1), 1))[0]
                for side, of in (("left", left), ("right", right))}  # fmt: skip
        assert x_of["left"] < x_of["right"], "in RAS the patient's right is positive"


def test_the_summary_counts_what_was_made(data):
    lines = summarise(pd.read_csv(data / "truth.csv", keep_default_na=False)).splitlines()
    train = pd.read_csv(data / "train.csv")
    assert lines[0].startswith(f"24 series, {train[PRESENT].sum()} with an aneurysm")
    assert f"CTA {(train.Modality == 'CTA').sum()}" in lines[1]


@pytest.mark.parametrize(("quirk", "more_files"), [("gap", -1), ("scout", 1), ("two_times", None)])
def test_a_folder_may_lack_a_slice_or_hold_more_than_its_stack(tmp_path, monkeypatch, spheres, quirk, more_files):
    case = next(c for c in make_plan(40, 0, True, True) if c.locations and c.modality == "CTA" and c.plane == "axial")
    monkeypatch.setattr(series, "draw_quirks", lambda *_: Quirks(**{quirk: True}))
    made = series.make_series(case, 0, 64, False, tmp_path, tmp_path / "no mask")
    n_slices, files = made["truth"]["slices"], [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert len(files) == n_slices + (n_slices if more_files is None else more_files)
    assert ((tmp_path / f"{made['localizers'][0][0]}.dcm").exists()) == (quirk != "gap")
    assert made["truth"]["quirks"] == quirk
    assert len({tuple(file.ImageOrientationPatient) for file in files}) == (2 if quirk == "scout" else 1)
    assert len({tuple(file.ImagePositionPatient) for file in files}) == n_slices + (more_files or 0)
    assert len({file.InstanceNumber for file in files}) == len(files)
