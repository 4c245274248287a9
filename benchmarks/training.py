"""A training step of EarthGPT beside one of transformers' own Llava at the same sizes, and beside a plain padded loop.

    python benchmarks/training.py

Both have a ViT of 256 x 6 that sees 224 px in 196 tokens and a Llama of 384 x 8 with 32,000 words, about 44 million
weights; EarthGPT has a small CNN besides, whose work it does alone. They learn the same questions and answers, each as
if it were the only one about its image: Llava, and the plain loop, in a row of its own, padded to the longest; EarthGPT
in one packed row in which the questions about an image share its tokens. bfloat16 autocast, AdamW, one thread, CPU time
(which a busy machine changes less than wall time), the best of several rounds in turn. Loss and gradients of the packed
row are compared with those of the plain loop before anything is timed. Memory is the peak of a process that takes three
steps of one kind, less what it held before the model was made.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
from dataclasses import dataclass
from importlib import metadata

from guard import in_turn
from processes import output, peak_kib
from table import Row

MIXTURES = {
    "one question an image": [1] * 8,
    "MMRS-like": [1, 1, 1, 2, 3, 4, 5, 8],  # VQA and captions come several to an image
    "ten questions an image": [10],
}
# Tokens of question and answer: class, VQA, caption, grounding, detection.
LENGTHS = ((20, 3), (26, 2), (18, 14), (24, 28), (22, 90))
WAYS = ("Llava", "padded", "packed")
VOCABULARY, IMAGE, BOS, EOS = 32_000, 31_999, 1, 2


def main() -> None:
    """Times every way of every mixture, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--frozen", action="store_true", help="train the language model and projector only")
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "MIXTURE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.memory:
        way, mixture = arguments.memory
        before = peak_kib()
        runner = Runner.make(way, MIXTURES[mixture], arguments.frozen)
        for _ in range(3):
            runner.step()
        print(peak_kib() - before)
        return
    from earthgpt.machine import matrix_rate

    print("| mixture | way | rows x tokens | tokens that are real | s | x Llava | MFU | MB | of Llava |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for mixture, questions in MIXTURES.items():
        runners = {way: Runner.make(way, questions, arguments.frozen) for way in WAYS}
        check(runners["padded"], runners["packed"])
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(arguments.rounds):
            for way in WAYS:
                best[way] = min(best[way], runners[way].step())
        options = ["--frozen"] if arguments.frozen else []
        memory = {way: measured_memory(way, mixture, options) for way in WAYS}
        rate = matrix_rate(torch.device("cpu"))
        flops = runners["packed"].flops
        for way, runner in runners.items():
            rows, length = runner.inputs["input_ids"].shape
            real = runner.real / (rows * length)
            print(
                f"| {mixture} | {way} | {rows} x {length} | {real:.0%} | {best[way]:.2f} | "
                f"{best['Llava'] / best[way]:.2f} | {flops / best[way] / rate:.0%} | {memory[way]:.0f} | "
                f"{memory[way] / memory['Llava']:.2f} |",
                flush=True,
            )
    print("\nMFU: operations that the packed row asks for, over what a square bfloat16 product does in the time.")


def rows(quick: bool = False) -> list[Row]:
    """Packed rows beside Llava: seconds of a step and memory. The floor is what the packed row asks to multiply."""
    import torch

    from earthgpt.machine import matrix_rate

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rival, found = f"Llava, transformers {metadata.version('transformers')}", []
    for mixture, goal in (("ten questions an image", 8), ("MMRS-like", 4))[: 1 if quick else 2]:
        runners = {way: Runner.make(way, MIXTURES[mixture], False) for way in WAYS}
        check(runners.pop("padded"), runners["packed"])
        timings = in_turn({way: runner.step for way, runner in runners.items()}, 2, 0, time.process_time)
        floor = runners["packed"].flops / matrix_rate(torch.device("cpu"))
        ours, its = timings["packed"], timings["Llava"]
        same = "loss and gradients"
        found.append(
            Row("training", f"{mixture}, CPU time of a step", "s", ours.seconds, its.seconds, rival, goal, floor, same,
                ours.samples)
        )  # fmt: skip
        memory = {way: measured_memory(way, mixture, []) for way in runners}
        what = f"{mixture}, memory of three steps"
        found.append(Row("training", what, "MB", memory["packed"], memory["Llava"], rival, 2, None, same))
    return found


def measured_memory(way: str, mixture: str, options: list[str]) -> float:
    """Peak MB of a process that takes three steps, less what it held before."""
    return int(output([sys.executable, __file__, *options, "--memory", way, mixture])) / 1024


@dataclass
class Runner:
    """One model that takes the same step again and again."""

    model: object
    optimizer: object
    inputs: dict
    real: int
    flops: float

    @classmethod
    def make(cls, way: str, questions: list[int], frozen: bool) -> Runner:
        """The model of a way, and the batch in its form."""
        import torch

        model, inputs, real = (llava if way == "Llava" else earthgpt)(way, questions)
        if frozen:
            encoder = model.model.vision_tower if way == "Llava" else model.vision_encoder
            encoder.requires_grad_(False)
        model.train()
        trained = [one for one in model.parameters() if one.requires_grad]
        flops = 0.0
        if way == "packed":
            from earthgpt.model.costs import StepCost

            flops = StepCost.of(model).flops(inputs)
        return cls(model, torch.optim.AdamW(trained, lr=1e-5, fused=True), inputs, real, flops)

    def step(self) -> float:
        """CPU seconds of one step."""
        import torch

        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.model(**self.inputs, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.process_time() - began


def dialogues(questions: list[int]) -> list[list[tuple[list[int], list[int]]]]:
    """For each image, questions and answers as tokens; the same for every way."""
    rng = random.Random(0)
    found = []
    for count in questions:
        drawn = [rng.choice(LENGTHS) for _ in range(count)]
        found.append([tuple([rng.randrange(10, 30_000) for _ in range(n)] for n in pair) for pair in drawn])
    return found


def pixels(count: int):
    """Noise as images, [n, 3, 224, 224]."""
    import torch

    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def padded(rows: list[tuple[list[int], list[int]]], images: list[int]) -> tuple[dict, int]:
    """Rows of (tokens, labels) as one rectangle, and how many tokens are real."""
    import torch

    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids, _ in rows])
    inputs = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    return inputs | {"pixel_values": pixels(max(images) + 1)[images]}, int(mask.sum())


def text_configuration():
    """The language model of both."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
        max_position_embeddings=4096,
    )  # fmt: skip


def llava(way: str, questions: list[int]):
    """transformers' Llava, and every question in a row of its own."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, patch_size=16,
        image_size=224,
    )  # fmt: skip
    text = text_configuration()
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, vision_feature_layer=-1)
    rows, images = [], []
    for image, pairs in enumerate(dialogues(questions)):
        for asked, answer in pairs:
            ids = [BOS, *[IMAGE] * 196, *asked, *answer, EOS]
            rows.append((ids, [-100] * (len(ids) - len(answer) - 1) + [*answer, EOS]))
            images.append(image)
    config.image_seq_length = 196
    return LlavaForConditionalGeneration(config), *padded(rows, images)


def earthgpt(way: str, questions: list[int]):
    """EarthGPT, and the questions packed, or each in a row of its own."""
    from transformers import Dinov2Config, ResNetConfig

    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration
    from earthgpt.model.loading import load

    _, processor = load()
    vit = Dinov2Config(hidden_size=256, num_hidden_layers=6, num_attention_heads=4, patch_size=16, image_size=224)
    cnn = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic")
    config = EarthGPTConfig(vit, cnn, text_configuration(), image_token_id=IMAGE)
    rendered = []
    for pairs in dialogues(questions):
        ids = [BOS] + [IMAGE] * 198
        row = {"input_ids": ids, "labels": [-100] * 199, "segment_ids": [0] * 199, "position_ids": list(range(199))}
        for number, (asked, answer) in enumerate(pairs, 1):
            length = len(asked) + len(answer) + 1
            row["input_ids"] = row["input_ids"] + [*asked, *answer, EOS]
            row["labels"] = row["labels"] + [-100] * len(asked) + [*answer, EOS]
            row["segment_ids"] = row["segment_ids"] + [number] * length
            row["position_ids"] = row["position_ids"] + list(range(199, 199 + length))
        rendered.append(row)
    if way == "packed":
        inputs = processor.pack(rendered, [])
        inputs["pixel_values"] = pixels(len(questions))
        real = inputs["input_ids"].numel()
    else:
        rows, images = [], []
        for image, row in enumerate(rendered):
            for number in range(1, max(row["segment_ids"]) + 1):
                kept = [i for i, segment in enumerate(row["segment_ids"]) if segment in (0, number)]
                rows.append(([row["input_ids"][i] for i in kept], [row["labels"][i] for i in kept]))
                images.append(image)
        inputs, real = padded(rows, images)
    return EarthGPTForConditionalGeneration(config), inputs, real


def check(plain: Runner, ours: Runner) -> None:
    """Ends the program unless loss and gradients of the packed row are those of the plain loop, in float32."""
    import torch

    found = []
    for runner in (plain, ours):
        model = copy.deepcopy(plain.model).eval()
        loss = model(**runner.inputs, use_cache=False).loss
        loss.backward()
        gradient = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
        found.append((loss.item(), gradient))
    (loss, one), (packed, other) = found
    apart = float((one - other).norm() / one.norm())
    if abs(loss - packed) > 1e-4 or apart > 1e-3:
        sys.exit(f"The packed row differs: loss {packed} and {loss}, gradient {apart:.1e}.")


if __name__ == "__main__":
    main()
