"""Answers and true answers in COCO's form."""

import contextlib
import io
import json
import random

import pytest

from earthgpt.lookup import find
from earthgpt.predictions import read_predictions, score
from earthgpt.types import Box, EarthGPTError, Region

GROUND, DETECT = "visual_grounding", "object_detection"


def read(path, task, **more):
    return read_predictions(path, find("tasks", task), **more)


COCO = {
    "images": [{"id": 7, "file_name": "sea/a.jpg", "width": 100, "height": 50}, {"id": 9, "file_name": "b.jpg"}],
    "categories": [{"id": 3, "name": "ship"}, {"id": 5, "name": "bridge"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 10], "area": 200, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
    ],
}


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(COCO))
    return tmp_path / "instances.json"


def results(tmp_path, *rows):
    keys = ("image_id", "category_id", "bbox", "score")
    (tmp_path / "results.json").write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return tmp_path / "results.json"


@pytest.mark.parametrize("name", [7, 7.0, "7", "sea/a.jpg", "a"])
def test_results_of_coco_are_scored_on_their_annotations(tmp_path, coco, name):
    path = results(tmp_path, (name, 3, [11, 10, 20, 10], 0.8), (name, 5, [0, 0, 5, 5], 0.9))
    first, second = read(path, DETECT, truth=coco).questions
    assert (first.image, first.size, second.image) == ("sea/a.jpg", (100, 50), "b.jpg")
    assert first.truth == (Region(Box(0.1, 0.2, 0.3, 0.4), "ship"),)
    assert first.prediction[0] == Region(Box(0.11, 0.2, 0.31, 0.4), "ship", 0.8)
    assert second.prediction == () and second.truth[0].label == "bridge"


def test_a_number_of_an_image_is_no_name_of_another(tmp_path):
    images = [{"id": i, "file_name": f"{i + 1}.jpg", "width": 100, "height": 100} for i in range(3)]
    truths = [{"image_id": i, "category_id": 3, "bbox": [10 * i, 10, 20, 10]} for i in range(3)]
    (tmp_path / "t.json").write_text(json.dumps({**COCO, "images": images, "annotations": truths}))
    path = results(tmp_path, *((i, 3, [10 * i, 10, 20, 10], 0.9) for i in range(3)))
    report, _ = score(DETECT, path, truth=tmp_path / "t.json", rounds=0)
    assert report.metrics["ap_50"] == 1.0


def test_objects_of_coco_without_a_box_are_counted(tmp_path):
    entries = [*COCO["annotations"], {"image_id": 7, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9]]}]
    (tmp_path / "t.json").write_text(json.dumps({**COCO, "annotations": entries}))
    found = read(results(tmp_path, (7, 3, [11, 10, 20, 10], 0.8)), DETECT, truth=tmp_path / "t.json")
    assert found.defects["object without a box, left out (true answers)"] == (1,)


def test_rows_with_a_truth_of_their_own_are_no_results_of_coco(tmp_path):
    row = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "ground_truth": [0, 0, 10, 10]}
    (tmp_path / "a.json").write_text(json.dumps([row, row | {"image_id": 8}]))
    found = read(tmp_path / "a.json", GROUND, fields={"prediction": "bbox"})
    assert [one.prediction for one in found.questions] == [one.truth for one in found.questions]


def test_average_precision_of_results_of_coco_is_that_of_pycocotools(tmp_path):
    """Only the images of the annotations count, and each class by itself."""
    coco_api = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    rng, images, truths, said = random.Random(0), [], [], []
    for number in range(12):
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 200})
        for _ in range(4):
            x, y, kind = rng.uniform(0, 150), rng.uniform(0, 150), rng.randint(1, 2)
            truths.append({"id": len(truths) + 1, "image_id": number, "category_id": kind, "iscrowd": 0,
                           "bbox": [x, y, 30, 30], "area": 900})  # fmt: skip
            if rng.random() < 0.8:
                moved = [x + rng.uniform(-9, 9), y + rng.uniform(-9, 9), 30, 30]
                said.append((number, rng.choice((kind, kind, 3 - kind)), moved, rng.random()))
    content = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    (tmp_path / "true.json").write_text(json.dumps(content))
    path = results(tmp_path, *said)
    report, _ = score(DETECT, path, truth=tmp_path / "true.json", rounds=0)
    with contextlib.redirect_stdout(io.StringIO()):
        true = coco_api.COCO(str(tmp_path / "true.json"))
        judge = cocoeval.COCOeval(true, true.loadRes(str(path)), "bbox")
        for step in (judge.evaluate, judge.accumulate, judge.summarize):
            step()
    assert report.metrics["ap_50"] == pytest.approx(judge.stats[1], abs=1e-6)


def test_what_is_not_in_the_annotations_of_results_is_counted(tmp_path, coco):
    path = results(tmp_path, (7, 99, [0, 0, 1, 1], 0.5), (8, 3, [0, 0, 1, 1], 0.5), (7, 3, [0, 0, 1], 0.5))
    with pytest.raises(EarthGPTError, match=r"1 prediction without a question \(line 2\); 1 row that cannot be read"):
        read(path, DETECT, truth=coco)
    found = read(path, DETECT, truth=coco, allow_missing=True)
    assert found.defects["result of a category that is not listed: left out"] == (1,)


def test_results_and_annotations_without_each_other_are_told(tmp_path, coco):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "1", "prediction": "yes", "truth": "yes"}))
    path = results(tmp_path, (7, 3, [11, 10, 20, 10], 0.8))
    for file, options, says in (
        (path, {}, "name their annotations with --truth"),
        (path, {"truth": tmp_path / "rows.jsonl"}, "no COCO annotations file"),
        (path, {"truth": coco, "frame": "0-100"}, "has its boxes in pixels"),
        (coco, {}, "name it with --truth"),
    ):
        with pytest.raises(EarthGPTError, match=says):
            read(file, DETECT, **options)


@pytest.mark.parametrize("categories", [{}, {"categories": []}])
@pytest.mark.parametrize("named", [{}, {"file_name": "port_{}.jpg"}])
def test_captions_are_scored_on_those_of_coco(tmp_path, categories, named):
    said = [{"image_id": i, "caption": f"a port of {i} ships"} for i in (1, 2)]
    true = [{"image_id": i, "id": 10 * i + k, "caption": f"port {k} of {i} ships"} for i in (1, 2) for k in range(5)]
    images = [{"id": i, **{key: name.format(i) for key, name in named.items()}} for i in (1, 2)]
    (tmp_path / "true.json").write_text(json.dumps({"images": images, "annotations": true, **categories}))
    (tmp_path / "said.json").write_text(json.dumps(said))
    found = read(tmp_path / "said.json", "image_captioning", truth=tmp_path / "true.json")
    assert [(one.prediction, len(one.truth)) for one in found.questions] == [(one["caption"], 5) for one in said]
    assert [one.image for one in found.questions] == (["port_1.jpg", "port_2.jpg"] if named else ["1", "2"])
    by_file = [{"image": f"port_{one['image_id']}", "caption": one["caption"]} for one in said]
    if named:
        (tmp_path / "said.json").write_text(json.dumps(by_file))
        assert (
            read(tmp_path / "said.json", "image_captioning", truth=tmp_path / "true.json").questions == found.questions
        )


def test_what_detect_prints_is_scored_on_annotations(tmp_path, coco):
    ship = {"label": "ship", "corners": [[10, 10], [30, 10], [30, 20], [10, 20]], "score": 0.5}
    lines = [{"image": "photos/a.jpg", "regions": [ship]}, {"image": "photos/b.jpg", "regions": []}]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    first, second = read(tmp_path / "said.jsonl", DETECT, truth=coco).questions
    assert first.prediction[0].box.bounds == Box(0.1, 0.2, 0.3, 0.4) and second.prediction == ()
    report, _ = score(DETECT, tmp_path / "said.jsonl", truth=coco, rounds=0)
    assert report.metrics["recall"] == 0.5 and report.metrics["precision"] == 1


@pytest.mark.parametrize("name", [7, "7", "a", "sea/a.jpg"])
def test_rows_of_other_forms_name_images_of_coco_by_number_or_file(tmp_path, coco, name):
    rows = [
        {"image_id": name, "boxes": [[10, 10, 30, 20]], "labels": ["ship"], "scores": [0.5]},
        {"image_id": 9, "boxes": []},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    first, second = read(tmp_path / "rows.json", DETECT, truth=coco, fields={"prediction": "boxes"}).questions
    assert first.image == "sea/a.jpg" and first.prediction == (Region(Box(0.1, 0.2, 0.3, 0.4), "ship", 0.5),)
    assert second.image == "b.jpg" and second.prediction == ()


def test_a_name_is_no_number_of_another_image_and_images_without_a_name_go_by_their_number(tmp_path, coco):
    images = [{"id": 1, "file_name": "2.jpg", "width": 50, "height": 50}, {"id": 2, "file_name": "1.jpg"}]
    truths = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9]}]
    (tmp_path / "true.json").write_text(json.dumps({**COCO, "images": images, "annotations": truths}))
    for field, name, meant in (("file_name", "2", "2.jpg"), ("image_id", "2", "1.jpg"), ("image", 2, "1.jpg")):
        (tmp_path / "said.json").write_text(json.dumps([{field: name, "prediction": [[0, 0, 9, 9]]}, {field: "x"}]))
        found = read(tmp_path / "said.json", DETECT, truth=tmp_path / "true.json", allow_missing=True)
        assert [one.image for one in found.questions if one.prediction] == [meant]
    texts = [{"image_id": i, "caption": f"port {i}"} for i in (1, 2)]
    for images in ([{}, {}], [{"id": 1, "file_name": None}, {"id": 2}], [{"id": i, "file_name": "a"} for i in (1, 2)]):
        (tmp_path / "true.json").write_text(json.dumps({"images": images, "annotations": texts}))
        (tmp_path / "said.json").write_text(json.dumps(texts))
        found = read(tmp_path / "said.json", "image_captioning", truth=tmp_path / "true.json")
        assert [(one.image, one.truth, one.prediction) for one in found.questions] == [
            ("1", "port 1", "port 1"), ("2", "port 2", "port 2"),
        ]  # fmt: skip
