"""Conversations and images as tensors; the loss mask is built while the dialogue is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from earthgpt.geo.sensors import to_rgb8
from earthgpt.model.attention import segments_of
from earthgpt.model.chat_template import chat_template, conversation_of
from earthgpt.model.configuration import IGNORED, IMAGENET_MEAN, IMAGENET_STD
from earthgpt.types import Conversation, EarthGPTError, Sensor


class EarthGPTProcessor(ProcessorMixin):
    """Everything between what people have and what the model takes.

    image_size: side in pixels of the padded square. patch_size: of the ViT; together they give the visual tokens.
    image_mean, image_std: of the normalised pixels, for values in [0, 1]; the mean is also the colour of the padding.
    image_token: the token repeated wherever an image stands.
    user, assistant: what is written before each message. An answer ends with the tokenizer's eos token.
    """

    attributes = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer=None,
        image_size: int = 224,
        patch_size: int = 14,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        image_token: str = "<image>",
        user: str = "Human: ",
        assistant: str = "\nAssistant: ",
        **kwargs,
    ):
        self.image_size, self.patch_size = image_size, patch_size
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.image_token, self.user, self.assistant = image_token, user, assistant
        super().__init__(tokenizer, **kwargs)
        if tokenizer is not None:  # made anew, whatever was saved: it says in other words what ``render`` does
            self.chat_template = chat_template(tokenizer, image_token, user, assistant)

    @property
    def tokens_per_image(self) -> int:
        """Places in the sequence that an image takes: its grid, an image start and an image end."""
        return (self.image_size // self.patch_size) ** 2 + 2

    @property
    def image_token_id(self) -> int:
        """The id of ``image_token``."""
        return self.tokenizer.convert_tokens_to_ids(self.image_token)

    def square(self, image: Any, sensor: Sensor = Sensor.OPTICAL, side: int | None = None) -> np.ndarray:
        """An image as uint8 [S, S, 3]: 8-bit RGB, centred on a square of the mean colour, resized to ``image_size``, or
        to ``side``.

        ``image`` is a PIL image or an array [H, W] or [H, W, C] of any numeric type (``geo.sensors.to_rgb8``).
        The offset is int((long - short) / 2), as in ``coordinates.padded_square``.
        """
        if isinstance(image, Image.Image) and image.mode not in ("L", "RGB"):
            image = image if image.mode.startswith(("I", "F")) else image.convert("RGB")
        pixels = to_rgb8(np.asarray(image), sensor)
        height, width = pixels.shape[:2]
        if width != height:
            long = max(width, height)
            left, top = int((long - width) / 2), int((long - height) / 2)
            shown, pixels = pixels, np.empty((long, long, 3), np.uint8)
            pixels[:] = [round(255 * mean) for mean in self.image_mean]
            pixels[top : top + height, left : left + width] = shown
        side = side or self.image_size
        return _resized(pixels, side) if len(pixels) != side else pixels

    def normalise(self, squares: Sequence[np.ndarray] | torch.Tensor) -> torch.Tensor:
        """uint8 [S, S, 3] each, or together [n, S, S, 3] on any device, to float32 [n, 3, S, S] with zero mean and unit
        variance."""
        together = squares if isinstance(squares, torch.Tensor) else torch.from_numpy(np.stack(squares))
        values = together.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)  # [n, 3, S, S]
        mean, std = (values.new_tensor(value).view(1, 3, 1, 1) for value in (self.image_mean, self.image_std))
        return values.sub_(255 * mean).div_(255 * std)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def render(self, conversation: Conversation, branches: bool = False) -> dict[str, list[int]]:
        """One conversation as lists of equal length: input_ids, labels, segment_ids, position_ids.

        All images come first, then the messages. Labels are the answers and their end token; everything else is -100.
        A conversation that ends with the user gets the assistant's prefix: it waits for an answer.
        branches: each question and its answer is a segment of its own behind the images, blind to the others.
        Raises EarthGPTError for a text that holds ``image_token``.
        """
        bos = self.tokenizer.bos_token_id
        shared = [] if bos is None else [bos]
        shared += [self.image_token_id] * (self.tokens_per_image * len(conversation.images))
        ids, labels = list(shared), [IGNORED] * len(shared)
        segments, positions = [0] * len(shared), list(range(len(shared)))

        def add(tokens: list[int], learned: bool, segment: int, start: int) -> None:
            ids.extend(tokens)
            labels.extend(tokens if learned else [IGNORED] * len(tokens))
            segments.extend([segment] * len(tokens))
            positions.extend(range(start, start + len(tokens)))

        for i, message in enumerate(conversation.messages):
            if self.image_token in message.text:
                raise EarthGPTError(f"{self.image_token} stands for an image and cannot be part of a text.")
            segment = i // 2 + 1 if branches else 0
            following = positions[-1] + 1 if positions else 0
            if message.role == "user":
                start = len(shared) if branches else following
                add(self._ids(self.user + message.text + self.assistant), False, segment, start)
            else:
                add([*self._ids(message.text), self.tokenizer.eos_token_id], True, segment, following)
        return {"input_ids": ids, "labels": labels, "segment_ids": segments, "position_ids": positions}

    def batch(
        self, conversations: Sequence[Conversation], squares: Sequence[np.ndarray], padding_side: str = "right"
    ) -> BatchFeature:
        """Conversations padded to one length [B, T] and the squares of all their images, in order, [n, 3, S, S].

        Raises EarthGPTError when the number of images is not what the conversations say.
        """
        _agree(conversations, squares)
        rows = [self.render(conversation) for conversation in conversations]
        length = max(len(row["input_ids"]) for row in rows)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        tensors = {"attention_mask": _padded([[1] * len(row["input_ids"]) for row in rows], length, 0, padding_side)}
        for name, value in {"input_ids": pad, "labels": IGNORED, "position_ids": 0}.items():
            tensors[name] = _padded([row[name] for row in rows], length, value, padding_side)
        if squares:
            tensors["pixel_values"] = self.normalise(squares)
        return BatchFeature(tensors)

    def pack(
        self,
        rendered: Sequence[dict[str, list[int]]],
        images: Sequence[np.ndarray | torch.Tensor],
        normalise: bool = True,
    ) -> BatchFeature:
        """What ``render`` returned, one after the other in one row [1, T] without padding, and their images, in order.

        ``segments`` keep the conversations apart (``attention.Segment``). An image is a square (uint8 [S, S, 3]), or
        the features of frozen encoders [h * w, C]; then ``known`` [n] tells which are which. Without ``normalise``, the
        squares are ``pixel_values`` as they are, uint8 [n, S, S, 3].
        """
        segments, offset = [], 0
        for row in rendered:
            segments += segments_of(row["segment_ids"], offset)
            offset += len(row["input_ids"])
        names = ("input_ids", "labels", "position_ids")
        tensors = {name: torch.tensor([[value for row in rendered for value in row[name]]]) for name in names}
        features = [one for one in images if isinstance(one, torch.Tensor)]
        squares = [one for one in images if not isinstance(one, torch.Tensor)]
        if squares:
            tensors["pixel_values"] = self.normalise(squares) if normalise else torch.from_numpy(np.stack(squares))
        if features:
            tensors["image_features"] = torch.stack(features)
            tensors["known"] = torch.tensor([isinstance(one, torch.Tensor) for one in images])
        return BatchFeature({**tensors, "segments": segments})

    def __call__(self, images=None, text=None, sensor: Sensor = Sensor.OPTICAL, **kwargs) -> BatchFeature:
        """Images and questions ready for ``generate``.

        images: one or a list of PIL images or arrays. text: a question or Conversation, or a list with one for each
        image; None gives pixels only, as inference engines ask for them.
        """
        images = [] if images is None else images if isinstance(images, (list, tuple)) else [images]
        squares = [self.square(image, sensor) for image in images]
        if text is None:
            return BatchFeature({"pixel_values": self.normalise(squares)})
        single = isinstance(text, (str, Conversation))
        texts = [text] if single else list(text)
        held = [tuple(images)] if single else [(image,) for image in images] or [()] * len(texts)
        conversations = [
            one if isinstance(one, Conversation) else Conversation.of(own, one)
            for one, own in zip(texts, held, strict=True)
        ]
        return self._asked(conversations, squares)

    def _asked(self, conversations: Sequence[Conversation], squares: Sequence[np.ndarray]) -> BatchFeature:
        """What ``generate`` takes, padded on the left."""
        inputs = self.batch(conversations, squares, padding_side="left")
        del inputs["labels"], inputs["position_ids"]
        return inputs

    def apply_chat_template(self, conversation, *options, tokenize: bool = False, **named):
        """A chat, or a list of chats, as transformers has them, as text; with ``tokenize``, as ``generate`` takes them.

        ``chat_template.conversation_of`` says what a chat may hold. An answer is always asked for after a question.
        """
        if not tokenize:
            return super().apply_chat_template(conversation, *options, **named)
        chats = [conversation] if isinstance(conversation[0], Mapping) else conversation
        conversations = [conversation_of(chat) for chat in chats]
        return self._asked(conversations, [self.square(image) for one in conversations for image in one.images])

    @property
    def model_input_names(self) -> list[str]:
        """What ``__call__`` returns."""
        return ["input_ids", "attention_mask", "pixel_values"]


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [h, w, 3] to [side, side, 3], bicubically and with antialiasing, as Pillow does it: at most one level off,
    at a fourth of the time."""
    planes = torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)[None]  # [1, 3, h, w]
    small = torch.nn.functional.interpolate(planes, size=(side, side), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


def _agree(conversations: Sequence[Conversation], squares: Sequence[np.ndarray]) -> None:
    expected = sum(len(conversation.images) for conversation in conversations)
    if expected != len(squares):
        raise EarthGPTError(f"The conversations speak of {expected} image(s), but {len(squares)} were given.")


def _padded(rows: Sequence[list[int]], length: int, value: int, side: str) -> torch.Tensor:
    rest = [[value] * (length - len(row)) for row in rows]
    return torch.tensor([a + b if side == "right" else b + a for a, b in zip(rows, rest, strict=True)])
