"""A conversation and a processor whose words are tokens: what a model is asked when only its own work is measured."""

from __future__ import annotations

STEP = 7  # from a token to the one that it calls for


class Talk:
    """A conversation whose question is tokens."""

    def __init__(self, images: tuple, tokens: list[int]):
        self.images, self.tokens = images, tokens


class Tokenizer:
    """Tokens as numbers."""

    def __init__(self, pad: int, eos: int):
        self.pad_token_id, self.eos_token_id = pad, eos

    @staticmethod
    def decode(ids, skip_special_tokens):
        """The numbers of the tokens."""
        return " ".join(map(str, ids))


class Words:
    """A processor whose words are tokens; those of an image stand between ``bos`` and the question.

    eos: ends an answer; -1 is never said.
    """

    def __init__(self, image: int, tokens_per_image: int, bos: int, pad: int, eos: int):
        self.image_token_id, self.tokens_per_image, self.bos = image, tokens_per_image, bos
        self.tokenizer = Tokenizer(pad, eos)

    def render(self, talk: Talk) -> dict[str, list[int]]:
        """The tokens of a conversation."""
        shown = [self.image_token_id] * (self.tokens_per_image * len(talk.images))
        return {"input_ids": [self.bos, *shown, *talk.tokens]}

    def normalise(self, squares):
        """Pixels in float32."""
        import numpy as np
        import torch

        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).to(torch.float32).div(255)

    def batch(self, talks, squares, padding_side):
        """One conversation, which needs no padding."""
        import torch
        from transformers import BatchFeature

        ids = torch.tensor([self.render(talk)["input_ids"] for talk in talks])
        same = {"labels": ids, "position_ids": ids, "attention_mask": torch.ones_like(ids)}
        return BatchFeature({"input_ids": ids, **same, "pixel_values": self.normalise(squares)})


def call_for_others(model) -> None:
    """Embeddings and an output layer by which a token calls for another, which is well before the others, whatever is
    rounded, but has a probability of few percent only."""
    import torch

    with torch.no_grad():
        embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        embeddings.normal_()
        # What is called for has a logit of about 8, the others have a standard deviation of 1.
        head.normal_(std=0.03).add_(embeddings.roll(STEP, 0), alpha=0.011)
