"""Average precision, by hand and against pycocotools."""

import contextlib
import io
import math
import random

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from earthgpt.metrics.detection import average_precision
from earthgpt.types import Box, OrientedBox, Region

HERE, THERE, NOWHERE = Box(0, 0, 0.25, 0.25), Box(0.5, 0.5, 0.75, 0.75), Box(0.8, 0, 1, 0.2)
DIAMOND = OrientedBox(((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))


def ships(*boxes, scores=()) -> list[Region]:
    """Regions of one class, scored when there are scores."""
    return [Region(box, "ship", score) for box, score in zip(boxes, scores or [None] * len(boxes), strict=True)]


def by_pycocotools(predictions, answers, iou) -> float:
    """The same by the reference implementation, in images of 64 x 64 pixels."""
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
        evaluation.params.iouThrs = [iou]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # [recall, class], all areas, 100 boxes an image
    return float(precision[precision > -1].mean())


@pytest.mark.parametrize("iou", [0.4, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed, iou):
    rng = random.Random(seed)

    def region(scored: bool) -> Region:
        # On a coarse grid and with few scores, so that overlaps and scores are often equal.
        left, top = rng.randrange(0, 48, 4) / 64, rng.randrange(0, 48, 4) / 64
        box = Box(left, top, left + rng.choice((8, 12, 16)) / 64, top + rng.choice((8, 12, 16)) / 64)
        return Region(box, rng.choice(("ship", "car", "tank")), rng.choice((0.2, 0.5, 0.8, None)) if scored else None)

    answers = [[region(False) for _ in range(rng.randrange(12))] for _ in range(15)]
    predictions = [
        [*(region(True) for _ in range(rng.randrange(12))), *(r for r in regions if rng.random() < 0.6)]
        for regions in answers
    ]
    ours = average_precision(predictions, answers, iou).mean
    assert 0 < ours < 1
    assert ours == pytest.approx(by_pycocotools(predictions, answers, iou), abs=1e-6)


def test_average_precision_worked_out_by_hand():
    # Hit, miss, hit: precision 1 up to recall 0.5 (51 of the 101 points), then 2/3.
    scores = average_precision([ships(HERE, NOWHERE, THERE, scores=(0.9, 0.8, 0.7))], [ships(HERE, THERE)])
    assert scores.summary() == pytest.approx(
        {"ap_50": (51 + 50 * 2 / 3) / 101, "precision": 2 / 3, "recall": 1, "f1": 0.8, "unparsed": 0}
    )


def test_an_answer_is_found_once():
    scores = average_precision([ships(HERE, HERE)], [ships(HERE)])
    assert (scores.mean, scores.precision, scores.recall) == (1, 0.5, 1)


def test_classes_are_averaged_and_others_count_only_in_precision():
    answers = [[Region(HERE, "ship"), Region(THERE, "car")]]
    scores = average_precision([[Region(HERE, "ship"), Region(THERE, "tank")]], answers)
    assert scores.classes == {"ship": 1, "car": 0}
    assert (scores.mean, scores.precision, scores.recall, scores.f1) == (0.5, 0.5, 0.5, 0.5)


def test_a_region_without_a_score_counts_as_sure():
    scored = Region(NOWHERE, "ship", 0.9)
    assert average_precision([[scored, Region(HERE, "ship")]], [ships(HERE)]).mean == 1


def test_the_order_of_images_decides_between_equal_scores():
    right, wrong = (ships(HERE), ships(HERE)), (ships(NOWHERE), [])
    assert average_precision(*zip(right, wrong, strict=True)).mean == 1
    assert average_precision(*zip(wrong, right, strict=True)).mean == 0.5


def test_oriented_boxes_are_matched_by_their_own_overlap():
    # The hull of the diamond is the whole image, its area half of that.
    whole = [ships(Box(0, 0, 1, 1))]
    assert average_precision([ships(DIAMOND)], [ships(DIAMOND)]).mean == 1
    assert average_precision([ships(DIAMOND)], whole, iou=0.5).mean == 1
    assert average_precision([ships(DIAMOND)], whole, iou=0.51).summary()["ap_51"] == 0


def test_none_predicts_nothing_and_is_reported():
    scores = average_precision([None, ships(HERE)], [ships(HERE), ships(HERE)])
    assert (scores.recall, scores.precision, scores.unparsed) == (0.5, 1, 0.5)
    assert average_precision([None], [ships(HERE)]).summary() == {
        "ap_50": 0,
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "unparsed": 1,
    }


def test_nothing_predicted_where_nothing_is_leaves_no_number():
    summary = average_precision([()], [()]).summary()
    assert summary.pop("unparsed") == 0
    assert all(math.isnan(value) for value in summary.values())


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="predictions for 1 images and answers for 0"):
        average_precision([None], [])
