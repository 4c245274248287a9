"""OpenAI's own client talks to the server, and gets what the model says elsewhere."""

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from servers import png, running

from earthgpt.endpoints import Endpoint
from earthgpt.generation import generate
from earthgpt.serve.engine import Engine
from earthgpt.serve.requests import Request
from earthgpt.tasks import wording
from earthgpt.types import Conversation


def said(text, *pictures):
    """A user's message."""
    urls = [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def ask(client, messages, **options):
    return client.chat.completions.create(model="tiny", messages=messages, **{"max_tokens": 24, **options})


def alone(assistant, picture, text, tokens=24):
    """The answer of ``generation.generate``, with nobody else."""
    import io

    from PIL import Image

    square = assistant.processor.square(Image.open(io.BytesIO(picture)))
    return generate(assistant.model, assistant.processor, [Conversation.of((0,), text)], [square], tokens)[0]


def test_an_answer_is_that_of_generate(client, assistant, pictures):
    reply = ask(client, [said("Is there a ship?", pictures[0])], logprobs=True, top_logprobs=2)
    expected = alone(assistant, pictures[0], "Is there a ship?")
    choice = reply.choices[0]
    assert choice.message.content == expected.text
    assert choice.finish_reason == ("stop" if expected.finished else "length")
    assert [one.logprob for one in choice.logprobs.content] == pytest.approx(np.log(expected.probabilities), abs=1e-3)
    assert "".join(one.token for one in choice.logprobs.content) == expected.text
    assert choice.logprobs.content[0].token == choice.logprobs.content[0].top_logprobs[0].token
    # One token that starts a text, 4 x 4 visual ones, an image start and an image end come before the words.
    words = assistant.processor.render(Conversation.of((), "Is there a ship?"))["input_ids"]
    assert reply.usage.prompt_tokens == 18 + len(words)
    assert reply.usage.completion_tokens == len(expected.probabilities)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 3, "top_p": 0.9}, {"stop": ["e", "xyz"]}])
def test_a_stream_is_the_whole_answer_in_parts(client, pictures, options):
    messages = [said("What is this?", pictures[1])]
    reply = ask(client, messages, logprobs=True, **options)
    chunks = list(ask(client, messages, stream=True, logprobs=True, stream_options={"include_usage": True}, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == reply.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == reply.choices[0].finish_reason
    tokens = [t.logprob for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert tokens == pytest.approx([one.logprob for one in reply.choices[0].logprobs.content], abs=1e-3)
    assert chunks[-1].usage.total_tokens == reply.usage.total_tokens


def test_a_seed_gives_the_same_sample_and_another_gives_another(client, pictures):
    texts = [
        ask(client, [said("What?", pictures[0])], temperature=2, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_an_answer_ends_before_a_stop_text(client, pictures):
    text = ask(client, [said("What is this?", pictures[1])]).choices[0].message.content
    stop = text[3:6]
    reply = ask(client, [said("What is this?", pictures[1])], stop=stop)
    assert reply.choices[0].message.content == text[: text.index(stop)] and reply.choices[0].finish_reason == "stop"


def test_an_answer_ends_before_the_first_of_its_stop_texts_whatever_their_order(client, pictures):
    text = ask(client, [said("What is this?", pictures[1])]).choices[0].message.content
    stops = [text[5:6], text[4:6], text[3:5]]
    reply = ask(client, [said("What is this?", pictures[1])], stop=stops)
    assert reply.choices[0].message.content == text[: min(map(text.index, stops))]


def test_the_answer_of_a_client_that_left_is_not_made(assistant, monkeypatch):
    step, ends = Engine._step, []
    end = Request.end
    monkeypatch.setattr(Request, "end", lambda self, finish: (ends.append(finish), end(self, finish)))
    monkeypatch.setattr(Engine, "_step", lambda self: (time.sleep(0.05), step(self)))
    body = {"model": "tiny", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 150, "temperature": 1.5}
    with running(assistant) as found:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{found.url}/v1/chat/completions", json={**body, "seed": 3}, timeout=0.5)
        until = time.monotonic() + 2
        while found.engine.running and time.monotonic() < until:
            time.sleep(0.02)
        assert not found.engine.running and ends == ["cancelled"]


def test_a_long_question_is_refused_before_its_words_are_looked_through(client, pictures, monkeypatch):
    monkeypatch.setattr(wording.re, "fullmatch", lambda *given: pytest.fail("a pattern was tried"))
    long = "Are there more " + "a than " * 20_000
    with pytest.raises(openai.BadRequestError, match="leave images or messages out"):
        ask(client, [said(long, pictures[0])])
    assert wording.read_back(("Are there more {nouns} than {others}?",), long) is None


def test_max_tokens_ends_an_answer(client, pictures):
    reply = ask(client, [said("What is this?", pictures[1])], max_tokens=2)
    assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 2


def test_a_second_turn_reads_neither_the_image_nor_the_first_question_again(client, served, assistant):
    values = np.random.default_rng(7).integers(0, 256, (50, 50, 3), np.uint8)
    messages = [said("What is this?", png(values))]
    before = served.engine.encoded
    answer = ask(client, messages, max_tokens=5).choices[0].message.content
    reply = ask(client, [*messages, {"role": "assistant", "content": answer}, said("Is it busy?")])
    assert served.engine.encoded == before + 1
    first = assistant.processor.render(Conversation.of((0,), "What is this?"))["input_ids"]
    assert first.count(assistant.processor.image_token_id) == 18
    assert len(first) <= reply.usage.prompt_tokens_details.cached_tokens < reply.usage.prompt_tokens
    asked = Conversation.of((0,), "What is this?", answer, "Is it busy?")
    square = assistant.processor.square(values)
    assert (
        reply.choices[0].message.content
        == generate(assistant.model, assistant.processor, [asked], [square], 24)[0].text
    )
    # One value of one pixel more: another image.
    values[0, 0, 0] ^= 255
    ask(client, [said("What is this?", png(values))], max_tokens=1)
    assert served.engine.encoded == before + 2


def test_concurrent_requests_are_decoded_together_and_answered_as_alone(client, served, assistant, pictures):
    asked = [
        (pictures[i % 4], f"Is there a {word}?") for i, word in enumerate(["ship", "bridge", "car", "airport"] * 4)
    ]
    expected = [alone(assistant, *one).text for one in asked]
    steps, rows, gate = served.engine.steps, served.engine.rows, threading.Barrier(len(asked))

    def one(pair):
        gate.wait()
        return ask(client, [said(pair[1], pair[0])]).choices[0].message.content

    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(one, asked))
    assert found == expected
    steps, rows = served.engine.steps - steps, served.engine.rows - rows
    assert rows > 3 * steps  # on average more than three answers a pass


def test_several_images_come_in_order(client, assistant, pictures):
    import io

    from PIL import Image

    squares = [assistant.processor.square(Image.open(io.BytesIO(one))) for one in pictures[:2]]
    asked = Conversation.of((0, 1), "What differs?")
    expected = generate(assistant.model, assistant.processor, [asked], squares, 24)[0].text
    assert ask(client, [said("What differs?", *pictures[:2])]).choices[0].message.content == expected


def test_words_alone_are_answered(client):
    assert ask(client, [{"role": "user", "content": "Hello"}]).usage.prompt_tokens < 19


def test_our_own_client_of_chat_servers_understands_it(served, assistant, tmp_path, pictures):
    path = tmp_path / "a.png"
    path.write_bytes(pictures[0])
    endpoint = Endpoint(f"{served.url}/v1", "tiny", probabilities=True)
    answer = endpoint.ask(Conversation.of((path,), "Is there a ship?"), 24)
    expected = alone(assistant, pictures[0], "Is there a ship?")
    assert answer.text == expected.text
    assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-3)


def test_the_model_is_listed(client):
    assert [one.id for one in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-9'"):
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [{"role": "system", "content": "Be kind."}]}, "role"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "alternate"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty"),
        ({"messages": [{"role": "user", "content": "<image>"}]}, "stands for an image"),
        ({"messages": [{"role": "user", "content": "word " * 300}]}, "tokens"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:,"}]}]},
            "image_url: Input",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "data:,"}]}]}, "'image'"),
        ({"messages": [{"role": "user", "content": 5}]}, "content"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n:"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"max_tokens": 100_000}, "at most"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"top_logprobs": 3}, "goes with logprobs"),
    ],
)
def test_what_the_model_cannot_do_is_said_in_openais_words(client, change, words):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], **change})
    assert words in error.value.message and error.value.type == "invalid_request_error"
