"""The architecture of stage 1 as a drawing, with the shapes and settings of a model that is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aneurysm.labels import LABELS
from aneurysm.report.drawing import BLUE, GREEN, ORANGE, QUIET, Sheet, legend
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.model import HEAT_PRIOR, Stage1Net

# Left edge and width, in inches, of the columns; top and height of the rows.
INPUT, ENCODER, NECK, HEADS, LOSS = (0.15, 1.55), (2.05, 1.75), (4.15, 1.75), (6.25, 1.8), (8.25, 1.62)
TOP, MAPS_END = 0.42, 2.86  # of encoder and neck
VESSELS, FOUND, LOCATION, HEAT = (TOP, 0.5), (1.17, 0.72), (1.99, 0.72), (3.08, 0.5)
POOLED, SUM = (3.85, 0.7), (4.9, 0.66)


@dataclass(frozen=True)
class Stage1Shapes:
    """Shapes without the batch: of the feature maps, from fine to coarse, and of what the model answers with."""

    maps: list[tuple[int, ...]]
    used: list[int]  # numbers of the maps that the neck takes
    fine: tuple[int, ...] | None  # what the neck makes of them
    answer: dict[str, tuple[int, ...]]


@torch.inference_mode()
def stage1_shapes(model: Stage1Net, image_size: int) -> Stage1Shapes:
    """Asks the model itself, about an empty window."""
    image = torch.zeros(1, model.mean.shape[1], image_size, image_size)
    _, maps = model.encoder.forward_intermediates(image, output_fmt="NCHW")
    fine = tuple(model.neck(maps, image_size).shape[1:]) if model.neck else None
    answer = {name: tuple(tensor.shape[1:]) for name, tensor in model(image).items()}
    return Stage1Shapes([tuple(one.shape[1:]) for one in maps], model.neck.levels if model.neck else [], fine, answer)


def times(shape: tuple[int, ...]) -> str:
    """`(3, 288, 288)` -> `3 × 288 × 288`"""
    return " × ".join(map(str, shape))


def stage1_figure(model: Stage1Net, config: Stage1Config) -> Sheet:
    """The figure; parts that this model does not have are dashed."""
    sheet, shapes = Sheet(6.15), stage1_shapes(model, config.input.image_size)
    titles = ("Window", "Encoder (timm)", "Neck", "Maps", "Taught by")
    sheet.column_titles((INPUT, ENCODER, NECK, HEADS, LOSS), titles)
    _input(sheet, config)
    _encoder(sheet, config, shapes)
    _neck(sheet, shapes)
    _map_heads(sheet, config, shapes)
    _heat(sheet, shapes)
    _logits(sheet, config, model, shapes)
    legend(sheet, 5.95)
    return sheet


def _input(sheet: Sheet, config: Stage1Config) -> None:
    (x, width), size, mm, n = INPUT, config.input.image_size, config.input.neighbour_mm, config.input.n_slices
    above, below = (f"{mm:g} mm {side}" if n == 3 else f"{n // 2} {side}" for side in ("above", "below"))
    for number, name in enumerate((above, "the slice", below)):
        sheet.box(x, TOP + 0.44 * number, width, 0.38, name)
    sheet.text(x, TOP + 1.4, f"{n} × {size} × {size},\nin [0, 1], scaled\nas in pretraining", QUIET)
    sheet.arrow((x + width + 0.04, TOP + 0.63), (ENCODER[0] - 0.04, TOP + 0.63))


def _encoder(sheet: Sheet, config: Stage1Config, shapes: Stage1Shapes) -> None:
    """The last feature maps, from fine to coarse, those that the neck takes with an arrow; the pooled features."""
    x, width = ENCODER
    sheet.group(x, TOP, width, MAPS_END - TOP, BLUE, config.encoder.split(".")[0])
    shown = list(enumerate(shapes.maps))[-5:]
    step = (MAPS_END - TOP - 0.38) / len(shown)
    for row, (level, shape) in enumerate(shown):
        y = TOP + 0.09 + step * row
        sheet.box(x + 0.12, y, width - 0.24, step - 0.09, times(shape), plain=True)
        if level in shapes.used:
            middle = y + (step - 0.09) / 2
            sheet.arrow((x + width - 0.1, middle), (NECK[0] - 0.04, middle))
    frozen = config.heads.freeze_stages
    words = "channels × rows × columns" + (f",\nfirst {frozen} stages frozen" if frozen else "")
    sheet.text(x + 0.1, MAPS_END + 0.16, words, QUIET)
    sheet.arrow((x + 0.02, MAPS_END - 0.4), (x - 0.15, MAPS_END - 0.4), (x - 0.15, POOLED[0] + 0.35),
                (x - 0.03, POOLED[0] + 0.35))  # fmt: skip
    sheet.box(x, *_across(POOLED, width), f"pooled features,\n{shapes.answer['features'][0]}", BLUE)


def _across(row: tuple[float, float], width: float) -> tuple[float, float, float]:
    """What a box needs besides its left edge: top, width and height."""
    return row[0], width, row[1]


def _neck(sheet: Sheet, shapes: Stage1Shapes) -> None:
    (x, width), there = NECK, shapes.fine is not None
    words, highest = "no maps", "no maps"
    if there:
        words = (
            f"each 1 × 1 to {shapes.fine[0]},\nsummed from\ncoarse to fine;\n\n"
            f"3 × 3 by channel,\ngroup norm,\n1 × 1, GELU:\n\n{times(shapes.fine)}"
        )
        highest = f"highest pixel of\neach channel, {shapes.fine[0]}"
    sheet.box(x, TOP, width, MAPS_END - TOP, words, BLUE, dashed=not there)
    sheet.box(x, *_across(POOLED, width), highest, dashed=not there)
    if there:
        sheet.arrow((x + width / 2, MAPS_END + 0.03), (x + width / 2, POOLED[0] - 0.04))


def _map_heads(sheet: Sheet, config: Stage1Config, shapes: Stage1Shapes) -> None:
    """The heads that answer with maps, and the losses that teach them."""
    (x, width), (loss_x, loss_width), weight = HEADS, LOSS, config.heads.heat_weight
    if "heat" in shapes.answer:
        sheet.group(x, FOUND[0] - 0.1, width, LOCATION[0] + LOCATION[1] - FOUND[0] + 0.2, BLUE)
        middle = (FOUND[0] + LOCATION[0] + LOCATION[1]) / 2
        sheet.arrow((NECK[0] + NECK[1] + 0.04, middle), (x - 0.04, middle))
    rows = (
        ("vessels", VESSELS, "which vessel?", f"cross-entropy\n× {config.heads.vessel_weight:g}, vessel masks"),
        ("found", FOUND, "found:\nan aneurysm here?", f"focal loss and Dice\n× {weight:g}, mask or disc"),
        ("location", LOCATION, "location:\nif so, where?",
         f"cross-entropy × {weight * config.loss.location_weight:g}\nwhere one is"),
    )  # fmt: skip
    absent = {"vessels": "vessel masks", "found": "localizers", "location": "localizers"}
    for name, (y, height), question, taught in rows:
        there = name in shapes.answer
        shape = f"\n{times(shapes.answer[name])}" if there else ""
        sheet.box(x + 0.1, y, width - 0.2, height, question + shape, BLUE, dashed=not there, plain=True)
        sheet.box(loss_x, y, loss_width, height, taught if there else absent[name], ORANGE, dashed=not there)
        if there:
            sheet.arrow((loss_x - 0.04, y + height / 2), (x + width - 0.07, y + height / 2), color=ORANGE)
    if "vessels" in shapes.answer:
        middle = VESSELS[0] + VESSELS[1] / 2
        sheet.arrow((NECK[0] + NECK[1] + 0.04, middle), (x + 0.06, middle))


def _heat(sheet: Sheet, shapes: Stage1Shapes) -> None:
    """The locations' heatmaps and what their peaks add to the logits."""
    (x, width), there = HEADS, "heat" in shapes.answer
    middle, n = x + width / 2, len(LABELS)
    words = f"found × location, found\n{times(shapes.answer['heat'])}" if there else "no maps"
    sheet.box(x, *_across(HEAT, width), words, GREEN, dashed=not there)
    peaks = f"peaks of the {n} maps\nabove {HEAT_PRIOR:g},\n× {n} learned weights"
    sheet.box(x, *_across(POOLED, width), peaks.replace("-", "\u2212"), BLUE, dashed=not there)
    if there:
        sheet.arrow((middle, LOCATION[0] + LOCATION[1] + 0.12), (middle, HEAT[0] - 0.03))
        sheet.arrow((middle, HEAT[0] + HEAT[1] + 0.03), (middle, POOLED[0] - 0.03))
        sheet.arrow((middle, POOLED[0] + POOLED[1] + 0.03), (middle, SUM[0] - 0.03))


def _logits(sheet: Sheet, config: Stage1Config, model: Stage1Net, shapes: Stage1Shapes) -> None:
    """From the pooled features and the peaks to the 14 logits."""
    n_pooled, n, middle = model.logits[-1].in_features, len(LABELS), SUM[0] + SUM[1] / 2
    pooled_end, (neck_x, neck_width) = POOLED[0] + POOLED[1] + 0.03, NECK
    features_x = ENCODER[0] + ENCODER[1] / 2
    words = f"dropout {config.heads.drop_rate:g},\nlinear {n_pooled} \u2192 {n}"
    sheet.box(neck_x, *_across(SUM, neck_width), words, BLUE)
    sheet.arrow((features_x, pooled_end), (features_x, middle), (neck_x - 0.04, middle))
    if shapes.fine:
        sheet.arrow((neck_x + neck_width / 2, pooled_end), (neck_x + neck_width / 2, SUM[0] - 0.03))
    sheet.box(HEADS[0], *_across(SUM, HEADS[1]), f"sum: {n} logits", GREEN)
    sheet.arrow((neck_x + neck_width + 0.04, middle), (HEADS[0] - 0.04, middle))
    kind = "focal loss" if config.loss.logits == "focal" else "cross-entropy"
    words = (
        f"{kind} × {config.loss.logits_weight:g}\n(Present × {config.loss.present_weight:g});\n"
        f"positive: a localizer\nwithin {config.sampling.label_mm:g} mm"
    )
    sheet.box(LOSS[0], SUM[0] - 0.1, LOSS[1], SUM[1] + 0.2, words, ORANGE)
    sheet.arrow((LOSS[0] - 0.04, middle), (HEADS[0] + HEADS[1] + 0.04, middle), color=ORANGE)
