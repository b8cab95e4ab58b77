"""The whole generator, anatomy and all: the same bytes with any number of workers, sacs where the localizers say."""

from pathlib import Path

import numpy as np
import pytest

from aneurysm.labels import LOCATIONS
from aneurysm.phantom.acquisition import covered, draw_acquisition
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from aneurysm.phantom.person import draw_person
from aneurysm.phantom.render import render

SETTINGS = dict(n_series=2, seed=1, size=64, clean=True, balanced=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pictures")
    make_dataset(PhantomConfig(out=str(out), workers=2, **SETTINGS))
    return out


def test_one_worker_makes_the_same_bytes_as_two(data, tmp_path):
    make_dataset(PhantomConfig(out=str(tmp_path), workers=1, **SETTINGS))
    made, expected = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in (tmp_path, data)
    )
    assert made == expected


@pytest.mark.parametrize("seed", range(3))
def test_sacs_of_every_location_lie_in_the_region_that_acquisitions_cover(seed):
    person = draw_person(np.random.default_rng(seed), LOCATIONS)
    inside = [covered(sac.centre) for sac in person.sacs]
    assert [sac.location for sac in person.sacs] == list(LOCATIONS)
    assert sum(inside) >= 12, "the rare one outside makes the data set draw the person again"


@pytest.mark.parametrize(("modality", "seed"), [("CTA", 4), ("MRI T2", 5)])
def test_a_picture_with_an_aneurysm_differs_from_the_one_without_near_the_aneurysm_only(modality, seed):
    acquisition = draw_acquisition(np.random.default_rng(seed), modality, "axial", 64)
    grid, pictures = acquisition.person_grid, []
    for locations in ([], ["Basilar Tip"]):
        person = draw_person(np.random.default_rng(seed), locations)
        pictures.append(render(person, grid, modality, np.random.default_rng(seed)).image)
    without, with_one = pictures
    sac = person.sacs[0]
    away_mm = np.linalg.norm(grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) - sac.centre, axis=-1)
    reach_mm = 1.5 * sac.diameter_mm + 3 * np.linalg.norm(grid.matrix, axis=1).max()
    assert np.array_equal(without[away_mm > reach_mm], with_one[away_mm > reach_mm])
    assert not np.array_equal(without, with_one)
