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
from veduta.index import MANIFEST, Manifest, Snapshot, Table, open_snapshot, open_table
from veduta.index.store import newest_version
from veduta.search import approximate
from veduta.search import exact as scan
from veduta.search.distances import distances
from veduta.search.filters import Filter
from veduta.search.hit import Hit

# A photo: a path, or an (H, W, 3) uint8 RGB array.
Query = str | os.PathLike[str] | bytes | NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _State:
    """What belongs to one version of the index."""

    token: tuple[Any, ...]
    manifest: Manifest
    snapshot: Snapshot
    projection: Projection | None
    table: Table | None  # open where there is an approximate index


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
        return _State(token, manifest, open_snapshot(self.index), projection, table)

    def _token(self) -> tuple[Any, ...]:
        manifest = self.index / MANIFEST
        changed = manifest.stat().st_mtime_ns if manifest.exists() else None
        return newest_version(self.index), changed

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

    def describe(self, queries: Sequence[Query], *, crop: Box | None = None) -> NDArray[np.float32]:
        """Return the descriptors of query photos, (m, d) float32 unit rows, as they are searched.

        Args:
            queries: paths or (H, W, 3) uint8 RGB arrays.
            crop: (x, y, width, height) in pixels of the upright photo: describe only this region.

        Raises:
            PhotoError: a query is not a photo that can be read.
            QueryError: the crop does not lie in the photo.
        """
        encoder = self.encoder
        rows = [encoder.encode([encoder.prepare(self._pixels(q, crop))])[0] for q in queries]
        out = np.stack(rows).astype(np.float32)
        projection = self.state.projection
        return projection.apply(out) if projection else out

    def _pixels(self, query: Query, crop: Box | None) -> NDArray[np.uint8]:
        if isinstance(query, np.ndarray):
            if query.dtype != np.uint8 or query.ndim != 3 or query.shape[2] != 3 or not query.size:
                raise QueryError(
                    "A query array must be (height, width, 3) uint8 RGB, not "
                    f"{query.shape} {query.dtype}."
                )
            pixels = query
        else:
            # A region is cut from the full photo, so that it keeps its detail.
            pixels = photos.load(query, at_least=None if crop else self.encoder.long_side).pixels
        return cut(pixels, crop) if crop else pixels

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
        if distance == "cosine" and keep is None and state.table is not None and not exact:
            found, scores = approximate.nearest(state.table, descriptor, k)
            return _hits(found, scores, scores, min_score)
        if distance == "cosine":
            rows, scores = scan.nearest(snapshot, descriptor, k, keep)
            similarities = scores
        else:
            far = distances(snapshot.descriptors, descriptor, distance)
            allowed = np.arange(len(far)) if keep is None else np.flatnonzero(keep)
            order = np.lexsort((allowed, far[allowed]))[:k]
            rows, scores = allowed[order], -far[allowed[order]]
            similarities = scan.score(snapshot, descriptor, rows)
        found = snapshot.rows.select(list(approximate.COLUMNS)).take(rows).to_pylist()
        return _hits(found, scores, similarities, min_score)


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


def _hits(
    rows: Sequence[dict[str, Any]],
    scores: NDArray[np.float32],
    similarities: NDArray[np.float32],
    min_score: float | None,
) -> list[Hit]:
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
        )
        for row, score, similarity in zip(rows, scores, similarities, strict=True)
        if min_score is None or score >= min_score
    ]
