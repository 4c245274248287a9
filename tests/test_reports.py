"""A report says what follows from values: worked out by hand, written and read, compared in pairs."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.lookup import find
from earthgpt.metrics.statistics import mcnemar
from earthgpt.pages import compared_tables, page, tables
from earthgpt.reports import Report, Scored, chance, compare, from_plain, plain, report
from earthgpt.tasks import task_of
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region


def words(pairs, task="visual_question_answering", **more):
    """A report on (true answer, prediction) pairs, each about an image of its own."""
    questions = [
        Scored(str(i), f"{i}.png", f"question {i}", true, said, said, kind)
        for i, (true, said, kind) in enumerate(pairs)
    ]
    return report(find("tasks", task), task, questions, **more)


FOUR = [("yes", "yes", "presence"), ("no", "yes", "presence"), ("2", "two", "count"), ("3", None, "count")]


def test_figures_by_hand():
    found = words(FOUR)
    assert (found.examples, found.unparsed) == (4, 1)
    assert found.metrics["accuracy_strict"] == 0.25 and found.metrics["accuracy_lenient"] == 0.5
    assert found.by_kind["presence"]["accuracy_strict"] == 0.5 and found.by_kind["presence"]["examples"] == 2
    assert found.by_kind["count"]["accuracy_strict"] == 0 and found.by_kind["count"]["count_accuracy"] == 0.5
    assert found.baselines["most common answer"]["accuracy_strict"] == 0.25
    assert found.baselines["most common of its kind"]["accuracy_strict"] == 0.5
    assert [answer["right"] for answer in found.answers] == [True, False, True, False]
    assert [answer["right_strict"] for answer in found.answers] == [True, False, False, False]
    low, high = found.intervals["accuracy_lenient"]
    assert 0 <= low < 0.5 < high <= 1
    assert found.data["images"] == 4


def test_questions_about_one_image_are_drawn_together():
    questions = [Scored(str(i), "same.png", str(i), "yes", said, said) for i, said in enumerate(("yes", "no"))]
    found = report(find("tasks", "visual_question_answering"), "visual_question_answering", questions)
    assert found.intervals["accuracy_strict"] == (0.5, 0.5)
    apart = [Scored(one.id, "", one.question, one.truth, one.prediction, one.text) for one in questions]
    found = report(find("tasks", "visual_question_answering"), "visual_question_answering", apart)
    assert found.intervals["accuracy_strict"] == (0.0, 1.0) and found.data["images"] == 0


def test_classes_and_what_is_taken_for_what():
    found = words([("ship", "ship", ""), ("ship", "car", ""), ("car", "tree", "")], "scene_classification")
    assert found.by_class["ship"] == {"examples": 2, "accuracy_strict": 0.5, "accuracy_lenient": 0.5}
    assert found.confusion == {"classes": ["car", "ship"], "counts": [[0, 0, 1], [1, 1, 0]]}
    assert not found.by_kind
    mistakes = tables({"run": found})[-1]
    assert mistakes.rows == (("car", "(no class)", "1"), ("ship", "car", "1"))


def test_a_detection_is_scored_image_by_image():
    half, other = Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1)
    questions = [
        Scored("0", "a", "q", (Region(half, "ship"), Region(other, "car")), (Region(half, "ship", 0.9),), "one"),
        Scored("1", "b", "q", (), (), "none"),
        Scored("2", "c", "q", (), None, "??"),
    ]
    found = report(find("tasks", "object_detection"), "object_detection", questions, rounds=20)
    assert [answer["score"] for answer in found.answers] == [pytest.approx(2 / 3), 1.0, 0.0]
    assert found.by_class == {"car": {"objects": 1, "ap_40": 0.0, "ap_50": 0.0},
                              "ship": {"objects": 1, "ap_40": 1.0, "ap_50": 1.0}}  # fmt: skip
    assert found.metrics["ap_50"] == 0.5 and found.unparsed == 1


def test_the_mean_of_all_boxes_is_a_baseline():
    boxes = [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)]
    found = chance(find("tasks", "visual_grounding"), boxes)
    assert found["constant box"]["mean_iou"] == pytest.approx(1 / 3)  # both share half of 0.25 .. 0.75
    questions = [Scored(str(i), str(i), "", box, box, "") for i, box in enumerate(boxes)]
    measured = {"text only": [None, boxes[1]]}
    blind = report(find("tasks", "visual_grounding"), "visual_grounding", questions, blind=measured)
    assert blind.baselines["text only"]["pr_50"] == 0.5


def test_chance_worked_out_by_hand():
    task = find("tasks", "visual_question_answering")
    # Ten answers are shuffled to the places of 7 8 1 5 3 4 2 0 9 6: "yes" stands in 2 to 7 and 9, "no" in 0, 1 and 8.
    found = chance(task, ["yes"] * 7 + ["no"] * 3)
    assert found["most common answer"] == {"accuracy_strict": 0.7, "accuracy_lenient": 0.7}
    assert found["shuffled answers"] == {"accuracy_strict": 0.6, "accuracy_lenient": 0.6}
    assert chance(task, ["yes"] * 5)["shuffled answers"]["accuracy_strict"] == 1.0


def test_chance_for_boxes_is_the_box_of_another_image_and_the_mean_box():
    task = find("tasks", "visual_grounding")
    boxes = [Box(i / 10, 0, (i + 1) / 10, 1) for i in range(10)]  # no two overlap
    found = chance(task, boxes)
    assert list(found) == ["shuffled answers", "constant box"]
    # The mean is (0.45, 0, 0.55, 1): half of the fifth and of the sixth box, each with an IoU of 0.05 / 0.15.
    assert found["constant box"]["mean_iou"] == pytest.approx(2 / 3 / 10)
    assert found["shuffled answers"]["mean_iou"] == 0  # none stays in its place


def test_chance_does_not_take_a_list_of_objects_for_captions():
    task = find("tasks", "object_detection")
    assert list(chance(task, [(), ()])) == ["shuffled answers"]


def test_nothing_to_score_is_an_error():
    with pytest.raises(EarthGPTError, match="no questions"):
        words([])


# --- writing and reading -----------------------------------------------------------------------------------------

boxes = st.builds(
    lambda a, b, c, d: Box(min(a, b), min(c, d), max(a, b), max(c, d)), *[st.floats(0, 1, allow_nan=False)] * 4
)
turned = st.builds(lambda points: OrientedBox(tuple(points)), st.lists(st.tuples(*[st.floats(0, 1)] * 2), min_size=4,
                                                                       max_size=4))  # fmt: skip
regions = st.builds(Region, boxes | turned, st.text(), st.none() | st.floats(0, 1))


@given(
    st.none() | st.text() | boxes | turned | st.lists(regions).map(tuple) | st.lists(st.text(), min_size=1).map(tuple)
)
def test_values_are_plain_and_back(value):
    assert from_plain(json.loads(json.dumps(plain(value)))) == value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | boxes.map(plain) | regions.map(plain),
    lambda one: st.lists(one) | st.dictionaries(st.text() | st.sampled_from(["box", "label", "score"]), one),
    max_leaves=6,
)


@given(ANYTHING)
def test_what_is_no_value_of_a_task_is_a_value_error_or_one(value):
    with contextlib.suppress(ValueError):
        from_plain(value)


def test_halves_of_characters_are_read_as_question_marks(tmp_path):
    (tmp_path / "report.json").write_text(
        '{"task": "x", "examples": 1, "unparsed": 0, "metrics": {"\\ud800": 1}, "answers": [{"id": "\\udfff"}]}'
    )
    found = Report.read(tmp_path / "report.json")
    assert (list(found.metrics), found.answers) == (["?"], ({"id": "?"},))


def test_a_report_is_written_and_read(tmp_path):
    found = words(FOUR, settings={"model": "m"})
    found.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_figure_that_there_is_none_of_is_null(tmp_path):
    found = Report("visual_grounding", 1, 0, {"pr_50": math.nan})
    found.write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["metrics"] == {"pr_50": None}
    assert math.isnan(Report.read(tmp_path / "report.json").metrics["pr_50"])


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"task": 1}', b'{"task": "x", "examples": "many"}',
     b'{"task": "x", "examples": 1, "unparsed": 0, "metrics": {"a": "b"}}'],
)  # fmt: skip
def test_what_is_no_report_is_told(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(EarthGPTError, match="no report"):
        Report.read(tmp_path / "report.json")
    with pytest.raises(EarthGPTError, match="Cannot read"):
        Report.read(tmp_path / "nowhere.json")


def test_of_a_caption_only_one_text_was_said():
    good = {"id": "1", "image": "a", "question": "q", "kind": "", "prediction": "x", "truth": ["x", "y"]}
    both = [Report("image_captioning", 1, 0, {}, answers=({**good, "read": read},)) for read in ("x", ["x", "y"])]
    compare(both[0], both[0], rounds=2)
    with pytest.raises(EarthGPTError, match="answer 1 cannot be read"):
        compare(both[1], both[1], rounds=2)


@pytest.mark.parametrize("task", ["visual_grounding", "object_detection", "image_captioning", "scene_classification"])
@given(truth=ANYTHING, read=ANYTHING, other=ANYTHING)
def test_a_damaged_report_is_told(task, truth, read, other):
    good = {"id": "1", "image": "a", "question": "q", "kind": "", "prediction": "x"}
    answers = (
        {**good, "truth": truth, "read": read, "size": other, "score": other},
        {**good, "truth": truth, "read": other},
    )
    damaged = Report(task, 2, 0, {}, answers=answers)
    with contextlib.suppress(EarthGPTError):
        page(damaged, "run")
        compare(damaged, damaged, rounds=2)


# --- comparing ---------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_in_pairs():
    truth = ["yes"] * 10
    one = words([(true, "yes" if i < 8 else "no", "") for i, true in enumerate(truth)])
    other = words([(true, "yes" if i < 3 else "no", "") for i, true in enumerate(truth)])
    found = compare(one, other)
    assert found.examples == 10 and found.left_out == (0, 0)
    difference = found.differences["accuracy_strict"]
    assert difference.value == pytest.approx(0.5) and 0 < difference.low < 0.5 < difference.high
    assert found.right["right"] == (5, 0, mcnemar([True] * 5, [False] * 5))
    assert found.right["right"][2] == pytest.approx(2 / 32)
    assert compare(one, one).differences["accuracy_strict"].probability == 1.0
    back = compare(other, one).differences["accuracy_strict"]
    assert (back.value, back.low, back.high) == (-difference.value, -difference.high, -difference.low)
    shown = compared_tables(found, ("a", "b"))
    assert shown[0].rows[0][:4] == ("accuracy_strict", "0.8000", "0.3000", "+0.5000")
    assert shown[1].rows[0] == ("right", "5", "0", "0.0625")


def test_without_resamples_there_are_no_intervals():
    found = words(FOUR, rounds=0)
    assert found.intervals == {}
    compared = compare(found, found, rounds=0)
    assert compared.differences == {} and compared.right["right"] == (0, 0, 1.0)
    shown = compared_tables(compared, ("a", "b"))[0]
    assert shown.rows[0] == ("accuracy_strict", "0.2500", "0.2500", "+0.0000", "", "")
    assert shown.note == "4 questions."


def test_labels_of_boxes_are_compared_by_both_policies():
    box, other = Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1)
    truth = (Region(box, "storage_tank"), Region(other, "ship"))
    answers = [(Region(box, "Storage Tanks"), Region(other, "boat")), (Region(box, "Storage Tanks"),)]
    one, two = (
        report(find("tasks", "object_detection"), "object_detection", [Scored("0", "a", "q", truth, said, "")])
        for said in answers
    )
    assert (one.metrics["ap_50"], one.metrics["ap_50_lenient"]) == (0.0, 0.5)
    assert (two.metrics["precision"], two.metrics["precision_lenient"], two.metrics["recall_lenient"]) == (0, 1, 0.5)
    assert one.intervals["f1_lenient"] == (0.5, 0.5)
    assert compare(two, one).differences["f1_lenient"].value == pytest.approx(2 / 3 - 1 / 2)


def test_the_order_of_the_questions_does_not_matter():
    one = words(FOUR)
    turned_round = Report(**{**vars(one), "answers": one.answers[::-1]})
    assert all(difference.value == 0 for difference in compare(one, turned_round).differences.values())
    assert set(compare(one, turned_round).by_kind) == {"presence", "count"}


def test_other_questions_are_refused_unless_the_common_ones_are_asked_for():
    one, other = words(FOUR), words(FOUR[:3])
    with pytest.raises(EarthGPTError, match="3 are the same, 1 are only in the first and 0 only in the second"):
        compare(one, other)
    found = compare(one, other, common=True)
    assert (found.examples, found.left_out) == (3, (1, 0))
    changed = words([("blue", "blue", "")])
    with pytest.raises(EarthGPTError, match="no question in common"):
        compare(one, changed, common=True)
    with pytest.raises(EarthGPTError, match="two tasks"):
        compare(one, words([("a", "a", "")], "scene_classification"))
    with pytest.raises(EarthGPTError, match=r"the second report holds no answers"):
        compare(one, Report(one.task, 1, 0, {}))
    with pytest.raises(EarthGPTError, match=r"first\.json is damaged: answer 1"):
        compare(Report(one.task, 1, 0, {}, answers=({"id": "1"},)), one, names=("first.json", "second.json"))
    with pytest.raises(EarthGPTError, match="other options"):
        compare(one, words(FOUR, settings={"options": {"varied": True}}))


def test_options_of_a_task_are_checked():
    assert task_of("object_detection", {"protocol": "voc07"}).protocol == "voc07"
    with pytest.raises(EarthGPTError, match="no option 'protokoll'; it has"):
        task_of("object_detection", {"protokoll": "voc07"})
    with pytest.raises(EarthGPTError, match="is a bool; not 'yes'"):
        task_of("image_captioning", {"meteor": "yes"})
    with pytest.raises(EarthGPTError, match="no option 'frame'"):
        task_of("object_detection", {"frame": "0-100"})
