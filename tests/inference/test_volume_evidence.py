"""volume3d's cells are found at the places of the original images that they show."""

import numpy as np
import pytest

from aneurysm.inference.volume_evidence import OUTSIDE, VolumeEvidence
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, write_stack
from volume3d.config import VolumeSettings
from volume3d.make_volume import volume_of


class SameGrid:
    """Voxels that are the pixels of the images."""

    def voxels_at(self, source: np.ndarray) -> np.ndarray:
        return source


def test_a_cell_counts_for_places_up_to_a_cell_away_and_none_beyond_the_volume():
    cells = np.zeros((4, 5, 6), np.float32)
    cells[1, 2, 3] = 0.9  # of 2 x 2 x 2 voxels: its centre lies at voxel (2.5, 4.5, 6.5)
    points = np.array([[2.5, 4.5, 6.5], [4.5, 4.5, 6.5], [6.5, 4.5, 6.5], [-0.6, 4.5, 6.5], [2.5, 4.5, 11.6]])
    evidence = VolumeEvidence(cells, SameGrid(), 2)
    np.testing.assert_allclose(evidence.near(points), [0.9, 0.9, 0, OUTSIDE, OUTSIDE], rtol=1e-6)
    assert evidence.near(points[None, :2]).shape == (1, 2)


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        (AXIAL, (4.0, 3.0, 3.0)),
        ((-1, 0, 0, 0, -1, 0), (4.0, 3.0, 3.0)),  # columns to the right, rows to the front
        (CORONAL, (5.0, 3.0, 3.0)),
        (SAGITTAL, (5.0, 3.0, 3.0)),
        (CORONAL, (1.8, 2.0, 2.0)),
    ],
)
def test_a_bright_dot_of_the_images_lies_where_the_volume_shows_it(tmp_path, orientation, spacing):
    dot = (20, 21, 41)
    row, column = np.mgrid[:64, :70]
    head = np.repeat(np.where(np.hypot(row - 26, column - 36) < 22, 40, -1000).astype(np.int16)[None], 40, axis=0)
    head[dot] = 900
    uids = write_stack(tmp_path, head, orientation, spacing, (-80.0, -70.0, 60.0))
    settings = VolumeSettings(z_mm=2.0, size=96, pixel_mm=2.0, centre=(0.5, 0.5), head_mm=0)
    volume, series, grid, _ = volume_of(tmp_path, settings)
    found = VolumeEvidence(volume.astype(np.float32), grid, 1)
    image = series.mapping.source_index(uids[dot[0]])
    near = found.near(np.array([[image, *dot[1:]], [image, dot[1], dot[2] - 6], [image, dot[1] + 4, dot[2]]], float))
    assert near[0] == volume.max() and near[1:].max() < 0.5 * near[0]
