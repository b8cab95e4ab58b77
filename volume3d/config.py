"""What decides the second system: what it sees of a volume, augmentation, model, loss. Kept in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aneurysm.phantom.config import FIRST_SEED, PhantomScansConfig
from aneurysm.training.config import TrainingConfig


@dataclass(frozen=True)
class InputConfig:
    """The part of a volume that the model sees; all of them have one shape, so that they stack."""

    shape: tuple[int, int, int] = (64, 112, 112)
    """slices, rows and columns of the model's input; what the volume lacks of them is filled with 0"""
    centre: tuple[float, float] = (0.47, 0.5)
    """middle of the input in the square around the head, as shares of its rows (from the front) and columns"""
    below_top_mm: float = 80.0
    """middle of the input below the top of the volume, in millimetres"""
    tta: bool = True
    """answer with the mean over a volume and its mirror image"""


@dataclass(frozen=True)
class SamplingConfig:
    """Which volumes are trained on."""

    balanced: bool = False
    """draw as many volumes with an aneurysm as without, and all locations alike, instead of each volume once an
    epoch"""
    crop_shift: tuple[int, int, int] = (4, 8, 8)
    """largest random shift of the input, in slices, rows and columns"""
    part: tuple[int, int, int] = (48, 96, 96)
    """net.dense: slices, rows and columns of what is trained on, half of it around localizers, half anywhere"""
    ball_mm: float = 5.0
    """net.dense: diameter of the ball around a localizer that counts as aneurysm"""
    rim_mm: float = 10.0
    """net.dense: diameter up to which the rim around that ball counts as neither"""


@dataclass(frozen=True)
class AugmentConfig:
    """How a volume is changed each time that it is trained on."""

    mirror_p: float = 0.5
    """chance that left and right are exchanged"""
    affine_p: float = 0.5
    """chance that it is turned about the vertical axis and scaled"""
    rotate_degrees: float = 10.0
    """largest turn"""
    scale: float = 0.1
    """largest change of size, as a share of it"""
    gain: float = 0.1
    """largest change of contrast, as a share of it"""
    offset: float = 0.05
    """largest change of brightness; values lie in [0, 1]"""
    gamma: float = 0.2
    """largest change of the logarithm of gamma"""


@dataclass(frozen=True)
class NetConfig:
    """torchvision's r3d_18 with one input channel and 14 logits."""

    width: int = 64
    """channels of the first layers; 64 is r3d_18's own"""
    stem_stride: tuple[int, int, int] = (1, 2, 2)
    """steps of the first convolution along slices, rows and columns; (1, 2, 2) is r3d_18's own"""
    norm: Literal["batch", "group"] = "batch"
    """batch norm, or group norm, which does not depend on how many volumes fit into a batch"""
    groups: int = 8
    """groups of channels of each group norm"""
    pooling: Literal["mean", "max"] = "mean"
    """how the last feature map becomes one vector: its mean, as in r3d_18, or each feature's highest value, since an
    aneurysm fills little of a head"""
    dense: Literal[0, 1, 2, 3, 4] = 0
    """the layer whose cells each answer for an aneurysm, its location and the vessel there; the 14 logits are then
    their highest ones, and whole volumes are asked about. 0: one vector of the whole answers"""
    dense_width: int = 32
    """features of a cell"""
    patient: bool = False
    """the head also sees age, sex and weight"""
    checkpointing: bool = False
    """activation checkpointing: less memory for a second forward pass"""

    @property
    def stride(self) -> int:
        """Voxels from one cell to the next, with net.dense; ValueError where that is not the same along all axes."""
        if len(set(self.stem_stride)) > 1:
            raise ValueError(f"net.stem_stride {self.stem_stride}: expected three alike, for cells as long as wide")
        return self.stem_stride[0] * 2 ** (self.dense - 1)


@dataclass(frozen=True)
class LossConfig:
    """How wrong answers are counted."""

    present_share: float = 0.5
    """share of Aneurysm Present in the loss, the other labels alike; 0.5 is that of the competition's score"""
    pos_weight_cap: float = 10.0
    """positives of a label count as much as its negatives, but at most this many times; 1 counts all alike"""
    logits_weight: float = 1.0
    """weight of the 14 logits"""
    sac_weight: float = 1.0
    """net.dense: weight of the cells' aneurysms"""
    dice_weight: float = 1.0
    """net.dense: of the Dice loss beside the focal loss of the cells"""
    location_weight: float = 0.5
    """net.dense: of the location where an aneurysm is"""
    vessel_weight: float = 1.0
    """net.dense: weight of the vessels, where they are known"""


@dataclass(frozen=True)
class ActivationsConfig:
    """Statistics of what layers put out while training, for TensorBoard and Weights & Biases."""

    every: int = 0
    """optimizer steps from one record to the next; 0 records nothing"""
    layers: tuple[str, ...] = ("stem", "layer1.1", "layer2.1", "layer3.1", "layer4.1")
    """modules of the network, by name"""
    bins: int = 64
    """bars of the histograms"""


@dataclass(frozen=True)
class Volume3dConfig:
    """All of it."""

    input: InputConfig = field(default_factory=InputConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    activations: ActivationsConfig = field(default_factory=ActivationsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class VolumeSettings:
    """What decides the bytes of a volume, besides the DICOM files."""

    z_mm: float = 3.0
    """millimetres between slices"""
    size: int = 128
    """rows and columns of the square around the head, or of what is kept of it"""
    pixel_mm: float = 0.0
    """millimetres between rows and columns; with 0 the square around the head is parted into `size` of them"""
    centre: tuple[float, float] = (0.5, 0.5)
    """with pixel_mm: middle of the rows (from the front) and columns kept, as shares of the square around the head"""
    head_mm: float = 180.0
    """keep the top so many millimetres of the head; 0 keeps every slice"""
    window_low_hu: float = 0.0
    """CT: Hounsfield units that become 0"""
    window_high_hu: float = 600.0
    """CT: Hounsfield units that become 1"""
    mr: Literal["percentiles", "voi", "zscore"] = "percentiles"
    """what MR values become 0 and 1 by: robust percentiles of the head; voi: the window of the file, where it has one;
    zscore: standard deviations of the head"""
    dtype: Literal["float16", "float32"] = "float16"
    """type of the numbers"""

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
    """Which parts of volumes are drawn."""

    sizes: tuple[int, ...] = (256, 384)
    """pixels across a scan, as make_phantoms.py --size; one is drawn for each scan"""
    shape: tuple[int, int, int] = (48, 96, 96)
    """slices, rows and columns of a part, multiples of the network's stride"""
    sac_parts: int = 1
    """parts of a scan that hold a sac, or the place that had one"""
    free_parts: int = 1
    """parts of a scan anywhere in the volume, half of them at a vessel"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        super().__post_init__()
        if min(self.sac_parts, self.free_parts) < 0 or not self.parts_per_scan or (self.sac_parts and not self.sacs):
            raise ValueError(f"phantoms: expected sac_parts, where there are sacs, or free_parts, found {self}")

    @property
    def parts_per_scan(self) -> int:
        return self.sac_parts + self.free_parts


@dataclass(frozen=True)
class PretrainingConfig:
    """What pretraining draws, and what it is evaluated on meanwhile."""

    seed: int = FIRST_SEED
    """of the phantoms"""
    every: int = 2000
    """about so many parts from one epoch of history.csv, and one resume.pth, to the next"""
    check_dirs: tuple[Path, ...] = ()
    """folders of phantoms with volumes of these settings, on which the network is evaluated every
    training.evaluate_every epochs"""
    check_folds: int = 2
    """number of folds that create_folds.py was told there"""
