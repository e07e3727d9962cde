"""Recognition: methods, the price of precision, and what the constants do.

The open set of landmarks30 (`labels_openset.csv`): photos of known places among photos of none. All
that is learned is learned from the gallery; the queries are only asked. Closed sets beside it:
landmarks30's own classification split and objects20.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import parser, publish, table
from veduta.datasets import Dataset, open_dataset
from veduta.datasets.dataset import as_table
from veduta.evaluation import RecognitionEvaluation, evaluate_recognition
from veduta.evaluation.open_set import OpenSetFigures, open_set_figures
from veduta.recognize import METHODS, held_out, linear
from veduta.recognize.unknown import PRECISIONS

_WANTED = (0.5, 0.8, 0.9, 0.95, 0.99)
_FIGURES = ("gap", "guess_right", "known_named", "named_right", "unknown_rejected", "auroc")
_HEAD = ["GAP", "guess right", "known named", "named right", "unknown rejected", "AUROC", "ECE"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("recognition", str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    folder = chosen.data / "landmarks30"

    def measured(what: str, **settings: Any) -> RecognitionEvaluation:
        print(what, flush=True)
        return evaluate_recognition(folder, labels="labels_openset.csv", **settings)

    default = measured("evidence")
    runs = {f"**{name}**" if name == "evidence" else name: name for name in METHODS}
    rows = [
        row(shown, default if name == "evidence" else measured(name, method=name), interval=True)
        for shown, name in runs.items()
    ]
    rows.append(row("evidence, `fast`", measured("fast", encoder="fast"), interval=True))
    parts = [
        "Open set: landmarks30, 149 photos of its places and 203 of none, at the default precision "
        "of 0.9.",
        table(["", *_HEAD], rows),
        "### The price of precision\n\nThe same answers with other thresholds. *Precision* is that "
        "of all names given, also to photos of no place.",
        table(
            ["wanted", "from", "known named", "named right", "unknown rejected", "precision"],
            [priced(default, wanted) for wanted in _WANTED],
        ),
        "### Closed sets\n\nAccuracy of the guess, whether given or not.",
        closed_sets(chosen.data),
        "### Constants\n\nThe default with another ridge, and with other questions to the gallery.",
        table(["", *_HEAD], [row("the default", default), *constants(measured)]),
    ]
    publish("recognition", "\n\n".join(parts), chosen.docs)


def row(name: str, done: RecognitionEvaluation, *, interval: bool = False) -> list[str]:
    figures = done.summary
    cells = [name]
    for key in _FIGURES:
        low, high = getattr(figures, f"{key}_interval")
        between = f" ({low:.2f}–{high:.2f})" if interval else ""
        cells.append(f"{getattr(figures, key):.3f}{between}")
    cells.append(f"{done.calibration_error:.3f}")
    return cells


def priced(done: RecognitionEvaluation, wanted: float) -> list[str]:
    threshold = done.thresholds[PRECISIONS.index(wanted)]
    figures = at(done, threshold)
    return [
        f"{wanted:.2f}",
        f"{threshold:.2f}" if threshold <= 1 else "never",
        f"{figures.known_named:.3f}",
        f"{figures.named_right:.3f}",
        f"{figures.unknown_rejected:.3f}",
        f"{figures.named_right_overall:.3f}",
    ]


def at(done: RecognitionEvaluation, threshold: float) -> OpenSetFigures:
    return open_set_figures(
        [result.label for result in done.results],
        [result.guess for result in done.results],
        [result.guess is not None and result.confidence >= threshold for result in done.results],
        [result.confidence for result in done.results],
        resamples=1,
    )


def closed_sets(data: Path) -> str:
    rows = []
    for name, dataset in (
        ("landmarks30, by `cls_split`", classification(data)),
        ("objects20", open_dataset(data / "objects20")),
    ):
        print(name, flush=True)
        splits = dataset.table["split"].to_pylist()
        gallery, queries = splits.count("gallery"), splits.count("query")
        shown = f"{name}: {gallery} photos to learn from, {queries} to name"
        if distractors := splits.count("distractor"):
            shown += f", {distractors} distractors"
        cells = [
            f"{evaluate_recognition(dataset, method=method).summary.guess_right:.3f}"
            for method in METHODS
        ]
        rows.append([shown, *cells])
    return table(["", *METHODS], rows)


def classification(data: Path) -> Dataset:
    """landmarks30 by its own classification split, train and val as the gallery."""
    folder = data / "landmarks30"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        found = [line for line in csv.DictReader(stream) if line["cls_split"]]
    return Dataset(
        folder,
        as_table(
            [line["path"] for line in found],
            [line["label"] for line in found],
            ["query" if line["cls_split"] == "test" else "gallery" for line in found],
        ),
    )


def constants(measured: Any) -> Iterator[list[str]]:
    for ridge in (0.03, 0.3, 1.0):
        with changed(linear, "RIDGE", ridge):
            yield row(f"ridge {ridge}", measured(f"ridge {ridge}"))
    for most in (100, 1000):
        with changed(held_out, "MAX_EXAMPLES_OF_A_KIND", most):
            yield row(f"at most {most} questions of a kind", measured(f"questions {most}"))


@contextmanager
def changed(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


if __name__ == "__main__":
    main()
