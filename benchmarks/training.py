"""Training: photos a second of `veduta train`'s loop and of a bare PyTorch loop.

Both have the same network, optimizer, batches and decoded photos. Their rounds alternate. The time
is taken from the end of the first epoch to the end of the last, so that the warm-up does not count.
It includes the checkpoints that are written in between.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.photo_sets import small
from benchmarks.report import check_target, format_number, parser, publish, ratios, table
from veduta.learn.data.image_cache import ImageCache, cache_images, normalise
from veduta.learn.data.splits import DatasetSplits
from veduta.learn.models.networks import Net
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network

MIN_SPEED_RATIO = 0.9
NETWORKS = {
    "cnn-1, 128 pixels": ("cnn-1", []),
    "EfficientNet-Lite0, all of it, 224 pixels": (
        "transfer",
        [
            "network.backbone=embedded:efficientnet-lite0",
            "network.train=all",
            "input.size=224",
            "augment=[]",
        ],
    ),
}
COMMON_SETTINGS = [
    "training.optimizer=adam",
    "training.weight_decay=0.0",
    "training.learning_rate=1e-4",
    "training.backbone_rate=1.0",
    "training.unfreeze_after=0",
    "training.cosine=false",
    "training.patience=0",
    "training.validation=0.0",
    "loss.label_smoothing=0.0",
    "training.batch=32",
]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("training", __doc__)
    options.add_argument("--photos", type=int, default=192)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=("cnn-1", "transfer"))
    chosen = options.parse_args(arguments)
    rows = []
    for name, (recipe, changes) in NETWORKS.items():
        if chosen.only in (None, recipe):
            epochs = f"training.epochs={chosen.epochs}"
            opened = open_recipe(recipe, [*changes, *COMMON_SETTINGS, epochs])
            rows.append(compare(name, opened, chosen.work, chosen.photos, chosen.rounds))
    text = (
        f"{chosen.photos} photos, {chosen.epochs} epochs, batches of 32, {chosen.rounds} rounds; "
        "photos a second, the median."
    )
    head = ["", "Veduta", "bare loop", "ratio (smallest–largest)", "target"]
    publish("training", f"{text}\n\n{table(head, rows)}", chosen.docs)


def compare(name: str, recipe: Recipe, work: Path, photos: int, rounds: int) -> list[str]:
    """Return a row of the table: photos a second of both loops, and their ratio."""
    files = sorted(small(work, photos, 320).glob("*.jpg"))
    class_ids = np.arange(len(files)) % 2
    rows = np.arange(len(files), dtype=np.intp)
    splits = DatasetSplits(
        root=files[0].parent,
        paths=tuple(file.name for file in files),
        class_ids=class_ids,
        class_names=("even", "odd"),
        train=rows,
        val=rows[:0],
        test=rows[:0],
        held_out=False,
        problems=(),
        digest="0" * 16,
    )
    images, splits = cache_images(splits, recipe.input, workers=2, max_bytes=2**31)
    ours: list[float] = []
    bare: list[float] = []
    for turn in range(rounds):
        print(f"{name}, round {turn + 1} of {rounds}", flush=True)
        loops = (veduta_loop, bare_loop) if turn % 2 else (bare_loop, veduta_loop)
        for loop in loops:
            torch.manual_seed(0)
            net = build_network(recipe, 2)
            rates = ours if loop is veduta_loop else bare
            rates.append(loop(recipe, net, splits, images, work))
    ratio = ratios(ours, bare)
    return [
        name,
        format_number(statistics.median(ours)),
        format_number(statistics.median(bare)),
        str(ratio),
        check_target(round(ratio.median, 2), MIN_SPEED_RATIO, at_least=True),
    ]


def veduta_loop(
    recipe: Recipe, net: Net, splits: DatasetSplits, images: ImageCache, work: Path
) -> float:
    """Train as `veduta train` does; return photos a second."""
    epoch_ends: list[float] = []
    folder = work / "training-run"
    shutil.rmtree(folder, ignore_errors=True)
    fit(
        recipe,
        net,
        splits,
        images,
        folder,
        on_epoch=lambda _: epoch_ends.append(time.perf_counter()),
    )
    shutil.rmtree(folder)
    return photo_rate(splits, epoch_ends)


def bare_loop(
    recipe: Recipe, net: Net, splits: DatasetSplits, images: ImageCache, work: Path
) -> float:
    """Train by the shortest loop that PyTorch allows; return photos a second."""
    photos = images.batch(splits.train).contiguous()
    class_ids = torch.from_numpy(splits.class_ids)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.training.learning_rate, fused=True)
    epoch_ends = []
    net.train()
    for _ in range(recipe.training.epochs):
        for rows in torch.randperm(len(photos)).split(recipe.training.batch):
            scores = net(normalise(photos[rows], recipe.input)).scores
            assert scores is not None
            if recipe.loss.name == "binary-cross-entropy":
                loss = functional.binary_cross_entropy(scores[:, 0], class_ids[rows].float())
            else:
                loss = functional.cross_entropy(scores, class_ids[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch_ends.append(time.perf_counter())
    return photo_rate(splits, epoch_ends)


def photo_rate(splits: DatasetSplits, epoch_ends: Sequence[float]) -> float:
    """Return photos a second after the first epoch."""
    return len(splits.train) * (len(epoch_ends) - 1) / (epoch_ends[-1] - epoch_ends[0])


if __name__ == "__main__":
    main()
