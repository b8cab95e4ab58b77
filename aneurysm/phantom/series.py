"""Makes one series from its case: person, acquisition, quirks, image, files and table rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aneurysm.phantom.acquisition import SAC_REGION, Acquisition, covered, draw_acquisition, scout
from aneurysm.phantom.dicom import Identity, write_enhanced, write_slices
from aneurysm.phantom.encoding import make_uid
from aneurysm.phantom.nifti import write_mask
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.plan import Case
from aneurysm.phantom.quirks import ENHANCED_FRAMES, Quirks, draw_quirks
from aneurysm.phantom.render import render
from aneurysm.phantom.storage import draw_scale, store
from aneurysm.phantom.styles import STYLES

LONG_SERIES = 40  # slices; shorter series never have a missing slice


def make_series(
    case: Case, seed: int, size: int, clean: bool, folder: Path, mask_path: Path, style: str = "usual"
) -> dict:
    """Writes the series' files into `folder`, and its vessel mask if it has one; `style` is one of STYLES.

    Returns `localizers`, rows of (SOPInstanceUID, coordinates, location), and `truth`, a row of truth.csv. Person and
    image have random streams by seed and number, so that other series and the number of workers do not matter.
    Raises ValueError if a sac would lie outside the images.
    """
    person, (quirks, acquisition, rng) = draw_case_person(case, seed, style), set_up(case, seed, size, clean)
    rendered = render(person, acquisition.person_grid, case.modality, rng, masks=case.masked)
    if case.masked:
        write_mask(mask_path, rendered.vessel_mask, acquisition.grid)
    centres = _sac_indices(case, person, acquisition)
    patient = make_uid("person", seed, case.person)
    identity = Identity(case.series_uid, patient, "CT" if case.modality == "CTA" else "MR", acquisition.thickness_mm)
    uids, frames = _write_images(folder, identity, person, acquisition, quirks, rendered.image, rng)
    if quirks.gap and acquisition.grid.shape[0] >= LONG_SERIES:
        (folder / f"{uids[_lost_slice(centres, acquisition, rng)]}.dcm").unlink()
    return {
        "localizers": [
            _localizer(index, uids, frames, sac.location) for index, sac in zip(centres, person.sacs, strict=True)
        ],
        "truth": _truth(case, patient, person, acquisition, quirks, sum(f.stat().st_size for f in folder.iterdir())),
    }


def set_up(case: Case, seed: int, size: int, clean: bool) -> tuple[Quirks, Acquisition, np.random.Generator]:
    """Quirks, acquisition, and the random generator, from which the image is drawn next."""
    rng = _stream(seed, 2, case.number)
    quirks = draw_quirks(rng, case.modality, case.plane, case.enhanced, clean)
    limit = ENHANCED_FRAMES[1] if case.enhanced else None
    return quirks, draw_acquisition(rng, case.modality, case.plane, size, limit), rng


def draw_case_person(case: Case, seed: int, style: str = "usual") -> Person:
    """The person of a case; redrawn if a sac lies outside the covered region (about one in 1,000).

    Raises ValueError after 20 draws."""
    for attempt in range(20):
        person = draw_person(_stream(seed, 1, case.person, attempt), case.locations, STYLES[style])
        if covered(np.array([sac.centre for sac in person.sacs])):
            return person
    raise ValueError(f"series {case.number}: expected sacs in the covered region, found {person.sacs}")


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _sac_indices(case: Case, person: Person, acquisition: Acquisition) -> np.ndarray:
    """(sacs, 3) fractional slice, row and column of the sacs' centres; raises ValueError if outside the images."""
    points = np.array([sac.centre for sac in person.sacs], float).reshape(-1, 3)
    if {sac.location for sac in person.sacs} != set(case.locations):
        raise ValueError(f"series {case.number}: expected sacs at {case.locations}, found {person.sacs}")
    indices = acquisition.person_grid.to_index(points)
    if not ((indices >= 0) & (indices <= np.array(acquisition.grid.shape) - 1)).all():
        raise ValueError(f"series {case.number}: expected sacs inside {acquisition.grid.shape}, found {indices}")
    return indices


def _write_images(
    folder: Path, identity: Identity, person: Person, acquisition: Acquisition, quirks: Quirks, image: np.ndarray, rng
) -> tuple[list[str], np.ndarray | None]:
    """Writes the files; returns the SOP Instance UID of each slice, and its frame in a multi-frame file or None."""
    scale, grid = draw_scale(rng, image, quirks), acquisition.grid
    stored = store(image, scale, quirks)
    if quirks.enhanced:
        uid, frames = write_enhanced(folder, stored, grid, quirks, identity)
        return [uid] * len(frames), frames
    uids = write_slices(folder, stored, grid, quirks, identity)
    if quirks.two_times:
        noise = rng.normal(0, 0.02 * float(image.std()), image.shape).astype(np.float32)
        write_slices(folder, store(image + noise, scale, quirks), grid, quirks, identity, "second time", len(uids))
    if quirks.scout:
        across = scout(acquisition)
        view = render(person, across.moved(acquisition.rotation, acquisition.shift), acquisition.modality, rng).image
        write_slices(folder, store(view, scale, quirks), across, quirks, identity, "scout", 2 * len(uids))
    return uids, None


def _lost_slice(centres: np.ndarray, acquisition: Acquisition, rng: np.random.Generator) -> int:
    """The first sac's slice; without sacs a random one from the same range, so that gaps do not leak the label."""
    anywhere = acquisition.person_grid.to_index(rng.dirichlet(np.ones(len(SAC_REGION))) @ SAC_REGION)
    return round(float(centres[0, 0] if len(centres) else anywhere[0]))


def _localizer(index: np.ndarray, uids: list[str], frames: np.ndarray | None, location: str) -> tuple[str, str, str]:
    """Row of train_localizers.csv without its series: x and y (pixels) in the slice nearest to the sac's centre."""
    k = round(float(index[0]))
    coordinates = {"x": round(float(index[2]), 2), "y": round(float(index[1]), 2)}
    if frames is not None:
        coordinates["f"] = int(frames[k])
    return uids[k], str(coordinates), location


def _truth(case: Case, patient: str, person: Person, acquisition: Acquisition, quirks: Quirks, n_bytes: int) -> dict:
    """A row of truth.csv; the sacs' centres are in scanner millimetres, as is ImagePositionPatient."""
    grid = acquisition.grid
    steps = [round(float(np.linalg.norm(v)), 5) for v in (grid.step, grid.row_step, grid.col_step)]
    sacs = [
        {
            "location": sac.location,
            "diameter_mm": round(float(sac.diameter_mm), 3),
            "centre_mm": acquisition.to_scanner(sac.centre).round(3).tolist(),
        }
        for sac in person.sacs
    ]
    return {
        "SeriesInstanceUID": case.series_uid,
        "person": patient,
        "modality": case.modality,
        "plane": case.plane,
        "syntax": quirks.syntax,
        "storage": quirks.storage,
        "bits": quirks.bits,
        "quirks": quirks.names,
        **dict(zip(("slices", "rows", "columns"), grid.shape, strict=True)),
        **dict(zip(("slice_step_mm", "row_step_mm", "column_step_mm"), steps, strict=True)),
        "vessel_mask": case.masked,
        "megabytes": round(n_bytes / 1e6, 3),
        "sacs": json.dumps(sacs),
    }
