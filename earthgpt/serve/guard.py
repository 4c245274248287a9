"""What comes from outside, held to limits: uploads, data URLs and addresses become images, or are refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import io
import ipaddress
import math
import re
import socket
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from PIL import Image

from earthgpt.geo.heads import tiff_head
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.sensors import named_sensor
from earthgpt.serve.cache import Cache
from earthgpt.serve.requests import BusyError
from earthgpt.types import EarthGPTError, Sensor

# What files begin with that hold pixels themselves, and the ending that they get: VRT, NetCDF, PDF and the like may
# name other files. WebP stands behind "RIFF" and a length.
_KINDS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF87a": ".gif",
    b"GIF89a": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
}
_PILLOW = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP"}
_DATA_URL = re.compile(r"data:(image/[\w.+-]+)?(?:;[\w-]+=[\w.-]+)*;base64,", re.IGNORECASE)
_BLOCK_BYTES = 2**28  # of a TIFF, decoded at once
_REDIRECTS = 3


class RefusedError(EarthGPTError):
    """What was sent is outside the limits. ``status``: of HTTP."""

    def __init__(self, reason: str, status: int = 400):
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    bytes: of one image, and of a request that uploads one. pixels: of one image decoded. images: of one conversation.
    tokens: of an answer. seconds: that an answer may take. remote: whether images may be given by their addresses.
    """

    bytes: int = 64 * 2**20
    pixels: int = 100_000_000
    images: int = 8
    tokens: int = 1024
    seconds: float = 120.0
    remote: bool = False


class Reader:
    """Makes images of what was sent, within limits.

    gate: in which images are read, no more than ``at_once`` at a time. jobs: whether larger scenes are taken as jobs.
    kept: images that were read, up to ``cache_bytes``, since every turn of a dialogue sends its images again.
    """

    def __init__(
        self,
        limits: Limits,
        fetch: Fetch | None = None,
        at_once: int = 4,
        jobs: bool = False,
        cache_bytes: int = 0,
    ) -> None:
        self.limits, self._fetch, self.jobs = limits, fetch or Fetch(), jobs
        self.gate = threading.BoundedSemaphore(at_once)
        self.kept, self._lock = Cache(cache_bytes), threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One of those that read images now. Raises BusyError where all others take longer than an answer may."""
        if not self.gate.acquire(timeout=self.limits.seconds):
            raise BusyError("Images of others are being read.", 5.0)
        try:
            yield
        finally:
            self.gate.release()

    def of_url(self, url: str, sensor: Sensor | None = None) -> Raster:
        """The image in a data URL, or at an address where ``limits.remote`` allows it.

        Raises RefusedError for anything else, and EarthGPTError for what is no image.
        """
        if url[:5].lower() == "data:":
            return self.of_bytes(self._content(url), sensor)
        if not self.limits.remote:
            raise RefusedError("Give the image as a data URL (data:image/png;base64,...): addresses are not read here.")
        return self.of_bytes(self._fetch(url, self.limits), sensor)

    def _content(self, url: str) -> bytes:
        head = _DATA_URL.match(url[:200])
        if not head:
            raise RefusedError("An image's data URL begins with data:image/png;base64, or the like.")
        if (len(url) - head.end()) * 3 // 4 > self.limits.bytes + 2:
            raise RefusedError(f"The image has more than {self.limits.bytes:,} bytes.", 413)
        try:
            return base64.b64decode(url[head.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise RefusedError("The data URL of the image is no base64.") from None

    def of_bytes(self, content: bytes, sensor: Sensor | None = None) -> Raster:
        """As ``of_file``; the same bytes are not read again while they are kept."""
        key = hashlib.sha256(content).digest(), sensor
        with self._lock:
            found = self.kept.get(key)
        if found is None:
            found = self.of_file(io.BytesIO(content), sensor)
            with self._lock:
                self.kept.put(key, found, found.pixels.nbytes)
        return found

    def of_file(self, file: BinaryIO, sensor: Sensor | None = None) -> Raster:
        """The image of an upload; it is read through a file with a name of our own in a folder of its own.

        Raises RefusedError beyond the limits and for formats that may point elsewhere, EarthGPTError for a damaged
        image.
        """
        with self.turn(), tempfile.TemporaryDirectory(prefix="earthgpt-") as folder:
            return self._read(save_upload(file, Path(folder), self.limits.bytes), sensor)

    def of_saved(self, path: Path, sensor: Sensor | None = None) -> Raster:
        """As ``of_file``, of an upload that ``save_upload`` saved."""
        if path.stat().st_size > self.limits.bytes:
            raise RefusedError(f"The upload has more than {self.limits.bytes:,} bytes.", 413)
        with self.turn():
            return self._read(path, sensor)

    def _read(self, path: Path, sensor: Sensor | None) -> Raster:
        examine(path, self.limits.pixels, "; submit it as a job" if self.jobs and path.suffix == ".tif" else "")
        with unnamed(path, "The image"):
            return open_raster(path, sensor)


def sensor_named(upload: str | None, given: Sensor | None) -> Sensor | None:
    """The sensor that is given, else what the name of an upload says, as that of a file does; None says nothing."""
    return given or named_sensor([upload or ""])[0]


def save_upload(file: BinaryIO, folder: Path, most_bytes: int) -> Path:
    """An upload as a file "scene" in a folder, with the ending of what it is.

    Raises RefusedError for too many bytes and for what is no image by its first bytes.
    """
    head = file.read(16)
    path = folder / f"scene{ending_of(head)}"
    written = len(head)
    with path.open("wb") as copy:
        copy.write(head)
        while part := file.read(2**20):
            written += len(part)
            if written > most_bytes:
                raise RefusedError(f"The upload has more than {most_bytes:,} bytes.", 413)
            copy.write(part)
    return path


def ending_of(head: bytes) -> str:
    """The ending for a file that begins so. Raises RefusedError for what is not one of the formats that are taken."""
    found = next((ending for start, ending in _KINDS.items() if head.startswith(start)), None)
    if found is None and head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = ".webp"
    if found is None:
        raise RefusedError("The upload is no PNG, JPEG, TIFF, WebP, GIF or BMP image.", 415)
    return found


def media_type(path: Path) -> str:
    """That of a file which ``save_upload`` saved, for HTTP."""
    return f"image/{_PILLOW.get(path.suffix, 'TIFF').lower()}"


def examine(path: Path, most_pixels: int, advice: str = "") -> None:
    """Looks at an image's head, before its pixels are decoded. advice: what to do with one that has too many.

    Raises RefusedError for too many pixels, blocks that are huge when decoded, and a TIFF that points to other files;
    EarthGPTError for a damaged head.
    """
    if path.suffix == ".tif":
        _examine_tiff(path, most_pixels, advice)
        return
    with warnings.catch_warnings(), unnamed(path, "The image"):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=(_PILLOW[path.suffix],)) as image:
                size = image.size
        except Image.DecompressionBombError:
            raise RefusedError(f"The image has more than {most_pixels:,} pixels.", 413) from None
        except Exception as error:  # Pillow's readers raise of every kind on damaged heads
            raise EarthGPTError(f"The image is damaged: {error}.") from None
    _not_too_large(size, most_pixels, advice)


def _not_too_large(size: tuple[int, int], most_pixels: int, advice: str) -> None:
    if math.prod(size) > most_pixels:
        many = f"{size[0]:,} x {size[1]:,} pixels"
        raise RefusedError(f"The image has {many}, more than {most_pixels:,} at once{advice}.", 413)


def _examine_tiff(path: Path, most_pixels: int, advice: str) -> None:
    with unnamed(path, "The image"):
        head = tiff_head(path)
    if head.elsewhere:
        raise RefusedError("The TIFF points to overviews in another file; leave them out.")
    _not_too_large(head.size, most_pixels, advice)
    if head.block_bytes > _BLOCK_BYTES:
        raise RefusedError("The TIFF has blocks that are too large to decode; write it tiled.", 413)


@contextmanager
def unnamed(path: Path, name: str) -> Iterator[None]:
    """Errors ``without_place`` of our file; what readers raise on damaged pixels is one kind of error."""
    try:
        yield
    except RefusedError:
        raise
    except EarthGPTError as error:
        raise EarthGPTError(without_place(str(error), path, name)) from None
    except MemoryError:
        raise RefusedError(f"{name} is too large for this machine.", 413) from None
    except Exception as error:  # hostile files make decoders raise of every kind
        raise EarthGPTError(f"{name} is damaged: {type(error).__name__}.") from error


def without_place(text: str, path: Path, name: str) -> str:
    """A text in which a file of ours goes by a name, and others in its folder are named without it."""
    return text.replace(str(path), name).replace(f"{path.parent}/", "")


# --- addresses ---------------------------------------------------------------------------------------------------


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet: not this machine, its networks, or a way around them."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner or ip in _NAT64 or ip.is_site_local:
            return False
    special = any(ip in one for one in _SPECIAL)
    return ip.is_global and not (special or ip.is_multicast or ip.is_reserved or ip.is_unspecified)


_NAT64 = ipaddress.ip_network("64:ff9b::/95")
# In IANA's registries of special-purpose addresses, and global to Python.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))


@dataclass(frozen=True)
class Fetch:
    """Reads an address of the open Internet.

    The name is resolved once, every address of it must be allowed, and the connection goes to that very address, so a
    name that changes its mind leads nowhere else. Redirects are looked at in the same way.
    """

    resolve: Callable[..., list] = socket.getaddrinfo
    allowed: Callable[[str], bool] = is_public

    def __call__(self, url: str, limits: Limits) -> bytes:
        """What is there. Raises RefusedError for inner addresses, too many bytes, a long wait and no answer."""
        ends = time.monotonic() + min(limits.seconds, 30.0)
        for _ in range(_REDIRECTS + 1):
            status, place, content = self._get(url, limits.bytes, ends)
            if status in (301, 302, 303, 307, 308) and place:
                url = urljoin(url, place)
                continue
            if status != 200:
                raise RefusedError(f"The address of the image answers with {status}.")
            return content
        raise RefusedError("The address of the image leads from one redirect to the next.")

    def _get(self, url: str, most_bytes: int, ends: float) -> tuple[int, str | None, bytes]:
        try:
            place = urlsplit(url)
            port = place.port or (443 if place.scheme == "https" else 80)
        except ValueError:
            raise RefusedError("That is no address of an image.") from None
        host = place.hostname or ""
        if place.scheme not in ("http", "https") or not host or place.username is not None or not url.isprintable():
            raise RefusedError("The address of an image begins with http:// or https:// and has no user's name.")
        address = self._address(host, port)
        left_s = max(0.1, ends - time.monotonic())
        connection = _Pinned(host, port, address, place.scheme == "https", left_s)
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        late = threading.Timer(left_s, connection.cut)  # a socket's own timeout begins anew with every byte
        late.daemon = True
        try:
            late.start()
            connection.request("GET", path, headers={"User-Agent": "earthgpt", "Accept": "image/*"})
            reply = connection.getresponse()
            parts, length = [], 0
            while part := reply.read1(65536):
                length += len(part)
                if length > most_bytes:
                    raise RefusedError(f"The image has more than {most_bytes:,} bytes.", 413)
                parts.append(part)
            if connection.late:
                raise TimeoutError
            return reply.status, reply.headers.get("Location"), b"".join(parts)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RefusedError(f"The address of the image cannot be read: {type(error).__name__}.") from None
        finally:
            late.cancel()
            connection.close()

    def _address(self, host: str, port: int) -> str:
        try:
            found = sorted({one[4][0] for one in self.resolve(host, port, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError):
            raise RefusedError(f"There is no {host[:100]!r}.") from None
        if not found or not all(map(self.allowed, found)):
            raise RefusedError("Images are read from the open Internet only, not from inner addresses.")
        return found[0]


class _Pinned(http.client.HTTPConnection):
    """A connection to one IP address, in the name of a host. late: whether it was ``cut``."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address, self._secure = address, secure
        self.default_port = 443 if secure else 80
        self.late = False
        self._wire: socket.socket | None = None  # as ``sock``, which the reply may take away

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._wire = self.sock
        if self.late:
            raise TimeoutError
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def cut(self) -> None:
        """Ends whatever waits for the other side; called in another thread."""
        self.late = True
        if self._wire is not None:
            with suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)  # an SSL socket's own is for its reader's thread
