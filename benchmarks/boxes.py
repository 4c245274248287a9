"""Answers with boxes: constrained to the grammar of their task, beside the same answers decoded freely.

    python benchmarks/run.py boxes

earthgpt-tiny is asked for all objects of synthetic scenes, one scene at a time, and about all together. Of the scenes
those count of which both say the same text. A pass is one call of the model; the first, over image and question, is one
of them. The floor of passes is one for the question and one for each token that neither is certain nor usual.
"""

from __future__ import annotations

from contextlib import contextmanager

from guard import in_turn
from table import Row


def rows(quick: bool = False) -> list[Row]:
    """Passes and seconds, alone and together."""

    from earthgpt.assistant import load
    from earthgpt.datasets.synthetic import scene
    from earthgpt.generation import generate
    from earthgpt.tasks.object_detection import TASK
    from earthgpt.types import Conversation, Sensor

    assistant = load()
    model, processor = assistant.model, assistant.processor
    squares = [processor.square(scene(seed, Sensor.OPTICAL, (256, 256)).image()) for seed in range(300, 316)]
    asked = [Conversation.of((i,), TASK.question(None)) for i in range(len(squares))]

    def answers(which: list[int], constrained: bool) -> list[str]:
        own, shown = [asked[i] for i in which], [squares[i] for i in which]
        grammars = [TASK.grammar(None)] * len(own) if constrained else None
        return [one.text for one in generate(model, processor, own, shown, grammars=grammars)]

    def alone(which: list[int], constrained: bool) -> list[str]:
        return [answers([i], constrained)[0] for i in which]

    free, held = alone(range(len(asked)), False), alone(range(len(asked)), True)
    alike = [i for i, (one, other) in enumerate(zip(free, held, strict=True)) if one == other and one.count("[")]
    if not alike:
        raise ValueError("No answer is the same.")
    alike = alike[:4] if quick else alike
    boxes = sum(free[i].count("[") for i in alike)
    same = f"{len(alike)} texts, {boxes} boxes"
    found, rival = [], "ours, decoded freely"
    for way, name in ((alone, "one at a time"), (answers, "together")):
        passes = []
        for constrained in (True, False):
            with counted(model) as count:
                way(alike, constrained)
            passes.append(count[0])
        timings = in_turn(
            {"held": lambda way=way: way(alike, True), "free": lambda way=way: way(alike, False)}, 2 if quick else 3
        )
        if timings["held"].result != timings["free"].result:
            raise ValueError("The answers differ.")
        ours, its = timings["held"], timings["free"]
        found.append(Row("boxes", f"{name}, passes", "passes", *passes, rival, 2.2, None, same))
        found.append(Row("boxes", name, "s", ours.seconds, its.seconds, rival, 2.2, None, same, ours.samples))
    return found


@contextmanager
def counted(model):
    """How often the model is called meanwhile, as a list of one number."""
    count = [0]
    hook = model.register_forward_pre_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    yield count
    hook.remove()
