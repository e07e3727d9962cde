"""Settings of a recipe that have no effect are refused; those that have one are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("torch")

from tiny_training import FLAT, tiny_recipe

from veduta.errors import RecipeError
from veduta.learn.recipe import Recipe, open_recipe, recipe_names, with_values
from veduta.learn.tables.table_file import Grid, Table, row_recipe
from veduta.learn.training.losses import LOSSES
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.unused_settings import check_settings, unused_settings, without_unused
from veduta.learn.tuning.search_space import read_space

ENCODER = {"network.backbone": "encoder:fast"}
BACKBONE = {"network.backbone": "embedded:efficientnet-lite0"}
REGULARISED = {"network.layers": [{"flatten": True}, {"dense": "classes", "regularised": True}]}
PHOTOS_AGAIN = {
    "network.layers": [{"dense": 8}],
    "network.decoder": [{"dense": 768}],
    "loss.name": "mse",
}

CASES = [
    ({"input.size": 64}, ENCODER, {}),
    ({"input.fit": "crop"}, ENCODER, {}),
    ({"input.mean": [0.5, 0.5, 0.5]}, ENCODER, {}),
    ({"input.std": [0.5, 0.5, 0.5]}, ENCODER, {}),
    ({"network.weights": "none"}, ENCODER, BACKBONE),
    ({"network.train": ["late"]}, {}, BACKBONE),
    ({"network.train": ["late"]}, ENCODER, BACKBONE),
    ({"network.decoder": [{"dense": 8}]}, ENCODER, {}),
    ({"augment": [{"flip": "horizontal"}]}, ENCODER, {}),
    ({"network.features": 0}, PHOTOS_AGAIN, {}),
    ({"loss.label_smoothing": 0.1}, {"loss.name": "triplet"}, {}),
    ({"loss.margin": 0.5}, {}, {"loss.name": "contrastive"}),
    ({"loss.scale": 10.0}, {"loss.name": "supcon"}, {"loss.name": "arcface"}),
    ({"loss.sub_centres": 2}, {"loss.name": "arcface"}, {"loss.name": "sub-centre-arcface"}),
    ({"loss.temperature": 0.5}, {"loss.name": "arcface"}, {"loss.name": "supcon"}),
    ({"loss.kl_weight": 0.5}, {"loss.name": "mse"}, {"loss.name": "vae"}),
    ({"training.momentum": 0.5}, {}, {"training.optimizer": "sgd"}),
    ({"training.stop_monitor": "val_loss"}, {}, {"training.patience": 2}),
    ({"training.min_delta": 0.1}, {}, {"training.reduce_patience": 2}),
    ({"training.reduce_monitor": "val_loss"}, {}, {"training.reduce_patience": 2}),
    ({"training.reduce_factor": 0.5}, {}, {"training.reduce_patience": 2}),
    ({"training.gamma": 0.5}, {}, {"training.milestones": [2]}),
    ({"training.l1": 0.1}, {}, REGULARISED),
    ({"training.l2": 0.1}, {}, REGULARISED),
    ({"network.layers.1.regularised": True}, {}, {"training.l2": 0.1}),
    ({"training.unfreeze_after": 1}, {}, BACKBONE),
    ({"training.unfreeze_after": 1}, ENCODER, BACKBONE),
    ({"training.backbone_rate": 0.1}, BACKBONE | {"network.train": "none"}, BACKBONE),
    ({"training.pairs": 10}, {}, {"loss.name": "contrastive"}),
    ({"training.pairs_per_photo": 2}, {"loss.name": "triplet"}, {"loss.name": "contrastive"}),
    ({"training.mixup": 0.2}, {"loss.name": "mse"}, {"loss.name": "arcface"}),
    ({"training.balanced": True}, {"loss.name": "contrastive", "training.pairs": 10}, {}),
    ({"training.per_class": 2}, {"loss.name": "contrastive", "training.pairs": 10}, {}),
]
"""A setting, other settings with which it has no effect, and others with which it has one."""


def recipe_with(*changes: dict[str, Any]) -> Recipe:
    values: dict[str, Any] = {}
    for change in changes:
        values |= change
    return with_values(tiny_recipe(layers=FLAT), values)


@pytest.mark.parametrize(("setting", "useless", "useful"), CASES)
def test_a_setting_without_effect_is_named_with_a_remedy_that_works(
    setting: dict[str, Any], useless: dict[str, Any], useful: dict[str, Any]
) -> None:
    (key,) = setting
    recipe = with_values(recipe_with(useless), {} if key == "input.size" else {"input.size": 224})
    recipe = with_values(recipe, setting)
    with pytest.raises(RecipeError) as refused:
        build_network(recipe, 2, dimension=8)
    text = str(refused.value)
    assert text.startswith(f"tiny: {key} is ")
    assert "has no effect" in text
    (one,) = unused_settings(recipe)
    check_settings(with_values(recipe, {key: one.default}))
    check_settings(recipe_with(useful, setting))


def test_every_key_of_the_loss_belongs_to_a_loss() -> None:
    keys = {key for key in Recipe("").as_json()["loss"] if key != "name"}
    assert keys == {key for loss in LOSSES.values() for key in loss.settings}


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_of_the_package_have_no_useless_setting(name: str) -> None:
    assert unused_settings(open_recipe(name)) == ()


def test_the_last_layer_alone_has_no_use_for_the_rate_of_the_backbone() -> None:
    grid = Grid(("arcface",), variants=("full", "last-layer", "not-pretrained"))
    for row in Table("t", grid=grid).rows():
        assert unused_settings(row_recipe(row)) == ()


def test_a_study_tunes_what_other_tuned_settings_decide_on() -> None:
    space: dict[str, Any] = {"training.momentum": {"low": 0.5, "high": 0.9}}
    alone = with_values(tiny_recipe(layers=FLAT), {"tune.space": space})
    message = re.escape("training.momentum is tuned, but the optimizer is adam, so it has no effe")
    with pytest.raises(RecipeError, match=message):
        read_space(alone)
    space |= {"training.optimizer": {"choices": ["adam", "sgd"]}}
    read_space(with_values(alone, {"tune.space": space}))
    for optimizer, momentum in (("adam", 0.9), ("sgd", 0.5)):
        drawn = {"training.momentum": 0.5, "training.optimizer": optimizer}
        trial = without_unused(with_values(alone, drawn), tuple(drawn))
        assert trial.training.momentum == momentum
