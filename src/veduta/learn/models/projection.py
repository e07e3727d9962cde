"""Learns a projection of descriptors from labels. It helps to find unlabelled places too.

Photos of one class differ by light, season and viewpoint, and by less from class to class than the
classes themselves do. So the projection shortens the directions in which labelled photos of one
class differ, for all photos. This is whitening by the scatter within classes: Mikolajczyk and
Matas, "Improving descriptors for fast tree matching by optimal linear projection", ICCV 2007;
Radenović, Tolias and Chum, TPAMI 2019, call it learned whitening. The projection also stretches the
directions between the class means, as in linear discriminant analysis (Fisher, 1936). It keeps all
other directions, because new classes differ in other directions.
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
from veduta.text import veduta_command

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["learn_projection", "projection_of_index"]

RIDGE = 10.0
"""Added to the scatter within classes, as a multiple of its mean over all directions."""

CENTRE_SHARE = 0.2
"""The share of the mean that is subtracted. With the whole mean, labelled and unlabelled photos
would come closer to each other."""

STRETCH = 0.5
"""How much longer the directions between the classes become: 0.5 is half as long again."""

MIN_VARIANCE_SHARE = 1e-7
"""Directions with a smaller share of the largest variance are rounding errors."""

MIN_SCATTER = 1e-12
"""A scatter of zero is replaced by this."""

Array = NDArray[np.float32]


def learn_projection(
    descriptors: NDArray[np.floating],
    labels: Sequence[str | None] | NDArray[np.integer],
    *,
    ridge: float = RIDGE,
    centre: float = CENTRE_SHARE,
    stretch: float = STRETCH,
    encoder: str = "",
) -> Projection:
    """Learn a projection of descriptors from the labels of some of them.

    With m the mean of the class means, S the mean over the classes of their covariances, and P the
    projection onto the span of the class means minus m, x becomes
    (x - centre · m) (I + S / b)^(-1/2) (I + stretch · P'), where b is `ridge` times the mean
    eigenvalue of S, and P' is P of the means after the first step.

    Args:
        descriptors: (N, D), rows of length one.
        labels: (N,); None or a negative number for an unlabelled photo, which is not used.
        ridge: above 0; the larger, the less is changed.
        centre: 0 to 1.
        stretch: 0 or more.
        encoder: the identity of the encoder. The projection refuses descriptors of others.

    Returns:
        A projection from D to D dimensions.

    Raises:
        LearnError: fewer than two classes have two photos.
    """
    class_ids = _class_ids(labels)
    labelled = class_ids >= 0
    counts = np.bincount(class_ids[labelled]) if labelled.any() else np.zeros(0, np.intp)
    usable = np.flatnonzero(counts > 1)
    if len(usable) < 2:
        raise LearnError(
            "a projection is learned from at least two classes with two photos or more each; "
            f"there are {len(usable)} among {np.count_nonzero(labelled)} labelled photos"
        )
    rows = np.asarray(descriptors, np.float32)
    members = [rows[class_ids == class_id] for class_id in usable.tolist()]
    means = np.stack([own.mean(axis=0) for own in members])
    differences = np.concatenate(
        [
            (own - mean) / np.float32(np.sqrt(len(own) * len(members)))
            for own, mean in zip(members, means, strict=True)
        ]
    )
    variances, axes = _principal_axes(differences)
    floor = ridge * float(variances.sum()) / rows.shape[1]
    factors = (1 + variances / max(floor, MIN_SCATTER)) ** -0.5
    whitening = np.eye(rows.shape[1], dtype=np.float32) + (axes.T * (factors - 1)) @ axes
    mean_of_means = means.mean(axis=0)
    _, between = _principal_axes((means - mean_of_means) @ whitening)
    matrix = whitening + np.float32(stretch) * (whitening @ between.T) @ between
    return Projection(
        mean=(np.float32(centre) * mean_of_means).astype(np.float32),
        matrix=np.ascontiguousarray(matrix, np.float32),
        power=1.0,
        samples=sum(map(len, members)),
        encoder=encoder,
    )


def projection_of_index(index: Path) -> Projection:
    """Learn a projection from the labelled photos of an index.

    The descriptors of the labelled photos are held in memory.

    Args:
        index: the folder of the index.

    Raises:
        LearnError: fewer than two classes have two photos.
        NotAnIndex: there is no index in the folder.
        IndexDamaged: the index cannot be read.
    """
    manifest = Manifest.read(index)
    labels: list[str] = []
    batches = [np.empty((0, manifest.dimension), np.float32)]
    condition = "problem IS NULL AND label IS NOT NULL"
    for batch in open_table(index).batches(["descriptor", "label"], condition):
        labels += batch.column("label").to_pylist()
        batches.append(descriptor_array(batch.column("descriptor")))
    try:
        return learn_projection(
            np.concatenate(batches), labels, encoder=str(manifest.encoder["identity"])
        )
    except LearnError as error:
        raise LearnError(
            f"{readable(index)}: {error}. To give its photos the names of their "
            f"folders as labels: {veduta_command('index', '--labels', 'folders', '--index', index)}"
        ) from error


def _class_ids(labels: Sequence[str | None] | NDArray[np.integer]) -> NDArray[np.intp]:
    """Number the labels; -1 for an unlabelled photo."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        return labels.astype(np.intp)
    names = sorted({label for label in labels if label})
    class_id_of = {name: class_id for class_id, name in enumerate(names)}
    return np.array([class_id_of.get(label, -1) for label in labels], np.intp)


def _principal_axes(rows: Array) -> tuple[Array, Array]:
    """Return the sums of squares (r,) along the principal axes of rows (n, D), and the axes (r, D).

    They come from the smaller of the two product matrices. It is small, because descriptors are
    long and classes few.
    """
    values = rows.astype(np.float64)
    has_few_rows = len(values) <= values.shape[1]
    products = values @ values.T if has_few_rows else values.T @ values
    squares, vectors = np.linalg.eigh(products)
    real = squares > MIN_VARIANCE_SHARE * max(float(squares[-1]), MIN_SCATTER)
    squares, vectors = squares[real], vectors[:, real]
    axes = (vectors / np.sqrt(squares)).T @ values if has_few_rows else vectors.T
    return squares.astype(np.float32), axes.astype(np.float32)
