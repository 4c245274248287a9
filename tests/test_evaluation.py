"""True answers score best, unreadable ones count as wrong, and chance is stated beside them."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chat_server import completion, question_of, serve
from PIL import Image

from earthgpt import evaluation
from earthgpt.assistant import EarthGPT, load
from earthgpt.datasets import Dataset, part_of, synthetic
from earthgpt.endpoints import Endpoint
from earthgpt.evaluation import BLIND, Journal, Said, evaluate, once, value_of
from earthgpt.generation import Answer
from earthgpt.geo.raster import Raster
from earthgpt.lookup import find
from earthgpt.predictions import read_predictions
from earthgpt.tasks import Turn
from earthgpt.types import Box, EarthGPTError, Region, Sample, Sensor

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


class Weights(torch.nn.Linear):
    """Stands for a model without dense heads."""

    dense_heads = None


@pytest.fixture
def fake(processor):
    return EarthGPT(Weights(1, 1), processor)


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
            assert len(squares) == sum(len(one.images) for one in conversations)
            return [answer_of(speak(one)) for one in conversations]

        monkeypatch.setattr(evaluation, "generate", generate)
        return batches

    return script


@pytest.fixture
def says_the_truth(monkeypatch):
    """Makes the model answer every question as the data set does."""

    def said(task, question):
        truth = question.truth
        return Said(
            task.format(
                truth[0] if isinstance(truth, tuple) and truth and isinstance(truth[0], str) else truth, question.size
            )
        )

    def answers(model, task, questions, batches, *rest):
        for batch in batches:
            yield {i: said(task, questions[i]) for i in batch}

    monkeypatch.setattr(evaluation, "_answers", answers)


@pytest.mark.parametrize("task", synthetic.DATASET.tasks)
def test_true_answers_score_best(task, fake, scenes, says_the_truth):
    report = evaluate(fake, "synthetic", task)
    assert report.unparsed == 0
    assert report.examples == len(report.answers) >= 10
    name = BEST[task]
    assert report.metrics[name] == pytest.approx(100.0 if task == "image_captioning" else 1.0), report.metrics
    assert report.baselines["shuffled answers"][name] < 0.9 * report.metrics[name]
    assert all(one["read"] is not None and one["score"] > 0.4 for one in report.answers)
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
    assert progress == [(0, 12), (5, 12), (10, 12), (12, 12)]
    assert sorted(one["image"] for one in report.answers) == sorted(sample.name for sample in scenes)
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
    assert sorted(one["image"] for one in report.answers) == ["infrared/8", "optical/6", "sar/4"]


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


def test_a_task_of_ones_own_is_asked_of_every_data_set(fake, pictures, says, monkeypatch):
    own = SimpleNamespace(TASK=replace(find("tasks", "scene_classification"), template="Which? {choices}"))
    monkeypatch.setitem(sys.modules, "my_own.task", own)
    says(lambda conversation: "a")
    report = evaluate(fake, "my_own.pictures", "my_own.task", str(pictures), "all", rounds=0)
    assert (report.task, report.examples, report.metrics["accuracy_strict"]) == ("my_own.task", 6, 0.5)
    with pytest.raises(EarthGPTError, match="Mine has no facts for region_captioning"):
        evaluate(fake, "my_own.pictures", "region_captioning", str(pictures), "all")


@pytest.mark.parametrize("answer", [("a", "b"), (Box(0, 0, 1, 1),), (Region(Box(0, 0, 1, 1), "a"), "b"), 3, ["a"], {}])
def test_a_task_whose_answers_no_report_can_keep_is_refused_before_it_is_asked(
    fake, pictures, says, monkeypatch, answer
):
    @dataclass(frozen=True)
    class Own(type(find("tasks", "scene_classification"))):
        def turns(self, sample, rng):
            return [replace(turn, answer=answer) for turn in super().turns(sample, rng)]

    asked = []
    says(lambda conversation: asked.append(conversation) or "a")
    monkeypatch.setitem(sys.modules, "my_own.task", SimpleNamespace(TASK=Own()))
    with pytest.raises(EarthGPTError, match=r"a tuple of Region; not .*, as the task gives for 0\.png"):
        evaluate(fake, "my_own.pictures", "my_own.task", str(pictures), "all", rounds=0)
    assert not asked


def test_once_keeps_the_first_of_the_turns_that_ask_for_the_same():
    captions = [Turn("caption", "a ship", ("a ship", "ships")), Turn("caption", "ships", ("a ship", "ships"))]
    phrases = [Turn("the ship", Box(0, 0, 0.5, 0.5)), Turn("the ship", Box(0.5, 0, 1, 0.5))]
    assert list(once([*captions, *phrases, phrases[0]])) == [captions[0], *phrases]


def test_questions_are_numbered_in_their_order(fake, scenes, says):
    says(lambda conversation: "")
    report = evaluate(fake, "synthetic", "visual_question_answering", rounds=0)
    turns = find("tasks", "visual_question_answering").turns(scenes[0], random.Random(scenes[0].name))
    found = [(one["id"], one["question"]) for one in report.answers if one["image"] == scenes[0].name]
    assert found == [(f"{scenes[0].name}#{i}", turn.question) for i, turn in enumerate(turns)]
    assert len(found) > 2


def test_scores_of_detections_are_those_of_their_tokens(fake, scenes, says):
    text = "There are two ships [0.100,0.100,0.200,0.200;0.300,0.300,0.400,0.400] in the image."
    sure = text.index("0.300")
    probabilities = tuple(0.25 if i < sure else 0.81 for i in range(len(text)))
    answer = Answer(text, tuple((i, i + 1) for i in range(len(text))), probabilities, True)
    task, size = find("tasks", "object_detection"), scenes[0].size
    scores = evaluation._scores(task, answer, size)
    assert [region.score for region in value_of(task, Said(text, scores), size)] == pytest.approx([0.25, 0.81])
    assert evaluation._scores(task, Answer(text, (), (), True), size) is None
    assert [region.score for region in value_of(task, Said(text), size)] == [None, None]


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


# --- images ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A data set "my_own.pictures" of files: 0.png .. 5.png, each of the class "a" or "b" and of its own grey."""
    samples = []
    for i in range(6):
        path = tmp_path / "pictures" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (20, 10), 40 * i).save(path)
        samples.append(Sample(path, path.name, (20, 10), Sensor.OPTICAL, label="ab"[i % 2], choices=("a", "b")))
    read = {"train": samples[:4], "test": samples[4:]}
    dataset = Dataset("Mine", (Sensor.OPTICAL,), ("scene_classification",), "", "", "", ("train", "test"), (), {},
                      lambda root, split, defects: iter(read[split]))  # fmt: skip
    monkeypatch.setitem(sys.modules, "my_own.pictures", SimpleNamespace(DATASET=dataset))
    monkeypatch.setitem(sys.modules, "my_own", SimpleNamespace())
    return tmp_path / "pictures"


def grey(conversation) -> int | None:
    """The grey of the image in a question."""
    return int(conversation.images[0].pixels[0, 0, 0]) if conversation.images else None


def test_images_that_cannot_be_read_are_named_and_wrong(fake, pictures, says):
    (pictures / "1.png").write_bytes(b"no image")
    (pictures / "3.png").unlink()
    says(lambda conversation: "ab"[grey(conversation) // 40 % 2])  # always right
    report = evaluate(fake, "my_own.pictures", "scene_classification", str(pictures), "all", batch_size=1)
    assert report.examples == 5
    assert list(report.data["unreadable"]) == ["1.png"] and "is not an image" in report.data["unreadable"]["1.png"]
    assert report.unparsed == 1
    assert report.metrics["accuracy_strict"] == pytest.approx(4 / 5)
    assert report.data["defects"] == {
        "questions left out: no image file": 1,
        "questions whose image cannot be read": 1,
    }


def test_all_splits_are_those_of_the_card(fake, pictures, says):
    says(lambda conversation: "a")
    whole = evaluate(fake, "my_own.pictures", "scene_classification", str(pictures), "all")
    assert [one["image"] for one in whole.answers] == [f"{i}.png" for i in range(6)]
    assert whole.metrics["accuracy_strict"] == 0.5
    assert evaluate(fake, "my_own.pictures", "scene_classification", str(pictures), "test").examples == 2


def test_the_same_questions_without_the_image_a_blank_one_and_another_one(fake, pictures, says):
    shown = []
    says(lambda conversation: shown.append(grey(conversation)) or "a")
    report = evaluate(fake, "my_own.pictures", "scene_classification", str(pictures), "train", blind=BLIND)
    own, nothing, blank, other = (shown[i : i + 4] for i in range(0, 16, 4))
    assert own == [0, 40, 80, 120]
    assert nothing == [None] * 4
    assert blank == [128] * 4
    assert sorted(other) == own and all(one != another for one, another in zip(own, other, strict=True))
    assert {name: scores["accuracy_strict"] for name, scores in report.baselines.items()} == {
        "shuffled answers": report.baselines["shuffled answers"]["accuracy_strict"],
        "most common answer": 0.5,
        "text only": 0.5,
        "blank image": 0.5,
        "shuffled images": 0.5,
    }


# --- runs that go on ---------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_report(fake, scenes, says, tmp_path):
    batches = says(lambda conversation: "harbor")
    ask = {"batch_size": 5, "output": tmp_path / "report.json", "blind": ("blank",)}
    whole = evaluate(fake, "synthetic", "scene_classification", **(ask | {"output": tmp_path / "whole.json"}))
    del batches[:]

    def stop(done, total):
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(fake, "synthetic", "scene_classification", **ask, progress=stop)
    assert batches == [5, 5, 2, 5]
    partial = tmp_path / "report.json.partial.jsonl"
    with partial.open("ab") as file:
        file.write(b'{"pass": "blank", "answers": [[5, ["harb')  # killed while it wrote
    progress = []
    report = evaluate(
        fake, "synthetic", "scene_classification", **ask, progress=lambda *numbers: progress.append(numbers)
    )
    assert batches == [5, 5, 2, 5, 5, 2]
    assert progress == [(17, 24), (22, 24), (24, 24)]
    assert report == whole
    assert (tmp_path / "report.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "whole.json"]
    # A finished run is not asked again.
    assert evaluate(fake, "synthetic", "scene_classification", **ask) == report
    assert batches == [5, 5, 2, 5, 5, 2]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 6}, r"was begun with batch_size = 5, not 6: name another file, or delete it"),
        ({"blind": ("blank",)}, r"was begun with blind = \[\], not \['blank'\]"),
        ({"frame": "image"}, "was begun with frame = 'square', not 'image'"),
        ({"rounds": 10}, "was begun with rounds = 1000, not 10"),
        ({"keep": lambda sample, turn: sample.sensor != "sar"}, "was begun on other images, questions or true answers"),
    ],
)
def test_a_run_with_other_settings_or_data_is_refused(fake, scenes, says, tmp_path, change, told, finished):
    says(lambda conversation: "harbor")
    ask = {"batch_size": 5, "output": tmp_path / "report.json"}
    if finished:
        evaluate(fake, "synthetic", "scene_classification", **ask)
    else:
        with pytest.raises(ZeroDivisionError):
            evaluate(fake, "synthetic", "scene_classification", **ask, progress=lambda done, total: 1 / 0)
    with pytest.raises(EarthGPTError, match=told) as error:
        evaluate(fake, "synthetic", "scene_classification", **(ask | change))
    assert "\n" not in str(error.value)


def test_other_weights_are_another_run(scenes, says, processor, tmp_path):
    says(lambda conversation: "harbor")
    for i in range(2):
        torch.manual_seed(i)
        fake = EarthGPT(Weights(40, 40), processor)
        if i:
            with pytest.raises(EarthGPTError, match="was begun with weights = "):
                evaluate(fake, "synthetic", "scene_classification", output=tmp_path / "a.json")
        else:
            evaluate(fake, "synthetic", "scene_classification", output=tmp_path / "a.json")


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b'{"pass": "x", "answers": []}', b'{"pass": "image", "answers": [[1]]}']
)
def test_a_damaged_line_is_told(tmp_path, line):
    begun = {"settings": {"a": 1}, "digest": "x"}
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(begun).encode() + b"\n" + line + b"\n" + line)
    with pytest.raises(EarthGPTError, match="damaged in line 2"):
        Journal(path, begun)


SLOW = """
import sys, time
from pathlib import Path
from earthgpt import evaluation
from earthgpt.assistant import load
generate = evaluation.generate
def slow(*given):
    time.sleep(float(sys.argv[2]))
    return generate(*given)
evaluation.generate = slow
evaluation.evaluate(load("earthgpt-tiny"), "synthetic", "object_detection", limit=12, batch_size=2,
                    max_new_tokens=48, output=Path(sys.argv[1]), blind=("text-only",), name="tiny")
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_and_gives_the_same_report(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name, wait):
        return subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / name), str(wait)], env=environment)

    assert start("whole.json", 0).wait(120) == 0
    partial = tmp_path / "killed.json.partial.jsonl"
    killed = start("killed.json", 0.4)
    began = time.monotonic()
    while not partial.is_file() or partial.read_bytes().count(b"\n") < 4:
        assert time.monotonic() - began < 120
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    kept = partial.read_bytes()
    assert 4 <= kept.count(b"\n") < 13
    assert start("killed.json", 0).wait(120) == 0
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


# --- endpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["visual_question_answering", "object_detection"])
def test_an_endpoint_gives_the_report_of_the_model_behind_it(task, tmp_path):
    assistant = load("earthgpt-tiny")

    def answer(request, number):
        question, pixels = question_of(request)
        conversation = evaluation.Conversation.of((Raster(pixels, pixels.shape[1::-1]),), question)
        (said,) = evaluation.ask(assistant, [conversation], request["max_tokens"])
        pairs = zip(said.spans, said.probabilities, strict=True)
        return completion(said.text, [(said.text[a:b], math.log(chance)) for (a, b), chance in pairs])

    # A server is not told what took an image; what dense heads look for depends on it.
    asked = {"limit": 5, "max_new_tokens": 48, "keep": lambda sample, turn: sample.sensor is Sensor.OPTICAL}
    local = evaluate(assistant, "synthetic", task, batch_size=1, **asked)
    with serve(answer) as server:
        model = Endpoint(server.url, "earthgpt-tiny", concurrency=2, probabilities=True)
        report = evaluate(model, "synthetic", task, output=tmp_path / "report.json", **asked)
    assert report.answers == local.answers and any(one["prediction"] for one in local.answers)
    assert report.metrics == pytest.approx(local.metrics, nan_ok=True)
    assert report.baselines == local.baselines
    assert report.settings["endpoint_model"] == "earthgpt-tiny"


def test_an_endpoint_run_goes_on_after_an_error(scenes, tmp_path):
    def answer(request, number):
        return completion("harbor") if broken != number else (401, {}, b'{"error": "the key has expired"}')

    with serve(answer) as server:
        model = Endpoint(server.url, "some-model", concurrency=1)
        broken = 7
        with pytest.raises(EarthGPTError, match="the key has expired"):
            evaluate(model, "synthetic", "scene_classification", output=tmp_path / "a.json")
        assert len(server.requests) == 8
        report = evaluate(model, "synthetic", "scene_classification", output=tmp_path / "a.json")
        assert len(server.requests) == 13
    right = sum(sample.label == "harbor" for sample in scenes)
    assert report.metrics["accuracy_strict"] == pytest.approx(right / 12)


def test_another_model_is_told_how_to_write_boxes_and_read_in_its_frame(scenes):
    sample = next(sample for sample in scenes if find("tasks", "visual_grounding").turns(sample, None))
    turn = find("tasks", "visual_grounding").turns(sample, None)[0]
    box = turn.answer.to_pixels(sample.size)
    text = f"It is [{', '.join(map(str, box))}]."
    with serve(lambda request, number: completion(text)) as server:
        report = evaluate(
            Endpoint(server.url, "x"), "synthetic", "visual_grounding", frame="pixels",
            keep=lambda one, asked: one.name == sample.name and asked.question == turn.question,
        )  # fmt: skip
    (request,) = server.requests
    assert question_of(request)[0] == (
        f"{turn.question} Write a box as [xmin,ymin,xmax,ymax] in pixels of the image from its top left corner; an "
        "oriented one as its four corners."
    )
    assert report.metrics["mean_iou"] == pytest.approx(1)
    assert report.settings["frame"] == "pixels"


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "ship"}]\n```', Box(0.1, 0.1, 0.3, 0.2)),
        ("It is at (10,20),(30,40).", Box(0.1, 0.1, 0.3, 0.2)),
        ("[[10, 20], [30, 40]]", Box(0.1, 0.1, 0.3, 0.2)),
        ("[30, 40, 10, 20]", None),
        ('{"bbox": [NaN, 0, 1, 1]}', None),
        ("nowhere", None),
    ],
)
def test_boxes_are_read_in_the_form_of_other_models(text, box):
    task = evaluation._task("visual_grounding", "pixels", {})
    assert value_of(task, Said(text), (100, 200)) == box
    objects = value_of(evaluation._task("object_detection", "pixels", {}), Said(text), (100, 200))
    assert objects == ((Region(box, "ship"),) if "ship" in text else None)


@pytest.mark.parametrize(
    "text",
    ["{<10><20><60><70>|<0>}", "[[10,20,60,70,0]]", "[10, 20, 60, 70]", "(10,20),(60,70)", '{"box": [10,20,60,70]}',
     "{<10><20><60><70>|<30>}", "[-5,20,60,70,0]", "[10,20,60,170]", "[60,20,10,70,0]", "10 20 60 70", "[1e400,0,1,1]"],
)  # fmt: skip
def test_answers_are_read_as_score_reads_them(text, tmp_path):
    path, size = tmp_path / "said.jsonl", (100, 200)
    path.write_text(json.dumps({"prediction": text, "truth": "[0,0,100,100]", "size": size}))
    scored = read_predictions(path, find("tasks", "visual_grounding"), frame="0-100", truth_frame="0-100")
    found = value_of(evaluation._task("visual_grounding", "0-100", {}), Said(text), size)
    assert found == scored.questions[0].prediction
    assert (found is None) == (text in ("[60,20,10,70,0]", "[1e400,0,1,1]"))


def test_a_score_that_is_no_number_is_none():
    text = '[{"bbox_2d": [10, 20, 30, 40], "label": "ship", "score": NaN}]'
    (region,) = value_of(evaluation._task("object_detection", "0-100", {}), Said(text), (100, 200))
    assert (region.label, region.score) == ("ship", None)


def test_pixels_are_those_of_the_image_as_it_is_sent():
    task = evaluation._task("visual_grounding", "pixels", {})
    assert value_of(task, Said("[1024,512,2048,1024]"), (4096, 2048)) == Box(0.5, 0.5, 1, 1)  # 2048 x 1024 are sent
    assert value_of(task, Said("[50,50,100,100]"), (100, 100)) == Box(0.5, 0.5, 1, 1)


def test_an_unknown_frame_or_baseline_is_told(fake):
    with pytest.raises(EarthGPTError, match=r"as earthgpt\.load gives it, or an Endpoint; not 'earthgpt-tiny'"):
        evaluate("earthgpt-tiny", "synthetic", "visual_grounding")
    with pytest.raises(EarthGPTError, match="A frame is one of square, image, 0-100, 0-1000, pixels; not 'x'"):
        evaluate(fake, "synthetic", "visual_grounding", frame="x")
    with pytest.raises(EarthGPTError, match=r"are of the kinds .*presence.*; not 'Presence'"):
        evaluate(fake, "synthetic", "visual_question_answering", kind="Presence")
    with pytest.raises(EarthGPTError, match='A part of a split is "train" or "val", not \'test\''):
        evaluate(fake, "synthetic", "visual_grounding", part="test")
    with pytest.raises(EarthGPTError, match="A baseline is one of text-only, blank, shuffled-images; not 'x'"):
        evaluate(fake, "synthetic", "visual_grounding", blind=["x"])


def test_the_weights_of_a_model_of_eight_bits_are_told_from_others(model, processor):
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    assistant = EarthGPT(model, processor)
    plain = evaluation._model_settings(assistant)["weights"]
    quantize_(model.language_model.model, Int8WeightOnlyConfig())
    found = evaluation._model_settings(assistant)["weights"]
    assert found != plain and found == evaluation._model_settings(assistant)["weights"]
