"""Outlines in pixels become boxes, or are counted."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.outlines import corner_box, min_area_rectangle, oriented_box, rotated_rectangle
from earthgpt.types import Box

SIZE = (100, 50)


def sides_and_area(corners):
    a, b, c, _ = corners
    return sorted([math.dist(a, b), math.dist(b, c)]), math.dist(a, b) * math.dist(b, c)


def contains(corners, point, slack=1e-6):
    turns = []
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        turns.append((bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax))
    return min(turns) >= -slack or max(turns) <= slack


def test_rectangle_about_a_diamond_is_the_diamond():
    # Corners 10 from the center: sides of 10 * sqrt(2), area 200, half of the upright hull's 400.
    corners = min_area_rectangle([(10, 0), (20, 10), (10, 20), (0, 10)])
    sides, area = sides_and_area(corners)
    assert sides == pytest.approx([math.sqrt(200)] * 2)
    assert area == pytest.approx(200)


def test_rectangle_ignores_points_inside_and_points_on_edges():
    corners = min_area_rectangle([(0, 0), (4, 0), (8, 0), (8, 3), (0, 3), (2, 2), (0, 0)])
    assert {(round(x, 9), round(y, 9)) for x, y in corners} == {(0, 0), (8, 0), (8, 3), (0, 3)}


def test_rectangle_about_points_on_a_line_has_no_area():
    sides, area = sides_and_area(min_area_rectangle([(0, 0), (3, 4), (6, 8)]))
    assert sides == pytest.approx([0, 10])
    assert area == pytest.approx(0)


def test_rectangle_about_one_point_is_that_point():
    assert min_area_rectangle([(2, 3), (2, 3)]) == ((2.0, 3.0),) * 4


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_rectangle_holds_all_points_and_is_no_larger_than_the_upright_one(points):
    corners = min_area_rectangle(points)
    xs, ys = zip(*points, strict=True)
    _, area = sides_and_area(corners)
    assert area <= (max(xs) - min(xs)) * (max(ys) - min(ys)) + 1e-6
    if area > 1e-6:
        assert all(contains(corners, point, slack=1e-4) for point in points)


def test_a_quarter_turn_swaps_width_and_height():
    corners = rotated_rectangle(50, 20, 30, 10, math.pi / 2)
    assert {(round(x), round(y)) for x, y in corners} == {(45, 5), (55, 5), (45, 35), (55, 35)}


def test_a_positive_angle_turns_clockwise_on_the_screen():
    # y grows downwards: the right end of a lying box goes down.
    _, top_right, bottom_right, _ = rotated_rectangle(0, 0, 10, 0, math.pi / 4)
    assert top_right == bottom_right == pytest.approx((5 / math.sqrt(2), 5 / math.sqrt(2)))


@pytest.mark.parametrize(
    ("bbox", "box", "defect"),
    [
        ((10, 5, 20, 10), Box(0.1, 0.1, 0.3, 0.3), None),
        ((90, 40, 20, 20), Box(0.9, 0.8, 1.0, 1.0), "boxes cut at the edge"),
        ((90, 40, 10.3, 10), Box(0.9, 0.8, 1.0, 1.0), None),  # rounding, less than half a pixel
        ((10, 5, 0, 10), None, "boxes without area"),
        ((10, 5, -3, 10), None, "boxes without area"),
        ((120, 5, 10, 10), None, "boxes outside the image"),
    ],
)
def test_boxes_are_kept_cut_or_counted(bbox, box, defect):
    defects = Counter()
    found = corner_box(bbox, SIZE, defects)
    assert (found and found.to_pixels(SIZE)) == (box and pytest.approx(box.to_pixels(SIZE)))
    assert +defects == ({defect: 1} if defect else {})


def test_oriented_boxes_without_area_or_outside_are_counted():
    defects = Counter()
    assert oriented_box([(1, 1), (5, 5)], SIZE, defects) is None
    assert oriented_box([(1, -9), (5, -5), (1, -1)], SIZE, defects) is None
    assert oriented_box([(10, 10), (20, 10), (20, 20), (10, 20)], SIZE, defects).area == pytest.approx(0.02)
    assert +defects == {"boxes without area": 1, "boxes outside the image": 1}
