"""Stage 1: any timm encoder with 14 logits, maps of where aneurysms are and which, and of vessels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import timm
import torch
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage1.config import ModelConfig
from aneurysm.stage1.norms import fold_norms
from aneurysm.stage1.weights import load_encoder_weights, load_head_weights
from aneurysm.training.losses import location_log_probability, logits_of

HEATMAP_PRIOR = -4.6  # logit of one in a hundred: where heatmaps start, so that the empty pixels do not drown the rest
WAVES = (0.5, 1, 2)  # half periods of a place's waves over half of the input
LEAST = 3.0  # so far below that, a location's map is far below it


class Stage1Net(nn.Module):
    """Answers windows (batch, n_slices, image_size, image_size) in [0, 1] with a dict:

    features       (batch, n_features) pooled encoder features
    logits         (batch, 14) in the order of LABELS: from the pooled features and, where there are any, heatmap maxima
    aneurysm_map   (batch, 1, n, n) logits of an aneurysm of whatever location; n = image_size / heatmap_stride
    location_map   (batch, 13, n, n) logits of the location that an aneurysm there would have, for a softmax
    heatmap        (batch, 14, n, n) logits of the labels: of the 13 locations, from both maps, and `aneurysm_map` as it
                   is; these three with heatmap_weight
    vessels        (batch, 14, n, n) logits of background and the locations' vessels; with vessel_weight
    peak_features  (batch, n) of the highest pixel of `aneurysm_map`: its features and, where there are any, its logits
                   of vessels
    """

    def __init__(
        self, encoder: str, heads: ModelConfig, image_size: int, weights: str = "none", n_slices: int = 3
    ):  # fmt: skip
        """`encoder` by timm's name; `weights` and errors as create_encoder. `weights_text` tells what was loaded."""
        super().__init__()
        made = create_encoder(encoder, heads.drop_path_rate, weights, image_size, n_slices)
        self.encoder, self.weights_text, self.image_size = *made, image_size
        with _named(encoder):
            if heads.grad_checkpointing:
                self.encoder.set_grad_checkpointing()
            self.n_features, channels, strides = _measure(self.encoder, image_size, n_slices)
        config = self.encoder.default_cfg
        for name in ("mean", "std"):
            value = torch.tensor(config[name])
            value = value if n_slices == 3 else value.mean().repeat(n_slices)
            self.register_buffer(name, value.view(1, n_slices, 1, 1), persistent=False)
        with_maps = heads.heatmap_weight > 0 or heads.vessel_weight > 0
        self.neck = Neck(channels, strides, heads, image_size) if with_maps else None
        self.heatmap = HeatmapHead(heads.neck_width, self.n_features, image_size) if heads.heatmap_weight > 0 else None
        self.vessels = nn.Conv2d(heads.neck_width, len(LOCATIONS) + 1, 1) if heads.vessel_weight > 0 else None
        n_pooled = self.n_features + (heads.neck_width if self.neck else 0)
        self.logits = nn.Sequential(nn.Dropout(heads.drop_rate), nn.Linear(n_pooled, len(LABELS)))
        self.evidence_scale = nn.Parameter(torch.ones(len(LABELS))) if self.heatmap else None
        self.weights_text += load_head_weights(self, encoder, weights)
        self.frozen = freeze_stages(self.encoder, heads.freeze_stages)
        if heads.freeze_norms:
            self.frozen += [module for module in self.encoder.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> Stage1Net:
        """As any module's, but that what is frozen keeps its statistics."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    def fold_norms(self) -> None:
        """Makes the encoder faster; for a model whose batch norms are not trained any more."""
        shape = (1, self.mean.shape[1], self.image_size, self.image_size)
        example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        fold_norms(self.encoder, example.to(self.mean.device))

    def forward(self, images: Tensor, corner: Tensor | None = None) -> dict[str, Tensor]:
        """`corner` (batch, 2): first column and row of the images in inputs that they are parts of."""
        last, maps = self.encoder.forward_intermediates((images - self.mean) / self.std, output_fmt="NCHW")
        features = self.encoder.forward_head(last, pre_logits=True)
        outputs = {"features": features}
        pooled = [features]
        if self.neck is not None:
            fine = self.neck(maps, images.shape[-1])
            pooled.append(fine.amax(dim=(2, 3)))
            if self.heatmap is not None:
                pixel_features, aneurysms, locations = self.heatmap(fine, features, images.shape[-1], corner)
                outputs["aneurysm_map"], outputs["location_map"] = aneurysms.float(), locations.float()
                own = logits_of(location_log_probability(outputs["aneurysm_map"], outputs["location_map"]))
                outputs["heatmap"] = torch.cat([own, outputs["aneurysm_map"]], dim=1)
            if self.vessels is not None:
                outputs["vessels"] = self.vessels(fine)
        outputs["logits"] = self.logits(torch.cat(pooled, dim=1))
        if self.heatmap is not None:
            known = pixel_features if self.vessels is None else torch.cat([pixel_features, outputs["vessels"]], dim=1)
            outputs["peak_features"] = at_highest(outputs["aneurysm_map"], known)
            outputs["logits"] = outputs["logits"] + self.evidence_scale * _evidence(outputs["heatmap"])
        return outputs


class Neck(nn.Module):
    """Feature maps from `heatmap_stride` on, brought to one width and summed from coarse to fine (Lin et al. 2017)."""

    def __init__(self, channels: list[int], strides: list[int], heads: ModelConfig, image_size: int):
        super().__init__()
        if image_size % heads.heatmap_stride:  # else heatmap pixels and targets would not meet
            raise ValueError(f"image_size {image_size}: expected a multiple of heatmap_stride, {heads.heatmap_stride}")
        finest = min(max(heads.heatmap_stride, min(strides)), max(strides))  # patches may be larger, or smaller
        # of several maps of one stride (a ViT's blocks) the last; the levels from fine to coarse
        self.levels = [i for i, s in enumerate(strides) if s >= finest and s not in strides[i + 1 :]]
        self.stride = heads.heatmap_stride
        self.lateral = nn.ModuleList(nn.Conv2d(channels[i], heads.neck_width, 1) for i in self.levels)
        self.mix = nn.Sequential(
            nn.Conv2d(heads.neck_width, heads.neck_width, 3, padding=1, groups=heads.neck_width, bias=False),
            nn.GroupNorm(8, heads.neck_width),
            nn.Conv2d(heads.neck_width, heads.neck_width, 1),
            nn.GELU(),
        )

    def forward(self, maps: list[Tensor], image_size: int) -> Tensor:
        """(batch, neck_width, n, n) where n = image_size / heatmap_stride"""
        n = image_size // self.stride
        total = None
        for level, lateral in zip(reversed(self.levels), reversed(self.lateral), strict=True):
            own = lateral(maps[level])
            total = own if total is None else own + functional.interpolate(total, size=own.shape[-2:], mode="nearest")
        if total.shape[-1] != n:  # patches of another size than heatmap_stride
            total = functional.interpolate(total, size=(n, n), mode="bilinear", align_corners=False)
        return self.mix(total)


class HeatmapHead(nn.Module):
    """Logits of every pixel: of an aneurysm, by its features, and of the location that one would have there, for which
    its place in the input and the whole picture count as well."""

    def __init__(self, width: int, n_features: int, image_size: int):
        """`image_size` is that of whole inputs."""
        super().__init__()
        self.image_size = image_size
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU())
        self.aneurysm = nn.Conv2d(width, 1, 1)
        self.pixel, self.pooled = nn.Conv2d(width, width, 1), nn.Linear(n_features, width)
        self.position = nn.Conv2d(2 * (1 + 2 * len(WAVES)), width, 1, bias=False)
        self.location = nn.Sequential(nn.GELU(), nn.Conv2d(width, len(LOCATIONS), 1))
        nn.init.constant_(self.aneurysm.bias, HEATMAP_PRIOR)

    def forward(self, fine: Tensor, features: Tensor, n_pixels: int, corner: Tensor | None) -> tuple[Tensor, ...]:
        """The features of every pixel (batch, width, n, n), and the logits (batch, 1, n, n) and (batch, 13, n, n), of a
        neck's maps (batch, width, n, n), the pooled features, and images of `n_pixels` rows and columns; `corner` as in
        Stage1Net.forward."""
        pixel_features, n = self.trunk(fine), fine.shape[-1]
        centres = (torch.arange(n, device=fine.device) + 0.5) * (n_pixels / n)
        first = torch.zeros(1, 2, device=fine.device) if corner is None else corner
        at = 2 * (centres + first[..., None]) / self.image_size - 1  # (batch, 2, n): x and y from -1 to 1
        waves = [at, *(wave(k * torch.pi * at) for k in WAVES for wave in (torch.sin, torch.cos))]
        x, y = torch.stack(waves, 1).unbind(2)  # each (batch, waves, n)
        place = torch.cat([x[:, :, None].expand(-1, -1, n, -1), y[..., None].expand(-1, -1, -1, n)], 1)
        place = self.position(place.to(fine.dtype))
        known = self.pixel(pixel_features) + place + self.pooled(features)[..., None, None]
        return pixel_features, self.aneurysm(pixel_features), self.location(known)


def at_highest(aneurysm_map: Tensor, maps: Tensor) -> Tensor:
    """(batch, channels) of maps (batch, channels, n, n) at the highest pixel of aneurysm_map (batch, 1, n, n)."""
    pixel = aneurysm_map.flatten(1).argmax(dim=1)
    return maps.flatten(2)[torch.arange(len(maps), device=maps.device), :, pixel]


def _evidence(heatmap: Tensor) -> Tensor:
    """(batch, 14) how far the highest pixel of each label's map rises above where it started."""
    highest = heatmap.amax(dim=(2, 3)) - HEATMAP_PRIOR
    return torch.cat([highest[:, :-1].clamp(min=-LEAST), highest[:, -1:]], dim=1)


def freeze_stages(encoder: nn.Module, n_stages: int) -> list[nn.Module]:
    """The modules up to the end of the encoder's first stages (see its feature maps), made to keep their weights."""
    if n_stages == 0:
        return []
    last = encoder.feature_info[n_stages - 1]["module"]
    modules = list(encoder.named_modules())[1:]  # in the order of their use; the first is the encoder itself
    end = max(i for i, (name, _) in enumerate(modules) if f"{name}.".startswith(f"{last}."))
    later = [name for name, _ in modules[end + 1 :]]
    frozen = [m for name, m in modules[: end + 1] if not any(other.startswith(f"{name}.") for other in later)]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def create_encoder(
    name: str, drop_path_rate: float, weights: str, image_size: int, n_slices: int = 3
) -> tuple[nn.Module, str]:
    """timm's model without its classifier, for this input size, and a line about its weights (see weights.py).

    Raises ValueError naming the encoder where timm does not know it, it gives no feature maps, or nothing fits it.
    """
    if not timm.is_model(name):
        raise ValueError(f"encoder {name}: timm {timm.__version__} has no such model")
    settings = {
        "num_classes": 0,
        "in_chans": n_slices,
        "drop_path_rate": drop_path_rate or None,
    }  # timm leaves out None: some have none
    with _named(name):
        encoder = timm.create_model(name, **settings)
        if not hasattr(encoder, "set_input_size") and "img_size" in signature(type(encoder)).parameters:
            encoder = timm.create_model(name, img_size=image_size, **settings)
        if not hasattr(encoder, "forward_intermediates"):
            raise ValueError("expected feature maps (forward_intermediates), timm gives none")
        text = load_encoder_weights(encoder, name, weights)
        if hasattr(encoder, "set_input_size"):  # after the weights: it brings position embeddings to the size
            encoder.set_input_size((image_size, image_size))
        patch, _ = to_2tuple(getattr(getattr(encoder, "patch_embed", None), "patch_size", 1))
        if image_size % patch:  # timm would leave out the columns and rows that do not fill a patch
            raise ValueError(f"image_size {image_size}: expected a multiple of its patches of {patch} pixels")
    return encoder, text


@contextmanager
def _named(encoder: str) -> Iterator[None]:
    """Whatever timm does not like is one sentence that names the encoder."""
    try:
        yield
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as error:  # OSError: no way to timm's hub
        raise ValueError(f"encoder {encoder}: {error}") from error


@torch.no_grad()
def _measure(encoder: nn.Module, image_size: int, n_slices: int) -> tuple[int, list[int], list[int]]:
    """Number of pooled features, and channels and stride of each feature map, asked of the encoder itself."""
    training = encoder.training
    last, maps = encoder.eval().forward_intermediates(
        torch.zeros(1, n_slices, image_size, image_size), output_fmt="NCHW"
    )
    n_features = encoder.forward_head(last, pre_logits=True).shape[1]
    encoder.train(training)
    return n_features, [m.shape[1] for m in maps], [round(image_size / m.shape[-1]) for m in maps]
