"""Objects are found once, whatever the seams: cut ones whole, duplicates gone, neighbours kept."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgpt.geo.merging import detection, merge
from earthgpt.geo.tiles import windows
from earthgpt.metrics.overlaps import ious

SIZE = (1000, 600)


def box(left, top, right, bottom):
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def seen(boxes, tile=400, overlap=100, label="ship", size=SIZE):
    """What a detector that makes no mistakes finds in each tile: the part of every box that shows."""
    found = []
    for window in windows(size, tile, overlap):
        left, top, width, height = window
        for a, b, c, d in boxes:
            a, c = max(a, left), min(c, left + width)
            b, d = max(b, top), min(d, top + height)
            if c - a >= 4 and d - b >= 4:
                found.append(detection(box(a, b, c, d), label, 0.9, True, window, size))
    return found


def test_a_detection_knows_which_sides_cut_it_and_the_edge_of_the_scene_does_not():
    tile = (300, 0, 400, 400)
    assert detection(box(300, 0, 350, 50), "ship", 1.0, True, tile, SIZE).cut == (True, False, False, False)
    assert detection(box(500, 100, 698, 400), "ship", 1.0, True, tile, SIZE).cut == (False, False, True, True)
    assert detection(box(900, 500, 1000, 600), "ship", 1.0, True, (600, 200, 400, 400), SIZE).cut == (False,) * 4


def test_an_object_in_the_overlap_is_found_once():
    found = seen([(320, 50, 360, 90)])
    assert len(found) == 2
    (one,) = merge(found)
    assert one.corners == box(320, 50, 360, 90)


def test_a_part_gives_way_to_the_whole_even_with_the_better_score():
    whole = detection(box(310, 10, 390, 50), "ship", 0.4, True, (300, 0, 400, 400), SIZE)
    part = detection(box(310, 10, 400, 50), "ship", 0.9, True, (0, 0, 400, 400), SIZE)
    assert merge([part, whole]) == [whole]


def test_an_object_longer_than_the_overlap_is_made_whole():
    found = seen([(250, 100, 650, 160)])
    assert all(any(one.cut) for one in found)
    (one,) = merge(found)
    assert one.corners == box(250, 100, 650, 160)
    assert len(one.tiles) == 2 and one.cut == (False,) * 4


def test_a_turned_object_is_made_whole_as_a_rectangle():
    # A bar at 45 degrees across the seam of two tiles: each sees a part of it with its own corners.
    one = detection(((200, 160), (398, 358), (378, 378), (180, 180)), "ship", 0.9, False, (0, 0, 400, 400), SIZE)
    other = detection(((302, 262), (500, 460), (480, 480), (282, 282)), "ship", 0.8, False, (300, 0, 400, 600), SIZE)
    (joined,) = merge([one, other])
    expected = ((200, 160), (500, 460), (480, 480), (180, 180))
    assert ious(np.array([joined.corners]), np.array([expected]))[0] > 0.99
    assert not joined.upright and joined.score == 0.9


def test_neighbours_and_other_classes_stay():
    close = [(100, 100, 140, 140), (141, 100, 181, 140), (100, 141, 140, 181)]
    assert len(merge(seen(close))) == 3
    two = [*seen([(320, 50, 360, 90)]), *seen([(320, 50, 360, 90)], label="boat")]
    assert sorted(one.label for one in merge(two)) == ["boat", "ship"]


def test_of_duplicates_the_better_stays():
    tile = (0, 0, 400, 400)
    good, bad = (detection(box(10, 10 + d, 50, 50 + d), "ship", s, True, tile, SIZE) for d, s in ((0, 0.9), (5, 0.3)))
    assert merge([bad, good]) == [good]
    # 40 x 35 shared of 40 x 45: an IoU of 7 / 9.
    assert merge([bad, good], iou=0.78) == [bad, good]


def test_nothing_gives_nothing():
    assert merge([]) == []


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
    found = merge(seen(boxes, tile, int(part * tile)))
    assert len(found) == len(boxes)
    assert sorted(one.bounds for one in found) == [pytest.approx(one) for one in sorted(boxes)]
