"""Passes that come again and again give the answers of the plain ones, and graphs of them do."""

import gc
import weakref

import pytest
import torch

from earthgpt.generation import Reading, generate
from earthgpt.grammar import either
from earthgpt.model import captured, decoding
from earthgpt.model.captured import OFTEN, Step
from earthgpt.types import Conversation, Message

TEXTS = ("What is this?", "Is there a ship in the image?", "Where?", "How many ships are there in the harbor?")
QUESTIONS = [Conversation.of(("a",), text) for text in TEXTS]
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are for a CUDA device, and there is none")


@pytest.fixture
def steps(monkeypatch):
    """The passes that are made, in order."""
    made = []

    class Noted(Step):
        def __init__(self, *form):
            super().__init__(*form)
            made.append(self)

    monkeypatch.setattr(decoding, "Step", Noted)
    return made


def agree(found, expected, most=1e-5):
    assert [one.text for one in found] == [one.text for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=most)


def both(model, *asked, **options):
    """What is said of it plainly, and by passes that come again."""
    model.captured = False
    plain = generate(model, *asked, **options)
    model.captured = True
    return generate(model, *asked, **options), plain


@pytest.mark.parametrize("count", [1, len(QUESTIONS)])
def test_answers_are_those_of_the_plain_way(model, processor, squares, steps, count):
    asked = (processor, QUESTIONS[:count], [squares[0]] * count)
    agree(*both(model, *asked, max_new_tokens=40))
    assert steps[0].ids.shape == (count, 1) and max(step.passes for step in steps) > 2 * OFTEN
    assert all(step.graph is None for step in steps)  # there is none without a card


def test_rows_that_grow_are_read_where_they_are_then(model, processor, squares, steps, monkeypatch):
    monkeypatch.setattr(decoding, "_SPARE", 8)
    agree(*both(model, processor, QUESTIONS[:1], squares[:1], max_new_tokens=40))
    rooms = [step.room for step in steps]
    assert len(rooms) > 3 and rooms == sorted(set(rooms))


def test_passes_with_more_tokens_than_pay_are_made_plainly(model, processor, squares, steps, monkeypatch):
    monkeypatch.setattr(captured, "MOST", 2)
    agree(*both(model, processor, QUESTIONS[:3], [squares[0]] * 3, max_new_tokens=12))
    assert not steps or len(steps[0].ids) < 3


def test_bets_of_a_grammar_are_passes_of_several_tokens(model, processor, squares, steps):
    grammars = [either("there is a ship in the image", "there are two ships in the image")] * 2
    agree(*both(model, processor, QUESTIONS[:2], [squares[0]] * 2, grammars=grammars))
    assert any(step.ids.shape[1] > 1 for step in steps)


def test_a_chat_goes_on_and_keeps_no_pass(model, processor, squares):
    said = []
    for model.captured in (False, True):
        reading, talk = Reading(), QUESTIONS[0]
        for _ in range(2):
            (answer,) = generate(model, processor, [talk], squares[:1], max_new_tokens=12, reading=reading)
            said.append(answer)
            assert not reading.rows.steps  # the model may change before the next turn
            more = (Message("assistant", answer.text), Message("user", "Where?"))
            talk = Conversation(talk.images, (*talk.messages, *more))
    agree(said[2:], said[:2])


def test_keys_and_values_are_gone_with_the_answer(model, processor, squares, monkeypatch):
    kept = []

    class Kept(decoding.Rows):
        def __init__(self, shares):
            super().__init__(shares)
            kept.append(weakref.ref(self))

    monkeypatch.setattr(decoding, "Rows", Kept)
    gc.disable()
    try:
        for model.captured in (False, True):
            generate(model, processor, QUESTIONS[:1], squares[:1], max_new_tokens=8)
            assert kept.pop()() is None
    finally:
        gc.enable()


@needs_card
@pytest.mark.parametrize("count", [1, len(QUESTIONS)])
def test_graphs_say_what_the_plain_way_says(model, processor, squares, steps, count):
    model.cuda().compile_decoding()
    assert model.captured and model.compiled is None
    asked = (processor, QUESTIONS[:count], [squares[0]] * count)
    agree(*both(model, *asked, max_new_tokens=40), most=1e-4)
    assert any(step.graph is not None for step in steps)
    agree(*both(model, *asked, max_new_tokens=40), most=1e-4)  # of new keys and values, by a new graph
