"""Suites of evaluations: the protocol of the EarthGPT paper, and its tables with rows of ours in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthgpt import lookup
from earthgpt.assistant import EarthGPT
from earthgpt.datasets import Dataset
from earthgpt.endpoints import Endpoint
from earthgpt.evaluation import NoQuestionsError, evaluate
from earthgpt.metrics.captions import java_missing
from earthgpt.pages import WRITERS, whole_page
from earthgpt.policies import plan, take
from earthgpt.reports import Report, write_text
from earthgpt.tables import Table, html
from earthgpt.tasks import Turn
from earthgpt.types import EarthGPTError, Sample

Keep = Callable[[Sample, Turn], bool]
MEASURED, PUBLISHED = "measured", "published"


@dataclass(frozen=True)
class Exam:
    """One evaluation of a suite: a task of a data set, and the columns of its table that its figures fill.

    name: of its report. folders: what the folder of the set may be called, beside the name and title of the set; case
    and marks do not matter. split, part and kind are those of ``evaluate``; options are the fields of the task. rows:
    by what our row says of itself behind the name of the model, and by title of the column, the name of a figure in
    ``Report.metrics``, or in those of one kind of question ("presence/accuracy_lenient"). questions: how many the whole
    set has; None where nobody knows. keep: from the folder of the set, which questions are asked.
    """

    name: str
    dataset: str
    task: str
    split: str
    rows: Mapping[str, Mapping[str, str]]
    questions: int | None
    folders: tuple[str, ...] = ()
    part: str | None = None
    kind: str | None = None
    options: Callable[[], Mapping[str, Any]] = dict
    keep: Callable[[Path], Keep] = lambda folder: lambda sample, turn: True


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: what it and others reached, by method and column, as printed there; and our exams for it.

    note: how our rows come about.
    """

    title: str
    columns: tuple[str, ...]
    published: Mapping[str, tuple[str, ...]]
    exams: tuple[Exam, ...]
    note: str


@dataclass(frozen=True)
class Outcome:
    """What a suite found.

    tables: with a method and where its figures come from (MEASURED or PUBLISHED) before the columns, ours last; a cell
    without a figure is empty, and the note says which sets are not there or not whole. reports: by name of the exam.
    missing: by name of the exam why it was not held.
    """

    tables: tuple[Table, ...]
    reports: Mapping[str, Report]
    missing: Mapping[str, str]


def hold(
    suite: str,
    model: EarthGPT | Endpoint,
    root: Path,
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda exam, done, total: None,
    **options: Any,
) -> Outcome:
    """Holds the exams of a suite whose data sets are in ``root``, each in a folder of its own, and fills its tables.

    The report of each exam is written in ``folder``, which is made, and the tables beside them as ``SUITE.md``,
    ``.tex``, ``.csv`` and ``.html``; a run that was stopped goes on there. ``progress``
    is told the exam, and how many of how many questions were answered. ``options`` are those of ``evaluate``.
    Raises EarthGPTError for an unknown suite, a missing root, and as ``evaluate`` does; a set that is not there, or is
    not what its card says, is named in ``Outcome.missing``.
    """
    if suite not in SUITES:
        raise EarthGPTError(f"A suite is one of {', '.join(SUITES)}; not {suite!r}.")
    if not root.is_dir():
        raise EarthGPTError(f"There is no folder {root}: the data sets of the suite are looked for in it.")
    folder.mkdir(parents=True, exist_ok=True)
    reports, missing = {}, {}
    for exam in (exam for table in SUITES[suite] for exam in table.exams):
        card = lookup.find("datasets", exam.dataset)
        place = _place(root, card, exam)
        if place is None:
            missing[exam.name] = f"no folder {(*exam.folders, exam.dataset)[0]} in {root}"
            continue
        try:
            next(iter(card.read(place, exam.split)), None)
            keep = exam.keep(place)
        except EarthGPTError as error:
            missing[exam.name] = str(error)
            continue
        try:
            reports[exam.name] = evaluate(
                model, exam.dataset, exam.task, str(place), exam.split, exam.part, exam.kind,
                progress=lambda done, total, name=exam.name: progress(name, done, total),
                output=folder / f"{exam.name}.json", options=exam.options(), keep=keep, **options,
            )  # fmt: skip
        except NoQuestionsError as error:
            missing[exam.name] = str(error)
    tables = tuple(_filled(table, reports, missing, options.get("name", "")) for table in SUITES[suite])
    for ending, write in WRITERS.items():
        write_text(folder / f"{suite}{ending}", write(tables))
    write_text(folder / f"{suite}.html", whole_page(f"EarthGPT: {suite}", html(tables)))
    return Outcome(tables, reports, missing)


def _place(root: Path, card: Dataset, exam: Exam) -> Path | None:
    names = {_plain(name) for name in (*exam.folders, exam.dataset, card.title)}
    return next((one for one in sorted(root.iterdir()) if one.is_dir() and _plain(one.name) in names), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _filled(table: PaperTable, reports: Mapping[str, Report], missing: Mapping[str, str], model: str) -> Table:
    notes = [table.note]
    for exam in table.exams:
        if exam.name in missing:
            notes.append(f"Not asked: {exam.name}: {missing[exam.name].rstrip('.')}.")
        elif exam.questions not in (None, found := reports[exam.name].examples):
            notes.append(f"Not the whole set: {exam.name}, {found:,} of {exam.questions:,} questions.")
    rows = [(method, PUBLISHED, *cells) for method, cells in table.published.items()]
    held = [exam for exam in table.exams if exam.name in reports]
    for label in dict.fromkeys(label for exam in held for label in exam.rows):
        cells = dict.fromkeys(table.columns, "")
        for exam in held:
            scale = 1 if exam.task == "image_captioning" else 100
            for column, path in exam.rows[label].items():
                value = _figure(reports[exam.name], path)
                cells[column] = "" if value is None else f"{scale * value:.2f}"
        rows.append((f"{model} ({label})" if label else model, MEASURED, *cells.values()))
    return Table(table.title, ("Method", "Figures", *table.columns), tuple(rows), " ".join(notes))


def _figure(report: Report, path: str) -> float | None:
    kind, _, name = path.rpartition("/")
    figures = report.by_kind.get(kind, {}) if kind else report.metrics
    return figures.get(name)


# --- the protocol of the paper -----------------------------------------------------------------------------------


def _not_trained_on(folder: Path) -> Keep:
    """The images that a build of the instruction set with seed 0 leaves out; which ones the paper left out, it does
    not say."""
    card = lookup.find("datasets", "nwpu_resisc45")
    trained = {sample.name for sample, _ in take(card, folder, plan(card, "paper"), 0, Counter())}
    return lambda sample, turn: sample.name not in trained


def _airplanes(oriented: bool) -> Callable[[Path], Keep]:
    """One question an image: all its objects are airplanes, so that asking for all objects would ask the same."""

    def keep(folder: Path) -> Keep:
        question = lookup.find("tasks", "object_detection").question("airplane", oriented)
        return lambda sample, turn: turn.question == question

    return keep


def _captions() -> dict[str, Any]:
    """The tokens that published figures are made with, and METEOR, where there is Java for them."""
    return {} if java_missing() else {"tokenizer": "ptb", "meteor": True}


def _policies(columns: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A row for each policy of right and wrong: the paper does not say which is its own."""
    return {policy: {title: f"{path}_{policy}" for title, path in columns.items()} for policy in ("strict", "lenient")}


_POLICIES = "strict: equal but for case and a full stop; lenient: also but for plural, spelling, articles and the like."
_GROUNDING = {
    **{f"Pr@0.{tenth}": f"pr_{tenth}0" for tenth in range(5, 10)},
    "meanIoU": "mean_iou",
    "cumIoU": "cumulative_iou",
}
_CAPTIONS = {
    **{f"BLEU-{order}": f"bleu_{order}" for order in range(1, 5)},
    "METEOR": "meteor",
    "ROUGE-L": "rouge_l",
    "CIDEr-D": "cider_d",
    "SPICE": "spice",
}
_AP = {"AP@0.40": "ap_40", "AP@0.50": "ap_50"}
_AP_NOTE = (
    "One question an image, for its airplanes; AP by VOC07's 11 points, which the published figures fit (they end at "
    "90.9 = 10/11). The paper takes the similarity of RemoteCLIP as confidence; ours are the probabilities of tokens."
)


def _table(title: str, columns: tuple[str, ...], published: str, exams: tuple[Exam, ...], note: str) -> PaperTable:
    """``published`` has a line for each method: its figures, and its name behind them."""
    rows = {}
    for line in published.strip().splitlines():
        *cells, method = line.split(None, len(columns))
        rows[method] = tuple(cells)
    return PaperTable(title, columns, rows, exams, note)


PAPER = (
    _table(
        "Scene classification, supervised: NWPU-RESISC45, 80 % as test (top-1, %)",
        ("NWPU-RESISC45",),
        """
        88.47 PSGAN
        92.71 SeCo
        93.05 T-CNN
        93.59 CSDS
        94.57 MGSNet
        93.84 EarthGPT
        """,
        (
            Exam(
                "nwpu_resisc45", "nwpu_resisc45", "scene_classification", "all",
                _policies({"NWPU-RESISC45": "accuracy"}), 25_200, ("NWPU-RESISC45",), keep=_not_trained_on,
            ),
        ),
        f"The images that a build of the instruction set with seed 0 does not train on. {_POLICIES}",
    ),
    _table(
        "Scene classification, zero-shot (top-1, %)",
        ("CLRS", "NaSC-TG2"),
        """
        51.76 36.09 Qwen-VL-Chat
        55.86 40.67 LLaVA-1.5
        60.72 49.76 SPHINX
        77.37 74.72 EarthGPT
        """,
        tuple(
            Exam(name, name, "scene_classification", "all", _policies({title: "accuracy"}), count, (title,))
            for name, title, count in (("clrs", "CLRS", 15_000), ("nasc_tg2", "NaSC-TG2", 20_000))
        ),
        f"All images, with the list of classes in the question. {_POLICIES}",
    ),
    _table(
        "Image captioning: NWPU-Captions, test (x 100)",
        tuple(_CAPTIONS),
        """
        77.0 64.9 53.2 47.1 32.0 57.8 106.5 26.5 CSMLF
        73.6 61.5 53.2 46.9 33.8 60.0 123.1 28.3 FC-Att
        73.9 61.7 53.2 46.8 33.0 59.3 123.6 27.6 SM-Att
        74.5 62.4 54.1 47.8 33.7 60.1 126.4 28.5 MLCA-Net
        87.1 78.7 71.6 65.5 44.5 78.2 192.6 32.2 EarthGPT
        """,
        (
            Exam(
                "nwpu_captions", "nwpu_captions", "image_captioning", "test", {"": _CAPTIONS},
                3_150, ("NWPU-Captions",), options=_captions,
            ),
        ),
        "With Java and earthgpt[eval], tokens of PTB and METEOR; else plain tokens and no METEOR. SPICE is left out.",
    ),
    _table(
        "Visual question answering: CRSVQA, a tenth as test (overall accuracy, %)",
        ("CRSVQA",),
        """
        59.41 RSVQA (GRU)
        61.17 SAN
        70.91 MQVQA
        82.00 EarthGPT
        """,
        (
            Exam(
                "crsvqa", "crsvqa", "visual_question_answering", "all", _policies({"CRSVQA": "accuracy"}),
                None, ("MQVQA_dataset", "CRSVQA"), part="val",
            ),
        ),
        f"Questions of one image in ten, by name: the 1,000 of the paper are not listed. {_POLICIES}",
    ),
    _table(
        "Visual question answering, zero-shot: RSVQA-HR, test set 2, without counting (accuracy, %)",
        ("Presence", "Comparison", "Overall"),
        """
        40.79 50.91 46.46 MiniGPT-v2
        66.44 60.41 63.06 LLaVA-1.5
        69.83 67.29 68.40 Qwen-VL-Chat
        64.28 74.75 69.79 SPHINX
        58.45 83.19 72.30 GeoChat
        62.77 79.53 72.06 EarthGPT
        """,
        (
            Exam(
                "rsvqa_hr", "rsvqa_hr", "visual_question_answering", "test_phili",
                _policies(
                    {"Presence": "presence/accuracy", "Comparison": "comparison/accuracy", "Overall": "accuracy"}
                ),
                62_554, ("RSVQA-HR",), kind="presence,comparison",
            ),
        ),
        f"Overall is over all questions of both kinds. {_POLICIES}",
    ),
    _table(
        "Visual grounding: DIOR-RSVG, test (%)",
        tuple(_GROUNDING),
        """
        51.67 48.13 42.30 32.41 10.15 44.12 51.65 ZSGNet
        70.86 67.37 62.04 53.19 36.44 62.86 67.28 FAOA
        72.71 68.92 63.01 53.70 33.37 64.24 68.10 ReSC
        73.78 69.22 65.56 47.89 15.69 65.92 76.37 LBYL
        72.41 67.38 60.05 49.10 27.84 63.56 76.27 TransVG
        75.79 72.22 66.33 55.17 33.11 66.32 77.85 VLTVG
        76.78 72.68 66.74 56.42 35.07 68.04 78.41 MGVLF
        76.65 71.93 66.52 56.53 37.63 69.34 81.54 EarthGPT
        """,
        (Exam("dior_rsvg", "dior_rsvg", "visual_grounding", "test", {"": _GROUNDING}, 7_500, ("DIOR-RSVG",)),),
        "The 7,500 questions of the official test; the paper speaks of 758.",
    ),
    _table(
        "Object detection, zero-shot: MAR20, test, horizontal boxes (%)",
        tuple(_AP),
        """
        72.56 40.04 Qwen-VL-Chat
        72.69 72.11 Lenna
        81.03 80.48 SPHINX
        88.37 88.14 mm-Grounding-DINO
        88.55 88.21 Grounding DINO
        90.47 90.11 EarthGPT
        """,
        (
            Exam(
                "mar20", "mar20", "object_detection", "test", {"": _AP}, 2_511, ("MAR20",), kind="hbb",
                options=lambda: {"protocol": "voc07"}, keep=_airplanes(oriented=False),
            ),
        ),
        _AP_NOTE,
    ),
    _table(
        "Object detection, zero-shot: MAR20, test, oriented boxes (%)",
        tuple(_AP),
        """
        90.61 90.11 R3Det
        90.70 90.54 Oriented R-CNN
        90.71 90.23 S2A-Net
        90.53 87.86 EarthGPT
        """,
        (
            Exam(
                "mar20_oriented", "mar20_oriented", "object_detection", "test", {"": _AP}, 2_511, ("MAR20",),
                kind="obb", options=lambda: {"protocol": "voc07"}, keep=_airplanes(oriented=True),
            ),
        ),
        _AP_NOTE,
    ),
)  # fmt: skip
SUITES = {"paper": PAPER}
