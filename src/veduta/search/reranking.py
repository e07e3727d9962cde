"""From the nearest photos to a ranking by all evidence, with a probability for each hit.

The nearest photos by descriptor are the candidates. The first of them are verified by geometry. The
best of them is looked up in the neighbour graph, which adds photos that show the same thing in
another way. All this evidence becomes one probability for each photo
(`veduta.index.calibration`), by which the hits are ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.index import Manifest, Snapshot, open_snapshot
from veduta.index.calibration import (
    MIN_NEARNESS,
    Calibration,
    Corrections,
    Values,
    calibration_of_index,
    probability,
)
from veduta.index.diffusion import nearness_of_rows
from veduta.index.distinct_photos import first_of_copies, sample_rows
from veduta.index.graph import Graph, open_graph
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.keypoints import MIN_INLIERS, Keypoints, Matching, Verification, verify_many
from veduta.search import exact
from veduta.search.best_first import best_first
from veduta.search.hit import ScoreKind
from veduta.search.options import RERANK_MODES, VERIFIED_PHOTOS
from veduta.search.region_matches import RegionMatches
from veduta.search.verdict import MAX_DIFFERENT_PROBABILITY
from veduta.search.watching import watcher

_LIMIT_MARGIN = 0.1
"""Log-odds that come so near to a limit, or go beyond it, are moved below it."""

_MAX_UNVERIFIED_LOGIT = float(np.log(MAX_DIFFERENT_PROBABILITY / (1 - MAX_DIFFERENT_PROBABILITY)))
"""A region that is not verified lifts no photo above these log-odds, nor above the first hit. So it
orders only photos that a search calls different."""

__all__ = [
    "CandidateEvidence",
    "Gallery",
    "PairGeometry",
    "Ranking",
    "gather_evidence",
    "open_gallery",
    "rerank",
    "resolve_rerank",
]


@dataclass(frozen=True)
class Gallery:
    """One version of a collection, with everything that can be evidence.

    Attributes:
        snapshot: its photos.
        calibration: of its encoder with its keypoints.
        keypoints: of its photos; None if the index has none.
        graph: None if it is not made (yet).
        matching: how its keypoints are matched; None if there are none.
    """

    snapshot: Snapshot
    calibration: Calibration
    keypoints: StoredKeypoints | None
    graph: Graph | None
    matching: Matching | None

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Rows that represent the collection, see `veduta.index.distinct_photos.sample_rows`."""
        return sample_rows(self.snapshot)

    @cached_property
    def sample_descriptors(self) -> NDArray[np.float32]:
        """(s, d), those of `sample`, which every search compares with its query."""
        return self.snapshot.take(self.sample)

    @cached_property
    def _mean_descriptor(self) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = self.sample_descriptors.mean(axis=0)
        return mean

    def stands_out(
        self, descriptor: NDArray[np.float32], similarities: NDArray[np.float32] | Sequence[float]
    ) -> bool:
        """Whether the best similarity of a query is nearer to that of a copy, 1, than to the usual.

        The usual similarity is the mean of the query with the photos of the collection. Turned
        photos rarely resemble upright ones so much (`python -m benchmarks.turned`).

        Args:
            descriptor: (d,) float32 of the query, of length one.
            similarities: (m,) cosine, of the query with photos of the collection.
        """
        if not len(similarities):
            return False
        best = max(similarities)
        return bool(1 - best <= best - float(descriptor @ self._mean_descriptor))


def open_gallery(index: Path) -> Gallery:
    """Open the newest version of an index.

    Args:
        index: its folder.

    Raises:
        NotAnIndex: there is no index in the folder.
        IndexDamaged: the index cannot be read.
    """
    manifest = Manifest.read(index)
    snapshot = open_snapshot(index)
    extractor = extractor_of_index(manifest)
    return Gallery(
        snapshot=snapshot,
        calibration=calibration_of_index(manifest),
        keypoints=StoredKeypoints(index, snapshot) if extractor else None,
        graph=open_graph(index, manifest, snapshot.name),
        matching=extractor.matching if extractor else None,
    )


def resolve_rerank(rerank: str, distance: str, *, keypoints: bool) -> str:
    """Return what a re-ranking mode means for a search: "none", "global" or "geometry".

    Args:
        rerank: one of `RERANK_MODES`.
        distance: how descriptors are compared. Only hits by cosine are re-ranked.
        keypoints: whether the gallery has keypoints.

    Raises:
        QueryError: there is no such mode, or it does not go with this distance or this gallery.
    """
    if rerank not in RERANK_MODES:
        raise QueryError(f"There is no way to rerank {rerank!r}. Known: {', '.join(RERANK_MODES)}.")
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
class PairGeometry:
    """The geometry of one of the query's photos and a gallery photo.

    Attributes:
        query: the keypoints of the query photo.
        other: the keypoints of the gallery photo.
        verification: of the two.
        in_region: whether this verifies the region in which the photo shows most of the query.
    """

    query: Keypoints
    other: Keypoints
    verification: Verification
    in_region: bool = False


@dataclass(frozen=True, slots=True)
class Ranking:
    """Gallery photos, best first.

    Attributes:
        rows: (m,) of the snapshot.
        similarities: (m,) cosine.
        scores: (m,) by which the photos are ranked, descending.
        geometry: by row, of the rows that were verified.
        score_kind: what the scores are.
        found_in: by row, the number of the region (`RegionMatches.regions`) that is verified and
            stands out more than the whole photo.
    """

    rows: NDArray[np.intp]
    similarities: NDArray[np.float32]
    scores: NDArray[np.floating[Any]]
    geometry: dict[int, PairGeometry] = field(default_factory=dict)
    score_kind: ScoreKind = "probability"
    found_in: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CandidateEvidence:
    """The evidence for m gallery photos.

    Attributes:
        rows: (m,) of the snapshot.
        similarities: (m,) cosine.
        deviations: (m,) the similarities in standard deviations above the mean of the query; those
            of the best region where it is verified and they are higher.
        consistent_matches: (m,) see `veduta.keypoints.Verification`; zero for a photo that was not
            verified.
        pair: (m,) log-odds of each photo by itself.
        by_regions: (m,) the same, if regions counted that are not verified. None: without regions.
        first: log-odds of the photo that is the best by itself, as the first hit of a search, for
            this collection (`Calibration.first_logit`).
        first_deviations: of that photo, see `Calibration.first_logit`.
        nearness: (m,) to the first photo in the graph, in [0, 1]; None without a graph.
        geometry: by row, of the rows that were verified.
        found_in: see `Ranking.found_in`.
    """

    rows: NDArray[np.intp]
    similarities: NDArray[np.float32]
    deviations: NDArray[np.float32]
    consistent_matches: NDArray[np.float64]
    pair: NDArray[np.floating[Any]]
    by_regions: NDArray[np.floating[Any]] | None
    first: float
    first_deviations: float
    nearness: NDArray[np.float64] | None
    geometry: dict[int, PairGeometry]
    found_in: dict[int, int] = field(default_factory=dict)


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
    regions: RegionMatches | None = None,
) -> Ranking:
    """Rank the nearest photos, and those that the graph adds, by all evidence.

    The arguments are those of `gather_evidence`.

    Args:
        gallery: the collection.
        descriptor: (d,) float32 of the query.
        keypoints: of the query's photos.
        rows: (m,) nearest photos by descriptor.
        similarities: (m,) their cosine similarity.
        verify: how many of them are verified.
        keep: (n,) bool, the rows that the graph may add.
        without: rows that are ignored.
        regions: how well the query matches the regions of all photos; None: they do not count.
    """
    if not len(rows):
        return Ranking(rows, similarities, np.empty(0))
    evidence = gather_evidence(
        gallery,
        descriptor,
        keypoints,
        rows,
        similarities,
        verify=verify,
        keep=keep,
        without=without,
        regions=regions,
    )
    logits = _hit_logits(gallery, evidence)
    order = best_first(gallery.snapshot, evidence.rows, logits, evidence.similarities)
    calibrated = gallery.calibration.geometry_is_calibrated or not evidence.geometry
    return Ranking(
        rows=evidence.rows[order],
        similarities=evidence.similarities[order],
        scores=probability(logits[order]),
        geometry=evidence.geometry,
        score_kind="probability" if calibrated else "evidence",
        found_in=evidence.found_in,
    )


def _corrections(gallery: Gallery, *, geometry: bool) -> Corrections:
    """Return what the collection learned about itself, for evidence with or without geometry."""
    if gallery.graph is None:
        return Corrections()
    return gallery.graph.by_geometry if geometry else gallery.graph.by_similarity


def _hit_logits(gallery: Gallery, evidence: CandidateEvidence) -> Values:
    """Return the log-odds (m,), by which the photos are ranked."""
    logits = _logits(gallery, evidence, evidence.pair)
    if evidence.by_regions is None:
        return logits
    limit = min(_MAX_UNVERIFIED_LOGIT, float(logits.max()))
    return np.maximum(logits, _below(limit, _logits(gallery, evidence, evidence.by_regions)))


def _logits(gallery: Gallery, evidence: CandidateEvidence, pair: Values) -> Values:
    """Return the log-odds (m,) of photos with these log-odds (m,) by themselves."""
    first = evidence.first
    if evidence.nearness is None:
        alone: Values = pair + (first - float(evidence.pair.max()))
        return alone
    logits = gallery.calibration.hit_logit(
        pair,
        evidence.nearness,
        first,
        geometry=bool(evidence.geometry),
        correction=_corrections(gallery, geometry=bool(evidence.geometry)).further,
    )
    # The graph knows further hits by the first one, so none of them is more certain.
    is_first = evidence.pair == evidence.pair.max()
    return np.where(is_first, first, _below(first, logits))


def _below(limit: float, logits: Values) -> Values:
    """Return log-odds below a limit, in the same order. Only those near it or above it change."""
    beyond = np.maximum(logits - (limit - _LIMIT_MARGIN), 0) / _LIMIT_MARGIN
    return np.where(beyond > 0, limit - _LIMIT_MARGIN / (1 + beyond), logits)


def gather_evidence(
    gallery: Gallery,
    descriptor: NDArray[np.float32],
    keypoints: Sequence[Keypoints],
    rows: NDArray[np.intp],
    similarities: NDArray[np.float32],
    *,
    verify: int = VERIFIED_PHOTOS,
    keep: NDArray[np.bool_] | None = None,
    without: Sequence[int] = (),
    regions: RegionMatches | None = None,
) -> CandidateEvidence:
    """Collect the evidence for the nearest photos, and for those that the graph adds.

    Args:
        gallery: the collection.
        descriptor: (d,) float32 of the query, of length one.
        keypoints: of the query's photos. Those with fewer keypoints than a model asks inliers for
            are not verified, because that would prove nothing. If none is left, the evidence is
            that without geometry.
        rows: (m,) nearest photos by descriptor, nearest first, at least one.
        similarities: (m,) their cosine similarity.
        verify: how many of them are verified.
        keep: (n,) bool, the rows that the graph may add. None: all.
        without: rows that are ignored as if they were not in the gallery: the query's own.
        regions: how well the query matches the regions of all photos. The photos with the best
            regions are added. None: regions do not count, as without geometry.
    """
    keypoints = [one for one in keypoints if len(one) >= MIN_INLIERS]
    geometry = _verify_rows(gallery, keypoints, rows[:verify].tolist())
    if not geometry:
        regions = None
    if regions is not None:
        near = regions.nearest(verify, keep)
        near = near[~np.isin(near, without)]
        geometry |= _verify_in_regions(gallery, regions, near, geometry)
        added = np.setdiff1d(near, rows)
        added_similarities = exact.score(gallery.snapshot, descriptor, added)
        rows = np.concatenate([rows, added])
        similarities = np.concatenate([similarities, added_similarities])
    mean, std = _background_of_query(gallery, descriptor, without)
    cautious_std = max(std, gallery.calibration.background.std)

    def pair_logit(deviations: Values, consistent_matches: Values) -> Values:
        return gallery.calibration.pair_logit(deviations, consistent_matches if geometry else None)

    if gallery.graph is not None:
        _share_with_copies(gallery.graph, geometry, rows)
    consistent = _consistent_matches(rows, geometry)
    deviations = _deviations(rows, (similarities - mean) / std, regions, geometry)
    pair = pair_logit(deviations, consistent)
    first = int(pair.argmax())
    first_deviations = float((similarities[first] - mean) / cautious_std)
    if regions is not None and rows[first] in _rows_in_regions(geometry):
        first_deviations = max(first_deviations, float(regions.cautious_deviations[rows[first]]))
    first_logit = gallery.calibration.first_logit(
        np.asarray(first_deviations),
        consistent[first] if geometry else None,
        _corrections(gallery, geometry=bool(geometry)).first,
    )
    nearness_of_row = None
    if gallery.graph is not None:
        best_rows = rows[pair == pair[first]]
        nearness_of_row = nearness_of_rows(gallery.graph, best_rows, without=without)
        is_added = nearness_of_row > MIN_NEARNESS
        is_added[rows] = False
        if keep is not None:
            is_added &= keep
        added = np.flatnonzero(is_added)
        added_similarities = exact.score(gallery.snapshot, descriptor, added)
        rows = np.concatenate([rows, added])
        similarities = np.concatenate([similarities, added_similarities])
        _share_with_copies(gallery.graph, geometry, added)
        consistent = np.concatenate([consistent, _consistent_matches(added, geometry)])
        deviations = _deviations(rows, (similarities - mean) / std, regions, geometry)
        pair = pair_logit(deviations, consistent)
    found_in: dict[int, int] = {}
    by_regions = None
    if regions is not None:
        in_region = rows[deviations > (similarities - mean) / std]
        found_in = dict(zip(in_region.tolist(), regions.regions[in_region].tolist(), strict=True))
        by_regions = pair_logit(np.maximum(deviations, regions.deviations[rows]), consistent)
    return CandidateEvidence(
        rows=rows,
        similarities=similarities,
        deviations=deviations.astype(np.float32),
        consistent_matches=consistent,
        pair=pair,
        by_regions=by_regions,
        first=float(first_logit),
        first_deviations=first_deviations,
        nearness=None if nearness_of_row is None else nearness_of_row[rows],
        geometry=geometry,
        found_in=found_in,
    )


def _verify_rows(
    gallery: Gallery, queries: Sequence[Keypoints], rows: Sequence[int]
) -> dict[int, PairGeometry]:
    """Verify each row with each of the query's photos, and keep the most consistent result.

    Of copies the first one is verified.
    """
    geometry: dict[int, PairGeometry] = {}
    if not queries or gallery.keypoints is None or gallery.matching is None:
        return geometry
    copied = first_of_copies(gallery.snapshot, rows)
    different = list(dict.fromkeys(copied))
    others = [gallery.keypoints.read(row) for row in different]
    told = watcher()
    for number, query in enumerate(queries):

        def note(done: int, before: int = number * len(different)) -> None:
            if told is not None:
                told.verified(before + done, len(queries) * len(different))

        verifications = verify_many(query, others, gallery.matching, on_verified=note)
        for row, other, verification in zip(different, others, verifications, strict=True):
            best = geometry.get(row)
            if (
                best is None
                or verification.consistent_matches > best.verification.consistent_matches
            ):
                geometry[row] = PairGeometry(query, other, verification)
    return {row: geometry[first] for row, first in zip(rows, copied, strict=True)}


def _verify_in_regions(
    gallery: Gallery,
    regions: RegionMatches,
    rows: NDArray[np.intp],
    known: dict[int, PairGeometry],
) -> dict[int, PairGeometry]:
    """Return the rows whose geometry agrees with the query as it looks from further away.

    A region of a photo of something else often resembles the query by chance. So more matches must
    be consistent than in any two photos.

    Args:
        gallery: the collection.
        regions: of the query.
        rows: of the photos.
        known: the geometry of whole photos, by row. It is returned where it agrees better.
    """
    keypoints = [one for one in regions.keypoints if len(one) >= MIN_INLIERS]
    geometry: dict[int, PairGeometry] = {}
    for row, pair in _verify_rows(gallery, keypoints, rows.tolist()).items():
        count = pair.verification.consistent_matches
        if count > gallery.calibration.chance_matches:
            whole = known.get(row, pair)
            best = pair if count > whole.verification.consistent_matches else whole
            geometry[row] = replace(best, in_region=True)
    return geometry


def _rows_in_regions(geometry: dict[int, PairGeometry]) -> list[int]:
    return [row for row, pair in geometry.items() if pair.in_region]


def _deviations(
    rows: NDArray[np.intp],
    of_photos: NDArray[np.float32],
    regions: RegionMatches | None,
    geometry: dict[int, PairGeometry],
) -> NDArray[np.float32]:
    """Return the deviations (m,) of the photos, or of verified regions where those are higher."""
    if regions is None:
        return of_photos
    in_region = np.isin(rows, _rows_in_regions(geometry))
    return np.where(in_region, np.maximum(of_photos, regions.deviations[rows]), of_photos)


def _share_with_copies(
    graph: Graph, geometry: dict[int, PairGeometry], rows: NDArray[np.intp]
) -> None:
    """Give those of `rows` that are copies of a verified photo its geometry.

    Otherwise it would depend on the paths which of many copies are verified.
    """
    pair_of_photo = {int(graph.photo_of_row[row]): pair for row, pair in geometry.items()}
    photos = graph.photo_of_row[rows]
    is_copy = np.isin(photos, list(pair_of_photo))
    for row, photo in zip(rows[is_copy].tolist(), photos[is_copy].tolist(), strict=True):
        geometry.setdefault(row, pair_of_photo[photo])


def _background_of_query(
    gallery: Gallery, descriptor: NDArray[np.float32], without: Sequence[int]
) -> tuple[float, float]:
    """Return mean and standard deviation of the query's similarity to the collection."""
    # This adds up each row by itself, as `exact.score` does.
    similarities = np.einsum("nd,d->n", gallery.sample_descriptors, descriptor)
    if len(without):
        contents = gallery.snapshot.rows["content"]
        own = set(contents.take(list(without)).to_pylist())
        others = [content not in own for content in contents.take(gallery.sample).to_pylist()]
        similarities = similarities[others]
    mean, std = gallery.calibration.background.estimate(similarities[None])
    return float(mean[0]), float(std[0])


def _consistent_matches(
    rows: NDArray[np.intp], geometry: dict[int, PairGeometry]
) -> NDArray[np.float64]:
    consistent = np.zeros(len(rows))
    for position, row in enumerate(rows.tolist()):
        if (pair := geometry.get(row)) is not None:
            consistent[position] = pair.verification.consistent_matches
    return consistent
