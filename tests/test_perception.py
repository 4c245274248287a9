"""What a model sees as facts, and the answers that follow: in a dialogue, an evaluation, a scene and a server."""

import base64
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from earthgpt import evaluation, perception, scenes
from earthgpt.assistant import EarthGPT, load
from earthgpt.datasets import synthetic
from earthgpt.geo.areas import Area
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.raster import open_raster
from earthgpt.geo.scene import open_scene
from earthgpt.metrics.detection import match_detections
from earthgpt.model.dense import Vocabulary
from earthgpt.perception import Seen, deduce
from earthgpt.scenes import Job, scan
from earthgpt.tasks import (
    Deduced,
    image_captioning,
    object_detection,
    region_captioning,
    visual_grounding,
    visual_question_answering,
)
from earthgpt.types import Box, Conversation, OrientedBox, Region, Sensor

WIDE = np.zeros((100, 200, 3), np.uint8)  # 200 x 100: in the padded square y runs from 0.25 to 0.75
WORDS = Vocabulary(("port",), ("bridge", "car", "ship"), {"optical": ("bridge", "ship"), "infrared": ("car",)})
# Boxes in the padded square; the last lies in the padding.
PLACES = np.array([[0.5, 0.25, 1.0, 0.5], [0.0, 0.5, 0.25, 0.75], [0.1, 0.0, 0.2, 0.2]])
CORNERS = PLACES[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
SEEN = CORNERS, np.array([2, 2, 0]), np.array([0.9, 0.5, 0.4])


@pytest.fixture
def seeing(model, processor, monkeypatch):
    """An assistant whose dense heads find two ships, and what they were asked for."""
    model.add_dense_heads(WORDS)
    asked = []

    def find(views, classes, least):
        views = list(views)
        asked.append(([view.shape[-1] for view in views], classes, least))
        return [SEEN] * len(views[0])

    monkeypatch.setattr(model, "find", find)
    return EarthGPT(model, processor), asked


def test_objects_are_perceived_in_several_sizes_and_placed_in_the_image(seeing):
    assistant, asked = seeing
    facts = Seen(assistant.model, assistant.processor, open_raster(WIDE), 0.3)
    boxes = [OrientedBox(box.corners) for box in (Box(0.5, 0, 1, 0.5), Box(0, 0.5, 0.25, 1))]
    assert facts.regions == (Region(boxes[0], "ship", 0.9), Region(boxes[1], "ship", 0.5))
    assert facts.classes == ("bridge", "ship") and facts.size == (200, 100)
    assert asked == [([64, 128, 176], ("bridge", "ship"), 0.3)]
    assert Seen(assistant.model, assistant.processor, open_raster(WIDE[:, :100])).regions
    assert asked[1] == ([64], ("bridge", "ship"), perception.LEAST)  # no larger than the image
    assert Seen(assistant.model, assistant.processor, open_raster(WIDE, Sensor.SAR)).classes == WORDS.objects


def test_heads_with_random_weights_are_asked_as_trained_ones(model, processor):
    model.add_dense_heads(WORDS)
    facts = Seen(model, processor, open_raster(WIDE), 0.0)
    assert facts.regions and all(0 <= one.score <= 1 and one.label in facts.classes for one in facts.regions)
    assert [one.score for one in facts.regions] == sorted((one.score for one in facts.regions), reverse=True)


def test_a_question_of_several_lines_and_a_box_that_is_none_are_no_accident(seeing):
    assistant, _ = seeing
    assert assistant.ask(WIDE, "How many ships\nare there in the image?") == "2"
    lines = Conversation.of((open_raster(WIDE),), "What is this?\n\nAnd why?\n[0.500,0.500,0.100,0.100]")
    wrong = Conversation.of(
        (open_raster(WIDE),), region_captioning.TASK.template.format(box="[0.500,0.500,0.100,0.100]")
    )
    assert deduce(assistant.model, assistant.processor, [lines, wrong]) == [None, None]


@dataclass(frozen=True)
class Busyness(type(visual_question_answering.TASK)):
    """A task of one's own: whether an image shows much."""

    def deduce(self, question, facts):
        return Deduced("busy" if len(facts.regions) > 1 else "calm", probability=0.7) if "busy" in question else None


def test_a_task_of_ones_own_says_what_follows_too(seeing):
    assistant, _ = seeing
    talk = Conversation.of((open_raster(WIDE),), "How busy is it?")
    assert deduce(assistant.model, assistant.processor, [talk]) == [None]
    (answer,) = deduce(assistant.model, assistant.processor, [talk], tasks=[Busyness()])
    assert answer.text == "busy" and answer.probabilities == (0.7,)
    (answer,) = evaluation.ask(assistant, [talk], 8, [Busyness()])
    assert answer.text == "busy"
    assistant.tasks = (Busyness(),)
    assert assistant.say(talk).text == "busy" and assistant.ask(WIDE, "How many ships are there?") == "2"


def test_images_that_are_seen_together_are_looked_at_in_one_pass(model, processor, monkeypatch):
    model.add_dense_heads(WORDS)
    model.dense_heads.rescale_objects(1.0, 3.0)  # some are likely enough
    shapes = ((100, 200), (100, 200), (60, 60), (200, 100), (100, 200))
    rng = np.random.default_rng(0)
    rasters = [open_raster(rng.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]
    rasters[4] = replace(rasters[4], sensor=Sensor.INFRARED)  # it may show other objects
    passes = []
    find, scene = model.find, model.scene
    monkeypatch.setattr(model, "scene", lambda pixels: passes.append(len(pixels)) or scene(pixels))

    def found(views, *rest):
        views = list(views)
        passes.append(len(views[0]))
        return find(views, *rest)

    monkeypatch.setattr(model, "find", found)
    alone = [Seen(model, processor, one) for one in rasters]
    singly = [(one.regions, one.scenes) for one in alone]
    passes.clear()
    together = Seen.together(model, processor, rasters)
    assert together[1].scenes and passes == [5]
    assert together[1].regions and passes == [5, 2, 1] and together[0].regions and together[3].regions
    assert passes == [5, 2, 1], "those of one size and kind, as many in a pass as its memory is for"
    for one, (regions, likely) in zip(together, singly, strict=True):
        assert [region.label for region in one.regions] == [region.label for region in regions]
        assert [region.score for region in one.regions] == pytest.approx([one.score for one in regions], abs=1e-5)
        assert one.scenes == pytest.approx(likely, abs=1e-5)


def test_an_image_is_looked_at_once_for_all_classes(seeing):
    assistant, asked = seeing
    found = assistant.detect(WIDE, ["ship", "bridge", "car"])
    assert [region.label for region in found][:2] == ["ship", "ship"]
    assert len(asked) == 1


def test_the_tokens_of_a_deduced_answer_are_its_boxes(seeing):
    assistant, asked = seeing
    raster, task = open_raster(WIDE), object_detection.TASK
    conversations = [
        Conversation.of((raster,), task.question("ship")),
        Conversation.of((raster,), image_captioning.TASK.question()),
        Conversation.of((raster,), "Is there a ship in the image?", "no", visual_grounding.TASK.question("the bridge")),
        Conversation.of((raster,), task.question("car")),
        Conversation.of((raster, raster), task.question("ship")),
        Conversation.of((), task.question("ship")),
    ]
    ships, *others = deduce(assistant.model, assistant.processor, conversations)
    assert ships.text == "There are two ships [0.000,0.500,0.250,0.750;0.500,0.250,1.000,0.500] in the image."
    assert "".join(ships.text[start:end] for start, end in ships.spans) == ships.text and ships.finished
    assert [ships.probability(*span) for _, span in task.spans(ships.text, (200, 100))] == [0.5, pytest.approx(0.9)]
    assert [one and one.text for one in others] == [None, visual_grounding.NOTHING, None, None, None]
    assert len(asked) == 1  # an image is looked at once for all questions
    assistant.model.drop_dense_heads()
    assert deduce(assistant.model, assistant.processor, conversations) == [None] * 6


def test_the_assistant_says_what_is_seen_unless_it_is_to_speak_freely(seeing, monkeypatch):
    assistant, _ = seeing
    assert [one.score for one in assistant.detect(WIDE, "ship", min_score=0.6)] == [pytest.approx(0.9)]
    found = assistant.detect(WIDE, "ships")
    assert [(one.label, one.score) for one in found] == [("ship", 0.5), ("ship", pytest.approx(0.9))]
    assert assistant.ground(WIDE, "the leftmost ship") == Region(Box(0, 0.5, 0.25, 1), "the leftmost ship", 0.5)
    assert assistant.ask(WIDE, "How many ships are there in the image?") == "2"
    monkeypatch.setattr(perception, "Seen", None)
    assistant.constrained = False
    assert isinstance(assistant.ask(WIDE, "How many ships are there in the image?"), str)


def test_an_evaluation_asks_the_language_model_for_the_rest_only(seeing, monkeypatch):
    assistant, _ = seeing
    raster, left = open_raster(WIDE), []

    def say(assistant, conversations, most):
        left.extend(one.messages[0].text for one in conversations)
        return [f"said {i}" for i in range(len(conversations))]

    monkeypatch.setattr(evaluation, "_generate", say)
    questions = ["What is this?", "Is there a ship in the image?", "Why?", "Is there a bridge in the image?"]
    conversations = [Conversation.of((raster,), one) for one in questions]
    answers = evaluation.ask(assistant, conversations, 8)
    assert [getattr(one, "text", one) for one in answers] == ["said 0", "yes", "said 1", "no"]
    assert left == ["What is this?", "Why?"]


def test_a_closed_list_that_the_heads_know_is_chosen_from_by_them(model, processor, monkeypatch):
    model.add_dense_heads(Vocabulary(("forest", "port", "sea"), ("ship",)))
    found = model.scene(processor.normalise([processor.square(WIDE)]))[0].tolist()
    likely = dict(zip(("forest", "port", "sea"), found, strict=True))
    assert sum(likely.values()) == pytest.approx(1)
    assistant = EarthGPT(model, processor)
    found = assistant.classify(WIDE, ["sea", "port"]).probabilities
    assert found == {one: pytest.approx(likely[one] / (likely["sea"] + likely["port"])) for one in ("port", "sea")}
    row = scan(assistant, open_scene(WIDE), Job("classify", 200, classes=("sea", "port"))).features[0].region
    assert (row.label, row.score) == (next(iter(found)), pytest.approx(max(found.values()), abs=1e-4))
    assert Seen(model, processor, open_raster(WIDE)).choose(["sea", "moon"]) is None
    monkeypatch.setattr(model, "scene", None)
    assert set(assistant.classify(WIDE, ["sea", "moon"]).probabilities) == {"sea", "moon"}  # by the language model


def test_tiles_of_a_scene_are_searched_by_the_heads(seeing):
    assistant, asked = seeing
    job = Job("detect", 100, classes=("ship", "car"))
    found = scan(assistant, open_scene(WIDE), job)
    # Each of two tiles has a ship in its upper right quarter and one at its left; "car" is left to the language model.
    ships = [one.region for one in found.features if one.region.label == "ship"]
    assert len(asked) == 1 and found.tiles == 2 and len(ships) == 4  # tiles are looked at together
    assert Region(Box(0.75, 0.25, 1, 0.5), "ship", 0.9) in ships
    sure = scan(assistant, open_scene(WIDE), replace(job, classes=("ship",), min_score=0.6))
    assert [feature.region.score for feature in sure.features] == [0.9, 0.9]
    assert not scan(assistant, open_scene(WIDE), replace(job, constrained=False)).counts["ship"] and len(asked) == 2


def test_a_folder_and_places_of_a_scene_are_answered_as_one_image_is(seeing, monkeypatch, tmp_path):
    assistant, _ = seeing
    question = "How many ships are there in the image?"
    job = Job("ask", 200, question=question)
    ((_, said, _, wrong),) = scenes.each(assistant, job, [WIDE], lambda source: (open_scene(source), None))
    assert (said, wrong) == (assistant.ask(WIDE, question), "") == ("2", "")
    write_geotiff(tmp_path / "wide.tif", WIDE, 500_000, 5_000_000, 1.0, 32633)
    scene = open_scene(tmp_path / "wide.tif")
    corners = scene.to_wgs84(np.array([[100.0, 0.0], [200.0, 50.0]]))
    monkeypatch.setattr(scenes, "generate", None)  # nothing is left to the language model
    (found,) = scenes.describe(assistant, scene, [Area((tuple(tuple(map(float, one)) for one in corners),), {})])
    assert found.region.label == "a ship"


def test_a_server_answers_as_the_assistant_does(seeing):
    pytest.importorskip("fastapi")
    from servers import png, running

    assistant, asked = seeing
    picture, task = png(WIDE), object_detection.TASK
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    with running(assistant) as served:
        found = served.client.post("/v1/detect", files={"image": picture}, data={"classes": "ship"}).json()["regions"]
        assert [(one["score"], one["corners"][0]) for one in found] == [(0.5, [0.0, 50.0]), (0.9, [100.0, 0.0])]
        sure = {"classes": "ship", "min_score": 0.6}
        assert len(served.client.post("/v1/detect", files={"image": picture}, data=sure).json()["regions"]) == 1

        def say(text, **options):
            parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
            body = {"model": "tiny", "messages": [{"role": "user", "content": parts}], "logprobs": True, **options}
            reply = served.client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            return reply

        reply = say(task.question("ship")).json()
        choice = reply["choices"][0]
        assert task.parse(choice["message"]["content"], (200, 100))[1] == Region(Box(0.5, 0, 1, 0.5), "ship")
        pieces = choice["logprobs"]["content"]
        assert "".join(one["token"] for one in pieces) == choice["message"]["content"]
        assert [round(np.exp(one["logprob"]), 3) for one in pieces] == [1, 0.5, 1, 0.9, 1]
        written = assistant.processor.tokenizer(choice["message"]["content"], add_special_tokens=False)["input_ids"]
        assert reply["usage"]["completion_tokens"] == len(written) and choice["finish_reason"] == "stop"
        streamed = [json.loads(line[6:]) for line in say(task.question("ship"), stream=True).text.split("\n\n")
                    if line.startswith("data: {")]  # fmt: skip
        text = "".join(one["choices"][0]["delta"].get("content", "") for one in streamed)
        assert text == choice["message"]["content"]
        count = len(asked)
        short = say(task.question("ship"), max_tokens=4).json()["choices"][0]  # no room: the language model's own
        assert short["finish_reason"] in ("length", "stop") and len(short["logprobs"]["content"]) <= 4
        say(task.question("ship"), temperature=1.0)
        assert len(asked) == count == 1  # the image is looked at once for all of them


def test_the_default_model_finds_what_it_is_shown():
    """Scenes that the package draws, of a split that no recipe trains on."""
    assistant, task = load(), object_detection.TASK
    found, true, kinds = [], [], []
    for seed in range(400, 408):
        for sensor in Sensor:
            sample = synthetic.scene(seed, sensor, (224, 224))
            raster = open_raster(sample.image, sensor)
            found.append(tuple(assistant.detect(raster, oriented=True)))
            true.append(task.answer(sample.regions, None, oriented=True))
            kinds.append(assistant.classify(raster, sample.choices).label == sample.label)
    assert np.mean(kinds) > 0.9
    assert match_detections(found, true, protocol="coco").summary(None)["f1"] > 0.4
    upright = [tuple(replace(one, box=one.box.bounds) for one in each) for each in (*found, *true)]
    assert match_detections(upright[:24], upright[24:]).summary(None)["f1"] > 0.6
