"""Which photos an epoch shows, and in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.recipe import Training

__all__ = ["augmentation_seeds", "epoch_batches", "group_size", "network_seed", "rank_share"]

# What is drawn from one seed and epoch, each from numbers of its own.
_ORDER, _DRAWS, _NETWORK = 0, 1, 2


def epoch_batches(
    rows: NDArray[np.intp], codes: NDArray[np.int64], training: Training, epoch: int
) -> list[NDArray[np.intp]]:
    """Return the rows of each batch of an epoch.

    Args:
        rows: (n,) photos of the part.
        codes: (n,) the class of each of them.
        training: its `batch`, `balanced`, `per_class`, `pairs` and `seed` decide.
        epoch: from 1; 0 is for photos that are shown in the same order each time.

    Returns:
        Batches of at most `batch` rows. Plain: every photo once. `balanced`: as many as there are
        photos, every class as often. `per_class`: batches of `batch // per_class` classes with so
        many photos of each side by side; every photo at least once. `pairs`: so many pairs, side
        by side, every other one of two photos of one class and the rest of different classes.

    A single photo at the end goes into the batch before: a batch has no variance of one photo.
    """
    rng = _generator(training.seed, epoch, _ORDER)
    if training.pairs:
        order = _pairs(rows, codes, training.pairs, rng).reshape(-1)
        return _cut(order, max(2, training.batch - training.batch % 2))
    if training.per_class:
        return _by_class(rows, codes, training, rng)
    if training.balanced:
        order = np.concatenate(_dealt(rows, codes, len(rows), rng))
        return _cut(rng.permutation(order), training.batch)
    return _cut(rng.permutation(rows), training.batch)


def group_size(training: Training) -> int:
    """Return how many photos of a batch, side by side, must not be parted."""
    return 2 if training.pairs else max(1, training.per_class)


def rank_share(batch: NDArray[np.intp], rank: int, ranks: int, group: int) -> NDArray[np.intp]:
    """Return the photos of a batch that one of `ranks` processes gets, whole groups of them.

    Where there are fewer groups than processes, groups are shown more than once.
    """
    if ranks == 1:
        return batch
    groups = [batch[start : start + group] for start in range(0, len(batch), group)]
    while len(groups) < ranks:
        groups += groups
    mine = np.array_split(np.arange(len(groups)), ranks)[rank]
    return np.concatenate([groups[at] for at in mine])


def augmentation_seeds(seed: int, epoch: int, batch: int, count: int) -> NDArray[np.int64]:
    """Return a seed for what is drawn for each of `count` photos of a batch."""
    return _generator(seed, epoch, _DRAWS, batch).integers(0, 2**63 - 1, count)


def network_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Return the seed for what a network draws during an epoch: dropout, noise, mix-up."""
    return int(_generator(seed, epoch, _NETWORK, rank).integers(0, 2**63 - 1))


def _generator(seed: int, epoch: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, *purpose])))


def _cut(order: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return batches


def _dealt(
    rows: NDArray[np.intp], codes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Draw `count` photos, of every class as many; a photo comes again when all others have."""
    classes = np.unique(codes)
    shares = np.full(len(classes), count // len(classes))
    shares[rng.permutation(len(classes))[: count % len(classes)]] += 1
    return [
        _again(rows[codes == code], int(share), rng)
        for code, share in zip(classes, shares, strict=True)
    ]


def _again(members: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate([members[:0], *rounds])[:count]


def _by_class(
    rows: NDArray[np.intp],
    codes: NDArray[np.int64],
    training: Training,
    rng: np.random.Generator,
) -> list[NDArray[np.intp]]:
    size = training.per_class
    classes, numbers = np.unique(codes, return_counts=True)
    wide = min(len(classes), training.batch // size)
    if wide < 2:
        raise RecipeError(
            f"training.per_class: {size} photos of a class in a batch of {training.batch} leave no "
            "room for a second class; raise training.batch or lower training.per_class"
        )
    if training.balanced:
        numbers = np.full(len(classes), -(-len(rows) // len(classes)))
    members = [rows[codes == code] for code in classes]
    queues = [
        _groups(own, -(-int(number) // size), size, rng)
        for own, number in zip(members, numbers, strict=True)
    ]
    batches = []
    while any(queues):
        left = np.array([len(queue) for queue in queues])
        # The classes with most to come first, so that none is left alone at the end.
        order = np.lexsort((rng.random(len(queues)), -left))
        chosen = [
            queues[at].pop() if queues[at] else _groups(members[at], 1, size, rng)[0]
            for at in order[:wide]
        ]
        batches.append(np.concatenate(chosen))
    return [batches[at] for at in rng.permutation(len(batches))]


def _groups(
    members: NDArray[np.intp], count: int, size: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Draw `count` groups of `size` photos, different ones where the class has so many."""
    groups: list[NDArray[np.intp]] = []
    while len(groups) < count:
        order = np.resize(rng.permutation(members), -(-len(members) // size) * size)
        groups += list(order.reshape(-1, size))
    return groups[:count]


def _pairs(
    rows: NDArray[np.intp], codes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw (count, 2) rows: same class, different classes, same class…"""
    members = {code: np.flatnonzero(codes == code) for code in np.unique(codes).tolist()}
    several = np.flatnonzero(np.isin(codes, [c for c, own in members.items() if len(own) > 1]))
    if not len(several) or len(members) < 2:
        raise RecipeError(
            "training.pairs: pairs of one class and of different ones are wanted, so two classes "
            "or more, one of them with two photos, for training and for validation alike; here "
            f"are {len(rows)} photos of {len(members)} classes"
        )
    same = _again(several, -(-count // 2), rng)
    different = _again(np.arange(len(rows)), count // 2, rng)
    pairs = np.empty((count, 2), np.intp)
    for at, first in enumerate(same.tolist()):
        own = members[int(codes[first])]
        second = own[rng.integers(len(own) - 1)]
        pairs[2 * at] = first, own[-1] if second == first else second
    for at, first in enumerate(different.tolist()):
        second = first
        while codes[second] == codes[first]:
            second = int(rng.integers(len(rows)))
        pairs[2 * at + 1] = first, second
    return rows[pairs]
