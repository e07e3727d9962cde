"""Goes on from a finished run: its weights are the first ones of a new run, whose card names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from veduta.errors import LearnError, RecipeError, readable
from veduta.learn.models.matched_weights import MatchedWeights
from veduta.learn.recipe import names_file
from veduta.learn.runs.card import Ancestor, Card, Start, read_card
from veduta.learn.runs.provenance import weights_licence

if TYPE_CHECKING:
    from veduta.learn.models.networks import Net
    from veduta.learn.models.weights_file import WeightsFile
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.recipe_network import FirstWeights

__all__ = [
    "Part",
    "StartingRun",
    "licence_of_start",
    "open_starting_run",
    "report_start",
    "start_record",
]

Part = Literal["", "encoder", "decoder"]

RESCALED = ("torchvision:googlenet", "torchvision:inception_v3")
"""Backbones whose input has another scale if they were trained from random weights."""


@dataclass(frozen=True, slots=True, eq=False)
class StartingRun:
    """A finished run whose weights another run begins with. It is only read.

    Attributes:
        name: the name of its folder.
        card: its card.
        part: "" for the whole network, or "encoder" or "decoder" of an autoencoder.
        file: the weights.
    """

    name: str
    card: Card
    part: Part
    file: WeightsFile

    def first_weights(self, class_names: tuple[str, ...]) -> FirstWeights:
        """Return what a network for these classes takes of the run.

        Args:
            class_names: the classes of the new run, in the order of its outputs.
        """
        from veduta.learn.training.recipe_network import FirstWeights

        return FirstWeights(
            self.file,
            new_classes=self.card.classes != class_names,
            keeps_backbone=self.part == "decoder",
        )


def open_starting_run(run: Path, part: Part, recipe: Recipe) -> StartingRun:
    """Open a run whose weights another run begins with.

    Args:
        run: its folder.
        part: "" for the whole network, or "encoder" or "decoder" of an autoencoder.
        recipe: the recipe of the new run.

    Raises:
        LearnError: it is no finished run, has no such part, or its weights cannot be read.
        RecipeError: the recipe names other first weights, or prepares photos in another way.
    """
    from veduta.learn.models.weights_file import read_weights

    card = read_card(run)
    network, before = recipe.network, card.values["network"]
    if names_file(network.weights):
        raise RecipeError(
            f"{recipe.name}: network.weights names a file, and --from names a run; give one of them"
        )
    backbones = (network.backbone, str(before["backbone"]))
    if any(one.startswith("encoder:") for one in backbones) and len(set(backbones)) > 1:
        shown = [f'"{one}"' if one else "none" for one in backbones]
        raise RecipeError(
            f"{recipe.name}: network.backbone is {shown[0]}, but {shown[1]} in {readable(run)}, so "
            "the layers would get other numbers than those that they were trained on; take the "
            "same backbone"
        )
    rescaled = network.backbone in RESCALED and part != "decoder"
    if rescaled and (network.weights == "none") != (before["weights"] == "none"):
        raise RecipeError(
            f'{recipe.name}: network.weights is "{network.weights}", but "{before["weights"]}" in '
            f"{readable(run)}, and photos of {network.backbone} have another scale without "
            f'pretrained weights; set network.weights to "{before["weights"]}"'
        )
    folder = run if run.is_dir() else run.parent
    file = folder / f"{part or 'model'}.safetensors"
    if not file.is_file():
        if part:
            problem = f"has no {part} in a file of its own, because it is no autoencoder; leave "
            raise LearnError(f"{readable(run)}: {problem}--part out")
        raise LearnError(
            f"{readable(run)}: has no {file.name}; its weights were removed, as a study does with "
            "those of all runs but the best. Name another run"
        )
    return StartingRun(folder.resolve().name, card, part, read_weights(file))


def start_record(
    matched: MatchedWeights | None, recipe: Recipe, run: StartingRun | None
) -> Start | None:
    """Return what a card says about the first weights; None if they come from no file.

    Args:
        matched: what the network took.
        recipe: the recipe of the new run.
        run: the run that it goes on from, or None.
    """
    if matched is None:
        return None
    if run is None:
        return Start(Path(recipe.network.weights).name, matched)
    earlier: tuple[Ancestor, ...] = ()
    if (before := run.card.start) is not None:
        earlier = before.chain()
    card = run.card
    return Start(
        run.name, matched, card.recipe, card.dataset, card.dataset_digest, run.part, earlier
    )


def report_start(
    net: Net, recipe: Recipe, run: StartingRun | None, on_start: Callable[[Start], None] | None
) -> None:
    """Call `on_start` with the first weights of a network, if they come from a file.

    Args:
        net: the network.
        recipe: its recipe.
        run: the run that it goes on from, or None.
        on_start: the function to call, or None.
    """
    start = start_record(net.first_weights, recipe, run)
    if start is not None and on_start is not None:
        on_start(start)


def licence_of_start(recipe: Recipe, run: StartingRun | None) -> str:
    """Return what is known of the terms of a new run's weights, in sentences.

    Args:
        recipe: the recipe of the new run.
        run: the run that it goes on from, or None.
    """
    own = weights_licence(recipe.as_json()["network"])
    if run is None:
        return own
    of_run = f"Starts from the weights of the run {run.name}, whose card says: {run.card.licence}"
    return f"{own} {of_run}" if run.part == "decoder" or recipe.network.encoder else of_run
