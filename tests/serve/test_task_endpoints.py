"""The endpoints of the tasks say what the assistant says, as values and as map features."""

import json
from unittest import mock

import httpx
import numpy as np
import pytest
from servers import running

from earthgpt.assistant import EarthGPT
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.raster import open_raster
from earthgpt.serve import engine
from earthgpt.serve.cache import Cache, key_of
from earthgpt.types import Box

FIELDS = {
    "detect": {"classes": "ship", "oriented": "true"},
    "ground": {"phrase": "the largest ship"},
    "classify": {"classes": "harbor, airport,parking lot"},
    "caption": {},
    "describe": {"box": "5,5,30,30"},
    "ask": {"question": "How many ships?"},
}


@pytest.fixture(scope="module")
def geotiff(tmp_path_factory):
    path = tmp_path_factory.mktemp("rasters") / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    write_geotiff(path, pixels, 500_000, 5_000_000, 10.0, 32633)
    return path


def test_the_name_of_an_upload_tells_its_sensor_as_that_of_a_file_does(served, geotiff):
    for name, data, sensor in (
        ("FLIR_1.tif", {}, "infrared"),
        ("a.tif", {}, "optical"),
        ("FLIR_1.tif", {"sensor": "sar"}, "sar"),
    ):
        for endpoint in ("caption", "preview"):
            reply = served.client.post(
                f"/v1/{endpoint}", files={"image": (name, geotiff.read_bytes())}, data=data
            ).json()
            assert reply.get("image", reply)["sensor"] == sensor


def test_text_in_place_of_a_file_and_broken_json_are_told(served):
    reply = served.client.post("/v1/caption", files={"image": (None, "a.tif")})
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        400, "image is a file, and text came: curl -F image=@FILE.",
    )  # fmt: skip
    reply = served.client.post(
        "/v1/chat/completions", content=b'{"model": ', headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 400 and reply.json()["error"]["message"].startswith("The body is no JSON: ")
    assert reply.json()["error"]["param"] is None


def ask(served, task, path, **options):
    files = {"image": ("a.tif", path.read_bytes())}
    reply = served.client.post(f"/v1/{task}", files=files, data=FIELDS[task], **options)
    assert reply.status_code == 200, reply.text
    return reply


def test_values_are_those_of_the_assistant(served, assistant, geotiff):
    raster = open_raster(geotiff)
    found = {task: ask(served, task, geotiff).json() for task in FIELDS}
    assert found["caption"]["caption"] == assistant.caption(raster)
    assert found["ask"]["answer"] == assistant.ask(raster, "How many ships?")
    assert found["describe"]["description"] == assistant.describe(raster, Box.from_pixels(5, 5, 30, 30, (60, 40)))
    expected = assistant.classify(raster, ["harbor", "airport", "parking lot"])
    assert found["classify"]["label"] == expected.label
    assert found["classify"]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    ships = assistant.detect(raster, "ship", True)  # of random weights, but of the form of the task
    assert [one["score"] for one in found["detect"]["regions"]] == [pytest.approx(one.score, abs=2e-4) for one in ships]
    assert found["detect"]["regions"][0]["corners"] == [
        pytest.approx((x * 60, y * 40), abs=0.01) for x, y in ships[0].box.corners
    ]
    assert found["detect"]["image"] == {"width": 60, "height": 40, "sensor": "optical", "crs": "EPSG:32633"}


@pytest.mark.parametrize("task", FIELDS)
def test_map_features_are_asked_for_in_two_ways(served, geotiff, task):
    one = ask(served, task, geotiff, headers={"Accept": "application/geo+json"})
    other = served.client.post(
        f"/v1/{task}", files={"image": ("a.tif", geotiff.read_bytes())}, data={**FIELDS[task], "format": "geojson"}
    )
    assert one.headers["content-type"] == "application/geo+json" and one.json() == other.json()
    assert one.json()["type"] == "FeatureCollection"
    if task in ("caption", "describe", "ask", "classify"):
        ring = one.json()["features"][0]["geometry"]["coordinates"][0]
        assert all(14.99 < x < 15.01 and 45.1 < y < 45.2 for x, y in ring)


@pytest.mark.parametrize(
    ("task", "fields"),
    [("ask", {}), ("ask", {"question": " "}), ("describe", {"box": "1,2,3"}), ("describe", {"box": "nan,0,9,9"}),
     ("classify", {"classes": ","}), ("detect", {"sensor": "sonar"}), ("detect", {"format": "shp"})],
)  # fmt: skip
def test_wrong_fields_are_told(served, geotiff, task, fields):
    reply = served.client.post(f"/v1/{task}", files={"image": ("a.tif", geotiff.read_bytes())}, data=fields)
    assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error"


def test_a_second_question_about_an_image_does_not_encode_it(served, tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 60, 3), np.uint8)
    write_geotiff(tmp_path / "a.tif", pixels, 0, 0, 1.0, 32633)
    before = served.engine.encoded
    for task in FIELDS:
        ask(served, task, tmp_path / "a.tif")
    assert served.engine.encoded == before + 1


def test_a_cache_keeps_what_was_used_last_and_no_more_than_its_bytes():
    cache = Cache(10)
    for name in "abc":
        cache.put(name, name, 4)
        cache.get("a")
    assert [cache.get(name) for name in "abc"] == ["a", None, "c"] and cache.bytes == 8
    cache.put("d", "d", 11)
    assert cache.get("d") is None and len(cache) == 2
    near = np.zeros((4, 4, 3), np.uint8)
    other = near.copy()
    other[3, 3, 2] = 1
    assert key_of(near) != key_of(other) and key_of(near) == key_of(near.copy())


def test_prometheus_is_told_what_happens(served, geotiff):
    ask(served, "caption", geotiff)
    text = served.client.get("/metrics").text
    for line in (
        'earthgpt_requests_total{path="/v1/caption",status="200"}',
        "earthgpt_encoded_images",
        "earthgpt_cache_hits",
    ):
        assert line in text


def test_a_server_that_is_stopped_finishes_what_runs(assistant, geotiff, monkeypatch):
    import threading
    import time

    with running(assistant) as found:
        step = type(found.engine)._step
        monkeypatch.setattr(type(found.engine), "_step", lambda self: (time.sleep(0.02), step(self)))
        replies = []
        thread = threading.Thread(target=lambda: replies.append(ask(found, "caption", geotiff)))
        thread.start()
        while not found.engine.running:
            time.sleep(0.005)
        found.stop()
        thread.join()
        assert replies[0].json()["caption"] == assistant.caption(geotiff)
        with pytest.raises(httpx.ConnectError):
            found.client.get("/health")


def test_a_model_that_fails_is_told_and_the_next_request_is_answered(assistant, geotiff, monkeypatch):
    with running(assistant) as found:
        reading = engine.read

        def failing(*given):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(engine, "read", failing)
        reply = found.client.post("/v1/caption", files={"image": ("a.tif", geotiff.read_bytes())})
        assert reply.status_code == 500 and "memory" not in reply.text
        assert json.loads(reply.text)["error"]["type"] == "server_error"
        monkeypatch.setattr(engine, "read", reading)
        ask(found, "caption", geotiff)


def test_any_request_that_the_schema_allows_is_no_fault(served):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=15, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def holds(case):
            reply = case.call(timeout=30)
            assert reply.status_code < 500 or reply.status_code == 503, (case, reply.text)

        holds()


@pytest.mark.parametrize(("path", "name"), [("detect", "label"), ("ground", "sensro"), ("ask", "lable")])
def test_a_field_that_is_not_there_is_refused_and_not_passed_over(served, geotiff, path, name):
    files = {"image": ("a.tif", geotiff.read_bytes())}
    reply = served.client.post(f"/v1/{path}", files=files, data={**FIELDS[path], name: "x"})
    assert reply.status_code == 400
    assert f"no field {name!r}" in reply.json()["error"]["message"] and "image" in reply.json()["error"]["message"]


def test_a_field_that_comes_twice_and_a_parameter_of_the_address_are_refused(served, geotiff):
    files = [("image", ("a.tif", geotiff.read_bytes())), *((("classes"), (None, one)) for one in ("ship", "car"))]
    reply = served.client.post("/v1/detect", files=files)
    assert reply.status_code == 400 and "classes is there twice" in reply.json()["error"]["message"]
    reply = served.client.post("/v1/caption?format=geojson", files=files[:1])
    assert reply.status_code == 400 and "fields of the form" in reply.json()["error"]["message"]


def test_several_classes_are_found_one_after_the_other(served, geotiff, assistant):
    files = {"image": ("a.tif", geotiff.read_bytes())}
    reply = served.client.post("/v1/detect", files=files, data={"classes": "ship, car"}).json()
    expected = [assistant.detect(geotiff, one) for one in ("ship", "car")]
    assert [one["label"] for one in reply["regions"]] == [one.label for found in expected for one in found]
    assert reply["guessed"] == [], "this model has no detector that could know them"
    for path, field, words in (("ask", "question", "Is there a whale?"), ("ground", "phrase", "the whale")):
        asked = {"files": {"image": ("a.tif", geotiff.read_bytes())}, "data": {field: words}}
        assert served.client.post(f"/v1/{path}", **asked).json()["guessed"] == []
        assert served.client.post(f"/v1/{path}", **asked).json()["note"] == ""
        with mock.patch.object(EarthGPT, "seen_whole", lambda self, raster: f"{raster.size} is large"):
            assert served.client.post(f"/v1/{path}", **asked).json()["note"] == "(60, 40) is large"
        with mock.patch.object(EarthGPT, "unknown", lambda self, names, sensor: [f"{sensor} {one}" for one in names]):
            assert served.client.post(f"/v1/{path}", **asked).json()["guessed"] == ["optical whale"]
    many = {"classes": ",".join(f"class {i}" for i in range(21))}
    refused = served.client.post("/v1/detect", files=files, data=many)
    assert refused.status_code == 400 and "1 to 20 classes" in refused.json()["error"]["message"]


def test_a_server_without_jobs_says_how_it_would_have_them(assistant, geotiff):
    with running(assistant) as found:
        files = {"scene": ("a.tif", geotiff.read_bytes())}
        for reply in (found.client.post("/v1/jobs", files=files), found.client.get("/v1/jobs/abc/result")):
            assert reply.status_code == 404 and "--jobs FOLDER" in reply.json()["error"]["message"]
