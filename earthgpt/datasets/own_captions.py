"""A folder of your own with images and a CSV file of captions: columns image and caption."""

import csv
import io
from collections import Counter, defaultdict

from earthgpt.datasets._folder import PARTS, folder_part, in_split, own, sensor_of
from earthgpt.formats import distinct, layout, shaped, size_if_there, text_of
from earthgpt.types import EarthGPTError, Sample


def read(root, split, defects):
    """``captions.csv`` (or any .csv): each caption of an image on a line of its own; there may be a column split."""
    path = layout(root, "captions.csv", "*.csv")
    text = text_of(path)
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    if not {"image", "caption"} <= set(rows.fieldnames):
        raise EarthGPTError(f"{path} needs a first line with image and caption; it has {first.strip()!r}.")
    captions, parts, strays = {}, {}, defaultdict(Counter)
    with shaped(path, "list of captions"):
        for row in rows:
            image = path.parent / (row["image"] or "").strip()
            stated = PARTS.get((row.get("split") or "").strip().lower())
            if image == path.parent or not image.is_relative_to(root) or ".." in image.parts:
                strays[path, stated]["lines without an image of the folder"] += 1
                continue
            captions.setdefault(image, []).append(row["caption"] or "")
            part = stated or folder_part(root, image)
            if parts.setdefault(image, part) != part:  # all its captions go with the first
                strays[image, parts[image]]["captions of another part than their image"] += 1
    chosen, sensor = in_split(root, parts, split, defects, strays), sensor_of(root)
    for image, texts in captions.items():
        if image in chosen:
            name, size = image.relative_to(root).as_posix(), size_if_there(image, defects)
            yield Sample(image, name, size, sensor, captions=distinct(texts, defects))


DATASET = own("Captions in a CSV file", read, ("image_captioning",))
