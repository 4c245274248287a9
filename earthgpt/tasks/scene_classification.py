"""Which class of a closed list the whole scene belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from earthgpt.metrics.accuracy import accuracy_by, answer_scores, confusion_matrix
from earthgpt.tasks import Comparison, Deduced, Task, Turn, right_or_wrong
from earthgpt.tasks.wording import classes_meant


@dataclass(frozen=True)
class SceneClassification(Task):
    """The answer is the class name, a str."""

    template: str = (
        "What is the category of this remote sensing image? Answer the question using a single word or phrase."
    )
    variants: tuple[str, ...] = (
        "What is the category of this image?",
        "What kind of place is this?",
        "What is this?",
        "Classify the scene.",
    )
    list_template: str = " Reference categories include: {choices}."

    def question(self, choices: Sequence[str] = (), template: str | None = None) -> str:
        """The question, with the list of classes when there is one; ``template`` in place of the usual one."""
        listed = self.list_template.format(choices=", ".join(choices)) if choices else ""
        return (template or self.template) + listed

    def listed(self, choices: Sequence[str], known: Sequence[str] = ()) -> list[str]:
        """Choices as they are put to a model that was trained on ``known`` classes: in small letters where all of these
        are, and the choices stay apart."""
        small = [choice.lower() for choice in choices]
        fits = known and all(name == name.lower() for name in known) and len(set(small)) == len(set(choices))
        return small if fits else list(choices)

    def turns(self, sample, rng):
        """One question; in training the list is whole, a shuffled part of it, or left out."""
        if sample.label is None:
            return []
        choices = list(sample.choices)
        if self.varied and choices:
            way = rng.random()
            if way < 0.3:
                choices = []
            elif way < 0.6:
                others = [choice for choice in choices if choice != sample.label]
                choices = [*rng.sample(others, rng.randint(min(1, len(others)), len(others))), sample.label]
                rng.shuffle(choices)
        template = self.wording(self.template, self.variants, rng)
        return [Turn(self.question(choices, template), sample.label)]

    def deduce(self, question, facts):
        """The most likely class of those that are listed, where all are known."""
        asked, _, listed = question.partition(self.list_template.partition("{choices}")[0])
        choices = listed.removesuffix(".").split(", ")
        if not listed or asked not in (self.template, *self.variants):
            return None
        meant = classes_meant(choices, facts.scenes)
        if meant is None:
            return None
        likely = [facts.scenes[one] for one in meant]
        best, total = max(zip(likely, choices, strict=True), key=lambda pair: pair[0]), sum(likely)
        return Deduced(self.format(best[1], facts.size), probability=best[0] / total if total else 0.0)

    def compare(self, predictions, answers):
        """Top-1 accuracy and its average over the classes, each by the strict and the lenient policy."""
        scores = answer_scores(predictions, answers)
        strict, lenient = (accuracy_by(hits, answers) for hits in (scores.strict, scores.lenient))
        return Comparison(
            lambda weights: {**scores.accuracy(weights), **scores.average_accuracy(weights)},
            right_or_wrong(scores),
            {
                name: {"examples": count, "accuracy_strict": strict[name], "accuracy_lenient": lenient[name]}
                for name, count in sorted(Counter(answers).items())
            },
            confusion_matrix(predictions, answers),
        )


TASK = SceneClassification()
