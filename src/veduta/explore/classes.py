"""How many photos each class has, and how uneven that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ClassSizes", "Imbalance", "class_sizes", "density", "size_histogram"]

_BINS = 24
_WIDE = 20
"""Largest class over smallest from which on sizes are shown on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Imbalance:
    """How uneven the sizes of the classes are.

    `ratio`
        largest class over smallest.
    `single`
        classes with one photo.
    `effective`
        as many classes of equal size would be as varied: exp of the entropy of the shares (Hill,
        "Diversity and Evenness", 1973, order 1), from 1 to the number of classes.
    `gini`
        Gini coefficient (1912), from 0, all classes alike, towards 1, one class has it all.
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
    """The classes of a collection, one at least, largest first, equal ones by name.

    `names`, `sizes`
        (C,) label, and number of its photos over all splits, int64.
    `splits`
        photos of each split, with and without a label; {"": N} for an unsplit collection.
    `by_split`
        split → (C,) int64 photos of each class in it.
    `unlabelled`
        photos without a label.
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
        """Whether the sizes span so much that only a logarithmic axis shows them."""
        return int(self.sizes[0]) >= _WIDE * int(self.sizes[-1])

    def imbalance(self) -> Imbalance:
        """Return the figures of one class or more."""
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
        return tuple(self.names[at] for at in np.flatnonzero(alone))


def class_sizes(counted: pa.Table) -> ClassSizes:
    """Return the class sizes of a table with `label`, `split` (strings) and `photos` (integer).

    The same label and split may come in several rows. An empty or null label is none, and a label
    without a photo is left out.
    """
    import pyarrow.compute as pc

    label = pc.utf8_trim_whitespace(pc.fill_null(counted["label"], ""))
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
    places = pc.index_in(labelled["label"], value_set=names).to_numpy()
    photos = labelled["photos"].to_numpy()
    of_row = labelled["split"].to_numpy()
    by_split = {}
    for name in splits["split"].to_pylist():
        rows = of_row == name
        weights = np.bincount(places[rows], photos[rows], minlength=len(names))
        by_split[name] = weights.astype(np.int64)
    sizes = classes["photos_sum"].to_numpy().astype(np.int64)
    counts = dict(zip(splits["split"].to_pylist(), splits["photos_sum"].to_pylist(), strict=True))
    return ClassSizes(
        tuple(names.to_pylist()), sizes, counts, by_split, sum(counts.values()) - int(sizes.sum())
    )


def size_histogram(sizes: ClassSizes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (B,) numbers of classes and (B + 1,) edges in photos, halfway between whole sizes.

    The bins are equally wide, or equally wide on a logarithmic axis where the sizes are `wide`.
    """
    low, high = int(sizes.sizes[-1]), int(sizes.sizes[0])
    if sizes.wide:
        whole = np.unique(np.rint(np.geomspace(low, high + 1, _BINS + 1)).astype(np.int64))
    else:
        width = max(1, -(-(high + 1 - low) // _BINS))
        whole = np.arange(low, high + 1 + width, width)
        whole = whole[: int(np.searchsorted(whole, high, "right")) + 1]
    edges: NDArray[np.float64] = whole - np.float64(0.5)
    counts, _ = np.histogram(sizes.sizes, edges)
    return counts.astype(np.int64), edges


def density(sizes: ClassSizes) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return (200,) sizes in photos and (200,) the density of classes there.

    A Gaussian kernel estimate with the bandwidth of Scott ("Multivariate Density Estimation",
    1992), over the size or, where the sizes are `wide`, its decimal logarithm; its integral over
    that axis is 1. None for fewer than five classes and for classes of one size, which have no
    bandwidth.
    """
    if len(sizes.sizes) < 5 or sizes.sizes[0] == sizes.sizes[-1]:
        return None
    values, weights = np.unique(sizes.sizes, return_counts=True)
    at = np.log10(values) if sizes.wide else values.astype(np.float64)
    share = weights / weights.sum()
    mean = float((share * at).sum())
    spread = float(np.sqrt((share * (at - mean) ** 2).sum()))
    bandwidth = spread * float(len(sizes.sizes)) ** -0.2
    low = at[0] - 3 * bandwidth
    grid = np.linspace(low if sizes.wide else max(0.0, low), at[-1] + 3 * bandwidth, 200)
    height = np.zeros(len(grid))
    for value, part in zip(at, share, strict=True):
        height += part * np.exp(-0.5 * ((grid - value) / bandwidth) ** 2)
    height /= bandwidth * np.sqrt(2 * np.pi)
    return (10**grid if sizes.wide else grid), height
