"""What is hostile, too much or not allowed is refused in words, and the server goes on."""

import base64
import http.server
import io
import re
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from servers import png, running

from earthgpt.geo.geotiff import write_geotiff
from earthgpt.serve.guard import Fetch, Limits, Reader, RefusedError, is_public, save_upload
from earthgpt.types import EarthGPTError, Sensor

SMALL = Limits(bytes=20_000, pixels=10_000, images=2, tokens=50, seconds=30)


def caption(served, content, name="a.png", **options):
    return served.client.post("/v1/caption", files={"image": (name, content)}, **options)


def chat(served, *urls, **options):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}
    return served.client.post("/v1/chat/completions", json={"model": "tiny", "messages": [message], **options})


def bomb(width, height) -> bytes:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def small(assistant):
    """A server with small limits and a key."""
    with running(assistant, limits=SMALL, api_keys=("right", "other")) as found:
        found.client.headers["Authorization"] = "Bearer right"
        yield found


def test_the_same_bytes_are_one_image_while_they_are_kept_and_no_others():
    content = png(np.full((20, 30, 3), 7, np.uint8))
    near = np.full((20, 30, 3), 7, np.uint8)
    near[3, 4, 1] += 1
    reader = Reader(Limits(), cache_bytes=20 * 30 * 3)
    first = reader.of_bytes(content)
    assert reader.of_bytes(content) is first
    assert reader.of_bytes(content, Sensor.SAR).sensor is Sensor.SAR, "another sensor is another image"
    other = reader.of_bytes(png(near))
    assert other.pixels[3, 4, 1] == 8 and other.digest != first.digest
    assert reader.of_bytes(content) is not first, "there is room for one"
    assert Reader(Limits()).kept.most_bytes == 0


def test_limits_are_told_with_their_numbers(small):
    noise = png(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    reply = caption(small, noise)
    assert reply.status_code == 413 and "20,000 bytes" in reply.json()["error"]["message"]
    reply = caption(small, png(np.zeros((200, 200, 3), np.uint8)))
    assert reply.status_code == 413 and "200 x 200 pixels" in reply.json()["error"]["message"]
    url = "data:image/png;base64," + base64.b64encode(png(np.zeros((9, 9, 3), np.uint8))).decode()
    assert chat(small, url, url).status_code == 200
    assert "at most 2 images" in chat(small, url, url, url).json()["error"]["message"]
    assert "at most 50 tokens" in chat(small, url, max_tokens=51).json()["error"]["message"]
    assert small.client.post("/v1/caption", content=b"x" * 2**21).status_code == 413

    def endless():
        for _ in range(100):
            yield b"x" * 2**16

    assert small.client.post("/v1/chat/completions", content=endless()).status_code == 413


def test_decompression_bombs_are_not_decoded(served):
    for side in (20_000, 2**31 - 1):
        reply = caption(served, bomb(side, side))
        assert reply.status_code in (400, 413), reply.text


def test_a_key_is_needed_where_there_are_keys(small):
    client = small.client
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}):
        reply = client.get("/v1/models", headers=headers)
        assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"Authorization": "", "X-API-Key": "other"}).status_code == 200
    assert client.get("/health", headers={"Authorization": ""}).status_code == 200
    assert client.get("/metrics", headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_opens_nothing(key):
    from typer.testing import CliRunner

    from earthgpt.cli import app
    from earthgpt.serve.app import Settings
    from earthgpt.serve.shield import Metrics, Shield

    with pytest.raises(EarthGPTError, match="--api-key is empty"):
        Settings(api_keys=("right", key))
    told = CliRunner().invoke(app, ["serve", "--api-key", key])
    assert "--api-key is empty" in f"{told.output} {told.exception}"
    shield = Shield(None, Metrics(), (key,))
    headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer ")]
    for given in (headers[:1], headers):
        status, *_ = shield._refusal({"path": "/v1/models", "headers": given})
        assert status == 401


@pytest.mark.parametrize("key", ["", " "])
def test_a_variable_of_keys_that_is_set_to_nothing_opens_nothing(monkeypatch, key):
    from typer.testing import CliRunner

    from earthgpt.cli import app
    from earthgpt.serve import app as server

    started = []
    monkeypatch.setattr("earthgpt.cli.serving.load_model", lambda *_: None)
    monkeypatch.setattr(server, "run", lambda settings, *_: started.append(settings.api_keys))
    monkeypatch.setenv("EARTHGPT_API_KEY", key)
    told = CliRunner().invoke(app, ["serve"])
    assert "EARTHGPT_API_KEY is empty" in f"{told.output} {told.exception}" and not started
    assert CliRunner().invoke(app, ["serve", "--api-key", "secret"]).exit_code == 0
    monkeypatch.setenv("EARTHGPT_API_KEY", "one other")
    assert CliRunner().invoke(app, ["serve"]).exit_code == 0
    monkeypatch.delenv("EARTHGPT_API_KEY")
    assert CliRunner().invoke(app, ["serve"]).exit_code == 0
    assert started == [("secret",), ("one", "other"), ()]


def test_files_that_may_point_elsewhere_are_refused(served, tmp_path):
    vrt = b"<VRTDataset rasterXSize='1' rasterYSize='1'><VRTRasterBand><SimpleSource><SourceFilename>/etc/passwd"
    for content in (
        vrt,
        b"%PDF-1.4",
        b"\x89HDF\r\n\x1a\n",
        b"CDF\x01",
        b"<svg/>",
        b"/vsicurl/http://127.0.0.1/a.tif",
        b"{}",
    ):
        reply = caption(served, content, "a.tif")
        assert reply.status_code == 415, content
    assert caption(served, b"").status_code in (400, 415)


def test_a_tiff_that_names_overviews_elsewhere_is_refused(served, tmp_path):
    import rasterio

    other, path = tmp_path / "other.tif", tmp_path / "a.tif"
    options = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    for file in (other, path):
        with rasterio.open(file, "w", **options) as written:
            written.write(np.zeros((1, 64, 64), np.uint8))
            if file == path:
                written.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(other))
    assert b"OVERVIEW_FILE" in path.read_bytes()
    reply = caption(served, path.read_bytes(), "a.tif")
    assert reply.status_code == 400 and "overviews in another file" in reply.json()["error"]["message"]


def test_the_name_of_an_upload_is_not_used(served, tmp_path, pictures):
    for name in ("../../etc/passwd", "/vsicurl/http://127.0.0.1/a.png", "a\0b.png", "x" * 3000 + ".png"):
        reply = caption(served, pictures[0], name)
        assert reply.status_code == 200 and "etc" not in reply.text
    reply = served.client.post("/v1/caption", files={"image": ("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50)})
    assert reply.status_code == 400 and "/tmp" not in reply.text and "upload" not in reply.text
    with pytest.raises(RefusedError):
        save_upload(io.BytesIO(b"GIF89a" + bytes(100)), tmp_path, 50)


def test_addresses_are_refused_unless_allowed(served):
    for url in (
        "http://example.com/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "/vsicurl/http://127.0.0.1/",
        "ftp://a/b",
    ):
        reply = chat(served, url)
        assert reply.status_code == 400 and "data URL" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "192.0.0.8", "192.0.0.9", "192.88.99.1", "3fff::1",
    ],
)  # fmt: skip
def test_inner_addresses_are_told_from_public_ones(address):
    assert not is_public(address) and is_public("8.8.8.8") and is_public("2606:4700::1111")


def test_names_and_numbers_of_inner_addresses_are_refused():
    reader = Reader(Limits(remote=True))
    for url in (
        "http://localhost/a.png", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/a",
        "http://[::ffff:7f00:1]/", "https://user:word@8.8.8.8/", "gopher://8.8.8.8/", "http://", "http://a:99999/",
        "http://127.0.0.1:80\r\nX: y/",
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            reader.of_url(url)

    # A name of which one address is inner, too.
    def mixed(host, port, **_):
        return [(0, 0, 0, "", (address, port)) for address in ("8.8.8.8", "10.0.0.1")]

    with pytest.raises(RefusedError, match="inner"):
        Fetch(resolve=mixed)("http://two.example/", Limits(remote=True))


@pytest.fixture
def site(pictures):
    """A site on this machine: /a.png is a picture, /to?URL leads there, /long never ends. (port, paths asked for)"""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            if self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path[4:])
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            try:
                while self.path == "/long":
                    self.wfile.write(bytes(65536))
                self.wfile.write(pictures[0])
            except OSError:
                return  # the reader has had enough

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    yield listener.server_port, asked
    listener.shutdown()
    listener.server_close()


def test_an_allowed_address_is_read_where_its_name_led_first(site):
    port, asked = site
    lookups = []

    def resolve(host, port, **options):
        lookups.append(host)
        return socket.getaddrinfo("127.0.0.1" if host == "open.example" else host, port, **options)

    # To the test, 127.0.0.1 is the open Internet, and 127.0.0.2 is not.
    fetch = Fetch(resolve, lambda address: address == "127.0.0.1")
    limits = Limits(remote=True, bytes=2**20)
    reader = Reader(limits, fetch)
    assert reader.of_url(f"http://open.example:{port}/a.png").size == (60, 40)
    assert lookups == ["open.example"] and asked == [("/a.png", f"open.example:{port}")]
    assert reader.of_url(f"http://open.example:{port}/to?/a.png").size == (60, 40)
    with pytest.raises(RefusedError, match="inner"):
        reader.of_url(f"http://open.example:{port}/to?http://127.0.0.2:{port}/a.png")
    with pytest.raises(RefusedError, match="begins with http"):
        reader.of_url(f"http://open.example:{port}/to?file:///etc/passwd")
    with pytest.raises(RefusedError, match="redirect"):
        reader.of_url(f"http://open.example:{port}/to?/to?/to?/to?/to?/a.png")
    with pytest.raises(RefusedError, match="more than"):
        reader.of_url(f"http://open.example:{port}/long")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_site_that_dribbles_is_left_when_the_time_is_over(start):
    listener = socket.create_server(("127.0.0.1", 0))

    def dribble():
        peer, _ = listener.accept()
        with peer:
            try:
                peer.sendall(start)
                for _ in range(100):
                    peer.sendall(b"a")
                    time.sleep(0.1)
            except OSError:
                return  # the reader has had enough

    thread = threading.Thread(target=dribble, daemon=True)
    thread.start()
    fetch, began = Fetch(allowed=lambda address: True), time.monotonic()
    with pytest.raises(RefusedError, match="cannot be read"):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", Limits(remote=True, seconds=0.4))
    assert time.monotonic() - began < 5
    thread.join()
    listener.close()


def test_uploads_are_read_in_their_turn(pictures):
    reader, held = Reader(Limits(), at_once=1), []

    class File(io.BytesIO):
        def read(self, *given):
            held.append(not reader.gate.acquire(blocking=False))
            return super().read(*given)

    assert reader.of_file(File(pictures[0])).size == (60, 40) and held and all(held)


@pytest.mark.parametrize(("jobs", "kind", "told"), [(True, "TIFF", True), (True, "PNG", False), (False, "TIFF", False)])
def test_a_job_is_advised_only_where_it_takes_the_image(jobs, kind, told):
    file = io.BytesIO()
    Image.new("RGB", (50, 40)).save(file, kind)
    with pytest.raises(RefusedError, match="50 x 40 pixels, more than 1,000 at once") as error:
        Reader(Limits(pixels=1000), jobs=jobs).of_bytes(file.getvalue())
    assert ("job" in str(error.value)) == told


def test_other_sites_pages_are_refused(served):
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert served.client.get("/v1/models", headers=headers).status_code == 403
    own = {"Origin": served.url}
    assert served.client.get("/v1/models", headers=own).status_code == 200


def test_too_many_requests_a_minute_are_told_when_to_come_back(assistant):
    with running(assistant, rate=3) as found:
        statuses = [found.client.get("/v1/models").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert 1 <= int(found.client.get("/v1/models").headers["Retry-After"]) <= 20
        assert found.client.get("/health").status_code == 200


def test_a_full_queue_is_told_and_grows_no_further(assistant, pictures, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    with running(assistant, most_waiting=2, batch_size=1) as found:
        step = type(found.engine)._step
        monkeypatch.setattr(type(found.engine), "_step", lambda self: (time.sleep(0.01), step(self)))
        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: caption(found, pictures[0]), range(12)))
        statuses = {one.status_code for one in replies}
        assert statuses == {200, 503}
        assert all("retry-after" in one.headers for one in replies if one.status_code == 503)
        assert caption(found, pictures[0]).status_code == 200


def test_an_answer_that_takes_too_long_ends(assistant, pictures, monkeypatch):
    with running(assistant, limits=Limits(seconds=0.3)) as found:
        step = type(found.engine)._step
        monkeypatch.setattr(type(found.engine), "_step", lambda self: (time.sleep(0.2), step(self)))
        assert caption(found, pictures[0]).status_code == 504
        assert found.engine.waiting == 0


def test_replies_carry_headers_against_misuse(served):
    headers = served.client.get("/docs").headers
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_pages_ask_nothing_of_other_sites(served):
    for path in ("/", "/docs"):
        assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", served.client.get(path).text)
    assert "/v1/detect" in served.client.get("/docs").text


def test_mutated_images_are_refused_or_read_and_never_a_fault(served, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (40, 60, 3), np.uint8)
    originals = [png(values)]
    for kind in ("JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(values).save(file, kind)
        originals.append(file.getvalue())
    write_geotiff(tmp_path / "a.tif", values, 500_000, 5_000_000, 1.0, 32633)
    originals.append((tmp_path / "a.tif").read_bytes())
    reader, seen = Reader(Limits(pixels=10**6)), {"read": 0, "refused": 0}
    for i in range(700):
        content = bytearray(originals[i % len(originals)])
        for _ in range(rng.integers(1, 6)):
            place = rng.integers(len(content)) if rng.random() < 0.5 else rng.integers(min(200, len(content)))
            content[place] = rng.integers(256)
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        try:
            reader.of_bytes(bytes(content))
            seen["read"] += 1
        except EarthGPTError as error:
            seen["refused"] += 1
            assert str(tmp_path.parent) not in str(error) and "/tmp" not in str(error)
        if i % 35 == 0:
            assert caption(served, bytes(content)).status_code in (200, 400, 413, 415)
    assert min(seen.values()) > 50
    assert served.client.get("/ready").status_code == 200
