"""Embeddings: what is learned from some places, measured on others; and classes in seconds.

landmarks30 in three folds of ten places: training sees the photos of the other twenty alone, then
queries and gallery of the ten (and the distractors) are ranked by the cosine of their descriptors,
without re-ranking. Settings of the learned projection are chosen inside the twenty places, those of
the fine-tuned network (the recipe `supcon`) on objects20. Runs are kept in --work, so that an
interrupted benchmark goes on.
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

from benchmarks.report import parser, publish, table, verdict
from veduta.encoders import DEFAULT, fit_projection, load_encoder
from veduta.encoders.pooling import unit
from veduta.encoders.sources import RUN_MODEL
from veduta.evaluation.metrics import average_precision
from veduta.learn.data.splits import DatasetSplits
from veduta.learn.models import projection as learned
from veduta.learn.models.projection import learn_projection
from veduta.learn.recipe import Recipe, open_recipe
from veduta.learn.runs.card import read_card
from veduta.learn.runs.export import export_network
from veduta.learn.runs.frozen_encoder import Descriptors, descriptors_of, train_head
from veduta.learn.runs.train import train
from veduta.learn.training.recipe_network import build_network
from veduta.learn.training.schedule import Epoch

FOLDS = 3
INSIDE = 4  # folds inside the places to learn from, for the choice of settings
GRID = tuple(itertools.product((3.0, 10.0, 30.0), (0.0, 0.2, 0.5), (0.0, 0.5)))
RECIPES = ("linear", "frozen-arcface", "frozen-sub-centre-arcface", "frozen-supcon")
TUNED = "supcon"
GAIN, ACCURACY, SECONDS = 0.05, 0.96, 60.0

Rows = NDArray[np.float32]
Turn = Callable[[Rows], Rows]  # descriptors to what is ranked, rows of length one
Method = Callable[[Rows, NDArray[np.str_]], Turn]  # learns it from photos and their places


@dataclass(frozen=True, slots=True)
class Places:
    """The photos of landmarks30 that ask and answer, and the distractors.

    `files`: their paths. `rows`: (N, D) descriptors. `labels`, `splits`: (N,).
    """

    files: tuple[Path, ...]
    rows: Rows
    labels: NDArray[np.str_]
    splits: NDArray[np.str_]

    @property
    def names(self) -> list[str]:
        return sorted(set(self.labels[self.splits == "query"].tolist()))

    def learn(self, method: Method, places: Sequence[str]) -> Turn:
        """Learn from all photos of some places."""
        seen = np.isin(self.labels, places) & np.isin(self.splits, ["query", "gallery"])
        return method(self.rows[seen], self.labels[seen])

    def judge(self, turn: Turn, places: Sequence[str]) -> tuple[float, float]:
        """Return mAP and top-1 of the queries of some places among their photos and distractors."""
        own = np.isin(self.labels, places)
        distractors = self.splits == "distractor"
        asking = np.flatnonzero(own & (self.splits == "query"))
        answering = np.flatnonzero((own & (self.splits == "gallery")) | distractors)
        labels = np.where(distractors[answering], "", self.labels[answering])
        scores = turn(self.rows[asking]) @ turn(self.rows[answering]).T
        precisions, first = [], []
        for query, row in zip(asking.tolist(), scores, strict=True):
            right = labels[np.argsort(-row, kind="stable")] == self.labels[query]
            precisions.append(average_precision(right))
            first.append(float(right[0]))
        return statistics.fmean(precisions), statistics.fmean(first)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("embedding", str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    folder = (chosen.data / "landmarks30").resolve()
    places = read_places(folder)
    parts = [
        "### What is learned of twenty places, measured on ten others\n\n"
        "landmarks30 in three folds: mAP / top-1 of the queries of the places held out, over their "
        "gallery and the distractors; descriptors of the default encoder, cosine, no re-ranking.",
        unseen(places),
        "### With the photos themselves\n\nThe same folds; the recipe `supcon` changes the late "
        "half of the default encoder's networks, which see squares of 384 pixels here.",
        tuned(places, chosen.work / "embedding"),
        "### Classes in seconds\n\nlandmarks30 by `cls_split`. Seconds are of training, once the "
        f"photos are encoded; wanted is {ACCURACY} within {SECONDS:.0f} s. Networks without scores "
        "answer by the nearest training photo.",
        classes(folder),
    ]
    publish("embedding", "\n\n".join(parts), chosen.docs)


def read_places(folder: Path) -> Places:
    """Encode what asks, answers or distracts."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        lines = [one for one in csv.DictReader(stream) if one["split"] != "junk"]
    print("descriptors", flush=True)
    files = tuple(folder / line["path"] for line in lines)
    return Places(
        files,
        encoded(files, DEFAULT),
        np.array([line["label"] for line in lines]),
        np.array([line["split"] for line in lines]),
    )


def encoded(files: Sequence[Path], encoder: str) -> Rows:
    rows, broken = descriptors_of(files, load_encoder(encoder))
    if broken:
        raise SystemExit(f"{files[min(broken)]}: {broken[min(broken)]}")
    return unit(rows)


def unseen(places: Places) -> str:
    folds = [places.names[number::FOLDS] for number in range(FOLDS)]
    methods: dict[str, Sequence[Method]] = {
        "frozen": [frozen] * FOLDS,
        "PCA of the twenty places, whitened (power 0.5)": [whitened] * FOLDS,
        **{f"recipe {name}": [by_recipe(name)] * FOLDS for name in RECIPES[1:]},
        "frozen, joined with frozen-arcface": [joined(by_recipe("frozen-arcface"))] * FOLDS,
        "learned projection, no stretch": [by_labels(stretch=0.0)] * FOLDS,
        "**learned projection**": [by_labels()] * FOLDS,
    }
    kept, notes = [], []
    for fold in folds:
        settings = chosen_inside(places, [one for one in places.names if one not in fold])
        notes.append(" / ".join(f"{value:g}" for value in settings))
        ridge, centre, stretch = settings
        kept.append(by_labels(ridge=ridge, centre=centre, stretch=stretch))
    methods["learned projection, settings chosen anew in each fold"] = kept
    rows, base = [], 0.0
    for name, made in methods.items():
        print(name, flush=True)
        found = [
            places.judge(
                places.learn(method, [one for one in places.names if one not in fold]), fold
            )
            for method, fold in zip(made, folds, strict=True)
        ]
        mean = statistics.fmean(precision for precision, _ in found)
        base = base or mean
        gain = mean - base
        cells = [f"{precision:.3f} / {first:.3f}" for precision, first in found]
        rows.append([name, *cells, f"{mean:.3f}", f"{gain:+.3f}"])
        if name == "**learned projection**":
            judged = verdict(round(gain, 3), GAIN, at_least=True)
    head = ["", "first ten", "second ten", "third ten", "mean mAP", "over frozen"]
    return (
        f"{table(head, rows)}\n\nGain of the learned projection, {judged}. Chosen by "
        f"{INSIDE}-fold cross-validation inside the twenty places (ridge / centre / stretch): "
        f"{'; '.join(notes)}. The package has {learned.RIDGE:g} / {learned.CENTRE_SHARE:g} / "
        f"{learned.STRETCH:g}."
    )


def tuned(places: Places, work: Path) -> str:
    """Train the network itself on the photos of twenty places, fold by fold."""
    recipe = open_recipe(TUNED)
    table_rows: dict[str, list[tuple[float, float]]] = {
        "frozen, at its own size": [],
        "frozen, squares": [],
        "frozen, squares, learned projection": [],
        f"`{TUNED}`": [],
        f"**`{TUNED}`, learned projection**": [],
    }
    for number in range(FOLDS):
        fold = places.names[number::FOLDS]
        others = [one for one in places.names if one not in fold]
        squares = replace(places, rows=encoded(places.files, squared(recipe, work)))
        run = run_on(places, others, recipe, work / f"{TUNED}-without-{fold[0]}")
        after = replace(places, rows=encoded(places.files, run))
        for found, (of, method) in zip(
            table_rows.values(),
            (
                (places, frozen),
                (squares, frozen),
                (squares, by_labels()),
                (after, frozen),
                (after, by_labels()),
            ),
            strict=True,
        ):
            found.append(of.judge(of.learn(method, others), fold))
    means = {name: statistics.fmean(one for one, _ in found) for name, found in table_rows.items()}
    base = means["frozen, squares"]
    rows = [
        [
            name,
            *[f"{precision:.3f} / {first:.3f}" for precision, first in found],
            f"{means[name]:.3f}",
            f"{means[name] - base:+.3f}",
        ]
        for name, found in table_rows.items()
    ]
    head = ["", "first ten", "second ten", "third ten", "mean mAP", "over frozen squares"]
    judged = [
        verdict(round(means[name] - base, 3), GAIN, at_least=True) for name in list(means)[-2:]
    ]
    return (
        f"{table(head, rows)}\n\nGain of the network alone, {judged[0]}; with the projection that "
        f"`veduta index --project labels` learns from its descriptors, {judged[1]}."
    )


def squared(recipe: Recipe, work: Path) -> str:
    """Export the network of a recipe as it is before training; return the name of this encoder."""
    folder = work / "frozen"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RUN_MODEL).is_file():
        export_network(build_network(recipe, 2).eval(), recipe, folder)
    return str(folder / RUN_MODEL)


def run_on(places: Places, names: Sequence[str], recipe: Recipe, run: Path) -> str:
    """Train a recipe on all photos of some places, a tenth held out; return the run's name."""
    if (run / "card.json").is_file():
        if sorted(read_card(run).classes) != sorted(names):
            raise SystemExit(f"{run} was trained on other places; remove it")
        return str(run)
    print(run.name, flush=True)
    dataset = run.with_name(f"{run.name}-photos")
    for file, label, split in zip(places.files, places.labels, places.splits, strict=True):
        if label in names and split in {"query", "gallery"}:
            link = dataset / label / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(file)

    def tell(one: Epoch) -> None:
        print(f"  {one.number} loss {one.val_loss} {one.seconds:.0f} s", flush=True)

    train(recipe, dataset, run, on_epoch=tell)
    return str(run)


def chosen_inside(places: Places, names: Sequence[str]) -> tuple[float, float, float]:
    """Return the settings of the best mean mAP on parts of the places, learned from the others."""
    mixed = np.random.default_rng(0).permutation(names).tolist()
    parts = [mixed[number::INSIDE] for number in range(INSIDE)]

    def merit(settings: tuple[float, float, float]) -> float:
        method = by_labels(ridge=settings[0], centre=settings[1], stretch=settings[2])
        return statistics.fmean(
            places.judge(places.learn(method, [o for o in names if o not in part]), part)[0]
            for part in parts
        )

    return max(GRID, key=merit)


def frozen(rows: Rows, labels: NDArray[np.str_]) -> Turn:
    return lambda some: some


def whitened(rows: Rows, labels: NDArray[np.str_]) -> Turn:
    return fit_projection([rows], dimension=min(512, len(rows) - 1), power=0.5).apply


def by_labels(**settings: Any) -> Method:
    return lambda rows, labels: learn_projection(rows, labels.tolist(), **settings).apply


def by_recipe(name: str) -> Method:
    """Train the layers of a recipe, a fifth of each place held out to choose the epoch."""

    def method(rows: Rows, labels: NDArray[np.str_]) -> Turn:
        names, codes = np.unique(labels, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(rows))
        place = np.empty(len(rows), np.intp)
        for code in range(len(names)):
            own = order[codes[order] == code]
            place[own] = np.arange(len(own))
        held = place % 5 == 4
        parts = DatasetSplits(
            root=Path(),
            paths=tuple(map(str, range(len(rows)))),
            class_ids=codes.astype(np.int64),
            class_names=tuple(names.tolist()),
            train=np.flatnonzero(~held),
            val=np.flatnonzero(held),
            test=np.empty(0, np.intp),
            held_out=True,
            problems=(),
            digest=f"{len(rows)} {names}",
        )
        with tempfile.TemporaryDirectory() as work:
            net = train_head(open_recipe(name), parts, Descriptors(rows), Path(work)).net

        def turn(some: Rows) -> Rows:
            with torch.inference_mode():
                return unit(net.features(torch.from_numpy(some)).numpy())

        return turn

    return method


def joined(method: Method) -> Method:
    """The descriptor as it is, and what was learned, side by side."""

    def both(rows: Rows, labels: NDArray[np.str_]) -> Turn:
        turn = method(rows, labels)
        return lambda some: unit(np.concatenate([some, turn(some)], axis=1))

    return both


def classes(folder: Path) -> str:
    return table(
        ["recipe", "test accuracy", "", "retrieval mAP", "seconds", ""], list(class_rows(folder))
    )


def class_rows(folder: Path) -> Iterator[list[str]]:
    for name in RECIPES:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as work:
            card = train(open_recipe(name), folder, Path(work) / "run", column="cls_split")
        if card.test is None or card.retrieval is None:
            raise SystemExit(f"{folder}: no photos to test on")
        yield [
            name,
            f"{card.test.accuracy:.3f}",
            verdict(card.test.accuracy, ACCURACY, at_least=True),
            f"{card.retrieval.map:.3f}",
            f"{card.seconds:.1f}",
            verdict(card.seconds, SECONDS, at_least=False),
        ]


if __name__ == "__main__":
    main()
