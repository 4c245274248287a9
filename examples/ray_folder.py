"""Caption a folder of images with Ray: several processes, each with the model, on this machine or a cluster.

pip install 'earthgpt[ray]'
python examples/ray_folder.py [FOLDER] [-o OUTPUT] [--workers N]
"""

import argparse
import csv
from pathlib import Path

from PIL import Image

import earthgpt
from earthgpt.datasets.synthetic import scene

try:
    import ray
except ImportError:
    raise SystemExit("error: Ray is missing: pip install 'earthgpt[ray]'") from None

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


class Captioner:
    """One process of Ray: it loads the model once, and is given paths in batches."""

    def __init__(self, model: str):
        self.model = earthgpt.load(model)

    def __call__(self, batch: dict) -> dict:
        said = []
        for path in batch["item"]:
            try:
                said.append((self.model.caption(path), ""))
            except earthgpt.EarthGPTError as error:  # one image that cannot be read is a line, not the end
                said.append(("", str(error)))
        captions, errors = zip(*said, strict=True)
        return {"image": batch["item"], "caption": list(captions), "error": list(errors)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", nargs="?", type=Path, help="of images; six drawn ones without it")
    options.add_argument("-o", "--output", type=Path, default=Path("captions.csv"))
    options.add_argument("-m", "--model", default="earthgpt-tiny")
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    if given.folder and not given.folder.is_dir():
        options.error(f"{given.folder} is no folder")
    folder = given.folder or given.output.with_name("pictures")
    if given.folder is None:
        folder.mkdir(exist_ok=True)
        for seed in range(300, 306):
            Image.fromarray(scene(seed, earthgpt.Sensor.OPTICAL, (256, 256)).image()).save(folder / f"{seed}.png")

    paths = sorted(str(path.absolute()) for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not paths:
        options.error(f"{folder} has no image ({', '.join(IMAGES)})")
    found = ray.data.from_items(paths).map_batches(
        Captioner,
        fn_constructor_args=(given.model,),
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=given.workers),
    )
    rows = sorted(found.iter_rows(), key=lambda row: row["image"])
    with given.output.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ("image", "caption", "error"))
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} images, {sum(bool(row['error']) for row in rows)} of them unreadable: {given.output}")


if __name__ == "__main__":
    try:
        main()
    except earthgpt.EarthGPTError as error:
        raise SystemExit(f"error: {error}") from None
