"""OpenAI's chat API: its requests, its answers, streamed or whole, and its errors."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from earthgpt.geo.raster import Raster
from earthgpt.serve.engine import Engine
from earthgpt.serve.guard import Limits, Reader, RefusedError
from earthgpt.serve.requests import Decoding, Request, Token
from earthgpt.types import Conversation, Message, Sensor

_STRICT = ConfigDict(extra="forbid")


class ImageURL(BaseModel):
    """An image as a data URL, or at a public address where the server takes such. ``detail`` is taken and has no
    effect: the model sees every image at its one size."""

    model_config = _STRICT
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(BaseModel):
    """Words."""

    model_config = _STRICT
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """An image."""

    model_config = _STRICT
    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    """What one of the two said. The model was trained without a system message and knows no tools."""

    model_config = ConfigDict(extra="ignore")  # clients send the assistant's message back with all its fields
    role: Literal["user", "assistant"]
    content: str | list[Part]


class StreamOptions(BaseModel):
    """include_usage: whether a last chunk tells the tokens."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    """Text is all there is."""

    type: Literal["text"]


class ChatRequest(BaseModel):
    """A request of OpenAI's chat API, of which the model can do a part: others are refused, not passed over.

    temperature: 0, the default here, takes the likeliest token every time. sensor: what took images that are not of
    8 bits; a field of our own.
    """

    model_config = _STRICT
    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    n: Literal[1] | None = None
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    presence_penalty: float | None = Field(None, ge=0, le=0)
    response_format: ResponseFormat | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    sensor: Sensor | None = None

    def decoding(self, limits: Limits) -> Decoding:
        """How the answer is made. Raises RefusedError beyond the limits."""
        most = self.max_completion_tokens or self.max_tokens
        if most is not None and most > limits.tokens:
            raise RefusedError(f"An answer has at most {limits.tokens:,} tokens here, not {most:,}.")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stop) > 4 or not all(0 < len(one) <= 200 for one in stop):
            raise RefusedError("There are at most 4 stop texts, each of 1 to 200 characters.")
        if self.top_logprobs and not self.logprobs:
            raise RefusedError("top_logprobs goes with logprobs.")
        return Decoding(
            most or limits.tokens,
            self.temperature or 0.0,
            1.0 if self.top_p is None else self.top_p,
            self.seed,
            stop,
            self.top_logprobs or 0,
        )


def conversation_of(request: ChatRequest, reader: Reader) -> Conversation:
    """The conversation of a request, its images opened.

    Raises RefusedError for messages that do not alternate, and beyond the limits; EarthGPTError for a damaged image.
    """
    images: list[Raster] = []
    messages: list[Message] = []
    for i, message in enumerate(request.messages):
        if message.role != ("user", "assistant")[i % 2]:
            raise RefusedError(f"Messages alternate and start with the user; messages[{i}] is from {message.role}.")
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
        if len(images) + len(urls) > reader.limits.images:
            raise RefusedError(f"A conversation has at most {reader.limits.images} images.")
        images += [reader.of_url(url, request.sensor) for url in urls]
        text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
        messages.append(Message(message.role, text.encode(errors="replace").decode()))  # half a surrogate is no text
    if messages[-1].role != "user":
        raise RefusedError("The last message is the user's.")
    if not messages[-1].text.strip():
        raise RefusedError("The question is empty.")
    return Conversation(tuple(images), tuple(messages))


class Answering:
    """A request at the engine, as an async program follows it."""

    def __init__(self) -> None:
        self._loop, self._more = asyncio.get_running_loop(), asyncio.Event()
        self.request: Request | None = None

    def told(self, request: Request) -> None:
        """Called in the model's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._more.set)

    async def more(self) -> None:
        """Waits until the request has more, or is done."""
        await self._more.wait()
        self._more.clear()


def begin(engine: Engine, asked: ChatRequest, reader: Reader, answering: Answering) -> Request:
    """Hands a request to the engine; takes its time over images, so it runs in a thread."""
    ends = time.monotonic() + reader.limits.seconds
    decoding = asked.decoding(reader.limits)
    conversation = conversation_of(asked, reader)
    plain = decoding.temperature == 0 and not decoding.stop and not decoding.alternatives
    if plain and (found := engine.deduce(conversation, ends - time.monotonic())):
        written = engine.processor.tokenizer(found.text, add_special_tokens=False)["input_ids"]
        if len(written) <= decoding.max_tokens:
            ids = engine.processor.render(conversation)["input_ids"]
            answering.request = Request.answered(ids, found, written)
            return answering.request
    squares = [engine.square(one) for one in conversation.images]
    answering.request = engine.submit(conversation, squares, decoding, ends - time.monotonic(), answering.told)
    return answering.request


async def whole(request: Request, answering: Answering, asked: ChatRequest) -> dict[str, Any]:
    """The answer as OpenAI's chat completion. Raises what the engine found, and TimeoutError."""
    while not request.done:
        await answering.more()
    request.answer()
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": request.text, "refusal": None},
        "logprobs": _logprobs(request.tokens, asked),
        "finish_reason": request.finish,
    }
    return {**_head(asked, "chat.completion"), "choices": [choice], "usage": _usage(request)}


async def streamed(request: Request, answering: Answering, asked: ChatRequest) -> AsyncIterator[str]:
    """The same answer as server-sent events. What goes wrong on the way is an event with an error."""
    head = _head(asked, "chat.completion.chunk")
    usage = bool(asked.stream_options and asked.stream_options.include_usage)

    def chunk(delta: dict[str, Any], tokens: list[Token] = (), finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": _logprobs(tokens, asked), "finish_reason": finish}
        return _event({**head, "choices": [choice], **({"usage": None} if usage else {})})

    try:
        yield chunk({"role": "assistant", "content": ""})
        sent = told = 0
        while True:
            done = request.done  # read first: what is read after it is then complete
            shown, count = request.shown, len(request.tokens)
            if shown > sent or (done and count > told):
                tokens = request.tokens[told:count]
                yield chunk({"content": request.text[sent:shown]}, tokens)
                sent, told = shown, count
            if done:
                break
            await answering.more()
        if request.error is not None or request.finish == "timeout":
            reason = "The answer took too long." if request.error is None else "The model failed."
            yield _event(error_body(reason, "server_error", "timeout" if request.error is None else None))
            return
        yield chunk({}, (), request.finish)
        if usage:
            yield _event({**head, "choices": [], "usage": _usage(request)})
        yield "data: [DONE]\n\n"
    finally:
        request.cancelled = True  # where the client went away


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI has it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _head(asked: ChatRequest, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": asked.model}


def _usage(request: Request) -> dict[str, Any]:
    written = len(request.written)
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": request.prompt_tokens + written,
        "prompt_tokens_details": {"cached_tokens": request.cached_tokens},
    }


def _logprobs(tokens: list[Token], asked: ChatRequest) -> dict[str, Any] | None:
    if not asked.logprobs:
        return None
    return {"content": [_logprob(token) for token in tokens], "refusal": None}


def _logprob(token: Token) -> dict[str, Any]:
    others = [_piece(text, logprob) for text, logprob in token.alternatives]
    return {**_piece(token.text, token.logprob), "top_logprobs": others}


def _piece(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}
