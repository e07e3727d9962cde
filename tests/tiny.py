"""A stand-in encoder, quick and predictable, and photos to go with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veduta.photos import resize


class TinyEncoder:
    """An 8 × 8 colour grid of the photo, of unit length: 192 dimensions."""

    dimension = 192
    long_side = 64

    def __init__(self, name: str = "tiny", identity: str = "0123456789abcdef") -> None:
        self.name = name
        self.identity = identity
        self.encoded = 0
        self._lock = threading.Lock()

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        return (resize(pixels, 8, 8),)

    def encode(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
        with self._lock:
            self.encoded += len(prepared)
        rows = np.stack([part[0].reshape(-1) for part in prepared]).astype(np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "identity": self.identity, "dimension": self.dimension}


def pixels(seed: int, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    """Smooth noise, so that JPEG and resizing keep it recognisable."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, seed: int, **options: object) -> Path:
    """Write the photo `seed` to `path`, in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path, **options)
    return path


def photo_folder(folder: Path, number: int, classes: int = 3) -> list[Path]:
    """Fill `folder` with `number` photos in class folders."""
    return [save(folder / f"class{i % classes}" / f"photo{i:04}.png", i) for i in range(number)]
