"""Dense heads: what the visual tokens say of the scene and of the object at each place, without any language.

They teach the encoders and the projector while a model trains, and find the objects that answers speak of (``find``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from earthgpt.coordinates import padded_square
from earthgpt.metrics.overlaps import ious
from earthgpt.types import Region, Sample

FINER = 2  # places along a side for each visual token
WIDTH = 128  # channels of the heads
BINS = 17
REACH = 32.0  # of the largest distance, in places
UNKNOWN = -1


@dataclass(frozen=True)
class DenseTargets:
    """What the heads should say of n images, on a grid of N places each.

    scene [n]: index of the class of the scene, -1 where none is stated. choices [n, S]: classes that it was chosen
    from. objects [n, N, C]: 1 for the class of the object at the place, 0 for none, -1 where nobody knows. boxes
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
    """The classes that the heads tell apart: of scenes, and of objects. ``sensors`` says which of the objects images of
    each sensor may show."""

    scenes: tuple[str, ...]
    objects: tuple[str, ...]
    sensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Vocabulary:
        """All classes that some samples choose from, by name."""
        scenes: set[str] = set()
        sensors: dict[str, set[str]] = {}
        for sample in samples:
            scenes.update(sample.choices)
            sensors.setdefault(str(sample.sensor), set()).update(sample.classes)
        objects = tuple(sorted(set().union(*sensors.values())))
        by_sensor = {sensor: tuple(sorted(names)) for sensor, names in sorted(sensors.items())}
        return cls(tuple(sorted(scenes)), objects, by_sensor)

    @classmethod
    def from_dict(cls, names: Mapping[str, Any]) -> Vocabulary:
        """What ``to_dict`` gave."""
        sensors = {sensor: tuple(objects) for sensor, objects in names["sensors"].items()}
        return cls(tuple(names["scenes"]), tuple(names["objects"]), sensors)

    def to_dict(self) -> dict[str, Any]:
        """As a configuration keeps it."""
        sensors = {sensor: list(objects) for sensor, objects in self.sensors.items()}
        return {"scenes": list(self.scenes), "objects": list(self.objects), "sensors": sensors}

    def targets(self, sample: Sample | None, grid: int) -> DenseTargets:
        """The targets of one image (n = 1) on a grid; None for an image of which no facts are known.

        An object is at the place that holds its centre and at those within two of it whose own centre lies in its inner
        half (centre sampling, FCOS, Tian et al., 2019); where several are, the smallest is. Nobody knows what is at the
        places of an object that is cut.
        """
        scene = torch.full((1,), UNKNOWN)
        if sample is None:
            choices = torch.zeros(1, len(self.scenes), dtype=torch.bool)
            objects = torch.full((1, grid * grid, len(self.objects)), float(UNKNOWN))
            return DenseTargets(scene, choices, objects, torch.full((1, grid * grid, 4), float(UNKNOWN)))
        choices = torch.tensor([[name in sample.choices for name in self.scenes]])
        if sample.label is not None:
            scene[0] = self.scenes.index(sample.label)
        absent = 0.0 if sample.complete or sample.cut else float(UNKNOWN)
        known = torch.tensor([absent if name in sample.classes else float(UNKNOWN) for name in self.objects])
        objects = known.repeat(grid, grid, 1)
        boxes = torch.full((grid, grid, 4), float(UNKNOWN))
        frame = padded_square(sample.size)

        def bounds(region: Region) -> tuple[float, float, float, float]:
            box = region.box.bounds
            return (*frame.numbers((box.left, box.top)), *frame.numbers((box.right, box.bottom)))

        for left, top, right, bottom in map(bounds, sample.cut):
            columns = slice(int(left * grid), math.ceil(right * grid))
            objects[int(top * grid) : math.ceil(bottom * grid), columns] = UNKNOWN
        stated = [(*bounds(one), self.objects.index(one.label)) for one in sample.regions if one.label in self.objects]
        for left, top, right, bottom, number in sorted(stated, key=lambda b: (b[0] - b[2]) * (b[3] - b[1])):
            places = _inner(top, bottom, grid), _inner(left, right, grid)
            there = objects[places]  # a view
            there[there == 1.0] = UNKNOWN  # of what lies behind
            there[..., number] = 1.0
            boxes[places] = torch.tensor([left, top, right, bottom])
        return DenseTargets(scene, choices, objects.flatten(0, 1)[None], boxes.flatten(0, 1)[None])


def _inner(low: float, high: float, grid: int) -> slice:
    """The places along one side that an object from ``low`` to ``high`` is at."""
    middle, quarter = (low + high) / 2 * grid, min((high - low) / 4 * grid, 2.0)
    own = min(int(middle), grid - 1)
    # Those whose centre i + 0.5 lies that near to the middle.
    first, last = math.ceil(middle - quarter - 0.5), math.ceil(middle + quarter - 0.5)
    return slice(max(0, min(first, own)), min(grid, max(last, own + 1)))


class DenseHeads(nn.Module):
    """A small detector on the visual tokens and the finest maps of the CNN, and the class of the scene.

    The scene is a linear reading of the tokens' mean. Objects are read at ``FINER`` places along each token's side, by
    two layers of 3 x 3 convolutions: their class, with the overlap that its box is likely to have as the score, and the
    distances from the place to the edges of the box, each as a distribution (generalized focal loss, Li et al., 2020).
    """

    def __init__(self, width: int, detail: int, vocabulary: Vocabulary):
        """``width``: channels of the visual tokens; ``detail``: of the finest maps."""
        super().__init__()
        self.vocabulary = vocabulary
        self.scene = nn.Linear(width, len(vocabulary.scenes))
        self.coarse = nn.Linear(width, WIDTH)
        self.fine = nn.Conv2d(detail, WIDTH, 1)
        self.layers = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(8, WIDTH) for _ in range(3))
        self.object = nn.Linear(WIDTH, len(vocabulary.objects))
        self.edges = nn.Linear(WIDTH, 4 * BINS)
        nn.init.constant_(self.object.bias, -4.6)  # objects are rare: 1 % (RetinaNet, Lin et al., 2017)

    def read(self, tokens: torch.Tensor, detail: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Visual tokens [n, h * h, D] and the finest maps [n, F, FINER * h, FINER * h] to logits: of scenes [n, S],
        objects [n, N, C], distances to the edges [n, N, 4, BINS] of N places, row by row.
        """
        side = math.isqrt(tokens.shape[1])
        coarse = self.coarse(tokens).transpose(1, 2).unflatten(2, (side, side))
        there = functional.interpolate(coarse, scale_factor=FINER, mode="nearest") + self.fine(detail)
        there = functional.relu(self.norms[0](there))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            there = there + functional.relu(norm(layer(there)))
        there = there.flatten(2).transpose(1, 2)  # [n, N, WIDTH]
        return self.scene(tokens.mean(dim=1)), self.object(there), self.edges(there).unflatten(-1, (4, BINS))

    @torch.no_grad()
    def find(
        self,
        views: Iterable[tuple[torch.Tensor, torch.Tensor]],
        classes: Sequence[str],
        least: float,
        most: int = 300,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The objects of some ``classes`` in an image: boxes [k, 4] in the padded square, numbers of their classes in
        the vocabulary [k], scores [k] in [0, 1] of at least ``least``; the best ``most``, best first.

        views: tokens and maps of the image in one or several sizes, as ``read`` takes them. Of boxes of a class that
        overlap by half, and of any that overlap by 0.8, the best is kept.
        """
        found = []
        for view in views:
            _, objects, edges = (one[0].float() for one in self.read(*view))
            wanted = torch.tensor([name in classes for name in self.vocabulary.objects], device=objects.device)
            scores = objects.sigmoid()
            place, kind = ((scores >= least) & wanted).nonzero(as_tuple=True)
            found.append((boxes_of(edges[None])[0, place].clamp(0, 1), kind, scores[place, kind]))
        boxes, kinds, scores = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        order = scores.argsort(descending=True, stable=True)[: 10 * most]
        boxes, kinds, scores = boxes[order].double().numpy(), kinds[order].numpy(), scores[order].double().numpy()
        kept = _best(boxes, kinds)[:most]
        return boxes[kept], kinds[kept], scores[kept]

    def forward(self, tokens: torch.Tensor, detail: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
        """The loss (scalar): cross entropy of the scene among its choices, and of the objects the quality focal loss,
        distribution focal and generalized IoU losses, weighed as by Li et al.; each is a mean over the images, or the
        places with an object, that have one.
        """
        scene, objects, edges = (one.float() for one in self.read(tokens, detail))
        scene = scene.masked_fill(~targets.choices, -1e4)
        stated = targets.scene != UNKNOWN
        loss = functional.cross_entropy(scene, targets.scene, ignore_index=UNKNOWN, reduction="sum")
        loss = loss / stated.sum().clamp(min=1)
        positive = targets.boxes[..., 0] != UNKNOWN  # [n, N]
        count = positive.sum().clamp(min=1)
        found = boxes_of(edges)[positive]  # [m, 4]
        boxes = targets.boxes[positive].clamp(0, 1)
        overlap = generalized_iou(found, boxes)
        quality = torch.zeros_like(targets.boxes[..., 0])
        quality[positive] = iou(found, boxes).detach()
        known = targets.objects != UNKNOWN
        aim = targets.objects.clamp(min=0) * quality[..., None]
        loss = loss + (quality_focal_loss(objects, aim) * known).sum() / count
        grid = math.isqrt(edges.shape[1])
        centres = places(grid, edges.device).expand(*positive.shape, 2)[positive]
        distances = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=-1) * grid
        likely = distribution_focal_loss(edges[positive], distances).sum() / 4
        return loss + (0.25 * likely + 2 * (1 - overlap).sum()) / count


def _best(boxes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Which boxes [k, 4], best first, are kept: those that no better one overlaps too much."""
    kept, left = [], np.arange(len(boxes))
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        overlap = ious(np.repeat(boxes[first][None], len(left), 0), boxes[left])
        left = left[overlap < np.where(kinds[left] == kinds[first], 0.5, 0.8)]
    return np.array(kept, int)


def distances_of_bins(device: torch.device | None = None) -> torch.Tensor:
    """What each of the ``BINS`` stands for [BINS], in places: from -0.5, for an object smaller than its place, by ever
    larger steps to ``REACH``."""
    return torch.expm1(torch.linspace(0, math.log1p(REACH + 0.5), BINS, device=device)) - 0.5


def places(grid: int, device: torch.device | None = None) -> torch.Tensor:
    """Centres (x, y) of the places of a grid [grid * grid, 2] in [0, 1], row by row."""
    line = (torch.arange(grid, device=device) + 0.5) / grid
    return torch.stack([line.repeat(grid), line.repeat_interleave(grid)], dim=-1)


def boxes_of(edges: torch.Tensor) -> torch.Tensor:
    """Logits of distances [n, N, 4, BINS] to boxes [n, N, 4] in the padded square: those of the expected distances."""
    grid = math.isqrt(edges.shape[1])
    distances = (edges.float().softmax(-1) * distances_of_bins(edges.device)).sum(-1) / grid
    centres = places(grid, edges.device)
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def distribution_focal_loss(edges: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Of logits [m, 4, BINS] and the distances [m, 4] that they should say, in places: cross entropy to the two bins
    around each, in the proportion that makes their mean right (Li et al., 2020, equation 6)."""
    values = distances_of_bins(edges.device)
    distances = distances.clamp(float(values[0]), float(values[-1]))
    above = torch.searchsorted(values, distances).clamp(1, BINS - 1)
    low, high = values[above - 1], values[above]
    part = (distances - low) / (high - low)
    likely = edges.log_softmax(-1)
    below = likely.gather(-1, above[..., None] - 1)[..., 0]
    return -((1 - part) * below + part * likely.gather(-1, above[..., None])[..., 0])


def quality_focal_loss(logits: torch.Tensor, quality: torch.Tensor, beta: float = 2.0) -> torch.Tensor:
    """Of each logit with the quality in [0, 1] that it should say, any shape (Li et al., 2020, equation 5)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (logits.sigmoid() - quality).abs() ** beta * entropy


def generalized_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of pairs of boxes [m, 4] (left, top, right, bottom), in (-1, 1] (Rezatofighi et al., 2019).

    A box whose edges are in the wrong order has no area.
    """

    (low, high), (other_low, other_high) = boxes.split(2, -1), others.split(2, -1)
    hull = _area(torch.minimum(low, other_low), torch.maximum(high, other_high))
    shared, union = _shared(boxes, others)
    tiny = torch.finfo(boxes.dtype).tiny
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of pairs of boxes [m, 4], in [0, 1]."""
    shared, union = _shared(boxes, others)
    return shared / union.clamp(min=torch.finfo(boxes.dtype).tiny)


def _shared(boxes: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (low, high), (other_low, other_high) = boxes.split(2, -1), others.split(2, -1)
    shared = _area(torch.maximum(low, other_low), torch.minimum(high, other_high))
    return shared, _area(low, high) + _area(other_low, other_high) - shared


def _area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (high - low).clamp(min=0).prod(-1)
