"""Windows cover an image, have a name, and show of its objects what lies in them."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from earthgpt.geo.tiles import cut, fragment, parse_fragment, windows
from earthgpt.types import Box, EarthGPTError, OrientedBox, Question, Region, Sample, Sensor

SIZE = (400, 200)
LEFT, RIGHT = (0, 0, 200, 200), (200, 0, 200, 200)


def sample(*boxes, **facts) -> Sample:
    """An image of 400 x 200 pixels with ships; boxes are (left, top, right, bottom) in pixels, or corners."""
    found = [
        Box.from_pixels(*box, SIZE) if isinstance(box[0], int) else OrientedBox.from_pixels(box, SIZE) for box in boxes
    ]
    regions = tuple(Region(box, "ship") for box in found)
    return Sample(Path("P0000.png"), "P0000.png", SIZE, Sensor.OPTICAL, regions=regions, classes=("ship",), **facts)


def pixels(shown: Sample) -> list:
    """The boxes of a sample in whole pixels."""
    found = []
    for region in shown.regions:
        numbers = region.box.to_pixels(shown.size)
        flat = itertools.chain(*numbers) if isinstance(region.box, OrientedBox) else numbers
        found.append([round(number, 6) for number in flat])
    return found


# --- where to cut ------------------------------------------------------------------------------------------------


def test_windows_go_row_by_row_and_the_last_ends_at_the_edge():
    assert windows((250, 120), 100, 20) == [
        *((0, 0, 100, 100), (80, 0, 100, 100), (150, 0, 100, 100)),
        *((0, 20, 100, 100), (80, 20, 100, 100), (150, 20, 100, 100)),
    ]


def test_an_image_no_larger_than_a_tile_is_one_window():
    assert windows((100, 60), 100, 20) == [(0, 0, 100, 60)]
    assert windows((100, 101), 100, 0) == [(0, 0, 100, 100), (0, 1, 100, 100)]


@given(some.tuples(some.integers(1, 300), some.integers(1, 300)), some.integers(1, 80), some.data())
def test_windows_cover_every_pixel_once_at_least_and_share_the_overlap(size, tile, data):
    overlap = data.draw(some.integers(0, tile - 1))
    found = windows(size, tile, overlap)
    assert len(set(found)) == len(found)
    for axis in (0, 1):
        starts = sorted({window[axis] for window in found})
        assert {window[axis + 2] for window in found} == {min(tile, size[axis])}
        # From the first pixel to the last, without a gap, and each with the overlap on the one before.
        assert starts[0] == 0 and starts[-1] + min(tile, size[axis]) == size[axis]
        assert all(0 < after - before <= tile - overlap for before, after in itertools.pairwise(starts))
    assert len(found) == len({window[0] for window in found}) * len({window[1] for window in found})


@pytest.mark.parametrize("overlap", [-1, 100, 200])
def test_an_overlap_of_a_whole_tile_is_refused(overlap):
    with pytest.raises(ValueError, match="cannot share"):
        windows(SIZE, 100, overlap)


# --- the name of a window ----------------------------------------------------------------------------------------


def test_a_window_is_named_as_a_media_fragment():
    name = "data/dota_v2/train/images/P0000.png"
    assert fragment(name, (0, 824, 1024, 1000)) == f"{name}#xywh=0,824,1024,1000"
    assert parse_fragment(f"{name}#xywh=0,824,1024,1000") == (name, (0, 824, 1024, 1000))


@given(
    some.text(min_size=1).filter(lambda name: "#xywh=" not in name),
    some.tuples(*[some.integers(0, 99_999)] * 2, *[some.integers(1, 99_999)] * 2),
)
def test_a_fragment_is_read_back(name, window):
    assert parse_fragment(fragment(name, window)) == (name, window)


@pytest.mark.parametrize("name", ["a.png", "a#1.png", "a.png#", "#", "", "a.png#xywh", "a.png#t=1,2"])
def test_a_name_without_a_window_is_a_name(name):
    assert parse_fragment(name) == (name, None)


@pytest.mark.parametrize(
    "numbers",
    [
        *("", "1,2,3", "1,2,3,4,5", "-1,0,8,8", "0,0,0,8", "0,0,8,0", "0,0,8.0,8", "0,0,8,x", "0, 0,8,8", "0,0,8,8\n"),
        *("pixel:0,0,8,8", "percent:0,0,8,8", "0,0,8,8&t=1", "00,0,8,8", "٣,0,8,8", "0,0,8,8#xywh=0,0,8,8"),
    ],
)
def test_a_window_that_is_none_is_told(numbers):
    with pytest.raises(EarthGPTError, match="left,top,width,height"):
        parse_fragment(f"a.png#xywh={numbers}")


def test_a_window_without_a_name_is_told():
    with pytest.raises(EarthGPTError):
        parse_fragment("#xywh=0,0,8,8")


@pytest.mark.parametrize("window", [(-1, 0, 8, 8), (0, 0, 0, 8), (0.5, 0, 8, 8), (0, 0, 8)])
def test_what_is_no_window_has_no_name(window):
    with pytest.raises(ValueError, match="no window"):
        fragment("a.png", window)
    with pytest.raises(ValueError, match="no window"):
        fragment("a.png#xywh=0,0,8,8", (0, 0, 8, 8))


# --- what lies in a window ---------------------------------------------------------------------------------------


def test_an_object_inside_moves_with_the_window():
    shown, lost = cut(sample((250, 50, 300, 100)), RIGHT)
    assert pixels(shown) == [[50, 50, 100, 100]]
    assert (shown.size, shown.name, shown.image, lost) == ((200, 200), "P0000.png", Path("P0000.png"), 0)


def test_an_object_is_clipped_at_the_edge():
    shown, lost = cut(sample((190, 50, 220, 100)), RIGHT)
    assert (pixels(shown), lost) == ([[0, 50, 20, 100]], 0)


def test_half_of_an_object_stays_and_less_is_left_out():
    ship = sample((180, 50, 220, 100))
    assert [len(cut(ship, window)[0].regions) for window in (LEFT, RIGHT)] == [1, 1]
    ship = sample((180, 50, 221, 100))
    assert (pixels(cut(ship, LEFT)[0]), cut(ship, LEFT)[1]) == ([], 1)
    assert pixels(cut(ship, LEFT, visible=0.3)[0]) == [[180, 50, 200, 100]]
    assert pixels(cut(ship, RIGHT)[0]) == [[0, 50, 21, 100]]


def test_an_object_elsewhere_is_not_left_out_but_absent():
    for elsewhere in ((250, 50, 300, 100), (200, 50, 300, 100)):  # the second touches
        for visible in (0.5, 0.0):
            shown, lost = cut(sample(elsewhere, complete=True), LEFT, visible)
            assert (shown.regions, lost, shown.complete) == ((), 0, True)


def test_a_corner_of_an_oriented_box_moves_to_the_edge():
    shown, _ = cut(sample(((150, 50), (220, 50), (220, 90), (150, 90))), LEFT)
    assert pixels(shown) == [[150, 50, 200, 50, 200, 90, 150, 90]]
    diamond = ((180, 50), (210, 80), (180, 110), (150, 80))
    shown, _ = cut(sample(diamond), LEFT)
    # In the order of MMRS-1M: the corner nearest the origin first.
    assert pixels(shown) == [[150, 80, 180, 50, 200, 80, 180, 110]]


def test_the_visible_part_of_an_oriented_box_is_that_of_its_own_shape():
    # A triangle of 15 * 15 of its 1250 square pixels is outside, 0.18; of the upright hull it would be 0.3.
    diamond = ((190, 50), (215, 75), (190, 100), (165, 75))
    assert len(cut(sample(diamond), LEFT, 0.81)[0].regions) == 1
    assert len(cut(sample(diamond), LEFT, 0.83)[0].regions) == 0


def test_an_object_of_the_whole_image_is_in_no_tile_and_counted():
    whole = sample((0, 0, 400, 200), complete=True)
    shown, lost = cut(whole, (0, 0, 100, 200))
    assert (shown.regions, lost, shown.complete) == ((), 1, False)
    assert pixels(cut(whole, (0, 0, *SIZE))[0]) == [[0, 0, 400, 200]]


def test_a_box_without_area_goes_with_its_middle():
    line = sample((100, 50, 100, 90))
    assert [len(cut(line, window)[0].regions) for window in (LEFT, RIGHT)] == [1, 0]
    assert cut(line, RIGHT)[1] == 0


def test_a_tile_is_complete_where_nothing_was_left_out():
    ships = sample((10, 10, 40, 40), (180, 50, 230, 100), complete=True)
    assert [cut(ships, window)[0].complete for window in (LEFT, RIGHT)] == [False, True]
    left, right = (cut(ships, window)[0] for window in (LEFT, RIGHT))
    assert right.cut == () and len(left.cut) == 1 and left.cut[0].box.right == 1, "phrases may mean it: it is named"
    assert [len(cut(left, window)[0].cut) for window in ((0, 0, 100, 200), (100, 0, 100, 200))] == [0, 1]
    assert cut(replace(ships, complete=False), LEFT)[0].cut == (), "others may be there that nobody stated"
    assert not cut(sample((10, 10, 40, 40)), LEFT)[0].complete


def test_what_is_said_of_the_whole_image_is_not_said_of_a_tile():
    facts = {
        "label": "harbor",
        "choices": ("harbor", "beach"),
        "captions": ("A harbor.",),
        "questions": (Question("How many ships?", "2"),),
        "expressions": (Region(Box(0, 0, 0.1, 0.1), "the ship on the left"),),
    }
    shown, lost = cut(sample((10, 10, 40, 40), **facts), LEFT)
    assert (shown.label, shown.choices, shown.captions, shown.questions, shown.expressions) == (None, (), (), (), ())
    assert (shown.classes, len(shown.regions), lost) == (("ship",), 1, 0)


upright = some.tuples(*[some.integers(0, 360), some.integers(0, 160)], *[some.integers(1, 90)] * 2).map(
    lambda box: (box[0], box[1], min(box[0] + box[2], 400), min(box[1] + box[3], 200))
)


@given(some.lists(upright, max_size=6), some.integers(40, 250), some.floats(0, 1))
def test_every_object_that_a_tile_touches_is_kept_or_counted(boxes, tile, visible):
    whole = sample(*boxes)
    covered = [0.0] * len(boxes)
    for window in windows(SIZE, tile, 0):
        shown, lost = cut(whole, window, visible)
        left, top, width, height = window
        inside = [
            max(0, min(box[2], left + width) - max(box[0], left)) * max(0, min(box[3], top + height) - max(box[1], top))
            for box in boxes
        ]
        assert len(shown.regions) + lost == sum(area > 0 for area in inside)
        kept = sum(region.box.area for region in shown.regions) * width * height
        assert kept <= sum(inside) + 1e-6
        covered = [max(most, area) for most, area in zip(covered, inside, strict=True)]
        if lost == 0:
            assert kept == pytest.approx(sum(inside), abs=1e-6)
    assert all(covered)


@given(some.lists(upright, max_size=6), some.integers(100, 250))
def test_with_an_overlap_as_large_as_the_objects_each_is_whole_in_some_tile(boxes, tile):
    whole = sample(*boxes)
    shown = [cut(whole, window, 1.0)[0] for window in windows(SIZE, tile, 90)]
    assert sum(len(one.regions) for one in shown) >= len(set(boxes))
