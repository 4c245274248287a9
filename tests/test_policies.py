"""What is taken of a set: the counts of the paper, and nothing that is tested on in a clean build."""

import random
from collections import Counter

import downloads
import pytest

from earthgpt import lookup
from earthgpt.config import BuildSource
from earthgpt.policies import asked, plan, take
from earthgpt.types import EarthGPTError


def turns_of(name, root, policy, defects=None, **changes):
    """(sample name, task, question, answer) of all turns."""
    card = lookup.find("datasets", name)
    taken = plan(card, policy, BuildSource(dataset=name, **changes))
    found = []
    for sample, oriented in take(card, root, taken, 0, Counter() if defects is None else defects):
        for task, turns in asked(sample, oriented, taken, random.Random(0)):
            for turn in turns:
                found.append((sample.name, type(task).__name__, turn.question, task.format(turn.answer, sample.size)))
    return found


def test_captions_of_the_paper_are_the_distinct_ones_of_all_splits(tmp_path):
    found = turns_of("rsicd", downloads.rsicd(tmp_path), "paper")
    assert len(found) == 5 * 2  # "a pond ." and "some  water ." of five images
    assert {task for _, task, _, _ in found} == {"ImageCaptioning"}


def test_a_clean_build_takes_no_test_image_and_asks_all_tasks_of_the_set(tmp_path):
    found = turns_of("rsicd", downloads.rsicd(tmp_path), "clean")
    assert "pond_5.jpg" not in {name for name, *_ in found}
    # Captions of four images, and the class of the three whose name tells it.
    assert Counter(task for _, task, _, _ in found) == {"ImageCaptioning": 8, "SceneClassification": 3}


def test_the_paper_takes_a_fifth_of_each_class_rounded_down(tmp_path):
    root = downloads.rsscn7(tmp_path, each=9)
    found = turns_of("rsscn7", root, "paper")
    assert len(found) == 7 * 1  # int(0.2 * 9) of each
    assert {answer for *_, answer in found} == set(lookup.find("datasets", "rsscn7").classes)
    assert turns_of("rsscn7", root, "paper") == found
    assert len(turns_of("rsscn7", root, "paper", share=0.5)) == 7 * 4
    other = plan(lookup.find("datasets", "rsscn7"), "paper")
    names = {sample.name for sample, _ in take(lookup.find("datasets", "rsscn7"), root, other, 1, Counter())}
    assert names != {name for name, *_ in found}, "another seed takes others"


def test_the_paper_asks_for_all_objects_and_each_class_upright_and_then_oriented(tmp_path):
    found = turns_of("hit_uav", downloads.hit_uav(tmp_path), "paper")
    # The image without objects is not asked about; DontCare is a class like others.
    assert [name for name, *_ in found] == ["normal_json/train/0_60_30_0_1.jpg"] * 6 + [
        "normal_json/val/1_60_30_0_3.jpg"
    ] * 4
    questions = [question for _, _, question, _ in found[:6]]
    assert ["oriented" in question for question in questions] == [False] * 3 + [True] * 3
    assert "all objects" in questions[0] and "all cars" in questions[1] and "all people" in questions[2]
    assert found[1][3].count(",") == 3 and found[4][3].count(",") == 7
    assert "DontCare" in found[6][3]


def test_without_the_files_of_oriented_boxes_upright_ones_are_asked_for_and_it_is_counted(tmp_path):
    defects = Counter()
    found = turns_of("hit_uav", downloads.hit_uav(tmp_path, rotated=False), "paper", defects)
    assert len(found) == 5
    assert +defects == {"images without their oriented boxes": 3}


def test_files_of_oriented_boxes_that_are_damaged_are_not_taken_for_missing(tmp_path):
    root = downloads.hit_uav(tmp_path)
    (root / "rotate_json" / "annotations" / "train.json").write_text('{"images": [')
    with pytest.raises(EarthGPTError, match=r"rotate_json/annotations/train\.json"):
        turns_of("hit_uav", root, "paper")


def test_a_clean_build_leaves_out_objects_that_nobody_could_name(tmp_path):
    defects = Counter()
    found = turns_of("hit_uav", downloads.hit_uav(tmp_path), "clean", defects)
    assert not any("DontCare" in answer for *_, answer in found)
    assert defects["objects that nobody could name"] == 1


def test_sets_of_one_class_are_asked_once_for_each_kind_of_box(tmp_path):
    found = turns_of("air_sarship2", downloads.air_sarship2(tmp_path), "paper")
    assert [question for _, _, question, _ in found] == [
        "Detect all objects shown in the remote sensing image and describe using horizontal bounding boxes."
    ]


@pytest.mark.parametrize("name", lookup.names("datasets"))
def test_every_plan_names_splits_and_tasks_of_its_card(name):
    card = lookup.find("datasets", name)
    for policy in ("paper", "clean"):
        taken = plan(card, policy)
        assert taken.splits and set(taken.splits) <= set(card.splits)
        assert taken.tasks and set(taken.tasks) <= set(card.tasks)
        if policy == "clean" and card.splits != ("all",):
            assert not any(split.startswith("test") for split in taken.splits)
        if taken.oriented_set:
            assert set(lookup.find("datasets", taken.oriented_set).splits) == set(card.splits)


def test_the_turns_of_table_1_are_those_of_the_paper():
    cards = {name: lookup.find("datasets", name) for name in lookup.names("datasets")}
    # Sets whose oriented boxes lie in files of their own count once, under the plain name.
    doubled = {card.paper.oriented_set for card in cards.values() if card.paper and card.paper.oriented_set}
    counted = {
        name: card.paper.turns
        for name, card in cards.items()
        if card.paper and card.paper.turns and name not in doubled
    }
    assert len(counted) == 34
    assert sum(counted.values()) == 1_005_842


# What Table I counts of sets whose files are whole, and what can be counted by hand of those that are not.
REAL = [
    ("floodnet", "formats/FloodNet", 4_511),
    ("sydney_captions", "formats/Sydney_captions", 2_837),
    ("dscr", "formats/DSCR", 11_951),
    ("ssdd", "formats/SSDD_coco", 1_856),
    ("rsivqa", "formats/RSIVQA", 2_795 + 2_100 + 613),  # the parts UCM and Sydney
    ("rsscn7", "RSSCN7", 445),  # of 2,240 images: int(0.2 * n) of seven classes
    ("hrsid", "HRSID", 2 * 22),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "folder", "turns"), REAL, ids=[name for name, *_ in REAL])
def test_real_files_give_the_turns_of_the_paper(name, folder, turns):
    assert len(turns_of(name, downloads.real(folder), "paper")) == turns


@pytest.mark.realdata
def test_real_boxes_of_hit_uav_give_one_turn_more_than_there_are_pairs_of_image_and_class():
    card = lookup.find("datasets", "hit_uav_oriented")
    taken = plan(card, "paper").only("val")
    samples = list(take(card, downloads.real("formats/HIT-UAV"), taken, 0, Counter()))
    turns = sum(len(turns) for pair in samples for _, turns in asked(*pair, taken, random.Random(0)))
    assert turns == 2 * 661  # 661 of val for one kind of box, DontCare as a class
