"""Dense heads: what the visual tokens say of the scene and of the object at each place, without any language.

They teach the encoders and the projector while a model trains, and find the objects that answers speak of (``find``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from earthgpt.coordinates import padded_square
from earthgpt.metrics.overlaps import areas, over_union, overlaps
from earthgpt.types import EarthGPTError, OrientedBox, Region, Sample

FINER = (2, 4)  # places along a side for each visual token, of the coarse level and of the fine one
WIDTHS, DEPTHS = (128, 64), (2, 1)  # channels and 3 x 3 convolutions of the levels
# The objects that a level finds, by their longer side in visual tokens: from, and below. Some are found on both.
RANGES = ((0.75, math.inf), (0.0, 2.0))
BINS = 17
REACH = 32.0  # of the largest distance, in places
UNKNOWN = -1


@dataclass(frozen=True)
class DenseTargets:
    """What the heads should say of n images, at N places each: those of the levels, one after the other (``places``).

    scene [n]: index of the class of the scene, -1 where none is stated. choices [n, S]: classes that it was chosen
    from. objects [n, N, C], int8: 1 for the class of the object at the place, 0 for none, -1 where nobody knows. where
    [m, 2]: image and place of each place with an object. boxes [m, 4]: left, top, right, bottom of that object in the
    padded square, in [0, 1]. turns [m, 4]: how its oriented box lies in that one (``turn_of``); 0 where nobody knows.
    """

    scene: torch.Tensor
    choices: torch.Tensor
    objects: torch.Tensor
    where: torch.Tensor
    boxes: torch.Tensor
    turns: torch.Tensor

    @classmethod
    def join(cls, parts: Sequence[DenseTargets]) -> DenseTargets:
        """Those of several groups of images as one."""
        joined = {name: torch.cat([getattr(one, name) for one in parts]) for name in cls.__annotations__}
        first = accumulate((len(one.scene) for one in parts[:-1]), initial=0)  # image of each group
        before = [torch.full((len(one.where), 1), number) for one, number in zip(parts, first, strict=True)]
        joined["where"] = joined["where"] + functional.pad(torch.cat(before), (0, 1))
        return cls(**joined)

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

    def holds(self, other: Vocabulary) -> bool:
        """Whether it has all classes of another."""
        pairs = ((self.scenes, other.scenes), *((self.seen_by(one), names) for one, names in other.sensors.items()))
        return all(set(names) <= set(own) for own, names in pairs)

    def seen_by(self, sensor: str) -> tuple[str, ...]:
        """The objects that images of a sensor may show."""
        return self.sensors.get(str(sensor), self.objects)

    @classmethod
    def from_dict(cls, names: Mapping[str, Any]) -> Vocabulary:
        """What ``to_dict`` gave. Raises EarthGPTError for what an older version wrote, whose heads were others."""
        if "sensors" not in names:
            raise EarthGPTError("The dense heads of this model are of an older form: train it again, with `dense`.")
        sensors = {sensor: tuple(objects) for sensor, objects in names["sensors"].items()}
        return cls(tuple(names["scenes"]), tuple(names["objects"]), sensors)

    def to_dict(self) -> dict[str, Any]:
        """As a configuration keeps it."""
        sensors = {sensor: list(objects) for sensor, objects in self.sensors.items()}
        return {"scenes": list(self.scenes), "objects": list(self.objects), "sensors": sensors}

    def targets(self, sample: Sample | None, side: int) -> DenseTargets:
        """The targets of one image (n = 1) of side x side visual tokens; None for an image of which no facts are known.

        An object is at the place that holds its centre and at those within two of it whose own centre lies in its inner
        half (centre sampling, FCOS, Tian et al., 2019), on the levels for its size (``RANGES``); where several are, the
        smallest is. Nobody knows what is at the places of an object that is cut. Of a class that is stated, all objects
        of the image are, even where its absence from others would tell nothing.
        """
        scene = torch.full((1,), UNKNOWN)
        choices = torch.zeros(1, len(self.scenes), dtype=torch.bool)
        count = sum((finer * side) ** 2 for finer in FINER)
        if sample is None:
            objects = torch.full((1, count, len(self.objects)), UNKNOWN, dtype=torch.int8)
            none = torch.zeros(0, 4)
            return DenseTargets(scene, choices, objects, torch.zeros(0, 2, dtype=torch.long), none, none)
        choices = torch.tensor([[name in sample.choices for name in self.scenes]], dtype=torch.bool)
        if sample.label in sample.choices and sample.label in self.scenes:  # without a list it is one of none
            scene[0] = self.scenes.index(sample.label)
        frame = padded_square(sample.size)

        def bounds(region: Region) -> tuple[float, float, float, float]:
            box = region.box.bounds
            return (*frame.numbers((box.left, box.top)), *frame.numbers((box.right, box.bottom)))

        absent = 0 if sample.complete or sample.cut else UNKNOWN
        told = {*sample.classes, *(one.label for one in sample.regions)}
        known = np.array([absent if name in told else UNKNOWN for name in self.objects], np.int8)
        stated = [(bounds(one), one) for one in sample.regions if one.label in self.objects]
        stated.sort(key=lambda pair: (pair[0][0] - pair[0][2]) * (pair[0][3] - pair[0][1]))  # the largest first
        cut = [bounds(one) for one in sample.cut]
        objects, where, first = [], [], 0
        for finer, (least, most) in zip(FINER, RANGES, strict=True):
            grid = finer * side
            classes, owner = np.tile(known, (grid, grid, 1)), np.full((grid, grid), UNKNOWN)
            for left, top, right, bottom in cut:
                columns = slice(int(left * grid), math.ceil(right * grid))
                classes[int(top * grid) : math.ceil(bottom * grid), columns] = UNKNOWN
            for number, ((left, top, right, bottom), one) in enumerate(stated):
                if least <= side * max(right - left, bottom - top) < most:
                    there = _inner(top, bottom, grid), _inner(left, right, grid)
                    classes[there][classes[there] == 1] = UNKNOWN  # of what lies behind; these are views
                    classes[(*there, self.objects.index(one.label))] = 1
                    owner[there] = number
            rows, columns = (owner != UNKNOWN).nonzero()
            objects.append(classes.reshape(grid * grid, len(self.objects)))
            where.append(np.stack([first + rows * grid + columns, owner[rows, columns]]))
            first += grid * grid
        places, owners = np.concatenate(where, axis=1)
        turns = [turn_of(list(map(frame.numbers, one.box.corners))) if isinstance(one.box, OrientedBox) else (0.0,) * 4
                 for _, one in stated]  # fmt: skip
        return DenseTargets(
            scene,
            choices,
            torch.from_numpy(np.concatenate(objects))[None],
            torch.from_numpy(np.stack([np.zeros_like(places), places], axis=-1)),
            *(torch.tensor(one).view(len(stated), 4)[owners] for one in ([box for box, _ in stated], turns)),
        )


def _inner(low: float, high: float, grid: int) -> slice:
    """The places along one side that an object from ``low`` to ``high`` is at."""
    middle, quarter = (low + high) / 2 * grid, min((high - low) / 4 * grid, 2.0)
    own = min(int(middle), grid - 1)
    # Those whose centre i + 0.5 lies that near to the middle.
    first, last = math.ceil(middle - quarter - 0.5), math.ceil(middle + quarter - 0.5)
    return slice(max(0, min(first, own)), min(grid, max(last, own + 1)))


class DenseHeads(nn.Module):
    """A small detector on the visual tokens and the finest maps of the CNN, and the class of the scene.

    The scene is a linear reading of the tokens' mean. Objects are read on two levels, a coarse grid and one twice as
    fine for small objects (``FINER``, ``RANGES``; a feature pyramid, Lin et al., 2017), at each place: their class,
    with the overlap that its box is likely to have as the score, the distances from the place to the edges of the box,
    each as a distribution (generalized focal loss, Li et al., 2020), and how the oriented box lies in it (``turn_of``).
    """

    def __init__(self, width: int, details: Sequence[int], vocabulary: Vocabulary):
        """``width``: channels of the visual tokens; ``details``: of the CNN's maps for each level."""
        super().__init__()
        self.vocabulary = vocabulary
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of heads without a class
            self.scene = nn.Linear(width, len(vocabulary.scenes))
            self.levels = nn.ModuleList(
                Level(before, detail, own, depth, len(vocabulary.objects))
                for before, detail, own, depth in zip((width, *WIDTHS[:-1]), details, WIDTHS, DEPTHS, strict=True)
            )

    def read(self, tokens: torch.Tensor, details: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Visual tokens [n, h * h, D] and the CNN's maps for each level [n, F, FINER * h, FINER * h] to logits: of
        scenes [n, S], objects [n, N, C], distances to the edges [n, N, 4, BINS] of N places (``places``); and turns
        [n, N, 4].
        """
        side = math.isqrt(tokens.shape[1])
        there, said = tokens.transpose(1, 2).unflatten(2, (side, side)), []
        for level, detail in zip(self.levels, details, strict=True):
            there = level(there, detail)
            said.append(level.say(there))
        objects, edges, turns = (torch.cat(one, dim=1) for one in zip(*said, strict=True))
        return self.scene(tokens.mean(dim=1)), objects, edges.unflatten(-1, (4, BINS)), turns

    @torch.no_grad()
    def find(
        self,
        views: Iterable[tuple[torch.Tensor, Sequence[torch.Tensor]]],
        classes: Sequence[str],
        least: float,
        most: int = 300,
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The objects of some ``classes`` in each of n images: corners of oriented boxes [k, 4, 2] in the padded
        square, numbers of their classes in the vocabulary [k], scores [k] in [0, 1] of at least ``least``; the best
        ``most``, best first.

        views: tokens and maps of the images in one or several sizes, as ``read`` takes them. Of upright boxes of a
        class that overlap by half, or of which one lies in the other by 0.7, and of any that overlap by 0.8, the best
        stays.
        """
        found: list[list[tuple[torch.Tensor, ...]]] = []
        for view in views:
            _, objects, edges, turns = (one.float() for one in self.read(*view))
            names = self.vocabulary.objects
            wanted = torch.tensor([name in classes for name in names], dtype=torch.bool, device=objects.device)
            centres, lengths = places(math.isqrt(view[0].shape[1]), edges.device)
            scores = objects.sigmoid()  # [n, N, C]
            found = found or [[] for _ in scores]
            for parts, own, score, turn in zip(found, edges, scores, turns, strict=True):
                place, kind = ((score >= least) & wanted).nonzero(as_tuple=True)
                boxes = boxes_of(own[place], centres[place], lengths[place]).clamp(0, 1)
                parts.append((boxes, turn[place], kind, score[place, kind]))
        return [_kept([torch.cat(one).cpu() for one in zip(*parts, strict=True)], most) for parts in found]

    @torch.no_grad()
    def rescale_objects(self, scale: float, shifts: float | Sequence[float]) -> None:
        """Scales and shifts the logits of objects, from now on; each class by its own shift, or all by one."""
        for level in self.levels:
            level.object.weight *= scale
            level.object.bias.mul_(scale).add_(level.object.bias.new_tensor(shifts))

    @torch.no_grad()
    def rescale_scenes(self, scale: float) -> None:
        """Scales the logits of scenes, from now on."""
        self.scene.weight *= scale
        self.scene.bias *= scale

    def forward(self, tokens: torch.Tensor, details: Sequence[torch.Tensor], targets: DenseTargets) -> torch.Tensor:
        """The loss (scalar): cross entropy of the scene among its choices, and of the objects the quality focal loss,
        distribution focal and generalized IoU losses, weighed as by Li et al., and the squared error of the turns; each
        is a mean over the images, or the places with an object, that have one.
        """
        scene, objects, edges, turns = (one.float() for one in self.read(tokens, details))
        scene = scene.masked_fill(~targets.choices, -1e4)
        stated = targets.scene != UNKNOWN
        loss = functional.cross_entropy(scene, targets.scene, ignore_index=UNKNOWN, reduction="sum")
        loss = loss / stated.sum().clamp(min=1)
        image, place = targets.where.unbind(1)
        count = max(1, len(place))
        centres, lengths = places(math.isqrt(tokens.shape[1]), edges.device)
        edges, centres, lengths = edges[image, place], centres[place], lengths[place]  # of m places
        found = boxes_of(edges, centres, lengths)
        boxes = targets.boxes.clamp(0, 1)
        quality = objects.new_zeros(objects.shape[:-1])
        quality[image, place] = iou(found, boxes).detach()
        known = targets.objects != UNKNOWN
        aim = targets.objects.clamp(min=0) * quality[..., None]
        loss = loss + (quality_focal_loss(objects, aim) * known).sum() / count
        distances = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=-1) / lengths[:, None]
        likely = distribution_focal_loss(edges, distances).sum() / 4
        loss = loss + (0.25 * likely + 2 * (1 - generalized_iou(found, boxes)).sum()) / count
        turned = targets.turns.any(dim=-1)
        apart = (turns[image, place] - targets.turns) ** 2 * turned[:, None]
        return loss + apart.sum() / turned.sum().clamp(min=1)


class Level(nn.Module):
    """One grid of the dense heads: what comes from the coarser one before it, what the CNN sees there, and what is read
    from both."""

    def __init__(self, before: int, detail: int, width: int, depth: int, classes: int):
        """``before``, ``detail``, ``width``: channels of the coarser map, of the CNN's, and of this level; ``depth``:
        how many 3 x 3 convolutions it has."""
        super().__init__()
        self.coarse, self.fine = nn.Conv2d(before, width, 1), nn.Conv2d(detail, width, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(depth + 1))
        self.object = nn.Linear(width, classes)
        self.edges = nn.Linear(width, 4 * BINS)
        self.turn = nn.Linear(width, 4)
        nn.init.constant_(self.object.bias, -4.6)  # objects are rare: 1 % (RetinaNet, Lin et al., 2017)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Maps [n, before, h, h] and [n, detail, 2 h, 2 h] to [n, width, 2 h, 2 h]."""
        there = functional.interpolate(self.coarse(coarse), scale_factor=2, mode="nearest") + self.fine(fine)
        there = functional.relu(self.norms[0](there))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            there = there + functional.relu(norm(layer(there)))
        return there

    def say(self, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a map [n, width, g, g]: logits of objects [n, g * g, C] and of edges [n, g * g, 4 * BINS], and turns."""
        there = there.flatten(2).transpose(1, 2)
        return self.object(there), self.edges(there), self.turn(there)


def turn_of(corners: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """How an oriented box, of four corners (x, y), lies in its hull: how far along the upper side its upmost corner is,
    and along the right side, downwards, its rightmost (gliding vertices, Xu et al., 2020), each in [0, 1] as the cosine
    and sine of that part of a circle: 0 and 1 are the same upright box.
    """
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    right, bottom = max(x for x, _ in corners), max(y for _, y in corners)
    slides = (
        (min(x for x, y in corners if y == top) - left) / max(right - left, 1e-9),
        (min(y for x, y in corners if x == right) - top) / max(bottom - top, 1e-9),
    )
    return tuple(wave(2 * math.pi * slide) for slide in slides for wave in (math.cos, math.sin))


def corners_of(boxes: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The corners [k, 4, 2] of oriented boxes, from their hulls [k, 4] and turns [k, 4] (``turn_of``)."""
    x, y = (np.arctan2(turns[:, i + 1], turns[:, i]) / (2 * np.pi) for i in (0, 2))  # in [-0.5, 0.5]
    # Of a box that is nearly upright both lie on the same side of 0; the one that is nearer may have missed it.
    odd, nearer = (x * y < 0) & (np.minimum(abs(x), abs(y)) < 0.06), abs(x) < abs(y)
    x, y = np.where(odd & nearer, -x, x) % 1, np.where(odd & ~nearer, -y, y) % 1
    left, top, right, bottom = boxes.T
    across, down = x * (right - left), y * (bottom - top)
    xs, ys = (left + across, right, right - across, left), (top, top + down, bottom, bottom - down)
    return np.stack([np.stack(xs, axis=-1), np.stack(ys, axis=-1)], axis=-1)


def _kept(found: Sequence[torch.Tensor], most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of boxes [m, 4], turns, kinds and scores those that stay, as ``DenseHeads.find`` tells them."""
    boxes, turns, kinds, scores = found
    order = scores.argsort(descending=True, stable=True)[: 10 * most]
    boxes, kinds, scores = boxes[order].double().numpy(), kinds[order].numpy(), scores[order].double().numpy()
    kept = _best(boxes, kinds)[:most]
    return corners_of(boxes[kept], turns[order].double().numpy()[kept]), kinds[kept], scores[kept]


def _best(boxes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Which boxes [k, 4], best first, are kept: those that no better one overlaps too much."""
    kept, left, covered = [], np.arange(len(boxes)), areas(boxes)
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        both, union = overlaps(np.repeat(boxes[first][None], len(left), 0), boxes[left])
        part = over_union(both, np.minimum(covered[first], covered[left]))  # of the smaller of the two
        near, same = over_union(both, union), kinds[left] == kinds[first]
        left = left[np.where(same, (near < 0.5) & (part < 0.7), near < 0.8)]
    return np.array(kept, int)


def distances_of_bins(device: torch.device | None = None) -> torch.Tensor:
    """What each of the ``BINS`` stands for [BINS], in places: from -0.5, for an object smaller than its place, by ever
    larger steps to ``REACH``."""
    return torch.expm1(torch.linspace(0, math.log1p(REACH + 0.5), BINS, device=device)) - 0.5


def places(side: int, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The places of all levels for side x side visual tokens, each level row by row: their centres (x, y) [N, 2] and
    the lengths of their sides [N], in [0, 1]."""
    centres, lengths = [], []
    for grid in (finer * side for finer in FINER):
        line = (torch.arange(grid, device=device) + 0.5) / grid
        centres.append(torch.stack([line.repeat(grid), line.repeat_interleave(grid)], dim=-1))
        lengths.append(torch.full((grid * grid,), 1 / grid, device=device))
    return torch.cat(centres), torch.cat(lengths)


def boxes_of(edges: torch.Tensor, centres: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Logits of the distances from m places to the edges of boxes [m, 4, BINS], with the places (``places``), to boxes
    [m, 4] in the padded square: those of the expected distances."""
    distances = (edges.float().softmax(-1) * distances_of_bins(edges.device)).sum(-1) * lengths[:, None]
    return torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], dim=-1)


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
