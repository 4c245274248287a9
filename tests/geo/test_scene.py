"""Scenes: any raster in windows that fit together, in 8 bits that its sensor and units ask for."""

import pickle
import re
import threading
import warnings
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import numpy as np
import pytest
from PIL import Image

from earthgpt.geo import readers
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.scene import open_scene
from earthgpt.types import EarthGPTError, Sensor
from tests.downloads import real

rasterio = pytest.importorskip("rasterio")
UTM = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
RANDOM = np.random.default_rng(0)


def write(path, values, descriptions=(), colours=(), tags=None, **options):
    """A GeoTIFF of values [bands, h, w] or [h, w]."""
    values = values[None] if values.ndim == 2 else values
    options = {"driver": "GTiff", **options}
    options |= {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    options.setdefault("dtype", values.dtype.name)
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "w", **options) as file:
        file.write(values)
        if descriptions:
            file.descriptions = descriptions
        if colours:
            file.colorinterp = [rasterio.enums.ColorInterp[colour] for colour in colours]
        file.update_tags(**(tags or {}))
    return path


def whole(scene):
    return scene.window(0, 0, *scene.size)


def mosaic(scene, side):
    """The scene put together from windows."""
    width, height = scene.size
    rows = []
    for y in range(0, height, side):
        parts = [scene.window(x, y, min(side, width - x), min(side, height - y))[0] for x in range(0, width, side)]
        rows.append(np.hstack(parts))
    return np.vstack(rows)


# --- pixels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_type_is_seen_and_none_wraps(tmp_path, kind):
    ramp = np.arange(100, dtype=kind).reshape(10, 10) * (1 if kind in ("uint8", "int8") else 300)
    pixels, valid = whole(open_scene(write(tmp_path / "a.tif", ramp, **UTM)))
    assert pixels.shape == (10, 10, 3) and pixels.dtype == np.uint8 and valid.all()
    assert (np.diff(pixels[..., 0].ravel().astype(int)) >= 0).all(), "16 bits kept modulo 256 go up and down"
    if kind != "uint8":
        assert pixels.min() == 0 and pixels.max() == 255


@pytest.mark.parametrize("sensor", ["optical", "sar", "infrared"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_windows_fit_together(tmp_path, kind, sensor):
    values = (RANDOM.gamma(2, 20, (3, 70, 90)).clip(0, 250)).astype(kind)
    options = {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"}
    scene = open_scene(write(tmp_path / "a.tif", values, **options), sensor)
    assert np.array_equal(mosaic(scene, 37), whole(scene)[0])


def test_nodata_nan_and_alpha_are_not_valid_and_do_not_count(tmp_path):
    ramp = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    expected = whole(open_scene(write(tmp_path / "plain.tif", ramp[2:])))[0]
    for name, fill, options in (("nodata", -9999, {"nodata": -9999}), ("nan", np.nan, {}), ("inf", np.inf, {})):
        hidden = ramp.copy()
        hidden[:2] = fill
        pixels, valid = whole(open_scene(write(tmp_path / f"{name}.tif", hidden, **options)))
        assert not valid[:2].any() and valid[2:].all(), name
        assert not pixels[:2].any() and np.array_equal(pixels[2:], expected), name
    alpha = np.stack([ramp * 100] * 4).astype(np.uint16)
    alpha[3] = 65535
    alpha[3, :2] = 0
    alpha[:3, :2] = 60_000
    written = write(tmp_path / "alpha.tif", alpha, colours=("red", "green", "blue", "alpha"))
    pixels, valid = whole(open_scene(written))
    assert not valid[:2].any() and np.array_equal(pixels[2:], np.asarray(expected))
    given = open_scene(write(tmp_path / "zero.tif", np.where(ramp > 20, ramp, 0)), nodata=0)
    assert np.array_equal(whole(given)[0], pixels)


def test_a_mask_beside_the_bands_is_used(tmp_path):
    path = write(tmp_path / "a.tif", np.full((3, 8, 8), 7, np.uint8))
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(64).reshape(8, 8) >= 24)
    pixels, valid = whole(open_scene(path))
    assert valid.sum() == 40 and not pixels[:3].any() and (pixels[3:] == 7).all()


def test_a_scene_of_nodata_alone_is_black_and_told(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((8, 8), np.uint16), nodata=0))
    pixels, valid = whole(scene)
    assert not pixels.any() and not valid.any()
    assert any("nodata alone" in note for note in scene.notes)


def test_scale_and_offset_of_tags_make_the_values(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[0, 1000, 2000, 3000]], np.uint16))
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4,), (-0.1,)
    pixels = whole(open_scene(path, stretch=(0, 0.2)))[0]
    assert np.abs(pixels[0, :, 0] - np.array([0, 0, 127.5, 255])).max() <= 1  # -0.1, 0, 0.1 and 0.2


def test_a_palette_and_one_bit_are_shown_as_they_look(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[0, 1, 2]], np.uint8))
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (9, 8, 7, 255), 1: (250, 0, 0, 255), 2: (0, 0, 250, 255)})
    assert whole(open_scene(path))[0].tolist() == [[[9, 8, 7], [250, 0, 0], [0, 0, 250]]]
    bits = write(tmp_path / "b.tif", np.array([[0, 1]], np.uint8), nbits=1)
    assert whole(open_scene(bits))[0][0, :, 0].tolist() == [0, 255]


def test_arrays_and_pictures_are_scenes_too(tmp_path):
    values = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)
    scene = open_scene(values)
    assert np.array_equal(scene.window(5, 6, 7, 8)[0], values[6:14, 5:12])
    assert open_scene(scene) is scene and np.shares_memory(scene._reader.values, values)  # no copy of the whole
    assert values.flags.writeable and not scene.window(5, 6, 7, 8)[0].flags.writeable
    four = RANDOM.integers(0, 256, (6, 5, 4), np.uint8)
    assert np.array_equal(whole(open_scene(four, bands=(3, 1, 2)))[0], four[..., [2, 0, 1]])
    assert np.array_equal(whole(open_scene(four, bands=(2, 3, 4)))[0], four[..., 1:])
    for name in ("a.png", "a.bmp"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(mosaic(open_scene(tmp_path / name), 7), values), name
    wide = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(whole(open_scene(tmp_path / "wide.png"))[0], whole(open_scene(wide))[0])


def test_a_photograph_is_seen_as_its_camera_was_held(tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:8, :16] = 255
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
        with Image.open(tmp_path / "a.jpg") as image:
            from PIL import ImageOps

            expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        scene = open_scene(tmp_path / "a.jpg")
        assert scene.size == expected.shape[1::-1]
        assert np.abs(whole(scene)[0] - expected).max() <= 2, orientation


def test_a_preview_is_the_mean_of_what_it_shows(tmp_path):
    checks = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((1, 1))).astype(np.uint8) * 200
    scene = open_scene(write(tmp_path / "a.tif", checks))
    assert (scene.preview(4)[0] == 100).all()
    assert (open_scene(checks).preview(4)[0] == 100).all()


def test_a_window_that_is_not_inside_is_told(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((60, 80), np.uint8)))
    for window in ((-1, 0, 8, 8), (0, 0, 81, 8), (0, 53, 8, 8), (0, 0, 0, 8)):
        with pytest.raises(EarthGPTError, match=r"is not inside .* of 80 x 60 pixels"):
            scene.window(*window)


def test_a_scene_can_be_pickled_and_read_by_threads(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", RANDOM.integers(0, 9999, (3, 64, 64), np.uint16), tiled=True))
    expected = whole(scene)[0]
    assert np.array_equal(whole(pickle.loads(pickle.dumps(scene)))[0], expected)
    found = []
    threads = [threading.Thread(target=lambda: found.append(mosaic(scene, 16))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(np.array_equal(one, expected) for one in found)


# --- bands -------------------------------------------------------------------------------------------------------

NAMES = ("blue", "green", "red", "nir")


def test_bands_are_chosen_by_number_name_and_colour(tmp_path):
    values = np.stack([np.full((4, 4), 10 * (i + 1), np.uint8) for i in range(4)])
    path = write(tmp_path / "a.tif", values, descriptions=NAMES)
    seen = {
        None: [30, 20, 10], "4,3,2": [40, 30, 20], "nir,red,green": [40, 30, 20], "NIR": [40, 40, 40], "1": [10] * 3,
    }  # fmt: skip
    for asked, expected in seen.items():
        assert whole(open_scene(path, bands=asked))[0][0, 0].tolist() == expected, asked
    with pytest.raises(EarthGPTError, match="has the bands 1 blue, 2 green, 3 red, 4 nir; 'swir' is not among them"):
        open_scene(path, bands="swir")
    with pytest.raises(EarthGPTError, match=r"One band is shown, or three .*; not 2"):
        open_scene(path, bands="1,2")


def test_bands_are_chosen_by_wavelength(tmp_path):
    path = write(tmp_path / "a.tif", np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 4, 4), np.uint8))
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as file:
        for i, wave in enumerate((440, 490, 560, 665, 860)):
            file.update_tags(i + 1, wavelength=str(wave), wavelength_units="Nanometers")
    assert [band.wavelength_nm for band in open_scene(path).bands] == [440, 490, 560, 665, 860]
    assert whole(open_scene(path))[0][0, 0].tolist() == [3, 2, 1]
    assert whole(open_scene(path, bands="0.86um,560nm,660nm"))[0][0, 0].tolist() == [4, 2, 3]
    with pytest.raises(EarthGPTError, match="'2200nm' is not among them"):
        open_scene(path, bands="2200nm")


def test_bands_without_names_are_told(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((7, 4, 4), np.float32)))
    assert any("1, 2, 3 are shown as red, green and blue" in note for note in scene.notes)


# --- sensors -----------------------------------------------------------------------------------------------------


def test_one_radar_scene_in_any_unit_is_one_picture(tmp_path):
    amplitude = RANDOM.rayleigh(100, (64, 64)).astype(np.float32)
    amplitude[20:24, 30:40] = 5000
    phase = np.exp(2j * np.pi * RANDOM.random((64, 64)))
    stored = {
        "amplitude": amplitude, "intensity": amplitude**2, "decibels": 20 * np.log10(amplitude),
        "complex": (amplitude * phase).astype(np.complex64),
    }  # fmt: skip
    pictures = {}
    for name, values in stored.items():
        units = None if name == "complex" else name
        scene = open_scene(write(tmp_path / f"{name}.tif", values), "sar", units=units)
        pictures[name] = whole(scene)[0].astype(int)
    for name, picture in pictures.items():
        assert np.abs(picture - pictures["amplitude"]).max() <= 1, name
    assert (pictures["decibels"][20:24, 30:40] == 255).all()


def test_pictures_and_places_apart_are_no_bands_of_one_scene(tmp_path):
    for name in ("beach.png", "airport.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    for name, left in (("west.tif", 500_000), ("east.tif", 600_000)):
        write_geotiff(tmp_path / name, np.zeros((8, 8, 3), np.uint8), left, 5_000_000, 10, 32633)
    for names in (("beach.png", "airport.png"), ("west.tif", "east.tif")):
        with pytest.raises(EarthGPTError, match="are no bands of one scene"):
            open_scene([tmp_path / name for name in names])


def test_units_are_told_by_the_values(tmp_path):
    speckle = RANDOM.exponential(100, (64, 64)).astype(np.float32)
    speckle[:2] *= 1000
    for units, values in {
        "intensity": speckle, "decibels": 10 * np.log10(speckle), "amplitude": np.sqrt(speckle).astype(np.uint16),
    }.items():  # fmt: skip
        assert open_scene(values, "sar").units == units
    warm = RANDOM.normal(290, 5, (64, 64)).astype(np.float32)
    for units, values in {
        "kelvin": warm, "celsius": warm - 273.15, "centikelvin": (warm * 100).astype(np.uint16),
        "values": (warm * 20).astype(np.uint16),
    }.items():  # fmt: skip
        assert open_scene(values, "infrared").units == units


def test_the_sensor_is_told_by_names_tags_and_values(tmp_path):
    zeros, decibels = np.zeros((8, 8), np.uint8), np.linspace(-25, -2, 64, dtype=np.float32).reshape(8, 8)
    for name, values, tags, sensor, reason in (
        ("S1A_IW_GRDH_x.tif", zeros, {}, "sar", "'s1a' in"),
        ("a.tif", zeros, {"TIFFTAG_IMAGEDESCRIPTION": "Sentinel-1A IW GRD"}, "sar", "'sentinel-1a' in"),
        ("flir_0012.tif", zeros, {}, "infrared", "'flir' in"),
        ("b.tif", decibels, {}, "sar", "as decibels are"),
        ("c.tif", decibels + 300, {}, "infrared", "as kelvin are"),
        ("d.tif", zeros.astype(np.complex64), {}, "sar", "complex"),
        ("saratov.tif", zeros, {}, "optical", "nothing says otherwise"),
    ):
        scene = open_scene(write(tmp_path / name, values, tags=tags))
        assert (scene.sensor, reason in scene.sensor_reason) == (sensor, True), (name, scene.sensor_reason)
        assert open_scene(tmp_path / name, "optical").sensor_reason == "as given"


def test_temperatures_are_stretched_by_degrees(tmp_path):
    celsius = np.array([[0, 10, 27.5, 45, 90]], np.float32)
    expected = [0, 0, 128, 255, 255]
    for units, values in (
        ("celsius", celsius), ("kelvin", celsius + 273.15), ("centikelvin", np.rint((celsius + 273.15) * 100)),
    ):  # fmt: skip
        for stretch in ("10C:45C", "283.15K:318.15K"):
            scene = open_scene(values, "infrared", units=units, stretch=stretch)
            assert np.abs(whole(scene)[0][0, :, 0] - np.array(expected)).max() <= 1
    cold = open_scene(celsius, "infrared", units="celsius", stretch="10C:45C", black_hot=True)
    assert np.abs(whole(cold)[0][0, :, 0].astype(int) - (255 - np.array(expected))).max() <= 1
    with pytest.raises(EarthGPTError, match="in values, so 10C is not known"):
        whole(open_scene(celsius, "infrared", units="values", stretch="10C:45C"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sensor": "nose"}, f"one of {', '.join(Sensor)}; not 'nose'"),
        ({"stretch": "3000"}, "A stretch is black:white"),
        ({"stretch": "9:1"}, "A stretch is black:white"),
        ({"stretch": "1%:101%"}, "A stretch is black:white"),
        ({"speckle": "frost"}, "speckle filter is lee"),
        ({"speckle": "lee"}, "speckle are for sar"),
        ({"looks": 0}, "1 to 64"),
        ({"black_hot": True}, "black-hot is for infrared"),
        ({"gsd_m": 0}, "metres above 0"),
        ({"units": "furlongs"}, "amplitude, celsius, .*; not 'furlongs'"),
        ({"gsd_m": "0.5"}, "metres above 0; not '0.5'"),
        ({"looks": "4"}, "1 to 64 pixels a side; not '4'"),
        ({"nodata": "none"}, "no data is a number; not 'none'"),
        ({"stretch": 5}, "A stretch is black:white"),
        ({"stretch": ("a", "b")}, "A stretch is black:white"),
        ({"bands": "5"}, "'5' is not among them"),
    ],
)
def test_options_that_cannot_be_are_told(options, says):
    with pytest.raises(EarthGPTError, match=says):
        open_scene(np.zeros((4, 4, 3), np.uint16), **options)
    with pytest.raises(EarthGPTError, match="optical values are in values, reflectance; not 'kelvin'"):
        whole(open_scene(np.zeros((4, 4, 3), np.uint16), units="kelvin"))
    with pytest.raises(EarthGPTError, match="only 8-bit ones need no stretch"):
        whole(open_scene(np.zeros((4, 4, 3), np.uint16), stretch="none"))


@pytest.mark.parametrize("options", [{"looks": 4}, {"speckle": "lee"}, {"looks": 3, "speckle": "lee"}])
def test_speckle_is_less_after_a_filter_and_windows_still_fit(tmp_path, options):
    flat = RANDOM.gamma(4, 25, (96, 96)).astype(np.float32)  # four looks of an intensity of 100
    flat[40:44, 50:54] = 20_000
    path = write(tmp_path / "a.tif", flat)
    raw, scene = open_scene(path, "sar", units="intensity"), open_scene(path, "sar", units="intensity", **options)
    before, after = whole(raw)[0][:32, :32, 0], whole(scene)[0][:32, :32, 0]
    assert after.std() < 0.7 * before.std()
    assert whole(scene)[0][42, 52, 0] > 200, "a bright target stays"
    assert np.abs(mosaic(scene, 29).astype(int) - whole(scene)[0]).max() <= 1


# --- what is damaged, hostile or not there -----------------------------------------------------------------------


def test_a_damaged_block_is_left_out_named_and_counted(tmp_path):
    values = RANDOM.integers(0, 256, (64, 64), np.uint8)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with warnings.catch_warnings(action="ignore"), rasterio.open(path) as file:
        place = int(file.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))  # column 2, row 1
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 200)
    scene = open_scene(path)
    pixels, valid = whole(scene)
    assert scene.damaged == ((str(path), 2, 1),)
    assert not valid[16:32, 32:48].any() and valid.sum() == 64 * 64 - 256
    assert np.array_equal(pixels[valid][:, 0], values[valid])
    assert "1 block cannot be decoded: 2,1 of a.tif." in scene.notes
    assert np.array_equal(mosaic(scene, 23), pixels), "a second time too"


def test_a_file_cut_off_in_the_middle_keeps_its_first_half(tmp_path):
    values = RANDOM.integers(0, 9999, (512, 512), np.uint16)
    path = write(tmp_path / "a.tif", values, driver="COG", compress="deflate", blocksize=128, overviews="none")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    scene = open_scene(path)
    valid = whole(scene)[1]
    assert valid[:128].all() and not valid[-128:].any() and 4 <= len(scene.damaged) <= 9


def test_a_header_beside_does_not_let_a_file_point_elsewhere(tmp_path):
    service = "<Service name='TMS'><ServerUrl>http://10.0.0.1/x</ServerUrl></Service>"
    (tmp_path / "a.dat").write_text(f"<GDAL_WMS>{service}</GDAL_WMS>")
    (tmp_path / "a.hdr").write_text("ENVI")
    with pytest.raises(EarthGPTError, match="is text, not an image"):
        open_scene(tmp_path / "a.dat")


@pytest.mark.parametrize("nodata", [float("inf"), -1, 0.5])
def test_a_value_of_no_data_that_no_pixel_can_have_leaves_all(tmp_path, nodata):
    assert whole(open_scene(write(tmp_path / "a.tif", np.zeros((8, 8), np.uint16)), nodata=nodata))[1].all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.tif", None, "There is no file"),
        ("empty.tif", b"", "is empty"),
        ("page.tif", b"<html>404</html>", "is text, not an image"),
        ("items.json", b'{"type": "FeatureCollection"}', "is text, not an image"),
        ("noise.tif", b"II*\0" + bytes(range(256)), "damaged or no image"),
        ("notes.txt", b"a plain text", "not an image"),
        ("bad.vrt", b"<VRTDataset", "damaged or no VRT"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EarthGPTError) as told:
        open_scene(tmp_path / name)
    assert says in str(told.value) and name in str(told.value) and "\n" not in str(told.value)


def test_a_folder_that_is_no_product_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match="is a folder; name an image file"):
        open_scene(tmp_path)
    with pytest.raises(EarthGPTError, match="at least one file"):
        open_scene([])
    with pytest.raises(EarthGPTError, match=r"an array \[height, width\]"):
        open_scene(np.zeros((0, 4), np.uint8))


def test_blocks_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), blockysize=64)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(readers, "MOST_PIXELS", 4000)
    with pytest.raises(EarthGPTError, match="can only be decoded whole"):
        open_scene(tmp_path / "a.png")
    monkeypatch.setattr(readers, "MOST_BLOCK_BYTES", 4000)
    with pytest.raises(EarthGPTError, match="blocks of 64 x 64 pixels"):
        open_scene(path)


VRT = """<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="1">{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>
</VRTDataset>"""


@pytest.fixture
def server(tmp_path):
    """Serves the folder "served" on this machine; its ``asked`` are the requests."""
    (tmp_path / "served").mkdir()
    write(tmp_path / "served" / "a.tif", np.full((8, 8), 7, np.uint8))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            asked.append(words)

    asked = []
    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "served"))
    server.asked = asked
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_fetched_unless_it_is_allowed(tmp_path, server):
    url = f"http://127.0.0.1:{server.server_port}/a.tif"
    (tmp_path / "vrt.vrt").write_text(VRT.format(f"/vsicurl/{url}"))
    (tmp_path / "outer.vrt").write_text(VRT.format("vrt.vrt"))
    (tmp_path / "wms.xml").write_text(
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>'
    )
    (tmp_path / "wms.vrt").write_text(VRT.format("wms.xml"))
    for source in (url, f"/vsicurl/{url}", "s3://bucket/a.tif", "vrt.vrt", "outer.vrt", "wms.xml", "wms.vrt"):
        named = source if "/" in source else tmp_path / source
        with pytest.raises(EarthGPTError, match="--remote"):
            open_scene(named)
    overviews = write(tmp_path / "overviews.tif", np.zeros((8, 8), np.uint8))
    beside = f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{url}</MDI></Metadata></PAMDataset>'
    (tmp_path / "overviews.tif.aux.xml").write_text(beside)
    with pytest.raises(EarthGPTError, match="points to overviews elsewhere"):
        open_scene(overviews)
    assert not server.asked
    for source in (url, tmp_path / "vrt.vrt", tmp_path / "outer.vrt"):
        assert (whole(open_scene(source, remote=True))[0] == 7).all()
    assert server.asked


def test_a_tag_in_a_file_fetches_nothing(tmp_path, server):
    url = f"http://127.0.0.1:{server.server_port}/a.tif"
    path = write(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url)
    open_scene(path).preview(8)
    assert not server.asked


def test_a_vrt_may_name_files_beneath_its_folder_alone(tmp_path):
    folder = tmp_path / "folder"
    (folder / "beneath").mkdir(parents=True)
    write(tmp_path / "secret.tif", np.full((8, 8), 7, np.uint8))
    write(folder / "beneath" / "a.tif", np.full((8, 8), 9, np.uint8))
    (folder / "link.tif").symlink_to(tmp_path / "secret.tif")
    (folder / "a.vrt").write_text(VRT.format("beneath/a.tif"))
    assert (whole(open_scene(folder / "a.vrt"))[0] == 9).all()
    for name in ("../secret.tif", str(tmp_path / "secret.tif"), "link.tif"):
        (folder / "b.vrt").write_text(VRT.format(name).replace('relativeToVRT="1"', ""))
        with pytest.raises(EarthGPTError, match=r"points to .*, outside its folder"):
            open_scene(folder / "b.vrt")
    (folder / "b.vrt").write_text(VRT.format("../secret.tif"))
    assert (whole(open_scene(folder / "b.vrt", remote=True))[0] == 7).all()


@pytest.mark.parametrize("mark", ["", 'relativeToVRT="0"', 'relativeToVRT="0" RelativeToVRT="1"'])
def test_a_vrt_may_not_name_files_of_the_folder_that_one_works_in(tmp_path, monkeypatch, mark):
    """GDAL opens such a name from there; one of the same name beside the VRT does not excuse it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for place, value in ((tmp_path, 7), (folder, 9)):
        write(place / "a.tif", np.full((8, 8), value, np.uint8))
    monkeypatch.chdir(tmp_path)
    (folder / "a.vrt").write_text(VRT.format("a.tif"))
    assert (whole(open_scene(folder / "a.vrt"))[0] == 9).all()
    (folder / "a.vrt").write_text(VRT.format("a.tif").replace('relativeToVRT="1"', mark))
    with pytest.raises(EarthGPTError, match="outside its folder"):
        open_scene(folder / "a.vrt")
    monkeypatch.chdir(folder)
    assert (whole(open_scene(folder / "a.vrt"))[0] == 9).all()


def test_a_vrt_names_a_file_however_its_words_are_written(tmp_path):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "secret.tif", np.full((8, 8), 7, np.uint8), **UTM)
    write(tmp_path / "folder" / "a.tif", np.full((8, 8), 9, np.uint8), **UTM)
    path, secret = tmp_path / "folder" / "b.vrt", str(tmp_path / "secret.tif")
    plain = VRT.format("../secret.tif")
    lower = plain.replace("SourceFilename", "sourcefilename")
    spaced = plain.replace("<VRTDataset", '<VRTDataset xmlns="urn:x"')
    attribute = re.sub("<SimpleSource>\\s.*</SourceFilename>", f'<SimpleSource SourceFilename="{secret}">', plain)
    arguments = {"gain_dataset_filename_1": "a.tif", "offset_dataset_filename_1": secret, "relativeToVRT": "true"}
    arguments |= {"gain_dataset_band_1": "1", "offset_dataset_band_1": "1"}
    step = "".join(f'<Argument name="{name}">{value}</Argument>' for name, value in arguments.items())
    processed = (
        '<VRTDataset subClass="VRTProcessedDataset"><Input><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
        f"</Input><ProcessingSteps><Step><Algorithm>LocalScaleOffset</Algorithm>{step}</Step></ProcessingSteps>"
        "</VRTDataset>"
    )
    for text in (lower, spaced, attribute, processed):
        path.write_text(text)
        with pytest.raises(EarthGPTError, match=r"points to .*secret.tif', outside its folder"):
            open_scene(path)
        with warnings.catch_warnings(action="ignore"), rasterio.open(path) as file:
            assert file.read(1)[0, 0] in (7, 9 * 9 - 7), "GDAL reads the file that is named"


# --- real files --------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize("nodata", [-9999, np.nan])
def test_averages_leave_out_what_the_user_says_is_no_data(tmp_path, nodata):
    values = np.full((400, 400), 128, np.float32)
    values[:, ::2] = nodata
    write(tmp_path / "a.tif", values)
    scene = open_scene(tmp_path / "a.tif", nodata=nodata)
    found = scene._reader.read((0, 0, 400, 400), (100, 100), smooth=True)
    assert found[1].all() and (found[0] == 128).all()
    other = open_scene(tmp_path / "a.tif", nodata=1e300)._reader.read((0, 0, 400, 400), (100, 100), smooth=True)
    assert not (other[0] == 128).any(), "no value of this type is that number"
    whole = np.zeros((400, 400), np.uint8)
    whole[:, ::2] = 100
    write(tmp_path / "b.tif", whole)
    for number in (0.5, -1, 256, np.nan):
        read = open_scene(tmp_path / "b.tif", nodata=number)._reader.read((0, 0, 400, 400), (100, 100), smooth=True)
        assert (read[0] == 50).all()


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "webp"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, kind, part):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8)).save(path)
    open_scene(path).window(0, 0, 64, 96)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(EarthGPTError, match=rf"a\.{kind} is damaged"):
        open_scene(path).window(0, 0, 64, 96)


def test_real_rasters_are_understood():
    folder = real("geotiff")
    says = {
        "cog_gcps.tif": ("sar", "amplitude", 201.8), "goes.tif": ("optical", "values", 20_055),
        "S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif": ("sar", "decibels", 20.0),
        "LT52240631988227CUB02_B6.TIF": ("infrared", "values", 30.0), "RGB.byte.tif": ("optical", "values", 299.9),
    }  # fmt: skip
    for name, (sensor, units, gsd) in says.items():
        scene = open_scene(folder / name)
        assert (scene.sensor, scene.units) == (sensor, units), name
        assert scene.gsd_m == pytest.approx(gsd, rel=1e-3), name
        assert np.array_equal(mosaic(scene, 200), whole(scene)[0]), name
    scene = open_scene(sorted(folder.glob("LT5*")))
    assert [band.name for band in scene.shown] == ["B3", "B2", "B1"] and whole(scene)[0].std() > 30
    assert np.isnan(open_scene(folder / "goes.tif").to_wgs84([(0, 0)])).all(), "space beside the disc"
    scene = open_scene(folder / "corrupt.tif")
    assert whole(scene)[1].mean() == 0.75 and [block[1:] for block in scene.damaged] == [(1, 1)]
    scene = open_scene(folder / "all-nodata.tif")
    assert not whole(scene)[1].any()
