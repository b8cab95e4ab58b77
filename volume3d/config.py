"""Settings of the second system: input, sampling, augmentation, model, loss; saved in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aneurysm.phantom.config import FIRST_SEED, PhantomScansConfig
from aneurysm.training.config import TrainingConfig


@dataclass(frozen=True)
class InputConfig:
    """The part of a volume that the model sees; its shape is fixed, so that volumes can be batched."""

    shape: tuple[int, int, int] = (64, 112, 112)
    """slices, rows and columns of the model's input; padded with 0 where the volume is smaller"""
    centre: tuple[float, float] = (0.47, 0.5)
    """centre of the input in the square around the head, as fractions of its rows (from the front) and columns"""
    below_top_mm: float = 80.0
    """distance of the input's centre below the top of the volume, in millimetres"""
    tta: bool = True
    """test-time augmentation: average the predictions for a volume and its mirror image"""


@dataclass(frozen=True)
class SamplingConfig:
    """Which volumes, and which parts of them, are trained on."""

    balanced: bool = False
    """balance volumes with and without an aneurysm, and the locations, instead of drawing each volume once per epoch"""
    crop_shift: tuple[int, int, int] = (4, 8, 8)
    """maximum random shift of the input, in slices, rows and columns"""
    part: tuple[int, int, int] = (48, 96, 96)
    """net.dense: slices, rows and columns of a training part; in series with localizers, half of the parts contain one,
    the others lie anywhere"""
    ball_mm: float = 5.0
    """net.dense: diameter of the ball around a localizer that counts as aneurysm"""
    rim_mm: float = 10.0
    """net.dense: outer diameter of the rim around that ball, which the loss ignores"""


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of each training volume."""

    mirror_p: float = 0.5
    """probability of swapping left and right"""
    affine_p: float = 0.5
    """probability of rotating about the vertical axis and scaling"""
    rotate_degrees: float = 10.0
    """maximum rotation, either way"""
    scale: float = 0.1
    """maximum relative change of size"""
    gain: float = 0.1
    """maximum relative change of contrast"""
    offset: float = 0.05
    """maximum change of brightness; values lie in [0, 1]"""
    gamma: float = 0.2
    """maximum change of the logarithm of gamma"""


@dataclass(frozen=True)
class NetConfig:
    """torchvision's r3d_18 with one input channel and 14 logits."""

    width: int = 64
    """channels of the first layers; r3d_18 has 64"""
    stem_stride: tuple[int, int, int] = (1, 2, 2)
    """stride of the first convolution along slices, rows and columns; r3d_18 has (1, 2, 2)"""
    norm: Literal["batch", "group"] = "batch"
    """batch norm, or group norm, which does not depend on the batch size"""
    groups: int = 8
    """groups of channels in each group norm"""
    pooling: Literal["mean", "max"] = "mean"
    """without net.dense: pooling of the last feature map, the mean as in r3d_18, or the maximum, because an aneurysm
    fills only a small part of a head"""
    dense: Literal[0, 1, 2, 3, 4] = 0
    """dense head: the layer whose cells each predict an aneurysm, its location and the vessel there; the 14 logits are
    their maxima, and predictions use whole volumes. 0: one pooled vector for the whole input"""
    dense_width: int = 32
    """net.dense: features per cell"""
    patient: bool = False
    """without net.dense: the head also sees age, sex and weight"""
    checkpointing: bool = False
    """activation checkpointing: less memory, but a second forward pass"""

    @property
    def stride(self) -> int:
        """Voxels from one cell to the next, with net.dense; ValueError if the strides of the axes differ."""
        if len(set(self.stem_stride)) > 1:
            raise ValueError(f"net.stem_stride {self.stem_stride}: expected three alike, for cells as long as wide")
        return self.stem_stride[0] * 2 ** (self.dense - 1)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    present_share: float = 0.5
    """fraction of the label loss for Aneurysm Present; the other labels share the rest equally. 0.5 as in the
    competition's score"""
    pos_weight_cap: float = 10.0
    """maximum weight of a label's positives; up to it, positives count as much as negatives in total. 1: all samples
    weigh the same"""
    logits_weight: float = 1.0
    """weight of the loss of the 14 logits"""
    sac_weight: float = 1.0
    """net.dense: weight of the cells' aneurysm and location losses"""
    dice_weight: float = 1.0
    """net.dense: weight of the Dice loss in the aneurysm loss, relative to the focal loss"""
    location_weight: float = 0.5
    """net.dense: weight of the location loss in cells with an aneurysm, relative to the aneurysm loss"""
    vessel_weight: float = 1.0
    """net.dense: weight of the vessel loss, where vessels are known"""


@dataclass(frozen=True)
class ActivationsConfig:
    """Statistics of layer outputs during training, for TensorBoard and Weights & Biases."""

    every: int = 0
    """optimizer steps between two records; 0 records nothing"""
    layers: tuple[str, ...] = ("stem", "layer1.1", "layer2.1", "layer3.1", "layer4.1")
    """names of modules of the backbone"""
    bins: int = 64
    """bins of the histograms"""


@dataclass(frozen=True)
class Volume3dConfig:
    """All settings of a training run that are saved in its checkpoints."""

    input: InputConfig = field(default_factory=InputConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    activations: ActivationsConfig = field(default_factory=ActivationsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class VolumeSettings:
    """Settings that, with the DICOM files, determine every byte of a volume."""

    z_mm: float = 3.0
    """slice spacing in millimetres"""
    size: int = 128
    """rows and columns of the volume: the square around the head, or with pixel_mm a part of it"""
    pixel_mm: float = 0.0
    """row and column spacing in millimetres; 0 divides the square around the head into `size` rows and columns"""
    centre: tuple[float, float] = (0.5, 0.5)
    """with pixel_mm: centre of the volume in the square around the head, as fractions of its rows (from the front) and
    columns"""
    head_mm: float = 180.0
    """height of the head to keep, from the top, in millimetres; 0 keeps every slice"""
    window_low_hu: float = 0.0
    """CT: Hounsfield units that are mapped to 0"""
    window_high_hu: float = 600.0
    """CT: Hounsfield units that are mapped to 1"""
    mr: Literal["percentiles", "voi", "zscore"] = "percentiles"
    """MR intensity window: robust percentiles of the head; voi, the window in the header if there is one, else
    percentiles; or zscore, from standard deviations of the head"""
    dtype: Literal["float16", "float32"] = "float16"
    """data type of the voxels"""

    def __post_init__(self) -> None:
        if (
            not self.z_mm > 0
            or self.size < 1
            or self.head_mm < 0
            or self.pixel_mm < 0
            or not self.window_low_hu < self.window_high_hu
        ):
            raise ValueError(
                "expected z_mm above 0, size of at least 1, head_mm and pixel_mm of at least 0 and window_low_hu below "
                f"window_high_hu, found {self.z_mm:g}, {self.size}, {self.head_mm:g}, {self.pixel_mm:g}, "
                f"{self.window_low_hu:g} and {self.window_high_hu:g}"
            )


@dataclass(frozen=True)
class PhantomPartsConfig(PhantomScansConfig):
    """Which parts of phantom volumes are drawn."""

    sizes: tuple[int, ...] = (256, 384)
    """matrix sizes, as make_phantoms.py --size; one is drawn for each scan"""
    shape: tuple[int, int, int] = (48, 96, 96)
    """slices, rows and columns of a part; multiples of the network's stride"""
    sac_parts: int = 1
    """parts per scan with an aneurysm, or with the place of one that was removed"""
    free_parts: int = 1
    """other parts per scan: half at a vessel, half anywhere in the volume"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        super().__post_init__()
        if min(self.sac_parts, self.free_parts) < 0 or not self.parts_per_scan or (self.sac_parts and not self.sacs):
            raise ValueError(f"phantoms: expected sac_parts, where there are sacs, or free_parts, found {self}")

    @property
    def parts_per_scan(self) -> int:
        return (self.sac_parts + self.free_parts) * self.uses


@dataclass(frozen=True)
class PretrainingConfig:
    """Phantom seed, epoch length and evaluation of pretraining."""

    seed: int = FIRST_SEED
    """seed of the phantoms"""
    every: int = 2000
    """approximate number of parts per epoch; each epoch adds a row to history.csv and writes resume.pth"""
    check_dirs: tuple[Path, ...] = ()
    """folders of phantoms to evaluate on every training.evaluate_every epochs; their volumes need the same settings"""
    check_folds: int = 2
    """number of folds that create_folds.py made there"""
