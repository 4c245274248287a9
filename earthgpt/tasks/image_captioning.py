"""One sentence about the whole image."""

from __future__ import annotations

from dataclasses import dataclass

from earthgpt.metrics.captions import caption_scores
from earthgpt.tasks import Comparison, Task, Turn


@dataclass(frozen=True)
class ImageCaptioning(Task):
    """The answer is the caption, a str. ``tokenizer`` and ``meteor`` are those of ``metrics.captions``."""

    tokenizer: str = "plain"
    meteor: bool = False
    template: str = "Please provide a one-sentence caption for the provided remote sensing image in details."

    variants: tuple[str, ...] = (
        "Describe this image.",
        "Describe the scene in one sentence.",
        "What can be seen here?",
    )

    def question(self) -> str:
        """The question."""
        return self.template

    def turns(self, sample, rng):
        """One turn for each distinct caption; all are references of each."""
        captions = tuple(dict.fromkeys(sample.captions))
        return [
            Turn(self.wording(self.template, self.variants, rng), caption, references=captions) for caption in captions
        ]

    def parse(self, text, size):
        """The text without white space around it; None when nothing is left."""
        return text.strip() or None

    def compare(self, predictions, answers):
        """BLEU-1..4, ROUGE-L, CIDEr-D and METEOR if asked for, times 100; an answer is a caption or a tuple of them."""
        references = [(answer,) if isinstance(answer, str) else answer for answer in answers]
        scores = caption_scores(predictions, references, self.tokenizer, self.meteor)
        return Comparison(
            lambda weights: {name: 100 * value for name, value in scores.summary(weights).items()},
            [{"score": value} for value in scores.rouge_l.tolist()],
            left_out=scores.left_out,
        )


TASK = ImageCaptioning()
