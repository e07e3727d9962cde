"""A copy under a watermark is one; what only shares a stamp, a frame or a facade is none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from test_copies import scene

from veduta.curate.alignment import CopyAgreement, ReducedPhoto, copy_agreement
from veduta.curate.copies import find_copies
from veduta.keypoints import Extractor
from veduta.keypoints.xfeat import XFeatIn32Bits

Mark = Callable[[Image.Image], Image.Image]


@cache
def extractor() -> Extractor:
    return XFeatIn32Bits.load(512, 1)


def reduced(photo: Image.Image) -> ReducedPhoto:
    pixels = np.asarray(photo)
    scale = 256 / max(photo.size)
    size = round(photo.width * scale), round(photo.height * scale)
    luma = np.asarray(photo.convert("L").resize(size, Image.Resampling.LANCZOS))
    return ReducedPhoto(luma, extractor().extract(pixels, photo.width, photo.height))


def compared(first: Image.Image, second: Image.Image) -> CopyAgreement | None:
    """Both ways round give the same answer."""
    forward = copy_agreement(reduced(first), reduced(second))
    backward = copy_agreement(reduced(second), reduced(first))
    assert (forward is None) == (backward is None)
    return forward


def picture(seed: int, shift: int = 0) -> Image.Image:
    made: NDArray[np.uint8] = scene(seed, 560, 420, shift)
    return Image.fromarray(made)


def over(photo: Image.Image, draw: Callable[[ImageDraw.ImageDraw], object]) -> Image.Image:
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    draw(ImageDraw.Draw(layer))
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def written(photo: Image.Image) -> Image.Image:
    """The same words all over, slantwise."""
    layer = Image.new("RGBA", (photo.width * 2, photo.width * 2), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(size=34)
    for y in range(0, layer.height, 90):
        draw.text((y % 180, y), "DO NOT USE   PREVIEW   " * 6, fill=(255, 255, 255, 150), font=font)
    layer = layer.rotate(30)
    left, top = (layer.width - photo.width) // 2, (layer.height - photo.height) // 2
    layer = layer.crop((left, top, left + photo.width, top + photo.height))
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def logo(photo: Image.Image) -> Image.Image:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        x, y, r = photo.width / 2, photo.height / 2, photo.height * 0.32
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(240, 240, 240, 150))
        pen.polygon([(x, y - r), (x + r, y + r / 2), (x - r, y + r / 2)], fill=(20, 20, 120, 170))

    return over(photo, draw)


def bar(photo: Image.Image) -> Image.Image:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        top = photo.height * 7 // 10
        pen.rectangle((0, top, photo.width, photo.height), fill=(20, 40, 90, 255))
        font = ImageFont.load_default(size=60)
        pen.text((30, top + 25), "www.archive.example", fill=(255, 240, 80, 255), font=font)

    return over(photo, draw)


def lines(photo: Image.Image) -> Image.Image:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        for start, end in (((0, 0), photo.size), ((0, photo.height), (photo.width, 0))):
            pen.line((*start, *end), fill=(255, 255, 255, 170), width=9)
        font = ImageFont.load_default(size=62)
        for share in (0.1, 0.4, 0.7):
            at = (photo.width / 6, share * photo.height)
            pen.text(at, "(c) SAMPLE", fill=(255, 255, 255, 140), font=font)

    return over(photo, draw)


def framed(photo: Image.Image) -> Image.Image:
    """Reduced, within an ornate frame that takes half of the picture."""
    inner = photo.resize((photo.width * 7 // 10, photo.height * 7 // 10))
    made = picture(77).resize(photo.size)
    made.paste(inner, (photo.width * 15 // 100, photo.height * 15 // 100))
    return made


MARKS: dict[str, Mark] = {"written": written, "logo": logo, "bar": bar, "lines": lines}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("name", MARKS)
def test_a_marked_copy_is_one(name: str, seed: int) -> None:
    photo = picture(seed)
    found = compared(photo, MARKS[name](photo))
    assert found is not None
    assert found.overlap > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", MARKS)
def test_a_marked_copy_may_be_smaller_and_cut(name: str) -> None:
    photo = picture(14)
    copy = MARKS[name](photo).crop((20, 15, 530, 400)).resize((408, 308))
    assert compared(photo, copy) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MARKS, "framed"])
@pytest.mark.parametrize("seeds", [(21, 22), (23, 24), (25, 26)])
def test_the_same_mark_makes_no_copies(name: str, seeds: tuple[int, int]) -> None:
    mark = {**MARKS, "framed": framed}[name]
    assert compared(*(mark(picture(seed)) for seed in seeds)) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 34))
def test_another_view_is_no_copy_marked_or_not(seed: int) -> None:
    photo, view = picture(seed), picture(seed, shift=14)
    assert compared(photo, view) is None
    assert compared(photo, lines(view)) is None


def facade(seed: int, start: int) -> Image.Image:
    """The same window again and again; only what stands before it differs."""
    window = np.asarray(picture(40).resize((70, 70)))
    made = np.tile(window, (7, 10, 1))[:420, start : start + 560].copy()
    rng = np.random.default_rng(seed)
    for _ in range(14):
        x, y = rng.integers(0, 500), rng.integers(160, 330)
        made[y : y + 90, x : x + 40] = rng.integers(0, 256, (1, 1, 3))
    return Image.fromarray(made)


def test_two_parts_of_a_repeated_facade_are_no_copies() -> None:
    assert compared(facade(1, 0), facade(2, 70)) is None
    assert compared(facade(1, 0), facade(2, 35)) is None


@pytest.mark.slow
def test_marked_copies_are_found_among_photos(tmp_path: Path) -> None:
    files = []
    for seed in (51, 52, 53):
        for name, mark in {"original": lambda photo: photo, **MARKS}.items():
            files.append(tmp_path / f"{seed}-{name}.jpg")
            mark(picture(seed)).save(files[-1], quality=80)
    mirrored = tmp_path / "51-mirrored.jpg"
    ImageOps.mirror(bar(picture(51))).save(mirrored, quality=80)
    files.append(mirrored)
    pairs = find_copies(files, folder=tmp_path / "cache")
    of = [file.stem.split("-")[0] for file in files]
    assert all(of[pair.first] == of[pair.second] for pair in pairs)
    kinds = {(files[p.first].stem, files[p.second].stem): p.kind for p in pairs}
    for seed in (51, 52, 53):
        for name in MARKS:
            assert kinds[f"{seed}-original", f"{seed}-{name}"] == "edited"
    assert kinds["51-original", "51-mirrored"].startswith("mirrored")
