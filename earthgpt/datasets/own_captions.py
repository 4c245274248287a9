"""A folder of your own with images and CSV files of captions: columns image and caption."""

import csv
import io
from collections import Counter, defaultdict

from earthgpt.datasets._folder import PARTS, folder_part, in_split, nearest, own, part_in, sensor_of
from earthgpt.folders import IMAGES, files
from earthgpt.formats import distinct, shaped, text_of
from earthgpt.image_files import size_if_there
from earthgpt.types import EarthGPTError, Sample


def read(root, split, defects):
    """Every .csv with a first line of image and caption, each caption of an image on a line of its own; there may be a
    column split, and names of files or folders that say it. Images are named from where the file lies, or lie in
    another folder."""
    images = defaultdict(list)
    for path in files(root, "**/*"):
        if path.suffix.lower() in IMAGES:
            images[path.stem].append(path)
    captions, parts, strays, others = {}, {}, defaultdict(Counter), []
    for path in files(root, "**/*.csv"):
        its_part = part_in(path.relative_to(root))
        rows, first = table(path)
        ours = {"prompt", "model", "reading", "error"} <= set(rows.fieldnames)  # what a model said is not true
        if ours or not {"image", "caption"} <= set(rows.fieldnames):
            strays[path, its_part]["tables without image and caption"] += 1
            why = f"needs a first line with image and caption; it has {first.strip()!r}"
            if ours:
                why = "is what a model said: of what is true keep the columns image and caption alone"
            others.append(f"{path} {why}.")
            continue
        with shaped(path, "list of captions"):
            for row in rows:
                stated = PARTS.get((row.get("split") or "").strip().lower(), its_part)
                image = meant(root, images, path, (row["image"] or "").strip(), stated)
                if image is None:
                    strays[path, stated]["lines without an image of the folder"] += 1
                    continue
                captions.setdefault(image, []).append(row["caption"] or "")
                part = stated or folder_part(root, image)
                if parts.get(image) is None:
                    parts[image] = part
                elif part is not None and parts[image] != part:  # all its captions go with the first that says one
                    strays[image, parts[image]]["captions of another part than their image"] += 1
    if not captions and others:
        raise EarthGPTError(others[0])
    if not captions:
        raise EarthGPTError(f"No line of a .csv with image and caption names an image in {root}.")
    chosen, sensor = in_split(root, parts, split, defects, strays), sensor_of(root)
    for image, texts in captions.items():
        if image in chosen:
            name, size = image.relative_to(root).as_posix(), size_if_there(image, defects)
            yield Sample(image, name, size, sensor, captions=distinct(texts, defects))


def table(path):
    """The rows of a file, and its first line."""
    text = text_of(path)
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    return rows, first


def meant(root, images, path, name, part):
    """The image that a line names: from where its file lies, else one of that name elsewhere; else where it would lie.
    None where that is outside the folder."""
    image = path.parent / name
    if not name or not image.is_relative_to(root) or ".." in image.parts:
        return None
    if image.is_file() or image.name != name:  # one that is named with its folder is there or missing
        return image
    found = nearest(root, images, path, name, part)
    return found if found is not None and found.name == name else image


DATASET = own("Captions in a CSV file", read, ("image_captioning",))
