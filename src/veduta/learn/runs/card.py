"""The card of a run: what was trained on which photos, by what, and with which results.

`card.json` holds all of it and can be read again; `card.md` is the same for a person.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from veduta.errors import LearnError, readable
from veduta.learn.models.matched_weights import MatchedWeights
from veduta.learn.training.figures import ClassificationFigures, RetrievalFigures
from veduta.validation import InvalidValue, convert, read_json

__all__ = ["CARD_FILE", "RECIPE_FILE", "Ancestor", "Card", "Parameters", "Start", "read_card"]

CARD_FILE, RECIPE_FILE = "card.json", "recipe.toml"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of weights of a network. Statistics of batch norm count as not trainable.

    Attributes:
        total: all of them.
        trainable: those that training changes by the gradient.
    """

    total: int
    trainable: int

    @property
    def non_trainable(self) -> int:
        """Weights that training does not change by the gradient."""
        return self.total - self.trainable


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A file of weights that another run began with.

    Attributes:
        name: the name of the folder of the run, or of the file.
        digest: 16 hex digits, BLAKE3 of the file.
        recipe: the name of the run's recipe; "" for a file that is of no known run.
        dataset: the name of the run's dataset, or "".
        dataset_digest: the digest of its photos and splits, or "".
    """

    name: str
    digest: str
    recipe: str = ""
    dataset: str = ""
    dataset_digest: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """The first weights of a run, if they come from a file.

    Attributes:
        name: the name of the folder of the run that it goes on from, or of the file.
        weights: what the network took of the file.
        recipe: the name of that run's recipe; "" for a file that is of no known run.
        dataset: the name of that run's dataset, or "".
        dataset_digest: the digest of its photos and splits, or "".
        part: "encoder" or "decoder" if only that part was taken.
        earlier: what that run began with, and so on; the latest is first.
    """

    name: str
    weights: MatchedWeights
    recipe: str = ""
    dataset: str = ""
    dataset_digest: str = ""
    part: str = ""
    earlier: tuple[Ancestor, ...] = ()

    def chain(self) -> tuple[Ancestor, ...]:
        """Return all that the run goes on from, the latest first."""
        latest = Ancestor(
            self.name, self.weights.digest, self.recipe, self.dataset, self.dataset_digest
        )
        return (latest, *self.earlier)

    def text(self) -> str:
        """Return the start as one sentence without its full stop."""
        what = f"the run {self.name}" if self.recipe else self.name
        what = f"the {self.part} of {what}" if self.part else what
        return f"starts from the weights of {what}: {self.weights.text()}"


@dataclass(frozen=True, slots=True)
class Card:
    """All facts about a run.

    Attributes:
        recipe: name of the recipe.
        values: the recipe with all defaults.
        recipe_digest: digest of the splits of the recipe that decide the result.
        dataset: name of the folder or file.
        dataset_digest: digest of paths, labels, splits and bytes of the photos.
        photos: number of photos of the splits "train", "val", "test" and, if the run knows it,
            "unknown".
        classes: names, in the order of the network's outputs.
        held_out: the validation photos were drawn from the training photos by the seed.
        seed: of the training.
        answers: what names a photo: "scores" of the network, or the "nearest training photo" if
            the network has no scores.
        judged: the split of the classification report and the confusion matrix: "test", "val" if
            there are no test photos, "" if there are neither.
        val: figures of the validation photos. None if there are no such photos.
        test: figures of the test photos. None if there are no such photos.
        retrieval: None without test photos.
        features: length of a descriptor.
        parameters: of the network.
        epochs: number of epochs that were trained.
        best_epoch: number of the epoch whose weights were kept.
        seconds: duration of the training.
        stopped: why the training ended.
        onnx_difference: largest difference between the trained network and `model.onnx`, relative
            to the largest value.
        versions: package → version.
        hardware: "cpu", "cores", "system" and "gpu", which is empty without one.
        licence: known terms of the weights.
        confidence_questions: number of examples that the recogniser's confidence was fitted to:
            validation photos, and the same photos with their class hidden. 0: it was not fitted.
        problems: sentences that a reader of the figures should know.
        command: the command line of the run.
        generated: when the card was written, ISO 8601, UTC.
        epoch_chosen_by: the split whose photos chose the epoch: "val", "train", or "test", which
            then has the part of validation photos, so that its figures are optimistic. "": the card
            of an older version.
        best_figure: the figure of each epoch that chose it, as in `history.csv`.
        start: the first weights, if they come from a file.
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
    generated: str = ""
    epoch_chosen_by: str = ""
    best_figure: str = ""
    start: Start | None = None

    @property
    def judged_figures(self) -> ClassificationFigures | None:
        """The figures of the split `judged`."""
        return {"test": self.test, "val": self.val}.get(self.judged)

    def as_json(self) -> dict[str, Any]:
        """Return the card as JSON types, which `Card.from_json` reads."""
        values = asdict(self)
        values["parameters"]["non_trainable"] = self.parameters.non_trainable
        return {"format": FORMAT, "kind": "veduta run", **_json_types(values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """Return the card that `as_json` returned as JSON types.

        Args:
            values: the content of a `card.json`.

        Raises:
            InvalidValue: a key is missing, or a value has the wrong type or format.
        """
        if values.get("format") != FORMAT:
            raise InvalidValue(f"format {values.get('format')!r}, but this Veduta reads {FORMAT}")
        return convert(values, cls)


def read_card(folder: Path) -> Card:
    """Read the card of a run.

    Args:
        folder: the folder of the run, or its `card.json`.

    Raises:
        LearnError: there is no card, or it cannot be read.
    """
    file = folder / CARD_FILE if folder.is_dir() else folder
    if not file.is_file():
        if folder.is_dir() and (folder / RECIPE_FILE).is_file():
            problem = "the run is not finished; repeat its `veduta train` command to continue it"
        else:
            problem = f"not a run; name a folder with a {CARD_FILE}, which `veduta train` writes"
        raise LearnError(f"{readable(folder)}: {problem}")
    try:
        return Card.from_json(read_json(file, dict[str, Any]))
    except (OSError, InvalidValue) as error:
        raise LearnError(
            f"{readable(file)}: cannot be read as the card of a run: {error}. Train the run again "
            "into a new folder"
        ) from error


def _json_types(value: Any) -> Any:
    """Return a value as JSON types; a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _json_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_types(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
