"""Photos for measurements of speed. They are made from real photos if there are any, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.processes import ROOT

# Folders of real photos, the best first. Their files are only read.
SOURCE_FOLDERS = (
    ROOT.parent / "shared" / "data" / "landmarks30" / "images",
    ROOT / ".demo" / "samples" / "skimage" / "data",
)
STRANGERS = ROOT.parent / "shared" / "data" / "objects20" / "images"
DISTRACTORS = "_distractors"
JPEG_QUALITY = 90
KEPT_OF_LARGE_FOLDERS = 5


def source_photos(first: int = 0) -> list[Path]:
    """Return real photos, or none. Of a large folder every fifth, so that few are alike.

    Args:
        first: another number, below 5, returns other photos of a large folder.
    """
    for folder in SOURCE_FOLDERS:
        files = sorted(folder.rglob("*.jpg"))
        if files:
            return files[first::KEPT_OF_LARGE_FOLDERS] if len(files) > 500 else files
    return []


def endless_photos(min_side: int) -> Iterator[Image.Image]:
    """Yield the source photos again and again, or synthetic photos.

    Args:
        min_side: photos are decoded to about this long side, in pixels, or more.
    """
    files = source_photos()
    number = 0
    while True:
        if files:
            with Image.open(files[number % len(files)]) as photo:
                photo.draft("RGB", (min_side, min_side))
                yield photo.convert("RGB")
        else:
            yield synthetic_photo(number)
        number += 1


def synthetic_photo(seed: int) -> Image.Image:
    """Return noise at every scale. Fine noise is weaker, as in photos."""
    rng = np.random.default_rng(seed)
    total = np.zeros((480, 640, 3), np.float32)
    for cells in (3, 6, 12, 24, 48, 96, 192):
        noise = rng.integers(0, 256, (cells, cells + cells // 3, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
        total += np.asarray(layer) / cells**0.5
    total -= total.min()
    return Image.fromarray((total * (255 / total.max())).astype(np.uint8))


def twelve_megapixels(work: Path, count: int) -> Path:
    """Return a folder of `count` JPEGs of 4000 × 3000 pixels, enlarged, with grain, 3 to 5 MB."""
    folder = work / f"12-megapixel-{count}"
    if _complete(folder, count):
        return folder
    rng = np.random.default_rng(12)
    grain = rng.normal(0, 7, (3200, 4200, 1)).astype(np.int16)
    for position, photo in zip(range(count), endless_photos(4000), strict=False):
        large = _cover(photo, 4000, 3000)
        top, left = rng.integers(0, 200, 2)
        pixels = large + grain[top : top + 3000, left : left + 4000]
        _save(np.clip(pixels, 0, 255).astype(np.uint8), folder, position)
    return folder


def folders_of_a_thousand(work: Path, count: int, long_side: int) -> list[Path]:
    """Return folders of up to a thousand small photos. A larger set contains a smaller one.

    Args:
        work: where the folders are kept.
        count: number of photos in all.
        long_side: of the photos, in pixels.
    """
    return [
        small(work, min(1000, count - start), long_side, series=start // 1000)
        for start in range(0, count, 1000)
    ]


def small(work: Path, count: int, long_side: int, series: int = 0) -> Path:
    """Return a folder of small JPEGs. No two are the same, and some are mirrored.

    Args:
        work: where the folder is kept.
        count: number of photos.
        long_side: of the photos, in pixels.
        series: another number makes other photos. Each source photo is used whole once, in series
            0, and is cut after that.
    """
    folder = work / f"{long_side}-pixel-{count}-{series}"
    if _complete(folder, count):
        return folder
    rng = np.random.default_rng([long_side, series])
    whole_photos = len(source_photos()) if series == 0 else 0
    for position, photo in zip(range(count), endless_photos(long_side), strict=False):
        width, height = photo.size
        cut = rng.uniform(0, 0.12, 4) if position >= whole_photos else np.zeros(4)
        box = cut[0] * width, cut[1] * height, (1 - cut[2]) * width, (1 - cut[3]) * height
        scale = long_side / max(box[2] - box[0], box[3] - box[1])
        size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS, box=box))
        _save(pixels[:, ::-1] if rng.random() < 0.5 else pixels, folder, position)
    return folder


def queries(work: Path, count: int, long_side: int) -> Path:
    """Return a folder of other small photos of what the photos of `small` show.

    Where there are no other photos, it has photos that are cut and mirrored.
    """
    places = [file for file in source_photos(first=2) if file.parent.name != DISTRACTORS]
    files = _spread(places, count)
    return _reduced(work, "queries", files, long_side) or small(work, count, long_side, 1)


def strangers(work: Path, count: int, long_side: int) -> Path:
    """Return a folder of small photos of things that the photos of `small` do not show."""
    files = _spread(sorted(STRANGERS.rglob("*.jpg")), count)
    return _reduced(work, "strangers", files, long_side) or small(work, count, long_side, 1)


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """Return at most `count` files, from all folders alike."""
    numbers = np.linspace(0, len(files) - 1, min(count, len(files)), dtype=int)
    return [files[number] for number in numbers]


def _reduced(work: Path, name: str, files: Sequence[Path], long_side: int) -> Path | None:
    """Return a folder of reduced photos; None if there are no files."""
    folder = work / f"{long_side}-pixel-{len(files)}-{name}"
    if not files or _complete(folder, len(files)):
        return folder if files else None
    for position, file in enumerate(files):
        with Image.open(file) as photo:
            photo.draft("RGB", (long_side, long_side))
            pixels = photo.convert("RGB")
        pixels.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
        _save(np.asarray(pixels), folder, position)
    return folder


def _complete(folder: Path, count: int) -> bool:
    return folder.is_dir() and len(list(folder.glob("*.jpg"))) == count


def _cover(photo: Image.Image, width: int, height: int) -> NDArray[np.int16]:
    scale = max(width / photo.width, height / photo.height)
    box = width / scale, height / scale
    large = photo.resize((width, height), Image.Resampling.BICUBIC, box=(0, 0, *box))
    return np.asarray(large).astype(np.int16)


def _save(pixels: NDArray[np.uint8], folder: Path, position: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{position:06}.jpg", quality=JPEG_QUALITY)
