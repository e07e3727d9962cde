"""The card of a run: what was trained, on what, by what, and what came of it.

`card.json` holds all of it and reads back; `card.md` says the same to a person.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from veduta.errors import LearnError, readable
from veduta.learn.training.figures import ClassificationFigures, RetrievalFigures

__all__ = [
    "CARD",
    "RECIPE",
    "Card",
    "Parameters",
    "hardware",
    "read_card",
    "versions",
    "weights_licence",
]

CARD, RECIPE = "card.json", "recipe.toml"
FORMAT = 1

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "onnx",
    "onnxscript",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "numpy",
    "safetensors",
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of weights; statistics of batch norm count as not trainable."""

    total: int
    trainable: int

    @property
    def non_trainable(self) -> int:
        """Those that training does not move by the gradient."""
        return self.total - self.trainable


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a run.

    Attributes:
        recipe: its name. `values`: the recipe with all defaults, `recipe_digest` that of all of it
            that decides the result.
        dataset: name of the folder or file. `dataset_digest`: of paths, labels, parts and bytes.
        photos: how many the parts "train", "val" and "test" have.
        classes: names, in the order of the network's outputs.
        held_out: validation photos were taken out of the training photos by the seed.
        answers: what names a photo: "scores" of the network, or the "nearest training photo" where
            it has none.
        judged: the part that the classification report and the confusion matrix are of: "test",
            "val" where there is no test, "" where there is neither.
        val, test: figures; None without photos. `retrieval`: None without test photos.
        features: numbers in a descriptor. `parameters`: of the network.
        epochs: how many were trained; `best_epoch` is the one kept, by validation.
        seconds: of training. `stopped`: why it ended.
        onnx_difference: largest difference between the trained network and `model.onnx`, relative
            to the largest value.
        versions: of packages. `hardware`: "cpu", "cores", "system" and "gpu", empty without one.
        licence: what is known of the terms of the weights.
        confidence_questions: validation photos and questions made of them that the recogniser's
            confidence was fitted on; 0: it was not fitted.
        problems: what a person should know. `command`: how the run was asked for.
        generated: when the card was written, ISO 8601, UTC.
    """

    recipe: str
    values: Mapping[str, Any]
    recipe_digest: str
    dataset: str
    dataset_digest: str
    photos: Mapping[str, int]
    classes: tuple[str, ...]
    held_out: bool
    seed: int
    answers: str
    judged: str
    val: ClassificationFigures | None
    test: ClassificationFigures | None
    retrieval: RetrievalFigures | None
    features: int
    parameters: Parameters
    epochs: int
    best_epoch: int
    seconds: float
    stopped: str
    onnx_difference: float
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    licence: str
    confidence_questions: int = 0
    problems: tuple[str, ...] = ()
    command: str = ""
    generated: str = field(default="")

    def as_json(self) -> dict[str, Any]:
        """Return the card as JSON types; `Card.of` makes a card of them again."""
        values = asdict(self)
        values["parameters"]["non_trainable"] = self.parameters.non_trainable
        return {"format": FORMAT, "kind": "veduta run", **_listed(values)}

    @classmethod
    def of(cls, values: object) -> Card:
        """Make a card of what `as_json` gave.

        Raises:
            ValueError: a key is missing, or a value is of another type than it should be.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"a JSON object is wanted, not {type(values).__name__}")  # noqa: TRY004
        if values.get("format") != FORMAT:
            raise ValueError(f"format {values.get('format')!r}, but this Veduta reads {FORMAT}")
        missing = [one.name for one in fields(cls) if one.name not in values]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        known = {one.name: values[one.name] for one in fields(cls)}
        try:
            parameters = known["parameters"]
            known |= {
                "classes": tuple(str(name) for name in known["classes"]),
                "problems": tuple(str(problem) for problem in known["problems"]),
                "val": None if known["val"] is None else ClassificationFigures(**known["val"]),
                "test": None if known["test"] is None else ClassificationFigures(**known["test"]),
                "retrieval": None
                if known["retrieval"] is None
                else RetrievalFigures(**known["retrieval"]),
                "parameters": Parameters(int(parameters["total"]), int(parameters["trainable"])),
            }
        except (TypeError, KeyError) as error:
            raise ValueError(f"a value is not as it should be: {error}") from error
        return cls(**known)


def read_card(folder: Path) -> Card:
    """Read the card of a run: of its folder, or of its card.json.

    Raises:
        LearnError: there is none, or it does not read back.
    """
    file = folder / CARD if folder.is_dir() else folder
    if not file.is_file():
        unfinished = folder.is_dir() and (folder / RECIPE).is_file()
        why = (
            "the run is not finished; the same `veduta train` continues it"
            if unfinished
            else f"no run there (wanted is a folder with {CARD}, as `veduta train` leaves it)"
        )
        raise LearnError(f"{readable(folder)}: {why}")
    try:
        return Card.of(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise LearnError(
            f"{readable(file)}: does not read as the card of a run: {error}"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions of Veduta, Python and the packages that decide a run's numbers."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from veduta._version import __version__

    found = {"veduta": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # not every run needs all of them
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """Return what a run ran on: "cpu", "cores", "system", and "gpu", empty without one.

    `device`: "cpu", or the name of the GPU.
    """
    from veduta.evaluation.report_environment import environment

    made = environment()
    gpu = "" if device == "cpu" else device
    return {"cpu": made["cpu"], "cores": made["cores"], "system": made["system"], "gpu": gpu}


def weights_licence(network: Mapping[str, Any]) -> str:
    """Say what is known of the terms of a trained network's weights.

    `network`: that table of a recipe (`Recipe.as_json()["network"]`).
    """
    owners = "The photos it was trained on belong to their owners; their terms hold besides."
    return f"{_origin(str(network['backbone']), str(network['weights']))} {owners}"


def _origin(backbone: str, weights: str) -> str:
    kind, _, name = backbone.partition(":")
    if not backbone or (weights == "none" and kind != "encoder"):
        return "Weights trained from scratch, without weights of others."
    if weights not in {"pretrained", "none"}:
        return f"Starts from the weights in {Path(weights).name}, whose terms are not known here."
    if kind == "embedded":
        from veduta.encoders.embedded import embedded_models

        entry = embedded_models().get(name)
        licence = entry.licence if entry else "Apache-2.0"
        return f"Starts from the weights of {name} inside the package: {licence}."
    if kind == "timm":
        import timm

        found = timm.get_pretrained_cfg(name)
        licence = str(getattr(found, "license", "") or "not stated")
        return (
            f"Starts from the weights of timm's {name}; their licence, as timm has it: {licence}."
        )
    if kind == "torchvision":
        return (
            f"Starts from torchvision's weights of {name}: published with BSD-3-Clause code, "
            "without terms of their own."
        )
    from veduta.encoders import list_encoders

    of_name = {entry["name"]: entry["licence"] for entry in list_encoders()}
    return f"Uses the encoder {name} as it is: {of_name.get(name, 'its terms are not known here')}."


def _listed(value: Any) -> Any:
    """Return JSON types; what is no number becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _listed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
