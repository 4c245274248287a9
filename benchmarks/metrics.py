"""How fast figures are worked out, beside the usual packages, as a Markdown table.

    python benchmarks/metrics.py

Captions, boxes and pairs are made up with a fixed seed. Both sides take turns in one process, start from values in
memory, and must find the same figures. BLEU, ROUGE-L and CIDEr-D are of 5,000 captions with five references each, on
the same tokens; AP at ten IoU is of 100,000 boxes in 5,000 images; IoU is of a million pairs of turned boxes, of which
shapely is given some one by one, and its time is multiplied. A ratio above 1 says that ours takes less time. Two
minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata

import numpy as np
import shapely
from faster_coco_eval import COCO, COCOeval_faster
from guard import in_turn
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from table import Row, table

from earthgpt.metrics.captions import token_scores
from earthgpt.metrics.detection import COCO_IOUS, match_detections
from earthgpt.metrics.overlaps import ious
from earthgpt.types import Box, Region

SIDE = 800  # of an image, in pixels


def main() -> None:
    """Prints a row for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(table(rows(rounds=arguments.rounds)))


def rows(quick: bool = False, rounds: int = 3) -> list[Row]:
    """A row for each comparison."""
    rng = np.random.default_rng(0)
    less = 10 if quick else 1
    said, true = captions(rng, 5_000 // less)
    predictions, answers, boxes = detections(rng, 5_000 // less, 100_000 // less)
    one, other = turned(rng, 1_000_000 // less), turned(rng, 1_000_000 // less)
    some = 20_000
    return [
        row("BLEU, ROUGE-L, CIDEr-D", "pycocoevalcap", partial(our_captions, said, true),
            partial(pycocoevalcap, said, true), rounds),
        row("AP at ten IoU", "faster-coco-eval", partial(our_ap, predictions, answers),
            partial(faster_coco_eval, *boxes), rounds, goal=2),
        row("IoU of turned boxes", "shapely", lambda: ious(one, other)[:some],
            partial(by_shapely, one[:some], other[:some]), rounds, part=some / len(one)),
    ]  # fmt: skip


def row(
    what: str,
    rival: str,
    ours: Callable[[], Iterable[float]],
    theirs: Callable[[], Iterable[float]],
    rounds: int,
    goal: float | None = None,
    part: float = 1.0,
) -> Row:
    """Both in turn; ``part`` of the work is all that theirs does. Raises ValueError where their figures differ."""
    timings = in_turn({"ours": ours, "theirs": theirs}, rounds)
    mine, its = timings["ours"], timings["theirs"]
    gap = np.abs(np.asarray(mine.result) - np.asarray(its.result)).max()
    if gap > 1e-6:
        raise ValueError(f"{what}: {rival} differs by {gap}.")
    version = f"{rival} {metadata.version(rival)}"
    same = f"figures to {gap:.0e}"
    return Row("metrics", what, "s", mine.seconds, its.seconds / part, version, goal, None, same, mine.samples)


def captions(rng: np.random.Generator, count: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokens of captions and of five references each; words are as unequally frequent as in English."""
    words = [f"word{i}" for i in range(3_000)]
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()

    def some(length: int) -> list[str]:
        return [words[i] for i in rng.choice(len(words), length, p=chances)]

    true = [[some(rng.integers(6, 18)) for _ in range(5)] for _ in range(count)]
    # A caption begins as one of its references and goes on in its own way.
    said = [group[0][: rng.integers(2, 8)] + some(rng.integers(2, 8)) for group in true]
    return said, true


def our_captions(said, true) -> list[float]:
    return list(token_scores(said, true).summary().values())


def pycocoevalcap(said, true) -> list[float]:
    texts = {i: [" ".join(text)] for i, text in enumerate(said)}
    references = {i: [" ".join(reference) for reference in group] for i, group in enumerate(true)}
    bleu = Bleu(4).compute_score(references, texts, verbose=0)[0]
    return [*bleu, *(metric.compute_score(references, texts)[0] for metric in (Rouge(), Cider()))]


def detections(rng: np.random.Generator, images: int, count: int) -> tuple:
    """Predictions and answers as regions; the images, classes, answers and predictions as COCO has them, in pixels.

    Every prediction is an answer that was moved, one in ten answers is missed, and one in ten predicted twice.
    """
    classes = [f"class {i:02}" for i in range(20)]
    image, label = np.sort(rng.integers(images, size=count)), rng.integers(len(classes), size=count)
    corner, sides = rng.uniform(20, 680, (count, 2)), rng.uniform(8, 100, (count, 2))
    true = np.concatenate([corner, corner + sides], axis=1)
    chosen = np.sort(np.concatenate([rng.permutation(count)[: count * 9 // 10], rng.permutation(count)[: count // 10]]))
    found = true[chosen] + rng.uniform(-0.1, 0.1, (len(chosen), 4)) * np.tile(sides[chosen], 2)
    score = rng.random(len(chosen))

    def regions(edges, whose, scores) -> list[list[Region]]:
        groups: list[list[Region]] = [[] for _ in range(images)]
        for (left, top, right, bottom), i, value in zip((edges / SIDE).tolist(), whose, scores, strict=True):
            groups[image[i]].append(Region(Box(left, top, right, bottom), classes[label[i]], value))
        return groups

    def records(edges, whose, scores) -> list[dict]:
        return [
            {
                "image_id": int(image[i]),
                "category_id": int(label[i]) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
                "id": number,
                "score": value,
            }
            for number, ((left, top, right, bottom), i, value) in enumerate(
                zip(edges.tolist(), whose, scores, strict=True), 1
            )
        ]

    everything, none = range(count), [None] * count
    return (
        regions(found, chosen, score.tolist()),
        regions(true, everything, none),
        (
            [{"id": i, "width": SIDE, "height": SIDE} for i in range(images)],
            [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
            records(true, everything, [1.0] * count),
            records(found, chosen, score.tolist()),
        ),
    )


def our_ap(predictions, answers) -> list[float]:
    found = match_detections(predictions, answers, COCO_IOUS)
    return [found.mean_ap(iou) for iou in COCO_IOUS]


def faster_coco_eval(images, classes, answers, predictions) -> list[float]:
    """Of its figures only those that ours are: boxes of all sizes, without a limit of boxes in an image."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO({"images": images, "categories": classes, "annotations": answers})
        evaluation = COCOeval_faster(truth, truth.loadRes(predictions), "bbox", extra_calc=False)
        evaluation.params.iouThrs = np.array(COCO_IOUS)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, -1].mean(axis=(1, 2))  # [IoU, recall, class]; all classes occur


def turned(rng: np.random.Generator, count: int) -> np.ndarray:
    """Rectangles at any angle in pixels, most of which meet, [count, 4, 2]."""
    middle, sides = rng.uniform(300, 500, (count, 1, 2)), rng.uniform(20, 300, (count, 1, 2))
    angle = rng.uniform(0, 2 * np.pi, count)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    return middle + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * sides) @ turn


def by_shapely(one: np.ndarray, other: np.ndarray) -> list[float]:
    found = []
    for corners, others in zip(one.tolist(), other.tolist(), strict=True):
        first, second = shapely.Polygon(corners), shapely.Polygon(others)
        both = first.intersection(second).area
        found.append(both / (first.area + second.area - both))
    return found


if __name__ == "__main__":
    main()
