"""Fine-tune the default model on a folder of your own, on a CPU, and measure it before and after.

pip install 'earthgpt[train]'
python examples/finetune_folder.py [FOLDER] [-o OUTPUT] [--steps N]

FOLDER holds a folder of images for each class, either at once (a tenth is then held out) or in ``train/`` and ``val/``.
Without one, three classes are drawn that the model has never seen. For your own captions or questions change DATASET,
TASK and METRIC (docs/data.md); for boxes see docs/training.md.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import earthgpt
from earthgpt.config import LoRA, Recipe, Source

DATASET, TASK, METRIC = "own_classes", "scene_classification", "accuracy_strict"


def draw(folder: Path, rng: np.random.Generator, count: int) -> None:
    """Orchards (dots), vineyards (stripes) and solar farms (dark blocks), of random scale, direction and colour."""
    y, x = np.mgrid[:224, :224]
    for part, images in (("train", count), ("val", count // 2)):
        for kind in ("orchard", "vineyard", "solar farm"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            for number in range(images):
                turn, scale = rng.uniform(0, np.pi), rng.uniform(0.25, 0.5)
                u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
                dark = {
                    "orchard": (np.sin(u * scale) > 0.2) & (np.sin(v * scale) > 0.2),
                    "vineyard": np.sin(u * scale) > 0,
                    "solar farm": (np.sin(u * scale / 3) > -0.6) & (np.sin(v * scale) > -0.3),
                }[kind]
                ground, plant = rng.uniform((120, 110, 70), (180, 160, 120)), rng.uniform((30, 70, 30), (70, 120, 60))
                plant = rng.uniform((20, 25, 50), (45, 55, 100)) if kind == "solar farm" else plant
                picture = np.where(dark[..., None], plant, ground) + rng.normal(0, 10, (224, 224, 3))
                Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / part / kind / f"{number}.png")


def score(model: earthgpt.EarthGPT, folder: Path) -> float:
    return earthgpt.evaluate(model, DATASET, TASK, str(folder), split="val").metrics[METRIC]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("-o", "--output", type=Path, default=Path("runs/own"))
    options.add_argument("-m", "--model", default="earthgpt-tiny")
    options.add_argument("--steps", type=int, default=120)
    options.add_argument("--images", type=int, default=32, help="drawn for each class")
    given = options.parse_args()
    if given.folder and not given.folder.is_dir():
        options.error(f"{given.folder} is no folder")
    folder = given.folder or given.output / "images"
    if given.folder is None:
        draw(folder, np.random.default_rng(0), given.images)

    recipe = Recipe(
        output=str(given.output),
        model=given.model,
        sources=(Source(dataset=DATASET, root=str(folder), split="train"),),
        trainable=("mm_projector.*", "language_model.*.lora_*"),
        lora=LoRA(rank=16),
        steps=given.steps,
        batch_size=8,
        learning_rate=1e-3,
        clip=1.0,
        workers=0,
    )
    print(f"before: {METRIC} {score(earthgpt.load(given.model), folder):.2f} on the images of val/")
    trained = earthgpt.train(recipe)
    print(f"after:  {METRIC} {score(earthgpt.load(trained.folder), folder):.2f}; the model is in {trained.folder}")


if __name__ == "__main__":
    try:
        main()
    except earthgpt.EarthGPTError as error:
        raise SystemExit(f"error: {error}") from None
