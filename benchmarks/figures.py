"""The figures of a model on the validation parts of every set, beside chance, as a Markdown table.

    python benchmarks/figures.py earthgpt-tiny data > figures.md

The second argument is the folder of the data sets, as recipes/tiny.toml names them. Sets that are not there are named
at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from earthgpt.assistant import load
from earthgpt.evaluation import evaluate

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


def main() -> None:
    """Prints a row for each set, task and metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=400, help="questions of each row, drawn with a fixed seed")
    arguments = parser.parse_args()
    assistant = load(arguments.model)
    print("| sensor | data set | task | questions | unread | metric | model | shuffled answers | constant answer |")
    print("|---|---|---|---|---|---|---|---|---|")
    missing = set()
    for sensor, name, folder, split, part, task, kind, metrics in ROWS:
        root = arguments.data / folder if folder else ""
        if folder and not root.is_dir():
            missing.add(name)
            continue
        report = evaluate(assistant, name, task, str(root), split, part, kind, arguments.limit, rounds=0)
        for metric in metrics:
            shuffled = report.baselines["shuffled answers"]
            constant = report.baselines.get("most common answer") or report.baselines.get("constant box") or {}
            chance = [f"{scores[metric]:.3f}" if metric in scores else "" for scores in (shuffled, constant)]
            cells = [sensor, name, f"{task} {kind or ''}".strip(), report.examples, report.unparsed, metric]
            print(
                "| " + " | ".join(map(str, [*cells, f"**{report.metrics[metric]:.3f}**", *chance])) + " |", flush=True
            )
        print(f"{name} {task}: {report.examples} questions", file=sys.stderr)
    if missing:
        print(f"\nNot there: {', '.join(sorted(missing))}.")


if __name__ == "__main__":
    main()
