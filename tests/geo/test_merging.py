"""Objects are found once, whatever the seams: cut ones whole, duplicates gone, neighbours kept."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgpt.geo.merging import Detections, detections, merge
from earthgpt.geo.tiles import windows
from earthgpt.metrics.overlaps import ious

SIZE = (1000, 600)


def box(left, top, right, bottom):
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def found(*rows, size=SIZE) -> Detections:
    """Of (corners, label, score, upright, tile) each."""
    return detections(*(list(column) for column in zip(*rows, strict=True)), size)


def rows(merged: Detections) -> list[tuple]:
    """(corners, label, score) of each."""
    corners = [tuple(map(tuple, one)) for one in merged.corners.tolist()]
    return list(zip(corners, merged.labels, merged.scores.tolist(), strict=True))


def seen(boxes, tile=400, overlap=100, label="ship", size=SIZE):
    """What a detector that makes no mistakes finds in each tile: the part of every box that shows."""
    parts = []
    for window in windows(size, tile, overlap):
        left, top, width, height = window
        for a, b, c, d in boxes:
            a, c = max(a, left), min(c, left + width)
            b, d = max(b, top), min(d, top + height)
            if c - a >= 4 and d - b >= 4:
                parts.append((box(a, b, c, d), label, 0.9, True, window))
    return found(*parts, size=size)


def test_a_detection_knows_which_sides_cut_it_and_the_edge_of_the_scene_does_not():
    tile = (300, 0, 400, 400)
    cut = found(
        (box(300, 0, 350, 50), "ship", 1.0, True, tile),
        (box(500, 100, 698, 400), "ship", 1.0, True, tile),
        (box(900, 500, 1000, 600), "ship", 1.0, True, (600, 200, 400, 400)),
    ).cut
    assert cut.tolist() == [[True, False, False, False], [False, False, True, True], [False] * 4]


def test_one_thin_object_under_two_angles_is_one_and_two_beside_each_other_are_two():
    one = ((1342.0, 1393.0), (1393.0, 1395.0), (1391.0, 1436.0), (1340.0, 1434.0))
    thin = ((1344.0, 1395.0), (1347.0, 1393.0), (1391.0, 1433.0), (1388.0, 1436.0))  # across it, from corner to corner
    left, right = (0, 0, 2000, 2000), (1, 0, 2000, 2000)
    merged = merge(found((one, "ship", 0.93, False, left), (thin, "ship", 0.96, False, right), size=(3000, 3000)))
    assert [score for _, _, score in rows(merged)] == [0.96]
    beside = tuple((x + 4, y - 4) for x, y in thin)  # another of its kind, alongside
    both = found((thin, "ship", 0.96, False, left), (beside, "ship", 0.9, False, right), size=(3000, 3000))
    assert len(rows(merge(both))) == 2


def test_an_object_in_the_overlap_is_found_once():
    parts = seen([(320, 50, 360, 90)])
    assert len(parts) == 2
    assert rows(merge(parts)) == [(box(320, 50, 360, 90), "ship", 0.9)]


def test_a_part_gives_way_to_the_whole_even_with_the_better_score():
    whole = box(310, 10, 390, 50), "ship", 0.4, True, (300, 0, 400, 400)
    part = box(310, 10, 400, 50), "ship", 0.9, True, (0, 0, 400, 400)
    assert rows(merge(found(part, whole))) == [whole[:3]]


def test_an_object_longer_than_the_overlap_is_made_whole():
    parts = seen([(250, 100, 650, 160)])
    assert parts.cut.any(axis=1).all()
    one = merge(parts)
    assert rows(one) == [(box(250, 100, 650, 160), "ship", 0.9)]
    assert list(map(len, one.tiles)) == [2] and not one.cut.any()


def test_a_turned_object_is_made_whole_as_a_rectangle():
    # A bar at 45 degrees across the seam of two tiles: each sees a part of it with its own corners.
    one = ((200, 160), (398, 358), (378, 378), (180, 180)), "ship", 0.9, False, (0, 0, 400, 400)
    other = ((302, 262), (500, 460), (480, 480), (282, 282)), "ship", 0.8, False, (300, 0, 400, 600)
    joined = merge(found(one, other))
    expected = ((200, 160), (500, 460), (480, 480), (180, 180))
    assert ious(joined.corners, np.array([expected]))[0] > 0.99
    assert not joined.upright.any() and joined.scores.tolist() == [0.9]


def test_neighbours_and_other_classes_stay():
    close = [(100, 100, 140, 140), (141, 100, 181, 140), (100, 141, 140, 181)]
    assert len(merge(seen(close))) == 3
    two = seen([(320, 50, 360, 90)]) + seen([(320, 50, 360, 90)], label="boat")
    assert sorted(merge(two).labels) == ["boat", "ship"]


def test_of_duplicates_the_better_stays():
    tile = (0, 0, 400, 400)
    good, bad = ((box(10, 10 + d, 50, 50 + d), "ship", s, True, tile) for d, s in ((0, 0.9), (5, 0.3)))
    assert rows(merge(found(bad, good))) == [good[:3]]
    # 40 x 35 shared of 40 x 45: an IoU of 7 / 9.
    assert rows(merge(found(bad, good), iou=0.78)) == [bad[:3], good[:3]]


def test_nothing_gives_nothing():
    assert len(merge(detections([], [], [], [], [], SIZE))) == 0


def test_of_many_duplicates_in_a_chain_only_those_stay_that_none_has_beaten():
    # Each overlaps the next by 30 / 50; the best takes the second out, so the third stays and takes the fourth out.
    tile, scores = (0, 0, 400, 400), (0.9, 0.8, 0.7, 0.6)
    chain = [(box(10 + 10 * i, 10, 50 + 10 * i, 50), "ship", score, True, tile) for i, score in enumerate(scores)]
    assert [score for _, _, score in rows(merge(found(*reversed(chain))))] == [0.7, 0.9]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(120, 500), st.floats(0.1, 0.5))
def test_a_detector_without_mistakes_finds_every_object_once_whatever_the_tiles(seed, tile, part):
    # Objects of a grid that do not touch, smaller and larger than the overlap.
    rng = random.Random(seed)
    boxes = []
    for left in range(0, 960, 80):
        for top in range(0, 560, 80):
            x, y = left + rng.uniform(0, 10), top + rng.uniform(0, 10)
            boxes.append((x, y, x + rng.uniform(12, 60), y + rng.uniform(12, 60)))
    boxes = [one for one in boxes if one[3] < 580]
    boxes.append((40.0, 586.0, 900.0, 600.0))  # a long one, across several tiles
    merged = merge(seen(boxes, tile, int(part * tile)))
    assert len(merged) == len(boxes)
    assert sorted(map(tuple, merged.bounds.tolist())) == [pytest.approx(one) for one in sorted(boxes)]
