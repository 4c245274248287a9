"""Going through large scenes: tiles a second beside a plain loop, memory at any size, and objects across seams.

    python benchmarks/scenes.py
    python benchmarks/run.py scenes

The plain loop reads a tile, asks the model, and goes to the next: one at a time, as scripts do. Both ask the same model
the same question about the same tiles, and their answers are compared. Memory is the peak of a process of its own for a
scene of 2 x 2 km and one of 20 x 20 km (1 m a pixel), with a stand-in for the model: in all, and less what its
libraries held before. Seams: boxes of many sizes at random places of a scene, and a detector that sees of each tile
exactly what shows; a box is found when one of the merged ones has an IoU of at least 0.9 with it, and found once when
no other has one of 0.3.

Where sahi is installed, it drives the same stand-in for a detector over the same image, which is cut and merged by both
without a model's work: what it takes, less what the stand-in itself does, is the price of the tiles. sahi is asked to
merge greedily by the smaller area (NMM by IOS).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from guard import Timing, in_turn
from processes import output, peak_kib
from table import Row

SIDE, BOXES = 256, 1_500


def main() -> None:
    """Measures and prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="earthgpt-tiny")
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(memory(Path(arguments.memory))))
        return
    with tempfile.TemporaryDirectory() as folder:
        count, plain, ours = speed(arguments.model, arguments.tiles, Path(folder))
        print(f"{count} tiles of {SIDE} px, {arguments.model}: all answers are the same\n")
        print("| way | tiles/s | ratio |\n|---|---:|---:|")
        print(f"| one tile at a time | {count / plain.seconds:.1f} | 1.00 |")
        print(f"| earthgpt.scenes | {count / ours.seconds:.1f} | {plain.seconds / ours.seconds:.2f} |")
        print("\n| scene | pixels | tiles | MB | of them for the scene |\n|---|---:|---:|---:|---:|")
        for kilometres in (2, 20):
            path = write(Path(folder) / f"{kilometres}.tif", kilometres * 1000)
            found = measured_memory(path)
            side, mb, more = f"{kilometres * 1000:,}", found["mb"], found["more"]
            print(f"| {kilometres} x {kilometres} km | {side} x {side} | {found['tiles']:,} | {mb:.0f} | {more:.0f} |")
            path.unlink()
    seams()
    if (found := beside_sahi()) is None:
        print("\nsahi is not installed: not compared.")
        return
    theirs, ours, alone = found
    print(f"\n{BOXES:,} boxes; found: {theirs.result:,} by sahi, {ours.result:,} by us\n")
    print("| way | s | less the stand-in |\n|---|---:|---:|")
    print(f"| sahi, NMM by IOS | {theirs.seconds:.3f} | {theirs.seconds - alone.seconds:.3f} |")
    print(f"| earthgpt.scenes | {ours.seconds:.3f} | {ours.seconds - alone.seconds:.3f} |")
    print(f"| the stand-in | {alone.seconds:.3f} | |")


def rows(quick: bool = False) -> list[Row]:
    """Tiles a second, memory, and the price of tiles beside sahi, where it is installed."""
    with tempfile.TemporaryDirectory() as folder:
        count, plain, ours = speed("earthgpt-tiny", 16 if quick else 64, Path(folder))
        kilometres = 2 if quick else 20
        memory = measured_memory(write(Path(folder) / "large.tif", kilometres * 1000))["more"]
    found = [
        Row("scenes", f"{count} tiles", "tiles/s", count / ours.seconds, count / plain.seconds,
            "ours, one tile at a time", 4, None, "all answers", ours.samples),
        Row("scenes", f"memory for {kilometres} x {kilometres} km", "MB", memory, 300, "limit", 1),
    ]  # fmt: skip
    if timings := beside_sahi():
        theirs, ours, alone = timings
        prices = ours.seconds - alone.seconds, theirs.seconds - alone.seconds
        what, same = f"cutting and merging, {BOXES:,} boxes", f"found {ours.result:,}, sahi {theirs.result:,}"
        rival = f"sahi {metadata.version('sahi')}"
        found.append(Row("scenes", what, "s", *prices, rival, 10, None, same, ours.samples))
    return found


def measured_memory(path: Path) -> dict:
    """What ``memory`` finds in a process of its own."""
    return json.loads(output([sys.executable, __file__, "--memory", str(path)]))


def write(path: Path, side: int) -> Path:
    """A tiled GeoTIFF of one metre a pixel, written strip by strip."""
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    options = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    blocks = {"blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "BIGTIFF": "IF_SAFER"}
    place = {"crs": "EPSG:32633", "transform": Affine(1.0, 0, 500_000, 0, -1.0, 5_000_000)}
    row = np.random.default_rng(0).integers(60, 120, (3, 512, side), np.uint8) // 16 * 16
    with rasterio.open(path, "w", **options, **blocks, **place) as file:
        for top in range(0, side, 512):
            height = min(512, side - top)
            file.write(row[:, :height], window=Window(0, top, side, height))
    return path


def speed(name: str, tiles: int, folder: Path) -> tuple[int, Timing, Timing]:
    """How many tiles; and what one at a time, and ours, take. Raises ValueError where answers differ."""
    from earthgpt.assistant import load
    from earthgpt.geo.scene import open_scene
    from earthgpt.scenes import Job, plan, scan

    side = SIDE
    scene = open_scene(write(folder / "speed.tif", side * round(tiles**0.5)))
    assistant, job = load(name), Job("classify", side)

    def plain() -> list[str]:
        said = []
        for tile in plan(job, scene.size):
            pixels, _ = scene.window(*tile.window)
            said.append(assistant.classify(pixels).label)
        return said

    def ours() -> list[str]:
        return [feature.region.label for feature in scan(assistant, scene, job).features]

    timings = in_turn({"plain": plain, "ours": ours}, 2, 20)
    if timings["plain"].result != timings["ours"].result:
        raise ValueError("The answers differ.")
    return len(timings["plain"].result), timings["plain"], timings["ours"]


def memory(path: Path) -> dict[str, float]:
    """Tiles and peak MB of going through a scene with a stand-in for the model."""
    from earthgpt import scenes
    from earthgpt.geo.scene import open_scene

    class Processor:
        image_size = 224

        @staticmethod
        def square(pixels, sensor):
            return np.ascontiguousarray(pixels[:224, :224])

    class Assistant:
        processor = Processor

    scenes._detect = lambda assistant, job, tiles, squares: [{"objects": []} for _ in tiles]
    before = peak_kib()
    found = scenes.scan(Assistant(), open_scene(path), scenes.Job("detect", 896, 224))
    return {"tiles": found.tiles, "mb": peak_kib() / 1024, "more": (peak_kib() - before) / 1024}


def seams(side: int = 20_000, count: int = 4_000) -> None:
    """Boxes that are found, and found once, with tiles of several sizes and without."""
    from earthgpt.geo.merging import detections, merge
    from earthgpt.geo.tiles import windows
    from earthgpt.metrics.overlaps import ious

    rng = random.Random(0)
    size = (side, side)
    boxes, cells = [], side // 250
    for number in rng.sample(range(cells * cells), count):
        left, top = number % cells * 250 + rng.uniform(0, 20), number // cells * 250 + rng.uniform(0, 20)
        boxes.append((left, top, left + rng.uniform(8, 220), top + rng.uniform(8, 220)))
    print("\n| tile | overlap | parts | found | found once | s |\n|---:|---:|---:|---:|---:|---:|")
    for tile, overlap in ((side, 0), (896, 224), (896, 90), (512, 128), (256, 64)):
        corners, places = [], []
        for window in windows(size, tile, overlap):
            x, y, w, h = window
            for left, top, right, bottom in near(boxes, window):
                a, b, c, d = max(left, x), max(top, y), min(right, x + w), min(bottom, y + h)
                if c - a >= 4 and d - b >= 4:
                    corners.append(((a, b), (c, b), (c, d), (a, d)))
                    places.append(window)
        parts, scores = len(corners), [rng.uniform(0.3, 1) for _ in corners]
        began = time.perf_counter()
        merged = merge(detections(corners, ["ship"] * parts, scores, [True] * parts, places, size)).bounds
        took = time.perf_counter() - began
        right = once = 0
        for box in boxes:
            close = merged[(merged[:, 0] < box[2]) & (merged[:, 2] > box[0])
                           & (merged[:, 1] < box[3]) & (merged[:, 3] > box[1])]  # fmt: skip
            values = ious(close, np.repeat([box], len(close), axis=0)) if len(close) else np.zeros(0)
            right += (values >= 0.9).any()
            once += (values >= 0.9).any() and (values >= 0.3).sum() == 1
        print(f"| {tile:,} | {overlap} | {parts:,} | {right / count:.1%} | {once / count:.1%} | {took:.2f} |")


def beside_sahi(side: int = 4096, count: int = BOXES) -> tuple[Timing, Timing, Timing] | None:
    """Cutting, reading and merging, by sahi and by us, and the stand-in for a model alone; every pixel tells where it
    is, and so what a tile shows. None where sahi is not installed."""
    try:
        from sahi.models.base import DetectionModel
        from sahi.predict import get_sliced_prediction
        from sahi.prediction import ObjectPrediction
    except ImportError:
        return None
    from earthgpt import scenes
    from earthgpt.geo.scene import open_scene

    rng = random.Random(0)
    boxes, cells = [], side // 80
    for number in rng.sample(range(cells * cells), count):
        left, top = number % cells * 80 + rng.randrange(10), number // cells * 80 + rng.randrange(10)
        boxes.append((left, top, left + rng.randrange(8, 60), top + rng.randrange(8, 60)))
    y, x = np.mgrid[:side, :side]
    image = np.stack([x & 255, y & 255, (x >> 8) << 4 | y >> 8], -1).astype(np.uint8)

    def visible(pixels: np.ndarray) -> list[tuple]:
        low_x, low_y, high = map(int, pixels[0, 0])
        x, y = low_x + (high >> 4) * 256, low_y + (high & 15) * 256
        height, width = pixels.shape[:2]
        parts = [(max(a - x, 0), max(b - y, 0), min(c - x, width), min(d - y, height))
                 for a, b, c, d in near(boxes, (x, y, width, height))]  # fmt: skip
        return [part for part in parts if part[2] - part[0] >= 4 and part[3] - part[1] >= 4]

    class StandIn(DetectionModel):
        def check_dependencies(self, *args, **kwargs):
            pass

        def load_model(self):
            self.model = None

        def set_model(self, model, **kwargs):
            self.model = model

        def perform_inference(self, image):
            self._original_predictions = visible(image)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list=None, full_shape_list=None
        ):
            shift, full = (one[0] if isinstance(one[0], list) else one for one in (shift_amount_list, full_shape_list))
            self._object_prediction_list_per_image = [[
                ObjectPrediction(bbox=list(box), category_id=0, category_name="ship", score=0.9, shift_amount=shift,
                                 full_shape=full)
                for box in self._original_predictions
            ]]  # fmt: skip

    class Processor:
        image_size = 224

        @staticmethod
        def square(pixels, sensor):
            return pixels

    class Assistant:
        processor = Processor

    def objects(pixels: np.ndarray) -> dict:
        return {"objects": [
            {"label": "ship", "corners": [[a, b], [c, b], [c, d], [a, d]], "upright": True, "score": 0.9}
            for a, b, c, d in visible(pixels)
        ]}  # fmt: skip

    scenes._detect = lambda assistant, job, tiles, shown: [objects(one.raster.pixels) for one in shown]
    stand_in, job, scene = StandIn(model_path="none", load_at_init=False), scenes.Job("detect", 512, 128), None

    def theirs() -> int:
        found = get_sliced_prediction(
            image, stand_in, 512, 512, overlap_height_ratio=0.25, overlap_width_ratio=0.25, verbose=0,
            perform_standard_pred=False, postprocess_type="NMM", postprocess_match_metric="IOS",
        )  # fmt: skip
        return len(found.object_prediction_list)

    def ours() -> int:
        return len(scenes.scan(Assistant(), scene, job).features)

    def alone() -> int:
        windows = (tile.window for tile in scenes.plan(job, scene.size))
        return sum(len(objects(image[y : y + h, x : x + w])["objects"]) for x, y, w, h in windows)

    scene = open_scene(image)
    timings = in_turn({"theirs": theirs, "ours": ours, "alone": alone}, 3, 20, time.process_time)
    return timings["theirs"], timings["ours"], timings["alone"]


def near(boxes: list[tuple], window: tuple) -> list[tuple]:
    """The boxes that reach into a window."""
    x, y, w, h = window
    return [one for one in boxes if one[0] < x + w and one[2] > x and one[1] < y + h and one[3] > y]


if __name__ == "__main__":
    main()
