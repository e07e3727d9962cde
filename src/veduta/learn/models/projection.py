"""A projection of descriptors learned from labels: it also brings unseen places closer to
themselves.

What photos of one thing differ by (light, season, viewpoint) differs less from thing to thing than
the things do, so directions along which labelled photos of one class scatter are made shorter, for
all photos. Whitening by the scatter within classes: Mikolajczyk and Matas, "Improving descriptors
for fast tree matching by optimal linear projection", ICCV 2007; Radenović, Tolias and Chum, TPAMI
2019, call it learned whitening. The directions in which the classes' means lie apart are stretched
in turn, as in linear discriminant analysis (Fisher, 1936), but keep company with all others, since
new classes lie apart in directions of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import Projection
from veduta.errors import LearnError, readable
from veduta.index.manifest import Manifest
from veduta.index.snapshot import descriptor_array
from veduta.index.table import open_table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["learn_projection", "projection_of_index"]

RIDGE = 10.0
"""Added to the scatter within classes, in parts of its mean over all directions."""

CENTRE = 0.2
"""Share of the mean that is taken off; with all of it, labelled and other photos come closer."""

STRETCH = 0.5
"""By which the directions in which the classes lie apart become longer."""

_NOISE = 1e-7  # share of the largest variance below which a direction is rounding
_BALANCE = 1e-12

Array = NDArray[np.float32]


def learn_projection(
    descriptors: NDArray[np.floating],
    labels: Sequence[str | None] | NDArray[np.integer],
    *,
    ridge: float = RIDGE,
    centre: float = CENTRE,
    stretch: float = STRETCH,
    encoder: str = "",
) -> Projection:
    """Learn a projection of descriptors from the labels of some of them.

    With m the mean of the class means, S the mean over the classes of their covariances, and P the
    projection onto the span of the class means less m: x becomes
    (x - centre · m) (I + S / b)^(-1/2) (I + stretch · P'), where b is `ridge` times the mean
    eigenvalue of S and P' is P of the means after the first step.

    Args:
        descriptors: (N, D), rows of length one.
        labels: (N,) of each; None, or a negative number: unlabelled, such rows take no part.
        ridge: above 0; the larger, the less is changed.
        centre: 0 to 1.
        stretch: 0 or above.
        encoder: identity of what made the descriptors; others will be refused.

    Returns:
        One from D to D dimensions.

    Raises:
        LearnError: fewer than two classes have two photos.
    """
    codes = _codes(labels)
    counts = np.bincount(codes[codes >= 0]) if (codes >= 0).any() else np.zeros(0, np.intp)
    several = np.flatnonzero(counts > 1)
    if len(several) < 2:
        raise LearnError(
            "a projection is learned from two classes or more that have two photos or more each; "
            f"there are {len(several)} among {np.count_nonzero(codes >= 0)} labelled photos"
        )
    rows = np.asarray(descriptors, np.float32)
    members = [rows[codes == code] for code in several.tolist()]
    means = np.stack([own.mean(axis=0) for own in members])
    scatter = np.concatenate(
        [
            (own - mean) / np.float32(np.sqrt(len(own) * len(members)))
            for own, mean in zip(members, means, strict=True)
        ]
    )
    variances, axes = _principal(scatter)
    floor = ridge * float(variances.sum()) / rows.shape[1]
    factors = (1 + variances / max(floor, _BALANCE)) ** -0.5
    shortened = np.eye(rows.shape[1], dtype=np.float32) + (axes.T * (factors - 1)) @ axes
    middle = means.mean(axis=0)
    _, apart = _principal((means - middle) @ shortened)
    stretched = shortened + np.float32(stretch) * (shortened @ apart.T) @ apart
    return Projection(
        mean=(np.float32(centre) * middle).astype(np.float32),
        matrix=np.ascontiguousarray(stretched, np.float32),
        power=1.0,
        samples=sum(map(len, members)),
        encoder=encoder,
    )


def projection_of_index(index: Path) -> Projection:
    """Learn a projection from the labelled photos of an index.

    In memory are the descriptors of the labelled photos.

    Raises:
        LearnError: fewer than two classes have two photos.
        NotAnIndex, IndexDamaged: see `veduta.errors`.
    """
    manifest = Manifest.read(index)
    labels: list[str] = []
    found = [np.empty((0, manifest.dimension), np.float32)]
    kept = "problem IS NULL AND label IS NOT NULL"
    for batch in open_table(index).batches(["descriptor", "label"], kept):
        labels += batch.column("label").to_pylist()
        found.append(descriptor_array(batch.column("descriptor")))
    try:
        return learn_projection(
            np.concatenate(found), labels, encoder=str(manifest.encoder["identity"])
        )
    except LearnError as error:
        raise LearnError(
            f"{readable(index)}: {error}. `veduta index --labels` gives its photos labels"
        ) from error


def _codes(labels: Sequence[str | None] | NDArray[np.integer]) -> NDArray[np.intp]:
    """Number the labels; -1 without one."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        return labels.astype(np.intp)
    known = {label: code for code, label in enumerate(sorted({one for one in labels if one}))}
    return np.array([known.get(label, -1) for label in labels], np.intp)


def _principal(rows: Array) -> tuple[Array, Array]:
    """Return the sums of squares (r,) along the principal axes of rows (n, D), and these (r, D).

    By the smaller of the two matrices of products: descriptors are long and classes few.
    """
    values = rows.astype(np.float64)
    small = values @ values.T if len(values) <= values.shape[1] else values.T @ values
    squares, vectors_ = np.linalg.eigh(small)
    real = squares > _NOISE * max(float(squares[-1]), _BALANCE)
    squares, found = squares[real], vectors_[:, real]
    axes = (found / np.sqrt(squares)).T @ values if len(values) <= values.shape[1] else found.T
    return squares.astype(np.float32), axes.astype(np.float32)
