"""Windows of phantoms without files show what the cache shows of the same head, and know every pixel of it."""

from ast import literal_eval
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aneurysm.cache.cache import Cache
from aneurysm.cache.config import CacheSettings, InputConfig
from aneurysm.cache.preprocess import preprocess_series
from aneurysm.cache.vessel_masks import MASK_TO_LOCATION, in_blocks
from aneurysm.cache.windows import crop_box, neighbours, read_window
from aneurysm.folds.targets import RIM
from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom.config import LooksConfig, PhantomWindowsConfig
from aneurysm.phantom.plan import Case
from aneurysm.phantom.render import Scan
from aneurysm.phantom.series import draw_case_person, make_series, set_up
from aneurysm.phantom.shown import ShownScan
from aneurysm.phantom.windows import PhantomWindow, sac_target, scan_windows

SEED, PIXELS, UID = 7, 192, "1.2.3"
MCA = "Left Middle Cerebral Artery"
INPUT = InputConfig(image_size=288, crop=(0.26, 0.74, 0.2, 0.68), n_slices=5, neighbour_mm=1.5)
SMALL = PhantomWindowsConfig(sizes=(128,), sacs=2, slabs_per_sac=1, free_slabs=1, windows_per_slab=2, part=96)


class Both:
    """One head in the cache, by way of DICOM files, and as ShownScan has it."""

    def __init__(self, root, modality: str, plane: str):
        case = Case(0, UID, 0, modality, plane, (MCA,), 50, "Female", False, plane == "axial")
        folder = root / "series" / UID
        folder.mkdir(parents=True)
        mask = root / "segmentations" / f"{UID}_cowseg.nii"
        mask.parent.mkdir()
        (row,) = make_series(case, SEED, PIXELS, True, folder, mask)["localizers"]
        outcome = preprocess_series(root, UID, CacheSettings(), slices=False)
        assert not outcome.kind, outcome
        self.cache, person = Cache(root), draw_case_person(case, SEED)
        self.meta, self.position_mm = self.cache.meta(UID), self.cache.position_mm(UID)
        place = literal_eval(row[1])
        self.localizer = self.cache.mapping(UID).to_cache(place["x"], place["y"], row[0])
        _, acquisition, rng = set_up(case, SEED, PIXELS, True)
        self.shown = ShownScan(Scan(person, acquisition.person_grid, modality, rng), acquisition, CacheSettings())
        self.person, self.box = person, crop_box(INPUT, self.meta["plane"])
        self.middle = round(self.localizer[2])

    def by_cache(self, index: int) -> np.ndarray:
        return read_window(self.cache, UID, index, INPUT.neighbour_mm, self.box, INPUT.n_slices)

    def by_scan(self, index: int):
        """The same slice of the scan; its own first slice may be another one."""
        kept = self.shown.position_mm[self.shown.crop.first :][: self.shown.crop.count]
        own = index + self.meta["crop_first"] - self.shown.crop.first
        return self.shown.pieces(neighbours(kept, own, INPUT.neighbour_mm, INPUT.n_slices), self.box)

    @property
    def indices(self) -> list[int]:
        wanted = self.middle + np.array([-12, 0, 15])
        return sorted(set(np.clip(wanted, 0, len(self.position_mm) - 1).tolist()))


@pytest.fixture(scope="module", params=[(m, p) for m in MODALITIES for p in ("axial", "coronal", "sagittal")],
                ids=lambda param: " ".join(param))  # fmt: skip
def both(request, tmp_path_factory) -> Both:
    return Both(tmp_path_factory.mktemp("head"), *request.param)


def test_the_head_is_found_in_coarse_images_nearly_as_the_cache_finds_it(both):
    shown, meta = both.shown, both.meta
    assert shown.geometry.plane == meta["plane"] and shown.geometry.resliced == meta["resliced"]
    steps_mm = 2 * 2.0  # the head is looked for every 2 mm: one step at each of its ends
    _, row_mm, col_mm = shown.geometry.canonical_spacing
    for name, mm in (("top", row_mm), ("height", row_mm), ("left", col_mm), ("width", col_mm)):
        assert abs(getattr(shown.crop, name) - meta[f"crop_{name}"]) * mm <= steps_mm + mm, name
    assert shown.window.low == pytest.approx(meta["window_low"], abs=0.01 * meta["window_high"])
    assert shown.window.high == pytest.approx(meta["window_high"], rel=0.12)


def test_with_the_same_crop_and_percentiles_the_pixels_are_those_of_the_cache(both):
    """What is left are whole numbers in the files and coarse echoes of motion."""
    shown, meta = both.shown, both.meta
    shown.set_crop(replace(shown.crop, **{n: meta[f"crop_{n}"] for n in ("top", "height", "left", "width")}))
    shown.window = replace(shown.window, low=meta["window_low"], high=meta["window_high"])
    for index in both.indices:
        seen, expected = both.by_scan(index).image.transpose(1, 2, 0), both.by_cache(index)
        assert seen.shape == expected.shape == (288, 288, 5)
        assert np.abs(seen - expected).mean() <= 0.02
        sharp = [cv2.Laplacian(image[..., 2], cv2.CV_32F).std() for image in (seen, expected)]
        assert sharp[0] == pytest.approx(sharp[1], rel=0.1)
        flipped = [np.abs(seen[::-1] - expected).mean(), np.abs(seen[:, ::-1] - expected).mean()]
        assert np.abs(seen - expected).mean() < 0.5 * min(flipped)


def test_the_sac_lies_where_its_localizer_is(both):
    (place,) = both.shown.to_cache(both.person.sacs[0].centre[None])
    x, y, k = both.localizer
    apart = (place - (k - both.shown.crop.first + both.meta["crop_first"], y, x)) * (
        both.shown.geometry.canonical_spacing[0], both.meta["cached_row_mm"], both.meta["cached_col_mm"],
    )  # fmt: skip
    # A localizer lies in a source image, whose middle may be half a slice away.
    assert np.abs(apart).max() <= 0.5 * max(both.shown.geometry.spacing) + 1.0
    np.testing.assert_allclose(both.shown.to_cache(both.shown.to_person(place[None]))[0], place, atol=1e-6)


def test_vessels_are_those_of_the_mask_file(both):
    expected = both.cache.vessels(UID, both.middle)
    if expected is None:
        pytest.skip("masks are made of axial series")
    expected = both.box.resized(expected[both.box.part], nearest=True)
    seen = MASK_TO_LOCATION[both.by_scan(both.middle).vessels]
    blocks = in_blocks(seen, 4), in_blocks(expected, 4)
    assert (blocks[1] > 0).any() and (blocks[0] != blocks[1]).mean() < 0.02
    counts = np.bincount(blocks[1].ravel(), minlength=14)
    assert set(np.flatnonzero(counts >= 5)) <= set(np.unique(blocks[0]))


def test_the_target_is_the_cut_through_the_sac():
    """Against a count of points: the sac's share of each pixel, over its slice's thickness, by brute force."""
    case = Case(0, UID, 3, "CTA", "axial", (MCA,), 50, "Female", False, False)
    person = draw_case_person(case, SEED)
    _, acquisition, rng = set_up(case, SEED, 256, True)
    shown = ShownScan(Scan(person, acquisition.person_grid, "CTA", rng), acquisition, CacheSettings())
    (sac,), box = person.sacs, crop_box(INPUT, "axial")
    k, row, col = shown.to_cache(sac.centre[None])[0]
    x, y = box.to_input(np.array([[col, row]]))[0]
    index, corner = round(k), (int(y) - 64, int(x) - 64)
    target = sac_target(shown, index, box, corner, 128, 4)
    draw = np.random.default_rng(0)
    share = np.zeros((32, 32))
    for i, j in np.argwhere(target > 0):
        inside = draw.uniform(-0.5, 3.5, (400, 2)) + (corner[0] + 4 * i, corner[1] + 4 * j)
        cache_xy = box.to_cache(inside[:, ::-1])
        points = shown.to_person(np.column_stack([index + draw.uniform(-0.5, 0.5, 400), cache_xy[:, ::-1]]))
        share[i, j] = in_capsules(points, sac.blobs[1:]).mean()
    own = 1 + LOCATIONS.index(MCA)
    assert set(np.unique(target)) == {0, RIM, own}
    assert share[target == own].min() > 0.35 * share.max() and share[target == RIM].max() < 0.65 * share.max()
    rows, cols = np.nonzero(target == own)
    assert np.abs([rows.mean() - 16, cols.mean() - 16]).max() < 1.5  # the window was laid around the sac


def in_capsules(points: np.ndarray, capsules: np.ndarray) -> np.ndarray:
    """(n,) bool"""
    inside = np.zeros(len(points), bool)
    for first, last, (r0, r1) in zip(capsules[:, :3], capsules[:, 3:6], capsules[:, 6:], strict=True):
        along = last - first
        share = np.clip((points - first) @ along / max(along @ along, 1e-9), 0, 1)[:, None]
        inside |= np.linalg.norm(points - first - share * along, axis=1) <= r0 + share[:, 0] * (r1 - r0)
    return inside


def test_a_scan_is_decided_by_seed_and_number_alone():
    first, again = (scan_windows(1_000_000, 3, SMALL, INPUT, 4) for _ in range(2))
    other = scan_windows(1_000_000, 4, SMALL, INPUT, 4)
    assert len(first) == SMALL.windows_per_scan == 6
    for one, two in zip(first, again, strict=True):
        for name in ("image", "sac", "vessels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert (one.plane, one.modality) == (two.plane, two.modality)
    assert not np.array_equal(first[0].image, other[0].image)


def test_windows_have_their_shapes_and_values_and_some_show_sacs_and_vessels():
    windows = [window for number in range(6) for window in scan_windows(1_000_001, number, SMALL, INPUT, 4)]
    for window in windows:
        assert window.image.shape == (96, 96, 5) and window.image.dtype == np.float32
        assert window.image.min() >= 0 and window.image.max() <= 1
        assert window.sac.shape == window.vessels.shape == (24, 24) and window.vessels.max() <= 13
    with_sac = [((w.sac > 0) & (w.sac != RIM)).any() for w in windows]
    assert 0.1 < np.mean(with_sac) < 0.8 and np.mean([w.vessels.any() for w in windows]) > 0.3


def test_a_sac_that_is_taken_away_leaves_no_mark():
    ghosts = replace(SMALL, ghost_share=1.0)
    windows = [window for number in range(3) for window in scan_windows(1_000_002, number, ghosts, INPUT, 4)]
    assert not any(window.sac.any() for window in windows)


def test_a_second_use_is_mirrored_and_its_intensities_are_changed_anew():
    still = replace(SMALL, uses=3, looks=LooksConfig(share=0.0))
    made = scan_windows(1_000_000, 3, still, INPUT, 4)
    first, second, third = made[:6], made[6:12], made[12:]
    assert len(third) == 6 and still.windows_per_scan == 18
    for one, two, three in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(one.image, three.image)
        in_columns = one.plane != "sagittal"
        np.testing.assert_array_equal(one.image, two.image[:, ::-1] if in_columns else two.image[..., ::-1])
        assert two.corner == ((288 - 96 - one.corner[0], one.corner[1]) if in_columns else one.corner)
    changed = scan_windows(1_000_000, 3, replace(still, looks=LooksConfig(share=1.0, each=0.5)), INPUT, 4)
    assert not any(np.array_equal(one.image, three.image) for one, three in zip(changed[:6], changed[12:], strict=True))


@pytest.mark.parametrize(("plane", "column"), [("axial", 14), ("coronal", 14), ("sagittal", 1)])
def test_mirrored_targets_are_those_of_the_other_side(plane, column):
    left, right = (1 + LOCATIONS.index(f"{side} Middle Cerebral Artery") for side in ("Left", "Right"))
    sac, vessels = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    sac[3, 1], sac[4, 1], vessels[3, 1], vessels[5, 1] = left, RIM, left, 1 + LOCATIONS.index("Basilar Tip")
    window = PhantomWindow(np.zeros((64, 64, 5), np.float32), sac, vessels, (10, 20), plane, "CTA")
    mirrored = window.mirrored(image_size=100)
    assert np.argwhere(mirrored.sac).tolist() == np.argwhere(mirrored.vessels == right).tolist() + [[4, column]]
    assert [mirrored.sac[3, column], mirrored.sac[4, column], mirrored.vessels[5, column]] == [
        right,
        RIM,
        vessels[5, 1],
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"part": 0}, r"phantoms.part: expected a whole input \(0\) once a slab, or windows of it, found 2 of 0"),
        ({"sacs": 14}, "phantoms.sacs: expected 0 to 13"),
        ({"sacs": 0, "free_slabs": 0}, "phantoms: expected slabs"),
        ({"ghost_share": 1.5}, "phantoms.ghost_share: expected 0 to 1"),
        ({"uses": 0}, "phantoms.uses: expected at least 1, found 0"),
        ({"sizes": ()}, "phantoms.sizes: expected sizes from 32 on"),
    ],
)
def test_settings_that_make_no_windows_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **setting)


def test_seeds_of_evaluation_are_refused():
    with pytest.raises(ValueError, match="seed 99999: expected at least 1000000, those below are for evaluation"):
        scan_windows(99_999, 0, SMALL, INPUT, 4)


def test_of_several_free_slabs_the_hardest_are_kept():
    plain = PhantomWindowsConfig(sizes=(128,), sacs=1, free_slabs=4)
    mined = replace(plain, free_slabs=2, mined_of=2)
    own, *free = scan_windows(1_000_001, 3, plain, INPUT, 4)
    kept = scan_windows(1_000_001, 3, mined, INPUT, 4, hardness=lambda window: window.image.mean())
    brightness = [window.image.mean() for window in free]
    assert np.array_equal(kept[0].image, own.image) and len(kept) == 3
    for k in range(2):  # each is the brighter one of two, and these are the windows that come without mining
        assert kept[1 + k].image.mean() == max(brightness[k::2]) > min(brightness[k::2])


def test_mining_without_a_network_is_refused():
    with pytest.raises(ValueError, match="mined_of 2: expected a network to choose"):
        scan_windows(1_000_001, 0, PhantomWindowsConfig(sizes=(128,), mined_of=2), INPUT, 4)
