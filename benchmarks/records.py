"""Reading a million records at random: ``Records`` beside one list from ``json.load``, as LLaVA and its kin do it.

    python benchmarks/records.py

Each way runs in a fresh process on the same file (made in a temporary folder, and in the page cache by then). Memory is
that of the whole process, with its libraries. Where Hugging Face's datasets is installed, its Arrow table is read too,
opened for the second time, as are ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from importlib import metadata
from pathlib import Path

from processes import output, peak_kib, resident_kib
from table import Row, table

SAMPLED = 20_000
CAPTION = "Please provide a one-sentence caption for the provided remote sensing image in details."
CLASS = "What is the category of this remote sensing image? Answer the question using a single word or phrase."
WORDS = ("many", "some", "large", "green", "gray", "ships", "buildings", "trees", "harbor", "runway", "near", "beside")


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, path = arguments.measure
        measure = {"list": measure_list, "records": measure_records, "datasets": measure_datasets}[way]
        print(json.dumps(measure(path)))
        return
    print(table(rows(count=arguments.records)))


def rows(quick: bool = False, count: int = 1_000_000) -> list[Row]:
    """Makes the file, measures each way, and compares what they read."""
    from earthgpt.conversations import write

    ways = {"list": "json.load"}
    if importlib.util.find_spec("datasets"):
        ways["datasets"] = f"datasets {metadata.version('datasets')}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "total.json"
        count = write(path, conversations(count // 10 if quick else count))
        first, ours = run("records", path), run("records", path)
        theirs = {way: [run(way, path) for _ in range(1 + (way == "datasets"))][-1] for way in ways}
    if len({one.pop("digest") for one in (first, ours, *theirs.values())}) != 1:
        raise ValueError("The records differ.")
    same = f"{SAMPLED:,} records"
    goals = {
        "list": {"from opening to the first": 500, "resident memory": 10},
        "datasets": {"read at random": 15},
    }
    return [
        Row("records", f"{count:,}, {what}", unit, ours[what], its[what], ways[way], goals[way].get(what), None, same)
        for way, its in theirs.items()
        for what, unit in (
            ("from opening to the first", "s"),
            ("resident memory", "MB"),
            ("read at random", "records/s"),
        )
    ]


def conversations(count: int) -> Iterator:
    """Records as the release has them: captions of an image in several rounds, or its class; 400 to 800 bytes."""
    from earthgpt.types import Conversation

    draw = random.Random(0)
    for i in range(count):
        texts = [CLASS, draw.choice(WORDS)]
        for _ in range(draw.randrange(1, 3)):
            texts += [CAPTION, " ".join(draw.choices(WORDS, k=draw.randrange(8, 20))) + " ."]
        yield Conversation.of((f"data/caption/rsicd/train/{i:08d}.jpg",), *texts)


def run(way: str, path: Path) -> dict:
    """The figures of one way, measured in a process of its own."""
    begin = time.time()
    found = json.loads(output([sys.executable, __file__, "--measure", way, str(path)]))
    return {"from the start of the process to the first": found.pop("ready") - begin, **found}


def measure_list(path: str) -> dict:
    """One list of all records in memory."""

    def opened():
        with Path(path).open(encoding="utf-8") as file:
            return json.load(file)

    def said(record):
        return [[record["image"]], [turn["value"] for turn in record["conversations"]]]

    return figures(opened, said)


def measure_records(path: str) -> dict:
    """Records by index."""
    from earthgpt.conversations import Records

    def said(conversation):
        return [list(conversation.images), [message.text for message in conversation.messages]]

    return figures(lambda: Records(path), said)


def measure_datasets(path: str) -> dict:
    """Hugging Face's datasets, which keeps the file as an Arrow table beside it."""
    import datasets

    datasets.disable_progress_bars()

    def opened():
        return datasets.load_dataset("json", data_files=path, split="train", cache_dir=f"{path}.datasets")

    def said(record):
        return [[record["image"]], [turn["value"] for turn in record["conversations"]]]

    return figures(opened, said)


def figures(opened, said) -> dict:
    """What a way costs; ``said`` turns a record into what is compared."""
    begin = time.perf_counter()
    records = opened()
    draw = random.Random(1)
    records[draw.randrange(len(records))]
    took, ready = time.perf_counter() - begin, time.time()
    places = [draw.randrange(len(records)) for _ in range(SAMPLED)]
    begin = time.perf_counter()
    for place in places:
        records[place]
    rate = SAMPLED / (time.perf_counter() - begin)
    resident, peak = resident_kib() / 1e3, peak_kib() / 1e3
    sampled = json.dumps([said(records[place]) for place in places])
    return {
        "ready": ready,
        "from opening to the first": took,
        "resident memory": resident,
        "peak memory": peak,
        "read at random": rate,
        "digest": blake2b(sampled.encode()).hexdigest(),
    }


if __name__ == "__main__":
    main()
