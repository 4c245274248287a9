"""The server: requests a second of many clients beside one at a time, and a second turn beside the first.

    python benchmarks/serving.py
    python benchmarks/run.py serving
    python benchmarks/serving.py --load 120 --clients 200 --rivals

A server with the model is started on this machine, in a process of its own with its defaults, and asked over HTTP by
threads of this program: each asks one question about one image of its own, many times over, with another question every
time. "One at a time" is the same requests from one client to a server that decodes one answer at a time and keeps
nothing. Answers of both are compared. Then dialogues of two turns, streamed: the time until the first words of an
answer, with and without what was kept of the image and the turn before; again, answers are compared.

``--load`` keeps so many clients asking for so many seconds, each eight questions about an image before the next,
and says what came back, how long it took, and how much memory the server had meanwhile. ``--rivals`` gives the same
requests to our server with one answer at a time and nothing kept, and to `transformers serve`, where it starts.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import psutil
from PIL import Image
from table import Row

from earthgpt.model.loading import locate

NOTHING_KEPT = ("--cache-mb", "0")
ALONE = ("--batch-size", "1", *NOTHING_KEPT)
WORDS = ("ships", "airplanes", "bridges", "storage tanks", "vehicles", "harbors", "tennis courts", "houses")


def picture(seed: int) -> str:
    """A data URL of a scene of noise and rectangles, 400 pixels a side, as JPEG."""
    rng = np.random.default_rng(seed)
    values = rng.integers(90, 130, (400, 400, 3), np.uint8)
    for _ in range(12):
        x, y, w, h = rng.integers(10, 300, 4)
        values[y : y + h // 5, x : x + w // 5] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def message(url: str, text: str) -> dict:
    """A user's message about an image."""
    return {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}],
    }


def ask(client: httpx.Client, messages: list[dict]) -> tuple[str, float]:
    """An answer, and the seconds it took."""
    began = time.perf_counter()
    reply = client.post("/v1/chat/completions", json={"model": "model", "messages": messages, "max_tokens": 48})
    reply.raise_for_status()
    return reply.json()["choices"][0]["message"]["content"], time.perf_counter() - began


def many(url: str, clients: int, asked: list[tuple[str, str]]) -> tuple[list[str], float, list[float]]:
    """Answers to questions about images by so many clients, the seconds for all, and for each."""
    left, own = iter(range(len(asked))), threading.local()
    lock, found = threading.Lock(), {}

    def work(_: int) -> None:
        own.client = httpx.Client(base_url=url, timeout=300)
        while True:
            with lock:
                i = next(left, None)
            if i is None:
                return
            found[i] = ask(own.client, [message(*asked[i])])

    with httpx.Client(base_url=url, timeout=300) as client:
        ask(client, [message(picture(10**6), "What is this?")])  # the first one pays for much
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    seconds = time.perf_counter() - began
    return [found[i][0] for i in range(len(asked))], seconds, sorted(found[i][1] for i in range(len(asked)))


def first_words(client: httpx.Client, messages: list[dict]) -> tuple[str, float]:
    """An answer that is streamed, and the seconds until its first words."""
    body = {"model": "model", "messages": messages, "max_tokens": 48, "stream": True}
    began, first, text = time.perf_counter(), None, ""
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                words = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if words:
                    first = first or time.perf_counter() - began
                    text += words
    return text, first or time.perf_counter() - began


# `transformers serve` looks for the class of a model, and for its kind, among its own: ours is put there.
TRANSFORMERS = """
import sys
from earthgpt.model import EarthGPTForConditionalGeneration as ours
from transformers.cli.serving import model_manager
from transformers.cli.transformers import app
from transformers.models.auto import modeling_auto
model_manager.transformers.EarthGPTForConditionalGeneration = ours
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["earthgpt"] = ours.__name__
app(["serve", sys.argv[1], "--port", sys.argv[2], "--device", "cpu", "--dtype", "float32", "--log-level", "error"])
"""
ABOUT_ONE = 8  # questions about an image before the next
QUESTIONS = (
    "What is this?",
    "How many ships are there in the image?",
    "Is there a bridge in the image?",
    "Detect all ships shown in the image and describe using horizontal bounding boxes.",
    "What is the category of this remote sensing image?",
    "Please provide a one-sentence caption for the provided remote sensing image in details.",
    "Are there more vehicles than storage tanks?",
    "Detect all vehicles shown in the image and describe using horizontal bounding boxes.",
)


@contextmanager
def server(model: str, *options: str) -> Iterator[str]:
    """The address of ``earthgpt serve`` with a model, which it calls "model"."""
    with process([*serve(model), *options, "--port"]) as (port, _):
        yield f"http://localhost:{port}"


def serve(model: str) -> list[str]:
    """The words behind ``python`` that start a server, but for its options."""
    return ["-m", "earthgpt", "serve", "--model", model, "--name", "model"]


@contextmanager
def process(command: list[str], environment: dict[str, str] | None = None) -> Iterator[tuple[int, psutil.Process]]:
    """A server in a process of its own: its port, once it answers /health, and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = subprocess.Popen(
        [sys.executable, *command, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"http://localhost:{port}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                if started.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("The server did not start.") from None
            time.sleep(0.2)
        yield port, psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


def keep_asking(port: int, clients: int, seconds: float, model: str, pictures: list[str], server: psutil.Process):
    """Statuses, (when, seconds) of the answers, what was said by (image, question), and samples of (seconds, MB) of the
    server's memory, while so many clients ask without a pause."""
    statuses, times, said, memory = Counter(), [], {}, []
    began, turns, lock = time.monotonic(), iter(range(10**9)), threading.Lock()

    def work(_: int) -> None:
        connection = http.client.HTTPConnection("localhost", port, timeout=300)
        while time.monotonic() < began + seconds:
            with lock:
                image = next(turns) % len(pictures)
            for i, question in enumerate(QUESTIONS[:ABOUT_ONE]):
                if time.monotonic() > began + seconds:
                    break
                asked = {"model": model, "max_tokens": 48, "temperature": 0}
                body = json.dumps({**asked, "messages": [message(pictures[image], question)]})
                before = time.monotonic()
                connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                reply = connection.getresponse()
                content = reply.read()
                statuses[reply.status] += 1
                if reply.status == 200:
                    times.append((before - began, time.monotonic() - before))
                    said[image, i] = json.loads(content)["choices"][0]["message"]["content"]
                elif reply.status in (429, 503):
                    time.sleep(float(reply.headers["Retry-After"]))
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        every = [pool.submit(work, one) for one in range(clients)]
        while not all(one.done() for one in every):
            memory.append((time.monotonic() - began, server.memory_info().rss / 2**20))
            time.sleep(1)
        for one in every:
            one.result()
    return statuses, times, said, memory, time.monotonic() - began


def quantiles(times: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def under_load(arguments: argparse.Namespace) -> None:
    """Prints a table, and the server's memory over the time."""
    folder = str(locate(arguments.model))
    pictures = [picture(seed) for seed in range(arguments.pictures)]
    ours = serve(folder)
    runs = [(f"earthgpt serve, {n} clients", [*ours, "--port"], n, arguments.load, "model") for n in arguments.clients]
    if arguments.rivals:
        single = [*ours, *ALONE, "--port"]
        runs.append(("one at a time", single, 1, arguments.rival_seconds, "model"))
        other = ["-c", TRANSFORMERS, folder]
        runs += [(f"transformers serve, {n} clients", other, n, arguments.rival_seconds, folder) for n in (1, 16)]
    print(
        "| | replies by status | requests/s | p50 s | p99 s | after the first quarter | "
        "answers as the first |\n|---|---|---:|---:|---:|---:|---:|"
    )
    first, told = {}, []
    for name, command, clients, seconds, model in runs:
        with process(command) as (port, server):
            keep_asking(port, 1, 2, model, pictures[-1:], server)  # the first ones pay for much
            statuses, times, said, memory, took = keep_asking(port, clients, seconds, model, pictures, server)
        first = first or said
        both = said.keys() & first.keys()
        same = sum(said[one] == first[one] for one in both)
        p50, p99 = quantiles([one for _, one in times])
        _, later = quantiles([one for at, one in times if at > seconds / 4])
        counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
        figures = f"{len(times) / took:.1f} | {p50:.2f} | {p99:.2f} | {later:.2f} | {same} of {len(both)}"
        print(f"| {name} | {counts} | {figures} |", flush=True)
        told.append(
            f"{name}: " + ", ".join(f"{mb:.0f} MB at {at:.0f} s" for at, mb in memory[:: max(1, len(memory) // 12)])
        )
    print("\n" + "\n".join(told))


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="earthgpt-tiny")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--clients", type=int, nargs="+", default=[16, 64, 200])
    parser.add_argument("--load", type=float, help="Seconds for which the clients keep asking.")
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--rival-seconds", type=float, default=25)
    parser.add_argument("--pictures", type=int, default=1200)
    arguments = parser.parse_args()
    if arguments.load:
        under_load(arguments)
        return
    for images, title in ((16, "16 images in turn"), (arguments.requests, "another image every time")):
        pictures = [picture(seed) for seed in range(images)]
        texts = [
            f"Detect all {WORDS[i % 8]} shown in the image and describe using horizontal bounding boxes."
            for i in range(arguments.requests)
        ]
        asked = [(pictures[i % images], texts[i // 2]) for i in range(arguments.requests)]
        print(f"\n| {title} | requests/s | p50 s | p99 s | same answers |\n|---|---:|---:|---:|---:|")
        with server(arguments.model, *ALONE) as url:
            expected, seconds, times = many(url, 1, asked)
        print(row("one at a time", seconds, times, expected, expected), flush=True)
        for clients in arguments.clients:
            with server(arguments.model) as url:
                answers, seconds, times = many(url, clients, asked)
            print(row(f"{clients} clients", seconds, times, answers, expected), flush=True)
    print("\n| first words of | ms, median of 20 | same answers |\n|---|---:|---:|")
    said = {}
    for name, options in (("kept", ()), ("not kept", NOTHING_KEPT)):
        with server(arguments.model, *options) as url, httpx.Client(base_url=url, timeout=60) as client:
            first_words(client, [message(picture(999), "What is this?")])
            for turn in (1, 2):
                texts, times = [], []
                for seed in range(20):
                    messages = [message(picture(seed + 1000), "Describe the image in a sentence.")]
                    if turn == 2:
                        messages += [
                            {"role": "assistant", "content": "A field."},
                            {"role": "user", "content": "How many houses are there?"},
                        ]
                    text, seconds = first_words(client, messages)
                    texts.append(text)
                    times.append(seconds * 1000)
                said.setdefault(turn, texts)
                same = sum(one == other for one, other in zip(texts, said[turn], strict=True))
                print(f"| turn {turn}, images {name} | {statistics.median(times):.1f} | {same} of 20 |", flush=True)


def rows(quick: bool = False, name: str = "earthgpt-tiny") -> list[Row]:
    """Many clients beside one at a time, and the first words of a second turn beside those of the first."""
    requests = 32 if quick else 96
    pictures = [picture(seed) for seed in range(16)]
    asked = [(pictures[i % 16], f"How many {WORDS[i % 8]} are there in image {i}?") for i in range(requests)]
    with server(name, *ALONE) as url:
        expected, alone, _ = many(url, 1, asked)
    with server(name) as url:
        answers, together, _ = many(url, 16, asked)
        with httpx.Client(base_url=url, timeout=60) as client:
            waits = {1: [], 2: []}
            for seed in range(10 if quick else 20):
                first = [message(picture(seed + 1000), "Describe the image in a sentence.")]
                said, wait = first_words(client, first)
                waits[1].append(1000 * wait)
                second = [{"role": "assistant", "content": said}, {"role": "user", "content": "How many houses?"}]
                waits[2].append(1000 * first_words(client, [*first, *second])[1])
    first, second = map(statistics.median, waits.values())
    same = f"{sum(one == other for one, other in zip(answers, expected, strict=True))} of {requests} answers"
    rate = "requests/s"
    return [
        Row(
            "serving",
            "16 clients",
            rate,
            requests / together,
            requests / alone,
            "ours, one at a time",
            None,
            None,
            same,
        ),
        Row("serving", "first words of a second turn", "ms", second, first, "ours, first turn", 10),
    ]


def row(name: str, seconds: float, times: list[float], answers: list[str], expected: list[str]) -> str:
    """A line of the table."""
    same = sum(one == other for one, other in zip(answers, expected, strict=True))
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return f"| {name} | {len(times) / seconds:.1f} | {p50:.2f} | {p99:.2f} | {same} of {len(times)} |"


if __name__ == "__main__":
    main()
