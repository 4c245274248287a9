"""Any image opens as a Raster, keeps its place on Earth, or is told in one line."""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from earthgpt.geo import raster as raster_module
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.placing import Layer
from earthgpt.geo.raster import Raster, open_raster, read_pixels
from earthgpt.geo.scene import open_scene
from earthgpt.image_files import image_size
from earthgpt.types import Box, EarthGPTError, Region, Sensor

# Red above, blue below; four pixels wide and two high.
PICTURE = np.zeros((2, 4, 3), np.uint8)
PICTURE[0, :, 0] = 250
PICTURE[1, :, 2] = 250


def save(path: Path, pixels=PICTURE, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


# --- kinds of files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "A.PNG", "no_ending"])
def test_a_file_opens_with_its_own_pixels(tmp_path, name):
    found = open_raster(save(tmp_path / name, format=None if "." in name else "PNG"))
    assert np.array_equal(found.pixels, PICTURE)
    assert (found.size, found.sensor, found.name) == ((4, 2), Sensor.OPTICAL, str(tmp_path / name))
    assert found.crs is None and found.transform is None


def test_a_jpeg_opens_nearly_with_its_own_pixels(tmp_path):
    pixels = np.repeat(np.repeat(PICTURE, 16, 0), 16, 1)
    found = open_raster(save(tmp_path / "a.jpg", pixels, quality=95))
    assert found.size == (64, 32)
    assert np.abs(found.pixels.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_stretched_to_eight(tmp_path, ending):
    ramp = np.linspace(1000, 3000, 64, dtype=np.uint16).reshape(8, 8)
    found = open_raster(save(tmp_path / f"a.{ending}", ramp))
    assert found.pixels.shape == (8, 8, 3) and found.pixels.dtype == np.uint8
    assert found.pixels.min() == 0 and found.pixels.max() == 255
    assert (np.diff(found.pixels[..., 0].ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_the_fourth_band_of_a_picture_is_no_colour(tmp_path, ending):
    pixels = np.dstack([PICTURE, np.full((2, 4), 255, np.uint8)])
    assert np.array_equal(open_raster(save(tmp_path / f"a.{ending}", pixels)).pixels, PICTURE)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_palette_is_looked_up(tmp_path, name):
    Image.fromarray(PICTURE).quantize(4).save(tmp_path / name)
    assert Image.open(tmp_path / name).mode == "P"
    assert np.abs(open_raster(tmp_path / name).pixels.astype(int) - PICTURE).max() < 8


def test_grey_is_repeated_and_black_and_white_too(tmp_path):
    grey = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert np.array_equal(open_raster(save(tmp_path / "g.png", grey)).pixels, np.repeat(grey[..., None], 3, 2))
    Image.fromarray(grey > 3).save(tmp_path / "b.png")
    assert open_raster(tmp_path / "b.png").pixels[:, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :16] = 255  # white on the left is white on top
    found = open_raster(save(tmp_path / "a.jpg", pixels, exif=exif, quality=95))
    assert found.size == (32, 64)
    assert found.pixels.shape == (64, 32, 3)
    assert found.pixels[:12].mean() > 240 and found.pixels[20:].mean() < 15


def test_a_large_file_is_read_reduced_and_keeps_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(raster_module, "LARGEST_SIDE", 16)
    pixels = np.repeat(np.repeat(PICTURE, 16, 0), 16, 1)
    for name in ("a.png", "a.jpg", "a.tif"):
        found = open_raster(save(tmp_path / name, pixels))
        assert found.size == (64, 32), name
        assert found.pixels.shape == (8, 16, 3), name
        assert found.pixels[1, 5, 0] > 200 and found.pixels[6, 5, 2] > 200, name


# --- what is no file ---------------------------------------------------------------------------------------------


def test_arrays_images_and_functions_open_too():
    for source in (
        PICTURE,
        torch.from_numpy(PICTURE),
        Image.fromarray(PICTURE),
        lambda: PICTURE,
        lambda: Image.fromarray(PICTURE),
    ):
        found = open_raster(source, "sar")
        assert np.array_equal(found.pixels, PICTURE)
        assert (found.size, found.sensor) == ((4, 2), Sensor.SAR)


def test_a_raster_is_returned_as_it_is():
    found = Raster(PICTURE, (4, 2))
    assert open_raster(found) is open_raster(found, "optical") is found


class Named(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_functions_that_give_scenes_paths_of_any_kind_and_tensors_open_or_are_told(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    for source in (lambda: open_scene(PICTURE), Named(tmp_path / "a.png")):
        assert np.array_equal(open_raster(source).pixels, PICTURE)
    taken = open_raster(PICTURE, "sar")
    assert open_raster(taken, "sar") is taken and open_raster(Raster(PICTURE, (4, 2), "sar"), "sar")
    for tensor in (torch.zeros(8, 8, 3, requires_grad=True), torch.zeros(8, 8, 3, dtype=torch.bfloat16)):
        with pytest.raises(EarthGPTError, match="A Tensor is no array of numpy"):
            open_raster(tensor)
    with pytest.raises(EarthGPTError, match="has its bands first"):
        open_raster(torch.zeros(3, 40, 40))


def test_options_of_a_picture_count_and_those_of_what_is_open_already_are_refused():
    warm = np.full((4, 4), 30, np.uint8)
    cold = open_raster(Image.fromarray(warm), "infrared", black_hot=True)
    assert (cold.pixels == 225).all() and not np.array_equal(cold.pixels, open_raster(warm, "infrared").pixels)
    for one in (Raster(PICTURE, (4, 2)), open_scene(PICTURE)):
        for given in ({"sensor": "sar"}, {"bands": "1"}):
            with pytest.raises(EarthGPTError, match=f"open already, as optical: open it with {next(iter(given))}"):
                open_raster(one, **given)


# --- what cannot be opened ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.png", None, "There is no file"),
        ("empty.tif", b"", "is empty"),
        ("notes.txt", b"a plain text", "is not an image"),
        ("page.png", b"<html><body>404 Not Found</body></html>", "is not an image"),
        ("header.tif", b"II*\0\x08\0\0\0", "header.tif"),
        ("noise.tif", b"II*\0" + bytes(range(256)), "noise.tif"),
        ("header.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "header.png"),
    ],
)
def test_a_file_that_is_no_image_is_told_in_one_line(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EarthGPTError) as told:
        open_raster(tmp_path / name)
    assert says in str(told.value) and name in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_file_that_was_cut_off_is_told_in_one_line(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(EarthGPTError) as told:
        open_raster(path)
    assert name in str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match="is a folder; name an image file"):
        open_raster(tmp_path)


def test_an_unknown_sensor_is_told():
    with pytest.raises(EarthGPTError, match=f"one of {', '.join(Sensor)}; not 'lidar'"):
        open_raster(PICTURE, "lidar")


def test_a_picture_of_more_pixels_than_pillow_trusts_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    path = save(tmp_path / "a.png")
    assert np.array_equal(open_raster(path).pixels, read_pixels(path))
    monkeypatch.setattr(raster_module, "MOST_PIXELS", 3)
    with pytest.raises(EarthGPTError, match="more than the 3 that are read at once"):
        open_raster(path)


def test_the_name_of_a_picture_tells_its_sensor_to_a_raster_and_a_scene_alike(tmp_path):
    pytest.importorskip("rasterio")
    path = save(tmp_path / "ship_sar_vv.png", np.arange(64, dtype=np.uint16).reshape(8, 8) * 500)
    assert open_raster(path).sensor == open_scene(path).sensor == Sensor.SAR
    assert open_raster(path, "optical").sensor == Sensor.OPTICAL


def test_a_raster_knows_of_its_place_what_a_scene_knows(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    points = [
        rasterio.control.GroundControlPoint(row, column, 10 + column * 1e-3 + row * column * 2e-6, 50 - row * 1e-3)
        for row in (0, 100, 200, 300) for column in (0, 100, 200, 300)
    ]  # fmt: skip
    facts = {"driver": "GTiff", "count": 1, "width": 300, "height": 300, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **facts, gcps=points, crs="EPSG:4326") as file:
        file.write(np.full((1, 300, 300), 9, np.uint8))
    layer = Layer(open_raster(tmp_path / "a.tif", gsd_m=2.0))
    assert layer.gsd_m == 2 and "from 16 ground control points" in layer.notes[0]
    (feature,) = layer.of([Region(Box(0.0, 0.0, 1.0, 1.0), "all")])
    assert feature.lonlat[2] == pytest.approx((10.48, 49.7), abs=1e-5)


# --- GeoTIFF -----------------------------------------------------------------------------------------------------


def test_a_geotiff_keeps_its_place(tmp_path):
    pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "a.tif", PICTURE, 500_000, 4_000_000, 0.5, 32631)
    found = open_raster(tmp_path / "a.tif")
    assert found.crs == "EPSG:32631"
    assert found.transform == (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)
    assert np.array_equal(found.pixels, PICTURE)


def test_nodata_is_black_and_does_not_count_in_the_stretch(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = np.linspace(100, 200, 64, dtype=np.float32).reshape(8, 8)
    values[:2] = -9999
    options = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "float32", "nodata": -9999}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "a.tif", "w", **options) as file:
            file.write(values, 1)
    found = open_raster(tmp_path / "a.tif")
    assert (found.pixels[:2] == 0).all()
    assert found.pixels[2, 0, 0] == 0 and found.pixels[7, 7, 0] == 255
    # Row 4 is in the middle of the 48 valid values: 16 of 47 steps, less the two percent cut at both ends.
    assert found.pixels[4, 0, 0] == pytest.approx(255 * (16 / 47 - 0.02) / 0.96, abs=2)


def test_bands_that_are_named_as_colours_are_taken_by_name(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.enums import ColorInterp

    size = {"driver": "GTiff", "width": 4, "height": 2, "count": 4, "dtype": "uint8"}
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "a.tif", "w", **size) as file:
        file.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
        file.write(np.dstack([PICTURE[..., ::-1], np.full((2, 4), 99, np.uint8)]).transpose(2, 0, 1))
    assert np.array_equal(open_raster(tmp_path / "a.tif").pixels, PICTURE)


def test_a_large_photograph_that_was_turned_has_the_size_as_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(raster_module, "LARGEST_SIDE", 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = open_raster(save(tmp_path / "a.jpg", np.zeros((32, 64, 3), np.uint8), exif=exif))
    assert (found.size, found.pixels.shape) == ((32, 64), (16, 8, 3))


def test_a_geotiff_of_no_valid_pixel_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", width=4, height=2, count=1, dtype="float32", nodata=0
        ) as file,
    ):
        file.write(np.zeros((1, 2, 4), np.float32))
    with pytest.raises(EarthGPTError, match="no valid pixel"):
        open_raster(tmp_path / "a.tif")


def real_files() -> list[Path]:
    beside = Path(__file__).parents[3] / "shared" / "data"
    return sorted((Path(os.environ.get("EARTHGPT_REAL_DATA", beside)) / "geotiff").glob("*.[tT][iI][fF]"))


@pytest.mark.realdata
def test_real_geotiffs_open_or_are_told_in_one_line():
    files = real_files()
    if not files:
        pytest.skip("no real data; set EARTHGPT_REAL_DATA")
    for path in files:
        try:
            found = open_raster(path, "sar" if path.name.startswith("S1") else None)
        except EarthGPTError as error:
            assert path.name in ("corrupt.tif", "all-nodata.tif"), error
            assert "\n" not in str(error)
        else:
            assert found.pixels.dtype == np.uint8 and found.pixels.shape[2] == 3, path.name
            assert found.pixels.any() != (path.name == "RGBA.uint16.tif"), "it holds one value"
            assert max(found.pixels.shape) <= 2048 and min(found.size) > 0
            if path.name == "RGB.byte.tif":
                assert (found.size, found.crs) == ((791, 718), "EPSG:32618")
                assert found.transform == pytest.approx((300.0379, 0, 101985, 0, -300.0418, 2826915), abs=1e-3)


# --- windows -----------------------------------------------------------------------------------------------------

RAMP = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) * 10 + 100


@pytest.fixture(params=["rasterio", "pillow"])
def reader(request, monkeypatch):
    """Both ways to read a TIFF."""
    raster_module._last_decoded.cache_clear()
    raster_module._scene.cache_clear()
    if request.param == "rasterio":
        pytest.importorskip("rasterio")
    else:
        monkeypatch.setitem(sys.modules, "rasterio", None)
    return request.param


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_a_window_is_a_part_of_the_image(tmp_path, ending, reader):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = save(tmp_path / f"a.{ending}", pixels)
    assert np.array_equal(read_pixels(path), pixels)
    assert np.array_equal(read_pixels(path, (10, 20, 30, 40)), pixels[20:60, 10:40])
    assert read_pixels(path, (10, 20, 30, 40)).flags.writeable


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_stays_grey(tmp_path, ending, reader):
    grey = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80)
    path = save(tmp_path / f"a.{ending}", grey)
    assert np.array_equal(read_pixels(path, (5, 6, 7, 8)), grey[6:14, 5:12])
    assert read_pixels(path).shape == (60, 80)


@pytest.mark.parametrize("sensor", [None, "sar"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_windows_of_sixteen_bits_are_stretched_like_the_whole(tmp_path, ending, sensor, reader):
    path = save(tmp_path / f"a.{ending}", RAMP)
    whole = read_pixels(path, None, sensor)
    assert np.array_equal(whole, open_raster(path, sensor).pixels[..., 0])
    assert whole.min() == 0 and whole.max() == 255
    left, right = (read_pixels(path, (x, 0, 40, 60), sensor) for x in (0, 40))
    assert np.array_equal(np.hstack([left, right]), whole)


def test_windows_of_radar_intensities_are_alike_in_their_logarithm(tmp_path, reader):
    speckle = np.random.default_rng(0).exponential(100, (60, 80)).astype(np.float32)
    speckle[:, 70:] *= 1000  # a bright shore, of which the left windows see nothing
    path = save(tmp_path / "a.tif", speckle)
    whole = read_pixels(path, None, Sensor.SAR)
    tiles = [read_pixels(path, (x, 0, 20, 60), Sensor.SAR) for x in range(0, 80, 20)]
    assert np.array_equal(np.hstack(tiles), whole)
    assert np.median(tiles[0]) < np.median(tiles[3])


def test_a_window_of_a_palette_has_its_colours(tmp_path, reader):
    pixels = np.repeat(np.repeat(PICTURE, 16, 0), 16, 1)
    Image.fromarray(pixels).quantize(4).save(tmp_path / "a.tif")
    assert np.abs(read_pixels(tmp_path / "a.tif", (0, 8, 64, 16)).astype(int) - pixels[8:24]).max() < 8


def test_nodata_is_black_in_a_window(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = np.linspace(100, 200, 64, dtype=np.float32).reshape(8, 8)
    values[:2] = -9999
    options = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "float32", "nodata": -9999}
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "a.tif", "w", **options) as file:
        file.write(values, 1)
    expected = open_raster(tmp_path / "a.tif").pixels[..., 0]
    for window in ((0, 0, 8, 4), (0, 4, 8, 4), (0, 0, 8, 2)):
        _, top, _, height = window
        assert np.array_equal(read_pixels(tmp_path / "a.tif", window), expected[top : top + height]), window


def test_a_window_is_in_the_frame_of_the_image_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :16] = 255  # white on the left is white on top
    path = save(tmp_path / "a.jpg", pixels, exif=exif, quality=95)
    assert read_pixels(path).shape == (64, 32, 3)
    assert read_pixels(path, (0, 0, 32, 8)).mean() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_read_as_it_is_stored_whatever_reads_it(tmp_path, orientation, reader):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.tif", exif=exif)
    assert np.array_equal(read_pixels(path), PICTURE)
    found = open_raster(path)
    assert found.size == image_size(path) == (4, 2)
    assert np.array_equal(found.pixels, PICTURE)


def test_pixels_that_are_rendered_have_windows_too():
    assert read_pixels(lambda: PICTURE) is PICTURE
    assert np.array_equal(read_pixels(lambda: PICTURE, (1, 0, 2, 1)), PICTURE[:1, 1:3])
    with pytest.raises(EarthGPTError, match=r"is not inside .* of 4 x 2"):
        read_pixels(lambda: PICTURE, (1, 0, 4, 1))


@pytest.mark.parametrize("window", [(-1, 0, 8, 8), (0, 0, 81, 8), (0, 53, 8, 8), (80, 0, 1, 1), (0, 0, 0, 8)])
def test_a_window_outside_the_image_is_told(tmp_path, window, reader):
    for ending in ("png", "tif"):
        with pytest.raises(EarthGPTError, match=r"is not inside .* of 80 x 60"):
            read_pixels(save(tmp_path / f"a.{ending}", RAMP), window)


def test_local_files_may_be_larger_than_pillow_allows_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for ending in ("png", "jpg"):
        path = save(tmp_path / f"a.{ending}", np.zeros((60, 80, 3), np.uint8))
        assert read_pixels(path, (1, 2, 3, 4)).shape == (4, 3, 3)
    monkeypatch.setattr(raster_module, "MOST_PIXELS", 4000)
    with pytest.raises(EarthGPTError, match="80 x 60 pixels are more than the 4,000 that are read at once"):
        read_pixels(path)


def test_the_limit_of_a_geotiff_is_on_what_is_read(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    path = save(tmp_path / "a.tif", np.zeros((60, 80, 3), np.uint8))
    monkeypatch.setattr(raster_module, "MOST_PIXELS", 4000)
    assert read_pixels(path, (1, 2, 3, 4)).shape == (4, 3, 3)
    with pytest.raises(EarthGPTError, match="more than the 4,000"):
        read_pixels(path)


def test_a_tiff_is_not_decoded_whole_for_a_window(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    options = {"driver": "GTiff", "width": 30_000, "height": 30_000, "count": 3, "dtype": "uint8"}
    options |= {"tiled": True, "sparse_ok": True}
    corner = rasterio.windows.Window(20_000, 20_000, 64, 64)
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "a.tif", "w", **options) as file:
        file.write(np.full((3, 64, 64), 9, np.uint8), window=corner)
    found = read_pixels(tmp_path / "a.tif", (20_000, 20_000, 64, 64))
    assert found.shape == (64, 64, 3) and (found == 9).all()


def test_windows_one_after_the_other_decode_their_image_once(tmp_path, monkeypatch):
    decoded = []
    decode = raster_module._decode
    monkeypatch.setattr(raster_module, "_decode", lambda path, sensor: decoded.append(path) or decode(path, sensor))
    raster_module._last_decoded.cache_clear()
    one, other = (save(tmp_path / name, np.full((60, 80), 5, np.uint8)) for name in ("a.png", "b.png"))
    for path in (one, one, one, other, one):
        read_pixels(path, (0, 0, 8, 8))
    assert decoded == [one, other, one]
    save(one, np.full((60, 80), 7, np.uint8))
    os.utime(one, (1, 1))
    assert (read_pixels(one, (0, 0, 8, 8)) == 7).all()


@pytest.mark.parametrize(("name", "content"), [("missing.png", None), ("empty.tif", b""), ("page.png", b"<html>")])
def test_a_window_into_no_image_is_told(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EarthGPTError, match=name):
        read_pixels(tmp_path / name, (0, 0, 8, 8))
