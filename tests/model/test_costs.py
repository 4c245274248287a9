"""What a step costs, beside what torch counts and keeps while it takes one."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from earthgpt.model.costs import StepCost, training_memory, vision_flops
from earthgpt.model.presets import configuration, on_meta
from earthgpt.preparation import choose_trainable
from earthgpt.types import Conversation

TALK = Conversation.of(("a",), "Is there a ship in the image?", "yes", "How many ships are there?", "two ships")
STAGES = {
    "all": (("*",), 0.2),  # the gradient of the pixels is not asked for, which shows in encoders of toy size
    "language model": (("language_model.*",), 0.01),
    "attention": (("mm_projector.*", "language_model.*.self_attn.*"), 0.01),
    "norms": (("language_model.*norm*",), 0.01),
}


@pytest.mark.parametrize(("patterns", "within"), STAGES.values(), ids=STAGES)
def test_the_operations_of_a_step_are_those_that_torch_counts(patterns, within, model, processor, squares):
    model = model.float()
    choose_trainable(model, patterns)
    batch = processor.pack([processor.render(TALK, branches=True)] * 2, squares[:2])
    with FlopCounterMode(display=False) as counter:
        model(**batch, use_cache=False).loss.backward()
    cost = StepCost.of(model)
    # Torch does not count attention on a processor.
    assert replace(cost, attention=0).flops(batch) == pytest.approx(counter.get_total_flops(), rel=within)
    pairs = sum(segment.pairs for segment in batch["segments"])
    assert cost.flops(batch) - replace(cost, attention=0).flops(batch) == 3 * 4 * 2 * 32 * pairs


def test_a_step_of_the_7b_model_by_hand():
    model = on_meta(configuration("earthgpt-7b", 224))
    model.add_bias_tuning()
    choose_trainable(model, ("language_model.*.alpha", "language_model.*.beta"))
    cost = StepCost.of(model)
    # 32 layers of q, k, v, o (4096 x 4096) and gate, up, down (4096 x 11008): 6.476e9 weights.
    assert cost.body == 32 * (4 * 4096**2 + 3 * 4096 * 11008) == 6_476_005_376
    assert (cost.body_trained, cost.head, cost.head_trained) == (0, 32_000 * 4096, False)
    # DINOv2-L: 0.162e12 and ConvNeXt-L: 0.069e12, as the formulas for their layers give.
    assert vision_flops(model) == pytest.approx(0.231e12, rel=0.01)


def test_memory_grows_with_what_is_trained_and_falls_with_checkpointing():
    found = {}
    for name, patterns, checkpointing in (
        ("bias", ("language_model.*.alpha", "language_model.*.beta"), False),
        ("bias, checkpointing", ("language_model.*.alpha", "language_model.*.beta"), True),
        ("full", ("language_model.*",), True),
    ):
        model = on_meta(configuration("earthgpt-7b", 224))
        model.add_bias_tuning()
        choose_trainable(model, patterns)
        found[name] = training_memory(model, text=110, labelled=30, checkpointing=checkpointing)
    gib = 2**30
    # 7.27e9 weights of two bytes; alpha and beta of 32 * (5 * 4096 + 2 * 11008) outputs, 16 bytes each.
    assert found["bias"].weights == pytest.approx(7.27e9 * 2, rel=0.01)
    assert found["bias"].gradients == 4 * 2 * 32 * (5 * 4096 + 2 * 11008) == found["bias"].optimizer // 2
    assert found["bias"].image > 8 * found["bias, checkpointing"].image
    assert found["bias, checkpointing"].images(24 * gib) >= 8, "the 24 GB recipe takes eight images at a time"
    assert found["full"].images(80 * gib) == 0 and found["full"].images(80 * gib, processes=8) > 8


def test_the_activations_that_are_counted_are_those_that_a_step_keeps(model, processor, squares):
    choose_trainable(model, ("language_model.*",))
    text = len(processor.render(TALK)["input_ids"]) - processor.tokens_per_image
    labelled = sum(label >= 0 for label in processor.render(TALK)["labels"])
    batches = [processor.pack([processor.render(TALK)] * n, squares[:n]) for n in (1, 2)]
    model.to(torch.bfloat16).train()
    kept = []
    own = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers())}
    for batch in batches:
        batch["pixel_values"] = batch["pixel_values"].bfloat16()
        storages, held = {}, []

        def keep(tensor, storages=storages, held=held):
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            held.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(**batch, use_cache=False)
        kept.append(sum(size for key, size in storages.items() if key not in own))
    estimate = training_memory(model.to("meta"), text, labelled, checkpointing=False)
    assert estimate.image == pytest.approx(kept[1] - kept[0], rel=0.2)
