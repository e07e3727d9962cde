"""Colours converted by the profile in a file, checked against values computed by hand."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veduta import photos

SAMPLES = Path(__file__).parent / "photos"


def icc(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile, version 2 (ICC.1:2001-04)."""
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02400000, kind, space, connection)
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


WHITE_POINT = b"XYZ \0\0\0\0" + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
TEXT = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + b"\0" * 78
LINEAR_GREY = icc(
    b"GRAY",
    b"XYZ ",
    b"mntr",
    {b"desc": TEXT, b"wtpt": WHITE_POINT, b"kTRC": b"curv" + b"\0" * 8},
)


def lookup(channels: int, corners: list[tuple[int, int, int]]) -> bytes:
    """Return a table of type lut8 with two grid points and straight curves."""
    straight = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes((channels, 3, 2, 0))
    head += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    return head + straight * channels + b"".join(map(bytes, corners)) + straight * 3


# The inks of an odd press: black alone is seen, and the other three leave no trace.
# L* 0 to 100 is written as 0 to 255, a* and b* as 128 + value.
PRESS = icc(
    b"CMYK",
    b"Lab ",
    b"prtr",
    {
        b"desc": TEXT,
        b"wtpt": WHITE_POINT,
        b"A2B0": lookup(4, [(255 if corner % 2 == 0 else 0, 128, 128) for corner in range(16)]),
    },
)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def wide_gamut() -> tuple[Image.Image, bytes]:
    with Image.open(SAMPLES / "wide_gamut.jpg") as image:
        image.load()
        return image, image.info["icc_profile"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("at_least", [None, 100])
def test_a_wide_gamut_becomes_srgb(kind: str, at_least: int | None) -> None:
    image, profile = wide_gamut()
    with Image.open(SAMPLES / "the_same_in_srgb.jpg") as same:
        expected = same.convert("RGB")
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = encoded(kind, image, icc_profile=profile, **options)
    converted = photos.decode(data, path="wide", at_least=at_least, srgb=True).pixels
    ignored = photos.decode(data, path="wide", at_least=at_least).pixels
    small = np.asarray(expected.resize(converted.shape[1::-1], Image.Resampling.BOX), np.float32)
    assert np.abs(converted - small).mean() < 10
    assert np.abs(ignored - small).mean() > 15


def test_orientation_and_profile() -> None:
    image, profile = wide_gamut()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    data = encoded("JPEG", turned, icc_profile=profile, exif=exif, quality=95)
    upright = encoded("JPEG", image, icc_profile=profile, quality=95)
    first, second = (
        photos.decode(each, path="x", srgb=True).pixels.astype(int) for each in (data, upright)
    )
    assert first.shape == second.shape
    assert np.abs(first - second).mean() < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_linear_grey_becomes_srgb(kind: str) -> None:
    # sRGB holds a linear value of 128 / 255 as 1.055 · 0.502^(1 / 2.4) - 0.055 = 0.737: 188.
    data = encoded(kind, Image.new("L", (32, 32), 128), icc_profile=LINEAR_GREY)
    pixels = photos.decode(data, path="grey", srgb=True).pixels
    assert np.abs(pixels.astype(int) - 188).max() <= 2
    assert photos.decode(data, path="grey").pixels.max() == 128


def test_deep_grey_is_converted_too() -> None:
    image = Image.fromarray(np.full((32, 32), 128 * 257, np.uint16))
    data = encoded("PNG", image, icc_profile=LINEAR_GREY)
    pixels = photos.decode(data, path="grey", srgb=True).pixels
    assert np.abs(pixels.astype(int) - 188).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_of_a_press_become_srgb(kind: str) -> None:
    # Half of the ink is L* of 50, a linear 0.184, which sRGB holds as 0.466: 119.
    options = {"quality": 100} if kind == "JPEG" else {}
    for inks, expected in (((0, 0, 0, 128), 119), ((255, 255, 255, 0), 255)):
        data = encoded(kind, Image.new("CMYK", (32, 32), inks), icc_profile=PRESS, **options)
        pixels = photos.decode(data, path="press", srgb=True).pixels
        assert np.abs(pixels.astype(int) - expected).max() <= 4


def test_a_profile_that_does_not_fit_changes_nothing() -> None:
    image, profile = wide_gamut()
    plain = np.asarray(image)
    for odd in (b"damaged", profile[:200], LINEAR_GREY, PRESS, b"\0" * 5000):
        data = encoded("PNG", image, icc_profile=odd)
        assert np.array_equal(photos.decode(data, path="x", srgb=True).pixels, plain)
