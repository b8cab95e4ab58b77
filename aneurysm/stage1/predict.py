"""Predicts windows and whole series with a trained stage 1: probabilities, heatmap maxima and their positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from aneurysm.cache.cache import Cache
from aneurysm.cache.windows import crop_box, sampled_slices
from aneurysm.config import from_saved
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage1.config import InputConfig, Stage1Config, Tta
from aneurysm.stage1.dataset import EvalWindows
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import unfolded
from aneurysm.stage1.sample import mirror_images, mirror_prediction
from aneurysm.training.checkpoint import load_model
from aneurysm.training.config import InferenceConfig
from aneurysm.training.data import one_thread
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import inference_precision

WIDTHS = (14, 14, 28)  # columns of probability, heatmap_max and heatmap_xy


@dataclass(frozen=True)
class WindowPredictions:
    """Predictions, one row per window.

    probability  (windows, 14) in [0, 1]
    heatmap_max  (windows, 14) maximum of each label's heatmap, in [0, 1]; NaN without that head
    heatmap_xy   (windows, 14, 2) its position: x, y in pixels of the input; NaN without that head
    """

    probability: np.ndarray
    heatmap_max: np.ndarray
    heatmap_xy: np.ndarray


def load_stage1(
    path: Path, device: torch.device | str = "cpu", unseen: int | None = None
) -> tuple[Stage1Net, Stage1Config]:
    """A trained model in eval mode and its configuration. Raises ValueError as load_trained."""
    model, config = load_model(path, "stage1", stage1_from, unseen)
    return model.to(device), config


def stage1_from(about: dict[str, Any], weights: dict[str, Tensor]) -> tuple[Stage1Net, Stage1Config]:
    """The model in eval mode, norms folded, and its configuration, from a checkpoint's `config` and `weights`.

    Raises ValueError for an unknown setting, RuntimeError as load_state_dict.
    """
    config = from_saved(Stage1Config, about["stage1"])
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, n_slices=config.input.n_slices)
    model.load_state_dict(unfolded(model, weights))
    model.fold_norms()
    return model.eval(), config


def heatmap_peaks(probability: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Maximum (...) of each map (..., n, n) in [0, 1], and its x, y (..., 2) in pixels of the input.

    The position is the centre of mass of the 3 x 3 pixels around the maximum.
    """
    n, shape = probability.shape[-1], probability.shape[:-2]
    probability = probability.reshape(-1, 1, n, n)
    highest, index = probability.flatten(1).max(dim=1)
    around = functional.unfold(probability, 3, padding=1)  # (maps, 9, n * n)
    around = around.gather(2, index[:, None, None].expand(-1, 9, 1))[..., 0]
    step = torch.arange(-1, 2, device=around.device, dtype=around.dtype)
    total = around.sum(dim=1).clamp(min=1e-12)
    dx = (around.view(-1, 3, 3).sum(dim=1) * step).sum(dim=1) / total
    dy = (around.view(-1, 3, 3).sum(dim=2) * step).sum(dim=1) / total
    cells = torch.stack([index % n + dx, torch.div(index, n, rounding_mode="floor") + dy], dim=1)
    return highest.view(shape), ((cells + 0.5) * stride - 0.5).view(*shape, 2)


def predict_windows(
    model: nn.Module,
    windows: Dataset,
    config: Stage1Config,
    world: DistContext,
    inference: InferenceConfig,
    bar: str = "",
    tta: Tta = "none",
) -> WindowPredictions:
    """Predictions for all items of `windows`, in order; processes share the work, and each returns all of them.

    With tta `mirror`, probabilities and maps are averaged over the windows and their mirror images.
    """
    own = range(world.rank, len(windows), world.size)
    batches = _batches(model, Subset(windows, own), config, world, inference, bar, tta)
    rows = [np.column_stack(columns) for columns in batches]
    n_columns = 1 + sum(WIDTHS)
    table = world.gather(np.concatenate(rows) if rows else np.empty((0, n_columns)))
    table = table[np.argsort(table[:, 0])]
    probability, highest, xy = np.split(table[:, 1:], np.cumsum(WIDTHS)[:-1], axis=1)
    return WindowPredictions(probability, highest, xy.reshape(-1, 14, 2))


@torch.inference_mode()
def _batches(
    model: nn.Module, windows: Dataset, config: Stage1Config, world: DistContext,
    inference: InferenceConfig, bar: str, tta: Tta,
) -> Iterator[tuple[np.ndarray, ...]]:  # fmt: skip
    """Yields per batch the window numbers (batch,) and three arrays (batch, n), n in WIDTHS."""
    precision = inference_precision(world.device, inference.precision)
    loader = DataLoader(windows, inference.batch_size, num_workers=inference.workers, worker_init_fn=one_thread)
    for batch in tqdm(loader, desc=bar, unit="batch", leave=False, disable=not (bar and world.is_main)):
        images = batch["image"].to(world.device, memory_format=torch.channels_last)
        with precision.autocast():
            outputs = model(images)
        predicted = {name: outputs[name].float().sigmoid() for name in ("logits", "heatmap") if name in outputs}
        if tta == "mirror":
            in_columns = batch["left_right_in_columns"].to(world.device)
            seen = mirror_images(images, in_columns).contiguous(memory_format=torch.channels_last)
            with precision.autocast():
                outputs = model(seen)
            for name, own in predicted.items():
                predicted[name] = (own + mirror_prediction(outputs[name].float().sigmoid(), in_columns)) / 2
        if "heatmap" in predicted:
            highest, xy = heatmap_peaks(predicted["heatmap"], config.heads.heatmap_stride)
        else:
            highest, xy = (torch.full((len(images), 14, *shape), torch.nan) for shape in ((), (2,)))
        parts = (predicted["logits"], highest, xy.flatten(1))
        yield batch["number"].numpy(), *(part.cpu().numpy() for part in parts)


def slice_places(cache: Cache, series_uids: Sequence[str], slice_spacing_mm: float) -> pd.DataFrame:
    """One row per sampled slice: SeriesInstanceUID, slice, position_mm, plane, cached_col_mm and cached_row_mm."""
    parts = []
    for uid in series_uids:
        position_mm, meta = cache.position_mm(uid), cache.meta(uid)
        index = sampled_slices(position_mm, slice_spacing_mm)
        part = pd.DataFrame({"SeriesInstanceUID": uid, "slice": index, "position_mm": position_mm[index]})
        parts.append(part.assign(**{name: meta[name] for name in ("plane", "cached_col_mm", "cached_row_mm")}))
    return pd.concat(parts, ignore_index=True)


def predict_series_slices(
    model: nn.Module,
    cache: Cache,
    places: pd.DataFrame,
    config: Stage1Config,
    world: DistContext,
    inference: InferenceConfig,
    bar: str,
    tta: Tta = "none",
) -> pd.DataFrame:
    """`places` with the 14 probabilities of each slice, and maximum and position of each label's heatmap.

    The latter columns are `<label> heatmap_max`, `<label> peak_x` and `<label> peak_y` (pixels of the cache), NaN if
    the model has no heatmaps. `tta` as in predict_windows.
    """
    windows = EvalWindows(cache, places, config.input)
    predictions = predict_windows(model, windows, config, world, inference, bar, tta)
    xy = peaks_in_cache(predictions, places, config.input)
    columns = {name: predictions.probability[:, i] for i, name in enumerate(LABELS)}
    for i, label in enumerate(LABELS):
        columns[f"{label} heatmap_max"] = predictions.heatmap_max[:, i]
        columns[f"{label} peak_x"], columns[f"{label} peak_y"] = xy[:, i, 0], xy[:, i, 1]
    return places.join(pd.DataFrame(columns, index=places.index).astype(np.float32))


def peaks_in_cache(predictions: WindowPredictions, places: pd.DataFrame, config: InputConfig) -> np.ndarray:
    """(windows, 14, 2) positions of the heatmap maxima: x, y in pixels of the cache."""
    boxes = {plane: crop_box(config, plane) for plane in places.plane.unique()}
    return np.stack([boxes[plane].to_cache(xy) for plane, xy in zip(places.plane, predictions.heatmap_xy, strict=True)])


def heatmap_maxima(slices: pd.DataFrame) -> pd.DataFrame:
    """One row per series: maximum of each label's heatmap over the slices, columns as LABELS; a baseline."""
    highest = slices.groupby("SeriesInstanceUID")[[f"{label} heatmap_max" for label in LABELS]].max()
    return highest.set_axis(list(LABELS), axis=1)


def heatmap_candidates(slices: pd.DataFrame, labels: Sequence[str] = LOCATIONS) -> pd.DataFrame:
    """One row per slice of predict_series_slices and label: probability (heatmap maximum), x, y, location."""
    kept = ["SeriesInstanceUID", "position_mm", "cached_col_mm", "cached_row_mm"]
    parts = [
        slices[kept].assign(
            probability=slices[f"{location} heatmap_max"], x=slices[f"{location} peak_x"],
            y=slices[f"{location} peak_y"], location=location,
        )
        for location in labels
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
