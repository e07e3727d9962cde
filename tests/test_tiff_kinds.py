"""Every kind of TIFF comes out with its right pixels, or is called unsupported. None is wrong."""

from __future__ import annotations

import itertools
import struct
import zlib

import numpy as np
import pytest

from veduta import photos
from veduta.errors import NotAPhoto, PhotoTooLarge, UnsupportedFormat

HEIGHT, WIDTH = 37, 53  # No whole number of tiles or strips.
TILE = 16

RAMP = np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 2).astype(np.uint8)  # 0 to 212
COLOURS = np.stack([RAMP, 255 - RAMP, (RAMP.astype(int) * 5 % 256).astype(np.uint8)], axis=2)
GREY = np.repeat(RAMP[:, :, None], 3, axis=2)

WHITE_ZERO, BLACK_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
NONE, DEFLATE, PACKBITS = 1, 8, 32773
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def packed(data: bytes, compression: int) -> bytes:
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        runs = (data[at : at + 128] for at in range(0, len(data), 128))
        return b"".join(bytes((len(run) - 1,)) + run for run in runs)
    return data


def blocks(plane: np.ndarray, tiled: bool) -> list[np.ndarray]:
    """Cut (H, W, S) into tiles, or into strips of 16 rows."""
    if not tiled:
        return [plane[top : top + TILE] for top in range(0, HEIGHT, TILE)]
    wide = np.pad(plane, ((0, -HEIGHT % TILE), (0, -WIDTH % TILE), (0, 0)))
    return [
        wide[top : top + TILE, left : left + TILE]
        for top in range(0, HEIGHT, TILE)
        for left in range(0, WIDTH, TILE)
    ]


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    planes: bool = False,
    tiled: bool = False,
    compression: int = NONE,
    predictor: int = 1,
    extra: tuple[int, ...] = (),
    sample_format: int = UNSIGNED,
    tags: dict[int, tuple[str, tuple[int, ...]]] | None = None,
) -> bytes:
    """Write (H, W, S) as a TIFF (revision 6.0)."""
    count, bits = samples.shape[2], 8 * samples.itemsize
    parts = [samples[:, :, [i]] for i in range(count)] if planes else [samples]
    written = []
    for block in itertools.chain.from_iterable(blocks(part, tiled) for part in parts):
        left = np.zeros_like(block[:, :1])
        stored = np.diff(block, axis=1, prepend=left) if predictor == 2 else block
        ordered = stored.astype(stored.dtype.newbyteorder(order))
        written.append(packed(ordered.tobytes(), compression))
    entries: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("H", (WIDTH,)),
        257: ("H", (HEIGHT,)),
        258: ("H", (bits,) * count),
        259: ("H", (compression,)),
        262: ("H", (photometric,)),
        277: ("H", (count,)),
        284: ("H", (2 if planes else 1,)),
        317: ("H", (predictor,)),
        339: ("H", (sample_format,) * count),
    }
    if extra:
        entries[338] = ("H", extra)
    offsets_tag, sizes_tag = (324, 325) if tiled else (273, 279)
    if tiled:
        entries |= {322: ("H", (TILE,)), 323: ("H", (TILE,))}
    else:
        entries[278] = ("H", (TILE,))
    entries |= tags or {}
    offsets = [0] * len(written)
    entries |= {offsets_tag: ("I", tuple(offsets)), sizes_tag: ("I", tuple(map(len, written)))}
    table_end = 8 + 2 + 12 * len(entries) + 4
    values = sum(struct.calcsize(f"{len(v)}{k}") + 1 for k, v in entries.values())
    start = table_end + values
    offsets = [start + sum(map(len, written[:number])) for number in range(len(written))]
    entries[offsets_tag] = ("I", tuple(offsets))
    table, long_values = b"", b""
    for tag, (kind, value) in sorted(entries.items()):
        body = struct.pack(f"{order}{len(value)}{kind}", *value)
        if len(body) > 4:
            at = table_end + len(long_values)
            long_values += body + b"\0" * (len(body) % 2)
            body = struct.pack(order + "I", at)
        table += struct.pack(order + "HHI", tag, 3 if kind == "H" else 4, len(value))
        table += body.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    data = head + table + b"\0" * 4 + long_values
    return data.ljust(start, b"\0") + b"".join(written)


def outcome(data: bytes, expected: np.ndarray) -> str:
    """Return "read" or "unsupported"; anything else fails."""
    try:
        pixels = photos.decode(data, path="a.tif").pixels
    except UnsupportedFormat as error:
        assert not isinstance(error, NotAPhoto)
        assert "a TIFF of a kind that is not read" in error.reason
        return "unsupported"
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    return "read"


LAYOUTS = list(
    itertools.product("<>", (False, True), (False, True), (NONE, DEFLATE, PACKBITS), (1, 2))
)


def layouts(with_planes: bool) -> list[dict[str, object]]:
    names = ("order", "planes", "tiled", "compression", "predictor")
    every = [dict(zip(names, layout, strict=True)) for layout in LAYOUTS]
    return [
        layout
        for layout in every
        if (layout["predictor"] == 1 or layout["compression"] == DEFLATE)
        and (with_planes or not layout["planes"])
    ]


@pytest.mark.parametrize("layout", layouts(with_planes=True), ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_in_every_layout(bits: int, layout: dict[str, object]) -> None:
    scale = 1 if bits == 8 else 257
    dtype = np.uint8 if bits == 8 else np.uint16
    colours = COLOURS.astype(dtype) * dtype(scale)
    assert outcome(tiff(colours, RGB, **layout), COLOURS) == "read"
    full = np.full((HEIGHT, WIDTH, 1), np.iinfo(dtype).max, dtype)
    with_alpha = np.concatenate([colours, full], axis=2)
    for extra in ((0,), (1,), (2,)):
        assert outcome(tiff(with_alpha, RGB, extra=extra, **layout), COLOURS) == "read"
    inks = np.concatenate([full - colours, full * 0], axis=2)
    assert outcome(tiff(inks, CMYK, **layout), COLOURS) == "read"
    five = np.concatenate([with_alpha, full], axis=2)
    for extra in ((0, 0), (2, 0)):
        outcome(tiff(five, RGB, extra=extra, **layout), COLOURS)


@pytest.mark.parametrize("layout", layouts(with_planes=False), ids=str)
def test_grey_in_every_layout(layout: dict[str, object]) -> None:
    grey = RAMP[:, :, None]
    deep = grey.astype(np.uint16) * 257
    assert outcome(tiff(grey, BLACK_ZERO, **layout), GREY) == "read"
    assert outcome(tiff(255 - grey, WHITE_ZERO, **layout), GREY) == "read"
    assert outcome(tiff(deep, BLACK_ZERO, **layout), GREY) == "read"
    little = layout["order"] == "<"
    inverted = outcome(tiff(65535 - deep, WHITE_ZERO, **layout), GREY)
    assert inverted == ("read" if little else "unsupported")
    # Values of unknown range up to 65535 are taken as 0 to 65535.
    for dtype in (np.int16, np.int32):
        half = (grey.astype(int) * 128).astype(dtype)
        data = tiff(half, BLACK_ZERO, sample_format=SIGNED, **layout)
        assert outcome(data, np.rint(GREY * (128 / 257))) == "read"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, DEFLATE, PACKBITS])
def test_floating_grey(order: str, compression: int) -> None:
    grey = RAMP[:, :, None].astype(np.float32) / 255
    layout = {"order": order, "compression": compression, "sample_format": FLOAT}
    assert outcome(tiff(grey, BLACK_ZERO, **layout), GREY) == "read"
    assert outcome(tiff(1 - grey, WHITE_ZERO, **layout), GREY) == "unsupported"
    for dtype in (np.float16, np.float64):
        assert outcome(tiff(grey.astype(dtype), BLACK_ZERO, **layout), GREY) == "unsupported"
    three = np.repeat(grey, 3, axis=2)
    assert outcome(tiff(three, RGB, **layout), GREY) == "unsupported"


@pytest.mark.parametrize("layout", layouts(with_planes=True), ids=str)
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_grey_with_a_second_sample(extra: int, layout: dict[str, object]) -> None:
    full = np.full_like(RAMP, 255)
    two = np.stack([RAMP, full], axis=2)
    result = outcome(tiff(two, BLACK_ZERO, extra=(extra,), **layout), GREY)
    assert result == ("unsupported" if layout["planes"] and extra else "read")
    deep = two.astype(np.uint16) * 257
    outcome(tiff(deep, BLACK_ZERO, extra=(extra,), **layout), GREY)


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_kinds_without_a_reader(compression: int) -> None:
    grey = RAMP[:, :, None]
    for samples, options in (
        (grey.astype(np.int8), {"sample_format": SIGNED}),
        (grey.astype(np.uint32) * 16843009, {}),
        (grey.astype(np.uint64), {}),
    ):
        data = tiff(samples, BLACK_ZERO, compression=compression, **options)
        assert outcome(data, GREY) == "unsupported"
    for code in (50001, 34712, 34933, 9, 12345):
        data = tiff(COLOURS, RGB, tags={259: ("H", (code,))})
        assert outcome(data, COLOURS) == "unsupported"


@pytest.mark.parametrize("layout", layouts(with_planes=False), ids=str)
def test_palette_and_ycbcr(layout: dict[str, object]) -> None:
    colours = [*range(256), *range(255, -1, -1), *([128] * 256)]
    table = {320: ("H", tuple(value * 257 for value in colours))}
    expected = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 128)], axis=2)
    assert outcome(tiff(RAMP[:, :, None], PALETTE, tags=table, **layout), expected) == "read"
    ycc = np.stack([RAMP, np.full_like(RAMP, 128), np.full_like(RAMP, 128)], axis=2)
    whole = {530: ("H", (1, 1))}
    assert outcome(tiff(ycc, YCBCR, tags=whole, **layout), GREY) == "read"


@pytest.mark.parametrize("order", ["<", ">"])
def test_subsampled_ycbcr_without_compression(order: str) -> None:
    """Four values of luma, then one of each colour (TIFF 6.0, section 21), without a tag for it."""
    even = RAMP[: HEIGHT // 2 * 2, : WIDTH // 2 * 2]
    units = []
    for top in range(0, even.shape[0], 2):
        for left in range(0, even.shape[1], 2):
            units.append(bytes([*even[top : top + 2, left : left + 2].flat, 128, 128]))
    data = b"".join(units)
    tags = {
        256: (even.shape[1],), 257: (even.shape[0],), 258: (8, 8, 8), 259: (NONE,),
        262: (YCBCR,), 273: (200,), 277: (3,), 278: (even.shape[0],), 279: (len(data),),
    }  # fmt: skip
    table, bits_at = b"", 180
    for tag, value in tags.items():
        body = struct.pack(order + "I", bits_at) if len(value) > 1 else b""
        if not body and tag in (273, 279):
            table += struct.pack(order + "HHII", tag, 4, 1, value[0])
            continue
        body = body or struct.pack(order + "HH", value[0], 0)
        table += struct.pack(order + "HHI", tag, 3, len(value)) + body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    file = (head + table).ljust(bits_at, b"\0") + struct.pack(order + "HHH", 8, 8, 8)
    expected = np.repeat(even[:, :, None], 3, axis=2)
    assert outcome(file.ljust(200, b"\0") + data, expected) == "read"


def test_twelve_bits_of_grey() -> None:
    values = (RAMP[:, :52].astype(int) * 4095 + 127) // 255
    pairs = values.reshape(HEIGHT, 26, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    rows = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2)
    data = tiff(RAMP[:, :52, None], BLACK_ZERO)
    packed_rows = rows.astype(np.uint8).tobytes()
    tags = {
        256: ("H", (52,)), 258: ("H", (12,)), 278: ("H", (HEIGHT,)),
        273: ("I", (300,)), 279: ("I", (len(packed_rows),)),
    }  # fmt: skip
    entries = {
        257: ("H", (HEIGHT,)), 259: ("H", (NONE,)), 262: ("H", (BLACK_ZERO,)), 277: ("H", (1,)),
    } | tags  # fmt: skip
    table = b""
    for tag, (kind, value) in sorted(entries.items()):
        body = struct.pack(f"<{kind}", value[0]).ljust(4, b"\0")
        table += struct.pack("<HHI", tag, 3 if kind == "H" else 4, 1) + body
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table
    data = data.ljust(300, b"\0") + packed_rows
    assert outcome(data, GREY[:, :52]) == "read"


def test_a_tiff_above_the_cap_of_pillow_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for compression in (NONE, DEFLATE):
        data = tiff(COLOURS, RGB, compression=compression)
        assert outcome(data, COLOURS) == "read"
        with pytest.raises(PhotoTooLarge, match=r"more than the cap of 0\.001 megapixels"):
            photos.decode(data, path="a.tif", max_pixels=1000)


ODD_TAGS: dict[str, tuple[int, int, int, int]] = {
    # tag, type, count, value or place
    "a text beyond the end of the file": (270, 2, 50, 100_000_000),
    "an enormous text": (305, 2, 1_000_000_000, 8),
    "a type that does not exist": (306, 99, 3, 3),
    "an Exif directory beyond the end": (34665, 4, 1, 100_000_000),
    "an Exif directory that is no directory": (34665, 4, 1, 9),
    "a GPS directory beyond the end": (34853, 4, 1, 100_000_000),
    "XMP of numbers": (700, 3, 2, 1),
    "XMP beyond the end": (700, 1, 50, 100_000_000),
    "a profile of numbers": (34675, 3, 1, 1),
    "a profile beyond the end": (34675, 7, 50, 100_000_000),
    "a rational beyond the end": (33434, 5, 1, 100_000_000),
    "directories of directories": (330, 13, 1, 8),
    "an empty private tag": (65000, 7, 0, 0),
}


@pytest.mark.parametrize("odd", ODD_TAGS)
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize("order", ["<", ">"])
def test_odd_metadata_of_a_tiff_do_not_matter(odd: str, compression: int, order: str) -> None:
    tag, kind, count, value = ODD_TAGS[odd]
    data = bytearray(
        tiff(COLOURS, RGB, compression=compression, order=order, tags={tag: ("I", (7,))})
    )
    at = data.index(struct.pack(order + "HHII", tag, 4, 1, 7))
    struct.pack_into(order + "HHII", data, at, tag, kind, count, value)
    assert outcome(bytes(data), COLOURS) == "read"


@pytest.mark.parametrize("place", [5, 8, 9, 100_000_000])
def test_a_next_page_that_is_not_there(place: int) -> None:
    data = bytearray(tiff(COLOURS, RGB))
    count = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, 10 + 12 * count, place)
    assert outcome(bytes(data), COLOURS) == "read"
