"""JPEG 2000, JPEG XL, and the previews of camera raw files, with and without their libraries."""

from __future__ import annotations

import csv
import io
import struct
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from command_line import run_veduta
from PIL import Image

from veduta import photos
from veduta.errors import BrokenPhoto, NotAPhoto, PhotoTooLarge, UnsupportedFormat
from veduta.photos import jpeg_2000, jpeg_xl
from veduta.photos.formats import sniff

SAMPLES = Path(__file__).parent / "photos"
WIDTH, HEIGHT = 321, 243


def picture(mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    image = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return image.convert(mode)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(int) - expected).mean())


# JPEG 2000 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (64, 64)}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_jpeg_2000(mode: str, options: dict[str, object]) -> None:
    data = encoded("JPEG2000", picture(mode), **options)
    assert sniff(data[:64]) == "JPEG2000"
    photo = photos.decode(data, path="a.jp2")
    assert (photo.format, photo.width, photo.height) == ("JPEG2000", WIDTH, HEIGHT)
    assert difference(photo.pixels, np.asarray(picture(mode).convert("RGB"))) == 0


def test_deep_grey_of_jpeg_2000() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (40, 1))
    pixels = photos.decode(encoded("JPEG2000", Image.fromarray(ramp)), path="a.jp2").pixels
    assert np.abs(pixels[:, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("size", [(320, 240), (321, 243)])
@pytest.mark.parametrize("at_least", [300, 160, 100, 40, 10, 1])
def test_jpeg_2000_is_decoded_smaller(size: tuple[int, int], at_least: int) -> None:
    image = picture().crop((0, 0, *size))
    data = encoded("JPEG2000", image, num_resolutions=4)
    assert jpeg_2000.max_halvings(data) == 3
    photo = photos.decode(data, path="a.jp2", at_least=at_least)
    assert (photo.width, photo.height) == size
    rows, columns = photo.pixels.shape[:2]
    assert at_least <= columns <= max(2 * at_least, 2)
    if at_least >= 100:
        small = image.resize((columns, rows), Image.Resampling.BOX)
        assert difference(photo.pixels, np.asarray(small)) < 12


def test_how_often_pillow_can_halve_a_jpeg_2000() -> None:
    assert jpeg_2000.halvings(8000, 6000, 5) == 5
    assert jpeg_2000.halvings(321, 243, 5) == 1
    assert jpeg_2000.halvings(321, 243, 0) == 0


def test_jpeg_2000_cut_short_or_enormous() -> None:
    data = encoded("JPEG2000", picture())
    for share in (0.3, 0.9, 0.99):
        with pytest.raises(BrokenPhoto):
            photos.decode(data[: int(len(data) * share)], path="a.jp2")
    stream = data.index(b"\xff\x4f\xff\x51") + 8
    header = data.index(b"ihdr") + 4
    sizes = struct.pack(">II", 40_000, 40_000)
    large = data[:header] + sizes + data[header + 8 : stream] + sizes + data[stream + 8 :]
    with pytest.raises(PhotoTooLarge, match="40000 × 40000"):
        photos.decode(large, path="a.jp2")


# JPEG XL -----------------------------------------------------------------------------------------


def jxl(values: np.ndarray, **options: object) -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    data: bytes = codecs.jpegxl_encode(values, **options)
    return data


def test_a_jpeg_xl_of_another_program() -> None:
    pytest.importorskip("imagecodecs")
    photo = photos.load(SAMPLES / "jpeg_xl.jxl")
    assert (photo.format, photo.width, photo.height) == ("JXL", 160, 120)
    same = photos.load(SAMPLES / "jpeg_2000.jp2")
    assert difference(photo.pixels, same.pixels) < 4


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("at_least", [None, 80])
def test_jpeg_xl(mode: str, at_least: int | None) -> None:
    values = np.asarray(picture(mode))
    photo = photos.decode(jxl(values, lossless=True), path="a.jxl", at_least=at_least)
    assert (photo.format, photo.width, photo.height) == ("JXL", WIDTH, HEIGHT)
    expected = picture(mode).convert("RGB")
    if at_least:
        expected = expected.reduce(WIDTH // at_least)
    assert difference(photo.pixels, np.asarray(expected)) < 0.6


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_deep_jpeg_xl(mode: str) -> None:
    values = np.asarray(picture(mode))
    expected = np.asarray(picture(mode).convert("RGB"))
    deep = photos.decode(jxl(values.astype(np.uint16) * 257, lossless=True), path="a.jxl")
    assert difference(deep.pixels, expected) == 0
    floating = jxl(values.astype(np.float32) / 255, lossless=True)
    assert difference(photos.decode(floating, path="a.jxl").pixels, expected) < 1


@pytest.mark.parametrize(
    ("width", "height"), [(8, 8), (256, 256), (640, 480), (480, 640), (1920, 1080), (300, 7)]
)
def test_the_size_in_the_header_of_a_jpeg_xl(width: int, height: int) -> None:
    data = jxl(np.zeros((height, width, 3), np.uint8), effort=1)
    header = jpeg_xl.read_header(data)
    assert (header.width, header.height, header.extra_channels) == (width, height, 0)
    with_alpha = jpeg_xl.read_header(jxl(np.zeros((height, width, 4), np.uint8), effort=1))
    assert with_alpha.extra_channels == 1
    deep = jpeg_xl.read_header(jxl(np.zeros((height, width), np.uint16), effort=1))
    assert (deep.width, deep.height) == (width, height)


def test_an_enormous_jpeg_xl_is_refused_by_its_header() -> None:
    # One bit for a size in pixels; 30 bits for the height; ratio 1:1; all else as usual.
    bits = 0 | 3 << 1 | 39_999 << 3 | 1 << 33 | 1 << 36
    data = b"\xff\x0a" + bits.to_bytes(8, "little")
    header = jpeg_xl.read_header(data)
    assert (header.width, header.height) == (40_000, 40_000)
    with pytest.raises(PhotoTooLarge, match="40000 × 40000"):
        photos.decode(data, path="a.jxl")


def test_a_jpeg_xl_cut_short() -> None:
    data = jxl(np.asarray(picture()))
    for length in (20, len(data) // 2, len(data) - 9):
        with pytest.raises(BrokenPhoto, match="the JXL data are cut short"):
            photos.decode(data[:length], path="a.jxl")


# Camera raw --------------------------------------------------------------------------------------


def directory(at: int, entries: dict[int, tuple[int, list[int]]]) -> bytes:
    """Return a directory of a little-endian TIFF that is to stand at the position `at`."""
    letters = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 10: "i"}
    table, values = b"", b""
    for tag, (kind, numbers) in sorted(entries.items()):
        body = struct.pack(f"<{len(numbers)}{letters[kind]}", *numbers)
        if len(body) > 4:
            place = at + 2 + 12 * len(entries) + 4 + len(values)
            values += body + b"\0" * (len(body) % 2)
            body = struct.pack("<I", place)
        count = len(numbers) // 2 if kind in (5, 10) else len(numbers)
        table += struct.pack("<HHI", tag, kind, count) + body.ljust(4, b"\0")
    return struct.pack("<H", len(entries)) + table + b"\0\0\0\0" + values


def dng(preview: bytes, width: int, height: int, orientation: int = 1) -> bytes:
    """Return a DNG 1.4 of 64 × 48 sensor values with a JPEG as its preview."""
    inner_at, preview_at = 1200, 2000
    preview += b"\0" * (len(preview) % 2)
    sensor = (np.arange(64 * 48) % 4096).astype("<u2").tobytes()
    main = directory(8, {
        254: (4, [1]), 256: (4, [width]), 257: (4, [height]), 258: (3, [8, 8, 8]), 259: (3, [7]),
        262: (3, [6]), 271: (2, list(b"Maker\0")), 272: (2, list(b"Model\0")),
        273: (4, [preview_at]), 274: (3, [orientation]), 277: (3, [3]), 278: (4, [height]),
        279: (4, [len(preview)]), 284: (3, [1]), 306: (2, list(b"2021:03:04 05:06:07\0")),
        330: (4, [inner_at]), 50706: (1, [1, 4, 0, 0]), 50707: (1, [1, 1, 0, 0]),
        50708: (2, list(b"Maker Model\0")), 50728: (5, [1] * 6), 50778: (3, [21]),
        50721: (10, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
    })  # fmt: skip
    inner = directory(inner_at, {
        254: (4, [0]), 256: (4, [64]), 257: (4, [48]), 258: (3, [16]), 259: (3, [1]),
        262: (3, [32803]), 273: (4, [preview_at + len(preview)]), 277: (3, [1]), 278: (4, [48]),
        279: (4, [len(sensor)]), 284: (3, [1]), 33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2]),
        50714: (3, [0]), 50717: (4, [4095]),
    })  # fmt: skip
    data = (b"II*\0" + struct.pack("<I", 8) + main).ljust(inner_at, b"\0") + inner
    return data.ljust(preview_at, b"\0") + preview + sensor


PREVIEW = encoded("JPEG", picture(), quality=95)


@pytest.mark.parametrize("at_least", [None, 100])
def test_the_preview_of_a_raw_file_is_its_photo(at_least: int | None) -> None:
    pytest.importorskip("rawpy")
    photo = photos.decode(dng(PREVIEW, WIDTH, HEIGHT), path="a.dng", at_least=at_least)
    preview = photos.decode(PREVIEW, path="a.jpg", at_least=at_least)
    assert (photo.format, photo.width, photo.height) == ("RAW", WIDTH, HEIGHT)
    assert photo.taken == datetime(2021, 3, 4, 5, 6, 7)
    assert np.array_equal(photo.pixels, preview.pixels)


@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, -1), (8, 1)])
def test_a_preview_is_turned_upright(orientation: int, quarters: int) -> None:
    pytest.importorskip("rawpy")
    photo = photos.decode(dng(PREVIEW, WIDTH, HEIGHT, orientation), path="a.dng")
    expected = np.rot90(photos.decode(PREVIEW, path="a.jpg").pixels, quarters)
    assert np.array_equal(photo.pixels, expected)
    assert (photo.height, photo.width) == expected.shape[:2]


def test_an_enormous_preview_is_refused() -> None:
    pytest.importorskip("rawpy")
    at = PREVIEW.index(b"\xff\xc0") + 5
    large = PREVIEW[:at] + struct.pack(">HH", 40_000, 40_000) + PREVIEW[at + 4 :]
    with pytest.raises(PhotoTooLarge, match="40000 × 40000"):
        photos.decode(dng(large, WIDTH, HEIGHT), path="a.dng")


@pytest.mark.parametrize(
    "head",
    [b"FUJIFILMCCD-RAW ", b"IIRO", b"IIU\0", b"II*\0\x10\0\0\0CR", b"\0\0\0\x18ftypcrx ", b"FOVb"],
)
def test_raw_files_are_known_by_their_first_bytes(head: bytes) -> None:
    data = head.ljust(3000, b"\0")
    assert sniff(data[:64]) == "RAW"
    with pytest.raises((UnsupportedFormat, BrokenPhoto)) as caught:
        photos.decode(data, path="a.raw")
    assert not isinstance(caught.value, NotAPhoto)


# Without the extra -------------------------------------------------------------------------------


def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("imagecodecs", "rawpy"):
        monkeypatch.setitem(sys.modules, name, None)


def test_what_needs_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_extra(monkeypatch)
    files = {
        "a JPEG XL image": (SAMPLES / "jpeg_xl.jxl").read_bytes(),
        "a camera raw file": dng(PREVIEW, WIDTH, HEIGHT),
    }
    for words, data in files.items():
        with pytest.raises(UnsupportedFormat) as caught:
            photos.decode(data, path="a.jxl")
        assert not isinstance(caught.value, NotAPhoto)
        assert words in caught.value.reason
        assert "pip install 'veduta[formats]'" in caught.value.reason
    assert photos.load(SAMPLES / "jpeg_2000.jp2").format == "JPEG2000"


def test_the_extra_that_is_named_exists() -> None:
    import tomllib

    project = tomllib.loads((SAMPLES.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    names = {line.partition(">")[0] for line in project["optional-dependencies"]["formats"]}
    assert names == {"imagecodecs", "rawpy"}


@pytest.mark.slow
def test_files_that_need_the_extra_are_listed_counted_and_kept(tmp_path: Path) -> None:
    """The libraries are hidden from the program by empty files in their place."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture().save(folder / "a.png")
    (folder / "real.jxl").write_bytes((SAMPLES / "jpeg_xl.jxl").read_bytes())
    (folder / "jxl.jpg").write_bytes((SAMPLES / "jpeg_xl.jxl").read_bytes())
    (folder / "b.dng").write_bytes(dng(PREVIEW, WIDTH, HEIGHT))
    (folder / "c.jp2").write_bytes((SAMPLES / "jpeg_2000.jp2").read_bytes())
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("imagecodecs", "rawpy"):
        (hidden / f"{name}.py").write_text(f"raise ImportError('no {name}')\n", "utf-8")
    from command_line import environment

    without = environment(tmp_path) | {"PYTHONPATH": str(hidden)}
    indexed = run_veduta(tmp_path, "index", folder, env=without)
    assert indexed.returncode == 0
    assert "2 added" in indexed.stdout and "3 files could not be read" in indexed.stdout
    out = tmp_path / "odd.csv"
    arguments = ("clean", folder, "--only", "unsupported", "--only", "not-a-photo", "--out", out)
    assert run_veduta(tmp_path, *arguments, env=without).returncode == 1
    with out.open(newline="", encoding="utf-8") as file:
        rows = {row["path"]: (row["kind"], row["suggestion"]) for row in csv.DictReader(file)}
    assert rows == dict.fromkeys(("real.jxl", "jxl.jpg", "b.dng"), ("unsupported", "keep"))
