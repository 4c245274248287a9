"""A question in words, answered in a word or a phrase."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from earthgpt.metrics.accuracy import answer_scores
from earthgpt.tasks import Comparison, Deduced, Task, Turn, right_or_wrong
from earthgpt.tasks.wording import (
    SURE,
    alone,
    class_meant,
    class_name,
    likely,
    place,
    plural,
    read_back,
    single,
    sure,
    whole,
    with_article,
)
from earthgpt.types import Question

_COUNTED = 0.3  # the least score of an object that is counted where another of its class is sure
_OTHER_WORDS = (
    "Is there {a_noun}?", "Are there any {any_nouns} in the image?", "Are there any {any_nouns}?",
    "How many {nouns} are in the image?", "How many {nouns} are there?", "How many {nouns} can be seen?",
    "How many {nouns} do you see?",
)  # fmt: skip


@dataclass(frozen=True)
class VisualQuestionAnswering(Task):
    """The answer is a str. Questions that the data set asks itself are used; where it asks none they are derived
    from its boxes and scene class: presence, count, comparison, location, scene. Their kind is the Turn's ``kind``.
    """

    template: str = "{question} Answer the question using a single word or phrase."
    variants: tuple[str, ...] = ("{question}",)
    presence: str = "Is there {a_noun} in the image?"
    count: str = "How many {nouns} are there in the image?"
    comparison: str = "Are there more {nouns} than {others} in the image?"
    location: str = "Where is the {noun} in the image?"
    scene: str = "Is this {a_noun} scene?"

    def question(self, text: str, template: str | None = None) -> str:
        """The question as the model is asked it; ``template`` in place of the usual one."""
        return (template or self.template).format(question=text.strip())

    def turns(self, sample, rng):
        """The data set's own questions, or derived ones with yes and no in balance."""
        questions = sample.questions or self.derived(sample, rng)
        templates = [self.wording(self.template, self.variants, rng) for _ in questions]
        return [
            Turn(self.question(question.text, template), question.answer, kind=question.kind)
            for question, template in zip(questions, templates, strict=True)
        ]

    def derived(self, sample, rng) -> list[Question]:
        """Questions with answers that follow from the sample's boxes and class; absence only where it is certain."""
        found = []
        if sample.complete and sample.classes:
            counts = {label: sum(region.label == label for region in sample.regions) for label in sample.classes}
            present = [label for label, count in counts.items() if count]
            absent = [label for label, count in counts.items() if not count]
            for answer, labels in (("yes", present), ("no", absent)):
                for label in rng.sample(labels, min(2, len(labels))):
                    found.append(
                        Question(self.presence.format(a_noun=with_article(class_name(label))), answer, "presence")
                    )
            for label in rng.sample(present, min(2, len(present))):
                found.append(Question(self.count.format(nouns=plural(label)), str(counts[label]), "count"))
            if absent and rng.random() < 0.3:
                found.append(Question(self.count.format(nouns=plural(rng.choice(absent))), "0", "count"))
            pairs = [(a, b) for a in sample.classes for b in sample.classes if counts[a] != counts[b]]
            if pairs:
                more, fewer = max(rng.sample(pairs, min(2, len(pairs))), key=lambda pair: min(counts[x] for x in pair))
                nouns = {"nouns": plural(more), "others": plural(fewer)}
                answer = "yes" if counts[more] > counts[fewer] else "no"
                found.append(Question(self.comparison.format(**nouns), answer, "comparison"))
        for region in single(whole(sample))[:3]:
            found.append(Question(self.location.format(noun=class_name(region.label)), place(region.box), "location"))
        others = [choice for choice in sample.choices if choice != sample.label]
        if sample.label is not None and others:
            asked = sample.label if rng.random() < 0.5 else rng.choice(others)
            answer = "yes" if asked == sample.label else "no"
            found.append(Question(self.scene.format(a_noun=with_article(asked)), answer, "scene"))
        return found

    def deduce(self, question, facts):
        """Presence, number, comparison and place of objects that are sure, as ``derived`` asks for them, or in other
        usual words. Of a class that is sure to be there, less sure ones are counted as well."""
        labels = {field: class_meant(noun, facts.classes) for field, noun in self._wanted(question).items()}
        if not labels or None in labels.values():
            return None
        groups = {field: [one for one in facts.regions if one.label == label] for field, label in labels.items()}
        least = _COUNTED if "nouns" in labels else SURE
        there = {field: sure(group) and sure(group, least) for field, group in groups.items()}
        # That all that are taken to be there are, and that no other is.
        right = math.prod(likely(one) for group in there.values() for one in group)
        no_other = alone((one for group in groups.values() for one in group), least)
        match there:
            case {"a_noun": []} | {"any_nouns": []}:
                return Deduced("no", probability=no_other)
            case {"a_noun": found} | {"any_nouns": found}:
                return Deduced("yes", probability=1 - math.prod(1 - likely(one) for one in found))
            case {"nouns": found, "others": others}:
                return Deduced("yes" if len(found) > len(others) else "no", probability=right * no_other)
            case {"nouns": found}:
                return Deduced(str(len(found)), probability=right * no_other)
            case {"noun": [found, *_]}:  # the first is the one with the highest score
                return Deduced(place(found.box), probability=likely(found))
        return None

    def objects_in(self, question):
        """Those of a question as ``derived`` asks it, or in other usual words."""
        return tuple(noun for noun in self._wanted(question).values() if noun.strip())

    def _wanted(self, question: str) -> dict[str, str]:
        """The classes that a question names, by the field of its template."""
        asked = read_back((self.template, *self.variants), question)
        words = " ".join(asked["question"].split()) if asked else ""
        found = read_back((self.presence, self.count, self.comparison, self.location, *_OTHER_WORDS), words)
        return {field: _label(field, noun) for field, noun in (found or {}).items()}

    def compare(self, predictions, answers):
        """Accuracy by the strict and the lenient policy; counts apart where any true answer is a number."""
        scores = answer_scores(predictions, answers)
        return Comparison(
            lambda weights: {**scores.accuracy(weights), **scores.counting(weights)}, right_or_wrong(scores)
        )


def _label(field: str, noun: str) -> str:
    """The class that a field of a question names."""
    if field == "a_noun":
        return re.sub(r"^an? ", "", noun, flags=re.IGNORECASE)
    return noun if field == "noun" else class_name(noun)


TASK = VisualQuestionAnswering()
