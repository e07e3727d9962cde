"""From query photos to ranked hits: encode the query, find the nearest photos, re-rank them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder, OtherModel, load_named_in_file
from veduta.encoders.projection import Projection
from veduta.encoders.region_descriptors import region_box
from veduta.errors import (
    DeviceError,
    EncoderError,
    EncoderMismatch,
    IndexDamaged,
    QueryError,
    readable,
)
from veduta.index import (
    MANIFEST_FILE,
    Manifest,
    Snapshot,
    StoredThumbnails,
    ids_of_copies,
    row_of_photo,
    rows_of_photos,
)
from veduta.index.cell_files import FOLDER as CELLS
from veduta.index.cell_files import StoredCells, open_cells
from veduta.index.checksums import stamp_of, stamps_in
from veduta.index.graph import FOLDER as GRAPH
from veduta.index.graph import can_be_linked, graph_notice, graph_state
from veduta.index.manifest import region_encoder_of
from veduta.index.projection_file import read_projection
from veduta.index.snapshot import SNAPSHOT_FOLDER, copied_projection
from veduta.index.storage_errors import index_errors
from veduta.index.table import newest_version
from veduta.keypoints import Extractor, load_extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.processor_cores import processor_cores
from veduta.search import approximate, exact
from veduta.search.best_first import best_first
from veduta.search.distances import distances
from veduta.search.filters import allowed_rows
from veduta.search.folding import fold_copies, mark_copies
from veduta.search.hit import Evidence, Hit, ScoreKind
from veduta.search.options import VERIFIED_PHOTOS, SearchOptions, check_numbers
from veduta.search.promising import is_promising
from veduta.search.query import (
    Box,
    EncodedQuery,
    PhotoSource,
    QueryPhoto,
    read_photo,
)
from veduta.search.query_views import QueryViews
from veduta.search.region_matches import RegionMatches
from veduta.search.reranking import Gallery, Ranking, open_gallery, rerank, resolve_rerank
from veduta.search.same_pictures import Picture, pictures_of_rows
from veduta.search.timings import timed
from veduta.text import veduta_command

__all__ = ["Engine", "encoder_of", "extractor_of", "hits_of"]

_MOST_OPENINGS = 3

_HIT_COLUMNS = ("id", "path", "label", "width", "height", "taken")


@dataclass(frozen=True, slots=True)
class _OpenIndex:
    """One version of the index, with all that a search reads.

    Attributes:
        version: changes with each commit.
        files: stamps of the files that are mapped into memory.
        manifest: of the index.
        gallery: its photos.
        projection: applied to descriptors of queries; None: there is none.
        cells: None: searches are exact.
        notice: what the user must know about the state of the index, or None.
    """

    version: tuple[Any, ...]
    files: tuple[Any, ...]
    manifest: Manifest
    gallery: Gallery
    projection: Projection | None
    cells: StoredCells | None
    notice: str | None

    @property
    def snapshot(self) -> Snapshot:
        return self.gallery.snapshot

    @property
    def space(self) -> str:
        """How queries are encoded. Only those that are encoded alike can be compared."""
        manifest = self.manifest
        keypoints = manifest.keypoints["identity"] if manifest.keypoints else None
        kinds = (manifest.encoder["identity"], keypoints, manifest.regions, manifest.projection)
        return " ".join(map(str, kinds))


class Engine:
    """Searches one index. Safe to use from several threads; sees what a writer commits."""

    def __init__(
        self,
        index: Path,
        *,
        encoder: Encoder | None = None,
        threads: int = 0,
        wrap_encoder: Callable[[Encoder], Encoder] | None = None,
        device: str | None = None,
    ) -> None:
        """Open an index.

        Args:
            index: its folder.
            encoder: describes the queries; None: the encoder of the index, loaded when it is
                needed.
            threads: processor threads for the encoder and the extractor; 0: one for each core.
            wrap_encoder: called with the encoder of the index when it is loaded; returns the one
                that is used.
            device: where networks run, as for `veduta.load_encoder`.

        Raises:
            NotAnIndex: there is no index in the folder.
            IndexDamaged: the index cannot be read.
        """
        self.index = index
        self._given = encoder
        self._loaded: Encoder | None = None
        self._threads = threads or processor_cores()
        self._wrap_encoder = wrap_encoder
        self._device = device
        self._loading = threading.Lock()
        self.thumbnails = StoredThumbnails(index)
        self._state = self._open()

    def at(self, index: Path) -> Engine:
        """Return an engine of another folder, which has the networks that this one has loaded.

        Args:
            index: the folder, such as of a newer copy of the same index.

        Raises:
            NotAnIndex: there is no index in the folder.
            IndexDamaged: the index cannot be read.
        """
        other = Engine(
            index,
            encoder=self._given,
            threads=self._threads,
            wrap_encoder=self._wrap_encoder,
            device=self._device,
        )
        other._loaded = self._loaded
        return other

    def _open(self) -> _OpenIndex:
        for _ in range(_MOST_OPENINGS):
            version = self._version()
            state = self._open_version(version)
            if self._version() == version:
                break
            # A writer has committed while its files were opened. They may not belong together.
        return state

    def _open_version(self, version: tuple[Any, ...]) -> _OpenIndex:
        manifest = Manifest.read(self.index)
        if self._given is not None:
            manifest.require_encoder(self._given, self.index)
        gallery = open_gallery(self.index)
        projection, notice = self._projection(manifest)
        notices = [gallery.snapshot.notice, notice]
        graph = graph_state(self.index, manifest, gallery.snapshot.name)
        if graph == "damaged":
            notices.append(graph_notice(self.index))
        elif graph != "whole" and can_be_linked(gallery.snapshot):
            notices.append(
                f"Not all photos of {readable(self.index)} are linked with those of the same "
                "thing yet, so the ranking is less good than it can be. Link them with: "
                + veduta_command("index", "--index", self.index)
            )
        large = gallery.snapshot.photos >= approximate.SEARCHED_FROM_PHOTOS
        return _OpenIndex(
            version=version,
            files=self._files(gallery.snapshot.name),
            manifest=manifest,
            gallery=gallery,
            projection=projection,
            cells=open_cells(self.index, manifest, gallery.snapshot.name)
            if large or manifest.approximate
            else None,
            notice=" ".join(filter(None, notices)) or None,
        )

    def _projection(self, manifest: Manifest) -> tuple[Projection | None, str | None]:
        """Return the projection of the index, and what the user must know about it."""
        try:
            return read_projection(self.index, manifest), None
        except IndexDamaged as error:
            copy = copied_projection(self.index, manifest)
            if copy is None:
                raise
            return copy, f"{error}. Its copy in the snapshot is used."

    def _version(self) -> tuple[Any, ...]:
        with index_errors(self.index, "read"):
            return newest_version(self.index), stamp_of(self.index / MANIFEST_FILE)

    def _files(self, name: str) -> tuple[Any, ...]:
        """Return the stamps of the files that are mapped. To read a cut one ends the process."""
        folders = [self.index / part / name for part in (SNAPSHOT_FOLDER, GRAPH, CELLS)]
        with index_errors(self.index, "read"):
            return tuple(map(stamps_in, folders))

    @property
    def state(self) -> _OpenIndex:
        """The newest version of the index. It is opened again when a file of it has changed."""
        state = self._state
        if self._version() != state.version or self._files(state.snapshot.name) != state.files:
            self._state = self._open()
        return self._state

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index, loaded at the first use.

        Raises:
            EncoderMismatch: the index was built with an encoder that has changed since.
            EncoderUnavailable: the encoder is not on this machine.
        """
        return self._encoder_of(self.state)

    def _encoder_of(self, state: _OpenIndex) -> Encoder:
        if self._given is not None:
            return self._given
        # The index may have been replaced by one of another encoder.
        with self._loading:  # Several threads may ask for it at once.
            loaded = self._loaded
            if loaded is None or loaded.identity != state.manifest.encoder["identity"]:
                loaded = encoder_of(state.manifest, threads=self._threads, device=self._device)
                if self._wrap_encoder is not None:
                    loaded = self._wrap_encoder(loaded)
                self._loaded = loaded
        return loaded

    @property
    def extractor(self) -> Extractor | None:
        """The keypoint extractor of the index; None if the index has no keypoints.

        Raises:
            EncoderMismatch: the index was built with an extractor that has changed since.
            EncoderUnavailable: the extractor is not on this machine.
        """
        return self._extractor_of(self.state)

    def _extractor_of(self, state: _OpenIndex) -> Extractor | None:
        keypoints = state.manifest.keypoints
        if not keypoints:
            return None
        return extractor_of(keypoints, threads=self._threads, device=self._device)

    def encode_query(
        self,
        queries: Sequence[PhotoSource],
        *,
        crop: Box | None = None,
        rerank: str = "auto",
        orientation: Orientation = UPRIGHT,
    ) -> EncodedQuery:
        """Encode one photo, or several photos of one thing, as one query.

        Args:
            queries: as in `query_views`.
            crop: as in `query_views`.
            rerank: as in `query_views`.
            orientation: how the photos are turned before that.

        Raises:
            PhotoError: a query is not a photo that can be read.
            QueryError: the region is not within the photo, or the mode needs keypoints and the
                index has none.
        """
        return self.query_views(queries, crop=crop, rerank=rerank).encoded(orientation)

    def query_views(
        self,
        queries: Sequence[PhotoSource],
        *,
        crop: Box | None = None,
        rerank: str = "auto",
        regions: bool = True,
    ) -> QueryViews:
        """Return one photo, or several photos of one thing, as a query that can be turned.

        Args:
            queries: paths or (H, W, 3) uint8 RGB arrays.
            crop: take only this region, in pixels of the photo as it is given, upright by its Exif.
            rerank: one of `RERANK_MODES`. The modes without geometry need no keypoints.
            regions: encode it for the comparison with regions too, if the index has them.

        Raises:
            QueryError: the mode needs keypoints and the index has none.
        """
        state = self.state
        has_keypoints = state.manifest.keypoints is not None
        mode = resolve_rerank(rerank, "cosine", keypoints=has_keypoints)
        encoder = self._encoder_of(state)
        verified = mode == "geometry"
        return QueryViews(
            lambda: [self._read_photo(state, query, crop) for query in queries],
            encoder,
            self._extractor_of(state) if verified else None,
            region_encoder=region_encoder_of(state.manifest, encoder)
            if verified and regions
            else None,
            projection=state.projection,
            corner=crop[:2] if crop else (0, 0),
            space=state.space,
        )

    def read_photo(self, query: PhotoSource, crop: Box | None = None) -> QueryPhoto:
        """Return the pixels from which a query photo is encoded.

        Args:
            query: a path or an (H, W, 3) uint8 RGB array.
            crop: take only this region, in pixels of the upright photo.

        Raises:
            PhotoError: the query is not a photo that can be read.
            QueryError: the region is not within the photo.
        """
        return self._read_photo(self.state, query, crop)

    def _read_photo(self, state: _OpenIndex, query: PhotoSource, crop: Box | None) -> QueryPhoto:
        if isinstance(query, (np.ndarray, QueryPhoto)):
            return read_photo(query, None, crop)
        return read_photo(query, self._long_side(state), crop)

    @property
    def long_side(self) -> int:
        """The long side in pixels at which a query loses nothing when it is decoded."""
        return self._long_side(self.state)

    def _long_side(self, state: _OpenIndex) -> int:
        encoder, extractor = self._encoder_of(state), self._extractor_of(state)
        return max(encoder.long_side, extractor.long_side if extractor else 0)

    def query_of_photo(self, photo_id: int, *, rerank: str = "auto") -> EncodedQuery:
        """Return an indexed photo as a query, by its stored descriptor and keypoints.

        Args:
            photo_id: of its row, as in `Hit.id`.
            rerank: as in `query_views`.

        Raises:
            QueryError: no photo of the index has that number, or the mode needs keypoints and the
                index has none.
        """
        state = self.state
        row = row_of_photo(state.snapshot, photo_id)
        if row is None:
            raise QueryError(f"{readable(self.index)} has no photo number {photo_id} (any more).")
        stored = state.gallery.keypoints
        mode = resolve_rerank(rerank, "cosine", keypoints=stored is not None)
        found = (stored.read(row),) if stored is not None and mode == "geometry" else ()
        descriptor = state.snapshot.take(np.array([row]))[0]
        return EncodedQuery(descriptor, found, space=state.space)

    def require_space(self, query: EncodedQuery, space: str) -> None:
        """Refuse a query that was encoded before the index was replaced by another one.

        Args:
            query: from `encode_query`.
            space: of the index as it is searched, see `_OpenIndex.space`.

        Raises:
            EncoderMismatch: the query was encoded by another encoder or in another way.
        """
        if query.space not in {"", space}:
            raise EncoderMismatch(
                f"{readable(self.index)} was replaced by an index of another encoder, of other "
                "keypoints or with another projection, while it was searched. Search again."
            )

    def picture_of_photo(self, photo_id: int) -> list[Picture]:
        """Return an indexed photo, to tell its copies by.

        Args:
            photo_id: as in `query_of_photo`.

        Returns:
            One picture; none if the photo is gone.
        """
        snapshot = self.state.snapshot
        row = row_of_photo(snapshot, photo_id)
        return [] if row is None else pictures_of_rows(snapshot, np.array([row]))

    def search(
        self,
        query: EncodedQuery,
        options: SearchOptions | None = None,
        pictures: Sequence[Picture] = (),
        leave_out: Sequence[int] = (),
    ) -> list[Hit]:
        """Return the best photos of the index for a query, best first.

        Args:
            query: from `encode_query`.
            options: how to search; None: the defaults.
            pictures: the photos of the query, for `SearchOptions.mark_copies`.
            leave_out: ids of photos that are ranked, because they say something about others, and
                are no hits: the query itself.

        Raises:
            QueryError: k, verify or min_score is no such number, a distance or mode is unknown, or
                the mode does not go with the distance or with this index.
            EncoderMismatch: the index was replaced by another one after the query was encoded.
        """
        options = options or SearchOptions()
        check_numbers(options)
        state = self.state
        self.require_space(query, state.space)
        if options.not_ids:
            leave_out = [*leave_out, *ids_of_copies(state.snapshot, options.not_ids)]
        if options.fold_copies:
            hits = self._folded(state, query, options, leave_out)
        else:
            deeper = replace(options, k=options.k + len(leave_out))
            ranking = _without(state, self._ranking(state, query, deeper), leave_out)
            hits = _first_hits(state, ranking, query, options)
        if not options.mark_copies:
            return hits
        return mark_copies(hits, _pictures(state, hits), pictures, self.thumbnails.read)

    def is_promising(self, query: EncodedQuery, options: SearchOptions) -> bool:
        """Return whether a search may have a convincing answer, see `veduta.search.promising`.

        Args:
            query: from `encode_query`, with keypoints.
            options: of the search.

        Raises:
            EncoderMismatch: the index was replaced by another one after the query was encoded.
        """
        state = self.state
        self.require_space(query, state.space)
        allowed = allowed_rows(state.snapshot, options)
        rows, _ = _nearest(
            state, query.descriptor, options.verify, allowed, exact_only=options.exact
        )
        return is_promising(state.gallery, query, rows.tolist())

    def _folded(
        self,
        state: _OpenIndex,
        query: EncodedQuery,
        options: SearchOptions,
        leave_out: Sequence[int],
    ) -> list[Hit]:
        """Return k photos, each with its copies; search deeper until there are as many."""
        depth = max(2 * options.k, VERIFIED_PHOTOS)
        while True:
            ranking = self._ranking(state, query, replace(options, k=depth))
            ranking = _without(state, ranking, leave_out)
            rows = ranking.rows
            hits = _first_hits(state, ranking, query, replace(options, k=len(rows)))
            folded = fold_copies(hits, _pictures(state, hits), self.thumbnails.read)
            is_all = len(hits) < len(rows) or depth >= state.snapshot.photos
            if is_all or len(folded) >= options.k:
                return folded[: options.k]
            depth *= 2

    def _ranking(self, state: _OpenIndex, query: EncodedQuery, options: SearchOptions) -> Ranking:
        has_keypoints = state.gallery.keypoints is not None
        mode = resolve_rerank(options.rerank, options.distance, keypoints=has_keypoints)
        allowed = allowed_rows(state.snapshot, options)
        if mode == "none":
            return _ranking_by_descriptor(state, query.descriptor, options, allowed)
        # The number of candidates does not depend on k below this limit. So the hits of a small k
        # are the first hits of a larger one.
        candidates = max(options.k, options.verify, VERIFIED_PHOTOS)
        rows, similarities = _nearest(
            state, query.descriptor, candidates, allowed, exact_only=options.exact
        )
        regions = _region_matches(state, query) if mode == "geometry" else None
        with timed("verify"):
            return rerank(
                state.gallery,
                query.descriptor,
                query.keypoints if mode == "geometry" else (),
                rows,
                similarities,
                verify=options.verify,
                keep=allowed,
                regions=regions,
            )


def _without(state: _OpenIndex, ranking: Ranking, photo_ids: Sequence[int]) -> Ranking:
    if not photo_ids:
        return ranking
    keep = ~np.isin(ranking.rows, rows_of_photos(state.snapshot, photo_ids))
    return replace(
        ranking,
        rows=ranking.rows[keep],
        similarities=ranking.similarities[keep],
        scores=ranking.scores[keep],
    )


def _pictures(state: _OpenIndex, hits: Sequence[Hit]) -> list[Picture]:
    rows = rows_of_photos(state.snapshot, [hit.id for hit in hits])
    return pictures_of_rows(state.snapshot, rows)


def _first_hits(
    state: _OpenIndex, ranking: Ranking, query: EncodedQuery, options: SearchOptions
) -> list[Hit]:
    return hits_of(state.snapshot, ranking, options.k, query, min_score=options.min_score)


def _region_matches(state: _OpenIndex, query: EncodedQuery) -> RegionMatches | None:
    """Compare a query with the regions of the photos, if the index has them."""
    if query.in_regions is None:
        return None
    with timed("scan"):
        return RegionMatches.of(
            state.snapshot, query.in_regions, state.manifest.dimension, state.gallery.sample
        )


def _ranking_by_descriptor(
    state: _OpenIndex,
    descriptor: NDArray[np.float32],
    options: SearchOptions,
    allowed: NDArray[np.bool_] | None,
) -> Ranking:
    snapshot = state.snapshot
    kind: ScoreKind = "similarity"
    if options.distance == "cosine":
        rows, scores = _nearest(state, descriptor, options.k, allowed, exact_only=options.exact)
        similarities = scores
    else:
        far = distances(snapshot.descriptors, descriptor, options.distance)
        candidates = np.arange(len(far)) if allowed is None else np.flatnonzero(allowed)
        if len(candidates) > options.k:
            kth_nearest = np.partition(far[candidates], options.k - 1)[options.k - 1]
            candidates = candidates[far[candidates] <= kth_nearest]
        order = best_first(snapshot, candidates, -far[candidates])[: options.k]
        rows, scores = candidates[order], -far[candidates[order]]
        similarities = exact.score(snapshot, descriptor, rows)
        kind = "negative distance"
    return Ranking(rows, similarities, scores, score_kind=kind)


def _nearest(
    state: _OpenIndex,
    descriptor: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
    *,
    exact_only: bool,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    with timed("scan"):
        if state.cells is not None and allowed is None and not exact_only:
            return approximate.nearest(state.snapshot, state.cells, descriptor, k)
        return exact.nearest(state.snapshot, descriptor, k, allowed)


def encoder_of(
    manifest: Manifest,
    *,
    threads: int,
    runtime: str | None = None,
    device: str | None = None,
) -> Encoder:
    """Load the encoder that made the descriptors of an index.

    Args:
        manifest: of the index.
        threads: processor threads for one call of `encode`.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        device: where ONNX Runtime runs it, as for `veduta.load_encoder`.

    Raises:
        DeviceError: the device is not usable here.
        EncoderMismatch: the encoder of that name is not the one that built the index.
        EncoderUnavailable: the encoder is not on this machine. It is not fetched, because a
            stranger may have written the index.
    """
    name = str(manifest.encoder["name"])
    sha256 = manifest.encoder.get("sha256")
    try:
        encoder = load_named_in_file(
            name,
            sha256 if isinstance(sha256, str) else None,
            threads=threads,
            runtime=runtime,
            device=device,
        )
    except DeviceError:
        raise
    except OtherModel as error:
        raise EncoderMismatch(
            f"The index was built with another model than the encoder '{name}' of this machine: "
            f"{error}. Index the photos again into another folder."
        ) from error
    except EncoderError as error:
        raise type(error)(f"The index was built with encoder '{name}'. {error}") from error
    if encoder.identity != manifest.encoder["identity"]:
        raise EncoderMismatch(
            f"The index was built with another version of encoder '{name}' "
            f"({manifest.encoder['identity']}; this Veduta has {encoder.identity}). "
            "Index the photos again into another folder."
        )
    return encoder


def extractor_of(
    keypoints: dict[str, Any], *, threads: int, device: str | None = None
) -> Extractor:
    """Load the extractor that made the keypoints of an index.

    Args:
        keypoints: `Manifest.keypoints` of the index.
        threads: processor threads for one call of `extract`.
        device: where its network runs, as for `veduta.load_extractor`.

    Raises:
        DeviceError: the device is not usable here.
        EncoderMismatch: the extractor of that name is not the one that built the index.
        EncoderUnavailable: the extractor is not on this machine.
        QueryError: this version of Veduta has no extractor of that name.
    """
    extractor = load_extractor(
        keypoints["name"],
        count=keypoints["count"],
        threads=threads,
        identity=keypoints["identity"],
        device=device,
    )
    if extractor.identity != keypoints["identity"]:
        raise EncoderMismatch(
            f"The index was built with another version of the keypoints '{keypoints['name']}' "
            f"({keypoints['identity']}; this Veduta has {extractor.identity}). "
            "Index the photos again into another folder."
        )
    return extractor


def hits_of(
    snapshot: Snapshot,
    ranking: Ranking,
    k: int,
    query: EncodedQuery,
    *,
    min_score: float | None = None,
) -> list[Hit]:
    """Return the first photos of a ranking as hits, with their evidence.

    Args:
        snapshot: that was ranked.
        ranking: of its rows.
        k: the largest number of hits.
        query: by which it was ranked.
        min_score: only hits with at least this score.
    """
    rows, scores = ranking.rows[:k], ranking.scores[:k]
    columns = snapshot.rows_at(rows, _HIT_COLUMNS).to_pylist()
    evidence: list[Evidence | None] = [None] * len(rows)
    if ranking.score_kind in ("probability", "evidence"):
        is_probability = ranking.score_kind == "probability"
        evidence = [
            Evidence.of(
                score if is_probability else None,
                ranking.geometry.get(row),
                query,
                _box_found_in(ranking, row, columns[position]),
            )
            for position, (row, score) in enumerate(
                zip(rows.tolist(), scores.tolist(), strict=True)
            )
        ]
    similarities = ranking.similarities[:k]
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
            evidence=hit_evidence,
            score_kind=ranking.score_kind,
            orientation=query.orientation,
        )
        for row, score, similarity, hit_evidence in zip(
            columns, scores, similarities, evidence, strict=True
        )
        if min_score is None or score >= min_score
    ]


def _box_found_in(ranking: Ranking, row: int, photo: dict[str, Any]) -> Box | None:
    """Return the region by which a photo was found, in its pixels."""
    region = ranking.found_in.get(row)
    return None if region is None else region_box(region, photo["width"], photo["height"])
