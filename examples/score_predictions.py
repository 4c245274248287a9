"""Score the predictions of another model: strictly and leniently, with intervals, beside answers that saw no image.

python examples/score_predictions.py [PREDICTIONS] [--task TASK]
"""

import argparse
import json
from pathlib import Path

from earthgpt import EarthGPTError
from earthgpt.predictions import score

# As GeoChat writes them: one JSON object a line.
ROWS = [
    {"image_id": f"{place}{i}.jpg", "question": "Classify the scene.", "answer": said, "ground_truth": truth}
    for i in range(5)
    for place, said, truth in (
        ("harbor", "harbor", "harbor"),
        ("parking", "parkinglot", "parking lot"),
        ("forest", "Forest." if i else "meadow", "forest"),
    )
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("predictions", nargs="?", type=Path, help="JSON lines, JSON, CSV or TSV; made up without it")
    options.add_argument("--task", default="scene_classification")
    given = options.parse_args()
    path = given.predictions or Path("geochat.jsonl")
    if given.predictions is None:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    report, read = score(given.task, path)
    print(f"{read.lines} rows, read as {read.fields}")
    for name, value in report.metrics.items():
        low, high = report.intervals[name]
        chance = max(figures[name] for figures in report.baselines.values())
        print(f"{name:26} {value:.3f}  ({low:.3f} to {high:.3f}; without an image {chance:.3f})")
    report.write(path.with_suffix(".report.json"))  # for `earthgpt compare`


if __name__ == "__main__":
    try:
        main()
    except EarthGPTError as error:
        raise SystemExit(f"error: {error}") from None
