"""How far the probabilities of hits hold on a collection that no weight was fitted on.

    python -m benchmarks.probabilities --data ../shared/data --docs docs/reranking.md

The queries of each set are asked as they are, and again while all their right answers are hidden,
as for a query that the collection does not have. landmarks30 has such queries of its own, the
outsiders of `labels_openset.csv`. Known and unknown queries weigh the same. A set is measured once
without labels, by the weights as they were fitted, and once with the labels of its gallery, from
which the index learns by asking itself.

The shipped weights were fitted on same_place, objects20 and scenes. Each of these sets is measured
with weights that `tools/fit_calibration.py` fits on the other two.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, corridor_positives, require_sets
from benchmarks.report import parser, publish, table
from benchmarks.reranking import expected_calibration_error, with_outsiders
from veduta.datasets import Dataset, open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import IndexedDataset, index_dataset
from veduta.index import calibration, update_index
from veduta.keypoints import Keypoints, load_extractor
from veduta.search import exact
from veduta.search.reranking import Gallery, open_gallery, rerank

FITTED_SETS = ("same_place", "objects20", "scenes")
SETS = ("landmarks30", "domains4", *FITTED_SETS)
FIRST_HITS = 10
LANDMARKS = "landmarks30"

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a set.

    Attributes:
        descriptor: (d,).
        keypoints: of the photo.
        right: (n,) bool, rows of the gallery that show the same.
        alike: (n,) bool, rows that are hidden with them: right, or with the same label.
    """

    descriptor: NDArray[np.float32]
    keypoints: Keypoints
    right: NDArray[np.bool_]
    alike: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hits:
    """The first hits of all queries of one kind, one query a row.

    Attributes:
        probabilities: (q, h).
        right: (q, h) bool.
    """

    probabilities: Values
    right: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("probabilities", __doc__)
    add_data_option(options)
    options.add_argument("--sets", nargs="+", default=SETS, help="which sets to measure")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, chosen.sets)
    rows = []
    for name in chosen.sets:
        with weights_without(name, chosen.data, chosen.work / "calibration"):
            rows += rows_of_set(chosen.data / name)
    columns = [
        "set",
        "first hit, ECE",
        "ten hits, ECE",
        "known, first hit: mean, right",
        "known, ten hits: mean, right",
        "hidden, first hit: mean",
        "outsiders, first hit: mean",
    ]
    publish("probabilities", table(columns, rows), chosen.docs)


@contextmanager
def weights_without(name: str, data: Path, work: Path) -> Iterator[None]:
    """Let searches use weights that were not fitted on a set."""
    if name not in FITTED_SETS:
        yield
        return
    shipped = calibration.FILE
    weights = work / f"without-{name}.json"
    others = [other for other in FITTED_SETS if other != name]
    fitting = [sys.executable, "-m", "tools.fit_calibration", "--encoder", DEFAULT]
    folders = ["--data", str(data), "--work", str(work), "--into", str(weights)]
    subprocess.run([*fitting, *folders, "--sets", *others], check=True)
    calibration.FILE = weights
    calibration.clear_cache()
    try:
        yield
    finally:
        calibration.FILE = shipped
        calibration.clear_cache()


def rows_of_set(folder: Path) -> Iterator[list[object]]:
    """Yield a row of the table without labels, and one with them."""
    is_open = folder.name == LANDMARKS
    dataset = with_outsiders(folder) if is_open else open_dataset(folder)
    network, extractor = load_encoder(DEFAULT), load_extractor()
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, None)
    with tempfile.TemporaryDirectory() as work:
        labelled = Path(work) / "index"
        shutil.copytree(indexed.gallery_index, labelled)
        files = gallery_files(indexed)
        rule = write_labels(Path(work) / "labels.csv", indexed.dataset, files)
        paths = [Path(path) for path in files]
        # Without the labels, too: the graph may be older than the weights.
        for name, labels in (("no labels", "none"), ("labels", rule)):
            shutil.rmtree(labelled / "graph")
            update_index(labelled, paths, network, extractor, labels=labels)
            print(folder.name, name, open_gallery(labelled).graph.by_geometry, flush=True)  # type: ignore[union-attr]
            gallery = open_gallery(labelled)
            yield [f"{folder.name}, {name}", *figures(gallery, list(queries_of(indexed, gallery)))]


def figures(gallery: Gallery, queries: Sequence[Query]) -> list[str]:
    """Return the figures of one row."""
    inside = [query for query in queries if query.right.any()]
    kinds = {
        "known": hits_of(gallery, inside, hidden=False),
        "hidden": hits_of(gallery, inside, hidden=True),
    }
    outside = [query for query in queries if not query.right.any()]
    if outside:
        kinds["outsiders"] = hits_of(gallery, outside, hidden=False)
    known = kinds["known"]
    return [
        f"{weighted_error(kinds, 1):.3f}",
        f"{weighted_error(kinds, FIRST_HITS):.3f}",
        f"{known.probabilities[:, 0].mean():.2f}, {known.right[:, 0].mean():.2f}",
        f"{known.probabilities.mean():.2f}, {known.right.mean():.2f}",
        f"{kinds['hidden'].probabilities[:, 0].mean():.2f}",
        f"{kinds['outsiders'].probabilities[:, 0].mean():.2f}" if outside else "–",
    ]


def hits_of(gallery: Gallery, queries: Sequence[Query], *, hidden: bool) -> Hits:
    """Search for each query as a user does, with or without its right answers."""
    n = gallery.snapshot.photos
    probabilities, right = [], []
    for query in queries:
        keep = ~query.alike if hidden else np.ones(n, np.bool_)
        rows, similarities = exact.nearest(gallery.snapshot, query.descriptor, 50, keep)
        ranking = rerank(
            gallery,
            query.descriptor,
            [query.keypoints],
            rows,
            similarities,
            keep=keep,
            without=np.flatnonzero(~keep).tolist(),
        )
        best = ranking.rows[:FIRST_HITS]
        probabilities.append(ranking.scores[:FIRST_HITS])
        right.append(query.right[best])
    return Hits(np.array(probabilities), np.array(right))


def weighted_error(kinds: dict[str, Hits], count: int) -> float:
    """Return the calibration error of the first hits. Known queries weigh as much as all others."""
    probabilities, right, weights = [], [], []
    for name, hits in kinds.items():
        part = hits.probabilities[:, :count].ravel()
        weight = 1.0 if name == "known" else 1.0 / (len(kinds) - 1)
        probabilities.append(part)
        right.append(hits.right[:, :count].ravel())
        weights.append(np.full(len(part), weight / len(part)))
    return expected_calibration_error(
        np.concatenate(probabilities), np.concatenate(right), np.concatenate(weights)
    )


# --- the sets ------------------------------------------------------------------------------------


def gallery_files(indexed: IndexedDataset) -> dict[str, int]:
    """Return the number in the dataset of each file of the gallery."""
    paths = indexed.dataset.table["path"].to_pylist()
    root = indexed.dataset.root
    return {os.path.abspath(root / paths[number]): number for number in indexed.protocol.gallery}


def write_labels(file: Path, dataset: Dataset, files: dict[str, int]) -> Path:
    """Write the labels of the gallery, as a user would name them. Distractors have none."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label"])
        for path, number in files.items():
            label, split = dataset.labels[number], dataset.splits[number]
            rows.writerow([path, label if label and split != "distractor" else ""])
    return file


def queries_of(indexed: IndexedDataset, gallery: Gallery) -> Iterator[Query]:
    """Yield the queries of a set, for an index of its gallery."""
    rows = indexed.gallery_rows(gallery.snapshot)
    descriptors, keypoints = indexed.query_descriptors(), indexed.query_keypoints()
    paths = indexed.dataset.table["path"].to_pylist()
    row_of = {paths[n]: int(row) for n, row in zip(indexed.protocol.gallery, rows, strict=True)}
    positives = corridor_positives(indexed.dataset.root)
    for number, photo in enumerate(indexed.protocol.queries):
        right = np.zeros(gallery.snapshot.photos, np.bool_)
        right[rows[indexed.protocol.relevant(number)]] = True
        alike = right.copy()
        if listed := positives.get(paths[photo]):
            right[[row_of[path] for path in listed]] = True
            alike |= right
        yield Query(descriptors[number], keypoints(number), right, alike)


if __name__ == "__main__":
    main()
