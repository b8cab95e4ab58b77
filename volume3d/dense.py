"""Dense head: each cell predicts aneurysm, location and vessel; the 14 logits are the maxima over the cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.labels import LOCATIONS
from aneurysm.training.losses import location_log_probability, logits_of
from volume3d.config import NetConfig

PRIOR = -6.0  # initial logit of an aneurysm in a cell
HALF_MM = 64.0  # length scale of the position encoding
WAVES = (1, 2)  # frequencies of the position encoding, in half periods over HALF_MM


class CellConv(nn.Conv3d):
    """A 1 x 1 x 1 convolution as a matrix product, which is several times as fast on CPUs."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class DenseHead(nn.Module):
    """Sums feature maps from layer `net.dense` on, from coarse to fine (Lin et al. 2017), and classifies each cell.

    The vessel in a cell and the location that an aneurysm would have there are one output, because an aneurysm is named
    after its artery.
    """

    def __init__(self, config: NetConfig):
        super().__init__()
        self.first, width = config.dense - 1, config.dense_width
        channels = [config.width * 2**k for k in range(4)]
        self.lateral = nn.ModuleList(CellConv(n, width) for n in channels[self.first :])
        self.mix = nn.Sequential(nn.ReLU(), CellConv(width, width), nn.ReLU())
        self.sac, self.cell = CellConv(width, 1), CellConv(width, width)
        self.place = nn.Linear(3 * (1 + 2 * len(WAVES)), width, bias=False)
        self.vessels = nn.Sequential(nn.ReLU(), CellConv(width, 1 + len(LOCATIONS)))
        nn.init.normal_(self.sac.weight, 0, 0.01)
        nn.init.constant_(self.sac.bias, PRIOR)

    def forward(self, layers: list[Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """sac (batch, ...) logits, vessels (batch, 14, ...) logits of none and the 13 locations, logits (batch, 14).

        `batch` has image, place_mm (batch, 3) of the first voxel, and spacing_mm (batch, 3).
        """
        total = None
        for features, lateral in zip(reversed(layers[self.first :]), reversed(self.lateral), strict=True):
            own = lateral(features)
            total = own if total is None else own + functional.interpolate(total, size=own.shape[2:], mode="trilinear")
        fine = self.mix(total)
        sac, place = self.sac(fine)[:, 0].float(), self.places(batch, fine)
        vessels = self.vessels(self.cell(fine) + place).float()
        return {"sac": sac, "vessels": vessels, "logits": highest(sac, vessels[:, 1:])}

    def places(self, batch: dict[str, Tensor], fine: Tensor) -> Tensor:
        """(batch, width, ...) position encoding: what each cell's place in the head adds to its features."""
        counts = torch.tensor(fine.shape[2:], device=fine.device)
        stride = torch.tensor(batch["image"].shape[2:], device=fine.device) / counts
        axes = []
        for axis, n in enumerate(fine.shape[2:]):
            voxels = (torch.arange(n, device=fine.device) + 0.5) * stride[axis] - 0.5
            mm = batch["place_mm"][:, axis, None] + voxels * batch["spacing_mm"][:, axis, None]
            at = mm / HALF_MM
            axes.append(
                torch.stack([at, *(wave(k * torch.pi * at) for k in WAVES for wave in (torch.sin, torch.cos))], -1)
            )
        weights = self.place.weight.to(fine.dtype).split(1 + 2 * len(WAVES), dim=1)
        z, y, x = (
            functional.linear(own.to(fine.dtype), w).transpose(1, 2) for own, w in zip(axes, weights, strict=True)
        )
        return z[..., None, None] + y[:, :, None, :, None] + x[:, :, None, None, :]


def highest(sac: Tensor, locations: Tensor) -> Tensor:
    """(batch, 14) logits of the most probable cell, for each location and for an aneurysm anywhere.

    sac (batch, ...) logits; locations (batch, 13, ...) logits of the location, given that there is an aneurysm.
    """
    each = logits_of(location_log_probability(sac[:, None], locations).flatten(2).amax(dim=2))
    return torch.cat([each, sac.flatten(1).amax(dim=1, keepdim=True)], dim=1)
