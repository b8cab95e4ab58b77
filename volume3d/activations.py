"""What chosen layers put out while training: mean, standard deviation, share of zeros and a histogram, now and then."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aneurysm.training.tracking import Seen
from volume3d.config import ActivationsConfig

MOST = 1 << 20  # numbers that a histogram is made of, evenly chosen


class Activations:
    """Watches the layers of a network; to be told of every optimizer step, as `fit` tells its `observe`.

    What it returns then is what was seen in that step: of each layer activations/<layer>/mean, /std, /zeros and
    /histogram. It looks at every `every`th step, at the first of its parts and on this process alone, and while it does
    not look, a layer costs one call. Raises ValueError naming the layers that are not there.
    """

    def __init__(self, network: nn.Module, config: ActivationsConfig):
        layers = dict(network.named_modules())
        unknown = [name for name in config.layers if name not in layers]
        if unknown:
            known = ", ".join(name for name in layers if name.count(".") < 2 and name)
            raise ValueError(f"activations.layers: expected some of {known}, found {', '.join(unknown)}")
        self.config, self.seen = config, {}
        self.looking = config.every == 1
        self.handles = [layers[name].register_forward_hook(self._hook(name)) for name in config.layers]

    def __call__(self, step: int) -> Seen:
        seen, self.seen = self.seen, {}
        self.looking = (step + 1) % self.config.every == 0
        return {name: value for of_layer in seen.values() for name, value in of_layer.items()}

    def close(self) -> None:
        """Leaves the layers alone."""
        for handle in self.handles:
            handle.remove()

    def _hook(self, name: str):
        def hook(layer: nn.Module, _: tuple, out: Tensor) -> None:
            if self.looking and layer.training and name not in self.seen:  # checkpointing passes through it again
                self.seen[name] = statistics(f"activations/{name}", out.detach(), self.config.bins)

        return hook


@torch.no_grad()
def statistics(name: str, values: Tensor, bins: int) -> Seen:
    """<name>/mean, /std, /zeros (share of numbers that are exactly 0) of a tensor, and /histogram (counts, edges)."""
    values = values.float().flatten()
    std, mean = torch.std_mean(values, correction=0)
    zeros = 1 - torch.count_nonzero(values) / values.numel()
    some = values[:: -(-values.numel() // MOST)]
    low, high = torch.aminmax(some)
    counts = torch.histc(some, bins, low.item(), high.item())
    edges = np.linspace(low.item(), high.item(), bins + 1)
    numbers = {"mean": mean.item(), "std": std.item(), "zeros": zeros.item()}
    return {f"{name}/{k}": v for k, v in numbers.items()} | {f"{name}/histogram": (counts.cpu().numpy(), edges)}
