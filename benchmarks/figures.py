"""The figures of a model on the validation parts of every set, beside chance, as a Markdown table.

    python benchmarks/figures.py earthgpt-tiny data > figures.md

The second argument is the folder of the data sets, as recipes/tiny.toml names them. Sets that are not there are named
at the end. With --blind every question is asked three more times, without its image: that tells what the wording alone
gives away. As it takes long, --blind-limit asks fewer questions so; the header says how many at most. With --free the
language model answers what the dense heads would.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from earthgpt import lookup
from earthgpt.assistant import load
from earthgpt.datasets import at_hand
from earthgpt.evaluation import BLIND, evaluate
from earthgpt.types import Sample

# (sensor, data set, folder, split, part, task, kind, metrics)
ROWS = [
    ("optical", "rsicd", "RSICD", "val", None, "scene_classification", None, ["accuracy_strict", "accuracy_lenient"]),
    ("optical", "rsicd", "RSICD", "val", None, "image_captioning", None, ["bleu_4", "rouge_l", "cider_d"]),
    (
        "optical",
        "rsscn7",
        "RSSCN7",
        "all",
        "val",
        "scene_classification",
        None,
        ["accuracy_strict", "accuracy_lenient"],
    ),
    *[
        (sensor, name, folder, split, part, task, kind, metrics)
        for sensor, name, folder, split, part in (
            ("optical", "nwpu_vhr10", "NWPU VHR-10 dataset", "all", "val"),
            ("sar", "hrsid", "HRSID", "train", "val"),
            ("infrared", "hit_uav", "HIT-UAV", "val", None),
        )
        for task, kind, metrics in (
            ("visual_question_answering", None, ["accuracy_strict", "accuracy_lenient"]),
            ("region_captioning", None, ["accuracy_strict", "accuracy_lenient"]),
            ("visual_grounding", None, ["pr_50", "mean_iou"]),
            ("object_detection", "hbb", ["ap_50", "precision", "recall", "f1"]),
        )
    ],
    ("sar", "sar_acd", "SAR-ACD", "all", "val", "scene_classification", None, ["accuracy_strict", "accuracy_lenient"]),
    *[
        ("all three", "synthetic", "", "val", None, task, kind, metrics)
        for task, kind, metrics in (
            ("scene_classification", None, ["accuracy_strict", "accuracy_lenient"]),
            ("image_captioning", None, ["bleu_4", "cider_d"]),
            ("visual_question_answering", None, ["accuracy_strict", "accuracy_lenient"]),
            ("region_captioning", None, ["accuracy_strict", "accuracy_lenient"]),
            ("visual_grounding", None, ["pr_50", "mean_iou"]),
            ("object_detection", "hbb", ["ap_50", "precision", "recall", "f1"]),
            ("object_detection", "obb", ["ap_50", "f1"]),
        )
    ],
]


def sets(data: Path) -> Iterator[tuple[str, str, str, str | None]]:
    """Name, root, split and part of each set that is there."""
    for name, folder, split, part in dict.fromkeys((name, *where) for _, name, *where, _, _, _ in ROWS):
        if not folder or (data / folder).is_dir():
            yield name, str(data / folder) if folder else "", split, part


def samples_there(name: str, root: str, split: str, part: str | None) -> tuple[list[Sample], int]:
    """The samples of a set whose images are there, and of how many they are not."""
    found = list(lookup.find("datasets", name).read(root, split, part=part))
    there = [one for one in found if at_hand(one)]
    return there, len(found) - len(there)


def not_there(data: Path, images: Mapping[str, int] | None = None) -> str:
    """A sentence on the sets, and how many images of others, that are not there; none where all are."""
    missing = sorted({name for _, name, *_ in ROWS} - {name for name, *_ in sets(data)})
    missing += [f"{count} of the images of {name}" for name, count in (images or {}).items() if count]
    return f"Not there: {', '.join(missing)}." if missing else ""


def header(limit: int, blind: int) -> str:
    """The head of the table of ``lines``."""
    fewer = f", {blind} questions at most" if 0 < blind < limit else ""
    shown = " | ".join(f"{name}{fewer}" for name in BLIND.values())
    return (
        f"| sensor | data set | task | questions | unread | metric | model | {shown} | shuffled answers "
        "| constant answer |\n|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|"
    )


def lines(assistant, data: Path, limit: int, blind: int) -> Iterator[str]:
    """Rows of the table, and at last the sets that are not there.

    limit: questions of a row. blind: how many are asked without their image too. Where they are fewer, they are drawn
    for themselves, and asked with their image once more than the figure of the model needs.
    """
    roots = {name: root for name, root, *_ in sets(data)}
    for sensor, name, _, split, part, task, kind, metrics in ROWS:
        if name not in roots:
            continue
        where = assistant, name, task, roots[name], split, part, kind
        report = evaluate(*where, min(blind, limit) or limit, rounds=0, blind=tuple(BLIND) if blind else ())
        baselines = report.baselines
        if report.examples == blind < limit:  # else all questions that there are were asked
            report = evaluate(*where, limit, rounds=0)
            baselines = baselines | report.baselines
        constant = baselines.get("most common answer") or baselines.get("constant box") or {}
        chance = [baselines.get(one, {}) for one in (*BLIND.values(), "shuffled answers")]
        for metric in metrics:
            cells = [sensor, name, f"{task} {kind or ''}".strip(), report.examples, report.unparsed, metric]
            cells += [f"**{report.metrics[metric]:.3f}**"]
            cells += [f"{scores[metric]:.3f}" if metric in scores else "" for scores in (*chance, constant)]
            yield "| " + " | ".join(map(str, cells)) + " |"
    if missing := not_there(data):
        yield f"\n{missing}"


def main() -> None:
    """Prints a row for each set, task and metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=400, help="questions of each row, drawn with a fixed seed")
    parser.add_argument("--blind", action="store_true", help="also without the image, a grey one, and another one")
    parser.add_argument("--blind-limit", type=int, help="questions of each row that --blind asks; default: as --limit")
    parser.add_argument("--free", action="store_true", help="by the language model alone, without the dense heads")
    arguments = parser.parse_args()
    blind = (arguments.blind_limit or arguments.limit) if arguments.blind else 0
    print(header(arguments.limit, blind))
    assistant = load(arguments.model, constrained=not arguments.free)
    for line in lines(assistant, arguments.data, arguments.limit, blind):
        print(line, flush=True)


if __name__ == "__main__":
    main()
