"""How many photos each class has, and how uneven the classes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ClassSizes", "Imbalance", "class_sizes"]

MAX_BINS = 24

WIDE_RATIO = 20
"""Sizes are `wide` from this ratio of the largest class to the smallest."""


@dataclass(frozen=True, slots=True)
class Imbalance:
    """How uneven the sizes of the classes are.

    Attributes:
        largest: photos of the largest class.
        smallest: photos of the smallest class.
        median: median number of photos in a class.
        mean: mean number of photos in a class.
        ratio: size of the largest class divided by the size of the smallest.
        single: number of classes with one photo.
        effective: effective number of classes, from 1 to the number of classes. So many classes of
            equal size have the same diversity. It is exp of the entropy of the shares (Hill,
            "Diversity and Evenness", 1973, order 1).
        gini: Gini coefficient (1912). It is 0 when all classes have the same size and approaches 1
            when one class has all photos.
    """

    largest: int
    smallest: int
    median: float
    mean: float
    ratio: float
    single: int
    effective: float
    gini: float


@dataclass(frozen=True, slots=True)
class ClassSizes:
    """The classes of a collection, largest first. Classes of equal size are sorted by name.

    There is at least one class where the methods are called.

    Attributes:
        names: (C,) labels.
        sizes: (C,) int64 photos of each class over all splits.
        splits: split → photos, with and without a label. An unsplit collection has {"": N}.
        by_split: split → (C,) int64 photos of each class in that split.
        unlabelled: photos without a label.
    """

    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    splits: Mapping[str, int]
    by_split: Mapping[str, NDArray[np.int64]]
    unlabelled: int

    @property
    def photos(self) -> int:
        """All photos, with and without a label."""
        return int(self.sizes.sum()) + self.unlabelled

    @property
    def wide(self) -> bool:
        """Whether the sizes differ so much that charts need a logarithmic axis."""
        return int(self.sizes[0]) >= WIDE_RATIO * int(self.sizes[-1])

    def imbalance(self) -> Imbalance:
        """Return how uneven the sizes are."""
        sizes = self.sizes.astype(np.float64)
        share = sizes / sizes.sum()
        rising = share[::-1]
        rank = np.arange(1, len(rising) + 1)
        gini = float(((2 * rank - len(rising) - 1) * rising).sum() / len(rising))
        return Imbalance(
            largest=int(sizes[0]),
            smallest=int(sizes[-1]),
            median=float(np.median(sizes)),
            mean=float(sizes.mean()),
            ratio=float(sizes[0] / sizes[-1]),
            single=int((self.sizes == 1).sum()),
            effective=float(np.exp(-(share * np.log(share)).sum())),
            gini=max(0.0, gini),
        )

    def only_in(self, split: str, other: str) -> tuple[str, ...]:
        """Return the classes that have photos in `split` and none in `other`."""
        alone = (self.by_split[split] > 0) & (self.by_split[other] == 0)
        return tuple(self.names[row] for row in np.flatnonzero(alone))

    def histogram(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Count the classes by size.

        The bins are equally wide, on a logarithmic axis where the sizes are `wide`.

        Returns:
            The (B,) numbers of classes, and the (B + 1,) edges of the bins in photos, each halfway
            between two whole numbers.
        """
        low, high = int(self.sizes[-1]), int(self.sizes[0])
        if self.wide:
            whole = np.unique(np.rint(np.geomspace(low, high + 1, MAX_BINS + 1)).astype(np.int64))
        else:
            width = max(1, -(-(high + 1 - low) // MAX_BINS))
            whole = np.arange(low, high + 1 + width, width)
            whole = whole[: int(np.searchsorted(whole, high, "right")) + 1]
        edges: NDArray[np.float64] = whole - np.float64(0.5)
        counts, _ = np.histogram(self.sizes, edges)
        return counts.astype(np.int64), edges

    def density(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Estimate the density of classes over their size.

        The estimate uses a Gaussian kernel with Scott's bandwidth ("Multivariate Density
        Estimation", 1992). The axis is the size or, where the sizes are `wide`, its decimal
        logarithm. The integral over that axis is 1.

        Returns:
            The (200,) sizes in photos and the (200,) densities. None for fewer than five classes
            and for classes of one size, which have no bandwidth.
        """
        if len(self.sizes) < 5 or self.sizes[0] == self.sizes[-1]:
            return None
        values, weights = np.unique(self.sizes, return_counts=True)
        positions = np.log10(values) if self.wide else values.astype(np.float64)
        share = weights / weights.sum()
        mean = float((share * positions).sum())
        std = float(np.sqrt((share * (positions - mean) ** 2).sum()))
        bandwidth = std * float(len(self.sizes)) ** -0.2
        low = positions[0] - 3 * bandwidth
        grid = np.linspace(low if self.wide else max(0.0, low), positions[-1] + 3 * bandwidth, 200)
        height = np.zeros(len(grid))
        for position, weight in zip(positions, share, strict=True):
            height += weight * np.exp(-0.5 * ((grid - position) / bandwidth) ** 2)
        height /= bandwidth * np.sqrt(2 * np.pi)
        return (10**grid if self.wide else grid), height


def class_sizes(counted: pa.Table) -> ClassSizes:
    """Sum a table of counts by class and split.

    Args:
        counted: the columns `label` and `split` (strings) and `photos` (integers). The same label
            and split may come in several rows. An empty or null label means no label.

    Returns:
        The classes with at least one photo.
    """
    import pyarrow.compute as pc

    # NFC: labels that look the same are one.
    label = pc.utf8_normalize(pc.fill_null(counted["label"], ""), form="NFC")
    label = pc.utf8_trim_whitespace(label)
    split = pc.fill_null(counted["split"], "")
    table = counted.set_column(counted.schema.get_field_index("label"), "label", label)
    table = table.set_column(table.schema.get_field_index("split"), "split", split)
    splits = table.group_by("split").aggregate([("photos", "sum")]).sort_by("split")
    labelled = table.filter(
        pc.and_(pc.not_equal(table["label"], ""), pc.greater(table["photos"], 0))
    )
    classes = (
        labelled.group_by("label")
        .aggregate([("photos", "sum")])
        .sort_by([("photos_sum", "descending"), ("label", "ascending")])
    )
    names = classes["label"].combine_chunks()
    class_ids = pc.index_in(labelled["label"], value_set=names).to_numpy()
    photos = labelled["photos"].to_numpy()
    row_splits = labelled["split"].to_numpy()
    by_split = {}
    for name in splits["split"].to_pylist():
        rows = row_splits == name
        sums = np.bincount(class_ids[rows], photos[rows], minlength=len(names))
        by_split[name] = sums.astype(np.int64)
    sizes = classes["photos_sum"].to_numpy().astype(np.int64)
    counts = dict(zip(splits["split"].to_pylist(), splits["photos_sum"].to_pylist(), strict=True))
    return ClassSizes(
        tuple(names.to_pylist()), sizes, counts, by_split, sum(counts.values()) - int(sizes.sum())
    )
