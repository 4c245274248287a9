"""Dense heads: targets and losses by hand, and heads that learn where things are and find them again."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.model import EarthGPTForConditionalGeneration, dense
from earthgpt.model.dense import (
    BINS,
    FINER,
    WIDTHS,
    DenseHeads,
    DenseTargets,
    Vocabulary,
    boxes_of,
    distances_of_bins,
    distribution_focal_loss,
    generalized_iou,
    iou,
    places,
    quality_focal_loss,
    turn_of,
)
from earthgpt.types import Box, Conversation, EarthGPTError, OrientedBox, Region, Sample, Sensor

SHIP = Region(Box(0.25, 0.5, 0.5, 0.75), "ship")  # in the middle of an image of 100 x 100
SCENE = Sample(
    Path("a.png"), "a", (100, 100), Sensor.SAR, "port", ("port", "sea"), (), (SHIP,), ("plane", "ship"), True
)
WORDS = Vocabulary.of([SCENE])


def on_grid(targets: DenseTargets, grid: int) -> torch.Tensor:
    """The objects of one image on the level that has so many places along a side [grid, grid, C]."""
    coarse = 4 * targets.objects.shape[1] // 20
    level = targets.objects[0][:coarse] if grid**2 == coarse else targets.objects[0][coarse:]
    return level.view(grid, grid, -1)


def box_at(targets: DenseTargets, place: int) -> list[float]:
    (which,) = (targets.where[:, 1] == place).nonzero()[:, 0]
    return targets.boxes[which].tolist()


def test_the_classes_are_all_that_the_samples_choose_from():
    assert Vocabulary(("port", "sea"), ("plane", "ship"), {"sar": ("plane", "ship")}) == WORDS
    assert Vocabulary.from_dict(WORDS.to_dict()) == WORDS
    with pytest.raises(EarthGPTError, match="older form: train it again"):
        Vocabulary.from_dict({"scenes": ["sea"], "objects": ["ship"]})


def test_an_object_is_at_the_places_of_its_inner_half():
    targets = WORDS.targets(SCENE, 4)
    assert targets.scene.tolist() == [0] and targets.choices.tolist() == [[True, True]]
    places = on_grid(targets, 8)
    # On a grid of 8 the ship spans columns 2 and 3 and rows 4 and 5: its centre is in the last of them, and the inner
    # half starts at the centre of the first.
    assert (places[..., 1] == 1).nonzero().tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]] and not places[..., 0].any()
    assert box_at(targets, 5 * 8 + 3) == [0.25, 0.5, 0.5, 0.75]
    assert not targets.where[:, 0].any() and (targets.where[:, 1] < 64).sum() == 4
    # On a grid of 64 its inner half is 8 places wide, of which those are taken whose centre is within 2 of the middle.
    fine = (on_grid(WORDS.targets(SCENE, 32), 64)[..., 1] == 1).nonzero()
    assert fine.min(0).values.tolist() == [38, 22] and fine.max(0).values.tolist() == [41, 25]


@pytest.mark.parametrize(("tokens", "coarse", "fine"), [(0.7, 0, 1), (0.8, 1, 1), (1.9, 1, 1), (2.1, 1, 0)])
def test_small_objects_are_on_the_fine_level_and_large_ones_on_the_coarse(tokens, coarse, fine):
    side = 8
    box = Box(0.5, 0.5, 0.5 + tokens / side, 0.5 + 0.5 * tokens / side)
    sample = Sample(
        Path("a"), "a", (100, 100), Sensor.SAR, regions=(Region(box, "ship"),), classes=WORDS.objects, complete=True
    )
    targets = WORDS.targets(sample, side)
    on = targets.where[:, 1] < (2 * side) ** 2
    assert (bool(on.any()), bool((~on).any())) == (coarse, fine)
    assert (targets.objects == 1).sum() == len(targets.where) and not (targets.objects == -1).any()
    centres, lengths = places(side)
    assert len(centres) == len(lengths) == targets.objects.shape[1]
    for (_, place), edges in zip(targets.where.tolist(), targets.boxes.tolist(), strict=True):
        x, y = centres[place].tolist()
        assert edges[0] - lengths[place] < x < edges[2] + lengths[place]
        assert edges[1] - lengths[place] < y < edges[3] + lengths[place]


def test_boxes_are_those_of_the_padded_square_and_the_smaller_object_is_in_front():
    wide = Sample(
        Path("b.png"), "b", (200, 100), Sensor.OPTICAL,
        regions=(Region(Box(0.4, 0.4, 0.6, 0.6), "ship"), Region(Box(0, 0, 1, 1), "plane")), classes=WORDS.objects,
    )  # fmt: skip
    targets = WORDS.targets(wide, 5)
    objects = on_grid(targets, 10)
    assert box_at(targets, 55) == pytest.approx([0.4, 0.45, 0.6, 0.55])
    assert objects[5, 5].tolist() == [-1, 1]  # the plane is there, and cannot be seen
    assert box_at(targets, 53) == pytest.approx([0, 0.25, 1, 0.75])
    assert objects[5, 3].tolist() == [1, -1]
    assert objects[0, 0].tolist() == [-1, -1]  # it may hold more than is stated
    assert targets.scene.tolist() == [-1]


def test_targets_of_several_images_know_theirs():
    joined = DenseTargets.join([WORDS.targets(None, 2), WORDS.targets(SCENE, 2), WORDS.targets(SCENE, 2)])
    alone = WORDS.targets(SCENE, 2)
    joined = DenseTargets.join([joined, alone])
    assert len(joined.scene) == 4 and joined.scene.tolist() == [-1, 0, 0, 0]
    for image in (1, 2, 3):
        assert torch.equal(joined.where[joined.where[:, 0] == image][:, 1], alone.where[:, 1])
    assert not (joined.where[:, 0] == 0).any()


def test_a_scene_that_was_not_chosen_from_a_list_is_unknown():
    for choices in ((), ("elsewhere",)):
        alone = Sample(Path("c.png"), "c", (100, 100), Sensor.SAR, label="on the moon", choices=choices)
        assert WORDS.targets(alone, 2).scene.tolist() == [-1]


def test_of_a_class_that_is_stated_all_objects_are():
    sample = Sample(
        Path("c.png"), "c", (100, 100), Sensor.SAR, regions=(SHIP,), classes=("plane",), complete=True
    )  # fmt: skip
    assert WORDS.targets(sample, 2).objects[0, 0].tolist() == [0, 0]
    without = Sample(Path("d.png"), "d", (100, 100), Sensor.SAR, classes=("plane",), complete=True)
    assert WORDS.targets(without, 2).objects[0, 0].tolist() == [0, -1]


def test_nobody_knows_what_is_where_an_object_is_cut():
    cut = Sample(
        Path("c.png"), "c", (100, 100), Sensor.SAR, regions=(SHIP,), classes=WORDS.objects,
        cut=(Region(Box(0.75, 0, 1, 0.5), "plane"),),
    )  # fmt: skip
    for grid in (8, 16):
        objects, part = on_grid(WORDS.targets(cut, 4), grid), grid // 4
        assert (objects[: 2 * part, 3 * part :] == -1).all()
        assert (objects[: 2 * part, : 3 * part] == 0).all() and objects[3 * part - 2, 2 * part - 2].tolist() == [0, 1]


def details(images: int, side: int) -> list[torch.Tensor]:
    """What a CNN may see for each level, of three and of two channels."""
    return [torch.randn(images, width, finer * side, finer * side) for width, finer in zip((3, 2), FINER, strict=True)]


def test_what_is_not_known_is_not_learned():
    heads = DenseHeads(8, (3, 2), WORDS)
    tokens = torch.randn(2, 4, 8, requires_grad=True)
    nothing = WORDS.targets(None, 2)
    loss = heads(tokens, details(2, 2), DenseTargets.join([nothing, nothing]))
    loss.backward()
    assert loss.item() == 0 and not tokens.grad.any()
    assert not any(parameter.grad.any() for parameter in heads.parameters())


def test_quality_focal_loss_by_hand():
    # |0.8 - 0.6|^2 (-0.6 log 0.8 - 0.4 log 0.2), and 0.8^2 -log 0.2 for the same logit with nothing there.
    logit = torch.tensor([0.8]).logit().repeat(2)
    assert quality_focal_loss(logit, torch.tensor([0.6, 0.0])).tolist() == pytest.approx(
        [0.0311065, 1.0300402], rel=1e-4
    )


def test_bins_are_finest_where_edges_are_near():
    values = distances_of_bins()
    assert len(values) == BINS and values[0] == -0.5 and values[-1] == pytest.approx(32)
    assert (values.diff().diff() > 0).all()


def test_the_expected_distances_are_those_that_were_learned():
    values = distances_of_bins()
    wanted = torch.tensor([[-0.5, 0.3, 5.0, 32.0]])
    logits = torch.full((1, 4, BINS), -50.0)
    for i, distance in enumerate(wanted[0].tolist()):
        above = min(max(int((values < distance).sum()), 1), BINS - 1)
        part = (distance - values[above - 1]) / (values[above] - values[above - 1])
        logits[0, i, above - 1 : above + 1] = torch.stack([1 - part, part]).clamp(min=1e-20).log()
    entropy = [-float(p * math.log(p) + (1 - p) * math.log(1 - p)) if 0 < p < 1 else 0.0
               for p in (float(row.softmax(-1).max()) for row in logits[0])]  # fmt: skip
    assert distribution_focal_loss(logits, wanted)[0].tolist() == pytest.approx(entropy, abs=1e-4)  # the least there is
    # On a grid of 2 the first place has its centre at 0.25, and a place is 0.5.
    centres, lengths = places(1)
    assert centres[0].tolist() == [0.25, 0.25] and lengths.tolist() == [0.5] * 4 + [0.25] * 16
    assert boxes_of(logits, centres[:1], lengths[:1])[0].tolist() == pytest.approx([0.5, 0.1, 2.75, 16.25], abs=1e-4)


def test_iou_by_hand():
    one, other = torch.tensor([[0.0, 0.0, 0.2, 0.2]]), torch.tensor([[0.1, 0.0, 0.3, 0.2]])
    assert iou(one, other).tolist() == pytest.approx([1 / 3])


def test_generalized_iou_by_hand():
    one = torch.tensor([[0.0, 0.0, 0.2, 0.2]] * 3)
    others = torch.tensor([[0.0, 0.0, 0.2, 0.2], [0.1, 0.0, 0.3, 0.2], [0.4, 0.0, 0.6, 0.2]])
    assert generalized_iou(one, others).tolist() == pytest.approx([1, 1 / 3, -1 / 3], abs=1e-6)


def test_the_loss_of_a_place_by_hand():
    heads = DenseHeads(8, (3, 2), WORDS)
    with torch.no_grad():
        for layer in (heads.scene, *(one for level in heads.levels for one in (level.object, level.edges))):
            layer.weight.zero_()
            layer.bias.zero_()
    # Of two classes: at four of the 8 x 8 places of the coarse level, and at four of the 16 x 16.
    targets = WORDS.targets(SCENE, 4)
    even, true = math.log(2), torch.tensor([[0.25, 0.5, 0.5, 0.75]])
    expected, classes, parts = even, 0.0, []
    for grid in (8, 16):
        distance = float(distances_of_bins().mean()) / grid  # all are as likely as any
        for x, y in ((0.375 + i * 0.5 / grid, 0.625 + j * 0.5 / grid) for i in (-1, 1) for j in (-1, 1)):
            found = torch.tensor([[x - distance, y - distance, x + distance, y + distance]])
            classes += (0.5 - float(iou(found, true))) ** 2 * even
            away = torch.tensor([[x - 0.25, y - 0.5, 0.5 - x, 0.75 - y]]) * grid
            likely = float(distribution_focal_loss(torch.zeros(1, 4, BINS), away).mean())
            parts.append(0.25 * likely + 2 * (1 - float(generalized_iou(found, true))))
    classes += (2 * (64 + 256) - 8) * 0.25 * even
    expected += (classes + sum(parts)) / 8
    assert heads(torch.randn(1, 16, 8), details(1, 4), targets).item() == pytest.approx(expected, rel=1e-4)


def test_heads_learn_where_things_are_and_find_them():
    torch.manual_seed(0)
    side, samples = 2, []
    for column in range(4):
        box = Box(column / 4, 0.25, (column + 1) / 4, 0.5)
        regions = (Region(box, WORDS.objects[column % 2]),)
        samples.append(
            Sample(Path("c"), "c", (64, 64), Sensor.SAR, regions=regions, classes=WORDS.objects, complete=True)
        )
    targets = DenseTargets.join([WORDS.targets(sample, side) for sample in samples])
    tokens, maps = torch.randn(4, 4, 32), details(4, side)
    heads = DenseHeads(32, (3, 2), WORDS)
    assert [level.object.in_features for level in heads.levels] == list(WIDTHS)
    optimizer = torch.optim.Adam(heads.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        heads(tokens, maps, targets).backward()
        optimizer.step()
    for i, sample in enumerate(samples):
        view, region = (tokens[i : i + 1], [one[i : i + 1] for one in maps]), sample.regions[0]
        ((corners, kinds, scores),) = heads.find([view, view], WORDS.objects, 0.5)
        bounds = region.box.left, region.box.top, region.box.right, region.box.bottom
        assert [WORDS.objects[kind] for kind in kinds] == [region.label]
        (left, top), (right, bottom) = corners[0].min(axis=0), corners[0].max(axis=0)
        assert (left, top, right, bottom) == pytest.approx(bounds, abs=0.03) and scores[0] > 0.8
        assert len(heads.find([view], ("ship",), 0.5)[0][0]) == i % 2
    for i, together in enumerate(heads.find([(tokens, maps)] * 2, WORDS.objects, 0.3)):
        (single,) = heads.find([(tokens[i : i + 1], [one[i : i + 1] for one in maps])] * 2, WORDS.objects, 0.3)
        assert len(single[0]) and all(np.allclose(a, b, atol=1e-5) for a, b in zip(together, single, strict=True)), i
    heads.rescale_objects(2.0, -1.0)
    calibrated = heads.find([view], WORDS.objects, 0.0)[0][2][0]
    assert math.log(calibrated / (1 - calibrated)) == pytest.approx(
        2 * math.log(scores[0] / (1 - scores[0])) - 1, rel=1e-3
    )
    before = heads.find([view], WORDS.objects, 0.0)[0][1:]
    heads.rescale_objects(1.0, (20.0, -20.0))
    kinds, scores = heads.find([view], WORDS.objects, 0.5)[0][1:]
    assert set(kinds) == {0} != set(before[0][before[1] >= 0.5]) and scores.min() > 0.99


@given(
    st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(0.02, 0.4), st.floats(0.02, 0.4), st.floats(0, 2 * math.pi),
)  # fmt: skip
def test_an_oriented_box_is_told_by_its_hull_and_its_turn(x, y, length, width, angle):
    cos, sin = math.cos(angle), math.sin(angle)
    halves = [(length / 2 * a, width / 2 * b) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    corners = np.array([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in halves])
    hull = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    turn = np.array(turn_of(corners.tolist()))
    assert np.hypot(turn[0], turn[1]) == pytest.approx(1) and np.hypot(turn[2], turn[3]) == pytest.approx(1)
    again = dense.corners_of(hull[None], turn[None])[0]
    away = np.linalg.norm(corners[:, None] - again[None], axis=-1)
    # Thin boxes on a diagonal look like upright ones that are hardly turned, where a corner is near that of the hull.
    slides = np.abs(np.arctan2(turn[1::2], turn[::2]) / (2 * np.pi))
    assert away.min(axis=1).max() < 1e-6 or slides.min() < 0.06


def test_turns_by_hand():
    upright = [(0.1, 0.2), (0.5, 0.2), (0.5, 0.4), (0.1, 0.4)]
    assert turn_of(upright) == pytest.approx((1, 0, 1, 0))
    diamond = [(0.3, 0.1), (0.5, 0.3), (0.3, 0.5), (0.1, 0.3)]  # half along each side
    assert turn_of(diamond) == pytest.approx((-1, 0, -1, 0))
    quarter = dense.corners_of(np.array([[0.0, 0.0, 0.4, 0.4]]), np.array([[0.0, 1.0, 0.0, 1.0]]))[0]
    assert quarter.tolist() == [pytest.approx(one) for one in ([0.1, 0], [0.4, 0.1], [0.3, 0.4], [0, 0.3])]
    # Nearly upright, and not sure to which side: no box without an area comes of it.
    near = dense.corners_of(np.array([[0.0, 0.0, 0.4, 0.4]]), np.array([[1.0, 0.1, 1.0, -0.2]]))[0]
    assert OrientedBox(tuple(map(tuple, near.tolist()))).area > 0.14


def test_turns_are_targets_where_boxes_are_oriented():
    diamond = OrientedBox(((0.375, 0.5), (0.5, 0.625), (0.375, 0.75), (0.25, 0.625)))
    sample = Sample(Path("d"), "d", (100, 100), Sensor.SAR, regions=(Region(diamond, "ship"),), classes=WORDS.objects)
    turns = WORDS.targets(sample, 2).turns
    assert len(turns) == 4 and all(one == pytest.approx([-1, 0, -1, 0], abs=1e-6) for one in turns.tolist())
    assert not WORDS.targets(SCENE, 2).turns.any()


@pytest.mark.parametrize("part", ["scenes", "objects"])
def test_heads_for_objects_or_scenes_alone_learn_too(part, recwarn):
    other = {"scenes": {"regions": (), "classes": (), "complete": False}, "objects": {"label": None, "choices": ()}}
    sample = replace(SCENE, **other[part])
    words = Vocabulary.of([sample])
    heads, targets = DenseHeads(8, (3, 2), words), words.targets(sample, 4)
    assert not recwarn.list
    assert targets.choices.dtype == torch.bool and targets.objects.shape[2] == len(words.objects)
    loss = heads(torch.randn(1, 16, 8), details(1, 4), targets)
    loss.backward()
    assert loss > 0 and heads.find([(torch.randn(1, 16, 8), details(1, 4))], words.objects, 0.0)


def test_classes_are_held_where_each_sensor_has_them():
    fewer = Vocabulary.of([replace(SCENE, classes=("ship",))])
    assert WORDS.holds(fewer) and WORDS.holds(WORDS) and not fewer.holds(WORDS)
    assert not WORDS.holds(Vocabulary.of([replace(SCENE, choices=("port", "lake"))]))
    optical = Vocabulary.of([SCENE, replace(SCENE, sensor=Sensor.OPTICAL, classes=("ship",))])
    assert not optical.holds(Vocabulary.of([replace(SCENE, sensor=Sensor.OPTICAL)]))


def test_the_best_of_boxes_that_overlap_is_kept():
    near = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [20, 0, 30, 10], [20, 5, 30, 15], [29, 0, 32, 1.0]])
    # The second is another class in the same place, which goes; the third a part of the first, of another class.
    assert dense._best(near, np.array([0, 1, 1, 0, 0, 1])).tolist() == [0, 2, 3, 4, 5]
    assert dense._best(near, np.array([0, 1, 0, 0, 1, 1])).tolist() == [0, 3, 4, 5]  # of the same
    assert dense._best(near[2:4], np.array([0, 0])).tolist() == [0, 1]
    assert dense._best(near[:0], np.zeros(0, int)).tolist() == []


def test_heads_are_saved_with_the_model_and_taken_away(model, processor, squares, tmp_path):
    model.add_dense_heads(WORDS)
    kept = model.dense_heads
    model.add_dense_heads(Vocabulary(WORDS.scenes, WORDS.objects, {"infrared": ("ship",)}))
    assert model.dense_heads is kept and model.config.dense["sensors"] == {"infrared": ["ship"]}
    model.add_dense_heads(Vocabulary(WORDS.scenes, ("plane", "ship", "tank")))
    assert model.dense_heads is not kept
    model.add_dense_heads(WORDS)
    kept = model.dense_heads
    model.save_pretrained(tmp_path)
    again = EarthGPTForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dense_heads.vocabulary == WORDS and again.dense_heads.vocabulary.sensors == WORDS.sensors
    assert torch.equal(again.dense_heads.levels[1].edges.weight, kept.levels[1].edges.weight)
    pixels = processor.normalise(squares[:2])
    targets = DenseTargets.join([WORDS.targets(SCENE, 4)] * 2)
    with torch.no_grad():
        found = again(pixel_values=pixels, dense_targets=targets)
        inputs = processor.pack([processor.render(Conversation.of(("a",), "Is there a ship?", "yes"))] * 2, squares[:2])
        both = again(**inputs, dense_targets=targets, use_cache=False)
    assert found.loss is None and found.logits is None
    assert float(found.dense_loss) == pytest.approx(float(both.dense_loss), rel=1e-5)
    again.drop_dense_heads()
    with torch.no_grad():
        assert float(again(**inputs, use_cache=False).loss) == pytest.approx(float(both.loss), rel=1e-6)
    again.save_pretrained(tmp_path / "plain")
    assert EarthGPTForConditionalGeneration.from_pretrained(tmp_path / "plain").dense_heads is None
