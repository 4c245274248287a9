"""What training sees: every item as often as it should come, in an order of numbers alone."""

import io
import re
import tarfile
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import downloads
import numpy as np
import pytest
from PIL import Image

from earthgpt.config import Recipe, Source
from earthgpt.conversations import write
from earthgpt.datasets import synthetic
from earthgpt.mixture import Mixture, open_sources, rows_with_rare
from earthgpt.types import Box, Conversation, EarthGPTError, Region, Sample, Sensor


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    """Nine synthetic scenes in the split "val"."""
    monkeypatch.setitem(synthetic.SPLITS, "val", range(9))


def recipe(output, **changes) -> Recipe:
    usual = {
        "output": str(output),
        "model": "none",
        "sources": (Source(dataset="synthetic", split="val"),),
        "steps": 5,
        "batch_size": 3,
        "text_tokens": 96,
        "dialogue": 0.5,
        "augment": True,
    }
    return Recipe(**{**usual, **changes})


def mixture(output, processor, **changes) -> Mixture:
    some = recipe(output, **changes)
    parts = open_sources(some)
    for number, part in enumerate(parts):
        part.rows = part.rows[: 4 if number else 6]
    return Mixture(some, parts, processor)


def test_an_item_of_the_mixture_depends_on_recipe_and_number_alone(tmp_path, processor):
    one, other = mixture(tmp_path, processor), mixture(tmp_path, processor)
    for index in (7, 0, 14):
        other[index]  # asked for in another order, after others
    for index in (0, 7, 14):
        item, again = one[index], other[index]
        assert (item.rendered, item.number, item.left_out) == (again.rendered, again.number, again.left_out)
        assert np.array_equal(item.image, again.image)
    reseeded = mixture(tmp_path, processor, seed=1)
    assert [reseeded[index].rendered for index in range(6)] != [one[index].rendered for index in range(6)]


def test_images_that_cannot_be_read_stop_or_are_left_out_with_a_count(tmp_path, processor):
    for i in range(4):
        downloads.picture(tmp_path / "in" / ("beach", "port")[i % 2] / f"{i}.jpg", i)
    path = tmp_path / "in" / "port" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    source = Source(dataset="own_classes", root=str(tmp_path / "in"), split="all")
    whole = mixture(tmp_path, processor, sources=(source,))
    with pytest.raises(EarthGPTError, match=r'1\.jpg is damaged: .*broken="left_out"'):
        [whole[index] for index in range(4)]
    some = mixture(tmp_path, processor, sources=(source,), broken="left_out")
    items = [some[index] for index in range(8)]
    assert Counter(item.number for item in items) == {0: 2, 1: 2, 3: 4}
    lost = sum((item.left_out for item in items), Counter())
    assert lost["images could not be read, and others came in their place"] == 2
    for one in (tmp_path / "in").rglob("*.jpg"):
        one.write_bytes(one.read_bytes()[:-400])
    with pytest.raises(EarthGPTError, match=r"So it is with 3 images in a row"):
        mixture(tmp_path, processor, sources=(source,), broken="left_out")[0]


def test_an_epoch_holds_every_image_as_often_as_its_source_repeats(tmp_path, processor):
    source = Source(dataset="synthetic", split="val")
    many = mixture(
        tmp_path, processor,
        sources=(source.model_copy(update={"repeat": 2.5}), source.model_copy(update={"repeat": 0.5})),
    )  # fmt: skip
    assert many.epoch_size == 6 * 2.5 + 4 * 0.5
    epochs = [Counter(many.place(index) for index in range(17 * epoch, 17 * (epoch + 1))) for epoch in range(8)]
    for epoch in epochs:
        assert sorted(epoch[0, row] for row in range(6)) == [2, 2, 2, 3, 3, 3]
        assert sorted(epoch[1, row] for row in range(4)) == [0, 0, 1, 1]
    assert len({tuple(sorted(epoch.items())) for epoch in epochs}) > 1, "the fraction is drawn anew"
    orders = [[many.place(17 * epoch + i) for i in range(17)] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert [many.place(i) for i in range(17)] == orders[0], "going back gives the same order again"


def test_turns_that_are_longer_than_text_tokens_are_counted_and_left_out(tmp_path, processor):
    some = mixture(tmp_path, processor, text_tokens=24)
    short, long = ("What?", "Ship"), ("What?", "0" * 40)
    chosen, missed = some.fill([long, short])
    assert chosen == [short]
    assert missed == {"turns were longer than text_tokens and left out": 1}
    chosen, missed = some.fill([long, long])
    assert chosen == []
    assert missed["turns were longer than text_tokens and left out"] == 2
    assert missed["images had no turn to learn"] == 1


def test_the_text_of_an_image_never_exceeds_text_tokens(tmp_path, processor):
    some = mixture(tmp_path, processor, text_tokens=120)
    lengths = [len(some[index].rendered["input_ids"]) - 1 - processor.tokens_per_image for index in range(12)]
    assert 60 < max(lengths) <= 120


def numbers_written(some: Mixture) -> set[int]:
    """How many decimals the coordinates of the first six items have."""
    decode = some.processor.tokenizer.decode
    texts = [decode([label for label in some[index].rendered["labels"] if label >= 0]) for index in range(6)]
    return {len(number) for text in texts for number in re.findall(r"\b[01]\.(\d+)", text)}


@pytest.mark.parametrize("decimals", [2, 3])
def test_the_coordinates_have_the_decimals_of_the_recipe(tmp_path, processor, decimals):
    detection = (Source(dataset="synthetic", split="val", tasks=("object_detection",)),)
    some = mixture(tmp_path, processor, sources=detection, decimals=decimals, text_tokens=512)
    assert numbers_written(some) == {decimals}


def test_the_part_of_a_source_that_is_held_out_is_not_trained_on(tmp_path):
    def names(part):
        some = recipe(tmp_path, sources=(Source(dataset="synthetic", split="val", part=part),))
        return [sample.name for sample in open_sources(some)[0].samples]

    assert names("val") == ["sar/4", "optical/6", "infrared/8"]
    assert len(names(None)) == 9
    assert sorted(names("train") + names("val")) == sorted(names(None))


def test_a_task_that_a_data_set_states_nothing_for_is_refused(tmp_path):
    source = Source(dataset="synthetic", split="val", tasks=("image_captioning", "visual_grounding"), part="val")
    assert open_sources(recipe(tmp_path, sources=(source,)))
    folder = tmp_path / "RSSCN7" / "aGrass"
    folder.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(folder / "a001.jpg")
    source = Source(dataset="rsscn7", root=str(tmp_path / "RSSCN7"), split="all", tasks=("visual_grounding",))
    with pytest.raises(EarthGPTError, match=r"No image of rsscn7 \(all\) states anything for visual_grounding"):
        open_sources(recipe(tmp_path, sources=(source,)))
    assert open_sources(recipe(tmp_path, sources=(source,), text_tokens=0, dense=1.0))  # learns no text


# --- instruction sets and shards ---------------------------------------------------------------------------------


def built(tmp_path):
    """An instruction set of captions and of a large SAR scene in windows."""
    from earthgpt.building import build
    from earthgpt.config import BuildRecipe

    sources = [
        {"dataset": "rsicd", "root": str(downloads.rsicd(tmp_path / "in" / "a")), "weight": 2.0},
        {"dataset": "air_sarship2", "root": str(downloads.air_sarship2(tmp_path / "in" / "b"))},
    ]
    build(BuildRecipe(output=str(tmp_path / "out"), sources=sources, tile=100, overlap=20, workers=1))
    return tmp_path / "out"


def texts(some: Mixture, index: int) -> str:
    return some.processor.tokenizer.decode(some[index].rendered["input_ids"])


def test_a_built_instruction_set_is_trained_on_with_its_weights(tmp_path, processor):
    some = recipe(tmp_path, sources=(Source(records=str(built(tmp_path))),), text_tokens=200)
    mixed = Mixture(some, open_sources(some), processor)
    assert mixed.sizes == [5 * 2, 3]
    seen = Counter(mixed.place(index) for index in range(13))
    assert set(seen.values()) == {1, 2} and sum(seen[0, row] == 2 for row in range(5)) == 5
    squares = [mixed[index].image for index in range(13)]
    assert all(square.shape == (64, 64, 3) for square in squares)
    said = " ".join(texts(mixed, index) for index in range(13))
    assert "a pond ." in said and "There is one ship [0.04,0.10,0.14,0.16]" in said


def test_a_built_set_that_was_copied_in_part_is_told(tmp_path):
    path = built(tmp_path) / "mmrs.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(EarthGPTError, match=r"mmrs\.jsonl has 3 records, and manifest\.json says 8"):
        open_sources(recipe(tmp_path, sources=(Source(records=str(path.parent)),)))


def test_a_turn_without_an_answer_is_left_out_and_counted(tmp_path, processor):
    some = recipe(tmp_path)
    mixed = Mixture(some, open_sources(some), processor)
    chosen, missed = mixed.fill([("What?", " "), ("What?", "a ship")])
    assert (chosen, missed) == ([("What?", "a ship")], {"turns had no answer and were left out": 1})


def test_a_released_file_is_trained_on_with_its_folder(tmp_path, processor):
    folder = built(tmp_path)
    some = recipe(tmp_path, sources=(Source(records=str(folder / "mmrs.json"), root=str(folder), sensor="sar"),))
    mixed = Mixture(some, open_sources(some), processor)
    assert mixed.epoch_size == 8
    assert sorted(mixed.place(index)[1] for index in range(8)) == list(range(8))
    assert mixed[0].image.shape == (64, 64, 3)


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path, processor):
    path = tmp_path / "hostile.jsonl"
    write(path, [Conversation.of(("../secret.png",), "?", "!")])
    some = recipe(tmp_path, sources=(Source(records=str(path), root=str(tmp_path)),))
    with pytest.raises(EarthGPTError, match="leads out of the folder"):
        Mixture(some, open_sources(some), processor)[0]


def test_shards_are_read_shard_by_shard_beside_other_sources(tmp_path, processor):
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard:05d}.tar", "w") as tar:
            for number in range(4):
                key, content = f"{shard}{number:08d}", io.BytesIO()
                Image.new("RGB", (20, 10), (60 * shard, 60 * number, 0)).save(content, "PNG")
                for suffix, data in (("png", content.getvalue()), ("txt", f"picture {shard} {number}".encode())):
                    about = tarfile.TarInfo(f"{key}.{suffix}")
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    some = recipe(tmp_path, sources=(Source(shards=str(tmp_path)), Source(dataset="synthetic", split="val")))
    mixed = Mixture(some, open_sources(some), processor)
    assert mixed.sizes == [12, 9]
    places = [mixed.place(index) for index in range(21)]
    shards = [row // 4 for part, row in places if part == 0]
    assert sorted(shards) == [0] * 4 + [1] * 4 + [2] * 4
    assert sum(one != other for one, other in pairwise(shards)) == 2, "a shard is left only when it is through"
    index = next(i for i, (part, row) in enumerate(places) if part == 0 and row == 5)
    assert "picture 1 1" in texts(mixed, index)
    assert mixed[index].image[32, 32].tolist() == [60, 60, 0]


def test_every_stretch_of_an_epoch_holds_its_share_of_every_source(tmp_path, processor):
    some = mixture(
        tmp_path, processor,
        sources=tuple(Source(dataset="synthetic", split="val", repeat=repeat) for repeat in (10.0, 5.0)),
    )  # fmt: skip
    assert some.sizes == [60, 20]
    for start in range(0, 80, 16):
        assert 11 <= sum(some.place(index)[0] == 0 for index in range(start, start + 16)) <= 13


def test_a_source_is_of_one_kind():
    with pytest.raises(ValueError, match="name one of dataset, records and shards"):
        Source(dataset="aid", records="x.json")
    with pytest.raises(ValueError, match="name one of dataset, records and shards"):
        Source(root="x")


def test_images_of_rare_classes_come_again():
    def sample(name, *labels):
        regions = tuple(Region(Box(0, 0, 1, 1), label) for label in labels)
        return Sample(Path(name), name, (9, 9), Sensor.INFRARED, regions=regions, classes=("car", "bus"))

    samples = [sample(f"{i}", "car") for i in range(97)] + [sample(f"bus {i}", "car", "bus") for i in range(3)]
    assert rows_with_rare(samples, 0.0) == list(range(100))
    often = Counter(rows_with_rare(samples, 0.75))  # sqrt(0.75 / 0.03) = 5 times; cars are in all images
    assert often == {**dict.fromkeys(range(97), 1), 97: 5, 98: 5, 99: 5}
    half = Counter(rows_with_rare(samples, 0.1875))  # 2.5 times: each two or three times
    assert {half[i] for i in (97, 98, 99)} <= {2, 3} and sum(half.values()) > 103
    scenes = [replace(one, regions=(), label=one.regions[-1].label) for one in samples]
    assert Counter(rows_with_rare(scenes, 0.75)) == often  # classes of scenes count as well
    assert rows_with_rare([replace(samples[0], regions=())], 1.0) == [0]
