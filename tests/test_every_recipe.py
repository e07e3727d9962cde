"""Every recipe of the package: trained for an epoch, exported, indexed with, searched with."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tiny import save
from torch import nn

import veduta
from veduta.learn.data.image_cache import cache_images
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import open_recipe, recipe_names
from veduta.learn.runs.train import train
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of the exporter and of timm, not ours
]


FAMILIES = [name.removesuffix("-full") for name in recipe_names() if name.endswith("-full")]
SAME_TRAINING = [
    f"{family}-not-pretrained" for family in FAMILIES if family not in ("googlenet", "resnet18")
]
"""Recipes that differ from the one that ends in "-full" as "resnet18-not-pretrained" does."""

SAME_LAYERS = {
    **{f"{family}-full": f"{family}-last-layer" for family in FAMILIES},
    "googlenet-not-pretrained": "googlenet-last-layer",
    "resnet18-not-pretrained": "resnet18-last-layer",
    "resnet101-last-layer": "resnet50-last-layer",
    "resnet152-last-layer": "resnet50-last-layer",
    "wide-resnet101-2-last-layer": "resnet50-last-layer",
    "siamese-triplet": "siamese",
    "sub-centre-arcface": "arcface",
}
"""Recipe → one whose network has the same kinds of layers, if not as many of them.

A recipe that stands here is trained, but not exported: an export of the largest takes half a
minute.
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four photos to learn, two to choose the epoch and one to be asked."""
    root = tmp_path_factory.mktemp("photos")
    for code, name in enumerate(("left", "right")):
        for number, part in enumerate(("train",) * 4 + ("val", "val", "test")):
            save(root / part / name / f"{number}.png", 10 * code + number)
    return root


def changes(name: str) -> list[str]:
    """Make a recipe small: an epoch, random weights, and small photos where any size will do."""
    recipe = open_recipe(name)
    wanted = ["training.epochs=1", "training.batch=8", "training.unfreeze_after=0"]
    if recipe.training.per_class:
        wanted.append("training.per_class=2")
    if recipe.training.draws_pairs:
        wanted.append("training.pairs=8")
    if recipe.network.encoder:
        wanted.append("network.backbone=encoder:fast")
    elif recipe.network.backbone:
        wanted += ["network.weights=none", "input.size=64"]
    return wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*recipe_names()} - {*SAME_LAYERS, *SAME_TRAINING}))
def test_it_learns_and_serves(name: str, photos: Path, tmp_path: Path) -> None:
    recipe = open_recipe(name, changes(name))
    run = tmp_path / "run"
    card = train(recipe, photos, run)
    assert card.epochs == 1 and card.test is not None and card.test.photos == 2
    assert card.onnx_difference <= 1e-4
    index = veduta.create(tmp_path / "index", encoder=str(run), keypoints=None)
    index.add(photos / "train")
    asked = photos / "train" / "left" / "0.png"
    hits = index.search(asked, k=8)
    (itself,) = (hit for hit in hits if Path(hit.path) == asked)
    assert itself.similarity == pytest.approx(1, abs=1e-4)
    # Others too where a network has not learned to tell photos apart.
    assert itself.similarity >= max(hit.similarity for hit in hits) - 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME_LAYERS)
def test_variants_learn(name: str, photos: Path, tmp_path: Path) -> None:
    recipe = open_recipe(name, changes(name))
    images, splits = cache_images(
        read_splits(photos), recipe.input, workers=1, max_bytes=2**20, on_progress=None
    )
    net = build_network(recipe, 2)
    assert kinds_of_layers(net) == kinds_in_export(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    done = fit(recipe, net, splits, images, tmp_path)
    assert len(done.history) == 1
    # The first layer that learns has moved; it is the first of the network if all of it learns.
    moved = [key for key, value in net.named_parameters() if value.ndim > 1 and value.requires_grad]
    assert (net.state_dict()[moved[0]] != before[moved[0]]).any()
    if recipe.network.train == "all":
        first = next(key for key, value in net.named_parameters() if value.ndim == 4)
        assert moved[0] == first


def kinds_of_layers(net: nn.Module) -> set[type[nn.Module]]:
    return {type(layer) for layer in net.modules()}


@functools.cache
def kinds_in_export(name: str) -> set[type[nn.Module]]:
    """Return the kinds of layers of the exported recipe that stands for `name`."""
    if name in SAME_LAYERS:
        return kinds_in_export(SAME_LAYERS[name])
    return kinds_of_layers(build_network(open_recipe(name, changes(name)), 2))


@pytest.mark.parametrize("name", SAME_TRAINING)
def test_variants_differ_as_those_that_are_trained(name: str) -> None:
    family = name.removesuffix("-not-pretrained")
    assert what_differs(f"{family}-full", name) == what_differs(
        "resnet18-full", "resnet18-not-pretrained"
    )


def what_differs(one: str, other: str) -> dict[str, Any]:
    """Return the tables of two recipes that differ, without what is said about them."""
    tables = [open_recipe(name, changes(name)).as_json() for name in (one, other)]
    return {
        key: [table[key] for table in tables]
        for key in tables[0]
        if key not in ("about", "source") and tables[0][key] != tables[1][key]
    }
