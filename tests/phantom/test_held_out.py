"""The held-out style: other vessels, sacs, tissue values and noise, and nothing but the sacs tells the labels."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom.acquisition import covered
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.contrast import draw_contrast
from aneurysm.phantom.dataset import make_dataset
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.held_out import HELD_OUT
from aneurysm.phantom.held_out_contrast import draw_held_out_contrast
from aneurysm.phantom.held_out_noise import HeldOutNoise
from aneurysm.phantom.held_out_sacs import build_cluster
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.render import render
from aneurysm.phantom.sacs import Sac, Site, draw_diameter
from aneurysm.phantom.styles import STYLES
from tests.phantom.test_anatomy import PARTS

SETTINGS = dict(n_series=2, seed=4, workers=1, size=64, clean=True, balanced=True)


@functools.cache
def person(seed: int, style: str = "held_out") -> Person:
    return draw_person(np.random.default_rng(seed), LOCATIONS, STYLES[style])


@functools.cache
def sacs() -> list[Sac]:
    """100 sacs on a vessel that runs along x, growing upwards."""
    made = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        site = Site(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0]), 1.2, 1.0)
        made.append(build_cluster(rng, LOCATIONS[0], site, draw_diameter(rng)))
    return made


def flat(made: Person) -> bytes:
    """All numbers of a person but for the sacs."""
    vessels = [(v.points, v.radius_mm, v.station_mm, v.mask) for v in made.vessels.values()]
    shape = [np.asarray(value) for value in vars(made.shape).values()]
    return b"".join(a.tobytes() for a in [*(a for v in vessels for a in v), made.cones, made.chalk, *shape])


def test_the_usual_style_is_the_default_and_draws_as_before():
    default = draw_person(np.random.default_rng(0), LOCATIONS)
    assert flat(default) == flat(person(0, "usual")) != flat(person(0))
    assert all(
        a.blobs.tobytes() == b.blobs.tobytes() for a, b in zip(default.sacs, person(0, "usual").sacs, strict=True)
    )
    assert PhantomConfig().style == "usual"


def test_everything_but_the_sacs_is_the_same_whatever_the_locations():
    bare = draw_person(np.random.default_rng(0), [], HELD_OUT)
    assert flat(bare) == flat(person(0)) and list(bare.vessels) == list(person(0).vessels)
    assert len(bare.sacs) == 0 and len(person(0).sacs) == 13


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_same_seed_gives_the_same_scan_which_differs_by_the_sac_alone(modality):
    steps = (np.array(v, float) for v in ((0, 0, 3), (0, 1.8, 0), (1.8, 0, 0)))
    grid = Grid(np.array([-115.0, -105, -12]), *steps, (9, 128, 128))
    images, sac = [], draw_person(np.random.default_rng(3), ["Basilar Tip"], HELD_OUT).sacs[0]
    for locations in (["Basilar Tip"], ["Basilar Tip"], []):
        made = draw_person(np.random.default_rng(3), locations, HELD_OUT)
        images.append(render(made, grid, modality, np.random.default_rng(1)).image)
    assert images[0].tobytes() == images[1].tobytes() and np.isfinite(images[0]).all()
    changed = grid.to_mm(np.argwhere(np.abs(images[0] - images[2]) > 1e-3))
    assert len(changed) and np.linalg.norm(changed - sac.centre, axis=1).max() < sac.diameter_mm + 15


@pytest.mark.parametrize("seed", range(4))
def test_sacs_lie_on_their_own_artery_and_side_in_the_region_that_acquisitions_cover(seed):
    made = person(seed)
    assert covered(np.array([sac.centre for sac in made.sacs]))
    for sac in made.sacs:
        word, part = sac.location.split(" ", 1)
        side = {"Left": 1, "Right": -1}.get(word, 0)
        part = part if side else sac.location
        names = [f"{s} {v}".strip() for v in PARTS[part] for s in ([word.lower()] if side else ["left", "right", ""])]
        points = np.vstack([made.vessels[name].points for name in names if name in made.vessels])
        assert side * sac.centre[0] >= 0
        # The neck's capsule, which is first, begins on the artery's centreline.
        assert np.linalg.norm(points - sac.blobs[0, :3], axis=1).min() < 0.5


def test_the_farthest_points_of_a_sac_lie_its_diameter_apart_and_its_centre_inside():
    ways = np.random.default_rng(0).standard_normal((400, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    for sac in sacs():
        balls = sac.blobs[1:]
        assert 4 <= len(balls) <= 9 and sac.blobs.shape[1] == 8 and 0 < sac.neck_mm <= sac.diameter_mm
        surface = balls[:, None, :3] + ways * balls[:, None, 6:7]  # (balls, 400, 3)
        widths = np.ptp(surface.reshape(-1, 3) @ ways.T, axis=0)
        assert 0.9 * sac.diameter_mm < widths.max() < 1.001 * sac.diameter_mm
        assert (np.linalg.norm(balls[:, :3] - sac.centre, axis=1) < balls[:, 6] + 1e-9).any()
        assert (balls[:, 2] > 3).all(), "no ball grows back through the vessel"


def test_sacs_are_less_round_than_the_usual_ones():
    """Volume by counting points of a cube, over that of a ball of the same diameter."""
    points, shares = np.random.default_rng(0).uniform(-1, 1, (3000, 3)), {}
    for name, style in STYLES.items():
        site, found = Site(np.zeros(3), np.array([0.0, 0.0, 1.0]), 1.0, 1.0), []
        for seed in range(40):
            blobs = style.sac(np.random.default_rng(seed), LOCATIONS[0], site, 6.0).blobs[1:]
            middle, centres = blobs[:, :3].mean(0), np.vstack([blobs[:, :3], blobs[:, 3:6]])
            apart = np.linalg.norm(middle + 6 * points[:, None] - centres, axis=-1)
            found.append(
                (apart < np.concatenate([blobs[:, 6], blobs[:, 7]])).any(1).mean() * 12**3 / (np.pi / 6 * 6**3)
            )
        shares[name] = np.median(found)
    assert 0.25 < shares["held_out"] < 0.8 * shares["usual"]


@pytest.mark.parametrize(("style", "within_mm"), [("held_out", 0.6), ("varied", 0.8)])
def test_branches_stay_on_their_parents_and_the_origin_between_the_carotids(style, within_mm):
    for seed in range(4):
        tree = person(seed, style).vessels
        ends = np.array([tree[f"{side} ICA"].points[0] for side in ("left", "right")])
        assert np.allclose(ends.mean(0), 0, atol=1e-4)
        for child, parent in (
            ("MCA", "ICA"),
            ("M2", "MCA"),
            ("PCom", "ICA"),
            ("ophthalmic", "ICA"),
            ("PCA", "basilar"),
        ):
            start, trunk = tree[f"left {child}"].points[0], tree.get(f"left {parent}", tree.get(parent)).points
            assert np.linalg.norm(trunk - start, axis=1).min() < within_mm, child


def test_calibres_lie_outside_the_usual_spread_in_most_people():
    mean = {
        style: [np.log(person(seed, style).vessels[f"{side} ICA"].radius_mm[:60].mean())
                for seed in range(6) for side in ("left", "right")]
        for style in STYLES
    }  # fmt: skip
    away = np.abs(np.array(mean["held_out"]) - np.mean(mean["usual"]))
    assert np.median(away) > 1.5 * np.std(mean["usual"]) and away.max() < np.log(1.8)


@pytest.mark.parametrize("modality", MODALITIES)
def test_tissue_values_come_from_other_ranges_than_the_usual_ones(modality):
    usual, held_out = (
        [draw(np.random.default_rng(seed), modality) for seed in range(300)]
        for draw in (draw_contrast, draw_held_out_contrast)
    )
    for name in ("artery", "vein", "white", "muscle", "bone", "fat", "fluid", "noise", "blur_mm"):

        def value(contrast, name=name):
            """Beside grey matter in MR, whose gain is arbitrary; veins beside arteries."""
            unit = 1 if modality == "CTA" or name == "blur_mm" else contrast.grey
            return getattr(contrast, name) / (contrast.artery if name == "vein" else unit)

        usual_values, found = (np.array([value(contrast) for contrast in drawn]) for drawn in (usual, held_out))
        low, high = np.quantile(usual_values, [0.05, 0.95])
        assert np.mean((found >= low) & (found <= high)) < 0.1, name


@pytest.mark.parametrize("modality", ["CTA", "MRI T2"])
def test_noise_of_a_part_is_that_of_the_whole_slice(modality):
    grid = Grid(np.zeros(3), np.array([0, 0, 1.0]), np.array([0, 0.8, 0]), np.array([0.8, 0, 0]), (4, 90, 100))
    noise, contrast = (
        HeldOutNoise(np.random.default_rng(0), modality, grid),
        draw_contrast(np.random.default_rng(0), modality),
    )
    image = np.random.default_rng(1).uniform(0, 100, (90, 100)).astype(np.float32)
    margin, (rows, cols) = noise.margin(contrast), (slice(40, 52), slice(45, 60))
    around = slice(rows.start - margin, rows.stop + margin), slice(cols.start - margin, cols.stop + margin)
    inside = slice(margin, margin + 12), slice(margin, margin + 15)
    part = noise.apply(image[around], 2, contrast, (rows, cols), inside)
    assert part == pytest.approx(noise.apply(image, 2, contrast)[rows, cols], abs=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("held_out")
    make_dataset(PhantomConfig(out=str(out), style="held_out", **SETTINGS))
    return out


def test_a_data_set_of_the_style_is_preprocessed_without_errors(data):
    table = pd.read_csv(data / "train.csv")
    assert len(table) == 2
    for uid in table.SeriesInstanceUID:
        outcome = preprocess_series(data, uid, CacheSettings(), slices=False)
        assert outcome.kind == "", outcome.message


def test_a_folder_never_mixes_the_styles(data):
    with pytest.raises(ValueError, match="holds phantoms of"):
        make_dataset(PhantomConfig(out=str(data), **SETTINGS))
