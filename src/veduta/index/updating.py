"""Bring an index up to date with folders of photos.

One pass, in one direction: list the files, compare them with the rows, take each new or changed
file from its bytes to its descriptor in a worker thread, and commit in batches. A worker does all
steps of one photo. So reading, decoding and the network overlap without queues between them, and a
bounded number of photos is in memory, however many there are. `veduta.index.decoding_turns` says
what is different with a device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import photos
from veduta.devices import PROCESSOR
from veduta.encoders import Encoder
from veduta.errors import CollectionError, EncoderError, readable
from veduta.index import keypoint_files
from veduta.index.cell_files import update_cells
from veduta.index.columns import file_values, photo_columns
from veduta.index.decoding_turns import turns_of, workers_of
from veduta.index.describing import (
    Described,
    KnownContent,
    KnownElsewhere,
    NotRead,
    Outcome,
    StoredOutcome,
    Unreadable,
    describe_file,
)
from veduta.index.graph import OnProgress, build_graph, graph_is_whole
from veduta.index.keypoint_files import KeypointWriter
from veduta.index.label_edits import LabelEdits
from veduta.index.labels import FOLDERS, NO_LABELS, Labeller, LabelSource, check_label_loss
from veduta.index.manifest import Manifest, region_encoder_of
from veduta.index.projection_file import read_projection
from veduta.index.removed_photos import RemovedPhotos
from veduta.index.shards import Shard, ShardedFolders, require_same_shard
from veduta.index.snapshot import Snapshot, build_snapshot, open_snapshot
from veduta.index.sources import (
    away,
    empty,
    folders_with_photos,
    is_away,
    is_gone,
    single_photos,
)
from veduta.index.table import Table, open_table_to_write, remove_old_drafts, writer_lock
from veduta.keypoints import Extractor
from veduta.ordered_threads import map_in_order
from veduta.photos.finding import outermost_folders
from veduta.processor_cores import processor_cores
from veduta.text import veduta_command

COMMIT_ROWS = 512
COMMIT_SECONDS = 10.0
_COMPARED_COLUMNS = ("size", "mtime_ns", "content", "label", "problem")

# Files of a core that wait or are done. So workers stay busy during a commit.
_FILES_AHEAD_PER_CORE = 32
_LEAST_FILES_AHEAD_PER_WORKER = 4


@dataclass(slots=True)
class UpdateReport:
    """What an update did, in photos.

    Attributes:
        added: new photos.
        changed: photos with a new content.
        moved: photos that were recognised by their content under a new path.
        copied: new files with the content of a known photo.
        removed: photos whose file is gone or passed over.
        excluded: those of the removed ones whose file is there and is passed over now.
        relabelled: photos with a new label and the same content.
        unlabelled: photos that had a label and have none now.
        unchanged: photos that are as they were.
        exif_changed: those of the unchanged ones whose date or place was read again and is another
            one now.
        encoded: photos that were read and encoded.
        unreadable: (path, reason) of every file under the folders that gives no photo. Files that
            earlier updates could not read are among them.
        passed_over: files and folders that were not looked at.
        notes: what the user should know about the labels, one sentence each.
        not_read: those of `unreadable` whose bytes are not the reason, such as a missing permission
            or too many open files. The next update tries them again. Photos that the index has
            stay in it.
        dropped_folders: folders that the index does not know any more, because they are missing and
            no photo of the index lies in them.
        seconds: duration of the update.
        left_out: photos that are there and stay out, because a person removed them from the index.
        shard: the shard of the collection that the index is, such as "3/16"; None: the whole.
        other_shards: files that are left to other shards.
        total: photos in the index after the update.
        interrupted: whether the user interrupted the update.
        runtime: what ran the network, on which device, and its precision.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    copied: int = 0
    removed: int = 0
    excluded: int = 0
    relabelled: int = 0
    unlabelled: int = 0
    unchanged: int = 0
    exif_changed: int = 0
    encoded: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    passed_over: photos.PassedOver = field(default_factory=photos.PassedOver)
    notes: list[str] = field(default_factory=list)
    not_read: list[tuple[str, str]] = field(default_factory=list)
    dropped_folders: list[str] = field(default_factory=list)
    left_out: int = 0
    shard: str | None = None
    other_shards: int = 0
    seconds: float = 0.0
    total: int = 0
    interrupted: bool = False
    runtime: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"passed_over": self.passed_over.as_json()}


@dataclass(frozen=True, slots=True)
class UpdateProgress:
    """How far an update is.

    Attributes:
        committed: files that are safely in the index.
        done: files that were read.
        total: files to read.
        paths: files of the commit that was made now.
    """

    committed: int
    done: int
    total: int
    paths: Sequence[bytes] = ()


def update_index(
    index: Path,
    folders: Sequence[Path],
    encoder: Encoder,
    extractor: Extractor | None = None,
    *,
    labels: str | os.PathLike[str] | None = None,
    exclude: Sequence[str] | None = None,
    on_progress: Callable[[UpdateProgress], None] | None = None,
    on_linking: OnProgress | None = None,
    workers: int | None = None,
    allow_empty: bool = False,
    allow_label_loss: bool = False,
    reread: bool = False,
    accept_truncated: bool = False,
    all_photos: bool = False,
    shard: Shard | None = None,
    graph: bool = True,
    listed: Iterable[photos.Candidate] | None = None,
    known_elsewhere: Container[bytes] = (),
    later: Container[bytes] = (),
) -> UpdateReport:
    """Add, change, move and remove rows of an index until they match the photos in folders.

    Args:
        index: an existing index.
        folders: folders, searched recursively, or single photos. Rows of files that are gone from
            a folder are removed. A single photo removes nothing. If empty, everything that the
            index knows is updated: its folders, and the photos that were indexed singly.
        encoder: the one that the index was created with.
        extractor: the one that the index was created with.
        labels: `"folders"` or a CSV, see `veduta.index.labels.LabelSource`. The index remembers it.
            None takes the labels as the last update did. `"none"` takes all labels away.
        exclude: patterns of photos and folders that are passed over, in the syntax of gitignore,
            relative to the outermost folder of the index that a photo lies in. The index remembers
            them. None takes those of the last update. Rows of photos that they match are removed.
        on_progress: called after the listing, after each photo and after each commit. A commit
            passes the paths that are now safe.
        on_linking: as `on_progress` of `veduta.index.graph.build_graph`.
        workers: photos read and encoded at the same time. The default is the number of cores, and
            more if networks run on a device, see `veduta.index.decoding_turns`.
        allow_empty: accept that a folder that had photos has none now.
        allow_label_loss: accept that photos that have a label and are still there lose it.
        reread: read all files, also those whose size and time did not change.
        accept_truncated: use photos that are cut short if most of them is there, also those that
            an earlier update refused. This is not remembered: they stay until they change.
        all_photos: add photos again that a person removed from the index, see
            `veduta.index.removed_photos`. A single photo that is named is added again anyway.
        shard: add only the files of this shard of the collection. The index remembers it. A shard
            has no neighbour graph.
        graph: bring the neighbour graph up to date as well.
        listed: the files in the folders, if they were listed before. They are read whatever shard
            they belong to. None: the folders are listed now.
        known_elsewhere: content hashes of photos that another index has. New files with one of them
            are not added.
        later: paths of files that this run does not read.

    Returns:
        What was done.

    Raises:
        EncoderMismatch: the index holds descriptors or keypoints of another kind.
        IndexLocked: another process is writing to it.
        IndexDamaged: the index does not open, or only at an older version.
        StorageFull: the disk is full.
        CollectionError: no folder is known or named, or the index is another shard.
        DatasetError: the CSV is refused, or none of its rows names a photo, or photos would lose
            their label. Nothing is changed then.
        EncoderError: there were photos to encode, and the encoder or the extractor failed on all.
        PhotoUnreadable: a folder does not exist, or had photos and is empty. A disk that is not
            mounted looks like that, and to index it again takes long.
    """
    started = time.monotonic()
    facts = encoder.describe()
    report = UpdateReport(runtime=_runtime_of(facts))
    with writer_lock(index):
        remove_old_drafts(index)
        manifest = _with_sources(Manifest.read(index), folders, labels, exclude)
        manifest.require_encoder(encoder, index)
        manifest.require_extractor(extractor, index)
        read_projection(index, manifest)  # A damaged one is told before the work begins.
        table = open_table_to_write(index)
        manifest = _with_shard(manifest, shard, table)
        describe = partial(
            describe_file,
            encoder=encoder,
            extractor=extractor,
            region_encoder=region_encoder_of(manifest, encoder),
            accept_truncated=accept_truncated,
            reread=reread,
            decoding=None if workers else turns_of(encoder, extractor),
            known_elsewhere=known_elsewhere,
        )
        update = _Update(table, open_snapshot(index), describe, report, on_progress)
        update.take_shard(manifest)
        update.later = later
        files = _listed(
            update,
            manifest,
            folders,
            labels,
            listed,
            allow_empty=allow_empty,
            allow_label_loss=allow_label_loss,
            all_photos=all_photos,
            reread=reread,
            reread_problems=reread or accept_truncated,
            keep_edits=labels != NO_LABELS,
        )
        update.removed.save()  # Not before: the update might have been refused.
        if manifest.unfinished:  # A merge must know that this run is not at its end.
            manifest.write(index)
        try:
            update.read(files, workers or workers_of(encoder, extractor))
            update.remove_missing()
            update.relabel()
        except KeyboardInterrupt:
            report.interrupted = True
        else:
            report.interrupted = not _finish(update, manifest, on_linking, graph=graph)
        report.total = table.count("problem IS NULL")
        if error := update.encoder_error():
            raise error
    report.seconds = time.monotonic() - started
    return report


def _runtime_of(facts: Mapping[str, object]) -> str:
    """Return what runs a network, in words: "onnxruntime, int8", "onnxruntime on cuda, int8"."""
    device = facts.get("device", PROCESSOR.name)
    where = "" if device == PROCESSOR.name else f" on {device}"
    return f"{facts.get('runtime')}{where}, {facts.get('precision')}"


def files_to_update(
    index: Path,
    folders: Sequence[Path],
    *,
    labels: str | os.PathLike[str] | None = None,
    exclude: Sequence[str] | None = None,
    allow_empty: bool = False,
    allow_label_loss: bool = False,
    accept_truncated: bool = False,
    all_photos: bool = False,
) -> tuple[list[photos.Candidate], tuple[str, ...]]:
    """Return what an update would read, and change nothing.

    Args:
        index: an existing index.
        folders: as in `update_index`.
        labels: as in `update_index`.
        exclude: as in `update_index`.
        allow_empty: as in `update_index`.
        allow_label_loss: as in `update_index`.
        accept_truncated: as in `update_index`.
        all_photos: as in `update_index`.

    Returns:
        The files that are new or changed, or that the update would try again; and the folders of
        the index after it.

    Raises:
        IndexLocked: another process is writing to the index.
        IndexDamaged: the index does not open, or only at an older version.
        CollectionError: no folder is known or named.
        DatasetError: as in `update_index`.
        PhotoUnreadable: as in `update_index`.
    """
    with writer_lock(index):
        manifest = _with_sources(Manifest.read(index), folders, labels, exclude)
        update = _Update(
            open_table_to_write(index), open_snapshot(index), _not_described, UpdateReport(), None
        )
        files = _listed(
            update,
            manifest,
            folders,
            labels,
            allow_empty=allow_empty,
            allow_label_loss=allow_label_loss,
            all_photos=all_photos,
            reread_problems=accept_truncated,
        )
    return files, manifest.folders


def _not_described(*_: object, **__: object) -> Outcome:
    raise AssertionError("nothing is read")


def _listed(
    update: _Update,
    manifest: Manifest,
    folders: Sequence[Path],
    labels: str | os.PathLike[str] | None,
    listed: Iterable[photos.Candidate] | None = None,
    *,
    allow_empty: bool,
    allow_label_loss: bool,
    all_photos: bool,
    reread: bool = False,
    reread_problems: bool = False,
    keep_edits: bool = True,
) -> list[photos.Candidate]:
    """Return the files to read, and decide the labels. Nothing is written but `keep_edits` off."""
    named = [Path(os.path.abspath(folder)) for folder in folders]
    roots = [Path(root) for root in manifest.folders if not is_away(Path(root))]
    rule = NO_LABELS if labels == NO_LABELS else manifest.labels
    source = LabelSource.of(rule, roots, manifest.exclude) if rule else None
    if labels == FOLDERS:
        update.report.notes += _notes_on_roots(named or roots, roots)
    sources = named or update.known_sources(manifest)
    update.take_back(named, all_photos=all_photos)
    update.require_there(sources)
    if listed is None:
        listed = photos.find_photos(
            sources,
            exclude=manifest.exclude,
            roots=manifest.folders,
            passed_over=update.report.passed_over,
        )
    else:
        update.shard = None  # Whoever listed them has chosen those of the shard.
    reread_problems = reread_problems or manifest.decoders != photos.decoders()
    files = update.files_to_read(
        sources,
        manifest,
        listed,
        allow_empty=allow_empty,
        reread=reread,
        reread_problems=reread_problems,
    )
    if source is not None:
        update.take_labels(source, files, allow_loss=allow_label_loss, keep_edits=keep_edits)
    return files


def _finish(
    update: _Update, manifest: Manifest, on_linking: OnProgress | None, *, graph: bool
) -> bool:
    """Write what follows from the rows, at the end of a run; return False if it was interrupted."""
    table, index, report = update.table, update.table.index, update.report
    report.dropped_folders = update.dropped_folders(manifest)
    kept = set(manifest.folders) - set(report.dropped_folders)
    manifest = replace(
        manifest,
        folders=tuple(sorted(kept)),
        decoders=photos.decoders(),
        unfinished=manifest.shard is not None and update.encoder_error() is not None,
    )
    manifest.write(index)
    snapshot = update.snapshot
    if table.version != snapshot.version:
        table.tidy()
        table.drop_indices()
        snapshot = build_snapshot(index, manifest, table)
        keypoint_files.remove_unused(index, snapshot.keypoint_files)
    return not graph or link_photos(index, manifest, snapshot, on_linking)


def link_photos(
    index: Path, manifest: Manifest, snapshot: Snapshot, on_linking: OnProgress | None
) -> bool:
    """Bring the neighbour graph of an index up to date.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        manifest: of the newest version.
        snapshot: of the newest version.
        on_linking: called with (done, total).

    Returns:
        Whether it came to its end. If the user interrupts it, the next call continues.

    Raises:
        StorageFull: the disk has no room for the graph.
        IndexDamaged: keypoints of the index cannot be read.
    """
    try:
        if graph_is_whole(index, manifest):
            update_cells(index, manifest, snapshot, on_linking)  # They may be damaged or gone.
        else:
            build_graph(index, manifest, snapshot, on_linking)
    except KeyboardInterrupt:
        return False
    return True


def _files_ahead(workers: int) -> int:
    """Return how many files of a worker wait or are done. A device has many workers for a core."""
    per_worker = _FILES_AHEAD_PER_CORE * processor_cores() // workers
    return min(max(per_worker, _LEAST_FILES_AHEAD_PER_WORKER), _FILES_AHEAD_PER_CORE)


class _Update:
    """One run of `update_index`: the rows as they were, and what waits for the next commit."""

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        describe: Callable[..., Outcome],
        report: UpdateReport,
        on_progress: Callable[[UpdateProgress], None] | None,
    ) -> None:
        self.table = table
        self.snapshot = snapshot
        self.describe = describe  # Takes a candidate and `id_of_content`.
        self.keypoints = KeypointWriter(table.index)
        self.label_of: Labeller | None = None
        self.edits = LabelEdits(table.index)  # Labels that a person gave.
        self.edits_moved = False
        self.removed = RemovedPhotos(table.index)
        self.shard: ShardedFolders | None = None  # None: the index is the whole collection.
        self.later: Container[bytes] = ()  # Paths of files that this run does not read.
        self.others: list[bytes] = []  # Files left to other shards or to a later run.
        self.report = report
        self.on_progress = on_progress
        rows = snapshot.rows
        self.ids: list[int] = rows["id"].to_pylist()
        self.paths: list[bytes] = rows["path"].to_pylist()
        self.row_of_path = {path: row for row, path in enumerate(self.paths)}
        self.path_of_id = dict(zip(self.ids, self.paths, strict=True))
        self.next_id = max(self.ids, default=-1) + 1
        self.seen = np.zeros(len(self.ids), np.bool_)  # The rows whose file was listed.
        self.missing_ids: set[int] = set()  # Of rows whose file is gone.
        self.encoder_errors: list[EncoderError] = []
        self.new_labels: dict[int, str | None] = {}  # id → label, of files that are not read.
        self.waiting: list[Outcome] = []
        self.committed = 0
        self.last_commit = time.monotonic()

    def take_shard(self, manifest: Manifest) -> None:
        """Leave the files of other shards to them, if the index is a shard."""
        if manifest.shard is not None:
            self.report.shard = str(manifest.shard)
            self.shard = ShardedFolders(manifest.shard, manifest.folders)

    def known_sources(self, manifest: Manifest) -> list[Path]:
        """Return everything that the index knows and that is there: folders and single photos.

        Single photos that were deleted are noted.

        Args:
            manifest: of the index.

        Raises:
            CollectionError: the index knows nothing that is there.
        """
        folders = [
            Path(folder)
            for folder in manifest.folders
            if not is_away(Path(folder)) or len(self._rows_under(os.fsencode(folder)))
        ]
        singles = single_photos(self.paths, manifest.folders)
        gone = {path for path in singles if is_gone(path)}
        self.missing_ids.update(self.ids[self.row_of_path[path]] for path in gone)
        there = [Path(os.fsdecode(path)) for path in singles if os.path.lexists(path)]
        if not folders and not singles:
            command = veduta_command("index", "FOLDER", "--index", self.table.index)
            raise CollectionError(
                f"{readable(self.table.index)} knows no folder that is there. Name one: {command}"
            )
        return folders + there

    def take_back(self, named: Sequence[Path], *, all_photos: bool) -> None:
        """Forget that photos were removed which are asked for again, or whose file is gone."""
        asked = {os.fsencode(path) for path in named}
        self.removed.forget(
            path for path in self.removed.paths if all_photos or path in asked or is_gone(path)
        )

    def require_there(self, sources: Sequence[Path]) -> None:
        """Refuse to update a folder that is missing as long as the index has photos from it."""
        used = folders_with_photos(self.paths)
        for folder in sources:
            if os.fsencode(folder) in used and is_away(folder):
                rows = self._rows_under(os.fsencode(folder))
                raise away(folder, len(rows), self.table.index)

    def dropped_folders(self, manifest: Manifest) -> list[str]:
        """Return the known folders that are missing, and in which no photo of the index lies."""
        missing = [folder for folder in manifest.folders if is_away(Path(folder))]
        if not missing:
            return []
        used = folders_with_photos(
            path for row_id, path in self.path_of_id.items() if row_id not in self.missing_ids
        )
        return [folder for folder in missing if os.fsencode(folder) not in used]

    def files_to_read(
        self,
        folders: Sequence[Path],
        manifest: Manifest,
        listed: Iterable[photos.Candidate],
        *,
        allow_empty: bool,
        reread: bool,
        reread_problems: bool,
    ) -> list[photos.Candidate]:
        """Return the listed files that are new or have changed, or are to be read again."""
        rows = self.snapshot.rows
        sizes = rows["size"].to_numpy()
        times = rows["mtime_ns"].to_numpy()
        problems = rows["problem"]
        seen = self.seen
        files: dict[bytes, photos.Candidate] = {}
        for candidate in listed:
            if candidate.size < 0:  # A folder that cannot be listed now keeps its rows.
                seen[self._rows_under(candidate.path)] = True
            row = self.row_of_path.get(candidate.path)
            if candidate.path in self.removed.paths:
                self.report.left_out += 1
                continue
            if row is None and self._is_left_to_others(candidate):
                self.others.append(candidate.path)
                continue
            if row is None:
                files[candidate.path] = candidate
                continue
            if seen[row]:
                continue
            seen[row] = True
            changed = (sizes[row], times[row]) != (candidate.size, candidate.mtime_ns)
            reason = problems[row].as_py()
            to_read = changed or reread or (reason and reread_problems)
            if to_read and candidate.path not in self.later:
                files[candidate.path] = candidate
            elif reason:
                self.report.unreadable.append((os.fsdecode(candidate.path), reason))
            else:
                self.report.unchanged += 1
        for folder in folders:
            if folder.is_dir():
                self._find_missing(folder, [*files, *self.others], manifest.folders, allow_empty)
        return list(files.values())

    def _is_left_to_others(self, candidate: photos.Candidate) -> bool:
        """Tell whether a new file belongs to another shard or to a later run, and count it."""
        if candidate.path in self.later:
            return True
        # What cannot be listed concerns all shards.
        other = (
            self.shard is not None and candidate.size >= 0 and not self.shard.holds(candidate.path)
        )
        self.report.other_shards += other
        return other

    def _find_missing(
        self, folder: Path, files: Iterable[bytes], known: Sequence[str], allow_empty: bool
    ) -> None:
        """Note the rows of a folder whose file was not listed.

        A known folder inside it is passed over from there, such as a hidden one that was named.
        """
        rows_here = self._rows_under(os.fsencode(folder))
        for other in known:
            if folder in Path(other).parents:
                rows_here = np.setdiff1d(rows_here, self._rows_under(os.fsencode(other)))
        missing = rows_here[~self.seen[rows_here]]
        if len(missing) == len(rows_here) > 0 and not allow_empty:
            prefix = os.path.join(os.fsencode(folder), b"")
            new = any(path.startswith(prefix) for path in files)
            if not new and not any(os.path.lexists(self.paths[row]) for row in missing):
                raise empty(folder, len(rows_here), self.table.index)
        self.missing_ids.update(self.ids[row] for row in missing)

    def take_labels(
        self,
        source: LabelSource,
        files: Sequence[photos.Candidate],
        *,
        allow_loss: bool,
        keep_edits: bool,
    ) -> None:
        """Decide the labels of the listed photos. Nothing is written before it is accepted."""
        if not keep_edits:
            self.edits.label_of.clear()
        ids_and_paths = zip(self.ids, self.paths, strict=True)
        there = [path for row_id, path in ids_and_paths if row_id not in self.missing_ids]
        # Which row of a CSV names a photo depends on all photos of the collection.
        listed = [*there, *(file.path for file in files), *self.others]
        by_source, notes = source.labeller(listed)
        edited = self.edits.label_of
        self.label_of = lambda path: edited[path] if path in edited else by_source(path)
        self.report.notes += notes
        old = self.snapshot.rows["label"].to_pylist()
        to_read = {file.path for file in files}
        for row in np.flatnonzero(self.seen).tolist():
            path = self.paths[row]
            label = self.label_of(path)
            self.report.unlabelled += label is None and old[row] is not None
            if label != old[row] and path not in to_read:
                self.new_labels[self.ids[row]] = label
        labelled = len(old) - old.count(None)
        check_label_loss(self.report.unlabelled, labelled, allowed=allow_loss)
        if not keep_edits:
            LabelEdits.forget(self.table.index)

    def _rows_under(self, folder: bytes) -> NDArray[np.intp]:
        prefix = os.path.join(folder, b"")
        return np.array(
            [row for row, path in enumerate(self.paths) if path.startswith(prefix)], dtype=np.intp
        )

    def read(self, files: list[photos.Candidate], workers: int) -> None:
        """Read and encode files, with a commit now and then. An interrupt commits what is done."""
        self._report_progress(len(files))
        if not files:
            return
        hashes = self.snapshot.rows["content"].to_pylist()[: self.snapshot.photos]
        work = partial(self.describe, id_of_content=dict(zip(hashes, self.ids, strict=False)))
        try:
            for outcome in map_in_order(
                files, work, workers, items_per_worker=_files_ahead(workers)
            ):
                self.waiting.append(outcome)
                full = len(self.waiting) >= COMMIT_ROWS
                if full or time.monotonic() - self.last_commit > COMMIT_SECONDS:
                    self._commit(len(files))
                else:
                    self._report_progress(len(files))
        finally:
            self._commit(len(files))

    def _commit(self, total: int) -> None:
        """Write what waits: one commit for new rows, one for rows that changed."""
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        current, known_rows = self._with_known_rows(waiting)
        outcomes: list[StoredOutcome] = []
        for outcome in current:
            if isinstance(outcome, NotRead):
                self._note_not_read(outcome)
            elif isinstance(outcome, KnownElsewhere):
                continue
            elif not self._changes_nothing(outcome):
                outcomes.append(outcome)
        self._write_keypoints(outcomes)
        self.edits_moved = False
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        for outcome in outcomes:
            row = self._row(outcome, known_rows)
            if "id" in row:
                changed.append(row)
            else:
                new.append({"id": self.next_id, **row})
                self.next_id += 1
        if self.edits_moved:
            self.edits.write()
        if new:
            self.table.append(_as_table(new, self.table))
        if changed:
            self.table.update(_as_table(changed, self.table))
        self.committed += len(waiting)
        self.last_commit = time.monotonic()
        paths = [outcome.candidate.path for outcome in waiting if not isinstance(outcome, NotRead)]
        self._report_progress(total, paths)
        self.table.tidy()

    def encoder_error(self) -> EncoderError | None:
        """Return the error of the encoder if it is at fault, and not a single odd photo."""
        errors = self.encoder_errors
        at_fault = errors and not self.report.encoded
        if at_fault and (len(errors) > 1 or not self.table.count("problem IS NULL")):
            return errors[0]
        return None

    def _note_not_read(self, outcome: NotRead) -> None:
        path = os.fsdecode(outcome.candidate.path)
        self.report.unreadable.append((path, outcome.reason))
        self.report.not_read.append((path, outcome.reason))
        if isinstance(outcome.error, EncoderError):
            self.encoder_errors.append(outcome.error)

    def _changes_nothing(self, outcome: StoredOutcome) -> bool:
        """Count an outcome that is in the rows already; return False for the others."""
        candidate = outcome.candidate
        row = self.row_of_path.get(candidate.path)
        if row is None or isinstance(outcome, Described):
            return False
        old = {name: self.snapshot.rows[name][row].as_py() for name in _COMPARED_COLUMNS}
        label = self.label_of(candidate.path) if self.label_of else old["label"]
        if (old["size"], old["mtime_ns"], old["label"]) != (
            candidate.size,
            candidate.mtime_ns,
            label,
        ):
            return False
        if isinstance(outcome, Unreadable):
            if outcome.reason != old["problem"]:
                return False
            self.report.unreadable.append((os.fsdecode(candidate.path), outcome.reason))
            return True
        if outcome.content != old["content"] or self._other_exif(outcome, row):
            return False
        self.report.unchanged += 1
        return True

    def _other_exif(self, outcome: KnownContent, row: int) -> dict[str, Any]:
        """Return the values of the columns of Exif data that are others now."""
        rows = self.snapshot.rows
        return {
            name: value
            for name, value in outcome.exif.items()
            if name in rows.schema.names and rows[name][row].as_py() != value
        }

    def _with_known_rows(
        self, outcomes: Sequence[Outcome]
    ) -> tuple[list[Outcome], dict[int, dict[str, Any]]]:
        """Fetch the rows with known content, by id, and note which of them lost their file.

        This update may have given such a row another content, because two photos swapped their
        names. Then the file with the known content is described after all.
        """
        ids = sorted({outcome.id for outcome in outcomes if isinstance(outcome, KnownContent)})
        for row_id in ids:
            if not os.path.lexists(self.path_of_id[row_id]):
                self.missing_ids.add(row_id)
        columns = [*photo_columns(self.table.dataset.schema.names), "label"]
        rows = {row.pop("id"): row for row in self.table.take(ids, columns)}
        current = [
            self.describe(outcome.candidate, id_of_content={})
            if isinstance(outcome, KnownContent) and rows[outcome.id]["content"] != outcome.content
            else outcome
            for outcome in outcomes
        ]
        return current, rows

    def _write_keypoints(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Write keypoints and regions of new photos to their file, their places into the rows."""
        described = [o for o in outcomes if isinstance(o, Described) and o.keypoints is not None]
        places = self.keypoints.append(
            [o.keypoints or b"" for o in described], [o.regions or b"" for o in described]
        )
        for outcome, place in zip(described, places, strict=True):
            outcome.row.update(zip(keypoint_files.COLUMNS, place, strict=True))

    def _row(self, outcome: StoredOutcome, known_rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """Return the row of an outcome and count it. It has an `id` if it replaces a row."""
        path = outcome.candidate.path
        of_file = file_values(outcome.candidate)
        row = self.row_of_path.get(path)
        if self.label_of:
            of_file["label"] = self.label_of(path)
        if row is not None:
            of_file["id"] = self.ids[row]
            of_file.setdefault("label", self.snapshot.rows["label"][row].as_py())
        match outcome:
            case Described(row=of_photo):
                self.report.encoded += 1
                if row is None:
                    self.report.added += 1
                else:
                    self.report.changed += 1
                return {**of_photo, **of_file}
            case KnownContent(id=known_id):
                of_exif: dict[str, Any] = {}
                if row is not None and self._content_of(row) == known_rows[known_id]["content"]:
                    # The file has a new time and the same bytes.
                    self.report.unchanged += 1
                    of_exif = self._other_exif(outcome, row)
                    self.report.exif_changed += bool(of_exif)
                elif row is None and known_id in self.missing_ids:
                    self.missing_ids.discard(known_id)
                    old_path = self.path_of_id[known_id]
                    self.path_of_id[known_id] = path
                    if old_path in self.edits.label_of:
                        of_file["label"] = self.edits.label_of.pop(old_path)
                        self.edits.label_of[path] = of_file["label"]
                        self.edits_moved = True
                    self.report.moved += 1
                    of_file["id"] = known_id
                    had_label = known_rows[known_id]["label"] is not None
                    self.report.unlabelled += had_label and of_file.get("label", "") is None
                else:
                    self.report.copied += 1
                return {**known_rows[known_id], **of_exif, **of_file}
            case Unreadable(reason=reason):
                self.report.unreadable.append((os.fsdecode(path), reason))
                return {**dict.fromkeys(photo_columns(())), "problem": reason, **of_file}

    def _content_of(self, row: int) -> bytes | None:
        """Return the content hash that a row had before this update."""
        content: bytes | None = self.snapshot.rows["content"][row].as_py()
        return content

    def remove_missing(self) -> None:
        """Remove the rows whose file is gone and was not found under another path."""
        if self.missing_ids:
            self.table.delete(sorted(self.missing_ids))
            self.report.removed = len(self.missing_ids)
            self.report.excluded = sum(
                os.path.lexists(self.path_of_id[row_id]) for row_id in self.missing_ids
            )

    def relabel(self) -> None:
        """Write the labels that changed on rows whose photo did not."""
        import pyarrow as pa

        if not self.new_labels:
            return
        self.report.relabelled = len(self.new_labels)
        rows = {
            "id": pa.array(self.new_labels.keys(), pa.int64()),
            "label": pa.array(self.new_labels.values(), pa.string()),
        }
        self.table.update(pa.table(rows))

    def _report_progress(self, total: int, paths: Sequence[bytes] = ()) -> None:
        if self.on_progress:
            done = self.committed + len(self.waiting)
            self.on_progress(UpdateProgress(self.committed, done, total, paths))


def _as_table(rows: list[dict[str, Any]], table: Table) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=table.dataset.schema)


def _with_sources(
    manifest: Manifest,
    folders: Sequence[Path],
    labels: str | os.PathLike[str] | None,
    exclude: Sequence[str] | None,
) -> Manifest:
    """Return the manifest with what an update is given: folders, source of labels, patterns.

    A folder whose photos belong to another folder of the index is not one of its own.
    """
    if isinstance(exclude, str):
        exclude = [exclude]
    patterns = manifest.exclude if exclude is None else tuple(dict.fromkeys(exclude))
    new = [os.path.abspath(folder) for folder in folders if Path(folder).is_dir()]
    tops = outermost_folders([*manifest.folders, *new], patterns).values()
    rule = manifest.labels
    if labels is not None:
        path = os.fspath(labels)
        rule = {FOLDERS: FOLDERS, NO_LABELS: None}.get(path, os.path.abspath(path))
    return replace(
        manifest,
        folders=tuple(sorted(map(os.fsdecode, set(tops)))),
        labels=rule,
        exclude=patterns,
    )


def _with_shard(manifest: Manifest, shard: Shard | None, table: Table) -> Manifest:
    """Return the manifest of an index during a run, as a shard of the collection if it is one."""
    if shard is not None:
        is_new = not manifest.decoders and not table.count()
        require_same_shard(manifest.shard, shard, table.index, is_new=is_new)
    shard = shard or manifest.shard
    return manifest.of_shard(shard) if shard else manifest


def _notes_on_roots(folders: Sequence[Path], roots: Sequence[Path]) -> Iterator[str]:
    """Yield a note for each folder whose class folders are those of a folder above it."""
    for folder in folders:
        root = next((root for root in roots if root in folder.parents), None)
        if root is not None and folder.is_dir() and folder not in roots:
            yield (
                f"{readable(folder)} lies in {readable(root)}, which the index knows, so its "
                f"labels are the names of the folders in {readable(root)}"
            )
