"""The figures of the README: nothing overlaps, ranges are those of the settings, models have not seen what is shown."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from shutil import copyfile

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path as Line
from matplotlib.text import Text

from aneurysm.cache.cache import open_cache
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.tables import read_spots
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.report.drawing import Sheet
from aneurysm.report.example import held_out_example, miss_mm
from aneurysm.report.pipeline_figure import pipeline_figure
from aneurysm.report.sampling_figure import SampledSeries, sampled_pair, sampling_figure
from aneurysm.report.stage1_figure import stage1_figure, stage1_shapes
from aneurysm.report.stage2_figure import stage2_figure
from aneurysm.stage1.config import ModelConfig, SamplingConfig, Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage2.config import NetConfig, Stage2Config, TokensConfig
from aneurysm.stage2.model import Stage2Net
from aneurysm.training.distributed import DistContext
from scripts.figures import FiguresConfig, main
from tests.end_to_end_data import BROKEN, ENCODER, STAGE1
from tests.stage1_cache import SLICE_MM, make_spots, spot, write_data, write_series

ALONE = DistContext(0, 1, torch.device("cpu"))
CLOSE = 1.0  # pixels by which boxes of words may overlap: letters leave room in theirs
MARKED = ("axial", "enhanced", "lies")  # series of end_to_end_data that get a localizer


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Thin slices and two heads of 60 mm: s0 with an aneurysm 15 mm below its top, s1 without one."""
    root = tmp_path_factory.mktemp("sampling")
    slices = np.random.default_rng(0).random((61, SIZE, SIZE), np.float32)
    for uid in ("s0", "s1"):
        write_series(root, uid, slices, np.arange(61.0) - 200, "axial")
    return open_cache(root)


def pair() -> tuple[SampledSeries, SampledSeries]:
    rows = [spot("s0", 0, 45, -155.0, "axial", x=200.0, y=240.0, location="Basilar Tip")]
    rows += [spot(uid, 0, index, index - 200.0, "axial") for uid in ("s0", "s1") for index in (5, 12)]
    return sampled_pair(make_spots(rows), {"s0": np.array([2, 20]), "s1": np.array([30, 40])})


@pytest.fixture(scope="module")
def root(trained_root, tmp_path_factory) -> Path:
    """data/ and model/ of trained_root, with localizers where nobody looked for any."""
    root = tmp_path_factory.mktemp("figures")
    (root / "data").mkdir()
    for name in ("series", "npy_sequence", "train_meta.csv"):
        (root / "data" / name).symlink_to(trained_root / "data" / name)
    (root / "model").symlink_to(trained_root / "model")
    series = pd.read_csv(trained_root / "data" / "train_2_folds.csv")
    series[LABELS[-1]] = series.SeriesInstanceUID.isin(MARKED).astype(int)
    series.to_csv(root / "data" / "train_2_folds.csv", index=False)
    rows, cache = [], open_cache(root / "data")
    for uid, fold, plane in zip(series.SeriesInstanceUID, series.fold, series.plane, strict=True):
        if uid not in BROKEN:
            about = {"x": 250.0, "y": 260.0, "location": "Basilar Tip"} if uid in MARKED else {}
            rows += [spot(uid, fold, 5, cache.position_mm(uid)[5], plane, **about)]
            rows += [spot(uid, fold, 15, cache.position_mm(uid)[15], plane)]
    make_spots(rows).to_csv(root / "data" / "train_stage1_2_folds.csv", index=False)
    (root / "data" / "train_localizers.csv").write_text("SeriesInstanceUID,SOPInstanceUID,coordinates,location\n")
    return root


def example(root: Path, model: str = "model"):
    return held_out_example(open_cache(root / "data"), ModelPaths(root / model, ENCODER), 2, ALONE)


def stage2(**tokens_and_net) -> Sheet:
    config = Stage2Config(TokensConfig(tokens_and_net.pop("inputs", TokensConfig.inputs)), NetConfig(**tokens_and_net))
    return stage2_figure(Stage2Net(config.net, config.tokens.inputs, 1280), config)


def stage1(**heads) -> Sheet:
    config = Stage1Config(ENCODER, STAGE1.input, ModelConfig(neck_width=16, **heads))
    return stage1_figure(Stage1Net(ENCODER, config.heads, config.input.image_size).eval(), config)


FIGURES = {
    "pipeline": lambda cache, root: pipeline_figure(example(root)),
    "sampling": lambda cache, root: sampling_figure(cache, pair(), Stage1Config(), 20.0),
    "stage 1 with all heads": lambda cache, root: stage1(vessel_weight=1.0, freeze_stages=1),
    "stage 1 without maps": lambda cache, root: stage1(heat_weight=0.0),
    "stage 2 of the demo": lambda cache, root: stage2(
        inputs=("logits", "heat", "peaks"), width=64, depth=2, heads=4, pooling=()
    ),
    "stage 2, large": lambda cache, root: stage2(),
    "stage 2, features alone": lambda cache, root: stage2(inputs=("features",), depth=1),
}


@pytest.fixture(scope="module", params=FIGURES)
def drawn(request, cache, root) -> Iterator[tuple[Sheet, list[tuple[str, object]]]]:
    """A figure, and words and box (pixels) of each text that was drawn."""
    sheet, texts, draw = FIGURES[request.param](cache, root), [], Text.draw

    def kept(text, renderer):
        draw(text, renderer)
        if text.get_visible() and text.get_text().strip():
            texts.append((text.get_text(), text.get_window_extent(renderer)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", kept)
        FigureCanvasAgg(sheet.figure).draw()
    return sheet, texts


def test_no_two_texts_overlap(drawn):
    _, texts = drawn
    assert len(texts) > 15
    for (words, a), (others, b) in combinations(texts, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= CLOSE or down <= CLOSE, (words, others, across, down)


def test_no_text_leaves_the_canvas(drawn):
    sheet, texts = drawn
    width, height = sheet.figure.canvas.get_width_height()
    for words, box in texts:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, words


def test_the_words_of_a_box_fit_into_it(drawn):
    sheet, _ = drawn
    for patch, text in sheet.boxed:
        outer, inner = patch.get_window_extent(), text.get_window_extent()
        if text.get_text():
            assert outer.x0 < inner.x0 and inner.x1 < outer.x1, text.get_text()
            assert outer.y0 <= inner.y0 and inner.y1 <= outer.y1, text.get_text()


def test_no_arrow_runs_through_words(drawn):
    sheet, texts = drawn
    lines = [Line(sheet.page.transData.transform(points)) for points in sheet.paths]
    assert lines or not sheet.boxed
    for line in lines:
        assert not [words for words, box in texts if line.intersects_bbox(box, filled=False)]


def marks(sheet: Sheet, gid: str) -> list:
    return sheet.figure.findobj(lambda artist: artist.get_gid() == gid)


def test_ranges_are_as_wide_as_the_settings_say_and_lie_around_the_localizer(cache):
    config = Stage1Config(sampling=SamplingConfig(label_mm=4.5))
    sheet = sampling_figure(cache, pair(), config, 22.0)
    for gid, mm in (("label_mm", 4.5), ("safe_mm", 22.0)):
        (band,) = marks(sheet, gid)  # of s0, whose localizer lies 60 - 45 mm below the top; s1 has none
        assert sorted([band.get_y(), band.get_y() + band.get_height()]) == [15 - mm, 15 + mm]
    assert any("within 4.5 mm" in text.get_text() for text in sheet.page.texts)


def test_each_kind_of_slice_is_marked_at_its_own_height(cache):
    sheet = sampling_figure(cache, pair(), Stage1Config(), 20.0)
    heights = {kind: [list(line.get_ydata()) for line in marks(sheet, kind)] for kind in ("positive", "safe negative")}
    assert heights == {"positive": [[15], []], "safe negative": [[55, 48], [55, 48]]}
    assert [list(line.get_ydata()) for line in marks(sheet, "hard negative")] == [[58, 40], [30, 20]]


def test_a_negative_that_is_too_near_to_a_localizer_is_told(cache):
    with pytest.raises(ValueError, match="s0: expected hard negatives at least 26 mm from a localizer, found 25.0"):
        sampling_figure(cache, pair(), Stage1Config(), 26.0)


def test_series_of_one_kind_are_compared_and_without_any_it_is_said():
    rows = [spot("a", 0, 3, 3.0, "axial", "CTA", x=1.0, y=1.0, location="Basilar Tip")]
    rows += [spot(uid, 0, 60, 60.0, "axial", kind) for uid, kind in (("a", "CTA"), ("b", "MRA"), ("c", "CTA"))]
    assert [one.uid for one in sampled_pair(make_spots(rows), {})] == ["a", "c"]
    with pytest.raises(LookupError, match="of one kind"):
        sampled_pair(make_spots(rows[:3]), {})


def test_shapes_are_those_that_the_model_answers_with():
    model = Stage1Net(ENCODER, ModelConfig(neck_width=16, heat_stride=8), 64).eval()
    shapes = stage1_shapes(model, 64)
    assert shapes.fine == (16, 8, 8) and shapes.answer["heat"] == (14, 8, 8) and shapes.answer["logits"] == (14,)
    assert [shapes.maps[i][1] for i in shapes.used] == [8, 4, 2]  # 64 pixels by strides of 8, 16, 32


def test_the_example_is_a_held_out_positive_series_with_the_answer_of_its_own_fold(root):
    found = example(root)
    table = pd.read_csv(root / "data" / "train_2_folds.csv").set_index("SeriesInstanceUID")
    assert found.uid in MARKED and found.series.fold == table.fold[found.uid]
    others = table[table.fold != found.series.fold]
    np.testing.assert_allclose(found.prevalence, others[list(LABELS)].mean())
    features = ModelPaths(root / "model", ENCODER).features(found.series.fold) / f"{found.uid}.safetensors"
    assert features.exists() and found.heat().shape == (16, 16)


def test_distance_from_the_nearest_localizer_is_in_millimetres():
    localizers = make_spots([spot("s", 0, 1, 10.0, "axial", x=x, y=8.0, location="Basilar Tip") for x in (90.0, 6.0)])
    peak = {"x": 0.0, "y": 0.0, "position_mm": 22.0}
    assert miss_mm(peak, localizers, {"cached_col_mm": 0.5, "cached_row_mm": 0.5}) == 13.0  # 3, 4 and 12 mm


@pytest.mark.parametrize("file", ["last.pth", "stage2/last.pth"])
def test_a_model_that_has_seen_the_series_is_refused(root, file):
    true, swapped = ModelPaths(root / "model", ENCODER), ModelPaths(root / f"swapped {file[:6]}", ENCODER)
    for fold in range(2):
        (swapped.fold(fold) / "stage2").mkdir(parents=True)
        swapped.features(fold).symlink_to(true.features(fold).resolve())
        for name in ("last.pth", "stage2/last.pth"):
            copyfile(true.fold(1 - fold if name == file else fold) / name, swapped.fold(fold) / name)
    with pytest.raises(ValueError, match="expected a model that has not seen fold"):
        held_out_example(open_cache(root / "data"), swapped, 2, ALONE)


def test_without_models_the_script_draws_what_needs_none(root, tmp_path, capsys):
    main(FiguresConfig(root / "data", out=tmp_path))
    output = capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "phantoms.png")).shape[1] == 1800
    assert "sampling.png" in output and not (tmp_path / "pipeline.png").exists()


def test_a_figure_is_written_wide_and_on_white(tmp_path):
    write_data(tmp_path)
    spots = read_spots(tmp_path, 2)
    sheet = sampling_figure(open_cache(tmp_path), sampled_pair(spots, {}), Stage1Config(), 3 * SLICE_MM)
    sheet.save(tmp_path / "sampling.png")
    picture = cv2.imread(str(tmp_path / "sampling.png"))
    assert picture.shape[1] == 1800 and (picture[0] == 255).all() and picture.std() > 30
