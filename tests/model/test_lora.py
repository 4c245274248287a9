"""LoRA starts as nothing, trains nothing else, is saved with the model, and can be folded away."""

import json

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from earthgpt.model.assemble import merge
from earthgpt.model.loading import load
from earthgpt.preparation import choose_trainable
from earthgpt.types import Conversation, EarthGPTError

LINEAR = 7  # linear layers in a Llama layer: q, k, v, o, gate, up, down


@pytest.fixture
def inputs(processor, squares):
    return processor.batch([Conversation.of(("a",), "Is there a ship?", "yes")], squares[:1])


@pytest.fixture
def tuned(model):
    """The tiny model with a LoRA of random values, as training would leave it."""
    model.add_lora(4, 8)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


def test_at_the_start_the_model_is_the_one_before_bit_for_bit(model, inputs):
    with torch.no_grad():
        before = model(**inputs).logits
        assert len(model.add_lora(4, 8)) == 2 * LINEAR
        assert torch.equal(model(**inputs).logits, before)


def test_a_layer_adds_alpha_over_rank_times_the_product(tuned):
    layer = tuned.language_model.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (tuple(a.shape), tuple(b.shape)) == ((4, 32), (64, 4))
    x = torch.randn(3, 32)
    torch.testing.assert_close(layer(x), x @ (layer.base_layer.weight + 8 / 4 * b @ a).T)


def test_only_the_layers_that_are_named_get_one(model):
    changed = model.add_lora(4, 8, targets=["q_proj", "v_proj"])
    assert {name.rpartition(".")[2] for name in changed} == {"q_proj", "v_proj"} and len(changed) == 4
    chosen = choose_trainable(model, ("language_model.*.lora_*",))
    assert len(chosen) == 8 and all(".lora_A." in name or ".lora_B." in name for name in chosen)


def test_a_target_that_is_no_layer_is_an_error_with_the_names_there_are(model):
    with pytest.raises(EarthGPTError, match="'query'; there are down_proj, gate_proj, k_proj"):
        model.add_lora(4, 8, targets=["query"])
    assert model.config.lora is None  # nothing says that it has one


def test_a_saved_model_with_lora_is_the_same_bit_for_bit(tuned, inputs, tmp_path):
    tuned.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    ours, theirs = tuned.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with torch.no_grad():
        assert torch.equal(tuned(**inputs).logits, loaded(**inputs).logits)
    assert json.loads((tmp_path / "config.json").read_text())["lora"]["rank"] == 4


def test_a_merged_model_is_plain_and_says_the_same(tuned, inputs, processor, tmp_path):
    with torch.no_grad():
        before = tuned(**inputs).logits
    tuned.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    assert merge(tmp_path / "tuned", tmp_path / "merged") == 2 * LINEAR
    merged, _ = load(tmp_path / "merged")
    assert merged.config.lora is None
    assert {type(one) for one in merged.language_model.modules() if isinstance(one, nn.Linear)} == {nn.Linear}
    assert not any("lora" in name for name in merged.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, before, rtol=1e-4, atol=1e-4)


def test_adding_it_twice_keeps_the_first(tuned):
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    assert tuned.add_lora(8, 8) == []
    assert all(torch.equal(before[name], value) for name, value in tuned.state_dict().items())


def test_lora_and_bias_tuning_exclude_each_other(model, tuned):
    with pytest.raises(EarthGPTError, match="not both"):
        tuned.add_bias_tuning()
    model.merge_lora()
    model.add_bias_tuning()
    with pytest.raises(EarthGPTError, match="not both"):
        model.add_lora(4, 8)
