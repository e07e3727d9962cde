"""Bring an index up to date with folders of photos.

One pass, in one direction: list the files, compare them with the rows, take each new or changed
file from bytes to descriptor in a worker, commit in batches. Each worker takes one photo all the
way by itself on one core, so reading, decoding and the network overlap without queues between
them, and memory holds a bounded number of photos however many there are.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.encoders import Encoder
from veduta.errors import CollectionError, IndexDamaged, PhotoUnreadable, readable
from veduta.index import keypoint_files
from veduta.index.describing import Described, KnownContent, Outcome, Unreadable, describe_file
from veduta.index.graph import OnProgress, build_graph, graph_is_whole
from veduta.index.keypoint_files import KeypointWriter
from veduta.index.labels import FOLDERS, Labeller, labeller
from veduta.index.manifest import Manifest
from veduta.index.snapshot import Snapshot, build_snapshot, open_snapshot
from veduta.index.table import Table, create_table, open_table, writer_lock
from veduta.keypoints import Extractor

COMMIT_ROWS = 512
COMMIT_SECONDS = 10.0
_OF_A_PHOTO = (
    "content",
    "format",
    "width",
    "height",
    "taken",
    "perceptual_hash",
    "descriptor",
    "checksum",
    "thumbnail",
    *keypoint_files.COLUMNS,
)
_FILES_AHEAD_PER_WORKER = 32  # photos a worker, waiting or done; keeps workers busy during a commit


@dataclass(slots=True)
class UpdateReport:
    """What a run did, in photos.

    `runtime` names what ran the network, with its precision. `unreadable` holds (path, reason) of
    every file under the folders that gives no photo, those known from earlier runs included.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    copied: int = 0
    removed: int = 0
    relabelled: int = 0
    unchanged: int = 0
    encoded: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    total: int = 0
    interrupted: bool = False
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class UpdateProgress:
    """How far a run is: `committed` of `total` files to read are safely in the index."""

    committed: int
    done: int
    total: int
    paths: Sequence[bytes] = ()


def create_index(index: Path, encoder: Encoder, extractor: Extractor | None = None) -> Manifest:
    """Create an empty index for the descriptors of `encoder` in the folder `index`.

    With an `extractor` it keeps the keypoints of each photo too, for geometric verification.

    Raises:
        CollectionError: the folder holds something else, or cannot be made.
    """
    try:
        index.mkdir(parents=True, exist_ok=True)
        strangers = [name for name in os.listdir(index) if not name.startswith(".")]
    except OSError as error:
        raise CollectionError(f"{readable(index)}: {error.strerror}.") from error
    if strangers:
        raise CollectionError(
            f"{readable(index)} is not empty and not an index. Name another folder with --index."
        )
    create_table(index, encoder.dimension)
    manifest = Manifest.new(encoder, extractor)
    manifest.write(index)  # last: a folder with a manifest has a table
    return manifest


def update_index(
    index: Path,
    folders: Sequence[Path],
    encoder: Encoder,
    extractor: Extractor | None = None,
    *,
    labels: str | os.PathLike[str] | None = None,
    on_progress: Callable[[UpdateProgress], None] | None = None,
    on_linking: OnProgress | None = None,
    workers: int | None = None,
    allow_empty: bool = False,
    graph: bool = True,
) -> UpdateReport:
    """Add, change, move and remove rows of `index` until they match the photos in `folders`.

    Args:
        index: an existing index.
        folders: folders, searched recursively, or single photos. Rows of files that are gone from
            a folder are removed; a single photo removes nothing. Empty: the folders of the index.
        encoder, extractor: must be those the index was created with.
        labels: `"folders"` or a CSV, see `veduta.index.labels.labeller`. The index remembers it;
            None does as the last run did.
        on_progress: called after the listing, after each photo and after each commit; a commit
            passes the paths that are now safe.
        on_linking: called with (done, total) while the links of the neighbour graph are verified.
        workers: photos read and encoded at a time; default: one a core.
        allow_empty: accept that a folder which had photos has none now.
        graph: bring the neighbour graph up to date as well.

    Raises:
        EncoderMismatch, IndexLocked, IndexDamaged, StorageFull: see `veduta.errors`.
        PhotoUnreadable: a folder does not exist, or had photos and is empty (an unmounted disk
            looks like that; removing all its rows would cost the work of indexing it).
    """
    started = time.monotonic()
    facts = encoder.describe()
    report = UpdateReport(runtime=f"{facts.get('runtime')}, {facts.get('precision')}")
    with writer_lock(index):
        manifest = _remember(Manifest.read(index), folders, labels)
        folders = [Path(folder) for folder in folders] or [Path(f) for f in manifest.folders]
        folders = [Path(os.path.abspath(folder)) for folder in folders]
        if not folders:
            raise CollectionError(f"{readable(index)} knows no folders yet. Name one.")
        rule = labeller(manifest.labels, folders) if manifest.labels else None
        manifest.require_encoder(encoder, index)
        manifest.require_extractor(extractor, index)
        table = open_table(index)
        if table.notice:
            raise IndexDamaged(table.notice)
        run = _Run(table, open_snapshot(index), encoder, extractor, rule, report, on_progress)
        todo = run.compare(folders, allow_empty)
        try:
            run.read(todo, workers or _cores())
            run.remove_missing()
            run.relabel()
        except KeyboardInterrupt:
            report.interrupted = True
        else:
            manifest.write(index)
            snapshot = run.snapshot
            if table.version != snapshot.version:
                table.tidy()
                table.extend_indices()
                snapshot = build_snapshot(index, manifest, table)
                keypoint_files.remove_unused(index, snapshot.keypoint_files)
            if graph:
                report.interrupted = not _link(index, manifest, snapshot, on_linking)
        report.total = table.count("problem IS NULL")
    report.seconds = time.monotonic() - started
    return report


def _link(
    index: Path, manifest: Manifest, snapshot: Snapshot, on_linking: OnProgress | None
) -> bool:
    """Bring the neighbour graph up to date; False if the user interrupted it."""
    if graph_is_whole(index, manifest):
        return True
    try:
        build_graph(index, manifest, snapshot, on_linking)
    except KeyboardInterrupt:
        return False
    return True


class _Run:
    """One run of `update_index`: the rows as they were, and what is waiting for the next commit."""

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        encoder: Encoder,
        extractor: Extractor | None,
        labeller: Labeller | None,
        report: UpdateReport,
        on_progress: Callable[[UpdateProgress], None] | None,
    ) -> None:
        self.table = table
        self.snapshot = snapshot
        self.encoder = encoder
        self.extractor = extractor
        self.keypoints = KeypointWriter(table.index)
        self.labeller = labeller
        self.report = report
        self.on_progress = on_progress
        rows = snapshot.rows
        self.ids: list[int] = rows["id"].to_pylist()
        self.paths: list[bytes] = rows["path"].to_pylist()
        self.row_of_path = {path: row for row, path in enumerate(self.paths)}
        self.path_of_id = dict(zip(self.ids, self.paths, strict=True))
        self.next_id = max(self.ids, default=-1) + 1
        self.missing: set[int] = set()  # ids whose file is gone
        self.labels: dict[int, str | None] = {}  # id → new label of a row that stays
        self.waiting: list[Outcome] = []
        self.committed = 0
        self.last_commit = time.monotonic()

    def compare(self, folders: Sequence[Path], allow_empty: bool) -> list[photos.Candidate]:
        """List the files and return those that are new or have changed."""
        rows = self.snapshot.rows
        sizes = rows["size"].to_numpy()
        times = rows["mtime_ns"].to_numpy()
        labels = rows["label"].to_pylist() if self.labeller else []
        problems = rows["problem"]
        seen = np.zeros(len(self.ids), np.bool_)
        todo: list[photos.Candidate] = []
        for folder in folders:
            found = 0
            for candidate in photos.find_photos([folder]):
                found += 1
                if candidate.size < 0:  # a folder that cannot be listed now keeps its rows
                    seen[self._rows_under(candidate.path)] = True
                row = self.row_of_path.get(candidate.path)
                if row is None:
                    todo.append(candidate)
                    continue
                if seen[row]:
                    continue
                seen[row] = True
                if (sizes[row], times[row]) != (candidate.size, candidate.mtime_ns):
                    todo.append(candidate)
                    continue
                if reason := problems[row].as_py():
                    self.report.unreadable.append((os.fsdecode(candidate.path), reason))
                else:
                    self.report.unchanged += 1
                if self.labeller and (label := self.labeller(candidate.path)) != labels[row]:
                    self.labels[self.ids[row]] = label
            if folder.is_dir():
                here = self._rows_under(os.fsencode(folder))
                gone = here[~seen[here]]
                if len(here) and not found and not allow_empty:
                    raise PhotoUnreadable(
                        folder,
                        f"no photo here, but the index has {len(here)} from it. Is the disk "
                        "mounted? If they are really gone, run with --allow-empty.",
                    )
                self.missing.update(self.ids[row] for row in gone)
        unique = {candidate.path: candidate for candidate in todo}
        return list(unique.values())

    def _rows_under(self, folder: bytes) -> NDArray[np.intp]:
        prefix = os.path.join(folder, b"")
        return np.array(
            [row for row, path in enumerate(self.paths) if path.startswith(prefix)], dtype=np.intp
        )

    def read(self, todo: list[photos.Candidate], workers: int) -> None:
        """Read and encode `todo`, committing as it goes; an interrupt commits what is done."""
        self._tell(len(todo))
        if not todo:
            return
        hashes = self.snapshot.rows["content"].to_pylist()[: self.snapshot.photos]
        by_content = dict(zip(hashes, self.ids, strict=False))
        try:
            work = partial(
                describe_file, encoder=self.encoder, extractor=self.extractor, by_content=by_content
            )
            for outcome in _in_order(todo, work, workers):
                self.waiting.append(outcome)
                full = len(self.waiting) >= COMMIT_ROWS
                if full or time.monotonic() - self.last_commit > COMMIT_SECONDS:
                    self._commit(len(todo))
                else:
                    self._tell(len(todo))
        finally:
            self._commit(len(todo))

    def _commit(self, total: int) -> None:
        """Write what is waiting: one commit for new rows, one for rows that changed."""
        if not self.waiting:
            return
        outcomes, copies = self._sources(self.waiting)
        self.waiting = []
        self._keep_keypoints(outcomes)
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        for outcome in outcomes:
            row = self._row(outcome, copies)
            if "id" in row:
                changed.append(row)
            else:
                new.append({"id": self.next_id, **row})
                self.next_id += 1
        if new:
            self.table.append(_as_table(new, self.table))
        if changed:
            self.table.update(_as_table(changed, self.table))
        self.committed += len(outcomes)
        self.last_commit = time.monotonic()
        self._tell(total, [outcome.candidate.path for outcome in outcomes])
        self.table.tidy()

    def _keep_keypoints(self, outcomes: Sequence[Outcome]) -> None:
        """Write the keypoints of new photos to their file, and their places into the rows."""
        described = [o for o in outcomes if isinstance(o, Described) and o.keypoints is not None]
        places = self.keypoints.append([o.keypoints or b"" for o in described])
        for outcome, place in zip(described, places, strict=True):
            outcome.row.update(zip(keypoint_files.COLUMNS, place, strict=True))

    def _row(self, outcome: Outcome, copies: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """Return the row of an outcome, and count it; with an `id` if a row is to be replaced."""
        candidate = outcome.candidate
        place: dict[str, Any] = {
            "path": candidate.path,
            "size": candidate.size,
            "mtime_ns": candidate.mtime_ns,
        }
        row = self.row_of_path.get(candidate.path)
        if self.labeller:
            place["label"] = self.labeller(candidate.path)
        if row is not None:
            place["id"] = self.ids[row]
            place.setdefault("label", self.snapshot.rows["label"][row].as_py())
        match outcome:
            case Described(row=content):
                self.report.encoded += 1
                if row is None:
                    self.report.added += 1
                else:
                    self.report.changed += 1
                return {**content, **place}
            case KnownContent(id=known):
                if place.get("id") == known:  # touched, but the same bytes
                    self.report.unchanged += 1
                elif row is None and known in self.missing:
                    self.missing.discard(known)
                    self.path_of_id[known] = candidate.path
                    self.report.moved += 1
                    place["id"] = known
                else:
                    self.report.copied += 1
                return {**copies[known], **place}
            case Unreadable(reason=reason):
                self.report.unreadable.append((os.fsdecode(candidate.path), reason))
                return {**dict.fromkeys(_OF_A_PHOTO), "problem": reason, **place}

    def _sources(
        self, outcomes: Sequence[Outcome]
    ) -> tuple[list[Outcome], dict[int, dict[str, Any]]]:
        """Fetch the rows that are used again, and see which of them lost their file.

        A row that this run has already given another content is no source any more: two photos may
        have swapped names. What wanted it is described after all.
        """
        ids = sorted({outcome.id for outcome in outcomes if isinstance(outcome, KnownContent)})
        for known in ids:
            if not os.path.lexists(self.path_of_id[known]):
                self.missing.add(known)
        columns = [name for name in self.table.dataset.schema.names if name != "id"]
        rows = {row.pop("id"): row for row in self.table.take(ids, columns)}
        current = [
            describe_file(outcome.candidate, self.encoder, self.extractor, {})
            if isinstance(outcome, KnownContent) and rows[outcome.id]["content"] != outcome.content
            else outcome
            for outcome in outcomes
        ]
        return current, rows

    def remove_missing(self) -> None:
        """Remove the rows whose file is gone and did not turn up elsewhere."""
        if self.missing:
            self.table.delete(sorted(self.missing))
            self.report.removed = len(self.missing)

    def relabel(self) -> None:
        """Write the labels that changed on rows whose photo did not."""
        import pyarrow as pa

        if not self.labels:
            return
        self.report.relabelled = len(self.labels)
        rows = {
            "id": pa.array(self.labels.keys(), pa.int64()),
            "label": pa.array(self.labels.values(), pa.string()),
        }
        self.table.update(pa.table(rows))

    def _tell(self, total: int, paths: Sequence[bytes] = ()) -> None:
        if self.on_progress:
            done = self.committed + len(self.waiting)
            self.on_progress(UpdateProgress(self.committed, done, total, paths))


def _in_order(
    todo: Sequence[photos.Candidate], work: Callable[[photos.Candidate], Outcome], workers: int
) -> Iterator[Outcome]:
    """Yield the outcome of each file in the order of `todo`, a bounded number ahead."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="veduta")
    ahead: deque[Future[Outcome]] = deque()
    try:
        for candidate in todo:
            ahead.append(pool.submit(work, candidate))
            if len(ahead) >= workers * _FILES_AHEAD_PER_WORKER:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _as_table(rows: list[dict[str, Any]], table: Table) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=table.dataset.schema)


def _remember(
    manifest: Manifest, folders: Sequence[Path], labels: str | os.PathLike[str] | None
) -> Manifest:
    new = [os.path.abspath(folder) for folder in folders if Path(folder).is_dir()]
    if labels is not None:
        labels = labels if labels == FOLDERS else os.path.abspath(labels)
    return replace(
        manifest,
        folders=tuple(sorted({*manifest.folders, *map(os.fsdecode, new)})),
        labels=manifest.labels if labels is None else os.fsdecode(labels),
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
