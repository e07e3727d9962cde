"""From a query photo to ranked hits: describe the query, filter the rows, rank the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.encoders.projection import Projection
from veduta.errors import EncoderError, EncoderMismatch, QueryError
from veduta.index import MANIFEST, Manifest, Snapshot, Table, open_table
from veduta.index.graph import FOLDER as GRAPH
from veduta.index.store import newest_version
from veduta.keypoints import Extractor, Keypoints, load_extractor
from veduta.search import approximate
from veduta.search import exact as scan
from veduta.search.distances import distances
from veduta.search.filters import Filter
from veduta.search.hit import Evidence, Hit
from veduta.search.reranking import VERIFIED, Gallery, Ranking, mode_for, open_gallery
from veduta.search.reranking import rerank as reranked

# A photo: a path, or an (H, W, 3) uint8 RGB array.
Query = str | os.PathLike[str] | bytes | NDArray[np.uint8]
Box = tuple[int, int, int, int]

_COLUMNS = ("id", "path", "label", "width", "height", "taken")


@dataclass(frozen=True, slots=True)
class _State:
    """What belongs to one version of the index."""

    token: tuple[Any, ...]
    manifest: Manifest
    gallery: Gallery
    projection: Projection | None
    table: Table | None  # open where there is an approximate index

    @property
    def snapshot(self) -> Snapshot:
        return self.gallery.snapshot


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: one descriptor, and the keypoints of each photo behind it.

    Attributes:
        descriptor: (d,) float32, of length one.
        keypoints: one a photo, or none where the index has none. Their positions are in pixels of
            the upright photo, or of its region, if one was asked for.
        corner: x, y of that region in the photo.
    """

    descriptor: NDArray[np.float32]
    keypoints: tuple[Keypoints, ...] = ()
    corner: tuple[int, int] = (0, 0)


class Engine:
    """Searches one index. Safe to use from several threads; sees what a writer commits.

    Raises:
        NotAnIndex, IndexDamaged: see `veduta.errors`.
        EncoderMismatch: the index was built with an encoder that has changed since.
        EncoderUnavailable: its encoder is not on this machine.
    """

    def __init__(self, index: Path, *, encoder: Encoder | None = None, threads: int = 0) -> None:
        self.index = index
        self._state = self._open()
        self._encoder = encoder
        self._threads = threads or os.cpu_count() or 1

    def _open(self) -> _State:
        token = self._token()
        manifest = Manifest.read(self.index)
        projection = None
        if manifest.projection:
            projection = Projection.load(self.index / manifest.projection)
        # The approximate index is over the stored descriptors, not the projected ones.
        usable = manifest.approximate and projection is None
        table = open_table(self.index) if usable else None
        return _State(token, manifest, open_gallery(self.index), projection, table)

    def _token(self) -> tuple[Any, ...]:
        changed = [
            path.stat().st_mtime_ns if path.exists() else None
            for path in (self.index / MANIFEST, self.index / GRAPH)
        ]
        return newest_version(self.index), *changed

    @property
    def state(self) -> _State:
        """The newest version; opened anew when a writer has moved on."""
        if self._token() != self._state.token:
            self._state = self._open()
        return self._state

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index, loaded at the first use."""
        if self._encoder is None:
            self._encoder = encoder_of(self._state.manifest, threads=self._threads)
        return self._encoder

    @property
    def extractor(self) -> Extractor | None:
        """Finds keypoints as the index has them; None where it has none."""
        known = self._state.manifest.keypoints
        return extractor_of(known, threads=self._threads) if known else None

    def ask(
        self, queries: Sequence[Query], *, crop: Box | None = None, rerank: str = "auto"
    ) -> Question:
        """Return what to search for: several photos are taken as photos of one thing.

        Args:
            queries: paths or (H, W, 3) uint8 RGB arrays.
            crop: (x, y, width, height) in pixels of the upright photo: take only this region.
            rerank: one of `MODES`; those without geometry need no keypoints.

        Raises:
            PhotoError: a query is not a photo that can be read.
            QueryError: the crop does not lie in the photo, or the index has no keypoints and
                `rerank` wants them.
        """
        keypoints = self._state.manifest.keypoints is not None
        geometry = mode_for(rerank, "cosine", keypoints=keypoints) == "geometry"
        extractor = self.extractor if geometry else None
        descriptors, found = [], []
        for query in queries:
            photo = self.photo(query, crop)
            descriptors.append(self.encoder.encode([self.encoder.prepare(photo.pixels)])[0])
            if extractor is not None:
                found.append(extractor.extract(photo.pixels, photo.width, photo.height))
        out = np.stack(descriptors).astype(np.float32)
        projection = self.state.projection
        if projection is not None:
            out = projection.apply(out)
        descriptor = out[0] if len(out) == 1 else together(out)
        return Question(descriptor, tuple(found), crop[:2] if crop else (0, 0))

    def describe(self, queries: Sequence[Query], *, crop: Box | None = None) -> NDArray[np.float32]:
        """Return the descriptors of query photos, (m, d) float32 unit rows, as they are searched.

        The arguments and errors are those of `ask`.
        """
        return np.stack(
            [self.ask([query], crop=crop, rerank="none").descriptor for query in queries]
        )

    def photo(self, query: Query, crop: Box | None = None) -> QueryPhoto:
        """Return the pixels of a query as they are described and looked at for keypoints.

        The arguments and errors are those of `ask`.
        """
        if isinstance(query, np.ndarray):
            if query.dtype != np.uint8 or query.ndim != 3 or query.shape[2] != 3 or not query.size:
                raise QueryError(
                    "A query array must be (height, width, 3) uint8 RGB, not "
                    f"{query.shape} {query.dtype}."
                )
            photo = QueryPhoto(query, query.shape[1], query.shape[0])
        else:
            # A region is cut from the full photo, so that it keeps its detail.
            extractor = self.extractor
            long_side = max(self.encoder.long_side, extractor.long_side if extractor else 0)
            loaded = photos.load(query, at_least=None if crop else long_side)
            photo = QueryPhoto(loaded.pixels, loaded.width, loaded.height)
        return QueryPhoto(cut(photo.pixels, crop), crop[2], crop[3]) if crop else photo

    def find(
        self,
        question: Question,
        k: int = 10,
        *,
        where: Filter | None = None,
        min_score: float | None = None,
        distance: str = "cosine",
        exact: bool = False,
        rerank: str = "auto",
        verify: int = VERIFIED,
    ) -> list[Hit]:
        """Return the k best gallery photos for a question, best first.

        Args:
            question: from `ask`.
            k: how many hits at most.
            where: conditions on the gallery photos.
            min_score: drop hits below this score.
            distance: one of `veduta.search.distances.NAMES`; only cosine is ranked again.
            exact: do not use the approximate index, if there is one.
            rerank: `"none"` ranks by the descriptors alone; `"global"` asks the neighbour graph
                too; `"geometry"` verifies the nearest photos as well; `"auto"` does what the
                index has the means for.
            verify: how many of the nearest photos to verify.

        Raises:
            QueryError: k is not positive, or no distance or mode has that name.
        """
        if k < 1:
            raise QueryError(f"Ask for at least one hit, not {k}.")
        state = self.state
        mode = mode_for(rerank, distance, keypoints=state.gallery.keypoints is not None)
        if mode == "none":
            return self.search(
                question.descriptor,
                k,
                where=where,
                min_score=min_score,
                distance=distance,
                exact=exact,
            )
        keep = where.rows(state.snapshot) if where else None
        keypoints = question.keypoints if mode == "geometry" else ()
        # As many whatever k is, so that fewer hits are the first of more.
        many = max(k, verify, VERIFIED)
        rows, similarities = _nearest(state, question.descriptor, many, keep, exact)
        ranking = reranked(
            state.gallery,
            question.descriptor,
            keypoints,
            rows,
            similarities,
            verify=verify,
            keep=keep,
        )
        return hits_of(state.snapshot, ranking, k, min_score=min_score, corner=question.corner)

    def search(
        self,
        descriptor: NDArray[np.float32],
        k: int = 10,
        *,
        where: Filter | None = None,
        min_score: float | None = None,
        distance: str = "cosine",
        exact: bool = False,
    ) -> list[Hit]:
        """Return the k best gallery photos for one query descriptor, best first.

        Args:
            descriptor: (d,) float32 unit row from `describe`.
            k: how many hits at most.
            where: conditions on the gallery photos.
            min_score: drop hits below this score.
            distance: one of `veduta.search.distances.NAMES`.
            exact: do not use the approximate index, if there is one. Filters and other distances
                than cosine are always exact.

        Raises:
            QueryError: k is not positive, or no distance has that name.
        """
        if k < 1:
            raise QueryError(f"Ask for at least one hit, not {k}.")
        state = self.state
        snapshot = state.snapshot
        keep = where.rows(snapshot) if where else None
        if distance == "cosine":
            rows, scores = _nearest(state, descriptor, k, keep, exact)
            similarities = scores
        else:
            far = distances(snapshot.descriptors, descriptor, distance)
            allowed = np.arange(len(far)) if keep is None else np.flatnonzero(keep)
            order = np.lexsort((allowed, far[allowed]))[:k]
            rows, scores = allowed[order], -far[allowed[order]]
            similarities = scan.score(snapshot, descriptor, rows)
        return _hits(snapshot, rows, scores, similarities, [None] * len(rows), min_score)


@dataclass(frozen=True, slots=True)
class QueryPhoto:
    """Pixels (H, W, 3) of a photo or its region, and its size without any reduction at decode."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


def _nearest(
    state: _State,
    descriptor: NDArray[np.float32],
    k: int,
    keep: NDArray[np.bool_] | None,
    exact: bool,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    if state.table is not None and keep is None and not exact:
        return approximate.nearest(state.table, state.snapshot, descriptor, k)
    return scan.nearest(state.snapshot, descriptor, k, keep)


def encoder_of(manifest: Manifest, *, threads: int, runtime: str | None = None) -> Encoder:
    """Load the encoder that made the descriptors of an index.

    Raises:
        EncoderMismatch: the encoder of that name is not the one that built the index.
    """
    name = str(manifest.encoder["name"])
    try:
        encoder = load_encoder(name, threads=threads, runtime=runtime)
    except EncoderError as error:
        raise type(error)(f"The index was built with encoder '{name}'. {error}") from error
    if encoder.identity != manifest.encoder["identity"]:
        raise EncoderMismatch(
            f"The index was built with another version of encoder '{name}' "
            f"({manifest.encoder['identity']}; this Veduta has {encoder.identity}). "
            "Index the photos again into another folder."
        )
    return encoder


def extractor_of(known: dict[str, Any], *, threads: int) -> Extractor:
    """Load the extractor that made the keypoints of an index, from what its manifest says.

    Raises:
        EncoderMismatch: the extractor of that name is not the one that built the index.
    """
    extractor = load_extractor(known["name"], count=known["count"], threads=threads)
    if extractor.identity != known["identity"]:
        raise EncoderMismatch(
            f"The index was built with another version of the keypoints '{known['name']}' "
            f"({known['identity']}; this Veduta has {extractor.identity}). "
            "Index the photos again into another folder."
        )
    return extractor


def together(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one query descriptor (d,) for several photos (m, d) of one thing: their mean."""
    mean = descriptors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise QueryError("These photos have nothing in common: their descriptors cancel out.")
    return np.asarray(mean / length, np.float32)


def cut(pixels: NDArray[np.uint8], crop: Box) -> NDArray[np.uint8]:
    """Return the region (x, y, width, height) of (H, W, 3) pixels."""
    x, y, width, height = crop
    full_height, full_width = pixels.shape[:2]
    inside = x >= 0 and y >= 0 and x + width <= full_width and y + height <= full_height
    if width < 1 or height < 1 or not inside:
        raise QueryError(
            f"The region {x},{y},{width},{height} does not lie in the photo, which is "
            f"{full_width} × {full_height} pixels."
        )
    return pixels[y : y + height, x : x + width]


def hits_of(
    snapshot: Snapshot,
    ranking: Ranking,
    k: int,
    *,
    min_score: float | None = None,
    corner: tuple[int, int] = (0, 0),
) -> list[Hit]:
    """Return the first k photos of a ranking as hits, with their evidence if it was weighed.

    Args:
        snapshot: what was ranked.
        ranking: of its rows.
        k: how many hits at most.
        min_score: drop hits below this score.
        corner: x, y in the query photo of the region that was asked for.
    """
    rows, scores = ranking.rows[:k], ranking.probabilities[:k]
    evidence: list[Evidence | None] = [None] * len(rows)
    if ranking.weighed:
        evidence = [
            Evidence.of(probability, ranking.geometry.get(row), corner)
            for row, probability in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
    return _hits(snapshot, rows, scores, ranking.similarities[:k], evidence, min_score)


def _hits(
    snapshot: Snapshot,
    rows: NDArray[np.intp],
    scores: NDArray[np.floating[Any]],
    similarities: NDArray[np.float32],
    evidence: Sequence[Evidence | None],
    min_score: float | None,
) -> list[Hit]:
    found = snapshot.rows.select(list(_COLUMNS)).take(rows).to_pylist()
    return [
        Hit(
            path=os.fsdecode(row["path"]),
            score=float(score),
            similarity=float(similarity),
            label=row["label"],
            width=row["width"],
            height=row["height"],
            taken=row["taken"],
            id=row["id"],
            evidence=seen,
        )
        for row, score, similarity, seen in zip(found, scores, similarities, evidence, strict=True)
        if min_score is None or score >= min_score
    ]
