"""Answers have the probabilities that the model gives them, token by token."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from earthgpt.generation import Answer, Reading, Saying, _answer, choice_probabilities, generate
from earthgpt.grammar import either, sequence
from earthgpt.model import EarthGPTProcessor
from earthgpt.model.constraint import Constraint
from earthgpt.tasks import object_detection, visual_grounding
from earthgpt.types import Box, Conversation, Region

QUESTION = Conversation.of(("a",), "What is the category of this remote sensing image?")


def test_the_probability_of_a_part_is_the_geometric_mean_of_its_tokens():
    answer = Answer("a ship", ((0, 1), (1, 4), (4, 6)), (0.9, 0.4, 0.1), True)
    assert answer.probability(1, 6) == pytest.approx(0.2)  # the root of 0.4 * 0.1
    assert answer.probability() == pytest.approx(0.036 ** (1 / 3))
    assert answer.probability(2, 3) == pytest.approx(0.4)  # a part of a token counts as the token
    assert answer.probability(0, 1) == pytest.approx(0.9)  # tokens that only touch do not
    assert answer.probability(6, 9) == 0.0
    assert Answer("", (), (), True).probability() == 0.0


def test_a_token_of_probability_zero_does_not_break_the_mean():
    assert Answer("ab", ((0, 1), (1, 2)), (1.0, 0.0), True).probability() == pytest.approx(1e-6)


def separately(model, processor, conversation, squares, choice):
    """The log-probability of one choice and its end token, by a plain pass over conversation and choice."""
    prefix = processor.render(conversation)["input_ids"]
    tokens = processor.tokenizer(choice, add_special_tokens=False)["input_ids"] + [processor.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([prefix + tokens]), pixel_values=processor.normalise(squares) if squares else None
        ).logits[0]
    likely = logits.double().log_softmax(-1)
    return sum(float(likely[len(prefix) - 1 + i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize("images", [0, 1])
def test_probabilities_of_choices_are_those_of_the_choices_read_separately(model, processor, squares, images):
    choices = ["harbor", "airport", "parking lot", "a", "storage tanks near the coast"]
    conversation = Conversation(QUESTION.images[:images], QUESTION.messages)
    found = choice_probabilities(model, processor, conversation, squares[:images], choices)
    totals = [separately(model, processor, conversation, squares[:images], choice) for choice in choices]
    weights = [math.exp(total - max(totals)) for total in totals]
    assert found == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-5)
    assert sum(found) == pytest.approx(1)


def test_probabilities_of_choices_do_not_depend_on_their_order(model, processor, squares):
    choices = ["harbor", "airport", "parking lot"]
    one = choice_probabilities(model, processor, QUESTION, squares[:1], choices)
    other = choice_probabilities(model, processor, QUESTION, squares[:1], choices[::-1])
    assert one == pytest.approx(other[::-1], abs=1e-5)


def test_the_only_choice_is_certain(model, processor, squares):
    assert choice_probabilities(model, processor, QUESTION, squares[:1], ["harbor"]) == [1.0]


def test_an_answer_has_the_probability_and_the_place_of_every_token(model, processor, squares):
    (answer,) = generate(model, processor, [QUESTION], squares[:1], max_new_tokens=10)
    assert len(answer.spans) == len(answer.probabilities) >= 1
    assert answer.spans[0][0] == 0 and answer.spans[-1][1] == len(answer.text)
    assert all(before[1] == after[0] for before, after in zip(answer.spans, answer.spans[1:], strict=False))
    inputs = processor.batch([QUESTION], squares[:1])
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits[0, -1]
    assert answer.probabilities[0] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
    assert all(0 < probability <= 1 for probability in answer.probabilities)


def test_answers_of_a_batch_are_those_of_the_conversations_alone(model, processor, squares):
    other = Conversation.of(("b",), "Is there a ship?")
    batch = generate(model, processor, [QUESTION, other], squares[:2], max_new_tokens=6)
    alone = [
        generate(model, processor, [c], [s], max_new_tokens=6)[0]
        for c, s in zip((QUESTION, other), squares[:2], strict=True)
    ]
    assert [answer.text for answer in batch] == [answer.text for answer in alone]
    for one, same in zip(batch, alone, strict=True):
        assert one.probabilities == pytest.approx(same.probabilities, abs=1e-4)


def test_the_end_token_ends_an_answer_and_is_no_part_of_it(model, processor, squares):
    end = processor.tokenizer.eos_token_id
    head = model.get_output_embeddings().weight.data
    head[end] = 0  # never the most likely
    (before,) = generate(model, processor, [QUESTION], squares[:1], max_new_tokens=6)
    assert not before.finished and len(before.spans) == 6
    inputs = processor.batch([QUESTION], squares[:1])
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, -6:].tolist()
    new = next(i for i in range(2, 6) if ids[i] not in ids[:i])
    head[end] = head[ids[new]] * 1.01  # a little more likely than what is said there
    (answer,) = generate(model, processor, [QUESTION], squares[:1], max_new_tokens=6)
    assert answer.finished
    assert len(answer.spans) == len(answer.probabilities) == new
    assert before.text.startswith(answer.text.rstrip("\ufffd")) and answer.text != before.text


def test_an_answer_is_never_longer_than_the_model_has_room_for(model, processor, squares):
    (answer,) = generate(model, processor, [QUESTION], squares[:1])
    used = len(processor.render(QUESTION)["input_ids"]) + len(answer.spans)
    assert used <= model.config.text_config.max_position_embeddings == 192


def test_tokens_of_a_letter_of_several_bytes_keep_the_spans_in_order(processor):
    ids = processor.tokenizer("a €é😀", add_special_tokens=False)["input_ids"]
    assert len(ids) > 6
    said = Saying([], None, len(ids), frozenset())
    said.written, said.logprobs, said.finish = ids, [math.log(0.5)] * len(ids), "stop"
    answer = _answer(processor, said)
    assert answer.text == "a €é😀"
    assert all(start <= end for start, end in answer.spans)
    assert answer.spans[-1][1] == len(answer.text)
    assert answer.probability(3, 4) == pytest.approx(0.5)


# --- questions about the same image ------------------------------------------------------------------------------


TALKS = (
    ("What is this?",),
    ("Is there a ship in the image? Answer the question using a single word or phrase.",),
    ("How many ships are there?", "two", "And where are they in the image?"),
)


def test_questions_about_one_image_share_it_and_get_the_answers_that_each_gets_alone(model, processor, squares):
    encoded = []
    hook = model.vision_encoder.register_forward_pre_hook(lambda module, args: encoded.append(len(args[0])))
    talks = [Conversation.of((name,), *texts) for texts in TALKS for name in ("a", "b")]
    shown = [squares[0].copy() if i % 2 else squares[1].copy() for i in range(len(talks))]
    together = generate(model, processor, talks, shown, 12)
    assert encoded == [2], "two images for six questions"
    for i, found in enumerate(together):
        (alone,) = generate(model, processor, talks[i : i + 1], shown[i : i + 1], 12)
        assert found.text == alone.text
        assert found.probabilities == pytest.approx(alone.probabilities, rel=1e-3)
    hook.remove()
    assert len({found.text for found in together}) > 2, "answers that are all the same would prove nothing"


def test_images_that_differ_in_one_value_are_not_shared(model, processor, squares):
    encoded = []
    model.vision_encoder.register_forward_pre_hook(lambda module, args: encoded.append(len(args[0])))
    other = squares[0].copy()
    other[0, 0, 0] ^= 1
    talks = [Conversation.of((name,), "What is this?") for name in "abc"]
    generate(model, processor, talks, [squares[0], other, squares[0]], 2)
    assert encoded == [2]


def test_the_next_turn_of_a_conversation_reads_what_is_new_alone(model, processor, squares):
    read, encoded, reading = [], [], Reading()
    model.language_model.register_forward_pre_hook(
        lambda module, args, given: read.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    model.vision_encoder.register_forward_pre_hook(lambda module, args: encoded.append(len(args[0])))
    shown, texts = squares[:1], []
    for question in ("What is this?", "How many ships are there?", "And where are they in the image?"):
        talk = Conversation.of(("a",), *texts, question)
        read.clear(), encoded.clear()
        (after,) = generate(model, processor, [talk], shown, 12, reading=reading)
        first, images = read[0], sum(encoded)
        (alone,) = generate(model, processor, [talk], shown, 12)
        assert after.text == alone.text and after.probabilities == pytest.approx(alone.probabilities, rel=1e-3)
        length = len(processor.render(talk)["input_ids"])
        assert (images, first) == ((0, first) if texts else (1, length))
        if texts:
            assert first < 40 < length  # its words, and the end of the answer before
        texts += [question, after.text.strip()]
    # Where the words differ nothing is taken over from there on; of another image, by one value, nothing at all.
    other = shown[0].copy()
    other[0, 0, 0] ^= 1
    for images, changed in ((shown, ["What is that?", *texts[1:]]), ([other], texts)):
        talk = Conversation.of(("a",), *changed, "Is there a ship?")
        encoded.clear()
        (after,) = generate(model, processor, [talk], images, 12, reading=reading)
        assert sum(encoded) == (images is not shown)
        (alone,) = generate(model, processor, [talk], images, 12)
        assert after.text == alone.text and after.probabilities == pytest.approx(alone.probabilities, rel=1e-3)


def test_nothing_is_kept_of_a_turn_that_fails(model, processor, squares, monkeypatch):
    reading, talk = Reading(), Conversation.of(("a",), "What is this?")
    generate(model, processor, [talk], squares[:1], 4, reading=reading)
    assert reading.ids and reading.rows is not None
    longer = Conversation.of(("a",), "What is this?", "a ship", "How many?")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model.language_model, "forward", lambda *args, **given: (_ for _ in ()).throw(KeyboardInterrupt))
        generate(model, processor, [longer], squares[:1], 4, reading=reading)
    assert reading.rows is None


def test_conversations_without_images_or_with_several_are_answered(model, processor, squares):
    plain = [Conversation.of((), "What is this?"), Conversation.of((), "How many?")]
    assert len(generate(model, processor, plain, [], 3)) == 2
    pair = Conversation.of(("a", "b"), "What is this?")
    both = generate(model, processor, [pair, pair], [squares[0], squares[1]] * 2, 6)
    (alone,) = generate(model, processor, [pair], squares[:2], 6)
    assert both[0].text == both[1].text == alone.text
    mixed = [Conversation.of(("a",), "What is this?"), Conversation.of((), "What is this?")]
    assert len(generate(model, processor, mixed, squares[:1], 3)) == 2


# --- answers of a grammar ----------------------------------------------------------------------------------------

GRAMMARS = {
    "a ship": object_detection.TASK.grammar("ship"),
    "anything": object_detection.TASK.grammar(),
    "turned": object_detection.TASK.grammar("storage tank", oriented=True),
    "as released": replace(object_detection.TASK, tagged=True, decimals=2).grammar("ship"),
    "one": visual_grounding.TASK.grammar(),
    "one, turned": visual_grounding.TASK.grammar(oriented=True),
}


@pytest.fixture(scope="module")
def letters():
    """A processor whose tokenizer is built as Llama's: blanks are part of words, a text begins with one, every digit
    and letter is a token, and the rest is bytes."""
    vocabulary = {text: i for i, text in enumerate(("<pad>", "<bos>", "<eos>", "<image>", "<unk>"))}
    words = [
        "\u2581There",
        "\u2581are",
        "\u2581is",
        "\u2581",
        "There",
        "ships",
        "ship",
        "\u2581ship",
        "\u2581in",
        "\u2581the",
        "\u2581image",
    ]
    for text in [*(f"<0x{byte:02X}>" for byte in range(256)), *words, *map(chr, range(33, 127))]:
        vocabulary.setdefault(text, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    return EarthGPTProcessor(fast, 64, 16)


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("kind", ["bytes", "letters"])
def test_a_model_with_random_weights_gives_only_answers_that_can_be_read(
    shared_model, processor, letters, squares, name, kind
):
    processor, size = {"bytes": processor, "letters": letters}[kind], (64, 64)
    task = visual_grounding.TASK if "one" in name else object_detection.TASK
    texts = set()
    for seed in range(6):
        model = shuffled(shared_model, seed)
        conversation = Conversation.of(("a",), f"Where? {seed}")
        (answer,) = generate(model, processor, [conversation], squares[:1], 120, [GRAMMARS[name]])
        assert GRAMMARS[name].matches(answer.text) and answer.finished
        assert task.parse(answer.text, size) is not None or "no such object" in answer.text
        texts.add(answer.text)
    assert len(texts) > 1


def shuffled(model, seed):
    """The model with its output layer in another order: it says something else, and as surely."""
    model = copy.deepcopy(model)
    head = model.get_output_embeddings().weight.data
    order = torch.randperm(len(head), generator=torch.Generator().manual_seed(seed))
    model.set_output_embeddings(torch.nn.Linear(head.shape[1], len(head), bias=False))
    model.get_output_embeddings().weight.data = head[order]
    return model


def test_tokens_that_are_certain_are_read_together_and_the_answer_is_that_of_one_token_at_a_time(
    shared_model, processor, squares
):
    for seed, grammar in enumerate(GRAMMARS.values()):
        model, passes = shuffled(shared_model, seed), []
        model.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        (fast,) = generate(model, processor, [QUESTION], squares[:1], 120, [grammar])
        quick = len(passes)
        passes.clear()
        (plain,) = generate(model, processor, [QUESTION], squares[:1], 120, [grammar], plain=True)
        assert fast.text == plain.text and fast.spans == plain.spans and fast.finished == plain.finished
        assert fast.probabilities == pytest.approx(plain.probabilities, rel=1e-3)
        assert quick < len(fast.spans) <= len(passes)


def test_scores_under_a_grammar_are_the_probabilities_of_the_model_without_one(shared_model, processor, squares):
    model = shuffled(shared_model, 1)
    (answer,) = generate(model, processor, [QUESTION], squares[:1], 120, [GRAMMARS["one"]])
    asked = processor.render(QUESTION)["input_ids"]
    written = [
        next(i for i in processor.tokenizer.get_vocab().values() if processor.tokenizer.decode([i]) == answer.text[a:b])
        for a, b in answer.spans
    ]
    with torch.no_grad():
        ids = torch.tensor([asked + written])
        logits = model(input_ids=ids, pixel_values=processor.normalise(squares[:1])).logits[0, len(asked) - 1 : -1]
    free = logits.softmax(-1)[range(len(written)), written]
    assert answer.probabilities == pytest.approx(free.tolist(), rel=1e-3)
    assert max(free) < 0.9, "a grammar that was counted as certainty would say 1 of every comma"
    assert answer.probability() == pytest.approx(float(free.log().mean().exp()), rel=1e-3)


def test_an_answer_that_is_in_the_grammar_anyway_stays_as_it_is_token_by_token(shared_model, processor, squares):
    compared = 0
    for seed in range(40):
        model = shuffled(shared_model, seed)
        (free,) = generate(model, processor, [QUESTION], squares[:1], 6)
        if "\ufffd" in free.text:
            continue  # half a letter, which is no text
        compared += 1
        grammar = either(free.text, "There are no such objects in the image.", sequence(free.text[:3], "..."))
        (same,) = generate(model, processor, [QUESTION], squares[:1], 100, [grammar])
        assert same.text == free.text and same.spans == free.spans
        assert same.probabilities == pytest.approx(free.probabilities, rel=1e-3)
    assert compared >= 3


def test_free_and_constrained_answers_of_a_batch_are_those_of_each_alone(shared_model, processor, squares):
    model = shuffled(shared_model, 3)
    talks = [Conversation.of((i % 2,), f"Where is number {i}?") for i in range(8)]
    grammars = [None, *GRAMMARS.values(), None]
    shown = [squares[i % 2] for i in range(8)]
    together = generate(model, processor, talks, shown, 100, grammars)
    for talk, square, grammar, found in zip(talks, shown, grammars, together, strict=True):
        (alone,) = generate(model, processor, [talk], [square], 100, [grammar])
        assert found.text == alone.text and found.finished == alone.finished
        assert found.probabilities == pytest.approx(alone.probabilities, rel=1e-3)


def test_a_class_that_is_written_in_bytes_of_several_tokens_is_written_whole(shared_model, processor, squares):
    grammar = object_detection.TASK.grammar("bâteau 船")
    (answer,) = generate(shuffled(shared_model, 0), processor, [QUESTION], squares[:1], 150, [grammar])
    assert grammar.matches(answer.text)


def test_where_there_is_no_room_for_an_answer_it_is_cut(model, processor, squares):
    (answer,) = generate(model, processor, [QUESTION], squares[:1], 3, [GRAMMARS["one"]])
    assert len(answer.spans) == 3 and not answer.finished


def test_free_answers_are_those_of_transformers_generate(shared_model, processor, squares):
    talks = [Conversation.of((0,), *texts) for texts in TALKS]
    shown = [squares[0]] * len(talks)
    for seed in range(3):
        model = shuffled(shared_model, seed)
        fast, plain = (generate(model, processor, talks, shown, 24, plain=plain) for plain in (False, True))
        for one, other in zip(fast, plain, strict=True):
            assert one.text == other.text and one.finished == other.finished
            assert one.probabilities == pytest.approx(other.probabilities, rel=1e-3)


def test_rules_of_the_generation_config_are_kept(model, processor, squares):
    model.generation_config.suppress_tokens = list(range(10, len(processor.tokenizer)))
    (answer,) = generate(model, processor, [QUESTION], squares[:1], 8)
    assert all(b - a <= 1 for a, b in answer.spans)


def test_one_token_is_allowed_where_it_is_among_all_that_are(processor):
    constraint = Constraint(object_detection.TASK.grammar("ship"), processor.tokenizer)
    text = object_detection.TASK.format([Region(Box(0.1, 0.2, 0.3, 0.4), "ship")], (100, 100))
    state = constraint.start
    for token in processor.tokenizer(text, add_special_tokens=False)["input_ids"]:
        for left in (1, 30, 100):
            allowed = constraint.allowed(state, left)
            found = {one: constraint.after(state, one, left) for one in range(len(processor.tokenizer))}
            assert {one: after for one, (fits, after) in found.items() if fits} == allowed
        state = allowed[token]
    assert state.ends
