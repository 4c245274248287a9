"""Large scenes: submitted, followed, cancelled and fetched; a server that was killed goes on where it was."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import png, running

from earthgpt import scenes
from earthgpt.assistant import EarthGPT
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.scene import open_scene
from earthgpt.model.compiled import Compiled
from earthgpt.model.dense import Vocabulary
from earthgpt.serve import jobs as jobs_module
from earthgpt.serve.jobs import Jobs
from earthgpt.serve.requests import BusyError
from earthgpt.types import EarthGPTError


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A GeoTIFF of 256 x 192 pixels: twelve tiles of 64."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (192, 256, 3), np.uint8)
    write_geotiff(path, pixels, 500_000, 5_000_000, 1.0, 32633)
    return path


@pytest.fixture(autouse=True)
def emptied(served):
    """Leaves no job behind for other tests of the same server."""
    yield
    for one in served.app.state.jobs.all(""):
        served.app.state.jobs.delete(one)


def submit(client, path, **fields):
    reply = client.post("/v1/jobs", files={"scene": ("x.tif", path.read_bytes())}, data={"tile": 64, **fields})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


def test_what_a_task_cannot_use_is_refused(served, scene):
    for fields in ({"task": "caption", "classes": "ship"}, {"task": "classify", "oriented": "true"}):
        reply = served.client.post("/v1/jobs", files={"scene": scene.read_bytes()}, data=fields)
        assert reply.status_code == 400 and f"The task {fields['task']} has no" in reply.json()["error"]["message"]


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
    said = found.json()["features"][0]["properties"]
    assert said["model"] == served.client.get("/v1/models").json()["data"][0]["id"] and said["time"].endswith("Z")
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


def test_a_job_says_what_it_guesses(served, scene, monkeypatch):
    monkeypatch.setattr(EarthGPT, "unknown", lambda self, classes, sensor: [f"{sensor} {one}" for one in classes])
    job = ended(served.client, submit(served.client, scene, task="detect", classes="whale"))
    assert job["message"].startswith("The detector was not trained to find optical whale: these are guesses.")


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


def kept(jobs, scene, name="scene.tif"):
    """A job of a copy of a scene, submitted without HTTP."""
    return jobs.submit(lambda folder: Path(shutil.copy(scene, folder / name)), {"task": "caption"}, None, 64, "")


def test_jobs_that_come_at_once_are_no_more_than_may_be_kept(served, assistant, scene, tmp_path):
    jobs, together = Jobs(tmp_path, served.engine, assistant, most=1), threading.Barrier(4)

    def submit(_):
        def save(folder):
            together.wait()
            return Path(shutil.copy(scene, folder / "scene.tif"))

        try:
            return jobs.submit(save, {"task": "caption"}, None, 64, "")
        except BusyError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(submit, range(4)))
    jobs.close()
    assert sum(one is not None for one in found) == len(jobs.all("")) == 1
    assert [one.name for one in tmp_path.iterdir() if one.name != ".lock"] == [jobs.all("")[0].id]


def test_a_server_that_is_killed_while_it_deletes_starts_again(served, assistant, scene, tmp_path, monkeypatch):
    jobs = Jobs(tmp_path, served.engine, assistant)
    ticket = kept(jobs, scene)
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: (Path(folder) / "job.json").unlink())
    jobs.delete(ticket)
    jobs.close()
    monkeypatch.undo()
    jobs = Jobs(tmp_path, served.engine, assistant)
    jobs.close()
    assert jobs.all("") == [] and [one.name for one in tmp_path.iterdir()] == [".lock"]


def test_a_job_that_fails_after_it_was_deleted_leaves_the_next_ones_their_turn(
    served, assistant, scene, tmp_path, monkeypatch
):
    begun, deleted, look = threading.Event(), threading.Event(), scenes.look

    def failing(*given):
        begun.set()
        deleted.wait()
        monkeypatch.setattr(scenes, "look", look)
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(scenes, "look", failing)
    jobs = Jobs(tmp_path, served.engine, assistant)
    first, second = kept(jobs, scene), kept(jobs, scene)
    begun.wait()
    jobs.delete(first)
    assert jobs.cancel(first).state == "cancelled"  # by another request, which had found it before
    deleted.set()
    wait_for(jobs, second, "done")
    assert jobs.alive
    jobs.close()
    assert not jobs.alive


def wait_for(jobs, ticket, state):
    ends = time.monotonic() + 60
    while jobs.find(ticket.id, "").state != state:
        assert time.monotonic() < ends and not jobs.find(ticket.id, "").ended, jobs.find(ticket.id, "")
        time.sleep(0.01)


def test_a_full_disk_ends_a_job_and_not_the_thread_of_all(served, assistant, scene, tmp_path, monkeypatch):
    jobs, write = Jobs(tmp_path, served.engine, assistant), jobs_module._write

    def full(path, ticket):
        if ticket.state != "queued":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, ticket)

    monkeypatch.setattr(jobs_module, "_write", full)
    first = kept(jobs, scene)
    wait_for(jobs, first, "failed")
    jobs.delete(first)  # makes room
    monkeypatch.undo()
    wait_for(jobs, kept(jobs, scene), "done")
    jobs.close()


def test_a_server_whose_jobs_stand_still_is_not_ready(served, monkeypatch):
    assert served.client.get("/ready").status_code == 200
    monkeypatch.setattr(Jobs, "alive", False)
    assert served.client.get("/ready").status_code == 503


def test_places_of_the_server_are_not_told(served, assistant, pictures, scene, tmp_path, monkeypatch):
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.open(BytesIO(pictures[0])).save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[content.index(b"\xff\xda") + 5] = 217  # no such component: Pillow reads the head, and GDAL does not
    reply = served.client.post("/v1/jobs", files={"scene": ("x.jpg", bytes(content))}, data={"tile": 64})
    told = reply.json()["error"]["message"]
    assert reply.status_code == 400 and told.startswith("The scene is damaged")
    assert str(served.app.state.jobs.folder) not in told and ".new-" not in told

    def failing(assistant, scene, job, record, *_):
        raise EarthGPTError(f"{scene.name} is odd, and so is {record}.")

    monkeypatch.setattr(scenes, "scan", failing)
    job = ended(served.client, submit(served.client, scene))
    assert (job["state"], job["message"]) == ("failed", "The scene is odd, and so is tiles.jsonl.")


def test_dense_heads_are_asked_in_the_thread_of_the_model(model, processor, scene, tmp_path, monkeypatch):
    model.add_dense_heads(Vocabulary(("port", "sea"), ("ship",)))
    threads = set()
    for name in ("find", "scene"):
        method = getattr(model, name)
        monkeypatch.setattr(
            model, name, lambda *given, _of=method: (threads.add(threading.current_thread().name), _of(*given))[1]
        )
    with running(EarthGPT(model, processor), jobs=tmp_path) as found:
        names = [submit(found.client, scene, task=one, classes="ship,port") for one in ("detect", "classify")]
        names.append(submit(found.client, scene, task="classify", classes="port,sea"))
        assert [ended(found.client, name)["state"] for name in names] == ["done"] * 3
    assert threads == {"model"}


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
def test_compiled_passes_of_a_job_are_in_the_thread_of_the_model(model, processor, scene, tmp_path, monkeypatch):
    model.compile_decoding()
    threads, read = set(), Compiled.read
    monkeypatch.setattr(
        Compiled, "read", lambda *given: (threads.add(threading.current_thread().name), read(*given))[1]
    )
    assistant = EarthGPT(model, processor)
    with running(assistant, jobs=tmp_path) as found:
        name = submit(found.client, scene, task="ask", question="What is this?")
        assert ended(found.client, name)["state"] == "done"
        features = found.client.get(f"/v1/jobs/{name}/result").json()["features"]
    assert threads == {"model"}
    job = scenes.Job("ask", 64, question="What is this?")
    alone = [one.region.label for one in scenes.scan(assistant, open_scene(scene), job).features]
    assert [one["properties"]["label"] for one in features] == alone


def test_a_job_of_another_version_is_named(served, assistant, scene, tmp_path):
    jobs = Jobs(tmp_path, served.engine, assistant)
    ticket = kept(jobs, scene)
    jobs.close()
    path = tmp_path / ticket.id / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(EarthGPTError, match=f"{ticket.id} is no job of this version .*colour.*: remove it"):
        Jobs(tmp_path, served.engine, assistant)


def test_a_scene_with_too_many_tiles_is_refused_whatever_its_shape(served, assistant, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module, "_MOST_TILES", 12)
    jobs = Jobs(tmp_path / "jobs", served.engine, assistant)
    write_geotiff(tmp_path / "strip.tif", np.zeros((16, 800, 3), np.uint8), 500_000, 5_000_000, 1.0, 32633)
    wanted = {"task": "caption"}
    try:
        with pytest.raises(EarthGPTError, match="too many"):  # 13 tiles in a row, of the area of four
            jobs.submit(lambda folder: Path(shutil.copy(tmp_path / "strip.tif", folder)), wanted, None, 64, "")
        with pytest.raises(EarthGPTError, match="too many"):  # 12 tiles, and 24 where they overlap
            jobs.submit(
                lambda folder: Path(shutil.copy(tmp_path / "strip.tif", folder)), {"task": "detect"}, None, 70, ""
            )
    finally:
        jobs.close()


def test_a_scene_comes_back_with_its_media_type(served, pictures):
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.open(BytesIO(pictures[0])).save(file, "JPEG")
    reply = served.client.post("/v1/jobs", files={"scene": ("x.jpg", file.getvalue())}, data={"task": "caption"})
    sent = served.client.get(f"/v1/jobs/{reply.json()['id']}/scene")
    assert sent.headers["content-type"] == "image/jpeg"
    job = ended(served.client, reply.json()["id"])
    refused = served.client.get(job["results"]["kml"])
    assert refused.status_code == 400 and "no place on Earth" in refused.json()["error"]["message"]
