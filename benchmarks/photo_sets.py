"""Photos to measure with, made from real ones where there are some, and kept for the next run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import ROOT

# Where photos may lie, the best first. Only read, never copied.
SOURCES = (
    ROOT.parent / "shared" / "data" / "landmarks30" / "images",
    ROOT / ".demo" / "samples" / "skimage" / "data",
)
QUALITY = 90


def sources() -> list[Path]:
    """Real photos, or an empty list. Every fifth, so that few show one place."""
    for folder in SOURCES:
        found = sorted(folder.rglob("*.jpg"))
        if found:
            return found[::5] if len(found) > 500 else found
    return []


def scenes(at_least: int) -> Iterator[Image.Image]:
    """Yield photos without end, about `at_least` pixels long or more: the sources, or made up."""
    files = sources()
    number = 0
    while True:
        if files:
            with Image.open(files[number % len(files)]) as photo:
                photo.draft("RGB", (at_least, at_least))
                yield photo.convert("RGB")
        else:
            yield made_up(number)
        number += 1


def made_up(seed: int) -> Image.Image:
    """Noise at every scale, weaker the finer it is, as in photos."""
    rng = np.random.default_rng(seed)
    total = np.zeros((480, 640, 3), np.float32)
    for cells in (3, 6, 12, 24, 48, 96, 192):
        part = rng.integers(0, 256, (cells, cells + cells // 3, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(part).resize((640, 480), Image.Resampling.BICUBIC)) / (
            cells**0.5
        )
    total -= total.min()
    return Image.fromarray((total * (255 / total.max())).astype(np.uint8))


def twelve_megapixels(work: Path, number: int) -> Path:
    """A folder of `number` JPEGs of 4000 × 3000 pixels, 3 to 5 MB each: enlarged, with grain."""
    folder = work / f"12-megapixel-{number}"
    if _complete(folder, number):
        return folder
    rng = np.random.default_rng(12)
    grain = rng.normal(0, 7, (3200, 4200, 1)).astype(np.int16)
    for position, photo in zip(range(number), scenes(4000), strict=False):
        large = _cover(photo, 4000, 3000)
        top, left = rng.integers(0, 200, 2)
        pixels = large + grain[top : top + 3000, left : left + 4000]
        _save(np.clip(pixels, 0, 255).astype(np.uint8), folder, position)
    return folder


def thousands(work: Path, number: int, long_side: int) -> list[Path]:
    """Folders of up to a thousand small photos, `number` in all; a larger set holds a smaller."""
    return [
        small(work, min(1000, number - start), long_side, series=start // 1000)
        for start in range(0, number, 1000)
    ]


def small(work: Path, number: int, long_side: int, series: int = 0) -> Path:
    """A folder of `number` JPEGs of that long side, no two alike: cut, mirrored, of their shape."""
    folder = work / f"{long_side}-pixel-{number}-{series}"
    if _complete(folder, number):
        return folder
    rng = np.random.default_rng([long_side, series])
    whole = len(sources()) if series == 0 else 0  # after these, photos come again: cut
    for position, photo in zip(range(number), scenes(long_side), strict=False):
        width, height = photo.size
        cut = rng.uniform(0, 0.12, 4) if position >= whole else np.zeros(4)
        box = cut[0] * width, cut[1] * height, (1 - cut[2]) * width, (1 - cut[3]) * height
        scale = long_side / max(box[2] - box[0], box[3] - box[1])
        size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS, box=box))
        _save(pixels[:, ::-1] if rng.random() < 0.5 else pixels, folder, position)
    return folder


def _complete(folder: Path, number: int) -> bool:
    return folder.is_dir() and len(list(folder.glob("*.jpg"))) == number


def _cover(photo: Image.Image, width: int, height: int) -> NDArray[np.int16]:
    scale = max(width / photo.width, height / photo.height)
    box = width / scale, height / scale
    large = photo.resize((width, height), Image.Resampling.BICUBIC, box=(0, 0, *box))
    return np.asarray(large).astype(np.int16)


def _save(pixels: NDArray[np.uint8], folder: Path, position: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{position:06}.jpg", quality=QUALITY)
