"""Reports as tables and pages: what is shown, what stays text, and what is written where."""

import csv
import io
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from earthgpt import pages
from earthgpt.lookup import find
from earthgpt.pages import images_in, page, save, save_compared, tables
from earthgpt.reports import Report, Scored, compare, report
from earthgpt.tables import Table, comma_separated, latex, markdown
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

HOSTILE = '<script>alert("x")</script>|\\=HYPERLINK(1)&%$#_{}~^'
TURNED = OrientedBox(((0.1, 0.1), (0.5, 0.2), (0.4, 0.6), (0.05, 0.5)))
TWO = [("yes", "yes"), ("no", "yes")]


def words(pairs, task="visual_question_answering", **more):
    """A report on (true answer, prediction) pairs, each about an image of its own."""
    questions = [Scored(str(i), f"{i}.png", "q", true, said, said) for i, (true, said) in enumerate(pairs)]
    return report(find("tasks", task), task, questions, **more)


def test_a_table_in_every_format():
    table = Table("Title", ("metric", "run"), (("accuracy_strict", "0.5000"),), "A note.")
    assert "| metric | run |\n|---|---:|\n| accuracy_strict | 0.5000 |" in markdown([table])
    assert r"accuracy\_strict & 0.5000 \\" in latex([table])
    assert list(csv.reader(io.StringIO(comma_separated([table])))) == [
        ["Title"], ["metric", "run"], ["accuracy_strict", "0.5000"],
    ]  # fmt: skip


def test_hostile_names_stay_text():
    table = Table(HOSTILE, ("=1+1", HOSTILE), (("-1.5", "@x\n| a"),))
    assert "<script>" not in markdown([table]).replace("\\<script", "") and "@x \\| a" in markdown([table])
    assert r"\textbackslash{}=HYPERLINK(1)\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}" in latex([table])
    rows = list(csv.reader(io.StringIO(comma_separated([table]))))
    assert rows[1][0] == "'=1+1" and rows[2] == ["-1.5", "'@x\n| a"]


class Page(HTMLParser):
    """Collects the tags and the pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.pictures += [value for name, value in attrs if name == "src"]


def test_a_page_shows_good_and_bad_cases_with_boxes_drawn(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((40, 80, 3), 100, np.uint8)).save(tmp_path / f"{i}.png")
    whole = Box(0.1, 0.1, 0.9, 0.9)
    questions = [
        Scored("0", "0", HOSTILE, whole, whole, HOSTILE),
        Scored("1", "1.png", "q", whole, TURNED, "turned"),
        Scored("2", "../2.png", "q", whole, None, None),
    ]
    found = report(find("tasks", "visual_grounding"), "visual_grounding", questions)
    text = page(found, HOSTILE, images_in(tmp_path), cases=2)
    shown = Page(text)
    assert "script" not in shown.tags and shown.tags.count("figure") == 3
    assert len(shown.pictures) == 2 and all(one.startswith("data:image/jpeg;base64,") for one in shown.pictures)
    labelled = (Region(whole, "\ud800 \n" + HOSTILE), Region(TURNED, "ship"))
    found = report(find("tasks", "object_detection"), "object_detection",
                   [Scored("0", "0", "q", labelled, labelled, "x")], rounds=0)  # fmt: skip
    assert len(Page(page(found, "run", images_in(tmp_path))).pictures) == 1


def test_images_are_found_in_their_folder_and_nowhere_else(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    (tmp_path / "images" / "text.png").write_text("no image")
    find_image = images_in(tmp_path / "images")
    for name in ("", "../outside.png", str(tmp_path / "outside.png"), "nowhere.png", "a\0b", "x" * 5000):
        assert find_image(name) is None
    found = words([("yes", "yes")])
    damaged = Report(**{**vars(found), "answers": ({**found.answers[0], "image": "text.png"},)})
    assert "is not an image" in page(damaged, "run", find_image)


def test_images_are_found_in_a_folder_that_their_names_begin_above(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "JPEGImages" / "a.jpg")
    for folder, name in ((tmp_path, "JPEGImages/a.jpg"), (tmp_path / "JPEGImages", "JPEGImages/a.jpg")):
        assert images_in(folder)(name) is not None
    with pytest.raises(EarthGPTError, match=r"There is no folder .*nowhere"):
        images_in(tmp_path / "nowhere")


def test_a_fault_in_an_image_is_no_name_without_a_file(tmp_path, monkeypatch):
    def broken(path):
        raise ValueError("a fault")

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(pages, "open_raster", broken)
    with pytest.raises(ValueError, match="a fault"):
        images_in(tmp_path)("a")


def test_lines_of_a_defect_end_in_dots_only_where_there_are_more():
    few, many = {"defects": {"bad": 2}, "lines": {"bad": [1, 7]}}, {"defects": {"bad": 12}, "lines": {"bad": [1, 7]}}
    notes = [tables({"run": words(TWO, data=data)})[-1].rows for data in (few, many)]
    assert notes == [(("bad", "2 (line 1, 7)"),), (("bad", "12 (line 1, 7, ...)"),)]


def test_a_confusion_that_cannot_be_read_is_told_with_its_report():
    with pytest.raises(EarthGPTError, match=r"^run\.json is damaged: its confusion matrix"):
        tables({"run.json": Report("scene_classification", 1, 0, {}, confusion={"classes": ["a"]})})


def test_a_page_shows_settings_without_a_copy_of_the_answers(monkeypatch):
    found = words(TWO, settings={"model": "m", "threshold": math.nan})
    monkeypatch.delattr(Report, "to_dict")
    assert "&quot;model&quot;: &quot;m&quot;,\n &quot;threshold&quot;: null" in page(found, "run")


@pytest.mark.parametrize("ending", [".json", ".md", ".tex", ".csv", ".html"])
def test_a_report_is_saved_as_its_ending_says(tmp_path, ending):
    found = words([(HOSTILE, "no"), ("\ud800", "yes")])
    save(tmp_path / f"report{ending}", {HOSTILE: found})
    assert (tmp_path / f"report{ending}").stat().st_size > 100
    if ending in (".md", ".tex", ".csv"):
        save(tmp_path / f"two{ending}", {"one": found, "other": found})
    else:
        with pytest.raises(EarthGPTError, match="takes one report"):
            save(tmp_path / f"two{ending}", {"one": found, "other": found})
    save_compared(tmp_path / f"compared{ending}", compare(found, found), ("one", "other"))


def test_another_ending_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match=r"not '\.xls'"):
        save(tmp_path / "report.xls", {"run": words(TWO)})
    with pytest.raises(EarthGPTError, match="Cannot write"):
        save(tmp_path / "nowhere" / "report.md", {"run": words(TWO)})
