"""Every command does its one thing, and every mistake is one line and exit code 1."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import downloads
import numpy as np
import parts
import pytest
from commands import told
from PIL import Image

from earthgpt import cli
from earthgpt.datasets import synthetic
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.model import loading
from earthgpt.types import Sensor

COMMANDS = (
    "score", "compare", "info",
    "ask", "caption", "classify", "describe", "ground", "detect", "chat", "demo", "train", "eval", "build", "doctor",
    "validate", "datasets list", "datasets check", "datasets show", "tasks list", "models list", "models show",
    "models assemble", "models merge", "models export", "serve",
)  # fmt: skip


# --- what works --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("ask", "IMAGE", "How many ships are there?"), {"image", "question", "answer"}),
        (("caption", "IMAGE"), {"image", "caption"}),
        (("classify", "IMAGE"), {"image", "class", "probabilities"}),
        (("classify", "IMAGE", "--classes", "harbor, airport"), {"image", "class", "probabilities"}),
        (("describe", "IMAGE", "10,10,100,60"), {"image", "box", "description"}),
        (("ground", "IMAGE", "the ship", "--sensor", "sar"), {"image", "phrase", "region"}),
        (("detect", "IMAGE", "--oriented"), {"image", "regions"}),
    ],
)
def test_a_command_runs_on_a_model_with_random_weights(run, harbor, model_folder, words, keys):
    words = [str(harbor) if word == "IMAGE" else word for word in words]
    code, out, err = run(*words, "-m", model_folder, "--json")
    assert (code, err) == (0, "")
    value = json.loads(out)
    assert set(value) == keys
    assert value["image"] == str(harbor)
    code, out, err = run(*words, "-m", model_folder)
    assert (code, err) == (0, "")
    assert not out.startswith("{")


def test_classes_are_printed_from_the_most_to_the_least_likely(run, harbor, model_folder):
    _, out, _ = run("classify", harbor, "-m", model_folder, "--classes", "harbor,airport,parking lot,harbor")
    lines = out.splitlines()
    assert len(lines) == 3
    percents = [float(line.split("%")[0]) for line in lines]
    assert percents == sorted(percents, reverse=True)
    assert sum(percents) == pytest.approx(100, abs=0.2)


def test_a_detection_is_printed_in_pixels_and_drawn(run, harbor, model_folder, says, tmp_path):
    says("There is one ship [0.500,0.250,1.000,0.500] in the image.")
    code, out, err = run("detect", harbor, "-c", "ship", "-m", model_folder, "-o", tmp_path / "ships.png")
    assert code == 0
    assert out == "ship  [100, 0, 200, 50] px  score 0.50\n"
    assert "Wrote" in err and "ships.png" in err.replace("\n", "")
    drawn = Image.open(tmp_path / "ships.png")
    assert drawn.width == 1024 and 512 < drawn.height < 600  # the legend
    drawn = drawn.crop((0, 0, 1024, 512))
    yellow = np.abs(np.asarray(drawn.convert("RGB")).astype(int) - (240, 228, 66)).sum(2) < 9
    assert yellow[:, 511:514].mean() > 0.3 > 0.01 > yellow[:, :400].mean()


def test_a_detection_is_written_as_geojson_in_pixels_where_the_image_has_no_place(
    run, harbor, model_folder, says, tmp_path
):
    says("There is one ship [0.500,0.250,1.000,0.500] in the image.")
    code, out, _ = run("detect", harbor, "-m", model_folder, "--json", "-o", tmp_path / "ships.geojson")
    assert code == 0
    assert json.loads(out)["regions"] == [
        {"label": "ship", "corners": [[100.0, 0.0], [200.0, 0.0], [200.0, 50.0], [100.0, 50.0]], "score": 0.5}
    ]
    written = json.loads((tmp_path / "ships.geojson").read_text())
    assert written["coordinates"] == "pixels of the image, y down"
    assert written["features"][0]["geometry"]["coordinates"][0][0] == [100.0, 0.0]
    names = sorted(path.name for path in tmp_path.iterdir() if "ships" in path.name)
    assert names == ["ships.geojson", "ships.geojson.run.json", "ships.qml"]
    card = json.loads((tmp_path / "ships.geojson.run.json").read_text())
    assert card["settings"]["task"] == "detect" and card["counts"]["ship"] == 1 and card["data"]["size"] == [200, 100]


def test_a_preview_is_drawn_beside_the_output(run, harbor, model_folder, says, tmp_path):
    says("There is one ship [0.500,0.250,1.000,0.500] in the image.")
    words = ("detect", harbor, "-m", model_folder, "-o", tmp_path / "a.csv", "--preview", tmp_path / "a.html")
    assert run(*words)[0] == 0
    assert "ship" in (tmp_path / "a.csv").read_text() and (tmp_path / "a.html").read_text().startswith("<!DOCTYPE")
    code, _, err = run("detect", harbor, "-m", model_folder, "--preview", tmp_path / "a.html")
    assert code == 1 and "is there already" in err.replace("\n", " ")


def test_a_grounded_phrase_of_a_geotiff_is_written_on_the_map(run, model_folder, says, tmp_path):
    pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "scene.tif", np.zeros((100, 100, 3), np.uint8), 500_000, 0, 10, 32631)
    says("[0.000,0.000,0.500,0.500]")
    code, out, _ = run(
        "ground", tmp_path / "scene.tif", "the ship", "-m", model_folder, "-o", tmp_path / "ship.geojson"
    )
    assert (code, out) == (0, "the ship  [0, 0, 50, 50] px  score 0.50\n")
    (feature,) = json.loads((tmp_path / "ship.geojson").read_text())["features"]
    ring = feature["geometry"]["coordinates"][0]
    assert min(point[0] for point in ring) == pytest.approx(3.0, abs=1e-6)  # the middle of UTM zone 31
    assert max(point[1] for point in ring) == pytest.approx(0.0, abs=1e-6)  # the equator


def test_an_input_is_never_written_over_and_an_option_is_not_given_twice(run, harbor, model_folder, tmp_path):
    before = Path(harbor).read_bytes()
    for words in (("detect", "-o"), ("info", "--preview")):
        asked = (*words[:1], harbor, *(("-m", model_folder) if words[0] == "detect" else ()), words[1], harbor)
        told(run(*asked, "--overwrite"), "is one of the inputs")
    assert Path(harbor).read_bytes() == before
    told(run("detect", harbor, "-o", tmp_path / "a.kml", "-o", tmp_path / "a.csv"), "--output is given 2 times")
    assert run("info", harbor, "--preview", tmp_path / "p.png")[0] == 0
    told(run("info", harbor, "--preview", tmp_path / "p.png"), "is there already")


def test_nothing_found_is_said_and_written(run, harbor, model_folder, says, tmp_path):
    says("There are no such objects in the image.")
    code, out, _ = run("detect", harbor, "-c", "ship", "-m", model_folder, "-o", tmp_path / "none.geojson")
    assert (code, out) == (0, "nothing found\n")
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []


@pytest.mark.parametrize("end", ["", "\nthis is not read\n"], ids=["end of input", "empty line"])
def test_chat_answers_a_line_at_a_time_until_an_empty_line_or_the_end(run, harbor, model_folder, says, end):
    says("a harbor")
    code, out, err = run(
        "chat", harbor, "-m", model_folder, "--json", stdin="What is this?\nHow many ships are there?\n" + end
    )
    assert (code, err) == (0, "")
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["What is this?", "How many ships are there?"]


def test_the_catalogues_are_listed(run):
    code, out, _ = run("datasets", "list", "--json")
    cards = json.loads(out)
    assert code == 0 and {"rsicd", "synthetic"} <= set(cards)
    assert cards["rsicd"]["images"]["train"] == 8734
    assert "synthetic" in run("datasets", "list")[1]
    code, out, _ = run("tasks", "list", "--json")
    assert code == 0 and len(json.loads(out)) == 6
    assert "visual_grounding" in run("tasks", "list")[1]
    code, out, _ = run("models", "list", "--json")
    assert code == 0 and isinstance(json.loads(out), list)


def test_eval_prints_metrics_beside_chance_and_writes_the_report(run, model_folder, monkeypatch, tmp_path):
    monkeypatch.setitem(synthetic.SPLITS, "val", range(4))
    words = ("eval", model_folder, "synthetic", "scene_classification")
    code, out, err = run(*words, "--limit", 3, "-o", tmp_path / "report.json")
    assert code == 0 and err.startswith("Wrote ")
    assert "accuracy" in out and "shuffled" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["examples"] == len(report["answers"]) == 3
    assert json.loads(run(*words, "--limit", 3, "--json")[1])["metrics"] == report["metrics"]


def test_train_takes_overrides_and_the_trained_model_answers(run, harbor, monkeypatch, tmp_path, request):
    monkeypatch.setitem(synthetic.SPLITS, "val", range(6))
    output = tmp_path / "run"
    debug = request.config.rootpath / "recipes" / "debug.toml"
    code, out, err = run("train", debug, "steps=2", "batch_size=2", f"output={output}")
    assert (code, out) == (0, "")
    assert "step 2 of 2" in err
    assert len((output / "log.jsonl").read_text().splitlines()) == 2
    code, out, _ = run("ask", harbor, "What is this?", "-m", output / "model", "--json")
    assert code == 0 and "answer" in json.loads(out)


def test_a_kind_of_model_that_is_not_known_is_told(run, monkeypatch, tmp_path, request):
    monkeypatch.setitem(synthetic.SPLITS, "val", range(6))
    words = ("train", request.config.rootpath / "recipes" / "debug.toml", f"output={tmp_path / 'run'}")
    for part, says in (('{model_type = "no_such_kind"}', "Import the module that registers it"), ("{}", "model_type")):
        code, out, err = run(*words, f"model.vit={part}")
        assert (code, out) == (1, "") and says in err.splitlines()[-1] and len(err) < 300


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(run, command):
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Example: earthgpt {command}" in out


def test_no_command_is_forgotten_here(run):
    names = {*cli.COMMANDS, *(f"{group} {word}" for group, (_, words) in cli.GROUPS.items() for word in words)}
    assert names == set(COMMANDS)


def test_without_words_the_help_is_shown(run):
    code, out, err = run()
    assert code == 1
    assert (out + err).startswith("Usage:")


# --- data sets and instruction sets ------------------------------------------------------------------------------


def test_a_download_is_checked_in_words_and_as_json(run, tmp_path):
    root = downloads.hit_uav(tmp_path)
    code, out, err = run("datasets", "check", "hit_uav", root)
    assert code == 0
    assert "10,608" in out and "annotations/test.json" in out
    code, out, err = run("datasets", "check", "hit_uav", root, "--json")
    assert json.loads(out)["found"] == {"images": 3, "objects": 4, "turns": 10}
    told(run("datasets", "check", "hit_uav", root, "--policy", "fair"), "paper or clean", "fair")


def test_the_card_of_a_data_set_is_shown_in_words_and_as_json(run):
    code, out, err = run("datasets", "show", "hit_uav")
    assert "CC BY 4.0" in out and "train 2,029" in out and "10,608" in out
    code, out, err = run("datasets", "show", "hit_uav", "--json")
    assert json.loads(out)["images"] == {"train": 2029, "val": 290, "test": 579}


def test_a_data_set_is_drawn_for_one_task(run, tmp_path):
    words = ("datasets", "show", "synthetic", "--split", "val", "--count", 2, "--task", "visual_grounding")
    code, out, err = run(*words, "--preview", tmp_path / "phrases.png")
    assert (code, out) == (0, "") and "Wrote" in err and (tmp_path / "phrases.png").exists()
    told(run(*words), "--task chooses what is drawn", "--preview")


def test_an_instruction_set_is_built_and_validated(run, tmp_path):
    toml = tmp_path / "build.toml"
    root = downloads.rsicd(tmp_path / "RSICD")
    toml.write_text(f'output = "{tmp_path / "out"}"\n[[sources]]\ndataset = "rsicd"\nroot = "{root}"\n')
    code, out, err = run("build", toml, "compare=names")
    assert code == 0, err
    assert "24,333" in out and "mmrs.json" in out
    code, out, err = run("validate", tmp_path / "out" / "mmrs.json", "--images", tmp_path / "out")
    assert (code, out) == (0, "5 records, 10 turns, 5 images\n")
    (root / "RSICD_images" / "pond_4.jpg").unlink()
    code, out, err = run("validate", tmp_path / "out" / "mmrs.jsonl", "--images", tmp_path / "out")
    assert code == 1 and "1 missing image (records 4 ...)" in out and "defects of 1 kind" in err


# --- models ------------------------------------------------------------------------------------------------------


def test_models_and_presets_are_listed_and_shown(run):
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json")[1])}
    assert rows["earthgpt-tiny"]["kind"] == "ready"
    assert rows["earthgpt-7b"]["text"] == "meta-llama/Llama-2-7b-hf"
    assert "facebook/dinov2-large" in run("models", "list")[1]
    code, out, _ = run("models", "show", "earthgpt-7b")
    assert code == 0 and "6,738,415,616" in out and "448 px takes 1,026 places: 32 x 32" in out
    value = json.loads(run("models", "show", "earthgpt-13b", "--image-size", 224, "--json")[1])
    assert value["parameters"]["language_model"] == 13_015_864_320 and value["tokens_per_image"] == 258
    shown = run("models", "show", "earthgpt-tiny")[1]
    assert "9,598,237" in shown and "3,600 steps, 921,600 images of rsicd, rsscn7," in shown
    runs = json.loads(run("models", "show", "earthgpt-tiny", "--json")[1])["runs"]
    assert runs[0]["sources"][2] == {"dataset": "nwpu_vhr10", "split": "all", "part": "train", "repeat": 6.0}
    assert told(run("models", "show", "earthgpt-9b"), "No model 'earthgpt-9b'", "earthgpt-7b")
    assert told(run("models", "show", "earthgpt-7b", "--image-size", 500), "490 or 504")


def test_a_model_is_assembled_shown_asked_and_never_overwritten(run, harbor, tmp_path):
    chosen = ("--vit", parts.vit(tmp_path / "vit"), "--cnn", parts.open_clip(tmp_path / "cnn"))
    words = ("models", "assemble", "--preset", "earthgpt-7b", *chosen, "--text", parts.text(tmp_path / "text"))
    words += ("--image-size", 64, "--dtype", "float32", "-o")
    code, out, err = run(*words, tmp_path / "model")
    assert code == 0, err
    assert "Wrote" in out and "untrained" in out and "176,736" in out
    shown = json.loads(run("models", "show", tmp_path / "model", "--json")[1])
    made = json.loads(run(*words, tmp_path / "again", "--json")[1])
    assert made["parameters"] == shown["parameters"] and made["notes"] == []
    assert made["parts"]["cnn"] == str(tmp_path / "cnn")
    code, out, err = run("ask", harbor, "What is this?", "-m", tmp_path / "model", "--json")
    assert code == 0 and "answer" in json.loads(out)
    assert told(run(*words, tmp_path / "model"), "exists")


def test_parts_that_are_not_named_or_not_there_are_told(run, tmp_path):
    told(run("models", "assemble", "-o", tmp_path / "model", "--vit", "x"), "--cnn, --text", "--preset")
    told(run("models", "assemble", "-o", tmp_path / "model", "--preset", "earthgpt-7"), "Did you mean 'earthgpt-7b'?")
    nowhere = ("--vit", tmp_path / "a", "--cnn", tmp_path / "b", "--text", tmp_path / "c")
    told(run("models", "assemble", "-o", tmp_path / "model", *nowhere), "There is no folder", "for the ViT")
    assert list(tmp_path.iterdir()) == []


def test_bias_tuning_is_merged_or_there_is_none(run, model, processor, model_folder, harbor, tmp_path):
    model.add_bias_tuning()
    model.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    code, out, _ = run("models", "merge", tmp_path / "tuned", "-o", tmp_path / "merged")
    assert (code, out) == (0, f"Merged 14 layers into {tmp_path / 'merged'}\n")
    assert run("ask", harbor, "What is this?", "-m", tmp_path / "merged")[0] == 0
    assert told(run("models", "merge", model_folder, "-o", tmp_path / "other"), "nothing to merge")
    assert told(run("models", "merge", tmp_path / "tuned", "-o", tmp_path / "merged"), "exists")


# --- predictions of others ---------------------------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path) -> Path:
    """Answers in the shape of EarthDial: two of three right but for a space."""
    rows = [("Baseball Field", "BaseballField"), ("Beach", "Beach"), ("Port", "River")]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps({"question": "q", "answer": a, "annotation": b}) for a, b in rows))
    return path


def test_predictions_are_scored_told_and_written(run, answers, tmp_path):
    outputs = [tmp_path / f"report.{ending}" for ending in ("json", "md", "tex", "csv", "html")]
    words = ("score", "scene_classification", answers)
    code, out, err = run(*words, *(word for path in outputs for word in ("-o", path)))
    assert code == 0
    assert "Read 3 rows as truth: annotation, question: question, prediction: answer" in err
    assert "accuracy_strict" in out and "0.3333" in out and "0.6667" in out and "most common answer" in out
    assert all(path.stat().st_size for path in outputs)
    metrics = json.loads(outputs[0].read_text())["metrics"]
    assert metrics["accuracy_strict"] == pytest.approx(1 / 3) and metrics["accuracy_lenient"] == pytest.approx(2 / 3)
    assert json.loads(run(*words, "--json", "--rounds", 0)[1])["metrics"] == metrics
    same = ("--field", "prediction=annotation", "--field", "truth=annotation")
    assert json.loads(run(*words, *same, "--json")[1])["metrics"]["accuracy_strict"] == 1


@pytest.mark.parametrize("task", ["visual_grounding", "object_detection"])
def test_boxes_that_never_meet_their_true_ones_are_told(run, tmp_path, task):
    def scored(*box):
        row = {"prediction": [[*box]], "truth": [[100, 100, 140, 120]], "size": [400, 400]}
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, **row}) + "\n" for i in range(5)))
        return run("score", task, tmp_path / "a.jsonl", "--frame", "pixels", "--rounds", 0)[2]

    assert "No box that was predicted meets a true one of its class" in scored(100, 100, 101, 101)
    assert "meets a true one" not in scored(100, 100, 139, 120)


def test_two_reports_are_compared(run, answers, tmp_path):
    for name, field in (("one", "answer"), ("other", "annotation")):
        fields = ("--field", f"prediction={field}", "--field", "truth=annotation")
        run("score", "scene_classification", answers, *fields, "-o", tmp_path / f"{name}.json")
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    code, out, err = run("compare", one, other, "-o", tmp_path / "table.md")
    assert code == 0 and "-0.6667" in out and "McNemar" in out
    assert "| accuracy_strict | 0.3333 | 1.0000 | -0.6667 |" in (tmp_path / "table.md").read_text()
    found = json.loads(run("compare", one, other, "--json")[1])
    assert found["right"]["right"][:2] == [0, 1] and found["examples"] == 3
    changed = json.loads(other.read_text())
    changed["answers"].pop()
    other.write_text(json.dumps(changed))
    told(run("compare", one, other), "2 are the same", "1 are only in the first", "--common")
    assert json.loads(run("compare", one, other, "--common", "--json")[1])["left_out"] == [1, 0]


def test_what_cannot_be_scored_is_told(run, answers, tmp_path):
    with answers.open("a") as file:
        file.write('\n{"question": "q", "ans')
    told(run("score", "scene_classification", answers), "1 row that cannot be read (line 4)", "--allow-missing")
    code, out, _ = run("score", "scene_classification", answers, "--allow-missing")
    assert code == 0 and "row that cannot be read" in out and "(line 4)" in out
    told(run("score", "scene_classification", tmp_path / "none.jsonl"), "Cannot read", "none.jsonl")
    told(run("score", "classification", answers), "tasks")
    told(run("score", "scene_classification", answers, "--field", "truth"), "NAME=VALUE", "'truth'")
    told(run("score", "object_detection", answers, "--option", "protocol=voc12"), "voc07, voc10; not 'voc12'")
    told(run("score", "scene_classification", answers, "-o", tmp_path / "report.xls"), "'.xls'")
    told(run("score", "scene_classification", answers, "-o", tmp_path / "no" / "report.md"), "no folder")
    told(run("compare", answers, answers), "no report")


# --- what does not work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.png", None, "There is no file"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"this is no image", "is not an image"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "damaged"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
        ("cut.tif", b"II*\0\x08\0\0\0", "cut.tif"),
    ],
)
def test_an_image_that_cannot_be_read_is_told(run, tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert told(run("ask", path, "What is this?"), name, says)


def test_a_folder_is_no_image(run, tmp_path):
    assert told(run("caption", tmp_path), "holds no image")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nonsense",), "No such command"),
        (("ask",), "IMAGE"),
        (("ask", "IMAGE"), "Usage: earthgpt ask [OPTIONS] {IMAGE}... {QUESTION}"),
        (("train", "a.toml", "--steps", "3"), "[KEY=VALUE]"),
        (("chat", "https://example.com/a.png", "-m", "MODEL"), "--remote"),
        (("detect", "IMAGE", "--tile", "8", "-m", "MODEL"), "A tile has at least 16 pixels"),
        (("ask", "IMAGE", "What?", "--bogus"), "No such option"),
        (("ask", "IMAGE", "What?", "-s", "lidar"), "optical, sar, infrared; not 'lidar'"),
        (("ask", "IMAGE", "What?", "--engine", "nonsense"), "'nonsense' is not one of 'local', 'ray'"),
        (("caption", "IMAGE", "--engine", "ray", "-o", "FOLDER/a.csv"), "--engine local"),
        (("caption", "IMAGE", "--json", "-o", "FOLDER/a.csv"), "leave out --json, or -o"),
        (("classify", "IMAGE", "-c", "ship", "--json", "-o", "FOLDER/a.CSV"), "leave out --json, or -o"),
        (("ask", "IMAGE", "What?", "-m", "earthgpt-tony"), "No model 'earthgpt-tony'"),
        (("ask", "IMAGE", "What?", "-m", "FOLDER"), "has no config.json"),
        (("ask", "IMAGE", "", "-m", "MODEL"), "The question is empty"),
        (("ask", "IMAGE", "<image>", "-m", "MODEL"), "<image>"),
        (("ground", "IMAGE", "  ", "-m", "MODEL"), "The phrase is empty"),
        (("detect", "IMAGE", "-c", "", "-m", "MODEL"), "list of classes is empty"),
        (("detect", "IMAGE", "-c", "ship", "-m", "MODEL", "-o", "FOLDER/ships.xyz"), "not '.xyz'"),
        (("classify", "IMAGE", "-c", "", "-m", "MODEL"), "list of classes is empty"),
        (("classify", "IMAGE", "-c", " , ,", "-m", "MODEL"), "list of classes is empty"),
        (("describe", "IMAGE", "1,2,3"), "left,top,right,bottom"),
        (("describe", "IMAGE", "a,b,c,d"), "not 'a,b,c,d'"),
        (("describe", "IMAGE", "50,10,20,60"), "(200 x 100)"),
        (("describe", "IMAGE", "0,0,201,50"), "inside the image"),
        (("describe", "IMAGE", "nan,0,20,50"), "inside the image"),
        (("train", "FOLDER/none.toml"), "Cannot read the recipe"),
        (("train", "FOLDER"), "Cannot read the recipe"),
        (("eval", "MODEL", "rsidc", "image_captioning"), "Did you mean 'rsicd'"),
        (("eval", "MODEL", "rsicd", "captioning"), "tasks"),
        (("eval", "MODEL", "rsicd", "image_captioning", "FOLDER/none"), "No folder"),
        (("eval", "MODEL", "rsicd", "image_captioning", "FOLDER"), "dataset_rsicd.json"),
        (("eval", "MODEL", "rsicd", "object_detection", "FOLDER"), "has no facts for object_detection"),
        (("eval", "MODEL", "synthetic", "object_detection", "--split", "dev"), "not 'dev'"),
        (("eval", "MODEL", "synthetic", "object_detection", "--limit", "0"), "--limit"),
        (("eval", "MODEL", "synthetic", "scene_classification", "--kind", "hbb"), "have no kinds; not 'hbb'"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_told_in_one_line(run, harbor, model_folder, monkeypatch, tmp_path, words, says):
    monkeypatch.setitem(synthetic.SPLITS, "val", range(2))
    (tmp_path / "folder").mkdir()
    places = {"IMAGE": harbor, "MODEL": model_folder, "FOLDER": tmp_path / "folder"}
    for name, place in places.items():
        words = [str(word).replace(name, str(place)) for word in words]
    code, out, err = run(*words)
    # What was found may have been printed before it could not be written.
    assert told((code, "" if "-o" in words else out, err), says)


def test_a_report_that_cannot_be_written_is_told(run, model_folder, monkeypatch, tmp_path):
    monkeypatch.setitem(synthetic.SPLITS, "val", range(2))
    words = ("eval", model_folder, "synthetic", "scene_classification", "--limit", 1)
    assert told(run(*words, "-o", tmp_path / "nowhere" / "report.json"), "report.json")


@pytest.mark.parametrize("name", ["ships.geojson", "ships.png"])
def test_a_folder_that_is_not_there_cannot_be_written_to(run, harbor, model_folder, tmp_path, name):
    code, _, err = run("detect", harbor, "-m", model_folder, "-o", tmp_path / "nowhere" / name)
    assert told((code, "", err), "Cannot write", name)


def test_a_program_of_its_own_prints_no_traceback_and_its_exit_code(tmp_path, harbor, model_folder):
    def program(*words):
        return subprocess.run(
            [sys.executable, "-m", "earthgpt", *map(str, words)], capture_output=True, text=True, cwd=tmp_path
        )

    wrong = program("caption", "nowhere.png")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "earthgpt: There is no file nowhere.png.\n"
    right = program("classify", harbor, "-c", "harbor,airport", "-m", model_folder, "--json")
    assert (right.returncode, right.stderr) == (0, "")
    assert set(json.loads(right.stdout)["probabilities"]) == {"harbor", "airport"}


def test_control_c_stops_with_its_own_exit_code(run, harbor, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.images, "ready", stop)
    code, out, err = run("caption", harbor)
    assert (code, out, err) == (130, "", "Stopped.\n")


def test_the_default_model_has_one_name():
    assert cli.options.DEFAULT == loading.DEFAULT  # said twice, for the command line starts without torch


# --- mistakes that people make -----------------------------------------------------------------------------------


def test_a_class_that_the_detector_does_not_know_is_told(run, tmp_path):
    Image.fromarray(synthetic.scene(300, Sensor.OPTICAL, (64, 64)).image()).save(tmp_path / "a.png")
    code, out, err = run("detect", tmp_path / "a.png", "-c", "shpi", "-c", "Vehicles")
    assert code == 0 and out
    (line,) = [one for one in err.splitlines() if "'shpi'" in one]
    assert "does not know 'shpi' in optical images" in line and line.endswith("did you mean 'ship'?")
    assert "'Vehicles'" not in err
    for *command, unknown in (
        ("ask", "How many whales are there in the image?", "whale"),
        ("ask", "Are there more ships than red cars in the image?", "red car"),
        ("ground", "the largest whale", "whale"),
    ):
        code, out, err = run(command[0], tmp_path / "a.png", *command[1:])
        assert code == 0 and out and f"does not know {unknown!r} in optical images" in err and "guessed" in err
        assert len(err.splitlines()) == 1, "ship is known"
    for known in ("How many ships are there?", "Is there a Vehicle in the image?", "What is the weather like?"):
        assert "does not know" not in run("ask", tmp_path / "a.png", known)[2]
    err = run("ask", tmp_path / "a.png", "Is there a bicycle?", "-o", tmp_path / "a.csv")[2]
    assert "a.csv: the model's detector does not know 'bicycle' in optical images" in err, "once for each sensor"
    assert "in infrared images: bicycle, car" in run("models", "show", "earthgpt-tiny")[1]


@pytest.mark.parametrize("words", [("ask", "How", "many", "ships"), ("ask", "What is this?", "no"), ("detect", "ship")])
def test_words_that_are_no_image_are_told_before_anything_is_asked(run, harbor, words):
    result = run(words[0], harbor, *words[1:])
    assert told(result, "There is no image", "in quotes")


@pytest.mark.parametrize(
    "content", ["image,caption\nb\xe9ach.jpg,x\n".encode("cp1252"), "\ufeffa,b\n".encode("utf-16")]
)
def test_a_table_in_another_encoding_is_told(run, harbor, tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    assert told(run("caption", harbor, "-o", tmp_path / "t.csv"), "no CSV in UTF-8", "--overwrite")


def test_a_table_that_was_saved_with_a_mark_of_utf_8_goes_on(run, harbor, model_folder, says, tmp_path):
    says("a harbor")
    words = ("caption", harbor, "-m", model_folder, "-o", tmp_path / "t.csv")
    assert run(*words)[0] == 0
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "t.csv").read_bytes())
    code, _, err = run(*words)
    assert code == 0 and "1 of them were there before" in err
    (tmp_path / "t.csv").write_bytes((tmp_path / "t.csv").read_bytes().rstrip())  # as an editor may save it
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")
    assert run("caption", harbor, tmp_path / "b.png", *words[2:])[0] == 0
    assert [len(row) for row in csv.reader((tmp_path / "t.csv").open(newline="", encoding="utf-8-sig"))] == [7, 7, 7]


def test_an_output_for_each_image_makes_its_folder_and_a_table_is_of_all(run, harbor, model_folder, says, tmp_path):
    says("There is one ship [0.100,0.100,0.500,0.500] in the image.")
    Image.new("RGB", (50, 50)).save(harbor.parent / "other.png")
    out = tmp_path / "found" / "{name}.geojson"
    assert run("detect", harbor.parent, "-c", "ship", "-m", model_folder, "-o", out)[0] == 0
    assert sorted(path.name for path in out.parent.iterdir() if path.suffix == ".geojson") == [
        "harbor.geojson", "other.geojson",
    ]  # fmt: skip
    told(run("caption", harbor.parent, "-m", model_folder, "-o", tmp_path / "{name}.csv"), "A table is of all images")


def test_a_list_whose_quotes_the_shell_took_is_told(run, tmp_path, request):
    recipe = request.config.rootpath / "recipes" / "build_mmrs.toml"
    result = run("build", recipe, f"output={tmp_path}", "sources=[{dataset = rsscn7}]")
    assert told(result, "is no TOML", "Single quotes")


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr("earthgpt.cli.serving.load_model", None)  # it is not come to that
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert told(run("serve", "--port", port), f"Cannot listen at 127.0.0.1:{port}: Address already in use.")
    assert told(run("serve", "--host", "a" * 70), "Cannot listen at aaaa")
    assert told(run("serve", "--host", "no.such.host.invalid"), "Cannot listen at no.such.host.invalid:8000")


def test_a_server_whose_jobs_cannot_be_kept_says_so_in_one_line(run, model_folder):
    assert told(run("serve", "-m", model_folder, "--jobs", "/proc/jobs", "--no-compiled"), "Cannot write the jobs to")


def test_an_evaluation_without_the_folder_of_its_set_is_told(run):
    assert told(run("eval", "earthgpt-tiny", "rsscn7", "scene_classification"), "Name the folder", "rsscn7")
