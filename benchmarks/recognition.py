"""Recognition: methods, the price of precision, and the effect of the constants.

The open set is landmarks30 with `labels_openset.csv`: some queries show its places, others show
none of them. Everything is learned from the gallery alone. The closed sets are landmarks30's own
classification split and objects20.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.labelled_sets import add_data_option
from benchmarks.report import parser, publish, table
from veduta.datasets import Dataset, open_dataset
from veduta.datasets.dataset import as_table
from veduta.evaluation import RecognitionEvaluation, evaluate_recognition
from veduta.evaluation.open_set import OpenSetFigures, open_set_figures
from veduta.recognize import METHODS, held_out, linear
from veduta.recognize.unknown import PRECISIONS

SHOWN_PRECISIONS = (0.5, 0.8, 0.9, 0.95, 0.99)
FIGURES = ("gap", "guess_right", "known_named", "named_right", "unknown_rejected", "auroc")
HEAD = ["GAP", "guess right", "known named", "named right", "unknown rejected", "AUROC", "ECE"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("recognition", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    folder = chosen.data / "landmarks30"

    def evaluate(title: str, **settings: Any) -> RecognitionEvaluation:
        print(title, flush=True)
        return evaluate_recognition(folder, labels="labels_openset.csv", **settings)

    default = evaluate("evidence")
    rows = [
        row(f"**{name}**", default, interval=True)
        if name == "evidence"
        else row(name, evaluate(name, method=name), interval=True)
        for name in METHODS
    ]
    rows.append(
        row("evidence, `fast`", evaluate("fast", encoder="fast", method="evidence"), interval=True)
    )
    parts = [
        "Open set: landmarks30, 149 photos of its places and 203 of none, at the default precision "
        "of 0.9.",
        table(["", *HEAD], rows),
        "### The price of precision\n\nThe same answers with other thresholds. *Precision* is the "
        "share of right names among all names given, also to photos that show none of the places.",
        table(
            ["wanted", "from", "known named", "named right", "unknown rejected", "precision"],
            [precision_row(default, precision) for precision in SHOWN_PRECISIONS],
        ),
        '### Closed sets\n\nAccuracy of the guess, also where the answer is "unknown".',
        closed_sets(chosen.data),
        "### Constants\n\nThe default with another ridge, and with other numbers of held-out "
        "photos for its confidence.",
        table(["", *HEAD], [row("the default", default), *constant_rows(evaluate)]),
    ]
    publish("recognition", "\n\n".join(parts), chosen.docs)


def row(name: str, evaluation: RecognitionEvaluation, *, interval: bool = False) -> list[str]:
    figures = evaluation.summary
    cells = [name]
    for key in FIGURES:
        low, high = getattr(figures, f"{key}_interval")
        low_to_high = f" ({low:.2f}–{high:.2f})" if interval else ""
        cells.append(f"{getattr(figures, key):.3f}{low_to_high}")
    cells.append(f"{evaluation.calibration_error:.3f}")
    return cells


def precision_row(evaluation: RecognitionEvaluation, precision: float) -> list[str]:
    threshold = evaluation.thresholds[PRECISIONS.index(precision)]
    figures = figures_at(evaluation, threshold)
    return [
        f"{precision:.2f}",
        f"{threshold:.2f}" if threshold <= 1 else "never",
        f"{figures.known_named:.3f}",
        f"{figures.named_right:.3f}",
        f"{figures.unknown_rejected:.3f}",
        f"{figures.named_right_overall:.3f}",
    ]


def figures_at(evaluation: RecognitionEvaluation, threshold: float) -> OpenSetFigures:
    """Return the figures of the same answers with another threshold."""
    results = evaluation.results
    return open_set_figures(
        [result.label for result in results],
        [result.guess for result in results],
        [result.guess is not None and result.confidence >= threshold for result in results],
        [result.confidence for result in results],
        resamples=1,
    )


def closed_sets(data: Path) -> str:
    rows = []
    for name, dataset in (
        ("landmarks30, by `cls_split`", classification_split(data)),
        ("objects20", open_dataset(data / "objects20")),
    ):
        print(name, flush=True)
        splits = dataset.table["split"].to_pylist()
        gallery, queries = splits.count("gallery"), splits.count("query")
        title = f"{name}: {gallery} photos to learn from, {queries} to name"
        if distractors := splits.count("distractor"):
            title += f", {distractors} distractors"
        cells = [
            f"{evaluate_recognition(dataset, method=method).summary.guess_right:.3f}"
            for method in METHODS
        ]
        rows.append([title, *cells])
    return table(["", *METHODS], rows)


def classification_split(data: Path) -> Dataset:
    """Return landmarks30 by its own classification split, with train and val as the gallery."""
    folder = data / "landmarks30"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["cls_split"]]
    return Dataset(
        folder,
        as_table(
            [row["path"] for row in rows],
            [row["label"] for row in rows],
            ["query" if row["cls_split"] == "test" else "gallery" for row in rows],
        ),
    )


def constant_rows(evaluate: Callable[[str], RecognitionEvaluation]) -> Iterator[list[str]]:
    for ridge in (0.03, 0.3, 1.0):
        with changed_constant(linear, "RIDGE", ridge):
            yield row(f"ridge {ridge}", evaluate(f"ridge {ridge}"))
    for count in (100, 1000):
        with changed_constant(held_out, "MAX_EXAMPLES_OF_A_KIND", count):
            title = f"at most {count} held-out photos of a kind"
            yield row(title, evaluate(title))


@contextmanager
def changed_constant(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


if __name__ == "__main__":
    main()
