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

import torch
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
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = locate(arguments.model)
    processor = load(place)[1]

    print("| way | kept | MB | same answers | " + " | ".join(f"{task} {name}" for task, name in TASKS) + " | seconds |")
    print("|---|---|" + "---:|" * (len(TASKS) + 3))
    exact, missing = None, set()
    for way, kept in [("float32", ""), ("bfloat16", ""), *ROWS]:
        if way in WAYS:
            library, configuration = WAYS[way]
            if importlib.util.find_spec(library) is None:
                missing.add(library)
                continue
            options = {"dtype": torch.float32, "quantization_config": configuration(KEPT[kept])}
        else:
            options = {"dtype": getattr(torch, way)}
        model = AutoModelForImageTextToText.from_pretrained(place, **options).eval()
        held, start = size(model), time.perf_counter()
        reports = [evaluate(EarthGPT(model, processor), "synthetic", task, limit=arguments.limit) for task, _ in TASKS]
        seconds = time.perf_counter() - start
        texts = [answer[-1] for report in reports for answer in report.answers]
        exact = exact or texts
        same = sum(one == other for one, other in zip(texts, exact, strict=True)) / len(texts)
        figures = [report.metrics[name] for report, (_, name) in zip(reports, TASKS, strict=True)]
        cells = [way, kept, f"{held / 1e6:.1f}", f"{same:.3f}", *(f"{one:.3f}" for one in figures)]
        print("| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |", flush=True)
    if missing:
        print(f"\nNot installed: {', '.join(sorted(missing))}.", file=sys.stderr)


def size(model: torch.nn.Module) -> int:
    """Bytes of all weights as they are held, scales included, shared ones once."""
    held = io.BytesIO()
    torch.save(model.state_dict(), held)
    return held.tell()


if __name__ == "__main__":
    main()
