"""The tables "the report's number beside ours" of docs/reports, from what the commands wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import table

__all__ = ["FIGURES"]

MISSING = "–"
TOP = ("top1", "top3", "top5", "top10")


def two_monuments(folder: Path) -> str:
    """Return the accuracies of five networks, and table 1 of the report."""
    networks = (
        ("1: two convolutions", 0.7743, 14_765_505, "runs/cnn-1"),
        ("2: with augmentation", 0.8769, 63_000_001, "runs/cnn-2"),
        ("3: three convolutions", 0.9179, 31_532_129, "runs/cnn-3"),
        ("4: 3, tuned", 0.8564, None, "runs/tuned"),
        ("5: frozen network, new last layer", 0.9444, 20_863_529, "runs/transfer"),
    )
    rows = []
    for name, accuracy, parameters, run in networks:
        card = read_json(folder / run / "card.json")
        rows.append(
            [
                name,
                f"{accuracy:.4f}",
                figure(card["test"]["accuracy"], 4),
                MISSING if parameters is None else f"{parameters:,}",
                f"{card['parameters']['total']:,}",
                f"{card['best_epoch']} of {card['epochs']}",
            ]
        )
    photos = read_json(folder / "runs/cnn-3/card.json")["photos"]
    head = ["network", "report: test accuracy", "ours", "report: parameters", "ours", "best epoch"]
    reported = {
        "runs/cnn-3": ((0.91, 0.91, 0.91, 94), (0.92, 0.92, 0.92, 101), 0.92),
        "runs/transfer": ((0.93, 0.97, 0.95, 94), (0.97, 0.93, 0.95, 101), 0.95),
    }
    lines: list[list[str]] = []
    for run, (first, second, accuracy) in reported.items():
        classes, ours = classification(folder / run / "confusion.csv")
        for theirs, name, values in zip((first, second), classes, ours, strict=True):
            cells = [f"{a:.2f} / {b:.2f}" for a, b in zip(theirs[:3], values[:3], strict=True)]
            lines.append([f"{run}, {name}", *cells, f"{theirs[3]} / {values[3]:.0f}"])
        card = read_json(folder / run / "card.json")
        both = f"{accuracy:.2f} / {card['test']['accuracy']:.2f}"
        lines.append([f"{run}, accuracy", "", "", both, f"195 / {card['photos']['test']}"])
    return (
        f"{table(head, rows)}\n\n"
        "Here, network 4 saw photos of 64 pixels and networks 2 and 3 photos of 128 pixels, so "
        "they have fewer parameters than with the 256 pixels of the report. Ours learned from "
        f"{photos['train']} photos, those of the report from 778, and were tested on "
        f"{photos['test']}, those of the report on 195: one photo more or less is "
        f"{1 / photos['test']:.2f}.\n\n"
        "Table 1, report / ours. The first class of the report is Redentor, the second Rei:\n\n"
        f"{table(['', 'precision', 'recall', 'F1', 'photos'], lines)}"
    )


def landmark_capstone(folder: Path) -> str:
    """Return accuracy, loss and GAP of the networks and of the benchmark."""
    reported = {
        "runs/vgg16": ("VGG16, last block; here from random weights", "0.8333"),
        "runs/transfer-10": ("frozen network, new last layer, 10 epochs", MISSING),
        "runs/rmsprop": ("the same with rmsprop and batches of 16", MISSING),
    }
    rows = []
    for run, (name, accuracy) in reported.items():
        card = read_json(folder / run / "card.json")
        rows.append(
            [
                name,
                accuracy,
                figure(card["val"]["accuracy"], 4),
                figure(card["val"]["loss"], 4),
                figure(card["test"]["accuracy"], 4),
                figure(card["test"].get("gap"), 4),
            ]
        )
    knn = read_json(folder / "reports/knn/report.json")
    rows.append(
        [
            "nearest neighbours",
            "not stated",
            MISSING,
            MISSING,
            figure(knn["guess_right"], 4),
            figure(knn.get("gap"), 4),
        ]
    )
    photos = read_json(folder / "runs/transfer-10/card.json")["photos"]
    head = [
        "answers by",
        "report: validation accuracy",
        "ours",
        "ours: validation loss",
        "ours: test accuracy",
        "ours: GAP",
    ]
    return (
        f"{table(head, rows)}\n\nThe report's 0.8333 is of VGG16 on its small set after 10 epochs; "
        "on the large set it has 0.3702 after 10 epochs and 0.1571 after 20. It states neither GAP "
        f"nor the accuracy of the nearest neighbours. Ours: {photos['train']} photos to train, "
        f"{photos['val']} to validate, {photos['test']} to test."
    )


def query_and_gallery(folder: Path) -> str:
    """Return top-1, top-3 and top-10 of the models."""
    return retrieval(
        folder,
        ("top1", "top3", "top10"),
        (
            ("pretrained network (report: ResNet50)", (0.533, 0.733, 0.867), "pretrained"),
            ("SURF", (0.557, 0.743, 0.871), "surf"),
            ("Siamese network", (None, None, None), "siamese"),
            ("autoencoder, 32-64-128 filters", (0.067, 0.067, 0.333), "autoencoder"),
            ("small network, 22 classes", (None, None, None), "cnn"),
        ),
    )


def image_search_engine(folder: Path) -> str:
    """Return top-1, 3, 5 and 10 of the two networks, in the report and in its contest."""
    return retrieval(
        folder,
        TOP,
        (
            (
                "frozen network, new layers (report: ResNet152), its photos",
                (0.9383, 0.9533, 0.9550, 0.96),
                "transfer",
            ),
            ("the same, contest", (0.2920, None, 0.6308, 0.7231), None),
            ("from scratch, its photos", (0.17, 0.3983, 0.51, 0.6367), "scratch"),
            ("the same, contest", (0.6769, None, 0.7692, 0.8154), None),
        ),
    )


def seventeen_networks(folder: Path) -> str:
    """Return top-1, top-3 and top-10 of two rows of the table."""
    keys = ("top1", "top3", "top10")
    rows = {row["row"]: row for row in read_json(folder / "table" / "table.json")["rows"]}
    scratch = rows["Resnet18-full_layer-not_pretrained"]["figures"]
    last = read_json(folder / "reports" / "transfer" / "report.json")
    lines = (
        (
            "Resnet18, from random weights",
            (0.511, 0.67, 0.852),
            [scratch[key]["value"] for key in keys],
        ),
        (
            "frozen network, new last layer (report: Resnet18)",
            (0.852, 0.886, 0.932),
            [last.get(key) for key in keys],
        ),
    )
    cells = [
        [name, *(f"{figure(a)} / {figure(b)}" for a, b in zip(reported, ours, strict=True))]
        for name, reported, ours in lines
    ]
    return table(["report / ours", "top-1", "top-3", "top-10"], cells)


FIGURES: Mapping[str, Callable[[Path], str]] = {
    "two-monuments": two_monuments,
    "landmark-capstone": landmark_capstone,
    "query-and-gallery": query_and_gallery,
    "image-search-engine": image_search_engine,
    "seventeen-networks": seventeen_networks,
}
"""Page → what makes its table from the folder where its commands ran."""


def retrieval(
    folder: Path,
    figures: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None], str | None]],
) -> str:
    """Return a table of retrieval figures, report / ours.

    Args:
        folder: where the commands ran.
        figures: keys of report.json.
        rows: what ranked, the numbers of the report, and the folder in `reports`.
    """
    lines, counts = [], ""
    for name, reported, report in rows:
        values: Mapping[str, Any] = {}
        if report is not None:
            values = read_json(folder / "reports" / report / "report.json")
            queries = values["queries"]
            count = len(queries) if isinstance(queries, list) else queries
            counts = f"Ours: {count} queries."
        cells = [
            f"{figure(theirs)} / {figure(values.get(key))}"
            for key, theirs in zip(figures, reported, strict=True)
        ]
        lines.append([name, *cells])
    head = ["report / ours", *(key.replace("top", "top-") for key in figures)]
    return f"{table(head, lines)}\n\n{counts}"


def classification(confusion: Path) -> tuple[list[str], list[tuple[float, float, float, float]]]:
    """Return the classes of a confusion.csv, and precision, recall, F1 and support of each."""
    with confusion.open(encoding="utf-8", newline="") as lines:
        (_, *names), *rows = csv.reader(lines)
    counts = {row[0]: dict(zip(names, map(int, row[1:]), strict=True)) for row in rows}
    figures = []
    for name, answers in counts.items():
        right = answers.get(name, 0)
        shown = sum(answers.values())
        answered = sum(row.get(name, 0) for row in counts.values())
        precision = right / answered if answered else 0.0
        recall = right / shown if shown else 0.0
        both = precision + recall
        figures.append((precision, recall, 2 * precision * recall / both if both else 0.0, shown))
    return list(counts), figures


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure with a fixed number of digits, or a dash where there is none."""
    return MISSING if value is None else f"{value:.{digits}f}"


def read_json(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content
