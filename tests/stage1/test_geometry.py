"""Shift, scale, rotation and distortion of training samples, measured on pictures of dots."""

from dataclasses import replace

import cv2
import numpy as np

from aneurysm.stage1.sample import Sample
from aneurysm.stage1.transforms import augment, make_pipeline
from tests.stage1_samples import (
    EVERYTHING,
    NOTHING,
    SIZE,
    centroids,
    changed_image,
    dots,
    only,
    sample_of,
    textured,
)  # fmt: skip

cv2.setNumThreads(1)


def test_shift_scale_and_rotation_stay_within_their_settings_and_reach_them():
    config = only("affine_p", shift=0.06, scale_low=0.85, scale_high=1.2, rotate_degrees=15)
    middle = (SIZE - 1) / 2
    picture = dots(np.array([[middle, middle], [middle + 30, middle], [middle, middle + 30]]))
    shifts, scales, degrees = [], [], []
    for seed in range(150):
        centre, right, below = centroids(changed_image(picture, config, seed))
        shifts.append((centre - middle) / SIZE)
        scales.append([np.linalg.norm(right - centre) / 30, np.linalg.norm(below - centre) / 30])
        degrees.append(np.degrees(np.arctan2(*(right - centre)[::-1])))
    shifts, scales, degrees = np.array(shifts), np.array(scales), np.array(degrees)
    assert (np.abs(shifts).max(axis=0) < 0.061).all() and (shifts.min(axis=0) < -0.05).all()
    assert (shifts.max(axis=0) > 0.05).all()
    assert 0.845 < scales.min() < 0.88 and 1.16 < scales.max() < 1.205
    assert np.abs(scales[:, 0] - scales[:, 1]).max() < 0.01  # circles stay circles
    assert -15.2 < degrees.min() < -13.5 and 13.5 < degrees.max() < 15.2


def test_the_grid_distortion_is_mild_and_reaches_a_good_part_of_its_setting():
    config = only("distort_p", distort=0.15)
    places = np.array([[32, 96], [64, 64], [96, 32]])
    picture = dots(places)
    moved = np.array([centroids(changed_image(picture, config, seed)) - places for seed in range(60)])
    # Two of four cells 15 % too wide and two too narrow move the middle by 0.15 * 2 cells of 32 pixels.
    assert np.abs(moved).max() < 0.15 * 64 + 1.5 and np.abs(moved[:, 1]).max() > 5
    assert np.abs(moved).std() > 1


def test_image_points_and_vessels_move_together():
    pipeline = make_pipeline(replace(NOTHING, affine_p=1.0, distort_p=1.0, shift=0.15))
    kept = dropped = 0
    for seed in range(150):
        before = three_dots(np.random.default_rng(seed))
        after = augment(before, pipeline, seed)
        found = dict(zip(after.point_locations.tolist(), after.points, strict=True))
        for channel, location in enumerate(before.point_locations):
            dot = after.image[..., [channel]]
            if location not in found:
                dropped += 1
                assert dot.sum() < 0.7 * before.image[..., channel].sum(), "the centre of the dot has left the image"
                continue
            if ((found[location] > 8) & (found[location] < SIZE - 9)).all():  # the border does not cut the dot
                kept += 1
                column, row = np.rint(found[location]).astype(int)
                assert after.vessels[row, column] == 1 + location, f"seed {seed}"
                assert np.linalg.norm(centroids(dot)[0] - found[location]) < 1, f"seed {seed}"
    assert kept > 200 and dropped > 20


def three_dots(random: np.random.Generator) -> Sample:
    """Dots anywhere in the image, at least 13 pixels apart, each within a disc of its vessel."""
    points = np.stack([43 * np.arange(3) + random.uniform(2, 30, 3), random.uniform(2, SIZE - 3, 3)], axis=1)
    image, locations = dots(points), random.permutation(13)[:3]
    vessels = (1 + locations)[image.argmax(axis=2)] * (image.max(axis=2) > 0.05)
    return Sample(image, points.astype(np.float32), locations, vessels.astype(np.uint8))


def test_a_point_between_pixels_at_the_border_stays_and_one_that_leaves_is_dropped_with_its_location():
    sample = replace(textured(), points=np.array([[-0.4, 127.4], [64, 64]], np.float32))
    assert augment(sample, make_pipeline(NOTHING), 0).points.shape == (2, 2)
    larger = augment(sample, make_pipeline(only("affine_p", scale_low=1.3, scale_high=1.3, shift=0)), 0)
    np.testing.assert_array_equal(larger.point_locations, [12])
    assert np.flatnonzero(sample.labels).tolist() == [4, 12, 13] and np.flatnonzero(larger.labels).tolist() == [12, 13]
    assert larger.points.shape == (1, 2)
    # Where the point goes, the grid distortion after it does not pull it back into the image.
    both = make_pipeline(only("affine_p", scale_low=1.3, scale_high=1.3, distort_p=1.0))
    assert all(12 in augment(sample, both, seed).point_locations for seed in range(20))
    assert not any(4 in augment(sample, both, seed).point_locations for seed in range(20))


def test_a_sample_without_points_and_mask_stays_without():
    sample = replace(textured(), points=np.zeros((0, 2), np.float32), point_locations=np.zeros(0, int), vessels=None)
    after = augment(sample, make_pipeline(EVERYTHING), 0)
    assert after.points.shape == (0, 2) and after.point_locations.shape == (0,) and after.vessels is None


def test_what_moves_in_from_outside_is_black_background():
    sample = replace(sample_of(np.ones((SIZE, SIZE, 3), np.float32)), vessels=np.full((SIZE, SIZE), 7, np.uint8))
    smaller = augment(sample, make_pipeline(only("affine_p", scale_low=0.5, scale_high=0.5)), 0)
    assert smaller.image[:10].max() == 0 and smaller.vessels[:10].max() == 0
    assert set(np.unique(smaller.vessels)) == {0, 7} and smaller.vessels.dtype == np.uint8
