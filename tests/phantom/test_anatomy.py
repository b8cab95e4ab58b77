"""Synthetic heads before any scan: figures of the anatomy, sides, and a label that follows from the sac alone."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from aneurysm.labels import LOCATIONS
from aneurysm.phantom.carotid import draw_carotids
from aneurysm.phantom.mimics import draw_loops
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.posterior import draw_posterior
from aneurysm.phantom.sacs import draw_diameter, draw_sacs
from aneurysm.phantom.vessels import Vessel

PARTS = {  # which vessels a sac of a label may sit on, without their side
    "Infraclinoid Internal Carotid Artery": ("ICA",),
    "Supraclinoid Internal Carotid Artery": ("ICA",),
    "Middle Cerebral Artery": ("MCA", "M2"),
    "Anterior Communicating Artery": ("ACom",),
    "Anterior Cerebral Artery": ("ACA",),
    "Posterior Communicating Artery": ("PCom", "ICA"),
    "Basilar Tip": ("basilar",),
    "Other Posterior Circulation": ("basilar", "vertebral", "PCA", "SCA", "AICA", "PICA"),
}


@functools.cache
def people() -> list[Person]:
    return [draw_person(np.random.default_rng(seed), [LOCATIONS[seed % 13]]) for seed in range(4)]


@functools.cache
def trees() -> list[dict[str, Vessel]]:
    """The named arteries of 60 people, without the branches that take long to draw."""
    made = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made.append(draw_carotids(rng))
        draw_loops(rng, made[-1])
        draw_posterior(rng, made[-1])
    return made


def test_the_carotids_end_where_the_anatomy_table_says():
    ends = np.array([[tree[f"{side} ICA"].points[0] for side in ("left", "right")] for tree in trees()])
    assert np.allclose(ends.mean(1), 0, atol=1e-9)  # the origin lies midway between them
    assert abs(ends[:, 0, 0].mean() - 12.4) < 1.0  # 2.2 / sqrt(60) = 0.3
    assert 1.4 < ends[:, 0, 0].std() < 3.0
    assert abs(ends[:, :, 1:]).max() < 4


@pytest.mark.parametrize(
    ("name", "station", "median", "deviation"),
    [
        ("ICA", 20, (10.8, -5.9, -9.3), (3.5, 4.4, 3.1)),
        ("ICA", 40, (11.6, 5.3, -14.8), (3.9, 4.1, 5.4)),
        ("MCA", 15, (24.5, -4.7, 1.6), (4.5, 3.3, 3.5)),
        ("ACA", 30, (0.8, -14.9, 12.5), (1.0, 2.9, 4.8)),
    ],
)
def test_vessels_pass_the_points_of_the_anatomy_table(name, station, median, deviation):
    sides = {"left": 1, "right": -1}
    found = [t[f"{s} {name}"].at(station) * [m, 1, 1] for t in trees() for s, m in sides.items()]
    assert np.all(np.abs(np.mean(found, axis=0) - median) < 0.35 * np.array(deviation) + 0.4)
    assert np.all(np.std(found, axis=0) < 1.5 * np.array(deviation) + 0.3)


def test_the_basilar_tip_lies_where_the_anatomy_table_says():
    tips = np.array([tree["basilar"].points[0] for tree in trees()])
    assert np.all(np.abs(tips.mean(0) - [0.3, 10.6, 0.9]) < [0.5, 0.9, 1.6])


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_sac_touches_its_own_artery_on_its_own_side(location):
    side, part = location.split(" ", 1) if location.split()[0] in ("Left", "Right") else ("", location)
    names = [f"{s} {v}".strip() for v in PARTS[part] for s in ([side.lower()] if side else ["left", "right", ""])]
    for person, seed in itertools.product(people(), range(4)):
        points = np.vstack([person.vessels[name].points for name in names if name in person.vessels])
        sac = draw_sacs(np.random.default_rng(seed), person.vessels, [location])[0]
        assert np.linalg.norm(points - sac.centre, axis=1).min() < 1.1 * sac.diameter_mm / 2 + 3
        assert {"Left": 1, "Right": -1}.get(side, 0) * sac.centre[0] >= 0
        assert 1.8 <= sac.diameter_mm <= 25 and sac.neck_mm <= sac.diameter_mm


def test_clinoid_labels_follow_the_course_of_the_carotid():
    for person, location, seed in itertools.product(people(), LOCATIONS[:4], range(4)):
        sac = draw_sacs(np.random.default_rng(seed), person.vessels, [location])[0]
        ica = person.vessels[f"{sac.location.split()[0].lower()} ICA"]
        starts = sac.blobs[0, :3]  # the neck begins on the centreline
        station = ica.station_mm[np.argmin(np.linalg.norm(ica.points - starts, axis=1))]
        assert (13 < station < 41) if "Infra" in sac.location else (station < 12.1)


def test_sac_diameters_have_the_median_and_spread_of_the_anatomy_figures():
    rng = np.random.default_rng(0)
    low, median, high = np.quantile([draw_diameter(rng) for _ in range(4000)], [0.05, 0.5, 0.95])
    assert abs(low - 2.5) < 0.25 and abs(median - 5) < 0.25 and abs(high - 12) < 0.9


def test_everything_but_the_sacs_is_the_same_whatever_the_locations():
    bare, full = (draw_person(np.random.default_rng(5), labels) for labels in ([], LOCATIONS[:3]))
    assert len(bare.sacs) == 0 and len(full.sacs) == 3
    assert list(bare.vessels) == list(full.vessels)
    for name, vessel in bare.vessels.items():
        assert vessel.points.tobytes() == full.vessels[name].points.tobytes()
        assert vessel.radius_mm.tobytes() == full.vessels[name].radius_mm.tobytes()
    assert bare.cones.tobytes() == full.cones.tobytes() and bare.chalk.tobytes() == full.chalk.tobytes()
    assert bare.shape.seed == full.shape.seed


def test_the_standard_head_and_a_head_map_onto_each_other():
    points = np.random.default_rng(0).uniform(-90, 90, (200, 3))
    for person in people():
        assert np.abs(person.shape.to_standard(person.shape.from_standard(points)) - points).max() < 0.1


def test_an_unknown_location_is_an_error():
    with pytest.raises(ValueError, match="expected one of"):
        draw_person(np.random.default_rng(0), ["Left Something"])
