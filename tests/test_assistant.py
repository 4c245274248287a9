"""The model in the words of the six tasks: values come out, and mistakes are told in one line."""

import io
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import earthgpt
from earthgpt import assistant as assistant_module
from earthgpt.assistant import EarthGPT, load
from earthgpt.datasets import synthetic
from earthgpt.generation import Answer
from earthgpt.types import Box, Conversation, EarthGPTError, OrientedBox, Region

WIDE = np.zeros((100, 200, 3), np.uint8)  # 200 x 100: in the padded square y runs from 0.25 to 0.75


@pytest.fixture
def tiny(model, processor):
    return EarthGPT(model, processor)


@pytest.fixture
def scripted(tiny, monkeypatch):
    """The assistant, a list of what it will say (each character a token, half sure), and what it was asked."""
    texts, asked = [], []

    def say(model, processor, conversations, squares, **options):
        asked.append(conversations[0])
        text = texts.pop(0)
        spans = tuple((i, i + 1) for i in range(len(text)))
        return [Answer(text, spans, (0.5,) * len(text), True)]

    monkeypatch.setattr(assistant_module, "generate", say)
    return tiny, texts, asked


def test_every_method_works_on_a_model_with_random_weights(tiny):
    assert isinstance(tiny.ask(WIDE, "How many ships are there?"), str)
    assert isinstance(tiny.caption(WIDE), str)
    assert isinstance(tiny.describe(WIDE, Box(0, 0, 0.5, 0.5)), str)
    assert isinstance(tiny.ground(WIDE, "the largest ship"), Region | None)
    assert all(region.label == "ship" and 0 < region.score < 1 for region in tiny.detect(WIDE, "ship"))
    found = tiny.classify(WIDE, ["harbor", "airport", "harbor ", ""])
    assert set(found.probabilities) == {"harbor", "airport"} and found == tiny.classify(WIDE, "harbor, airport")
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.probabilities[found.label] == max(found.probabilities.values())
    assert isinstance(tiny.classify(WIDE).label, str)


def test_the_same_question_gets_the_same_answer(tiny):
    assert tiny.ask(WIDE, "What is this?") == tiny.ask(WIDE, " What is this? ")


def test_a_grounded_box_is_in_the_frame_of_the_image_and_has_a_score(scripted):
    tiny, texts, asked = scripted
    texts.append("[0.500,0.250,1.000,0.500]")
    region = tiny.ground(WIDE, "the ship")
    assert region == Region(Box(0.5, 0.0, 1.0, 0.5), "the ship", pytest.approx(0.5))
    assert (
        asked[0]
        .messages[0]
        .text.endswith("horizontal bounding box coordinate of the region which is described as: the ship")
    )


def test_detections_have_their_class_and_score_and_may_be_oriented(scripted):
    tiny, texts, asked = scripted
    texts.append("There are two ships [0.000,0.250,0.500,0.500;0.500,0.500,1.000,0.750] in the image.")
    assert tiny.detect(WIDE, "ship") == [
        Region(Box(0.0, 0.0, 0.5, 0.5), "ship", pytest.approx(0.5)),
        Region(Box(0.5, 0.5, 1.0, 1.0), "ship", pytest.approx(0.5)),
    ]
    texts.append("There is one ship [0.500,0.300,0.700,0.500,0.500,0.700,0.300,0.500] in the image.")
    (region,) = tiny.detect(WIDE, oriented=True)
    assert isinstance(region.box, OrientedBox)
    assert region.box.bounds.left == pytest.approx(0.3) and region.box.bounds.top == pytest.approx(0.1)
    assert [conversation.messages[0].text for conversation in asked] == [
        "Detect all ships shown in the image and describe using horizontal bounding boxes.",
        "Detect all objects shown in the remote sensing image and describe using oriented bounding boxes.",
    ]


def test_detection_in_steps_is_a_dialogue(scripted):
    tiny, texts, asked = scripted
    texts += [" 2 ", "There is one ship [0.000,0.250,0.500,0.500] in the image."]
    assert len(tiny.detect(WIDE, "ship", steps=("count",))) == 1
    assert [message.text for message in asked[1].messages] == [
        "How many ships are there in the image? Answer the question using a single word or phrase.",
        "2",
        "Detect all ships shown in the image and describe using horizontal bounding boxes.",
    ]


def test_a_step_may_be_named_alone(scripted):
    tiny, texts, asked = scripted
    texts += ["two", "", ""]
    tiny.detect(WIDE, "ship", steps="count")
    tiny.detect(WIDE, "ship", steps=None)
    assert [len(one.messages) for one in asked] == [1, 3, 1]


def test_nothing_found_and_nothing_readable_are_empty(scripted):
    tiny, texts, _ = scripted
    texts += ["There are no such objects in the image.", "harbor", "[0.9,0.9,0.1,0.1]"]
    assert tiny.detect(WIDE, "ship") == []
    assert tiny.detect(WIDE, "ship") == []
    assert tiny.ground(WIDE, "the ship") is None


def test_a_box_is_described_in_the_padded_square(scripted):
    tiny, texts, asked = scripted
    texts += ["a ship", "a ship"]
    assert tiny.describe(WIDE, Region(Box(0.5, 0.0, 1.0, 0.5), "?")) == "a ship"
    assert asked[0].messages[0].text.endswith("[0.500,0.250,1.000,0.500]")
    diamond = OrientedBox(((0.5, 0.0), (1.0, 0.25), (0.75, 0.5), (0.5, 0.25)))
    assert tiny.describe(WIDE, diamond) == "a ship"
    assert asked[1].messages == asked[0].messages


def test_a_chat_remembers_what_was_said(scripted):
    tiny, texts, asked = scripted
    texts += ["A harbor.", "Two."]
    chat = tiny.chat(WIDE)
    assert (chat.ask("What is this?"), chat.ask("How many ships?\n")) == ("A harbor.", "Two.")
    assert [message.text for message in asked[1].messages] == ["What is this?", "A harbor.", "How many ships?"]
    assert len(asked[1].images) == 1


def test_a_chat_looks_at_its_image_once(monkeypatch):
    assistant = load()
    scene = next(iter(synthetic.DATASET.read("", "val")))
    raster = earthgpt.open(scene.image, scene.sensor)
    counts, encoder = [], assistant.model.vision_encoder
    hook = encoder.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    chat, said, looks = assistant.chat(raster), [], []
    questions = (
        "How many ships are there in the image?",
        "Describe the image.",
        "Is there a ship in the image?",
        "Why?",
    )
    for question in questions:
        counts.clear()
        said.append(chat.ask(question))
        looks.append(len(counts))
    assert (
        looks[0] > 0 and looks[1] == 1 and looks[2:] == [0, 0]
    )  # for its objects, for the language model, and no more
    hook.remove()
    for number, question in enumerate(questions):
        texts = [text for pair in zip(questions[:number], said, strict=False) for text in pair]
        assert assistant.say(Conversation.of((raster,), *texts, question)).text.strip() == said[number]


def test_a_question_that_fails_is_not_kept_in_a_chat(scripted):
    tiny, texts, _ = scripted
    chat = tiny.chat(WIDE)
    with pytest.raises(EarthGPTError, match="question is empty"):
        chat.ask("  ")
    with pytest.raises(IndexError):  # the script has ended
        chat.ask("What is this?")
    assert chat.conversation.messages == ()


def test_a_chat_may_be_about_no_image(tiny):
    assert isinstance(tiny.chat().ask("What is SAR?"), str)


def test_a_chat_longer_than_the_model_can_read_says_so_and_keeps_what_was_said(tiny):
    chat = tiny.chat(WIDE)
    assert isinstance(chat.ask("How many ships are there in the image? " * 4), str)
    before = chat.conversation
    with pytest.raises(EarthGPTError, match="tokens, and the model reads 192 with its answer"):
        chat.ask("How many ships are there in the image? " * 40)
    assert chat.conversation == before
    with pytest.raises(EarthGPTError, match="tokens, and the model reads 192"):
        tiny.classify(WIDE, [f"class {i}" for i in range(100)])


def test_the_sensor_of_an_array_decides_its_radiometry(tiny):
    rng = np.random.default_rng(0)
    radar = rng.exponential(size=(32, 32)).astype(np.float32) ** 3
    seen = [tiny._square(earthgpt.open(radar, sensor)) for sensor in ("optical", "sar")]
    assert not np.array_equal(*seen)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda tiny: tiny.ask(WIDE, ""), "The question is empty"),
        (lambda tiny: tiny.ground(WIDE, " \n"), "The phrase is empty"),
        (lambda tiny: tiny.detect(WIDE, ""), "list of classes is empty"),
        (lambda tiny: tiny.detect(WIDE, "ship", min_score=50), "from 0 to 1, not 50"),
        (lambda tiny: tiny.detect(WIDE, "ship", min_score="0.5"), "from 0 to 1, not '0.5'"),
        (lambda tiny: tiny.describe(WIDE, (1, 2, 3, 4)), "Box.from_pixels"),
        (lambda tiny: tiny.caption(np.zeros((3, 64, 64), np.uint8)), "has its bands first"),
        (lambda tiny: tiny.caption(np.zeros((3, 40, 40), np.uint8)), "has its bands first"),
        (lambda tiny: tiny.caption(np.zeros((10, 224, 224), np.uint16)), "has its bands first"),
        (lambda tiny: tiny.caption(WIDE, sensor="thermal"), "Did you mean infrared?"),
        (lambda tiny: tiny.classify(WIDE, [" ", ""]), "list of classes is empty"),
        (lambda tiny: tiny.classify(WIDE, []), "list of classes is empty"),
        (lambda tiny: tiny.ask("nowhere.png", "What?"), "no file nowhere.png"),
        (lambda tiny: tiny.ask(WIDE, "What?", sensor="lidar"), "optical, sar, infrared; not 'lidar'"),
        (lambda tiny: tiny.ask(np.zeros((0, 4)), "What?"), "An image is an array"),
        (lambda tiny: tiny.ask(WIDE, "Is <image> here?"), "<image>"),
        (lambda tiny: tiny.ask(WIDE, None), "one text, not a NoneType"),
        (lambda tiny: tiny.ask([[1, 2], [3, 4]], "What?"), "not a list: [[1, 2], [3, 4]]"),
        (lambda tiny: tiny.ask(io.BytesIO(b"GIF8"), "What?"), "PIL.Image.open"),
        (lambda tiny: tiny.ask("", "What?"), "the name of a file"),
        (lambda tiny: tiny.ask("a\0b.png", "What?"), "embedded null byte"),
        (lambda tiny: tiny.say("What?"), "not a str; see ask and chat"),
    ],
)
def test_a_mistake_is_told_in_one_line(tiny, mistake, says):
    with pytest.raises(EarthGPTError) as told:
        mistake(tiny)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_conversation_of_files_and_arrays_can_be_said(tiny, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    answer = tiny.say(Conversation.of((tmp_path / "a.png", WIDE), "What changed?"))
    assert answer.spans


def test_load_takes_a_folder_and_refuses_what_is_no_model(model_folder, tmp_path):
    assert isinstance(load(model_folder, "cpu"), EarthGPT)
    assert not load(model_folder, "cpu").model.training
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").touch()
    with pytest.raises(EarthGPTError, match="Did you mean"):  # the folder of a training run
        load(tmp_path / "run")
    with pytest.raises(EarthGPTError, match=r"the folder has no config\.json"):
        load(tmp_path)
    with pytest.raises(EarthGPTError, match="No model 'earthgpt-tony'"):
        load("earthgpt-tony")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EarthGPTError, match="Cannot load the model") as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change", [lambda weight: None, lambda weight: weight[:1]], ids=["missing", "smaller"])
def test_weights_that_do_not_fit_are_refused_by_name(model_folder, tmp_path, change):
    shutil.copytree(model_folder, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in sorted(weights) if name.startswith("mm_projector") and weights[name].ndim == 2)
    changed = change(weights.pop(name))
    save_file(weights if changed is None else {**weights, name: changed.clone()}, file, {"format": "pt"})
    with pytest.raises(EarthGPTError, match=rf"damaged or of another version of EarthGPT: {name} .*\(1 in all\)"):
        load(tmp_path / "model")


def test_weights_are_of_the_type_that_is_asked_for_and_float32_on_a_processor(monkeypatch):
    assert {str(load(device="cpu", dtype=dtype).model.dtype) for dtype in (None, "float32")} == {"torch.float32"}
    half = load(device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    scene = next(iter(synthetic.DATASET.read("", "val")))
    assert half.classify(scene.image(), scene.choices, scene.sensor).label == scene.label
    asked = []
    monkeypatch.setattr(assistant_module, "load_model", lambda name, dtype: asked.append(dtype) or (half.model, None))
    monkeypatch.setattr(type(half.model), "to", lambda self, device: self)
    monkeypatch.setattr(assistant_module.torch, "empty", lambda size, device: None)
    load(device="cuda")
    assert asked == ["auto"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": None}, "named by text"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "CPU"}, "no device 'CPU'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"dtype": "bf16"}, "auto, float32, bfloat16, float16, float64; not 'bf16'"),
    ],
)
def test_what_no_model_can_be_loaded_as_is_told(options, says):
    with pytest.raises(EarthGPTError, match=re.escape(says)):
        load(**options)


def test_a_type_of_torch_is_a_type_of_weights():
    assert load(device="cpu", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_name_that_is_no_folder_may_be_a_typing_error(monkeypatch):
    from earthgpt.model import loading

    def unreachable(*words):
        raise OSError("We couldn't connect to the hub.")

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", unreachable)
    with pytest.raises(EarthGPTError, match="There is no folder 'no/where', and no such model on the hub: We couldn't"):
        load("no/where")


def test_what_is_shown_of_an_image_a_model_and_a_dialogue_is_short(tiny):
    raster = earthgpt.open(np.zeros((2, 4, 3), np.uint8), "sar")
    assert repr(raster) == "<Raster array: 4 x 2 pixels, sar, no CRS>"
    assert raster._repr_png_().startswith(b"\x89PNG")
    assert repr(tiny).startswith("<EarthGPT of 0.")
    chat = tiny.chat(raster)
    chat.ask("What is this?")
    assert repr(chat).startswith("<Chat about 1 image(s)>\nuser: What is this?\nassistant: ")
    with pytest.raises(EarthGPTError, match="A question is one text, not a list"):
        tiny.ask(raster, ["What is this?"])


def test_a_model_of_another_kind_is_refused(tmp_path, config, processor):
    from transformers import LlamaForCausalLM

    LlamaForCausalLM(config.text_config).save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EarthGPTError) as told:
        load(tmp_path)
    assert "\n" not in str(told.value)
