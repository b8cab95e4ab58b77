"""What a scan of a synthetic head shows: contrasts, sides, masks, and a sac where it was put."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from aneurysm.labels import LOCATIONS, VESSEL_MASK
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.render import render
from aneurysm.phantom.sacs import Sac


def axial_grid(low_mm: float, high_mm: float, spacing_mm: float = 0.9, slice_mm: float = 1.0, size: int = 256) -> Grid:
    """Axial slices from low to high about the head's middle; columns run to the left, rows to the back."""
    half = spacing_mm * (size - 1) / 2
    count = round((high_mm - low_mm) / slice_mm)
    steps = [0, 0, slice_mm], [0, spacing_mm, 0], [spacing_mm, 0, 0]
    return Grid(np.array([-half, 10 - half, low_mm]), *map(np.array, steps), (count, size, size))


def values_at(image: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """The image's voxels nearest to (n, 3) points that lie on the grid."""
    index = np.round(grid.to_index(points)).astype(int)
    return image[tuple(index[np.all((index >= 0) & (index < grid.shape), axis=1)].T)]


@functools.cache
def scan(modality: str) -> tuple[np.ndarray, Grid, Person]:
    person = draw_person(np.random.default_rng(3), [])
    thick = 5.0 if modality == "MRI T2" else 1.0
    grid = axial_grid(-30, 30, slice_mm=thick)
    return render(person, grid, modality, np.random.default_rng(4)).image, grid, person


def deep_white_matter(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Voxels of the centrum semiovale, far from large vessels and fluid."""
    points = np.stack(np.meshgrid([-26, -24, 24, 26], [10, 12, 14, 16], [26, 28], indexing="ij"), -1).reshape(-1, 3)
    return values_at(image, grid, points)


def test_an_image_differs_by_the_sac_alone():
    bare, full = (draw_person(np.random.default_rng(6), labels) for labels in ([], [LOCATIONS[4]]))
    grid = axial_grid(-20, 20, spacing_mm=1.8, slice_mm=2.0, size=128)
    first, second = (render(p, grid, "CTA", np.random.default_rng(7)).image for p in (bare, full))
    changed = grid.to_mm(np.argwhere(np.abs(first - second) > 1e-3))
    sac = full.sacs[0]
    assert len(changed) and np.linalg.norm(changed - sac.centre, axis=1).max() < 2 * sac.diameter_mm + 8


def test_the_same_seed_gives_the_same_bytes():
    grid = axial_grid(-6, 6, spacing_mm=1.8, slice_mm=3.0, size=128)
    for modality in ("CTA", "MRI T2"):
        made = [
            render(draw_person(np.random.default_rng(9), LOCATIONS[:1]), grid, modality, np.random.default_rng(1), True)
            for _ in range(2)
        ]
        assert made[0].image.tobytes() == made[1].image.tobytes()
        assert made[0].vessel_mask.tobytes() == made[1].vessel_mask.tobytes()


def test_cta_shows_arteries_and_brain_in_hounsfield_units():
    image, grid, person = scan("CTA")
    for name in ("left ICA", "right ICA", "basilar"):
        vessel = person.vessels[name]
        inner = vessel.points[(vessel.station_mm > 2) & (vessel.station_mm < 20)]
        assert 250 < np.median(values_at(image, grid, inner)) < 450
    assert 20 < deep_white_matter(image, grid).mean() < 45
    assert np.median(image[:, :3]) == pytest.approx(-1000, abs=10)
    assert 700 < np.percentile(image[:20], 99.5) < 2500  # the skull base


def test_tof_arteries_are_three_to_five_times_the_tissue():
    image, grid, person = scan("MRA")
    tissue = deep_white_matter(image, grid).mean()
    inner = person.vessels["left ICA"].points[(person.vessels["left ICA"].station_mm < 40)]
    assert 3 < np.percentile(values_at(image, grid, inner), 75) / tissue < 5
    assert 60 < tissue < 400 and image.min() >= 0 and np.median(image[:, :3]) < 30


def test_t2_shows_black_vessels_and_bright_fluid():
    image, grid, person = scan("MRI T2")
    tissue = deep_white_matter(image, grid).mean()
    fluid = values_at(image, grid, person.shape.from_standard(np.array([[0.0, 14, 8], [0, 12, 8], [0, 41, -17]])))
    basilar = values_at(image, grid, person.vessels["basilar"].points[8:-8])  # it runs along the thick slices' normal
    assert 2 < fluid.max() / tissue < 4
    assert np.median(basilar) < 0.4 * fluid.max()


def test_t1_with_contrast_shows_arteries_and_veins_bright():
    image, grid, person = scan("MRI T1post")
    tissue = deep_white_matter(image, grid).mean()
    assert np.median(values_at(image, grid, person.vessels["left ICA"].points[:40])) > 1.5 * tissue
    sinus = person.vessels["sagittal sinus"].points
    assert np.median(values_at(image, grid, sinus[sinus[:, 1] > 60])) > 1.5 * tissue


def test_a_sac_at_plus_x_lies_at_plus_x_in_the_image_and_measures_as_its_artery():
    person = draw_person(np.random.default_rng(11), [])
    centre = np.array([30.0, 5.0, 20.0])  # in the brain of the left side
    ball = Sac(LOCATIONS[4], centre, 10.0, 4.0, np.array([[*centre, *(centre + 0.1), 5.0, 5.0]]))
    grid = axial_grid(10, 30, spacing_mm=1.8, slice_mm=2.0, size=128)
    with_sac = dataclasses.replace(person, sacs=[ball])
    first, second = (render(p, grid, "CTA", np.random.default_rng(2)).image for p in (person, with_sac))
    changed = np.argwhere(second - first > 150)
    assert np.allclose(changed.mean(0), grid.to_index(centre), atol=1.0)
    assert changed[:, 2].min() > 64  # columns run to the left: beyond the middle of 128
    assert 250 < values_at(second, grid, centre[None])[0] < 450


def test_mask_numbers_stand_for_the_right_vessels_on_the_right_side():
    person = draw_person(np.random.default_rng(12), [])
    grid = axial_grid(-20, 16, spacing_mm=0.6, slice_mm=0.6, size=200)
    mask = render(person, grid, "CTA", np.random.default_rng(0), masks=True).vessel_mask
    assert mask.dtype == np.uint8 and mask.shape == grid.shape and mask.max() <= 13
    for number, location in VESSEL_MASK.items():
        voxels = grid.to_mm(np.argwhere(mask == number))
        if "Posterior Communicating" not in location:  # it may be missing
            assert len(voxels) > 5, location
        if len(voxels) and location.split()[0] in ("Left", "Right"):
            assert np.sign(np.median(voxels[:, 0])) == (1 if location.startswith("Left") else -1)
    ica = person.vessels["left ICA"]
    assert VESSEL_MASK[values_at(mask, grid, ica.at(5.0)[None])[0]] == LOCATIONS[2]
    assert VESSEL_MASK[values_at(mask, grid, ica.at(25.0)[None])[0]] == LOCATIONS[0]


def test_a_slice_is_the_same_in_any_orientation():
    """The same head on a sagittal stack shows the same tissue at the same place."""
    person = draw_person(np.random.default_rng(13), [])
    axial = axial_grid(-40, 40, spacing_mm=2.0, slice_mm=2.0, size=110)
    steps = np.array([2.0, 0, 0]), np.array([0, 0, -2.0]), np.array([0, 2.0, 0])
    sagittal = Grid(np.array([-60.0, -99, 38]), *steps, (60, 39, 110))
    first, second = (render(person, grid, "CTA", np.random.default_rng(3)).image for grid in (axial, sagittal))
    points = np.stack(np.meshgrid([-51, -31, 29, 49], [-39, 1, 41], [-10, 20], indexing="ij"), -1).reshape(-1, 3)
    points = sagittal.to_mm(np.round(sagittal.to_index(points.astype(float))))
    assert np.median(np.abs(values_at(first, axial, points) - values_at(second, sagittal, points))) < 40
