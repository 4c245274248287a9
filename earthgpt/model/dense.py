"""Dense supervision: what every visual token says of the scene and of the object at its place, without any language.

The heads are auxiliary: they teach the encoders and the projector while a model trains, and no answer uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from earthgpt.coordinates import padded_square
from earthgpt.types import Sample

BINS = 101  # 0.00, 0.01, ..., 1.00 of the padded square
UNKNOWN = -1


@dataclass(frozen=True)
class DenseTargets:
    """What the heads should say of n images, on a grid of N places each.

    scene [n]: index of the class of the scene, -1 where none is stated. choices [n, S]: classes that it was chosen
    from. objects [n, N, C]: 1 for a class with an object at the place, 0 for none, -1 where nobody knows. boxes
    [n, N, 4]: left, top, right, bottom of that object in the padded square, in [0, 1]; -1 where there is none.
    """

    scene: torch.Tensor
    choices: torch.Tensor
    objects: torch.Tensor
    boxes: torch.Tensor

    @classmethod
    def join(cls, parts: Sequence[DenseTargets]) -> DenseTargets:
        """Those of several groups of images as one."""
        return cls(*(torch.cat([getattr(one, name) for one in parts]) for name in cls.__annotations__))

    def to(self, device: torch.device) -> DenseTargets:
        """The same on another device."""
        return DenseTargets(*(getattr(self, name).to(device) for name in self.__annotations__))


@dataclass(frozen=True)
class Vocabulary:
    """The classes that the heads tell apart: of scenes, and of objects."""

    scenes: tuple[str, ...]
    objects: tuple[str, ...]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Vocabulary:
        """All classes that some samples choose from, by name."""
        scenes: set[str] = set()
        objects: set[str] = set()
        for sample in samples:
            scenes.update(sample.choices)
            objects.update(sample.classes)
        return cls(tuple(sorted(scenes)), tuple(sorted(objects)))

    @classmethod
    def from_dict(cls, names: Mapping[str, Sequence[str]]) -> Vocabulary:
        """What ``to_dict`` gave."""
        return cls(tuple(names["scenes"]), tuple(names["objects"]))

    def to_dict(self) -> dict[str, list[str]]:
        """As a configuration keeps it."""
        return {"scenes": list(self.scenes), "objects": list(self.objects)}

    def targets(self, sample: Sample | None, grid: int) -> DenseTargets:
        """The targets of one image (n = 1); None for an image of which no facts are known.

        An object is at the place that holds its centre and at those whose own centre lies in its inner half (the
        centre sampling of FCOS, Tian et al., 2019); where several are, the smallest is.
        """
        scene = torch.full((1,), UNKNOWN)
        if sample is None:
            choices = torch.zeros(1, len(self.scenes), dtype=torch.bool)
            objects = torch.full((1, grid * grid, len(self.objects)), float(UNKNOWN))
            return DenseTargets(scene, choices, objects, torch.full((1, grid * grid, 4), float(UNKNOWN)))
        choices = torch.tensor([[name in sample.choices for name in self.scenes]])
        if sample.label is not None:
            scene[0] = self.scenes.index(sample.label)
        absent = 0.0 if sample.complete else float(UNKNOWN)
        known = torch.tensor([absent if name in sample.classes else float(UNKNOWN) for name in self.objects])
        objects = known.repeat(grid, grid, 1)
        boxes = torch.full((grid, grid, 4), float(UNKNOWN))
        frame = padded_square(sample.size)
        bounds = [(*frame.numbers((b.left, b.top)), *frame.numbers((b.right, b.bottom)), one.label)
                  for one in sample.regions for b in [one.box.bounds]]  # fmt: skip
        for left, top, right, bottom, label in sorted(bounds, key=lambda b: (b[0] - b[2]) * (b[3] - b[1])):
            if label not in self.objects:
                continue
            columns, rows = _inner(left, right, grid), _inner(top, bottom, grid)
            number = self.objects.index(label)
            objects[rows[0] : rows[1], columns[0] : columns[1], number] = 1.0
            boxes[rows[0] : rows[1], columns[0] : columns[1]] = torch.tensor([left, top, right, bottom])
        return DenseTargets(scene, choices, objects.flatten(0, 1)[None], boxes.flatten(0, 1)[None])


def _inner(low: float, high: float, grid: int) -> tuple[int, int]:
    """The places (first, last + 1) along one side that an object from ``low`` to ``high`` is at."""
    middle, quarter = (low + high) / 2 * grid, (high - low) / 4 * grid
    own = min(int(middle), grid - 1)
    # Those whose centre i + 0.5 lies in the inner half.
    first, last = math.ceil(middle - quarter - 0.5), math.ceil(middle + quarter - 0.5)
    return max(0, min(first, own)), min(grid, max(last, own + 1))


class DenseHeads(nn.Module):
    """Linear readings of the visual tokens: whatever they find, a layer of attention can find too."""

    def __init__(self, width: int, vocabulary: Vocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self.scene = nn.Linear(width, len(vocabulary.scenes))
        self.object = nn.Linear(width, len(vocabulary.objects))
        self.box = nn.Linear(width, 4 * BINS)
        nn.init.constant_(self.object.bias, -4.6)  # objects are rare: 1 % (RetinaNet, Lin et al., 2017)

    def read(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Visual tokens [n, N, D] to logits: of scenes [n, S], objects [n, N, C], edges [n, N, 4, BINS]."""
        return self.scene(tokens.mean(dim=1)), self.object(tokens), self.box(tokens).unflatten(-1, (4, BINS))

    def forward(self, tokens: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
        """The loss (scalar) for visual tokens [n, N, D]: cross entropy of the scene among its choices, focal loss of
        the objects, and for each box the distribution focal and generalized IoU losses (Li et al., 2020); each is a
        mean over the images, or the places with an object, that have one.
        """
        scene, objects, edges = (one.float() for one in self.read(tokens))
        scene = scene.masked_fill(~targets.choices, -1e4)
        stated = targets.scene != UNKNOWN
        loss = functional.cross_entropy(scene, targets.scene, ignore_index=UNKNOWN, reduction="sum")
        loss = loss / stated.sum().clamp(min=1)
        known = targets.objects != UNKNOWN
        positive = targets.boxes[..., 0] != UNKNOWN  # [n, N]
        count = positive.sum().clamp(min=1)
        loss = loss + (focal_loss(objects, targets.objects.clamp(min=0)) * known).sum() / count
        edges, boxes = edges[positive], targets.boxes[positive].clamp(0, 1)  # [m, 4, BINS], [m, 4]
        scaled = boxes * (BINS - 1)
        lower = scaled.floor().clamp(max=BINS - 2)
        likely = edges.log_softmax(-1)
        below = likely.gather(-1, lower.long()[..., None])[..., 0]
        above = likely.gather(-1, lower.long()[..., None] + 1)[..., 0]
        part = scaled - lower
        loss = loss - ((1 - part) * below + part * above).sum() / (4 * count)
        found = expected_edges(edges)
        return loss + (1 - generalized_iou(found, boxes)).sum() / count


def expected_edges(edges: torch.Tensor) -> torch.Tensor:
    """Logits of edges [..., BINS] to their expected values [...], in [0, 1]."""
    values = torch.linspace(0, 1, BINS, device=edges.device)
    return (edges.float().softmax(-1) * values).sum(-1)


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Of each logit with its target in [0, 1], any shape (RetinaNet, Lin et al., 2017, equation 5)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    sure = logits.sigmoid()
    wrong = sure + targets - 2 * sure * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * wrong**gamma * entropy


def generalized_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of pairs of boxes [m, 4] (left, top, right, bottom), in (-1, 1] (Rezatofighi et al., 2019).

    A box whose edges are in the wrong order has no area.
    """

    def area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return (high - low).clamp(min=0).prod(-1)

    (low, high), (other_low, other_high) = boxes.split(2, -1), others.split(2, -1)
    shared = area(torch.maximum(low, other_low), torch.minimum(high, other_high))
    union = area(low, high) + area(other_low, other_high) - shared
    hull = area(torch.minimum(low, other_low), torch.maximum(high, other_high))
    tiny = torch.finfo(boxes.dtype).tiny
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)
