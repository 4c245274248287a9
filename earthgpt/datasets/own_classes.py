"""A folder of your own with a folder of images for each class."""

from collections import Counter, defaultdict

from earthgpt.datasets._folder import class_map, in_split, own, part_in, sensor_of
from earthgpt.folders import IMAGES, files
from earthgpt.formats import spelling, spellings
from earthgpt.image_files import size_if_there
from earthgpt.types import EarthGPTError, Sample


def read(root, split, defects):
    """``<class>/<image>`` or ``<part>/<class>/<image>``."""
    paths = [path for path in files(root, "**/*") if path.suffix.lower() in IMAGES]
    inside = [path for path in paths if path.parent != root]
    if not inside:
        raise EarthGPTError(f"No folders with images in {root}: put the images of each class in a folder of its name.")
    strays = defaultdict(Counter)
    for path in paths:
        if path.parent == root:
            strays[path, None]["images outside class folders"] += 1
    labels = class_map(root) or spellings(sorted({path.parent.name.replace("_", " ") for path in inside}))
    choices = tuple(dict.fromkeys(filter(None, labels.values())))
    parts = {path: part_in(path.parent.parent.relative_to(root)) for path in inside}
    chosen, sensor = in_split(root, parts, split, defects, strays), sensor_of(root)
    for path in inside:
        label = labels.get(spelling(path.parent.name))
        if path not in chosen:
            continue
        defects["images of no class"] += label is None
        if label:
            size = size_if_there(path, defects)
            yield Sample(path, path.relative_to(root).as_posix(), size, sensor, label=label, choices=choices)


DATASET = own("Class folders", read, ("scene_classification",))
