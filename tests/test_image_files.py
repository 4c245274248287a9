"""Headers of image files."""

from collections import Counter

import pytest
from PIL import Image

from earthgpt import image_files
from earthgpt.geo.raster import open_raster, read_pixels


def test_image_size_is_width_and_height(tmp_path):
    Image.new("L", (7, 4)).save(tmp_path / "a.png")
    assert image_files.image_size(tmp_path / "a.png") == (7, 4)


@pytest.mark.parametrize(("suffix", "size"), [("jpg", (4, 7)), ("png", (4, 7)), ("tif", (7, 4))])
def test_image_size_is_that_of_the_pixels_that_are_shown(suffix, size, tmp_path):
    # Turned by 90 degrees, says EXIF; GDAL reads a TIFF as it is stored.
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[image_files.ORIENTATION] = 6
    Image.new("RGB", (7, 4)).save(path, exif=exif)
    assert image_files.image_size(path) == open_raster(path).size == read_pixels(path).shape[1::-1] == size


def test_image_size_needs_no_more_than_the_header(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((90, 60), 50).save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert image_files.image_size(path) == (90, 60)


def test_an_image_beyond_the_limit_of_pillow_is_opened_by_its_content(tmp_path, monkeypatch):
    Image.new("L", (40, 20)).save(tmp_path / "a.jpg", "PNG")
    (tmp_path / "b.jpg").write_bytes(b"\0" * 12 + bytes((40, 0, 20, 0, 24, 0)) + b"\0" * 2400)  # TGA, told by nothing
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    defects = Counter()
    assert image_files.size_of(tmp_path / "a.jpg", (0, 0), defects) == (40, 20)
    assert not +defects
    image_files.size_of(tmp_path / "b.jpg", (40, 20), defects)
    assert +defects == {"unreadable images": 1}


@pytest.mark.parametrize(
    ("content", "defect"),
    [(None, "missing images"), (b"", "unreadable images"), (b"\x89PNG\r\n\x1a\n\0\0", "unreadable images")],
)
def test_images_that_are_missing_or_broken_are_counted_and_have_the_size_that_is_stated(content, defect, tmp_path):
    path, defects = tmp_path / "a.png", Counter()
    if content is not None:
        path.write_bytes(content)
    assert image_files.size_of(path, (8, 5), defects) == (8, 5)
    assert image_files.size_if_there(path, defects) == (0, 0)
    assert +defects == {defect: 2}
    assert image_files.size_of(path, (0, 0), defects) is None
    assert defects["images of unknown size, left out"] == 1
