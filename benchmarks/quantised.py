"""A model quantised with what transformers offers: size, how many answers stay the same, and the figures.

    pip install torchao optimum-quanto bitsandbytes accelerate
    python benchmarks/quantised.py earthgpt-tiny > quantised.md

Questions are those of the synthetic validation scenes, the same for each row. "Kept" are modules that are not
quantised: "output" is the output layer alone, "projector" that and the projector, whose width bitsandbytes
cannot cut in blocks of 64, "encoders" these and both encoders.
Ways whose library is not installed are named at the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from table import Row
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, QuantoConfig, TorchAoConfig
from transformers.utils import logging

from earthgpt.assistant import EarthGPT
from earthgpt.evaluation import evaluate
from earthgpt.model.loading import load, locate

OUTPUT = ["language_model.lm_head"]
KEPT = {
    "output": OUTPUT,
    "encoders": [*OUTPUT, "vision_encoder", "mm_projector"],
    "projector": [*OUTPUT, "mm_projector"],
}
TASKS = [
    ("scene_classification", "accuracy_lenient"),
    ("visual_question_answering", "accuracy_lenient"),
    ("image_captioning", "cider_d"),
    ("visual_grounding", "mean_iou"),
]


def torchao(name: str, **options):
    """A configuration of torchao by its name."""

    def made(kept: list[str]):
        import torchao.quantization

        return TorchAoConfig(getattr(torchao.quantization, name)(**options), modules_to_not_convert=kept)

    return made


# Name -> library, configuration for modules that are kept.
WAYS = {
    "torchao int8": ("torchao", torchao("Int8WeightOnlyConfig")),
    "torchao int8, activations too": ("torchao", torchao("Int8DynamicActivationInt8WeightConfig")),
    "quanto int8": ("optimum", lambda kept: QuantoConfig(weights="int8", modules_to_not_convert=kept)),
    "bitsandbytes int8": (
        "bitsandbytes",
        lambda kept: BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept),
    ),
    "bitsandbytes nf4": (
        "bitsandbytes",
        lambda kept: BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            llm_int8_skip_modules=kept,
            bnb_4bit_compute_dtype=torch.float32,
        ),
    ),
}
ROWS = [
    ("torchao int8", "output"), ("torchao int8", "encoders"), ("torchao int8, activations too", "output"),
    ("quanto int8", "output"), ("bitsandbytes int8", "output"),
    ("bitsandbytes nf4", "projector"), ("bitsandbytes nf4", "encoders"),
]  # fmt: skip


def main() -> None:
    """Prints a row for each way of quantising and each choice of modules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=100, help="questions of each task")
    arguments = parser.parse_args()
    print("| way | kept | MB | same answers | " + " | ".join(f"{task} {name}" for task, name in TASKS) + " | seconds |")
    print("|---|---|" + "---:|" * (len(TASKS) + 3))
    for one in measured(arguments.model, arguments.limit, [("float32", ""), ("bfloat16", ""), *ROWS]):
        figures = " | ".join(f"{value:.3f}" for value in one.figures)
        print(f"| {one.way} | {one.kept} | {one.mb:.1f} | {one.same:.3f} | {figures} | {one.seconds:.0f} |", flush=True)
    if missing := sorted({library for library, _ in WAYS.values() if importlib.util.find_spec(library) is None}):
        print(f"\nNot installed: {', '.join(missing)}.", file=sys.stderr)


def rows(quick: bool = False) -> list[Row]:
    """Size and time of earthgpt-tiny in bfloat16, and in int8 where torchao is installed, beside float32."""
    ways = [("float32", ""), ("bfloat16", ""), ("torchao int8", "output")]
    exact, *others = measured("earthgpt-tiny", 5 if quick else 25, ways)
    found = []
    for one in others:
        same = f"{one.same:.0%} of the answers"
        found.append(Row("quantised", f"{one.way}, weights", "MB", one.mb, exact.mb, "ours, float32", None, None, same))
        found.append(Row("quantised", one.way, "s", one.seconds, exact.seconds, "ours, float32", None, None, same))
    return found


@dataclass(frozen=True)
class Found:
    """What one way gives: size, the part of the answers that float32 gives too, figures of the tasks, and seconds."""

    way: str
    kept: str
    mb: float
    same: float
    figures: list[float]
    seconds: float


def measured(name: str, limit: int, ways: list[tuple[str, str]]) -> Iterator[Found]:
    """Each way whose library is installed; the first is the one that answers are compared with."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = locate(name)
    processor, exact = load(place)[1], None
    for way, kept in ways:
        if way in WAYS:
            library, configuration = WAYS[way]
            if importlib.util.find_spec(library) is None:
                continue
            options = {"dtype": torch.float32, "quantization_config": configuration(KEPT[kept])}
        else:
            options = {"dtype": getattr(torch, way)}
        model = AutoModelForImageTextToText.from_pretrained(place, **options).eval()
        held, start = size(model), time.perf_counter()
        reports = [evaluate(EarthGPT(model, processor), "synthetic", task, limit=limit) for task, _ in TASKS]
        seconds = time.perf_counter() - start
        texts = [answer["prediction"] for report in reports for answer in report.answers]
        exact = exact or texts
        same = sum(one == other for one, other in zip(texts, exact, strict=True)) / len(texts)
        figures = [report.metrics[name] for report, (_, name) in zip(reports, TASKS, strict=True)]
        yield Found(way, kept, held / 1e6, same, figures, seconds)


def size(model: torch.nn.Module) -> int:
    """Bytes of all weights as they are held, scales included, shared ones once."""
    held = io.BytesIO()
    torch.save(model.state_dict(), held)
    return held.tell()


if __name__ == "__main__":
    main()
