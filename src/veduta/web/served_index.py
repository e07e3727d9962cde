"""One index of a service: opened once, used by many requests.

Everything here may wait for the disk or the network, so it runs in threads, never on the event
loop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta import photos
from veduta.api import Index
from veduta.errors import CollectionError, PhotoUnreadable, readable
from veduta.index import IndexedPhoto, LabelEdit, Manifest, Snapshot, row_of_photo
from veduta.index.places import has_places, places_of
from veduta.index.table import is_locked
from veduta.photos.orientation import orientation_named
from veduta.recognize import Recognition
from veduta.search import Box, Hit, Hits, SearchOptions
from veduta.search.options import AUTO
from veduta.search.pair import Match, compare
from veduta.search.query import QueryPhoto
from veduta.stored_index import is_store_url
from veduta.stored_index.fetching import usable_copy
from veduta.text import printable, veduta_command
from veduta.web.batched_encoder import BatchedEncoder
from veduta.web.cursors import PhotoCursor
from veduta.web.photo_filters import PhotoFilters
from veduta.web.problems import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders import Encoder
    from veduta.explanation import Explanation
    from veduta.explore.photo_groups import PhotoGroup
    from veduta.search import Engine

__all__ = ["PhotoFile", "PhotoPage", "ServedIndex"]

_log = logging.getLogger(__name__)

_MOST_TRIES = 3

_MOST_LINKING_SECONDS = 10.0
_LINKING_PAUSE_SECONDS = 0.1

_PLACE_DIGITS = 6
"""Of a degree: 0.1 m."""

_ROW_COLUMNS = ("id", "path", "label", "width", "height", "taken")


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """The file of an indexed photo.

    Attributes:
        path: of the file.
        data: its bytes, the same as when it was indexed.
        format: one of `veduta.photos.FORMATS`.
    """

    path: str
    data: bytes
    format: str


@dataclass(frozen=True, slots=True)
class PhotoPage:
    """One page of a list of photos.

    Attributes:
        photos: of the page.
        total: number of photos on all pages.
        next: where the next page begins; None after the last one.
    """

    photos: list[IndexedPhoto]
    total: int
    next: PhotoCursor | None


@dataclass(frozen=True, slots=True)
class Places:
    """Where photos were taken.

    Attributes:
        version: of the index.
        points: id, latitude and longitude of each photo that has a place.
        without: number of the other photos.
        stored: whether the index stores places.
    """

    version: str
    points: list[dict[str, float]]
    without: int
    stored: bool


class ServedIndex:
    """An index with a name.

    Attributes:
        name: for clients.
        url: of its store; None: it is in a folder, where requests may change it.
        encoder: set when it is loaded.
        learned: how many photos are done and how many there are, while labels are learned.
    """

    def __init__(self, name: str, place: Path | str) -> None:
        """Open the index; raises as `veduta.open` does.

        Args:
            name: for clients.
            place: its folder, or its address in an object store. If the store is away, the copy on
                this machine is used.
        """
        self.name = name
        self.url = place if is_store_url(place) else None
        self.encoder: BatchedEncoder | None = None
        path, problem = usable_copy(place)
        self._index = Index(path, url=self.url, wrap_encoder=self._batched)
        self._is_cut_off = False
        self._note_store(problem)
        self.learned: tuple[int, int] | None = None
        self._learning = threading.Lock()
        self._groups: tuple[str, list[PhotoGroup]] = ("", [])
        self._order: tuple[str, dict[str, NDArray[np.intp]]] = ("", {})

    def _batched(self, encoder: Encoder) -> BatchedEncoder:
        self.encoder = BatchedEncoder(encoder)
        return self.encoder

    @property
    def path(self) -> Path:
        """Its folder; of one in an object store, the copy on this machine."""
        return self._index.path

    def refresh(self) -> None:
        """Use the newest version that the store has. If the store is away, nothing changes."""
        try:
            self._index.refresh()
        except (CollectionError, OSError) as error:
            self._note_store(error)
        else:
            self._note_store(None)

    def _note_store(self, problem: Exception | None) -> None:
        """Remember whether the store answers; when that changes for the worse, say why."""
        if problem is not None and not self._is_cut_off:
            _log.warning("veduta: %s", printable(str(problem)))
        self._is_cut_off = problem is not None

    def _notice(self, notice: str | None) -> str | None:
        """Return a notice about the index, with what is to be said about its store."""
        store = "Newer versions cannot be fetched now: the reason is in the log of the server."
        return " ".join(filter(None, (notice, store if self._is_cut_off else None))) or None

    def require_own(self) -> None:
        """Refuse to change an index that is in an object store.

        Raises:
            Problem: 403, it is.
        """
        if self.url is not None:
            change = veduta_command("index", "--index", self.url)
            raise Problem(
                403,
                f"The index {self.name} is in an object store. It is changed there: {change}",
                kind="ReadOnly",
            )

    def open(self) -> None:
        """Map the files of the index into memory."""
        self.snapshot()

    def load(self) -> None:
        """Load the networks, so that the first search does not wait for them."""
        _ = self._engine.encoder, self._engine.extractor

    @property
    def _engine(self) -> Engine:
        return self._index._engine

    def snapshot(self) -> Snapshot:
        """Return the newest version of the index."""
        return self._engine.state.snapshot

    @property
    def version(self) -> str:
        """The version of the index as it is searched now; any change gives another one."""
        return self.snapshot().name

    def state(self) -> tuple[str, str | None]:
        """Return the version, and what the user must know about damage of the index, or None."""
        state = self._engine.state
        return state.snapshot.name, self._notice(state.notice)

    def facts(self) -> dict[str, Any]:
        """Return what the index is, in short, as JSON types."""
        state = self._engine.state
        labels = state.snapshot.rows["label"].slice(0, state.snapshot.photos)
        return {
            "name": self.name,
            "photos": state.snapshot.photos,
            "version": state.snapshot.name,
            "encoder": state.manifest.encoder["name"],
            "verifies": state.manifest.keypoints is not None,
            "regions": state.manifest.regions is not None,
            "labels": len(labels.drop_null().unique()),
            "locked": is_locked(self.path),
            "notice": self._notice(state.notice),
        }

    def status(self) -> dict[str, Any]:
        """Return everything that `veduta status --json` says."""
        status = self._index.status()
        status["index"] = self.url or readable(status["index"])
        status["notice"] = self._notice(status["notice"])
        status["folders"] = [readable(folder) for folder in status["folders"]]
        status["unreadable"] = [
            {**one, "path": readable(one["path"])} for one in status["unreadable"]
        ]
        return status

    def long_side(self) -> int:
        """Return the long side in pixels at which a query is decoded."""
        return self._engine.long_side

    def search(
        self, queries: Sequence[QueryPhoto], options: SearchOptions, box: Box | None
    ) -> Hits:
        """Search with photos of one thing."""
        return self._index.search(*queries, options=options, crop=box)

    def search_like(self, photo_id: int, options: SearchOptions) -> Hits:
        """Search with a photo of the index."""
        self.photo(photo_id)
        return self._index.search_like(photo_id, options)

    def recognize(self, queries: Sequence[QueryPhoto], **options: Any) -> Recognition:
        """Name what photos show."""
        with self._learning:  # The first call learns, and others would learn the same.
            try:
                self._index.recognizer(on_progress=self._note_learned)
            finally:
                self.learned = None
        return self._index.recognize(*queries, **options)

    def _note_learned(self, done: int, total: int) -> None:
        self.learned = done, total

    def match(
        self, query: QueryPhoto, other: QueryPhoto, *, crop: Box | None, orientation: str
    ) -> Match:
        """Compare two photos.

        Args:
            query: the first photo, or the region of it.
            other: the second photo.
            crop: this region.
            orientation: as in `veduta.match`.

        Raises:
            Problem: 409, the index has no keypoints.
        """
        extractor = self._engine.extractor
        if extractor is None:
            raise Problem(
                409,
                f"The index {self.name} has no keypoints, so two photos cannot be compared.",
                kind="NoKeypoints",
            )
        return compare(
            query, other, self._engine.encoder, extractor, crop=crop, orientation=orientation
        )

    def explain(
        self, query: QueryPhoto, photo_id: int, *, orientation: str, box: Box | None
    ) -> Explanation:
        """Say which regions of a query and of a photo make up their similarity."""
        photo = self.photo(photo_id)
        turn = orientation_named("upright" if orientation == AUTO else orientation)
        engine = self._engine
        encoded = engine.encode_query([query], crop=box, rerank="none", orientation=turn)
        row = self._row(photo_id)
        descriptor = self.snapshot().take(np.array([row]))[0]
        similarity = float(encoded.descriptor @ descriptor)
        hit = Hit(
            photo.path,
            similarity,
            similarity,
            photo.label,
            photo.width,
            photo.height,
            photo.taken,
            photo.id,
            orientation=turn,
        )
        return self._index.explain(query, hit, crop=box)

    def explain_photos(self, photo: QueryPhoto, other: QueryPhoto) -> Explanation:
        """Say which regions of two photos, as they are, make up their similarity."""
        from veduta.explanation.pairs import explain_pair

        engine = self._engine
        return explain_pair(
            engine.encoder,
            photo,
            other,
            projection=engine.state.projection,
            at_least=self.long_side(),
        )

    def photo(self, photo_id: int) -> IndexedPhoto:
        """Return a photo.

        Args:
            photo_id: `IndexedPhoto.id`.

        Raises:
            Problem: 404, there is no such photo.
        """
        snapshot = self.snapshot()
        row = self._row(photo_id)
        return _photos(snapshot, np.array([row]))[0]

    def _row(self, photo_id: int) -> int:
        row = row_of_photo(self.snapshot(), photo_id)
        if row is None:
            raise Problem(
                404,
                f"The index {self.name} has no photo number {photo_id} (any more).",
                kind="NoSuchPhoto",
            )
        return row

    def page(
        self, filters: PhotoFilters, order: str, limit: int, cursor: PhotoCursor | None
    ) -> PhotoPage:
        """Return one page of the photos that meet conditions.

        Args:
            filters: the conditions.
            order: "path", "taken" (the newest first, those without a date last) or "id".
            limit: most photos of a page.
            cursor: of the page; None: the first.
        """
        snapshot = self.snapshot()
        rows = self._met(snapshot, filters, order)
        start = 0
        if cursor is not None:
            ids = snapshot.ids[rows]
            found = np.flatnonzero(ids == cursor.last_id)
            start = int(found[0]) + 1 if len(found) else max(0, cursor.position)
        shown = _photos(snapshot, rows[start : start + limit])
        stop = start + len(shown)
        more = shown and stop < len(rows)
        return PhotoPage(shown, len(rows), PhotoCursor(shown[-1].id, stop) if more else None)

    def ids(self, filters: PhotoFilters, order: str) -> tuple[str, list[int]]:
        """Return the version of the index, and the ids of the photos that `page` lists."""
        snapshot = self.snapshot()
        rows = self._met(snapshot, filters, order)
        return snapshot.name, snapshot.ids[rows].tolist()

    def places(self, filters: PhotoFilters) -> Places:
        """Return where photos that meet conditions were taken."""
        snapshot = self.snapshot()
        rows = self._met(snapshot, filters, "id")
        places = places_of(snapshot)[rows]
        known = ~np.isnan(places[:, 0])
        ids = snapshot.ids[rows[known]]
        points = zip(ids.tolist(), places[known].round(_PLACE_DIGITS).tolist(), strict=True)
        return Places(
            version=snapshot.name,
            points=[{"id": number, "lat": lat, "lon": lon} for number, (lat, lon) in points],
            without=int((~known).sum()),
            stored=has_places(snapshot),
        )

    def _met(self, snapshot: Snapshot, filters: PhotoFilters, order: str) -> NDArray[np.intp]:
        """Return the rows that meet conditions, in an order."""
        rows = self._ordered(snapshot, order)
        met = filters.rows(snapshot)
        if filters.group is not None:
            members = [photo.id for photo in self.group_of(filters.group)[1].photos]
            met = met & np.isin(snapshot.ids, members)
        return rows[met[rows]]

    def _ordered(self, snapshot: Snapshot, order: str) -> NDArray[np.intp]:
        """Return the rows in an order. It is kept until the index changes."""
        import pyarrow.compute as pc

        name, orders = self._order
        if name != snapshot.name:
            orders = {}
            self._order = snapshot.name, orders
        if order not in orders:
            direction = "descending" if order == "taken" else "ascending"
            table = snapshot.rows.select(["taken", "path", "id"]).slice(0, snapshot.photos)
            keys = [(order, direction)] + ([("path", "ascending")] if order == "taken" else [])
            sorted_rows = pc.sort_indices(table, sort_keys=keys)
            orders[order] = sorted_rows.to_numpy().astype(np.intp)
        return orders[order]

    def facets(self) -> dict[str, list[dict[str, Any]]]:
        """Return by what the photos can be filtered: labels, folders and months, with counts."""
        snapshot = self.snapshot()
        rows = snapshot.rows.select(["path", "label", "taken"]).slice(0, snapshot.photos)
        labels = Counter(rows["label"].to_pylist())
        folders = Counter(os.path.dirname(path) for path in rows["path"].to_pylist())
        months = Counter(
            None if taken is None else taken.strftime("%Y-%m")
            for taken in rows["taken"].to_pylist()
        )
        return {
            "labels": _counted(labels, "label"),
            "folders": _counted({readable(one): n for one, n in folders.items()}, "folder"),
            "months": _counted(months, "month"),
        }

    def groups(self) -> tuple[str, list[PhotoGroup]]:
        """Return the version of the index, and its groups, the largest first.

        The first call for a version may take minutes.

        Raises:
            Problem: 409, the index changes all the time.
        """
        for _ in range(_MOST_TRIES):
            name = self.version
            known, groups = self._groups
            if known == name:
                return name, groups
            groups = self._linked_groups()
            if self.version == name:
                self._groups = name, groups
                return name, groups
        raise Problem(409, "The index changes while its groups are formed. Try again later.")

    def _linked_groups(self) -> list[PhotoGroup]:
        """Return the groups. While a writer links what it has written, wait for it."""
        stop = time.monotonic() + _MOST_LINKING_SECONDS
        is_last = False
        while True:
            try:
                return self._index.groups()
            except CollectionError:
                if is_last:
                    raise
            # A writer that is no longer at work may have ended after the error.
            is_last = not is_locked(self.path) or time.monotonic() > stop
            time.sleep(_LINKING_PAUSE_SECONDS)

    def group_of(self, photo_id: int) -> tuple[str, PhotoGroup]:
        """Return the version of the index, and the group that a photo is in.

        Args:
            photo_id: `IndexedPhoto.id`.

        Raises:
            Problem: 404, there is no such photo, or it is in no group.
        """
        self.photo(photo_id)
        version, groups = self.groups()
        for group in groups:
            if any(photo.id == photo_id for photo in group.photos):
                return version, group
        raise Problem(404, f"Photo number {photo_id} is in no group.", kind="NoSuchGroup")

    def thumbnail(self, photo_id: int) -> bytes:
        """Return the stored JPEG of a photo, whose long side is a few hundred pixels."""
        self._row(photo_id)
        return self._engine.thumbnails.read([photo_id])[0]

    def original(self, photo_id: int) -> PhotoFile:
        """Read the file of a photo, if it is still as it was indexed.

        Another file may have its name by now. It is not of the collection, so it is not sent.

        Args:
            photo_id: `IndexedPhoto.id`.

        Raises:
            PhotoUnreadable: the file is gone, or has changed since it was indexed.
        """
        snapshot = self.snapshot()
        row = self._row(photo_id)
        columns = snapshot.rows.slice(row, 1).select(["path", "content", "format"]).to_pylist()[0]
        path = os.fsdecode(columns["path"])
        data = photos.read_bytes(path)
        if photos.content_hash(data) != columns["content"]:
            raise PhotoUnreadable(
                path, "the file has changed since it was indexed: update the index"
            )
        return PhotoFile(path, data, columns["format"])

    def edit_labels(self, labels: Mapping[int, str | None]) -> list[LabelEdit]:
        """Give photos other labels."""
        self.require_own()
        for photo_id in labels:
            self._row(photo_id)
        return self._index.edit_labels(labels)

    def remove(self, photo_ids: Sequence[int]) -> None:
        """Take photos out of the index, all or none. Their files stay."""
        self.require_own()
        self._index.remove(*[self.photo(photo_id).path for photo_id in photo_ids])

    def manifest(self) -> Manifest:
        """Return what the index is."""
        return self._engine.state.manifest


def _photos(snapshot: Snapshot, rows: NDArray[np.intp]) -> list[IndexedPhoto]:
    columns = snapshot.rows_at(rows, _ROW_COLUMNS).to_pylist()
    return [IndexedPhoto(**{**row, "path": os.fsdecode(row["path"])}) for row in columns]


def _counted(counts: Mapping[Any, int], name: str) -> list[dict[str, Any]]:
    """Return values with their counts, sorted by value; None comes last."""
    ordered = sorted(counts.items(), key=lambda pair: (pair[0] is None, pair[0] or ""))
    return [{name: value, "photos": number} for value, number in ordered]
