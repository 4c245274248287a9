"""Anybody's predictions are read as they are found in the wild, and what is wrong in a file is named by its line."""

import csv
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgpt.lookup import find, names
from earthgpt.predictions import read_predictions, score
from earthgpt.reports import Report, compare
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

VQA, GROUND, DETECT = "visual_question_answering", "visual_grounding", "object_detection"
LINE = {"id": "1", "image": "a.png", "question": "q", "prediction": "yes", "truth": "yes"}


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSON lines; a row that is bytes as it is."""

    def call(*rows, name="predictions.jsonl"):
        lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
        (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
        return tmp_path / name

    return call


def read(path, task, **more):
    return read_predictions(path, find("tasks", task), **more)


# --- shapes in the wild ------------------------------------------------------------------------------------------

WORDS = {
    "ours": LINE,
    "EarthDial, VQA": {"question": "q", "answer": "yes", "annotation": "yes", "vqa_type": "presence"},
    "GeoChat, VRSBench": {"question_id": 7, "image_id": "P1", "question": "q", "ground_truth": "yes",
                          "answer": "yes", "type": "presence"},
    "plain": {"question": "q", "prediction": "yes", "ground_truth": "yes"},
    "output": {"input": "q", "output": "yes", "Ground truth": "yes"},
    "LLaMA-Factory": {"prompt": "q", "predict": "yes", "label": "yes"},
    "ms-swift": {"query": "q", "response": "yes", "labels": "yes"},
    "lmms-eval": {"doc_id": 0, "doc": {"question": "q", "type": "presence"}, "target": "yes", "resps": [["yes!"]],
                  "filtered_resps": ["yes"]},
    "VLMEvalKit": {"index": 0, "question": "q", "answer": "yes", "prediction": "yes", "category": "presence"},
}  # fmt: skip


@pytest.mark.parametrize("shape", WORDS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "logs", "by id", "csv", "tsv"])
def test_words_are_read_in_every_shape(write, tmp_path, shape, kind):
    rows = [WORDS[shape], {**WORDS[shape], **dict.fromkeys(("id", "question_id", "index", "doc_id"), 8)}]
    rows[1] = {key: value for key, value in rows[1].items() if key in WORDS[shape]}
    path = tmp_path / f"file.{kind}"
    if kind == "jsonl":
        path = write(*rows)
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if kind == "csv" else "\t")
            flat = [{**row.get("doc", {}), **row} for row in rows]
            flat = [{key: value for key, value in row.items() if not isinstance(value, dict | list)} for row in flat]
            if shape == "lmms-eval":
                flat = [{**row, "resps": "yes"} for row in flat]
            writer.writerows([list(flat[0]), *(list(row.values()) for row in flat)])
    else:
        one = {"logs": {"model": "m", "logs": rows}, "by id": {"a": rows[0], "b": rows[1]}}.get(kind, rows)
        path.write_text(json.dumps(one, indent=1))
    found = read(path, VQA)
    assert [(one.truth, one.prediction, one.question) for one in found.questions] == [("yes", "yes", "q")] * 2
    assert {one.kind for one in found.questions} <= {"presence", ""}
    assert found.lines == 2 and not found.defects


def test_captions_in_fields_of_their_own(write):
    row = {"question": "q", "answer": "a ship", "caption0": "a ship", "caption1": "one boat", "caption2": ""}
    found = read(write(row), "image_captioning")
    assert found.questions[0].truth == ("a ship", "one boat")
    assert found.fields["truth"] == "caption0, caption1, caption2"
    found = read(write({"prediction": "a ship", "references": ["a ship", "one boat"]}), "image_captioning")
    assert found.questions[0].truth == ("a ship", "one boat")


def test_names_of_fields_can_be_given(write):
    path = write({"text": "no", "mine": "yes", "theirs": "yes"})
    found = read(path, VQA, fields={"prediction": "mine", "truth": "theirs"})
    assert found.questions[0].prediction == "yes"
    with pytest.raises(EarthGPTError, match="no field 'other' for the truth; it has text, mine, theirs"):
        read(path, VQA, fields={"truth": "other"})
    with pytest.raises(EarthGPTError, match="role of a field is one of"):
        read(path, VQA, fields={"thruth": "theirs"})
    with pytest.raises(EarthGPTError, match=r"no field that is called like a truth.*--field truth=NAME"):
        read(path, VQA)


# By hand, in an image of 200 x 100: the box of a quarter, left and top.
QUARTER = Box(0.1, 0.2, 0.6, 0.7)
BOXES = {
    "fractions": ("[0.1, 0.2, 0.6, 0.7]", "image"),
    "a list": ([0.1, 0.2, 0.6, 0.7], "image"),
    "percent": ("[[10, 20, 60, 70]]", "0-100"),
    "EarthDial": ("[[10, 20, 60, 70, 0]]", "0-100"),
    "GeoChat": ("{<10><20><60><70>|<0>}", "0-100"),
    "InternVL": ("<ref>ship</ref><box>[[100, 200, 600, 700]]</box>", "0-1000"),
    "Qwen-VL": ("<|box_start|>(100,200),(600,700)<|box_end|>", "0-1000"),
    "Qwen2.5-VL": ('```json\n[{"bbox_2d": [100, 200, 600, 700], "label": "ship"}]\n```', "0-1000"),
    "pixels": ("The ship is at [20, 20, 120, 70].", "pixels"),
    "no brackets": ("20 20 120 70", "pixels"),
    "an object": ({"box": [20, 20, 120, 70]}, "pixels"),
    "two points": ([[20, 20], [120, 70]], "pixels"),
    "our padded square": ("[0.100,0.350,0.600,0.600]", "square"),
}


@pytest.mark.parametrize("shape", BOXES)
def test_boxes_are_read_in_every_shape_and_frame(write, shape):
    text, frame = BOXES[shape]
    row = {"prediction": text, "truth": text, "width": 200, "height": 100}
    (one,) = read(write(row), GROUND, frame=frame, truth_frame=frame).questions
    for edge in ("left", "top", "right", "bottom"):
        assert getattr(one.truth, edge) == pytest.approx(getattr(QUARTER, edge))
    assert one.prediction == one.truth and one.size == (200, 100)


@pytest.mark.parametrize(
    ("truth", "said", "sizes", "frames"),
    [
        ("[0.5,0.5,1,1]", "[0.1,0.1,0.2,0.2]", {}, ("image", "image")),
        ("[5,5,99,99]", "[1,2,30,40]", {}, ("0-100", "0-100")),
        ("[5,5,99,99]", "[0.05,0.05,0.99,0.99]", {}, ("0-100", "image")),
        ("[5,5,99,99]", "[50,50,990,990]", {}, ("0-100", "0-1000")),
        ("[5,5,990,990]", "[5,5,990,990]", {}, ("0-1000", "0-1000")),
        ("[5,5,990,990]", "[5,5,990,990]", {"width": 1000, "height": 1000}, ("pixels", "pixels")),
        ("[5,5,990,990]", "[5,5,990,990]", {"hw": [800, 800]}, ("0-1000", "0-1000")),
        ("[5,5,4000,3000]", "[5,5,4000,3000]", {}, ("pixels", "pixels")),
        ("[200,300,450,480]", "[0.2,0.3,0.45,0.48]", {"width": 500, "height": 500}, ("pixels", "image")),
        ("[200,300,450,480]", "[40,60,90,96]", {"width": 500, "height": 500}, ("pixels", "0-100")),
        ("[200,300,450,480]", "[410,610,890,940]", {"width": 500, "height": 500}, ("pixels", "0-1000")),
        ("[200,300,450,480]", "[190,310,455,490]", {"width": 500, "height": 500}, ("pixels", "pixels")),
        ("[200,300,1450,1480]", "[40,60,90,96]", {}, ("pixels", "pixels")),
    ],
)  # fmt: skip
def test_frames_are_guessed_from_the_numbers(write, truth, said, sizes, frames):
    found = read(write({"prediction": said, "truth": truth, **sizes}), GROUND)
    assert (found.frames["truth"], found.frames["prediction"]) == frames
    assert found.questions[0].prediction is not None


def test_numbers_and_truths_of_json_are_words(write):
    rows = [
        {"id": 1, "prediction": "3", "truth": 3.0},
        {"id": 2, "prediction": True, "truth": "Yes"},
        {"id": 3, "prediction": "2.5", "truth": 2.5},
    ]
    report, _ = score("visual_question_answering", write(*rows))
    assert report.metrics["accuracy_strict"] == 1


def test_pixels_without_sizes_overlap_as_they_do_in_pixels(write):
    report, _ = score(GROUND, write({"prediction": "[0,0,2000,1000]", "truth": "[1000,0,3000,1000]"}))
    assert report.metrics["mean_iou"] == pytest.approx(1 / 3)


def test_a_fifth_number_turns_the_box_against_the_clock_unless_told_otherwise(write):
    row = {"prediction": "[40, 50, 60, 50, 90]", "truth": "[[20, 40, 80, 60, 30]]", "width": 100, "height": 100}
    (one,) = read(write(row), GROUND).questions
    xs, ys = zip(*one.prediction.corners, strict=True)
    assert min(xs) == pytest.approx(0.5) == max(xs) and (min(ys), max(ys)) == (pytest.approx(0.4), pytest.approx(0.6))
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    # Where the corner at the top right goes, 0.3 to the right and 0.1 above the middle: up, and with the clock down.
    up = (0.5 + 0.3 * cos - 0.1 * sin, 0.5 - 0.3 * sin - 0.1 * cos)
    down = (0.5 + 0.3 * cos + 0.1 * sin, 0.5 + 0.3 * sin - 0.1 * cos)
    assert any(corner == pytest.approx(up) for corner in one.truth.corners)
    (other,) = read(write(row), GROUND, clockwise=True).questions
    assert any(corner == pytest.approx(down) for corner in other.truth.corners)


def test_a_box_turns_in_pixels_where_the_size_is_known(write):
    row = {"prediction": "[40, 40, 60, 60, 90]", "truth": "[40, 40, 60, 60, 0]", "width": 200, "height": 100}
    (one,) = read(write(row), GROUND).questions  # 40 x 20 pixels become 20 x 40
    assert one.prediction.iou(one.truth) == pytest.approx(1 / 3)


def test_many_boxes_with_and_without_labels(write):
    two = "There are two ships [0.1,0.1,0.2,0.2;0.5,0.5,0.6,0.6] in the image. There is one car [0.7,0.7,0.8,0.8]."
    row = {"prediction": two, "truth": [{"label": "ship", "bbox": [0.1, 0.1, 0.2, 0.2]}]}
    (one,) = read(write(row), DETECT).questions
    assert [region.label for region in one.prediction] == ["ship", "ship", "car"]
    assert one.truth == (Region(Box(0.1, 0.1, 0.2, 0.2), "ship"),)
    bare = {"prediction": "[[10,10,20,20]][[50,50,60,60]]", "truth": "[[10,10,20,20]]"}
    report, found = score(DETECT, write(bare))
    assert found.questions[0].prediction[1].label == "object"
    assert (report.metrics["precision"], report.metrics["recall"]) == (0.5, 1.0)
    (one,) = read(write({**bare, "truth": [{"label": "ship", "bbox": [10, 10, 20, 20]}]}), DETECT).questions
    assert {region.label for region in one.prediction} == {"ship"}
    (one,) = read(write({"prediction": "There are no such objects in the image.", "truth": []}), DETECT).questions
    assert (one.prediction, one.truth) == ((), ())


def test_scores_of_boxes_rank_them(write):
    row = {"prediction": "[[0,0,10,10],[50,50,60,60]]", "truth": "[[50,50,60,60]]", "scores": [0.2, 0.9]}
    report, _ = score(DETECT, write(row), rounds=0)
    assert report.metrics["ap_50"] == 1.0 and report.metrics["ap_50_constant"] == pytest.approx(0.5)
    inside = [{"bbox": [0, 0, 10, 10], "score": 0.2}, {"bbox": [50, 50, 60, 60], "score": 0.9}]
    report, _ = score(DETECT, write({"prediction": inside, "truth": "[[50,50,60,60]]"}), rounds=0)
    assert report.metrics["ap_50"] == 1.0
    _, found = score(DETECT, write({**row, "scores": [0.2]}), rounds=0)
    assert found.defects == {"scores that are not as many as the boxes: left out": (1,)}


@pytest.mark.parametrize(("score_of", "read_as"), [(0.9, 0.9), ("0.9", 0.9), ("[0.9]", 0.9), ([0.9], 0.9), ("", None)])
def test_a_score_may_stand_alone_and_in_a_cell(write, score_of, read_as):
    (one,) = read(write({"prediction": "[50,50,60,60]", "truth": "[50,50,60,60]", "score": score_of}), DETECT).questions
    assert [region.score for region in one.prediction] == [read_as]


def test_the_words_of_an_object_are_its_label(write):
    (one,) = read(
        write({"prediction": {"label": "forest", "p": 0.9}, "truth": "forest"}), "scene_classification"
    ).questions
    assert one.prediction == "forest"


@pytest.mark.parametrize("labels", [["car", "ship"], '["car", "ship"]'])
def test_labels_of_boxes_may_stand_beside_them(write, labels):
    said = write({"id": 1, "prediction": "[[0,0,10,10],[50,50,60,60]]", "labels": labels}, name="said.jsonl")
    truth = write({"id": 1, "truth": [{"box": [50, 50, 60, 60], "label": "ship"}]}, name="truth.jsonl")
    found = read(said, DETECT, truth=truth)
    assert [region.label for region in found.questions[0].prediction] == ["car", "ship"]
    assert found.fields == {"prediction": "prediction", "id": "id", "labels": "labels"}
    wrong = write({"id": 1, "prediction": "[[0,0,10,10]]", "labels": ["car", "ship"]}, name="said.jsonl")
    assert "labels that are not as many as the boxes: left out" in read(wrong, DETECT, truth=truth).defects


@pytest.mark.parametrize("size", [[800, 600], "[800, 600]", "800x600", "800, 600"])
def test_a_size_may_stand_in_a_cell(write, size):
    (one,) = read(write({"prediction": "[0,0,400,300]", "truth": "[0,0,400,300]", "size": size}), GROUND).questions
    assert one.size == (800, 600) and one.truth == Box(0, 0, 0.5, 0.5)


def test_a_true_answer_of_several_boxes_is_no_grounding(write):
    one, two = "[[0,0,10,10]]", "[[0,0,10,10],[50,50,60,60]]"
    report, found = score(GROUND, write({"prediction": two, "truth": one}, {"prediction": one, "truth": two}))
    assert report.examples == 1 and report.metrics["pr_90"] == 1.0
    assert found.defects == {
        "prediction of several boxes: the first counts": (1,),
        "question left out: its true answer is not one box (see object_detection)": (2,),
    }
    assert report.data["defects"]["prediction of several boxes: the first counts"] == 1
    assert report.data["lines"]["prediction of several boxes: the first counts"] == [1]


@pytest.mark.parametrize("nothing", [[], "[]", "```json\n[ ]\n```"])
def test_an_empty_list_says_that_nothing_is_there_as_text_too(write, nothing):
    rows = [{"prediction": nothing, "truth": "[]"}, {"prediction": "[0.1,0.1,0.2,0.2]", "truth": "[0.1,0.1,0.2,0.2]"}]
    report, found = score(DETECT, write(*rows), rounds=0)
    assert report.answers[0]["read"] == [] == report.answers[0]["truth"]
    assert "true answer that cannot be read" not in found.defects


def test_no_one_is_added_to_a_side(write):
    """The fault that turned 35 into 89: boxes in [0, 1] that do not touch would overlap by more than half."""
    report, _ = score(GROUND, write({"prediction": "[0.1,0.1,0.2,0.2]", "truth": "[0.8,0.8,0.9,0.9]"}))
    assert report.metrics["mean_iou"] == 0 == report.metrics["pr_50"]


@pytest.mark.parametrize(("task", "metric"), [("region_captioning", "accuracy_strict"), (VQA, "accuracy_strict"),
                                              ("scene_classification", "accuracy_strict")])  # fmt: skip
def test_of_several_texts_that_are_true_the_first_counts_but_of_captions(write, task, metric):
    row = {"prediction": "a ship", "references": ["a ship", "one boat"]}
    report, found = score(task, write(row), rounds=0)
    assert report.metrics[metric] == 1.0
    assert found.defects == {"several true answers: the first counts": (1,)}


def test_both_policies_are_reported(write):
    report, _ = score("scene_classification", write({"answer": "Baseball Field", "annotation": "BaseballField"}))
    assert (report.metrics["accuracy_strict"], report.metrics["accuracy_lenient"]) == (0.0, 1.0)


def test_labels_of_boxes_are_compared_by_both_policies(write):
    truth = [{"label": "storage_tank", "bbox": [0, 0, 10, 10]}, {"label": "ship", "bbox": [50, 50, 60, 60]}]
    said = [{"label": "Storage Tanks", "bbox": [0, 0, 10, 10]}, {"label": "boat", "bbox": [50, 50, 60, 60]}]
    report, _ = score(DETECT, write({"prediction": said, "truth": truth}), rounds=0)
    assert (report.metrics["f1"], report.metrics["f1_lenient"]) == (0.0, 0.5)
    assert (report.metrics["ap_50"], report.metrics["ap_50_lenient"]) == (0.0, 0.5)
    assert report.baselines["shuffled answers"]["f1_lenient"] == 1.0


def test_a_report_is_scored_again_to_the_same_figures(write, tmp_path):
    row = {"prediction": "[[11,20,60,70,12]]", "truth": "[[10,20,60,70,7]]"}
    report, _ = score(GROUND, write(row), rounds=10)
    report.write(tmp_path / "report.json")
    kept = replace(report, baselines={"text only": {"pr_50": 0.25}}, settings={"model": "m"})
    kept.write(tmp_path / "kept.json")
    assert score(GROUND, tmp_path / "kept.json", rounds=10)[0].baselines["text only"] == {"pr_50": 0.25}
    assert score(GROUND, tmp_path / "kept.json", rounds=10)[0].settings["model"] == "m"
    with pytest.raises(EarthGPTError, match="is on visual_grounding, not object_detection"):
        score(DETECT, tmp_path / "kept.json")
    again, found = score(GROUND, tmp_path / "report.json", rounds=10)
    assert again.metrics == report.metrics and again.answers == report.answers
    assert isinstance(found.questions[0].truth, OrientedBox)
    assert Report.read(tmp_path / "report.json").settings["frames"] == {"prediction": "0-100", "truth": "0-100"}


def test_a_report_that_is_scored_again_keeps_the_versions_that_it_was_made_with(write, tmp_path):
    report, _ = score(VQA, write(LINE), rounds=10)
    replace(report, versions={**report.versions, "torch": "2.0"}).write(tmp_path / "report.json")
    again, _ = score(VQA, tmp_path / "report.json", rounds=20)
    assert again.versions == {**report.versions, "torch": "2.0"}
    assert again.settings["rounds"] == 20


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"truth": "other.json"}, "leave out --truth"),
        ({"fields": {"prediction": "read"}, "frame": "pixels"}, "leave out --field, --frame"),
        ({"truth_frame": "0-100", "clockwise": True}, "leave out --truth-frame, --clockwise"),
        ({"allow_missing": True}, "leave out --allow-missing"),
    ],
)
def test_nothing_more_can_be_said_of_a_report(write, tmp_path, given, told):
    report, _ = score(GROUND, write({"prediction": "[0,0,1,1]", "truth": "[0,0,1,1]"}), rounds=0)
    report.write(tmp_path / "report.json")
    with pytest.raises(EarthGPTError, match=told):
        read(tmp_path / "report.json", GROUND, **given)
    for kind in (None, "report"):
        assert read(tmp_path / "report.json", GROUND, kind=kind, fields={}).report == report


# --- files of other forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [{"index": 3, "model": "x"}, {"id": "run-1"}, {"image": "all"}])
def test_a_list_of_rows_is_found_in_an_object_that_says_more(tmp_path, beside):
    (tmp_path / "a.json").write_text(json.dumps({**beside, "results": [LINE, {**LINE, "id": "2"}]}, indent=1))
    assert len(read(tmp_path / "a.json", VQA).questions) == 2


def test_a_map_may_have_an_image_that_is_called_like_a_field(tmp_path):
    content = {key: {"prediction": "yes", "truth": "yes"} for key in ("image", "text")}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert [one.id for one in read(tmp_path / "a.json", VQA).questions] == ["image", "text"]


def test_decimal_commas_of_a_table_with_semicolons_are_points(tmp_path):
    (tmp_path / "a.csv").write_text("image;prediction;truth;score\na.png;[0,0,10,10];[0,0,10,10];0,9\n")
    (one,) = read(tmp_path / "a.csv", DETECT).questions
    assert one.prediction[0].score == 0.9


def test_labels_that_boxes_state_count_whatever_stands_beside_them(write):
    row = {
        "prediction": [{"bbox": [0, 0, 10, 10], "label": "ship"}],
        "truth": [{"bbox": [0, 0, 10, 10], "label": "ship"}],
    }
    for beside in ({"classes": ["plane"]}, {"labels": ["plane"]}, {"categories": "ship, plane"}):
        report, _ = score(DETECT, write({**row, **beside}), rounds=0)
        assert report.metrics["ap_50"] == 1.0


def test_an_answer_for_each_image_may_be_a_map(tmp_path, write):
    (tmp_path / "map.json").write_text(json.dumps({"a.png": "yes", "b.png": "no"}))
    truth = write({"image": "x/b.png", "truth": "no"}, {"image": "x/a.png", "truth": "no"})
    found = read(tmp_path / "map.json", VQA, truth=truth)
    assert [(one.image, one.prediction) for one in found.questions] == [("x/b.png", "no"), ("x/a.png", "yes")]
    turned = read(truth, VQA, truth=tmp_path / "map.json", fields={"prediction": "truth"})
    assert [(one.truth, one.prediction) for one in turned.questions] == [("yes", "no"), ("no", "no")]
    with pytest.raises(EarthGPTError, match="says whose answers it has"):
        read(tmp_path / "map.json", VQA, truth=write({"truth": "no"}, {"truth": "no"}))


def test_a_table_of_a_spreadsheet_may_have_semicolons(tmp_path):
    (tmp_path / "a.csv").write_text('image;prediction;truth\na.png;"yes, one";yes\n')
    (one,) = read(tmp_path / "a.csv", VQA).questions
    assert (one.image, one.text) == ("a.png", "yes, one")


def test_true_answers_of_a_report_are_in_its_frame(write, tmp_path):
    report, _ = score(GROUND, write({"id": "1", "prediction": "[0,0,1,1]", "truth": "[0,0,1,1]"}), rounds=0)
    report.write(tmp_path / "report.json")
    path = write({"id": "1", "prediction": "[0,0,1,1]"})
    with pytest.raises(EarthGPTError, match=r"report\.json has its boxes in image, as its form says"):
        score(GROUND, path, truth=tmp_path / "report.json", truth_frame="pixels")


# --- true answers in a file of their own -------------------------------------------------------------------------


def test_two_files_belong_together_by_id_else_by_image_and_question_else_by_place(write):
    for roles in ({"question_id": 1}, {"image": "a", "question": "q"}, {}):
        other = {key: f"other {value}" for key, value in roles.items()}
        truth = write({**roles, "answer": "yes"}, {**other, "answer": "no"}, name="truth.jsonl")
        said = [{**roles, "text": "yes"}, {**other, "text": "no"}]
        found = read(write(*(said[::-1] if roles else said)), VQA, truth=truth)
        assert [(one.truth, one.prediction) for one in found.questions] == [("yes", "yes"), ("no", "no")]


def test_questions_without_ids_are_told_apart_whatever_lines_they_stand_in(write):
    asked = [{"image": f"{i}.png", "question": "q"} for i in range(4)]
    truth = write(*({**one, "answer": "yes"} for one in asked), name="truth.jsonl")
    path = write(*({**one, "text": "yes"} for one in asked[2:]))  # lines 1 and 2, as those without a prediction have
    report, found = score(VQA, path, truth=truth, allow_missing=True)
    assert (report.examples, report.unparsed, report.metrics["accuracy_strict"]) == (4, 2, 0.5)
    assert found.defects == {"no prediction": (1, 2)}


@pytest.mark.parametrize("broken", ["said.jsonl", "truth.jsonl"])
def test_files_that_belong_together_by_place_have_no_row_that_cannot_be_read(write, broken):
    said = [{"text": "yes"}, {"text": "no"}, {"text": "no"}]
    true = [{"answer": "yes"}, {"answer": "no"}, {"answer": "no"}]
    (said if broken == "said.jsonl" else true)[0] = b'{"te'
    path, truth = write(*said, name="said.jsonl"), write(*true, name="truth.jsonl")
    for allow in (False, True):
        with pytest.raises(EarthGPTError, match="belong together by place") as told:
            score(VQA, path, truth=truth, allow_missing=allow)
        assert f"{broken}: 1 row that cannot be read (line 1)" in str(told.value)
        assert "give both an id" in str(told.value)


@pytest.mark.parametrize("task", [VQA, GROUND, DETECT])
def test_predictions_of_others_are_put_to_the_questions_of_a_report(write, tmp_path, task):
    words = {VQA: ("yes", "no"), GROUND: ("[[0.1,0.2,0.6,0.7]]", "[[0.1,0.2,0.3,0.7]]")}
    truth, wrong = words.get(task) or ('[{"label": "ship", "bbox": [0.1,0.2,0.6,0.7]}]', "[[0.1,0.2,0.3,0.7]]")
    asked = [{"id": f"{i}", "image": f"set/{i}.png", "question": f"q{i}", "size": [200, 100]} for i in range(3)]
    rows = [{**row, "prediction": wrong if row["id"] == "0" else truth, "truth": truth} for row in asked]
    ours, _ = score(task, write(*rows), rounds=10)
    ours.write(tmp_path / "ours.json")
    pixels = {"yes": "yes"}.get(truth, "[[20,20,120,70]]")
    theirs = write(*({"img": f"C:\\data\\{i}.png", "pred": pixels} for i in (2, 0, 1)), name="theirs.jsonl")
    report, read = score(task, theirs, truth=tmp_path / "ours.json", frame="pixels", rounds=10)
    assert read.fields == {"image": "img", "prediction": "pred"} and not read.defects
    found = compare(ours, report, rounds=10)
    name = {VQA: "accuracy_strict", GROUND: "pr_50", DETECT: "recall"}[task]
    assert (found.examples, found.one[name], found.other[name]) == (3, pytest.approx(2 / 3), 1)


def test_questions_and_predictions_that_do_not_fit_are_refused_unless_allowed(write):
    truth = write({"id": 1, "answer": "yes"}, {"id": 2, "answer": "no"}, name="truth.jsonl")
    path = write({"id": 1, "text": "yes"}, {"id": 3, "text": "no"}, {"id": 1, "text": "no"})
    with pytest.raises(EarthGPTError) as told:
        read(path, VQA, truth=truth)
    for part in ("1 id that was there before (line 3)", "1 prediction without a question (line 2)",
                 "1 no prediction (line 2)", "--allow-missing"):  # fmt: skip
        assert part in str(told.value)
    report, found = score(VQA, path, truth=truth, allow_missing=True)
    assert (report.examples, report.unparsed, report.metrics["accuracy_strict"]) == (2, 1, 0.5)
    assert found.defects["prediction without a question"] == (2,)


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b'{"id": "2", "predict', "row that cannot be read"),
        (b"\xff\xfe", "row that cannot be read"),
        (b"[" * 100_000, "row that cannot be read"),
        (b"17", "row that cannot be read"),
        ({"id": "2", "truth": "yes"}, "no prediction"),
        ({"id": "2", "prediction": None, "truth": "yes"}, "no prediction"),
        ({"id": "2", "prediction": "yes"}, "no true answer"),
        ({"id": "2", "prediction": "yes", "truth": ""}, "no true answer"),
        ({"id": "2", "prediction": "yes", "truth": "  "}, "true answer that cannot be read"),
        (LINE, "id that was there before"),
    ],
)
def test_a_bad_row_is_named_by_its_line(write, bad, what):
    path = write(LINE, bad, {**LINE, "id": "3"})
    with pytest.raises(EarthGPTError, match=rf"1 {what} \(line 2\)"):
        read(path, VQA)
    found = read(path, VQA, allow_missing=True)
    assert found.defects == {what: (2,)}
    assert len(found.questions) == (3 if what == "no prediction" else 2)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[NaN, 0, 1, 1]", "box with a number that is not finite"),
        ([math.nan, 0, 1, 1], "box with a number that is not finite"),
        ([1e400, 0, 1, 1], "box with a number that is not finite"),
        ([1e308, 0, 1e308, 1, 45], "box with a number that is not finite"),
        ("[0.9, 0, 0.1, 1]", "box with edges in the wrong order (or is it left, top, width, height?)"),
        ("[0, 0.9, 1, 0.1]", "box with edges in the wrong order (or is it left, top, width, height?)"),
    ],
)
def test_a_bad_box_is_wrong_and_named_and_a_bad_true_box_is_refused(write, text, what):
    report, found = score(GROUND, write({"prediction": text, "truth": "[0,0,1,1]"}))
    assert (report.examples, report.unparsed, report.metrics["pr_50"]) == (1, 1, 0.0)
    assert found.defects == {f"{what} (prediction)": (1,)}
    good = {"prediction": "[0,0,1,1]", "truth": "[0,0,1,1]"}
    with pytest.raises(EarthGPTError, match=r"1 true answer that cannot be read \(line 2\)"):
        read(write(good, {**good, "truth": text}), GROUND)
    found = read(write(good, {**good, "truth": text}), GROUND, allow_missing=True)
    assert len(found.questions) == 1 and found.defects[f"{what} (true answer)"] == (2,)


def test_a_box_beyond_the_image_is_cut_and_counted(write):
    found = read(write({"prediction": "[-5,0,50,50]", "truth": "[0,0,50,50]"}), GROUND, frame="0-100")
    assert found.questions[0].prediction == Box(0, 0, 0.5, 0.5)
    assert found.defects == {"box that reaches outside the image: cut (prediction)": (1,)}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", b"", "is empty"),
        ("array.json", b'[{"prediction": "a", "truth": "a"},\n{"prediction": }]', "line 2, column 16"),
        ("open.json", b'[{"prediction": "a"}', "no list of answers"),
        ("latin.csv", b"prediction,truth\nyes,caf\xe9\n", "no UTF-8 in line 2"),
        ("wide.csv", b"prediction,truth\nyes,yes,yes\n", "1 row that cannot be read (line 2)"),
        ("nothing.jsonl", b'{"prediction": "a", "truth": null}', "1 no true answer (line 1)"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EarthGPTError) as told:
        read(tmp_path / name, VQA)
    assert says in str(told.value)


def test_a_wrong_frame_or_format_is_told(write, tmp_path):
    path = write({"prediction": "[0,0,1,1]", "truth": "[0,0,1,1]"})
    with pytest.raises(EarthGPTError, match="A frame is one of"):
        read(path, GROUND, frame="percent")
    with pytest.raises(EarthGPTError, match="The format is one of"):
        read(path, GROUND, kind="xlsx")
    with pytest.raises(EarthGPTError, match="no report"):
        read(path, GROUND, kind="report")
    with pytest.raises(EarthGPTError, match="Cannot read"):
        read(tmp_path, GROUND)


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20)
    | st.sampled_from(["[0,0,1,1]", "[9,9,1,1,45]", "{<1><2><3><4>|<nan>}", "(1,2),(3,4)", "There are two ships ["]),
    lambda one: st.lists(one, max_size=5)
    | st.dictionaries(st.sampled_from(["bbox", "label", "score", "doc", "text", "size", "id"]), one, max_size=4),
    max_leaves=8,
)  # fmt: skip
FIELDS = ("id", "prediction", "answer", "truth", "gt", "caption0", "size", "width", "height", "scores", "doc")
ROW = st.dictionaries(st.sampled_from(FIELDS), ANY)


@pytest.mark.parametrize("task", names("tasks"))
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=4), junk=st.binary(max_size=30), whole=st.booleans())
def test_any_file_is_scored_or_told(tmp_path_factory, task, rows, junk, whole):
    path = tmp_path_factory.getbasetemp() / f"any-{task}.jsonl"
    lines = [json.dumps(rows).encode()] if whole else [json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join([*lines, junk]))
    try:
        report, _ = score(task, path, allow_missing=True, rounds=2)
    except EarthGPTError as error:
        assert "\n" not in str(error).replace(str(path), "")
    else:
        report.write(path.with_suffix(".json"))
        assert Report.read(path.with_suffix(".json")).examples == report.examples > 0


@pytest.mark.parametrize(
    ("task", "row", "metric"),
    [
        ("image_captioning", {"text": "a port", "regions": [1], "references": ["a port"]}, "bleu_1"),
        ("image_captioning", {"caption": "a port", "detections": [1], "references": ["a port"]}, "bleu_1"),
        (DETECT, {"generated": [[0, 0, 9, 9]], "pred_label": "ship", "gt": [[0, 0, 9, 9]]}, "ap_50"),
        (GROUND, {"prediction": [0, 0, 9, 9], "gt_bbox": [0, 0, 9, 9], "gt_label": "ship"}, "pr_50"),
        ("scene_classification", {"image": "a", "class": "port", "score": 0.5, "truth": "port"}, "accuracy_strict"),
        ("scene_classification", {"y_pred": "port", "y_true": "port"}, "accuracy_strict"),
    ],
)
def test_the_surest_names_of_fields_come_first(write, task, row, metric):
    report, _ = score(task, write(row, row), rounds=0)
    assert report.metrics[metric] == pytest.approx(100 if metric == "bleu_1" else 1)
