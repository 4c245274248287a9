"""Models behind an HTTP server that speaks OpenAI's chat API: others' models, commercial ones, and ours when served."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import queue
import threading
import time
import urllib.request
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from earthgpt.generation import Answer
from earthgpt.geo.raster import open_raster
from earthgpt.types import Conversation, EarthGPTError

# What may pass when it is asked again: too many requests at once, and a server that is busy, starting or restarting.
_BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_LONGEST_WAIT_S = 60.0
# A reply is some thousand characters; whatever sends this much is no chat server.
_MOST_BYTES = 16 * 2**20
_log = logging.getLogger("earthgpt")


class _AskAgainError(Exception):
    """This attempt failed, and another may not. ``wait_s``: what the server asks to wait; None when it does not say."""

    def __init__(self, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Endpoint:
    """A model by the address of its server, such as ``http://localhost:8000/v1``, and its name there.

    key: sent as a bearer token; none is sent when it is empty. concurrency: requests in flight. timeout_s: for one
    request. attempts: how often a request is sent that fails in a way that may pass; ``wait_s``, then twice that and so
    on, lies between them, unless the server names a time, and a minute at most. probabilities: ask for those of the
    tokens, which give detections their scores; not every server has them. fields: of the request, put in place of the
    usual ones or beside them; None leaves one out (newer models of OpenAI want ``max_completion_tokens``, and refuse
    ``max_tokens`` and ``temperature``).

    Answers are asked for with temperature 0. Images are sent as PNG, no larger than ``geo.raster.LARGEST_SIDE``.
    """

    url: str
    name: str
    key: str = ""
    concurrency: int = 8
    timeout_s: float = 120.0
    attempts: int = 6
    wait_s: float = 1.0
    probabilities: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    # Each failure is told once.
    _told: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            place = urlsplit(self.url)
            usable = place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
        except ValueError:
            usable = False
        if not usable or not self.url.isprintable() or " " in self.url:
            raise EarthGPTError(f"{self.url!r} is no address of a server, such as http://localhost:8000/v1.")
        if not (self.key.isascii() and self.key.isprintable()) or " " in self.key:
            raise EarthGPTError("The key for the server holds blanks or other characters that no key has.")
        least = {"concurrency": 1, "attempts": 1, "timeout_s": 1e-3, "wait_s": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if not (isinstance(given, int | float) and given >= value):
                raise EarthGPTError(f"{name} of a server is a number of at least {value:g}, not {given!r}.")

    def __repr__(self) -> str:
        return f"Endpoint({self.url}#{self.name})"  # without the key

    def ask(self, conversation: Conversation, max_new_tokens: int = 512) -> Answer:
        """The next message of a conversation. An answer that the server's filter withholds is empty and unfinished.

        Raises EarthGPTError for an image that cannot be read, and when the server refuses the request, cannot be
        reached or gives no usable reply in all attempts.
        """
        body = json.dumps(self._request(conversation, max_new_tokens)).encode()
        for attempt in range(self.attempts):
            try:
                return self._answer(self._send(body))
            except _AskAgainError as failed:
                if attempt + 1 == self.attempts:
                    times = "once" if self.attempts == 1 else f"{self.attempts} times"
                    raise EarthGPTError(f"{self.url} was asked {times} and gave no answer: {failed}") from failed
                wait = self.wait_s * 2**attempt if failed.wait_s is None else failed.wait_s
                if self._told.setdefault(str(failed), failed) is failed:
                    _log.warning("%s gave no answer and is asked again: %s", self.url, failed)
                time.sleep(min(wait, _LONGEST_WAIT_S))
        raise AssertionError("there is a last attempt")

    def ask_all(
        self, conversations: Iterable[tuple[Hashable, Conversation]], max_new_tokens: int = 512
    ) -> Iterator[tuple[Any, Answer]]:
        """The answers as they come, each with the key that its conversation came with; ``concurrency`` at a time.

        Conversations are taken one by one as there is room. Raises as ``ask`` does.
        """
        landed: queue.SimpleQueue = queue.SimpleQueue()

        def fly(key: Hashable, conversation: Conversation) -> None:
            try:
                landed.put((key, self.ask(conversation, max_new_tokens)))
            except BaseException as error:  # it belongs to whoever waits for the answer, and is raised there
                landed.put((key, error))

        flying = 0
        for key, conversation in conversations:
            # Daemons do not keep a program from ending that was told to stop.
            threading.Thread(target=fly, args=(key, conversation), daemon=True).start()
            flying += 1
            if flying == self.concurrency:
                yield _landed(landed)
                flying -= 1
        for _ in range(flying):
            yield _landed(landed)

    def _request(self, conversation: Conversation, max_new_tokens: int) -> dict[str, Any]:
        messages = []
        for i, message in enumerate(conversation.messages):
            parts: list[dict[str, Any]] = []
            if i == 0:
                parts = [{"type": "image_url", "image_url": {"url": png_url(image)}} for image in conversation.images]
            parts.append({"type": "text", "text": message.text})
            messages.append({"role": message.role, "content": parts if len(parts) > 1 else message.text})
        request = {
            "model": self.name,
            "messages": messages,
            "temperature": 0,
            "max_tokens": max_new_tokens,
            "logprobs": True if self.probabilities else None,
            **self.fields,
        }
        return {name: value for name, value in request.items() if value is not None}

    def _send(self, body: bytes) -> bytes:
        """The server's reply. Raises _AskAgainError or EarthGPTError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers, method="POST")
        ends = time.monotonic() + self.timeout_s
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as answered:
                status, told, reply = answered.status, answered.headers.get("Retry-After"), _read(answered, ends)
        except TimeoutError as error:
            raise _AskAgainError(f"no reply in {self.timeout_s:g} s") from error
        except (OSError, HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                raise _AskAgainError(f"no reply in {self.timeout_s:g} s") from error
            raise _AskAgainError(_line(f"{type(reason).__name__}: {reason}")) from error
        if status == 200:
            return reply
        message, code = _complaint(reply)
        if status == 400 and code == "content_filter":  # Azure's filter does not let this one question through
            return _WITHHELD
        if status in _BUSY:
            raise _AskAgainError(f"{status} {message}", _seconds(told))
        raise EarthGPTError(f"{self.url} refuses the request for {self.name!r}: {status} {message}")

    def _answer(self, reply: bytes) -> Answer:
        try:
            choice = json.loads(reply)["choices"][0]
            text = choice["message"].get("content")
            if isinstance(text, list):  # parts, as some servers have it
                text = "".join(part["text"] for part in text if part["type"] == "text")
            if text is not None and not isinstance(text, str):
                raise TypeError("the content is no text")
            tokens = (choice.get("logprobs") or {}).get("content") or []
            said = [(str(token["token"]), float(token["logprob"])) for token in tokens]
            if any(math.isnan(logprob) for _, logprob in said):
                raise ValueError("a probability is no number")
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            start = reply[:80].decode(errors="replace")
            raise _AskAgainError(f"the reply is no chat completion: {start!r}") from error
        # What cannot be written to a file (half a surrogate pair) is no text.
        text = (text or "").encode(errors="replace").decode()
        spans, probabilities = _tokens(text, said)
        return Answer(text, spans, probabilities, choice.get("finish_reason") == "stop")


def endpoint_of(model: str, **options: Any) -> Endpoint | None:
    """The endpoint that ``http://host:8000/v1#name`` stands for, with ``options`` of it; None for any other text.

    Raises EarthGPTError for an address without a name.
    """
    if not model.startswith(("http://", "https://")):
        return None
    url, _, name = model.partition("#")
    if not name:
        raise EarthGPTError(f"Say which model of {url} is asked: {url}#NAME.")
    return Endpoint(url, name, **options)


def png_url(image: Any) -> str:
    """An image (whatever ``earthgpt.open`` takes) as a data URL. Raises EarthGPTError when it cannot be read."""
    file = io.BytesIO()
    Image.fromarray(open_raster(image).pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Gives replies of every status; a redirect is not followed, for it would take the key elsewhere."""

    def http_response(self, request, response):
        return response

    https_response = http_response


_OPENER = urllib.request.build_opener(_AsItIs)
_WITHHELD = b'{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}'


def _landed(landed: queue.SimpleQueue) -> tuple[Any, Answer]:
    key, found = landed.get()
    if isinstance(found, BaseException):
        raise found
    return key, found


def _read(reply: Any, ends: float) -> bytes:
    """All of a reply. Raises _AskAgainError when it is too long, and TimeoutError when it still comes at ``ends``."""
    parts, length = [], 0
    while part := reply.read1(65536):
        parts.append(part)
        length += len(part)
        if length > _MOST_BYTES:
            raise _AskAgainError(f"the reply is longer than {_MOST_BYTES:,} bytes")
        if time.monotonic() > ends:
            raise TimeoutError
    return b"".join(parts)


def _complaint(reply: bytes) -> tuple[str, str]:
    """What a server says is wrong, in one line, and its code for it; the reply itself where it has another form."""
    try:
        said = json.loads(reply)
        said = said.get("error") or said
        if isinstance(said, dict):
            return _line(str(said.get("message") or said.get("detail") or said)), str(said.get("code") or "")
        return _line(str(said)), ""
    except (AttributeError, RecursionError, ValueError):
        return _line(reply[:2000].decode(errors="replace")), ""


def _line(text: str) -> str:
    """A text from elsewhere, fit to be printed: one line of at most 300 characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:300]


def _seconds(text: str | None) -> float | None:
    """The seconds that a Retry-After header states; None when it states none (a date, or nonsense)."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _tokens(text: str, said: list[tuple[str, float]]) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Where the tokens stand in the text, and their probabilities; empty where they are not those of the text."""
    spans, probabilities, start = [], [], 0
    for token, logprob in said:
        end = start + len(token)
        if text[start:end] != token:
            break  # the end token
        spans.append((start, end))
        probabilities.append(math.exp(min(logprob, 0.0)))
        start = end
    return (tuple(spans), tuple(probabilities)) if start == len(text) else ((), ())
