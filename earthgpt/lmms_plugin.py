"""The model in lmms-eval, which finds this by itself: ``lmms-eval --model earthgpt --model_args pretrained=FOLDER``."""

from __future__ import annotations

from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from earthgpt.assistant import load
from earthgpt.evaluation import ask
from earthgpt.geo.raster import open_raster
from earthgpt.model.loading import DEFAULT
from earthgpt.types import Conversation, EarthGPTError

MANIFEST = ModelManifest("earthgpt", simple_class_path=f"{__name__}.LmmsEvalModel")


class LmmsEvalModel(lmms):
    """Answers the questions of lmms-eval, greedily and in batches, each about one image or none.

    ``pretrained`` is what ``earthgpt.load`` takes. Other arguments of lmms-eval (``device``) are not needed.
    """

    is_simple = True

    def __init__(self, pretrained: str = DEFAULT, batch_size: int | str = 1, **others: Any):
        super().__init__()
        self.assistant = load(pretrained)
        # "auto" asks for what fits; sixteen are what compiled passes take together.
        self.batch_size = 16 if str(batch_size).startswith("auto") else int(batch_size)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answer to each request, cut before the first of its ``until``.

        Raises EarthGPTError for a question about anything but images, and where an image cannot be read.
        """
        answers: list[str] = [""] * len(requests)
        # A batch is as slow as its longest row, and asks for one number of tokens.
        order = sorted(range(len(requests)), key=lambda i: (_tokens(requests[i]), len(requests[i].args[0])))
        while order:
            most = _tokens(requests[order[0]])
            batch = [i for i in order[: self.batch_size] if _tokens(requests[i]) == most]
            order = order[len(batch) :]
            for i, answer in zip(
                batch, ask(self.assistant, [self._asked(requests[i]) for i in batch], most), strict=True
            ):
                answers[i] = _cut(answer.text, requests[i].args[1].get("until") or ())
        return answers

    def _asked(self, request: Any) -> Conversation:
        text, _, visuals_of, document, task, split = request.args
        images = visuals_of(self.task_dict[task][split][document]) or []
        if any(isinstance(image, str) for image in images):
            raise EarthGPTError(f"{task} asks about {images[0]}; EarthGPT answers questions about images.")
        return Conversation.of(tuple(open_raster(image) for image in images), text.replace("<image>", "").strip())

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not there: raises EarthGPTError."""
        raise EarthGPTError(
            "EarthGPT in lmms-eval answers one question at a time; tasks of several rounds are not asked."
        )

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not there: raises EarthGPTError."""
        raise EarthGPTError("EarthGPT in lmms-eval generates answers; tasks that compare likelihoods are not asked.")


def _tokens(request: Any) -> int:
    return int(request.args[1].get("max_new_tokens", 512))


def _cut(text: str, until: str | list[str] | tuple[str, ...]) -> str:
    for stop in [until] if isinstance(until, str) else until:
        text = text.split(stop, 1)[0] if stop else text
    return text.strip()
