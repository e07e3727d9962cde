"""From the nearest descriptors to a ranking by evidence, with a probability for each hit.

Filter, verify, let the gallery speak: the nearest photos by descriptor come in; the first of them
are verified by geometry; the best of them is looked up in the neighbour graph, which brings in
photos that show the same from elsewhere; and what all this is worth becomes one probability
(`veduta.index.calibration`), by which the hits are ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.index import Manifest, Snapshot, open_snapshot
from veduta.index.calibration import (
    UNREACHED,
    Calibration,
    Values,
    calibration_of,
    probability,
)
from veduta.index.graph import Graph, open_graph, sample_rows
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.table import newest_version
from veduta.keypoints import Keypoints, Verification, verify_many
from veduta.search import exact
from veduta.search.diffusion import nearness
from veduta.search.options import RERANK_MODES, VERIFIED_PHOTOS


@dataclass(frozen=True, slots=True)
class Gallery:
    """One version of a collection, with all that can be evidence.

    `keypoints` is None where the index has none, `graph` where it is not made (yet).
    """

    snapshot: Snapshot
    calibration: Calibration
    keypoints: StoredKeypoints | None
    graph: Graph | None


def open_gallery(index: Path) -> Gallery:
    """Open the newest version of the index at `index`.

    Raises:
        NotAnIndex, IndexDamaged: see `veduta.errors`.
    """
    manifest = Manifest.read(index)
    snapshot = open_snapshot(index)
    graph = open_graph(index, manifest)
    version = newest_version(index)
    if version is None or version.number != snapshot.version:
        graph = None  # a writer has moved on meanwhile: its rows are not those of the snapshot
    return Gallery(
        snapshot=snapshot,
        calibration=calibration_of(str(manifest.encoder["identity"])),
        keypoints=StoredKeypoints(index, snapshot) if manifest.keypoints else None,
        graph=graph,
    )


def resolve_rerank(rerank: str, distance: str, *, keypoints: bool) -> str:
    """Return what `rerank`, one of `RERANK_MODES`, comes to: "none", "global" or "geometry".

    Args:
        rerank: as asked for.
        distance: how descriptors are compared; only cosine is ranked again.
        keypoints: whether the gallery has keypoints.

    Raises:
        QueryError: that does not exist, or not for this distance or this gallery.
    """
    if rerank not in RERANK_MODES:
        raise QueryError(f"{rerank!r} is no way to rank again. Known: {', '.join(RERANK_MODES)}.")
    if distance != "cosine" and rerank not in {"auto", "none"}:
        raise QueryError(f"--rerank {rerank} goes with the cosine distance only.")
    if rerank == "geometry" and not keypoints:
        raise QueryError(
            "This index has no keypoints, which --rerank geometry needs. Index the photos "
            "again into another folder, without --keypoints none."
        )
    if rerank != "auto":
        return rerank
    if distance != "cosine":
        return "none"
    return "geometry" if keypoints else "global"


@dataclass(frozen=True, slots=True)
class Geometry:
    """What one of the query's photos and a gallery photo agree on."""

    query: Keypoints
    found: Keypoints
    verification: Verification


@dataclass(frozen=True, slots=True)
class Ranking:
    """Gallery photos, best first.

    Attributes:
        rows: (m,) of the snapshot.
        similarities: (m,) cosine.
        probabilities: (m,) that they show what the query shows, descending.
        geometry: by row, of the rows that were verified.
        weighed: whether evidence was weighed; if not, `probabilities` are the similarities.
    """

    rows: NDArray[np.intp]
    similarities: NDArray[np.float32]
    probabilities: NDArray[np.floating[Any]]
    geometry: dict[int, Geometry] = field(default_factory=dict)
    weighed: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of m gallery photos before it is weighed.

    Attributes:
        rows: (m,) of the snapshot.
        similarities: (m,) cosine.
        deviations: (m,) the same in standard deviations from what is usual for the query.
        agreeing: (m,) matches that do, see `veduta.keypoints.Verification`; zero where the
            geometry was not looked at.
        pair: (m,) log-odds of each photo by itself.
        best: log-odds of the best of them, taken more carefully: of a query that resembles nothing
            in the collection all similarities are small and close together, so that the first
            stands out by many deviations and means nothing. This asks for the usual spread.
        nearness: (m,) to the best of them in the graph, in [0, 1]; None without a graph.
        geometry: by row, of the rows that were verified.
    """

    rows: NDArray[np.intp]
    similarities: NDArray[np.float32]
    deviations: NDArray[np.float32]
    agreeing: NDArray[np.float64]
    pair: NDArray[np.floating[Any]]
    best: float
    nearness: NDArray[np.float64] | None
    geometry: dict[int, Geometry]


def rerank(
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
    keep: NDArray[np.bool_] | None = None,
    without: Sequence[int] = (),
) -> Ranking:
    """Rank the nearest photos, and those that the graph brings in, by all evidence.

    The arguments are those of `gather`.
    """
    if not len(rows):
        return Ranking(rows, similarities, np.empty(0))
    found = gather(
        gallery,
        descriptor,
        keypoints,
        rows,
        similarities,
        verify=verify,
        keep=keep,
        without=without,
    )
    if found.nearness is None:
        logits = found.pair + (found.best - found.pair.max())
    else:
        logits = gallery.calibration.found_logit(
            found.pair, found.nearness, found.best, geometry=bool(found.geometry)
        )
    order = np.lexsort((found.rows, -found.similarities, -logits))
    return Ranking(
        found.rows[order], found.similarities[order], probability(logits[order]), found.geometry
    )


def gather(
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
    keep: NDArray[np.bool_] | None = None,
    without: Sequence[int] = (),
) -> Findings:
    """Collect what is known of the nearest photos, and of those that the graph brings in.

    Args:
        gallery: the collection.
        descriptor: (d,) float32 of the query.
        keypoints: of the query's photos; empty: geometry is left out.
        rows: (m,) at least one, nearest photos by descriptor, nearest first.
        similarities: (m,) their cosine similarity.
        verify: how many of them to verify.
        keep: (n,) bool, the rows that may come in through the graph; None: all.
        without: rows that are taken as not being there: the query's own.
    """
    geometry: dict[int, Geometry] = {}
    if keypoints and gallery.keypoints is not None:
        geometry = _verify(keypoints, gallery.keypoints, rows[:verify].tolist())
    mean, spread = _usual(gallery, descriptor, without)
    careful = max(spread, gallery.calibration.background.spread)

    def weigh(above: Values, agreeing: Values) -> Values:
        if geometry:
            return gallery.calibration.pair_logit(above, agreeing)
        return gallery.calibration.alike_logit(above)

    agreeing = _agreeing(rows, geometry)
    above = similarities - mean
    pair = weigh(above / spread, agreeing)
    first = int(pair.argmax())
    best = float(weigh(above[first] / careful, agreeing[first]))
    shares = None
    if gallery.graph is not None:
        reached, nearby = nearness(gallery.graph, int(rows[first]), without=without)
        shares = np.zeros(gallery.snapshot.photos)
        shares[reached] = nearby
        worth = (nearby > UNREACHED) & ~np.isin(reached, rows)
        if keep is not None:
            worth &= keep[reached]
        more = reached[worth]
        rows = np.concatenate([rows, more])
        similarities = np.concatenate(
            [similarities, exact.score(gallery.snapshot, descriptor, more)]
        )
        agreeing = np.concatenate([agreeing, np.zeros(len(more))])
        pair = weigh((similarities - mean) / spread, agreeing)
    return Findings(
        rows=rows,
        similarities=similarities,
        deviations=((similarities - mean) / spread).astype(np.float32),
        agreeing=agreeing,
        pair=pair,
        best=best,
        nearness=None if shares is None else shares[rows],
        geometry=geometry,
    )


def _verify(
    queries: Sequence[Keypoints], stored: StoredKeypoints, rows: Sequence[int]
) -> dict[int, Geometry]:
    """Verify each row against the query's photos; of several the most agreeing counts."""
    others = [stored.read(row) for row in rows]
    found: dict[int, Geometry] = {}
    for query in queries:
        for row, other, verification in zip(rows, others, verify_many(query, others), strict=True):
            before = found.get(row)
            if before is None or verification.agreeing > before.verification.agreeing:
                found[row] = Geometry(query, other, verification)
    return found


def _usual(
    gallery: Gallery, descriptor: NDArray[np.float32], without: Sequence[int]
) -> tuple[float, float]:
    """Return mean and spread of the query's similarity to the collection."""
    sample = np.setdiff1d(sample_rows(gallery.snapshot.photos), without)
    similar = exact.score(gallery.snapshot, descriptor, sample)
    mean, spread = gallery.calibration.background.measured(similar[None])
    return float(mean[0]), float(spread[0])


def _agreeing(rows: NDArray[np.intp], geometry: dict[int, Geometry]) -> NDArray[np.float64]:
    agreeing = np.zeros(len(rows))
    for at, row in enumerate(rows.tolist()):
        if (of := geometry.get(row)) is not None:
            agreeing[at] = of.verification.agreeing
    return agreeing
