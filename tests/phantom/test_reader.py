"""The reader on phantoms of every plane, tilts and poses included: patient millimetres as SimpleITK has them."""

import numpy as np
import pytest
import SimpleITK as sitk

from aneurysm.dicom.series import read_series
from aneurysm.phantom.acquisition import draw_acquisition
from aneurysm.phantom.dicom import Identity, write_slices
from aneurysm.phantom.encoding import make_uid
from aneurysm.phantom.quirks import Quirks
from aneurysm.phantom.storage import draw_scale, store


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("modality", ["CTA", "MRI T2"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_voxels_lie_where_simpleitk_and_the_phantom_itself_put_them(tmp_path, plane, modality, seed):
    rng = np.random.default_rng(seed)
    grid = draw_acquisition(rng, modality, plane, size=64).grid
    image = rng.uniform(0, 100, grid.shape).astype(np.float32)
    quirks = Quirks(syntax="rle", storage="hu+1024" if modality == "CTA" else "raw")
    stored = store(image, draw_scale(rng, image, quirks), quirks)
    identity = Identity(make_uid("series"), make_uid("patient"), "CT" if modality == "CTA" else "MR", 1.0)
    uids = write_slices(tmp_path, stored, grid, quirks, identity)
    series = read_series(tmp_path, select=())
    for k in rng.integers(0, len(uids), 3):
        x, y = rng.uniform(0, grid.shape[2] - 1), rng.uniform(0, grid.shape[1] - 1)
        file = sitk.ReadImage(str(tmp_path / f"{uids[k]}.dcm"))
        found = series.to_patient(x, y, uids[k])
        assert found == pytest.approx(file.TransformContinuousIndexToPhysicalPoint((x, y, 0)), abs=0.01)
        assert found == pytest.approx(grid.to_mm((k, y, x)), abs=0.01)
        assert series.to_original(*series.to_cache(x, y, uids[k])) == pytest.approx((x, y, uids[k], 0))
