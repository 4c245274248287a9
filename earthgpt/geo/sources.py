"""What a scene is made of: files, folders of satellite products and addresses, as bands with names and wavelengths."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthgpt.types import EarthGPTError, Sensor

# Middles of the bands in nanometres. Landsat: USGS, "What are the band designations for the Landsat satellites?";
# Sentinel-2: ESA, Sentinel-2 MSI spatial resolution and central wavelengths (S2A).
MSS_FIRST = {"B4": 550, "B5": 650, "B6": 750, "B7": 950}  # of Landsat 1 to 3
MSS = {"B1": 550, "B2": 650, "B3": 750, "B4": 950}
TM = {"B1": 485, "B2": 560, "B3": 660, "B4": 830, "B5": 1650, "B6": 11450, "B7": 2220, "B8": 710}
OLI = {
    "B1": 443, "B2": 482, "B3": 561, "B4": 655, "B5": 865, "B6": 1609, "B7": 2201, "B8": 590, "B9": 1373, "B10": 10895,
    "B11": 12005,
}  # fmt: skip
MSI = {
    "B1": 443, "B2": 490, "B3": 560, "B4": 665, "B5": 705, "B6": 740, "B7": 783, "B8": 842, "B8A": 865, "B9": 945,
    "B10": 1375, "B11": 1610, "B12": 2190,
}  # fmt: skip
# Words for parts of the spectrum, as STAC's "eo" extension has them, and the middle that is looked for.
COLOURS = {
    "coastal": 443, "blue": 485, "green": 560, "red": 660, "rededge": 720, "nir": 840, "swir16": 1610, "swir22": 2200,
    "thermal": 11000,
}  # fmt: skip
_OTHER_WORDS = {"near infrared": "nir", "swir1": "swir16", "swir2": "swir22", "lwir": "thermal", "red edge": "rededge"}
# How far a band's middle may be from what was asked for, as a part of it.
NEAR = 0.06

# Drivers of GDAL that read the file they are given and what lies beside it. Others fetch what it names.
LOCAL_DRIVERS = (
    "GTiff", "COG", "VRT", "JP2OpenJPEG", "JP2ECW", "JP2KAK", "JP2MrSID", "PNG", "JPEG", "JPEGXL", "WEBP", "GIF", "BMP",
    "ENVI", "HFA", "NITF", "netCDF", "HDF5", "HDF5Image", "HDF4", "HDF4Image", "GRIB", "EHdr", "ERS", "PCIDSK", "RMF",
    "SRTMHGT", "DTED", "AAIGrid", "GPKG", "MBTiles", "PNM", "SGI", "BAG", "FITS", "MEM",
)  # fmt: skip
_STORES = {
    "http://": "/vsicurl/http://", "https://": "/vsicurl/https://", "ftp://": "/vsicurl/ftp://", "s3://": "/vsis3/",
    "gs://": "/vsigs/", "az://": "/vsiaz/", "abfs://": "/vsiadls/", "zip://": "/vsizip/",
}  # fmt: skip
_NAMING = ("sourcefilename", "sourcedataset", "indexdataset")  # what has the name of a file in a VRT
_PART = re.compile(r"(NETCDF|HDF5|HDF4_EOS|HDF4_SDS|HDF4_GR|GTIFF_DIR):(?:(\d+):)?\"?(.+?)\"?(:[^:]*)?")

# Of maps, whatever their first bytes; and of all files that are images, where a folder is looked through: there .dat
# and .h5 are mostly something else.
MAPS = (".img", ".dat", ".bil", ".bip", ".bsq", ".vrt", ".nc", ".hdf", ".h5", ".ntf")
SUFFIXES = frozenset({*MAPS} - {".dat", ".h5"}) | frozenset(
    (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
)


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a scene and where it is read.

    path: what GDAL opens. number: of the band in it, from 1. name: as its product has it ("B4", "VV"), its description,
    or its number. colour: one of ``COLOURS``, or "". wavelength_nm: its middle, None where it is not known.
    scale, offset: what makes a value of a number. nodata: None where the file says. thermal: whether heat is measured.
    """

    path: str
    number: int
    name: str
    colour: str = ""
    wavelength_nm: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    @property
    def thermal(self) -> bool:
        return self.wavelength_nm is not None and self.wavelength_nm > 3000


@dataclass(frozen=True, slots=True)
class Product:
    """A set of files that was recognised: its bands, what took it and why that is known, and what its values are.

    units: one of ``sensors.UNITS`` for the bands that are not thermal, and thermal_units for those that are; None where
    they are not known. notes: what a user must know.
    """

    bands: tuple[Band, ...]
    sensor: Sensor | None = None
    reason: str = ""
    units: str | None = None
    thermal_units: str | None = None
    notes: tuple[str, ...] = ()


def address(source: str, remote: bool) -> str:
    """What GDAL opens for a path or URL.

    Raises EarthGPTError for what is not on this machine unless ``remote``, and for a file that is missing, empty or a
    folder.
    """
    found = _PART.fullmatch(source)  # an image inside a file
    if found and (not remote or Path(found[3]).exists()):
        local(found[3], remote)
        return source
    if Path(source).is_file():
        local(source, remote)
        return source
    for scheme, store in _STORES.items():
        if source.lower().startswith(scheme):
            if remote:
                return store + source[len(scheme) :]
            break
    else:
        if not source.startswith("/vsi"):
            raise EarthGPTError(f"There is no file {source}.")
        if remote:
            return source
    raise EarthGPTError(f"{source} is not a file on this machine; allow it with --remote (remote=True).")


def local(path: str | Path, remote: bool) -> None:
    """Raises EarthGPTError for a file that is missing or empty, and, unless ``remote``, for one that points elsewhere.

    Of a VRT, every file that it names must lie beneath its folder, and is examined in turn.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise EarthGPTError(f"{path} is a folder; name an image file.")
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError:
        raise EarthGPTError(f"There is no file {path}.") from None
    except OSError as error:
        raise EarthGPTError(f"Cannot read {path}: {error.strerror}.") from None
    if not head:
        raise EarthGPTError(f"{path} is empty; copy or download it again.")
    if remote:
        return
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if b"<VRT" in head or path.suffix.lower() == ".vrt":
        for name, beside in _named(path):
            _beneath(path.parent, name, path, beside)
    elif text[:1] in (b"<", b"{", b"["):
        raise EarthGPTError(f"{path} is text, not an image; a file that points to images needs --remote (remote=True).")
    for beside in (path.with_name(path.name + ".aux.xml"), path.with_suffix(".aux.xml")):
        if beside.is_file() and b"OVERVIEW_FILE" in beside.read_bytes():
            raise EarthGPTError(f"{beside} points to overviews elsewhere; delete it, or allow it with --remote.")


def _named(path: Path) -> Iterable[tuple[str, bool]]:
    """Every file that a VRT names, and whether that is surely from its folder. GDAL ignores the case of its words, and
    takes an attribute for an element."""
    try:
        tree = xml.fromstring(path.read_bytes())
    except xml.ParseError as error:
        raise EarthGPTError(f"{path} is damaged or no VRT: {error}.") from None
    for element in tree.iter():
        word = _plain(element.tag)
        values = [value.lower() for value in element.attrib.values()]
        if (
            word in _NAMING
            or (word == "mdi" and "overview_file" in values)
            or (word == "argument" and any("filename" in value for value in values))  # of a VRTProcessedDataset
        ):
            relative = [value.strip() for name, value in element.items() if _plain(name) == "relativetovrt"]
            yield (element.text or "").strip(), bool(relative) and set(relative) == {"1"}
        yield from ((value.strip(), False) for name, value in element.items() if _plain(name) in _NAMING)


def _plain(word: str) -> str:
    """The name of an element or attribute in lower case, without its namespace."""
    return word.rpartition("}")[2].lower()


def _beneath(folder: Path, name: str, path: Path, beside: bool) -> None:
    part = _PART.fullmatch(name)
    file, folder = part[3] if part else name, folder.resolve()
    found, elsewhere = (folder / file).resolve(), Path(file).resolve()
    outside = EarthGPTError(f"{path} points to {name!r}, outside its folder; allow that with --remote (remote=True).")
    if name.startswith("/vsi") or "://" in name or name.startswith("<") or not found.is_relative_to(folder):
        raise outside
    local(found, False)
    if not beside and elsewhere.exists() and not elsewhere.is_relative_to(folder):  # GDAL looks from here
        raise outside


def product(source: str | Path | Sequence[str | Path], remote: bool) -> Product:
    """What a file, a folder or several files make up. Bands of single files are ``bands_of`` their dataset: a Band of
    number 0 stands for all of a file.

    Raises EarthGPTError for a folder that is no product that is known, and what ``address`` raises.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            return _folder(path)
        found = address(str(source), remote)
        return _known([found]) or Product((Band(found, 0, ""),))
    if not source:
        raise EarthGPTError("A scene is made of at least one file.")
    paths = [address(str(one), remote) for one in source]
    found = _known(paths, all_of=True)
    if found is None:
        return Product(tuple(Band(one, 0, Path(one).stem) for one in paths))
    bands = sorted(found.bands, key=lambda band: paths.index(band.path))  # as they were named
    return replace(found, bands=tuple(bands))


def is_product(path: Path) -> bool:
    """Whether a folder is a product that is known, rather than one of many images: all that are in it are of one."""
    try:
        product = _folder(path) if path.is_dir() else None
    except EarthGPTError:
        return False
    if product is None or path.name.startswith(("S1", "S2")):
        return product is not None
    begins = re.split(r"_(?:S[RT]_)?B\d", Path(product.bands[0].path).stem, maxsplit=1, flags=re.IGNORECASE)[0].lower()
    return all(one.name.lower().startswith(begins) for one in path.iterdir() if one.suffix.lower() in SUFFIXES)


def _folder(path: Path) -> Product:
    """The product in a folder."""
    if path.name.startswith("S1") or (path / "measurement").is_dir():
        files = sorted((path / "measurement").glob("s1*.tif*"))
    elif path.name.startswith("S2") or (path / "GRANULE").is_dir():
        files = sorted(path.glob("GRANULE/*/IMG_DATA/**/*.jp2")) or sorted(path.glob("*.jp2"))
    else:
        files = [one for one in sorted(path.iterdir()) if one.suffix.lower() in (".tif", ".tiff", ".jp2")]
    found = _known([str(one) for one in files])
    if found is None:
        raise EarthGPTError(
            f"{path} is a folder; name an image file, or the folder of a Sentinel-1, Sentinel-2 or Landsat product."
        )
    for one in files:
        local(one, False)
    return found


_LANDSAT = re.compile(r"(L[COTEM])0?([1-9])\w*?_(?P<band>(?:(SR|ST)_)?B(\d{1,2})(?:_VCID_\d)?)", re.IGNORECASE)
_SENTINEL2 = re.compile(r"(?:T\d\d[A-Z]{3}|S2[A-D])_\w*?(?P<band>B\d[\dA])(?:_(\d\d)m)?", re.IGNORECASE)
_SENTINEL1 = re.compile(r"s1[a-d]-(\w+)-(grd|slc)\w?-(?P<band>vv|vh|hh|hv)-.+", re.IGNORECASE)


def _known(paths: Sequence[str], all_of: bool = False) -> Product | None:
    """The product that the names of files tell, None where they tell none.

    Other files are left out; with ``all_of`` they raise EarthGPTError.
    """
    stems = [(path, Path(path).stem) for path in paths]
    for pattern, read in ((_LANDSAT, _landsat), (_SENTINEL2, _sentinel2), (_SENTINEL1, _sentinel1)):
        found = [(path, match) for path, stem in stems if (match := pattern.fullmatch(stem))]
        if found:
            scenes = sorted({match.string[: match.start(match.re.groupindex["band"])] for _, match in found})
            if len(scenes) > 1 and pattern is not _SENTINEL1:
                raise EarthGPTError(f"These are bands of several scenes: {', '.join(scenes)}; name the files of one.")
            if all_of and len(found) < len(paths):
                taken = {path for path, _ in found}
                others = ", ".join(path for path in paths if path not in taken)
                raise EarthGPTError(f"These are bands of {scenes[0].rstrip('_-')} and {others}; name its bands alone.")
            return read(found)
    return None


def _landsat(files: Sequence[tuple[str, re.Match]]) -> Product:
    """Landsat, one file a band. Level 2 of Collection 2 has scales that its files do not name: reflectance is
    0.0000275 DN - 0.2, kelvin 0.00341802 DN + 149, 0 is nodata (USGS, Landsat 8-9 Collection 2 Level 2 Science Product
    Guide, 6.2 and 6.3).
    """
    bands, level2 = [], False
    for path, match in files:
        letters, satellite, _, kind, number = match.groups()
        table = OLI if int(satellite) >= 8 else TM
        if letters.upper() == "LM":
            table = MSS_FIRST if int(satellite) <= 3 else MSS
        name = f"B{int(number)}"
        wave = table.get(name)
        scale, offset, nodata = 1.0, 0.0, None
        if kind:
            level2 = True
            scale, offset = (0.0000275, -0.2) if kind.upper() == "SR" else (0.00341802, 149.0)
            nodata = 0.0
        bands.append(Band(path, 1, name, colour_of(wave), wave, scale, offset, nodata))
    bands.sort(key=lambda band: int(band.name[1:]))
    units = ("reflectance", "kelvin") if level2 else (None, None)
    return Product(tuple(bands), Sensor.OPTICAL, f"Landsat {satellite} by its file names", *units)


def _sentinel2(files: Sequence[tuple[str, re.Match]]) -> Product:
    """Sentinel-2, one file a band; of a band in several resolutions the finest. Reflectance is (DN + offset) / 10,000;
    the offset is -1,000 since processing baseline 04.00 of January 2022, before it none, and 0 is nodata (ESA,
    Sentinel-2 Products Specification Document, 4.9; its file MTD_MSIL2A.xml or MTD_MSIL1C.xml has the numbers).
    """
    finest: dict[str, tuple[int, str]] = {}
    for path, match in files:
        name, resolution = match[1].upper(), int(match[2] or 0)
        name = name if name == "B8A" else f"B{int(name[1:])}"
        if name not in finest or resolution < finest[name][0]:
            finest[name] = resolution, path
    scale, offset, note = _sentinel2_scale(Path(files[0][0]))
    bands = [
        Band(path, 1, name, "" if name == "B8A" else colour_of(MSI.get(name)), MSI.get(name), scale, offset, 0.0)
        for name, (_, path) in finest.items()
    ]
    bands.sort(key=lambda band: list(MSI).index(band.name) if band.name in MSI else 99)
    return Product(tuple(bands), Sensor.OPTICAL, "Sentinel-2 by its file names", "reflectance", None, note)


def _sentinel2_scale(path: Path) -> tuple[float, float, tuple[str, ...]]:
    """Scale and offset of a product's reflectance."""
    for folder in list(path.parents)[:5]:
        for file in sorted(folder.glob("MTD_MSIL*.xml")):
            text = file.read_text(encoding="utf-8", errors="replace")
            quantum = re.search(r"<(?:BOA_)?QUANTIFICATION_VALUE[^>]*>([\d.]+)<", text)
            offset = re.search(r"<(?:BOA|RADIO)_ADD_OFFSET [^>]*>(-?[\d.]+)<", text)
            scale = 1 / float(quantum[1]) if quantum else 1e-4
            return scale, float(offset[1]) * scale if offset else 0.0, ()
    baseline = re.search(r"_N(\d{4})_", str(path))
    if baseline:
        return 1e-4, -0.1 if int(baseline[1]) >= 400 else 0.0, ()
    return 1e-4, 0.0, ("The processing baseline is not known: reflectance may be 0.1 too high (products since 2022).",)


def _sentinel1(files: Sequence[tuple[str, re.Match]]) -> Product:
    """Sentinel-1, one file a polarisation. Values are uncalibrated digital numbers, proportional to amplitude but for a
    slow change across the swath; 0 is the border (ESA, Sentinel-1 Product Specification, S1-RS-MDA-52-7441).
    """
    modes = sorted({match[1].lower() for _, match in files})
    if len(modes) > 1:
        named = ", ".join(Path(path).name for path, _ in files)
        raise EarthGPTError(f"The product has the swaths {', '.join(modes)}; name one file of them: {named}.")
    order = ("VV", "HH", "VH", "HV")
    bands = [Band(path, 1, match[3].upper(), nodata=0.0) for path, match in files]
    bands.sort(key=lambda band: order.index(band.name))
    kind = files[0][1][2].upper()
    notes = ("Values are not calibrated: digital numbers, proportional to amplitude.",)
    return Product(
        tuple(bands), Sensor.SAR, f"Sentinel-1 {modes[0].upper()} {kind} by its file names", "amplitude", notes=notes
    )


def colour_of(wavelength_nm: float | None) -> str:
    """The word of ``COLOURS`` for a wavelength, "" for none."""
    if wavelength_nm is None:
        return ""
    near = min(COLOURS, key=lambda word: abs(COLOURS[word] - wavelength_nm))
    return near if abs(COLOURS[near] / wavelength_nm - 1) <= NEAR else ""


def bands_of(dataset: Any, path: str, prefix: str = "") -> tuple[Band, ...]:
    """The bands of an open rasterio dataset but its alpha: names from descriptions and colours, wavelengths from tags.

    ``prefix`` is the name of a single band that has none, and stands before the numbers of several.
    """
    from rasterio.enums import ColorInterp

    colours = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}
    found = []
    for i, kind in enumerate(dataset.colorinterp):
        if i == alpha_of(dataset):
            continue
        wave = _wavelength(dataset, i + 1)
        description = (dataset.descriptions[i] or "").strip()
        # A description says more: most drivers call the first of three bands red.
        colour = _word(description) or colours.get(kind, "") or colour_of(wave)
        number = f"{prefix} {i + 1}".strip() if dataset.count > 1 else prefix or "1"
        name = description or (colour if kind in colours else number)
        if wave is None and colour == "thermal":
            wave = float(COLOURS["thermal"])
        found.append(Band(path, i + 1, name, colour, wave, dataset.scales[i], dataset.offsets[i]))
    return tuple(found)


def alpha_of(dataset: Any) -> int | None:
    """Which band, from 0, is transparency; None for none. GDAL takes the fourth of four 8-bit bands for it unless it is
    told otherwise, near infrared too: a band that is described as something else is not.
    """
    from rasterio.enums import ColorInterp

    for i, kind in enumerate(dataset.colorinterp):
        described = (dataset.descriptions[i] or "alpha").lower()
        if kind is ColorInterp.alpha and ("alpha" in described or "mask" in described):
            return i
    return None


def _word(text: str) -> str:
    """The colour that a description names."""
    text = text.lower()
    text = _OTHER_WORDS.get(text, text)
    return text if text in COLOURS else ""


def _wavelength(dataset: Any, number: int) -> float | None:
    """The middle of a band in nanometres, as GDAL's IMAGERY domain or ENVI's header has it."""
    if micrometres := dataset.tags(number, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM"):
        return float(micrometres) * 1000
    tags = {key.lower(): value for key, value in dataset.tags(number).items()}
    try:
        value = float(tags.get("wavelength", ""))
    except ValueError:
        return None
    unit = tags.get("wavelength_units", "").lower()
    return value if unit.startswith("nano") or (not unit and value > 100) else value * 1000


def choose(bands: Sequence[Band], asked: str | Sequence[str | int] | None, name: str) -> tuple[Band, ...]:
    """One or three bands, by number from 1, name, colour or wavelength ("665nm", "0.665um").

    Raises EarthGPTError, with what there is, for a band that is not there and for another count.
    """
    if isinstance(asked, int):
        asked = [asked]
    words = [str(word).strip() for word in (asked.split(",") if isinstance(asked, str) else asked)]
    found = tuple(_find(bands, word, name) for word in words)
    if len(found) not in (1, 3):
        raise EarthGPTError(f"One band is shown, or three as red, green and blue; not {len(found)}.")
    return found


def _find(bands: Sequence[Band], word: str, name: str) -> Band:
    plain = word.lower()
    plain = _OTHER_WORDS.get(plain, plain)
    short = re.sub(r"^b0*(?=\d)", "b", plain)  # B04 is B4
    for band in bands:
        if plain in (band.name.lower(), band.colour) or short == band.name.lower():
            return band
    if plain.isdigit() and 1 <= int(plain) <= len(bands):
        return bands[int(plain) - 1]
    if wave := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(nm|um|µm)", plain):
        middle = float(wave[1]) * (1 if wave[2] == "nm" else 1000)
        known = [band for band in bands if band.wavelength_nm is not None]
        if known:
            near = min(known, key=lambda band: abs(band.wavelength_nm - middle))
            if abs(near.wavelength_nm / middle - 1) <= NEAR:
                return near
    there = ", ".join(_said(i + 1, band) for i, band in enumerate(bands))
    raise EarthGPTError(f"{name} has the bands {there}; {word!r} is not among them.")


def _said(number: int, band: Band) -> str:
    text = str(number) if band.name == str(number) else f"{number} {band.name}"
    text += f" {band.colour}" if band.colour and band.colour != band.name.lower() else ""
    return text + (f" {band.wavelength_nm:g} nm" if band.wavelength_nm else "")


def shown(bands: Sequence[Band], sensor: Sensor | None) -> tuple[tuple[Band, ...], str]:
    """The bands that are shown where none are asked for, and a note, "" for what needs none.

    Optical: red, green and blue by name or wavelength; else the first three; one alone is grey. SAR: the first, which
    is the co-polarised one. Infrared: the thermal one, else the first.
    """
    by_colour = {band.colour: band for band in reversed(bands) if band.colour}
    if sensor is Sensor.INFRARED:
        return (by_colour.get("thermal", bands[0]),), ""
    if sensor is Sensor.SAR:
        first = next((band for band in bands if band.name.upper() in ("VV", "HH")), bands[0])
        return (first,), "" if len(bands) == 1 else f"Of {len(bands)} bands {first.name} is shown; choose with bands."
    if all(colour in by_colour for colour in ("red", "green", "blue")):
        return tuple(by_colour[colour] for colour in ("red", "green", "blue")), ""
    if len(bands) >= 3:
        taken = tuple(bands[:3])
        names = ", ".join(band.name for band in taken)
        return (
            taken,
            f"The bands have no colours: {names} are shown as red, green and blue; choose with bands.",
        )
    return (bands[0],), "" if len(bands) == 1 else f"Of 2 bands {bands[0].name} is shown; choose with bands."
