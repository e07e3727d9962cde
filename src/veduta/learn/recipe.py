"""Recipes: TOML files that decide everything in a training run except the photos."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Meta

from veduta.errors import RecipeError, readable
from veduta.learn.packaged_files import toml_file, toml_names
from veduta.text import did_you_mean
from veduta.validation import InvalidValue, choices, convert, expected, parse_toml, read_toml

__all__ = [
    "Input",
    "Loss",
    "Network",
    "Recipe",
    "Training",
    "Tuning",
    "check_keys",
    "mismatch",
    "names_file",
    "open_recipe",
    "parse_value",
    "recipe_file",
    "recipe_names",
    "shown_value",
    "with_values",
]

RECIPES_FOLDER = Path(__file__).parent / "recipes"
MAX_SHOWN_CHARACTERS = 60
_ENCODER_PREFIX = "encoder:"

Table = Mapping[str, Any]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
NotNegativeNumber = Annotated[float, Meta(ge=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
Figure = Literal["auto", "val_accuracy", "val_loss", "train_accuracy", "train_loss"]


@dataclass(frozen=True, slots=True)
class Input:
    """How a photo becomes the input of the network.

    Attributes:
        size: the side of the square, in pixels.
        fit: how a photo becomes a square: "squash", or "crop", which keeps the centre.
        mean: the mean of each channel, for values in [0, 1].
        std: the standard deviation of each channel, for values in [0, 1].
    """

    size: Positive = 224
    fit: Literal["squash", "crop"] = "squash"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Network:
    """The network: a backbone, own layers behind it, or both.

    Attributes:
        backbone: "embedded:NAME" (a network of the package, trainable), "encoder:NAME" (any encoder
            of `veduta models`, frozen, with cached descriptors), "timm:NAME", "torchvision:NAME",
            or "" for none.
        weights: the first weights: "pretrained" (of the backbone), "none" (random), or the path of
            a .safetensors file, of a backbone or of a run.
        train: the parameters of the backbone that are trained: "all", "none", or a list of the
            first letters of their names.
        layers: the layers behind the backbone; `veduta.learn.models.layers` lists them.
        decoder: the layers that make a photo from the features. A network with a decoder learns to
            reconstruct its input.
        features: the number of layers before the cut. The network up to the cut makes the
            descriptors. A negative number counts from the end.
        classes: the number of classes in a summary without a dataset.
    """

    backbone: str = ""
    weights: str = "pretrained"
    train: str | tuple[str, ...] = "all"
    layers: tuple[Table, ...] = ()
    decoder: tuple[Table, ...] = ()
    features: int = -1
    classes: Positive = 10

    @property
    def encoder(self) -> str:
        """The encoder whose descriptors are the input of the layers; "" if photos are the input."""
        if self.backbone.startswith(_ENCODER_PREFIX):
            return self.backbone.removeprefix(_ENCODER_PREFIX)
        return ""


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss that training minimises.

    Attributes:
        name: one of `veduta.learn.training.losses.LOSSES`. Each of the other values belongs to some
            of the losses only.
        label_smoothing: the share of the target that is spread over all classes.
        margin: the smallest distance between different classes: a Euclidean distance, or an angle
            in radians for ArcFace.
        scale: the factor of the cosines of ArcFace.
        sub_centres: the centres of each class, for ArcFace with several centres.
        temperature: the temperature of the softmax of supervised contrastive learning.
        kl_weight: the weight of the KL divergence of a variational autoencoder.
    """

    name: str = "cross-entropy"
    label_smoothing: Annotated[float, Meta(ge=0, le=1)] = 0.0
    margin: float = 1.0
    scale: PositiveNumber = 30.0
    sub_centres: Positive = 3
    temperature: PositiveNumber = 0.1
    kl_weight: NotNegativeNumber = 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """How the loss is minimised.

    Attributes:
        epochs: the largest number of epochs.
        batch: photos in a batch.
        optimizer: the name of the optimizer.
        learning_rate: the learning rate of the layers behind the backbone.
        weight_decay: the weight decay of the optimizer.
        momentum: the momentum of "sgd".
        monitor: the figure that decides which epoch is the best. "auto": "val_accuracy", or
            "val_loss" for a loss that names no classes.
        patience: epochs without a gain of more than `min_delta` after which training stops; 0:
            never.
        stop_monitor: the figure whose gains `patience` waits for; "auto": that of `monitor`.
        min_delta: the smallest gain that counts.
        reduce_patience: epochs without a gain after which the learning rate is multiplied by
            `reduce_factor`; 0: never.
        reduce_monitor: the figure whose gains `reduce_patience` waits for; "auto": that of
            `monitor`.
        reduce_factor: see `reduce_patience`.
        milestones: epochs after which the learning rate is multiplied by `gamma`.
        gamma: see `milestones`.
        cosine: the learning rate falls to zero along a cosine.
        l1: the L1 penalty on the weights of layers with `regularised = true`.
        l2: the L2 penalty on the weights of layers with `regularised = true`.
        probe: when the last layer becomes a linear probe of the features: "before" training, unless
            this layer comes from a file; or "after" training with a loss that does not use it.
        unfreeze_after: epochs in which the backbone is frozen.
        backbone_rate: the learning rate of the backbone divided by `learning_rate`.
        validation: the share of the training photos that is held out if the dataset has no
            validation photos.
        epoch_chosen_by: the photos that have the part of validation photos: they choose the epoch,
            end the training and calibrate the recogniser. "validation": those of that split, or
            held-out training photos. "test": the test photos, as in some reports; all training
            photos are then for training, and the figures of the test photos are optimistic.
        balanced: every class is drawn equally often.
        per_class: photos of each class in a batch, for losses that compare photos; 0: any number.
        mixup: the parameter alpha of mix-up; 0: no mix-up.
        pairs_per_photo: pairs of photos in an epoch of the contrastive loss for each training
            photo, no more than there are; 0: all pairs of each batch.
        pairs: this number of pairs in an epoch, instead of a number for each photo; 0: not fixed.
        precision: the precision of the arithmetic.
        seed: the seed of everything that is drawn.
    """

    epochs: Positive = 20
    batch: Positive = 32
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: NotNegativeNumber = 1e-3
    weight_decay: NotNegativeNumber = 0.0
    momentum: NotNegativeNumber = 0.9
    monitor: Figure = "auto"
    patience: NotNegative = 0
    stop_monitor: Figure = "auto"
    min_delta: float = 0.0
    reduce_patience: NotNegative = 0
    reduce_monitor: Figure = "auto"
    reduce_factor: NotNegativeNumber = 0.1
    milestones: tuple[NotNegative, ...] = ()
    gamma: NotNegativeNumber = 0.1
    cosine: bool = False
    l1: NotNegativeNumber = 0.0
    l2: NotNegativeNumber = 0.0
    probe: Literal["none", "before", "after"] = "none"
    unfreeze_after: NotNegative = 0
    backbone_rate: NotNegativeNumber = 1.0
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    epoch_chosen_by: Literal["validation", "test"] = "validation"
    balanced: bool = False
    per_class: NotNegative = 0
    mixup: NotNegativeNumber = 0.0
    pairs_per_photo: NotNegative = 0
    pairs: NotNegative = 0
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    seed: NotNegative = 0

    @property
    def draws_pairs(self) -> bool:
        """Whether an epoch is made of drawn pairs."""
        return self.pairs > 0 or self.pairs_per_photo > 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `veduta tune` searches.

    Attributes:
        trials: the number of trials.
        space: from a key of the recipe ("network.layers.0.conv") to its values: {low, high, step},
            {low, high, log = true} or {choices}.
    """

    trials: Positive = 20
    space: Table = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run.

    Attributes:
        name: the name of the file.
        about: what the recipe is, in one sentence.
        source: where the recipe comes from, in one sentence.
        input: how photos become the input.
        network: the network.
        loss: the loss.
        training: how the loss is minimised.
        augment: the transforms of training photos in their order, each a table with one transform
            (`veduta augment --list`).
        tune: what `veduta tune` searches.
    """

    name: str
    about: str = ""
    source: str = ""
    input: Input = Input()
    network: Network = Network()
    loss: Loss = Loss()
    training: Training = Training()
    augment: tuple[Table, ...] = ()
    tune: Tuning = field(default_factory=Tuning)

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as JSON types, with all defaults and without its name."""
        values = _builtins(self)
        del values["name"]
        return dict(values)

    def digest(self) -> str:
        """Return 16 hex digits: BLAKE3 over everything that decides the result."""
        from blake3 import blake3

        values = self.as_json()
        for key in ("about", "source", "tune"):
            del values[key]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return blake3(canonical.encode()).hexdigest()[:16]


def names_file(weights: str) -> bool:
    """Return whether a value of `network.weights` is the path of a file."""
    return weights not in {"pretrained", "none"}


def recipe_names() -> list[str]:
    """Return the sorted names of the recipes in the package."""
    return toml_names(RECIPES_FOLDER)


def recipe_file(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: the name of a recipe in the package, or the path of a .toml file.

    Raises:
        RecipeError: there is no such recipe.
    """
    if (file := toml_file(RECIPES_FOLDER, name)) is not None:
        return file
    advice = did_you_mean(name, recipe_names()) or "`veduta recipes` lists all recipes."
    raise RecipeError(f"no recipe is called {readable(name)!r}; {advice} A path must end in .toml.")


def open_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes.

    Args:
        name: the name of a recipe in the package, or the path of a .toml file.
        changes: changes in their order, each as "key=value": "training.epochs=3",
            "network.layers.0.conv=48". A value is written as in TOML. Anything else is a text.

    Raises:
        RecipeError: there is no such recipe, it is not valid TOML, or a key or value is wrong.
    """
    file = recipe_file(name)
    try:
        values = read_toml(file)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{readable(file)}: cannot be read as TOML: {error}") from error
    for change in changes:
        _apply(values, change)
    return _recipe(file.stem, values, readable(file))


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values.

    Args:
        recipe: the recipe.
        values: from a key to its value: "network.layers.0.conv" → 48.

    Raises:
        RecipeError: a key or value is wrong.
    """
    changed = recipe.as_json()
    for key, value in values.items():
        _set(changed, key, value, key)
    return _recipe(recipe.name, changed, recipe.name)


def parse_value(text: str) -> Any:
    """Return a value of the option `--set`: a TOML value, or the text itself."""
    try:
        table = parse_toml(f"value = {text.strip()}")
    except ValueError:
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()


def _apply(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {change}: expected KEY=VALUE, such as training.epochs=3")
    _set(values, key.strip(), parse_value(text), f"--set {change}")


def _set(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a value in nested tables and lists. Errors begin with `source`."""
    target: Any = values
    *parents, last = key.split(".")
    for part in parents:
        target = _item(target, part, source)
    if isinstance(target, list):
        _item(target, last, source)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise RecipeError(f"{source}: {'.'.join(parents)} is a value and has no keys")


def _item(container: Any, key: str, source: str) -> Any:
    """Return an item of a table or list. A missing table is added."""
    if isinstance(container, list):
        if not (key.isascii() and key.isdigit()) or int(key) >= len(container):
            raise RecipeError(
                f"{source}: {key!r} is no position in a list of {len(container)}; the first is 0"
            )
        return container[int(key)]
    if isinstance(container, dict):
        return container.setdefault(key, {})
    raise RecipeError(f"{source}: the value before {key!r} has no keys")


def _recipe(name: str, values: dict[str, Any], file: str) -> Recipe:
    """Return the recipe with these values; errors begin with `file`."""
    if "name" in values:
        raise RecipeError(f"{file}: unknown key name; the name of a recipe is that of its file")
    check_keys(Recipe, values, file)
    _check_values(values, file, "")
    try:
        return convert(values | {"name": name}, Recipe)
    except InvalidValue as error:
        raise RecipeError(f"{file}: {mismatch(values, Recipe, error.key)}") from error


def mismatch(values: Any, kind: type, key: str) -> str:
    """Return what is wrong with a value: `batch: expected a whole number of at least 1, not 0`.

    Args:
        values: the table with the value.
        kind: the declared type of the table.
        key: the key of the value, as `InvalidValue.key`.
    """
    value = values
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list | tuple) else value[part]
    advice = did_you_mean(value, choices(kind, key)) if isinstance(value, str) else ""
    text = f"{key}: expected {expected(kind, key)}, not {shown_value(value)}"
    return f"{text}; {advice}" if advice else text


def shown_value(value: Any) -> str:
    """Return a value in the notation that TOML and JSON share, shortened where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 1]}…"


def check_keys(kind: type, values: Mapping[str, Any], file: str, prefix: str = "") -> None:
    """Check that a table, and the tables in it, have no key that their dataclass does not have.

    Args:
        kind: the dataclass.
        values: the table.
        file: the file that it is from, as text.
        prefix: the key of the table in the file, with a dot behind it.

    Raises:
        RecipeError: there is an unknown key.
    """
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            advice = did_you_mean(key, hints, prefix=prefix) or f"known are {', '.join(hints)}"
            raise RecipeError(f"{file}: unknown key {prefix}{key}; {advice}")
        if is_dataclass(hints[key]) and isinstance(value, dict):
            check_keys(hints[key], value, file, f"{prefix}{key}.")


def _check_values(value: Any, file: str, key: str) -> None:
    """Raise `RecipeError` for a nested value that JSON and TOML cannot both hold."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            _check_values(inner_key, file, key)
            _check_values(inner, file, f"{key}.{inner_key}" if key else inner_key)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            _check_values(inner, file, f"{key}.{position}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RecipeError(f"{file}: {key}: expected a finite number, not {value}")
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise RecipeError(f"{file}: {key}: {value!a} is not valid UTF-8")
    elif not isinstance(value, int):
        raise RecipeError(f"{file}: {key}: a recipe cannot hold a date or time such as {value}")


def _builtins(value: Any) -> Any:
    """Return a value as dictionaries, lists, texts, numbers and booleans."""
    if is_dataclass(value):
        return {one.name: _builtins(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _builtins(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_builtins(inner) for inner in value]
    return value
