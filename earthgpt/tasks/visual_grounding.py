"""Where the one thing is that a phrase describes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from earthgpt.coordinates import find_boxes, write_boxes
from earthgpt.metrics.grounding import grounding_scores
from earthgpt.tasks import Comparison, Task, Turn
from earthgpt.tasks.wording import expressions
from earthgpt.types import Box, OrientedBox, Size


@dataclass(frozen=True)
class VisualGrounding(Task):
    """The answer is a Box, or an OrientedBox where that was asked for."""

    template: str = "Please provide the {kind} bounding box coordinate of the region which is described as: {phrase}"

    variants: tuple[str, ...] = ("Where is {phrase}? Give its {kind} bounding box.", "Find {phrase}.")

    def question(self, phrase: str, oriented: bool = False, template: str | None = None) -> str:
        """The question; ``template`` in place of the usual one."""
        return (template or self.template).format(kind="oriented" if oriented else "horizontal", phrase=phrase)

    def turns(self, sample, rng):
        """One turn for each expression of the data set; where it has none, phrases derived from the boxes."""
        stated = sample.expressions or expressions(sample.regions)
        templates = [self.wording(self.template, self.variants, rng) for _ in stated]
        return [
            Turn(self.question(region.label, template=template), region.box.bounds)
            for region, template in zip(stated, templates, strict=True)
        ]

    def format(self, answer, size):
        """``[xmin,ymin,xmax,ymax]`` in the padded square."""
        return write_boxes([answer], self.frame(size), self.decimals)

    def parse(self, text, size):
        """The first box written in the text; None when there is none."""
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
