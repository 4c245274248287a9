"""The figures of a model on the validation parts of every set, beside chance, as a Markdown table.

    python benchmarks/figures.py earthgpt-tiny data > figures.md

The second argument is the folder of the data sets, as recipes/tiny.toml names them. Sets that are not there are named
at the end. With --blind every question is asked three more times, without its image: that tells what the wording alone
gives away. With --free the language model answers what the dense heads would.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from earthgpt.assistant import load
from earthgpt.evaluation import BLIND, evaluate

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


HEADER = (
    "| sensor | data set | task | questions | unread | metric | model | text only | blank image | shuffled images "
    "| shuffled answers | constant answer |\n|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|"
)


def lines(assistant, data: Path, limit: int, blind: bool) -> Iterator[str]:
    """Rows of the table, and at last the sets that are not there."""
    missing = set()
    for sensor, name, folder, split, part, task, kind, metrics in ROWS:
        root = data / folder if folder else ""
        if folder and not root.is_dir():
            missing.add(name)
            continue
        passes = tuple(BLIND) if blind else ()
        report = evaluate(assistant, name, task, str(root), split, part, kind, limit, rounds=0, blind=passes)
        for metric in metrics:
            constant = report.baselines.get("most common answer") or report.baselines.get("constant box") or {}
            chance = [report.baselines.get(one, {}) for one in (*BLIND.values(), "shuffled answers")]
            cells = [sensor, name, f"{task} {kind or ''}".strip(), report.examples, report.unparsed, metric]
            cells += [f"**{report.metrics[metric]:.3f}**"]
            cells += [f"{scores[metric]:.3f}" if metric in scores else "" for scores in (*chance, constant)]
            yield "| " + " | ".join(map(str, cells)) + " |"
    if missing:
        yield f"\nNot there: {', '.join(sorted(missing))}."


def main() -> None:
    """Prints a row for each set, task and metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=400, help="questions of each row, drawn with a fixed seed")
    parser.add_argument("--blind", action="store_true", help="also without the image, a grey one, and another one")
    parser.add_argument("--free", action="store_true", help="by the language model alone, without the dense heads")
    arguments = parser.parse_args()
    print(HEADER)
    assistant = load(arguments.model, constrained=not arguments.free)
    for line in lines(assistant, arguments.data, arguments.limit, arguments.blind):
        print(line, flush=True)


if __name__ == "__main__":
    main()
