"""A recipe to tune, and a training that only computes a figure from the values of the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from veduta.learn.recipe import Network, Recipe, Training, Tuning
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.runs.history import write_history
from veduta.learn.training.schedule import Epoch
from veduta.learn.tuning.study import Study

LAYERS = ({"conv": 32, "kernel": 3}, {"flatten": True}, {"dropout": 0})
SPACE = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "training.batch": {"low": 8, "high": 64, "step": 8},
}


def recipe(space: Mapping[str, Any] = SPACE, **training: Any) -> Recipe:
    settings = {"epochs": 4, "seed": 5} | training
    return Recipe(
        "toy",
        network=Network(layers=LAYERS),
        training=Training(**settings),
        tune=Tuning(20, dict(space)),
    )


def nothing(_made: Recipe, _epoch: int) -> None:
    pass


class Toy:
    """Replaces training: its figure is best, 0.9, at a rate of 0.003 and a batch of 40.

    It continues an interrupted run, like the real training. `also` is called in each epoch.
    """

    def __init__(self, also: Callable[[Recipe, int], None] = nothing) -> None:
        self.also = also
        self.folders: list[str] = []
        self.recipes: list[Recipe] = []
        self.options: dict[str, Any] = {}

    def figure(self, made: Recipe) -> float:
        rate = math.log10(made.training.learning_rate / 0.003)
        return 0.9 - 0.1 * rate**2 - 0.1 * ((made.training.batch - 40) / 40) ** 2

    def __call__(self, made: Recipe, _dataset: Path, out: Path, **options: Any) -> None:
        self.folders.append(out.name)
        self.recipes.append(made)
        self.options = options
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.toml").write_text(recipe_toml(made))
        checkpoint = out / "checkpoint"
        checkpoint.mkdir(exist_ok=True)
        history = []
        for number in range(1, made.training.epochs + 1):
            reached = self.figure(made) * number / made.training.epochs
            history.append(Epoch(number, 0.1, 0.1, 1.0, 0.5, 1 - reached, reached))
            if not (checkpoint / str(number)).exists():
                self.also(made, number)
                (checkpoint / str(number)).touch()
                options["on_epoch"](history[-1])
        for name in ("model.onnx", "card.md", "card.json"):
            (out / name).write_text(name)
        write_history(history, out / "history.csv")


def facts(study: Study) -> list[tuple[Any, ...]]:
    """All of the trials but how long they took."""
    return [(one.number, one.state, one.figure, dict(one.values)) for one in study.trials]
