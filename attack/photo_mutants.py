"""Damaged photos of every format, and of every way to store pixels in it."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attack.case import Attack, Case, PromiseBroken
from attack.material import encoded, photo
from attack.mutants import damaged

HERE = Path(__file__).parent
MUTANTS_PER_CASE = 50
DECODED_SIDES = (None, 16, 64, 512)
SIDES = (96, 72)
MAX_PROCESSOR_SECONDS = 5.0
MAX_BYTES = 1_000_000_000


def seed_photos() -> dict[str, bytes]:
    """Return whole photos, by a name whose first word is the format as its extension says it."""
    colour = photo(1, SIDES)
    grey, palette = colour.convert("L"), colour.convert("P")
    with_alpha = colour.copy()
    with_alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2024:02:03 04:05:06"
    more: dict[str, Any] = {"save_all": True, "append_images": [photo(2, SIDES)]}
    seeds = {
        "jpg baseline": encoded(colour, "JPEG", exif=exif),
        "jpg progressive": encoded(colour, "JPEG", progressive=True),
        "jpg grey": encoded(grey, "JPEG"),
        "jpg CMYK": encoded(colour.convert("CMYK"), "JPEG"),
        "jpg restarts": encoded(colour, "JPEG", restart_marker_blocks=2, subsampling=0),
        "png colour": encoded(colour, "PNG", exif=exif),
        "png alpha": encoded(with_alpha, "PNG"),
        "png palette": encoded(palette, "PNG", transparency=3),
        "png grey and alpha": encoded(with_alpha.convert("LA"), "PNG"),
        "png 16 bits": encoded(deep, "PNG"),
        "png 1 bit": encoded(colour.convert("1"), "PNG"),
        "png animated": encoded(colour, "PNG", **more),
        "gif": encoded(palette, "GIF"),
        "gif animated": encoded(palette, "GIF", **more),
        "webp lossy": encoded(colour, "WEBP", exif=exif),
        "webp lossless": encoded(with_alpha, "WEBP", lossless=True),
        "webp animated": encoded(colour, "WEBP", **more),
        "tif plain": encoded(colour, "TIFF"),
        "tif LZW": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tif deflate": encoded(with_alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tif JPEG": encoded(colour, "TIFF", compression="jpeg"),
        "tif packbits": encoded(palette, "TIFF", compression="packbits"),
        "tif fax": encoded(colour.convert("1"), "TIFF", compression="group4"),
        "tif 16 bits": encoded(deep, "TIFF"),
        "tif CMYK": encoded(colour.convert("CMYK"), "TIFF"),
        "tif pages": encoded(colour, "TIFF", **more),
        "bmp colour": encoded(colour, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "bmp 1 bit": encoded(colour.convert("1"), "BMP"),
        "jp2": encoded(colour, "JPEG2000"),
        "heic": (HERE / "photo.heic").read_bytes(),
        "jxl": (HERE / "photo.jxl").read_bytes(),
    }
    with contextlib.suppress(KeyError, OSError):  # Pillow may be built without AVIF.
        seeds["avif"] = encoded(colour, "AVIF", exif=exif)
    return seeds


def prepare(shared: Path) -> None:
    from veduta.errors import UnsupportedFormat
    from veduta.photos import FORMATS, decode

    formats = set()
    for name, data in seed_photos().items():
        try:
            formats.add(decode(data, path=name).format)
        except UnsupportedFormat:
            continue  # A format that needs an extra.
        (shared / name).write_bytes(data)
    if missing := set(FORMATS) - formats - _UNWRITABLE:
        raise RuntimeError(f"no seed photo of the formats {missing}")


# Camera raw files are large, and no library writes them.
_UNWRITABLE = frozenset({"RAW", "AVIF", "JXL", "JP2", "JPEGXL", "JPEG2000"})


def run(case: Case) -> None:
    seeds = sorted(case.shared.glob("*"))
    seed = seeds[case.number % len(seeds)]
    case.kind = seed.name.split()[0]
    data = seed.read_bytes()
    case.tries = MUTANTS_PER_CASE
    count = {"decoded": 0, "refused": 0}
    for number in range(MUTANTS_PER_CASE):
        what, mutant = damaged(data, case.rng)
        for _ in range(case.rng.randrange(3)):
            what, mutant = damaged(mutant, case.rng)
        (case.folder / f"mutant.{case.kind}").write_bytes(mutant)
        at_least = case.rng.choice(DECODED_SIDES)
        case.note(f"{number}: {seed.name}, {what}, at_least {at_least}")
        count["decoded" if decodes(mutant, case, at_least) else "refused"] += 1
    case.outcome = "pixels or a reason"
    case.note(str(count))


def decodes(data: bytes, case: Case, at_least: int | None) -> bool:
    """Return whether bytes give pixels; a `PhotoError` says that they do not."""
    from veduta.errors import PhotoError
    from veduta.photos import decode

    before = _reset_peak()
    started = time.process_time()
    try:
        pixels = decode(data, path=case.folder / "mutant", at_least=at_least).pixels
        good = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        if not good or not pixels.size:
            raise PromiseBroken(f"no pixels: {pixels.dtype} {pixels.shape}")
    except PhotoError as error:
        if not error.reason or "\n" in error.reason:
            raise PromiseBroken(f"no reason in one line: {error!r}") from error
        return False
    else:
        return True
    finally:
        seconds = time.process_time() - started
        if seconds > MAX_PROCESSOR_SECONDS:
            raise PromiseBroken(f"it took {seconds:.1f} seconds")
        grown = _peak() - before
        if grown > MAX_BYTES:
            raise PromiseBroken(f"it took {grown / 1e6:,.0f} MB")


def _reset_peak() -> int:
    """Let the kernel measure the peak anew; return the memory that is held now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()  # The peak of the process until now is the floor then.
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text("utf-8")
    found = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


ATTACK = Attack(
    inputs=f"{MUTANTS_PER_CASE} damaged photos a case, of every format and layout",
    promise=(
        f"pixels or a reason, in {MAX_PROCESSOR_SECONDS:g} seconds and "
        f"{MAX_BYTES / 1e9:g} GB at most"
    ),
    run=run,
    cases=320,
    seconds=120,
    prepare=prepare,
)
