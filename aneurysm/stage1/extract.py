"""Features of stage 1 for stage 2, one file per series; the same for cached series and for DICOM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from aneurysm.cache.cache import Cache
from aneurysm.cache.config import VIEWS
from aneurysm.cache.features import FORMAT, SeriesFeatures, made_from, write_features
from aneurysm.cache.windows import crop_box
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.paths import ModelPaths, remove_leftovers
from aneurysm.stage1.config import ExtractSettings, Stage1Config
from aneurysm.stage1.dataset import EvalWindows
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.on_dask import DaskWorkers
from aneurysm.stage1.predict import heatmap_peaks, load_stage1, slice_places
from aneurysm.stage1.sample import mirror_images
from aneurysm.training.checkpoint import file_hash
from aneurysm.training.config import PrecisionKind
from aneurysm.training.data import one_thread
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import inference_precision

PARTS = ("features", "peak_features", "logits", "heatmap_max", "peak_x", "peak_y")
Rows = dict[str, np.ndarray]  # name in PARTS -> (windows, views, n) float16


class Encoder:
    """A trained stage 1 applied to batches of windows, in one or both views (original, mirror)."""

    def __init__(self, model: Stage1Net, config: Stage1Config, device: torch.device, views: Sequence[str] = VIEWS,
                 precision: PrecisionKind = "auto", maps: bool = False):  # fmt: skip
        """`maps` adds `aneurysm_map` (windows, views, n, n) to the output if the model has heatmaps: probabilities, all
        in the original orientation. Raises ValueError for an unknown view, or none."""
        if not views or any(view not in VIEWS for view in views):
            raise ValueError(f"views: expected some of {', '.join(VIEWS)}, found {', '.join(views) or 'none'}")
        self.model, self.config, self.device, self.views = model, config, device, tuple(views)
        self.precision, self.maps = inference_precision(device, precision), maps

    @torch.inference_mode()
    def __call__(self, images: Tensor, planes: Sequence[str]) -> Rows:
        """The PARTS of windows (batch, n_slices, image_size, image_size) in [0, 1]; `planes` is the plane of each."""
        images = images.to(self.device, non_blocking=True)
        in_columns = torch.tensor([left_right_in_columns(plane) for plane in planes], device=self.device)
        parts = []
        for view in self.views:
            seen = mirror_images(images, in_columns) if view == "mirror" else images
            with self.precision.autocast():
                outputs = self.model(seen.contiguous(memory_format=torch.channels_last))
            parts.append(self._parts(outputs, planes, mirrored=view == "mirror"))
            if self.maps and "aneurysm_map" in outputs:
                probability = outputs["aneurysm_map"][:, 0].float().sigmoid()
                parts[-1]["aneurysm_map"] = _flip_back(probability, in_columns, view)
        return {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}

    def _parts(self, outputs: dict[str, Tensor], planes: Sequence[str], mirrored: bool) -> Rows:
        n_windows = len(outputs["logits"])
        if "heatmap" in outputs:
            probability, xy = heatmap_peaks(outputs["heatmap"].float().sigmoid(), self.config.heads.heatmap_stride)
            highest, xy = torch.logit(probability, eps=1e-6), xy.cpu().numpy()
            share = np.stack(
                [_shares(points, plane, self.config, mirrored) for points, plane in zip(xy, planes, strict=True)]
            )
        else:
            highest, share = torch.full((n_windows, 14), torch.nan), np.full((n_windows, 14, 2), np.nan)
        at_peak = outputs.get("peak_features", outputs["logits"][:, :0])
        whole = {name: outputs[name] for name in ("features", "logits")}
        whole |= {"peak_features": at_peak, "heatmap_max": highest}
        rows = {name: tensor.float().cpu().numpy().astype(np.float16) for name, tensor in whole.items()}
        return rows | {"peak_x": share[..., 0].astype(np.float16), "peak_y": share[..., 1].astype(np.float16)}


def _flip_back(found: Tensor, in_columns: Tensor, view: str) -> np.ndarray:
    """(windows, n, n) float16 maps in the original orientation."""
    if view == "mirror":
        found = torch.where(in_columns[:, None, None], found.flip(2), found)
    return found.cpu().numpy().astype(np.float16)


def series_features(
    rows: Rows, index: np.ndarray, position_mm: np.ndarray, views: Sequence[str], slice_spacing_mm: float
) -> SeriesFeatures:
    """The features of a series from the rows of its windows, one per sampled slice.

    `index` (sampled slices,) into `position_mm` (all slices, mm); they are about slice_spacing_mm apart.
    """
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
    """Yields (uid, rows) of each series once complete, from batches that may span several series.

    A batch is (rows, uid of each row); `n_windows` maps uid to its number of windows. Only incomplete series are held
    in memory; PARTS only.
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
    """(14, 2) x, y as fractions of the cached image, or of its mirror image, from pixels of the input."""
    if mirrored and left_right_in_columns(plane):
        points = points * (-1, 1) + (config.input.image_size - 1, 0)
        shares = (crop_box(config.input, plane).to_cache(points) + 0.5) / SIZE
        return shares * (-1, 1) + (1, 0)
    return (crop_box(config.input, plane).to_cache(points) + 0.5) / SIZE


def extract_fold(
    cache: Cache, series_uids: Sequence[str], model_paths: ModelPaths, fold: int,
    settings: ExtractSettings, world: DistContext, dask: DaskWorkers,
) -> int:  # fmt: skip
    """Writes missing and outdated features of these series, by the encoder that held out `fold`; returns the number of
    files that were up to date.

    Processes share the series; with a Dask cluster its workers compute all, and `dask.failures` has those that failed.
    """
    checkpoint, folder = model_paths.stage1(fold), model_paths.features(fold)
    wanted = fingerprints(cache, series_uids, checkpoint, settings)
    todo = out_of_date(folder, wanted)
    n_before = len(wanted) - len(todo)
    world.wait()  # no process writes before the main one has the lock and all have listed the outdated files
    if dask.address:
        question = partial(features_of, cache_dir=cache.paths.cache.absolute(), settings=settings)
        done = dask.predict(question, checkpoint, fold, todo)
    else:
        todo = todo[world.rank :: world.size]
        encoder = Encoder(*load_stage1(checkpoint, world.device, unseen=fold), world.device, settings.views,
                          settings.precision)  # fmt: skip
        done = extract(cache, todo, encoder, settings.slice_spacing_mm, settings.batch_size, settings.workers)
    for uid, features in tqdm(done, total=len(todo), unit="series", desc=f"fold {fold}", disable=not world.is_main):
        write_features(folder / f"{uid}.safetensors", features, wanted[uid])
    world.wait()
    if world.is_main:
        remove_leftovers(folder)
    return n_before


def extract(
    cache: Cache, series_uids: Sequence[str], encoder: Encoder, slice_spacing_mm: float, batch_size: int, workers: int
) -> Iterator[tuple[str, SeriesFeatures]]:
    """Yields (uid, features) in order; memory use does not grow with the number of series."""
    if not series_uids:
        return
    places = slice_places(cache, series_uids, slice_spacing_mm)
    index = {uid: rows.to_numpy() for uid, rows in places.groupby("SeriesInstanceUID").slice}
    windows = EvalWindows(cache, places, encoder.config.input)
    loader = DataLoader(
        windows, batch_size, num_workers=workers, worker_init_fn=one_thread, pin_memory=encoder.device.type == "cuda"
    )

    def batches() -> Iterator[tuple[Rows, Sequence[str]]]:
        for batch in loader:
            owners, _, planes = zip(*(windows.places[i] for i in batch["number"].tolist()), strict=True)
            yield encoder(batch["image"], planes), owners

    for uid, rows in by_series(batches(), {uid: len(own) for uid, own in index.items()}):
        yield uid, series_features(rows, index[uid], cache.position_mm(uid), encoder.views, slice_spacing_mm)


def features_of(
    model: Stage1Net, config: Stage1Config, series_uid: str, *, cache_dir: Path, settings: ExtractSettings
) -> SeriesFeatures:
    """Features of one series, on the CPU; runs on a Dask worker."""
    encoder = Encoder(model, config, torch.device("cpu"), settings.views, settings.precision)
    cache = Cache(cache_dir)
    ((_, features),) = extract(cache, [series_uid], encoder, settings.slice_spacing_mm, settings.batch_size, workers=0)
    return features


def fingerprints(
    cache: Cache, series_uids: Sequence[str], checkpoint: Path, settings: ExtractSettings
) -> dict[str, str]:
    """uid -> SHA-256 of what its features depend on: format, weights, settings and cached slices."""
    made_from = (
        f"{FORMAT} {file_hash(checkpoint)} {settings.slice_spacing_mm} {','.join(settings.views)} {settings.precision}"
    )
    return {uid: hashlib.sha256(f"{made_from} {cache.fingerprint(uid)}".encode()).hexdigest() for uid in series_uids}


def out_of_date(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Series whose features are missing, damaged, or have another fingerprint than in `wanted`."""
    return [uid for uid, own in wanted.items() if made_from(folder / f"{uid}.safetensors") != own]
