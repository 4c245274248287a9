"""Boxes are drawn where they are, in a colour for each label."""

import numpy as np
import pytest
from PIL import Image

from earthgpt.geo.pictures import COLOURS, SHORTEST_SIDE, _scale_bar, draw, save_picture, write_picture
from earthgpt.geo.placing import Feature
from earthgpt.geo.raster import Raster
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

BLACK = Raster(np.zeros((100, 200, 3), np.uint8), (200, 100))
BOX = Box(0.25, 0.5, 0.5, 0.75)


def places(picture, colour) -> np.ndarray:
    """Where a picture has a colour, [H, W]."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.asarray(picture) == wanted).all(axis=2)


def test_a_small_image_is_enlarged_and_a_large_one_is_not():
    assert draw(BLACK, []).size == (1024, 512) and SHORTEST_SIDE == 512
    large = Raster(np.zeros((600, 700, 3), np.uint8), (700, 600))
    assert draw(large, []).size == (700, 600)


def test_a_narrow_strip_is_enlarged_no_further_than_the_longest_side():
    assert draw(Raster(np.zeros((4, 2048, 3), np.uint8), (2048, 4)), []).size == (2048, 4)
    assert draw(Raster(np.zeros((4, 100, 3), np.uint8), (100, 4)), []).size == (2048, 82)


def test_a_picture_too_large_for_its_format_is_told_with_the_reason(tmp_path):
    with pytest.raises(EarthGPTError, match=r"Cannot write .*a\.jpg: broken data stream"):
        save_picture(Image.new("L", (65_600, 1)), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_a_box_is_drawn_on_its_edges_and_not_inside():
    drawn = places(draw(BLACK, [Region(BOX, "ship")]), COLOURS[0])
    # The box is at 256 .. 512 and 256 .. 384 of 1024 x 512.
    for edge in (drawn[256, 260:508], drawn[384, 260:508], drawn[260:380, 256], drawn[260:380, 512]):
        assert edge.all()
    assert not drawn[262:378, 262:506].any()
    assert not drawn[:, 520:].any() and not drawn[392:].any()


def test_an_oriented_box_is_drawn_along_its_own_edges():
    diamond = OrientedBox(((0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5)))
    drawn = places(draw(BLACK, [Region(diamond, "ship")]), COLOURS[0])
    assert drawn[177:182, 664:669].any()  # the middle of the edge from (512, 102) to (819, 256) is (666, 179)
    assert not drawn[256, 300:700].any()


@pytest.mark.parametrize(("width", "metres"), [(5000, 0.1), (50, 0.1), (5130, 0.1), (1000, 5.0)])
def test_a_scale_bar_is_round_and_at_most_a_fifth_of_the_width(width, metres):
    for wide in range(width, width + 200):
        length, text = _scale_bar(wide, metres)
        assert 0 < length <= wide / 5 + 1 and text.split()[0].rstrip("0").rstrip(".")[-1:] in ("", "1", "2", "5")


def test_whatever_opens_as_an_image_is_drawn_on_with_one_region_several_or_none(tmp_path):
    sea = Image.new("RGB", (600, 600), "navy")
    sea.save(tmp_path / "sea.png")
    ship = Region(Box(0.2, 0.2, 0.6, 0.6), "ship")
    pictures = [draw(one, ship) for one in (tmp_path / "sea.png", str(tmp_path / "sea.png"), np.asarray(sea), sea)]
    assert {one.tobytes() for one in pictures} == {draw(sea, [Feature(ship)]).tobytes()}
    assert draw(sea, None).tobytes() == sea.tobytes() != pictures[0].tobytes()


@pytest.mark.parametrize("regions", [[None], Box(0, 0, 1, 1), [Box(0, 0, 1, 1)], 5])
def test_what_is_no_region_is_told(regions):
    with pytest.raises(EarthGPTError, match="Regions or Features"):
        draw(Image.new("RGB", (64, 64)), regions)


def test_every_label_has_a_colour():
    regions = [Region(BOX, "ship"), Region(Box(0.6, 0.5, 0.7, 0.6), "bridge"), Region(Box(0.8, 0.5, 0.9, 0.6), "ship")]
    picture = draw(BLACK, regions)
    assert places(picture, COLOURS[0]).any() and places(picture, COLOURS[1]).any()
    assert not places(picture, COLOURS[2]).any()
    many = [Region(BOX, f"class {i}") for i in range(len(COLOURS) + 2)]
    assert draw(BLACK, many).size == (1024, 512)


def test_a_label_at_the_edge_stays_in_the_picture():
    drawn = places(draw(BLACK, [Region(Box(0.98, 0, 1, 0.02), "a long label", 0.5)]), COLOURS[0])
    assert drawn[:30, :1000].sum() > 1000  # the plate behind the words reaches to the left


def test_without_regions_the_picture_is_the_image():
    assert not np.asarray(draw(BLACK, [])).any()


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG")])
def test_a_picture_is_written_in_the_format_of_its_name(tmp_path, name, kind):
    write_picture(tmp_path / name, [Region(BOX, "ship", 0.5)], BLACK)
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.size) == (kind, (1024, 512))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_kind_of_picture_is_refused(tmp_path):
    with pytest.raises(EarthGPTError, match=r"Pictures are written as \.png or \.jpg; not '\.gif'"):
        write_picture(tmp_path / "a.gif", [], BLACK)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match="Cannot write"):
        write_picture(tmp_path / "nowhere" / "a.png", [], BLACK)


def test_a_label_does_not_cover_another_label_or_most_of_a_box():
    ship, buoy = Region(Box(0.4, 0.5, 0.6, 0.6), "a ship"), Region(Box(0.4, 0.47, 0.41, 0.49), "a ship")
    # The buoy lies where the label of the ship would stand: that goes below.
    drawn = places(draw(BLACK, [ship, buoy]), COLOURS[0])
    assert drawn[310:322, 412:450].mean() > 0.5 and drawn[244:254, 425:470].mean() < 0.2
    crowd = [Region(Box(0.4, 0.4 + i / 200, 0.41, 0.404 + i / 200), "a ship") for i in range(40)]
    assert places(draw(BLACK, crowd), COLOURS[0]).sum() < 40 * 600


def test_words_on_the_darkest_colour_are_white():
    regions = [Region(BOX, f"{i}") for i in range(len(COLOURS) - 1)] + [Region(Box(0.8, 0.5, 0.9, 0.9), "blue")]
    picture = draw(BLACK, regions)
    assert places(picture, "#FFFFFF").any() and places(picture, COLOURS[-1]).any()


def test_a_caption_is_cut_and_many_of_them_fill_some_rows_of_the_legend():
    caption = "a harbor with many ships\nat long piers and some more words " * 4
    regions = [Region(BOX, f"{i} {caption}", 0.5) for i in range(50)]
    picture = draw(BLACK, regions, legend=True)
    assert picture.width == 1024 and 512 + 100 < picture.height < 512 + 250
