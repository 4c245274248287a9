"""A scene of any size is gone through in tiles: all of it, once, resumed where it was, and put together right."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import earthgpt
from earthgpt import scenes
from earthgpt.datasets import synthetic
from earthgpt.generation import Answer
from earthgpt.geo.raster import open_raster
from earthgpt.geo.scene import open_scene
from earthgpt.scenes import LEAST_TILE, Job, each, plan, scan, tile_for
from earthgpt.types import EarthGPTError, Sensor

SHIPS = [(30, 30, 60, 50), (190, 100, 240, 130), (150, 195, 250, 215), (300, 10, 330, 30), (10, 270, 40, 290)]
SIZE = (360, 300)


class Detector:
    """Stands for a model that makes no mistakes: what it says of a tile follows from the pixels, ships being white."""

    tasks = ()

    class processor:
        image_size = 64

        @staticmethod
        def square(pixels, sensor):
            return pixels

    def __init__(self):
        self.asked = 0


@pytest.fixture
def detector(monkeypatch):
    """The model, and what it answers: the bounds of every white blob."""
    one = Detector()

    def detect(assistant, job, tiles, shown):
        assistant.asked += len(tiles)
        found = []
        for pixels in (one.square for one in shown):
            objects = []
            for left, top, right, bottom in blobs(pixels[..., 0] > 128):
                corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
                objects.append({"label": "ship", "corners": corners, "upright": True, "score": 0.8})
            found.append({"objects": objects})
        return found

    def say(assistant, job, tiles, shown):
        assistant.asked += len(tiles)
        return [
            {"said": str(len(blobs(pixels[..., 0] > 128))), "score": 0.5} for pixels in (one.square for one in shown)
        ]

    monkeypatch.setattr(scenes, "_detect", detect)
    monkeypatch.setattr(scenes, "_say", say)
    return one


def blobs(mask):
    """Bounds of connected parts; all are rectangles."""
    mask, found = mask.copy(), []
    for top, left in np.argwhere(mask).tolist():
        if mask[top, left]:
            right = left + int(np.argmin(np.append(mask[top, left:], False)))
            bottom = top + int(np.argmin(np.append(mask[top:, left], False)))
            mask[top:bottom, left:right] = False
            found.append((left, top, right, bottom))
    return found


@pytest.fixture(scope="module")
def pixels():
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for left, top, right, bottom in SHIPS:
        image[top:bottom, left:right] = 255
    return image


def bounds(findings):
    return sorted(tuple(round(v) for v in feature.region.box.to_pixels(SIZE)) for feature in findings.features)


# --- the plan ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)), st.integers(16, 300), st.floats(0, 0.8),
    st.sampled_from([(1.0,), (1.0, 2.0)]),
)  # fmt: skip
def test_every_pixel_is_seen_and_is_in_one_cell_of_every_scale(size, tile, part, scales):
    seen, cells = np.zeros(size[::-1], bool), np.zeros(size[::-1], int)
    for one in plan(Job("detect", tile, int(part * tile), scales=scales), size):
        x, y, w, h = one.window
        assert w > 0 and h > 0 and x + w <= size[0] and y + h <= size[1]
        seen[y : y + h, x : x + w] = True
        x, y, w, h = one.cell
        cells[y : y + h, x : x + w] += 1
    assert seen.all() and (cells == len(scales)).all()


def test_a_part_of_the_scene_is_planned_where_it_lies():
    tiles = list(plan(Job("classify", 100, area=(50, 60, 150, 100)), SIZE))
    assert [one.window for one in tiles] == [(50, 60, 100, 100), (100, 60, 100, 100)]
    assert [one.cell for one in tiles] == [(50, 60, 100, 100), (150, 60, 50, 100)]


@pytest.mark.parametrize("wrong", [{"tile": 8}, {"tile": 64, "overlap": 64}, {"task": "ask", "tile": 64, "overlap": 8}])
def test_a_job_that_cannot_be_done_is_refused(wrong):
    with pytest.raises(EarthGPTError, match=r"tile|overlap"):
        Job(**{"task": "detect", **wrong})


# --- detections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tile", "overlap"), [(400, 0), (128, 32), (100, 20), (64, 16), (200, 100)])
def test_every_object_is_found_once_whatever_the_tiles(detector, pixels, tile, overlap):
    found = scan(detector, open_scene(pixels), Job("detect", tile, overlap), batch_size=3)
    assert bounds(found) == sorted(SHIPS)
    assert found.counts == {"ship": 5} and found.empty == 0
    assert found.tiles == detector.asked == len(list(plan(Job("detect", tile, overlap), SIZE)))


def test_several_scales_find_every_object_once(detector, pixels):
    found = scan(detector, open_scene(pixels), Job("detect", 64, 16, scales=(1.0, 2.0, 4.0)))
    assert bounds(found) == sorted(SHIPS)


def test_tiles_are_asked_in_steps(pixels, monkeypatch):
    asked = []

    def generate(model, processor, conversations, squares, grammars):
        asked.append([[message.text for message in one.messages] for one in conversations])
        return [Answer("There is one ship [0,0,1,1] in the image." if len(one.messages) > 1 else "2 ", (), (), True)
                for one in conversations]  # fmt: skip

    class Model(Detector):
        model = SimpleNamespace(dense_heads=None)

    monkeypatch.setattr(scenes, "generate", generate)
    job = Job("detect", 200, classes=("ship",), steps=("count",))
    found = scan(Model(), open_scene(pixels), job)
    assert found.counts["ship"] and found.tiles == 4
    (first,), (then,) = ({tuple(texts) for texts in turn} for turn in asked)
    assert first[0].startswith("How many ships") and then[:2] == (first[0], "2") and then[2].startswith("Detect all")
    with pytest.raises(EarthGPTError, match="before oriented boxes"):
        replace(job, steps=("horizontal",))


def test_what_lies_on_no_valid_pixel_is_no_detection(detector, pixels, tmp_path):
    path = write(tmp_path / "scene.tif", pixels, nodata=255)
    found = scan(detector, open_scene(path), Job("detect", 128, 32))
    assert found.features == []


def write(path, pixels, nodata=None):
    import rasterio
    from rasterio.transform import Affine

    options = {"driver": "GTiff", "width": pixels.shape[1], "height": pixels.shape[0], "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000), "nodata": nodata}
    with rasterio.open(path, "w", **options, **place) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def test_tiles_without_a_valid_pixel_are_not_asked(detector, tmp_path):
    image = np.zeros((200, 200, 3), np.uint8)
    image[:90, :90] = 40
    found = scan(detector, open_scene(write(tmp_path / "scene.tif", image, nodata=0)), Job("ask", 100, question="n?"))
    assert (found.tiles, found.empty, detector.asked) == (4, 3, 1)
    assert found.area_km2 == pytest.approx(90 * 90 * 4 / 1e6, rel=0.01)


# --- a map of answers --------------------------------------------------------------------------------------------


def test_answers_make_a_map_and_numbers_a_total(detector, pixels, tmp_path):
    found = scan(detector, open_scene(write(tmp_path / "s.tif", pixels)), Job("ask", 120, question="How many ships?"))
    assert len(found.features) == found.tiles == 9
    assert sum(feature.region.box.area for feature in found.features) == pytest.approx(1)
    assert found.total == sum(int(feature.region.label) for feature in found.features) >= 5
    assert found.area_km2 == pytest.approx(360 * 300 * 4 / 1e6, rel=0.01)
    assert found.density["0"] == pytest.approx(found.counts["0"] / found.area_km2)


# --- the record --------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_and_no_tile_is_asked_twice(detector, pixels, tmp_path):
    record, job, scene = tmp_path / "tiles.jsonl", Job("detect", 100, 20), open_scene(pixels)

    class Killed(BaseException):
        pass

    def stop(done, total):
        if done >= 6:
            raise Killed

    with pytest.raises(Killed):
        scan(detector, scene, job, record, batch_size=3, progress=stop)
    with record.open("a") as file:
        file.write('{"window": [0, 0, 1')  # what was being written
    told = []
    found = scan(detector, scene, job, record, batch_size=3, progress=lambda *one: told.append(one))
    assert told[0] == (6, 20) and told[-1] == (20, 20)
    assert detector.asked == 20 and bounds(found) == sorted(SHIPS)
    lines = record.read_text().splitlines()
    assert len(lines) == 21 and len({tuple(json.loads(line)["window"]) for line in lines[1:]}) == 20
    assert bounds(scan(detector, scene, job, record)) == sorted(SHIPS) and detector.asked == 20


def test_a_record_of_another_job_is_refused(detector, pixels, tmp_path):
    scan(detector, open_scene(pixels), Job("detect", 100, 20), tmp_path / "r")
    with pytest.raises(EarthGPTError, match="of another job"):
        scan(detector, open_scene(pixels), Job("detect", 100, 10), tmp_path / "r")
    with pytest.raises(EarthGPTError, match="read another way"):
        scan(detector, open_scene(pixels, bands="3,2,1"), Job("detect", 100, 20), tmp_path / "r")
    with pytest.raises(EarthGPTError, match="read another way"):
        scan(detector, open_scene(pixels, "sar"), Job("detect", 100, 20), tmp_path / "r")
    scan(detector, open_scene(pixels, "sar"), Job("detect", 100, 20), tmp_path / "sar")
    for how in ({"looks": 3}, {"speckle": "lee"}, {"nodata": 0}):
        with pytest.raises(EarthGPTError, match="read another way"):
            scan(detector, open_scene(pixels, "sar", **how), Job("detect", 100, 20), tmp_path / "sar")


@pytest.mark.parametrize("text", ["what?\n", '{"scene"', "[1, 2]\n[3]\n", ""])
def test_a_record_that_is_damaged_is_told(detector, pixels, tmp_path, text):
    scan(detector, open_scene(pixels), Job("detect", 100, 20), tmp_path / "r")
    first, *rows = (tmp_path / "r").read_text().splitlines(keepends=True)
    (tmp_path / "r").write_text(text + "".join(rows) if text.endswith("\n") else first + text)
    if text.endswith("\n"):
        with pytest.raises(EarthGPTError, match=r"r is damaged: remove it"):
            scan(detector, open_scene(pixels), Job("detect", 100, 20), tmp_path / "r")
    else:  # a line that a killed run had begun
        assert scan(detector, open_scene(pixels), Job("detect", 100, 20), tmp_path / "r").tiles == 20


SCRIPT = """
import sys
import numpy as np
from earthgpt.assistant import load
from earthgpt.geo.scene import open_scene
from earthgpt.scenes import Job, scan
found = scan(load(sys.argv[1]), open_scene(np.full((400, 400, 3), 90, np.uint8)), Job("classify", 50), sys.argv[2], 2)
print(len(found.features), found.tiles)
"""


def test_a_killed_process_goes_on_to_the_same_end(tmp_path, model_folder):
    record = tmp_path / "tiles.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(model_folder), str(record)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    until = time.monotonic() + 120
    while not record.exists() or record.read_bytes().count(b"\n") < 4:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = record.read_bytes().count(b"\n") - 1
    assert 0 < kept < 64
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout.split() == ["64", "64"]
    windows = [tuple(json.loads(line)["window"]) for line in record.read_text().splitlines()[1:]]
    assert len(windows) == len(set(windows)) == 64


# --- Ray ---------------------------------------------------------------------------------------------------------


def test_two_workers_of_ray_of_which_one_is_killed_find_what_one_process_does(tmp_path, model_folder, pixels):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    pytest.importorskip("ray.data")
    from earthgpt.assistant import load

    scene = open_scene(write(tmp_path / "scene.tif", np.tile(pixels, (3, 3, 1))))
    job = Job("classify", 60)
    killed = []

    def kill(done, total):
        if 0 < done < total and not killed:
            names = ["ps", "-eo", "pid,args"]
            lines = subprocess.run(names, capture_output=True, text=True, check=True).stdout.splitlines()
            workers = [int(line.split()[0]) for line in lines if "ray::" in line and "MapWorker" in line]
            killed.extend(workers[:1])
            for number in killed:
                os.kill(number, signal.SIGKILL)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        record = tmp_path / "tiles.jsonl"
        together = scenes.scan_on_ray(str(model_folder), scene, job, record, 8, kill, workers=2)
    finally:
        ray.shutdown()
    assert killed, "a worker was there to be killed"
    alone = scan(load(str(model_folder)), scene, job, batch_size=8)
    assert together.tiles == alone.tiles == 270 and len(record.read_text().splitlines()) == 271
    assert [f.region.label for f in together.features] == [f.region.label for f in alone.features]


# --- the real model ----------------------------------------------------------------------------------------------


def test_the_model_answers_each_tile_as_it_answers_an_image(model, processor, pixels):
    from earthgpt.assistant import EarthGPT

    assistant = EarthGPT(model, processor)
    found = scan(assistant, open_scene(pixels), Job("classify", 180, classes=("harbor", "airport")))
    for feature in found.features:
        left, top, right, bottom = (round(v) for v in feature.region.box.to_pixels(SIZE))
        window = tuple(int(value) for value in feature.properties["tile"].split(","))
        x, y, w, h = window
        alone = assistant.classify(pixels[y : y + h, x : x + w], ["harbor", "airport"])
        assert feature.region.label == alone.label
        assert feature.region.score == pytest.approx(alone.probabilities[alone.label], abs=1e-3)
    said = scan(assistant, open_scene(pixels), Job("ask", 180, question="How many ships?"))
    assert len(said.features) == 4


def test_a_tile_has_the_size_that_the_model_and_the_metres_ask_for(pixels, tmp_path):
    scene = open_scene(write(tmp_path / "scene.tif", pixels))
    assert tile_for(scene, 224) == 896
    assert tile_for(scene, 224, gsd_m=4.0) == pytest.approx(448, abs=2)
    with pytest.raises(EarthGPTError, match="give --tile"):
        tile_for(open_scene(pixels), 224, gsd_m=4.0)


def test_objects_and_tiles_outside_the_outlines_are_left_out(detector, pixels):
    ring = ((0.0, 0.0), (130.0, 0.0), (130.0, 300.0), (0.0, 300.0))
    found = scan(detector, open_scene(pixels), Job("detect", 100, 20, outlines=(ring,)))
    assert bounds(found) == sorted([SHIPS[0], SHIPS[4]])
    assert found.tiles == detector.asked < len(list(plan(Job("detect", 100, 20), SIZE)))


def test_the_area_of_objects_in_outlines_is_that_of_the_outlines(detector, pixels, tmp_path):
    scene = open_scene(write(tmp_path / "scene.tif", pixels))
    ring = ((0.0, 0.0), (150.0, 0.0), (0.0, 100.0), (0.0, 0.0))  # half of 150 x 100 pixels of 4 square metres
    found = scan(detector, scene, Job("detect", 100, 20, outlines=(ring,)))
    assert found.area_km2 == pytest.approx(150 * 100 / 2 * 4 / 1e6, rel=0.01)
    asked = scan(detector, scene, Job("ask", 100, outlines=(ring,), question="How many?"))
    assert asked.area_km2 == pytest.approx(asked.tiles * 100 * 100 * 4 / 1e6, rel=0.01), (
        "of whole tiles, as answers are"
    )


def test_places_are_described_in_a_window_round_them(model, processor, pixels, tmp_path, monkeypatch):
    from earthgpt.assistant import EarthGPT
    from earthgpt.geo.areas import Area

    asked, generate = [], scenes.generate

    def hear(model, processor, conversations, squares, **options):
        asked.extend(conversations)
        return generate(model, processor, conversations, squares, **options)

    monkeypatch.setattr(scenes, "generate", hear)
    scene = open_scene(write(tmp_path / "scene.tif", pixels))
    corners = [tuple(map(float, point)) for point in scene.to_wgs84(np.array([[100.0, 100.0], [140, 130]]))]
    areas = [Area((tuple(corners),), {}), Area(((corners[0],),), {})]
    box, point = scenes.describe(EarthGPT(model, processor), scene, areas)
    assert box.region.box.to_pixels(SIZE) == pytest.approx((100, 100, 140, 130), abs=1)
    assert point.region.box.to_pixels(SIZE) == pytest.approx((84, 84, 116, 116), abs=1)
    assert scenes.around((100, 100, 40, 30), 256, SIZE) == (0, 0, 256, 256)
    assert box.properties["tile"] == "0,0,256,256" and box.region.label == box.region.label.strip()
    texts = [[message.text for message in one.messages] for one in asked]
    assert [text.startswith("Please provide a short description") for (text,) in texts] == [True, True]
    with pytest.raises(EarthGPTError, match=r"Place 1: .*does not lie in"):
        scenes.describe(EarthGPT(model, processor), scene, [Area((((16.0, 45.0),),), {})])


def test_each_image_of_many_is_said_what_it_is_said_alone(tmp_path):
    assistant, job = earthgpt.load(), Job("classify", LEAST_TILE)
    pixels = [synthetic.scene(seed, Sensor.OPTICAL, (90, 70)).image() for seed in range(3)]

    def opened(number):
        if number == 1:
            raise EarthGPTError("damaged")
        return open_scene(pixels[number]), (0, 0, 40, 40) if number == 2 else None

    found = list(each(assistant, job, range(3), opened, batch_size=2))
    assert found[1] == (1, "", None, "damaged") and [number for number, *_ in found] == [0, 1, 2]
    for (_, said, score, error), shown in ((found[0], pixels[0]), (found[2], pixels[2][:40, :40])):
        alone = assistant.classify(shown)
        assert said == alone.label and error == ""
        assert score == pytest.approx(alone.probabilities[said], abs=2e-4)


def test_a_picture_of_many_is_read_as_it_is_alone(tmp_path):
    assistant, job, path = earthgpt.load(), Job("classify", LEAST_TILE), tmp_path / "scene.jpg"
    Image.fromarray(synthetic.scene(5, Sensor.OPTICAL, (300, 200)).image()).save(path, quality=80)
    ((source, said, score, _),) = each(assistant, job, [path], open_raster)
    alone = assistant.classify(path)
    assert (source, said) == (path, alone.label) and score == pytest.approx(alone.probabilities[said], abs=1e-4)
