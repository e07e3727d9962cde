"""A set of copies in the layout of Copydays, made from photos of landmarks30.

Copydays (Douze et al., CIVR 2009) has JPEG qualities 3 to 75, crops that take 10 to 80 % of the
area away, and strong edits made by hand. Here the strong copies are the eight orientations and six
edits that a program makes. Copydays reduces the photos before it saves them as JPEG; here they keep
their size.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from benchmarks.copies import Change, cut

JPEG_QUALITIES = (3, 5, 8, 10, 15, 20, 30, 50, 75)
CUT_PERCENTS = (10, 15, 20, 30, 40, 50, 60, 70, 80)
# Not one of JPEG_QUALITIES: no two copies may have the same bytes.
QUALITY_OF_OTHERS = 85
FIRST_BLOCK = 2000
SEED = 11


def with_text(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Write lines across the photo."""
    image = photo.copy()
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, photo.width // 8))
    for line in (1, 4, 7):
        place = rng.randint(0, photo.width // 4), photo.height * line // 10
        colour = rng.choice(("white", "yellow", "black"))
        draw.text(place, "BREAKING NEWS", fill=colour, font=font)
    return image


def with_logo(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Cover an eighth of the photo or so by an opaque disc with a letter."""
    image = photo.copy()
    draw = ImageDraw.Draw(image)
    size = round((photo.width * photo.height / 6) ** 0.5)
    left, top = rng.randint(0, photo.width - size), rng.randint(0, photo.height - size)
    colour = rng.choice(("crimson", "navy", "gold"))
    draw.ellipse((left, top, left + size, top + size), fill=colour)
    font = ImageFont.load_default(size=max(10, size // 2))
    draw.text((left + size // 3, top + size // 5), "V", fill="white", font=font)
    return image


def blurred(photo: Image.Image, rng: random.Random) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(photo.width * rng.uniform(0.008, 0.012)))


def with_other_contrast(photo: Image.Image, rng: random.Random) -> Image.Image:
    image = ImageEnhance.Contrast(photo).enhance(rng.choice((0.4, 2.0)))
    return ImageEnhance.Brightness(image).enhance(rng.choice((0.7, 1.4)))


def with_border(photo: Image.Image, rng: random.Random) -> Image.Image:
    width = round(min(photo.size) * rng.uniform(0.1, 0.2))
    return ImageOps.expand(photo, border=width, fill=rng.choice(("white", "black", "grey")))


def printed_and_photographed(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Imitate a print that is photographed aslant: perspective, dull colours, shade and noise."""
    width, height = photo.size
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)], np.float64)
    shift = np.array([[rng.uniform(-0.07, 0.07) for _ in "xy"] for _ in corners])
    source = corners + shift * (width, height)
    dull = ImageEnhance.Color(photo).enhance(0.6).filter(ImageFilter.GaussianBlur(1))
    slanted = dull.transform(
        photo.size,
        Image.Transform.PERSPECTIVE,
        perspective(corners, source),
        resample=Image.Resampling.BICUBIC,
        fillcolor="white",
    )
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 10, (height, width, 3))
    shade = np.linspace(0.75, 1.1, width)[None, :, None]
    pixels = (np.asarray(slanted) * 0.8 + 30) * shade + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def perspective(to: np.ndarray, source: np.ndarray) -> list[float]:
    """Return the eight numbers for Pillow that map the points `to`, (4, 2), to `source`."""
    rows, right = [], []
    for (x, y), (u, v) in zip(to, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    numbers: list[float] = np.linalg.solve(np.array(rows), np.array(right)).tolist()
    return numbers


def turned(quarters: int, *, mirror: bool) -> Change:
    def change(photo: Image.Image, _: random.Random) -> Image.Image:
        return (ImageOps.mirror(photo) if mirror else photo).rotate(90 * quarters, expand=True)

    return change


STRONG: dict[str, Change] = {
    "as it is": turned(0, mirror=False),
    "turned by 90°": turned(1, mirror=False),
    "turned by 180°": turned(2, mirror=False),
    "turned by 270°": turned(3, mirror=False),
    "mirrored": turned(0, mirror=True),
    "mirrored, turned by 90°": turned(1, mirror=True),
    "mirrored, turned by 180°": turned(2, mirror=True),
    "mirrored, turned by 270°": turned(3, mirror=True),
    "text": with_text,
    "logo": with_logo,
    "blur": blurred,
    "contrast": with_other_contrast,
    "border": with_border,
    "print, photographed aslant": printed_and_photographed,
}
"""The strong copies in the order of their numbers, from 1."""


def kind_of(query: str) -> str:
    """Return the kind of change of a copy, as tables have it, for its path in the set."""
    folder, level, *_ = query.split("/")
    if folder == "jpeg":
        return "JPEG quality 3–15" if int(level) <= 15 else "JPEG quality 20–75"
    if folder == "crops":
        return "60–80 % cut away" if int(level) >= 60 else "10–50 % cut away"
    change = list(STRONG)[int(level[4:6]) - 1]
    if change in ("turned by 90°", "turned by 270°"):
        return "turned by a quarter"
    return "mirrored and turned" if change.startswith("mirrored,") else change


def write_set(
    originals: Sequence[Path], distractors: Sequence[Path], folder: Path, *, seed: int = SEED
) -> None:
    """Write the set, in place of one that is there.

    Args:
        originals: JPEG files, at most 8,000.
        distractors: JPEG files.
        folder: of the set.
        seed: of the changes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for number, file in enumerate(distractors):
        put = folder / "distractors" / f"{number:06}.jpg"
        put.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, put)
    for number, file in enumerate(originals):
        block = FIRST_BLOCK + number
        rng = random.Random(f"{seed} {number}")
        original = folder / "original" / f"{block}00.jpg"
        original.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, original)
        with Image.open(file) as opened:
            photo = ImageOps.exif_transpose(opened).convert("RGB")
        for quality in JPEG_QUALITIES:
            _save(photo, folder / "jpeg" / str(quality) / original.name, quality)
        for percent in CUT_PERCENTS:
            part = cut(1 - percent / 100)(photo, rng)
            _save(part, folder / "crops" / str(percent) / original.name, QUALITY_OF_OTHERS)
        for strong, change in enumerate(STRONG.values(), start=1):
            copy = folder / "strong" / f"{block}{strong:02}.jpg"
            _save(change(photo, rng), copy, QUALITY_OF_OTHERS)


def _save(photo: Image.Image, file: Path, quality: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    photo.save(file, quality=quality)
