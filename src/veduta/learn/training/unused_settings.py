"""Finds settings of a recipe that its other settings make useless, so that none is ignored.

A setting at its default cannot be told from one that is not given, so it is always allowed. Three
settings may stay without a use, because they say what holds in a case: `training.validation` (the
dataset has no validation photos), `training.pairs_per_photo` (`training.pairs` is 0) and
`network.classes` (there is no dataset). Epochs beyond the last one are allowed too, as in
`training.milestones`, because a training may be cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from veduta.errors import RecipeError
from veduta.learn.recipe import Recipe, shown_value, with_values
from veduta.learn.training.losses import LOSSES, Needs, loss_class

__all__ = ["UnusedSetting", "check_settings", "unused_settings", "without_unused"]

_OTHER_BACKBONE = 'take a backbone such as "embedded:efficientnet-lite0"'


@dataclass(frozen=True, slots=True)
class UnusedSetting:
    """A setting that has no effect.

    Attributes:
        key: its key, as in `--set`.
        value: its value, as JSON types.
        default: its default, which a recipe without it has.
        reason: why it has no effect, as the end of a sentence with "but".
        remedy: what to do to give it an effect.
        decided_by: the settings that decide whether it has an effect.
    """

    key: str
    value: Any
    default: Any
    reason: str
    remedy: str
    decided_by: tuple[str, ...]

    def is_decided_by(self, keys: Collection[str]) -> bool:
        """Return whether one of these settings, or a part of one, decides on it."""
        return any(
            key == one or key.startswith(f"{one}.") for one in self.decided_by for key in keys
        )


@dataclass(frozen=True, slots=True)
class _Rule:
    """When settings have no effect. `reason` returns "" if they have one."""

    keys: tuple[str, ...]
    decided_by: tuple[str, ...]
    reason: Callable[[Recipe], str]
    remedy: str


def unused_settings(recipe: Recipe, keys: Collection[str] = ()) -> tuple[UnusedSetting, ...]:
    """Return the settings of a recipe that have no effect.

    Args:
        recipe: the recipe.
        keys: settings that count as given even if they have their defaults.

    Raises:
        RecipeError: there is no such loss.
    """
    values, defaults = recipe.as_json(), Recipe("").as_json()
    unused = list(_unused_regularised(recipe))
    for rule in (*_RULES, *_loss_rules()):
        reason = rule.reason(recipe)
        for key in rule.keys if reason else ():
            value, default = _value(values, key), _value(defaults, key)
            if value != default or key in keys:
                unused.append(
                    UnusedSetting(key, value, default, reason, rule.remedy, rule.decided_by)
                )
    return tuple(unused)


def check_settings(recipe: Recipe, tuned: Collection[str] = ()) -> None:
    """Check that every setting of a recipe has an effect.

    Args:
        recipe: the recipe.
        tuned: the keys that a study changes. They must have an effect too. Settings that they
            decide on are not checked.

    Raises:
        RecipeError: a setting has no effect; the message names it and the remedy.
    """
    for unused in unused_settings(recipe, tuned):
        if not unused.is_decided_by(tuned):
            is_given = unused.value != unused.default
            left_out = f"leave it out, or set it to its default, {shown_value(unused.default)}"
            raise RecipeError(
                f"{recipe.name}: {unused.key} "
                f"{f'is {shown_value(unused.value)}' if is_given else 'is tuned'}, but "
                f"{unused.reason}, so it has no effect; {unused.remedy}"
                f"; or {left_out if is_given else 'do not tune it'}"
            )


def without_unused(recipe: Recipe, tuned: Collection[str]) -> Recipe:
    """Return a recipe in which settings that the tuned ones make useless have their defaults.

    Args:
        recipe: the recipe of a trial.
        tuned: the keys that the study changes.

    Raises:
        RecipeError: there is no such loss.
    """
    unused = [one for one in unused_settings(recipe) if one.is_decided_by(tuned)]
    return with_values(recipe, {one.key: one.default for one in unused}) if unused else recipe


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _encodes_once(recipe: Recipe) -> str:
    """Return the backbone if its descriptors are the input of the layers."""
    return recipe.network.backbone if recipe.network.encoder else ""


def _unused_train(recipe: Recipe) -> str:
    if recipe.network.encoder:
        # An encoder is frozen, as "none" says.
        train = recipe.network.train
        return "" if train == "none" else f"{recipe.network.backbone} is never trained"
    return "" if recipe.network.backbone else "there is no backbone whose parameters it names"


def _untrained_backbone(recipe: Recipe) -> str:
    network = recipe.network
    if not network.backbone:
        return "there is no backbone"
    if network.encoder:
        return f"{network.backbone} is never trained"
    is_frozen = network.train in ("none", ())
    return f"network.train is {shown_value(network.train)}" if is_frozen else ""


def _unused_by_pairs(recipe: Recipe) -> str:
    return "the photos of an epoch are drawn as pairs" if recipe.training.draws_pairs else ""


def _needs(need: str, text: str) -> Callable[[Recipe], str]:
    """Return a rule's reason for a loss without a need of `Needs`."""

    def reason(recipe: Recipe) -> str:
        loss = loss_class(recipe)
        return "" if getattr(loss.needs, need) else f"the loss {loss.name} {text}"

    return reason


def _losses_with(has: Callable[[Needs], bool]) -> str:
    names = [name for name, loss in LOSSES.items() if has(loss.needs)]
    return f"set loss.name to {' or '.join(names)}"


def _loss_rules() -> Iterator[_Rule]:
    """Yield a rule for each key of the table `loss`."""
    keys = dict.fromkeys(key for loss in LOSSES.values() for key in loss.settings)
    for key in keys:
        names = [name for name, loss in LOSSES.items() if key in loss.settings]

        def reason(recipe: Recipe, key: str = key) -> str:
            used = key in loss_class(recipe).settings
            return "" if used else f"the loss {recipe.loss.name} does not use it"

        remedy = f"set loss.name to {' or '.join(names)}"
        yield _Rule((f"loss.{key}",), ("loss.name",), reason, remedy)


def _regularised_layers(recipe: Recipe) -> list[str]:
    network = recipe.network
    return [
        f"network.{part}.{number}.regularised"
        for part, layers in (("layers", network.layers), ("decoder", network.decoder))
        for number, layer in enumerate(layers)
        if layer.get("regularised") is True
    ]


def _unused_regularised(recipe: Recipe) -> Iterator[UnusedSetting]:
    penalties = ("training.l1", "training.l2")
    if recipe.training.l1 or recipe.training.l2:
        return
    for key in _regularised_layers(recipe):
        reason, remedy = "training.l1 and training.l2 are 0", "set one of the two"
        yield UnusedSetting(key, True, False, reason, remedy, penalties)


_RULES = (
    _Rule(
        ("input.size", "input.fit", "input.mean", "input.std"),
        ("network.backbone",),
        lambda recipe: (
            f"{recipe.network.backbone} prepares photos in its own way"
            * bool(_encodes_once(recipe))
        ),
        _OTHER_BACKBONE,
    ),
    _Rule(
        ("network.weights",),
        ("network.backbone",),
        lambda recipe: (
            f"{recipe.network.backbone} always has its own weights"
            if _encodes_once(recipe) and recipe.network.weights == "none"
            else ""
        ),
        _OTHER_BACKBONE,
    ),
    _Rule(("network.train",), ("network.backbone",), _unused_train, _OTHER_BACKBONE),
    _Rule(
        ("network.decoder",),
        ("network.backbone",),
        lambda recipe: (
            f"{recipe.network.backbone} gives descriptors, so there are no photos to reconstruct"
            if _encodes_once(recipe)
            else ""
        ),
        "take a network without an encoder",
    ),
    _Rule(
        ("augment",),
        ("network.backbone",),
        lambda recipe: (
            f"{recipe.network.backbone} encodes each photo once" if _encodes_once(recipe) else ""
        ),
        _OTHER_BACKBONE,
    ),
    _Rule(
        ("network.features",),
        ("network.decoder",),
        lambda recipe: "the cut is before network.decoder" if recipe.network.decoder else "",
        "take a network without a decoder",
    ),
    _Rule(
        ("training.momentum",),
        ("training.optimizer",),
        lambda recipe: (
            ""
            if recipe.training.optimizer == "sgd"
            else f"the optimizer is {recipe.training.optimizer}"
        ),
        "set training.optimizer to sgd",
    ),
    _Rule(
        ("training.stop_monitor",),
        ("training.patience",),
        lambda recipe: "" if recipe.training.patience else "training.patience is 0",
        "set training.patience",
    ),
    _Rule(
        ("training.reduce_monitor", "training.reduce_factor"),
        ("training.reduce_patience",),
        lambda recipe: "" if recipe.training.reduce_patience else "training.reduce_patience is 0",
        "set training.reduce_patience",
    ),
    _Rule(
        ("training.min_delta",),
        ("training.patience", "training.reduce_patience"),
        lambda recipe: (
            ""
            if recipe.training.patience or recipe.training.reduce_patience
            else "training.patience and training.reduce_patience are 0"
        ),
        "set one of the two",
    ),
    _Rule(
        ("training.gamma",),
        ("training.milestones",),
        lambda recipe: "" if recipe.training.milestones else "there are no training.milestones",
        "set training.milestones",
    ),
    _Rule(
        ("training.l1", "training.l2"),
        ("network.layers", "network.decoder"),
        lambda recipe: "" if _regularised_layers(recipe) else "no layer has regularised = true",
        "add regularised = true to the layers that it is for",
    ),
    _Rule(
        ("training.unfreeze_after", "training.backbone_rate"),
        ("network.backbone", "network.train"),
        _untrained_backbone,
        "take a backbone that is trained",
    ),
    _Rule(
        ("training.pairs", "training.pairs_per_photo"),
        ("loss.name",),
        _needs("pairs", "is not computed from drawn pairs"),
        _losses_with(lambda needs: needs.pairs),
    ),
    _Rule(
        ("training.mixup",),
        ("loss.name",),
        _needs("labels", "does not compare photos with their classes, which mix-up mixes"),
        _losses_with(lambda needs: needs.labels),
    ),
    _Rule(
        ("training.balanced", "training.per_class"),
        ("training.pairs", "training.pairs_per_photo"),
        _unused_by_pairs,
        "set training.pairs and training.pairs_per_photo to 0",
    ),
)
