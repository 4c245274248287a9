"""The server: requests a second of many clients beside one at a time, and a second turn beside the first.

    python benchmarks/serving.py

A server with the model is started on this machine, with its defaults, and asked over HTTP by threads of this program:
each asks one question about one image of its own, many times over, with another question every time. "One at a time" is
the same requests from one client to a server that decodes one answer at a time and keeps no image. Answers of both are
compared. Then dialogues of two turns, streamed: the time until the first words of an answer, with and without what was
kept of the image; again, answers are compared.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import uvicorn
from PIL import Image

from earthgpt.assistant import load
from earthgpt.serve.app import Settings, create_app

WORDS = ("ships", "airplanes", "bridges", "storage tanks", "vehicles", "harbors", "tennis courts", "houses")


@contextmanager
def server(assistant, **settings) -> Iterator[str]:
    """The address of a server."""
    app = create_app(Settings(name="model", **settings), assistant)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


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


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="earthgpt-tiny")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--clients", type=int, nargs="+", default=[16, 64, 200])
    arguments = parser.parse_args()
    assistant = load(arguments.model)
    for images, title in ((16, "16 images in turn"), (arguments.requests, "another image every time")):
        pictures = [picture(seed) for seed in range(images)]
        texts = [
            f"Detect all {WORDS[i % 8]} shown in the image and describe using horizontal bounding boxes."
            for i in range(arguments.requests)
        ]
        asked = [(pictures[i % images], texts[i // 2]) for i in range(arguments.requests)]
        print(f"\n| {title} | requests/s | p50 s | p99 s | same answers |\n|---|---:|---:|---:|---:|")
        with server(assistant, batch_size=1, cache_bytes=0) as url:
            expected, seconds, times = many(url, 1, asked)
        print(row("one at a time", seconds, times, expected, expected), flush=True)
        for clients in arguments.clients:
            with server(assistant) as url:
                answers, seconds, times = many(url, clients, asked)
            print(row(f"{clients} clients", seconds, times, answers, expected), flush=True)
    print("\n| first words of | ms, median of 20 | same answers |\n|---|---:|---:|")
    said = {}
    for cache_bytes, name in ((2**29, "kept"), (0, "not kept")):
        with server(assistant, cache_bytes=cache_bytes) as url, httpx.Client(base_url=url, timeout=60) as client:
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


def row(name: str, seconds: float, times: list[float], answers: list[str], expected: list[str]) -> str:
    """A line of the table."""
    same = sum(one == other for one, other in zip(answers, expected, strict=True))
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return f"| {name} | {len(times) / seconds:.1f} | {p50:.2f} | {p99:.2f} | {same} of {len(times)} |"


if __name__ == "__main__":
    main()
