"""Overlaps of many pairs at once are those of the values, of shapely, and of geometry by hand."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.metrics.overlaps import areas, boxes_array, hulls, ious, over_union, overlaps
from earthgpt.types import Box, OrientedBox

DIAMOND = np.array([[[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]])
SQUARE = np.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])


def turned(rng, count):
    """Rectangles at any angle, [count, 4, 2]."""
    middle, sides = rng.uniform(100, 200, (count, 1, 2)), rng.uniform(1, 120, (count, 1, 2))
    angle = rng.uniform(0, 2 * math.pi, count)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    return middle + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * sides) @ turn


def test_overlaps_worked_out_by_hand():
    # Squares of 2 x 2, one moved by (1, 1): 1 in common of 7. Without any "+1": with it they were 9 of 3 x 3 each.
    one, other = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3]])
    assert [value.tolist() for value in overlaps(one, other)] == [[1], [7]]
    # The diamond in the unit square covers half of it; one moved by half its width overlaps in a quarter of itself.
    assert ious(DIAMOND, np.array([[0.0, 0, 1, 1]])).tolist() == [0.5]
    both, union = overlaps(DIAMOND, DIAMOND + np.array([0.5, 0]))
    assert (both.tolist(), union.tolist()) == ([0.125], [0.875])


def test_boxes_that_touch_or_are_apart_have_no_overlap():
    for step in ([1, 0], [1, 1], [0, 1], [3, 0]):
        assert ious(SQUARE, SQUARE + step).tolist() == [0]
        assert ious(hulls(SQUARE), hulls(SQUARE + step)).tolist() == [0]


def test_many_turned_boxes_overlap_as_by_shapely():
    rng = np.random.default_rng(0)
    one, other = turned(rng, 3000), turned(rng, 3000)
    both, union = overlaps(one, other)
    first, second = shapely.polygons(one), shapely.polygons(other)
    np.testing.assert_allclose(both, shapely.area(shapely.intersection(first, second)), atol=1e-9)
    np.testing.assert_allclose(union, shapely.area(shapely.union(first, second)), atol=1e-9)
    np.testing.assert_allclose(areas(one), shapely.area(first), rtol=1e-12)


GRID = st.integers(0, 4).map(lambda number: number / 4)
CORNERS = st.lists(st.tuples(GRID, GRID), min_size=4, max_size=4).map(tuple)


@given(st.lists(st.tuples(CORNERS, CORNERS), min_size=1, max_size=20))
def test_any_four_corners_overlap_as_oriented_boxes_do(pairs):
    # On a coarse grid corners coincide, lie on one line, cross over and fold in, and edges lie on edges.
    one, other = (np.array(corners) for corners in zip(*pairs, strict=True))
    boxes = [(OrientedBox(first), OrientedBox(second)) for first, second in pairs]
    np.testing.assert_allclose(ious(one, other), [first.iou(second) for first, second in boxes], atol=1e-11)
    np.testing.assert_allclose(areas(one), [first.area for first, _ in boxes], atol=1e-12)


UPRIGHT = st.tuples(GRID, GRID, GRID, GRID).map(
    lambda n: Box(min(n[0], n[2]), min(n[1], n[3]), max(n[0], n[2]), max(n[1], n[3]))
)


@given(st.lists(st.tuples(UPRIGHT, UPRIGHT), max_size=20))
def test_upright_boxes_overlap_alike_in_all_forms(pairs):
    one, other = boxes_array([first for first, _ in pairs]), boxes_array([second for _, second in pairs])
    expected = [first.iou(second) for first, second in pairs]
    np.testing.assert_allclose(ious(one, other), expected, atol=1e-11)
    if pairs:
        corners = np.array([first.corners for first, _ in pairs])
        np.testing.assert_allclose(ious(corners, other), expected, atol=1e-11)


@given(st.integers(0, 2**32 - 1), st.floats(-math.pi, math.pi), st.floats(-500, 500))
def test_turning_and_moving_both_boxes_changes_nothing(seed, angle, step):
    rng = np.random.default_rng(seed)
    one, other = turned(rng, 5), turned(rng, 5)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(ious(one, other), ious(one @ turn + step, other @ turn + step), atol=1e-9)
    np.testing.assert_array_equal(ious(one, one), np.ones(5))


def test_half_in_pixels_is_half_in_fractions():
    # 3 of 6 pixels; in fractions of 7 the areas are no whole numbers.
    pixels = np.array([[0.0, 0, 3, 2]]), np.array([[0.0, 0, 3, 1]])
    assert ious(*pixels).tolist() == ious(*(boxes / 7 for boxes in pixels)).tolist() == [0.5]
    assert over_union(np.array([0.1 + 0.2]), np.array([0.6])).tolist() == [0.5]


def test_no_boxes_have_no_overlap():
    assert boxes_array([]).shape == (0, 4)
    assert ious(boxes_array([]), np.zeros((0, 4, 2))).shape == (0,)


def test_pairs_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="not 1 and 2"):
        overlaps(np.zeros((1, 4)), np.zeros((2, 4)))
