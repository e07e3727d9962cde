"""Training: photos a second of `veduta train`'s loop against a bare PyTorch loop.

The same network, optimizer, batches and decoded photos; rounds of the two alternate. Counted is
the time from the end of the first epoch to the end of the last, with the checkpoints that are
written in between; what the first epoch warms up is not.
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
from benchmarks.report import number, parser, publish, ratios, table, verdict
from veduta.learn.data.image_cache import ImageCache, cache_images, normalise
from veduta.learn.data.splits import DatasetSplits
from veduta.learn.models.networks import Net
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network

_TARGET = 0.9
_NETWORKS = {
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
_ALWAYS = [
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
    options = parser("training", str(__doc__).splitlines()[0])
    options.add_argument("--photos", type=int, default=192)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=("cnn-1", "transfer"))
    chosen = options.parse_args(arguments)
    rows = []
    for name, (recipe, changes) in _NETWORKS.items():
        if chosen.only in (None, recipe):
            epochs = f"training.epochs={chosen.epochs}"
            opened = open_recipe(recipe, [*changes, *_ALWAYS, epochs])
            rows.append(compared(name, opened, chosen.work, chosen.photos, chosen.rounds))
    text = (
        f"{chosen.photos} photos, {chosen.epochs} epochs, batches of 32, {chosen.rounds} rounds; "
        "photos a second, the median."
    )
    head = ["", "Veduta", "bare loop", "ratio (smallest–largest)", "target"]
    publish("training", f"{text}\n\n{table(head, rows)}", chosen.docs)


def compared(name: str, recipe: Recipe, work: Path, photos: int, rounds: int) -> list[str]:
    files = sorted(small(work, photos, 320).glob("*.jpg"))
    codes = np.arange(len(files)) % 2
    rows = np.arange(len(files), dtype=np.intp)
    none = rows[:0]
    parts = DatasetSplits(
        root=files[0].parent,
        paths=tuple(file.name for file in files),
        class_ids=codes,
        class_names=("even", "odd"),
        train=rows,
        val=none,
        test=none,
        held_out=False,
        problems=(),
        digest="0" * 16,
    )
    pictures, parts = cache_images(parts, recipe.input, workers=2, max_bytes=2**31)
    ours, bare = [], []
    for turn in range(rounds):
        print(f"{name}, round {turn + 1} of {rounds}", flush=True)
        first, second = (one_fit, one_loop) if turn % 2 else (one_loop, one_fit)
        for measure in (first, second):
            torch.manual_seed(0)
            net = build_network(recipe, 2)
            found = ours if measure is one_fit else bare
            found.append(measure(recipe, net, parts, pictures, work))
    ratio = ratios(ours, bare)
    return [
        name,
        number(statistics.median(ours)),
        number(statistics.median(bare)),
        str(ratio),
        verdict(round(ratio.median, 2), _TARGET, at_least=True),
    ]


def one_fit(
    recipe: Recipe, net: Net, parts: DatasetSplits, pictures: ImageCache, work: Path
) -> float:
    ends: list[float] = []
    folder = work / "training-run"
    shutil.rmtree(folder, ignore_errors=True)
    fit(recipe, net, parts, pictures, folder, on_epoch=lambda _: ends.append(time.perf_counter()))
    shutil.rmtree(folder)
    return rate(parts, ends)


def one_loop(
    recipe: Recipe, net: Net, parts: DatasetSplits, pictures: ImageCache, work: Path
) -> float:
    """What one writes without any library: as fast as it gets, and nothing beside."""
    photos = pictures.batch(parts.train).contiguous()
    codes = torch.from_numpy(parts.class_ids)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.training.learning_rate, fused=True)
    ends = []
    net.train()
    for _ in range(recipe.training.epochs):
        for rows in torch.randperm(len(photos)).split(recipe.training.batch):
            scores = net(normalise(photos[rows], recipe.input)).scores
            assert scores is not None
            if recipe.loss.name == "binary-cross-entropy":
                loss = functional.binary_cross_entropy(scores[:, 0], codes[rows].float())
            else:
                loss = functional.cross_entropy(scores, codes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append(time.perf_counter())
    return rate(parts, ends)


def rate(parts: DatasetSplits, ends: Sequence[float]) -> float:
    return len(parts.train) * (len(ends) - 1) / (ends[-1] - ends[0])


if __name__ == "__main__":
    main()
