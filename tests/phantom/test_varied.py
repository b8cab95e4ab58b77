"""The varied style: persons from a seed alone, distractors clear of labelled arteries, values that scanners give."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from aneurysm.cache.config import InputConfig
from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom import training_scans as drawing
from aneurysm.phantom.config import FIRST_SEED, PhantomWindowsConfig
from aneurysm.phantom.fields import may_hold_head
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.render import Scan
from aneurysm.phantom.sacs import Sac, Site
from aneurysm.phantom.style import USUAL
from aneurysm.phantom.varied import COVER_MM, FENESTRATED, VARIED, draw_varied_shape, fenestrate, kink
from aneurysm.phantom.varied_contrast import draw_varied_contrast
from aneurysm.phantom.varied_distractors import draw_distractors
from aneurysm.phantom.varied_noise import VariedNoise
from aneurysm.phantom.varied_sacs import build_fusiform, build_lumpy, build_varied_sac
from aneurysm.phantom.windows import scan_windows

INPUT = InputConfig(image_size=288, crop=(0.26, 0.74, 0.2, 0.68), n_slices=5, neighbour_mm=1.5)
SMALL = PhantomWindowsConfig(
    sizes=(128,), sacs=2, slabs_per_sac=1, free_slabs=1, windows_per_slab=2, part=96, scans_per_person=1, varied_share=1
)

SITE = Site(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0]), 1.2, 1.0)
ON_ARTERY = replace(SITE, along=np.array([1.0, 0.0, 0.0]))


@functools.cache
def person(seed: int) -> Person:
    return draw_person(np.random.default_rng(seed), LOCATIONS, VARIED)


def test_a_seed_decides_a_person_and_the_sacs_change_nothing_else():
    again, bare = (draw_person(np.random.default_rng(0), locations, VARIED) for locations in (LOCATIONS, ()))
    for other in (again, bare):
        assert list(other.vessels) == list(person(0).vessels)
        for name, vessel in other.vessels.items():
            np.testing.assert_array_equal(vessel.points, person(0).vessels[name].points)
            np.testing.assert_array_equal(vessel.radius_mm, person(0).vessels[name].radius_mm)
        np.testing.assert_array_equal(other.chalk, person(0).chalk)
    np.testing.assert_array_equal(again.sacs[0].blobs, person(0).sacs[0].blobs)
    assert len(bare.sacs) == 0


def test_distractors_are_clear_of_labelled_arteries_and_inside_the_skin():
    tree, shape = person(0).vessels, person(0).shape
    arteries = np.vstack([vessel.points[vessel.mask > 0] for vessel in tree.values()])
    walls = np.concatenate([vessel.radius_mm[vessel.mask > 0] for vessel in tree.values()])[:, None]
    found = []
    for seed in range(40):
        veins, chalk = draw_distractors(np.random.default_rng(seed), tree, shape)
        found += [[*vein.points[0], *vein.points[1], *vein.radius_mm] for vein in veins] + chalk.tolist()
    assert len(found) > 60
    for rod in np.array(found):
        points = np.linspace(rod[:3], rod[3:6], 20)
        assert (np.linalg.norm(arteries[:, None] - points, axis=-1) - walls).min() - rod[6] > 2.3  # 2.5 at the ends
        assert 0.8 <= rod[6] <= 5


def test_an_artery_that_lacks_its_first_part_is_not_kinked_there():
    tree = {name: vessel for name, vessel in person(0).vessels.items() if not vessel.vein}
    aca = replace(tree["left ACA"], station_mm=tree["left ACA"].station_mm + 14)
    for seed in range(20):
        kink(np.random.default_rng(seed), {**{name: replace(vessel) for name, vessel in tree.items()}, aca.name: aca})
    np.testing.assert_allclose(aca.points, tree["left ACA"].points, atol=3)


def test_heads_stay_where_the_fields_look_for_them():
    """The skin of the thickest cover, at points just outside of the oval."""
    shapes = [draw_varied_shape(np.random.default_rng(seed)) for seed in range(100)]
    assert max(shape.bone_mm + shape.scalp_mm for shape in shapes) <= COVER_MM
    thick = replace(shapes[0], bone_mm=COVER_MM - 6, scalp_mm=6.0, swing=0 * shapes[0].swing, scale=np.ones(3))
    rng = np.random.default_rng(0)
    ways = rng.standard_normal((20000, 3))
    points = np.array([0, 4, 10]) + ways / np.linalg.norm(ways, axis=1)[:, None] * rng.uniform(60, 130, (20000, 1))
    outside = ~may_hold_head(thick.to_standard(points.astype(np.float32))) & (points[:, 2] > -40)
    fields = VARIED.fields(thick)
    reach = fields.skin(points[outside].astype(np.float32))
    assert outside.sum() > 1000 and reach.max() < 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_tissue_values_stay_in_the_range_of_the_modality(modality):
    drawn = [draw_varied_contrast(np.random.default_rng(seed), modality) for seed in range(200)]
    values = {name: np.array([getattr(contrast, name) for contrast in drawn]) for name in vars(drawn[0])}
    assert all(np.isfinite(found).all() for found in values.values())
    assert values["noise"].min() > 0 and values["blur_mm"].min() >= 0.2 and values["blur_mm"].max() <= 0.75
    assert values["bias"].min() >= 0 and values["bias"].max() <= 0.4 and set(values["slabs"]) <= set(range(1, 8))
    brain = np.maximum(values["grey"], values["white"])
    if modality == "CTA":
        assert values["artery"].min() >= 180 and values["artery"].max() <= 600 and (values["white"] < brain).all()
    else:
        assert all((values[name] >= 0).all() for name in values if name != "sac_mixing")
    brighter = np.mean(values["artery"] > brain)
    assert brighter < 0.2 if modality == "MRI T2" else brighter == 1


def reach_mm(sac: Sac) -> float:
    """The farthest that a sac without its neck reaches from its centre."""
    ends = np.vstack([sac.blobs[1:, :3], sac.blobs[1:, 3:6]])
    return (np.linalg.norm(ends - sac.centre, axis=1) + np.concatenate([sac.blobs[1:, 6], sac.blobs[1:, 7]])).max()


def test_lumpy_sacs_lie_within_their_diameter_which_the_dome_reaches():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sac = build_lumpy(rng, USUAL.sac(rng, LOCATIONS[0], SITE, 6.0), SITE)
        dome = sac.blobs[1]
        assert np.linalg.norm(dome[3:6] - dome[:3]) + 2 * dome[6] == pytest.approx(6.0)
        assert sac.diameter_mm == 6.0 and 0 < sac.neck_mm <= 2 * dome[6] + 1e-9
        assert len(sac.blobs) >= 3 and reach_mm(sac) == pytest.approx(3.0)


def test_fusiform_dilatations_lie_along_their_artery_and_are_wider_than_it():
    for seed in range(60):
        sac = build_fusiform(np.random.default_rng(seed), LOCATIONS[0], ON_ARTERY, 6.0)
        assert 1.7 * 1.2 <= sac.blobs[1, 6] <= 2.6 * 1.2
        assert reach_mm(sac) == pytest.approx(sac.diameter_mm / 2) and sac.diameter_mm >= 6.0
        assert np.abs(sac.centre - ON_ARTERY.point) @ [1, 1, 0] == 0  # beside it along the way out alone
        assert np.linalg.norm(sac.centre - ON_ARTERY.point) <= 0.6
        assert np.ptp(sac.blobs[1:, [1, 4]]) == 0 and np.ptp(sac.blobs[1:, [2, 5]]) == 0  # ends differ along it alone


def test_kinds_of_sacs_come_in_their_shares_and_forks_have_no_fusiform_ones():
    def drawn(site: Site) -> list[Sac]:
        return [build_varied_sac(np.random.default_rng(seed), LOCATIONS[0], site, 4.0) for seed in range(1000)]

    at_artery, at_fork = drawn(ON_ARTERY), drawn(SITE)
    fusiform = [sac for sac in at_artery if sac.neck_mm == 2 * ON_ARTERY.radius_mm and len(sac.blobs) == 4]
    assert 40 <= len(fusiform) <= 85
    for sacs in (at_artery, at_fork):
        assert 15 <= sum(12 <= sac.diameter_mm <= 27 for sac in sacs) <= 50
    assert {sac.diameter_mm for sac in at_fork if sac.diameter_mm < 12} == {4.0}


def test_a_fenestrated_artery_has_two_channels_with_the_same_ends_and_label():
    vessels = person(0).vessels
    tree = {name: replace(vessels[name]) for name in {one[0] for one in FENESTRATED} if name in vessels}
    before = {name: vessel.points.copy() for name, vessel in tree.items()}
    for seed in range(60):
        other = {name: replace(vessel) for name, vessel in tree.items()}
        fenestrate(np.random.default_rng(seed), other)
        for name in [name for name in other if name.endswith(" fenestration")]:
            artery, second = other[name.removesuffix(" fenestration")], other[name]
            near = np.isin(artery.station_mm, second.station_mm)
            apart = np.linalg.norm(artery.points[near] - second.points, axis=1)
            assert apart.max() > 1.2 * artery.radius_mm[near].max() and apart[[0, -1]] == pytest.approx(0)
            np.testing.assert_array_equal(artery.mask[near], second.mask)
            np.testing.assert_array_equal(artery.points[~near], before[artery.name][~near])
            return
    pytest.fail("no artery of 60 people is fenestrated")


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_part_of_a_scan_shows_what_the_whole_shows_there(modality):
    steps = (np.array(v, float) for v in ((0, 0, 2.5), (0, 1.1, 0), (1.1, 0, 0)))
    grid = Grid(np.array([-70.0, -60, -6]), *steps, (3, 110, 120))
    for seed in range(3):
        scan = Scan(person(0), grid, modality, np.random.default_rng(seed))
        scan.noise.ghost = 0.0  # windows take echoes from coarse images, see ShownScan.echo
        whole = scan.part((slice(0, 3), slice(0, 110), slice(0, 120)), True)
        place = (slice(1, 3), slice(31, 77), slice(40, 99))
        part = scan.part(place, True)
        apart = np.abs(part.image - whole.image[place]) / np.ptp(whole.image)
        assert apart.max() < 2e-3 and np.median(apart) < 1e-4
        np.testing.assert_array_equal(part.vessel_mask, whole.vessel_mask[place])
    assert isinstance(scan.noise, VariedNoise)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_windows_of_every_modality_and_plane_are_drawn(modality, plane, monkeypatch):
    monkeypatch.setattr(drawing, "MODALITY_SHARES", {modality: 1})
    monkeypatch.setattr(drawing, "PLANE_SHARES", {plane: 1})
    for number in range(2):
        for window in scan_windows(FIRST_SEED + 5, number, SMALL, INPUT, 4):
            assert window.modality == modality and window.plane in (plane, "axial")  # thin slices are re-sliced
            assert window.image.min() >= 0 and window.image.max() <= 1 and window.image.std() > 0.01


def test_the_share_of_varied_people_is_that_of_the_settings():
    styles = [drawing._person(FIRST_SEED, number, 0.5).style for number in range(24)]
    assert 6 <= sum(style is VARIED for style in styles) <= 18
    assert drawing._person(FIRST_SEED, 0, 0).style is USUAL and drawing._person(FIRST_SEED, 0, 1).style is VARIED
    with pytest.raises(ValueError, match="phantoms.varied_share: expected 0 to 1, found 1.5"):
        replace(SMALL, varied_share=1.5)
