"""Photos and folders for the tests of cleaning, and a description of photos that is fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tiny import CentredEncoder, TinyExtractor

from veduta.curate.cleaning import Cleaning, clean
from veduta.curate.described_photos import DescribedPhotos, OnProgress, describe_photos


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Noise at several scales and sharp edges, as photos have them."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12, 48, 120):
        part = rng.integers(0, 256, (cells, cells + cells // 3, 3), dtype=np.uint8)
        how = Image.Resampling.NEAREST if cells == 12 else Image.Resampling.BICUBIC
        total += np.asarray(Image.fromarray(part).resize((width, height), how), np.float32)
    return Image.fromarray((total / 4).astype(np.uint8))


def tiny_described(
    folder: Path,
) -> Callable[[Sequence[Path], OnProgress | None], DescribedPhotos]:
    def describe(files: Sequence[Path], tell: OnProgress | None) -> DescribedPhotos:
        return describe_photos(
            files,
            folder=folder / "cache",
            on_progress=tell,
            encoder=CentredEncoder(),
            extractor=TinyExtractor(),
        )  # type: ignore[arg-type]

    return describe


def cleaned(folder: Path, *only: str, **options: object) -> Cleaning:
    return clean(folder, only=only, **options)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            link = path.is_symlink()
            found[str(path.relative_to(root))] = os.readlink(path) if link else path.read_bytes()
    return found


def planted(root: Path, paths: Sequence[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode("utf-8", "surrogateescape"))
