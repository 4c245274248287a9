"""A real server of ours in a thread."""

import io
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import httpx
from PIL import Image

from earthgpt.serve.app import Settings, create_app


class Served:
    """A server that runs: its address, its client, its application, and the assistant that it asks."""

    def __init__(self, url, app, assistant, server, thread):
        self.url, self.app, self.assistant, self.server, self.thread = url, app, assistant, server, thread
        self.client = httpx.Client(base_url=url, timeout=60)

    @property
    def engine(self):
        return self.app.state.engine

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


@contextmanager
def running(assistant, **settings):
    """A server with some settings, at a port of its own."""
    import uvicorn

    app = create_app(replace(Settings(name="tiny"), **settings), assistant)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    served = Served(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app, assistant, server, thread)
    try:
        yield served
    finally:
        served.client.close()
        served.stop()


def png(values) -> bytes:
    """An array as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()
