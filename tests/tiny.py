"""A fast fake encoder and extractor with predictable results, and photos for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veduta.keypoints import Keypoints, MutualMatching, loading
from veduta.keypoints.features import quantised
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
        return _unit(rows)

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "identity": self.identity, "dimension": self.dimension}


class CentredEncoder(TinyEncoder):
    """The same grid around grey: photos of different things are about at right angles."""

    def encode(self, prepared: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
        rows = np.stack([part[0].reshape(-1) for part in prepared]).astype(np.float32) - 127.3
        with self._lock:
            self.encoded += len(prepared)
        return _unit(rows)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


class DescribedEncoder(CentredEncoder):
    """The same encoder with all that evaluations note of one."""

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "runtime": "none", "precision": "float32"}


class TinyExtractor:
    """Keypoints of the scene that the first pixel names: 60 points, moved a little by the view."""

    name = "tiny"
    count = 60
    long_side = 64
    matching = MutualMatching(min_similarity=0.82)
    calibration = "xfeat"
    default_count = 60
    stored_bits = 8
    form = ""

    @classmethod
    def load(cls, count: int, threads: int) -> TinyExtractor:
        del count, threads
        return cls()

    def __init__(self, identity: str = "00000000feedbeef") -> None:
        self.identity = identity
        self.extracted = 0
        self._lock = threading.Lock()

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        with self._lock:
            self.extracted += 1
        red, green, blue = (int(value) for value in pixels[0, 0])
        return scene_keypoints(256 * red + green, blue, width, height)


# Indexes of the tests name it in their manifest.
loading._EXTRACTORS[TinyExtractor.name] = TinyExtractor


def scene_keypoints(scene: int, view: int, width: int = 48, height: int = 32) -> Keypoints:
    """Return what `TinyExtractor` finds in a photo of `scene`."""
    rng = np.random.default_rng(scene)
    descriptors = quantised(rng.standard_normal((TinyExtractor.count, 64)))
    points = rng.uniform(0.1, 0.8, (TinyExtractor.count, 2)) + view % 16 / 200
    xy = (points * (width, height)).astype(np.float32)
    return Keypoints(xy, descriptors, width, height)


def view(scene: int, number: int = 0, noise: float = 0.15) -> NDArray[np.uint8]:
    """Return a photo of `scene`, each number another one; the first pixel names both."""
    own = np.random.default_rng((scene, number)).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    other = np.asarray(Image.fromarray(own).resize((48, 32), Image.Resampling.BICUBIC))
    mixed = (1 - noise) * pixels(scene) + noise * other
    photo: NDArray[np.uint8] = mixed.astype(np.uint8)
    photo[0, 0] = scene // 256, scene % 256, number
    return photo


def save_view(path: Path, scene: int, number: int = 0, noise: float = 0.15) -> Path:
    """Write a photo of `scene` to `path`, without loss if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(view(scene, number, noise)).save(path)
    return path


def pixels(seed: int, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    """Smooth noise, so that JPEG and resizing keep it recognisable."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, seed: int, **options: Any) -> Path:
    """Write the photo `seed` to `path`, in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path, **options)
    return path


def photo_folder(folder: Path, number: int, classes: int = 3) -> list[Path]:
    """Fill `folder` with `number` photos in class folders."""
    return [save(folder / f"class{i % classes}" / f"photo{i:04}.png", i) for i in range(number)]
