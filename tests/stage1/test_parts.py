"""Training on parts: of the picture (random_crop), of the encoder (frozen stages); heatmaps in the logits."""

import dataclasses

import numpy as np
import pytest
import torch

from aneurysm.labels import LABELS
from aneurysm.stage1.config import ModelConfig
from aneurysm.stage1.model import HEATMAP_PRIOR, HeatmapHead, Stage1Net
from aneurysm.stage1.sample import Sample, random_crop


def sample_with(points: list[tuple[float, float]], locations: list[int], n_pixels: int = 64) -> Sample:
    """Each pixel's value tells its place; each localizer's pixel has its own vessel."""
    image = np.arange(n_pixels**2, dtype=np.float32).reshape(n_pixels, n_pixels, 1).repeat(3, axis=2) / n_pixels**2
    vessels = np.zeros((n_pixels, n_pixels), np.uint8)
    for (x, y), location in zip(points, locations, strict=True):
        vessels[round(y), round(x)] = location + 1
    return Sample(image, np.array(points, np.float32).reshape(-1, 2), np.array(locations, np.int64), vessels)


@pytest.mark.parametrize("point", [(0, 0), (63, 63), (30, 5), (40.4, 63), (12, 33)])
def test_a_part_shows_its_localizer_and_image_point_and_vessels_move_together(point):
    whole = sample_with([point], [4])
    places = set()
    for seed in range(40):
        part = random_crop(whole, 24, 0.0, np.random.default_rng(seed))
        assert part.image.shape == (24, 24, 3) and part.vessels.shape == (24, 24)
        x, y = np.rint(part.points[0]).astype(int)
        assert part.image[y, x, 0] == whole.image[round(point[1]), round(point[0]), 0]
        assert part.vessels[y, x] == 5 and part.labels[4] == part.labels[-1] == 1
        places.add((int(x), int(y)))
    assert len(places) == 1 if point in ((0, 0), (63, 63)) else len(places) > 10


def test_a_localizer_lies_an_eighth_of_the_part_from_its_edge_where_the_image_allows():
    whole = sample_with([(32, 32)], [0])
    points = np.concatenate([random_crop(whole, 24, 0.0, np.random.default_rng(seed)).points for seed in range(200)])
    assert points.min() == 3 and points.max() == 20  # 24 / 8, and 23 - 24 / 8


def test_labels_are_those_of_the_localizers_shown():
    whole = sample_with([(3, 3), (60, 60)], [2, 7])
    for seed in range(20):
        part = random_crop(whole, 24, 0.0, np.random.default_rng(seed))
        assert part.point_locations.tolist() in ([2], [7])
        assert np.flatnonzero(part.labels).tolist() == [part.point_locations[0], len(LABELS) - 1]
    beyond = dataclasses.replace(whole, points=whole.points[:0], point_locations=whole.point_locations[:0])
    assert (
        random_crop(beyond, 24, 0.0, np.random.default_rng(0)).labels.sum() == 0
    )  # augmentation moved both out of the picture


def test_parts_without_a_localizer_come_from_everywhere_and_no_part_is_larger_than_the_sample():
    whole = sample_with([], [])
    corners = {
        int(random_crop(whole, 24, 0.0, np.random.default_rng(seed)).image[0, 0, 0] * 64**2) for seed in range(300)
    }
    rows, columns = {corner // 64 for corner in corners}, {corner % 64 for corner in corners}
    assert rows == columns == set(range(41))
    assert (
        random_crop(whole, 0, 0.0, np.random.default_rng(0)) is whole
        and random_crop(whole, 64, 0.0, np.random.default_rng(0)) is whole
    )


def test_parts_laid_away_are_negatives_unless_they_happen_to_show_the_localizer():
    whole = sample_with([(3, 3)], [2])
    parts = [random_crop(whole, 24, 1.0, np.random.default_rng(seed)) for seed in range(100)]
    assert all(part.labels[-1] == part.labels[2] == len(part.points) for part in parts)
    assert sum(part.labels[-1] == 0 for part in parts) > 60  # 4 of 41 starts along each axis show it
    some = [random_crop(whole, 24, 0.25, np.random.default_rng(seed)).labels[-1] for seed in range(400)]
    assert 0.65 < np.mean(some) < 0.85


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_frozen_stages_keep_weights_and_statistics_while_the_others_learn(images):
    torch.manual_seed(0)
    model = Stage1Net("tf_efficientnet_lite0", ModelConfig(freeze_stages=2, drop_rate=0), 64).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    prediction = model(images)
    (prediction["logits"].square().sum() + prediction["heatmap"].square().sum()).backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    first = ("encoder.conv_stem", "encoder.bn1", "encoder.blocks.0.", "encoder.blocks.1.")
    assert not any(name.startswith(first) for name in changed)
    for name in before:
        if name.startswith("encoder.blocks.2.") and "num_batches" not in name:
            assert name in changed, name


def test_frozen_norms_keep_their_statistics_and_learn_their_weights(images):
    def trained(freeze_norms: bool) -> tuple[dict, dict]:
        torch.manual_seed(0)
        model = Stage1Net("tf_efficientnet_lite0", ModelConfig(freeze_norms=freeze_norms), 64).train()
        before = {name: value.clone() for name, value in model.encoder.bn2.state_dict().items()}
        model(images)["features"].square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        return before, model.encoder.bn2.state_dict()

    for freeze_norms in (False, True):
        before, after = trained(freeze_norms)
        assert torch.equal(before["running_mean"], after["running_mean"]) == freeze_norms
        assert not torch.equal(before["weight"], after["weight"])


def test_nothing_is_frozen_unless_asked_for():
    model = Stage1Net("tf_efficientnet_lite0", ModelConfig(), 64)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_location_that_an_aneurysm_would_not_have_takes_no_more_than_3_from_its_logit(images):
    """An aneurysm everywhere, with odds of e, and for certain at the tip of the basilar artery."""
    model = Stage1Net("mobilenetv4_conv_small", ModelConfig(drop_rate=0), 64).eval()
    tip = LABELS.index("Basilar Tip")
    with torch.no_grad():
        for head in (model.heatmap.aneurysm, model.heatmap.location[-1]):
            head.weight.zero_()
            head.bias.zero_()
        model.heatmap.aneurysm.bias[0] = 1.0
        model.heatmap.location[-1].bias[tip] = 40.0
        messages = model(images)["logits"]
        model.evidence_scale.zero_()
        added = messages - model(images)["logits"]
    expected = torch.full((2, 14), -3.0)
    expected[:, tip] = expected[:, 13] = 1.0 + 4.6  # above where heatmaps start, at odds of one in a hundred
    torch.testing.assert_close(added, expected, atol=1e-3, rtol=0)


def test_the_highest_pixel_of_each_locations_heatmap_and_of_that_of_all_aneurysms_are_added_to_the_logits(images):
    model = Stage1Net("mobilenetv4_conv_small", ModelConfig(drop_rate=0), 64).eval()
    with torch.no_grad():
        model.evidence_scale.copy_(torch.linspace(0.1, 1.4, 14))
        prediction = model(images)
        model.evidence_scale.zero_()
        plain = model(images)["logits"]
    assert torch.equal(prediction["heatmap"][:, 13:], prediction["aneurysm_map"])
    highest = prediction["heatmap"].flatten(2).max(dim=2).values - HEATMAP_PRIOR
    highest[:, :13] = highest[:, :13].clamp(min=-3)
    expected = highest * torch.linspace(0.1, 1.4, 14)
    torch.testing.assert_close(prediction["logits"] - plain, expected, atol=1e-4, rtol=1e-4)


def test_a_part_of_an_input_knows_its_place_in_it():
    """With look and whole picture left out, the location's logits of a part are those of the input, there."""
    head = HeatmapHead(width=8, n_features=5, image_size=64).eval()
    with torch.no_grad():
        for left_out in (head.pixel, head.pooled):
            left_out.weight.zero_()
        features = torch.rand(2, 5)
        *_, whole = head(torch.rand(2, 8, 16, 16), features, 64, None)
        corner = torch.tensor([[16.0, 32.0], [0.0, 8.0]])  # column, row
        *_, part = head(torch.rand(2, 8, 8, 8), features, 32, corner)
    torch.testing.assert_close(part[0], whole[0, :, 8:16, 4:12])
    torch.testing.assert_close(part[1], whole[1, :, 2:10, 0:8])
    assert (whole[0] - whole[0].flip(2)).abs().max() > 0.05  # left and right differ
