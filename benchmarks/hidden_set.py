"""landmarks30 hidden among a million distractors: mAP of the exact search and of that by cells.

The distractors are generated from the descriptors of other sets. The gallery and the queries are
those of landmarks30. Photos are ranked by their descriptors alone, and a ranking has the nearest
1,000 photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fake_encoder import FakeEncoder
from benchmarks.generated_descriptors import Generator, real_descriptors
from benchmarks.generated_index import append_generated
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import check_target, parser, publish, table
from veduta import api
from veduta.datasets import read_dataset
from veduta.index import Manifest, create_index, open_snapshot
from veduta.index.cell_files import CELLS_FROM_PHOTOS, update_cells
from veduta.index.snapshot import as_float32, build_snapshot
from veduta.index.table import open_table
from veduta.search import approximate, exact

SET = "landmarks30"
OTHERS = ("same_place", "objects20", "domains4")
RANKED = 1000
MIN_SHARE = 0.95

Search = Callable[[NDArray[np.float32]], NDArray[np.intp]]


def main(arguments: list[str] | None = None) -> None:
    options = parser("hidden_set", __doc__)
    add_data_option(options)
    options.add_argument("--distractors", nargs="+", type=int, default=[100_000, 1_000_000])
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, (SET, *OTHERS))
    folders = [chosen.data / name for name in OTHERS]
    generator = Generator(real_descriptors(chosen.work / "of-other-sets", folders))
    lines = [measure(chosen, generator, number) for number in sorted(chosen.distractors)]
    text = table(
        [
            "distractors",
            "cells",
            "codes compared",
            "mAP, exact",
            "mAP, by cells",
            "share",
            "top-1, exact",
            "top-1, by cells",
        ],
        lines,
    )
    publish("hidden_set", f"{text}\n\nmAP of the first {RANKED:,} photos.", chosen.docs)


def measure(chosen: argparse.Namespace, generator: Generator, number: int) -> list[object]:
    """Return the line of a number of distractors."""
    gallery, queries, right = hidden(chosen.work, chosen.data / SET)
    folder = chosen.work / f"hidden-among-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    create_index(folder, FakeEncoder(gallery.shape[1]))
    try:
        table_of_index = open_table(folder)
        for rows in (gallery, *generator.blocks(3, number)):
            append_generated(table_of_index, rows)
        table_of_index.tidy()
        manifest = Manifest.read(folder)
        snapshot = build_snapshot(folder, manifest, table_of_index)
        stored = update_cells(folder, manifest, snapshot)
        if stored is None:
            raise SystemExit(f"{number:,} distractors are too few for cells: {CELLS_FROM_PHOTOS:,}")
        ids = snapshot.rows["id"].to_numpy()
        by_exact = _figures(
            lambda query: ids[exact.nearest(snapshot, query, RANKED)[0]], queries, right
        )
        by_cells = _figures(
            lambda query: ids[approximate.nearest(snapshot, stored, query, RANKED)[0]],
            queries,
            right,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    share = by_cells[0] / by_exact[0]
    return [
        f"{number:,}",
        f"{len(stored.cells.centres):,}",
        f"{stored.compared:,}",
        f"{by_exact[0]:.4f}",
        f"{by_cells[0]:.4f}",
        f"{share:.4f} {check_target(share, MIN_SHARE, at_least=True)}",
        f"{by_exact[1]:.4f}",
        f"{by_cells[1]:.4f}",
    ]


def hidden(
    work: Path, folder: Path
) -> tuple[NDArray[np.float16], NDArray[np.float32], list[set[int]]]:
    """Return the descriptors of a gallery (g, d) and of queries (q, d), and what is right."""
    dataset = read_dataset(folder)
    made = api.open_or_create(work / f"descriptors-of-{folder.name}", keypoints="none")
    made.add(folder)
    snapshot = open_snapshot(made.path)
    row_of = {path: row for row, path in enumerate(snapshot.rows["path"].to_pylist())}
    rows: dict[str, list[int]] = {"gallery": [], "query": []}
    labels: dict[str, list[Any]] = {"gallery": [], "query": []}
    splits = dataset.table["split"].to_pylist()
    known = {
        label
        for label, split in zip(dataset.labels, splits, strict=True)
        if split != "query" and label is not None
    }
    for path, label, split in zip(dataset.paths, dataset.labels, splits, strict=True):
        side = "query" if split == "query" else "gallery"
        if side == "query" and label not in known:
            continue  # A stranger has no right answer.
        rows[side].append(row_of[os.path.abspath(dataset.root / path).encode()])
        labels[side].append(label)
    of_label: dict[Any, set[int]] = {}
    for place, label in enumerate(labels["gallery"]):
        if label is not None:
            of_label.setdefault(label, set()).add(place)
    return (
        snapshot.descriptors[rows["gallery"]],
        as_float32(snapshot.descriptors[rows["query"]]),
        [of_label[label] for label in labels["query"]],
    )


def _figures(
    search: Search, queries: NDArray[np.float32], right: list[set[int]]
) -> tuple[float, float]:
    """Return mAP of the first `RANKED` photos, and the share of right first ones."""
    precisions, firsts = [], []
    for query, wanted in zip(queries, right, strict=True):
        hits = np.array([row in wanted for row in search(query).tolist()])
        ranks = np.flatnonzero(hits) + 1
        precisions.append((np.arange(1, len(ranks) + 1) / ranks).sum() / min(RANKED, len(wanted)))
        firsts.append(bool(hits[0]))
    return float(np.mean(precisions)), float(np.mean(firsts))


if __name__ == "__main__":
    main()
