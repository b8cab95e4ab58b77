"""Features files: one that is missing, damaged or of others is named, whichever part of it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from aneurysm.cache.features import made_from, n_sampled_slices, read_features, read_sampling

SLICES = {"slice": np.arange(3, dtype=np.int32)}
DAMAGED = {
    "missing": None,
    "text": b"no features",
    "of others": save(SLICES),
    "without views": save(SLICES, {"made_from": "a", "slice_spacing_mm": "1.5"}),
    "views cut short": save(SLICES, {"made_from": "a", "slice_spacing_mm": "1.5", "views": '["orig'}),
}


def write(folder: Path, content: bytes | None) -> Path:
    path = folder / "s.safetensors"
    if content is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("read", [read_features, read_sampling])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_says_nothing_of_its_sampling_is_refused_by_name(tmp_path, read, name):
    path = write(tmp_path, DAMAGED[name])
    with pytest.raises(ValueError, match=f"^{path}: expected the features of a series, from extract_features.py"):
        read(path)


def test_fingerprint_and_number_of_slices_are_none_and_0_where_they_cannot_be_told(tmp_path):
    messages = {"missing": (None, 0), "text": (None, 0), "of others": (None, 3), "without views": ("a", 3)}
    assert {name: (made_from(write(tmp_path, DAMAGED[name])), n_sampled_slices(tmp_path / "s.safetensors"))
            for name in messages} == messages  # fmt: skip
