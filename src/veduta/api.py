"""The Python surface: an index is a folder on disk that one can add to and search."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from veduta.devices import device_named
from veduta.encoders import DEFAULT, Encoder, Projection, load_encoder
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import CollectionError, NotAnIndex, PhotoError, QueryError, readable
from veduta.index import (
    CheckFinding,
    Descriptors,
    IndexedPhoto,
    LabelEdit,
    Manifest,
    MergeReport,
    UpdateProgress,
    UpdateReport,
    build_approximate,
    check_index,
    create_index,
    descriptors_of,
    edit_labels,
    holds_index,
    holds_path,
    merge_indexes,
    open_or_create_index,
    open_snapshot,
    photos_of,
    read_status,
    remove_photos,
    set_projection,
    update_index,
)
from veduta.index.places import has_places
from veduta.index.shards import Shard
from veduta.keypoints import Extractor, load_extractor
from veduta.processor_cores import processor_cores
from veduta.recognize import (
    METHOD,
    PRECISION,
    LabelledGallery,
    Model,
    Recognition,
    Recognizer,
    cached_recognizer,
    open_model,
    recognition_of,
)
from veduta.recognize.background import background_of_index
from veduta.recognize.model import check_new
from veduta.recognize.without_labels import no_labels_message
from veduta.search import (
    VERIFIED_PHOTOS,
    Box,
    Engine,
    Hit,
    Hits,
    PhotoSource,
    SearchOptions,
    hits_of,
    search_many,
    search_photos,
)
from veduta.search.engine import encoder_of, extractor_of
from veduta.search.hit_matches import draw_hit_matches
from veduta.search.options import RICHEST_KEYPOINTS, Moment, check_numbers, is_whole_number
from veduta.search.pair import Match, compare
from veduta.search.photo_keypoints import PhotoKeypoints
from veduta.search.photo_keypoints import find_keypoints as photo_keypoints
from veduta.search.turned_search import without_reranking
from veduta.search.watching import watcher
from veduta.stored_index import Change, changing, is_store_url, local_copy, local_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from veduta.explanation import Explanation
    from veduta.explore.photo_groups import PhotoGroup

PathLike = str | os.PathLike[str]


class Index:
    """A collection of photos with their descriptors, in one folder on disk or in an object store.

    Get one from `veduta.create` or `veduta.open`. As a context manager it closes itself. `len`,
    `in` and a loop over it read the photos that can be searched.

    Attributes:
        path: the folder of the index; of one in an object store, the copy on this machine.
    """

    def __init__(
        self,
        path: Path,
        *,
        url: str | None = None,
        wrap_encoder: Callable[[Encoder], Encoder] | None = None,
        device: str | None = None,
    ) -> None:
        """Open the index in the folder `path`; raises as `veduta.open` does.

        Args:
            path: the folder.
            url: of the store that the folder is a copy of; None: it is an index of its own.
            wrap_encoder: called with the encoder when it is loaded for searches; returns the one
                that is used.
            device: where networks run, as for `load_encoder`.
        """
        if device is not None:
            device_named(device)
        self._device = device
        self.path = path
        self._url = url
        self._wrap_encoder = wrap_encoder
        self._manifest = Manifest.read(path)
        self._engines: dict[int, Engine] = {}
        self._writers: dict[str | None, Encoder] = {}
        self._recognizers: dict[tuple[str, bool], Recognizer] = {}

    @property
    def _engine(self) -> Engine:
        return self._engine_with_threads(0)

    def _engine_with_threads(self, threads: int) -> Engine:
        if threads not in self._engines:
            self._engines[threads] = Engine(
                self.path,
                threads=threads,
                wrap_encoder=self._wrap_encoder,
                device=self._device,
            )
        return self._engines[threads]

    def __len__(self) -> int:
        """Return the number of photos that can be searched."""
        return open_snapshot(self.path).photos

    def __iter__(self) -> Iterator[IndexedPhoto]:
        """Yield the photos that can be searched, in the order of `descriptors`."""
        return photos_of(open_snapshot(self.path))

    def __contains__(self, path: object) -> bool:
        """Tell whether the photo with this path can be searched."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return holds_path(open_snapshot(self.path), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        place = self._url or str(self.path)
        return f"<veduta.Index {place!r}, encoder {self._manifest.encoder['name']!r}>"

    def refresh(self) -> bool:
        """Look for a newer version of an index in an object store, and use it from now on.

        An index in a folder needs no such call: each search sees what was committed.

        Returns:
            Whether there was one.

        Raises:
            StoreError: the store refuses, does not answer, or what it has is damaged.
        """
        if self._url is None:
            return False
        path = local_copy(self._url)
        if path == self.path:
            return False
        manifest = Manifest.read(path)
        # They are open before they are used, so that no search waits.
        engines = {threads: engine.at(path) for threads, engine in self._engines.items()}
        self.path, self._manifest, self._engines = path, manifest, engines
        return True

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        """Give the folder that may be changed. What is in a store is published at the end."""
        with changing(self._url or self.path) as change:
            yield change
        if change.published is not None:
            self.refresh()

    def close(self) -> None:
        """Give back the memory of networks and mapped files. A later call loads them again."""
        self._engines.clear()
        self._writers.clear()
        self._recognizers.clear()

    @property
    def notice(self) -> str | None:
        """What the user must know about damage of the index before a search, or None.

        Raises:
            IndexDamaged: the index does not open.
        """
        return self._engine.state.notice

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index, loaded at the first use.

        Raises:
            EncoderMismatch: the index was built with an encoder that has changed since.
            EncoderUnavailable: the encoder is not on this machine.
        """
        return self._engine.encoder

    def status(self) -> dict[str, Any]:
        """Return what the index holds and in which state it is, as `veduta status --json` does.

        Raises:
            IndexDamaged: the index does not open.
        """
        return read_status(self.path)

    def encode(self, photo: PhotoSource, *, crop: Box | None = None) -> NDArray[np.float32]:
        """Return the descriptor of a photo, as this index compares it.

        Args:
            photo: a path, or an (H, W, 3) uint8 RGB array, upright.
            crop: (x, y, width, height), pixels of the upright photo: only this region of it.

        Returns:
            (d,) float32 of length one. If the index has a projection, it is projected. The dot
            product with a row of `descriptors` is their cosine similarity.

        Raises:
            PhotoError: the photo cannot be read.
            QueryError: the array is no photo, or the region is not within it.
        """
        return self._engine.encode_query([photo], crop=crop, rerank="none").descriptor

    def descriptors(self) -> Descriptors:
        """Return the descriptors of all photos, mapped into memory, with their photos.

        Returns:
            `vectors`, (n, d) float16 unit rows, and `photos`, an Arrow table of n rows. They are
            of the newest version of the index and stay as they are when it changes.

        Raises:
            IndexDamaged: the index does not open.
        """
        return descriptors_of(open_snapshot(self.path))

    def add(
        self,
        *folders: PathLike,
        labels: PathLike | None = None,
        exclude: Sequence[str] | None = None,
        on_progress: Callable[[UpdateProgress], None] | None = None,
        on_linking: Callable[[int, int], None] | None = None,
        allow_empty: bool = False,
        allow_label_loss: bool = False,
        reread: bool = False,
        accept_truncated: bool = False,
        all_photos: bool = False,
        shard: tuple[int, int] | None = None,
        runtime: str | None = None,
    ) -> UpdateReport:
        """Bring the index up to date with folders (or single photos).

        New and changed photos are encoded, moved ones recognised by their content, rows of photos
        that are gone from a folder removed. Without folders, those of the index are updated.
        `veduta.index.update_index` says what the other options do and which errors are raised.

        Args:
            folders: folders, searched recursively, or photos.
            labels: `"folders"`, or the path of a CSV with the columns `path` and `label`. `"none"`
                takes all labels away.
            exclude: patterns of what is passed over from now on, in the syntax of gitignore.
            on_progress: called as the run goes on.
            on_linking: called with (done, total) while photos of the same thing are linked.
            allow_empty: accept that a folder has no photos any more.
            allow_label_loss: accept that photos lose their label.
            reread: read all files, also those whose size and time did not change.
            accept_truncated: use photos that are cut short if most of them is there.
            all_photos: add photos again that were removed.
            shard: (number, count): add only the photos of this shard of the collection, so that
                several machines index it. The index remembers it. `veduta.merge` makes one index of
                all shards.
            runtime: of the encoder: `"onnxruntime"` (the default) or `"openvino"`.
        """
        with self._changing() as change:
            self._manifest = Manifest.read(change.path)
            writer = self._writers.get(runtime)
            if writer is None or writer.identity != self._manifest.encoder["identity"]:
                # One worker a core, each with one thread:
                # see docs/decisions/one-worker-one-photo.md.
                self._writers[runtime] = encoder_of(
                    self._manifest, threads=1, runtime=runtime, device=self._device
                )
            extractor: Extractor | None = None
            if known := self._manifest.keypoints:
                extractor = extractor_of(known, threads=1, device=self._device)
            report = update_index(
                change.path,
                [Path(folder) for folder in folders],
                self._writers[runtime],
                extractor,
                labels=labels,
                exclude=exclude,
                on_progress=on_progress,
                on_linking=on_linking,
                allow_empty=allow_empty,
                allow_label_loss=allow_label_loss,
                reread=reread,
                accept_truncated=accept_truncated,
                all_photos=all_photos,
                shard=None if shard is None else _shard_of(shard),
            )
            if report.interrupted:
                change.keep()
        return report

    def project(self, projection: Projection | int | None, *, power: float = 0.0) -> None:
        """Search through a projection from now on.

        The stored descriptors stay as they are, so a projection can be fitted anew or taken away.

        Args:
            projection: a fitted one; a number of dimensions: a PCA to as many, fitted on this
                collection; None takes the projection away.
            power: of that PCA: 0 rotates only; up to 1 also whitens, which cost accuracy on all
                four sets that it was measured on (docs/ablation.md).

        Raises:
            EncoderMismatch: the projection is for descriptors of another encoder.
            EncoderError: too few photos for that many dimensions.
            QueryError: it is neither a projection nor a whole number.
        """
        if not (
            projection is None or isinstance(projection, Projection) or is_whole_number(projection)
        ):
            raise QueryError(
                f"A projection is fitted, or a whole number of dimensions, not {projection!r}."
            )
        if not isinstance(power, (int, float)) or not 0 <= power <= 1:
            raise QueryError(f"The power is a number from 0 to 1, not {power!r}.")
        with self._changing() as change:
            set_projection(change.path, projection, power)

    def remove(self, *paths: PathLike) -> int:
        """Remove photos from the index. The files themselves stay as they are.

        Args:
            paths: photos, or folders for all photos below them. A photo that is named stays out
                until `add` is called with it, or with `all_photos`. `add` without folders no longer
                reads a folder that was removed. If it lies in a folder that remains, its photos
                come back at the next `add`, unless their files are gone.

        Returns:
            How many rows were removed. Paths that the index does not hold are ignored.

        Raises:
            IndexLocked: another process is writing to the index.
        """
        with self._changing() as change:
            removed = remove_photos(change.path, paths)
        self._manifest = Manifest.read(self.path)
        return removed

    def edit_labels(self, labels: Mapping[int, str | None]) -> list[LabelEdit]:
        """Give photos other labels. `add` keeps them, whatever their folder or the CSV says.

        Args:
            labels: `IndexedPhoto.id` → label; None takes the label away.

        Returns:
            The changes, with the labels before: `edit_labels({one.id: one.previous for one in
            changes})` undoes them.

        Raises:
            QueryError: the index has no such photo, or a label is empty. Nothing is changed then.
            IndexLocked: another process is writing to the index.
        """
        with self._changing() as change:
            return edit_labels(change.path, labels)

    def build_approximate(self) -> None:
        """Search through the cells of near photos from now on, whatever the size of the index.

        A search of a large collection does so by itself.

        Raises:
            CollectionError: too few photos for cells, or they find too few of the nearest photos.
        """
        with self._changing() as change:
            build_approximate(change.path)

    def search(
        self,
        *photos: PhotoSource,
        options: SearchOptions | None = None,
        crop: Box | None = None,
        k: int | None = None,
        label: str | Iterable[str] | None = None,
        under: PathLike | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        min_score: float | None = None,
        distance: str | None = None,
        exact: bool | None = None,
        rerank: str | None = None,
        verify: int | None = None,
        fold_copies: bool | None = None,
        mark_copies: bool | None = None,
        not_ids: Iterable[int] | None = None,
        orientation: str | None = None,
    ) -> Hits:
        """Return the photos of the index that most likely show what `photos` show, best first.

        Args:
            photos: one photo, or several of one thing, searched together as a single query: paths
                or (H, W, 3) uint8 RGB arrays.
            options: how to search; None: the defaults of `SearchOptions`. The arguments below
                replace single options, and None leaves an option as it is.
            crop: (x, y, width, height), pixels of the query as it is given, upright by its Exif:
                search for this region of it.
            k: the largest number of hits, 10 by default.
            label: only photos with this label, or one of these.
            under: only photos in this folder or below it.
            after: only photos taken at this time or later: a datetime, a date or ISO text.
            before: only photos taken earlier than this.
            min_score: only hits with at least this score, see `Hit.score`.
            distance: `"cosine"` by default, or one of `veduta.search.DISTANCES`.
            exact: look at all photos, also where a large collection is searched by its cells.
            rerank: `"none"` ranks by the descriptors alone, `"global"` by the neighbour graph too,
                `"geometry"` also verifies the nearest photos, and `"auto"`, the default, is the
                most thorough one that the index has the data for.
            verify: how many of the nearest photos are verified, 50 by default.
            fold_copies: return copies of one photo as one hit, the best of them. `Hit.copies` has
                the paths of the others, and `k` counts folded hits.
            mark_copies: `Hit.copy_of` says which hits are copies of the query or of a hit before
                them.
            not_ids: `Hit.id` of photos that are no hits, because you have called them wrong. Files
                of the same content are none, either.
            orientation: `"auto"`, the default, also tries the query turned and mirrored if nothing
                convincing is found for it as it is. `"upright"` takes it as it is. Others of
                `veduta.search.ORIENTATIONS` turn it. `Hits.orientation` says how it was turned.

        Raises:
            PhotoError: a query cannot be read.
            QueryError: no photo is named, or the options do not go with each other or with this
                index.
        """
        if not photos:
            raise QueryError("Name at least one query photo.")
        options = _with_changes(
            options,
            k=k,
            labels=_as_tuple(label),
            under=None if under is None else Path(under),
            after=after,
            before=before,
            min_score=min_score,
            distance=distance,
            exact=exact,
            rerank=rerank,
            verify=verify,
            fold_copies=fold_copies,
            mark_copies=mark_copies,
            not_ids=None if not_ids is None else tuple(not_ids),
            orientation=orientation,
        )
        return search_photos(self._engine, photos, options, crop=crop)

    def search_like(self, photo_id: int, options: SearchOptions | None = None) -> Hits:
        """Search with a photo of the index, by its stored descriptor and keypoints.

        Args:
            photo_id: `Hit.id` or `IndexedPhoto.id`.
            options: how to search; None: the defaults. The photo is taken upright.

        Returns:
            The hits. The photo itself is not among them.

        Raises:
            QueryError: the index has no such photo (any more), or the options do not go with each
                other or with this index.
        """
        options = options or SearchOptions()
        check_numbers(options)
        rerank = options.rerank if options.distance == "cosine" else "none"
        query = self._engine.query_of_photo(photo_id, rerank=rerank)
        picture = self._engine.picture_of_photo(photo_id) if options.mark_copies else []

        def found(wanted: SearchOptions) -> Hits:
            return Hits(self._engine.search(query, wanted, picture, leave_out=[photo_id]))

        told = watcher()
        if told is not None and rerank != "none":
            told.nearest(found(without_reranking(options)))
        return found(options)

    def search_many(
        self,
        queries: Iterable[PhotoSource | Sequence[PhotoSource]],
        *,
        options: SearchOptions | None = None,
        workers: int | None = None,
        on_error: Callable[[int, PhotoError], None] | None = None,
    ) -> Iterator[Hits]:
        """Search with many queries, several at the same time.

        Args:
            queries: each a photo as in `search`, or a list or tuple of photos of one thing.
            options: how to search; None: the defaults of `SearchOptions`.
            workers: queries that are searched at the same time. None: one for each core.
            on_error: called with the number of the query, from 0, and the error, if one of its
                photos cannot be read. That query has no hits, and the others go on. None: the
                error is raised.

        Yields:
            The hits of each query, in the order of `queries`.

        Raises:
            PhotoError: a photo cannot be read, and `on_error` is None.
            QueryError: the options do not go with each other or with this index.
        """
        engine = self._engine_with_threads(1)
        chosen = options or SearchOptions()
        groups = map(_photos_of_query, queries)
        return search_many(engine, groups, chosen, workers=workers, on_error=on_error)

    def recognize(
        self,
        *photos: PhotoSource,
        crop: Box | None = None,
        method: str = METHOD,
        precision: float = PRECISION,
        outsiders: bool = True,
        orientation: str = "auto",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Recognition:
        """Say what `photos` show, by the labelled photos of the index; or that it is unknown.

        The first call learns from the collection, which takes a while, and keeps the result beside
        the index until its photos or labels change.

        Args:
            photos: one photo, or several of one thing, recognised together: paths or (H, W, 3)
                uint8 RGB arrays.
            crop: (x, y, width, height), pixels of the upright photo: look at this region of it.
            method: one of `veduta.recognize.METHODS`.
            precision: share of the names given that should be right, in [0.5, 0.99].
            outsiders: take photos without a label as examples of what is to stay unknown.
            orientation: as in `search`. `Recognition.orientation` says how the photos were turned.
            on_progress: called with (done, total) while it learns.

        Raises:
            PhotoError: a photo cannot be read.
            QueryError: no photo has a label; all have the same one, and the encoder has no
                background (`veduta.recognize.background`); no method has that name, or the
                precision is out of range.
            EncoderMismatch: the index was replaced by another one meanwhile.
        """
        if not photos:
            raise QueryError("Name at least one photo.")
        space = self._engine.state.space
        recognizer = self.recognizer(method, outsiders=outsiders, on_progress=on_progress)
        views = self._engine.query_views(
            photos,
            crop=crop,
            rerank="auto" if recognizer.geometric else "none",
            regions=False,
        )
        answer, query = recognizer.answer_in_orientation(views, orientation)
        self._engine.require_space(query, space)
        snapshot = recognizer.labelled.gallery.snapshot
        hits = hits_of(snapshot, answer.ranking, VERIFIED_PHOTOS, query)
        return recognition_of(
            answer, recognizer.confidence, precision, hits, orientation=query.orientation
        )

    def recognizer(
        self,
        method: str = METHOD,
        *,
        outsiders: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Recognizer:
        """Return the recogniser of the newest version of the index. It is learned now if needed.

        Args:
            method: as in `recognize`.
            outsiders: as in `recognize`.
            on_progress: as in `recognize`.

        Raises:
            QueryError: no photo has a label; all have the same one, and the encoder has no
                background; or no method has that name.
        """
        state = self._engine.state
        kept = self._recognizers.get((method, outsiders))
        if kept is None or kept.labelled.gallery is not state.gallery:
            labels = state.snapshot.rows["label"].to_pylist()[: state.snapshot.photos]
            if not any(labels):
                paths = state.snapshot.rows["path"].to_pylist()[: state.snapshot.photos]
                raise QueryError(no_labels_message(self.path, paths))
            labelled = LabelledGallery.of(
                state.gallery,
                labels,
                outsiders=outsiders,
                background=background_of_index(self.path),
            )
            kept = cached_recognizer(self.path, labelled, method, on_progress=on_progress)
            self._recognizers[method, outsiders] = kept
        return kept

    def export_model(
        self,
        path: PathLike,
        *,
        outsiders: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write the linear recogniser of the index as a model folder that needs no index.

        Args:
            path: a folder that does not exist yet.
            outsiders: as in `recognize`.
            on_progress: as in `recognize`.

        Raises:
            CollectionError: the folder is there already or cannot be written.
            QueryError: no photo of the index has a label, or it is searched through a projection.
        """
        check_new(Path(path))  # before minutes of learning
        if self._engine.state.projection is not None:
            raise QueryError(
                "A model is applied to descriptors as the encoder makes them, but this index is "
                "searched through a projection: take it away first (`index.project(None)`)."
            )
        recognizer = self.recognizer("linear", outsiders=outsiders, on_progress=on_progress)
        encoder, extractor = self._engine.encoder, self._engine.extractor
        # As `Engine.read_photo` decodes them.
        long_side = max(encoder.long_side, extractor.long_side if extractor else 0)
        Model.of(recognizer, encoder, long_side).save(Path(path))

    def groups(
        self, *, min_size: int = 2, on_progress: Callable[[int, int], None] | None = None
    ) -> list[PhotoGroup]:
        """Return the places and objects of the collection, the largest first. No label is needed.

        The photos of a group are held together by pairs that geometry verifies, in such a way that
        one wrong pair does not join two groups (`veduta.explore.connectivity`).

        Args:
            min_size: the smallest number of different pictures of a group, at least 2. Copies of a
                photo count once.
            on_progress: called with (pairs verified, pairs to verify).

        Raises:
            QueryError: `min_size` is no such number, or the index has no keypoints.
            CollectionError: the photos are not all linked yet (call `add`).
            IndexDamaged: the index cannot be read.
        """
        from veduta.explore.photo_groups import find_groups

        return find_groups(self.path, min_size=min_size, on_progress=on_progress)

    def thumbnails(self, hits: Sequence[Hit]) -> list[bytes]:
        """Return the stored thumbnail (JPEG bytes) of each hit; empty if the row is gone since."""
        return self._engine.thumbnails.read([hit.id for hit in hits])

    def match_picture(
        self,
        query: PhotoSource | Sequence[PhotoSource],
        hit: Hit,
        *,
        crop: Box | None = None,
        width: int = 1600,
    ) -> Image.Image:
        """Draw the query and a hit with the matches of keypoints that agree.

        Args:
            query: the photo that was searched for, or the photos of one query. Of several photos
                the one with the most agreeing matches is drawn.
            hit: one that `search` returned for it.
            crop: as in `search`. Only the region is drawn.
            width: the largest width of the picture in pixels, at least 200.

        Raises:
            PhotoError: a photo cannot be read (any more).
            QueryError: the index has no keypoints, or the hit is not in it (any more).
        """
        photos = _photos_of_query(query)
        return draw_hit_matches(self._engine, photos, hit, crop=crop, width=width)

    def explain(
        self,
        query: PhotoSource | Sequence[PhotoSource],
        hit: Hit,
        *,
        method: str | None = None,
        region: Box | None = None,
        crop: Box | None = None,
    ) -> Explanation:
        """Say which regions of the query and of a hit make up their similarity.

        It explains the similarity of the descriptors, `Hit.similarity`, and not the evidence of
        keypoints, which `match_picture` draws.

        Args:
            query: the photo that was searched for, or the photos of one query. Of several photos
                the one that is most similar to the hit is explained.
            hit: one that `search` returned for it.
            method: one of `veduta.explanation.METHODS` that explains a similarity. None: "shares",
                or "occlusion" where the encoder's descriptor cannot be divided among positions.
            region: (x, y, width, height), pixels of the upright query: which part of the hit
                answers to this region. Only for "shares".
            crop: as in `search`. Only the region is explained.

        Returns:
            The map over the query. Its `against` is the map over the hit.

        Raises:
            PhotoError: a photo cannot be read (any more).
            EncoderError: the encoder cannot be explained by that method.
            QueryError: the hit is not in the index (any more), the method does not explain a
                similarity, or a region is not within the query.
        """
        from veduta.explanation.hits import explain_hit

        photos = _photos_of_query(query)
        return explain_hit(self._engine, photos, hit, method=method, region=region, crop=crop)

    def map_picture(
        self,
        query: PhotoSource | Sequence[PhotoSource],
        hit: Hit,
        *,
        crop: Box | None = None,
        width: int = 1600,
    ) -> Image.Image:
        """Draw the query and a hit under the map of their similarity, see `explain`.

        Args:
            query: as in `explain`.
            hit: one that `search` returned for it.
            crop: as in `search`. Only the region is drawn.
            width: the largest width of the picture in pixels.

        Raises:
            PhotoError: a photo cannot be read (any more).
            EncoderError: the descriptor of the encoder cannot be divided among positions.
            QueryError: the hit is not in the index (any more).
        """
        from veduta.explanation.map_pictures import pair_picture

        return pair_picture(self.explain(query, hit, method="shares", crop=crop), width)

    def check(self) -> Iterator[CheckFinding]:
        """Compare every row with its photo and its checksum: see `veduta.index.check_index`."""
        return check_index(self.path)


def create(
    path: PathLike,
    encoder: str = DEFAULT,
    keypoints: str | None = "xfeat",
    *,
    places: bool = True,
    regions: bool = False,
    device: str | None = None,
) -> Index:
    """Create an empty index in the folder `path` for the descriptors of `encoder`.

    Args:
        path: a folder that is empty or does not exist, or an address in an object store.
        encoder: see `veduta models`.
        keypoints: kept of each photo for geometric verification: one of `veduta.keypoints.KINDS`,
            with their number if it is not the usual one, as in "xfeat:512", or None to keep none.
            The usual 1024 of XFeat take 37 kB. "xfeat:1024:16bytes" take 20 kB, with 16 bytes a
            descriptor instead of 32, and verify fewer photos.
        places: store where photos were taken, if their Exif says so.
        regions: describe nine regions of each photo too, for things that fill a small part of one.
            They take about 3 kB a photo.
        device: where networks run, as for `open`.

    Raises:
        DeviceError: the device is not usable here.
        EncoderError: the encoder has no descriptors of regions.
        CollectionError: the folder holds something else.
        UnknownEncoder: no encoder has that name.
        EncoderUnavailable: the encoder is not on this machine and cannot be fetched.
        QueryError: no keypoints have that name, or regions are asked for without keypoints.
    """
    extractor = load_extractor(keypoints, device=device) if keypoints else None
    network = load_encoder(encoder, device=device)
    with changing(path) as change:
        create_index(change.path, network, extractor, places=places, regions=regions)
    return open(path, device=device)


def open(path: PathLike, *, device: str | None = None) -> Index:  # noqa: A001 - `veduta.open`, as the standard library does it
    """Open an index.

    Args:
        path: its folder, or its address in an object store, such as "s3://bucket/path". Then the
            copy on this machine is brought up to date and opened, and what changes the index
            publishes it. `Index.refresh` looks for a newer version.
        device: where networks run: "cpu", "cuda", "coreml", "directml" or "openvino". None:
            `$VEDUTA_DEVICE`, or "cpu". A photo that is described there raises DeviceError if the
            device is not usable.

    Raises:
        NotAnIndex: there is no index in the folder.
        IndexDamaged: its manifest does not read.
        StoreError: the store refuses, does not answer, or what it has is damaged.
        QueryError: no device has that name.
    """
    url = path if is_store_url(path) else None
    return Index(local_index(path), url=url, device=device)


def open_or_create(
    path: PathLike,
    encoder: str | None = None,
    keypoints: str | None = None,
    *,
    places: bool = True,
    regions: bool = False,
    device: str | None = None,
) -> Index:
    """Open the index at `path`, or create it; an existing one must be as asked for.

    Args:
        path: its folder, or its address in an object store.
        encoder: its encoder; None: any, or the default for a new one.
        keypoints: its keypoints, or `"none"`; None: any, or the default for a new one.
        places: False: it must not store where photos were taken.
        regions: with regions, as in `create`; False: either, or none for a new one.
        device: where networks run, as for `open`.

    Raises:
        DeviceError: the device is not usable here.
        EncoderMismatch: the index there holds another encoder's descriptors or other keypoints, or
            no regions.
        CollectionError: the index there stores places.
        EncoderError: the encoder has no descriptors of regions.
        QueryError: regions are asked for without keypoints.
    """
    kind = None if keypoints == "none" else keypoints or "xfeat"
    if not _is_there(path):
        extractor = load_extractor(kind, device=device) if kind else None
        network = load_encoder(encoder or DEFAULT, device=device)
        with changing(path) as change:
            open_or_create_index(change.path, network, extractor, places=places, regions=regions)
    index = open(path, device=device)
    if not places and has_places(open_snapshot(index.path)):
        raise CollectionError(
            f"{readable(index.path)} stores where its photos were taken. Index them again into "
            "another folder, without places."
        )
    if encoder is not None:
        index._manifest.require_encoder(load_encoder(encoder, device=device), index.path)
    if keypoints is not None:
        known = index._manifest.keypoints or {}
        # A kind without a number means any number: that of the index.
        count = known.get("count") if known.get("name") == kind else None
        wanted = None
        if kind:
            identity = known.get("identity")
            wanted = load_extractor(kind, count=count, identity=identity, device=device)
        index._manifest.require_extractor(wanted, index.path)
    if regions:
        index._manifest.require_regions(index.path)
    return index


def merge(
    *parts: PathLike,
    index: PathLike,
    allow_missing: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> MergeReport:
    """Make one index of several, such as the shards of a collection, or add them to an index.

    Nothing is read or encoded again, and the parts stay as they are. The index is as it was before
    until all rows are merged, also if the process is killed.

    Args:
        parts: the folders of the indexes, or their addresses in object stores.
        index: the folder of the index that they become, new or an index already, or its address.
        allow_missing: accept that not all shards are among the parts.
        on_progress: called with (stage, done, total), in photos.

    Raises:
        QueryError: no part is named, one is named twice, or `index` is among them.
        CollectionError: a part or the index cannot be used, or the parts do not fit together.
            `veduta.index.merge_indexes` names the kinds.
    """
    with changing(index) as change:
        report = merge_indexes(
            [local_index(part) for part in parts],
            change.path,
            allow_missing=allow_missing,
            on_progress=on_progress,
        )
        if report.interrupted:
            change.keep()
    return report


def match(
    a: PhotoSource,
    b: PhotoSource,
    *,
    encoder: str = DEFAULT,
    keypoints: str = RICHEST_KEYPOINTS,
    crop: Box | None = None,
    orientation: str = "auto",
    device: str | None = None,
) -> Match:
    """Compare two photos: do they show the same place or object?

    Args:
        a: a path, or an (H, W, 3) uint8 RGB array, upright.
        b: the other photo, likewise.
        encoder: see `veduta models`.
        keypoints: one of `veduta.keypoints.KINDS`, with their number if it is not the usual one.
        crop: compare only this region of the first photo: (x, y, width, height) in pixels of the
            upright photo.
        orientation: `"auto"` also tries the first photo turned and mirrored if the verdict on it as
            it is is not "same place". `"upright"` takes it as it is. Others of
            `veduta.search.ORIENTATIONS` turn it.
        device: where networks run, as for `open`.

    Raises:
        PhotoError: a photo cannot be read.
        DeviceError: the device is not usable here.
        UnknownEncoder: no encoder has that name.
        EncoderUnavailable: the encoder is not on this machine and cannot be fetched.
        QueryError: no keypoints have that name, an array is no photo, or the region is not within
            the photo.
    """
    threads = processor_cores()
    extractor = load_extractor(keypoints, threads=threads, device=device)
    network = load_encoder(encoder, threads=threads, device=device)
    return compare(a, b, network, extractor, crop=crop, orientation=orientation)


def explain(
    photo: PhotoSource,
    *,
    against: PhotoSource | None = None,
    model: PathLike | None = None,
    class_name: str | None = None,
    method: str | None = None,
    region: Box | None = None,
    encoder: str | Encoder | None = None,
    device: str | None = None,
) -> Explanation:
    """Say which regions of a photo decide its similarity to another photo, or the score of a class.

    Args:
        photo: a path, or an (H, W, 3) uint8 RGB array, upright.
        against: the other photo, likewise: explain the similarity of the two descriptors.
        model: folder of a run of `veduta train`, or of a recogniser that `Index.export_model`
            wrote: explain the score of a class. With `against`: the similarity of the embeddings of
            the run's network.
        class_name: one of the classes of the model; None: the one with the highest score.
        method: one of `veduta.explanation.METHODS`. None: the default for what is explained.
        region: (x, y, width, height), pixels of the upright photo: which part of the other photo
            answers to this region. Only for a similarity by the method "shares".
        encoder: for a similarity: a name, see `veduta models`, or an encoder of `load_encoder`.
            None: the default encoder.
        device: where the encoder of a similarity runs, as for `open`. A model, and an encoder that
            is given, run where they were opened.

    Returns:
        The map over the photo. For a similarity its `against` is the map over the other photo.

    Raises:
        PhotoError: a photo cannot be read.
        NotAnIndex: the folder holds no model.
        EncoderError: the encoder is unknown or cannot be explained by that method.
        LearnError: the run cannot be opened, or the method needs packages that are not installed.
        QueryError: neither `against` nor a model is named, the arguments do not go with each other,
            the model has no such class, or the method does not explain this.
    """
    if model is None:
        if against is None:
            raise QueryError("Name what to explain: another photo to compare with, or a model.")
        if class_name is not None:
            raise QueryError("A class is explained of a model: name its folder.")
        from veduta.explanation.pairs import explain_pair

        if encoder is None or isinstance(encoder, str):
            threads = processor_cores()
            encoder = load_encoder(encoder or DEFAULT, threads=threads, device=device)
        return explain_pair(encoder, photo, against, method=method, region=region)
    if encoder is not None:
        raise QueryError("A model has its own encoder: name either the model or the encoder.")
    if region is not None:
        raise QueryError("A region is explained for the similarity by an encoder, not of a model.")
    if against is not None and class_name is not None:
        raise QueryError("Name either a class or another photo: one of them is explained.")
    folder = Path(model)
    if (folder / RUN_MODEL).is_file():
        return _explain_run(folder, photo, against, class_name, method)
    from veduta.explanation.model_maps import explain_model

    if against is not None:
        raise QueryError(
            f"{readable(folder)}: this model gives no descriptors of its own; to explain a "
            "similarity, name the encoder."
        )
    return explain_model(open_model(folder), photo, class_name, method=method)


def _explain_run(
    run: Path,
    photo: PhotoSource,
    against: PhotoSource | None,
    class_name: str | None,
    method: str | None,
) -> Explanation:
    """Explain a run. Only the methods that ask about changed copies of a photo need no torch."""
    from veduta.explanation.methods import CHANGED_PHOTOS, method_for, require_packages
    from veduta.learn.explaining import changed_photos

    chosen = None
    if method is not None:
        chosen = method_for(method, "class" if against is None else "similarity").name
    if chosen in CHANGED_PHOTOS:
        if against is None:
            return changed_photos.explain_class_by_changes(run, photo, class_name, chosen)
        return changed_photos.explain_embedding_by_changes(run, photo, against, chosen)
    require_packages(chosen)
    from veduta.learn.explaining.run_maps import explain_class, explain_embedding

    if against is None:
        return explain_class(run, photo, class_name, chosen)
    return explain_embedding(run, photo, against, chosen)


def find_keypoints(
    photo: PhotoSource, *, keypoints: str = "xfeat", device: str | None = None
) -> PhotoKeypoints:
    """Return the keypoints of a photo, to look at them.

    Args:
        photo: a path, or an (H, W, 3) uint8 RGB array, upright.
        keypoints: one of `veduta.keypoints.KINDS`.
        device: where their network runs, as for `open`.

    Raises:
        PhotoError: the photo cannot be read.
        DeviceError: the device is not usable here.
        EncoderUnavailable: something that the keypoints need is not on this machine.
        QueryError: no keypoints have that name, or an array is no photo.
    """
    threads = processor_cores()
    return photo_keypoints(photo, load_extractor(keypoints, threads=threads, device=device))


def _shard_of(shard: object) -> Shard:
    """Return the shard that a pair of numbers names; raises QueryError if it names none."""
    if isinstance(shard, (tuple, list)) and len(shard) == 2:
        return Shard.of(*shard)
    raise QueryError(f"A shard is its number and the count of shards, (3, 16), not {shard!r}.")


def _is_there(path: PathLike) -> bool:
    """Tell whether there is an index in a folder or at an address."""
    if not is_store_url(path):
        return holds_index(Path(path))
    try:
        local_copy(path)
    except NotAnIndex:
        return False
    return True


def _with_changes(options: SearchOptions | None, **changes: Any) -> SearchOptions:
    """Return the options with those changes that are not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(options or SearchOptions(), **given)


def _as_tuple(label: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if label is None:
        return None
    return (label,) if isinstance(label, str) else tuple(label)


def _photos_of_query(query: PhotoSource | Sequence[PhotoSource]) -> Sequence[PhotoSource]:
    """Return the photos of a query that is one photo, or a list or tuple of photos."""
    return query if isinstance(query, (list, tuple)) else [cast("PhotoSource", query)]
