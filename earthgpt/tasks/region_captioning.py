"""What a region of the image shows."""

from __future__ import annotations

from dataclasses import dataclass

from earthgpt.coordinates import BOX_LIST, find_boxes, write_boxes
from earthgpt.metrics.accuracy import answer_scores
from earthgpt.metrics.captions import caption_scores
from earthgpt.tasks import Comparison, Deduced, Task, Turn, right_or_wrong
from earthgpt.tasks.wording import class_name, likely, read_back, with_article
from earthgpt.types import Box, OrientedBox, Size

_SAME = 0.3  # overlap from which an object is what a box shows


@dataclass(frozen=True)
class RegionCaptioning(Task):
    """The answer is a phrase, a str: the data set's expression, or where it has none the class with its article."""

    template: str = "Please provide a short description for this region in this remote sensing image: {box}"

    variants: tuple[str, ...] = ("What is at {box}?", "Describe the region {box}.")

    def question(self, box: Box | OrientedBox, size: Size, template: str | None = None) -> str:
        """The question; ``size`` is the (width, height) of the image, ``template`` stands in place of the usual one."""
        return (template or self.template).format(box=write_boxes([box], self.frame(size), self.decimals))

    def turns(self, sample, rng):
        """One turn for each expression, or else for each object."""
        described = [(region.box, region.label) for region in sample.expressions]
        described = described or [(region.box, with_article(class_name(region.label))) for region in sample.regions]
        templates = [self.wording(self.template, self.variants, rng) for _ in described]
        return [
            Turn(self.question(box.bounds, sample.size, template), phrase)
            for (box, phrase), template in zip(described, templates, strict=True)
        ]

    def deduce(self, question, facts):
        """The class of the object whose box is that of the region, sure or not."""
        read = read_back((self.template, *self.variants), question)
        if read is None or not BOX_LIST.fullmatch(read["box"]):
            return None
        asked = next((box.bounds for box, _ in find_boxes(read["box"], self.frame(facts.size))), None)
        if asked is None:  # its edges are in the wrong order
            return None
        overlaps = [(asked.iou(one.box.bounds), one) for one in facts.regions]
        same = [(overlap * likely(one), one.label, likely(one)) for overlap, one in overlaps if overlap >= _SAME]
        if not same:
            return None
        _, label, probability = max(same)
        return Deduced(with_article(class_name(label)), probability=probability)

    def parse(self, text, size):
        """The text without white space around it; None when nothing is left."""
        return text.strip() or None

    def compare(self, predictions, answers):
        """Both accuracies of the whole phrase, and the caption metrics, times 100, with it as the only reference."""
        whole, scores = answer_scores(predictions, answers), caption_scores(predictions, [(one,) for one in answers])
        return Comparison(
            lambda weights: {
                **whole.accuracy(weights),
                **{name: 100 * value for name, value in scores.summary(weights).items()},
            },
            [
                {**one, "score": value}
                for one, value in zip(right_or_wrong(whole), scores.rouge_l.tolist(), strict=True)
            ],
            left_out=scores.left_out,
        )


TASK = RegionCaptioning()
