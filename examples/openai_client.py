"""Ask the server by the official openai client, in a stream, and go on asking.

earthgpt serve --port 8000
python examples/openai_client.py [IMAGE] [--url URL]
"""

import argparse
import base64
import io
import os
from pathlib import Path

from openai import APIConnectionError, APIError, OpenAI
from PIL import Image

from earthgpt.datasets.synthetic import scene
from earthgpt.types import Sensor

QUESTIONS = ("What is this?", "How many ships are there in the image?")


def as_url(image: Path | None) -> str:
    """A picture as the address that OpenAI's API takes; a drawn harbour without one."""
    file = io.BytesIO()
    picture = Image.open(image) if image else Image.fromarray(scene(300, Sensor.OPTICAL, (256, 256)).image())
    picture.convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("image", nargs="?", type=Path)
    options.add_argument("--url", default="http://127.0.0.1:8000", help="of the server, with or without /v1")
    given = options.parse_args()

    url = given.url.rstrip("/").removesuffix("/v1")
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("OPENAI_API_KEY", "none"))
    try:
        model = client.models.list().data[0].id
    except APIConnectionError:
        raise SystemExit(f"error: No server answers at {url}; start one: earthgpt serve") from None
    messages = []
    for question in QUESTIONS:
        content = [{"type": "text", "text": question}]
        if not messages:  # the image goes with the first question
            content.insert(0, {"type": "image_url", "image_url": {"url": as_url(given.image)}})
        messages.append({"role": "user", "content": content})
        print(question, end=" ", flush=True)
        said = ""
        for chunk in client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=40):
            part = chunk.choices[0].delta.content or "" if chunk.choices else ""
            print(part, end="", flush=True)
            said += part
        print()
        messages.append({"role": "assistant", "content": said})


if __name__ == "__main__":
    try:
        main()
    except (APIError, OSError) as error:  # what the server refuses, and an image that cannot be read
        raise SystemExit(f"error: {error}") from None
