"""Large scenes: submitted, followed, cancelled and fetched; a server that was killed goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from servers import png, running

from earthgpt import scenes
from earthgpt.datasets.synthetic import write_geotiff
from earthgpt.geo.scene import open_scene
from earthgpt.types import EarthGPTError


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A GeoTIFF of 256 x 192 pixels: twelve tiles of 64."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (192, 256, 3), np.uint8)
    write_geotiff(path, pixels, 500_000, 5_000_000, 1.0, 32633)
    return path


def submit(client, path, **fields):
    reply = client.post("/v1/jobs", files={"scene": ("x.tif", path.read_bytes())}, data={"tile": 64, **fields})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


def ended(client, name, wait_s=60):
    ends = time.monotonic() + wait_s
    while (job := client.get(f"/v1/jobs/{name}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < ends, job
        time.sleep(0.02)
    return job


def test_a_job_finds_what_scan_finds(served, assistant, scene):
    name = submit(served.client, scene, task="caption")
    job = ended(served.client, name)
    assert (job["state"], job["done"], job["total"]) == ("done", 12, 12)
    found = served.client.get(job["results"]["geojson"])
    assert found.headers["content-type"] == "application/geo+json"
    expected = scenes.scan(assistant, open_scene(scene), scenes.Job("caption", 64), batch_size=4).features
    labels = [one["properties"]["label"] for one in found.json()["features"]]
    assert labels == [one.region.label for one in expected] and len(labels) == 12
    west, north = found.json()["features"][0]["geometry"]["coordinates"][0][0]
    assert 14.9 < west < 15.1 and 45.1 < north < 45.2  # 500 km east and 5,000 km north in zone 33
    for kind in ("gpkg", "csv", "kml"):
        assert served.client.get(job["results"][kind]).status_code == 200
    assert name in [one["id"] for one in served.client.get("/v1/jobs").json()["data"]]
    assert (job["title"], job["task"]) == ("x.tif", "caption")
    sent = served.client.get(f"/v1/jobs/{name}/scene")
    assert sent.content == scene.read_bytes() and sent.headers["content-type"] == "image/tiff"
    assert served.client.delete(f"/v1/jobs/{name}").status_code == 204
    assert served.client.get(f"/v1/jobs/{name}").status_code == 404
    assert not (served.app.state.jobs.folder / name).exists()


def test_requests_are_answered_while_a_job_runs(served, scene, pictures):
    name = submit(served.client, scene, task="detect")
    reply = served.client.post("/v1/caption", files={"image": ("a.png", pictures[0])})
    assert reply.status_code == 200
    assert ended(served.client, name)["state"] == "done"


def test_a_job_that_is_cancelled_stops(assistant, scene, tmp_path, monkeypatch):
    slow_down(monkeypatch)
    with running(assistant, jobs=tmp_path / "jobs", api_keys=("a", "b")) as found:
        client, other = found.client, {"Authorization": "Bearer b"}
        client.headers["Authorization"] = "Bearer a"
        name = submit(client, scene, task="caption")
        while not client.get(f"/v1/jobs/{name}").json()["done"]:
            time.sleep(0.01)
        # To another key it is not there.
        for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/result"), ("GET", "/scene")):
            assert client.request(method, f"/v1/jobs/{name}{path}", headers=other).status_code == 404
        assert client.post(f"/v1/jobs/{name}/cancel").json()["state"] == "cancelled"
        assert client.get(f"/v1/jobs/{name}/result").status_code == 409
        time.sleep(1.5)
        job = client.get(f"/v1/jobs/{name}").json()
        assert job["state"] == "cancelled" and job["done"] < 12


def slow_down(monkeypatch, wait_s=1.0):
    """Makes the model's work on tiles slow: a request that is sent meanwhile comes in time, on a busy machine too."""
    look = scenes.look
    monkeypatch.setattr(scenes, "look", lambda *given: (time.sleep(wait_s), look(*given))[1])


def test_a_server_that_stops_leaves_its_jobs_to_the_next(assistant, scene, tmp_path, monkeypatch):
    slow_down(monkeypatch)
    with running(assistant, jobs=tmp_path / "jobs") as found:
        name = submit(found.client, scene, task="caption")
        while not found.client.get(f"/v1/jobs/{name}").json()["done"]:
            time.sleep(0.01)
    record = tmp_path / "jobs" / name / "tiles.jsonl"
    before = record.read_text().splitlines()
    assert 1 < len(before) < 13
    monkeypatch.undo()
    with running(assistant, jobs=tmp_path / "jobs") as found:
        assert ended(found.client, name)["state"] == "done"
    after = record.read_text().splitlines()
    assert after[: len(before)] == before and len(after) == 13  # the first line says of which job they are
    assert len({tuple(json.loads(line)["window"]) for line in after[1:]}) == 12


@pytest.mark.slow
def test_a_server_that_is_killed_loses_no_job_and_does_no_tile_twice(model_folder, scene, tmp_path):
    code = (
        "import sys, time; from earthgpt import scenes; look = scenes.look\n"
        "scenes.look = lambda *given: (time.sleep(0.3), look(*given))[1]\n"
        "from earthgpt.cli import main; main()"
    )
    folder = tmp_path / "jobs"
    command = [sys.executable, "-c", code, "serve", "--model", str(model_folder), "--jobs", str(folder), "--port"]
    for port in ("18431", "18432"):
        server = subprocess.Popen([*command, port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        try:
            for _ in range(600):
                try:
                    client.get("/ready").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            if port == "18431":
                names = [submit(client, scene, task="caption") for _ in range(2)]
                while client.get(f"/v1/jobs/{names[0]}").json()["done"] < 4:
                    time.sleep(0.02)
                os.kill(server.pid, signal.SIGKILL)
            else:
                assert [ended(client, name)["state"] for name in names] == ["done", "done"]
        finally:
            server.kill()
            server.wait()
    for name in names:
        rows = (folder / name / "tiles.jsonl").read_text().splitlines()[1:]
        assert len(rows) == len({tuple(json.loads(row)["window"]) for row in rows}) == 12


def test_two_servers_do_not_share_a_folder_of_jobs(served, assistant):
    from earthgpt.serve.jobs import Jobs

    with pytest.raises(EarthGPTError, match="Another server"):
        Jobs(served.app.state.jobs.folder, served.engine, assistant)


@pytest.mark.parametrize(
    "name", ["../" + "a" * 32, "..%2f..%2fetc%2fpasswd", "a" * 32, "%00", ".lock", "job.json", "A" * 5000]
)
def test_names_of_no_job_lead_nowhere(served, name):
    for path in (f"/v1/jobs/{name}", f"/v1/jobs/{name}/result", f"/v1/jobs/{name}/scene"):
        assert served.client.get(path).status_code == 404


def test_what_is_no_scene_is_no_job(served, tmp_path):
    before = list(served.app.state.jobs.folder.iterdir())
    send = served.client.post
    assert send("/v1/jobs", files={"scene": ("x.tif", b"<VRTDataset/>")}).status_code == 415
    assert send("/v1/jobs", files={"scene": ("x.tif", b"II*\0" + bytes(100))}).status_code == 400
    picture = png(np.zeros((64, 64, 3), np.uint8))
    assert send("/v1/jobs", files={"scene": ("x.png", picture)}, data={"task": "ask"}).status_code == 400
    assert list(served.app.state.jobs.folder.iterdir()) == before


def test_there_is_an_end_to_how_many_jobs_are_kept(assistant, scene, tmp_path):
    with running(assistant, jobs=tmp_path, most_jobs=1) as found:
        name = submit(found.client, scene, task="caption")
        reply = found.client.post("/v1/jobs", files={"scene": ("x.tif", scene.read_bytes())})
        assert reply.status_code == 503 and "delete some" in reply.json()["error"]["message"]
        ended(found.client, name)
