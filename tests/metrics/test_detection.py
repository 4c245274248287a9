"""Average precision: by hand, against pycocotools, and against a slow reading of DOTA's protocol with shapely."""

import contextlib
import io
import math
import random

import numpy as np
import pytest
import shapely
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from earthgpt.metrics import detection
from earthgpt.metrics.detection import COCO_IOUS, match_detections
from earthgpt.types import Box, OrientedBox, Region

HERE, THERE, NOWHERE = Box(0, 0, 0.25, 0.25), Box(0.5, 0.5, 0.75, 0.75), Box(0.8, 0, 1, 0.2)
DIAMOND = OrientedBox(((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))


def ships(*boxes, scores=()) -> list[Region]:
    """Regions of one class, scored when there are scores."""
    return [Region(box, "ship", score) for box, score in zip(boxes, scores or [None] * len(boxes), strict=True)]


def scores_of(predictions, answers, iou=0.5, protocol="coco", weights=None, ignored=None):
    return match_detections(predictions, answers, (iou,), protocol, ignored).summary(weights)


def by_pycocotools(predictions, answers, levels) -> list[float]:
    """The same by the reference implementation, in images of 64 x 64 pixels, at each of some IoU."""
    labels = sorted({region.label for regions in answers for region in regions})

    def records(images):
        for number, regions in enumerate(images, 1):
            for region in regions or ():
                left, top, right, bottom = region.box.to_pixels((64, 64))
                box = [left, top, right - left, bottom - top]
                yield {
                    "image_id": number,
                    "category_id": labels.index(region.label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": 1.0 if region.score is None else region.score,
                }

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(answers) + 1)],
            "categories": [{"id": number} for number in range(1, len(labels) + 1)],
            "annotations": [{**record, "id": number} for number, record in enumerate(records(answers), 1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(list(records(predictions))), "bbox")
        evaluation.params.iouThrs = levels
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # [IoU, recall, class], all areas, 100 boxes an image
    return [float(one[one > -1].mean()) for one in precision]


def made_up(seed, images=15, turned=False):
    """Predictions and answers on a coarse grid and with few scores, so that overlaps and scores are often equal."""
    rng = random.Random(seed)

    def region(scored: bool) -> Region:
        left, top = rng.randrange(0, 48, 4) / 64, rng.randrange(0, 48, 4) / 64
        box = Box(left, top, left + rng.choice((8, 12, 16)) / 64, top + rng.choice((8, 12, 16)) / 64)
        if turned and rng.random() < 0.8:
            (x, y), size, angle = box.center, rng.choice((0.06, 0.08)), rng.uniform(0, math.pi)
            across = size * math.cos(angle), size * math.sin(angle)
            along = -across[1] / 2, across[0] / 2
            signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
            box = OrientedBox.from_pixels(
                tuple((x + a * across[0] + b * along[0], y + a * across[1] + b * along[1]) for a, b in signs), (1, 1)
            )
        return Region(box, rng.choice(("ship", "car", "tank")), rng.choice((0.2, 0.5, 0.8, None)) if scored else None)

    answers = [[region(False) for _ in range(rng.randrange(12))] for _ in range(images)]
    predictions = [
        [*(region(True) for _ in range(rng.randrange(12))), *(r for r in regions if rng.random() < 0.6)]
        for regions in answers
    ]
    return predictions, answers


LEVELS = [0.4, 0.5, 0.75]


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_pycocotools(seed, monkeypatch):
    monkeypatch.setattr(detection, "_BLOCK", 7)  # pairs are looked at in many parts
    predictions, answers = made_up(seed)
    found = match_detections(predictions, answers, LEVELS)
    ours = [found.mean_ap(level) for level in LEVELS]
    assert 0 < min(ours) < max(ours) < 1
    assert ours == pytest.approx(by_pycocotools(predictions, answers, LEVELS), abs=1e-9)


def test_average_precision_over_many_ious_is_that_of_pycocotools():
    rng = random.Random(0)

    def moved(box):
        return Box.from_pixels(*(edge + rng.gauss(0, 0.02) for edge in box.to_pixels((1, 1))), (1, 1))

    _, answers = made_up(1, images=40)
    predictions = [[Region(moved(one.box), one.label, rng.random()) for one in image * 2] for image in answers]
    found = match_detections(predictions, answers).summary()
    expected = by_pycocotools(predictions, answers, COCO_IOUS)
    assert found["ap_50_95"] == pytest.approx(sum(expected) / 10, abs=1e-9)
    assert (found["ap_50"], found["ap_75"]) == pytest.approx((expected[0], expected[5]), abs=1e-9)
    assert 0.1 < found["ap_50_95"] < found["ap_50"] <= found["ap_40"] < 1


def by_shapely(predictions, answers, ignored, iou, protocol) -> float:
    """AP of the protocol of VOC and DOTA, box by box; ``ignored`` are difficult objects."""
    values = []
    for label in {region.label for regions in answers for region in regions}:
        objects = [
            [
                (shapely.Polygon(region.box.corners), difficult)
                for regions, difficult in ((true, False), (spared, True))
                for region in regions
                if region.label == label
            ]
            for true, spared in zip(answers, ignored, strict=True)
        ]
        boxes = [
            (1.0 if region.score is None else region.score, image, shapely.Polygon(region.box.corners))
            for image, regions in enumerate(predictions)
            for region in regions
            if region.label == label
        ]
        count = sum(not difficult for image in objects for _, difficult in image)
        taken, outcomes = set(), []
        for _, image, polygon in sorted(boxes, key=lambda box: -box[0]):
            best, chosen = -1.0, None
            for number, (other, _) in enumerate(objects[image]):
                overlap = polygon.intersection(other).area
                value = overlap / (polygon.area + other.area - overlap)
                if value > best + 1e-9:
                    best, chosen = value, number
            if best <= iou + 1e-9:
                outcomes.append(False)
            elif not objects[image][chosen][1]:
                outcomes.append((image, chosen) not in taken)
                taken.add((image, chosen))
        right = [sum(outcomes[: i + 1]) for i in range(len(outcomes))]
        points = [(hits / count, hits / (i + 1)) for i, hits in enumerate(right)]
        if protocol == "voc07":
            recalls = np.arange(0.0, 1.1, 0.1)
            values.append(sum(max((p for r, p in points if r >= recall), default=0) for recall in recalls) / 11)
        else:
            area, before = 0.0, 0.0
            for i, (recall, _) in enumerate(points):
                area += (recall - before) * max(p for _, p in points[i:])
                before = recall
            values.append(area)
    return sum(values) / len(values)


@pytest.mark.parametrize("protocol", ["voc07", "voc10"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_the_protocol_of_dota(seed, turned, protocol):
    predictions, answers = made_up(seed, turned=turned)
    ignored = [[region for region in regions if hash(region.box) % 4 == 0] for regions in answers]
    answers = [[region for region in regions if hash(region.box) % 4] for regions in answers]
    for iou in (0.3, 0.5):
        expected = by_shapely(predictions, answers, ignored, iou, protocol)
        found = match_detections(predictions, answers, (iou,), protocol, ignored)
        assert 0 < found.mean_ap(iou) < 1
        assert found.mean_ap(iou) == pytest.approx(expected, abs=1e-9)


def test_interpolations_worked_out_by_hand():
    # Hit, miss, hit of two: precision 1 up to recall 0.5, then 2/3.
    images = [ships(HERE, NOWHERE, THERE, scores=(0.9, 0.8, 0.7))], [ships(HERE, THERE)]
    assert scores_of(*images)["ap_50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores_of(*images, protocol="voc07")["ap_50"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert scores_of(*images, protocol="voc10")["ap_50"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("protocol", detection.PROTOCOLS)
@pytest.mark.filterwarnings("error")
def test_images_that_do_not_count_leave_no_trace(protocol):
    predictions, answers = [ships(HERE), ()], [[Region(HERE, "ship"), Region(HERE, "car")], ships(HERE)]
    scores = scores_of(predictions, answers, protocol=protocol, weights=np.array([0, 1]))
    assert scores == {"ap_50": 0, "ap_50_constant": 0, "precision": 0, "recall": 0, "f1": 0, "unparsed": 0}
    assert list(match_detections(predictions, answers).average_precision(weights=np.array([0, 1]))) == ["ship"]


def test_a_recall_of_three_tenths_does_not_reach_the_fourth_point_of_voc():
    # The points of VOC's and DOTA's code are multiples of 0.1 in floats; the fourth is 0.30000000000000004.
    answers = [ships(*(Box(i / 10, 0, (i + 1) / 10, 1) for i in range(10)))]
    assert scores_of([answers[0][:3]], answers, protocol="voc07")["ap_50"] == pytest.approx(3 / 11)
    assert scores_of([answers[0][:4]], answers, protocol="voc07")["ap_50"] == pytest.approx(5 / 11)


def test_a_second_best_answer_is_taken_by_coco_only():
    # Both predictions are nearest to the first answer; the second one overlaps the other answer enough too.
    near, both = Box(0, 0, 0.4, 0.4), Box(0.05, 0, 0.45, 0.4)
    images = [ships(near, near, scores=(0.9, 0.8))], [ships(near, both)]
    assert scores_of(*images)["recall"] == 1
    assert scores_of(*images, protocol="voc10")["recall"] == 0.5


def test_an_iou_of_exactly_the_threshold_is_right_by_coco_and_wrong_by_voc():
    images = [ships(Box(0, 0, 0.1, 0.3))], [ships(Box(0, 0, 0.2, 0.3))]
    assert scores_of(*images)["ap_50"] == 1
    assert scores_of(*images, protocol="voc07")["ap_50"] == 0


@pytest.mark.parametrize("protocol", detection.PROTOCOLS)
def test_a_box_on_a_region_to_ignore_is_neither_right_nor_wrong(protocol):
    predictions = [ships(NOWHERE, HERE, NOWHERE, scores=(0.9, 0.8, 0.7))]
    scores = scores_of(predictions, [ships(HERE)], protocol=protocol, ignored=[ships(NOWHERE)])
    assert (scores["ap_50"], scores["precision"], scores["ap_50_constant"]) == (1, 1, 1)
    assert scores_of(predictions, [ships(HERE)], protocol=protocol)["precision"] == pytest.approx(1 / 3)


def test_the_constant_score_figure_is_one_point_and_needs_no_order():
    # Two of three boxes are right, of four answers: precision 2/3 at recalls up to 1/2, 51 of the 101.
    predictions = [ships(HERE, NOWHERE, scores=(0.1, 0.9)), ships(HERE, scores=(0.5,))]
    answers = [ships(HERE, THERE), ships(HERE, THERE)]
    for order in (1, -1):
        scores = scores_of(predictions[::order], answers[::order])
        assert scores["ap_50_constant"] == pytest.approx(51 * 2 / 3 / 101)
    assert scores_of(predictions, answers, protocol="voc10")["ap_50_constant"] == pytest.approx(1 / 3)
    assert scores_of(predictions, answers, protocol="voc07")["ap_50_constant"] == pytest.approx(6 * 2 / 3 / 11)


@pytest.mark.parametrize("protocol", detection.PROTOCOLS)
def test_an_image_that_counts_twice_is_there_twice(protocol):
    predictions, answers = made_up(5)
    # Scores of their own, so that both copies of an image stand together.
    number = iter(range(10_000))
    predictions = [[Region(one.box, one.label, next(number) / 10_000) for one in image] for image in predictions]
    weights = np.random.default_rng(0).integers(0, 4, len(answers))
    chosen = np.repeat(np.arange(len(answers)), weights)
    found = match_detections(predictions, answers, protocol=protocol).summary(weights)
    expected = match_detections([predictions[i] for i in chosen], [answers[i] for i in chosen], protocol=protocol)
    assert found == pytest.approx(expected.summary(), abs=0.01)
    for name in ("precision", "recall", "f1", "unparsed", "ap_50_constant"):
        assert found[name] == pytest.approx(expected.summary()[name])
    ones = np.ones(len(answers), int)
    assert match_detections(predictions, answers, protocol=protocol).summary(ones) == pytest.approx(
        match_detections(predictions, answers, protocol=protocol).summary(), abs=1e-12
    )


def test_an_answer_is_found_once():
    for protocol in detection.PROTOCOLS:
        scores = scores_of([ships(HERE, HERE)], [ships(HERE)], protocol=protocol)
        assert (scores["ap_50"], scores["precision"], scores["recall"]) == (1, 0.5, 1)


def test_classes_are_averaged_and_others_count_only_in_precision():
    answers = [[Region(HERE, "ship"), Region(THERE, "car")]]
    scores = match_detections([[Region(HERE, "ship"), Region(THERE, "tank")]], answers)
    assert scores.average_precision() == {"ship": 1, "car": 0}
    assert scores.mean_ap() == 0.5
    assert scores.precision_recall() == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_a_region_without_a_score_counts_as_sure():
    scored = Region(NOWHERE, "ship", 0.9)
    assert scores_of([[scored, Region(HERE, "ship")]], [ships(HERE)])["ap_50"] == 1


def test_the_order_of_images_decides_between_equal_scores():
    right, wrong = (ships(HERE), ships(HERE)), (ships(NOWHERE), [])
    assert scores_of(*zip(right, wrong, strict=True))["ap_50"] == 1
    assert scores_of(*zip(wrong, right, strict=True))["ap_50"] == 0.5


def test_oriented_boxes_are_matched_by_their_own_overlap():
    # The hull of the diamond is the whole image, its area half of that.
    whole = [ships(Box(0, 0, 1, 1))]
    assert scores_of([ships(DIAMOND)], [ships(DIAMOND)])["ap_50"] == 1
    assert scores_of([ships(DIAMOND)], whole, iou=0.5)["ap_50"] == 1
    assert scores_of([ships(DIAMOND)], whole, iou=0.51)["ap_51"] == 0


def test_none_predicts_nothing_and_is_reported():
    scores = scores_of([None, ships(HERE)], [ships(HERE), ships(HERE)])
    assert (scores["recall"], scores["precision"], scores["unparsed"]) == (0.5, 1, 0.5)
    zero = dict.fromkeys(("ap_50", "ap_50_constant", "precision", "recall", "f1"), 0)
    assert scores_of([None], [ships(HERE)]) == {**zero, "unparsed": 1}


def test_nothing_predicted_where_nothing_is_leaves_no_number():
    summary = scores_of([()], [()])
    assert summary.pop("unparsed") == 0
    assert all(math.isnan(value) for value in summary.values())
    assert all(math.isnan(value) for value in match_detections([], []).summary().values())


def test_boxes_where_nothing_is_are_all_wrong():
    scores = match_detections([ships(HERE)], [()])
    assert scores.average_precision() == {}
    assert scores.precision_recall()["precision"] == 0


def test_the_figures_have_plain_names():
    names = ["ap_40", "ap_50", "ap_75", "ap_50_95", "ap_50_constant", "precision", "recall", "f1", "unparsed"]
    assert list(match_detections([()], [ships(HERE)]).summary()) == names
    assert list(match_detections([()], [ships(HERE)], (0.4, 0.6)).summary())[:3] == ["ap_40", "ap_60", "ap_40_constant"]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="predictions for 1 images, answers for 0 and regions to ignore for 0"):
        match_detections([None], [])
    with pytest.raises(ValueError, match="one of coco, voc07, voc10; not 'voc12'"):
        match_detections([], [], protocol="voc12")
    with pytest.raises(ValueError, match="must not be NaN"):
        match_detections([ships(HERE, scores=(math.nan,))], [ships(HERE)])
    with pytest.raises(ValueError, match=r"at an IoU of 0\.5; not 0\.6"):
        match_detections([()], [ships(HERE)], (0.5,)).mean_ap(0.6)
