"""Many questions about one image: EarthGPT beside transformers' own Llava of the same sizes.

    python benchmarks/asking.py

Llava is asked in the two ways that its users have: ``generate`` for each question, and, with care, ``generate`` for
each question from a copy of the cache of the image. EarthGPT is asked all questions together. Both have
a ViT of 768 x 12 that sees 256 px in 256 tokens and a Llama of 1024 x 12 with 32,000 words and random weights, and say
exactly eight tokens; EarthGPT has a small CNN besides, and decodes by its compiled passes (`load(compiled=True)`).
Answers to ten questions are compared with those to each alone, for Llava those of both ways. In bfloat16 both have an
output layer whose likeliest tokens no rounding changes. Wall time; with --cpu that of the processor in one thread, for
a busy machine.

The floor is what the encoders and the language model multiply for the image once and for every question and answer, and
the weights read once for each token that all answers get.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Sequence
from functools import partial
from importlib import metadata

from guard import in_turn
from stand_ins import Talk, Words, call_for_others
from table import Row, bytes_read, operations, table

NEW, IMAGE, BOS, PAD = 8, 31_999, 1, 2
DTYPES = ("float32", "bfloat16")


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    found = []
    for dtype in arguments.dtypes:
        found += asked_in(dtype, arguments.questions, arguments.rounds, arguments.cpu)
    print(table(found))


def rows(quick: bool = False) -> list[Row]:
    """Together beside each way of Llava, in each type of weights."""
    rounds = 1 if quick else 2
    return [row for dtype in DTYPES for row in asked_in(dtype, (10,) if quick else (10, 50), rounds, False)]


def asked_in(dtype: str, questions: Sequence[int], rounds: int, cpu: bool) -> list[Row]:
    """The rows of one type of weights."""
    import torch

    if cpu:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    together, model = ours(dtype)
    ways = {"together": together, **llava(dtype)}
    version, found = f"transformers {metadata.version('transformers')}", []
    for count in questions:
        rng = random.Random(0)
        asked = [[rng.randrange(10, 30_000) for _ in range(rng.randrange(12, 30))] for _ in range(count)]
        each = {name: partial(way, asked) for name, way in ways.items()}
        clock = time.process_time if cpu else time.perf_counter
        timings = in_turn(each, rounds, 0, clock)
        said = {name: timing.result[:10] for name, timing in timings.items()}
        agreement(said["from a copied cache"], said["one by one"])
        same = agreement(said["together"], [together([question])[0] for question in asked[:10]])
        floor, mine = seconds_at_least(model, asked), timings["together"]
        what = f"{count} questions, {dtype}" + (", CPU time" if cpu else "")
        for way, goal in (("one by one", 10), ("from a copied cache", 4)):
            rival, its = f"Llava {way}, {version}", timings[way].seconds
            found.append(Row("asking", what, "s", mine.seconds, its, rival, goal, floor, same, mine.samples))
    return found


def agreement(one: list, other: list) -> str:
    """How many answers are the same. Raises ValueError where fewer than nine of ten are."""
    same = sum(a == b for a, b in zip(one, other, strict=True))
    if same < 0.9 * len(one):
        raise ValueError(f"Only {same} of {len(one)} answers are the same.")
    return f"{same} of {len(one)} answers"


def seconds_at_least(model, asked: list[list[int]]) -> float:
    """What asking together takes on a machine that does nothing but multiply and read weights."""
    layers = model.language_model.model.layers
    body = sum(one.numel() for one in layers.parameters())
    head = model.language_model.lm_head.weight.numel()
    vit = sum(one.numel() for one in model.vision_encoder.vit.encoder.parameters())
    length, count = 259, len(asked)
    image = 2 * vit * 257 + 2 * body * length
    questions = 2 * body * sum(map(len, asked)) + 2 * head * count
    rate, read = operations(str(model.dtype).removeprefix("torch.")), model.dtype.itemsize * (body + head)
    step = max(2 * (body + head) * count / rate, read / bytes_read())
    return (image + questions) / rate + (NEW - 1) * step


def text_configuration(dtype: str):
    """The language model of both; its layers say little beside its output layer where that is to be robust."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16,
        max_position_embeddings=2048, bos_token_id=BOS, eos_token_id=None, pad_token_id=PAD,
        initializer_range=0.1 if dtype == "float32" else 0.02,
    )  # fmt: skip


def llava(dtype: str) -> dict:
    """The ways of transformers' Llava."""
    import torch
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                              patch_size=16, image_size=256)  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text_configuration(dtype), image_token_id=IMAGE,
                         vision_feature_layer=-1, image_seq_length=256)  # fmt: skip
    model = in_type(LlavaForConditionalGeneration(config), dtype)
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)).to(model.dtype)
    prefix = [BOS] + [IMAGE] * 256
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}

    @torch.inference_mode()
    def one_by_one(questions):
        said = []
        for question in questions:
            ids = torch.tensor([prefix + question])
            mask = torch.ones_like(ids)
            out = model.generate(input_ids=ids, attention_mask=mask, pixel_values=pixels, **options)
            said.append(out[0, ids.shape[1] :].tolist())
        return said

    @torch.inference_mode()
    def from_a_copy(questions):
        ids = torch.tensor([prefix])
        cache = model(input_ids=ids, pixel_values=pixels, use_cache=True, logits_to_keep=1).past_key_values
        said = []
        for question in questions:
            ids = torch.tensor([prefix + question])
            mask = torch.ones_like(ids)
            out = model.generate(input_ids=ids, attention_mask=mask, past_key_values=copy.deepcopy(cache), **options)
            said.append(out[0, ids.shape[1] :].tolist())
        return said

    return {"one by one": one_by_one, "from a copied cache": from_a_copy}


def in_type(model, dtype: str):
    """A model ready to answer, with weights of a type."""
    import torch

    if dtype != "float32":
        call_for_others(model)
    return model.to(getattr(torch, dtype)).eval()


def ours(dtype: str) -> tuple:
    """EarthGPT asked together, through ``generation.generate``, and its model; tokens stand for the words."""
    import numpy as np
    from transformers import Dinov2Config, ResNetConfig

    from earthgpt import generation
    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration

    vit = Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=16, image_size=256)
    cnn = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic")
    config = EarthGPTConfig(vit, cnn, text_configuration(dtype), image_size=256, image_token_id=IMAGE)
    model = in_type(EarthGPTForConditionalGeneration(config), dtype)
    model.compile_decoding()
    processor = Words(IMAGE, 258, BOS, PAD, eos=-1)
    square = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)

    def together(questions):
        talks = [Talk((0,), question) for question in questions]
        return [one.text for one in generation.generate(model, processor, talks, [square] * len(talks), NEW)]

    return together, model


if __name__ == "__main__":
    main()
