"""Scenes are the same for everybody, and everything stands where its box says."""

import hashlib
import random
import subprocess
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from earthgpt.datasets import synthetic
from earthgpt.datasets.synthetic import CLASSES, DATASET, KINDS, SPLITS, scene
from earthgpt.lookup import find
from earthgpt.types import EarthGPTError, OrientedBox, Sensor

HASH = """
import hashlib
from earthgpt.datasets.synthetic import scene
for seed, sensor in ((0, "optical"), (1, "sar"), (2, "infrared")):
    sample = scene(seed, sensor)
    facts = repr((sample.label, sample.captions, sample.regions, sample.size))
    print(hashlib.sha256(sample.image().tobytes() + facts.encode()).hexdigest())
"""


def scenes(sensor, count, kind=None):
    """The first scenes of a sensor, or of one kind."""
    found = (scene(seed, sensor) for seed in range(1000))
    return [sample for sample, _ in zip((s for s in found if kind in (None, s.label)), range(count), strict=False)]


def inside(sample, grow=0.0) -> np.ndarray:
    """The pixels that lie in some object's box, [H, W]; ``grow`` is added all around, in pixels."""
    width, height = sample.size
    y, x = np.mgrid[:height, :width] + 0.5
    mask = np.zeros((height, width), bool)
    for region in sample.regions:
        corners = np.array(region.box.to_pixels(sample.size))
        middle = corners.mean(axis=0)
        within = np.ones((height, width), bool)
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
            edge = corners[b] - corners[a]
            normal = np.array([edge[1], -edge[0]]) / (np.hypot(*edge) or 1)
            if normal @ (corners[a] - middle) < 0:
                normal = -normal
            within &= normal[0] * (x - corners[a][0]) + normal[1] * (y - corners[a][1]) <= grow
        mask |= within
    return mask


def test_a_seed_gives_the_same_scene_in_another_process():
    here = []
    for seed, sensor in ((0, "optical"), (1, "sar"), (2, "infrared")):
        sample = scene(seed, sensor)
        facts = repr((sample.label, sample.captions, sample.regions, sample.size))
        here.append(hashlib.sha256(sample.image().tobytes() + facts.encode()).hexdigest())
    there = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here
    assert len(set(here)) == 3


def test_other_seeds_and_other_sensors_give_other_scenes():
    pictures = [scene(seed, sensor, (64, 64)).image().tobytes() for seed in range(3) for sensor in KINDS]
    assert len(set(pictures)) == 9


@pytest.mark.parametrize("sensor", KINDS)
def test_pixels_have_the_size_and_channels_of_the_sensor(sensor):
    for size in (None, (96, 64)):
        sample = scene(5, sensor, size)
        pixels = sample.image()
        width, height = sample.size
        assert pixels.dtype == np.uint8
        assert pixels.shape == ((height, width, 3) if sensor is Sensor.OPTICAL else (height, width))
        assert size in (None, sample.size)


def test_a_scene_too_small_for_anything_is_refused():
    with pytest.raises(ValueError, match="at least 64 pixels"):
        scene(0, Sensor.OPTICAL, (64, 63))


def test_ships_are_bright_where_their_boxes_are_on_the_radar_image_of_the_open_sea():
    samples = [sample for sample in scenes(Sensor.SAR, 8, "open sea") if sample.regions]
    assert len(samples) >= 6
    for sample in samples:
        pixels = sample.image().astype(float)
        ship, sea = pixels[inside(sample)].mean(), pixels[~inside(sample, grow=8)].mean()
        assert ship > sea + 40, sample.name


def test_every_single_ship_is_where_its_box_is():
    for sample in scenes(Sensor.SAR, 8, "open sea"):
        pixels = sample.image().astype(float)
        sea = pixels[~inside(sample, grow=8)].mean()
        for region in sample.regions:
            left, top, right, bottom = region.box.bounds.to_pixels(sample.size)
            x, y = (left + right) / 2, (top + bottom) / 2
            spot = pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean()
            assert spot > sea, (sample.name, region)


def test_people_stand_out_from_the_square_in_the_thermal_image():
    for sample in scenes(Sensor.INFRARED, 5, "square"):
        pixels = sample.image().astype(float)
        # Warm is bright, or dark in the images that are black-hot.
        assert abs(pixels[inside(sample)].mean() - pixels[~inside(sample, grow=3)].mean()) > 20, sample.name


@pytest.mark.parametrize("sensor", KINDS)
def test_the_facts_of_a_scene_agree_with_each_other(sensor):
    kinds = Counter()
    for sample in scenes(sensor, 60):
        kinds[sample.label] += 1
        labels, _ = KINDS[sensor][sample.label]
        assert {region.label for region in sample.regions} <= set(labels) <= set(sample.classes)
        assert sample.choices == tuple(KINDS[sensor]) and sample.complete
        assert all(isinstance(region.box, OrientedBox) for region in sample.regions)
        assert all(0 < region.box.area < 0.6 for region in sample.regions)
        for one, other in combinations(sample.regions, 2):
            assert one.box.iou(other.box) == 0
        assert len(sample.captions) == 2
        alone = Counter(region.label for region in sample.regions)
        for label, count in alone.items():
            noun = label if count == 1 else synthetic.PLURALS.get(label, label + "s")
            assert all(noun in caption.lower() for caption in sample.captions)
    assert set(kinds) == set(KINDS[sensor])


def test_a_caption_counts_its_objects():
    sample = scenes(Sensor.SAR, 1, "open sea")[0]
    word = ("no", "a", "two", "three", "four", "five", "six", "many")[min(len(sample.regions), 7)]
    assert f"{word} ship" in sample.captions[1]


def test_all_six_tasks_have_turns_on_every_sensor():
    tasks = [find("tasks", name) for name in DATASET.tasks]
    assert len(tasks) == 6
    for sensor in KINDS:
        samples = scenes(sensor, 12)
        for task in tasks:
            assert any(task.turns(sample, random.Random(0)) for sample in samples), (sensor, task)


def test_the_splits_share_no_scene():
    for one, other in combinations(SPLITS.values(), 2):
        assert not set(one) & set(other)
    assert {split: len(seeds) for split, seeds in SPLITS.items()} == dict(DATASET.counts)


def test_a_split_is_read_in_order_with_the_sensors_in_turn():
    samples = list(DATASET.read("", "val"))
    assert [sample.name for sample in samples[:4]] == ["optical/0", "sar/1", "infrared/2", "optical/3"]
    assert len(samples) == len({sample.name for sample in samples}) == 300
    with pytest.raises(EarthGPTError, match="has splits train, val, test; not 'dev'"):
        DATASET.read("", "dev")


def test_the_classes_of_the_data_set_are_those_of_its_sensors():
    assert set(DATASET.classes) == {label for labels in CLASSES.values() for label in labels}
