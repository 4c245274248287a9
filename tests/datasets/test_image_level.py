"""Readers of scenes, captions and questions on tiny fake downloads; with real data, the numbers of the paper."""

import os
import shutil
from collections import Counter
from pathlib import Path

import downloads
import pytest
from fakes import FAKES, SCENES, SIZE, picture, write

from earthgpt.datasets import at_hand
from earthgpt.lookup import find
from earthgpt.types import EarthGPTError, Question


def karpathy(*images) -> dict:
    """``images`` are (file, split, captions ...)."""
    return {
        "images": [
            {"filename": file, "split": split, "imgid": 0, "sentences": [{"raw": text, "tokens": []} for text in texts]}
            for file, split, *texts in images
        ]
    }


# --- scenes ------------------------------------------------------------------------------------------------------

# The (name, label) that the reader of a set finds in its fake download.
EXPECTED = {
    "aid": [
        ("Airport/airport_1.jpg", "airport"),
        ("Airport/airport_2.jpg", "airport"),
        ("Airport/airport_10.jpg", "airport"),
        ("BareLand/bareland_1.jpg", "bare land"),
    ],
    "nwpu_resisc45": [("lake/lake_700.jpg", "lake"), ("sea_ice/sea_ice_001.jpg", "sea ice")],
    "eurosat": [("River/River_3.jpg", "river"), ("SeaLake/SeaLake_1.jpg", "sea lake")],
    "ucmerced": [("beach/beach99.tif", "beach"), ("tenniscourt/tenniscourt00.tif", "tennis court")],
    "whu_rs19": [("Beach/beach-01.jpg", "beach"), ("footballField/footballField_01.jpg", "football field")],
    "rsscn7": [("aGrass/a001.jpg", "grass"), ("gParking/g001.jpg", "parking lot"), ("farm_land/1.jpg", "field")],
    "fgscr42": [
        ("025.Megayacht/1.bmp", "megayacht"),
        ("005.Charles_de_Gaulle_aricraft_carrier/1.bmp", "charles de gaulle aircraft carrier"),
        ("007.INS_Virrat_aircraft_carrier/1.bmp", "ins viraat aircraft carrier"),
    ],
    "clrs": [
        ("bare-land/bare-land_1_Level1_4.51m.tif", "bare land"),
        ("bare-land/bare-land_2_Level3_8m.tif", "bare land"),
    ],
    "nasc_tg2": [("circle_farmland/1.jpg", "circular farmland")],
    "sar_acd": [("A320321/001.jpg", "A320/321"), ("ARJ21/001.jpg", "ARJ21")],
}
scene_sets = pytest.mark.parametrize("name", SCENES)


@scene_sets
def test_scenes_are_read_in_the_layouts_that_are_about(name, tmp_path):
    FAKES[name](tmp_path)
    dataset, defects, expected = find("datasets", name), Counter(), EXPECTED[name]
    samples = list(dataset.read(tmp_path, "all", defects))
    assert [(sample.name, sample.label) for sample in samples] == expected
    assert +defects == {"missing class folders": len(dataset.classes) - len({label for _, label in expected})}
    for sample in samples:
        assert (sample.size, (sample.sensor,), sample.choices) == (SIZE, dataset.sensors, dataset.classes)
        assert sample.image.is_absolute() and at_hand(sample)


@pytest.mark.parametrize(
    ("name", "classes"),
    {
        "nwpu_resisc45": 45,
        "eurosat": 10,
        "ucmerced": 21,
        "whu_rs19": 19,
        "fgscr42": 42,
        "clrs": 25,
        "nasc_tg2": 10,
    }.items(),
)
def test_classes_are_english_words(name, classes):
    found = find("datasets", name).classes
    assert len(found) == classes
    assert all(label == label.lower() and "_" not in label for label in found)


def test_an_image_that_is_broken_is_counted_and_keeps_its_label(tmp_path):
    write(tmp_path / "Pond" / "pond_1.jpg", "no picture")
    defects = Counter()
    (sample,) = find("datasets", "aid").read(tmp_path, "all", defects)
    assert (sample.label, sample.size) == ("pond", (0, 0))
    assert defects["unreadable images"] == 1


def test_the_share_of_each_class_that_the_paper_took_gives_its_numbers():
    def taken(name, sizes):
        return sum(int(find("datasets", name).paper.share * size) for size in sizes)

    def turns(name):
        return find("datasets", name).paper.turns

    whu_rs19 = (55, 50, 52, 56, 50, 50, 50, 53, 53, 61, 50, 50, 50, 54, 53, 50, 54, 56, 58)
    eurosat = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)
    assert taken("whu_rs19", whu_rs19) == turns("whu_rs19") == 196
    assert taken("eurosat", eurosat) == turns("eurosat") == 5_400
    assert taken("nwpu_resisc45", [700] * 45) == turns("nwpu_resisc45") == 6_300
    assert taken("ucmerced", [100] * 21) == turns("ucmerced") == 420
    assert taken("rsscn7", [400] * 7) == turns("rsscn7") == 560


def fake_dscr(root):
    picture(root / "Images" / "a_.bmp")
    picture(root / "Images" / "吉萨普_1.png", (8, 8))
    write(root / "annotations" / "train.csv", "class,label\na_.bmp,combat\n吉萨普_1.png,other\n吉萨普_1.bmp,civil\n")
    write(root / "annotations" / "val.csv", "class,label\nb_.bmp,civil\nc_.bmp,cruiser\nb_.bmp,civil\n")
    return root


def test_dscr_reads_the_file_first_and_the_class_second_whatever_the_header_says(tmp_path):
    dataset, defects = find("datasets", "dscr"), Counter()
    samples = list(dataset.read(fake_dscr(tmp_path), "train", defects))
    assert [sample.label for sample in samples] == ["combat ship", "other military ship", "civilian ship"]
    assert [sample.size for sample in samples] == [(40, 20), (8, 8), (0, 0)]
    assert +defects == {"missing images": 1}
    assert [dataset.paper.keep(sample) for sample in samples] == [True, False, True]


def test_dscr_counts_a_file_that_is_listed_twice_and_reads_it_once(tmp_path):
    defects = Counter()
    samples = list(find("datasets", "dscr").read(fake_dscr(tmp_path), "val", defects))
    assert [sample.name for sample in samples] == ["b_.bmp", "c_.bmp"]
    assert defects["files listed twice"] == 1


def test_dscr_finds_names_in_gbk_that_were_unpacked_as_something_else(tmp_path):
    name = "吉萨普_1.png"
    write(tmp_path / "train.csv", f"class,label\n{name},combat\na_{name},combat\n")
    picture(tmp_path / name.encode("gbk").decode("cp437"))
    picture(tmp_path / os.fsdecode(f"a_{name}".encode("gbk")))
    samples = list(find("datasets", "dscr").read(tmp_path, "train"))
    assert [(sample.name, sample.size) for sample in samples] == [(name, (40, 20)), (f"a_{name}", (40, 20))]


@pytest.mark.parametrize("rows", ["a.bmp\n", "a.bmp,combat,1\n", "a.bmp,submarine\n", '"' + "a" * 200_000])
def test_dscr_with_other_rows_is_an_error_that_names_the_list(rows, tmp_path):
    write(tmp_path / "train.csv", "class,label\n" + rows)
    with pytest.raises(EarthGPTError, match=r"train\.csv is no list of files and their classes: "):
        list(find("datasets", "dscr").read(tmp_path, "train"))


def test_eurosat_takes_the_colours_wherever_the_thirteen_bands_lie(tmp_path):
    for folder in ("EuroSAT_MS", "EuroSAT_RGB"):
        picture(tmp_path / "EuroSAT" / folder / "SeaLake" / f"{folder}.jpg")
    assert [sample.name for sample in find("datasets", "eurosat").read(tmp_path, "all")] == ["SeaLake/EuroSAT_RGB.jpg"]


@pytest.mark.parametrize(("name", "label"), [("rsscn7", "forest"), ("aid", "forest")])
def test_scenes_are_not_taken_from_the_set_beside(name, label, tmp_path):
    picture(tmp_path / "AID" / "Forest" / "forest_1.jpg")
    picture(tmp_path / "AID" / "Pond" / "pond_1.jpg")
    picture(tmp_path / "RSSCN7" / "aGrass" / "a001.jpg")
    picture(tmp_path / "RSSCN7" / "eForest" / "e001.jpg")
    found = [sample.name for sample in find("datasets", name).read(tmp_path, "all")]
    assert found == (
        ["aGrass/a001.jpg", "eForest/e001.jpg"] if name == "rsscn7" else ["Forest/forest_1.jpg", "Pond/pond_1.jpg"]
    )


# --- captions ----------------------------------------------------------------------------------------------------

# Set -> its file, its folder of images, as they are unpacked.
CAPTIONS = {
    "rsicd": ("dataset_rsicd.json", "RSICD_images"),
    "ucm_captions": ("UCM_captions/dataset.json", "UCM_captions/imgs"),
    "sydney_captions": ("Sydney_captions/dataset.json", "Sydney_captions/images"),
    "rsitmd": ("RSITMD/dataset_RSITMD.json", "RSITMD/images"),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions_are_distinct_and_stand_without_their_image_too(name, tmp_path):
    file, folder = CAPTIONS[name]
    content = karpathy(
        ("pond_1.tif", "train", "A pond .", " A pond .", "A  pond .", "a pond ."),
        ("pond_2.tif", "train", "", "Two ponds ."),
        ("pond_3.tif", "test", "", "A pond ."),
    )
    write(tmp_path / file, content)
    picture(tmp_path / folder / "pond_1.tif")
    defects = Counter()
    first, second = find("datasets", name).read(tmp_path, "train", defects)
    assert first.captions == ("A pond .", "A  pond .", "a pond .")  # blanks and capitals inside make a difference
    assert (first.name, first.size, at_hand(first)) == ("pond_1.tif", (40, 20), True)
    assert second.captions == ("Two ponds .",)
    assert (second.name, second.size, at_hand(second)) == ("pond_2.tif", (0, 0), False)
    assert +defects == {"empty captions": 1, "missing images": 1}


def test_two_sets_whose_files_have_one_name_are_told_apart_by_their_folder(tmp_path):
    write(tmp_path / "Sydney_captions" / "dataset.json", karpathy(("1.tif", "val", "A town .")))
    write(tmp_path / "UCM_captions" / "dataset.json", karpathy(("1.tif", "val", "A field .")))
    for name, caption in (("sydney_captions", "A town ."), ("ucm_captions", "A field .")):
        (sample,) = find("datasets", name).read(tmp_path, "val")
        assert sample.captions == (caption,)


def test_rsicd_has_a_class_only_where_the_name_tells_it(tmp_path):
    content = karpathy(("denseresidential_3.jpg", "train", "Houses ."), ("00001.jpg", "train", "A playfield ."))
    write(tmp_path / "dataset_rsicd.json", content)
    named, numbered = find("datasets", "rsicd").read(tmp_path, "train")
    assert (named.label, len(named.choices)) == ("dense residential", 30)
    assert (numbered.label, numbered.choices) == (None, ())


def test_nwpu_captions_gathers_the_numbered_keys(tmp_path):
    entry = {"filename": "lake_002.jpg", "imgid": 1, "split": "train", "sentids": 5, "raw": "A lake ."}
    entry |= {"raw_1": "A lake .", "raw_2": "Water \u2019 .", "raw_3": "", "raw_4": None, "raw_text": "no caption"}
    write(tmp_path / "dataset_nwpu.json", {"lake": [entry, entry | {"split": "test"}], "sea_ice": []})
    picture(tmp_path / "NWPU_images" / "lake" / "lake_002.jpg")
    defects = Counter()
    (sample,) = find("datasets", "nwpu_captions").read(tmp_path, "train", defects)
    assert (sample.name, sample.captions) == ("lake/lake_002.jpg", ("A lake .", "Water \u2019 ."))
    assert sample.size == (40, 20)
    assert +defects == {"empty captions": 2}


def test_nwpu_captions_of_an_image_that_is_listed_twice_are_put_together(tmp_path):
    entries = [{"filename": "lake_002.jpg", "split": "train", "raw": text} for text in ("A lake .", "Water .")]
    write(tmp_path / "dataset_nwpu.json", {"lake": entries})
    picture(tmp_path / "NWPU_images" / "lake" / "lake_002.jpg")
    defects = Counter()
    (sample,) = find("datasets", "nwpu_captions").read(tmp_path, "train", defects)
    assert sample.captions == ("A lake .", "Water .") and +defects == {"files listed twice": 1}


@pytest.mark.parametrize(
    "content", [[], {"lake": 5}, {"lake": [{"split": "train"}]}, {"lake": [{"split": "train", "filename": 5}]}]
)
def test_nwpu_captions_in_another_shape_is_an_error_that_names_the_file(content, tmp_path):
    write(tmp_path / "dataset_nwpu.json", content)
    with pytest.raises(EarthGPTError, match=r"dataset_nwpu\.json is no caption file of NWPU-Captions: "):
        list(find("datasets", "nwpu_captions").read(tmp_path, "train"))


# --- questions ---------------------------------------------------------------------------------------------------


def test_floodnet_answers_are_text_though_counts_are_written_as_numbers(tmp_path):
    rows = [
        ("2.JPG", "How many buildings are flooded?", 3, "Complex_Counting"),
        ("1.JPG", "Is the entire road flooded?", "No", "Yes_No"),
        ("2.JPG", "What is the condition of road?", "flooded,non flooded", "Condition_Recognition"),
    ]
    keys = ("Image_ID", "Question", "Ground_Truth", "Question_Type")
    content = {str(number): dict(zip(keys, row, strict=True)) for number, row in enumerate(rows)}
    write(tmp_path / "FloodNet" / "Questions" / "Training Question.json", content)
    picture(tmp_path / "FloodNet" / "Images" / "Train_Image" / "2.JPG")
    defects = Counter()
    second, first = find("datasets", "floodnet").read(tmp_path, "train", defects)
    assert second.questions == (
        Question("How many buildings are flooded?", "3", "complex counting"),
        Question("What is the condition of road?", "flooded,non flooded", "condition recognition"),
    )
    assert (second.name, second.size) == ("2.JPG", (40, 20))
    assert (first.questions[0].answer, first.size) == ("No", (0, 0))
    assert +defects == {"missing images": 1}


def test_floodnet_counts_questions_that_are_not_answered(tmp_path):
    row = {"Image_ID": "1.JPG", "Question": "How many buildings?", "Question_Type": "Simple_Counting"}
    write(tmp_path / "Questions" / "Training Question.json", {"0": row, "1": row | {"Ground_Truth": 2}})
    defects = Counter()
    (sample,) = find("datasets", "floodnet").read(tmp_path / "Questions", "train", defects)
    assert [question.answer for question in sample.questions] == ["2"]
    assert +defects == {"questions without an answer": 1, "missing images": 1}


@pytest.mark.parametrize("content", [[], {"0": 5}, {"0": {"Ground_Truth": 1}}])
def test_floodnet_in_another_shape_is_an_error_that_names_the_file(content, tmp_path):
    write(tmp_path / "Questions" / "Training Question.json", content)
    with pytest.raises(EarthGPTError, match=r"Training Question\.json is no question file of FloodNet: "):
        list(find("datasets", "floodnet").read(tmp_path, "train"))


def fake_rsvqa(root, prefix):
    def question(number, image, kind, text, *answers):
        return {"id": number, "img_id": image, "type": kind, "question": text, "answers_ids": answers, "active": True}

    questions = [
        {"id": 0, "active": False},
        question(7, 10, "comp", "Are there more roads than farms?", 70),
        question(5, 2, "rural_urban", "Is it a rural or an urban area", 50),
        question(6, 2, "count", "How many roads?", 60),
        question(8, 10, "presence", "Is there a road?", 99),
    ]
    answers = [
        {"id": number, "answer": text, "active": True} for number, text in ((60, "12"), (50, "rural"), (70, "yes"))
    ]
    write(root / f"{prefix}_questions.json", {"questions": questions})
    write(root / f"{prefix}_answers.json", {"answers": [{"id": 1, "active": False}, *answers]})


@pytest.mark.parametrize(
    ("name", "split", "prefix", "images", "names"),
    [
        ("rsvqa_lr", "val", "LR_split_val", ("Images_LR/2.tif", "Images_LR/10.tif"), ["2.tif", "10.tif"]),
        ("rsvqa_hr", "test_phili", "USGS_split_test_phili", ("Data/2.png", "Data/10.tif"), ["2", "10"]),
    ],
)
def test_rsvqa_reads_active_rows_and_counts_questions_without_an_answer(name, split, prefix, images, names, tmp_path):
    fake_rsvqa(tmp_path, prefix)
    for file in images:
        picture(tmp_path / file)
    defects = Counter()
    samples = list(find("datasets", name).read(tmp_path, split, defects))
    assert [sample.name for sample in samples] == names
    assert [sample.questions for sample in samples] == [
        (
            Question("Is it a rural or an urban area", "rural", "rural_urban"),
            Question("How many roads?", "12", "count"),
        ),
        (Question("Are there more roads than farms?", "yes", "comparison"),),
    ]
    assert all(sample.size == (40, 20) for sample in samples)
    assert +defects == {"questions without an answer": 1}


def fake_rsivqa(root):
    write(
        root / "RSIVQA" / "AID" / "rsicd_vqa.txt",
        "pond_1.jpg:what is the theme of this picture?pond\n00433.jpg:what is the theme of this picture?playfields\n",
    )
    write(
        root / "RSIVQA" / "HRRSD" / "opt_val_vqa.txt",
        "00002: does this picture contain ships?no\n"
        "00001: does this picture contain ships?yes\n"
        "00001: how many ships are there in this picture?2\n",
    )
    write(root / "RSIVQA" / "UCM" / "ucm_vqa.txt", "1.tif:what is the theme of this picture?farmland\n")
    write(
        root / "RSIVQA" / "UCM" / "ucm_res.txt",
        "1.tif:What is the location of the  in this picture?i cannot see it \n1.tif:How many?\n",
    )
    write(root.parent / "HRRSD" / "OPT2017" / "ImageSets" / "Main" / "trainval.txt", "00001\n")
    write(root.parent / "HRRSD" / "OPT2017" / "ImageSets" / "Main" / "test.txt", "00002\n")
    picture(root / "RSIVQA" / "AID" / "Pond" / "pond_1.jpg")
    picture(root.parent / "HRRSD" / "OPT2017" / "JPEGImages" / "00001.jpg")
    return root


def test_rsivqa_gathers_the_questions_of_an_image_and_finds_images_in_the_part_or_beside(tmp_path):
    dataset, defects = find("datasets", "rsivqa"), Counter()
    root = fake_rsivqa(tmp_path / "root")
    pond, numbered, ships, field = dataset.read(root, "trainval", defects)
    assert (pond.name, pond.size) == ("AID/pond_1.jpg", (40, 20))
    assert (ships.name, ships.size) == ("HRRSD/00001", (40, 20))
    assert ships.questions == (
        Question("does this picture contain ships?", "yes", "presence"),
        Question("how many ships are there in this picture?", "2", "count"),
    )
    assert [(question.kind, question.answer) for question in field.questions] == [
        ("location", "i cannot see it"),
        ("theme", "farmland"),
    ]
    assert [dataset.paper.keep(sample) for sample in (pond, numbered, ships, field)] == [True, False, True, True]
    assert +defects == {"missing question files": 3, "missing images": 2, "unreadable lines": 1}
    assert [sample.name for sample in dataset.read(root, "test")] == ["HRRSD/00002"]


def test_rsivqa_counts_what_is_wrong_with_the_file_of_both_splits_once(tmp_path):
    root = fake_rsivqa(tmp_path / "root")
    path = root / "RSIVQA" / "HRRSD" / "opt_val_vqa.txt"
    path.write_text(path.read_text() + "nonsense\n00003: how many ships?1\n")
    of_splits = {split: Counter() for split in ("trainval", "test")}
    for split, defects in of_splits.items():
        list(find("datasets", "rsivqa").read(root, split, defects))
    assert +of_splits["test"] == {"missing images": 1}
    assert of_splits["trainval"]["unreadable lines"] == 2  # another in ucm_res
    assert of_splits["trainval"]["HRRSD images without their split lists"] == 1
    (tmp_path / "HRRSD" / "OPT2017" / "ImageSets" / "Main" / "test.txt").unlink()
    for split, count in (("trainval", 0), ("test", 2)):
        list(find("datasets", "rsivqa").read(root, split, defects := Counter()))
        assert defects["HRRSD images without their split lists"] == count


def test_rsivqa_counts_what_it_cannot_divide(tmp_path):
    root = fake_rsivqa(tmp_path / "root")
    shutil.rmtree(tmp_path / "HRRSD")
    defects = Counter()
    samples = list(find("datasets", "rsivqa").read(root, "trainval", defects))
    assert [sample.name for sample in samples] == ["AID/pond_1.jpg", "AID/00433.jpg", "UCM/1.tif"]
    assert defects["HRRSD images without their split lists"] == 2


def test_crsvqa_reads_question_and_answer_in_turn(tmp_path):
    text = (
        "What is the theme of the picture\uff1f\r\nAirport\r\nHow many planes ? two\r\n3\r\nIs it left of the road?\r\n"
    )
    folder = tmp_path / "MQVQA_dataset"
    (folder / "text").mkdir(parents=True)
    (folder / "text" / "10.txt").write_bytes(text.encode())
    (folder / "text" / "9.txt").write_bytes(b"where is the lake?\r\nleft\r\n")
    picture(folder / "image" / "10.png")
    defects = Counter()
    ninth, tenth = find("datasets", "crsvqa").read(tmp_path, "all", defects)
    assert (ninth.name, ninth.size) == ("9", (0, 0))
    assert ninth.questions == (Question("where is the lake?", "left", "relation"),)
    assert tenth.questions == (
        Question("What is the theme of the picture?", "Airport", "scene"),
        Question("How many planes?", "3", "object"),
    )
    assert +defects == {"questions without an answer": 1, "missing images": 1}


def test_crsvqa_leaves_out_what_macos_puts_beside_its_files(tmp_path):
    write(tmp_path / "text" / "1.txt", "where is the lake?\nleft\n")
    write(tmp_path / "text" / "._1.txt", "Mac OS X")
    picture(tmp_path / "image" / "image" / "1.png")
    (sample,) = find("datasets", "crsvqa").read(tmp_path, "all")
    assert (sample.name, sample.size) == ("1", (40, 20))


# --- all ---------------------------------------------------------------------------------------------------------

ALL = (*SCENES, *CAPTIONS, "dscr", "nwpu_captions", "floodnet", "rsvqa_lr", "rsvqa_hr", "rsivqa", "crsvqa")


@pytest.mark.parametrize("name", ALL)
def test_a_root_without_the_files_says_what_was_looked_for(name, tmp_path):
    (tmp_path / "readme.txt").touch()
    dataset = find("datasets", name)
    with pytest.raises(EarthGPTError, match=r"^No (file or folder .*; it holds readme\.txt|class folders )"):
        list(dataset.read(tmp_path, dataset.splits[-1]))


# --- real files --------------------------------------------------------------------------------------------------


def everything(name: str, root: Path) -> dict:
    dataset = find("datasets", name)
    return {split: list(dataset.read(root, split)) for split in dataset.splits}


def turns(sample) -> int:
    """Distinct captions, one for the class of a scene, one for each question."""
    return len(sample.captions) + len(sample.questions) + (sample.label is not None)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["FloodNet", "DSCR", "Sydney_captions"])
def test_real_files_give_the_turns_of_the_paper(name):
    dataset = find("datasets", name.lower())
    parts = everything(name.lower(), downloads.real(f"formats/{name}"))
    assert {split: len(samples) for split, samples in parts.items()} == dataset.counts
    if dataset.objects:
        assert {split: sum(map(turns, samples)) for split, samples in parts.items()} == dataset.objects
    taken = [sample for split in dataset.paper.splits for sample in parts[split]]
    assert sum(turns(sample) for sample in taken if not dataset.paper.keep or dataset.paper.keep(sample)) == (
        dataset.paper.turns
    )


@pytest.mark.realdata
def test_real_files_of_floodnet_hold_the_kinds_counted_by_hand():
    (samples,) = everything("floodnet", downloads.real("formats/FloodNet")).values()
    kinds = Counter(question.kind for sample in samples for question in sample.questions)
    assert kinds == {"condition recognition": 2315, "yes no": 867, "complex counting": 693, "simple counting": 636}


@pytest.mark.realdata
def test_real_files_of_rsivqa_hold_the_numbers_counted_by_hand():
    root = downloads.real("formats/RSIVQA")
    samples = everything("rsivqa", root)["trainval"]
    parts = Counter(sample.name.partition("/")[0] for sample in samples for _ in sample.questions)
    assert (parts["Sydney"], parts["UCM"]) == (613, 2_795 + 2_100)
    assert all(question.kind for sample in samples for question in sample.questions)
    dataset = find("datasets", "rsivqa")
    if {"AID", "DOTA", "HRRSD"} <= set(parts):
        assert sum(turns(sample) for sample in samples if dataset.paper.keep(sample)) == dataset.paper.turns == 68_625


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("RSVQA-LR", {"train": 300, "val": 500, "test": 400}),
        ("RSVQA-HR", {"train": 400, "val": 300, "test": 300, "test_phili": 201}),
    ],
)
def test_real_excerpts_of_rsvqa_are_read_whole(name, questions):
    parts = everything(name.lower().replace("-", "_"), downloads.real(f"formats/{name}"))
    assert {split: sum(map(turns, samples)) for split, samples in parts.items()} == questions
    seen = [sample for samples in parts.values() for sample in samples if at_hand(sample)]
    assert seen and {sample.size for sample in seen} == {(256, 256) if name == "RSVQA-LR" else (512, 512)}


@pytest.mark.realdata
@pytest.mark.parametrize(("split", "images", "captions"), [("train", 8_224, 15_570), ("val", 747, 1_354)])
def test_real_captions_of_rsicd_hold_the_numbers_counted_by_hand(split, images, captions, tmp_path):
    # The pictures lie beside, by class; the official layout has them in one folder.
    root = downloads.real("RSICD")
    (tmp_path / "RSICD_images").mkdir()
    for path in downloads.real("AID").glob("*/*.jpg"):
        (tmp_path / "RSICD_images" / path.name).symlink_to(path)
    (tmp_path / "dataset_rsicd.json").symlink_to(root / "dataset_rsicd.json")
    defects = Counter()
    samples = list(find("datasets", "rsicd").read(tmp_path, split, defects))
    assert len(samples) == images
    assert sum(len(sample.captions) for sample in samples) == captions
    assert not +defects


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder", "images"),
    [("aid", "AID", 8_971), ("rsscn7", "RSSCN7", 2_240), ("sar_acd", "SAR-ACD", 2_401)],
)
def test_real_scenes_are_as_many_as_were_counted_by_hand(name, folder, images):
    defects = Counter()
    samples = list(find("datasets", name).read(downloads.real(folder), "all", defects))
    assert len({sample.name for sample in samples}) == len(samples) == images
    assert not +defects


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "images"), [("aid", 8_971), ("rsscn7", 2_240)])
def test_real_scenes_are_found_among_the_sets_beside_them(name, images):
    defects = Counter()
    assert len(list(find("datasets", name).read(downloads.real("."), "all", defects))) == images
    assert set(+defects) <= {"folders of no class"}


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "split", "images", "rows"),
    [
        ("floodnet", "train", 1_448, 4_511),
        ("sydney_captions", "train", 497, 2_294),
        ("dscr", "train", 13_961, 13_961),
        ("rsvqa_lr", "val", None, 500),
        ("rsvqa_hr", "test_phili", None, 201),
        ("rsivqa", "trainval", 613 + 2_100, 613 + 2_795 + 2_100),
    ],
)
def test_real_files_are_found_among_the_sets_beside_them(name, split, images, rows):
    samples = list(find("datasets", name).read(downloads.real("formats"), split))
    assert images in (None, len(samples))
    assert sum(map(turns, samples)) == rows
