"""Every recipe of the package: trained for an epoch, exported, indexed with, searched with."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from benchmarks.report_pages import PAGES, read_commands
from tiny import save
from torch import nn

import veduta
from veduta.learn.data.image_cache import cache_images
from veduta.learn.data.splits import read_splits
from veduta.learn.models.networks import Net
from veduta.learn.recipe import open_recipe, recipe_names
from veduta.learn.runs.train import train
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network, network_without_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of the exporter and of timm, not ours
]

REPORTS = Path(__file__).resolve().parents[1] / "docs" / "reports"

FAMILIES = [name.removesuffix("-full") for name in recipe_names() if name.endswith("-full")]
DEEP = [family for family in FAMILIES if family not in ("googlenet", "resnet18", "resnet50")]
"""Architectures of the layers of ResNet-50, but of more and wider ones.

A training and an export of each takes half a minute. Instead, their recipes are compared with
those of ResNet-50, which are trained, and their networks are assembled without numbers. One of
them, "resnet152-frozen", has other layers behind the backbone. It is trained with ResNet-18.
"""

DEEP_RECIPES = [name for name in recipe_names() if name.startswith(tuple(f"{d}-" for d in DEEP))]
SAME_TRAINING = [
    f"{family}-not-pretrained" for family in FAMILIES if family not in ("googlenet", "resnet18")
]
"""Recipes that differ from the one that ends in "-full" as "resnet18-not-pretrained" does."""

SAME_LAYERS = {
    "googlenet-full": "googlenet-last-layer",
    "googlenet-not-pretrained": "googlenet-last-layer",
    "resnet18-full": "resnet18-last-layer",
    "resnet18-not-pretrained": "resnet18-last-layer",
    "resnet50-full": "resnet50-last-layer",
    "siamese-triplet": "siamese",
    "sub-centre-arcface": "arcface",
}
"""Recipe → one whose network has the same kinds of layers.

A recipe that stands here is trained, but not exported.
"""

MADE_WITH_RESNET18 = ("resnet152-frozen", "resnet50-dense", "siamese-resnet50")
"""Recipes with other layers behind the backbone. ResNet-18 is the quickest one to export."""

ON_PAGES = {
    command.words[1]
    for page in PAGES
    for command in read_commands((REPORTS / f"{page}.md").read_text("utf-8"))
    if command.name == "train"
}
"""Recipes that the pages of docs/reports train, and use. `test_report_pages.py` runs these."""

OTHERS = {*SAME_LAYERS, *SAME_TRAINING, *DEEP_RECIPES, *ON_PAGES} - {"resnet152-frozen"}
SERVED = [name for name in recipe_names() if name not in OTHERS]


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
        if name in MADE_WITH_RESNET18:
            wanted.append("network.backbone=timm:resnet18.tv_in1k")
    elif name.startswith("cnn-"):
        wanted.append("input.size=64")
    return wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
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
    assert kinds_of_layers(net) == kinds_of_layers(bare_network(SAME_LAYERS[name]))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    done = fit(recipe, net, splits, images, tmp_path)
    assert len(done.history) == 1
    # The first layer that learns has moved; it is the first of the network if all of it learns.
    moved = [key for key, value in net.named_parameters() if value.ndim > 1 and value.requires_grad]
    assert (net.state_dict()[moved[0]] != before[moved[0]]).any()
    if recipe.network.train == "all":
        first = next(key for key, value in net.named_parameters() if value.ndim == 4)
        assert moved[0] == first


@pytest.mark.parametrize("name", DEEP_RECIPES)
def test_deep_networks_learn_what_their_recipes_name(name: str) -> None:
    recipe = open_recipe(name)
    net = network_without_weights(recipe, 2)
    resnet50 = bare_network("resnet50-last-layer")
    assert kinds_of_layers(net.backbone) == kinds_of_layers(resnet50.backbone)
    prefixes = {"all": ("",), "none": ()}.get(recipe.network.train, recipe.network.train)
    learns = {key: value.requires_grad for key, value in net.backbone.network.named_parameters()}
    assert learns == {key: key.startswith(tuple(prefixes)) for key in learns}
    assert all(value.requires_grad for value in net.layers.parameters())


@pytest.mark.parametrize("family", DEEP)
def test_deep_networks_give_a_score_of_each_class(family: str) -> None:
    net = bare_network(f"{family}-last-layer").eval()
    with torch.no_grad():
        assert net(torch.zeros(4, 3, 64, 64, device="meta")).scores.shape == (4, 2)


@pytest.mark.parametrize("family", DEEP)
@pytest.mark.parametrize("kind", ["full", "last-layer"])
def test_deep_networks_are_trained_as_one_that_is_trained(family: str, kind: str) -> None:
    differences = what_differs(f"{family}-{kind}", f"resnet50-{kind}")
    assert list(differences) == ["network"]
    for table in differences["network"]:
        assert table.pop("backbone")
    assert differences["network"][0] == differences["network"][1]


@functools.cache
def bare_network(name: str) -> Net:
    """Return the small network of a recipe, without numbers."""
    return network_without_weights(open_recipe(name, changes(name)), 2)


def kinds_of_layers(net: nn.Module) -> set[type[nn.Module]]:
    return {type(layer) for layer in net.modules()}


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
