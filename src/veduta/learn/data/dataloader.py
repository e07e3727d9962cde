"""Batches for the training loop: loaded, and augmented, beside it where that takes time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from veduta.learn.data.sampling import augmentation_seeds, epoch_batches, group_size, rank_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Training

__all__ = ["BatchSampler", "make_dataloader"]

_MOST_WORKERS = 8

Augment = Callable[[Tensor], Tensor]


class BatchSampler:
    """The batches of an epoch as lists of (row, seed of its augmentation)."""

    def __init__(
        self,
        parts: DatasetSplits,
        rows: NDArray[np.intp],
        training: Training,
        epoch: Callable[[], int],
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """`epoch`: which one begins, from 1; 0: the same batches each time."""
        self.parts, self.rows, self.training, self.epoch = parts, rows, training, epoch
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return len(self._order(self.epoch()))

    @property
    def photos(self) -> int:
        """How many photos an epoch shows."""
        return sum(map(len, self._order(self.epoch())))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch()
        for number, batch in enumerate(self._order(epoch)):
            seeds = augmentation_seeds(self.training.seed, epoch, number, len(batch))
            places = np.arange(len(batch))
            mine = rank_share(places, self.rank, self.ranks, group_size(self.training))
            yield list(zip(batch[mine].tolist(), seeds[mine].tolist(), strict=True))

    def _order(self, epoch: int) -> list[NDArray[np.intp]]:
        return epoch_batches(self.rows, self.parts.class_ids[self.rows], self.training, epoch)


class _Photos:
    """What a loader asks for a batch: photos (n, 3, size, size) uint8, and their classes."""

    def __init__(self, parts: DatasetSplits, examples: Examples, augment: Augment | None) -> None:
        self.codes, self.examples, self.augment = parts.class_ids, examples, augment

    def __getitems__(self, wanted: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        rows = np.array([row for row, _ in wanted], np.intp)
        photos = self.examples.batch(rows)
        if self.augment is not None:
            done = torch.stack(self._augmented(photos, [seed for _, seed in wanted]))
            # As `ImageCache` has them, with which convolutions on a processor take 0.7 of the time.
            photos = done.contiguous(memory_format=torch.channels_last)
        return photos, torch.from_numpy(self.codes[rows])

    def _augmented(self, photos: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        # What is drawn for a photo depends on nothing else, and nothing else on it.
        before = torch.get_rng_state()
        done = []
        for photo, seed in zip(photos, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            done.append(self.augment(photo))  # type: ignore[misc]
        torch.set_rng_state(before)
        return done


def make_dataloader(
    parts: DatasetSplits,
    examples: Examples,
    batches: BatchSampler,
    augment: Augment | None,
    *,
    on_gpu: bool,
) -> Any:
    """Return a loader of (photos, classes); of photos that are augmented where `augment` is."""
    photos = _Photos(parts, examples, augment)
    workers = _workers(busy=augment is not None or not examples.in_memory, on_gpu=on_gpu)
    return DataLoader(
        photos,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forked processes share the photos in memory instead of having them sent.
        multiprocessing_context="fork" if workers else None,
        pin_memory=on_gpu,
        generator=torch.Generator(),  # otherwise its seed is drawn from the network's generator
    )


def _workers(*, busy: bool, on_gpu: bool) -> int:
    """How many processes load; photos that only have to be copied need none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not busy or sys.platform != "linux":
        return 0
    return min(_MOST_WORKERS, (cores or 1) - 1) if on_gpu else min(1, (cores or 1) - 1)


def _as_it_is(batch: Any) -> Any:
    return batch
