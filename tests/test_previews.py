"""A preview shows samples of every class with what is said of them, and counts all."""

import random
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFont

from earthgpt import previews
from earthgpt.datasets import Dataset
from earthgpt.geo.pictures import COLOURS
from earthgpt.previews import GAP, GROUND, MARGIN, WIDTH, _chosen, _counted, _printable, _wrapped, preview
from earthgpt.tasks.scene_classification import SceneClassification
from earthgpt.types import Box, EarthGPTError, OrientedBox, Question, Region, Sample, Sensor

LOOP = ("visual_grounding", "object_detection", "visual_question_answering", "scene_classification")


def dataset(samples, defects=(), tasks=LOOP) -> Dataset:
    """A data set of some samples."""

    def read(root, split, counts):
        counts.update(dict(defects))
        yield from samples

    return Dataset(
        title="Harbors",
        sensors=(Sensor.OPTICAL,),
        tasks=tasks,
        licence="CC BY 4.0",
        homepage="",
        citation="",
        splits=("train",),
        classes=("ship",),
        counts={"train": len(samples)},
        reader=read,
    )


def sample(name="a.png", image=lambda: np.zeros((200, 400, 3), np.uint8), **facts) -> Sample:
    return Sample(image, name, (400, 200), Sensor.OPTICAL, **facts)


def ship(*edges, label="ship") -> Region:
    return Region(Box(*edges), label)


def drawn(tmp_path, samples, name="out.png", **options) -> np.ndarray:
    """The pixels of a preview."""
    preview(dataset(samples, **options), tmp_path, "train", tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        return np.asarray(picture.convert("RGB"))


def places(pixels, colour) -> np.ndarray:
    return (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def frame(pixels) -> np.ndarray:
    """The image of the first sample: 420 x 210 pixels below the title."""
    top = int(np.argmax(places(pixels, "#000000")[:, MARGIN + 1]))
    return pixels[top : top + WIDTH // 2, MARGIN : MARGIN + WIDTH]


def test_boxes_are_drawn_where_they_are_in_the_colour_of_their_class(tmp_path):
    regions = (ship(0.25, 0.5, 0.5, 0.9), ship(0.3, 0.6, 0.35, 0.7), ship(0.6, 0.5, 0.8, 0.9, label="bridge"))
    image = frame(drawn(tmp_path, [sample(regions=regions)]))
    ships, bridges = places(image, COLOURS[0]), places(image, COLOURS[1])
    # The more frequent class has the first colour; edges are at 105 and 210 of 420, and 105 and 189 of 210.
    assert ships[110:184, 105].all() and ships[110:184, 210].all() and ships[189, 110:205].all()
    assert bridges[110:184, 252].all() and bridges[110:184, 336].all()
    assert not ships[:, 230:].any() and not bridges[:, :230].any()


def test_an_oriented_box_is_drawn_along_its_edges(tmp_path):
    diamond = OrientedBox(((0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5)))
    ships = places(frame(drawn(tmp_path, [sample(regions=(Region(diamond, "ship"),))])), COLOURS[0])
    assert ships[72:75, 272:275].any()  # the middle of the edge from (210, 42) to (336, 105) is (273, 73.5)
    assert not ships[105, 100:320].any()


def test_bars_have_the_colour_of_their_class_and_the_length_of_its_count(tmp_path):
    regions = (*[ship(0.1, 0.1, 0.2, 0.2)] * 4, ship(0.5, 0.5, 0.6, 0.6, label="bridge"))
    pixels = drawn(tmp_path, [sample(regions=regions, classes=("ship", "bridge", "harbor"))])
    panel = pixels[:, 2 * MARGIN + WIDTH :]
    lengths = [places(panel, colour).sum(axis=1).max() for colour in COLOURS[:3]]
    assert lengths[0] == pytest.approx(4 * lengths[1], abs=4)
    assert lengths[2] == 0  # of a class without objects


def test_very_uneven_counts_are_shown_by_their_logarithm(tmp_path):
    regions = (*[ship(0.1, 0.1, 0.2, 0.2)] * 99, ship(0.5, 0.5, 0.6, 0.6, label="bridge"))
    panel = drawn(tmp_path, [sample(regions=regions)])[:, 2 * MARGIN + WIDTH :]
    long, short = (places(panel, colour).sum(axis=1).max() for colour in COLOURS[:2])
    assert short / long == pytest.approx(np.log(2) / np.log(100), abs=0.02)


@pytest.mark.parametrize("size", [(400, 200), (0, 0)])
def test_a_missing_image_is_an_empty_frame_with_its_boxes(tmp_path, size):
    regions = (ship(0.25, 0.5, 0.5, 0.9),) if size[0] else ()
    missing = replace(sample(image=tmp_path / "nowhere.png", regions=regions), size=size, captions=("A harbor.",))
    pixels = drawn(tmp_path, [missing], tasks=("object_detection", "image_captioning"))
    assert places(pixels, GROUND).sum() > 0.9 * WIDTH * (WIDTH // 2 if size[0] else WIDTH // 3) - 8000
    assert places(pixels[:, : MARGIN + WIDTH], COLOURS[0]).any() == bool(regions)


def test_a_broken_image_does_not_stop_it(tmp_path):
    (tmp_path / "a.png").write_bytes(b"<html>404</html>")
    assert places(drawn(tmp_path, [sample(image=tmp_path / "a.png")]), GROUND).any()


def test_images_of_every_shape_and_depth_are_shown(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(30, 20) * 50).save(tmp_path / "tall.tif")
    Image.new("RGB", (900, 3)).save(tmp_path / "flat.png")
    shown = [
        replace(sample(image=tmp_path / "tall.tif"), size=(20, 30), sensor=Sensor.SAR),
        sample("flat", image=tmp_path / "flat.png"),
        sample("grey", image=lambda: np.full((8, 8), 77, np.uint8)),
    ]
    assert (drawn(tmp_path, shown) == 77).all(axis=-1).sum() >= WIDTH * WIDTH


def test_every_kind_of_fact_is_shown(tmp_path):
    facts = [
        sample("label", label="harbor", choices=("harbor", "beach")),
        sample("captions", captions=("A harbor.", "Two ships.")),
        sample("questions", questions=(Question("How many ships?", "2", "count"), Question("Is it day?", "yes"))),
        sample(
            "phrases", expressions=(ship(0.1, 0.1, 0.3, 0.5, label="the ship on the left that is longer than all"),)
        ),
        sample("nothing", complete=True, classes=("ship",)),
        sample("红外船舶数据库/dataset/images/train/" + "a_very_long_name_without_a_blank" * 5 + ".jpg"),
    ]
    pixels = drawn(tmp_path, facts, tasks=("image_captioning", "visual_grounding", *LOOP[1:]))
    assert pixels.shape[1] == 2 * MARGIN + 4 * WIDTH + 3 * GAP + 2 * GAP + 420
    assert (pixels[:, -MARGIN:] == 255).all() and (pixels[-MARGIN:] == 255).all()


def test_of_a_task_only_its_samples_and_questions_are_drawn(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(previews, "_text", lambda text, *_, **__: said.append(text) or Image.new("RGB", (1, 1)))
    both = sample("both", label="harbor", regions=(ship(0.1, 0.1, 0.3, 0.5),))
    card = dataset([sample("nothing"), both, replace(both, name="objects", label=None)])
    preview(card, tmp_path, "train", tmp_path / "a.png", task="scene_classification")
    assert {"Harbors, train: scene_classification", "both", SceneClassification().question(), "harbor"} <= set(said)
    assert not {"nothing", "objects"} & set(said) and not any("[0.1" in text for text in said)
    assert any(text.startswith("1 of 3 images") and "2 objects" in text for text in said)  # the counts are of all
    with pytest.raises(EarthGPTError, match="states nothing for image_captioning; its tasks: visual_grounding"):
        preview(card, tmp_path, "train", tmp_path / "a.png", task="image_captioning")
    with pytest.raises(EarthGPTError, match="Did you mean 'image_captioning'"):
        preview(card, tmp_path, "train", tmp_path / "a.png", task="image_captionin")


def test_a_set_without_samples_is_shown_as_such(tmp_path):
    pixels = drawn(tmp_path, [], defects=[("missing annotations", 3), ("crowds", 0)])
    assert (pixels < 100).all(axis=-1).any()


def test_defects_are_written(tmp_path):
    clean, broken = (drawn(tmp_path, [sample()], defects=[("crowds", number)]) for number in (0, 3))
    assert not np.array_equal(clean, broken)


def test_the_same_seed_gives_the_same_bytes_and_another_other_samples(tmp_path):
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        preview("synthetic", None, "val", tmp_path / name, count=4, seed=seed)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert one == same != other


def test_a_preview_is_a_jpeg_or_png(tmp_path):
    preview("synthetic", None, "val", tmp_path / "a.jpg", count=1)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == "JPEG"
    with pytest.raises(EarthGPTError, match=r"Pictures are written as \.png or \.jpg"):
        preview("synthetic", None, "val", tmp_path / "a.pdf")
    with pytest.raises(EarthGPTError, match="Cannot write"):
        preview("synthetic", None, "val", tmp_path / "nowhere" / "a.png", count=1)


def test_an_unknown_set_or_split_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match="Did you mean 'synthetic'"):
        preview("syntetic", None, "val", tmp_path / "a.png")
    with pytest.raises(EarthGPTError, match="has splits"):
        preview("synthetic", None, "all", tmp_path / "a.png")


# --- choosing ----------------------------------------------------------------------------------------------------


def test_rare_classes_are_chosen_too():
    samples = [sample(f"common {i}", label="common") for i in range(500)]
    samples[100:100] = [sample("rare", label="rare"), sample("with a ship", regions=(ship(0, 0, 1, 1),))]
    chosen, total = _chosen(samples, 4, random.Random(0))
    assert total == 502
    assert Counter(one.label for one in chosen) == {"common": 2, "rare": 1, None: 1}
    assert len(_chosen(samples[:3], 12, random.Random(0))[0]) == 3


def test_every_sample_of_a_class_has_the_same_chance():
    samples = [sample(str(i)) for i in range(5)]
    met = Counter(
        one.name for seed in range(1000) for one in _chosen(samples, 2, random.Random(seed))[0]
    )  # 400 of each are expected, with a deviation of 15
    assert all(330 < number < 470 for number in met.values()) and len(met) == 5


def test_memory_does_not_grow_with_the_set():
    def many():
        for i in range(20_000):
            yield sample(f"{i}", regions=tuple(ship(0, 0, 0.5, 0.5, label=f"class {i % 3}") for _ in range(5)))

    charts: dict[str, Counter] = {}
    tracemalloc.start()
    chosen, total = _chosen(_counted(many(), charts), 12, random.Random(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(chosen), total) == (12, 20_000)
    assert peak < 2_000_000


# --- text --------------------------------------------------------------------------------------------------------


def test_text_is_broken_between_words_and_ends_in_dots():
    font = ImageFont.load_default(15)
    text = "Please provide the horizontal bounding box of the ship [0.123,0.456,0.789,0.900;0.1,0.2,0.3,0.4]"
    lines = _wrapped(text, font, 200, 9)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert all(line[-1] in ",;]" or line.split()[-1] in text.split() for line in lines)
    short = _wrapped(text, font, 200, 2)
    assert len(short) == 2 and short[1].endswith(" ...") and font.getlength(short[1]) <= 200
    assert _wrapped("", font, 200, 2) == [""]
    assert all(font.getlength(line) <= 50 for line in _wrapped("x" * 500, font, 50, 3))


def test_letters_that_the_font_lacks_are_replaced():
    assert _printable("Forêt · 红外 “a”") == "Foret · ?? “a”"
