"""Write the codebook of XFeat descriptors in 16 bytes: a rotation and 16 × 256 centroids.

    python -m tools.make_codebook

needs scikit-image, and writes `src/veduta/keypoints/models/xfeat-codebook.npz`. It learns from the
photos that scikit-image ships and from views of them, as the demo makes them. No benchmark judges
hits on them. No photo is in the file, and no labels are needed.

`veduta.keypoints.codebook` describes the method. The rotation begins at random, so that the common
part of all rows is in no single byte, and follows the centroids (the non-parametric solution of Ge
et al.). A rotation that begins with the principal components ends with a larger error.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veduta.demo.sample_photos import SUBJECTS, rephotograph
from veduta.files import atomic_file
from veduta.keypoints import load_extractor
from veduta.keypoints.codebook import CODE_BYTES, CODEBOOK_FILE, COLUMNS

Rows = NDArray[np.float32]

SEED = 1
VIEWS = 11
"""Of each photo, beside the photo itself."""

VIEW_STRENGTH = 0.6
"""As in the gallery of the demo."""

ROWS = 40_000
CENTROIDS = 256
ROTATIONS = 12
"""How often the rotation follows the centroids. With more the error falls by less than 1 %."""

STEPS = 3
"""Of k-means for each rotation."""

LAST_STEPS = 12
"""Of k-means after the last rotation."""


def descriptors(folder: Path, views: int = VIEWS) -> Rows:
    """Return `ROWS` descriptors of length one of the photos of scikit-image in `folder`."""
    rng = np.random.default_rng(SEED)
    extractor = load_extractor()
    rows = []
    for subject in SUBJECTS:
        with Image.open(folder / subject.photo) as file:
            photo = file.convert("RGB")
        seen = [photo]
        for _ in range(views):
            jpeg = rephotograph(photo, rng, VIEW_STRENGTH)
            seen.append(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        for view in seen:
            found = extractor.extract(np.asarray(view), view.width, view.height)
            rows.append(found.descriptors.astype(np.float32))
    every = np.concatenate(rows)
    some = every[rng.permutation(len(every))[:ROWS]]
    return some / np.linalg.norm(some, axis=1, keepdims=True)


def learn(rows: Rows) -> tuple[Rows, Rows]:
    """Return the rotation (64, 64) and the centroids (16, 256, 4) for rows (n, 64)."""
    rng = np.random.default_rng(SEED)
    rotation = np.linalg.qr(rng.normal(size=(COLUMNS, COLUMNS)))[0].astype(np.float32)
    parts = _parts(rows @ rotation)
    centroids = [part[rng.choice(len(part), CENTROIDS, replace=False)] for part in parts]
    centroids = [_moved(c, part, LAST_STEPS) for c, part in zip(centroids, parts, strict=True)]
    for turn in range(ROTATIONS):
        nearest = [c[_nearest(part, c)] for c, part in zip(centroids, parts, strict=True)]
        left, _, right = np.linalg.svd(rows.T @ np.concatenate(nearest, axis=1))
        rotation = (left @ right).astype(np.float32)
        parts = _parts(rows @ rotation)
        steps = LAST_STEPS if turn == ROTATIONS - 1 else STEPS
        centroids = [_moved(c, part, steps) for c, part in zip(centroids, parts, strict=True)]
    return rotation, np.stack(centroids)


def _parts(rows: Rows) -> list[Rows]:
    return np.split(rows, CODE_BYTES, axis=1)


def _nearest(rows: Rows, centroids: Rows) -> NDArray[np.intp]:
    halves = np.einsum("kd,kd->k", centroids, centroids) / 2
    return (rows @ centroids.T - halves).argmax(axis=1)


def _moved(centroids: Rows, rows: Rows, steps: int) -> Rows:
    """Return centroids after some steps of k-means. One that nothing is nearest to stays."""
    for _ in range(steps):
        nearest = _nearest(rows, centroids)
        counts = np.bincount(nearest, minlength=len(centroids))
        sums = [np.bincount(nearest, column, len(centroids)) for column in rows.T]
        means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
        centroids = np.where(counts[:, None] > 0, means, centroids).astype(np.float32)
    return centroids


def main() -> None:
    """Write the file."""
    import skimage

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--photos", type=Path, default=Path(skimage.__file__).parent / "data")
    parser.add_argument("--out", type=Path, default=CODEBOOK_FILE)
    options = parser.parse_args()
    rotation, centroids = learn(descriptors(options.photos))
    with atomic_file(options.out) as draft, draft.open("wb") as file:
        np.savez(file, rotation=rotation, centroids=centroids.astype(np.float16))
    print(f"{options.out.name}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
