"""The model: the same after saving, the same step by step, and exactly what its parts compute."""

import copy

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPVisionConfig,
    ConvNextConfig,
    ViTConfig,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.attention import Segment, padded_attention, segmented_attention, segments_of
from earthgpt.model.vision import start_positions
from earthgpt.types import Conversation

LONG = Conversation.of(("a",), "Is there a ship in the image?", "yes", "How many ships are there?", "two ships")
SHORT = Conversation.of(("b",), "What is this?", "harbor")


def asked(processor, conversations, squares):
    """What ``generate`` takes, for conversations that end with the user."""
    inputs = processor.batch(conversations, squares, padding_side="left")
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}


def packed(processor, conversations, squares, branches=False):
    """One row for training, with pixels in float32."""
    return processor.pack([processor.render(one, branches) for one in conversations], squares)


def inner_embeddings(model, inputs):
    """What the language model gets for ``inputs``, [B, T, D]."""
    seen = []
    hook = model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    return seen[0]


# --- files -------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_bit_for_bit(model, model_folder, processor, squares):
    loaded = AutoModelForImageTextToText.from_pretrained(model_folder).eval()
    assert type(loaded) is EarthGPTForConditionalGeneration
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    inputs = asked(processor, [Conversation.of(("a",), "What is this?")], squares[:1])
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)


def test_a_saved_configuration_is_the_same(model, model_folder):
    loaded = AutoConfig.from_pretrained(model_folder)
    assert type(loaded) is EarthGPTConfig
    for name in ("image_size", "vit_layers", "cnn_stages", "image_token_id", "bias_tuning", "eos_token_id"):
        assert getattr(loaded, name) == getattr(model.config, name), name
    for part in ("vit_config", "cnn_config", "text_config"):
        assert type(getattr(loaded, part)) is type(getattr(model.config, part))
    assert loaded.cnn_config.hidden_sizes == [8, 16, 16, 32]
    assert (loaded.grid, loaded.tokens_per_image, loaded.visual_width) == (4, 18, 2 * 32 + 8 + 16 + 16 + 32)


def test_a_saved_processor_makes_the_same_tensors(model_folder, processor, squares):
    loaded = AutoProcessor.from_pretrained(model_folder)
    assert type(loaded) is EarthGPTProcessor
    ours, theirs = (one.batch([LONG, SHORT], squares[:2]) for one in (processor, loaded))
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_saved_in_bfloat16_loads_in_bfloat16_and_answers(model, tmp_path, processor, squares):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert loaded.dtype == torch.bfloat16
    inputs = asked(processor, [Conversation.of(("a",), "What is this?")], squares[:1])
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    assert torch.isfinite(loaded(**inputs).logits).all()


# --- generation --------------------------------------------------------------------------------------------------


def test_greedy_generation_is_the_argmax_of_plain_passes_with_and_without_a_cache(model, processor, squares):
    inputs = asked(processor, [Conversation.of(("a",), "How many ships are there?")], squares[:1])
    start = inputs["input_ids"].shape[1]
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    cached = model.generate(**inputs, **settings, use_cache=True)
    plain = model.generate(**inputs, **settings, use_cache=False)
    ids = inputs["input_ids"]
    with torch.no_grad():
        for _ in range(12):
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[:, -1]
            logits[:, processor.tokenizer.eos_token_id] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert cached.shape[1] == start + 12
    assert len(set(cached[0, start:].tolist())) > 3, "a sequence that repeats one token would prove nothing"
    assert torch.equal(cached, ids)
    assert torch.equal(plain, ids)


def test_a_left_padded_batch_generates_what_each_conversation_does_alone(model, processor, squares):
    conversations = [
        Conversation.of(("a",), "What is this?"),
        Conversation.of(("b",), "Is there a ship in the image?", "yes", "How many ships are there in the image?"),
    ]
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    together = asked(processor, conversations, squares[:2])
    assert together["attention_mask"][0, 0] == 0
    start = together["input_ids"].shape[1]
    batch = model.generate(**together, **settings)[:, start:]
    for i in (0, 1):
        alone = asked(processor, conversations[i : i + 1], squares[i : i + 1])
        single = model.generate(**alone, **settings)[:, alone["input_ids"].shape[1] :]
        assert torch.equal(batch[i], single[0])


# --- loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_cross_entropy_of_the_labelled_tokens(model, processor, squares):
    inputs = processor.batch([LONG, SHORT], squares[:2])
    with torch.no_grad():
        found = model(**inputs)
        full = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits  # [B, T, V]
    assert found.logits.shape[1] < full.shape[1] // 2
    total, count = 0.0, 0
    for row in range(2):
        for place, label in enumerate(inputs["labels"][row].tolist()):
            if label != -100:
                total -= float(full[row, place - 1].double().log_softmax(-1)[label])
                count += 1
    assert count == int((inputs["labels"] != -100).sum()) > 3
    assert float(found.loss) == pytest.approx(total / count, abs=1e-5)


def branch_losses(model, inputs):
    """Sum of the cross entropy over labelled tokens, by hand and in the precision of the model, and their number."""
    labels = inputs["labels"]
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    targets = functional.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    loss = functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100, reduction="sum")
    return loss, int((targets != -100).sum())


def test_branches_of_one_sample_equal_separate_samples_in_loss_and_gradients(model, processor, squares, monkeypatch):
    # RMSNorm of transformers rounds to float32 on the way; here all is float64, so that only a mistake can differ.
    monkeypatch.setattr(
        LlamaRMSNorm,
        "forward",
        lambda norm, x: functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon),
    )
    model = model.double()
    texts = ["Is there a ship?", "yes", "How many ships are there in the image?", "two", "What is this?", "a harbor"]
    tree = packed(processor, [Conversation.of(("a",), *texts)], squares[:1], branches=True)
    assert len(tree["segments"]) == 4
    tree["pixel_values"] = tree["pixel_values"].double()
    loss, tokens = branch_losses(model, tree)
    loss.backward()
    together = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()

    apart, weights, means = torch.zeros((), dtype=torch.float64), 0, []
    for i in range(0, len(texts), 2):
        single = processor.batch([Conversation.of(("a",), *texts[i : i + 2])], squares[:1])
        single["pixel_values"] = single["pixel_values"].double()
        part, count = branch_losses(model, single)
        part.backward()
        apart, weights = apart + part.detach(), weights + count
        with torch.no_grad():
            means.append((float(model(**single).loss), count))
    assert tokens == weights
    assert loss.item() == pytest.approx(apart.item(), rel=1e-12)
    assert len(together) > 50
    for name, parameter in model.named_parameters():
        if name in together:
            torch.testing.assert_close(together[name], parameter.grad, rtol=1e-9, atol=1e-11, msg=name)
    with torch.no_grad():
        weighted = sum(mean * count for mean, count in means) / weights
        assert float(model(**tree).loss) == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("branches", [False, True])
def test_packed_conversations_have_the_losses_and_gradients_that_each_has_alone(model, processor, squares, branches):
    model = model.double()
    row = packed(processor, [LONG, SHORT, LONG], squares[:3], branches)
    alone = [packed(processor, [one], [squares[i]], branches) for i, one in enumerate((LONG, SHORT, LONG))]
    losses, gradients = [], []
    for inputs in ([row], alone):
        model.zero_grad()
        parts = [branch_losses(model, one) for one in inputs]
        loss, tokens = sum(loss for loss, _ in parts), sum(tokens for _, tokens in parts)
        loss.backward()
        losses.append((loss.item(), tokens))
        gradients.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
    assert losses[0][1] == losses[1][1] > 10
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-7)  # the norms of transformers round to float32
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_packed_row_has_the_loss_of_a_padded_batch(model, processor, squares):
    with torch.no_grad():
        row = model(**packed(processor, [LONG, SHORT], squares[:2])).loss
        rectangle = model(**processor.batch([LONG, SHORT], squares[:2])).loss
    assert float(row) == pytest.approx(float(rectangle), rel=1e-5)


def test_another_conversation_in_the_row_changes_nothing(model, processor, squares):
    other = Conversation.of(("c",), "Is this a forest?", "no, it is a harbor with ships")
    with torch.no_grad():
        logits = [
            model(**{k: v for k, v in packed(processor, [SHORT, one], squares[:2]).items() if k != "labels"}).logits
            for one in (LONG, other)
        ]
    length = len(processor.render(SHORT)["input_ids"])
    torch.testing.assert_close(logits[0][:, :length], logits[1][:, :length], rtol=1e-5, atol=1e-6)


def test_segments_as_a_padded_batch_give_what_each_gives_alone():
    torch.manual_seed(0)
    segments = [*segments_of([0] * 5 + [1] * 3 + [2]), *segments_of([0] * 4, 9), *segments_of([1, 1, 2, 2, 2], 13)]
    length = segments[-1].stop
    query, key, value = (torch.randn(1, heads, length, 8, requires_grad=True) for heads in (4, 2, 2))
    found = {}
    for name, attention in (("each", segmented_attention), ("padded", padded_attention)):
        options = {"segments": segments, "scaling": 0.3}
        result = (
            attention(torch.nn.Module(), query, key, value, None, **options)[0]
            if name == "each"
            else attention(query, key, value, **options)
        )
        result.square().sum().backward()
        found[name] = [result.detach(), *(one.grad for one in (query, key, value))]
        query.grad = key.grad = value.grad = None
    for each, padded in zip(found["each"], found["padded"], strict=True):
        assert each.shape == padded.shape and torch.allclose(each, padded, atol=1e-5)
    with pytest.raises(ValueError, match="does not follow"):
        padded_attention(query, key, value, [Segment(0, 5, 0, 0), Segment(5, 9, 0, 0), Segment(9, length, 0, 5)])


def test_segments_of_a_conversation_and_how_many_pairs_they_see():
    segments = segments_of([0, 0, 1, 1, 2], offset=10)
    assert segments == [Segment(10, 12, 10, 10), Segment(12, 14, 10, 12), Segment(14, 15, 10, 12)]
    assert [segment.pairs for segment in segments] == [3, 2 * 2 + 3, 1 * 2 + 1]
    assert segments_of([0, 0, 0]) == [Segment(0, 3, 0, 0)]


def test_a_segment_sees_what_it_goes_on_from_and_itself_only():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))  # grouped heads
    found, _ = segmented_attention(None, query, key, value, None, segments=segments_of([0, 0, 1, 1, 2]))
    seen = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]).bool()
    wide = (one.repeat_interleave(2, dim=1) for one in (key, value))
    expected = functional.scaled_dot_product_attention(query, *wide, attn_mask=seen)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_a_segment_longer_than_the_window_of_a_layer_is_an_error():
    rows = torch.randn(1, 1, 5, 8)
    with pytest.raises(ValueError, match="window of 4"):
        segmented_attention(None, rows, rows, rows, None, segments=[Segment(0, 5, 0, 0)], sliding_window=4)


def test_packed_rows_need_an_attention_that_knows_them(model_folder, processor, squares):
    eager = AutoModelForImageTextToText.from_pretrained(model_folder, attn_implementation="eager")
    with pytest.raises(ValueError, match="sdpa"):
        eager(**packed(processor, [SHORT], squares[:1]))


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 2])
def test_images_that_do_not_match_their_places_are_an_error(model, processor, squares, images):
    inputs = processor.batch([SHORT], squares[:1])
    if images == 0:
        inputs["input_ids"] = inputs["input_ids"][:, 2:]
        inputs["attention_mask"] = inputs["attention_mask"][:, 2:]
    else:
        inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    with pytest.raises(ValueError, match=r"image\(s\) fill"):
        model(**inputs)


def test_visual_tokens_come_before_the_text_and_the_images_in_their_order(model, processor, squares):
    conversation = Conversation.of(("a", "b"), "What changed?")
    inputs = asked(processor, [conversation], squares[:2])
    given = inner_embeddings(model, inputs)[0]  # [T, D]
    with torch.no_grad():
        images = model.get_image_features(inputs["pixel_values"])
        words = model.get_input_embeddings()(inputs["input_ids"][0])
    assert images.shape == (2, 18, 32)
    assert torch.equal(given[:1], words[:1])  # bos
    assert torch.equal(given[1:19], images[0])
    assert torch.equal(given[19:37], images[1])
    assert torch.equal(given[37:], words[37:])
    assert (inputs["input_ids"][0, 37:] != processor.image_token_id).all()
    assert torch.equal(images[0, 0], model.image_start)
    assert torch.equal(images[1, -1], model.image_end)


def test_images_of_a_batch_go_to_their_own_conversations(model, processor, squares):
    conversations = [Conversation.of(("a", "b"), "What changed?"), Conversation.of(("c",), "What is this?")]
    inputs = asked(processor, conversations, squares)
    given = inner_embeddings(model, inputs)
    with torch.no_grad():
        images = model.get_image_features(inputs["pixel_values"])
    places = inputs["input_ids"] == processor.image_token_id
    assert torch.equal(given[0][places[0]], images[:2].flatten(0, 1))
    assert torch.equal(given[1][places[1]], images[2])


def test_the_order_of_two_images_matters(model, processor, squares):
    conversation = Conversation.of(("a", "b"), "What changed?")
    with torch.no_grad():
        one, other = (
            model(**asked(processor, [conversation], pair)).logits[0, -1] for pair in (squares[:2], squares[1::-1])
        )
    assert (one - other).abs().max() > 1e-3


# --- vision ------------------------------------------------------------------------------------------------------


def test_features_are_the_layers_of_the_vit_then_the_stages_of_the_cnn_on_one_grid(model, processor, squares):
    pixels = processor.normalise(squares[:2])
    encoder = model.vision_encoder
    with torch.no_grad():
        features = encoder(pixels)
        layers = encoder.vit(pixels, output_hidden_states=True).hidden_states
        stages = encoder.cnn(pixels, output_hidden_states=True).hidden_states
        normed = [encoder.vit.layernorm(layers[i])[:, 1:] for i in (1, 2)]
    assert features.shape == (2, 16, 2 * 32 + 8 + 16 + 16 + 32)
    torch.testing.assert_close(features[..., :32], normed[0])
    torch.testing.assert_close(features[..., 32:64], normed[1])
    assert [tuple(stage.shape[1:]) for stage in stages[1:]] == [(8, 16, 16), (16, 8, 8), (16, 4, 4), (32, 2, 2)]
    row, column = 1, 3  # the eighth token: second row, last column
    token = features[:, 4 * row + column]
    # A finer map: the mean of its 4 x 4, then 2 x 2 cells.
    torch.testing.assert_close(token[:, 64:72], stages[1][:, :, 4:8, 12:16].mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(token[:, 72:88], stages[2][:, :, 2:4, 6:8].mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(token[:, 88:104], stages[3][:, :, row, column], rtol=1e-4, atol=1e-5)
    # A coarser map: row 1 of 4 lies three quarters on the first of two rows; the last column is the second's own.
    coarse = stages[4][:, :, :, 1]
    torch.testing.assert_close(token[:, 104:], 0.75 * coarse[:, :, 0] + 0.25 * coarse[:, :, 1], rtol=1e-4, atol=1e-5)


def test_layers_and_stages_can_be_chosen(config, processor, squares):
    chosen = EarthGPTConfig(
        copy.deepcopy(config.vit_config),
        copy.deepcopy(config.cnn_config),
        copy.deepcopy(config.text_config),
        image_size=64,
        vit_layers=[2],
        cnn_stages=[2, 4],
    )
    model = EarthGPTForConditionalGeneration(chosen).eval()
    assert chosen.visual_width == 32 + 16 + 32
    assert model.vision_encoder(processor.normalise(squares[:1])).shape == (1, 16, 80)


def test_four_layers_evenly_spaced_are_the_default(config):
    def layers(depth):
        vit = copy.deepcopy(config.vit_config)
        vit.num_hidden_layers = depth
        return EarthGPTConfig(vit, config.cnn_config, config.text_config).vit_layers

    assert layers(24) == [6, 12, 18, 24]
    assert layers(12) == [3, 6, 9, 12]
    assert layers(2) == [1, 2]


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 64}
NEXT = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_stages=4)


@pytest.mark.parametrize(
    "vit",
    [ViTConfig(**SMALL, intermediate_size=64), CLIPVisionConfig(**SMALL, intermediate_size=64)],
    ids=lambda vit: vit.model_type,
)
def test_other_encoders_work_as_parts_and_are_saved_and_loaded(config, processor, squares, tmp_path, vit):
    parts = EarthGPTConfig(
        vit, NEXT, copy.deepcopy(config.text_config), image_size=64, image_token_id=config.image_token_id
    )
    model = EarthGPTForConditionalGeneration(parts).eval()
    assert model.vision_encoder.norm_name
    inputs = asked(processor, [Conversation.of(("a",), "What is this?")], squares[:1])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert model.vision_encoder(inputs["pixel_values"]).shape == (1, 16, 2 * 32 + 8 + 8 + 16 + 16)
        assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)


def test_an_image_larger_than_the_vit_was_made_for_gives_a_larger_grid(model, processor, squares):
    pixels = processor.normalise(squares[:1]).repeat(1, 1, 2, 2)  # [1, 3, 128, 128]
    assert model.vision_encoder(pixels).shape[:2] == (1, 64)


def test_start_positions_are_sines_and_cosines_of_column_and_row(model):
    vit = model.vision_encoder.vit
    before = vit.embeddings.position_embeddings.detach().clone()
    assert start_positions(vit)
    table = vit.embeddings.position_embeddings[0]
    assert torch.equal(table[0], before[0, 0])  # the class token keeps its own
    third = table[1 + 4 * 1 + 2]  # row 1, column 2
    assert third[0].item() == pytest.approx(0.909297, abs=1e-6)  # sin 2
    assert third[4].item() == pytest.approx(0.0199987, abs=1e-6)  # sin(2 * 10000 ** -0.5)
    assert third[8].item() == pytest.approx(-0.416147, abs=1e-6)  # cos 2
    assert third[16].item() == pytest.approx(0.841471, abs=1e-6)  # sin 1
    assert third[24].item() == pytest.approx(0.540302, abs=1e-6)  # cos 1


def test_start_positions_leave_an_encoder_without_such_a_table_alone():
    assert not start_positions(torch.nn.Linear(2, 2))


# --- frozen encoders ---------------------------------------------------------------------------------------------


def test_frozen_encoders_keep_no_activations_and_what_follows_them_learns_the_same(model, processor, squares):
    inputs = processor.batch([LONG], squares[:1])
    model.train()
    for module in (model.vision_encoder.cnn, model.vision_encoder.vit):
        module.eval()  # batch statistics stay
    model(**inputs).loss.backward()
    wanted = model.mm_projector.linear.weight.grad.clone()
    model.zero_grad()
    model.vision_encoder.requires_grad_(False)
    assert not model.vision_encoder(inputs["pixel_values"]).requires_grad
    model(**inputs).loss.backward()
    assert torch.equal(model.mm_projector.linear.weight.grad, wanted)
    assert all(parameter.grad is None for parameter in model.vision_encoder.parameters())
