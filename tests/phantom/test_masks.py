"""Vessel masks of phantoms in the cache: on the bright vessels, and beside the aneurysms of their own location."""

from __future__ import annotations

import ast
import json

import cv2
import numpy as np
import pytest

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.labels import LOCATIONS
from aneurysm.phantom import series
from aneurysm.phantom.plan import Case
from aneurysm.phantom.quirks import Quirks

SACS = ("Left Middle Cerebral Artery", "Right Infraclinoid Internal Carotid Artery")
KINDS = {  # modality, plane, quirks, what is said of the mask
    "CTA, a slice missing": ("CTA", "axial", Quirks(syntax="rle", storage="header lies", gap=True), ""),
    "CTA, sagittal": ("CTA", "sagittal", Quirks(order="descending", scout=True), ""),
    "MRA, coronal": ("MRA", "coronal", Quirks(storage="raw", two_times=True, wrong_spacing=True), ""),
    "MRA, positions rewritten": ("MRA", "axial", Quirks(storage="raw", enhanced="rewritten"), "matched one to one"),
}


@pytest.fixture(scope="module", params=KINDS)
def phantom(request, tmp_path_factory) -> tuple[Cache, dict, str]:
    """The cache of one phantom with a mask, what its tables say, and what should be said of its mask."""
    modality, plane, quirks, output = KINDS[request.param]
    root = tmp_path_factory.mktemp("phantom")
    for folder in (root / "series" / "1.2.3", root / "segmentations"):
        folder.mkdir(parents=True)
    case = Case(3, "1.2.3", 3, modality, plane, SACS, 58, "Male", bool(quirks.enhanced), masked=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "draw_quirks", lambda *_: quirks)
        mask = root / "segmentations" / "1.2.3_cowseg.nii"
        made = series.make_series(case, 0, 144, False, root / "series" / "1.2.3", mask)
    outcome = preprocess_series(root, "1.2.3", CacheSettings(), slices=False)
    assert outcome.kind == "", outcome.message
    return open_cache(root), made, output


def test_a_phantoms_mask_lies_on_its_bright_vessels(phantom):
    cache, _, output = phantom
    meta = cache.meta("1.2.3")
    assert meta["vessels"] and output in meta["warnings"] and (output or "cowseg" not in meta["warnings"])
    images = cache.window("1.2.3", range(meta["n_slices"])).astype(np.float32)
    vessels = np.stack([cache.vessels("1.2.3", i) for i in range(meta["n_slices"])]) > 0
    reach = [np.stack([cv2.dilate(one.astype(np.uint8), np.ones((n, n))) for one in vessels]) > 0 for n in (9, 33)]
    inside, around = np.median(images[vessels]), np.median(images[reach[1] & ~reach[0]])
    assert vessels.sum() > 1000 and inside > 1.8 * around and inside > around + 0.2


def test_a_phantoms_localizers_lie_beside_vessels_of_their_location(phantom):
    cache, made, _ = phantom
    meta, mapping = cache.meta("1.2.3"), cache.mapping("1.2.3")
    diameter_mm = {sac["location"]: sac["diameter_mm"] for sac in json.loads(made["truth"]["sacs"])}
    vessels = np.stack([cache.vessels("1.2.3", i) for i in range(meta["n_slices"])])
    placed = []
    for sop_uid, coordinates, location in made["localizers"]:
        spot = ast.literal_eval(coordinates)
        try:
            x, y, k = mapping.to_cache(spot["x"], spot["y"], sop_uid, spot.get("f"))
        except ValueError:  # on the slice that is missing
            continue
        of_location = np.argwhere(vessels == 1 + LOCATIONS.index(location))
        steps_mm = np.array([meta["slice_mm"], meta["cached_row_mm"], meta["cached_col_mm"]])
        away_mm = np.linalg.norm((of_location - (k, y, x)) * steps_mm, axis=1).min()
        assert away_mm < diameter_mm[location] / 2 + 3, location
        placed.append(location)
    assert len(placed) == len(SACS) - made["truth"]["quirks"].count("gap")
