"""What reading windows of a scene costs: memory for 2 x 2 km and 20 x 20 km, and pixels per second beside a plain loop.

    python benchmarks/reading.py [FOLDER]

Scenes of 0.5 m are made in the folder, about 5 GB, and kept for the next time. Each is read in windows of 560 pixels
every 448, by ``Scene`` and by a plain rasterio loop (row by row; read, dataset_mask, the same stretch, GDAL's own cache
of 5 % of the memory), each in a process of its own, in turn, the best of three. "read" is how many bytes of the file
were read for each that it has: 1 is every block once. Three minutes on two cores.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

TILE, OVERLAP, ROUNDS = 560, 112, 3
TILED = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
SCENES = {
    "2 km, tiled": (4000, "uint8", TILED),
    "20 km, tiled": (40_000, "uint8", TILED),
    "tiled uint16": (8192, "uint16", {**TILED, "predictor": 2}),
    "striped LZW": (8192, "uint8", {"compress": "lzw"}),
    "striped uint16": (8192, "uint16", {"compress": "lzw"}),
    "one block": (8192, "uint8", {"compress": "deflate", "zlevel": 1, "blockysize": 8192}),
}


def make(path: Path, side: int, kind: str, options: dict) -> None:
    """A scene of side x side pixels and three bands: a smooth ground with noise, repeated."""
    import rasterio

    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)}
    ground = np.cumsum(rng.normal(0, 1, (3, 512, 512)), axis=2) * 3 + rng.normal(0, 2, (3, 512, 512))
    ground = (ground - ground.min()) / np.ptp(ground) * (250 if kind == "uint8" else 4000)
    strip = np.tile(ground.astype(kind), (1, 1, -(-side // 512)))[:, :, :side]
    new = path.with_suffix(".new")
    with rasterio.open(
        new, "w", driver="GTiff", width=side, height=side, count=3, dtype=kind, interleave="pixel", bigtiff="yes",
        num_threads=2, **place, **options,
    ) as file:  # fmt: skip
        for top in range(0, side, 512):
            rows = min(512, side - top)
            file.write(strip[:, :rows], window=rasterio.windows.Window(0, top, side, rows))
    new.rename(path)


def by_scene(path: Path, windows: list) -> int:
    from earthgpt.geo.scene import open_scene

    scene = open_scene(path, "optical", stretch="0:4000" if "uint16" in path.name else None)
    return sum(int(scene.window(*window)[1].sum()) for window in scene.in_reading_order(windows))


def by_loop(path: Path, windows: list) -> int:
    import rasterio
    from rasterio.windows import Window

    count = 0
    with rasterio.open(path) as file:
        for window in windows:
            part = Window(*window)
            values = file.read([1, 2, 3], window=part).transpose(1, 2, 0)
            valid = file.dataset_mask(window=part) > 0
            if values.dtype != np.uint8:
                values = (np.clip(values.astype(np.float32) / 4000, 0, 1) * 255).astype(np.uint8)
            values[~valid] = 0
            count += int(valid.sum())
    return count


def measure(way: str, path: Path) -> None:
    """Reads all windows and prints what it cost as JSON; the first import of rasterio is not counted in seconds."""
    import rasterio

    from earthgpt.geo.scene import open_scene  # noqa: F401
    from earthgpt.geo.tiles import windows

    warnings.simplefilter("ignore")
    with rasterio.open(path) as file:
        size = file.width, file.height
    parts = windows(size, TILE, OVERLAP)
    before, start = read_bytes(), time.process_time()
    count = {"scene": by_scene, "loop": by_loop}[way](path, parts)
    seconds = time.process_time() - start
    assert count == sum(width * height for _, _, width, height in parts)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    part = (read_bytes() - before) / path.stat().st_size
    print(json.dumps({"rate": count / 1e6 / seconds, "peak": peak / 2**20, "read": part}))


def read_bytes() -> int:
    """How many bytes this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'scene':16}{'reader':8}{'Mpx a CPU second':>18}{'peak MB':>10}{'read':>8}")
    peaks = {}
    for name, (side, kind, options) in SCENES.items():
        path = folder / f"{name.replace(' ', '_').replace(',', '')}.tif"
        if not path.exists():
            make(path, side, kind, options)
        found: dict[str, list[dict]] = {"scene": [], "loop": []}
        for _ in range(1 if side > 10_000 else ROUNDS):
            for way, results in found.items():
                command = [sys.executable, __file__, way, str(path)]
                results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        for way, results in found.items():
            best = max(results, key=lambda result: result["rate"])
            peaks[name, way] = best["peak"]
            print(f"{name:16}{way:8}{best['rate']:18.0f}{best['peak']:10.0f}{best['read']:8.2f}", flush=True)
    for way in ("scene", "loop"):
        print(f"{way}: memory of 20 km is {peaks['20 km, tiled', way] / peaks['2 km, tiled', way]:.2f} of that of 2 km")


if __name__ == "__main__":
    if sys.argv[1:2] in (["scene"], ["loop"]):
        measure(sys.argv[1], Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
