"""Which photos an epoch shows and in which order. It depends only on the seed and the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import RecipeError
from veduta.text import count as counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.recipe import Training

__all__ = [
    "augmentation_seeds",
    "epoch_batches",
    "group_size",
    "network_seed",
    "pair_count",
    "rank_share",
]

# Each use of a seed has its own stream of random numbers.
_ORDER_STREAM, _AUGMENTATION_STREAM, _NETWORK_STREAM = 0, 1, 2


def epoch_batches(
    rows: NDArray[np.intp], class_ids: NDArray[np.int64], training: Training, epoch: int
) -> list[NDArray[np.intp]]:
    """Return the rows of each batch of an epoch.

    By default every photo is shown once. With `balanced`, there are as many draws as photos, and
    every class is drawn equally often. With `per_class`, a batch has `batch // per_class` classes
    with `per_class` adjacent photos each, and every photo is shown at least once. With `pairs` or
    `pairs_per_photo`, `pair_count` pairs of adjacent photos are shown; every other pair is of one
    class, and the rest are of different classes.

    Args:
        rows: (n,) the photos.
        class_ids: (n,) the class of each of them.
        training: `batch`, `balanced`, `per_class`, `pairs`, `pairs_per_photo` and `seed`.
        epoch: from 1; 0 for photos that are shown in the same order every time.

    Returns:
        Batches of at most `batch` rows. A last batch of one photo joins the batch before it,
        because one photo has no variance.

    Raises:
        RecipeError: the classes have too few photos for `per_class` or for pairs.
    """
    rng = _generator(training.seed, epoch, _ORDER_STREAM)
    if training.draws_pairs:
        order = _pairs(rows, class_ids, pair_count(class_ids, training), rng).reshape(-1)
        return _cut(order, max(2, training.batch - training.batch % 2))
    if training.per_class:
        return _batches_by_class(rows, class_ids, training, rng)
    if training.balanced:
        order = np.concatenate(_balanced_draws(rows, class_ids, len(rows), rng))
        return _cut(rng.permutation(order), training.batch)
    return _cut(rng.permutation(rows), training.batch)


def pair_count(class_ids: NDArray[np.int64], training: Training) -> int:
    """Return the number of pairs of an epoch.

    With `pairs_per_photo` it grows with the number of photos. It is at most as large as if every
    pair of one class, or every pair of different classes, was shown once.

    Args:
        class_ids: (n,) the class of each photo.
        training: `pairs` and `pairs_per_photo`.
    """
    if training.pairs:
        return training.pairs
    photos = len(class_ids)
    _, sizes = np.unique(class_ids, return_counts=True)
    same = int((sizes * (sizes - 1) // 2).sum())
    different = photos * (photos - 1) // 2 - same
    return max(2, min(training.pairs_per_photo * photos, 2 * same, 2 * different))


def group_size(training: Training) -> int:
    """Return the number of adjacent photos of a batch that must stay together."""
    return 2 if training.draws_pairs else max(1, training.per_class)


def rank_share(batch: NDArray[np.intp], rank: int, ranks: int, group: int) -> NDArray[np.intp]:
    """Return the photos of a batch that one process gets, in whole groups.

    If there are fewer groups than processes, groups are repeated.

    Args:
        batch: (n,) photos.
        rank: the number of the process, from 0.
        ranks: the number of processes.
        group: the number of adjacent photos that must stay together.
    """
    if ranks == 1:
        return batch
    groups = [batch[start : start + group] for start in range(0, len(batch), group)]
    while len(groups) < ranks:
        groups += groups
    share = np.array_split(np.arange(len(groups)), ranks)[rank]
    return np.concatenate([groups[number] for number in share])


def augmentation_seeds(seed: int, epoch: int, batch: int, count: int) -> NDArray[np.int64]:
    """Return a seed for the augmentation of each of `count` photos of a batch."""
    rng = _generator(seed, epoch, _AUGMENTATION_STREAM, batch)
    return rng.integers(0, 2**63 - 1, count)


def network_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Return the seed for what a network draws in an epoch: dropout, noise, mix-up."""
    return int(_generator(seed, epoch, _NETWORK_STREAM, rank).integers(0, 2**63 - 1))


def _generator(seed: int, epoch: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, *stream])))


def _cut(order: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return batches


def _balanced_draws(
    rows: NDArray[np.intp], class_ids: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Draw `count` photos, equally many of each class. A photo repeats after all others."""
    classes = np.unique(class_ids)
    shares = np.full(len(classes), count // len(classes))
    shares[rng.permutation(len(classes))[: count % len(classes)]] += 1
    return [
        _draw(rows[class_ids == class_id], int(share), rng)
        for class_id, share in zip(classes, shares, strict=True)
    ]


def _draw(members: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate([members[:0], *rounds])[:count]


def _batches_by_class(
    rows: NDArray[np.intp],
    class_ids: NDArray[np.int64],
    training: Training,
    rng: np.random.Generator,
) -> list[NDArray[np.intp]]:
    size = training.per_class
    classes, numbers = np.unique(class_ids, return_counts=True)
    classes_per_batch = min(len(classes), training.batch // size)
    if classes_per_batch < 2:
        raise RecipeError(
            f"training.per_class: with {size} photos of each class, a batch of {training.batch} "
            "does not hold two classes; raise training.batch or lower training.per_class"
        )
    if training.balanced:
        numbers = np.full(len(classes), -(-len(rows) // len(classes)))
    members = [rows[class_ids == class_id] for class_id in classes]
    queues = [
        _groups(own, -(-int(number) // size), size, rng)
        for own, number in zip(members, numbers, strict=True)
    ]
    batches = []
    while any(queues):
        remaining = np.array([len(queue) for queue in queues])
        # The classes with the most remaining groups come first, so that no class is left alone at
        # the end.
        order = np.lexsort((rng.random(len(queues)), -remaining))
        chosen = [
            queues[number].pop() if queues[number] else _groups(members[number], 1, size, rng)[0]
            for number in order[:classes_per_batch]
        ]
        batches.append(np.concatenate(chosen))
    return [batches[number] for number in rng.permutation(len(batches))]


def _groups(
    members: NDArray[np.intp], count: int, size: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Draw `count` groups of `size` photos, all different if the class has enough photos."""
    groups: list[NDArray[np.intp]] = []
    while len(groups) < count:
        order = np.resize(rng.permutation(members), -(-len(members) // size) * size)
        groups += list(order.reshape(-1, size))
    return groups[:count]


def _pairs(
    rows: NDArray[np.intp], class_ids: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw (count, 2) rows: one of the same class, one of different classes, and so on."""
    members = {one: np.flatnonzero(class_ids == one) for one in np.unique(class_ids).tolist()}
    repeated = [class_id for class_id, own in members.items() if len(own) > 1]
    with_partner = np.flatnonzero(np.isin(class_ids, repeated))
    if not len(with_partner) or len(members) < 2:
        raise RecipeError(
            "pairs of one class and of different classes need at least two "
            "classes, one of them with two photos, for training and for validation; there are "
            f"{counted(len(rows), 'photo')} of {counted(len(members), 'class', 'classes')}"
        )
    same = _draw(with_partner, -(-count // 2), rng)
    different = _draw(np.arange(len(rows)), count // 2, rng)
    pairs = np.empty((count, 2), np.intp)
    for number, first in enumerate(same.tolist()):
        own = members[int(class_ids[first])]
        second = own[rng.integers(len(own) - 1)]
        pairs[2 * number] = first, own[-1] if second == first else second
    for number, first in enumerate(different.tolist()):
        second = first
        while class_ids[second] == class_ids[first]:
            second = int(rng.integers(len(rows)))
        pairs[2 * number + 1] = first, second
    return rows[pairs]
