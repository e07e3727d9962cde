"""The batches of an epoch: their order, their classes and their augmentation."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny_training import AUGMENT, cached, tiny_recipe

from veduta.errors import RecipeError
from veduta.learn.data.dataloader import BatchSampler, make_dataloader
from veduta.learn.data.sampling import epoch_batches, pair_count, rank_share
from veduta.learn.recipe import Training

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def settings(**values: Any) -> Training:
    return Training(**{"batch": 8, **values})


def test_every_photo_once_and_another_order_each_epoch() -> None:
    rows, codes = np.arange(100, 133), np.zeros(33, np.int64)
    first = epoch_batches(rows, codes, settings(), 1)
    assert [len(batch) for batch in first] == [8, 8, 8, 9]  # no batch of one
    assert sorted(np.concatenate(first)) == list(rows)
    again = epoch_batches(rows, codes, settings(), 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        epoch_batches(rows, codes, settings(), 2),
        epoch_batches(rows, codes, settings(seed=1), 1),
    ):
        assert not np.array_equal(np.concatenate(first), np.concatenate(other))


def test_balanced_draws_every_class_as_often() -> None:
    codes = np.repeat([0, 1, 2], [80, 15, 5])
    shown = np.concatenate(epoch_batches(np.arange(100), codes, settings(balanced=True), 3))
    assert len(shown) == 100
    assert sorted(Counter(codes[shown].tolist()).values()) == [33, 33, 34]
    times = Counter(shown.tolist())
    assert {times[row] for row in range(95, 100)} <= {6, 7}  # 5 photos, 33 or 34 draws
    assert max(times[row] for row in range(80)) == 1


def test_batches_of_some_photos_of_each_class() -> None:
    codes = np.repeat([0, 1, 2, 3, 4], [9, 4, 6, 2, 1])
    batches = epoch_batches(np.arange(22), codes, settings(per_class=2), 1)
    for batch in batches:
        assert len(batch) == 8
        assert set(Counter(codes[batch].tolist()).values()) == {2}
        assert all(codes[batch[at]] == codes[batch[at + 1]] for at in range(0, 8, 2))
        for at in range(0, 8, 2):
            assert batch[at] != batch[at + 1] or codes[batch[at]] == 4
    assert set(np.concatenate(batches)) == set(range(22))
    with pytest.raises(RecipeError, match="does not hold two classes"):
        epoch_batches(np.arange(22), codes, settings(per_class=5), 1)


def test_pairs_half_of_one_class_half_of_two() -> None:
    codes = np.repeat([0, 1, 2], [10, 6, 1])
    batches = epoch_batches(np.arange(17), codes, settings(pairs=31), 1)
    pairs = np.concatenate(batches).reshape(-1, 2)
    assert len(pairs) == 31
    assert all(len(batch) % 2 == 0 for batch in batches)
    same = codes[pairs[:, 0]] == codes[pairs[:, 1]]
    assert same.sum() == 16
    assert (pairs[:, 0] != pairs[:, 1]).all()
    # So many for each photo, and no more than there are of the rarer kind: 10 · 9 / 2 + 6 · 5 / 2
    # of one class.
    few, most = settings(pairs_per_photo=2), settings(pairs_per_photo=99)
    assert [pair_count(codes, one) for one in (few, most, settings(pairs=3))] == [34, 120, 3]
    assert sum(map(len, epoch_batches(np.arange(17), codes, few, 1))) == 2 * 34
    assert pair_count(np.array([0, 0, 1]), most) == 2, "one of one class, one of two"
    with pytest.raises(RecipeError, match="one of them with two photos"):
        epoch_batches(np.arange(3), np.arange(3), most, 1)
    with pytest.raises(RecipeError, match="one of them with two photos"):
        epoch_batches(np.arange(3), np.arange(3), settings(pairs=4), 1)


def test_processes_share_a_batch_by_whole_groups() -> None:
    batch = np.arange(12)
    shares = [rank_share(batch, rank, 3, 2) for rank in range(3)]
    assert [share.tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    few = [rank_share(batch[:2], rank, 2, 2).tolist() for rank in range(2)]
    assert few == [[0, 1], [0, 1]]


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # if another test has loaded it
def test_augmentation_is_the_same_with_and_without_processes(
    coloured_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.learn.data import dataloader as feeding

    recipe = tiny_recipe(augment=AUGMENT)
    images, splits = cached(coloured_dataset, recipe)
    seen = []

    def noisy(photo: Any) -> Any:
        return (photo.float() * torch.rand(1)).to(torch.uint8)

    for workers in (0, 2):
        monkeypatch.setattr(feeding, "_worker_count", lambda workers=workers, **_: workers)
        batches = BatchSampler(splits, splits.train, recipe.training, lambda: 1)
        torch.manual_seed(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks, from Python 3.12 on
            loader = make_dataloader(splits, images, batches, noisy, on_gpu=False)
            seen.append([photos for photos, _ in loader])
        assert float(torch.rand(1)) == pytest.approx(_first_of(5))  # nothing else was drawn
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    plain = images.batch(
        next(iter(epoch_batches(splits.train, splits.class_ids, recipe.training, 1)))
    )
    assert not torch.equal(seen[0][0], plain)


def _first_of(seed: int) -> float:
    torch.manual_seed(seed)
    return float(torch.rand(1))
