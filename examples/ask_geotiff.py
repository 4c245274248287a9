"""Ask a GeoTIFF in words, find something in it, and write that as a map layer.

python examples/ask_geotiff.py [IMAGE] [-o OUTPUT]
"""

import argparse
from pathlib import Path

import earthgpt
from earthgpt.datasets.synthetic import scene
from earthgpt.geo.geotiff import write_geotiff


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("image", nargs="?", type=Path, help="a GeoTIFF; a drawn harbour without it")
    options.add_argument("-o", "--output", type=Path, default=Path("ships.geojson"))
    given = options.parse_args()
    image = given.image or given.output.with_name("harbour.tif")
    if given.image is None:  # half a metre a pixel, in UTM zone 31
        write_geotiff(image, scene(300, earthgpt.Sensor.OPTICAL, (256, 256)).image(), 598_000, 5_920_000, 0.5, 32631)

    model = earthgpt.load()
    raster = earthgpt.open(image)
    print(raster.name, raster.size, raster.crs)
    print("What is this?", model.caption(raster))
    for question in ("How many ships are there in the image?", "Is there an airplane in the image?"):
        print(question, model.ask(raster, question))
    found = model.classify(raster, classes=["harbor", "airport", "forest"])
    print("Class:", found.label, {name: round(chance, 3) for name, chance in found.probabilities.items()})

    ships = model.detect(raster, "ship")
    earthgpt.write(given.output, ships, raster, overwrite=True)
    print(f"{len(ships)} ships, with longitude and latitude, in {given.output}")


if __name__ == "__main__":
    try:
        main()
    except earthgpt.EarthGPTError as error:
        raise SystemExit(f"error: {error}") from None
