"""What each cell of a volume says: an aneurysm or none, its location, the vessel; and how the 14 logits follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.labels import LOCATIONS
from aneurysm.training.losses import location_log_probability, logits_of
from volume3d.config import NetConfig

PRIOR = -6.0  # logit of an aneurysm in a cell before anything is learned
HALF_MM = 64.0  # scale of the places
WAVES = (1, 2)  # of the places, half turns over HALF_MM


class CellConv(nn.Conv3d):
    """A convolution of single cells, as the matrix product that it is: several times as fast on CPUs."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class DenseHead(nn.Module):
    """Feature maps from layer `net.dense` on, summed from coarse to fine (Lin et al. 2017), and what their cells say.

    The vessel a cell shows and the location that an aneurysm would have there are one answer: the sac takes the name
    of its artery.
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

        `batch` has image, and place_mm and spacing_mm (batch, 3) of its first voxel and of its voxels.
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
        """(batch, width, ...) what the place of each cell in the head adds."""
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
    """(batch, 14) logits: of the cell that is most probably an aneurysm, at each location and anywhere.

    sac (batch, ...) logits; locations (batch, 13, ...) logits of the location, given that there is one.
    """
    each = logits_of(location_log_probability(sac[:, None], locations).flatten(2).amax(dim=2))
    return torch.cat([each, sac.flatten(1).amax(dim=1, keepdim=True)], dim=1)
