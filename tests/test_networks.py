"""The reports' networks layer by layer, the layers against other implementations, the backbones."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")
safetensors = pytest.importorskip("safetensors.torch")

from torch import nn  # noqa: E402

from veduta.errors import LearnError, RecipeError  # noqa: E402
from veduta.learn.models.backbones import build_backbone  # noqa: E402
from veduta.learn.models.layers import (  # noqa: E402
    SameConv2d,
    build_layers,
    regularised_weights,
    same_padding,
)
from veduta.learn.models.networks import Net  # noqa: E402
from veduta.learn.models.summary import count_parameters, summarise, summary_text  # noqa: E402
from veduta.learn.recipe import Network, Recipe, open_recipe, recipe_names  # noqa: E402
from veduta.learn.training.recipe_network import (  # noqa: E402
    build_network,
    network_without_weights,
)


@pytest.fixture(autouse=True)
def _repeatable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small photos: more threads only wait for each other
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def layer(table, shape, classes=5):
    (made,) = build_layers([table], shape, classes, "mine: network.layers")
    return made


def recipe_of(layers, *, size=8, loss="cross-entropy", **network):
    recipe = Recipe("mine", network=Network(layers=tuple(layers), **network))
    return dataclasses.replace(
        recipe,
        input=dataclasses.replace(recipe.input, size=size),
        loss=dataclasses.replace(recipe.loss, name=loss),
    )


# --- the reports' tables -------------------------------------------------------------------------

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


# --- all recipes ---------------------------------------------------------------------------------


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


# --- cuts, encoders, decoders --------------------------------------------------------------------


def test_the_cut_is_where_the_recipe_says():
    layers = [{"flatten": True}, {"dense": 6, "activation": "relu"}, {"dense": "classes"}]
    photos = torch.rand(2, 3, 4, 4)
    for cut, length in ((0, 48), (1, 48), (2, 6), (-1, 6), (3, 5), (-3, 48)):
        net = build_network(recipe_of(layers, size=4, features=cut), 5).eval()
        assert net.feature_size == length
        out = net(photos)
        assert torch.equal(out.features, net.features(photos))
        assert torch.equal(out.features, net.encoder_part()(photos))
        if length == 48:
            assert torch.equal(out.features, photos.flatten(1))
    with pytest.raises(RecipeError, match=r"features is 4, but network.layers has 3"):
        build_network(recipe_of(layers, size=4, features=4), 5)


def test_losses_of_features_want_the_cut_behind_the_layers():
    layers = [{"flatten": True}, {"dense": 6}]
    with pytest.raises(RecipeError, match=r"set network.features = 2"):
        build_network(recipe_of(layers, loss="contrastive"), 5)
    net = build_network(recipe_of(layers, loss="contrastive", features=2), 5)
    assert net(torch.rand(2, 3, 8, 8)).scores is None
    assert net.feature_size == 6


@pytest.mark.parametrize("name", ["autoencoder-32-64", "variational-autoencoder"])
def test_encoder_and_decoder_are_the_network_apart(name):
    recipe = open_recipe(name)
    net = build_network(recipe, 2).eval()
    size = recipe.input.size
    photos = torch.rand(2, 3, size, size)
    with torch.no_grad():
        whole = net(photos)
        features = net.encoder_part()(photos)
        assert torch.equal(features, whole.features)
        assert torch.allclose(net.decoder_part()(features), whole.reconstruction)
    assert 0 <= whole.reconstruction.min() <= whole.reconstruction.max() <= 1


def test_a_decoder_can_take_a_map():
    layers = [{"conv": 4, "stride": 2, "padding": "same"}]
    decoder = ({"deconv": 3, "stride": 2, "padding": "same", "activation": "sigmoid"},)
    net = build_network(recipe_of(layers, loss="mse", decoder=decoder), 2).eval()
    photos = torch.rand(2, 3, 8, 8)
    out = net(photos)
    assert net.feature_size == 4 * 4 * 4
    assert torch.allclose(net.decoder_part()(net.encoder_part()(photos)), out.reconstruction)
    with pytest.raises(LearnError, match="no decoder"):
        build_network(recipe_of([{"flatten": True}, {"dense": 5}]), 5).decoder_part()


def test_the_variational_layer_samples_while_training_only():
    made = layer({"variational": 50}, (20,))
    values = torch.randn(2000, 20)
    mean, log_variance = made.module.moments(values)
    assert torch.equal(made.module.eval()(values), mean)
    made.module.train()
    deviations = (made.module(values) - mean) / torch.exp(0.5 * log_variance)
    assert abs(float(deviations.detach().mean())) < 0.02
    assert abs(float(deviations.detach().std()) - 1) < 0.02


# --- layers --------------------------------------------------------------------------------------


def explicit_same_conv(photo, weight, stride):
    """TensorFlow's SAME from its definition, one number at a time; no bias."""
    filters, _, kernel, _ = weight.shape
    _, height, width = photo.shape
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    top = max((rows - 1) * stride + kernel - height, 0) // 2
    left = max((columns - 1) * stride + kernel - width, 0) // 2
    out = np.zeros((filters, rows, columns))
    for y in range(rows):
        for x in range(columns):
            for v in range(kernel):
                for u in range(kernel):
                    py, px = y * stride + v - top, x * stride + u - left
                    if 0 <= py < height and 0 <= px < width:
                        out[:, y, x] += weight[:, :, v, u] @ photo[:, py, px]
    return out


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_same_convolutions_pad_as_tensorflow(kernel, stride, size):
    made = layer(
        {"conv": 4, "kernel": kernel, "stride": stride, "padding": "same"}, (2, size, size)
    )
    photo = torch.randn(2, size, size)
    out = made.module(photo[None])[0]
    wanted = explicit_same_conv(photo.numpy(), made.module.weight.detach().numpy(), stride)
    assert tuple(out.shape) == made.shape
    assert np.allclose(out.detach().numpy(), wanted, atol=1e-5)


def test_same_puts_the_odd_pixel_right_and_below():
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(225, 3, 2) == (1, 1)
    assert same_padding(10, 2, 1) == (0, 1)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_is_the_gradient_of_the_convolution(kernel, stride):
    # That is its definition in TensorFlow; torch's gradient of our SAME convolution is the witness.
    size = 5
    table = {"deconv": 3, "kernel": kernel, "stride": stride, "padding": "same"}
    made = layer(table, (4, size, size))
    assert made.shape == (3, size * stride, size * stride)
    forward = SameConv2d(3, 4, kernel, stride, bias=False)
    forward.weight = nn.Parameter(made.module.weight.detach())
    source = torch.zeros(1, *made.shape, requires_grad=True)
    values = torch.randn(1, 4, size, size)
    forward(source).backward(values)
    assert torch.allclose(made.module(values), source.grad, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "wanted"), [(3, 1, 7), (3, 2, 11), (1, 2, 10)])
def test_a_valid_transposed_convolution_has_keras_size(kernel, stride, wanted):
    # Keras: input * stride + max(kernel - stride, 0).
    made = layer({"deconv": 2, "kernel": kernel, "stride": stride}, (3, 5, 5))
    assert made.shape == (2, wanted, wanted)
    assert tuple(made.module(torch.zeros(1, 3, 5, 5)).shape[1:]) == made.shape


def test_pools_without_and_with_padding():
    photo = torch.arange(9.0).reshape(1, 1, 3, 3)  # 0 1 2 / 3 4 5 / 6 7 8
    cases = {
        ("max", "valid"): [[4.0]],
        ("max", "same"): [[4.0, 5.0], [7.0, 8.0]],
        ("average", "valid"): [[2.0]],
        # Only what is inside counts: 2 and 5; 6 and 7; 8.
        ("average", "same"): [[2.0, 3.5], [6.5, 8.0]],
    }
    for (kind, padding), wanted in cases.items():
        made = layer({"pool": kind, "padding": padding}, (1, 3, 3))
        out = made.module(photo)
        assert tuple(out.shape[1:]) == made.shape
        assert out[0, 0].tolist() == wanted
    below = layer({"pool": "max", "padding": "same"}, (1, 3, 3)).module(photo - 100)
    assert below[0, 0].tolist() == [[-96.0, -95.0], [-93.0, -92.0]]
    strided = layer({"pool": "max", "size": 2, "stride": 1}, (1, 3, 3))
    assert strided.module(photo)[0, 0].tolist() == [[4.0, 5.0], [7.0, 8.0]]


def test_global_poolings_by_hand():
    photo = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer({"global": "average"}, (1, 2, 2)).module(photo).item() == 2.5
    assert layer({"global": "max"}, (1, 2, 2)).module(photo).item() == 4.0
    gem = layer({"global": "gem"}, (1, 2, 2)).module
    assert gem(photo).item() == pytest.approx((100 / 4) ** (1 / 3))  # 1 + 8 + 27 + 64
    assert gem.power.requires_grad


def test_batch_norm_is_keras():
    norm = layer({"batch-norm": True}, (2, 4, 4)).module
    photos = torch.randn(8, 2, 4, 4) * 3 + 1
    norm.train()(photos)
    # moving = 0.99 * moving + 0.01 * of the batch
    assert torch.allclose(norm.running_mean, 0.01 * photos.mean((0, 2, 3)), atol=1e-6)
    out = norm.eval()(photos)
    wanted = (photos - norm.running_mean[:, None, None]) / torch.sqrt(
        norm.running_var[:, None, None] + 1e-3
    )
    assert torch.allclose(out, wanted, atol=1e-5)
    assert isinstance(layer({"batch-norm": True}, (6,)).module, nn.BatchNorm1d)


def test_noise_only_while_training():
    noise = layer({"noise": 0.3}, (1, 50, 50)).module
    photo = torch.zeros(4, 1, 50, 50)
    assert torch.equal(noise.eval()(photo), photo)
    assert float(noise.train()(photo).std()) == pytest.approx(0.3, rel=0.05)


def test_weights_start_as_keras_draws_them():
    dense = layer({"dense": 300}, (100,)).module
    limit = math.sqrt(6 / 400)
    assert float(dense.weight.detach().abs().max()) == pytest.approx(limit, rel=1e-3)
    assert float(dense.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert not dense.bias.detach().any()
    for table, shape in (
        ({"conv": 30, "kernel": 5}, (20, 9, 9)),
        ({"deconv": 30, "kernel": 5}, (20, 9, 9)),
    ):
        weight = layer(table, shape).module.weight.detach()
        assert float(weight.abs().max()) == pytest.approx(math.sqrt(6 / (25 * 50)), rel=1e-2)


def test_activations():
    values = torch.tensor([[-1.0, 0.0, 2.0]])
    wanted = {
        "linear": values,
        "relu": torch.tensor([[0.0, 0.0, 2.0]]),
        "tanh": torch.tanh(values),
        "sigmoid": 1 / (1 + torch.exp(-values)),
        "softmax": torch.exp(values) / torch.exp(values).sum(),
    }
    for word, expected in wanted.items():
        made = layer({"activation": word}, (3,))
        assert made.activation == word
        assert torch.allclose(made.module(values), expected)
    dense = layer({"dense": 4, "activation": "relu"}, (3,))
    assert (dense.module(torch.randn(20, 3)) >= 0).all()
    # Of a map: over the channels of each pixel.
    colours = layer({"conv": 3, "kernel": 1, "activation": "softmax"}, (2, 4, 4))
    assert torch.allclose(colours.module(torch.randn(1, 2, 4, 4)).sum(1), torch.ones(1, 4, 4))


def test_classes_and_reshape():
    assert layer({"dense": "classes"}, (8,), classes=11).shape == (11,)
    made = layer({"reshape": [2, 3, 4]}, (24,))
    assert made.shape == (2, 3, 4)
    assert torch.equal(made.module(torch.arange(24.0)[None])[0].flatten(), torch.arange(24.0))


def test_regularised_weights_are_those_that_say_so():
    tables = [
        {"conv": 2, "regularised": True, "activation": "relu"},
        {"batch-norm": True},
        {"conv": 3},
        {"flatten": True},
        {"dense": "classes", "regularised": True},
    ]
    net = build_network(recipe_of(tables), 5)
    assert [tuple(one.shape) for one in regularised_weights(net)] == [(2, 3, 3, 3), (5, 3 * 16)]
    assert (
        list(regularised_weights(build_network(recipe_of([{"flatten": True}, {"dense": 5}]), 5)))
        == []
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([{"konv": 3}], r"layers\.0: no layer is called 'konv'; did you mean 'conv'\?"),
        ([{}], "an empty table is no layer"),
        ([{"conv": 3, "kernal": 3}], r"unknown key 'kernal'; did you mean 'kernel'\?"),
        ([{"flatten": True, "size": 2}], "unknown key 'size'; this layer has no other keys"),
        ([{"conv": 3, "dense": 4}], "conv and dense are two layers"),
        ([{"conv": 0}], "conv: expected a whole number of at least 1, not 0"),
        ([{"conv": True}], "conv: expected a whole number of at least 1, not true"),
        ([{"conv": 3, "stride": 1.5}], "stride: expected a whole number of at least 1, not 1.5"),
        (
            [{"conv": 3, "padding": "sama"}],
            r'padding: expected one of same, valid, not "sama"; did you mean \'same\'',
        ),
        ([{"conv": 3, "activation": "rellu"}], r"did you mean 'relu'\?"),
        ([{"conv": 3, "regularised": 1}], "regularised: expected true or false, not 1"),
        ([{"pool": "mean"}], 'pool: expected one of average, max, not "mean"'),
        ([{"dropout": 1.0}], "dropout: expected a number of at least 0 and less than 1, not 1.0"),
        ([{"noise": -1}], "noise: expected a number of at least 0, not -1"),
        ([{"flatten": False}], "the only value is true"),
        ([{"dense": 3}], "takes a vector, but its input is a map of 3 x 8 x 8"),
        ([{"flatten": True}, {"conv": 3}], r"layers\.1 \(conv = 3\): takes a map"),
        ([{"reshape": [3, 8]}], "reshape: expected a list of 3 values, not"),
        ([{"reshape": [3, 8, 9]}], "3 x 8 x 9 holds 216 numbers, but the input has 192"),
        ([{"pool": "max"}] * 3 + [{"conv": 4}], r"layers\.3 \(conv = 4\).* 3 x 3 .*3 x 1 x 1"),
        ([{"flatten": True}, {"variational": 3}, {"dense": 5}], "last of network.layers"),
        ([{"flatten": True}, {"dense": 4}], r"layers give 4 for 5 classes"),
        ([{"conv": 3}], r"3 x 6 x 6 for 5 classes"),
    ],
)
def test_wrong_layers_are_named(tables, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_network(recipe_of(tables), 5)
    assert str(caught.value).startswith("mine: ")


def test_losses_and_layers_must_fit():
    flat = {"flatten": True}
    with pytest.raises(RecipeError, match=r"no network.decoder"):
        build_network(recipe_of([flat, {"dense": 5}], loss="mse"), 5)
    photo = ({"dense": 192}, {"reshape": [3, 8, 8]})
    with pytest.raises(RecipeError, match=r"does not use the photos .* loss.name to mse or vae"):
        build_network(recipe_of([flat, {"dense": 5}], decoder=photo), 5)
    with pytest.raises(RecipeError, match="gives 100, but a photo is 3 x 8 x 8"):
        build_network(recipe_of([flat, {"dense": 5}], loss="mse", decoder=({"dense": 100},)), 5)
    with pytest.raises(RecipeError, match="needs a variational layer"):
        build_network(recipe_of([flat, {"dense": 5}], loss="vae", decoder=photo), 5)
    with pytest.raises(RecipeError, match="two classes apart"):
        build_network(recipe_of([flat, {"dense": 1}], loss="binary-cross-entropy"), 5)
    with pytest.raises(RecipeError, match=r"end network.layers with \{dense = 1\}"):
        build_network(recipe_of([flat, {"dense": 2}], loss="binary-cross-entropy"), 2)


# --- backbones -----------------------------------------------------------------------------------


def snapshot(module):
    return {name: one.detach().clone() for name, one in module.state_dict().items()}


def step(net, size):
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=0.1)
    net.train()
    scores = net(torch.randn(4, 3, size, size)).scores
    nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()


HEAD = ({"global": "average"}, {"dense": "classes"})


@pytest.mark.parametrize("train", ["none", ("layer4",), ("layer4.1.conv2", "layer4.1.bn2"), "all"])
def test_frozen_parts_do_not_move(train):
    recipe = recipe_of(HEAD, size=32, backbone="timm:resnet18", weights="none", train=train)
    net = build_network(recipe, 3)
    before = snapshot(net.backbone.network)
    step(net, 32)
    learning = {"none": (), "all": ("",)}.get(train, train)
    # Batch norms whose own numbers are frozen keep their statistics; the others' move.
    moved = {
        name for name, one in snapshot(net.backbone.network).items() if (one != before[name]).any()
    }
    free = {name for name in before if name.startswith(tuple(learning))}
    assert moved <= free
    assert {name for name in free if name.endswith(("running_mean", "running_var"))} <= moved
    # At the start, timm's blocks are closed by a zero: not every weight has a gradient yet.
    assert bool(moved & {name for name in free if name.endswith("weight")}) == (train != "none")
    assert net.training
    assert all(one.requires_grad for one in net.layers.parameters())


def test_a_backbone_can_wait():
    recipe = recipe_of(HEAD, size=32, backbone="timm:resnet18", weights="none", train=("layer4",))
    net = build_network(recipe, 3).train()
    net.set_backbone_trainable(False)
    before = snapshot(net.backbone)
    step(net, 32)
    assert all(torch.equal(one, before[name]) for name, one in snapshot(net.backbone).items())
    net.set_backbone_trainable(True)
    assert net.backbone.network.layer4.training
    assert not net.backbone.network.layer3.training
    learning = {name for name, one in net.backbone.network.named_parameters() if one.requires_grad}
    assert learning
    assert all(name.startswith("layer4") for name in learning)


def test_unknown_parameters_and_networks_are_named():
    with pytest.raises(RecipeError, match=r"begins with \"layr4\"; did you mean 'layer4'"):
        build_network(
            recipe_of(HEAD, size=64, backbone="timm:resnet18", weights="none", train=("layr4",)), 3
        )
    for name, near in (
        ("timm:resnet19", "timm:resnet18"),
        ("torchvision:googlenett", "torchvision:googlenet"),
        ("embedded:efficientnet-lite1", "embedded:efficientnet-lite"),
    ):
        with pytest.raises(RecipeError, match=f"did you mean '{near}"):
            build_backbone(name, "none", 64)
    with pytest.raises(RecipeError, match="expected embedded:NAME"):
        build_backbone("resnet18", "none", 64)
    with pytest.raises(RecipeError, match="Invalid pretrained tag"):
        build_backbone("timm:resnet18.nobody", "none", 64)
    with pytest.raises(RecipeError, match="does not take photos of 65 x 65"):
        build_backbone("timm:vit_tiny_patch16_224", "none", 65)


def test_backbones_leave_their_classifiers_behind():
    # Published sizes less their last layers: VGG16's three, ResNet18's one, GoogLeNet's one.
    with torch.device("meta"):
        vgg = build_backbone("timm:vgg16", "none", 256)
        resnet = build_backbone("timm:resnet18", "none", 224)
        googlenet = build_backbone("torchvision:googlenet", "none", 224)
    assert (vgg.shape, count_parameters(vgg)[0]) == ((512, 8, 8), 14_714_688)
    assert (resnet.shape, count_parameters(resnet)[0]) == ((512, 7, 7), 11_689_512 - 513_000)
    assert (googlenet.shape, count_parameters(googlenet)[0]) == ((1024,), 6_624_904 - 1_025_000)


def test_networks_with_tokens_give_their_own_vector():
    backbone = build_backbone("timm:vit_tiny_patch16_224", "none", 224)
    assert backbone.shape == (192,)


def test_the_backbone_is_the_librarys_network():
    import timm

    backbone = build_backbone("timm:resnet18", "none", 64).eval()
    other = timm.create_model("resnet18", num_classes=0).eval()
    other.load_state_dict(backbone.network.state_dict())
    photos = torch.randn(2, 3, 64, 64)
    assert torch.allclose(backbone(photos).mean((2, 3)), other(photos), atol=1e-5)


def test_weights_from_a_file(tmp_path):
    source = build_backbone("timm:resnet18", "none", 64)
    state = source.network.state_dict()
    file = tmp_path / "weights.safetensors"
    # A classifier that the file has besides is of no use here, and no harm.
    safetensors.save_file(state | {"fc.weight": torch.zeros(10, 512)}, file)
    copy = build_backbone("timm:resnet18", str(file), 64)
    assert all(torch.equal(one, state[name]) for name, one in copy.network.state_dict().items())

    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    del state["bn1.bias"]
    safetensors.save_file(state, file)
    with pytest.raises(
        LearnError, match=r"conv1.weight is 64 x 1 x 7 x 7, not 64 x 3 x 7 x 7"
    ) as two:
        build_backbone("timm:resnet18", str(file), 64)
    assert "bn1.bias is missing" in str(two.value)
    file.write_bytes(b"no tensors")
    with pytest.raises(LearnError, match="cannot be read as safetensors"):
        build_backbone("timm:resnet18", str(file), 64)
    with pytest.raises(LearnError, match="cannot be read as safetensors"):
        build_backbone("timm:resnet18", str(tmp_path / "absent.safetensors"), 64)
    with pytest.raises(RecipeError, match="expected pretrained, none, or the path"):
        build_backbone("timm:resnet18", "weights.pth", 64)


@pytest.mark.parametrize(
    "name", ["timm:resnet18.tv_in1k", "timm:legacy_xception.tf_in1k", "torchvision:googlenet"]
)
def test_weights_out_of_reach_name_the_three_ways(name, monkeypatch, tmp_path):
    import urllib.request

    import huggingface_hub

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(LearnError) as caught:
        build_backbone(name, "pretrained", 224)
    message = str(caught.value)
    assert name in message
    for way in ("hub is reachable", ".safetensors file", "embedded:efficientnet-lite2"):
        assert way in message


def test_weights_in_the_hubs_cache_need_no_hub(monkeypatch, tmp_path):
    import huggingface_hub
    import timm

    published = timm.create_model("resnet18", num_classes=1000)
    file = tmp_path / "model.safetensors"
    safetensors.save_file(published.state_dict(), file)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(file))
    backbone = build_backbone("timm:resnet18.tv_in1k", "pretrained", 64)
    assert torch.equal(backbone.network.layer4[1].conv2.weight, published.layer4[1].conv2.weight)


def test_published_torchvision_weights_load(monkeypatch):
    from torchvision import models

    published = models.googlenet(weights=None, init_weights=True, aux_logits=True)
    asked = {}

    def load(url, **options):
        asked.update(options, url=url)
        return published.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    backbone = build_backbone("torchvision:googlenet", "pretrained", 64)
    assert asked["weights_only"] is True
    assert torch.equal(backbone.network.conv1.conv.weight, published.conv1.conv.weight)
    # They were trained on photos of another scale than the one they are now given.
    assert backbone.network.transform_input


# --- the package's own networks ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_embedded_network_is_the_onnx_one(name):
    import onnxruntime

    skimage = pytest.importorskip("skimage.data")
    import veduta.encoders.embedded as embedded

    photo = skimage.coffee()[64:352, 100:484]  # 288 x 384
    session = onnxruntime.InferenceSession(
        Path(embedded.FOLDER) / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(["features"], {"photos": photo[None]})
    recipe = open_recipe("finetune")
    mean, std = (torch.tensor(one)[:, None, None] for one in (recipe.input.mean, recipe.input.std))
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255
    backbone = build_backbone(f"embedded:{name}", "pretrained", 288).eval()
    with torch.inference_mode():
        features = backbone(((pixels - mean) / std)[None]).numpy()
    assert features.shape == wanted.shape == (1, 1280, 9, 12)
    assert wanted.max() == 6.0
    assert np.abs(features - wanted).max() < 1e-3
    assert backbone.shape == (1280, 9, 9)


def test_the_embedded_pair_is_the_default_encoder():
    skimage = pytest.importorskip("skimage.data")
    from veduta.encoders import DEFAULT, PRESETS, load_encoder

    assert f"embedded:{PRESETS[DEFAULT].model}" == open_recipe("supcon").network.backbone
    photo = skimage.astronaut()[:384, :384]
    encoder = load_encoder()
    (wanted,) = encoder.encode([encoder.prepare(photo)])
    recipe = open_recipe("supcon")
    mean, std = (torch.tensor(one)[:, None, None] for one in (recipe.input.mean, recipe.input.std))
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255
    backbone = build_backbone(recipe.network.backbone, "pretrained", 384).eval()
    with torch.inference_mode():
        (found,) = backbone(((pixels - mean) / std)[None]).numpy()
    assert backbone.shape == (2560,)
    assert np.linalg.norm(found[:1280]) == pytest.approx(1, abs=1e-5)
    assert np.abs(found / np.sqrt(2) - wanted).max() < 1e-4


def test_the_textured_pair_has_the_moments_of_its_channels_behind_the_descriptor():
    plain, textured = (
        build_backbone(f"embedded:efficientnet-lite0-lite2{more}", "pretrained", 64).eval()
        for more in ("", "-textured")
    )
    photos = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        halves, found = plain(photos).numpy(), textured(photos).numpy()
        maps = [
            late[0](early(photos)).double().numpy()
            for early, late in zip(plain.network.early, plain.network.late, strict=True)
        ]
    assert textured.shape == (3360,) and textured.descriptor_size == 2560
    np.testing.assert_array_equal(found[:, :2560], halves)
    flat = [one.reshape(*one.shape[:2], -1) for one in maps]
    wanted = np.concatenate([f(one, axis=2) for one in flat for f in (np.mean, np.std)], axis=1)
    wanted *= 4 / np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.abs(found[:, 2560:] - wanted).max() < 1e-4


def test_only_the_layer_that_names_classes_sees_textures():
    recipe = open_recipe("finetune", ["input.size=64", "network.weights=none"])
    net = build_network(recipe, 5).eval()
    photos = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        out, all_of_it = net(photos), net.backbone(photos)
        assert net.feature_size == 2560 and net.layers[-1].in_features == 3360
        assert torch.equal(out.features, all_of_it[:, :2560])
        assert torch.equal(out.features, net.features(photos))
        assert torch.equal(out.scores, net.layers[-1](all_of_it))


@pytest.mark.parametrize("more", ["", "-textured"])
def test_the_embedded_pair_learns_of_a_photo_on_which_nothing_fires(more):
    """The slope of a root at zero is infinite."""
    pair = build_backbone(f"embedded:efficientnet-lite0-lite2{more}", "none", 64)
    with torch.no_grad():
        for one in pair.network.late[0][-2].parameters():
            one.zero_()
    pair(torch.zeros(2, 3, 64, 64)).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in pair.parameters())


def test_the_embedded_network_without_its_weights_is_random():
    one, other = (build_backbone("embedded:efficientnet-lite0", "none", 64) for _ in range(2))
    assert not torch.equal(one.network.head.weight, other.network.head.weight)
    out = one(torch.randn(1, 3, 64, 64))
    assert torch.isfinite(out).all()
    assert float(out.detach().std()) > 0.01
