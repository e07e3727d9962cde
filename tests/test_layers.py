"""The layers, against Keras' definitions and against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torch
from tiny_training import network_recipe
from torch import nn

from veduta.errors import RecipeError
from veduta.learn.models.layers import SameConv2d, build_layers, regularised_weights, same_padding
from veduta.learn.recipe import with_values
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")


def layer(table, shape, classes=5):
    (made,) = build_layers([table], shape, classes, "mine: network.layers")
    return made


def test_the_variational_layer_samples_while_training_only():
    made = layer({"variational": 50}, (20,))
    values = torch.randn(2000, 20)
    mean, log_variance = made.module.moments(values)
    assert torch.equal(made.module.eval()(values), mean)
    made.module.train()
    deviations = (made.module(values) - mean) / torch.exp(0.5 * log_variance)
    assert abs(float(deviations.detach().mean())) < 0.02
    assert abs(float(deviations.detach().std()) - 1) < 0.02


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
    penalised = with_values(network_recipe(tables), {"training.l2": 0.1})
    net = build_network(penalised, 5)
    assert [tuple(one.shape) for one in regularised_weights(net)] == [(2, 3, 3, 3), (5, 3 * 16)]
    assert (
        list(
            regularised_weights(build_network(network_recipe([{"flatten": True}, {"dense": 5}]), 5))
        )
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
        build_network(network_recipe(tables), 5)
    assert str(caught.value).startswith("mine: ")
