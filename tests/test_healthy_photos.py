"""A photo whose pixels are whole is read, whatever stands around them; damage is still found."""

from __future__ import annotations

import csv
import io
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import run_veduta
from PIL import Image, ImageDraw

from veduta import photos
from veduta.errors import BrokenPhoto, NotAPhoto, UnsupportedFormat

SAMPLES = Path(__file__).parent / "photos"


def picture(mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).convert(mode)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(data: bytes, at_least: int | None = None) -> np.ndarray:
    return photos.decode(data, path="photo", at_least=at_least).pixels


# JPEG --------------------------------------------------------------------------------------------

JPEGS = {
    "baseline": encoded("JPEG", picture(), quality=90),
    "full colour": encoded("JPEG", picture(), quality=90, subsampling="4:4:4"),
    "restarts": encoded("JPEG", picture(), quality=90, restart_marker_rows=1),
    "progressive": encoded("JPEG", picture(), quality=90, progressive=True),
    "grey": encoded("JPEG", picture("L"), quality=90),
    "progressive grey": encoded("JPEG", picture("L"), quality=90, progressive=True),
    "cmyk": encoded("JPEG", picture("CMYK"), quality=90),
    "progressive cmyk": encoded("JPEG", picture("CMYK"), quality=90, progressive=True),
}
OTHER_JPEG = encoded("JPEG", picture().resize((64, 48)), progressive=True)
RANDOM = random.Random(1).randbytes(90_000)
TRAILERS = {
    "nothing": b"",
    "zeros": b"\0" * 5000,
    "ones": b"\xff" * 5000,
    "a second picture": OTHER_JPEG,
    "a second picture without an end": OTHER_JPEG[:-2],
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\x40\0mdat" + RANDOM[:16384],
    "text": b"SEFHe\0\0\0 Image_UTC_Data1600000000000 SEFT" * 40,
    "noise": RANDOM,
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\xff\xff\xff\xd9", b"\xff"])
def test_a_jpeg_with_any_end_is_read(kind: str, trailer: str, end: bytes) -> None:
    whole = JPEGS[kind]
    assert whole.endswith(b"\xff\xd9")
    for at_least in (None, 40):
        odd = pixels(whole[:-2] + end + TRAILERS[trailer], at_least)
        assert np.array_equal(odd, pixels(whole, at_least))


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lacks_pixels_is_still_cut_short(kind: str, trailer: str) -> None:
    whole = JPEGS[kind]
    for share in (0.5, 0.8, 0.95):
        cut = whole[: int(len(whole) * share)]
        if trailer in ("nothing", "zeros"):
            with pytest.raises(BrokenPhoto):
                pixels(cut + TRAILERS[trailer])


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_cut_short() -> None:
    whole = JPEGS["progressive"]
    with pytest.raises(BrokenPhoto, match="cut short"):
        pixels(whole[: whole.rindex(b"\xff\xda")])


def test_much_data_behind_a_progressive_jpeg_are_no_scans() -> None:
    whole = JPEGS["progressive"]
    assert np.array_equal(pixels(whole + b"\xff\xda" * 3000), pixels(whole))


def test_fill_bytes_before_markers() -> None:
    for kind in ("baseline", "progressive", "restarts"):
        whole = JPEGS[kind]
        filled = whole
        for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xda"):
            filled = filled.replace(marker, b"\xff\xff" + marker)
        assert filled != whole
        assert np.array_equal(pixels(filled), pixels(whole))
        assert np.array_equal(pixels(filled[:-2]), pixels(whole))


@pytest.mark.parametrize(
    ("marker", "kind"),
    [(0xC3, "lossless"), (0xC5, "differential"), (0xCF, "lossless")],
)
def test_a_jpeg_of_another_coding_is_unsupported(marker: int, kind: str) -> None:
    whole = JPEGS["baseline"]
    other = whole.replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    with pytest.raises(UnsupportedFormat, match=f"a {kind} JPEG, which is not read") as caught:
        pixels(other)
    assert not isinstance(caught.value, NotAPhoto)


# PNG ---------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + body)
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", right if checksum is None else checksum)
    )


def chunks_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 8
    while start < len(data):
        size = int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], data[start + 8 : start + 8 + size]
        start += size + 12


def png(extra: bytes = b"", *, before: bytes = b"IDAT", mode: str = "RGB") -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks_of(encoded("PNG", picture(mode))):
        if kind == before and extra:
            parts.append(extra)
            extra = b""
        parts.append(chunk(kind, body))
    return b"".join(parts)


BOMB = zlib.compress(b"x" * 70_000_000)
ODD_CHUNKS = {
    "zTXt bomb": chunk(b"zTXt", b"Comment\0\0" + BOMB),
    "iTXt bomb": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "iCCP bomb": chunk(b"iCCP", b"profile\0\0" + BOMB),
    "long tEXt": chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "many texts": chunk(b"tEXt", b"Comment\0" + b"x" * 900_000) * 80,
    "damaged zTXt": chunk(b"zTXt", b"Comment\0\0damaged"),
    "damaged iCCP": chunk(b"iCCP", b"profile\0\0damaged"),
    "empty iCCP": chunk(b"iCCP", b""),
    "wrong checksum of a text": chunk(b"tEXt", b"Comment\0x", 7),
    "wrong checksum of a profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x"), 7),
    "wrong checksum of the density": chunk(b"pHYs", b"\0\0\1\0\0\0\1\0\1", 7),
    "wrong checksum of a transparency": chunk(b"tRNS", b"\0\1\0\1\0\1", 7),
    "empty gamma": chunk(b"gAMA", b""),
    "empty density": chunk(b"pHYs", b""),
    "empty animation": chunk(b"acTL", b""),
    "damaged Exif": chunk(b"eXIf", b"damaged"),
    "large Exif": chunk(b"eXIf", b"x" * 3_000_000),
    "unknown": chunk(b"abCd", b"x" * 1000),
    "not letters": chunk(b"\0\1\2\3", b"x"),
}


@pytest.mark.parametrize("odd", ODD_CHUNKS)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_metadata_of_a_png_do_not_matter(odd: str, before: bytes) -> None:
    assert np.array_equal(pixels(png(ODD_CHUNKS[odd], before=before)), np.asarray(picture()))


def test_the_end_of_a_png_does_not_matter() -> None:
    whole, expected = png(), np.asarray(picture())
    for data in (whole[:-12], whole[:-5], whole + RANDOM, whole[:-12] + RANDOM[:3]):
        assert np.array_equal(pixels(data), expected)
    # The checksum of the pixels, and that of their last chunk, are missing too.
    assert np.array_equal(pixels(whole[:-20]), expected)


def test_a_png_that_lacks_rows_is_cut_short() -> None:
    whole = png()
    for length in (len(whole) // 2, len(whole) - 300):
        with pytest.raises(BrokenPhoto, match="cut short"):
            pixels(whole[:length])
        with pytest.raises(BrokenPhoto):
            pixels(whole[:length] + whole[-12:])


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"PLTE"])
def test_a_wrong_checksum_of_what_the_picture_needs_is_damage(kind: bytes) -> None:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks_of(png(mode="P")):
        parts.append(chunk(name, body, 7 if name == kind else None))
    with pytest.raises(BrokenPhoto, match=f"wrong checksum of {kind.decode()}"):
        pixels(b"".join(parts))


# The other formats -------------------------------------------------------------------------------


def test_heic_without_exif_is_read() -> None:
    photo = photos.load(SAMPLES / "without_exif.heic")
    assert (photo.format, photo.width, photo.height, photo.taken) == ("HEIF", 320, 240, None)
    assert photo.pixels.std() > 40


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "TIFF", "BMP"])
def test_bytes_behind_the_end_do_not_matter(kind: str) -> None:
    whole = encoded(kind, picture())
    for trailer in (b"\0" * 900, RANDOM[:999]):
        assert np.array_equal(pixels(whole + trailer), pixels(whole))


def test_gif_without_its_end() -> None:
    whole = encoded("GIF", picture())
    assert whole.endswith(b"\0;")
    assert np.array_equal(pixels(whole[:-1]), pixels(whole))


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_with_odd_chunks(lossless: bool) -> None:
    whole = encoded("WEBP", picture(), lossless=lossless)
    kind, data = whole[12:16], whole[20:]
    expected = pixels(whole)
    canvas = struct.pack("<II", 319, 239)
    extended = b"\0\0\0\0" + canvas[:3] + canvas[4:7]
    for odd in (
        riff((kind, data), (b"abcd", b"x" * 31)),
        riff((b"abcd", b"x" * 30), (kind, data)),
        riff((kind, data), (b"EXIF", b"damaged")),
        riff((b"VP8X", extended), (b"abcd", b"x" * 7), (kind, data)),
        riff((b"VP8X", extended), (kind, data), (b"EXIF", b""), (b"XMP ", b"<")),
        whole[:4] + b"\xff\xff\xff\x7f" + whole[8:],  # a size beyond the file
    ):
        assert np.array_equal(pixels(odd), expected)


# White on transparency ---------------------------------------------------------------------------


def drawing(colour: tuple[int, ...], mode: str = "RGBA") -> Image.Image:
    image = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for x in range(20, 300, 40):
        draw.line((x, 20, 320 - x, 220), (*colour, 255), 6)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("at_least", [None, 100])
def test_a_white_drawing_on_transparency_is_seen(mode: str, at_least: int | None) -> None:
    kind = "TIFF" if mode == "PA" else "PNG"
    for colour in ((255, 255, 255), (240, 238, 235)):
        seen = pixels(encoded(kind, drawing(colour, mode)), at_least)
        assert seen[0, 0].tolist() == [0, 0, 0]
        assert seen.max() >= 235
        assert seen.std() > 60


@pytest.mark.parametrize("colour", [(0, 0, 0), (120, 90, 60), (200, 200, 200), (255, 255, 0)])
def test_other_drawings_stay_on_white(colour: tuple[int, int, int]) -> None:
    seen = pixels(encoded("PNG", drawing(colour)))
    assert seen[0, 0].tolist() == [255, 255, 255]


def test_a_white_thing_with_shadows_stays_on_white() -> None:
    image = drawing((255, 255, 255))
    ImageDraw.Draw(image).line((20, 120, 300, 120), (90, 90, 90, 255), 6)
    assert pixels(encoded("PNG", image))[0, 0].tolist() == [255, 255, 255]


# Other kinds of pictures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x8aMNG\r\n", "an MNG animation"),
        (b"II\xbc\x01\x08", "a JPEG XR image"),
        (b"qoif\0\0", "a QOI image"),
        (b"gimp xcf v011", "a GIMP image"),
        (b"%!PS-Adobe-3.0 EPSF", "a PostScript drawing"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"\0\0\0\x08wide\0\0", "a video"),
        (b"\0\0\x01\xba\x44", "an MPEG video"),
        (b"\0" * 128 + b"DICM", "a DICOM image"),
    ],
)
def test_pictures_of_other_formats_are_kept(head: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat, match=name) as caught:
        pixels(head + b"\1" * 2000)
    assert not isinstance(caught.value, NotAPhoto)


def test_a_png_in_the_way_of_apple_is_unsupported() -> None:
    with pytest.raises(UnsupportedFormat, match="a PNG of a kind that is not read") as caught:
        pixels(png(chunk(b"CgBI", b"\x50\0\x20\x06"), before=b"IHDR"))
    assert not isinstance(caught.value, NotAPhoto)


# The command line --------------------------------------------------------------------------------


def findings(folder: Path) -> dict[str, tuple[str, str, str]]:
    out = folder.parent / "findings.csv"
    kinds = ("corrupt", "truncated", "not-a-photo", "unsupported", "unreadable", "blank")
    only = [word for kind in kinds for word in ("--only", kind)]
    assert run_veduta(folder.parent, "clean", folder, "--out", out, *only).returncode == 1
    with out.open(newline="", encoding="utf-8") as file:
        return {
            row["path"]: (row["kind"], row["suggestion"], row["reason"])
            for row in csv.DictReader(file)
        }


def test_clean_drops_only_what_is_damaged_or_no_picture(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = JPEGS["baseline"]
    files: dict[str, bytes] = {
        "12bit.jpg": (SAMPLES / "12_bit.jpg").read_bytes(),
        "half.tif": (SAMPLES / "half_float.tif").read_bytes(),
        "drawing.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "photoshop.jpg": b"8BPS\0\1" + b"\0" * 90,
        "video.jpg": b"\0\0\0\x20ftypisom" + b"\0" * 90,
        "raw.jpg": b"FUJIFILMCCD-RAW " + b"\0" * 90,
        "page.jpg": b"<!doctype html><p>404",
        "empty.jpg": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "no_end.jpg": whole[:-2],
        "trailer.jpg": (SAMPLES / "trailer_without_end.jpg").read_bytes(),
        "without_exif.heic": (SAMPLES / "without_exif.heic").read_bytes(),
        "text.png": png(ODD_CHUNKS["zTXt bomb"]),
        "white.png": encoded("PNG", drawing((255, 255, 255))),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = {name: row[:2] for name, row in findings(folder).items()}
    assert found == {
        "12bit.jpg": ("unsupported", "keep"),
        "half.tif": ("unsupported", "keep"),
        "drawing.jpg": ("unsupported", "keep"),
        "photoshop.jpg": ("unsupported", "keep"),
        "video.jpg": ("unsupported", "keep"),
        "raw.jpg": ("unsupported", "keep"),
        "page.jpg": ("not-a-photo", "drop"),
        "empty.jpg": ("corrupt", "drop"),
        "cut.jpg": ("truncated", "drop"),
    }


@pytest.mark.slow
def test_photos_with_odd_ends_match_the_whole_one(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    source = sorted((shared_data("same_place")).rglob("*.jpg"))[0].read_bytes()
    (tmp_path / "whole.jpg").write_bytes(source)
    end = source.rindex(b"\xff\xd9")
    for number, trailer in enumerate((b"", RANDOM)):
        odd = tmp_path / f"{number}.jpg"
        odd.write_bytes(source[:end] + trailer)
        match = run_veduta(tmp_path, "match", odd, "whole.jpg")
        assert match.returncode == 0 and match.stdout.startswith("same place")


# Cut short, and accepted -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in JPEGS if "cmyk" not in kind])
@pytest.mark.parametrize("rest", [b"", b"\0" * 3000])
@pytest.mark.parametrize("at_least", [None, 80])
def test_what_is_there_of_a_jpeg_is_decoded_if_that_is_accepted(
    kind: str, rest: bytes, at_least: int | None
) -> None:
    whole = JPEGS[kind]
    cut = whole[: int(0.75 * len(whole))] + rest
    with pytest.raises(BrokenPhoto, match="the JPEG data are cut short") as caught:
        pixels(cut, at_least)
    reason = caught.value.reason
    photo = photos.decode(cut, path="x", at_least=at_least, accept_truncated=True)
    expected = pixels(whole, at_least)
    assert photo.pixels.shape == expected.shape
    assert (photo.width, photo.height) == (320, 240)
    if "progressive" in kind:  # Every row is there, with less detail.
        assert reason.endswith("cut short")
        assert np.abs(photo.pixels.astype(int) - expected).mean() < 12
    else:
        share = int(reason.removesuffix(" % of the rows are there").rpartition(" ")[2])
        assert 65 <= share <= 85
        rows = int(len(expected) * (share - 10) / 100)
        assert np.array_equal(photo.pixels[:rows], expected[:rows])
        assert (photo.pixels[-2:] == 128).all()


def test_less_than_half_of_a_jpeg_is_not_accepted() -> None:
    whole = JPEGS["baseline"]
    cut = whole[: int(0.4 * len(whole))]
    with pytest.raises(BrokenPhoto, match=r"cut short: [34]\d % of the rows are there"):
        photos.decode(cut, path="x", accept_truncated=True)
    for kind in ("cmyk", "baseline"):
        with pytest.raises(BrokenPhoto):
            photos.decode(JPEGS[kind][:700], path="x", accept_truncated=True)


@pytest.mark.slow
def test_index_uses_photos_that_are_cut_short_if_asked_to(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = JPEGS["baseline"]
    (folder / "cut.jpg").write_bytes(whole[: int(0.75 * len(whole))])
    (folder / "stump.jpg").write_bytes(whole[: len(whole) // 4])
    (folder / "whole.jpg").write_bytes(JPEGS["grey"])
    first = run_veduta(tmp_path, "index", folder)
    assert "1 photo in" in first.stdout and "2 files could not be read" in first.stdout
    assert re.search(r"cut\.jpg: the JPEG data are cut short: [678]\d % of the rows", first.stdout)
    second = run_veduta(tmp_path, "index", "--accept-truncated")
    assert "2 photos in" in second.stdout and "1 file could not be read" in second.stdout
    third = run_veduta(tmp_path, "index")
    assert "2 photos in" in third.stdout
    assert "1 file could not be read" in third.stdout
