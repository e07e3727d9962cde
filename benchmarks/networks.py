"""Every recipe on the same photos: what it learns, and what it costs.

The networks of the five reports and Veduta's own on the classification split of landmarks30
(`cls_split`: 739 photos to train on, 85 to choose the epoch, 191 that are looked at once), on the
processor. The monument pair of the Keras report is repeated with two monuments of the set that look
alike, india_gate and gateway_of_india. Recipes run as they are but for the number of epochs, which
is capped; those whose pretrained weights are not to be had here are
only timed, from random weights. Finished runs are kept in --work, so that an interrupted benchmark
goes on.
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

from benchmarks.report import number, parser, publish, table, verdict
from veduta.learn.data.image_cache import normalise
from veduta.learn.models.summary import summarise
from veduta.learn.recipe import Recipe, open_recipe, recipe_names
from veduta.learn.runs.card import Card, read_card
from veduta.learn.runs.train import train
from veduta.learn.training.losses import build_loss
from veduta.learn.training.recipe_network import build_network, network_without_weights
from veduta.learn.training.schedule import Epoch

PAIR = ("gateway_of_india", "india_gate")

# At most so many epochs each, so that all of it fits into an hour on two cores.
EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Task:
    """A recipe to train. `epochs`: at most. `target`: of the test accuracy."""

    recipe: str
    pair: bool = False
    epochs: int = EPOCHS
    target: float | None = None

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
    Task("siamese"),
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
    options = parser("networks", str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--only", nargs="+", help="these recipes only")
    options.add_argument("--no-costs", action="store_true", help="leave out the second table")
    chosen = options.parse_args(arguments)
    work = chosen.work / "networks"
    work.mkdir(parents=True, exist_ok=True)
    folder = (chosen.data / "landmarks30").resolve()
    pair = pair_of(folder, work)
    cards = []
    for task in TASKS:
        if chosen.only and task.recipe not in chosen.only:
            continue
        cards.append((task, trained(task, pair if task.pair else folder, work)))
    body = "### What they learn\n\n" + learned(cards)
    if not chosen.no_costs:
        body += "\n\n### What they cost\n\n" + costs(work, folder)
    publish("networks", body, chosen.docs)


def pair_of(folder: Path, work: Path) -> Path:
    """Make a dataset of two monuments out of links to the photos."""
    made = work / "pair"
    if not made.is_dir():
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
        os.rename(draft, made)
    return made


def trained(task: Task, folder: Path, work: Path) -> Card:
    run = work / task.name
    if (run / "card.json").is_file():
        return read_card(run)
    recipe = open_recipe(task.recipe)
    frozen = bool(recipe.network.encoder)
    if not frozen and recipe.training.epochs > task.epochs:
        recipe = open_recipe(task.recipe, (f"training.epochs={task.epochs}",))
    print(task.name, flush=True)

    def tell(one: Epoch) -> None:
        print(f"  {one.number} {one.val_accuracy} {one.seconds:.0f} s", flush=True)

    return train(recipe, folder, run, column="cls_split", on_epoch=tell)


def learned(cards: Sequence[tuple[Task, Card]]) -> str:
    rows = []
    for task, card in cards:
        assert card.test is not None and card.retrieval is not None
        target = ""
        if task.target is not None:
            target = verdict(round(card.test.accuracy, 3), task.target, at_least=True)
        found = card.retrieval
        rows.append(
            [
                f"{task.recipe}{', the pair' if task.pair else ''}",
                f"{card.parameters.total:,}",
                f"{card.parameters.trainable:,}",
                f"{card.best_epoch} of {card.epochs}",
                f"{card.seconds / 60:.1f}",
                f"{card.test.accuracy:.3f}{'' if card.answers == 'scores' else ' *'}",
                target,
                f"{found.top1:.3f}",
                f"{found.top3:.3f}",
                f"{found.top10:.3f}",
                f"{found.map:.3f}",
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
    asked = next((card.test.photos for task, card in cards if task.pair and card.test), 0)
    return (
        f"{table(head, rows)}\n\nTop-1/3/10 and mAP: the test photos looked for among the training "
        "photos by the cosine of the network's features. `*`: the network names nothing; the "
        "answer is the class of the nearest training photo. *the pair*: india_gate and "
        f"gateway_of_india, of which {asked} photos are for test. The cap on the epochs stops "
        "those that begin with random weights long before they are done: the reports trained them "
        "for up to 100 epochs on more photos."
    )


def costs(work: Path, folder: Path) -> str:
    """Time a step of training of every recipe, on the processor, from random weights."""
    rows = []
    for name in recipe_names():
        recipe = open_recipe(name)
        layers = summarise(network_without_weights(recipe), recipe)
        seconds = ""
        if not recipe.network.encoder:
            bare = open_recipe(name, ("network.weights=none",))
            seconds = number(1000 * step(bare))
        rows.append([name, f"{layers.total:,}", f"{layers.trainable:,}", seconds])
        print(*rows[-1], flush=True)
    return (
        table(["recipe", "parameters", "trained", "ms a photo, a step"], rows)
        + "\n\nForward, backward and the step of the optimizer on a batch of four random photos, "
        "median of three; two cores. Recipes on an encoder's descriptors take seconds in all."
    )


def step(recipe: Recipe) -> float:
    """Return the seconds a photo of a step, the median of three after a first one."""
    classes = recipe.network.classes
    net = build_network(recipe, classes).train()
    loss_function = build_loss(recipe, net)
    weights = [one for one in (*net.parameters(), *loss_function.parameters()) if one.requires_grad]
    optimizer = torch.optim.SGD(weights, 1e-4)
    size = recipe.input.size
    photos = (255 * torch.rand(4, 3, size, size)).byte()
    codes = torch.arange(4) // 2 % classes
    times = []
    for _ in range(4):
        started = time.perf_counter()
        loss = loss_function(net(normalise(photos, recipe.input)), codes, photos)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append((time.perf_counter() - started) / 4)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
