"""A compiled pass gives the logits and leaves the keys and values of the plain one, for every kind it knows."""

import importlib.util
import shutil
from itertools import chain

import pytest
import torch
from parts import TEXT, TEXTS, randomise
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from earthgpt.assistant import load
from earthgpt.generation import generate
from earthgpt.model import compiled
from earthgpt.model.attention import Beginning
from earthgpt.model.compiled import MOST, Compiled
from earthgpt.model.decoding import Rows
from earthgpt.types import Conversation, EarthGPTError

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
torchao = pytest.mark.skipif(not importlib.util.find_spec("torchao"), reason="torchao is not installed")

STRETCHED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 64}  # fmt: skip
KINDS = TEXTS | {
    "biases and llama3's positions": lambda: LlamaForCausalLM(
        LlamaConfig(**TEXT, attention_bias=True, mlp_bias=True, rope_parameters=STRETCHED)
    ),
    "widths that are no multiple of 16": lambda: LlamaForCausalLM(
        LlamaConfig(**TEXT | {"hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 6}, head_dim=10)
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**TEXT, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**TEXT)),
}
QUESTIONS = [Conversation.of((), text) for text in ("What is this?", "Is there a ship?", "Where?")]


def part(cache, start, stop):
    """What a cache of one row has of tokens from one place to another."""
    return Beginning([(layer.keys[:, :, start:stop].clone(), layer.values[:, :, start:stop].clone())
                      for layer in cache.layers])  # fmt: skip


def apart(one, other):
    """The largest difference of keys and values."""
    pairs = [pair for both in zip(one.states, other.states, strict=True) for pair in zip(*both, strict=True)]
    return max(float((mine - its).abs().max()) for mine, its in pairs)


def differences(model, more=MOST // 2, shares=False):
    """How far apart logits, and keys and values, are when two rows of 9 and of 6 tokens go on by more tokens each."""
    lengths, begun = (9, 6), (4, 5) if shares else (0, 0)
    ids = torch.randint(3, TEXT["vocab_size"], (2, 9 + more), generator=torch.Generator().manual_seed(0))
    rows, expected, after = Rows(shares), [], []
    with torch.inference_mode():
        plain = [DynamicCache(config=model.config) for _ in lengths]
        for row, length, cache in zip(ids, lengths, plain, strict=True):
            model(row[None, :length], past_key_values=cache)
        rows.add([part(cache, 0, first) for cache, first in zip(plain, begun, strict=True)])
        rows.append([part(*one) for one in zip(plain, begun, lengths, strict=True)])
        for row, length, cache in zip(ids, lengths, plain, strict=True):
            expected.append(model(row[None, length : length + more], past_key_values=cache).logits[0].float())
        fed = torch.cat([row[length : length + more] for row, length in zip(ids, lengths, strict=True)])
        places = [length + i for length in lengths for i in range(more)]
        rows.ends = [length - first + more for length, first in zip(lengths, begun, strict=True)]
        found = Compiled(model).read(rows, fed, [0] * more + [1] * more, places)
    for i, (cache, first, length) in enumerate(zip(plain, begun, lengths, strict=True)):
        after.append(apart(rows.row(i), part(cache, first, length + more)))
    return float((found - torch.cat(expected)).abs().max() / torch.cat(expected).std()), max(after)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_keys_and_values_are_those_of_the_plain_pass(kind):
    model = randomise(KINDS[kind]()).eval()
    for more in (1, 3, MOST // 2):  # tokens are taken four by four, and what is left one by one
        for shares in (False, True):
            logits, kept = differences(model, more, shares)
            assert logits < 1e-5 and kept < 1e-5
    model.bfloat16()
    logits, kept = differences(model)
    assert logits < 0.1 and kept < 0.1  # the sums have another order, and bfloat16 three digits


@torchao
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eight_bits_are_read_as_torchao_reads_them(dtype):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = randomise(KINDS["biases and llama3's positions"]()).to(dtype).eval()
    quantize_(model.model, Int8WeightOnlyConfig())
    logits, kept = differences(model)
    assert max(logits, kept) < (1e-5 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("together", [False, True])
def test_answers_are_those_of_the_plain_way(model, processor, squares, dtype, together):
    model.to(dtype)
    asked = [QUESTIONS] if together else [[question] for question in QUESTIONS]
    asked += [[Conversation.of(("a",), "What is this?")]]
    images = [[squares[0]] if one[0].images else [] for one in asked]
    before = [generate(model, processor, *both, max_new_tokens=40) for both in zip(asked, images, strict=True)]
    model.compile_decoding()
    called: list = []
    model.compiled.read = counted(model.compiled.read, called)
    after = [generate(model, processor, *both, max_new_tokens=40) for both in zip(asked, images, strict=True)]
    assert len(called) > 40
    for one, other in zip(chain(*before), chain(*after), strict=True):
        said, again = ([answer.text[slice(*span)] for span in answer.spans] for answer in (one, other))
        if dtype == torch.float32:
            assert said == again and one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        # With three digits, two tokens may be as likely as each other; up to there, and there, nothing else differs.
        same = next((i for i, pair in enumerate(zip(said, again, strict=False)) if pair[0] != pair[1]), len(said))
        assert one.probabilities[: same + 1] == pytest.approx(other.probabilities[: same + 1], rel=0.1)


def counted(function, calls):
    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


def test_the_default_model_says_the_same_of_an_image_with_boxes_of_a_grammar():
    from earthgpt.datasets.synthetic import scene
    from earthgpt.types import Sensor

    image = scene(300, Sensor.OPTICAL, (256, 256)).image()
    one, other = load(device="cpu"), load(device="cpu", compiled=True)
    assert one.caption(image) == other.caption(image)
    boxes, others = one.detect(image), other.detect(image)
    assert boxes and [region.box for region in boxes] == [region.box for region in others]
    assert [region.score for region in boxes] == pytest.approx([region.score for region in others], abs=1e-4)


def test_what_cannot_be_compiled_says_so(model, monkeypatch):
    model.add_bias_tuning()
    with pytest.raises(EarthGPTError, match=r"not BiasTunedLinear. Merge bias tuning and LoRA first"):
        model.compile_decoding()
    model.language_model.config.model_type = "gemma"
    with pytest.raises(EarthGPTError, match="and not this gemma"):
        model.compile_decoding()
    with pytest.raises(EarthGPTError, match="not in float16"):
        Compiled(KINDS["llama"]().half())
    compiled._library.cache_clear()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EarthGPTError, match="needs a C\\+\\+ compiler"):
        load(device="cpu", compiled=True)


def test_a_compiler_that_fails_is_named(monkeypatch):
    compiled._library.cache_clear()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(EarthGPTError, match="false could not compile the decoding: no reason given"):
        load(device="cpu", compiled=True)


def test_a_compiler_may_have_words_behind_it_and_one_that_is_not_there_is_named(monkeypatch):
    compiled._library.cache_clear()
    monkeypatch.setenv("CXX", f"env {shutil.which('g++') or shutil.which('clang++')}")
    assert load(device="cpu", compiled=True).model.compiled is not None
    compiled._library.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EarthGPTError, match="no-such-compiler could not compile the decoding"):
        load(device="cpu", compiled=True)


def test_where_it_cannot_be_it_is_left_out_if_that_is_asked_for(monkeypatch, caplog):
    assert load(device="cpu", compiled=None).model.compiled is not None
    compiled._library.cache_clear()
    monkeypatch.setenv("CXX", "false")
    assert load(device="cpu", compiled=None).model.compiled is None
    assert "Decoding is not compiled. false could not compile" in caplog.text


def test_weights_that_change_are_those_of_the_next_answer(model, processor):
    asked = [Conversation.of((), "What is this?")]
    model.compile_decoding()
    generate(model, processor, asked, [], max_new_tokens=8)
    before = model.compiled
    assert not before.stale
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(1.5)
    assert before.stale
    after = generate(model, processor, asked, [], max_new_tokens=8)
    assert model.compiled is not before
    model.compiled = None
    assert generate(model, processor, asked, [], max_new_tokens=8)[0].text == after[0].text
