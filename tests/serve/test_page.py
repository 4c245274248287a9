"""The page of the server: what it is made of, what it asks for, and how it behaves in a real browser."""

import json
import re
import shutil
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
from servers import png, running

import earthgpt.serve
from earthgpt import scenes
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.serve.page import page

FOLDER = Path(earthgpt.serve.__file__).parent
FILES = [FOLDER / f"page.{ending}" for ending in ("html", "css", "js")]


def test_the_page_is_served_under_a_strict_policy(served):
    reply = served.client.get("/")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy) and policy["script-src"].startswith("'sha256-")
    assert "{{" not in reply.text


def test_nothing_comes_from_outside():
    for path in FILES:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.findall(r"https?://|@import|url\(|import\(", text), path.name
    # Inline handlers and styles would not run under the policy; and text never becomes markup.
    assert not re.search(r"\son\w+=|\sstyle=", FILES[0].read_text(encoding="utf-8"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", FILES[2].read_text())


def test_every_endpoint_of_the_page_exists(served):
    paths = served.client.get("/openapi.json").json()["paths"]
    called = set(re.findall(r"[\"`](/v1/[\w/]+)", FILES[2].read_text(encoding="utf-8")))
    assert {"/v1/chat/completions", "/v1/detect", "/v1/jobs", "/v1/preview"} <= called
    assert called - {"/v1/jobs/"} <= set(paths)
    assert {"/v1/jobs/{name}", "/v1/jobs/{name}/cancel", "/v1/jobs/{name}/result"} <= set(paths)


def test_every_element_that_the_script_names_is_in_the_page():
    script, content = FILES[2].read_text(encoding="utf-8"), FILES[0].read_text(encoding="utf-8")
    named = set(re.findall(r"\bat\(\"(\w+)\"\)", script))
    assert len(named) > 30 and named <= set(re.findall(r'\bid="(\w+)"', content))


def test_a_preview_says_where_the_image_is(served, tmp_path):
    write_geotiff(tmp_path / "a.tif", np.full((20, 30), 500, np.uint16), 500_000.0, 5_000_000.0, 10.0, 32631)
    seen = served.client.post("/v1/preview", files={"image": (tmp_path / "a.tif").read_bytes()}, data={"sensor": "sar"})
    assert seen.json()["sensor"] == "sar" and seen.json()["picture"].startswith("data:image/jpeg;base64,")
    facts = seen.json()["facts"]
    assert facts["size"] == [30, 20] and facts["gsd_m"] == pytest.approx(10, rel=0.01)
    assert facts["grid"][0][0][0] == pytest.approx(3.0, abs=1e-6)  # the middle of zone 31 is 3 degrees east


def test_a_preview_of_no_image_is_refused(served):
    reply = served.client.post("/v1/preview", files={"image": b"<svg onload=alert(1)>"})
    assert reply.status_code == 415 and "no PNG" in reply.json()["error"]["message"]


def test_more_pixels_than_a_request_may_have_are_shown_of_a_tiff_only(assistant, tmp_path):
    from earthgpt.serve.guard import Limits

    pixels = np.zeros((40, 50, 3), np.uint8)
    write_geotiff(tmp_path / "a.tif", pixels, 0.0, 0.0, 1.0, 32631)
    with running(assistant, limits=Limits(pixels=1000), jobs=tmp_path / "jobs") as small:
        seen = small.client.post("/v1/preview", files={"image": (tmp_path / "a.tif").read_bytes()}).json()
        assert seen["large"] and seen["facts"]["size"] == [50, 40]
        assert small.client.post("/v1/preview", files={"image": png(pixels)}).status_code == 413
    with running(assistant, limits=Limits(pixels=1000)) as small:  # it could not be submitted as a job either
        assert small.client.post("/v1/preview", files={"image": (tmp_path / "a.tif").read_bytes()}).status_code == 413


def test_large_scenes_are_previewed_one_after_the_other_and_images_do_not_wait_for_them(tmp_path, monkeypatch):
    import fastapi
    from fastapi.testclient import TestClient

    from earthgpt.geo.scene import open_scene
    from earthgpt.serve import page as module
    from earthgpt.serve.guard import Limits, Reader
    from earthgpt.serve.requests import BusyError

    reader, held = Reader(Limits(pixels=1000, seconds=0.1), at_once=1), []

    def opened(*given):
        with reader.turn():
            held.append(True)
        with pytest.raises(BusyError, match="Large scenes of others"):
            preview()
        return open_scene(*given)

    def preview():
        return TestClient(app).post("/v1/preview", files={"image": (tmp_path / "a.tif").read_bytes()})

    monkeypatch.setattr(module, "open_scene", opened)
    app = fastapi.FastAPI()
    app.include_router(module.router(reader, 10**6, 10**6))
    write_geotiff(tmp_path / "a.tif", np.zeros((40, 50, 3), np.uint8), 0.0, 0.0, 1.0, 32631)
    assert preview().json()["large"] and held == [True]
    with reader.turn(), pytest.raises(BusyError, match="Images of others"):
        reader.of_saved(tmp_path / "a.tif")


def test_an_example_of_each_sensor_can_be_asked(served):
    examples = served.client.get("/v1/examples").json()
    assert [one["sensor"] for one in examples] == ["optical", "sar", "infrared"]
    for one in examples:
        content = served.client.get(one["address"]).content
        seen = served.client.post("/v1/preview", files={"image": content}, data={"sensor": one["sensor"]}).json()
        assert seen["facts"]["grid"] and seen["facts"]["size"] == [256, 256]


def test_the_page_needs_no_key_but_what_it_asks_does(assistant):
    with running(assistant, api_keys=("secret",)) as locked:
        assert locked.client.get("/").status_code == 200
        assert locked.client.get("/v1/examples").status_code == 401


# --- in a browser ------------------------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("the browser test needs chromium")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=program, args=FLAGS.split())
        yield found
        found.close()


@pytest.fixture
def opened(browser, served):
    """The page; the test fails where it meets an error, or asks another host for anything."""
    tab, wrong = browser.new_page(viewport={"width": 1200, "height": 800}), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda one: one.url.startswith((served.url, "data:", "blob:")) or wrong.append(one.url))
    tab.goto(served.url)
    yield tab
    tab.close()
    assert not wrong


def upload(tab, pixels):
    tab.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(pixels)})
    tab.wait_for_selector("#facts:has-text('a.png')")


def found(label, corners, score=0.5):
    ring = [*corners, corners[0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"label": label, "score": score, "pixels": corners}
    feature = {"type": "Feature", "properties": properties, "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


GREY = np.full((60, 80, 3), 90, np.uint8)
CORNERS = [[20, 10], [40, 10], [40, 30], [20, 30]]


def test_a_box_is_drawn_where_it_is_and_its_label_stays_text(opened, tmp_path):
    upload(opened, np.zeros((100, 200, 3), np.uint8))
    reply = found(HOSTILE, CORNERS)
    opened.route("**/v1/detect", lambda route: route.fulfill(body=reply, content_type="application/geo+json"))
    opened.keyboard.press("4")
    opened.keyboard.press("Enter")
    line = opened.locator(".found button")
    line.wait_for()
    assert HOSTILE in line.inner_text() and opened.locator("#log img").count() == 0
    image = opened.locator("#image").bounding_box()
    box = opened.locator("#shapes polygon").last.bounding_box()
    scale = image["width"] / 200
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert middle == pytest.approx((image["x"] + 30 * scale, image["y"] + 20 * scale), abs=1)

    line.hover()
    assert opened.locator("#shapes polygon.lit").count() == 1
    opened.mouse.click(*middle)
    assert opened.locator("#selection").is_visible() and line.evaluate("one => one.classList.contains('lit')")
    opened.click("#save")
    with opened.expect_download() as download:
        opened.click("#geojson")
    download.value.save_as(tmp_path / "a.geojson")
    assert json.loads((tmp_path / "a.geojson").read_text())["features"][0]["properties"]["label"] == HOSTILE
    opened.click("#save")
    with opened.expect_download() as download:
        opened.click("#annotated")
    assert download.value.suggested_filename == "a.png"


def test_words_are_no_region_and_four_numbers_are(opened):
    upload(opened, np.zeros((100, 200, 3), np.uint8))
    opened.check("#task_describe")
    opened.fill("#words_asked", "the quay")
    opened.click("#send")
    assert "left, top, right, bottom in pixels" in opened.inner_text("#toast")
    assert opened.locator(".question").count() == 0
    opened.fill("#words_asked", "10, 10, 90, 80")
    opened.click("#send")
    opened.wait_for_selector(".answer:not(.waiting)")
    assert "What is in this region?" in opened.inner_text(".question")


def test_a_region_drawn_with_the_mouse_is_described(opened):
    upload(opened, np.zeros((100, 200, 3), np.uint8))
    opened.keyboard.press("r")
    image = opened.locator("#image").bounding_box()
    scale = image["width"] / 200
    opened.mouse.move(image["x"] + 50 * scale, image["y"] + 20 * scale)
    opened.mouse.down()
    opened.mouse.move(image["x"] + 100 * scale, image["y"] + 60 * scale, steps=4)
    opened.mouse.up()
    opened.click("#describe")
    opened.wait_for_selector(".answer:not(.waiting)")
    box = opened.inner_text(".question small")
    assert [float(value) for value in box.split(",")] == pytest.approx([50, 20, 100, 60], abs=1)


def test_an_answer_streams_and_the_dialogue_is_sent_along(opened):
    upload(opened, np.zeros((60, 80, 3), np.uint8))
    bodies = []
    opened.on("request", lambda one: one.url.endswith("/completions") and bodies.append(one.post_data_json))
    for question in ("What is this?", "And now?"):
        opened.fill("#words_asked", question)
        opened.keyboard.press("Enter")
        opened.wait_for_selector("#send:text('Ask')")
        assert opened.locator(".answer.bad").all_inner_texts() == []
    assert opened.locator(".question").all_inner_texts() == ["What is this?", "And now?"]
    assert [one["role"] for one in bodies[1]["messages"]] == ["user", "assistant", "user"]


def test_boxes_in_a_streamed_answer_are_drawn_in_the_frame_of_the_square(opened):
    upload(opened, np.zeros((100, 200, 3), np.uint8))
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "A ship: [0.100,0.300,0.200,0.400]."}}]})
    body = f"data: {chunk}\n\ndata: [DONE]\n\n"
    opened.route("**/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    opened.fill("#words_asked", "Where?")
    opened.keyboard.press("Enter")
    opened.locator(".chip").wait_for()
    # The square has a side of 200 and begins 50 pixels above the image.
    points = opened.locator("#shapes polygon").last.get_attribute("points")
    assert points == "20,10 40,10 40,30 20,30"


def test_another_sensor_keeps_the_dialogue(opened):
    upload(opened, np.zeros((60, 80, 3), np.uint8))
    opened.keyboard.press("2")
    opened.click("#send")
    opened.wait_for_selector(".answer:not(.waiting)")
    with opened.expect_request("**/v1/preview") as asked:
        opened.select_option("#sensor", "sar")
    assert asked.value.response().json()["sensor"] == "sar" and opened.locator(".question").count() == 1


def test_hints_are_those_of_the_sensor_that_was_found_out(opened, tmp_path):
    decibels = np.random.default_rng(0).uniform(-25, 0, (80, 80)).astype(np.float32)
    write_geotiff(tmp_path / "a.tif", decibels, 500_000.0, 5_000_000.0, 10.0, 32631)
    opened.set_input_files("#file", tmp_path / "a.tif")
    opened.wait_for_selector("#facts:has-text('a.tif')")
    assert "sar" in opened.inner_text("#sensor option >> nth=0")
    assert opened.inner_text("#hints button >> nth=0") == "Find all objects"


def ask(tab, words):
    tab.fill("#words_asked", words)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#send:text('Stop')", state="detached")
    tab.wait_for_selector(".answer:not(.waiting)")


def test_image_dialogue_and_boxes_are_there_after_a_reload_until_new(opened):
    upload(opened, np.zeros((100, 200, 3), np.uint8))
    reply = found(HOSTILE, CORNERS)
    opened.route("**/v1/detect", lambda route: route.fulfill(body=reply, content_type="application/geo+json"))
    ask(opened, "What is this?")
    opened.check("#task_detect", force=True)
    ask(opened, "")
    answers = opened.locator(".answer").all_inner_texts()
    opened.reload()
    opened.locator(".found button").wait_for()
    assert opened.locator(".question").all_inner_texts() == ["What is this?", "Find all objects"]
    assert opened.locator(".answer").all_inner_texts() == answers and HOSTILE in answers[1]
    assert opened.locator("#shapes polygon").last.get_attribute("points") == "20,10 40,10 40,30 20,30"
    assert "a.png" in opened.inner_text("#facts")
    # The dialogue goes on: what was said is sent along.
    opened.wait_for_selector("#send:text('Ask')")
    with opened.expect_request("**/completions") as asked:
        ask(opened, "And now?")
    assert [one["role"] for one in asked.value.post_data_json["messages"]] == ["user", "assistant", "user"]

    opened.click("#new")
    assert opened.locator("#welcome").is_visible() and opened.locator("#log > *").count() == 0
    opened.reload()
    opened.wait_for_selector("#examples button")
    opened.wait_for_function("document.querySelector('#busy').hidden")
    assert opened.locator("#welcome").is_visible() and opened.locator(".question").count() == 0


def test_another_tab_has_a_dialogue_of_its_own(browser, served):
    context = browser.new_context()
    one, other = context.new_page(), context.new_page()
    one.goto(served.url)
    upload(one, np.zeros((100, 200, 3), np.uint8))
    other.goto(served.url)
    other.wait_for_selector("#examples button")
    assert other.locator("#welcome").is_visible()
    one.reload()
    one.wait_for_selector("#facts:has-text('a.png')")
    context.close()


def test_a_job_is_watched_after_a_reload_opened_from_the_list_fetched_and_deleted(
    opened, served, monkeypatch, tmp_path
):
    look = scenes.look
    monkeypatch.setattr(scenes, "look", lambda *given: (time.sleep(0.5), look(*given))[1])
    path = tmp_path / "river.tif"
    write_geotiff(path, np.random.default_rng(3).integers(0, 256, (600, 900, 3), np.uint8), 0.0, 0.0, 1.0, 32633)
    opened.set_input_files("#file", path)
    opened.wait_for_selector("#facts:has-text('river.tif')")
    opened.check("#task_caption", force=True)
    opened.check("#tiled")
    opened.click("#send")
    opened.wait_for_selector("progress")
    opened.reload()
    opened.wait_for_selector(".answer progress")  # of the same job
    opened.wait_for_selector(".answer:has-text('looked at')", timeout=60000)
    (job,) = served.client.get("/v1/jobs").json()["data"]
    assert (job["title"], job["state"], opened.locator(".question").count()) == ("river.tif", "done", 1)
    features = len(served.client.get(job["results"]["geojson"]).json()["features"])
    assert opened.locator(".found li").count() == features > 1

    opened.click("#new")
    opened.click("#job_button")
    opened.click("#job_list button:text('Open')")
    opened.wait_for_selector(".answer:has-text('looked at')")
    assert "river.tif" in opened.inner_text("#facts") and opened.locator(".found li").count() == features
    opened.click("#job_button")
    with opened.expect_download() as download:
        opened.click("#job_list button:text('GeoPackage')")
    assert download.value.suggested_filename == "river.gpkg"
    opened.click("#job_list button:text('Delete')")
    opened.wait_for_selector("#no_jobs")
    assert served.client.get("/v1/jobs").json()["data"] == []


def test_errors_are_told_in_words(opened):
    opened.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    opened.wait_for_selector("#toast:has-text('no PNG')")
    upload(opened, np.zeros((60, 80, 3), np.uint8))
    opened.route("**/v1/caption", lambda route: route.fulfill(status=503, headers={"Retry-After": "2"}, body="{}"))
    opened.keyboard.press("2")
    opened.click("#send")
    opened.wait_for_selector(".answer.bad:has-text('busy')")
    opened.unroute("**/v1/caption")
    opened.click("button:text('Try again')")
    opened.wait_for_selector(".answer:not(.waiting)")
    assert opened.locator(".answer.bad").all_inner_texts() == []


def test_a_key_is_asked_for_where_the_server_wants_one(browser, assistant):
    with running(assistant, api_keys=("secret",)) as locked:
        tab = browser.new_page()
        tab.goto(locked.url)
        for key, shown in (("wrong", "#entry:has-text('wrong')"), ("secret", "#examples button")):
            tab.fill("#key", key)
            tab.keyboard.press("Enter")
            tab.wait_for_selector(shown)
        tab.close()


def test_a_key_that_was_refused_at_first_may_be_given_later(browser, assistant):
    with running(assistant, api_keys=("secret",)) as locked:
        tab = browser.new_page()
        tab.goto(locked.url)
        tab.wait_for_selector("#entry[open]")
        tab.keyboard.press("Escape")
        tab.wait_for_selector("#toast:has-text('API key')")
        assert not tab.locator("#entry[open]").count(), "it is asked for once"
        tab.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(GREY)})
        tab.fill("#key", "secret")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#facts:has-text('a.png')")
        tab.fill("#words_asked", "What is this?")
        tab.click("#send")
        tab.wait_for_selector(".answer:not(.waiting)")
        assert not tab.locator(".answer.bad").count()
        tab.close()


def test_of_two_images_the_one_that_was_asked_for_last_is_shown(opened):
    def slowly(route):
        if b"first.png" in route.request.post_data_buffer:
            opened.wait_for_timeout(700)
        route.continue_()

    opened.route("**/v1/preview", slowly)
    for name in ("first.png", "second.png"):
        opened.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": png(GREY)})
    opened.wait_for_timeout(1500)
    assert "second.png" in opened.inner_text("#facts")


def test_a_box_across_the_antimeridian_is_cut_in_two(opened, tmp_path):
    opened.evaluate("scene = { facts: { grid: [[0]] } }")
    cut = opened.evaluate("onEarth([[179.5, 1], [180.5, 1], [180.5, 0], [179.5, 0]])")
    assert cut["type"] == "MultiPolygon"
    assert [sorted({x for x, _ in ring}) for (ring,) in cut["coordinates"]] == [[179.5, 180], [-180, -179.5]]
    world = opened.evaluate("onEarth([[-180, 80], [180, 80], [180, -80], [-180, -80]])")
    assert world["type"] == "Polygon" and {x for x, _ in world["coordinates"][0]} == {-180, 180}
    assert opened.evaluate("onEarth([[5, 1], [5, 1], [5, 0], [5, 0]])") is None
    for corners in ([[10, 1], [11, 1], [11, 0], [10, 0]], [[10, 0], [11, 0], [11, 1], [10, 1]]):  # north up, south up
        (ring,) = opened.evaluate(f"onEarth({corners})")["coordinates"]
        assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) > 0
    opened.evaluate("scene = null")


def test_a_phone_shows_the_page_without_scrolling_sideways(browser, served):
    tab = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    tab.goto(served.url)
    tab.locator("#examples button").first.tap()
    tab.wait_for_selector("#facts:has-text('optical.tif')")
    for part in ("html", "header", "form#ask"):
        assert tab.locator(part).evaluate("one => one.scrollWidth <= one.clientWidth"), part
    tab.close()


def test_the_policy_matches_what_is_sent():
    content, policy = page()
    assert content.count("<script>") == 1 and content.count("<style>") == 1 and policy.count("sha256-") == 2
