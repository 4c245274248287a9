"""Whether a model is as sure as it is right, whether it says that something is not there, and whether it finds more
when it is asked in steps; on the validation parts, as Markdown tables.

    python benchmarks/honesty.py earthgpt-tiny data

Calibration: expected calibration error of classes (probabilities over the closed list of the set) and of boxes (one is
right when it overlaps an object of its class by half): of those told where all are asked for, and of all that are
found, down to the lowest score, of the classes that the set marks. Beside it stands what answers would show on average
whose scores were exact, right by chance as often as they say: few answers cannot show less. Only images are asked about
that `calibrate = 0.5`, as in recipes/tiny.toml, does not take. Refusals: of classes that an image does not show and of
those that it does, how often the answer is that there is none. Steps: AP50 of detections asked for at once, after "How
many ... are there?", and of oriented ones after upright ones. Sets and images that are not there are named at the end.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from figures import not_there, samples_there, sets

from earthgpt.assistant import load
from earthgpt.calibration import judge
from earthgpt.config import Source
from earthgpt.evaluation import ask
from earthgpt.geo.raster import open_raster
from earthgpt.metrics.detection import match_detections
from earthgpt.metrics.reliability import expected_calibration_error
from earthgpt.tasks.object_detection import TASK as DETECTION
from earthgpt.tasks.visual_grounding import TASK as GROUNDING
from earthgpt.training import held_out
from earthgpt.types import Conversation, OrientedBox, Region

BATCH = 8


def samples_of(data: Path, limit: int) -> tuple[dict[str, list], str]:
    """Up to ``limit`` validation samples of each set that is there, drawn with a fixed seed; none that calibration
    takes. And what is not there, as a sentence."""
    found, missing = {}, {}
    for name, root, split, part in sets(data):
        taken = {one.name for one in held_out(Source(dataset=name, root=root, split=split, part=part), 0.5)}
        there, missing[name] = samples_there(name, root, split, part)
        samples = [one for one in there if one.name not in taken]
        found[name] = random.Random(0).sample(samples, min(limit, len(samples)))
    return found, not_there(data, missing)


def dialogues(assistant, rasters, questions) -> list:
    """The answers to the last of each image's questions, all asked in one dialogue."""
    answers = []
    for start in range(0, len(rasters), BATCH):
        shown, told = rasters[start : start + BATCH], [[] for _ in rasters[start : start + BATCH]]
        for turn in zip(*questions[start : start + BATCH], strict=True):
            for texts, question in zip(told, turn, strict=True):
                texts.append(question)
            talks = [Conversation.of((raster,), *texts) for raster, texts in zip(shown, told, strict=True)]
            found = ask(assistant, talks, 512)
            for texts, answer in zip(told, found, strict=True):
                texts.append(answer.text.strip())
        answers += found
    return answers


def detections(assistant, samples, rasters, steps=(), oriented=False) -> list[tuple[Region, ...]]:
    """What is found in each sample."""
    asked = [[*DETECTION.steps(steps, None, oriented), DETECTION.question(None, oriented)]] * len(samples)
    return [
        tuple(
            Region(region.box, region.label, answer.probability(*span))
            for region, span in DETECTION.spans(answer.text, sample.size)
        )
        for sample, answer in zip(samples, dialogues(assistant, rasters, asked), strict=True)
    ]


def true_regions(samples, oriented: bool) -> list[tuple[Region, ...]]:
    """The objects of each sample."""
    return [DETECTION.answer(sample.regions, None, oriented) for sample in samples]


def calibration_row(what: str, scores, right) -> str:
    """Answers, how many are right, what their scores say, how far that is off, and how far by chance (200 draws)."""
    scores, rng = np.asarray(scores, float), np.random.default_rng(0)
    chance = np.mean([expected_calibration_error(scores, rng.random(len(scores)) < scores) for _ in range(200)])
    error = expected_calibration_error(scores, right)
    cells = (np.mean(right), scores.mean(), error, chance)
    return f"| {what} | {len(scores)} | " + " | ".join(f"{one:.3f}" for one in cells) + " |"


def tables(assistant, data: Path, limit: int) -> str:
    """The three tables, and what is not there."""
    drawn, missing = samples_of(data, limit)
    calibration, refusals, steps = [], [], []
    for name, samples in drawn.items():
        rasters = [open_raster(sample.image, sample.sensor) for sample in samples]
        scenes = [(sample, one) for sample, one in zip(samples, rasters, strict=True) if sample.label]
        if scenes:
            sure, right = [], []
            for sample, one in scenes:
                found = assistant.classify(one, sample.choices)
                sure.append(found.probabilities[found.label])
                right.append(found.label == sample.label)
            calibration.append(calibration_row(f"{name} classes", sure, right))
        objects = [(sample, one) for sample, one in zip(samples, rasters, strict=True) if sample.classes]
        if not objects:
            continue
        samples, rasters = map(list, zip(*objects, strict=True))
        plain = detections(assistant, samples, rasters)
        matched = match_detections(plain, true_regions(samples, False), (0.5,))
        if len(matched.score):
            calibration.append(calibration_row(f"{name} boxes", matched.score, matched.hits[0]))
        if assistant.model.dense_heads is not None:
            found = judge(assistant.model, assistant.processor, samples)
            if len(found.right):
                calibration.append(calibration_row(f"{name} boxes of marked classes", found.scores, found.right))
        rng, cells = random.Random(0), []
        for worded in (DETECTION.question, lambda label: GROUNDING.question(f"the {label}")):
            for there in (False, True):
                chosen = []
                for sample, one in zip(samples, rasters, strict=True):
                    present = {region.label for region in sample.regions}
                    labels = [label for label in sample.classes if (label in present) == there]
                    if labels and sample.complete:
                        chosen.append((one, [worded(rng.choice(labels))]))
                said = dialogues(assistant, *map(list, zip(*chosen, strict=True))) if chosen else []
                refused = [("there is no" in one.text.lower()) or ("there are no" in one.text.lower()) for one in said]
                cells.append(f"{np.mean(refused):.3f} of {len(refused)}" if refused else "")
        refusals.append(f"| {name} | " + " | ".join(cells) + " |")
        ways = {"at once": ((), False), "count first": (("count",), False)}
        if any(isinstance(region.box, OrientedBox) for sample in samples for region in sample.regions):
            ways |= {"oriented at once": ((), True), "upright first": (("horizontal",), True)}
        for way, (asked, oriented) in ways.items():
            found = plain if way == "at once" else detections(assistant, samples, rasters, asked, oriented)
            figures = match_detections(found, true_regions(samples, oriented)).summary()
            steps.append(
                f"| {name} | {way} | {figures['ap_50']:.3f} | {figures['precision']:.3f} | {figures['recall']:.3f} |"
            )
    return "\n".join(
        [
            "| scores of | answers | right | mean score | calibration error | by chance |",
            "|---|---:|---:|---:|---:|---:|",
            *calibration,
            "\n| data set | detect: absent | detect: present | ground: absent | ground: present |",
            "|---|---|---|---|---|",
            *refusals,
            "\n| data set | asked | AP50 | precision | recall |\n|---|---|---:|---:|---:|",
            *steps,
            *([f"\n{missing}"] if missing else []),
        ]
    )


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="images of each set")
    arguments = parser.parse_args()
    print(tables(load(arguments.model), arguments.data, arguments.limit))


if __name__ == "__main__":
    main()
