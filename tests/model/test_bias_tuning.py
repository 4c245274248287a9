"""Bias tuning starts as nothing, trains nothing else, and can be folded away."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from earthgpt.config import load_recipe
from earthgpt.model.bias_tuning import BiasTunedLinear, add_bias_tuning, merge_bias_tuning
from earthgpt.preparation import choose_trainable
from earthgpt.types import Conversation, EarthGPTError

LINEAR = 7  # linear layers in a Llama layer: q, k, v, o, gate, up, down


@pytest.fixture
def inputs(processor, squares):
    return processor.batch([Conversation.of(("a",), "Is there a ship?", "yes")], squares[:1])


def disturb(model):
    """Gives alpha and beta random values, as training would."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".alpha", ".beta")):
                parameter += 0.3 * torch.randn(parameter.shape, generator=draw)


def test_at_the_start_the_model_is_the_one_before_bit_for_bit(model, inputs):
    with torch.no_grad():
        before = model(**inputs).logits
        changed = model.add_bias_tuning()
        after = model(**inputs).logits
    assert len(changed) == 2 * LINEAR
    assert torch.equal(before, after)
    assert model.config.bias_tuning


def test_the_weights_are_kept_not_copied(model):
    linear = model.language_model.model.layers[0].mlp.up_proj
    weight = linear.weight
    model.add_bias_tuning()
    tuned = model.language_model.model.layers[0].mlp.up_proj
    assert type(tuned) is BiasTunedLinear
    assert tuned.weight is weight
    assert tuned.alpha.tolist() == [1.0] * 64 and tuned.beta.tolist() == [0.0] * 64


def test_adding_it_twice_changes_nothing(model):
    model.add_bias_tuning()
    disturb(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.add_bias_tuning() == []
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_output_layer_and_the_encoders_are_left_as_they_are(model):
    head = model.language_model.lm_head
    model.add_bias_tuning()
    assert model.language_model.lm_head is head and type(head) is nn.Linear
    assert not [name for name, one in model.vision_encoder.named_modules() if isinstance(one, BiasTunedLinear)]
    assert type(model.mm_projector.linear) is nn.Linear


def test_only_alpha_and_beta_get_gradients_under_the_recipe(model, inputs, request):
    recipe = load_recipe(request.config.rootpath / "recipes" / "instruct.toml")
    model.add_bias_tuning()
    names = choose_trainable(model, recipe.trainable)
    model(**inputs).loss.backward()
    learned = sorted(name for name, one in model.named_parameters() if one.grad is not None)
    assert learned == names
    assert len(names) == 2 * 2 * LINEAR
    assert {name.rpartition(".")[2] for name in names} == {"alpha", "beta"}
    assert all(one.grad.abs().max() > 0 for name, one in model.named_parameters() if name in names)


def test_the_output_is_alpha_times_the_shifted_product():
    linear = BiasTunedLinear(2, 1)
    with torch.no_grad():
        linear.weight[:], linear.bias[:] = torch.tensor([[2.0, 3.0]]), 1.0
        linear.alpha[:], linear.beta[:] = 0.5, 4.0
    assert linear(torch.tensor([10.0, 100.0])).item() == 0.5 * (2 * 10 + 3 * 100 + 1 + 4)
    plain = linear.merged()
    assert plain.weight.tolist() == [[1.0, 1.5]] and plain.bias.tolist() == [2.5]


@pytest.mark.parametrize("bias", [False, True])
def test_a_merged_layer_is_exact(bias):
    torch.manual_seed(0)
    tuned = BiasTunedLinear(16, 8, bias, dtype=torch.float64)
    disturb(tuned_model := nn.Sequential(tuned))
    x = torch.randn(5, 16, dtype=torch.float64)
    merge_bias_tuning(tuned_model)
    assert type(tuned_model[0]) is nn.Linear
    torch.testing.assert_close(tuned_model(x), tuned(x), rtol=0, atol=1e-12)


def test_a_merged_model_computes_the_same_with_plain_layers(model, inputs):
    model = model.double()
    inputs["pixel_values"] = inputs["pixel_values"].double()
    before = model(**inputs).logits
    model.add_bias_tuning()
    disturb(model)
    tuned = model(**inputs).logits
    assert (tuned - before).abs().max() > 0.1, "alpha and beta must matter here"
    assert len(model.merge_bias_tuning()) == 2 * LINEAR
    assert not [one for one in model.modules() if isinstance(one, BiasTunedLinear)]
    # RMSNorm of transformers rounds to float32 on the way, so the whole model agrees only that far.
    torch.testing.assert_close(model(**inputs).logits, tuned, rtol=1e-5, atol=1e-5)
    assert not model.config.bias_tuning


def test_a_model_with_bias_tuning_is_saved_and_loaded(model, inputs, tmp_path):
    model.add_bias_tuning()
    disturb(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert loaded.config.bias_tuning
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)


def test_a_merged_model_is_saved_and_loaded(model, inputs, tmp_path):
    model.add_bias_tuning()
    disturb(model)
    with torch.no_grad():
        tuned = model(**inputs).logits
        model.merge_bias_tuning()
        model.save_pretrained(tmp_path)
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(loaded(**inputs).logits, tuned, rtol=1e-4, atol=1e-4)


def test_a_language_model_that_cannot_hold_biases_is_not_merged(config):
    from transformers import GemmaConfig

    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = GemmaConfig(vocab_size=64, num_key_value_heads=1, head_dim=16, **sizes)
    model = EarthGPTForConditionalGeneration(
        EarthGPTConfig(copy.deepcopy(config.vit_config), copy.deepcopy(config.cnn_config), text, image_size=64)
    )
    assert len(model.add_bias_tuning()) == LINEAR
    with pytest.raises(EarthGPTError, match="gemma"):
        model.merge_bias_tuning()
    assert model.config.bias_tuning
    assert len([one for one in model.modules() if isinstance(one, BiasTunedLinear)]) == LINEAR


def test_layers_that_share_their_weight_with_the_embeddings_stay_tied(config, inputs):
    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration

    text = copy.deepcopy(config.text_config)
    text.tie_word_embeddings = True
    tied = EarthGPTForConditionalGeneration(
        EarthGPTConfig(
            copy.deepcopy(config.vit_config),
            copy.deepcopy(config.cnn_config),
            text,
            image_size=64,
            image_token_id=config.image_token_id,
        )
    )
    add_bias_tuning(tied.language_model)
    assert tied.language_model.lm_head.weight is tied.get_input_embeddings().weight
    disturb(tied)
    merge_bias_tuning(tied.language_model)
    assert tied.language_model.lm_head.weight is tied.get_input_embeddings().weight
