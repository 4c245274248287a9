"""A chat in the form of other programs becomes the very tokens of ``render``."""

import numpy as np
import parts
import pytest
import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import AutoProcessor, LlamaTokenizer, pipeline

from earthgpt.model import EarthGPTProcessor
from earthgpt.model.assemble import ASSISTANT, IMAGE_TOKEN, USER
from earthgpt.model.chat_template import conversation_of
from earthgpt.types import Conversation, EarthGPTError

TEXTS = [("What is this?",), ("Is there a ship?", "yes, 2", "Where is it?"), ("  two  spaces \n", "it's\n'so'", "and?")]


def llama_tokenizer(legacy):
    """As LLaMA-2 has it: a text on its own starts with a space, a part of a text does not."""
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"Humanisthery",
        "▁H",
        "▁y",
        "es",
    ]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return LlamaTokenizer(vocab=vocabulary, merges=[("▁", "H"), ("▁", "y"), ("e", "s")], legacy=legacy)


def processors():
    """(name, processor) for tokenizers that split texts in different ways."""
    for name, tokenizer in (
        ("bytes", parts.tokenizer()),
        ("llama", llama_tokenizer(False)),
        ("llama, legacy", llama_tokenizer(True)),
    ):
        tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
        yield name, EarthGPTProcessor(tokenizer, 64, 16, image_token=IMAGE_TOKEN, user=USER, assistant=ASSISTANT)


def messages_of(texts, images):
    """A chat with its images in front of the first question."""
    chat = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    chat[0]["content"] = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": texts[0]}]
    return chat


def expanded(processor, text):
    """Ids of a prompt with each image token at all places of its image, as inference engines put them."""
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    image = processor.image_token_id
    return [one for i in ids for one in [i] * (processor.tokens_per_image if i == image else 1)]


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("images", [0, 1, 2])
def test_the_template_gives_the_tokens_of_render(processor, texts, images):
    for name, one in [("ours", processor), *processors()]:
        text = one.apply_chat_template(messages_of(texts, images), add_generation_prompt=True)
        wanted = one.render(Conversation.of(("image",) * images, *texts))["input_ids"]
        assert expanded(one, text) == wanted, name


def test_a_tokenizer_that_starts_texts_with_a_space_is_told_apart_from_one_that_does_not():
    found = dict(processors())
    asked = {name: one.apply_chat_template(messages_of(["a"], 1)) for name, one in found.items()}
    assert asked["bytes"] == "<s><image>Human: a\nAssistant:\n"
    assert asked["llama"] == "<s><image> Human: a\nAssistant:\n"


def test_the_template_is_saved_for_other_programs_and_made_anew_for_us(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    file = tmp_path / "chat_template.jinja"
    assert file.read_text() == processor.chat_template
    file.write_text("changed")
    assert AutoProcessor.from_pretrained(tmp_path).chat_template == processor.chat_template


def test_what_render_refuses_the_template_refuses(processor):
    with pytest.raises(TemplateError, match="stands for an image"):
        processor.apply_chat_template(messages_of(["Is <image> here?"], 1))
    with pytest.raises(TemplateError, match="not of the system"):
        processor.apply_chat_template([{"role": "system", "content": "Be kind."}])


# --- chats with their images -------------------------------------------------------------------------------------


def chat(image, text="What is this?"):
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


def test_a_tokenized_chat_is_what_the_processor_makes_of_image_and_question(processor, squares, tmp_path):
    Image.fromarray(squares[0]).save(tmp_path / "a.png")
    wanted = processor(images=[squares[0]], text="What is this?")
    for image in ({"image": squares[0]}, {"image": Image.fromarray(squares[0])}, {"path": str(tmp_path / "a.png")}):
        found = processor.apply_chat_template(
            chat({"type": "image", **image}), tokenize=True, return_dict=True, add_generation_prompt=True
        )
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_several_chats_are_a_batch(processor, squares):
    chats = [chat({"type": "image", "image": one}, text) for one, text in zip(squares[:2], ("a", "b c"), strict=True)]
    found = processor.apply_chat_template(chats, tokenize=True)
    wanted = processor(images=list(squares[:2]), text=["a", "b c"])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_images_are_kept_as_they_are_and_texts_of_a_message_stand_on_lines():
    deep = np.zeros((2, 2), np.uint16)
    content = [{"type": "text", "text": "One"}, {"type": "image", "image": deep}, {"type": "text", "text": "two?"}]
    found = conversation_of([{"role": "user", "content": content}])
    assert found.images[0] is deep
    assert found.messages[0].text == "One\ntwo?"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "system", "content": "Be kind."}, "not of the system"),
        ({"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}, "video cannot be read"),
        ({"role": "user", "content": [{"type": "image"}]}, "no image, url, path or base64"),
    ],
)
def test_a_chat_that_cannot_be_read_is_an_error(message, told):
    with pytest.raises(EarthGPTError, match=told):
        conversation_of([message])


def test_the_pipeline_of_transformers_answers_a_chat(model_folder, model, processor, squares):
    ask = pipeline("image-text-to-text", model=str(model_folder))
    found = ask(chat({"type": "image", "image": squares[0]}), max_new_tokens=6, return_full_text=False)
    inputs = processor(images=[squares[0]], text="What is this?")
    wanted = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert found[0]["generated_text"] == processor.tokenizer.decode(wanted, skip_special_tokens=True)
