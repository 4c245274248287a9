"""Reading a million records at random: ``Records`` beside one list from ``json.load``, as LLaVA and its kin do it.

    python benchmarks/records.py

Each way runs in a fresh process on the same file (made in a temporary folder, and in the page cache by then). Memory is
that of the whole process, with its libraries. The last column is the list divided by Records, or for a speed the other
way round: above 1, Records is better.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

SAMPLED = 20_000
CAPTION = "Please provide a one-sentence caption for the provided remote sensing image in details."
CLASS = "What is the category of this remote sensing image? Answer the question using a single word or phrase."
WORDS = ("many", "some", "large", "green", "gray", "ships", "buildings", "trees", "harbor", "runway", "near", "beside")


def main() -> None:
    """Makes the file, measures each way, compares what they read, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, path = arguments.measure
        print(json.dumps({"list": measure_list, "records": measure_records}[way](path)))
        return

    from earthgpt.conversations import write

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "total.json"
        count = write(path, conversations(arguments.records))
        size = path.stat().st_size
        ways = [run(way, path) for way in ("list", "records", "records")]
        index = path.with_name("total.json.index").stat().st_size
    if len({way.pop("digest") for way in ways}) != 1:
        sys.exit("The records differ.")
    old, _, ours = ways
    print(f"{count:,} records, {size / 1e6:.0f} MB ({size // count} bytes each); the index has {index / 1e6:.1f} MB.")
    print(f"{SAMPLED:,} records, drawn at random, are equal in all three.\n")
    print("| | json.load | Records, first opening | Records | ratio |\n|---|---:|---:|---:|---:|")
    for name in old:
        ratio = ours[name] / old[name] if "per second" in name else old[name] / ours[name]
        cells = [f"{way[name]:,.0f}" if way[name] > 100 else f"{way[name]:.3g}" for way in ways]
        print(f"| {name} | {' | '.join(cells)} | {ratio:.3g} |")


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
    command = [sys.executable, __file__, "--measure", way, str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"seconds from the start of the process to the first record": found.pop("ready") - begin, **found}


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
    resident = kilobytes("/proc/self/smaps_rollup", "Rss:") / 1e3
    peak = kilobytes("/proc/self/status", "VmHWM:") / 1e3
    sampled = json.dumps([said(records[place]) for place in places])
    return {
        "ready": ready,
        "seconds from opening to the first record": took,
        "resident memory, MB": resident,
        "peak memory, MB": peak,
        "records per second at random": rate,
        "digest": blake2b(sampled.encode()).hexdigest(),
    }


def kilobytes(file: str, field: str) -> int:
    """A figure that Linux states of this process."""
    return next(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(field))


if __name__ == "__main__":
    main()
