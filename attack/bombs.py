"""Small files that hold very large photos, through the real commands."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, FOUND, INPUT, Ran, outside
from attack.material import encoded, photo, prepared
from attack.raw_server import RawServer, files_of

SIDE = 15_800  # Just below the cap of 250 megapixels.
SCANS = 490
MAX_BYTES = 1_000_000_000
MAX_PROCESSOR_SECONDS = 15.0
MAX_SCANS_SECONDS = 2.0

_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _COLOUR: 3, _PALETTE: 1, _GREY_ALPHA: 2, _ALPHA: 4}


def png(kind: int, bits: int, *, transparent: bool = False, interlaced: bool = False) -> bytes:
    """Return a PNG of `SIDE` pixels square, of one colour.

    Args:
        kind: colour type.
        bits: of a channel.
        transparent: add a chunk tRNS.
        interlaced: store it in the seven passes of Adam7.
    """
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, kind, 0, 0, int(interlaced))
    chunks = _chunk(b"IHDR", header)
    if kind == _PALETTE:
        chunks += _chunk(b"PLTE", bytes(range(256)) * 3)
    if transparent:
        chunks += _chunk(b"tRNS", b"\x80" * 4 if kind == _PALETTE else bytes(2 * _CHANNELS[kind]))
    passes: tuple[tuple[int, int, int, int], ...] = ((0, 0, 1, 1),)
    if interlaced:
        passes = (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
            (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
        )  # fmt: skip
    packer = zlib.compressobj(9)
    data = b""
    for left, top, across, down in passes:
        width, height = -((left - SIDE) // across), -((top - SIDE) // down)
        row = bytes(1 + (width * _CHANNELS[kind] * bits + 7) // 8)
        data += b"".join(packer.compress(row) for _ in range(height))
    chunks += _chunk(b"IDAT", data + packer.flush()) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_of_many_scans(width: int, height: int) -> bytes:
    """Return a progressive JPEG whose last scan is there again and again."""
    data = encoded(photo(3, (width, height)), "JPEG", progressive=True, quality=95)
    last = data.rindex(b"\xff\xda")
    scans = data.count(b"\xff\xda")
    return data[:last] + data[last:-2] * (SCANS - scans + 1) + data[-2:]


def large(mode: str, kind: str, **options: object) -> Callable[[], bytes]:
    """Return what makes a file of one colour with Pillow."""
    return lambda: encoded(Image.new(mode, (SIDE, SIDE)), kind, **options)


BOMBS: dict[str, Callable[[], bytes]] = {
    "palette with transparency.png": lambda: png(_PALETTE, 8, transparent=True),
    "1 bit.png": lambda: png(_GREY, 1),
    "16 bits grey.png": lambda: png(_GREY, 16),
    "16 bits grey with transparency.png": lambda: png(_GREY, 16, transparent=True),
    "colour with transparency.png": lambda: png(_COLOUR, 8, transparent=True),
    "alpha.png": lambda: png(_ALPHA, 8),
    "16 bits alpha.png": lambda: png(_ALPHA, 16),
    "grey and alpha, interlaced.png": lambda: png(_GREY_ALPHA, 8, interlaced=True),
    "palette.gif": large("P", "GIF"),
    "lossless.webp": large("RGB", "WEBP", lossless=True, method=0, quality=0),
    "deflate.tif": large("RGB", "TIFF", compression="tiff_adobe_deflate"),
    "fax.tif": large("1", "TIFF", compression="group4"),
    "16 bits.tif": large("I;16", "TIFF", compression="tiff_adobe_deflate"),
    "grey.jpg": large("L", "JPEG"),
    "progressive.jpg": large("L", "JPEG", progressive=True),
    "1 bit.bmp": large("1", "BMP"),
    # The first is nearly as large as such a JPEG may be.
    f"{SCANS} scans.jpg": lambda: jpeg_of_many_scans(1000, 800),
    f"{SCANS} larger scans.jpg": lambda: jpeg_of_many_scans(1600, 1200),
}
COMMANDS = ("index", "collect", "clean")


def prepare(shared: Path) -> None:
    case = prepared(shared)
    (shared / "bombs").mkdir()
    for name, make in BOMBS.items():
        (shared / "bombs" / name).write_bytes(make())
    (shared / "ordinary").mkdir()
    (shared / "ordinary" / "photo.jpg").write_bytes(encoded(photo(1), "JPEG"))
    costs = {}
    for command in COMMANDS:
        ran = attack_with(case, command, shared / "ordinary" / "photo.jpg")
        costs[command] = ran.peak_bytes, ran.processor_seconds
    (shared / "costs.json").write_text(json.dumps(costs))


def attack_with(case: Case, command: str, file: Path) -> Ran:
    """Run a command on a file."""
    place = case.folder / command
    place.mkdir()
    (place / "class").mkdir()
    (place / "class" / f"photo{file.suffix}").symlink_to(file)
    if command == "index":
        return outside(case, "index", place / "class", "--index", place / "index", codes=(DONE,))
    if command == "clean":
        return outside(case, "clean", place, "--only", "corrupt", codes=(DONE, FOUND))
    with RawServer(files_of(place)) as server:
        source = place / "list.txt"
        source.write_text(server.url(f"class/photo{file.suffix}"))
        return outside(
            case, "collect", source, "--out", place / "out", "--allow-private",
            codes=(DONE, FOUND, INPUT),
        )  # fmt: skip


def run(case: Case) -> None:
    name, command = [(name, command) for name in BOMBS for command in COMMANDS][
        case.number % (len(BOMBS) * len(COMMANDS))
    ]
    case.kind = f"{command}, {name}"
    case.note(case.kind)
    ran = attack_with(case, command, case.shared / "bombs" / name)
    peak, seconds = json.loads((case.shared / "costs.json").read_text())[command]
    more_bytes, more_seconds = ran.peak_bytes - peak, ran.processor_seconds - seconds
    what = f"{more_bytes / 1e6:,.0f} MB and {more_seconds:.1f} seconds more than a small photo"
    case.note(what)
    case.outcome = "within the limits"
    limit = MAX_SCANS_SECONDS if "scans" in name else MAX_PROCESSOR_SECONDS
    if more_bytes > MAX_BYTES or more_seconds > limit:
        raise PromiseBroken(f"{case.kind}: {what}")


ATTACK = Attack(
    inputs="photos of 250 megapixels in small files, and two JPEGs of 490 scans, under `index`, "
    "`collect` and `clean`",
    promise=(
        f"at most {MAX_BYTES / 1e9:g} GB and {MAX_PROCESSOR_SECONDS:g} seconds of the processor "
        f"more than for a small photo, {MAX_SCANS_SECONDS:g} for the scans"
    ),
    run=run,
    cases=len(BOMBS) * len(COMMANDS),
    seconds=120,
    prepare=prepare,
    alone=True,
)
