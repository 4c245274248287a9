"""Folders of one's own: images and annotations are found by what they are, wherever below the root they lie.

``classes.txt`` (a name on each line), ``classes.json`` (a list, or spelling -> class, null for what is to be left out)
or ``data.yaml`` says what the classes are; YOLO needs one of them. ``sensor.txt`` holds "sar" or "infrared" where the
images are not optical. Parts are folders or lists (``train.txt``) named train, val and test; where no two of them are
there, one image in ten belongs to val.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from earthgpt import folders, formats, image_files
from earthgpt.datasets import DETECTION, Dataset, Paper, part_of
from earthgpt.folders import IMAGES, files
from earthgpt.formats import AnnotatedImage
from earthgpt.outlines import floats
from earthgpt.types import EarthGPTError, Sensor

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
CLASS_FILES = ("classes.txt", "classes.json", "data.yaml", "data.yml", "obj.names")
OURS = re.compile(r"\.(yolo|yolo-obb|dota)$")  # what ``earthgpt detect`` has between the name of an image and .txt
KINDS = ("voc", "labelme", "coco", "dota", "yolo")  # where an image has annotations of several kinds, the first counts


@dataclass(frozen=True)
class Found:
    """An image file with its annotation: of which kind it is, what part of the set it belongs to, if any, and whether a
    model said it (``OURS``): then what is true comes first."""

    path: Path
    image: AnnotatedImage
    kind: str
    part: str | None
    said: bool = False


def read(root, split, defects, kinds=KINDS, classes=(), sensor=None, skipped=()):
    """Images with objects. ``classes`` hold when no file names them; images in folders of ``skipped`` are left out."""
    found, strays = annotated(root, kinds, skipped)
    labels = class_map(root)
    if labels is None:
        labels = names_beside(root) if any(one.kind == "yolo" for one in found) else None
    if labels is None:
        if any(one.kind == "yolo" and one.image.annotations for one in found):
            raise EarthGPTError(
                f"YOLO files number their classes: write their names, one on each line, to {root / 'classes.txt'}."
            )
        spelled = sorted({annotation.label for one in found for annotation in one.image.annotations})
        labels = formats.spellings(classes or spelled)
    parts, sensor = {one.path: one.part for one in found}, sensor or sensor_of(root)
    chosen = in_split(root, parts, split, defects, strays)
    for one in found:
        if one.path in chosen:
            box = formats.upright if one.kind == "coco" else as_stated
            yield from formats.detected(root, one.path, one.image, sensor, labels, defects, box)


def as_stated(annotation, size, defects):
    """Oriented where there is an outline, else upright."""
    return (formats.quadrilateral if annotation.outline else formats.upright)(annotation, size, defects)


def annotated(root, kinds, skipped):
    """The annotated images in the order of their paths; and strays: what is wrong with further files, by the file and
    the part that it belongs to, if any."""
    strays: dict[tuple[Path, str | None], Counter] = defaultdict(Counter)
    images: dict[str, list[Path]] = {}
    for path in files(root, "**/*"):
        if path.suffix.lower() in IMAGES:
            if set(skipped).isdisjoint(part.lower() for part in path.relative_to(root).parts):
                images.setdefault(path.stem, []).append(path)
            else:
                strays[path, folder_part(root, path)]["images of another sensor"] += 1
    best: dict[Path, Found] = {}
    for source in files(root, "**/*"):
        kind = kind_of(source, kinds) if source.suffix.lower() in (".xml", ".json", ".txt") else None
        if kind in kinds:
            for one in annotations(source, kind, root, images, strays):
                rival = best.get(one.path)
                if rival is not None:
                    strays[one.path, one.part]["further annotations of an image"] += 1
                if rival is None or rank(one) < rank(rival):
                    best[one.path] = one
        elif (
            kind is None
            and source.suffix.lower() == ".txt"
            and source.stem in images
            and not part_in(Path(source.name))
        ):
            strays[source, folder_part(root, source)]["annotation files of no kind that is known"] += 1
    if not best:
        holds = ", ".join(path.relative_to(root).as_posix() for path in files(root, "**/*")[:5]) or "nothing"
        raise EarthGPTError(f"No {' or '.join(kinds)} annotations of images in {root}; it holds {holds} ...")
    for path in (path for paths in images.values() for path in paths if path not in best):
        strays[path, folder_part(root, path)]["images without annotations"] += 1
    return sorted(best.values(), key=lambda one: (one.path.parent.as_posix(), folders.natural(one.path))), strays


def rank(one):
    return one.said, KINDS.index(one.kind), one.part is None


def annotations(source, kind, root, images, strays):
    """What one file says; a COCO file speaks of many images."""
    if kind == "coco":
        part = part_in(source.relative_to(root))
        for image in formats.coco(source, strays[source, part]):
            path = nearest(root, images, source, image.file, part) or source.parent / file_name(image.file)
            yield Found(path, image, kind, folder_part(root, path) or part)
        return
    part = folder_part(root, source)
    path = nearest(root, images, source, source.name, part)
    if kind in ("voc", "labelme"):
        image = formats.voc(source) if kind == "voc" else formats.labelme(source)
        path = path or nearest(root, images, source, image.file, part)
        path = path or source.with_suffix(Path(file_name(image.file)).suffix or ".jpg")  # it is missing
    elif path is None:
        strays[source, part]["annotations without an image"] += 1
        return
    elif kind == "dota":
        image = formats.dota(source)
        if OURS.search(source.stem):  # hyphens stand for blanks there
            blank = (one._replace(label=one.label.replace("-", " ")) for one in image.annotations)
            image = image._replace(annotations=tuple(blank))
    else:
        size = image_files.size_if_there(path, Counter())  # counted where the sample is made
        image = formats.yolo(source, size)
    yield Found(path, image, kind, folder_part(root, path) or part, bool(OURS.search(source.stem)))


def file_name(stated):
    """The last part of a path as some other machine wrote it."""
    return re.split(r"[\\/]", stated)[-1]


def nearest(root, images, source, file, part):
    """The image of that name whose folders resemble those of the annotation most; none of another part."""
    folders = {*source.relative_to(root).parts, *re.split(r"[\\/]", file)}
    stem = Path(file_name(file)).stem
    found = images.get(stem) or images.get(OURS.sub("", stem), ())
    there = {path: folder_part(root, path) for path in found}
    fitting = [path for path, its_part in there.items() if part is None or its_part in (None, part)]
    return max(fitting, key=lambda path: len(folders & set(path.relative_to(root).parts)), default=None)


def kind_of(path, kinds=KINDS):
    """What a text file holds, by its content; None when it is no annotation. An empty one, of an image without objects,
    is of the kind among ``kinds`` that has such files."""
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = formats.text_of(path).encode()
    content = content.lstrip(b"\xef\xbb\xbf \t\r\n")
    if content[:1] == b"<":
        return "voc" if b"<annotation" in content else None
    if content[:1] == b"{":
        return "labelme" if b'"shapes"' in content else "coco" if b'"images"' in content else None
    if path.name in CLASS_FILES or path.suffix.lower() != ".txt":
        return None
    for line in content[:4096].decode(errors="replace").splitlines()[:4]:
        fields = line.split()
        if re.match("(imagesource|gsd):", line):
            return "dota"
        if len(fields) > 8 and floats(fields[:8]) and floats(fields[8:9]) is None:
            return "dota"
        if fields and fields[0].isdecimal() and formats.yolo_line(line):
            return "yolo"
    return None if content else next((kind for kind in ("yolo", "dota") if kind in kinds), None)


def part_in(path):
    """The part that a folder or file of a relative path names: "train" for images/train2017."""
    for name in path.parts:
        parts = {PARTS[word] for word in re.findall("[a-z]+", name.lower()) if word in PARTS}
        if len(parts) == 1:
            return parts.pop()
    return None


def folder_part(root, path):
    """The part that the folders of a file below ``root`` name."""
    return part_in(path.relative_to(root).parent)


def in_split(root, parts, split, defects, strays):
    """The images of a split, given those of all with the part that each belongs to, if any.

    ``strays`` (``annotated``) are counted with the split that their file belongs to. Those of no part, and images of no
    part, are counted with the first part that is there.
    """
    if split == "all":
        for found in strays.values():
            defects.update(found)
        return set(parts)
    lists, unknown = listed(root, parts)
    stated = {lists.get(path, lists.get(path.stem, part)) for path, part in parts.items()}
    there = [part for part in dict.fromkeys(PARTS.values()) if part in stated]
    divided = len(there) > 1
    if divided and split not in there:
        raise EarthGPTError(f"{root} is divided into {' and '.join(there)}; there is no {split}.")
    if not divided and split == "test":
        raise EarthGPTError(
            f"{root} has no part for tests: put its images in a folder, or their names in a list, test."
        )

    def part_for(path, part):
        if not divided:
            return part_of(path.relative_to(root).as_posix())
        part = lists.get(path, lists.get(path.stem, part))
        return part if part in there else None

    parts = {path: part_for(path, part) for path, part in parts.items()}
    for (path, part), found in strays.items():
        if split == (part_for(path, part) or there[0]):
            defects.update(found)
    if divided:
        defects["lines without an image of the folder"] += unknown[split]
        defects["images of no part"] += list(parts.values()).count(None) if split == there[0] else 0
    return {path for path, part in parts.items() if part == split}


def listed(root, images):
    """The part whose list names an image, by its path, and by its name without suffix where no other has that; and how
    many lines of each part name no image, or cannot tell which."""
    found = [path for path in files(root, "**/*.txt") if path.stem in PARTS and kind_of(path) is None]
    stems, lists, unknown = defaultdict(list), {}, Counter()
    for path in images:
        stems[path.stem].append(path)
    others = {path.stem for path in files(root, "**/*") if path.suffix.lower() in IMAGES} if found else set()
    for path in found:
        part = PARTS[path.stem]
        for line in formats.lines(path):
            # A name may hold blanks, and more may follow it on the line.
            meant = next(filter(None, (named(said, stems) for said in (line, line.split()[0]))), [])
            if len(meant) == 1:
                lists[meant[0]] = part
                if len(stems[meant[0].stem]) == 1:
                    lists[meant[0].stem] = part
            elif meant or not any(stem_of(said, others) for said in (line, line.split()[0])):
                unknown[part] += 1
    return lists, unknown


def stem_of(said, stems):
    """The name without suffix that a line says, if it is one of some; names may hold points."""
    name = file_name(said.strip())
    return next((stem for stem in (name, Path(name).stem) if stem in stems), None)


def named(said, stems):
    """The images that a line may mean: of those of its name the ones that share most folders at the end of the path."""
    stem = stem_of(said, stems)
    if stem is None:
        return []
    folders = re.split(r"[\\/]", said.strip())[:-1]

    def shared(path):
        pairs = zip(reversed(folders), reversed(path.parent.parts), strict=False)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(folders), len(path.parts)))

    most = max(map(shared, stems[stem]))
    return [path for path in stems[stem] if shared(path) == most]


def class_map(root):
    """Spelling -> class as a file in the folder states it; None when there is no such file."""
    path = next((path for name in CLASS_FILES for path in files(root, f"**/{name}")), None)
    if path is None:
        return None
    if path.suffix == ".json":
        names = formats.load_json(path)
    else:
        names = yaml_names(path) if path.suffix in (".yaml", ".yml") else formats.lines(path)
    with formats.shaped(path, "list of classes"):
        if not isinstance(names, dict):
            names = {str(i): name for i, name in enumerate(names)}
        return formats.spellings(map(formats.string, filter(None, names.values())), names)


def names_beside(root):
    """The classes that ``earthgpt detect`` wrote beside its YOLO files; None where they are not the same everywhere."""
    lists = {tuple(formats.lines(path)) for path in files(root, "**/*.names") if OURS.search(path.stem)}
    if len(lists) != 1:
        return None
    (names,) = lists
    return formats.spellings(names, {str(i): name for i, name in enumerate(names)})


def yaml_names(path):
    """``names`` of a YOLO data file: a list, or a mapping from their numbers."""
    try:
        names = yaml.load(formats.text_of(path), Loader=yaml.BaseLoader)["names"]  # texts, lists and mappings alone
    except (yaml.YAMLError, KeyError, TypeError) as error:
        where = f": {' '.join(str(error).split())}" if isinstance(error, yaml.YAMLError) else ""
        raise EarthGPTError(f"{path} has no list of names{where}.") from None
    if not isinstance(names, list | dict) or not names:
        raise EarthGPTError(f"{path} has no list of names.")
    return names


def sensor_of(root):
    """What ``sensor.txt`` says; optical without it."""
    path = root / "sensor.txt"
    said = formats.text_of(path).strip().lower() if path.is_file() else "optical"
    if said not in set(Sensor):
        raise EarthGPTError(f"{path} says {said!r}; it may say {', '.join(Sensor)}.")
    return Sensor(said)


def own(title, reader, tasks=DETECTION):
    """The card of a folder of one's own."""
    return Dataset(
        title=title,
        sensors=tuple(Sensor),
        tasks=tasks,
        licence="your own",
        homepage="",
        citation="Your own.",
        splits=("all", "train", "val", "test"),
        classes=(),
        counts={},
        reader=reader,
    )


def infrared(title, homepage, citation, turns, classes=(), skipped=()):
    """The card of an infrared set that comes in a layout not written down anywhere, so it is read like one's own.

    The class names are to be confirmed, and named in ``classes.txt`` where they differ, by who has the download.
    """
    return Dataset(
        title=title,
        sensors=(Sensor.INFRARED,),
        tasks=DETECTION,
        licence="terms of its owner",
        homepage=homepage,
        citation=citation,
        splits=("train", "val"),
        classes=classes,
        counts={},
        reader=partial(read, classes=classes, sensor=Sensor.INFRARED, skipped=skipped),
        paper=Paper(splits=("train",), turns=turns),
    )
