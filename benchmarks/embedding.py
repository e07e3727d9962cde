"""Embeddings that are learned from some places and measured on others, and classes in seconds.

landmarks30 is divided into three folds of ten places. Training sees only the photos of the other
twenty. Then the queries of the ten are ranked among their gallery and the distractors, by the
cosine of their descriptors, without re-ranking. The settings of the learned projection are chosen
inside the twenty places, those of the fine-tuned network (the recipe `supcon`) on objects20. Runs
are kept in --work, so that an interrupted benchmark continues.
"""

from __future__ import annotations

import csv
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option
from benchmarks.report import check_target, parser, publish, table
from veduta.encoders import DEFAULT, fit_projection, load_encoder
from veduta.encoders.pooling import unit
from veduta.encoders.sources import RUN_MODEL
from veduta.evaluation.metrics import average_precision
from veduta.learn.data.splits import DatasetSplits
from veduta.learn.models import projection
from veduta.learn.models.projection import learn_projection
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.runs.card import read_card
from veduta.learn.runs.export import export_network
from veduta.learn.runs.frozen_encoder import Descriptors, descriptors_of, train_head
from veduta.learn.runs.train import train
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.schedule import Epoch

FOLDS = 3
INNER_FOLDS = 4  # Of the places to learn from, for the choice of settings.
SETTINGS_GRID = tuple(itertools.product((3.0, 10.0, 30.0), (0.0, 0.2, 0.5), (0.0, 0.5)))
RECIPES = ("linear", "frozen-arcface", "frozen-sub-centre-arcface", "frozen-supcon")
FINE_TUNING_RECIPE = "supcon"
LEARNED_PROJECTION = "**learned projection**"
MIN_GAIN, MIN_ACCURACY, MAX_SECONDS = 0.05, 0.96, 60.0

Rows = NDArray[np.float32]
Transform = Callable[[Rows], Rows]
"""Descriptors → the rows of length one by which photos are ranked."""
Method = Callable[[Rows, NDArray[np.str_]], Transform]
"""Learns a transform from descriptors and their places."""


@dataclass(frozen=True, slots=True)
class Places:
    """The queries, the gallery and the distractors of landmarks30.

    Attributes:
        files: paths of the N photos.
        descriptors: (N, D).
        labels: (N,).
        splits: (N,).
    """

    files: tuple[Path, ...]
    descriptors: Rows
    labels: NDArray[np.str_]
    splits: NDArray[np.str_]

    @property
    def names(self) -> list[str]:
        return sorted(set(self.labels[self.splits == "query"].tolist()))

    def learn(self, method: Method, places: Sequence[str]) -> Transform:
        """Learn from all photos of some places."""
        used = np.isin(self.labels, places) & np.isin(self.splits, ["query", "gallery"])
        return method(self.descriptors[used], self.labels[used])

    def judge(self, transform: Transform, places: Sequence[str]) -> tuple[float, float]:
        """Return mAP and top-1 of the queries of some places among their photos and distractors."""
        of_places = np.isin(self.labels, places)
        distractors = self.splits == "distractor"
        queries = np.flatnonzero(of_places & (self.splits == "query"))
        gallery = np.flatnonzero((of_places & (self.splits == "gallery")) | distractors)
        labels = np.where(distractors[gallery], "", self.labels[gallery])
        scores = transform(self.descriptors[queries]) @ transform(self.descriptors[gallery]).T
        precisions, top1 = [], []
        for query, row in zip(queries.tolist(), scores, strict=True):
            right = labels[np.argsort(-row, kind="stable")] == self.labels[query]
            precisions.append(average_precision(right))
            top1.append(float(right[0]))
        return statistics.fmean(precisions), statistics.fmean(top1)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("embedding", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    folder = (chosen.data / "landmarks30").resolve()
    places = read_places(folder)
    parts = [
        "### What is learned of twenty places, measured on ten others\n\n"
        "landmarks30 in three folds. The figures are mAP / top-1 of the queries of the ten "
        "held-out places, over their gallery and the distractors, by the cosine of the default "
        "encoder's descriptors, without re-ranking.",
        projection_table(places),
        "### Fine-tuning on the photos\n\nThe same folds. The recipe `supcon` trains the late half "
        "of the default encoder's networks. They see squares of 384 pixels here.",
        fine_tuning_table(places, chosen.work / "embedding"),
        "### Classes in seconds\n\nlandmarks30 by `cls_split`. The seconds are those of training, "
        "after the photos are encoded. The target is an accuracy of "
        f"{MIN_ACCURACY} within {MAX_SECONDS:.0f} s. For networks without scores the answer is the "
        "class of the nearest training photo.",
        table(
            ["recipe", "test accuracy", "", "retrieval mAP", "seconds", ""],
            list(class_rows(folder)),
        ),
    ]
    publish("embedding", "\n\n".join(parts), chosen.docs)


def read_places(folder: Path) -> Places:
    """Encode the queries, the gallery and the distractors."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] != "junk"]
    print("descriptors", flush=True)
    files = tuple(folder / row["path"] for row in rows)
    return Places(
        files,
        encode(files, DEFAULT),
        np.array([row["label"] for row in rows]),
        np.array([row["split"] for row in rows]),
    )


def encode(files: Sequence[Path], encoder: str) -> Rows:
    descriptors, problems = descriptors_of(files, load_encoder(encoder))
    if problems:
        raise SystemExit(f"{files[min(problems)]}: {problems[min(problems)]}")
    return unit(descriptors)


def projection_table(places: Places) -> str:
    """Compare what is learned from the descriptors of twenty places."""
    folds = [places.names[number::FOLDS] for number in range(FOLDS)]
    methods: dict[str, Sequence[Method]] = {
        "frozen": [frozen] * FOLDS,
        "PCA of the twenty places, whitened (power 0.5)": [whitened] * FOLDS,
        **{f"recipe {name}": [by_recipe(name)] * FOLDS for name in RECIPES[1:]},
        "frozen, joined with frozen-arcface": [joined(by_recipe("frozen-arcface"))] * FOLDS,
        "learned projection, no stretch": [by_labels(stretch=0.0)] * FOLDS,
        LEARNED_PROJECTION: [by_labels()] * FOLDS,
    }
    chosen_methods, chosen_settings = [], []
    for fold in folds:
        settings = choose_settings(places, [one for one in places.names if one not in fold])
        chosen_settings.append(" / ".join(f"{value:g}" for value in settings))
        ridge, centre, stretch = settings
        chosen_methods.append(by_labels(ridge=ridge, centre=centre, stretch=stretch))
    methods["learned projection, settings chosen anew in each fold"] = chosen_methods
    rows, frozen_map = [], 0.0
    for name, method_of_fold in methods.items():
        print(name, flush=True)
        results = [
            places.judge(
                places.learn(method, [one for one in places.names if one not in fold]), fold
            )
            for method, fold in zip(method_of_fold, folds, strict=True)
        ]
        mean_map = statistics.fmean(precision for precision, _ in results)
        frozen_map = frozen_map or mean_map
        gain = mean_map - frozen_map
        cells = [f"{precision:.3f} / {top1:.3f}" for precision, top1 in results]
        rows.append([name, *cells, f"{mean_map:.3f}", f"{gain:+.3f}"])
        if name == LEARNED_PROJECTION:
            target = check_target(round(gain, 3), MIN_GAIN, at_least=True)
    head = ["", "first ten", "second ten", "third ten", "mean mAP", "over frozen"]
    return (
        f"{table(head, rows)}\n\nGain of the learned projection, {target}. The settings (ridge / "
        f"centre / stretch) that {INNER_FOLDS}-fold cross-validation inside the twenty places "
        f"chooses: {'; '.join(chosen_settings)}. Those of the package: {projection.RIDGE:g} / "
        f"{projection.CENTRE_SHARE:g} / {projection.STRETCH:g}."
    )


def fine_tuning_table(places: Places, work: Path) -> str:
    """Train the network itself on the photos of twenty places, fold by fold."""
    recipe = open_recipe(FINE_TUNING_RECIPE)
    results_of: dict[str, list[tuple[float, float]]] = {
        "frozen, at its own size": [],
        "frozen, squares": [],
        "frozen, squares, learned projection": [],
        f"`{FINE_TUNING_RECIPE}`": [],
        f"**`{FINE_TUNING_RECIPE}`, learned projection**": [],
    }
    for number in range(FOLDS):
        fold = places.names[number::FOLDS]
        others = [one for one in places.names if one not in fold]
        untrained = untrained_encoder(recipe, work)
        squares = replace(places, descriptors=encode(places.files, untrained))
        run = train_on(places, others, recipe, work / f"{FINE_TUNING_RECIPE}-without-{fold[0]}")
        tuned = replace(places, descriptors=encode(places.files, run))
        for results, (described, method) in zip(
            results_of.values(),
            (
                (places, frozen),
                (squares, frozen),
                (squares, by_labels()),
                (tuned, frozen),
                (tuned, by_labels()),
            ),
            strict=True,
        ):
            results.append(described.judge(described.learn(method, others), fold))
    means = {
        name: statistics.fmean(precision for precision, _ in results)
        for name, results in results_of.items()
    }
    frozen_map = means["frozen, squares"]
    rows = [
        [
            name,
            *[f"{precision:.3f} / {top1:.3f}" for precision, top1 in results],
            f"{means[name]:.3f}",
            f"{means[name] - frozen_map:+.3f}",
        ]
        for name, results in results_of.items()
    ]
    head = ["", "first ten", "second ten", "third ten", "mean mAP", "over frozen squares"]
    alone, projected = (
        check_target(round(means[name] - frozen_map, 3), MIN_GAIN, at_least=True)
        for name in list(means)[-2:]
    )
    return (
        f"{table(head, rows)}\n\nGain of the network alone, {alone}; with the projection that "
        f"`veduta index --project labels` learns from its descriptors, {projected}."
    )


def untrained_encoder(recipe: Recipe, work: Path) -> str:
    """Export the network of a recipe before training; return the name of this encoder."""
    folder = work / "frozen"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RUN_MODEL).is_file():
        export_network(build_network(recipe, 2).eval(), recipe, folder)
    return str(folder / RUN_MODEL)


def train_on(places: Places, names: Sequence[str], recipe: Recipe, run: Path) -> str:
    """Train a recipe on the photos of some places, a tenth held out; return the run's name."""
    if (run / "card.json").is_file():
        if sorted(read_card(run).classes) != sorted(names):
            raise SystemExit(f"{run} was trained on other places: remove it")
        return str(run)
    print(run.name, flush=True)
    dataset = run.with_name(f"{run.name}-photos")
    for file, label, split in zip(places.files, places.labels, places.splits, strict=True):
        if label in names and split in {"query", "gallery"}:
            link = dataset / label / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(file)

    def print_epoch(epoch: Epoch) -> None:
        print(f"  {epoch.number} loss {epoch.val_loss} {epoch.seconds:.0f} s", flush=True)

    train(recipe, dataset, run, on_epoch=print_epoch)
    return str(run)


def choose_settings(places: Places, names: Sequence[str]) -> tuple[float, float, float]:
    """Return the settings with the best mean mAP in a cross-validation over these places."""
    shuffled = np.random.default_rng(0).permutation(names).tolist()
    folds = [shuffled[number::INNER_FOLDS] for number in range(INNER_FOLDS)]

    def mean_map(settings: tuple[float, float, float]) -> float:
        method = by_labels(ridge=settings[0], centre=settings[1], stretch=settings[2])
        return statistics.fmean(
            places.judge(places.learn(method, [one for one in names if one not in fold]), fold)[0]
            for fold in folds
        )

    return max(SETTINGS_GRID, key=mean_map)


def frozen(descriptors: Rows, labels: NDArray[np.str_]) -> Transform:
    return lambda rows: rows


def whitened(descriptors: Rows, labels: NDArray[np.str_]) -> Transform:
    dimension = min(512, len(descriptors) - 1)
    return fit_projection([descriptors], dimension=dimension, power=0.5).apply


def by_labels(**settings: Any) -> Method:
    return lambda rows, labels: learn_projection(rows, labels.tolist(), **settings).apply


def by_recipe(name: str) -> Method:
    """Train the layers of a recipe. A fifth of each place is held out to choose the epoch."""

    def method(descriptors: Rows, labels: NDArray[np.str_]) -> Transform:
        count = len(descriptors)
        names, class_ids = np.unique(labels, return_inverse=True)
        order = np.random.default_rng(0).permutation(count)
        number_in_class = np.empty(count, np.intp)
        for class_id in range(len(names)):
            members = order[class_ids[order] == class_id]
            number_in_class[members] = np.arange(len(members))
        held_out = number_in_class % 5 == 4
        splits = DatasetSplits(
            root=Path(),
            paths=tuple(map(str, range(count))),
            class_ids=class_ids.astype(np.int64),
            class_names=tuple(names.tolist()),
            train=np.flatnonzero(~held_out),
            val=np.flatnonzero(held_out),
            test=np.empty(0, np.intp),
            held_out=True,
            problems=(),
            digest=f"{count} {names}",
        )
        with tempfile.TemporaryDirectory() as work:
            net = train_head(open_recipe(name), splits, Descriptors(descriptors), Path(work)).net

        def transform(rows: Rows) -> Rows:
            with torch.inference_mode():
                return unit(net.features(torch.from_numpy(rows)).numpy())

        return transform

    return method


def joined(method: Method) -> Method:
    """Return a method that joins the descriptor with what another method makes of it."""

    def join(descriptors: Rows, labels: NDArray[np.str_]) -> Transform:
        transform = method(descriptors, labels)
        return lambda rows: unit(np.concatenate([rows, transform(rows)], axis=1))

    return join


def class_rows(folder: Path) -> Iterator[list[str]]:
    """Train the recipes on frozen descriptors; yield the rows of the table."""
    for name in RECIPES:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as work:
            card = train(open_recipe(name), folder, Path(work) / "run", column="cls_split")
        if card.test is None or card.retrieval is None:
            raise SystemExit(f"{folder}: no photos to test on")
        yield [
            name,
            f"{card.test.accuracy:.3f}",
            check_target(card.test.accuracy, MIN_ACCURACY, at_least=True),
            f"{card.retrieval.map:.3f}",
            f"{card.seconds:.1f}",
            check_target(card.seconds, MAX_SECONDS, at_least=False),
        ]


if __name__ == "__main__":
    main()
