"""Networks: the cut, their encoder and decoder, and losses that do not fit."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torch
from tiny_training import network_recipe

from veduta.errors import LearnError, RecipeError
from veduta.learn.recipe import open_recipe
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread", "seeded_torch")


def test_the_cut_is_where_the_recipe_says():
    layers = [{"flatten": True}, {"dense": 6, "activation": "relu"}, {"dense": "classes"}]
    photos = torch.rand(2, 3, 4, 4)
    for cut, length in ((0, 48), (1, 48), (2, 6), (-1, 6), (3, 5), (-3, 48)):
        net = build_network(network_recipe(layers, size=4, features=cut), 5).eval()
        assert net.feature_size == length
        out = net(photos)
        assert torch.equal(out.features, net.features(photos))
        assert torch.equal(out.features, net.encoder_part()(photos))
        if length == 48:
            assert torch.equal(out.features, photos.flatten(1))
    with pytest.raises(RecipeError, match=r"features is 4, but network.layers has 3"):
        build_network(network_recipe(layers, size=4, features=4), 5)


def test_losses_of_features_want_the_cut_behind_the_layers():
    layers = [{"flatten": True}, {"dense": 6}]
    with pytest.raises(RecipeError, match=r"set network.features = 2"):
        build_network(network_recipe(layers, loss="contrastive"), 5)
    net = build_network(network_recipe(layers, loss="contrastive", features=2), 5)
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
    net = build_network(network_recipe(layers, loss="mse", decoder=decoder), 2).eval()
    photos = torch.rand(2, 3, 8, 8)
    out = net(photos)
    assert net.feature_size == 4 * 4 * 4
    assert torch.allclose(net.decoder_part()(net.encoder_part()(photos)), out.reconstruction)
    with pytest.raises(LearnError, match="no decoder"):
        build_network(network_recipe([{"flatten": True}, {"dense": 5}]), 5).decoder_part()


def test_losses_and_layers_must_fit():
    flat = {"flatten": True}
    with pytest.raises(RecipeError, match=r"no network.decoder"):
        build_network(network_recipe([flat, {"dense": 5}], loss="mse"), 5)
    photo = ({"dense": 192}, {"reshape": [3, 8, 8]})
    with pytest.raises(RecipeError, match=r"does not use the photos .* loss.name to mse or vae"):
        build_network(network_recipe([flat, {"dense": 5}], decoder=photo), 5)
    with pytest.raises(RecipeError, match="gives 100, but a photo is 3 x 8 x 8"):
        build_network(
            network_recipe([flat, {"dense": 5}], loss="mse", decoder=({"dense": 100},)), 5
        )
    with pytest.raises(RecipeError, match="needs a variational layer"):
        build_network(network_recipe([flat, {"dense": 5}], loss="vae", decoder=photo), 5)
    with pytest.raises(RecipeError, match="two classes apart"):
        build_network(network_recipe([flat, {"dense": 1}], loss="binary-cross-entropy"), 5)
    with pytest.raises(RecipeError, match=r"end network.layers with \{dense = 1\}"):
        build_network(network_recipe([flat, {"dense": 2}], loss="binary-cross-entropy"), 2)
