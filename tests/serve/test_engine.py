"""The engine by itself: samples of any temperature, faults of one request, functions in its thread, long lists."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from earthgpt.generation import choice_probabilities, generate
from earthgpt.geo.raster import open_raster
from earthgpt.grammar import Grammar
from earthgpt.model.decoding import read
from earthgpt.model.dense import Vocabulary
from earthgpt.serve import engine as engine_module
from earthgpt.serve import requests
from earthgpt.serve.engine import Engine
from earthgpt.serve.requests import BusyError, Decoding, sampled
from earthgpt.serve.tasks import BatchedEarthGPT
from earthgpt.tasks import Deduced, object_detection, visual_question_answering
from earthgpt.types import Conversation, EarthGPTError

SQUARE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture(params=[False, True], ids=["one thread", "images beside"])
def engine(request, shared_model, processor):
    """An engine that is closed afterwards; two requests may wait."""
    found = Engine(shared_model, processor, most_waiting=2, beside=request.param)
    yield found
    found.close()


@pytest.mark.parametrize("decoding", [Decoding(temperature=1e-40), Decoding(temperature=5e-324),
                                      Decoding(temperature=1.0, top_p=1e-50)])  # fmt: skip
def test_next_to_no_chance_leaves_the_likeliest_token(decoding):
    likely = torch.tensor([0.0, 1.0, 3.0, -torch.inf]).log_softmax(-1)
    assert sampled(likely, decoding, torch.Generator().manual_seed(0)) == 2


def test_a_sample_has_the_chances_of_the_model():
    likely = torch.tensor([0.5, 0.2, 0.3]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = [sampled(likely, Decoding(temperature=1.0, top_p=0.7), generator) for _ in range(4000)]
    # The two likeliest have 0.8 together, so the first has 0.5 / 0.8.
    assert drawn.count(1) == 0 and drawn.count(0) / 4000 == pytest.approx(0.625, abs=0.03)


def test_a_fault_of_one_request_is_told_to_it_alone(engine, shared_model, processor, monkeypatch):
    def failing(*given):
        raise RuntimeError("no sum of probabilities")

    monkeypatch.setattr(requests, "sampled", failing)
    talk, begun, ended = Conversation.of((0,), "Is there a ship?"), threading.Event(), threading.Event()
    first = engine.submit(talk, [SQUARE], Decoding(8), told=lambda one: (begun.set(), one.done and ended.set()))
    begun.wait()
    with pytest.raises(RuntimeError, match="no sum"):
        engine.ask(talk, [SQUARE], Decoding(8, temperature=1.0))
    ended.wait()
    assert first.answer().text == generate(shared_model, processor, [talk], [SQUARE], 8)[0].text


def test_a_question_is_read_once_for_all_its_classes(engine, shared_model, processor, monkeypatch):
    classes = ["harbor", "airport", "parking lot"]
    talk = Conversation.of((0,), f"What is the category of this remote sensing image? {', '.join(classes)}")
    fed = []
    monkeypatch.setattr(engine_module, "read", lambda *given: (fed.append(given[2]), read(*given))[1])
    found = engine.choices(talk, SQUARE, classes)
    assert found == pytest.approx(choice_probabilities(shared_model, processor, talk, [SQUARE], classes), abs=1e-4)
    ids = processor.render(talk)["input_ids"]
    question = ids[ids.index(processor.image_token_id) + processor.tokens_per_image :]
    assert fed == [[question], [processor.tokenizer(one, add_special_tokens=False)["input_ids"] for one in classes]]


QUESTIONS = ("Is there a ship?", "What is this?", "Where?", "How many houses are there in the image?")


COMPILED = pytest.mark.parametrize(
    "compiled",
    [False, pytest.param(True, marks=pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")),
                                                        reason="there is no C++ compiler"))],
)  # fmt: skip


@COMPILED
def test_answers_that_come_and_go_are_those_that_each_gets_alone(model, processor, squares, compiled):
    if compiled:
        model.compile_decoding()
    box = object_detection.TASK.grammar("Detect all ships shown in the image.")
    asked = [(Conversation.of((0,) * count, text), squares[i % 2 : i % 2 + count], 3 + 5 * i, grammar)
             for i, (count, text) in enumerate([(1, one) for one in QUESTIONS] + [(2, "What differs?"), (0, "Hello?")])
             for grammar in (None, box)]  # fmt: skip
    engine = Engine(model, processor, batch_size=5)
    assert engine._rows.shares == compiled
    try:
        with ThreadPoolExecutor(len(asked)) as pool:
            found = list(pool.map(lambda one: engine.ask(one[0], one[1], Decoding(one[2]), grammar=one[3]), asked))
        # In float32 sums are the same to 1e-6, and no two tokens of these are that close.
        for (talk, images, most, grammar), answer in zip(asked, found, strict=True):
            (alone,) = generate(model, processor, [talk], images, most, [grammar], plain=True)
            assert (answer.text, answer.finished) == (alone.text, alone.finished)
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
        assert engine.rows < sum(len(one.probabilities) for one in found)  # what is certain is not decoded one by one
    finally:
        engine.close()


@COMPILED
@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_later_turn_reads_its_new_words_alone(model, processor, squares, monkeypatch, compiled, images):
    if compiled:
        model.compile_decoding()
    fed: list[list[int]] = []
    monkeypatch.setattr(engine_module, "read", lambda *given: (fed.extend(given[2]), read(*given))[1])
    engine, box = Engine(model, processor), object_detection.TASK.grammar("Detect all ships shown in the image.")

    def heard(texts: list[str], shown: list[np.ndarray], grammar: Grammar | None = None) -> tuple[str, int, int]:
        """What is said, as of the conversation alone; how many words' tokens were read first, and how many it has."""
        talk = Conversation.of((0,) * images, *texts)
        fed.clear()
        answer = engine.ask(talk, shown, Decoding(12), grammar=grammar)
        (alone,) = generate(model, processor, [talk], shown, 12, [grammar], plain=True)
        assert answer.text == alone.text and answer.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
        words = len(processor.render(talk)["input_ids"]) - images * processor.tokens_per_image - 1
        return answer.text.strip(), len(fed[0]), words

    texts, shown, before = [], squares[:images], 0
    try:
        for question, grammar in (("Detect all ships.", box), ("What is this?", None), ("And where are they?", None)):
            said, first, words = heard([*texts, question], shown, grammar)
            # Of an answer that is nonsense, not all is cut into the same tokens when it comes back.
            assert first <= words - before if texts else first >= words
            texts, before = [*texts, question, said], words
        assert heard([*texts[:4], "And where are they?"], shown)[1] == 1  # the last word tells what follows
        _, first, words = heard([*texts[:4], "Is there a ship?"], shown)
        assert first < words / 2
        changed = ["Where is that?", *texts[1:4], "And where are they?"]
        _, first, words = heard(changed, shown)
        assert first == words
        if images:  # of another image, by one value, nothing is taken over
            other = shown[0].copy()
            other[0, 0, 0] ^= 1
            _, first, words = heard([*texts[:4], "And where are they?"], [other, *shown[1:]])
            assert first == words
    finally:
        engine.close()


def test_long_questions_are_read_by_few_in_a_pass(model, processor, monkeypatch):
    monkeypatch.setattr(engine_module, "_QUESTIONS", 60)
    passes = []
    monkeypatch.setattr(engine_module, "read", lambda *given: (passes.append(given[2]), read(*given))[1])
    asked = [Conversation.of((), " ".join(["Where?"] * count)) for count in (1, 2, 8, 1, 12, 2, 1, 1)]
    engine = Engine(model, processor)
    try:
        go, held = threading.Event(), threading.Event()
        holding = threading.Thread(target=engine.run, args=(lambda: (held.set(), go.wait()),))
        holding.start()
        held.wait()
        requests = [engine.submit(talk, [], Decoding(4)) for talk in asked]  # all wait before the first is read
    finally:
        go.set()
        engine.close()  # when all are answered
        holding.join()
    questions = [feeds for feeds in passes if max(map(len, feeds)) > 1]
    assert sum(map(len, questions)) == len(asked) and len(questions) > 1
    assert all(len(feeds) == 1 or len(feeds) * max(map(len, feeds)) <= 60 for feeds in questions)
    for talk, one in zip(asked, requests, strict=True):
        assert one.answer().text == generate(model, processor, [talk], [], 4)[0].text


def test_a_model_that_sees_only_a_window_has_no_more_room_than_that(model, processor):
    config = model.language_model.config
    config.sliding_window = 100
    for config.layer_types in (["sliding_attention"] * 2, ["sliding_attention", "full_attention"], None):
        engine = Engine(model, processor)
        assert engine.room == 100, "without a list all layers have the window, as Mistral's"
        engine.close()
    config.layer_types = ["full_attention"] * 2
    engine = Engine(model, processor)
    assert engine.room == 192, "it has a window that no layer uses, as Qwen's"
    engine.close()
    model.language_model.set_attn_implementation("eager")
    with pytest.raises(EarthGPTError, match="attn_implementation='sdpa'"):
        Engine(model, processor)


def test_a_model_with_rules_of_its_own_is_refused(model, processor):
    model.generation_config.repetition_penalty = 1.8
    with pytest.raises(EarthGPTError, match=r"generation_config\.json \(repetition_penalty"):
        Engine(model, processor)


@pytest.fixture
def occupied(engine):
    """The engine while a function runs in its thread, which the event ends."""
    begun, go = threading.Event(), threading.Event()
    first = threading.Thread(target=engine.run, args=(lambda: (begun.set(), go.wait()),))
    first.start()
    begun.wait()
    yield engine, go
    go.set()
    first.join()


def test_a_function_that_does_not_begin_in_time_never_does(occupied):
    engine, go = occupied
    called = []
    with pytest.raises(TimeoutError):
        engine.run(lambda: called.append("late"), 0.05)
    assert engine.waiting == 0
    go.set()
    assert engine.run(lambda: called) == []


def test_functions_that_wait_are_counted_and_only_a_job_may_wait_behind_too_many(occupied):
    engine, go = occupied
    called = []
    wait = [threading.Thread(target=engine.run, args=(lambda: called.append("in time"), 600)) for _ in range(2)]
    wait.append(threading.Thread(target=engine.run, args=(lambda: called.append("a job"),)))
    for i, one in enumerate(wait, 1):
        one.start()
        while engine.waiting < i:
            time.sleep(0.001)
    with pytest.raises(BusyError, match="3 requests are waiting"):
        engine.run(lambda: None, 600)
    with pytest.raises(BusyError):
        engine.choices(Conversation.of((0,), "What?"), SQUARE, ["harbor"])
    go.set()
    for one in wait:
        one.join()
    assert called == ["in time", "in time", "a job"]


class Busyness(type(visual_question_answering.TASK)):
    """A task of one's own, which answers by itself."""

    def deduce(self, question, facts):
        return Deduced("busy", probability=0.7) if "busy" in question else None


def test_tasks_of_ones_own_are_asked_too(model, processor):
    model.add_dense_heads(Vocabulary(("port",), ("ship",)))
    engine = Engine(model, processor, tasks=[Busyness()])
    try:
        assistant = BatchedEarthGPT(engine, 60)
        assert assistant.say(Conversation.of((open_raster(SQUARE),), "How busy is it?")).text == "busy"
        assert assistant.tasks == engine.tasks
    finally:
        engine.close()
