"""Makes the volume of one series from its DICOM files in memory, as volume3d.preprocess would cache it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from aneurysm.dicom.find import SeriesFiles
from volume3d.config import VolumeSettings
from volume3d.grid import Grid
from volume3d.make_volume import describe, volume_of
from volume3d.patient import PATIENT_KEYS, describe_files, patient_inputs


@dataclass(frozen=True)
class SeriesVolume:
    """What a prediction needs.

    voxels      (Z, H, W) in [0, 1], those of npy_volume/<uid>.npy; None if the series could not be read
    spacing_mm  of slices, rows and columns
    patient     from the DICOM header, in the order of PATIENT_KEYS
    grid        where the voxels lie in the source
    warnings    of the reader
    failure     why there are no voxels, or empty
    """

    voxels: np.ndarray | None = None
    spacing_mm: tuple[float, ...] = ()
    patient: tuple[float, ...] = ()
    grid: Grid | None = None
    warnings: tuple[str, ...] = ()
    failure: str = ""


def read_series_volume(files: SeriesFiles, settings: VolumeSettings) -> SeriesVolume:
    """The volume of one series. Never raises: an error is in `failure`."""
    cv2.setNumThreads(1)
    try:
        return _read(files, settings)
    except ValueError as error:
        return SeriesVolume(failure=str(error))
    except Exception as error:  # one series must not stop the others
        return SeriesVolume(failure=f"{files.folder}: {type(error).__name__}: {error}")


def died(files: SeriesFiles) -> SeriesVolume:
    """The result for a series whose worker process was killed (out of memory, a crash in a decoder)."""
    return SeriesVolume(failure=f"{files.folder}: its worker process was killed twice")


def _read(files: SeriesFiles, settings: VolumeSettings) -> SeriesVolume:
    voxels, series, grid, window = volume_of(files, settings)
    if np.ptp(voxels) == 0:
        raise ValueError(f"{files.folder}: expected images of a head, found all of one value")
    patient = describe_files(files.files, files.folder)
    inputs = patient_inputs(patient.age, patient.sex, patient.weight)
    spacing_mm = tuple(describe(series, files.uid, grid, window)["spacing_mm"])
    known = tuple(inputs[key] for key in PATIENT_KEYS)
    return SeriesVolume(voxels, spacing_mm, known, grid, tuple(series.warnings))
