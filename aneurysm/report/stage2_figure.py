"""The architecture of stage 2 as a drawing, with the shapes and settings of a model that is there."""

from __future__ import annotations

from torch import nn

from aneurysm.labels import LABELS
from aneurysm.report.drawing import BLUE, GREEN, ORANGE, QUIET, Sheet, legend
from aneurysm.stage2.attention import REACH_MM
from aneurysm.stage2.config import Stage2Config
from aneurysm.stage2.max_baseline import SMOOTH_MM, MaxBaseline
from aneurysm.stage2.model import N_NUMBERS, WAVELENGTHS_MM, Stage2Net

# Left edge and width, in inches, of the columns; top and height of the rows.
INPUTS, EMBEDDING, LAYERS, ANSWER, LOSS = (0.15, 1.62), (2.02, 1.83), (4.15, 1.8), (6.25, 1.8), (8.25, 1.62)
TOP, END = 0.42, 4.3  # of the transformer
JUDGE, PLAIN, POOL, SUM = (TOP, 1.02), (1.75, 1.38), (3.43, 0.87), (4.62, 0.66)
NAMES = {"logits": "logits", "heat": "heatmap peaks", "peaks": "their x, y"}


def stage2_figure(model: Stage2Net, config: Stage2Config) -> Sheet:
    """The figure; parts that this model does not have are dashed."""
    sheet = Sheet(5.85)
    titles = ("Stage 1 on a slice", "Embedding", "Transformer", "Answer", "Taught by")
    sheet.column_titles((INPUTS, EMBEDDING, LAYERS, ANSWER, LOSS), titles)
    _numbers(sheet, model)
    _features(sheet, model, config)
    _place(sheet, model)
    _layers(sheet, model, config)
    _slices(sheet, model, config)
    _series(sheet, model, config)
    legend(sheet, 5.65)
    return sheet


def _row(sheet: Sheet, y: float, height: float, words: str, there: bool = True) -> None:
    """A box of the column of embeddings, with its arrow into the transformer."""
    x, width = EMBEDDING
    sheet.box(x, y, width, height, words, BLUE, dashed=not there)
    if there:
        sheet.arrow((x + width + 0.04, y + height / 2), (LAYERS[0] - 0.04, y + height / 2))


def _input(sheet: Sheet, y: float, height: float, words: str, there: bool = True) -> None:
    """A box of the column of inputs, with its arrow into the embedding."""
    x, width = INPUTS
    sheet.box(x, y, width, height, words, QUIET, dashed=not there)
    if there:
        sheet.arrow((x + width + 0.04, y + height / 2), (EMBEDDING[0] - 0.04, y + height / 2))


def _linear(layer: nn.Linear) -> str:
    return f"linear {layer.in_features} \u2192 {layer.out_features}"


def _numbers(sheet: Sheet, model: Stage2Net) -> None:
    """Logits, heat and peaks: one vector."""
    for place, (name, n) in enumerate(N_NUMBERS.items()):
        _input(sheet, TOP + 0.4 * place, 0.33, f"{n} {NAMES[name]}", name in model.embed.names)
    numbers, height = model.embed.numbers, 1.13
    words = f"less mean, over sd,\n{_linear(numbers)}" if numbers else "no numbers"
    _row(sheet, TOP, height, words, numbers is not None)


def _features(sheet: Sheet, model: Stage2Net, config: Stage2Config) -> None:
    there, n = model.embed.features is not None, model.embed.n_features
    _input(sheet, 1.75, 0.56, f"{n} features\nof the encoder", there)
    words = (
        f"layer norm, dropout {config.net.input_dropout:g},\n{_linear(model.embed.features[-1])}"
        if there
        else "no features"
    )
    _row(sheet, 1.75, 0.56, words, there)


def _place(sheet: Sheet, model: Stage2Net) -> None:
    """What is known of a slice apart from stage 1: how high it lies, and of which kind its series is."""
    low, high = WAVELENGTHS_MM
    depth, n_waves = model.embed.depth, len(model.embed.wavelengths_mm)
    sheet.title(INPUTS[0], 2.72, "Its place")
    _input(sheet, 2.82, 0.66, "mm below the\nuppermost slice")
    _row(sheet, 2.82, 0.66, (
        f"sine, cosine of {n_waves}\nwaves, {low:g} to {high:g} mm,\n{_linear(depth)}"
    ))  # fmt: skip
    _input(sheet, 3.64, 0.66, "the series' kind\nand plane")
    modality, plane = model.embed.modality, model.embed.plane
    _row(sheet, 3.64, 0.66, f"{modality.num_embeddings} and {plane.num_embeddings} vectors,\n0: not known")


def _layers(sheet: Sheet, model: Stage2Net, config: Stage2Config) -> None:
    (x, width), net = LAYERS, config.net
    sheet.group(x, TOP, width, END - TOP, BLUE)
    sheet.box(x + 0.1, TOP + 0.1, width - 0.2, 0.85, (
        f"sum: a token of {net.width}\nfor each slice, and\na class token"
    ), plain=True)  # fmt: skip
    n_layers = len(model.layers)
    words = f"{n_layers} layers, pre-norm:" if n_layers > 1 else "1 layer, pre-norm:"
    sheet.text(x + width / 2, TOP + 1.06, words, ha="center")
    low, high = REACH_MM
    sheet.box(x + 0.1, TOP + 1.3, width - 0.2, 1.04, (
        f"attention, {model.heads} heads,\nless distance / reach;\nreach of a head: {low:g}\nto {high:g} mm"
    ), plain=True)  # fmt: skip
    inner = model.layers[0].feed_forward[0]
    sheet.box(x + 0.1, TOP + 2.44, width - 0.2, 0.6, (
        f"feed-forward, GELU:\n{inner.in_features} \u2192 {inner.out_features} \u2192 {inner.in_features}"
    ), plain=True)  # fmt: skip
    sheet.box(x + 0.1, TOP + 3.14, width - 0.2, 0.62, f"layer norm:\nslices × {net.width}", plain=True)


def _slices(sheet: Sheet, model: Stage2Net, config: Stage2Config) -> None:
    """The slices judged again, and the maximum over them."""
    (x, width), n, judge, plain = ANSWER, len(LABELS), model.judge, model.plain
    y, height = JUDGE
    sheet.box(x, y, width, height, (
        f"each slice again:\nstage 1's logits, scaled,\n+ linear {config.net.width} \u2192 {n}:\nslices × {n}"
        if judge else "slices not judged again"
    ), BLUE, dashed=judge is None)  # fmt: skip
    taught, loss = judge is not None and config.loss.slice_weight > 0, config.loss
    sheet.box(*LOSS[:1], y, LOSS[1], height, (
        f"cross-entropy × {loss.slice_weight:g};\na localizer within\n{loss.slice_mm:g} mm: yes, none\n"
        f"within {loss.clear_mm:g} mm: no"
        if taught else "slices not taught"
    ), ORANGE, dashed=not taught)  # fmt: skip
    if judge:
        sheet.arrow((LAYERS[0] + LAYERS[1] + 0.04, y + height / 2), (x - 0.04, y + height / 2))
        sheet.arrow((x + width / 2, y + height + 0.03), (x + width / 2, PLAIN[0] - 0.04))
    if taught:
        sheet.arrow((LOSS[0] - 0.04, y + height / 2), (x + width + 0.04, y + height / 2), color=ORANGE)
    sheet.box(x, PLAIN[0], width, PLAIN[1], _maxima(plain), BLUE, dashed=plain is None)
    if plain:
        right, middle, low = x + width, PLAIN[0] + PLAIN[1] / 2, SUM[0] - 0.2
        sheet.arrow((right + 0.03, middle), (right + 0.1, middle), (right + 0.1, low), (right - 0.3, low),
                    (right - 0.3, SUM[0] - 0.03))  # fmt: skip


def _maxima(plain: MaxBaseline | None) -> str:
    """What the plain maximum is made from."""
    if plain is None:
        return "no plain maximum"
    own = " and ".join(["logit"] * plain.with_logits + ["heat"] * plain.with_heat)
    elsewhere = ",\nlogit elsewhere" if plain.with_logits else ""
    smooth = ", ".join(f"{mm:g}" for mm in SMOOTH_MM)
    n_weights = plain.weight.shape[1]
    return f"highest over slices:\nown {own}{elsewhere};\nsmoothed over\n{smooth} mm;\n{n_weights} learned weights"


def _series(sheet: Sheet, model: Stage2Net, config: Stage2Config) -> None:
    """What is pooled over the slices, and the sum."""
    (x, width), n, there = ANSWER, len(LABELS), model.answer is not None
    words = "no pooling:\ngem, mean, max, cls"
    if there:
        words = f"{', '.join(config.net.pooling)}\nover the slices,\ndropout,\n{_linear(model.answer[-1])}"
        middle = POOL[0] + POOL[1] / 2
        sheet.arrow((LAYERS[0] + LAYERS[1] + 0.04, middle), (x - 0.04, middle))
        sheet.arrow((x + width / 2, POOL[0] + POOL[1] + 0.03), (x + width / 2, SUM[0] - 0.03))
    sheet.box(x, POOL[0], width, POOL[1], words, BLUE, dashed=not there)
    y, height = SUM
    sheet.box(x, y, width, height, f"sum with a learned\nstart: {n} logits", GREEN)
    share = config.loss.present_share
    sheet.box(LOSS[0], y - 0.1, LOSS[1], height + 0.2, (
        f"cross-entropy of the\nseries; Aneurysm\nPresent {share:.0%},\n{n - 1} others {1 - share:.0%}"
    ), ORANGE)  # fmt: skip
    sheet.arrow((LOSS[0] - 0.04, y + height / 2), (x + width + 0.04, y + height / 2), color=ORANGE)
