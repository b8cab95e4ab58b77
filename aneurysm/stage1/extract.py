"""What stage 1 says about a series in each view, as stage 2 wants it: the same from the cache and from DICOM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from aneurysm.cache.config import VIEWS
from aneurysm.cache.features import SeriesFeatures
from aneurysm.cache.windows import crop_box
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.mirror import mirror_images
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import heat_peaks
from aneurysm.training.config import PrecisionKind
from aneurysm.training.precision import inference_precision

PARTS = ("features", "peak_features", "logits", "heat", "peak_x", "peak_y")
Rows = dict[str, np.ndarray]  # the PARTS of some windows: (windows, views, n)


class Encoder:
    """A trained stage 1 that is asked about batches of windows in one or more views."""

    def __init__(self, model: Stage1Net, config: Stage1Config, device: torch.device, views: Sequence[str] = VIEWS,
                 precision: PrecisionKind = "auto", maps: bool = False):  # fmt: skip
        """With `maps` its rows also have `found` (windows, views, n, n), the probability of an aneurysm at each pixel,
        left and right as they are, if the model has maps. Raises ValueError for an unknown view."""
        if not views or any(view not in VIEWS for view in views):
            raise ValueError(f"views: expected some of {', '.join(VIEWS)}, found {', '.join(views) or 'none'}")
        self.model, self.config, self.device, self.views = model, config, device, tuple(views)
        self.precision, self.maps = inference_precision(device, precision), maps

    @torch.inference_mode()
    def __call__(self, images: Tensor, planes: Sequence[str]) -> Rows:
        """The PARTS of windows (batch, n_slices, image_size, image_size) of series in these planes, one each."""
        images = images.to(self.device, non_blocking=True)
        in_columns = torch.tensor([left_right_in_columns(plane) for plane in planes], device=self.device)
        parts = []
        for view in self.views:
            seen = mirror_images(images, in_columns) if view == "mirror" else images
            with self.precision.autocast():
                answer = self.model(seen.contiguous(memory_format=torch.channels_last))
            parts.append(self._parts(answer, planes, mirrored=view == "mirror"))
            if self.maps and "found" in answer:
                parts[-1]["found"] = _unmirrored(answer["found"][:, 0].float().sigmoid(), in_columns, view)
        return {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}

    def _parts(self, answer: dict[str, Tensor], planes: Sequence[str], mirrored: bool) -> Rows:
        n_windows = len(answer["logits"])
        if "heat" in answer:
            probability, xy = heat_peaks(answer["heat"].float().sigmoid(), self.config.heads.heat_stride)
            heat, xy = torch.logit(probability, eps=1e-6), xy.cpu().numpy()
            share = np.stack(
                [_shares(points, plane, self.config, mirrored) for points, plane in zip(xy, planes, strict=True)]
            )
        else:
            heat, share = torch.full((n_windows, 14), torch.nan), np.full((n_windows, 14, 2), np.nan)
        at_peak = answer.get("peak_features", answer["logits"][:, :0])
        whole = {"features": answer["features"], "peak_features": at_peak, "logits": answer["logits"], "heat": heat}
        rows = {name: tensor.float().cpu().numpy().astype(np.float16) for name, tensor in whole.items()}
        return rows | {"peak_x": share[..., 0].astype(np.float16), "peak_y": share[..., 1].astype(np.float16)}


def _unmirrored(found: Tensor, in_columns: Tensor, view: str) -> np.ndarray:
    """(windows, n, n) float16 maps of the head as it is."""
    if view == "mirror":
        found = torch.where(in_columns[:, None, None], found.flip(2), found)
    return found.cpu().numpy().astype(np.float16)


def series_features(
    rows: Rows, index: np.ndarray, position_mm: np.ndarray, views: Sequence[str], slice_spacing_mm: float
) -> SeriesFeatures:
    """The features of a series from the rows of its windows; `index` (slices,) of those sampled about
    slice_spacing_mm apart, and position_mm of all its slices."""
    own = position_mm[index]
    return SeriesFeatures(
        slice=index.astype(np.int32),
        position_mm=own.astype(np.float32),
        depth_mm=(position_mm[-1] - own).astype(np.float32),
        views=tuple(views),
        slice_spacing_mm=slice_spacing_mm,
        **{name: np.ascontiguousarray(rows[name].swapaxes(0, 1)) for name in PARTS},
    )


def by_series(batches: Iterable[tuple[Rows, Sequence[str]]], n_windows: dict[str, int]) -> Iterator[tuple[str, Rows]]:
    """Each series' rows as soon as they are complete, from batches that run on from one series into the next.

    A batch is its rows and the series of each; `n_windows` tells how many each series has. A few are held at a time.
    """
    waiting: dict[str, list[Rows]] = {}
    for rows, owners in batches:
        owners = np.asarray(owners)
        for uid in dict.fromkeys(owners.tolist()):
            waiting.setdefault(uid, []).append({name: part[owners == uid] for name, part in rows.items()})
            if sum(len(part["logits"]) for part in waiting[uid]) == n_windows[uid]:
                parts = waiting.pop(uid)
                yield uid, {name: np.concatenate([part[name] for part in parts]) for name in PARTS}


def _shares(points: np.ndarray, plane: str, config: Stage1Config, mirrored: bool) -> np.ndarray:
    """(14, 2) x, y as shares of the cached image, or of its mirror image, from pixels of the input."""
    if mirrored and left_right_in_columns(plane):
        points = points * (-1, 1) + (config.input.image_size - 1, 0)
        shares = (crop_box(config.input, plane).to_cache(points) + 0.5) / SIZE
        return shares * (-1, 1) + (1, 0)
    return (crop_box(config.input, plane).to_cache(points) + 0.5) / SIZE
