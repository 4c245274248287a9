"""Where the one thing is that a phrase describes."""

from __future__ import annotations

from dataclasses import dataclass

from earthgpt.coordinates import find_boxes, padded_square, write_boxes
from earthgpt.metrics.grounding import grounding_scores
from earthgpt.tasks import Task, Turn
from earthgpt.tasks.wording import expressions


@dataclass(frozen=True)
class VisualGrounding(Task):
    """The answer is a Box, or an OrientedBox where that was asked for."""

    template: str = (
        "Please provide the {kind} bounding box coordinate of the region which is described as: {phrase}"
    )

    def question(self, phrase: str, oriented: bool = False) -> str:
        """The question."""
        return self.template.format(kind="oriented" if oriented else "horizontal", phrase=phrase)

    def turns(self, sample, rng):
        """One turn for each expression of the data set; where it has none, phrases derived from the boxes."""
        stated = sample.expressions or expressions(sample.regions)
        return [Turn(self.question(region.label), region.box.bounds) for region in stated]

    def format(self, answer, size):
        """``[xmin,ymin,xmax,ymax]`` in the padded square."""
        return write_boxes([answer], padded_square(size), self.decimals)

    def parse(self, text, size):
        """The first box written in the text; None when there is none."""
        return next((box for box, _ in find_boxes(text, padded_square(size))), None)

    def score(self, predictions, answers):
        """Pr@0.5 .. Pr@0.9, mean and cumulative IoU."""
        return grounding_scores(predictions, answers)


TASK = VisualGrounding()
