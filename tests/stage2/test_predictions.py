"""What stage 2 and the maximum say about a series, and tables of answers: by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.labels import MIRROR
from aneurysm.stage2.config import NetConfig, Stage2Config, TokensConfig
from aneurysm.stage2.evaluate import Evaluation, ensemble_text, ranks_in_folds
from aneurysm.stage2.model import Stage2Net
from aneurysm.stage2.predict import max_baseline, predict_series
from aneurysm.training.config import TrainingConfig
from tests.stage2_series import features_of

SMALL = NetConfig(width=16, depth=1, heads=2)
TINY = Stage2Config(net=SMALL, training=TrainingConfig(precision="fp32"))


@pytest.mark.usefixtures("native_format")
def test_the_mean_over_views_puts_left_and_right_back():
    """At first the model is the maximum: mirrored logits that say the same lead to the same answer."""
    torch.manual_seed(0)
    model = Stage2Net(SMALL, ("logits",), 4).eval()
    logits = np.random.default_rng(0).normal(-3, 2, (1, 9, 14))
    same = features_of(np.concatenate([logits, logits[..., list(MIRROR)]]))
    wrong = features_of(np.concatenate([logits, logits]))
    config = replace(TINY, tokens=TokensConfig(inputs=("logits",)))
    alone = predict_series(model, config, features_of(logits), "CTA", "axial")
    assert np.allclose(predict_series(model, config, same, "CTA", "axial"), alone, atol=2e-3)
    assert np.abs(predict_series(model, config, wrong, "CTA", "axial") - alone).max() > 0.1
    untold = replace(config, tokens=replace(config.tokens, tta=False))
    assert np.array_equal(predict_series(model, untold, wrong, "CTA", "axial"), alone)


def test_features_of_another_encoder_are_refused():
    with pytest.raises(ValueError, match="expected 7 features a slice, found 4"):
        predict_series(Stage2Net(SMALL, ("logits",), 7), TINY, features_of(np.zeros((1, 3, 14))), None, None)


def test_the_plain_maximum_by_hand():
    logits = np.zeros((2, 3, 14))
    logits[0, :, 0] = [-1, np.log(3), 0]  # Left Infraclinoid: probability 3/4
    logits[1, :, 1] = [np.log(1 / 3), -5, -5]  # and mirrored, as the right one: 1/4
    assert max_baseline(features_of(logits), tta=False)[:3] == pytest.approx([0.75, 0.5, 0.5], abs=1e-3)
    assert max_baseline(features_of(logits), tta=True)[:3] == pytest.approx([0.5, 0.5, 0.5], abs=1e-3)


def test_ranks_within_folds_by_hand():
    predictions = np.tile([[0.9], [0.1], [0.1], [0.3], [0.2]], 14)
    ranks = ranks_in_folds(predictions, np.array([0, 0, 0, 1, 1]))
    assert ranks[:, 5] == pytest.approx([1, 0.5, 0.5, 1, 0.5])


def test_answers_about_other_series_are_not_averaged():
    first = Evaluation(pd.DataFrame({"SeriesInstanceUID": ["a"]}), *np.zeros((2, 1, 14)), 0)
    other = replace(first, series=pd.DataFrame({"SeriesInstanceUID": ["b"]}))
    with pytest.raises(ValueError, match="one, two: expected predictions for the same series"):
        ensemble_text({"one": first, "two": other})
