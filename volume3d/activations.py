"""Statistics of layer outputs during training: mean, standard deviation, fraction of zeros, histogram."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aneurysm.training.tracking import Seen
from volume3d.config import ActivationsConfig

MOST = 1 << 20  # maximum number of values in a histogram, evenly spaced


class Activations:
    """Records output statistics of chosen layers; `fit` calls it after every optimizer step, as its `observe`.

    The call returns the statistics of that step: activations/<layer>/mean, /std, /zeros and /histogram of each layer.
    Only every `every`th step is recorded, and of it only the first micro-batch on this process; in other steps a layer
    costs one extra call. Raises ValueError naming the layers that do not exist.
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
        """Removes the hooks."""
        for handle in self.handles:
            handle.remove()

    def _hook(self, name: str):
        def hook(layer: nn.Module, _: tuple, out: Tensor) -> None:
            if self.looking and layer.training and name not in self.seen:  # checkpointing runs it again
                self.seen[name] = statistics(f"activations/{name}", out.detach(), self.config.bins)

        return hook


@torch.no_grad()
def statistics(name: str, values: Tensor, bins: int) -> Seen:
    """<name>/mean, /std, /zeros (fraction of values that are exactly 0) and /histogram (counts, edges) of a tensor."""
    values = values.float().flatten()
    std, mean = torch.std_mean(values, correction=0)
    zeros = 1 - torch.count_nonzero(values) / values.numel()
    some = values[:: -(-values.numel() // MOST)]
    low, high = torch.aminmax(some)
    counts = torch.histc(some, bins, low.item(), high.item())
    edges = np.linspace(low.item(), high.item(), bins + 1)
    numbers = {"mean": mean.item(), "std": std.item(), "zeros": zeros.item()}
    return {f"{name}/{k}": v for k, v in numbers.items()} | {f"{name}/histogram": (counts.cpu().numpy(), edges)}
