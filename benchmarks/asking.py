"""Many questions about one image: EarthGPT beside transformers' own Llava of the same sizes.

    python benchmarks/asking.py

Llava is asked in the two ways that its users have: ``generate`` for each question, and, with care, ``generate`` for
each question from a copy of the cache of the image. EarthGPT is asked all questions together, and one by one. Both have
a ViT of 768 x 12 that sees 256 px in 256 tokens and a Llama of 1024 x 12 with 32,000 words, random weights, float32,
and say exactly eight tokens; EarthGPT has a small CNN besides. Answers that share an image are compared with those that
do not. Wall time, the best round; two threads.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time

NEW, IMAGE, BOS, EOS, PAD = 8, 31_999, 1, 2, 0


def main() -> None:
    """Times every way at 10 and 50 questions, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(0)
    ways = {**llava(), **earthgpt()}
    print("| questions | way | s | a question, ms | x Llava one by one | same answers |")
    print("|---:|---|---:|---:|---:|---:|")
    for count in arguments.questions:
        rng = random.Random(0)
        questions = [[rng.randrange(10, 30_000) for _ in range(rng.randrange(12, 30))] for _ in range(count)]
        best, said = dict.fromkeys(ways, float("inf")), {}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                said[name] = way(questions)
                best[name] = min(best[name], time.perf_counter() - began)
        names = list(ways)
        same = {}
        for one, other in ((names[0], names[1]), (names[3], names[2])):
            same[other] = sum(a == b for a, b in zip(said[one], said[other], strict=True))
            if same[other] < 0.9 * count:
                sys.exit(f"{one} and {other} agree on {same[other]} of {count} answers only.")
        for name in names:
            each, ratio = 1000 * best[name] / count, best[names[0]] / best[name]
            alike = f"{same[name]} of {count}" if name in same else ""
            print(f"| {count} | {name} | {best[name]:.2f} | {each:.0f} | {ratio:.1f} | {alike} |", flush=True)


def text_configuration():
    """The language model of both."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16,
        max_position_embeddings=2048, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, initializer_range=0.1,
    )  # fmt: skip


def llava() -> dict:
    """The ways of transformers' Llava."""
    import torch
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                              patch_size=16, image_size=256)  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text_configuration(), image_token_id=IMAGE,
                         vision_feature_layer=-1, image_seq_length=256)  # fmt: skip
    model = LlavaForConditionalGeneration(config).to(torch.float32).eval()
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)).to(torch.float32)
    prefix = [BOS] + [IMAGE] * 256
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}

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

    return {"Llava, one by one": one_by_one, "Llava, from a copied cache": from_a_copy}


def earthgpt() -> dict:
    """The ways of EarthGPT, through ``generation.generate``; tokens stand for the words of questions."""
    import numpy as np
    import torch
    from transformers import Dinov2Config, ResNetConfig

    from earthgpt import generation
    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration

    vit = Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=16, image_size=256)
    cnn = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic")
    config = EarthGPTConfig(vit, cnn, text_configuration(), image_size=256, image_token_id=IMAGE)
    model = EarthGPTForConditionalGeneration(config).to(torch.float32).eval()
    model.generation_config.min_new_tokens = NEW
    processor = Words()
    square = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)

    def together(questions):
        talks = [Talk((0,), question) for question in questions]
        return [one.text for one in generation.generate(model, processor, talks, [square] * len(talks), NEW)]

    def one_by_one(questions):
        return [together([question])[0] for question in questions]

    return {"EarthGPT, together": together, "EarthGPT, one by one": one_by_one}


class Talk:
    """A conversation whose question is tokens."""

    def __init__(self, images, tokens):
        self.images, self.tokens = images, tokens


class Words:
    """A processor whose words are tokens."""

    image_token_id, tokens_per_image = IMAGE, 258

    class tokenizer:
        pad_token_id, eos_token_id = PAD, EOS

        @staticmethod
        def decode(ids, skip_special_tokens):
            return " ".join(map(str, ids))

    def render(self, talk):
        """The tokens of a conversation."""
        return {"input_ids": [BOS] + [IMAGE] * 258 + talk.tokens}

    def normalise(self, squares):
        """Pixels in float32."""
        import numpy as np
        import torch

        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).to(torch.float32).div(255)

    def batch(self, talks, squares, padding_side):
        """One conversation, which needs no padding."""
        import torch
        from transformers import BatchFeature

        ids = torch.tensor([self.render(talk)["input_ids"] for talk in talks])
        same = {"labels": ids, "position_ids": ids, "attention_mask": torch.ones_like(ids)}
        return BatchFeature({"input_ids": ids, **same, "pixel_values": self.normalise(squares)})


if __name__ == "__main__":
    main()
