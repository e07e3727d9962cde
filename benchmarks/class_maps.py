"""Methods that explain a class, for networks trained by the package's recipes.

The same networks with random weights show which maps depend on what was learned.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.explained_pairs import reduced
from benchmarks.explanation_measures import Maker, Pixels
from benchmarks.networks import Task, train_task
from veduta import photos
from veduta.explanation import Explanation
from veduta.explanation.faithfulness import blurred_fill, noisy_linear_fill
from veduta.explanation.methods import METHODS
from veduta.explanation.perturbation import explain_by_perturbation
from veduta.explanation.scorers import Scorer, class_scores
from veduta.learn.explaining.explained_network import WEIGHTS, open_network, run_recipe
from veduta.learn.explaining.run_maps import explain_class
from veduta.learn.models.networks import assemble_network
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE, Card, read_card
from veduta.learn.runs.export import save_weights
from veduta.recognize.model import Model, open_model

HIDDEN_LAYER = '[{global="average"},{dense=128,activation="relu"},{dense="classes"}]'
TASKS = {
    "transfer": Task("transfer", epochs=3),
    "transfer-hidden": Task(
        "transfer", epochs=3, changes=(f"network.layers={HIDDEN_LAYER}", "network.features=2")
    ),
}
"""Networks by name. The second one ends in two dense layers, so it has no exact map."""

MIN_LOSS = 0.5
"""Of the probability of the class, when all pixels of a photo are removed."""

SIDE = 320
"""Long side of the photos in pixels. Both networks take 256 × 256."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedRun:
    """A trained run, and a copy of it with random weights.

    Attributes:
        card: of the run.
        run: its folder.
        random: folder of the copy.
        model: gives the scores.
        dataset: the folder that it was trained on.
    """

    card: Card
    run: Path
    random: Path
    model: Model
    dataset: Path

    @classmethod
    def trained(cls, name: str, dataset: Path, work: Path) -> ExplainedRun:
        """Train one of `TASKS`, unless that was done before."""
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        card = train_task(TASKS[name], dataset, folder)
        run, random = folder / TASKS[name].name, folder / "random"
        copy_with_random_weights(run, random)
        return cls(card, run, random, open_model(run), dataset)

    def describe(self) -> str:
        """Return what the network is and how good, in one sentence."""
        assert self.card.test is not None
        return (
            f"Recipe {self.card.recipe}, {len(self.card.classes)} classes, {self.card.epochs} "
            f"epochs: accuracy {self.card.test.accuracy:.3f} on {self.card.test.photos} photos."
        )

    def test_photos(self, number: int) -> tuple[list[Pixels], int]:
        """Return test photos, and how many were looked at to find them.

        They are drawn with a fixed seed. A photo is left out if it keeps its class without any
        pixel: then nothing of the photo decides it.
        """
        with (self.dataset / "labels.csv").open(encoding="utf-8", newline="") as lines:
            names = [row["path"] for row in csv.DictReader(lines) if row["cls_split"] == "test"]
        found: list[Pixels] = []
        seen = 0
        for name in np.random.default_rng(0).permutation(names):
            if len(found) == number:
                break
            seen += 1
            loaded = photos.load(self.dataset / name, at_least=SIDE).pixels
            pixels = reduced(loaded, SIDE)
            if self._loses_its_class(pixels):
                found.append(pixels)
        return found, seen

    def _loses_its_class(self, pixels: Pixels) -> bool:
        """Return whether the class of a photo becomes much less likely without any pixel."""
        removed = np.ones(pixels.shape[:2], np.bool_)
        empty = [fill(pixels)(removed) for fill in (blurred_fill, noisy_linear_fill)]
        whole, *without = self.scorer(self.likeliest(pixels))([pixels, *empty])
        return bool(whole - max(without) >= MIN_LOSS)

    def likeliest(self, pixels: Pixels) -> int:
        """Return the class with the highest score."""
        return int(class_scores(self.model, [pixels])[0].argmax())

    def scorer(self, class_id: int) -> Scorer:
        """Return the scorer that gives the probability of a class, as RISE measures it."""

        def probabilities(pictures: Sequence[Pixels]) -> NDArray[np.float64]:
            scores = class_scores(self.model, pictures)
            return np.asarray(softmax(scores, axis=1)[:, class_id], np.float64)

        return probabilities

    def maker(self, method: str, class_id: int) -> Maker:
        """Return a method, as a function from a photo to its explanation."""
        name = self.model.names[class_id]
        return partial(explain_class, self.run, class_name=name, method=method)

    def random_maker(self, method: str, class_id: int) -> Maker:
        """Return the same method for the network with random weights."""
        if METHODS[method].needs_torch:
            name = self.model.names[class_id]
            return partial(explain_class, self.random, class_name=name, method=method)

        def explained(pixels: Pixels) -> Explanation:
            scorer = self._random_scorer(class_id)
            return explain_by_perturbation(
                method, scorer, pixels, photo="photo", long_side=self.model.encoder.long_side
            )

        return explained

    def _random_scorer(self, class_id: int) -> Scorer:
        network = open_network(self.random)
        assert network.scores is not None
        layers = network.scores

        def scores(pictures: Sequence[Pixels]) -> NDArray[np.float64]:
            with torch.no_grad():
                given = layers(torch.cat([network.prepare(pixels) for pixels in pictures]))
            return np.asarray(given[:, class_id].double().numpy())

        return scores


def copy_with_random_weights(run: Path, copy: Path) -> None:
    """Copy a run with the weights that a network of its recipe has before any training."""
    copy.mkdir(exist_ok=True)
    for name in (CARD_FILE, RECIPE_FILE):
        shutil.copy(run / name, copy)
    torch.manual_seed(0)
    classes = len(read_card(run).classes)
    network = assemble_network(run_recipe(run), classes, has_scores=True, keeps_backbone=False)
    save_weights(network, copy / WEIGHTS)
