"""The 7B preset on one graphics card: prefill, decoding, batches and both stages of training, beside transformers.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py decode batches
    python benchmarks/gpu.py --quick

The last is the same program with toy sizes, on the processor where there is no card. Weights are random, in bfloat16.
The rival is transformers' own Llava with the very same language model, weights included, and a CLIP ViT-L/14 that sees
as many pixels; it is asked by ``generate`` with the cache that is its default. EarthGPT is asked by
``generation.generate``, as it comes ("ours") and as after ``model.compile_decoding()`` ("captured"). The output layer
is made as in decoding.py: a token calls for another, so that all ways say the same words, which is checked.

Seconds to the first token count as prefill. Decoded tokens a second are those behind the first: a long answer takes
what it takes, less what one token takes. Floors are of this very card: how fast it copies memory, bytes read and
written, and how fast it multiplies two large matrices. Stages learn as their recipes say, in micro batches that fit.
A part that fails says so, the others are measured all the same, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import compare
from stand_ins import STEP, Talk, Words
from table import Row, table
from training import MIXTURES, dialogues

from earthgpt import generation
from earthgpt.config import load_recipe
from earthgpt.machine import peak_memory
from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration
from earthgpt.model.attention import segments_of
from earthgpt.model.costs import StepCost
from earthgpt.model.presets import configuration
from earthgpt.preparation import choose_trainable, keep_precision, train_mode
from earthgpt.training import arithmetic, open_optimizer

BOS, EOS, PAD, IMAGE = 1, 2, 0, 31_999
RECIPES = Path(__file__).parents[1] / "recipes"
WAYS = ("ours", "captured")
CAPTION = (18, 14)  # tokens of question and answer


@dataclass(frozen=True)
class Size:
    """How large everything is.

    copied: bytes. side: of the matrices. question, new: tokens. together: questions of a prefill of several. batches:
    of the curve; beside: those of them that the rival is asked too. images: of a micro batch, at most. steps: of a
    stage, after those that are not counted.
    """

    copied: int
    side: int
    question: int
    new: int
    together: int
    batches: tuple[int, ...]
    beside: tuple[int, ...]
    images: int
    steps: int


WHOLE = Size(4 * 2**30, 8192, 64, 64, 8, (1, 2, 4, 8, 16, 32, 64), (1, 8, 32), 8, 2)
QUICK = Size(2**24, 256, 8, 12, 2, (1, 2, 4), (1, 2), 2, 1)


def main(words: list[str] | None = None) -> int:
    """Prints the table; the exit code is 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(PARTS)
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of {names}; all where none is given")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to try the program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, after each part")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.names) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {names}")
    if not (torch.cuda.is_available() or arguments.quick):
        parser.error("there is no graphics card; --quick runs on the processor")
    bench = Bench(QUICK if arguments.quick else WHOLE, arguments.quick)
    for name, part in PARTS.items():
        if arguments.names and name not in arguments.names and name != "ceilings":
            continue
        bench.say(name)
        try:
            part(bench)
        except Exception:  # what was measured before, and what comes after, is not lost
            traceback.print_exc()
            bench.failed.append(name)
        bench.free()
        if arguments.json:
            arguments.json.write_text(json.dumps(bench.report(), indent=2) + "\n", encoding="utf-8")
    print(f"\n{bench.heading()}\n\n{table(bench.rows)}")
    for one in bench.failed:
        print(f"\nfailed: {one}")
    return int(bool(bench.failed))


class Bench:
    """What is measured with, and what was found.

    bandwidth: bytes a second, read and written. rate: operations a second of a large product. NaN until they are known.
    """

    def __init__(self, size: Size, quick: bool):
        self.size, self.quick, self.began = size, quick, time.perf_counter()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bandwidth = self.rate = float("nan")
        self.numbers: dict[str, dict[str, Any]] = {}
        self.rows: list[Row] = []
        self.failed: list[str] = []
        self._timed: dict[tuple, tuple[float, list[list[int]]]] = {}
        torch.manual_seed(0)

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.perf_counter() - self.began:6.1f} s  {text}", flush=True)

    def keep(self, part: str, name: str = "", **numbers: Any) -> None:
        """Numbers of a part, or of something in it, for the file and the screen."""
        kept = self.numbers.setdefault(part, {})
        (kept.setdefault(name, {}) if name else kept).update(numbers)
        shown = (f"{key} {one:,.4g}" if isinstance(one, float) else f"{key} {one}" for key, one in numbers.items())
        self.say(f"  {name + ': ' if name else ''}{', '.join(shown)}")

    def seconds(self, call: Callable[[], Any], rounds: int, warm: int = 1) -> tuple[float, Any]:
        """Median seconds of a call, and what it returned last; the first ``warm`` calls do not count."""
        taken, result = [], None
        for _ in range(warm + rounds):
            self._wait()
            began = time.perf_counter()
            result = call()
            self._wait()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken[warm:]), result

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Gives memory back that nothing holds."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def same(self, check: Callable[[], str]) -> str:
        """What was found to be the same; a difference is a failure, but what was measured is kept."""
        try:
            return check()
        except ValueError as error:
            self.failed.append(str(error))
            return "DIFFERS"

    def heading(self) -> str:
        """What was measured on, and its ceilings."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "the processor"
        versions = f"torch {torch.__version__}, transformers {metadata.version('transformers')}"
        limits = f"{self.bandwidth / 1e9:,.0f} GB/s copied, {self.rate / 1e12:,.3g} TFLOP/s in bfloat16"
        return f"{name}, {versions}: {limits}; {time.perf_counter() - self.began:.0f} s in all."

    def report(self) -> dict[str, Any]:
        """All that is known so far."""
        rows = [{**asdict(row), "ratio": row.ratio} for row in self.rows]
        return {"heading": self.heading(), **self.numbers, "rows": rows, "failed": self.failed}

    # --- models ---

    @cached_property
    def model(self) -> EarthGPTForConditionalGeneration:
        """The preset."""
        config = toy() if self.quick else configuration("earthgpt-7b")
        config.image_token_id = IMAGE
        for one in (config, config.text_config):
            one.bos_token_id, one.eos_token_id, one.pad_token_id = BOS, None, PAD  # answers have no end
        model = build(EarthGPTForConditionalGeneration, config, self.device)
        call_for_another(model.language_model)
        total = sum(one.numel() for one in model.parameters())
        self.say(f"  a model of {total / 1e9:.3g} B weights was made")
        return model

    @cached_property
    def rival(self):
        """transformers' Llava with the same language model: its weights are those of ours, where they lie."""
        from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

        ours, vit = self.model.language_model, self.model.config.vit_config
        vision = CLIPVisionConfig(
            hidden_size=vit.hidden_size, intermediate_size=4 * vit.hidden_size, patch_size=vit.patch_size,
            num_hidden_layers=vit.num_hidden_layers, num_attention_heads=vit.num_attention_heads,
            image_size=self.model.config.image_size,
        )  # fmt: skip
        text = type(ours.config)(**{**ours.config.to_dict(), "dtype": None})
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE,
                             image_seq_length=self.model.config.grid**2)  # fmt: skip
        rival = build(LlavaForConditionalGeneration, config, self.device)
        rival.model.language_model.load_state_dict(ours.model.state_dict(), assign=True)
        rival.lm_head.load_state_dict(ours.lm_head.state_dict(), assign=True)
        self.free()
        return rival

    @cached_property
    def squares(self) -> list[np.ndarray]:
        """Different images."""
        side = self.model.config.image_size
        draw = np.random.default_rng(0)
        return [draw.integers(0, 256, (side, side, 3), np.uint8) for _ in range(self.size.together)]

    @cached_property
    def questions(self) -> list[list[int]]:
        """Different questions, of the same length."""
        draw = random.Random(0)
        return [[draw.randrange(10, 30_000) for _ in range(self.size.question)] for _ in range(max(self.size.batches))]

    # --- answers ---

    def asked(self, way: str, count: int, images: int, new: int) -> tuple[float, list[list[int]]]:
        """Seconds in which a way says ``new`` tokens to each of so many questions, about one image or as many, and what
        it says."""
        key = (way, count, images, new)
        if key not in self._timed:
            squares = [self.squares[i % images] for i in range(count)]
            say = self._llava if way == "generate" else partial(self._ours, way)
            call = partial(say, self.questions[:count], squares)
            if new > 1:
                call(min(new, 8))  # with all kernels of a step, and those of a capture
            self._timed[key] = self.seconds(partial(call, new), 2, int(new == 1))
        return self._timed[key]

    def decoded(self, way: str, count: int) -> tuple[float, list[list[int]]]:
        """Tokens a second behind the first of so many answers about one image, and the answers."""
        first, _ = self.asked(way, count, 1, 1)
        whole, said = self.asked(way, count, 1, self.size.new)
        return count * (self.size.new - 1) / (whole - first), said

    def _ours(self, way: str, questions, squares, new: int) -> list[list[int]]:
        return [tokens for tokens, _ in self.answers(way, questions, squares, new)]

    def answers(self, way: str, questions, squares, new: int) -> list[tuple[list[int], list[float]]]:
        """Tokens of EarthGPT's answers, and their probabilities; "plain" is by transformers' ``generate``."""
        words = Words(IMAGE, self.model.config.tokens_per_image, BOS, PAD, eos=-1)
        talks = [Talk((0,), question) for question in questions]
        self.model.captured = way == "captured"
        found = generation.generate(self.model, words, talks, squares, new, plain=way == "plain")
        return [([int(word) for word in one.text.split()], list(one.probabilities)) for one in found]

    @torch.inference_mode()
    def _llava(self, questions, squares, new: int) -> list[list[int]]:
        rows = [[BOS, *[IMAGE] * self.model.config.grid**2, *question] for question in questions]
        ids = torch.tensor(rows, device=self.device)
        pixels = torch.from_numpy(np.stack(squares)).to(self.device).permute(0, 3, 1, 2).to(torch.bfloat16).div(255)
        out = self.rival.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, max_new_tokens=new,
            do_sample=False, pad_token_id=PAD,
        )  # fmt: skip
        return out[:, ids.shape[1] :].tolist()


def toy() -> EarthGPTConfig:
    """A model that a processor runs in a moment."""
    from transformers import Dinov2Config, LlamaConfig, ResNetConfig

    vit = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=16, image_size=64)
    cnn = ResNetConfig(embedding_size=16, hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
    text = LlamaConfig(vocab_size=32_000, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                       num_attention_heads=4, max_position_embeddings=1024)  # fmt: skip
    return EarthGPTConfig(vit, cnn, text, image_size=64)


def build(kind, config, device: torch.device):
    """A model in bfloat16 whose weights are drawn on the device itself. The constructor makes it, so buffers have their
    values, and the frequencies of positions stay in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return kind(config).eval()
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def call_for_another(language_model) -> None:
    """Makes the likeliest token that which the last one calls for, with a logit of 7 or 8 where the others deviate by
    about 1: rounding does not change it, while its probability depends on what all layers do."""
    width = language_model.config.hidden_size
    for one in language_model.parameters():
        if one.ndim > 1:
            one.normal_(std=0.64 / width**0.5)
    embeddings, head = language_model.get_input_embeddings().weight, language_model.get_output_embeddings().weight
    embeddings.normal_()
    head.normal_(std=0.96 / width**0.5).add_(embeddings.roll(STEP, 0), alpha=13 / width)


# --- parts -------------------------------------------------------------------------------------------------------


def ceilings(bench: Bench) -> None:
    """What the card can do."""
    one = torch.ones(bench.size.copied, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(one)
    seconds, _ = bench.seconds(lambda: other.copy_(one), 10, 2)
    bench.bandwidth = 2 * one.nbytes / seconds
    del one, other
    side = bench.size.side
    one, other = (torch.randn(side, side, device=bench.device).to(torch.bfloat16) for _ in range(2))
    seconds, _ = bench.seconds(lambda: one @ other, 10, 3)
    bench.rate = 2 * side**3 / seconds
    bench.keep("ceilings", copy_gb_per_s=bench.bandwidth / 1e9, product_tflops=bench.rate / 1e12)


def prefill(bench: Bench) -> None:
    """The first token: of one question, of several about an image each, and of several about the same."""
    rival, together = llava_name(), bench.size.together
    shown, asked = 1 + bench.model.config.tokens_per_image, bench.size.question
    for count, images in ((1, 1), (together, together), (together, 1)):
        ours, said = bench.asked("ours", count, images, 1)
        theirs, others = bench.asked("generate", count, images, 1)
        flops = first_token_flops(bench.model, count, images, asked)
        mfu, tokens = flops / ours / bench.rate, count * (shown + asked)
        name = f"prefill, {count} x {shown + asked} tokens" + (", one image" if images < count else "")
        bench.keep("prefill", name, ours_s=ours, generate_s=theirs, tokens_per_s=tokens / ours, mfu=mfu)
        row = Row("gpu", name, "tokens/s", tokens / ours, tokens / theirs, rival, None, tokens / flops * bench.rate)
        bench.rows.append(replace(row, same=bench.same(partial(agreement, said, others))))


def decode(bench: Bench) -> None:
    """One stream."""
    size = weight_bytes(bench.model)
    floor = bench.bandwidth / size
    once = bench.questions[:1], bench.squares[:1], bench.size.new
    (plain,) = bench.answers("plain", *once)
    theirs, others = bench.decoded("generate", 1)
    bench.keep("decode", "generate", tokens_per_s=theirs, ms=1e3 / theirs, of_bandwidth=theirs / floor)
    for way in WAYS:
        rate, said = bench.decoded(way, 1)
        bench.keep("decode", way, tokens_per_s=rate, ms=1e3 / rate, of_bandwidth=rate / floor)
        (answer,) = bench.answers(way, *once)
        same = bench.same(partial(compare, {"generate": plain, way: answer}))
        bench.same(partial(agreement, said, others))
        bench.rows += [
            Row("gpu", f"decode, one stream, {way}", "tokens/s", rate, theirs, llava_name(), None, floor, same),
            Row("gpu", f"decode, weights, {way}", "GB/s", rate * size / 1e9, bench.bandwidth / 1e9, "memory copied"),
        ]


def batches(bench: Bench) -> None:
    """Tokens a second by the number of answers that are made together."""
    length = 1 + bench.model.config.tokens_per_image + bench.size.question + bench.size.new // 2
    for count in bench.size.batches:
        for way in WAYS:
            one, _ = bench.decoded(way, 1)
            rate, said = bench.decoded(way, count)
            step = (weight_bytes(bench.model) + count * length * token_bytes(bench.model)) / bench.bandwidth
            floor = count / step
            numbers = {"tokens_per_s": rate, "ms_a_step": 1e3 * count / rate, "of_floor": rate / floor}
            name = f"batch of {count}, {way}"
            if count > 1:
                bench.rows.append(Row("gpu", name, "tokens/s", rate, count * one, f"{count} x one stream", None, floor))
            if count in bench.size.beside:
                theirs, others = bench.decoded("generate", count)
                numbers["generate_tokens_per_s"] = theirs
                same = bench.same(partial(agreement, said, others))
                if count > 1:
                    row = Row("gpu", name, "tokens/s", rate, theirs, llava_name(), None, floor, same)
                    bench.rows.append(row)
            bench.keep("batches", name, **numbers)


def align(bench: Bench) -> None:
    """Stage 1: a caption for each image."""
    draw = random.Random(0)
    captions = [[tuple([draw.randrange(10, 30_000) for _ in range(n)] for n in CAPTION)] for _ in range(32)]
    stage(bench, "align", captions)


def instruct(bench: Bench) -> None:
    """Stage 2: a dialogue about each image."""
    stage(bench, "instruct", dialogues(MIXTURES["MMRS-like"] * 4))


PARTS = {
    "ceilings": ceilings, "prefill": prefill, "decode": decode, "batches": batches, "align": align,
    "instruct": instruct,
}  # fmt: skip


def stage(bench: Bench, name: str, talks: list[list[tuple[list[int], list[int]]]]) -> None:
    """Steps of a recipe on the preset, in micro batches of as many images as fit."""
    recipe = load_recipe(RECIPES / f"{name}.toml")
    model = bench.model
    bench.__dict__.pop("rival", None)
    bench.free()
    if recipe.bias_tuning:
        model.add_bias_tuning()
    choose_trainable(model, recipe.trainable)
    keep_precision(model, recipe.precision)
    if recipe.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    train_mode(model)
    cost, parameters = StepCost.of(model), [one for one in model.parameters() if one.requires_grad]
    talks, images = talks[: recipe.batch_size], bench.size.images
    if bench.quick:
        talks = talks[: 2 * images]
    try:
        while True:
            parts = [inputs(model, talks[i : i + images]) for i in range(0, len(talks), images)]
            if bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                step = partial(learn, model, recipe, open_optimizer(recipe, parameters), parameters, bench.device)
                bench.seconds(partial(step, parts[:1]), 1, 1)
                seconds, loss = bench.seconds(partial(step, parts), bench.size.steps, 0)
                break
            except torch.OutOfMemoryError:
                if images == 1:
                    raise
            images //= 2
            step = None
            model.zero_grad(set_to_none=True)
            bench.free()
            bench.say(f"  out of memory; {images} images in a micro batch")
    finally:
        model.zero_grad(set_to_none=True)
        step = None
    if not np.isfinite(loss):
        raise ValueError(f"The loss of {name} is {loss}.")
    flops = sum(cost.flops(part) for part in parts)
    tokens, memory = sum(part["input_ids"].numel() for part in parts), peak_memory(bench.device) / 1e9
    numbers = {
        "mfu": flops / seconds / bench.rate, "tflops": flops / seconds / 1e12, "images_per_s": len(talks) / seconds,
        "tokens_per_s": tokens / seconds, "memory_gb": memory, "micro_batch": images, "step_s": seconds,
        "trained": sum(one.numel() for one in parameters), "loss": loss,
    }  # fmt: skip
    bench.keep(name, **numbers)
    note = f"{numbers['images_per_s']:.1f} images/s, {numbers['tokens_per_s']:,.0f} tokens/s, {memory:.1f} GB, "
    note += f"{images} images in a micro batch"
    rival = f"product of {bench.size.side} x {bench.size.side}"
    row = Row("gpu", f"training, {name}.toml", "TFLOP/s", numbers["tflops"], bench.rate / 1e12, rival, None, None, note)
    bench.rows.append(row)


def learn(model, recipe, optimizer, parameters, device: torch.device, parts: list) -> float:
    """A step as ``training.train`` takes it, and its loss."""
    loss = torch.zeros((), device=device)
    for part in parts:
        with arithmetic(recipe, device):
            share = model(**part.to(device), use_cache=False).loss / len(parts)
        share.backward()
        loss += share.detach()
    torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss)


def inputs(model, talks: list[list[tuple[list[int], list[int]]]]):
    """A packed row of dialogues of tokens, and noise as their images."""
    from transformers import BatchFeature

    ids: list[int] = []
    labels: list[int] = []
    places: list[int] = []
    segments = []
    for talk in talks:
        row = [BOS] + [IMAGE] * model.config.tokens_per_image
        learned = [-100] * len(row)
        for asked, answer in talk:
            row += [*asked, *answer, EOS]
            learned += [*[-100] * len(asked), *answer, EOS]
        segments += segments_of([0] * len(row), len(ids))
        ids, labels, places = ids + row, labels + learned, places + list(range(len(row)))
    words = {"input_ids": ids, "labels": labels, "position_ids": places}
    tensors = {name: torch.tensor([one]) for name, one in words.items()}
    side = model.config.image_size
    pixels = torch.randn(len(talks), 3, side, side, generator=torch.Generator().manual_seed(0))
    return BatchFeature({**tensors, "pixel_values": pixels, "segments": segments})


def first_token_flops(model, count: int, images: int, question: int) -> float:
    """Operations of the pass that gives the first token of so many answers: every image and question read once."""
    cost, shown = StepCost.of(model), 1 + model.config.tokens_per_image
    pairs = images * shown * (shown + 1) // 2 + count * (question * shown + question * (question + 1) // 2)
    text = 2 * (images * shown + count * question) * cost.body + 4 * cost.attention * pairs + 2 * count * cost.head
    return text + images * (cost.vision + 2 * cost.visual_tokens * cost.projector)


def weight_bytes(model) -> int:
    """Of the weights that a token needs: all of the language model but its embeddings."""
    embeddings = model.get_input_embeddings().weight
    return sum(one.nbytes for one in model.language_model.parameters() if one is not embeddings)


def token_bytes(model) -> int:
    """Of the keys and values of a token, in bfloat16."""
    text = model.config.text_config
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * 2 * text.num_hidden_layers * text.num_key_value_heads * width


def agreement(one: list[list[int]], other: list[list[int]]) -> str:
    """How many answers are the same. Raises ValueError where fewer than nine of ten are."""
    same = sum(a == b for a, b in zip(one, other, strict=True))
    if same < 0.9 * len(one):
        raise ValueError(f"Only {same} of {len(one)} answers are the same.")
    return f"{same} of {len(one)} answers"


def llava_name() -> str:
    """The rival, and its version."""
    return f"Llava, transformers {metadata.version('transformers')} generate"


if __name__ == "__main__":
    sys.exit(main())
