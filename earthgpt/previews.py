"""A data set at a glance: some samples with all that is said of them, and how often each class occurs."""

from __future__ import annotations

import itertools
import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import shorten

from PIL import Image, ImageDraw, ImageFont

from earthgpt import lookup
from earthgpt.datasets import Dataset, at_hand
from earthgpt.geo.pictures import colours_of, file_format, mark, save_picture
from earthgpt.geo.raster import read_pixels
from earthgpt.tasks import Task, can_be_asked
from earthgpt.types import EarthGPTError, Region, Sample, Sensor

BICUBIC = Image.Resampling.BICUBIC
COLUMNS, WIDTH, PANEL = 4, 420, 420  # samples in a row; pixels
GAP, MARGIN = 28, 48
PAPER, GROUND, INK, PALE, NEUTRAL = "#FFFFFF", "#E8E8E6", "#1A1A1A", "#666666", "#8FA8BF"
TITLE, HEADING, BODY, SMALL = 36, 19, 15, 14  # of type, in pixels
MOST_TURNS, MOST_BARS = 4, 40
# Headings of the charts.
OBJECTS, SCENES, QUESTIONS = "Objects by class", "Images by class", "Questions by kind"
CAPTIONS, PHRASES = "Images by number of captions", "Images by number of phrases"
UNEVEN = 50  # the largest class is this many times the smallest: bars are logarithmic


def preview(
    dataset: str | Dataset,
    root: Path | str | None,
    split: str,
    output: Path | str,
    count: int = 12,
    seed: int = 0,
    task: str | None = None,
) -> None:
    """Draws ``count`` samples of a split, spread over its classes, and the counts of all, as a PNG or JPEG.

    ``dataset`` is a name or the value. A sample whose image is missing or broken is an empty frame with its facts. All
    samples are read once and few are kept: memory does not grow with the set. The same seed gives the same picture.
    task: the name of one; samples that state something for it are drawn, with its questions alone.
    Raises EarthGPTError for what ``Dataset.read`` does, for an ``output`` of another kind, and for a task for which no
    sample states anything.
    """
    file_format(output)
    card = lookup.find("datasets", dataset) if isinstance(dataset, str) else dataset
    tasks = [lookup.find("tasks", name) for name in ([task] if task else card.tasks)]
    defects: Counter[str] = Counter()
    charts: dict[str, Counter[str]] = {}
    rng = random.Random(seed)
    read = _counted(card.read(root, split, defects), charts)
    chosen, total = _chosen((one for one in read if not task or can_be_asked(tasks[0], [one])), count, rng)
    if task and not chosen:
        raise EarthGPTError(f"{card.title}, {split}, states nothing for {task}; its tasks: {', '.join(card.tasks)}.")
    charts = {heading: counts for heading, counts in charts.items() if counts}
    colours = colours_of(label for label, _ in charts.get(OBJECTS, Counter()).most_common())
    samples = [_sample(tasks, sample, colours, random.Random(f"{seed}/{sample.name}")) for sample in chosen]
    rows = [_beside(samples[i : i + COLUMNS], GAP) for i in range(0, len(samples), COLUMNS)]
    body = _beside([_over(rows, 2 * GAP), _panel(charts, colours, defects)], 2 * GAP)
    title = f"{card.title}, {split}" + (f": {task}" if task else "")
    page = _over([_title(card, split, title, total, charts, body.width), body], GAP)
    sheet = Image.new("RGB", (page.width + 2 * MARGIN, page.height + 2 * MARGIN), PAPER)
    sheet.paste(page, (MARGIN, MARGIN))
    save_picture(sheet, output)


# --- what is shown -----------------------------------------------------------------------------------------------


def _counted(samples: Iterable[Sample], charts: dict[str, Counter[str]]) -> Iterator[Sample]:
    """The samples as they come; on the way what they state is counted, by heading."""
    for heading in (OBJECTS, SCENES, QUESTIONS, CAPTIONS, PHRASES):
        charts[heading] = Counter()
    for sample in samples:
        charts[OBJECTS].update(region.label for region in sample.regions)
        charts[OBJECTS].update(dict.fromkeys(sample.classes, 0))
        charts[SCENES].update([sample.label] if sample.label else ())
        charts[SCENES].update(dict.fromkeys(sample.choices, 0))
        charts[QUESTIONS].update(question.kind or "other" for question in sample.questions)
        charts[CAPTIONS].update([str(len(sample.captions))] if sample.captions else ())
        charts[PHRASES].update([str(len(sample.expressions))] if sample.expressions else ())
        yield sample


def _chosen(samples: Iterable[Sample], count: int, rng: random.Random) -> tuple[list[Sample], int]:
    """Some samples, of one class after the other, and how many there are in all.

    Of each class ``count`` are kept, each sample with the same chance (Algorithm R, Vitter 1985).
    """
    kept: dict[str, list[Sample]] = {}
    met: Counter[str] = Counter()
    for sample in samples:
        labels = sorted({region.label for region in sample.regions}) or [sample.label or ""]
        label = rng.choice(labels)
        met[label] += 1
        place = rng.randrange(met[label])
        same = kept.setdefault(label, [])
        if len(same) < count:
            same.append(sample)
        elif place < count:
            same[place] = sample
    for same in kept.values():
        rng.shuffle(same)
    classes = rng.sample(sorted(kept), len(kept))
    turns = itertools.zip_longest(*(kept[label] for label in classes))
    found = [sample for turn in turns for sample in turn if sample is not None]
    return found[:count], met.total()


def _sample(tasks: Sequence[Task], sample: Sample, colours: Mapping[str, str], rng: random.Random) -> Image.Image:
    """One sample with its facts and its first questions."""
    picture, missing = _picture(sample, colours)
    size = f"{sample.size[0]:,} x {sample.size[1]:,} pixels" if min(sample.size) else "size not known"
    facts = " · ".join((size, _spelled(sample.sensor), *missing))
    lines = [_text(sample.name, WIDTH, BODY, INK), _text(facts, WIDTH)]
    if sample.label:
        lines.append(_text(f"Class: {sample.label}", WIDTH, BODY, INK))
    counts = Counter(region.label for region in sample.regions)
    if counts or sample.complete:
        objects = ", ".join(f"{label} {count:,}" for label, count in counts.most_common()) or "none"
        lines.append(_text(f"Objects: {objects}", WIDTH, BODY, INK, most=3))
    parts = [picture, _over(lines, 3)]
    asked = ""
    for question, answer in _turns(tasks, sample, rng):
        said = _text(answer, WIDTH, BODY, INK, most=3)
        parts.append(said if question == asked else _over([_text(question, WIDTH), said], 2))
        asked = question
    return _over(parts, 12, WIDTH)


def _turns(tasks: Sequence[Task], sample: Sample, rng: random.Random) -> list[tuple[str, str]]:
    """The first questions and answers as text, of each task in turn."""
    asked = []
    for task in tasks:
        asked.append([(turn.question, task.format(turn.answer, sample.size)) for turn in task.turns(sample, rng)])
    mixed = (turn for turns in itertools.zip_longest(*asked) for turn in turns if turn)
    return list(itertools.islice(mixed, MOST_TURNS))


def _picture(sample: Sample, colours: Mapping[str, str]) -> tuple[Image.Image, tuple[str, ...]]:
    """The image as wide or high as fits, with its objects, or else its phrases; where it is missing, an empty frame and
    the reason."""
    picture, missing = None, () if at_hand(sample) else ("no image here",)
    if not missing:
        try:
            picture = Image.fromarray(read_pixels(sample.image, None, sample.sensor)).convert("RGB")
        except EarthGPTError:
            missing = ("the image cannot be read",)
    width, height = picture.size if picture else sample.size if min(sample.size) else (3, 1)
    size = max(1, round(WIDTH * min(1, width / height))), max(1, round(WIDTH * min(1, height / width)))
    picture = picture.resize(size, BICUBIC, reducing_gap=3) if picture else Image.new("RGB", size, GROUND)
    phrases = [Region(one.box, shorten(one.label, 40, placeholder=" ...")) for one in sample.expressions]
    regions = sample.regions or phrases
    mark(picture, regions, colours if sample.regions else colours_of(region.label for region in regions))
    return picture, missing


def _title(
    card: Dataset, split: str, title: str, total: int, charts: Mapping[str, Counter[str]], width: int
) -> Image.Image:
    """What is shown, and how much there is."""
    expected = card.counts.get(split, total)
    facts = [f"{total:,} images" if expected == total else f"{total:,} of {expected:,} images"]
    if OBJECTS in charts:
        classes = len(charts[OBJECTS])
        facts.append(f"{charts[OBJECTS].total():,} objects of {classes} {'class' if classes == 1 else 'classes'}")
    if QUESTIONS in charts:
        facts.append(f"{charts[QUESTIONS].total():,} questions")
    for heading, noun in ((CAPTIONS, "captions"), (PHRASES, "phrases")):
        if heading in charts:
            facts.append(f"{sum(int(each) * images for each, images in charts[heading].items()):,} {noun}")
    facts += [", ".join(map(_spelled, card.sensors)), f"licence: {card.licence}"]
    return _over([_text(title, width, TITLE, INK, 1), _text("  ·  ".join(facts), width, HEADING)], 10)


def _panel(charts: Mapping[str, Counter[str]], colours: Mapping[str, str], defects: Mapping[str, int]) -> Image.Image:
    """The counts of the split as bars, and what its reader left out or mended."""
    # That all images have as many captions is no chart.
    drawn = {heading: counts for heading, counts in charts.items() if len(counts) > 1 or heading in (OBJECTS, SCENES)}
    parts = [_bars(heading, counts, colours if heading == OBJECTS else {}) for heading, counts in drawn.items()]
    found = [(kind, number) for kind, number in sorted(defects.items()) if number]
    lines = [_text(f"{kind}: {number:,}", PANEL, BODY, INK) for kind, number in found]
    lines = lines or [_text("none found", PANEL, BODY)]
    return _over([*parts, _over([_text("Defects", PANEL, HEADING, INK), *lines], 8)], GAP, PANEL)


def _bars(heading: str, counts: Counter[str], colours: Mapping[str, str]) -> Image.Image:
    """A bar for each class, the most frequent first; by the logarithm where they are very uneven."""
    ordered = counts.most_common()
    shown, rest = ordered[:MOST_BARS], ordered[MOST_BARS:]
    most, least = shown[0][1], min((number for _, number in shown if number), default=1)
    uneven = most > UNEVEN * least
    size = math.log1p if uneven else float
    labels = [_text(label, PANEL * 2 // 5, BODY, INK, 1) for label, _ in shown]
    numbers = [_text(f"{number:,}", PANEL, SMALL) for _, number in shown]
    start, step = max(label.width for label in labels) + 12, 26
    longest = PANEL - start - max(number.width for number in numbers) - 8
    chart = Image.new("RGB", (PANEL, step * len(shown)), PAPER)
    pen = ImageDraw.Draw(chart)
    for i, ((label, number), name, value) in enumerate(zip(shown, labels, numbers, strict=True)):
        middle = i * step + step // 2
        length = round(longest * size(number) / max(size(most), 1e-9))
        chart.paste(name, (start - 12 - name.width, middle - name.height // 2))
        if number:
            pen.rectangle([start, middle - 8, start + length, middle + 8], fill=colours.get(label, NEUTRAL))
        chart.paste(value, (start + length + 8, middle - value.height // 2))
    more = [_text(f"and {len(rest)} more with {sum(n for _, n in rest):,} in all", PANEL)] if rest else []
    scale = [_text("bars by the logarithm of the count", PANEL)] if uneven else []
    return _over([_text(heading, PANEL, HEADING, INK), *scale, chart, *more], 8)


# --- how it is set -----------------------------------------------------------------------------------------------


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _text(text: str, width: int, size: int = SMALL, colour: str = PALE, most: int = 2) -> Image.Image:
    """A text in at most ``most`` lines of at most ``width`` pixels; what is too long ends in dots."""
    font, step = _font(size), round(size * 1.3)
    lines = _wrapped(_printable(text), font, width, most)
    picture = Image.new("RGB", (max(1, *(math.ceil(font.getlength(line)) for line in lines)), step * len(lines)), PAPER)
    pen = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        pen.text((0, i * step), line, fill=colour, font=font)
    return picture


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """The text in lines, broken at blanks and after commas and semicolons, and inside words longer than a line."""
    lines = [""]
    for part in re.findall(r"\s*[^\s,;]*[,;]?", text):
        if font.getlength(lines[-1] + part) > width:
            part = part.lstrip()
            lines += [""] if lines[-1] else []
        while font.getlength(part) > width and len(lines) <= most:
            fitting = next(n for n in range(len(part), 0, -1) if font.getlength(part[:n]) <= width)
            lines[-1], part = part[:fitting], part[fitting:]
            lines.append("")
        lines[-1] += part
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(f"{last} ...") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()} ..."]
    return lines


def _spelled(sensor: Sensor) -> str:
    return "SAR" if sensor is Sensor.SAR else str(sensor)


def _printable(text: str) -> str:
    """The text in the characters that the font of Pillow has."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c if c.isascii() or c in "·“”‘’" else "?" for c in plain if not unicodedata.combining(c))


def _over(pictures: Iterable[Image.Image], gap: int, width: int = 1) -> Image.Image:
    """One picture below the other, at the left; at least ``width`` wide."""
    return _set(list(pictures), gap, width, down=True)


def _beside(pictures: Iterable[Image.Image], gap: int) -> Image.Image:
    """One picture beside the other, at the top."""
    return _set(list(pictures), gap, 1, down=False)


def _set(pictures: list[Image.Image], gap: int, width: int, down: bool) -> Image.Image:
    along = [one.height if down else one.width for one in pictures]
    across = max((one.width if down else one.height for one in pictures), default=1)
    length = max(1, sum(along) + gap * (len(pictures) - 1))
    page = Image.new("RGB", (max(width, across), length) if down else (length, across), PAPER)
    place = 0
    for one, step in zip(pictures, along, strict=True):
        page.paste(one, (0, place) if down else (place, 0))
        place += step + gap
    return page
