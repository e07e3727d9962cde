"""The batches of the training loop, loaded and augmented in processes beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from veduta.learn.data.sampling import augmentation_seeds, epoch_batches, group_size, rank_share
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Training

__all__ = ["BatchSampler", "make_dataloader"]

MAX_WORKERS = 8

Augment = Callable[[Tensor], Tensor]


class BatchSampler:
    """The batches of an epoch, each a list of (row, seed of its augmentation)."""

    def __init__(
        self,
        splits: DatasetSplits,
        rows: NDArray[np.intp],
        training: Training,
        epoch: Callable[[], int],
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Sample batches.

        Args:
            splits: the examples.
            rows: the rows that are shown.
            training: the settings.
            epoch: returns the number of the epoch that starts, from 1; 0 for the same batches every
                time.
            rank: the number of this process, from 0.
            ranks: the number of processes that share each batch.
        """
        self.splits, self.rows, self.training, self.epoch = splits, rows, training, epoch
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return len(self._batches(self.epoch()))

    @property
    def photos(self) -> int:
        """The number of photos in an epoch."""
        return sum(map(len, self._batches(self.epoch())))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch()
        for number, batch in enumerate(self._batches(epoch)):
            seeds = augmentation_seeds(self.training.seed, epoch, number, len(batch))
            share = rank_share(
                np.arange(len(batch)), self.rank, self.ranks, group_size(self.training)
            )
            yield list(zip(batch[share].tolist(), seeds[share].tolist(), strict=True))

    def _batches(self, epoch: int) -> list[NDArray[np.intp]]:
        return epoch_batches(self.rows, self.splits.class_ids[self.rows], self.training, epoch)


class _BatchDataset:
    """The dataset of a data loader: a batch is (examples, class ids)."""

    def __init__(self, splits: DatasetSplits, examples: Examples, augment: Augment | None) -> None:
        self.class_ids, self.examples, self.augment = splits.class_ids, examples, augment

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        rows = np.array([row for row, _ in items], np.intp)
        batch = self.examples.batch(rows)
        if self.augment is not None:
            augmented = torch.stack(self._augmented(batch, [seed for _, seed in items]))
            # Convolutions on a CPU take 0.7 of the time in this format, which `ImageCache` has.
            batch = augmented.contiguous(memory_format=torch.channels_last)
        return batch, torch.from_numpy(self.class_ids[rows])

    def _augmented(self, photos: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        """Augment each photo with its own seed, and leave torch's generator as it was."""
        state = torch.get_rng_state()
        augmented = []
        for photo, seed in zip(photos, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            augmented.append(self.augment(photo))  # type: ignore[misc]
        torch.set_rng_state(state)
        return augmented


def make_dataloader(
    splits: DatasetSplits,
    examples: Examples,
    batches: BatchSampler,
    augment: Augment | None,
    *,
    on_gpu: bool,
) -> Any:
    """Make a data loader of (examples, class ids).

    Args:
        splits: the class of each row.
        examples: the examples, in the rows of `splits`.
        batches: the rows of each batch.
        augment: changes each photo; None: photos stay unchanged.
        on_gpu: the network is on a GPU.
    """
    must_work = augment is not None or not examples.in_memory
    workers = _worker_count(must_work=must_work, on_gpu=on_gpu)
    return DataLoader(
        _BatchDataset(splits, examples, augment),
        batch_sampler=batches,
        collate_fn=_unchanged,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forked processes share the photos in memory, so that no photo is copied to them.
        multiprocessing_context="fork" if workers else None,
        pin_memory=on_gpu,
        # Without its own generator, the loader would draw a number from that of the network.
        generator=torch.Generator(),
    )


def _worker_count(*, must_work: bool, on_gpu: bool) -> int:
    """Return the number of processes that load; none if photos are only copied."""
    if not must_work or sys.platform != "linux":
        return 0
    return min(MAX_WORKERS if on_gpu else 1, processor_cores() - 1)


def _unchanged(batch: Any) -> Any:
    return batch
