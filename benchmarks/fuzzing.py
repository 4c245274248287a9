"""Mutated uploads: images of every format with bytes changed, cut, doubled and joined, sent to a server by thousands.

    python benchmarks/fuzzing.py --uploads 10000

The server is `earthgpt serve` in a process of its own. A reply has to be one of those below, in time; the process
has to live to the end. It keeps no images, so its memory should stay; that, open files and threads are told on the way,
and temporary folders that it left.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from serving import process

from earthgpt.geo.geotiff import write_geotiff
from earthgpt.model.loading import locate

EXPECTED = {200, 400, 413, 415, 503}  # read, damaged, too large, no image, busy
SECONDS = 30.0


def originals() -> list[bytes]:
    """A small image in each format, TIFFs in several forms."""
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(0, 256, (8, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    kinds = [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("WEBP", {})]
    kinds += [("TIFF", {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")]
    found = []
    for kind, options in kinds:
        file = io.BytesIO()
        Image.fromarray(values).save(file, kind, **options)
        found.append(file.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        for pixels in (values, values[..., 0].astype(np.uint16) * 200, values[..., 0].astype(np.float32)):
            write_geotiff(Path(folder) / "a.tif", pixels, 500_000, 5_000_000, 1.0, 32633)
            found.append((Path(folder) / "a.tif").read_bytes())
    return found


def mutated(images: list[bytes], rng: np.random.Generator) -> bytes:
    """One of the images with something wrong."""
    content = bytearray(images[rng.integers(len(images))])
    for _ in range(rng.integers(1, 8)):
        near = rng.random() < 0.6  # the heads hold what decoders believe
        place = int(rng.integers(min(300, len(content)) if near else len(content)))
        what = rng.integers(5)
        if what == 0:
            content[place] = rng.integers(256)
        elif what == 1:
            content[place : place + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            )
        elif what == 2:
            content[place : place + int(rng.integers(1, 64))] = b""
        elif what == 3:
            content[place:place] = content[place : place + int(rng.integers(1, 64))]
        else:
            other = images[rng.integers(len(images))]
            content[place:] = other[place:]
        content = content or bytearray(b"\0")
    if rng.random() < 0.2:
        content = content[: rng.integers(1, len(content) + 1)]
    return bytes(content)


def main() -> None:
    """Sends, counts, and prints what changed in the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images, statuses, slowest = originals(), Counter(), 0.0
    paths = ("/v1/preview", "/v1/preview", "/v1/preview", "/v1/caption")  # most of what can break is before the model
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "-m",
            "earthgpt",
            "serve",
            "--model",
            str(locate("earthgpt-tiny")),
            "--max-pixels",
            "1000000",
            "--cache-mb",
            "0",
            "--port",
        ]
        with process(command, {"TMPDIR": folder}) as (port, server):

            def send(seed: int) -> tuple[int, float]:
                content = mutated(images, np.random.default_rng((arguments.seed, seed)))
                began = time.monotonic()
                reply = client.post(paths[seed % len(paths)], files={"image": ("a", content)})
                if reply.status_code not in EXPECTED or folder in reply.text:
                    raise SystemExit(f"Upload {seed}: {reply.status_code} {reply.text[:300]}")
                return reply.status_code, time.monotonic() - began

            with httpx.Client(base_url=f"http://localhost:{port}", timeout=SECONDS) as client:
                with ThreadPoolExecutor(arguments.clients) as pool:
                    for start in range(0, arguments.uploads, 1000):
                        for status, seconds in pool.map(send, range(start, min(start + 1000, arguments.uploads))):
                            statuses[status] += 1
                            slowest = max(slowest, seconds)
                        memory = server.memory_info().rss / 2**20
                        files, threads = server.num_fds(), server.num_threads()
                        print(f"{start + 1000}: {memory:.0f} MB, {files} files, {threads} threads", flush=True)
                assert client.get("/ready").status_code == 200 and server.is_running()
                left = len(list(Path(folder).iterdir()))
    told = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
    print(f"{told}; slowest {slowest:.2f} s; {left} temporary folders left")


if __name__ == "__main__":
    main()
