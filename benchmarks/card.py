"""The card of a small model, from its runs and its figures: what it is, what it saw, how well it answers.

    python benchmarks/card.py runs/tiny/model data --runs runs/tiny-encoders runs/tiny -o card.md

Takes as long as benchmarks/figures.py --blind and benchmarks/honesty.py together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import figures
import honesty

from earthgpt import lookup
from earthgpt.assistant import load

HEAD = """---
license: other
license_name: research-use
pipeline_tag: image-text-to-text
tags: [remote-sensing, sar, infrared, visual-grounding, object-detection]
---

# {name}

The default model of EarthGPT: it shows the whole road, from data to answers, at a size that a laptop carries. For work,
train or assemble a larger one.

| | |
|---|---|
| parameters | {parameters} |
| image | {side} x {side} pixels, {tokens} visual tokens; larger images are scaled down, or gone through in tiles |
| sensors | optical, SAR, infrared |
| languages | English |

## Runs

{runs}
## Data and licences

{data}
**Because of these the weights are for research use only.** Questions and grounding phrases are not written by people:
they are derived from the boxes and classes (presence, count, comparison, location; the one of its class, leftmost,
rightmost, topmost, bottommost, largest), and region captions are class names.

## Figures

On validation parts that were not trained on; up to {limit} questions a row, drawn with a fixed seed. Beside the model
stand the same model without its image (text only), with a grey one and with that of another question; the answers of
other images; and one answer for all (the most common one, or the mean of all boxes). Figures are fractions, those of
captions times 100.

{figures}

## How sure, how honest

{honesty}
"""


def run_rows(runs: list[Path]) -> str:
    """A table of the runs, as their logs tell."""
    rows = [
        "| run | recipe | started from | pixels | steps | images seen | last loss |\n|---|---|---|---:|---:|---:|---:|"
    ]
    for number, run in enumerate(runs, 1):
        recipe = json.loads((run / "recipe.json").read_text())
        last = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"loss"' in line][-1]
        start = recipe["model"] if isinstance(recipe["model"], str) else "random weights"
        what = f"learns {'text' if recipe['text_tokens'] else 'no text'}" + (
            f", dense {recipe['dense']:g}" if recipe["dense"] else ""
        )
        steps = last["step"] + 1
        cells = [number, f"{run.name}: {what}", Path(start).parent.name or start, recipe["image_size"], f"{steps:,}"]
        cells += [f"{steps * recipe['batch_size']:,}", f"{last['loss']:.3f}"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows) + "\n"


def data_rows(run: Path) -> str:
    """The sources of a run with their licences."""
    rows = ["| data set | part | how often in an epoch | licence |\n|---|---|---:|---|"]
    for source in json.loads((run / "recipe.json").read_text())["sources"]:
        card = lookup.find("datasets", source["dataset"])
        part = f"{source['split']}" + (f", part {source['part']}" if source["part"] else "")
        rows.append(f"| {card.title} | {part} | {source['repeat']:g} | {card.licence} |")
    return "\n".join(rows) + "\n"


def parts(model) -> str:
    """The parts of a model and its size, in words."""
    config, count = model.config, sum(parameter.numel() for parameter in model.parameters())
    vit, cnn, text = config.vit_config, config.cnn_config, config.text_config
    words = f"{text.model_type}, {text.num_hidden_layers} layers"
    return (
        f"{count / 1e6:.1f} million: a ViT ({vit.model_type}, {vit.num_hidden_layers} layers), a CNN "
        f"({cnn.model_type}) and a language model ({words}); {2 * count / 1e6:.0f} MB"
    )


def main() -> None:
    """Writes the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of the runs, in order")
    parser.add_argument("--name", default="earthgpt-tiny")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    assistant = load(arguments.model)
    config = assistant.model.config
    arguments.output.write_text(
        HEAD.format(
            name=arguments.name,
            parameters=parts(assistant.model),
            side=config.image_size,
            tokens=config.grid**2,
            runs=run_rows(arguments.runs),
            data=data_rows(arguments.runs[-1]),
            limit=arguments.limit,
            figures="\n".join([figures.HEADER, *figures.lines(assistant, arguments.data, arguments.limit, True)]),
            honesty=honesty.tables(assistant, arguments.data, arguments.limit // 2),
        )
    )


if __name__ == "__main__":
    main()
