"""Boxes of other models are read whatever they are written in; tests/test_predictions.py has the shapes in the wild."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgpt.boxes import Written, box_of, written_boxes
from earthgpt.coordinates import FRAMES
from earthgpt.types import Box, OrientedBox

SIZE = (200, 100)
ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20)
    | st.sampled_from(["[0,0,1,1]", "[9,9,1,1,45]", "{<1><2><3><4>|<nan>}", "(1,2),(3,4)", "[0,0,1e308,1e308,9]"]),
    lambda one: st.lists(one, max_size=8)
    | st.dictionaries(st.sampled_from(["bbox", "label", "score", "text"]), one, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES)
@settings(max_examples=100, deadline=None)
@given(value=st.text(alphabet="[](){}<>|,;.0123456789 -+eEnaifbox\"'`") | ANY)
def test_boxes_of_anything_are_lists_of_4_5_or_8_numbers_and_boxes_or_wrong(frame, value):
    for written in written_boxes(value):
        assert len(written.numbers) in (4, 5, 8)
        assert written.score is None or math.isfinite(written.score)
        box, wrong = box_of(written, FRAMES[frame](SIZE), SIZE)
        assert isinstance(box, Box | OrientedBox) or wrong


def test_long_brackets_are_read_in_linear_time():
    for text in ("[" * 200_000, "[1,2,3,4" * 50_000, "{<1>" * 100_000, "1," * 200_000, "(1,2)" * 100_000):
        written_boxes(text)


def test_edges_may_have_names():
    for names in ("x1 y1 x2 y2", "xmin ymin xmax ymax", "left top right bottom"):
        (found,) = written_boxes({**dict(zip(names.split(), (1, 2, 3, 4), strict=True)), "label": "ship"})
        assert (found.numbers, found.label) == ((1, 2, 3, 4), "ship")


def test_a_box_is_read_with_what_is_said_of_it():
    said = '```json\n[{"bbox_2d": [20, 20, 120, 70], "label": "ship", "score": 0.5}]\n```'
    assert written_boxes(said) == [Written((20, 20, 120, 70), "ship", 0.5)]


def test_a_box_turns_about_its_middle_in_pixels_against_the_clock_unless_told_otherwise():
    # 40 x 20 pixels about (100, 50) by 90 degrees: 20 x 40.
    turned, wrong = box_of(Written((40, 40, 60, 60, 90)), FRAMES["0-100"](SIZE), SIZE)
    bounds = turned.bounds
    assert (bounds.left, bounds.top, bounds.right, bounds.bottom) == pytest.approx((0.45, 0.3, 0.55, 0.7))
    assert wrong == ""
    # The corner at the top right, 20 to the right and 10 above: against the clock it goes up.
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    for clockwise, way in ((False, -1), (True, 1)):
        turned, _ = box_of(Written((80, 40, 120, 60, 30)), FRAMES["pixels"](SIZE), SIZE, clockwise)
        corner = 100 + 20 * cos + way * 10 * sin, 50 + way * 20 * sin - 10 * cos
        assert any(one == pytest.approx(corner) for one in turned.to_pixels(SIZE))


@pytest.mark.parametrize(
    ("numbers", "frame", "box", "wrong"),
    [
        ((0.1, 0.2, 0.6, 0.7, 360), "image", Box(0.1, 0.2, 0.6, 0.7), ""),
        ((-10, 0, 50, 50), "0-100", Box(0, 0, 0.5, 0.5), "box that reaches outside the image: cut"),
        ((0.6, 0, 0.1, 1), "image", None, "box with edges in the wrong order (or is it left, top, width, height?)"),
        ((0, 0, 1, math.nan), "image", None, "box with a number that is not finite"),
        ((0, 0, 1, 1, math.inf), "image", None, "box with a number that is not finite"),
        ((1e308, 0, 1e308, 1, 45), "image", None, "box with a number that is not finite"),
    ],
)
def test_what_is_wrong_with_a_box_is_told(numbers, frame, box, wrong):
    assert box_of(Written(numbers), FRAMES[frame](SIZE), SIZE) == (box, wrong)
