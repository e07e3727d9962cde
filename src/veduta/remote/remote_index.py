"""An index that a service holds."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from veduta import api, photos
from veduta.api import Index
from veduta.errors import CollectionError, PhotoError, QueryError, VedutaError, readable
from veduta.index import IndexedPhoto, LabelEdit, UpdateProgress, UpdateReport
from veduta.photos.orientation import orientation_named
from veduta.recognize import METHOD, PRECISION, Recognition
from veduta.remote.answers import (
    explanation_of,
    group_of,
    hit_of,
    photo_of,
    recognition_of,
    report_of,
)
from veduta.remote.connection import Connection
from veduta.search import Box, Hit, Hits, PhotoSource, SearchOptions
from veduta.search.batch import search_each
from veduta.search.options import check_numbers, is_whole_number
from veduta.search.query import QueryPhoto, read_photo

if TYPE_CHECKING:
    from veduta.explanation import Explanation
    from veduta.explore.photo_groups import PhotoGroup

__all__ = ["RemoteIndex", "open"]

_PAGE = 200
_WORKERS = 4
_JSON = "application/json"
_LOCAL_ONLY = frozenset({"path", "_url", "_engines", "_manifest", "_writers", "_recognizers"})


class RemoteIndex(Index):
    """An index of a service. `veduta.open` returns one for an address.

    What needs the files of the index raises `QueryError`: its descriptors, `encode`,
    `match_picture`, `project`, `check` and the like.

    Attributes:
        url: the address of the service.
        name: of the index in the service; None: the first.
    """

    def __init__(self, url: str, *, key: str | None = None, name: str | None = None) -> None:
        """Connect to a service; raises as `veduta.open` does."""
        self._connection = Connection(url, key)
        self.url = self._connection.url
        self.name = name
        self._facts()

    def __getattr__(self, name: str) -> Any:
        if name in _LOCAL_ONLY:
            raise QueryError(
                f"{self.url} is a service: this needs the files of the index. Open its folder on "
                "the machine that has it."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _facts(self) -> dict[str, Any]:
        indexes: list[dict[str, Any]] = self._connection.get("indexes")["indexes"]
        for facts in indexes:
            if self.name in (None, facts["name"]):
                return facts
        known = ", ".join(facts["name"] for facts in indexes)
        raise QueryError(f"{self.url} has no index {self.name!r}. It has: {known}")

    def __repr__(self) -> str:
        return f"<veduta.RemoteIndex {self.url!r}, index {self.name or 'default'!r}>"

    def __len__(self) -> int:
        """Return the number of photos that can be searched."""
        return int(self._facts()["photos"])

    def __iter__(self) -> Iterator[IndexedPhoto]:
        """Yield the photos that can be searched, by their path."""
        return self._photos()

    def _photos(self, folder: str | None = None) -> Iterator[IndexedPhoto]:
        """Yield the photos in a folder or below it; None: all."""
        cursor = None
        while True:
            page = self._connection.get(
                "photos", index=self.name, limit=_PAGE, cursor=cursor, folder=folder
            )
            yield from map(photo_of, page["photos"])
            cursor = page["next"]
            if cursor is None:
                return

    def __contains__(self, path: object) -> bool:
        """Tell whether the photo with this path, on the machine of the service, is indexed."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        wanted = readable(path)
        return any(photo.path == wanted for photo in self._photos(os.path.dirname(wanted)))

    def refresh(self) -> bool:
        """Return False: a service always answers from its newest version."""
        return False

    def close(self) -> None:
        """Close the connections. A later call opens them again."""
        self._connection.close()

    @property
    def notice(self) -> str | None:
        """What the user must know about damage of the index before a search, or None."""
        return cast("str | None", self._facts()["notice"])

    def status(self) -> dict[str, Any]:
        """Return what the index holds, as `Index.status`."""
        return cast("dict[str, Any]", self._connection.get("indexes", self._facts()["name"]))

    def search(
        self,
        *photos: PhotoSource,
        options: SearchOptions | None = None,
        crop: Box | None = None,
        label: str | Iterable[str] | None = None,
        **changes: Any,
    ) -> Hits:
        """Search as `Index.search`. The service compares by cosine, and chooses `exact` itself.

        Args:
            photos: as in `Index.search`; files are read on this machine and sent.
            options: as in `Index.search`.
            crop: as in `Index.search`.
            label: as in `Index.search`.
            changes: the other arguments of `Index.search`.

        Raises:
            PhotoError: a query cannot be read.
            QueryError: the options are not possible.
            ServiceError: the service refuses, or cannot be reached.
        """
        if not photos:
            raise QueryError("Name at least one query photo.")
        given = {name: value for name, value in changes.items() if value is not None}
        if label is not None:
            given["labels"] = (label,) if isinstance(label, str) else tuple(label)
        try:
            wanted = replace(options or SearchOptions(), **given)
        except TypeError as error:
            raise QueryError(f"A search has no such option: {error}") from error
        fields = self._query(crop, wanted.orientation) | _search_fields(wanted)
        sent = [_sent(photo) for photo in photos]

        def page(cursor: str | None) -> dict[str, Any]:
            return self._post("search", sent, {**fields, "cursor": cursor})

        return _all_pages(page, wanted.k)

    def search_like(self, photo_id: int, options: SearchOptions | None = None) -> Hits:
        """Search with a photo of the index, as `Index.search_like`."""
        wanted = options or SearchOptions()
        fields = {"index": self.name, "photo_id": photo_id, **_search_fields(wanted)}

        def page(cursor: str | None) -> dict[str, Any]:
            sent = {**fields, "cursor": cursor}
            return cast("dict[str, Any]", self._connection.send("POST", "search", fields=sent))

        return _all_pages(page, wanted.k)

    def search_many(
        self,
        queries: Iterable[PhotoSource | Sequence[PhotoSource]],
        *,
        options: SearchOptions | None = None,
        workers: int | None = None,
        on_error: Callable[[int, PhotoError], None] | None = None,
    ) -> Iterator[Hits]:
        """Search with many queries, several at the same time, as `Index.search_many`."""

        def search(query: PhotoSource | Sequence[PhotoSource]) -> Hits:
            photos = query if isinstance(query, (list, tuple)) else [query]
            return self.search(*cast("Sequence[PhotoSource]", photos), options=options)

        return search_each(queries, search, workers=workers or _WORKERS, on_error=on_error)

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
        """Say what photos show, as `Index.recognize`. The service knows the default method only.

        Args:
            photos: as in `Index.recognize`; files are read on this machine and sent.
            crop: as in `Index.recognize`.
            method: the default one.
            precision: as in `Index.recognize`.
            outsiders: True.
            orientation: as in `Index.recognize`.
            on_progress: is not called: the service learns before it answers.

        Raises:
            PhotoError: a photo cannot be read.
            QueryError: no photo is named, or the service does not know the method.
            ServiceError: the service refuses, or cannot be reached.
        """
        del on_progress
        if not photos:
            raise QueryError("Name at least one photo.")
        if method != METHOD or not outsiders:
            raise QueryError("A service recognises by the default method only, with outsiders.")
        fields = {**self._query(crop, orientation), "precision": precision}
        return recognition_of(self._post("recognize", [_sent(one) for one in photos], fields))

    def thumbnails(self, hits: Sequence[Hit]) -> list[bytes]:
        """Return the stored thumbnail (JPEG bytes) of each hit."""
        return [
            self._connection.get_bytes("photos", hit.id, "thumbnail", index=self.name)
            for hit in hits
        ]

    def groups(
        self, *, min_size: int = 2, on_progress: Callable[[int, int], None] | None = None
    ) -> list[PhotoGroup]:
        """Return the places and objects of the collection, as `Index.groups`.

        Args:
            min_size: as in `Index.groups`.
            on_progress: is not called: the service forms all groups before it answers.

        Raises:
            QueryError: as `Index.groups`.
            ServiceError: the service refuses, or cannot be reached.
        """
        from veduta.explore.photo_groups import MIN_SIZE

        del on_progress
        if not is_whole_number(min_size) or min_size < MIN_SIZE:
            raise QueryError(f"A group has at least {MIN_SIZE} photos, not {min_size!r}.")
        answers: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self._connection.get(
                "groups", index=self.name, min_size=min_size, limit=_PAGE, cursor=cursor
            )
            answers += page["groups"]
            cursor = page["next"]
            if cursor is None:
                break
        photos = {photo.id: photo for photo in self._photos()} if answers else {}
        return [group_of(answer, photos) for answer in answers]

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

        Args:
            query: one photo, as in `Index.explain`; its file is read on this machine and sent.
            hit: as in `Index.explain`.
            method: None: the service chooses it.
            region: None.
            crop: as in `Index.explain`.

        Raises:
            PhotoError: a photo cannot be read (any more).
            QueryError: several photos, a method or a region are named, or the hit is gone.
            ServiceError: the service refuses, or cannot be reached.
        """
        if isinstance(query, (list, tuple)) or method is not None or region is not None:
            raise QueryError(
                "A service explains one photo of a query, by its own method and without a region."
            )
        photo = cast("PhotoSource", query)
        fields = {**self._query(crop, hit.orientation.name), "hit_id": hit.id}
        answer = self._post("explain", [_sent(photo)], fields)
        preview = self._connection.get_bytes("photos", hit.id, "preview", index=self.name)
        found = photos.decode(preview, path=hit.path).pixels
        return explanation_of(answer, read_photo(photo, None, crop).pixels, found)

    def map_picture(
        self,
        query: PhotoSource | Sequence[PhotoSource],
        hit: Hit,
        *,
        crop: Box | None = None,
        width: int = 1600,
    ) -> Image.Image:
        """Draw the query and a hit under the map of their similarity, as `Index.map_picture`."""
        if isinstance(query, (list, tuple)):
            raise QueryError("A service draws one photo of a query: name it.")
        fields = {
            **self._query(crop, hit.orientation.name),
            "hit_id": hit.id,
            "side": max(100, min(width, 2000)),
        }
        sent = [_sent(cast("PhotoSource", query))]
        data = self._connection.post_photos(
            "explain", photos=sent, fields=fields, accept="image/png"
        )
        return Image.open(io.BytesIO(data))

    def edit_labels(self, labels: Mapping[int, str | None]) -> list[LabelEdit]:
        """Give photos other labels, as `Index.edit_labels`."""
        changes = [{"id": int(number), "label": label} for number, label in labels.items()]
        if not changes:
            return []
        answer = self._connection.send(
            "PATCH", "photos", fields={"changes": changes}, index=self.name
        )
        return [LabelEdit(one["id"], one["label"], one["previous"]) for one in answer["changes"]]

    def remove(self, *paths: api.PathLike) -> int:
        """Remove photos, by their paths on the machine of the service, as `Index.remove`."""
        found: set[int] = set()
        for path in map(readable, paths):
            found.update(photo.id for photo in self._photos(path))
            beside = self._photos(os.path.dirname(path))
            found.update(photo.id for photo in beside if photo.path == path)
        for number in found:
            self._connection.send("DELETE", "photos", number, index=self.name)
        return len(found)

    def add(
        self,
        *folders: api.PathLike,
        labels: api.PathLike | None = None,
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
        """Let the service index folders of its machine, and wait for the end, as `Index.add`.

        Ctrl-C cancels the run. What it has read stays.

        Args:
            folders: on the machine of the service.
            labels: as in `Index.add`; a CSV is on the machine of the service.
            exclude: as in `Index.add`.
            on_progress: as in `Index.add`, a few times a second.
            on_linking: as in `Index.add`.
            allow_empty: as in `Index.add`.
            allow_label_loss: as in `Index.add`.
            reread: as in `Index.add`.
            accept_truncated: as in `Index.add`.
            all_photos: as in `Index.add`.
            shard: None: a service keeps whole collections, and updates a shard as such.
            runtime: None: the service chooses it.

        Raises:
            CollectionError: the run failed, or somebody else cancelled it.
            QueryError: a runtime or a shard is named.
            ServiceError: the service refuses, or cannot be reached.
        """
        if runtime is not None:
            raise QueryError("A service chooses the runtime itself.")
        if shard is not None:
            raise QueryError("A service makes no shards: use `veduta index --shard`.")
        fields = {
            "index": self.name,
            "folders": [readable(folder) for folder in folders],
            "labels": None if labels is None else readable(labels),
            "exclude": None if exclude is None else list(exclude),
            "allow_empty": allow_empty,
            "allow_label_loss": allow_label_loss,
            "reread": reread,
            "accept_truncated": accept_truncated,
            "all_photos": all_photos,
        }
        job = self._connection.send("POST", "jobs", "index", fields=fields)["id"]
        state: dict[str, Any] = {}
        try:
            for state in self._connection.events("jobs", job, "events"):
                if state.get("stage") == "linking" and on_linking is not None:
                    on_linking(state["done"], state["total"])
                elif state.get("stage") == "indexing" and on_progress is not None:
                    done = state["done"]
                    on_progress(UpdateProgress(done, done, state["total"]))
        except KeyboardInterrupt:
            self._connection.send("DELETE", "jobs", job)
            raise
        if "report" in state:
            return report_of(state["report"])
        raise _run_error(state)

    def _query(self, crop: Box | None, orientation: str) -> dict[str, Any]:
        return {
            "index": self.name,
            "box": None if crop is None else list(map(int, crop)),
            "orientation": orientation,
        }

    def _post(
        self, path: str, sent: Sequence[tuple[str, bytes]], fields: dict[str, Any]
    ) -> dict[str, Any]:
        data = self._connection.post_photos(path, photos=sent, fields=fields, accept=_JSON)
        return cast("dict[str, Any]", json.loads(data))


def open(  # noqa: A001 - `veduta.open`, as the standard library does it
    path: api.PathLike,
    *,
    key: str | None = None,
    name: str | None = None,
    device: str | None = None,
) -> Index:
    """Open an index: a folder, one in an object store, or one of a service (`veduta serve`).

    Args:
        path: its folder; its address in an object store, such as "s3://bucket/path"; or the
            address of a service, such as "http://host:8642".
        key: of the service; None: `$VEDUTA_KEY`, or no key.
        name: of the index in the service; None: the first one. A folder has no name.
        device: where networks run, as for `veduta.api.open`. A service chooses its device itself.

    Raises:
        NotAnIndex: there is no index in the folder.
        IndexDamaged: its manifest does not read.
        ServiceError: the service refuses, or cannot be reached.
        StoreError: the object store refuses, or does not answer.
        QueryError: the service has no such index, a device is named for a service, or no device
            has that name.
    """
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        if device is not None:
            raise QueryError("A service chooses the device itself: start it with --device.")
        return RemoteIndex(path, key=key or os.environ.get("VEDUTA_KEY") or None, name=name)
    return api.open(path, device=device)


def _search_fields(options: SearchOptions) -> dict[str, Any]:
    check_numbers(options)
    if options.distance != "cosine":
        raise QueryError("A service compares by the cosine distance only.")
    times = {
        when: value if isinstance(value, str) else value.isoformat()
        for when, value in (("after", options.after), ("before", options.before))
        if value is not None
    }
    filters = {
        **({"label": list(options.labels)} if options.labels else {}),
        **({} if options.under is None else {"folder": readable(options.under)}),
        **times,
    }
    return {
        "filters": filters,
        "limit": min(options.k, _PAGE),
        "rerank": options.rerank,
        "verify": options.verify,
        "min_score": options.min_score,
        "fold_copies": options.fold_copies,
        "mark_copies": options.mark_copies,
        "not_ids": list(map(int, options.not_ids)),
    }


def _all_pages(page: Callable[[str | None], dict[str, Any]], k: int) -> Hits:
    """Return the first k hits of a search."""
    answer = page(None)
    found = list(map(hit_of, answer["results"]))
    while len(found) < k and answer["next"] is not None:
        answer = page(answer["next"])
        found += map(hit_of, answer["results"])
    return Hits(found[:k], orientation_named(answer["orientation"]))


def _sent(photo: PhotoSource) -> tuple[str, bytes]:
    """Return the name and the bytes of a photo: of its file, or of its pixels as PNG."""
    if isinstance(photo, QueryPhoto):
        photo = photo.pixels
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise QueryError(
                "A photo array must be (height, width, 3) uint8 RGB, not "
                f"{photo.shape} {photo.dtype}."
            )
        stream = io.BytesIO()
        Image.fromarray(photo).save(stream, "PNG", compress_level=1)
        return "photo.png", stream.getvalue()
    return os.path.basename(readable(photo)), photos.read_bytes(photo)


def _run_error(state: dict[str, Any]) -> VedutaError:
    if state.get("state") == "cancelled":
        return CollectionError("The indexing run was cancelled. What it has read stays.")
    return CollectionError(str(state.get("detail") or "The indexing run ended without a report."))
