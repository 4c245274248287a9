"""Scores of dense heads that say how often they are right."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from earthgpt import calibration
from earthgpt.calibration import Judged, calibrate, fit_objects, fit_scenes, judge
from earthgpt.config import Source
from earthgpt.datasets import synthetic
from earthgpt.metrics.reliability import expected_calibration_error
from earthgpt.model.loading import load
from earthgpt.training import held_out
from earthgpt.types import EarthGPTError


@pytest.fixture(scope="module")
def tiny():
    return load("earthgpt-tiny")


@pytest.fixture(scope="module")
def scenes():
    return list(synthetic.DATASET.read("", "val"))[:12]


def test_objects_are_fitted_to_what_was_right():
    rng = np.random.default_rng(0)
    true = rng.normal(size=40_000) * 2
    right = (rng.random(40_000) < 1 / (1 + np.exp(-true))).astype(float)
    kinds = rng.integers(0, 2, 40_000)
    # What the heads say is half of the logit that would be true, and one more, or two more for the second class.
    heads = true / 2 + 1 + kinds
    few = heads[:100], kinds[:100], 1 / (1 + np.exp(-true[:100]))
    scale, shifts = fit_objects([(heads, kinds, right), few], 3)
    assert scale == pytest.approx(2, abs=0.1) and shifts[:2] == pytest.approx((-2, -4), abs=0.25)
    assert shifts[2] == pytest.approx(sum(shifts[:2]) / 2, abs=0.2)  # nothing is known of the third
    said = Judged(scale * heads + np.array(shifts)[kinds], kinds, right, ())
    assert expected_calibration_error(said.scores, right) < 0.01
    assert expected_calibration_error(Judged(heads, kinds, right, ()).scores, right) > 0.1
    # Of a class that was seen twice, next to nothing is said.
    rare = np.append(heads, [0.0, 0.0]), np.append(kinds, [2, 2]), np.append(right, [1, 1])
    assert fit_objects([rare, few], 3)[1][2] == pytest.approx(shifts[2], abs=0.1)


def test_objects_that_are_hardly_ever_right_are_fitted_too():
    heads = np.log(np.linspace(0.05, 0.4, 400) / (1 - np.linspace(0.05, 0.4, 400)))
    right = np.zeros(400)
    right[-1] = 1
    scale, shifts = fit_objects([(heads, np.zeros(400, int), right)], 1)
    likely = (1 + np.tanh((scale * heads + shifts[0]) / 2)) / 2
    assert likely.mean() == pytest.approx(right.mean(), abs=0.002)


def test_scenes_are_fitted_to_what_was_right():
    # Two classes; the heads are always as sure as 0.9, and right in three of four.
    logits = np.array([math.log(0.9), math.log(0.1)])
    scale = fit_scenes([[(logits, 0), (logits, 0), (logits, 0), (logits, 1)]])
    assert scale == pytest.approx(math.log(3) / math.log(9), rel=1e-4)


def test_heads_that_are_mostly_wrong_are_not_turned_around():
    """The least likely is not made the likeliest."""
    wrong = [(np.array([2.0, 0.0]), 1)] * 30 + [(np.array([2.0, 0.0]), 0)] * 3
    assert 0 < fit_scenes([wrong]) < 0.1
    heads = np.linspace(-1, 3, 400)
    right = (np.arange(400) < 200).astype(float)  # the less likely half
    assert fit_objects([(heads, np.zeros(400, int), right)], 1)[0] > 0


def test_what_heads_say_is_judged_by_the_facts(tiny, scenes):
    found = judge(*tiny, scenes)
    assert len(found.scenes) == len(scenes)
    assert all(
        true == sample.choices.index(sample.label) for (_, true), sample in zip(found.scenes, scenes, strict=True)
    )
    assert np.mean([logits.argmax() == true for logits, true in found.scenes]) > 0.9
    assert 0 < found.right.mean() < 1 and len(found.right) == len(found.objects) == len(found.kinds)
    names = tiny[0].dense_heads.vocabulary.objects
    assert {names[kind] for kind in found.kinds} >= {one.label for sample in scenes for one in sample.regions}
    sure, unsure = found.objects > np.median(found.objects), found.objects <= np.median(found.objects)
    assert found.right[sure].mean() > found.right[unsure].mean()
    unmarked = [replace(sample, regions=(), classes=()) for sample in scenes]
    assert not len(judge(*tiny, unmarked).right)


def test_a_model_is_calibrated_in_its_last_layers(tiny, scenes, monkeypatch):
    model, processor = load("earthgpt-tiny")
    heads = model.dense_heads
    heads.rescale_objects(0.5, 1.0)
    heads.rescale_scenes(0.25)
    monkeypatch.setattr(calibration, "FEWEST", 10)
    told = []
    before = judge(model, processor, scenes)
    calibrate(model, processor, [scenes, scenes[:1]], told.append)
    after = judge(model, processor, scenes)
    assert expected_calibration_error(after.scores, after.right) < expected_calibration_error(
        before.scores, before.right
    )
    likely = [torch.softmax(torch.tensor(logits), 0)[true] for logits, true in after.scenes]
    unsure = [torch.softmax(torch.tensor(logits), 0)[true] for logits, true in before.scenes]
    assert np.mean(likely) > np.mean(unsure)
    assert [text.split(":")[0] for text in told] == ["Scores of objects", "Classes of scenes"]
    monkeypatch.setattr(calibration, "FEWEST", 10_000)
    with pytest.raises(EarthGPTError, match="No validation set gave 10000 objects or scenes"):
        calibrate(model, processor, [scenes])
    model.drop_dense_heads()
    with pytest.raises(EarthGPTError, match="this model has none"):
        calibrate(model, processor, [scenes])


def test_the_images_of_calibration_are_a_share_drawn_with_a_fixed_seed():
    source = Source(dataset="synthetic", split="val")
    names = Counter(one.name for one in held_out(source, 0.5))
    assert names == Counter(one.name for one in held_out(source, 0.5))
    assert len(names) == len(synthetic.SPLITS["val"]) / 2 and set(names.values()) == {1}
