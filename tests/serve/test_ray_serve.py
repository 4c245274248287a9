"""Two replicas on Ray Serve answer behind one address, as one server does."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from earthgpt.serve.app import Settings
from earthgpt.types import EarthGPTError


@pytest.mark.slow
def test_two_replicas_answer_as_one_server_does(model_folder, served, pictures, tmp_path):
    pytest.importorskip("ray.serve", reason="needs the extra ray")
    import openai

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "earthgpt", "serve", "--model", str(model_folder), "--name", "tiny"]
    command += ["--engine", "ray", "--replicas", "2", "--port", str(port), "--api-key", "secret"]
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer secret"}, timeout=60)
    try:
        until = time.monotonic() + 120
        while not _ready(client):
            assert time.monotonic() < until and server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)

        def caption(i):
            return client.post("/v1/caption", files={"image": ("a.png", pictures[i % 4])}).raise_for_status()

        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(caption, range(48)))
        assert len({one.headers["x-replica"] for one in replies}) == 2
        files = [{"image": ("a.png", one)} for one in pictures]
        alone = [served.client.post("/v1/caption", files=one).json() for one in files]
        assert [one.json() for one in replies] == alone * 12

        talk = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0)
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "Is there a ship?"}], "max_tokens": 16}
        whole = talk.chat.completions.create(**asked).choices[0].message.content
        parts = [one.choices[0].delta.content or "" for one in talk.chat.completions.create(stream=True, **asked)]
        assert "".join(parts) == whole
        assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/jobs").status_code == 404
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        log.close()
    with pytest.raises(httpx.ConnectError):
        client.get("/health")


def _ready(client):
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_jobs_are_refused_on_ray(tmp_path):
    pytest.importorskip("ray.serve", reason="needs the extra ray")
    from earthgpt.serve.ray_serve import application

    with pytest.raises(EarthGPTError, match="belongs to one server"):
        application(Settings(jobs=tmp_path), "earthgpt-tiny", 2)
