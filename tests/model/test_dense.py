"""Dense supervision: targets and losses by hand, and heads that learn where things are."""

from pathlib import Path

import pytest
import torch

from earthgpt.model import EarthGPTForConditionalGeneration
from earthgpt.model.dense import BINS, DenseHeads, DenseTargets, Vocabulary, expected_edges, focal_loss, generalized_iou
from earthgpt.types import Box, Conversation, Region, Sample, Sensor

SHIP = Region(Box(0.25, 0.5, 0.5, 0.75), "ship")  # in the middle of an image of 100 x 100
SCENE = Sample(
    Path("a.png"), "a", (100, 100), Sensor.SAR, "port", ("port", "sea"), (), (SHIP,), ("plane", "ship"), True
)
WORDS = Vocabulary.of([SCENE])


def test_the_classes_are_all_that_the_samples_choose_from():
    assert Vocabulary(("port", "sea"), ("plane", "ship")) == WORDS
    assert Vocabulary.from_dict(WORDS.to_dict()) == WORDS


def test_an_object_is_at_the_places_of_its_inner_half():
    targets = WORDS.targets(SCENE, 8)
    assert targets.scene.tolist() == [0] and targets.choices.tolist() == [[True, True]]
    places = targets.objects[0].view(8, 8, 2)
    # On a grid of 8 the ship spans columns 2 and 3 and rows 4 and 5: its centre is in the last of them, and the inner
    # half starts at the centre of the first.
    assert places[..., 1].nonzero().tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]] and not places[..., 0].any()
    assert targets.boxes[0].view(8, 8, 4)[5, 3].tolist() == [0.25, 0.5, 0.5, 0.75]
    assert (targets.boxes[0] >= 0).all(-1).sum() == 4
    fine = WORDS.targets(SCENE, 32).objects[0].view(32, 32, 2)[..., 1].nonzero()
    assert fine.min(0).values.tolist() == [18, 10] and fine.max(0).values.tolist() == [21, 13]


def test_boxes_are_those_of_the_padded_square_and_the_smaller_object_is_in_front():
    wide = Sample(
        Path("b.png"), "b", (200, 100), Sensor.OPTICAL,
        regions=(Region(Box(0.4, 0.4, 0.6, 0.6), "ship"), Region(Box(0, 0, 1, 1), "plane")), classes=WORDS.objects,
    )  # fmt: skip
    targets = WORDS.targets(wide, 5)
    assert targets.boxes[0, 12].tolist() == pytest.approx([0.4, 0.45, 0.6, 0.55])
    assert targets.objects[0, 12].tolist() == [1, 1]  # both are there
    assert targets.boxes[0, 11].tolist() == pytest.approx([0, 0.25, 1, 0.75])
    assert targets.objects[0, 0].tolist() == [-1, -1]  # it may hold more than is stated
    assert targets.scene.tolist() == [-1]


def test_what_is_not_known_is_not_learned():
    heads = DenseHeads(8, WORDS)
    tokens = torch.randn(2, 16, 8, requires_grad=True)
    nothing = WORDS.targets(None, 4)
    loss = heads(tokens, DenseTargets.join([nothing, nothing]))
    loss.backward()
    assert loss.item() == 0 and not tokens.grad.any()
    assert not any(parameter.grad.any() for parameter in heads.parameters())


def test_focal_loss_by_hand():
    # 0.25 (1 - 0.8)^2 -log 0.8, and 0.75 0.8^2 -log 0.2 for the same logit with nothing there.
    logit = torch.tensor([0.8]).logit().repeat(2)
    assert focal_loss(logit, torch.tensor([1.0, 0.0])).tolist() == pytest.approx([0.0022314, 0.7725251], rel=1e-4)


def test_generalized_iou_by_hand():
    one = torch.tensor([[0.0, 0.0, 0.2, 0.2]] * 3)
    others = torch.tensor([[0.0, 0.0, 0.2, 0.2], [0.1, 0.0, 0.3, 0.2], [0.4, 0.0, 0.6, 0.2]])
    assert generalized_iou(one, others).tolist() == pytest.approx([1, 1 / 3, -1 / 3], abs=1e-6)


def test_the_loss_of_a_place_by_hand():
    heads = DenseHeads(8, WORDS)
    with torch.no_grad():
        for layer in (heads.scene, heads.object, heads.box):
            layer.weight.zero_()
            layer.bias.zero_()
    targets = WORDS.targets(SCENE, 4)
    even = torch.tensor(0.5)
    focal = (0.25 + 0.75 * (16 * 2 - 1)) * 0.25 * -even.log()  # one of 16 places, two classes
    boxes = BINS**-1
    found = torch.tensor([[0.5, 0.5, 0.5, 0.5]])  # all edges are as likely as any
    giou = 1 - generalized_iou(found, torch.tensor([[0.25, 0.5, 0.5, 0.75]]))
    expected = -even.log() + focal - torch.tensor(boxes).log() + giou[0]
    assert heads(torch.randn(1, 16, 8), targets).item() == pytest.approx(float(expected), rel=1e-4)


def test_heads_learn_where_things_are():
    torch.manual_seed(0)
    grid, samples = 4, []
    for column in range(grid):
        box = Box(column / grid, 0.25, (column + 1) / grid, 0.5)
        regions = (Region(box, WORDS.objects[column % 2]),)
        samples.append(
            Sample(Path("c"), "c", (64, 64), Sensor.SAR, regions=regions, classes=WORDS.objects, complete=True)
        )
    targets = DenseTargets.join([WORDS.targets(sample, grid) for sample in samples])
    tokens = torch.randn(4, 16, 32)
    heads = DenseHeads(32, WORDS)
    optimizer = torch.optim.Adam(heads.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        heads(tokens, targets).backward()
        optimizer.step()
    _, objects, edges = heads.read(tokens)
    assert ((objects > 0) == targets.objects.bool()).all()
    there = targets.boxes[..., 0] >= 0
    assert torch.allclose(expected_edges(edges)[there], targets.boxes[there], atol=0.02)


def test_heads_are_saved_with_the_model_and_taken_away(model, processor, squares, tmp_path):
    model.add_dense_heads(WORDS)
    kept = model.dense_heads
    model.add_dense_heads(WORDS)
    assert model.dense_heads is kept
    model.save_pretrained(tmp_path)
    again = EarthGPTForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dense_heads.vocabulary == WORDS
    assert torch.equal(again.dense_heads.box.weight, kept.box.weight)
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
