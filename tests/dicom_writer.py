"""Writes small synthetic DICOM series with pydicom: stacks of single-frame files and enhanced multi-frame files.

A tag given as a keyword (`RescaleSlope=2`) replaces the default; None leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import gdcm
import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from aneurysm.dicom.series import Series

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)

CT_STORAGE, MR_STORAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.7"


def voxel_positions(
    shape: tuple[int, int, int], first: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]
) -> np.ndarray:
    """(slices, rows, columns, 3) LPS millimetres of each voxel centre; `spacing` between slices, rows, columns."""
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(along_row, along_column)
    k, r, c = np.meshgrid(*map(np.arange, shape), indexing="ij")
    steps = (k[..., None] * normal * spacing[0], r[..., None] * along_column * spacing[1])
    return np.array(first, float) + steps[0] + steps[1] + c[..., None] * along_row * spacing[2]


def write_image(path: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: object) -> Path:
    """One DICOM file of `pixels`: (rows, columns), or (frames, rows, columns) with NumberOfFrames."""
    dataset = make_dataset(pixels, **tags)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_dataset(pixels: np.ndarray, **tags: object) -> Dataset:
    """The data set of an image, uncompressed, with the tags that the competition's anonymiser leaves."""
    meta = FileMetaDataset()
    dataset = Dataset()
    dataset.file_meta = meta
    defaults = {
        "SOPClassUID": CT_STORAGE if tags.get("Modality", "CT") == "CT" else MR_STORAGE,
        "SOPInstanceUID": f"{SERIES_UID}.1",
        "SeriesInstanceUID": SERIES_UID,
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.6",
        "PatientID": "patient",
        "Modality": "CT",
        "InstanceNumber": 1,
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [1, 1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if pixels.ndim == 3:
        defaults["NumberOfFrames"] = len(pixels)
    for name, value in (defaults | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT_STORAGE)
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"  # differs from the data set's own, as in the competition
    return dataset


def write_stack(
    folder: Path,
    volume: np.ndarray,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (5.0, 1.0, 1.0),
    first: Sequence[float] = (0.0, 0.0, 0.0),
    each: Callable[[int], dict] = lambda i: {},
    **tags: object,
) -> list[str]:
    """One file per slice of `volume`, in the order of the normal; returns their SOP Instance UIDs in that order.

    File names run against the order of the slices, and `each(i)` gives the tags of slice i.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    uids = [f"{SERIES_UID}.{i + 1}" for i in range(len(volume))]
    for i, pixels in enumerate(volume):
        own = {
            "SOPInstanceUID": uids[i],
            "InstanceNumber": i + 1,
            "ImagePositionPatient": [f"{v:.6f}" for v in np.array(first) + i * spacing[0] * normal],
            "ImageOrientationPatient": [f"{v:.10f}" for v in orientation],
            "PixelSpacing": [spacing[1], spacing[2]],
        }
        write_image(folder / f"{900 - i}.dcm", pixels, **(own | tags | each(i)))
    return uids


def write_enhanced(
    path: Path,
    volume: np.ndarray,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (5.0, 1.0, 1.0),
    first: Sequence[float] = (0.0, 0.0, 0.0),
    geometry: str = "groups",
    rescale: Callable[[int], tuple[float, float]] | None = None,
    **tags: object,
) -> Path:
    """One multi-frame MR file, all geometry in its functional groups, or (`geometry="none"`) without any.

    With geometry "groups" orientation and spacing are shared; with "per frame" each frame has its own.
    """
    defaults = {
        "SOPClassUID": ENHANCED_MR_STORAGE,
        "Modality": "MR",
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
        "PixelSpacing": None,
    }
    groups: dict[str, object] = {}
    if geometry != "none":
        common = {
            "PlaneOrientationSequence": [_item(ImageOrientationPatient=[f"{v:.10f}" for v in orientation])],
            "PixelMeasuresSequence": [_item(PixelSpacing=list(spacing[1:]), SliceThickness=spacing[0])],
        }
        groups["SharedFunctionalGroupsSequence"] = [_item(**common) if geometry == "groups" else Dataset()]
        own = common if geometry == "per frame" else {}
        frames = [_frame_item(i, orientation, spacing, first, rescale, own) for i in range(len(volume))]
        groups["PerFrameFunctionalGroupsSequence"] = frames
    return write_image(path, volume, **(defaults | groups | tags))


def _frame_item(i: int, orientation: Sequence, spacing: Sequence, first: Sequence, rescale, own: dict) -> Dataset:
    position = np.array(first) + i * spacing[0] * np.cross(orientation[:3], orientation[3:])
    item = _item(PlanePositionSequence=[_item(ImagePositionPatient=[f"{v:.6f}" for v in position])], **own)
    item.FrameContentSequence = [_item(InStackPositionNumber=i + 1)]
    if rescale is not None:
        slope, intercept = rescale(i)
        item.PixelValueTransformationSequence = [_item(RescaleSlope=slope, RescaleIntercept=intercept)]
    return item


def _item(**tags: object) -> Dataset:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def transcode(path: Path, syntax: int) -> None:
    """Rewrites a file in another transfer syntax (`gdcm.TransferSyntax.JPEGLSLossless` ...) with GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    if not reader.Read():
        raise ValueError(f"{path}: GDCM cannot read it")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"{path}: GDCM cannot transcode it")
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError(f"{path}: GDCM cannot write it")


def ramp(shape: tuple[int, int, int], dtype: type = np.int16, start: int = 0) -> np.ndarray:
    """Different values in every pixel of every slice."""
    return (np.arange(np.prod(shape)).reshape(shape) + start).astype(dtype)


def warned(series: Series, text: str) -> bool:
    """Whether one of the warnings of a series holds this text."""
    return any(text in warning for warning in series.warnings)
