"""Stage 1: a timm encoder with heads for 14 logits, aneurysm and location maps, and vessel segmentation."""

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

HEATMAP_PRIOR = -4.6  # logit of 0.01: initial bias of the aneurysm map, so that background does not dominate the loss
WAVES = (0.5, 1, 2)  # frequencies of the position encoding: half periods per half input
LEAST = 3.0  # locations' maxima are clamped at this far below the prior


class Stage1Net(nn.Module):
    """The network: windows (batch, n_slices, image_size, image_size) in [0, 1] to a dict.

    features       (batch, n_features) pooled encoder features
    logits         (batch, 14) in the order of LABELS, from pooled features; scaled heatmap maxima are added
    aneurysm_map   (batch, 1, n, n) logits of an aneurysm at any location; n = image_size / heatmap_stride
    location_map   (batch, 13, n, n) softmax logits of the location, given an aneurysm there
    heatmap        (batch, 14, n, n) logits of the labels: 13 locations, from both maps, then `aneurysm_map`
    peak_features  (batch, n) features and, with vessels, vessel logits at the maximum of `aneurysm_map`; these four
                   only with heatmap_weight > 0
    vessels        (batch, 14, n, n) softmax logits of background and 13 locations; only with vessel_weight > 0
    """

    def __init__(
        self, encoder: str, heads: ModelConfig, image_size: int, weights: str = "none", n_slices: int = 3
    ):  # fmt: skip
        """`encoder` is a timm name; `weights` and errors as create_encoder. `weights_text` describes the weights."""
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
        """As nn.Module.train, but frozen modules stay in eval mode."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    def fold_norms(self) -> None:
        """Folds the encoder's batch norms into its convolutions; only if they are not trained again."""
        shape = (1, self.mean.shape[1], self.image_size, self.image_size)
        example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        fold_norms(self.encoder, example.to(self.mean.device))

    def forward(self, images: Tensor, corner: Tensor | None = None) -> dict[str, Tensor]:
        """`corner` (batch, 2): left column and top row of crops in the whole input; None for whole inputs."""
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
    """Feature pyramid (Lin et al. 2017): feature maps from `heatmap_stride` on, projected and summed coarse to fine."""

    def __init__(self, channels: list[int], strides: list[int], heads: ModelConfig, image_size: int):
        super().__init__()
        if image_size % heads.heatmap_stride:  # else heatmap and target would differ in size
            raise ValueError(f"image_size {image_size}: expected a multiple of heatmap_stride, {heads.heatmap_stride}")
        finest = min(max(heads.heatmap_stride, min(strides)), max(strides))  # a ViT's patches may be larger or smaller
        # from fine to coarse; of several maps of one stride (a ViT's blocks) the last
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
        """(batch, neck_width, n, n), n = image_size / heatmap_stride; `image_size` of the images or crops."""
        n = image_size // self.stride
        total = None
        for level, lateral in zip(reversed(self.levels), reversed(self.lateral), strict=True):
            own = lateral(maps[level])
            total = own if total is None else own + functional.interpolate(total, size=own.shape[-2:], mode="nearest")
        if total.shape[-1] != n:  # patch size differs from heatmap_stride
            total = functional.interpolate(total, size=(n, n), mode="bilinear", align_corners=False)
        return self.mix(total)


class HeatmapHead(nn.Module):
    """Per-pixel logits of an aneurysm, from local features, and of its location, also from position and the pooled
    features of the image."""

    def __init__(self, width: int, n_features: int, image_size: int):
        """`image_size` is that of whole inputs, not crops."""
        super().__init__()
        self.image_size = image_size
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU())
        self.aneurysm = nn.Conv2d(width, 1, 1)
        self.pixel, self.pooled = nn.Conv2d(width, width, 1), nn.Linear(n_features, width)
        self.position = nn.Conv2d(2 * (1 + 2 * len(WAVES)), width, 1, bias=False)
        self.location = nn.Sequential(nn.GELU(), nn.Conv2d(width, len(LOCATIONS), 1))
        nn.init.constant_(self.aneurysm.bias, HEATMAP_PRIOR)

    def forward(self, fine: Tensor, features: Tensor, n_pixels: int, corner: Tensor | None) -> tuple[Tensor, ...]:
        """Pixel features (batch, width, n, n), aneurysm logits (batch, 1, n, n) and location logits (batch, 13, n, n).

        `fine` (batch, width, n, n) is the neck's output, `features` the pooled features, `n_pixels` the size of the
        images or crops; `corner` as in Stage1Net.forward.
        """
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
    """(batch, channels) values of `maps` (batch, channels, n, n) at the maximum of `aneurysm_map` (batch, 1, n, n)."""
    pixel = aneurysm_map.flatten(1).argmax(dim=1)
    return maps.flatten(2)[torch.arange(len(maps), device=maps.device), :, pixel]


def _evidence(heatmap: Tensor) -> Tensor:
    """(batch, 14) maximum of each label's map minus HEATMAP_PRIOR, for locations at least -LEAST."""
    highest = heatmap.amax(dim=(2, 3)) - HEATMAP_PRIOR
    return torch.cat([highest[:, :-1].clamp(min=-LEAST), highest[:, -1:]], dim=1)


def freeze_stages(encoder: nn.Module, n_stages: int) -> list[nn.Module]:
    """Freezes all modules up to the end of the first `n_stages` stages (timm's feature_info) and returns them."""
    if n_stages == 0:
        return []
    last = encoder.feature_info[n_stages - 1]["module"]
    modules = list(encoder.named_modules())[1:]  # in the order of definition; without the encoder itself
    end = max(i for i, (name, _) in enumerate(modules) if f"{name}.".startswith(f"{last}."))
    later = [name for name, _ in modules[end + 1 :]]
    frozen = [m for name, m in modules[: end + 1] if not any(other.startswith(f"{name}.") for other in later)]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def create_encoder(
    name: str, drop_path_rate: float, weights: str, image_size: int, n_slices: int = 3
) -> tuple[nn.Module, str]:
    """(timm model without classifier for this input size, description of its weights); `weights` as in weights.py.

    Raises ValueError naming the encoder if timm does not have it, it gives no feature maps, or size or weights do not
    fit.
    """
    if not timm.is_model(name):
        raise ValueError(f"encoder {name}: timm {timm.__version__} has no such model")
    settings = {
        "num_classes": 0,
        "in_chans": n_slices,
        "drop_path_rate": drop_path_rate or None,
    }  # timm drops None: some models lack this argument
    with _named(name):
        encoder = timm.create_model(name, **settings)
        if not hasattr(encoder, "set_input_size") and "img_size" in signature(type(encoder)).parameters:
            encoder = timm.create_model(name, img_size=image_size, **settings)
        if not hasattr(encoder, "forward_intermediates"):
            raise ValueError("expected feature maps (forward_intermediates), timm gives none")
        text = load_encoder_weights(encoder, name, weights)
        if hasattr(encoder, "set_input_size"):  # after the weights: it resizes position embeddings
            encoder.set_input_size((image_size, image_size))
        patch, _ = to_2tuple(getattr(getattr(encoder, "patch_embed", None), "patch_size", 1))
        if image_size % patch:  # timm would drop incomplete patches
            raise ValueError(f"image_size {image_size}: expected a multiple of its patches of {patch} pixels")
    return encoder, text


@contextmanager
def _named(encoder: str) -> Iterator[None]:
    """Turns any error of timm into a ValueError that names the encoder."""
    try:
        yield
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as error:  # OSError: hub unreachable
        raise ValueError(f"encoder {encoder}: {error}") from error


@torch.no_grad()
def _measure(encoder: nn.Module, image_size: int, n_slices: int) -> tuple[int, list[int], list[int]]:
    """(pooled features, channels per feature map, stride per feature map), measured with an image of zeros."""
    training = encoder.training
    last, maps = encoder.eval().forward_intermediates(
        torch.zeros(1, n_slices, image_size, image_size), output_fmt="NCHW"
    )
    n_features = encoder.forward_head(last, pre_logits=True).shape[1]
    encoder.train(training)
    return n_features, [m.shape[1] for m in maps], [round(image_size / m.shape[-1]) for m in maps]
