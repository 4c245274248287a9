"""Where the one thing is that a phrase describes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from earthgpt.coordinates import find_boxes, write_boxes
from earthgpt.grammar import Coordinates, Grammar, either, sequence
from earthgpt.metrics.grounding import grounding_scores
from earthgpt.tasks import Comparison, Deduced, Task, Turn
from earthgpt.tasks.wording import (
    SUPERLATIVES,
    alone,
    class_name,
    described,
    expressions,
    named,
    read_back,
    superlative_and_noun,
    whole,
)
from earthgpt.types import Box, OrientedBox, Size

NOTHING = "There is no such object in the image."


@dataclass(frozen=True)
class VisualGrounding(Task):
    """The answer is a Box, or an OrientedBox where that was asked for; None where there is no such object."""

    template: str = "Please provide the {kind} bounding box coordinate of the region which is described as: {phrase}"

    variants: tuple[str, ...] = ("Where is {phrase}? Give its {kind} bounding box.", "Find {phrase}.")

    def question(self, phrase: str, oriented: bool = False, template: str | None = None) -> str:
        """The question; ``template`` in place of the usual one."""
        return (template or self.template).format(kind="oriented" if oriented else "horizontal", phrase=phrase)

    def turns(self, sample, rng):
        """One turn for each expression of the data set; where it has none, phrases derived from the boxes.

        In training now and then also something that is not there, where its absence is certain.
        """
        stated = [(one.label, one.box.bounds) for one in sample.expressions or expressions(whole(sample))]
        absent = [label for label in sample.classes if all(label != region.label for region in sample.regions)]
        if self.varied and sample.complete and absent and rng.random() < 0.4:
            which = rng.choice(("", "", *(f"{one} " for one in SUPERLATIVES)))
            stated.append((f"the {which}{class_name(rng.choice(absent))}", None))
        templates = [self.wording(self.template, self.variants, rng) for _ in stated]
        return [
            Turn(self.question(phrase, template=template), box)
            for (phrase, box), template in zip(stated, templates, strict=True)
        ]

    def deduce(self, question, facts):
        """Of a phrase made of a class and a superlative, as this task makes them."""
        read = self._read(question)
        if read is None:
            return None
        meant = named(read["phrase"], facts)
        if meant is None:
            return None
        found = described(*meant, facts)
        if found is None:
            return Deduced(NOTHING, probability=alone(one for one in facts.regions if one.label == meant[1]))
        box = found.box if read.get("kind") == "oriented" else found.box.bounds
        return Deduced(self.format(box, facts.size), (replace(found, box=box),))

    def objects_in(self, question):
        """The phrase, without its superlative."""
        read = self._read(question)
        noun = superlative_and_noun(read["phrase"])[1] if read else ""
        return (noun,) if noun.strip() else ()

    def _read(self, question: str) -> dict[str, str] | None:
        read = read_back((self.template, *self.variants), question)
        return read if read and read.get("kind", "horizontal") in ("horizontal", "oriented") else None

    def format(self, answer, size):
        """``[xmin,ymin,xmax,ymax]`` in the padded square."""
        if answer is None:
            return NOTHING
        return write_boxes([answer], self.frame(size), self.decimals)

    def grammar(self, oriented: bool = False) -> Grammar:
        """What ``format`` writes, in the padded square."""
        return either(NOTHING, sequence("[", Coordinates(self.decimals, 8 if oriented else 4), "]"))

    def parse(self, text, size):
        """The first box written in the text; None when there is none, be it said or not."""
        return next((box for box, _ in self.spans(text, size)), None)

    def spans(self, text: str, size: Size) -> Iterator[tuple[Box | OrientedBox, tuple[int, int]]]:
        """The boxes with the characters (start, end) of the text that state their numbers."""
        return find_boxes(text, self.frame(size))

    def compare(self, predictions, answers):
        """Pr@0.5 .. Pr@0.9, mean and cumulative IoU; an answer is right from an IoU of 0.5."""
        scores = grounding_scores(predictions, answers)
        each = [{"score": iou, "right": iou >= 0.5} for iou in scores.ious.tolist()]
        return Comparison(scores.summary, each)


TASK = VisualGrounding()
