"""A server on this machine that answers as OpenAI's chat API does, or as badly as a test wants."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


class Server:
    """``requests`` are the bodies of all requests as they came, ``headers`` theirs; ``most`` that were open at once."""

    def __init__(self, url: str):
        self.url, self.requests, self.headers, self.most, self.open = url, [], [], 0, 0
        self.lock = threading.Lock()


def completion(text: str | None, tokens: list[tuple[str, float]] = (), finish: str = "stop") -> bytes:
    """A reply as OpenAI sends it; ``tokens`` are texts and log probabilities."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if tokens:
        choice["logprobs"] = {"content": [{"token": token, "logprob": value} for token, value in tokens]}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()


def question_of(request: dict[str, Any]) -> tuple[str, np.ndarray | None]:
    """The question of a request, and the pixels of its image."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content, None
    image, text = content
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return text["text"], np.array(Image.open(io.BytesIO(base64.b64decode(data))))


@contextmanager
def serve(answer: Callable[[dict[str, Any], int], Any]) -> Iterator[Server]:
    """A server in a thread. ``answer`` is given a request and its number; it returns the body of a reply, or (status,
    headers, body); a body that is an iterator is sent piece by piece.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.requests)
                server.requests.append(body)
                server.headers.append(dict(self.headers))
                server.open += 1
                server.most = max(server.most, server.open)
            try:
                found = answer(body, number) if self.path == "/v1/chat/completions" else (404, {}, b"no such page")
                status, headers, reply = found if isinstance(found, tuple) else (200, {}, found)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in [reply] if isinstance(reply, bytes) else reply:
                    self.wfile.write(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has had enough
            finally:
                with server.lock:
                    server.open -= 1

        def log_message(self, *_):
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = Server(f"http://127.0.0.1:{listener.server_port}/v1")
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
