"""Boxes in the frames they are written in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.coordinates import FRAMES, find_boxes, image_frame, padded_square, pixels, scaled, write_box, write_boxes
from earthgpt.types import Box, OrientedBox

fraction = st.floats(0, 1)
corner = st.tuples(fraction, fraction)
boxes = st.tuples(corner, corner).map(
    lambda p: Box(min(p[0][0], p[1][0]), min(p[0][1], p[1][1]), max(p[0][0], p[1][0]), max(p[0][1], p[1][1]))
)
oriented_boxes = st.tuples(corner, corner, corner, corner).map(OrientedBox)
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def found(text: str, frame) -> list[Box | OrientedBox]:
    """The boxes in a text, without their places."""
    return [box for box, _ in find_boxes(text, frame)]


@pytest.mark.parametrize("decimals", [2, 3])
@pytest.mark.parametrize("name", FRAMES)
@given(size=sizes, some=st.lists(boxes | oriented_boxes, min_size=1, max_size=3))
def test_what_was_read_is_written_as_it_was(name, decimals, size, some):
    frame = FRAMES[name](size)
    written = write_boxes(some, frame, decimals)
    read = found(written, frame)
    assert [type(box) for box in read] == [type(box) for box in some]
    assert write_boxes(read, frame, decimals) == written


@given(size=sizes, box=boxes)
def test_three_decimals_are_off_by_half_a_thousandth_of_the_side(size, box):
    frame = padded_square(size)
    (read,) = found(write_boxes([box], frame), frame)
    for one, other in zip(read.to_pixels(size), box.to_pixels(size), strict=True):
        assert abs(one - other) <= 0.0005 * max(size) + 1e-6


def test_the_short_axis_is_offset_by_whole_pixels():
    # (101 - 50) / 2 = 25.5 becomes 25: 25 / 101 = 0.2475 and 75 / 101 = 0.7426.
    whole = Box(0, 0, 1, 1)
    assert write_boxes([whole], padded_square((101, 50))) == "[0.000,0.248,1.000,0.743]"
    assert write_boxes([whole], padded_square((50, 101))) == "[0.248,0.000,0.743,1.000]"
    assert write_boxes([whole], padded_square((64, 64)), decimals=2) == "[0.00,0.00,1.00,1.00]"


def test_every_frame_prints_its_own_numbers():
    box, size = Box(0.1, 0.2, 0.3, 0.4), (400, 200)
    assert write_box(box, image_frame(size), 1) == "0.1,0.2,0.3,0.4"
    assert write_box(box, padded_square(size), 2) == "0.10,0.35,0.30,0.45"  # (40 + 100) / 400, (80 + 100) / 400
    assert write_box(box, pixels(size), 0) == "40,40,120,80"
    assert write_box(box, scaled(size, 100), 0) == "10,20,30,40"
    assert write_box(box, scaled(size, 1000), 0) == "100,200,300,400"


def test_an_oriented_box_starts_near_the_origin_of_the_frame():
    diamond = OrientedBox(((0.0, 0.5), (0.5, 1.0), (1.0, 0.5), (0.5, 0.0)))
    assert write_box(diamond, image_frame((9, 9)), 1) == "0.5,0.0,1.0,0.5,0.5,1.0,0.0,0.5"
    # A wide image lies low in its square: the left corner (0, 0.5) is now nearer than the top one (0.5, 0.375).
    assert write_box(diamond, padded_square((400, 100)), 3).startswith("0.000,0.500,0.500,0.375,")


def test_stray_spaces_and_any_number_of_decimals_are_read():
    frame = image_frame((100, 100))
    text = "first [ 0.1 ,0.25, .5,1 ] then [0.123456,0,1.,0.5 ; 0.2,0.2,0.3,0.3;]"
    assert found(text, frame) == [Box(0.1, 0.25, 0.5, 1), Box(0.123456, 0, 1, 0.5), Box(0.2, 0.2, 0.3, 0.3)]


@pytest.mark.parametrize("text", ["There are two ships {} in the image.", "There are <p>13 ships</p>{}"])
def test_boxes_are_read_inside_an_answer_with_their_places(text):
    text = text.format("[0.10,0.20,0.30,0.40;0.50,0.60,0.70,0.80]")
    read = list(find_boxes(text, image_frame((10, 10))))
    assert [box for box, _ in read] == [Box(0.1, 0.2, 0.3, 0.4), Box(0.5, 0.6, 0.7, 0.8)]
    assert [text[start:end] for _, (start, end) in read] == ["0.10,0.20,0.30,0.40", "0.50,0.60,0.70,0.80"]


@pytest.mark.parametrize(
    "text",
    ["", "0.1,0.2,0.3,0.4", "[0.1,0.2,0.3]", "[0.1,0.2,0.3,0.4,0.5,0.6]", "[0.5,0.2,0.3,0.4]", "[a,b,c,d]", "[]"],
)
def test_what_is_no_box_is_not_read(text):
    assert found(text, image_frame((10, 10))) == []


def test_numbers_in_the_padding_are_cut_to_the_image():
    # A 100 x 50 image spans 0.25 .. 0.75 of its square.
    assert found("[0.0,0.0,1.0,0.5]", padded_square((100, 50))) == [Box(0, 0, 1, 0.5)]
    assert found("[-3,0.3,7,0.9]", image_frame((10, 10))) == [Box(0, 0.3, 1, 0.9)]


def test_zero_is_printed_without_a_sign():
    frame = image_frame((10, 10))
    assert write_box(Box(-1e-7, -0.0, 0.5, 0.5), frame, 1) == "0.0,0.0,0.5,0.5"
    assert found("[-0.0,0,0.5,0.5]", frame) == [Box(0, 0, 0.5, 0.5)]


def test_a_named_frame_is_read_as_it_is_written():
    box = Box(0.1, 0.2, 0.5, 0.6)
    texts = {name: write_boxes([box], frame((200, 100)), 2) for name, frame in FRAMES.items()}
    assert texts == {
        "square": "[0.10,0.35,0.50,0.55]",  # y: 20 and 60 pixels, 50 below the edge of the square, over 200
        "image": "[0.10,0.20,0.50,0.60]",
        "0-100": "[10.00,20.00,50.00,60.00]",
        "0-1000": "[100.00,200.00,500.00,600.00]",
        "pixels": "[20.00,20.00,100.00,60.00]",
    }
