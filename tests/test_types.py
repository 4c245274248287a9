"""Boxes, regions and conversations."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import MultiPoint

from earthgpt.types import (
    Box,
    Conversation,
    EarthGPTError,
    Message,
    OrientedBox,
    Region,
    convex_hull,
    polygon_area,
    release_order,
)

DIAMOND = ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5))
# Corners on a grid, as they are once printed: they often coincide or lie on one line.
corner = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: (0.4 + p[0] / 100, 0.4 + p[1] / 100))
oriented_boxes = st.tuples(corner, corner, corner, corner).map(OrientedBox)


def turned_square(angle: float, side: float = 0.5) -> OrientedBox:
    """A square about the middle of the image, turned by an angle in radians."""
    radius = side / math.sqrt(2)
    angles = [angle + math.pi * (i / 2 + 1 / 4) for i in range(4)]
    return OrientedBox(tuple((0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)) for a in angles))


def test_iou_is_the_overlap_over_the_union():
    # 0.25 x 0.25 over 2 x 0.5 x 0.5 - 0.25 x 0.25
    assert Box(0, 0, 0.5, 0.5).iou(Box(0.25, 0.25, 0.75, 0.75)) == pytest.approx(1 / 7)


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (float("nan"), 10), (10, 10, 3), 10, None])
def test_a_size_is_a_width_and_a_height(size):
    for of_pixels, corners in ((Box.from_pixels, (1, 1, 2, 2)), (OrientedBox.from_pixels, (DIAMOND,))):
        with pytest.raises(ValueError, match=re.escape(f"both above 0; not {size!r}")):
            of_pixels(*corners, size)


def test_oriented_boxes_are_made_of_lists_and_arrays_too():
    for corners in (list(map(list, DIAMOND)), np.array(DIAMOND, np.float32)):
        made = OrientedBox(corners)
        assert made == OrientedBox(DIAMOND) and type(made.corners[0][0]) is float


def test_values_of_another_kind_are_refused_where_they_are_made():
    wrong = (
        lambda: OrientedBox((0, 0, 1, 0)),
        lambda: Region((0, 0, 1, 1), "ship"),
        lambda: Message("user", None),
        lambda: Conversation.of("a.png", "What is this?"),
    )
    for make in wrong:
        with pytest.raises(ValueError, match="not "):
            make()


def test_boxes_that_touch_have_zero_iou():
    assert Box(0, 0, 0.5, 0.5).iou(Box(0.5, 0, 1, 0.5)) == 0
    assert OrientedBox(Box(0, 0, 0.5, 0.5).corners).iou(Box(0.5, 0, 1, 0.5)) == 0


def test_a_box_without_area_has_zero_iou_even_with_itself():
    line, point = Box(0.2, 0.3, 0.2, 0.6), OrientedBox(((0.5, 0.5),) * 4)
    whole = Box(0, 0, 1, 1)
    assert [line.iou(line), line.iou(whole), point.iou(point), point.iou(whole), whole.iou(point)] == [0] * 5


def test_width_has_no_plus_one():
    assert Box(0, 0, 1, 1).area == 1
    assert Box.from_pixels(0, 0, 1, 1, size=(10, 10)).area == pytest.approx(0.01)


def test_a_diamond_covers_half_of_the_image():
    assert OrientedBox(DIAMOND).area == pytest.approx(0.5)
    assert Box(0, 0, 1, 1).iou(OrientedBox(DIAMOND)) == pytest.approx(0.5)


def test_a_square_turned_by_45_degrees_has_an_iou_of_one_over_root_two_with_itself():
    # The overlap is a regular octagon of area 2 (root 2 - 1) side²: 0.828 / (2 - 0.828).
    assert turned_square(0).iou(turned_square(math.pi / 4)) == pytest.approx(1 / math.sqrt(2))


def test_printed_corners_that_fall_on_a_line_keep_their_area():
    # The triangle (0, 0.1) (0.2, 0.2) (0, 0.3), with a fourth corner on its left edge: 0.2 x 0.2 / 2.
    box = OrientedBox(((0.0, 0.1), (0.2, 0.2), (0.0, 0.2), (0.0, 0.3)))
    assert box.area == pytest.approx(0.02)
    assert box.iou(box) == pytest.approx(1)


@given(oriented_boxes, oriented_boxes)
def test_oriented_iou_is_that_of_shapely(one, other):
    a, b = MultiPoint(one.corners).convex_hull, MultiPoint(other.corners).convex_hull
    assert one.area == pytest.approx(a.area, abs=1e-12)
    if min(a.area, b.area) > 1e-9:
        assert one.iou(other) == pytest.approx(a.intersection(b).area / a.union(b).area, abs=1e-9)
        assert one.iou(other) == pytest.approx(other.iou(one), abs=1e-9)
        assert 0 <= one.iou(other) <= 1


@given(st.floats(0, 2 * math.pi), st.floats(0.1, 0.7), st.floats(0, 2 * math.pi))
def test_oriented_iou_of_rectangles_is_that_of_shapely(angle, side, other_angle):
    one, other = turned_square(angle, side), turned_square(other_angle)
    a, b = MultiPoint(one.corners).convex_hull, MultiPoint(other.corners).convex_hull
    assert one.iou(other) == pytest.approx(a.intersection(b).area / a.union(b).area, abs=1e-9)


@given(st.tuples(*[st.integers(0, 9)] * 4), st.tuples(*[st.integers(0, 9)] * 4))
def test_oriented_iou_of_upright_boxes_is_the_upright_one(one, other):
    a, b = (
        Box(*(min(x, y) / 10 for x, y in ((v[0], v[2]), (v[1], v[3]))), *(max(v[i], v[i + 2]) / 10 for i in (0, 1)))
        for v in (one, other)
    )
    assert OrientedBox(a.corners).iou(OrientedBox(b.corners)) == pytest.approx(a.iou(b), abs=1e-12)


def test_the_convex_hull_has_each_corner_once_clockwise_on_the_screen():
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    assert convex_hull([(2, 2), *square[::-1], (2, 0), (4, 4)]) == square
    assert polygon_area(square) == 16
    for line in ([(1, 1)], [(1, 1), (3, 3)]):
        assert convex_hull([*line, (1, 1)]) == line and polygon_area(line) == 0
    assert convex_hull([(1, 1), (2, 2), (3, 3)]) == [(1, 1), (3, 3)]
    assert convex_hull([]) == [] and polygon_area([]) == 0


def test_release_order_starts_near_the_origin_and_goes_by_angle():
    # (0.5, 0) and (0, 0.5) are equally near: the smaller y goes first. About it the others lie at 45, 90, 135 degrees.
    assert release_order(DIAMOND[::-1]) == DIAMOND
    assert Box(0.1, 0.2, 0.3, 0.4).corners == release_order(Box(0.1, 0.2, 0.3, 0.4).corners[::-1])


@given(oriented_boxes, st.permutations(range(4)))
def test_corners_in_any_order_are_the_same_box(box, order):
    assert OrientedBox(tuple(box.corners[i] for i in order)) == box


def test_pixels_are_refused():
    with pytest.raises(ValueError, match="from_pixels"):
        Box(80, 80, 160, 240)
    with pytest.raises(ValueError, match="from_pixels"):
        OrientedBox(((0, 0), (10, 0), (10, 10), (0, 10)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        Box(0, 0, value, 1)


def test_edges_in_the_wrong_order_and_a_fifth_corner_are_refused():
    with pytest.raises(ValueError, match="left, top, right, bottom"):
        Box(0.5, 0, 0.4, 1)
    with pytest.raises(ValueError, match="four corners"):
        OrientedBox((*DIAMOND, (0.5, 0.5)))


def test_a_box_is_read_as_people_write_it():
    assert Box.read("10, 20,50,100", (100, 200)) == Box(0.1, 0.1, 0.5, 0.5)
    with pytest.raises(EarthGPTError, match="smaller than a pixel"):
        Box.read("0.1,0.1,0.5,0.5", (100, 200))
    for text in ("", "1,2,3", "a,b,c,d", "50,20,10,100", "0,0,101,10", "nan,0,1,1", "10,20,10,30"):
        with pytest.raises(EarthGPTError, match="left,top,right,bottom in pixels inside the image \\(100 x 200\\)"):
            Box.read(text, (100, 200))


def test_pixels_become_fractions_and_back():
    box = Box.from_pixels(80, 80, 160, 240, size=(800, 400))
    assert box == Box(0.1, 0.2, 0.2, 0.6)
    assert box.to_pixels((800, 400)) == pytest.approx((80, 80, 160, 240))
    assert Box.from_pixels(-5, 390, 20, 410, size=(800, 400)) == Box(0, 0.975, 0.025, 1)


def test_bounds_are_the_upright_hull():
    assert OrientedBox(DIAMOND).bounds == Box(0, 0, 1, 1)


def test_messages_alternate_and_start_with_the_user():
    assert Conversation.of(("a.png",), "What?", "A ship.").messages[1] == Message("assistant", "A ship.")
    with pytest.raises(ValueError, match="message 1 is from user"):
        Conversation((), (Message("user", "a"), Message("user", "b")))
    with pytest.raises(ValueError, match="'user' or 'assistant'"):
        Message("human", "a")
