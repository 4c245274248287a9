"""Files and folders of satellites are the bands they hold."""

import numpy as np
import pytest

from earthgpt.geo.scene import open_scene
from earthgpt.types import EarthGPTError, Sensor
from tests.geo.test_scene import mosaic, whole, write

rasterio = pytest.importorskip("rasterio")
UTM = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
RANDOM = np.random.default_rng(0)


def test_a_landsat_folder_is_one_scene(tmp_path):
    for number in range(2, 8):
        values = np.full((6, 6), 7273 + 1000 * number, np.uint16)
        values[0] = 0
        write(tmp_path / f"LC08_L2SP_193023_20230607_20230614_02_T1_SR_B{number}.TIF", values, **UTM)
    heat = np.full((6, 6), 44_177, np.uint16)  # 0.00341802 x 44,177 + 149 = 300 K
    write(tmp_path / "LC08_L2SP_193023_20230607_20230614_02_T1_ST_B10.TIF", heat, **UTM)
    scene = open_scene(tmp_path, stretch=(0, 0.4))
    assert [band.name for band in scene.shown] == ["B4", "B3", "B2"]
    assert (scene.sensor, scene.units) == (Sensor.OPTICAL, "reflectance")
    assert "Landsat 8" in scene.sensor_reason
    pixels, valid = whole(scene)
    # 0.0000275 x (11273, 10273, 9273) - 0.2 = 0.11, 0.0825, 0.055 of 0.4
    assert pixels[1, 0].tolist() == [70, 53, 35] and not valid[0].any() and valid[1:].all()
    thermal = open_scene(tmp_path, bands="thermal", stretch="25C:30C")
    assert (thermal.sensor, thermal.units) == (Sensor.INFRARED, "kelvin")
    assert whole(thermal)[0][0, 0, 0] == round(255 * (0.00341802 * 44_177 + 149 - 273.15 - 25) / 5)


def test_old_landsat_counts_of_8_bits_are_stretched(tmp_path):
    paths = [
        write(tmp_path / f"LT52240631988227CUB02_B{i}.TIF", np.arange(10, 74, dtype=np.uint8).reshape(8, 8), **UTM)
        for i in (1, 2, 3)
    ]
    scene = open_scene(paths)
    assert [band.colour for band in scene.shown] == ["red", "green", "blue"]
    assert whole(scene)[0].max() == 255


def test_bands_that_are_named_one_by_one_keep_their_order(tmp_path):
    names = [f"LT52240631988227CUB02_B{number}" for number in (4, 3, 2)]  # no blue: the usual false colours
    paths = [write(tmp_path / f"{name}.TIF", np.full((4, 4), i, np.uint8), **UTM) for i, name in enumerate(names)]
    assert [band.name for band in open_scene(paths).shown] == ["B4", "B3", "B2"]
    assert whole(open_scene(paths, stretch="none"))[0][0, 0].tolist() == [0, 1, 2]


def test_sentinel_2_bands_of_two_resolutions_are_one_scene(tmp_path):
    folder = tmp_path / "S2A_MSIL2A_20230101T101411_N0509_R022_T32UQD_20230101T134455.SAFE"
    images = folder / "GRANULE" / "L2A_T32UQD_A039326_20230101T101405" / "IMG_DATA"
    fine, coarse = np.arange(1000, 1400, dtype=np.uint16).reshape(20, 20), np.arange(2000, 3000, 10, dtype=np.uint16)
    half = {**UTM, "transform": rasterio.Affine(20, 0, 500_000, 0, -20, 4_000_000)}
    for resolution, names, values, grid in (
        (10, ("B02", "B03", "B04"), fine, UTM), (20, ("B02", "B05", "B12"), coarse.reshape(10, 10), half),
    ):  # fmt: skip
        for name in names:
            path = images / f"R{resolution}m" / f"T32UQD_20230101T101411_{name}_{resolution}m.jp2"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, values, driver="JP2OpenJPEG", quality=100, reversible=True, **grid)
    (folder / "MTD_MSIL2A.xml").write_text(
        '<a><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        '<BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET></a>'
    )
    scene = open_scene(folder, stretch=(0, 0.04))
    assert [band.name for band in scene.bands] == ["B2", "B3", "B4", "B5", "B12"]
    assert scene.size == (20, 20) and scene.gsd_m == pytest.approx(10, rel=1e-3)
    assert whole(scene)[0][15, 0, 0] == 191  # DN 1300 is 0.03, three quarters
    mixed = open_scene(folder, bands="B12,B05,B04", stretch=(0.1, 0.12))
    pixels = whole(mixed)[0]
    assert pixels[0, :4, 0].tolist() == [0, 0, 13, 13]  # DN 2010 is 0.101: a twentieth
    assert np.array_equal(mosaic(mixed, 7), pixels)


def test_a_sentinel_1_folder_is_sar(tmp_path):
    folder = tmp_path / "S1A_IW_GRDH_1SDV_20230101T053350_20230101T053415_046588_059567_B3A1.SAFE"
    (folder / "measurement").mkdir(parents=True)
    for i, polarisation in enumerate(("vv", "vh")):
        values = RANDOM.integers(20, 200, (16, 16)).astype(np.uint16) + 100 * i
        values[:4] = 0
        name = f"s1a-iw-grd-{polarisation}-20230101t053350-20230101t053415-046588-059567-00{i + 1}.tiff"
        write(folder / "measurement" / name, values)
    scene = open_scene(folder)
    assert (scene.sensor, scene.units) == (Sensor.SAR, "amplitude")
    assert [band.name for band in scene.bands] == ["VV", "VH"] and [band.name for band in scene.shown] == ["VV"]
    assert not whole(scene)[1][:4].any(), "the border is nodata"
    assert open_scene(folder, bands="vh").shown[0].name == "VH"
    for swath in (1, 2):
        write(folder / "measurement" / f"s1a-iw{swath}-slc-vv-20230101t053350-1-2-3-00{swath}.tiff", values)
    with pytest.raises(EarthGPTError, match="has the swaths iw, iw1, iw2; name one file of them"):
        open_scene(folder)


def test_no_file_that_was_named_is_left_out(tmp_path):
    names = ("LC08_L1TP_042034_20170616_20170629_01_T1_B4.TIF", "mask.tif")
    paths = [write(tmp_path / name, np.zeros((8, 8), np.uint8), **UTM) for name in names]
    with pytest.raises(EarthGPTError, match=r"bands of LC08_L1TP_042034_20170616_20170629_01_T1 and .*mask\.tif; name"):
        open_scene(paths)
    assert [band.name for band in open_scene(tmp_path).bands] == ["B4"], "of a folder others are left out"


def test_files_that_do_not_fit_are_no_scene(tmp_path):
    one = write(tmp_path / "one.tif", np.zeros((8, 8), np.uint8), **UTM)
    other = write(tmp_path / "other.tif", np.zeros((9, 9), np.uint8), **{**UTM, "crs": "EPSG:32632"})
    third = write(tmp_path / "third.tif", np.full((8, 8), 9, np.uint8), **UTM)
    with pytest.raises(EarthGPTError, match="are no bands of one scene, which have one CRS and place"):
        open_scene([one, other, third])
    assert whole(open_scene([one, third, third]))[0][0, 0].tolist() == [0, 9, 9]
    assert [band.name for band in open_scene([one, third, third]).bands] == ["one", "third", "third"]
