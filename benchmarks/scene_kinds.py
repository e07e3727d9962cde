"""Small scenes by their kind: what geometry and the graph are worth on each.

    python -m benchmarks.scene_kinds --data ../shared/data --docs docs/reranking.md

scenes has 119 scenes of two to six photos, of seven kinds. The weights of the evidence were fitted
on it, among others. So it is measured with weights that were fitted without it, too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.probabilities import weights_without
from benchmarks.report import parser, publish, table
from benchmarks.reranking import PhotoSet, open_set
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.evaluation.metrics import QueryResult, judge
from veduta.index import Manifest, open_snapshot
from veduta.index.graph import build_graph
from veduta.keypoints import load_extractor
from veduta.search import exact
from veduta.search.reranking import Gallery, open_gallery, rerank

SET = "scenes"
EASY_SHARE = 1 / 3
WAYS = ALONE, GLOBAL, VERIFIED, BOTH = (
    "descriptor alone",
    "graph without geometry",
    "geometry without graph",
    "default",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One query.

    Attributes:
        scene: that it shows.
        margin: by how much its nearest right photo is nearer than the nearest wrong one.
        results: by each way of ranking.
    """

    scene: str
    margin: float
    results: dict[str, QueryResult]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    options = parser("scene_kinds", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, [SET])
    photos = open_set(open_dataset(chosen.data / SET))
    shipped = asked(photos, photos.gallery)
    parts = ["With the weights of the package:", table_of_kinds(shipped)]
    with (
        weights_without(SET, chosen.data, chosen.work / "calibration"),
        linked_again(chosen.data / SET) as gallery,
    ):
        left_out = asked(photos, gallery)
    parts += ["With weights that were fitted on same_place and objects20 alone:"]
    parts += [table_of_kinds(left_out)]
    parts += [
        "Top-1 / mAP. The easy third are the scenes whose right photos are nearer than wrong ones "
        "by the largest margin, by descriptor alone."
    ]
    publish("scene_kinds", "\n\n".join(parts), chosen.docs)


def asked(photos: PhotoSet, gallery: Gallery) -> list[Asked]:
    """Ask each query in each way."""
    snapshot = gallery.snapshot
    labels = photos.dataset.labels
    without_graph = replace(gallery, graph=None)
    found = []
    for number, descriptor in enumerate(photos.queries):
        rows, similarities = exact.nearest(snapshot, descriptor, snapshot.photos)
        keypoints = [photos.keypoints(number)]
        rankings = {
            ALONE: (rows, similarities),
            GLOBAL: ranked(gallery, descriptor, [], rows, similarities),
            VERIFIED: ranked(without_graph, descriptor, keypoints, rows, similarities),
            BOTH: ranked(gallery, descriptor, keypoints, rows, similarities),
        }
        relevant = photos.protocol.relevant(number)
        scores = {}
        for name, (order, values) in rankings.items():
            of_rows = np.zeros(snapshot.photos)
            of_rows[order] = values
            scores[name] = of_rows[photos.rows]
        results = {name: judge("", None, one, relevant, keep=0) for name, one in scores.items()}
        alone = scores[ALONE]
        margin = float(alone[relevant].max() - alone[~relevant].max())
        scene = str(labels[int(photos.protocol.queries[number])])
        found.append(Asked(scene, margin, results))
    return found


def ranked(gallery: Gallery, *query: Any) -> tuple[NDArray[np.intp], NDArray[np.floating[Any]]]:
    """Return rows and scores of a search."""
    ranking = rerank(gallery, *query)
    return ranking.rows, ranking.scores


@contextmanager
def linked_again(folder: Path) -> Iterator[Gallery]:
    """Link a copy of the index of a set with the weights that are in use now."""
    indexed = index_dataset(
        open_dataset(folder), retrieval_protocol, load_encoder(DEFAULT), load_extractor(), None
    )
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "index"
        shutil.copytree(indexed.gallery_index, copy)
        shutil.rmtree(copy / "graph")
        build_graph(copy, Manifest.read(copy), open_snapshot(copy))
        yield open_gallery(copy)


def table_of_kinds(queries: Sequence[Asked]) -> str:
    """Return a table with a row for each kind of scene, for all, and for all but the easy ones."""
    kinds = sorted({query.scene.partition("_")[0] for query in queries})
    groups = {
        f"`{kind}_`": [one for one in queries if one.scene.startswith(kind)] for kind in kinds
    }
    groups["all"] = list(queries)
    groups["all but the easy third"] = without_easy(queries)
    rows = [
        [
            name,
            len({one.scene for one in members}),
            len(members),
            *(top1_and_map([one.results[way] for one in members]) for way in WAYS),
        ]
        for name, members in groups.items()
    ]
    return table(["kind", "scenes", "queries", *WAYS], rows)


def without_easy(queries: Sequence[Asked]) -> list[Asked]:
    """Return the queries without those of the third of the scenes with the largest margins."""
    margins: dict[str, list[float]] = {}
    for query in queries:
        margins.setdefault(query.scene, []).append(query.margin)
    by_margin = sorted(margins, key=lambda scene: float(np.mean(margins[scene])))
    hard = set(by_margin[: round(len(by_margin) * (1 - EASY_SHARE))])
    return [query for query in queries if query.scene in hard]


def top1_and_map(results: Sequence[QueryResult]) -> str:
    top1 = np.mean([result.right_within(1) for result in results])
    return f"{top1:.3f} / {np.mean([result.ap for result in results]):.3f}"


if __name__ == "__main__":
    main()
