"""A recipe: everything that decides a training run but the photos, as a short TOML file."""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from veduta.errors import RecipeError, readable
from veduta.text import did_you_mean

__all__ = [
    "Input",
    "Loss",
    "Network",
    "Recipe",
    "Training",
    "Tuning",
    "open_recipe",
    "parsed",
    "recipe_file",
    "recipe_names",
    "with_values",
]

FOLDER = Path(__file__).parent / "recipes"
_ENCODER = "encoder:"

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """What the network sees of a photo.

    `size`: pixels, the side of the square. `fit`: how a photo becomes one: "squash", or "crop" (the
    centre). `mean`, `std`: of each channel, on values in [0, 1].
    """

    size: int = 224
    fit: Literal["squash", "crop"] = "squash"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Network:
    """The network: a backbone, layers of its own after it, or both.

    `backbone`: "embedded:NAME" (a network of the package, trainable), "encoder:NAME" (any encoder
    of `veduta models`, frozen, its descriptors cached), "timm:NAME", "torchvision:NAME"; "" for
    none. `weights`: of the backbone: "pretrained", "none", or the path of a .safetensors file.
    `train`: what of the backbone learns: "all", "none", or the beginnings of names of its
    parameters. `layers`: what follows (`veduta.learn.models.layers` has the words). `decoder`: what
    makes a photo again of the features; given, the network learns to reconstruct. `features`:
    where the network is cut for descriptors: the number of layers before the cut; negative numbers
    count from the end. `classes`: how many a summary shows where no dataset says it.
    """

    backbone: str = ""
    weights: str = "pretrained"
    train: str | tuple[str, ...] = "all"
    layers: tuple[Table, ...] = ()
    decoder: tuple[Table, ...] = ()
    features: int = -1
    classes: int = 10

    @property
    def encoder(self) -> str:
        """The encoder whose descriptors the layers see; "" where they see photos."""
        return self.backbone.removeprefix(_ENCODER) if self.backbone.startswith(_ENCODER) else ""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimised.

    `name`: one of `veduta.learn.training.losses.LOSSES`. The others belong to some of them only.
    """

    name: str = "cross-entropy"
    label_smoothing: float = 0.0
    margin: float = 1.0
    scale: float = 30.0
    sub_centres: int = 3
    temperature: float = 0.1
    kl_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """How it is minimised.

    `monitor`: the figure of the validation photos whose best epoch is kept. `patience`: epochs
    without a gain above `min_delta` after which training stops; 0: never. `reduce_patience`: epochs
    without one after which the learning rate is multiplied by `reduce_factor`; 0: never.
    `milestones`: epochs after which it is multiplied by `gamma`. `l1`, `l2`: penalties on the
    weights of layers that say `regularised`. `probe`: the last layer is the linear probe of the
    features; "before": training begins with it; "after": training, by a loss of the features,
    leaves it out. `unfreeze_after`: epochs during which the backbone does not learn yet.
    `backbone_rate`: its learning rate in parts of `learning_rate`.
    `validation`: share of the training photos held out where the dataset names none. `balanced`:
    every class is drawn as often. `per_class`: photos of a class in a batch, for losses that
    compare photos; 0: any. `mixup`: alpha of mix-up; 0: none. `pairs`: pairs of photos an epoch
    for the contrastive loss on generated pairs; 0: all pairs of a batch.
    """

    epochs: int = 20
    batch: int = 32
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    patience: int = 0
    min_delta: float = 0.0
    reduce_patience: int = 0
    reduce_factor: float = 0.1
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    cosine: bool = False
    l1: float = 0.0
    l2: float = 0.0
    probe: Literal["none", "before", "after"] = "none"
    unfreeze_after: int = 0
    backbone_rate: float = 1.0
    validation: float = 0.2
    balanced: bool = False
    per_class: int = 0
    mixup: float = 0.0
    pairs: int = 0
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `veduta tune` tries.

    `space`: from a key of the recipe ("network.layers.0.conv") to {low, high, step}, {low, high,
    log = true} or {choices}. `trials`: how many.
    """

    trials: int = 20
    space: Table = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run.

    `name`: of the file. `about`, `source`: what it is and where it comes from, one sentence each.
    `augment`: transforms of training photos, in order, each a table of one word and its value
    (`veduta augment --list`).
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
        """Return the recipe as JSON types, defaults included, without its name."""
        values = _plain(self)
        del values["name"]
        return dict(values)

    def digest(self) -> str:
        """16 hex digits: BLAKE3 over all that decides the result."""
        from blake3 import blake3

        values = self.as_json()
        for words in ("about", "source", "tune"):
            del values[words]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return blake3(canonical.encode()).hexdigest()[:16]


def recipe_names() -> list[str]:
    """Return the names of the recipes that the package has, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def recipe_file(name: str) -> Path:
    """Return the file of a recipe: one of the package's by its name, or a path.

    Raises:
        RecipeError: there is none.
    """
    known = FOLDER / f"{name}.toml"
    if "/" not in name and known.is_file():
        return known
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    advice = did_you_mean(name, recipe_names()) or "`veduta recipes` lists all recipes."
    raise RecipeError(f"no recipe is called {readable(name)!r}; {advice} A path must end in .toml.")


def open_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes.

    Args:
        name: of one of the package's, or the path of a .toml file.
        changes: "key=value" each, in the order in which they apply: "training.epochs=3",
            "network.layers.0.conv=48". A value is written as in TOML; what is none is text.

    Raises:
        RecipeError: there is no such recipe, it does not read, or a key or value is wrong.
    """
    file = recipe_file(name)
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise RecipeError(f"{readable(file)}: does not read as TOML: {error}") from error
    for change in changes:
        _change(values, change)
    return _recipe(file.stem, values, readable(file))


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values: "network.layers.0.conv" → 48.

    Raises:
        RecipeError: a key or value is wrong.
    """
    changed = recipe.as_json()
    for key, value in values.items():
        _put(changed, key, value, key)
    return _recipe(recipe.name, changed, recipe.name)


def parsed(text: str) -> Any:
    """Return a value as `--set` takes it: of TOML, or the text itself where it is none."""
    try:
        read = tomllib.loads(f"value = {text.strip()}")
    except ValueError:
        return text.strip()
    return read["value"] if len(read) == 1 else text.strip()


def _recipe(name: str, values: dict[str, Any], file: str) -> Recipe:
    if "name" in values:
        raise RecipeError(f"{file}: unknown key name; a recipe has the name of its file")
    made: Recipe = _built(Recipe, values | {"name": name}, file, "")
    return made


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {change}: wanted is KEY=VALUE, such as training.epochs=3")
    _put(values, key.strip(), parsed(text), f"--set {change}")


def _put(values: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Set a value; `said` is what errors begin with."""
    where: Any = values
    *way, last = key.split(".")
    for part in way:
        where = _inside(where, part, said)
    if isinstance(where, list):
        _inside(where, last, said)
        where[int(last)] = value
    elif isinstance(where, dict):
        where[last] = value
    else:
        raise RecipeError(f"{said}: {'.'.join(way)} holds a value, no keys")


def _inside(where: Any, part: str, said: str) -> Any:
    if isinstance(where, list):
        if not (part.isascii() and part.isdigit()) or int(part) >= len(where):
            raise RecipeError(
                f"{said}: {part!r} is no place in a list of {len(where)}; the first one is 0"
            )
        return where[int(part)]
    if isinstance(where, dict):
        return where.setdefault(part, {})
    raise RecipeError(f"{said}: there are no keys inside of what comes before {part!r}")


def _built(kind: type, values: Table, file: str, at: str) -> Any:
    """Make a dataclass of a table; `at` says where in the file it is."""
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind)]
    made = {}
    for key, value in values.items():
        if key not in known:
            advice = did_you_mean(key, known, prefix=at) or f"known are {', '.join(known)}"
            raise RecipeError(f"{file}: unknown key {at}{key}; {advice}")
        made[key] = _value(hints[key], value, file, f"{at}{key}")
    return kind(**made)


def _value(kind: Any, value: Any, file: str, key: str) -> Any:
    """Check a value against the type of its field."""
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RecipeError(f"{file}: {key}: a table is wanted, not {value!r}")
        return _built(kind, value, file, f"{key}.")
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in inner:
            raise RecipeError(f"{file}: {key}: {value!r} is none of {', '.join(inner)}")
        return value
    if origin in {Union, types.UnionType}:
        kind = inner[0] if isinstance(value, str) else inner[1]
        return _value(kind, value, file, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{file}: {key}: a list is wanted, not {value!r}")
        return tuple(
            _value(inner[0], one, file, f"{key}.{place}") for place, one in enumerate(value)
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # More digits than a float has: as little a number to train with as infinity is.
        value = float(value) if abs(value) < 2**1000 else math.inf
    wanted = dict if origin is not None else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise RecipeError(f"{file}: {key}: {words.get(kind, 'a table')} is wanted, not {value!r}")
    _check_plain(value, file, key)
    return value


def _check_plain(value: Any, file: str, key: str) -> None:
    """Refuse what JSON or a TOML file could not hold, however deep it lies."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _check_plain(inner, file, key)
            _check_plain(one, file, f"{key}.{inner}")
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            _check_plain(one, file, f"{key}.{place}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RecipeError(f"{file}: {key}: a finite number is wanted, not {value!r}")
    elif isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise RecipeError(f"{file}: {key}: {value!a} is no UTF-8")
    elif not isinstance(value, int):
        raise RecipeError(f"{file}: {key}: a recipe holds no dates and times, as {value} is")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
