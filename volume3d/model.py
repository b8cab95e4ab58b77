"""The second system's network: torchvision's r3d_18 with one input channel, 14 logits and optional changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple, VideoResNet

from aneurysm.labels import LABELS
from volume3d.checkpointing import checkpointed, no_checkpoint
from volume3d.config import NetConfig
from volume3d.dense import DenseHead
from volume3d.patient import PATIENT_KEYS

R3D_WIDTH = 64  # channels of r3d_18's first layers
STEM_KERNEL = (3, 7, 7)
LAST = 8  # channels of the last layer, as a multiple of the width


class Block(BasicBlock):
    """r3d_18's block, in two halves that can be checkpointed."""

    keep = staticmethod(no_checkpoint)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.keep(self.conv1, self.conv1, x)
        return self.keep(self.second_half, self, middle, x)

    def second_half(self, middle: Tensor, x: Tensor) -> Tensor:
        out = self.conv2(middle)
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Backbone(VideoResNet):
    """r3d_18 without its head, of any width.

    At width 64 its weights have the names and shapes of r3d_18's, except for the single input channel.
    """

    def __init__(self, config: NetConfig):
        self.width = config.width

        def stem() -> nn.Module:
            padding = tuple(size // 2 for size in STEM_KERNEL)
            first = nn.Conv3d(1, config.width, STEM_KERNEL, config.stem_stride, padding, bias=False)
            return nn.Sequential(first, nn.BatchNorm3d(config.width), nn.ReLU(inplace=True))

        super().__init__(Block, [Conv3DSimple] * 4, [2, 2, 2, 2], stem)
        self.avgpool, self.fc = nn.Identity(), nn.Identity()  # Volume3dNet has the head
        self.keep = checkpointed if config.checkpointing else no_checkpoint
        for block in self.blocks:
            block.keep = self.keep

    @property
    def blocks(self) -> list[Block]:
        return [*self.layer1, *self.layer2, *self.layer3, *self.layer4]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 8 * width, slices, rows, columns): the last feature map."""
        return self.layers(x)[-1]

    def layers(self, x: Tensor) -> list[Tensor]:
        """The feature maps of the four layers.

        With checkpointing, the inputs of all blocks but the first are kept, and during the backward pass also the
        tensor between the halves of one block at a time: the first feature maps take nearly all of the memory.
        """
        first, *others = self.blocks
        maps = [self.keep(lambda volume: first(self.keep(self.stem, self.stem, volume)), self, x)]
        for block in others:
            maps.append(self.keep(block, block, maps[-1]))
        return maps[1::2]  # each layer has two blocks

    def _make_layer(self, block, conv_builder, planes, blocks, stride=1):
        if planes == R3D_WIDTH:
            self.inplanes = self.width  # output channels of the stem
        return super()._make_layer(block, conv_builder, planes * self.width // R3D_WIDTH, blocks, stride)


class Volume3dNet(nn.Module):
    """The model: batches of dataset.py in, `logits` (batch, 14) in the order of LABELS out.

    With net.dense also the outputs of its cells (see DenseHead).
    """

    def __init__(self, config: NetConfig):
        super().__init__()
        if config.width <= 0 or config.width % config.groups:
            raise ValueError(f"net.width {config.width}: expected a multiple of net.groups, {config.groups}")
        self.config = config
        self.backbone = Backbone(config)
        if config.norm == "group":
            group_norms(self.backbone, config.groups)
        self.dense = DenseHead(config) if config.dense else None
        self.head = None if config.dense else self._pooled_head()

    def _pooled_head(self) -> nn.Linear:
        head = nn.Linear(LAST * self.config.width + len(PATIENT_KEYS) * self.config.patient, len(LABELS))
        nn.init.normal_(head.weight, 0, 0.01)
        nn.init.zeros_(head.bias)
        return head

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.dense is not None:
            return self.dense(self.backbone.layers(batch["image"]), batch)
        x = self.backbone(batch["image"]).flatten(2)
        x = x.mean(dim=2) if self.config.pooling == "mean" else x.amax(dim=2)
        if self.config.patient:
            x = torch.cat([x, torch.stack([batch[key] for key in PATIENT_KEYS], dim=1).to(x.dtype)], dim=1)
        return {"logits": self.head(x)}

    def start_from(self, prevalence: Tensor) -> None:
        """Sets the bias of the pooled head to these probabilities (14,), so that training starts from them."""
        if self.head is not None:
            self.head.bias.data = prevalence.to(self.head.bias).logit()


def group_norms(module: nn.Module, groups: int) -> None:
    """Replaces all batch norms in a module by group norms, at any depth."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, nn.GroupNorm(groups, child.num_features))
        else:
            group_norms(child, groups)
