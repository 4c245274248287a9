"""All objects of the image, or of one class, with upright or oriented boxes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from earthgpt.coordinates import find_boxes, write_boxes
from earthgpt.grammar import DIGITS, Coordinates, Grammar, OneOf, Repeated, either, letter, sequence, some
from earthgpt.metrics.accuracy import lenient, strict
from earthgpt.metrics.detection import match_detections
from earthgpt.tasks import Comparison, Deduced, Task, Turn
from earthgpt.tasks.visual_question_answering import TASK as VQA
from earthgpt.tasks.wording import (
    COUNT_WORDS,
    alone,
    class_meant,
    class_name,
    count_word,
    plural,
    read_back,
    singular,
    sure,
)
from earthgpt.types import EarthGPTError, OrientedBox, Region, Size

# "There are two ships [..] in the image." as in the paper, and "<p>13 ships</p>[..]" as in the released records.
_CLAUSE = re.compile(rf"\b({'|'.join(COUNT_WORDS)}|\d+)\s([^\[\]<>]*+)(?:</p>)?\s*(\[[^\]]*\])", re.IGNORECASE)
_NOTHING = re.compile(r"\bthere (?:is|are) no\b", re.IGNORECASE)
_TOLD = 0.1  # the least score of an object that is told where another of its class is sure
NOTHING = "There are no such objects in the image."
# A noun that is not known beforehand is of all letters that cannot be taken for a tag or a list of boxes.
_LETTERS = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"[]<>")
_NOUN = sequence(letter(_LETTERS), Repeated(letter(_LETTERS + b" ")))
_DIGIT = OneOf(DIGITS)
_COUNT = either(*COUNT_WORDS[2:], sequence(OneOf(DIGITS[1:]), _DIGIT, either("", _DIGIT), either("", _DIGIT)))


@dataclass(frozen=True)
class ObjectDetection(Task):
    """The answer is a tuple of Regions, each with its class as the label; empty when there is nothing.

    ``tagged`` writes the noun as the released records do: ``<p>two ships</p>[...]``. ``protocol`` is that of
    ``metrics.detection`` by which boxes are matched and AP is averaged.
    """

    tagged: bool = False
    protocol: str = "coco"
    all_template: str = "Detect all objects shown in the remote sensing image and describe using {kind} bounding boxes."
    class_template: str = "Detect all {nouns} shown in the image and describe using {kind} bounding boxes."

    all_variants: tuple[str, ...] = (
        "Detect all objects with {kind} bounding boxes.",
        "Find everything in the image and give {kind} bounding boxes.",
    )
    class_variants: tuple[str, ...] = (
        "Detect all {nouns} with {kind} bounding boxes.",
        "Find the {nouns} and give their {kind} bounding boxes.",
    )

    def question(self, label: str | None = None, oriented: bool = False, template: str | None = None) -> str:
        """The question about one class, or about all when ``label`` is None; ``template`` instead of the usual one.

        Here as in ``steps`` and ``grammar`` the class may be given in the plural.
        """
        kind = "oriented" if oriented else "horizontal"
        if label is None:
            return (template or self.all_template).format(kind=kind)
        return (template or self.class_template).format(nouns=plural(class_name(label)), kind=kind)

    def steps(self, names: Sequence[str] | str | None, label: str | None = None, oriented: bool = False) -> list[str]:
        """The questions that come before the one for boxes, where a model is prompted in steps (EarthGPT, section IV):
        "count" asks how many there are, "horizontal" for upright boxes before oriented ones.

        Raises EarthGPTError for another name, and for "horizontal" where boxes are not oriented.
        """
        questions = []
        for name in [names] if isinstance(names, str) else names or ():
            if name == "count":
                questions.append(VQA.question(VQA.count.format(nouns=plural(class_name(label or "object")))))
            elif name == "horizontal" and oriented:
                questions.append(self.question(label))
            elif name == "horizontal":
                raise EarthGPTError('The step "horizontal" comes before oriented boxes; ask for these.')
            else:
                raise EarthGPTError(f'A step is "count" or "horizontal", not {name!r}.')
        return questions

    def turns(self, sample, rng):
        """All objects, then each class that is there; oriented too where the data set states oriented boxes.

        In training also a class that is not there, where its absence is certain.
        """
        if not (sample.regions or sample.complete):
            return []
        labels: list[str | None] = [None, *dict.fromkeys(region.label for region in sample.regions)]
        absent = [label for label in sample.classes if label not in labels]
        if self.varied and sample.complete and absent:
            labels.append(rng.choice(absent))
        kinds = [False]
        if any(isinstance(region.box, OrientedBox) for region in sample.regions):
            kinds.append(True)
        turns = []
        for oriented in kinds:
            for label in labels:
                usual = (
                    (self.all_template, self.all_variants)
                    if label is None
                    else (self.class_template, self.class_variants)
                )
                question = self.question(label, oriented, self.wording(*usual, rng))
                turns.append(
                    Turn(question, self.answer(sample.regions, label, oriented), kind="obb" if oriented else "hbb")
                )
        return turns

    def answer(self, regions: Sequence[Region], label: str | None, oriented: bool) -> tuple[Region, ...]:
        """The objects of a class, or all, grouped by class and then from left to right."""
        chosen = [region for region in regions if label in (None, region.label)]
        chosen.sort(key=lambda region: (region.label, region.box.center))
        return tuple(replace(region, box=region.box if oriented else region.box.bounds) for region in chosen)

    def deduce(self, question, facts):
        """The objects of a class, or all. Of a class that is sure to be there, less sure ones are told as well."""
        read = read_back((self.all_template, self.class_template, *self.all_variants, *self.class_variants), question)
        if read is None or read["kind"] not in ("horizontal", "oriented"):
            return None
        label = class_meant(read["nouns"], facts.classes) if read.get("nouns") else None
        if label is None and read.get("nouns"):
            return None
        there = {one.label for one in sure(facts.regions)}
        told = [one for one in sure(facts.regions, _TOLD) if one.label in there]
        found = self.answer(told, label, oriented=read["kind"] == "oriented")
        nothing = alone(one for one in facts.regions if label in (None, one.label))
        return Deduced(self.format(found, facts.size), found, 1.0 if found else nothing)

    def format(self, answer, size):
        """``There are two ships [..;..] in the image.``, one sentence for each class, chained."""
        if not answer:
            return NOTHING
        sentences = []
        for label in dict.fromkeys(region.label for region in answer):
            boxes = [region.box for region in answer if region.label == label]
            noun = f"{count_word(len(boxes))} {class_name(label) if len(boxes) == 1 else plural(label)}"
            noun = f"<p>{noun}</p>" if self.tagged else f"{noun} "
            written = write_boxes(boxes, self.frame(size), self.decimals)
            sentences.append(f"There {'is' if len(boxes) == 1 else 'are'} {noun}{written} in the image.")
        return " ".join(sentences)

    def grammar(self, label: str | None = None, oriented: bool = False) -> Grammar:
        """What ``format`` writes, in the padded square, of one class or of any; the count may be wrong."""
        box = Coordinates(self.decimals, 8 if oriented else 4)
        before, behind = ("<p>", "</p>[") if self.tagged else ("", " [")
        name = class_name(label or "")
        one, many = (_NOUN, _NOUN) if label is None else (name, plural(name))
        sentence = either(
            sequence(f"There is {before}one ", one, behind, box, "] in the image."),
            sequence(f"There are {before}", _COUNT, " ", many, behind, some(box, ";"), "] in the image."),
        )
        return either(NOTHING, sentence if label is not None else some(sentence, " "))

    def parse(self, text, size):
        """The regions in reading order, their labels in the singular; () when the text says that there are none; None
        when nothing can be read."""
        regions = tuple(region for region, _ in self.spans(text, size))
        return regions if regions or _NOTHING.search(text) else None

    def spans(self, text: str, size: Size) -> list[tuple[Region, tuple[int, int]]]:
        """The regions with the characters (start, end) of the text that state their numbers."""
        found = []
        for clause in _CLAUSE.finditer(text):
            count, noun = clause.group(1).lower(), " ".join(clause.group(2).split())
            label = noun if count in ("one", "1") else singular(noun)
            for box, (start, end) in find_boxes(clause.group(3), self.frame(size)):
                found.append((Region(box, label), (start + clause.start(3), end + clause.start(3))))
        return found

    def compare(self, predictions, answers):
        """AP averaged over classes, precision, recall, F1; regions without a score count as sure.

        Those at an IoU of 0.5 also by the lenient policy of labels (``metrics.accuracy``). The score of a single answer
        is its F1 there, by the strict one; 1 where nothing is there and nothing was found. A data set may state its
        classes in the plural, which an answer in words does not tell: that is no difference.
        """
        stated = {region.label for answer in answers for region in answer}
        said = {region.label for regions in predictions for region in regions or ()}
        # Of a label by its form, and by what is read where two of it were written.
        forms = {strict(form(label)): label for form in (_read_of_two, str) for label in sorted(stated)}
        meant = {label: label if label in stated else forms.get(strict(label), label) for label in said}
        predictions = [_labelled(regions, meant) for regions in predictions]
        found = match_detections(predictions, answers, protocol=self.protocol)
        labels = {region.label for regions in (*predictions, *answers) for region in regions or ()}
        folded = {label: lenient(label) for label in labels}
        loose = found
        if len(set(folded.values())) < len(labels):
            both = ([_labelled(regions, folded) for regions in those] for those in (predictions, answers))
            loose = match_detections(*both, (0.5,), self.protocol)
        levels = {f"ap_{iou * 100:.0f}": found.average_precision(iou) for iou in (0.4, 0.5)}
        counts = Counter(region.label for answer in answers for region in answer)

        def figures(weights):
            more = {"ap_50": loose.mean_ap(0.5, weights), **loose.precision_recall(0.5, weights)}
            return {**found.summary(weights), **{f"{name}_lenient": value for name, value in more.items()}}

        return Comparison(
            figures,
            [{"score": score} for score in found.image_f1().tolist()],
            {
                label: {"objects": count, **{name: by_class[label] for name, by_class in levels.items()}}
                for label, count in sorted(counts.items())
            },
        )


def _read_of_two(label: str) -> str:
    return singular(plural(label))


def _labelled(regions: Sequence[Region] | None, labels: Mapping[str, str]) -> tuple[Region, ...] | None:
    """The regions of an image with other labels."""
    return regions and tuple(replace(one, label=labels[one.label]) for one in regions)


TASK = ObjectDetection()
