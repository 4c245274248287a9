"""Ships of a SAR scene of any size to GeoPackage: in tiles, merged across seams, going on where it was stopped.

python examples/ships_in_sar.py [SCENE] [-o OUTPUT] [--tile PIXELS]
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

import earthgpt
from earthgpt.datasets.synthetic import scene as draw
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.scene import open_scene
from earthgpt.scenes import Job, scan


def open_sea(path: Path, side: int) -> None:
    """A mosaic of drawn scenes of open sea as amplitudes of 16 bits, three metres a pixel."""
    drawn = (draw(seed, earthgpt.Sensor.SAR, (256, 256)) for seed in range(300, 600))
    cells = [one.image() for one in islice((one for one in drawn if one.label == "open sea"), side**2)]
    rows = [np.concatenate(cells[row * side : (row + 1) * side], axis=1) for row in range(side)]
    write_geotiff(path, np.concatenate(rows).astype(np.uint16) * 40, 372_000, 142_000, 3.0, 32648)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("scene", nargs="?", type=Path, help="amplitude, intensity or decibels; drawn without it")
    options.add_argument("-o", "--output", type=Path, default=Path("ships.gpkg"))
    options.add_argument("--tile", type=int, default=256, help="side of a tile in pixels of the scene")
    given = options.parse_args()
    path = given.scene or given.output.with_name("sea.tif")
    if given.scene is None:
        open_sea(path, 2)

    scene = open_scene(path, sensor="sar")  # reads no pixels; to decibels and 8 bits, one stretch for all tiles
    job = Job("detect", tile=given.tile, overlap=given.tile // 4, classes=("ship",), oriented=True)
    record = given.output.with_suffix(".tiles.jsonl")  # answers as they come: the same command goes on from here
    found = scan(earthgpt.load(), scene, job, record)
    with earthgpt.open_writer(given.output, scene, overwrite=True) as writer:
        writer.add(found.features)
    record.unlink()
    print(f"{len(found.features)} ships in {found.tiles} tiles, {found.area_km2:.2f} square kilometres: {given.output}")


if __name__ == "__main__":
    try:
        main()
    except earthgpt.EarthGPTError as error:
        raise SystemExit(f"error: {error}") from None
