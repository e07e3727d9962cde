"""The networks of all recipes, and those of the reports layer by layer."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torch

from veduta.learn.models.networks import Net
from veduta.learn.models.summary import count_parameters, summarise, summary_text
from veduta.learn.recipe import Recipe, open_recipe, recipe_names
from veduta.learn.training.recipe_network import build_network, network_without_weights

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")


TABLES = {
    "cnn-1": [
        ((126, 126, 32), 896),
        ((63, 63, 32), 0),
        ((61, 61, 64), 18496),
        ((30, 30, 64), 0),
        ((57600,), 0),
        ((256,), 14745856),
        ((1,), 257),
    ],
    "cnn-2": [
        ((254, 254, 32), 896),
        ((127, 127, 32), 0),
        ((125, 125, 64), 18496),
        ((62, 62, 64), 0),
        ((246016,), 0),
        ((256,), 62980352),
        ((1,), 257),
    ],
    "cnn-3": [
        ((255, 255, 32), 416),
        ((127, 127, 32), 0),
        ((126, 126, 64), 8256),
        ((63, 63, 64), 0),
        ((62, 62, 128), 32896),
        ((31, 31, 128), 0),
        ((123008,), 0),
        ((256,), 31490304),
        ((1,), 257),
    ],
    "xception-transfer": [((8, 8, 2048), 20861480), ((2048,), 0), ((1,), 2049)],
    "cnn-22": [
        ((224, 224, 16), 448),
        ((112, 112, 16), 0),
        ((112, 112, 32), 4640),
        ((56, 56, 32), 0),
        ((56, 56, 64), 18496),
        ((28, 28, 64), 0),
        ((50176,), 0),
        ((1024,), 51381248),
        ((22,), 22550),
    ],
}
TOTALS = {
    "cnn-1": (14_765_505, 14_765_505),
    "cnn-2": (63_000_001, 63_000_001),
    "cnn-3": (31_532_129, 31_532_129),
    "xception-transfer": (20_863_529, 2_049),
    "cnn-22": (51_427_382, 51_427_382),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_reports_tables_row_by_row(name):
    recipe = open_recipe(name)
    summary = summarise(network_without_weights(recipe), recipe)
    assert [(row.shape, row.parameters) for row in summary.rows] == TABLES[name]
    assert (summary.total, summary.trainable) == TOTALS[name]
    assert summary.total == sum(row.parameters for row in summary.rows)
    assert summary.as_json()["total"] == summary.total


def test_batch_norm_statistics_count_as_parameters_that_do_not_learn():
    recipe = open_recipe("scratch-competition")
    summary = summarise(network_without_weights(recipe), recipe)
    # By hand: weights and biases of five convolutions, and two numbers a channel of five norms.
    convs = [(3, 7, 8), (8, 3, 16), (16, 3, 16), (16, 3, 32), (32, 3, 32)]
    learn = sum((inside * k * k + 1) * out for inside, k, out in convs) + 2 * (8 + 16 + 16 + 64)
    assert summary.trainable == learn + (7 * 7 * 32 + 1) * 10
    assert summary.non_trainable == 2 * (8 + 16 + 16 + 64)
    shapes = [row.shape for row in summary.rows if row.kind == "Conv2D"]
    assert shapes == [(73, 73, 8), (36, 36, 16), (34, 34, 16), (16, 16, 32), (14, 14, 32)]
    assert network_without_weights(recipe).feature_size == 7 * 7 * 32


@pytest.mark.parametrize("name", ["scratch-competition", "variational-autoencoder", "linear"])
def test_the_summary_fits_a_terminal(name):
    recipe = open_recipe(name)
    lines = summary_text(summarise(network_without_weights(recipe), recipe)).splitlines()
    assert max(map(len, lines)) == 80
    assert lines[0].startswith(f"{name}: input ")
    assert lines[-3].startswith("Total params: ")


def test_rows_are_numbered_as_keras_does():
    recipe = open_recipe("cnn-1")
    names = [row.name for row in summarise(network_without_weights(recipe), recipe).rows]
    assert names == [
        "conv2d",
        "max_pooling2d",
        "conv2d_1",
        "max_pooling2d_1",
        "flatten",
        "dense",
        "dense_1",
    ]


def check_outputs(net: Net, recipe: Recipe, classes: int, n: int) -> None:
    size = recipe.input.size
    shape = (n, *net.input_shape)
    out = net(torch.rand(shape, device=next(net.parameters()).device))
    assert out.features.shape == (n, net.feature_size)
    assert out.features.dtype == torch.float32
    if recipe.network.decoder:
        assert out.reconstruction.shape == (n, 3, size, size)
        assert (out.mean is not None) == (recipe.loss.name == "vae")
    else:
        assert out.reconstruction is None
    if recipe.loss.name == "cross-entropy" or recipe.training.probe == "after":
        assert out.scores.shape == (n, classes)
    elif recipe.loss.name == "binary-cross-entropy":
        assert out.scores.shape == (n, 1)
    else:
        assert out.scores is None


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_says_what_it_should(name):
    recipe = open_recipe(name)
    assert recipe.about
    assert recipe.source
    classes = 2 if recipe.loss.name == "binary-cross-entropy" else 7
    net = network_without_weights(recipe, classes)
    assert all(one.device.type == "meta" for one in net.parameters())
    check_outputs(net.train(), recipe, classes, 3)
    check_outputs(net.eval(), recipe, classes, 1)
    # Something learns, and of a backbone what the recipe says.
    assert count_parameters(net)[0] > 0
    if net.backbone is not None:
        learn, _ = count_parameters(net.backbone)
        frozen = recipe.network.train == "none"
        assert (learn == 0) == frozen


def test_there_is_a_recipe_for_every_network_of_the_reports():
    families = (
        "resnet18",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext101-32x8d",
        "wide-resnet101-2",
        "googlenet",
    )
    wanted = {
        f"{one}-{how}" for one in families for how in ("full", "last-layer", "not-pretrained")
    }
    wanted |= {
        "cnn-1",
        "cnn-2",
        "cnn-3",
        "cnn-3-tuned",
        "xception-transfer",
        "capstone-vgg16",
        "capstone-xception",
        "capstone-resnet50",
        "resnet50-dense",
        "siamese",
        "siamese-triplet",
        "siamese-resnet50",
        "autoencoder-32-64",
        "autoencoder-32-64-128",
        "autoencoder-32-64-128-256",
        "variational-autoencoder",
        "cnn-22",
        "resnet152-frozen",
        "scratch-competition",
        "finetune",
        "arcface",
        "sub-centre-arcface",
        "supcon",
        "linear",
        "frozen-arcface",
        "frozen-sub-centre-arcface",
        "frozen-supcon",
    }
    assert wanted <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_augments_in_known_words(name):
    from veduta.learn.augmentation import compose

    compose(open_recipe(name).augment)


def test_the_tuned_recipe_names_the_layers_that_its_report_tuned():
    recipe = open_recipe("cnn-3-tuned")
    layers = recipe.network.layers
    assert set(recipe.tune.space) == {
        "network.layers.0.conv",
        "network.layers.4.conv",
        "network.layers.7.dropout",
        "network.layers.8.dense",
    }
    for key in recipe.tune.space:
        _, _, place, word = key.split(".")
        assert word in layers[int(place)]
    convs = [place for place, table in enumerate(layers) if "conv" in table]
    assert (convs[0], convs[2]) == (0, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes", "classes"),
    [
        ("cnn-1", ["input.size=40"], 2),
        ("scratch-competition", ["input.size=96"], 3),
        ("siamese", ["input.size=48"], 3),
        ("autoencoder-32-64", [], 3),
        ("variational-autoencoder", [], 3),
        ("resnet18-full", ["input.size=32", "network.weights=none"], 3),
        ("googlenet-full", ["input.size=64", "network.weights=none"], 3),
        ("finetune", ["input.size=32"], 3),
    ],
)
def test_networks_give_numbers_and_learn(name, changes, classes):
    recipe = open_recipe(name, changes)
    net = build_network(recipe, classes)
    check_outputs(net, recipe, classes, 4)
    out = net.train()(torch.rand(4, 3, recipe.input.size, recipe.input.size))
    target = out.scores if out.scores is not None else out.reconstruction
    (out.features if target is None else target).square().mean().backward()
    without = [key for key, one in net.named_parameters() if one.requires_grad and one.grad is None]
    # The width of the cloud is learned by the KL part of its loss; here the sample carries it.
    assert without == []
    assert all(torch.isfinite(one.grad).all() for one in net.parameters() if one.requires_grad)


def test_probabilities_are_probabilities():
    recipe = open_recipe("cnn-22", ["input.size=16"])
    net = build_network(recipe, 22).eval()
    assert net.gives_probabilities
    scores = net(torch.rand(2, 3, 16, 16)).scores
    assert torch.allclose(scores.sum(1), torch.ones(2), atol=1e-6)
    # Dropout behind the softmax does not hide it.
    assert network_without_weights(open_recipe("resnet152-frozen")).gives_probabilities
    assert not network_without_weights(open_recipe("finetune")).gives_probabilities
    assert network_without_weights(open_recipe("cnn-1")).gives_probabilities
