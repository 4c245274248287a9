"""What every request meets first: keys, rates, sizes, other sites' pages; and what every reply carries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.exceptions import HTTPException

from earthgpt.serve.chat import error_body

OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready")  # without a key
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
_CALLERS = 10_000  # whose rates are kept
_log = logging.getLogger("earthgpt.serve")


class Metrics:
    """What Prometheus is told, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = {"registry": self.registry}
        self.requests = Counter("earthgpt_requests", "Requests that were answered.", ["path", "status"], **to)
        self.seconds = Histogram("earthgpt_request_seconds", "Time until a reply was complete.", ["path"], **to)
        self.open = Gauge("earthgpt_open_requests", "Requests that are not answered yet.", **to)

    def watch(self, engine: Any, reader: Any, jobs: Any) -> None:
        """Adds what the engine, the reader and the jobs know of themselves."""
        values = {
            "waiting_requests": lambda: engine.waiting,
            "running_requests": lambda: engine.running,
            "model_steps": lambda: engine.steps,
            "model_rows": lambda: engine.rows,
            "model_prefills": lambda: engine.prefills,
            "encoded_images": lambda: engine.encoded,
            "cache_bytes": lambda: engine.cache.bytes + engine.turns.bytes + reader.kept.bytes,
            "cache_hits": lambda: engine.cache.hits,
            "cache_misses": lambda: engine.cache.misses,
            "jobs_waiting": lambda: 0 if jobs is None else jobs.waiting,
        }
        for name, value in values.items():
            words = name.replace("_", " ")
            Gauge(f"earthgpt_{name}", f"{words.capitalize()}.", registry=self.registry).set_function(value)


class Shield:
    """ASGI middleware around the application.

    keys: of which a request must bring one; none are asked for when it is empty. rate: requests a minute of one key, or
    of one address without keys; 0 is any number. most_bytes: of a body, by its path where ``larger`` names another.
    most_open: requests at a time. seconds: in which a body must have come. local: whether only this machine reaches
    the server; then its names are this machine's, and others are refused: a page elsewhere may call itself so.
    """

    def __init__(
        self,
        app: Any,
        metrics: Metrics,
        keys: Sequence[str] = (),
        rate: int = 0,
        most_bytes: int = 2**26,
        larger: dict[str, int] | None = None,
        most_open: int = 512,
        seconds: float = 60.0,
        local: bool = True,
    ) -> None:
        self.app, self.metrics, self.rate, self.most_bytes, self.larger = app, metrics, rate, most_bytes, larger or {}
        self.most_open, self.seconds, self.local = most_open, seconds, local
        self._keys = [key.encode() for key in keys]
        self._open = 0
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, sent = time.perf_counter(), 500, False

        async def tell(message: dict[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status, sent = message["status"], True
                given = {name.lower() for name, _ in message["headers"]}
                more = [(name, value) for name, value in _HEADERS.items() if name not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        self._open += 1
        self.metrics.open.set(self._open)
        try:
            refused = self._refusal(scope)
            if refused:
                await _reply(tell, *refused)
            else:
                await self.app(scope, self._within(scope, receive), tell)
        except Exception:
            if sent:
                raise
            _log.exception("A request failed.")
            await _reply(tell, 500, error_body("A fault of the server; its log says more.", "server_error"))
        finally:
            self._open -= 1
            self.metrics.open.set(self._open)
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)

    def _refusal(self, scope: dict[str, Any]) -> tuple[int, dict[str, Any], dict[bytes, bytes]] | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        site = _host(headers.get(b"host", b"").decode("latin-1"))
        if self.local and site not in _LOCAL:
            return _refusal(403, "This server is for this machine: ask it as 127.0.0.1.", "forbidden")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and _place_of(origin) != headers.get(b"host", b"").decode("latin-1"):
            return _refusal(403, "Pages of other sites may not use this server.", "forbidden")
        if scope["path"] in OPEN:
            return None
        key = headers.get(b"authorization", b"").partition(b" ")
        given = key[2].strip() if key[0].lower() == b"bearer" else headers.get(b"x-api-key", b"")
        # All keys are compared, each in constant time: how long it takes tells nothing.
        if self._keys and not (sum(hmac.compare_digest(given, one) for one in self._keys) and given):
            reason = "The API key is wrong." if given else "An API key is needed: Authorization: Bearer KEY."
            found = error_body(reason, "authentication_error", "invalid_api_key")
            return 401, found, {b"www-authenticate": b"Bearer"}
        caller = (scope.get("client") or ("",))[0]
        scope["owner"] = hashlib.sha256(given).hexdigest()[:16] if self._keys else ""
        if self._open > self.most_open:
            return _busy(503, "Too many requests are open; try again.", 1, "server_error")
        wait = self._wait(scope["owner"] or caller)
        if wait > 0:
            return _busy(429, f"More than {self.rate} requests a minute.", wait, "rate_limit_error")
        length = headers.get(b"content-length", b"0")
        most = self._most(scope)
        if length.isdigit() and int(length) > most:
            return _refusal(413, f"The request has more than {most:,} bytes.", "too_large")
        return None

    def _wait(self, caller: str) -> float:
        """Seconds until a caller may ask again; a bucket that fills evenly over a minute."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        left, then = self._left.pop(caller, (float(self.rate), now))
        left = min(self.rate, left + (now - then) * self.rate / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self.rate
        self._left[caller] = (left if wait else left - 1), now
        if len(self._left) > _CALLERS:
            self._left.popitem(last=False)
        return wait

    def _most(self, scope: dict[str, Any]) -> int:
        return self.larger.get(scope["path"], self.most_bytes)

    def _within(self, scope: dict[str, Any], receive: Any) -> Any:
        """``receive`` that stops at too many bytes, and where they come too slowly."""
        most, came, complete = self._most(scope), 0, False
        ends = time.monotonic() + self.seconds * max(1, most // self.most_bytes)

        async def counted() -> dict[str, Any]:
            nonlocal came, complete
            if complete:  # it waits for the client to go away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "The request came too slowly.") from None
            came += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if came > most:
                raise HTTPException(413, f"The request has more than {most:,} bytes.")
            return message

        return counted


def _host(text: str) -> str:
    """The name in a Host header, without its port."""
    return (text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]).lower()


def _place_of(origin: str) -> str | None:
    """Host and port of an origin; None for "null" and nonsense."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _refusal(status: int, message: str, code: str) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    return status, error_body(message, "invalid_request_error", code), {}


def _busy(status: int, message: str, wait_s: float, kind: str) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    code = "rate_limit_exceeded" if status == 429 else "overloaded"
    return status, error_body(message, kind, code), {b"retry-after": str(max(1, round(wait_s))).encode()}


async def _reply(send: Any, status: int, body: dict[str, Any], headers: dict[bytes, bytes] | None = None) -> None:
    content = json.dumps(body).encode()
    given = {b"content-type": b"application/json", b"content-length": str(len(content)).encode(), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": list(given.items())})
    await send({"type": "http.response.body", "body": content})
