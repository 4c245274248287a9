"""The command that answers over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from earthgpt.cli.console import load_model
from earthgpt.cli.options import DEFAULT, Dtype, ModelName
from earthgpt.types import EarthGPTError

KEYS = "EARTHGPT_API_KEY"


def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; others than this machine need 0.0.0.0.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the address.")] = 8000,
    model: ModelName = DEFAULT,
    dtype: Dtype = None,
    name: Annotated[str | None, typer.Option(help="The model's name for clients; its own without it.")] = None,
    api_key: Annotated[
        list[str] | None, typer.Option("--api-key", envvar=KEYS, help="Keys of which one is needed.")
    ] = None,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute of one key or address; 0 is any number.")] = 0,
    jobs: Annotated[Path | None, typer.Option(help="The folder for large scenes; none are taken without it.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers that are decoded together.")] = 32,
    most_waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait for that.")] = 256,
    compiled: Annotated[
        bool | None,
        typer.Option("--compiled/--no-compiled", help="Compile decoding; without either, on a processor that can."),
    ] = None,
    cache_mb: Annotated[int, typer.Option(min=0, help="Memory for what images were turned into.")] = 512,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Of one image.")] = 64,
    max_scene_mb: Annotated[int, typer.Option(min=1, help="Of a large scene.")] = 4096,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 100_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Of one conversation.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 1024,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that an answer may take.")] = 120,
    remote: Annotated[bool, typer.Option("--remote", help="Read images from public addresses, too.")] = False,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="This process, or replicas on Ray Serve.")] = "local",
    replicas: Annotated[int, typer.Option(min=1, help="With Ray: how many, on all machines together.")] = 2,
) -> None:
    """Serve a page and an API. It is OpenAI's chat API, the tasks, and large scenes (docs/serving.md).

    Example: earthgpt serve --port 8000 --jobs jobs
    """
    try:
        from earthgpt.serve.app import Settings, check_address, run
    except ImportError as error:
        raise EarthGPTError(f"The server needs its libraries ({error.name}): pip install 'earthgpt[serve]'.") from None
    from earthgpt.serve.guard import Limits

    if not api_key and KEYS in os.environ:  # set, but to nothing: meant to be closed
        raise EarthGPTError(f"{KEYS} is empty: give it a key, or unset it where all may ask.")
    check_address(host, port)
    limits = Limits(max_upload_mb * 2**20, max_pixels, max_images, max_tokens, timeout, remote)
    settings = Settings(
        name=name or Path(model).name, api_keys=tuple(api_key or ()), limits=limits, rate=rate, jobs=jobs,
        batch_size=batch_size, most_waiting=most_waiting, cache_bytes=cache_mb * 2**20,
        scene_bytes=max_scene_mb * 2**20, local=host in ("127.0.0.1", "::1", "localhost"),
    )  # fmt: skip
    if engine == "ray":
        from earthgpt.serve import ray_serve

        ray_serve.run(settings, model, host, port, replicas, dtype, compiled)
    else:
        run(settings, load_model(model, dtype, compiled), host, port)
