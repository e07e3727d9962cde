"""Train every recipe on the same photos: what it learns, and what it costs.

The networks of the five reports and Veduta's own are trained on the processor, on the
classification split of landmarks30 (`cls_split`): 739 photos to train on, 85 to choose the epoch,
191 to test on. The monument pair of the Keras report is repeated with two similar monuments of the
set, india_gate and gateway_of_india. Only the number of epochs of a recipe is changed: it is
capped. Recipes whose pretrained weights cannot be downloaded here are only timed, with random
weights. Finished runs are kept in --work, so that an interrupted benchmark continues.
"""

from __future__ import annotations

import csv
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.labelled_sets import add_data_option
from benchmarks.report import check_target, format_number, parser, publish, table
from veduta.learn.data.image_cache import normalise
from veduta.learn.models.summary import summarise
from veduta.learn.recipe import Recipe, open_recipe, recipe_names
from veduta.learn.runs.card import Card, read_card
from veduta.learn.runs.train import train
from veduta.learn.training.losses import build_loss
from veduta.learn.training.recipe_network import build_network, network_without_weights
from veduta.learn.training.schedule import Epoch

PAIR = ("gateway_of_india", "india_gate")

# With this cap all recipes are trained within an hour on two cores.
MAX_EPOCHS = 5

STEP_PHOTOS = 4


@dataclass(frozen=True, slots=True)
class Task:
    """A recipe to train.

    Attributes:
        recipe: its name.
        pair: train it on the pair of monuments.
        epochs: how many at most.
        target: the least test accuracy.
        changes: of the recipe, as with --set.
    """

    recipe: str
    pair: bool = False
    epochs: int = MAX_EPOCHS
    target: float | None = None
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"{self.recipe}{'-pair' if self.pair else ''}"


TASKS = (
    Task("linear", target=0.96),
    Task("frozen-arcface", target=0.96),
    Task("frozen-sub-centre-arcface", target=0.96),
    Task("frozen-supcon", target=0.96),
    Task("finetune", target=0.97),
    Task("cnn-22"),
    Task("scratch-competition", epochs=20),
    Task("siamese", changes=("training.pairs=2000",)),
    Task("siamese-triplet", epochs=8),
    Task("autoencoder-32-64", epochs=3),
    Task("autoencoder-32-64-128", epochs=3),
    Task("autoencoder-32-64-128-256", epochs=3),
    Task("variational-autoencoder", epochs=3),
    Task("resnet18-not-pretrained", epochs=3),
    Task("cnn-1", pair=True, epochs=25),
    Task("cnn-2", pair=True, epochs=25),
    Task("cnn-3", pair=True, epochs=25),
    Task("transfer", pair=True, epochs=25, target=0.95),
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("networks", __doc__)
    add_data_option(options)
    options.add_argument("--only", nargs="+", help="train only these recipes")
    options.add_argument("--no-costs", action="store_true", help="leave out the second table")
    chosen = options.parse_args(arguments)
    work = chosen.work / "networks"
    work.mkdir(parents=True, exist_ok=True)
    folder = (chosen.data / "landmarks30").resolve()
    pair = pair_dataset(folder, work)
    cards = []
    for task in TASKS:
        if chosen.only and task.recipe not in chosen.only:
            continue
        cards.append((task, train_task(task, pair if task.pair else folder, work)))
    body = "### What they learn\n\n" + accuracy_table(cards)
    if not chosen.no_costs:
        body += "\n\n### What they cost\n\n" + cost_table()
    publish("networks", body, chosen.docs)


def pair_dataset(folder: Path, work: Path) -> Path:
    """Make a dataset of the two monuments, with a link to the photos, and return its folder."""
    dataset = work / "pair"
    if not dataset.is_dir():
        draft = work / "pair.draft"
        draft.mkdir(exist_ok=True)
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
            rows = [
                row
                for row in csv.DictReader(lines)
                if row["label"] in PAIR and row["split"] != "junk"
            ]
        with (draft / "labels.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, ["path", "label", "cls_split"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        (draft / "images").symlink_to(folder / "images")
        os.rename(draft, dataset)
    return dataset


def train_task(task: Task, folder: Path, work: Path) -> Card:
    """Train a recipe, unless an interrupted benchmark already did, and return its card."""
    run = work / task.name
    if (run / "card.json").is_file():
        return read_card(run)
    recipe = open_recipe(task.recipe, task.changes)
    on_frozen_encoder = bool(recipe.network.encoder)
    if not on_frozen_encoder and recipe.training.epochs > task.epochs:
        recipe = open_recipe(task.recipe, (*task.changes, f"training.epochs={task.epochs}"))
    print(task.name, flush=True)

    def print_epoch(epoch: Epoch) -> None:
        print(f"  {epoch.number} {epoch.val_accuracy} {epoch.seconds:.0f} s", flush=True)

    return train(recipe, folder, run, column="cls_split", on_epoch=print_epoch)


def accuracy_table(cards: Sequence[tuple[Task, Card]]) -> str:
    rows = []
    for task, card in cards:
        assert card.test is not None and card.retrieval is not None
        target = ""
        if task.target is not None:
            target = check_target(round(card.test.accuracy, 3), task.target, at_least=True)
        retrieval = card.retrieval
        rows.append(
            [
                f"{task.recipe}{', the pair' if task.pair else ''}",
                f"{card.parameters.total:,}",
                f"{card.parameters.trainable:,}",
                f"{card.best_epoch} of {card.epochs}",
                f"{card.seconds / 60:.1f}",
                f"{card.test.accuracy:.3f}{'' if card.answers == 'scores' else ' *'}",
                target,
                f"{retrieval.top1:.3f}",
                f"{retrieval.top3:.3f}",
                f"{retrieval.top10:.3f}",
                f"{retrieval.map:.3f}",
            ]
        )
    head = [
        "recipe",
        "parameters",
        "trained",
        "best epoch",
        "minutes",
        "test accuracy",
        "target",
        "top-1",
        "top-3",
        "top-10",
        "mAP",
    ]
    pair_photos = next((card.test.photos for task, card in cards if task.pair and card.test), 0)
    return (
        f"{table(head, rows)}\n\nFor top-1/3/10 and mAP, the test photos are the queries and the "
        "training photos are the gallery, ranked by the cosine of the network's features. `*`: the "
        "network gives no scores for classes, so the answer is the class of the nearest training "
        f"photo. *the pair*: india_gate and gateway_of_india, with {pair_photos} test photos. "
        "Networks that start from random weights are far from finished when the cap on the epochs "
        "stops them: the reports trained them for up to 100 epochs on more photos."
    )


def cost_table() -> str:
    """Time a training step of every recipe, on the processor, from random weights."""
    rows = []
    for name in recipe_names():
        recipe = open_recipe(name)
        layers = summarise(network_without_weights(recipe), recipe)
        milliseconds = ""
        if not recipe.network.encoder:
            without_weights = open_recipe(name, ("network.weights=none",))
            milliseconds = format_number(1000 * step_seconds(without_weights))
        rows.append([name, f"{layers.total:,}", f"{layers.trainable:,}", milliseconds])
        print(*rows[-1], flush=True)
    return (
        table(["recipe", "parameters", "trained", "ms a photo, a step"], rows)
        + "\n\nForward pass, backward pass and the step of the optimizer on a batch of four random "
        "photos, on two cores: the median of three. Recipes on an encoder's descriptors are "
        "trained within seconds."
    )


def step_seconds(recipe: Recipe) -> float:
    """Return the seconds a photo of a training step: the median of three, after a warm-up."""
    classes = recipe.network.classes
    net = build_network(recipe, classes).train()
    loss_function = build_loss(recipe, net)
    weights = [one for one in (*net.parameters(), *loss_function.parameters()) if one.requires_grad]
    optimizer = torch.optim.SGD(weights, 1e-4)
    size = recipe.input.size
    photos = (255 * torch.rand(STEP_PHOTOS, 3, size, size)).byte()
    class_ids = torch.arange(STEP_PHOTOS) // 2 % classes
    times = []
    for _ in range(4):
        started = time.perf_counter()
        loss = loss_function(net(normalise(photos, recipe.input)), class_ids, photos)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append((time.perf_counter() - started) / STEP_PHOTOS)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
