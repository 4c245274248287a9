"""What reading windows of a scene costs: memory for 2 x 2 km and 20 x 20 km, and pixels per second beside a plain loop.

    python benchmarks/reading.py [FOLDER]

Scenes of 0.5 m are made in the folder, about 5 GB, and kept for the next time. Without one the largest is left out, and
all are made in a temporary folder. Each is read in windows of 560 pixels
every 448, by ``Scene`` and by a plain rasterio loop (row by row; read, dataset_mask, the same stretch, GDAL's own cache
of 5 % of the memory), each in a process of its own, in turn, the best of three by its CPU time. "times the file" is how
many bytes of it were read for each that it has: 1 is every block once.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import rasterio
from processes import output, peak_kib
from table import Row, table

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
    peak = peak_kib()
    part = (read_bytes() - before) / path.stat().st_size
    print(json.dumps({"rate": count / 1e6 / seconds, "peak": peak / 1024, "read": part}))


def read_bytes() -> int:
    """How many bytes this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def rows(quick: bool = False, folder: Path | None = None) -> list[Row]:
    """Each scene by ``Scene`` and by the plain loop: pixels a second, how often the file is read, and memory."""
    names = list(SCENES)
    if folder is None:
        names.remove("20 km, tiled")
    with tempfile.TemporaryDirectory() as temporary:
        return [
            row for name in names[: 2 if quick else None] for row in measured(name, folder or Path(temporary), quick)
        ]


def measured(name: str, folder: Path, quick: bool) -> list[Row]:
    """The rows of a scene."""
    folder.mkdir(parents=True, exist_ok=True)
    side, kind, options = SCENES[name]
    path = folder / f"{name.replace(' ', '_').replace(',', '')}.tif"
    if not path.exists():
        make(path, side, kind, options)
    results: dict[str, list[dict]] = {"scene": [], "loop": []}
    for _ in range(1 if quick or side > 10_000 else ROUNDS):
        for way, one in results.items():
            one.append(json.loads(output([sys.executable, __file__, way, str(path)])))
    ours, its = (max(one, key=lambda result: result["rate"]) for one in results.values())
    rival, same = f"rasterio {rasterio.__version__}, plain loop", "valid pixels"
    return [
        Row("reading", f"{name}, a CPU second", "Mpx/s", ours["rate"], its["rate"], rival, 1, None, same),
        Row("reading", f"{name}, file read", "times", ours["read"], its["read"], rival, None, 1.0, same),
        Row("reading", f"{name}, peak memory", "MB", ours["peak"], its["peak"], rival, None, None, same),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] in (["scene"], ["loop"]):
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        print(table(rows(folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
