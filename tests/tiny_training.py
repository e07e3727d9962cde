"""Tiny networks and datasets, which train in a second."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import pixels

from veduta.learn.data.image_cache import ImageCache, cache_images
from veduta.learn.data.splits import DatasetSplits, read_splits
from veduta.learn.recipe import Input, Loss, Network, Recipe, Training, with_values
from veduta.learn.training.loop import TrainingResult, fit
from veduta.learn.training.recipe_network import build_network

SIZE = 16
LAYERS = (
    {"conv": 4, "activation": "relu"},
    {"batch-norm": True},
    {"flatten": True},
    {"dropout": 0.2},
    {"dense": "classes"},
)
FLAT = ({"flatten": True}, {"dense": "classes"})
AUGMENT = ({"flip": "horizontal"}, {"brightness": 0.3})


def tiny_recipe(
    *,
    layers: tuple[dict[str, Any], ...] = LAYERS,
    loss: Loss = Loss(),  # noqa: B008
    augment: tuple[dict[str, Any], ...] = (),
    network: dict[str, Any] | None = None,
    **training: Any,
) -> Recipe:
    """Return a recipe for photos of `SIZE` pixels."""
    return Recipe(
        "tiny",
        input=Input(size=SIZE),
        network=Network(layers=layers, **(network or {})),
        loss=loss,
        training=Training(**{"epochs": 3, "batch": 8, **training}),
        augment=augment,
    )


def coloured_photos(folder: Path, classes: int = 3, each: int = 8) -> Path:
    """Write class folders whose classes differ by their brightest channel, and photos by noise."""
    for class_id in range(classes):
        for number in range(each):
            photo = pixels(100 * class_id + number).astype(np.int16) // 3
            photo[..., class_id % 3] += 120
            file = folder / f"class{class_id}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo.astype(np.uint8)).save(file)
    return folder


def cached(dataset: Path, recipe: Recipe) -> tuple[ImageCache, DatasetSplits]:
    """Read and decode a dataset."""
    training = recipe.training
    splits = read_splits(dataset, validation=training.validation, seed=training.seed)
    return cache_images(splits, recipe.input, workers=2, max_bytes=2**20)


def train(recipe: Recipe, dataset: Path, out: Path, **options: Any) -> TrainingResult:
    """Train the network of a recipe."""
    images, splits = cached(dataset, recipe)
    torch.manual_seed(recipe.training.seed)
    # A recipe may not unfreeze a backbone that it does not have. `fit` takes it, and so the two
    # parts of such a training are tested with a network that trains in a second.
    built = recipe
    if not recipe.network.backbone:
        built = with_values(recipe, {"training.unfreeze_after": 0})
    net = build_network(built, len(splits.class_names))
    return fit(recipe, net, splits, images, out, **options)


def write_labels(folder: Path, rows: list[tuple[str, str, str]], column: str = "split") -> Path:
    """Write labels.csv with rows of (path, label, split)."""
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("path", "label", column), *rows])
    return folder


def network_recipe(
    layers: Iterable[dict[str, Any]],
    *,
    size: int = 8,
    loss: str = "cross-entropy",
    **network: Any,
) -> Recipe:
    """Return a recipe called "mine" with these layers."""
    return Recipe(
        "mine",
        input=Input(size=size),
        network=Network(layers=tuple(layers), **network),
        loss=Loss(name=loss),
    )
