"""Photos with a known answer: other views of freely licensed photos, made by a seeded program.

Each subject of the demo is one photo that scikit-image ships. `write_photos` gives it a folder in
the gallery with the photo itself and views of it from other positions, in other light and with
other losses, and a harder view as a query. The query of the motorcycle comes from the other camera
of a stereo pair, so one answer does not depend on our own distortions alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veduta.errors import DatasetError, readable
from veduta.files import write_bytes

__all__ = ["SUBJECTS", "DemoPhotos", "Subject", "rephotograph", "write_photos"]

VIEWS = 11
SEED = 1764
_GALLERY_STRENGTH, _QUERY_STRENGTH = 0.6, 1.0  # see `rephotograph`
_PHOTO_QUALITY = 92  # of JPEG
_MIN_SIDE, _MAX_SIDE = 320, 640  # pixels of the long side of a view
_SHORTEST_SIDE = 32  # pixels


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing to find: its name, its photo, and the photo that its query is made from."""

    name: str
    photo: str
    query_from: str


def _subject(name: str, photo: str, query_from: str | None = None) -> Subject:
    return Subject(name, photo, query_from or photo)


# Drawings, test patterns, logos and photos below 150 pixels of scikit-image are left out.
SUBJECTS = (
    _subject("astronaut", "astronaut.png"),
    _subject("brick", "brick.png"),
    _subject("camera", "camera.png"),
    _subject("cat", "chelsea.png"),
    _subject("cell", "cell.png"),
    _subject("clock", "clock_motion.png"),
    _subject("coffee", "coffee.png"),
    _subject("coins", "coins.png"),
    _subject("deep-field", "hubble_deep_field.jpg"),
    _subject("grass", "grass.png"),
    _subject("gravel", "gravel.png"),
    _subject("moon", "moon.png"),
    _subject("motorcycle", "motorcycle_left.png", "motorcycle_right.png"),
    _subject("page", "page.png"),
    _subject("retina", "retina.jpg"),
    _subject("rocket", "rocket.jpg"),
    _subject("text", "text.png"),
    _subject("tissue", "ihc.png"),
)


@dataclass(frozen=True, slots=True)
class DemoPhotos:
    """The folders of the photos: `gallery/NAME/*.jpg` and `queries/NAME/*.jpg` for each subject."""

    gallery: Path
    queries: Path
    subjects: Sequence[Subject]


def write_photos(
    source: Path,
    folder: Path,
    *,
    subjects: Sequence[Subject] = SUBJECTS,
    views: int = VIEWS,
    seed: int = SEED,
) -> DemoPhotos:
    """Write the gallery and the queries of the demo below `folder`.

    A file that has the same bytes already is left untouched, so a second run changes nothing.

    Args:
        source: the folder `skimage/data` of a scikit-image wheel.
        folder: the folder of `gallery` and `queries`; made if it is missing.
        subjects: what to find.
        views: of each subject, beside the photo itself.
        seed: fixes every view: the same seed and libraries give the same bytes.

    Raises:
        DatasetError: a photo of a subject is not in `source`.
    """
    demo_photos = DemoPhotos(folder / "gallery", folder / "queries", subjects)
    originals = [(_open(source / s.photo), _open(source / s.query_from)) for s in subjects]
    for number, (subject, (photo, query_from)) in enumerate(zip(subjects, originals, strict=True)):
        gallery = demo_photos.gallery / subject.name
        _write(gallery / f"{subject.name}.jpg", _jpeg(photo, _PHOTO_QUALITY))
        for view in range(views):
            rng = np.random.default_rng([seed, number, view])
            jpeg = rephotograph(photo, rng, _GALLERY_STRENGTH)
            _write(gallery / f"{subject.name}-{view + 1:02}.jpg", jpeg)
        rng = np.random.default_rng([seed, number, views])
        query = rephotograph(query_from, rng, _QUERY_STRENGTH)
        _write(demo_photos.queries / subject.name / f"{subject.name}-query.jpg", query)
    return demo_photos


def rephotograph(photo: Image.Image, rng: np.random.Generator, strength: float) -> bytes:
    """Return a JPEG of `photo` as another camera might have taken it.

    In this order: a crop seen in perspective (never beyond the edge, so no border appears), size,
    brightness, contrast and colour of the light, a shadow across the picture, grain, JPEG.

    Args:
        photo: an RGB picture.
        rng: source of all random numbers.
        strength: 0 changes only the size and the JPEG; 1 may crop each side to 60 %, move each
            corner inward by another sixth, halve the light and compress to JPEG quality 30.
    """
    corners = _view(photo.width, photo.height, rng, strength)
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width, height = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    scale = rng.uniform(_MIN_SIDE, _MAX_SIDE) / max(width, height)
    size = (max(_SHORTEST_SIDE, round(width * scale)), max(_SHORTEST_SIDE, round(height * scale)))
    view = photo.transform(
        size, Image.Transform.PERSPECTIVE, _perspective(size, corners), Image.Resampling.BILINEAR
    )
    lit = _relight(np.asarray(view).astype(np.float32) / np.float32(255), rng, strength)
    grain = rng.standard_normal((*lit.shape[:2], 1), dtype=np.float32) * np.float32(5 * strength)
    pixels = (lit * 255 + grain).clip(0, 255).astype(np.uint8)
    return _jpeg(Image.fromarray(pixels), round(rng.uniform(85 - 55 * strength, 90)))


def _view(
    width: int, height: int, rng: np.random.Generator, strength: float
) -> NDArray[np.float64]:
    """Return (4, 2) corners x, y inside the photo, clockwise from the top left."""
    kept = rng.uniform(1 - 0.4 * strength, 1, size=2)
    start = rng.uniform(0, 1 - kept)
    inward = rng.uniform(0, 0.17 * strength, size=(4, 2))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    corners += inward * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return (start + corners * kept) * (width, height)


def _perspective(size: tuple[int, int], corners: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the 8 coefficients a…h with which Pillow maps a picture of `size` to `corners`.

    x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (g x + h y + 1).
    """
    width, height = size
    equations, targets = [], []
    for (x, y), (u, v) in zip(
        [(0, 0), (width, 0), (width, height), (0, height)], corners, strict=True
    ):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        targets += [u, v]
    solution = np.linalg.solve(np.array(equations, dtype=np.float64), np.array(targets))
    return tuple(float(value) for value in solution)


def _relight(
    pixels: NDArray[np.float32], rng: np.random.Generator, strength: float
) -> NDArray[np.float32]:
    """Return `pixels` (H, W, 3), 0 to 1, in other light; values may exceed 1."""
    height, width = pixels.shape[:2]
    exposure = np.exp2(rng.uniform(-1, 0.6) * strength)
    gamma = np.exp2(rng.uniform(-0.4, 0.4) * strength)
    tint = 1 + rng.uniform(-0.12, 0.12, size=3) * strength
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5) * strength
    across = np.cos(angle) * np.linspace(-0.5, 0.5, width)
    down = np.sin(angle) * np.linspace(-0.5, 0.5, height)[:, None]
    light = exposure * (1 - depth * (0.5 + (across + down) / np.sqrt(2)))
    lit: NDArray[np.float32] = pixels ** np.float32(gamma)
    lit *= light.astype(np.float32)[..., None]
    lit *= tint.astype(np.float32)
    return lit


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as photo:
            return photo.convert("RGB")
    except FileNotFoundError as error:
        raise DatasetError(
            f"{readable(path)}: no such photo. The demo needs the folder skimage/data of "
            "scikit-image, which `make demo` fetches."
        ) from error


def _jpeg(photo: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
