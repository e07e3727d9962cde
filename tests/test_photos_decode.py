"""Bytes to pixels: every format, every way up, every layout, and everything that is wrong."""

from __future__ import annotations

import base64
import io
import itertools
import logging
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from test_further_formats import dng

from veduta import photos
from veduta.errors import (
    BrokenPhoto,
    PhotoError,
    PhotoTooLarge,
    PhotoUnreadable,
    UnsupportedFormat,
)
from veduta.photos import jpeg
from veduta.photos.exif import read_exif
from veduta.photos.formats import describe_bytes, sniff
from veduta.photos.pillow_warnings import logged_warnings

# Six blocks of 32 pixels, no two alike: each of the eight ways up gives another picture.
BLOCKS = [
    [(220, 40, 40), (40, 200, 40), (40, 40, 220)],
    [(230, 230, 40), (40, 220, 220), (30, 30, 30)],
]
UPRIGHT = np.kron(np.array(BLOCKS, np.uint8), np.ones((32, 32, 1), np.uint8))

# How the pixels of UPRIGHT are stored under each orientation, written out from the standard's
# "row 0 is the visual …, column 0 is the visual …".
STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.transpose(1, 0, 2),  # left, top
    6: np.rot90(UPRIGHT, 1),  # right, top
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),  # right, bottom
    8: np.rot90(UPRIGHT, -1),  # left, bottom
}

# UPRIGHT as a HEIC file, stored turned, with the property `irot` (270 degrees) that undoes it, an
# Exif orientation of 6 that repeats it, and a date. No HEIC encoder is among the dependencies.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAaBtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAABxAABAAAAAAAAAFkAAgAAAAACHQABAAAAAAAAAFYAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA"
    "32lwcnAAAAC/aXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAAD"
    "AAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEEDCy3UklNc3AQ0GBAAADABkAAAMAAQhiAAEACEQBwXKGDAIk"
    "AAAAE2NvbHJuY2x4AAEADQAGgAAAABRpc3BlAAAAAAAAAEAAAABgAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAA"
    "ABhpcG1hAAAAAAAAAAEAAQWBAgMEhQAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAAAt21kYXQAAABVKAGvBPhB"
    "Mmnb/9WH/5H+YxH//xaGGEH+GlR//wv+5v2huQj3/aV///4+sD/8N9JOZv8wKWH4jG//w+1d+tfxvxD+uNFf+1IR"
    "jdfrIegf4Tk9n5iFXAAAAAZFeGlmAABNTQAqAAAACAACARIAAwAAAAEABgAAh2kABAAAAAEAAAAmAAAAAAABkAMA"
    "AgAAABQAAAA4AAAAADIwMjE6MDM6MDQgMDU6MDY6MDcA"
)


def encoded(kind: str, image: Image.Image | np.ndarray, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif_with(orientation: int = 1, **dates: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "maker"  # Pillow drops a block whose main directory is empty
    exif[0x0112] = orientation
    if "changed" in dates:
        exif[0x0132] = dates["changed"]
    inner = exif.get_ifd(0x8769)
    if "original" in dates:
        inner[0x9003] = dates["original"]
    if "digitized" in dates:
        inner[0x9004] = dates["digitized"]
    return exif


def assert_close(pixels: np.ndarray, expected: np.ndarray, mean: float = 3.0) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < mean


# The way up ------------------------------------------------------------------------------------

LOSSY = {"quality": 95, "subsampling": "4:4:4"}
OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": LOSSY,
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": LOSSY,
    "TIFF": {},
}


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format_comes_out_upright(kind: str, orientation: int) -> None:
    data = encoded(kind, STORED[orientation], exif=exif_with(orientation), **OPTIONS[kind])
    photo = photos.decode(data, path="turned")
    assert (photo.format, photo.width, photo.height) == (kind, 96, 64)
    assert_close(photo.pixels, UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_compressed_tiff_is_turned_once(orientation: int, compression: str) -> None:
    data = encoded(
        "TIFF", STORED[orientation], exif=exif_with(orientation), compression=compression
    )
    photo = photos.decode(data, path="turned")
    assert (photo.width, photo.height) == (96, 64)
    assert_close(photo.pixels, UPRIGHT, mean=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_jpeg_is_turned_too(orientation: int) -> None:
    large = np.kron(STORED[orientation], np.ones((8, 8, 1), np.uint8))
    data = encoded("JPEG", large, exif=exif_with(orientation), **LOSSY)
    photo = photos.decode(data, path="turned", at_least=96)
    assert (photo.width, photo.height) == (768, 512)
    assert_close(photo.pixels, UPRIGHT)


@pytest.mark.parametrize("quarters", range(4))
def test_heic_is_turned_once_by_its_own_property(quarters: int) -> None:
    assert HEIC.count(b"irot\x03") == 1
    data = HEIC.replace(b"irot\x03", b"irot" + bytes([quarters]))
    photo = photos.decode(data, path="a.heic")
    # irot counts quarters counter-clockwise; the file is stored as UPRIGHT turned once that way.
    expected = np.rot90(UPRIGHT, quarters + 1)
    assert_close(photo.pixels, expected)
    assert (photo.format, photo.width, photo.height) == ("HEIF", *expected.shape[1::-1])
    assert photo.taken == datetime(2021, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    data = encoded("JPEG", UPRIGHT, exif=exif_with(orientation), **LOSSY)
    assert_close(photos.decode(data, path="x").pixels, UPRIGHT)


# When it was taken -------------------------------------------------------------------------------

A, B, C = "2001:02:03 04:05:06", "2002:02:03 04:05:06", "2003:02:03 04:05:06"


@pytest.mark.parametrize(
    ("dates", "year"),
    [
        ({"original": A, "digitized": B, "changed": C}, 2001),
        ({"digitized": B, "changed": C}, 2002),
        ({"changed": C}, 2003),
        ({"original": "0000:00:00 00:00:00", "digitized": B}, 2002),
        ({"original": "    :  :     :  :  "}, None),
        ({"original": "2001:02:30 04:05:06"}, None),  # no such day
        ({"original": "2001:02:03 25:05:06"}, None),
        ({"original": "2001-02-03 04:05:06"}, 2001),
        ({"original": "1801:02:03 04:05:06"}, None),  # before photography
        ({"original": "9999:02:03 04:05:06"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("kind", OPTIONS)
def test_taken(kind: str, dates: dict[str, str], year: int | None) -> None:
    exif = exif_with(**dates)
    options = {"exif": exif, **OPTIONS[kind]}
    if kind == "TIFF":  # Pillow writes inner directories only from here
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.update(dict(exif))
        tags[0x8769] = dict(exif.get_ifd(0x8769))
        options = {"tiffinfo": tags}
    data = encoded(kind, UPRIGHT, **options)
    expected = None if year is None else datetime(year, 2, 3, 4, 5, 6)
    assert photos.decode(data, path="dated").taken == expected


def test_a_clock_a_little_fast_is_believed_and_one_far_ahead_is_not() -> None:
    for ahead, believed in ((timedelta(hours=20), True), (timedelta(days=4), False)):
        date = (datetime.now() + ahead).strftime("%Y:%m:%d %H:%M:%S")
        data = encoded("JPEG", UPRIGHT, exif=exif_with(original=date))
        assert (photos.decode(data, path="x").taken is not None) is believed


def test_exif_of_both_byte_orders() -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        block = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
        assert read_exif(block).orientation == 8
        assert read_exif(b"Exif\0\0" + block).orientation == 8


def test_any_cut_or_damage_of_an_exif_block_is_harmless() -> None:
    block = exif_with(6, original=A, digitized=B, changed=C).tobytes()
    assert read_exif(block).orientation == 6
    for length in range(len(block)):
        read_exif(block[:length])
    randomly = random.Random(3)
    for _ in range(2000):
        damaged = bytearray(block)
        for _ in range(randomly.randrange(1, 5)):
            damaged[randomly.randrange(len(damaged))] = randomly.randrange(256)
        exif = read_exif(bytes(damaged))
        assert 1 <= exif.orientation <= 8
        assert exif.taken is None or exif.taken.year >= 1826


# Formats -----------------------------------------------------------------------------------------


def test_format_is_told_by_content_whatever_the_name() -> None:
    for kind, options in {**OPTIONS, "GIF": {}, "BMP": {}}.items():
        data = encoded(kind, UPRIGHT, **options)
        assert sniff(data[:64]) == kind
        assert photos.decode(data, path="wrong.txt").format == kind
    assert sniff(HEIC[:64]) == "HEIF"


@pytest.mark.parametrize(
    ("major", "compatible", "expected"),
    [
        (b"heic", [b"mif1"], "HEIF"),
        (b"mif1", [b"mif1", b"heic"], "HEIF"),
        (b"mif1", [b"miaf", b"avif"], "AVIF"),
        (b"avif", [b"mif1"], "AVIF"),
        (b"isom", [b"avc1", b"mp41"], None),
        (b"qt  ", [], None),
    ],
)
def test_brands(major: bytes, compatible: list[bytes], expected: str | None) -> None:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    assert sniff(struct.pack(">I", 4 + len(body)) + body) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- a -->\n<svg/>", "an SVG drawing"),
        (b"\xef\xbb\xbf <!DOCTYPE html><p>Not found", "an HTML page"),
        (b"<HTML><body>404", "an HTML page"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04rest", "a ZIP archive or office document"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\0" * 500, "a file filled with zeros"),
        (b"BMW is a maker of cars, and this is text", "text"),
        (b"P6 3 2 255 ......", "a PNM image"),
        (b"\0\0\0\x20ftypisom", "a video"),
        (b"RIFF\0\0\0\0WAVE", "a RIFF file (sound or video)"),
        (b"\x01\x02\x03", "bytes of no known format"),
        ("fotografía".encode(), "text"),
    ],
)
def test_what_is_no_photo_is_called_by_its_name(data: bytes, words: str) -> None:
    assert describe_bytes(data) == words
    with pytest.raises(UnsupportedFormat, match=r"holiday\.jpg") as caught:
        photos.decode(data, path="holiday.jpg")
    assert words in caught.value.reason


def test_camera_raw_is_refused_and_not_taken_for_its_small_preview() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\x01\x04\x00\x00"
    tags.tagtype[50706] = 1
    data = encoded("TIFF", UPRIGHT, tiffinfo=tags)
    with pytest.raises(UnsupportedFormat, match="camera raw"):
        photos.decode(data, path="a.dng")


def test_first_frame_of_animations_and_first_page() -> None:
    second = Image.fromarray(255 - UPRIGHT)
    for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(kind, UPRIGHT, save_all=True, append_images=[second], **options)
        assert_close(photos.decode(data, path="moving").pixels, UPRIGHT, mean=5)


# Layouts -----------------------------------------------------------------------------------------

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_the_high_byte(kind: str) -> None:
    data = encoded(kind, Image.fromarray(RAMP.astype(np.uint16) * 257))
    pixels = photos.decode(data, path="deep").pixels
    assert np.array_equal(pixels, np.dstack([RAMP] * 3))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 200.0]], np.float32), [0, 100, 200]),
        (np.array([[0.0, np.nan, np.inf]], np.float32), [0, 0, 0]),
        (np.array([[1e6, 2e6, 3e6]], np.float32), [0, 128, 255]),
        (np.array([[7e9, 7e9, 7e9]], np.float32), [0, 0, 0]),
    ],
)
def test_deep_grey_of_unknown_range(values: np.ndarray, expected: list[int]) -> None:
    pixels = photos.decode(encoded("TIFF", Image.fromarray(values)), path="deep").pixels
    assert np.abs(pixels[0, :, 0].astype(int) - expected).max() <= 1
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_transparent_parts_are_white() -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, 0] = (200, 0, 0, 255)
    rgba[0, 1] = (200, 0, 0, 128)  # 200·128/255 + 255·127/255 = 227.4; 0 + 127 = 127
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        pixels = photos.decode(encoded(kind, rgba, **options), path="clear").pixels
        assert pixels[0, 0].tolist() == [200, 0, 0]
        assert np.abs(pixels[0, 1].astype(int) - [227, 127, 127]).max() <= 1
        assert pixels[0, 2].tolist() == [255, 255, 255]
        assert pixels[1].min() == 255
    grey = Image.fromarray(rgba).convert("LA")
    assert photos.decode(encoded("PNG", grey), path="la").pixels[1].min() == 255


def test_palette_with_transparent_entries() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    for kind in ("PNG", "GIF"):
        for clear in (1, b"\xff\x00\xff") if kind == "PNG" else (1,):
            data = encoded(kind, image, transparency=clear)
            assert photos.decode(data, path="p").pixels[0].tolist() == expected
    assert photos.decode(encoded("PNG", image), path="p").pixels[0, 1].tolist() == [40, 50, 60]


def test_transparent_colour_of_rgb_and_grey_png() -> None:
    for image, clear in (
        (Image.new("RGB", (4, 4), (9, 9, 9)), (9, 9, 9)),
        (Image.new("L", (4, 4), 9), 9),
    ):
        data = encoded("PNG", image, transparency=clear)
        for at_least in (None, 1):
            assert photos.decode(data, path="key", at_least=at_least).pixels.min() == 255


def test_one_bit_grey_and_four_colours() -> None:
    bits = Image.fromarray(np.array([[0, 255, 0, 255]], np.uint8)).convert("1")
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        pixels = photos.decode(encoded(kind, bits), path="bits").pixels
        assert pixels[0, :, 1].tolist() == [0, 255, 0, 255]
    grey = photos.decode(encoded("JPEG", Image.fromarray(RAMP), quality=100), path="grey").pixels
    assert_close(grey, np.dstack([RAMP] * 3), mean=1)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("at_least", [None, 48])
def test_cmyk(kind: str, at_least: int | None) -> None:
    image = Image.fromarray(UPRIGHT).convert("CMYK")
    options = LOSSY if kind == "JPEG" else {}
    pixels = photos.decode(encoded(kind, image, **options), path="cmyk", at_least=at_least).pixels
    assert_close(pixels, UPRIGHT[::2, ::2] if at_least else UPRIGHT)


def test_ycck() -> None:
    # Inks of 200, 100, 50 and 0 of 255 print as RGB 55, 155, 205. Adobe's YCCK holds them as the
    # YCbCr of an RGB of 200, 100, 50; Pillow inverts what it writes, so it is given the inverse.
    ycc = Image.new("RGB", (32, 32), (200, 100, 50)).convert("YCbCr").getpixel((0, 0))
    assert isinstance(ycc, tuple)
    image = Image.new("CMYK", (32, 32), (255 - ycc[0], 255 - ycc[1], 255 - ycc[2], 0))
    data = encoded("JPEG", image, **LOSSY)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0  # CMYK; 2 is YCCK
    data = data[:transform] + b"\x02" + data[transform + 1 :]
    expected = np.full((32, 32, 3), (55, 155, 205))
    assert_close(photos.decode(data, path="ycck").pixels, expected, mean=2)


def test_lab_and_ycbcr_tiff() -> None:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(Image.fromarray(UPRIGHT), transform)
    assert lab is not None
    assert_close(photos.decode(encoded("TIFF", lab), path="lab").pixels, UPRIGHT)
    ycbcr = Image.fromarray(UPRIGHT).convert("YCbCr")
    assert_close(photos.decode(encoded("TIFF", ycbcr), path="ycbcr").pixels, UPRIGHT)


# Scaled decode -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1000, 750), (751, 1003), (640, 480), (97, 3001), (16, 16)])
@pytest.mark.parametrize("at_least", [1, 60, 320, 448, 640, 5000])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_scaled_jpeg_keeps_the_long_side(size: tuple[int, int], at_least: int, mode: str) -> None:
    data = encoded("JPEG", Image.new(mode, size))
    photo = photos.decode(data, path="x", at_least=at_least)
    height, width = photo.pixels.shape[:2]
    long = max(size)
    assert (photo.width, photo.height) == size
    assert max(height, width) >= min(at_least, long)
    # Not larger than twice what is needed either, down to the smallest scale there is (1/8).
    assert max(height, width) <= max(2 * at_least + 8, -(-long // 8))
    assert (width >= height) == (size[0] >= size[1])
    # The same scale in both directions, but for the rounding of each side to a whole pixel.
    assert abs(width / size[0] - height / size[1]) <= 1 / min(size)


@pytest.mark.parametrize(
    ("size", "at_least", "limits", "decoded"),
    [
        ((1000, 750), None, None, (1000, 750)),
        ((1000, 750), 501, None, (1000, 750)),  # 5/8 would do, but it is slower than the whole
        ((1000, 750), 500, (500, 0), (500, 375)),
        ((1000, 750), 376, (376, 0), (500, 375)),
        ((1000, 750), 375, (375, 0), (375, 282)),
        ((1000, 750), 250, (250, 0), (250, 188)),
        ((1000, 750), 1, (1, 0), (125, 94)),
        ((750, 1000), 300, (0, 300), (282, 375)),
        ((751, 751), 376, (376, 0), (376, 376)),
    ],
)
def test_the_scale_rule_of_jpeg(
    size: tuple[int, int],
    at_least: int | None,
    limits: tuple[int, int] | None,
    decoded: tuple[int, int],
) -> None:
    data = encoded("JPEG", Image.new("RGB", size))
    assert jpeg.min_scaled_size(jpeg.read_header(data), at_least) == limits
    pixels = photos.decode(data, path="x", at_least=at_least).pixels
    assert pixels.shape[1::-1] == decoded


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("at_least", [48, 60, 100, 300, 1000])
def test_other_formats_keep_the_long_side(kind: str, at_least: int) -> None:
    large = np.kron(UPRIGHT, np.ones((4, 4, 1), np.uint8))
    photo = photos.decode(encoded(kind, large), path="x", at_least=at_least)
    assert (photo.width, photo.height) == (384, 256)
    assert photo.pixels.shape[1] >= min(at_least, 384)
    step = 384 // photo.pixels.shape[1]
    assert_close(photo.pixels, large[:: max(step, 1), :: max(step, 1)], mean=6)


def test_at_least_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at_least"):
        photos.decode(encoded("PNG", UPRIGHT), path="x", at_least=0)


def test_both_jpeg_decoders_agree() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((900, 600), Image.Resampling.BICUBIC))
    data = encoded("JPEG", smooth, quality=90)
    # A stray byte before the next segment makes libjpeg warn, so that Pillow decodes.
    first = 4 + int.from_bytes(data[4:6], "big") - 2 + 2
    assert data[first] == 0xFF
    odd = data[:first] + b"\x00" + data[first:]
    for at_least in (None, 400, 200, 100):
        fast = photos.decode(data, path="fast", at_least=at_least)
        slow = photos.decode(odd, path="slow", at_least=at_least)
        if fast.pixels.shape == slow.pixels.shape:
            assert_close(fast.pixels, slow.pixels.astype(int), mean=1)
        else:  # 3/8 is a scale that Pillow does not know
            assert (at_least, fast.pixels.shape[1]) == (200, 225) or at_least == 300


def test_threads_decode_to_the_same_pixels() -> None:
    blobs = [
        encoded("JPEG", np.roll(UPRIGHT, shift, 1), exif=exif_with(1 + shift % 8))
        for shift in range(16)
    ] + [encoded("TIFF", np.roll(UPRIGHT, shift, 0)) for shift in range(16)]
    alone = [photos.decode(blob, path="x").pixels for blob in blobs]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda blob: photos.decode(blob, path="x").pixels, blobs * 4))
    for pixels, expected in zip(together, itertools.cycle(alone), strict=False):
        assert np.array_equal(pixels, expected)
    assert list(warnings.filters) == filters


# Too large ---------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = (
        struct.pack(">I", len(b) - 4) + b + struct.pack(">I", zlib.crc32(b)) for b in (body, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_header(width: int, height: int) -> bytes:
    data = encoded("JPEG", Image.new("RGB", (8, 8)))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def gif_header(width: int, height: int) -> bytes:
    data = encoded("GIF", Image.new("P", (8, 8)))
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def bmp_header(width: int, height: int) -> bytes:
    data = encoded("BMP", Image.new("RGB", (8, 8)))
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def with_tag(data: bytes, old: int, new: int, value: int) -> bytes:
    """Return a little-endian TIFF with one entry of its directory replaced by a LONG."""
    directory = struct.unpack_from("<I", data, 4)[0]
    for number in range(struct.unpack_from("<H", data, directory)[0]):
        at = directory + 2 + 12 * number
        if struct.unpack_from("<H", data, at)[0] == old:
            return data[:at] + struct.pack("<HHII", new, 4, 1, value) + data[at + 12 :]
    raise AssertionError(f"no tag {old}")


def tiff_header(width: int, height: int) -> bytes:
    data = encoded("TIFF", Image.new("RGB", (8, 8)), compression="tiff_lzw")
    return with_tag(with_tag(data, 256, 256, width), 257, 257, height)


HEADERS = [png_header, jpeg_header, gif_header, bmp_header, tiff_header]


@pytest.mark.parametrize("header", HEADERS)
def test_an_enormous_header_is_refused_before_anything_is_allocated(
    header: Callable[[int, int], bytes],
) -> None:
    resource = pytest.importorskip("resource")
    data = header(40_000, 40_000)
    assert sniff(data) is not None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at_least in (None, 320):
        with pytest.raises(PhotoTooLarge, match=r"40000 × 40000 pixels .* 250 megapixels"):
            photos.decode(data, path="bomb", at_least=at_least)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB, on macOS bytes
    assert grown < 100_000


def test_the_cap_is_exact() -> None:
    for kind in OPTIONS:
        data = encoded(kind, UPRIGHT)
        assert photos.decode(data, path="x", max_pixels=96 * 64).width == 96
        with pytest.raises(PhotoTooLarge):
            photos.decode(data, path="x", max_pixels=96 * 64 - 1)
    with pytest.raises(PhotoTooLarge):
        photos.decode(HEIC, path="x", max_pixels=96 * 64 - 1)


def test_pillows_own_cap_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 - 1)  # warns above, refuses above twice
    for kind in OPTIONS:
        assert photos.decode(encoded(kind, UPRIGHT), path="x").width == 96
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for compression in ("raw", "tiff_lzw"):
        data = encoded("TIFF", UPRIGHT, compression=compression)
        assert photos.decode(data, path="x").width == 96
    with pytest.raises(PhotoTooLarge, match="too many pixels"):
        photos.decode(encoded("WEBP", UPRIGHT), path="x")


def test_a_gif_frame_beyond_its_screen_counts() -> None:
    data = encoded("GIF", Image.new("P", (8, 8)))
    at = data.index(b",\0\0\0\0\x08\0\x08\0")
    data = data[: at + 5] + struct.pack("<HH", 30_000, 30_000) + data[at + 9 :]
    with pytest.raises(PhotoTooLarge):
        photos.decode(data, path="x")


def test_a_tiff_tile_larger_than_the_cap() -> None:
    data = encoded("TIFF", UPRIGHT, compression="tiff_lzw")
    data = with_tag(data, 278, 322, 60_000)  # RowsPerStrip, TileWidth
    data = with_tag(data, 279, 323, 60_000)  # StripByteCounts, TileLength
    with pytest.raises(PhotoTooLarge, match="60000 × 60000"):
        photos.decode(data, path="x")


@pytest.mark.parametrize("chunk", ["text", "profile"])
def test_bombs_in_the_chunks_of_a_png_do_no_harm(chunk: str) -> None:
    resource = pytest.importorskip("resource")
    from PIL.PngImagePlugin import PngInfo

    zeros = b"\0" * 50_000_000
    if chunk == "text":
        info = PngInfo()
        info.add(b"zTXt", b"Comment\0\0" + zlib.compress(zeros))
        data = encoded("PNG", UPRIGHT, pnginfo=info)
    else:
        data = encoded("PNG", UPRIGHT, icc_profile=zeros)
    assert len(data) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for srgb in (False, True):
        assert np.array_equal(photos.decode(data, path="bomb.png", srgb=srgb).pixels, UPRIGHT)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB, on macOS bytes
    assert grown < 40_000


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = encoded("JPEG", UPRIGHT, progressive=True)
    assert photos.decode(data, path="x").width == 96
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + data[scan:-2] * 1000 + data[-2:]
    with pytest.raises(PhotoTooLarge, match="at least 501 scans of 96 × 64 pixels take too long"):
        photos.decode(many, path="x")


def test_more_scans_than_usual_are_refused_by_what_they_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded("JPEG", UPRIGHT, progressive=True)
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + data[scan:-2] * 90 + data[-2:]
    assert np.array_equal(
        photos.decode(many, path="x").pixels, photos.decode(data, path="x").pixels
    )
    monkeypatch.setattr(jpeg, "MAX_SCANS_TIMES_PIXELS", 50 * 96 * 64)
    with pytest.raises(PhotoTooLarge, match="at least 51 scans"):
        photos.decode(many, path="x")
    assert photos.decode(data, path="x").width == 96


# Broken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*OPTIONS, "GIF", "BMP", "HEIF"])
@pytest.mark.parametrize("at_least", [None, 24])
def test_cut_short(kind: str, at_least: int | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    data = HEIC if kind == "HEIF" else encoded(kind, noise)
    for length in (len(data) // 2, len(data) * 9 // 10, 70):
        with pytest.raises(BrokenPhoto, match=f"half.jpg: the {kind} data are") as caught:
            photos.decode(data[:length], path="half.jpg", at_least=at_least)
        assert len(caught.value.reason) < 200
        assert "\n" not in caught.value.reason


def test_empty() -> None:
    with pytest.raises(BrokenPhoto, match=r"empty \(0 bytes\)"):
        photos.decode(b"", path="a.jpg")


def test_a_name_that_is_not_utf8_in_a_message() -> None:
    with pytest.raises(BrokenPhoto, match=r"caf\\xe9.jpg"):
        photos.decode(b"", path=b"caf\xe9.jpg")


def test_running_out_of_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL.PngImagePlugin import PngImageFile

    def no_memory(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImageFile, "load", no_memory)
    with pytest.raises(PhotoUnreadable, match="not enough memory to decode it now"):
        photos.decode(encoded("PNG", UPRIGHT), path="x")


FOLDER = Path(__file__).parent / "photos"
NEEDED_LIBRARIES = {"jpeg-xl": "imagecodecs", "raw": "rawpy"}

SAMPLES = {
    "jpeg": encoded("JPEG", UPRIGHT, exif=exif_with(6)),
    "progressive": encoded("JPEG", UPRIGHT, progressive=True),
    "cmyk": encoded("JPEG", Image.fromarray(UPRIGHT).convert("CMYK")),
    "png": encoded("PNG", UPRIGHT, exif=exif_with(6)),
    "palette": encoded("PNG", Image.fromarray(UPRIGHT).convert("P")),
    "apng": encoded("PNG", UPRIGHT, save_all=True, append_images=[Image.fromarray(255 - UPRIGHT)]),
    "webp": encoded("WEBP", UPRIGHT, exif=exif_with(6)),
    "lossless": encoded("WEBP", UPRIGHT, lossless=True),
    "avif": encoded("AVIF", UPRIGHT, exif=exif_with(6)),
    "heic": HEIC,
    "tiff": encoded("TIFF", UPRIGHT, exif=exif_with(6)),
    "lzw": encoded("TIFF", UPRIGHT, compression="tiff_lzw"),
    "tiff-jpeg": encoded("TIFF", UPRIGHT, compression="jpeg"),
    "deflate": encoded("TIFF", UPRIGHT, compression="tiff_adobe_deflate"),
    "gif": encoded("GIF", UPRIGHT, save_all=True, append_images=[Image.fromarray(255 - UPRIGHT)]),
    "bmp": encoded("BMP", UPRIGHT),
    "jpeg-2000": encoded("JPEG2000", UPRIGHT),
    "jpeg-2000 tiles": encoded("JPEG2000", UPRIGHT, tile_size=(32, 32), irreversible=True),
    # Any changed bit of the picture is found, so a large box without meaning follows.
    "jpeg-xl": (FOLDER / "jpeg_xl.jxl").read_bytes()
    + struct.pack(">I4s", 90_000, b"free") * 11_250,
    "raw": dng(encoded("JPEG", UPRIGHT), 96, 64, 6),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_bytes_give_a_photo_or_a_photo_error(name: str) -> None:
    if name in NEEDED_LIBRARIES:
        pytest.importorskip(NEEDED_LIBRARIES[name])
    data = SAMPLES[name]
    randomly = random.Random(f"damage {name}")
    outcomes = {True: 0, False: 0}
    for number in range(240):
        damaged = bytearray(data)
        if number % 3 == 0:
            damaged = damaged[: randomly.randrange(len(damaged))]
        else:  # anywhere, or in the header
            end = len(damaged) if number % 3 == 1 else min(len(damaged), 200)
            for _ in range(randomly.randrange(1, 6)):
                damaged[randomly.randrange(end)] = randomly.choice(
                    (0, 255, randomly.randrange(256))
                )
        try:
            photo = photos.decode(
                bytes(damaged), path=name, at_least=randomly.choice((None, 32)), max_pixels=10**7
            )
        except PhotoError as error:
            outcomes[False] += 1
            assert error.reason
        else:
            outcomes[True] += 1
            assert photo.pixels.dtype == np.uint8
            assert photo.pixels.ndim == 3
            assert photo.pixels.shape[2] == 3
            assert min(photo.pixels.shape) >= 1
    assert min(outcomes.values()) > 0


def test_an_item_type_that_is_no_text_does_not_reach_the_binding() -> None:
    """One such byte ends the process in pi_heif 1.4."""
    at = HEIC.index(b"infe", HEIC.index(b"hvc1")) + 12
    assert HEIC[at : at + 4] == b"Exif"
    for place in range(at, at + 4):
        damaged = HEIC[:place] + b"\xff" + HEIC[place + 1 :]
        with pytest.raises(BrokenPhoto, match="impossible type"):
            photos.decode(damaged, path="a.heic")


@pytest.mark.parametrize(
    ("codec", "name"),
    [(b"avc1", "H.264"), (b"j2k1", "JPEG 2000"), (b"unci", "no compression"), (b"jpeg", "JPEG")],
)
def test_a_heif_of_another_codec_is_unsupported(codec: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat, match=f"a HEIF with {name}, which is not read"):
        photos.decode(HEIC.replace(b"hvc1", codec), path="a.heic")


@pytest.mark.parametrize("brand", [b"mif1", b"mif2", b"MiHE", b"miaf"])
def test_a_heif_is_known_by_any_brand_of_the_container(brand: bytes) -> None:
    data = HEIC.replace(b"ftypheix", b"ftyp" + brand)
    assert_close(photos.decode(data, path="a.heic").pixels, UPRIGHT)


@pytest.mark.parametrize("compression", [4, 5, 6, 11])
def test_a_bmp_of_another_compression_is_unsupported(compression: int) -> None:
    data = bytearray(SAMPLES["bmp"])
    struct.pack_into("<I", data, 30, compression)
    with pytest.raises(UnsupportedFormat, match="a BMP of a kind that is not read"):
        photos.decode(bytes(data), path="a.bmp")


# Warnings ----------------------------------------------------------------------------------------


def test_what_pillow_warns_of_is_logged_with_the_photos_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    planes = struct.pack("<HHII", 284, 3, 1, 1)
    assert SAMPLES["tiff"].count(planes) == 1
    odd = SAMPLES["tiff"].replace(planes, struct.pack("<HHIHH", 284, 3, 2, 1, 1))
    with caplog.at_level(logging.INFO, "veduta.photos"):
        assert np.array_equal(photos.decode(odd, path="odd.tif").pixels, STORED[8])
    assert {record.getMessage() for record in caplog.records} == {
        "odd.tif: Metadata Warning, tag 284 had too many entries: 2, expected 1"
    }


def test_other_warnings_go_their_usual_way() -> None:
    with logged_warnings("a.png"), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)
    with logged_warnings("a.png"), pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)  # tests turn warnings into errors
