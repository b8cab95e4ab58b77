"""Parts of phantom volumes without files show what a cached volume shows of the same head, and know every cell."""

from ast import literal_eval
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.vessel_masks import in_blocks
from aneurysm.folds.targets import RIM
from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom.plan import Case
from aneurysm.phantom.render import Scan
from aneurysm.phantom.series import draw_case_person, make_series, set_up
from aneurysm.phantom.shown import ShownScan
from tests.phantom.test_windows import in_capsules
from tests.volume3d_series import entry
from volume3d.config import PhantomPartsConfig, VolumeSettings
from volume3d.crop import first_voxel
from volume3d.localizers import voxel_of
from volume3d.make_volume import find_volume, grid_of, make_volume
from volume3d.phantoms import sac_cells, scan_parts, to_person, to_voxels, volume_part
from volume3d.volume import read_geometry, read_vessels, read_volume

SEED, PIXELS, UID = 7, 192, "1.2.3"
MCA = "Left Middle Cerebral Artery"
SETTINGS = VolumeSettings(z_mm=0.9, size=128, pixel_mm=0.8, centre=(0.44, 0.5), head_mm=150.0)
SHAPE = (40, 48, 56)
SMALL = PhantomPartsConfig(sizes=(128,), sacs=2, shape=(16, 32, 32))


@pytest.fixture(scope="module", params=[(m, p) for m in MODALITIES for p in ("axial", "coronal", "sagittal")],
                ids=lambda param: " ".join(param))  # fmt: skip
def both(request, tmp_path_factory) -> SimpleNamespace:
    """One head as a cached volume, by way of DICOM files, and as a scan with that crop and those percentiles."""
    root = tmp_path_factory.mktemp("head")
    modality, plane = request.param
    case = Case(0, UID, 0, modality, plane, (MCA,), 50, "Female", False, plane == "axial")
    folder, mask = root / "series" / UID, root / "segmentations" / f"{UID}_cowseg.nii"
    folder.mkdir(parents=True)
    mask.parent.mkdir()
    (localizer,) = make_series(case, SEED, PIXELS, True, folder, mask)["localizers"]
    described = entry(UID, segmentation_path=str(mask.relative_to(root)) if mask.exists() else None)
    outcome = make_volume(root, described, SETTINGS)
    assert not outcome.kind, outcome
    person = draw_case_person(case, SEED)
    _, acquisition, rng = set_up(case, SEED, PIXELS, True)
    shown = ShownScan(Scan(person, acquisition.person_grid, modality, rng), acquisition, CacheSettings(150.0), "axial")
    series, grid, window = find_volume(folder, SETTINGS)
    own = grid_of(shown.geometry, shown.crop, SETTINGS)
    shown.window, shown.crop = window, series.crop
    return SimpleNamespace(
        root=root, shown=shown, grid=grid_of(shown.geometry, series.crop, SETTINGS), own=own, cached_grid=grid,
        volume=read_volume(root, UID), vessels=read_vessels(root, UID), person=person, localizer=localizer,
    )  # fmt: skip


def test_the_grid_lies_nearly_where_the_cached_one_lies(both):
    for own, cached in zip(both.own.lines, both.cached_grid.lines, strict=True):
        assert own.step_mm == cached.step_mm
        middle = own.pixel_indices()[len(own.centres_mm) // 2], cached.pixel_indices()[len(cached.centres_mm) // 2]
        assert abs(middle[0] - middle[1]) * own.pixel_mm <= 2 * 2.0 + 2.0  # the head is looked for every 2 mm


def test_a_part_shows_the_voxels_of_the_cached_volume(both):
    """What is left are whole numbers in the files and coarse echoes of motion."""
    sac = to_voxels(both.shown, both.grid, both.person.sacs[0].centre[None])[0]
    first = first_voxel(sac, both.volume.shape, SHAPE)
    part = volume_part(both.shown, both.grid, first, SHAPE, 2)
    where = tuple(slice(a, a + n) for a, n in zip(first, SHAPE, strict=True))
    expected = np.asarray(both.volume[where], np.float32)
    assert part.image.shape == expected.shape and expected.std() > 0.05
    assert np.abs(part.image - expected).mean() <= 0.02
    for axis in range(3):
        assert np.abs(part.image - expected).mean() < 0.5 * np.abs(np.flip(part.image, axis) - expected).mean()
    sharp = [np.abs(np.diff(image, axis=2)).mean() for image in (part.image, expected)]
    assert sharp[0] == pytest.approx(sharp[1], rel=0.1)
    if both.vessels is not None:
        blocks = in_blocks(both.vessels[where], 2)
        assert (blocks > 0).any() and (blocks != part.vessels).mean() < 0.02


def test_places_of_the_head_and_voxels_of_the_volume_lead_to_each_other(both):
    points = both.person.sacs[0].centre + np.random.default_rng(0).uniform(-10, 10, (20, 3))
    voxels = to_voxels(both.shown, both.grid, points)
    np.testing.assert_allclose(
        to_person(both.shown, both.grid, voxels), points, atol=0.5 * both.grid.z.pixel_mm * 0.02 + 1e-6
    )


def test_the_volume_s_description_finds_the_sac_in_the_patient(both):
    """The voxel of the sac's centre, by the description that lies beside the volume, in the scanner's millimetres."""
    geometry, centre = read_geometry(both.root, UID), both.person.sacs[0].centre
    voxel = to_voxels(both.shown, both.grid, centre[None])[0]
    patient = np.array(geometry["origin"]) + (voxel * geometry["spacing_mm"]) @ np.array(geometry["axes"])
    np.testing.assert_allclose(patient, both.shown.acquisition.to_scanner(centre), atol=0.1)


def test_the_localizer_lies_at_the_sac(both):
    geometry, point = read_geometry(both.root, UID), literal_eval(both.localizer[1])
    found = voxel_of(geometry, point["x"], point["y"], both.localizer[0])
    apart_mm = (found - to_voxels(both.shown, both.grid, both.person.sacs[0].centre[None])[0]) * both.grid.spacing_mm
    # A localizer lies in an original image, whose middle may be half a slice away.
    assert np.abs(apart_mm).max() <= 0.5 * max(both.shown.geometry.spacing) + 1.0
    with pytest.raises(ValueError, match="outside the image"):
        voxel_of(geometry, -3.0, point["y"], both.localizer[0])


def test_cells_are_those_that_the_sac_fills():
    """Against a count of points, by brute force."""
    case = Case(0, UID, 3, "CTA", "axial", (MCA,), 50, "Female", False, False)
    person = draw_case_person(case, SEED)
    _, acquisition, rng = set_up(case, SEED, 256, True)
    shown = ShownScan(Scan(person, acquisition.person_grid, "CTA", rng), acquisition, CacheSettings(), "axial")
    grid, (sac,) = grid_of(shown.geometry, shown.crop, SETTINGS), person.sacs
    first = first_voxel(to_voxels(shown, grid, sac.centre[None])[0], grid.shape, (32, 32, 32))
    target = sac_cells(shown, grid, first, (16, 16, 16), 2)
    draw, share = np.random.default_rng(0), np.zeros((16, 16, 16))
    for cell in np.argwhere(target > 0):
        voxels = first + 2 * cell + draw.uniform(-0.5, 1.5, (400, 3))
        share[tuple(cell)] = in_capsules(to_person(shown, grid, voxels), sac.blobs[1:]).mean()
    own = 1 + LOCATIONS.index(MCA)
    assert set(np.unique(target)) == {0, RIM, own}
    assert share[target == own].min() > 0.35 * share.max() and share[target == RIM].max() < 0.65 * share.max()
    assert np.abs(np.argwhere(target == own).mean(0) - 7.5).max() < 1.5


def test_a_scan_is_decided_by_seed_and_number_alone():
    first, again = (scan_parts(1_000_000, 3, SMALL, SETTINGS, 2) for _ in range(2))
    other = scan_parts(1_000_000, 4, SMALL, SETTINGS, 2)
    assert len(first) == SMALL.parts_per_scan == 2
    for one, two in zip(first, again, strict=True):
        for name in ("image", "sac", "vessels", "place_mm"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(first[0].image, other[0].image)


def test_parts_have_their_shapes_and_values_and_some_show_sacs_and_vessels():
    parts = [part for number in range(8) for part in scan_parts(1_000_001, number, SMALL, SETTINGS, 2)]
    for part in parts:
        assert part.image.shape == (16, 32, 32) and part.image.dtype == np.float32
        assert part.image.min() >= 0 and part.image.max() <= 1
        assert part.sac.shape == part.vessels.shape == (8, 16, 16)
        assert -160 <= part.place_mm[0] <= 0 and np.abs(part.place_mm[1:]).max() <= 64
    assert 3 <= sum((part.sac > 0).any() for part in parts) < len(parts)
    assert sum((part.vessels > 0).any() for part in parts) >= 6


def test_a_part_of_a_small_volume_lies_around_it():
    np.testing.assert_array_equal(first_voxel(np.array([3.0, 50, 90]), (10, 100, 100), (16, 32, 32)), (-3, 34, 68))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"sac_parts": 0, "free_parts": 0}, "free_parts"), ({"sacs": 0}, "sac_parts"), ({"sizes": (16,)}, "sizes")],
)
def test_settings_that_make_no_sense_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        replace(SMALL, **wrong)


def test_seeds_for_evaluation_are_refused():
    with pytest.raises(ValueError, match="for evaluation"):
        scan_parts(99_999, 0, SMALL, SETTINGS, 2)
