"""True answers score best, unreadable ones count as wrong, and chance is stated beside them."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from earthgpt import evaluation
from earthgpt.assistant import EarthGPT
from earthgpt.datasets import Dataset, part_of, synthetic
from earthgpt.evaluation import chance, evaluate, once
from earthgpt.generation import Answer
from earthgpt.lookup import find
from earthgpt.tasks import Turn
from earthgpt.types import Box, EarthGPTError, Sample, Sensor

BEST = {
    "scene_classification": "accuracy_lenient",
    "visual_question_answering": "accuracy_lenient",
    "region_captioning": "accuracy_lenient",
    "image_captioning": "bleu_1",
    "visual_grounding": "pr_50",
    "object_detection": "f1",
}


def answer_of(text: str) -> Answer:
    return Answer(text, tuple((i, i + 1) for i in range(len(text))), (0.9,) * len(text), True)


@pytest.fixture
def fake(processor):
    return EarthGPT(None, processor)


@pytest.fixture
def scenes(monkeypatch):
    """Twelve scenes, four of each sensor."""
    monkeypatch.setitem(synthetic.SPLITS, "val", range(12))
    return list(synthetic.DATASET.read("", "val"))


@pytest.fixture
def says(monkeypatch):
    """Makes the model answer with what a function of the question returns; keeps the sizes of the batches."""
    batches = []

    def script(speak):
        def generate(model, processor, conversations, squares, max_new_tokens):
            batches.append(len(conversations))
            assert len(squares) == len(conversations)
            return [answer_of(speak(one)) for one in conversations]

        monkeypatch.setattr(evaluation, "generate", generate)
        return batches

    return script


@pytest.fixture
def says_the_truth(monkeypatch):
    """Makes the model answer every question as the data set does."""

    def script(task):
        def answers(assistant, batch, max_new_tokens):
            return [answer_of(find("tasks", task).format(turn.answer, sample.size)) for sample, turn in batch]

        monkeypatch.setattr(evaluation, "_answers", answers)

    return script


@pytest.mark.parametrize("task", synthetic.DATASET.tasks)
def test_true_answers_score_best(task, fake, scenes, says_the_truth):
    says_the_truth(task)
    report = evaluate(fake, "synthetic", task)
    assert report.unparsed == 0
    assert report.examples == len(report.answers) >= 10
    name = BEST[task]
    assert report.metrics[name] == pytest.approx(100.0 if task == "image_captioning" else 1.0), report.metrics
    assert report.baselines["shuffled answers"][name] < 0.9 * report.metrics[name]
    assert all(true == said for _, _, true, said in report.answers)
    json.dumps(report.to_dict())


@pytest.mark.parametrize("task", synthetic.DATASET.tasks)
def test_answers_that_cannot_be_read_are_counted_and_wrong(task, fake, scenes, says):
    says(lambda conversation: "")
    report = evaluate(fake, "synthetic", task)
    assert report.unparsed == report.examples > 0
    assert report.metrics[BEST[task]] == 0.0


def test_every_question_is_asked_once_in_batches_with_its_own_image(fake, scenes, says):
    batches = says(lambda conversation: "harbor")
    progress = []
    report = evaluate(
        fake, "synthetic", "scene_classification", batch_size=5, progress=lambda *numbers: progress.append(numbers)
    )
    assert batches == [5, 5, 2]
    assert progress == [(5, 12), (10, 12), (12, 12)]
    assert sorted(name for name, *_ in report.answers) == sorted(sample.name for sample in scenes)
    right = sum(sample.label == "harbor" for sample in scenes)
    assert report.metrics["accuracy_strict"] == pytest.approx(right / 12)
    assert report.baselines["most common answer"]["accuracy_strict"] >= report.metrics["accuracy_strict"]


def test_a_limit_draws_the_same_questions_every_time(fake, scenes, says):
    says(lambda conversation: "harbor")
    one, other = (evaluate(fake, "synthetic", "scene_classification", limit=4) for _ in range(2))
    assert one == other
    assert one.examples == 4
    assert evaluate(fake, "synthetic", "scene_classification", limit=99).examples == 12


def test_questions_of_one_kind_can_be_asked_alone(fake, scenes, says):
    asked = []
    says(lambda conversation: asked.append(conversation.messages[0].text) or "")
    report = evaluate(fake, "synthetic", "object_detection", kind="obb")
    assert asked and all("oriented" in text for text in asked)
    assert report.settings["kind"] == "obb"
    everything = evaluate(fake, "synthetic", "object_detection")
    assert everything.examples > report.examples


def test_the_held_out_part_can_be_asked_alone(fake, scenes, says):
    says(lambda conversation: "")
    report = evaluate(fake, "synthetic", "scene_classification", part="val")
    assert sorted(name for name, *_ in report.answers) == ["infrared/8", "optical/6", "sar/4"]


def test_an_image_with_several_captions_is_asked_once_and_any_of_them_is_right(fake, monkeypatch, says):
    pixels = np.zeros((8, 8), np.uint8)
    sample = Sample(lambda: pixels, "one", (8, 8), Sensor.SAR, captions=("a ship .", "two ships at sea .", "a ship ."))
    dataset = Dataset("Mine", (Sensor.SAR,), ("image_captioning",), "", "", "", ("val",), (), {"val": 1},
                      lambda root, split, defects: iter([sample]))  # fmt: skip
    monkeypatch.setitem(sys.modules, "my_own.captions", SimpleNamespace(DATASET=dataset))
    monkeypatch.setitem(sys.modules, "my_own", SimpleNamespace())
    says(lambda conversation: "two ships at sea .")
    report = evaluate(fake, "my_own.captions", "image_captioning")
    assert report.examples == 1
    assert report.metrics["bleu_1"] == pytest.approx(100.0)
    with pytest.raises(EarthGPTError, match="Mine has no facts for object_detection; it has image_captioning"):
        evaluate(fake, "my_own.captions", "object_detection")


def test_once_keeps_the_first_of_the_turns_that_ask_the_same():
    turns = [Turn("a", 1), Turn("b", 2), Turn("a", 3)]
    assert {turn.question: turn.answer for turn in once(turns)} == {"a": 1, "b": 2}


def test_scores_of_detections_are_those_of_their_tokens(fake, scenes, says):
    text = "There are two ships [0.100,0.100,0.200,0.200;0.300,0.300,0.400,0.400] in the image."
    sure = text.index("0.300")
    probabilities = tuple(0.25 if i < sure else 0.81 for i in range(len(text)))
    answer = Answer(text, tuple((i, i + 1) for i in range(len(text))), probabilities, True)
    value = evaluation._value(find("tasks", "object_detection"), answer, scenes[0])
    assert [region.score for region in value] == pytest.approx([0.25, 0.81])


def test_chance_worked_out_by_hand():
    task = find("tasks", "visual_question_answering")
    found = chance(task, ["yes", "yes", "yes", "no"])
    assert found["most common answer"] == {"accuracy_strict": 0.75, "accuracy_lenient": 0.75}
    assert found["shuffled answers"]["accuracy_strict"] in (
        0.5,
        1.0,
    )  # the one "no" moves and two are wrong, or it stays
    assert chance(task, ["yes"] * 5)["shuffled answers"]["accuracy_strict"] == 1.0


def test_chance_for_boxes_is_the_box_of_another_image_and_the_mean_box():
    task = find("tasks", "visual_grounding")
    boxes = [Box(i / 10, 0, (i + 1) / 10, 1) for i in range(10)]  # no two overlap
    found = chance(task, boxes)
    assert list(found) == ["shuffled answers", "constant box"]
    # The mean is (0.45, 0, 0.55, 1): half of the fifth and of the sixth box, each with an IoU of 0.05 / 0.15.
    assert found["constant box"]["mean_iou"] == pytest.approx(2 / 3 / 10)
    stayed = found["shuffled answers"]["mean_iou"] * 10
    assert stayed == pytest.approx(round(stayed)) and stayed <= 3


def test_chance_does_not_take_a_list_of_objects_for_captions():
    task = find("tasks", "object_detection")
    assert list(chance(task, [(), ()])) == ["shuffled answers"]


def test_part_of_holds_out_one_in_ten_and_never_changes():
    names = [f"image_{i}.png" for i in range(5000)]
    held_out = sum(part_of(name) == "val" for name in names)
    assert held_out / 5000 == pytest.approx(26 / 256, abs=0.01)
    assert {part_of(name) for name in names} == {"train", "val"}
    assert (part_of("optical/6"), part_of("optical/7")) == ("val", "train")


@pytest.mark.parametrize(
    ("dataset", "task", "says"),
    [
        ("rsidc", "image_captioning", "Did you mean 'rsicd'?"),
        ("synthetic", "image_caption", "Did you mean 'image_captioning'?"),
        ("rsicd", "object_detection", "has no facts for object_detection"),
    ],
)
def test_what_cannot_be_asked_is_told(fake, dataset, task, says):
    with pytest.raises(EarthGPTError) as told:
        evaluate(fake, dataset, task)
    assert says in str(told.value)
