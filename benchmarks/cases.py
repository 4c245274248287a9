"""Pictures of a model's best and worst answers: true boxes beside those that it gave, captions and classes below.

    python benchmarks/cases.py earthgpt-tiny synthetic object_detection -o cases.jpg
    python benchmarks/cases.py earthgpt-tiny rsicd image_captioning --root data/RSICD -o captions.jpg

The best are drawn above the worst. Pictures show the images of the set: mind its licence before you pass them on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from earthgpt import lookup
from earthgpt.assistant import load
from earthgpt.evaluation import evaluate
from earthgpt.geo.pictures import colours_of, mark
from earthgpt.geo.raster import open_raster
from earthgpt.reports import from_plain
from earthgpt.types import Box, OrientedBox, Region

SIDE, TEXT = 260, 64  # pixels of a picture, and of the words below it


def regions(value) -> tuple[Region, ...]:
    """What a report keeps of an answer, as regions: a box, or some with their classes; none for words."""
    found = from_plain(value)
    if isinstance(found, Box | OrientedBox):
        return (Region(found, ""),)
    return tuple(one for one in found if isinstance(one, Region)) if isinstance(found, tuple) else ()


def panel(pixels: Image.Image, boxes, words: str) -> Image.Image:
    """A picture with boxes, and words below."""
    picture = pixels.resize((SIDE, round(SIDE * pixels.height / pixels.width)))
    mark(picture, boxes, colours_of(sorted({one.label for one in boxes})))
    sheet = Image.new("RGB", (SIDE, SIDE + TEXT), "white")
    sheet.paste(picture.crop((0, 0, SIDE, min(SIDE, picture.height))))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    lines, line = [], ""
    for word in words.split():
        if font.getlength(f"{line} {word}") > SIDE - 8:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    for number, text in enumerate([*lines, line][:4]):
        pen.text((4, SIDE + 2 + 15 * number), text, fill="black", font=font)
    return sheet


def main() -> None:
    """Draws the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("task")
    parser.add_argument("--root", default="")
    parser.add_argument("--split", default="val")
    parser.add_argument("--part", default=None)
    parser.add_argument("--kind", default=None)
    parser.add_argument("--limit", type=int, default=120, help="questions, of which the cases are drawn")
    parser.add_argument("--count", type=int, default=4, help="cases of each kind")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    report = evaluate(
        load(given.model),
        given.dataset,
        given.task,
        given.root,
        given.split,
        given.part,
        given.kind,
        given.limit,
        rounds=0,
    )
    card = lookup.find("datasets", given.dataset)
    samples = {one.name: one for one in card.read(given.root, given.split, Counter())}
    ranked = sorted(report.answers, key=lambda one: -one["score"])
    rows = []
    for chosen in (ranked[: given.count], ranked[::-1][: given.count]):
        panels = []
        for answer in chosen:
            sample = samples[answer["image"]]
            pixels = Image.fromarray(open_raster(sample.image, sample.sensor).pixels).convert("RGB")
            truth, said = regions(answer["truth"]), regions(answer["read"])
            true_words = "true" if truth else f"true: {answer['truth']}"
            panels.append(panel(pixels, truth, f"{true_words} ({answer['score']:.2f}) {answer['question']}"))
            panels.append(panel(pixels, said, f"said: {answer['prediction']}"))
        rows.append(panels)
    sheet = Image.new("RGB", (SIDE * len(rows[0]), (SIDE + TEXT) * 2), "white")
    for y, panels in enumerate(rows):
        for x, one in enumerate(panels):
            sheet.paste(one, (x * SIDE, y * (SIDE + TEXT)))
    sheet.save(given.output, quality=88)


if __name__ == "__main__":
    main()
