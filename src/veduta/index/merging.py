"""Merge indexes into one, as a transaction: the index is as it was before, or whole.

A new index is made in a draft folder beside it, which takes its name at the end. An index that is
there gets the keypoints first, to which no row points yet. Then one commit of its table adds and
replaces the rows, and the small files follow (`veduta.index.pending`). The snapshot and the graph
are made from the rows after that, as in an update. docs/decisions/merge-in-one-commit.md says why.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veduta.errors import CollectionError, IndexLocked, readable
from veduta.files import remove_path, room_for_open_files, sync
from veduta.index import keypoint_files
from veduta.index.columns import COLUMNS
from veduta.index.creating import holds_index, remove_leftovers, require_empty
from veduta.index.label_edits import LabelEdits
from veduta.index.manifest import Manifest
from veduta.index.merge_parts import (
    Part,
    missing_shards,
    open_parts,
    require_other_folders,
    require_same_kind,
)
from veduta.index.merge_plan import MergePlan, plan_merge
from veduta.index.merge_rows import copy_keypoints, new_rows
from veduta.index.pending import pending_files, settle
from veduta.index.removed_photos import RemovedPhotos
from veduta.index.snapshot import build_snapshot, open_snapshot
from veduta.index.storage_errors import index_errors
from veduta.index.table import (
    LOCK_FILE,
    Table,
    create_table,
    lance_path,
    open_table_to_write,
    remove_old_drafts,
    writer_lock,
)
from veduta.index.updating import link_photos
from veduta.photos.finding import outermost_folders

__all__ = ["MergeReport", "merge_indexes"]

_FILES_A_PART = 4
"""The lock of a part, and what its table has open."""

OnStage = Callable[[str, int, int], None]
"""Called with (stage, done, total), in photos. The stages are "Copying" and "Linking"."""


@dataclass(slots=True)
class MergeReport:
    """What a merge did, in files.

    Attributes:
        parts: number of indexes that were merged.
        created: whether the index is new.
        added: files that the index did not have.
        changed: files of which a part has a newer content.
        kept: files of the index that stay as they were.
        known: files of parts that were there already, with the same content.
        copies: those of the added and changed files that share the descriptor and the keypoints of
            another file, because the content is the same.
        conflicts: files that two indexes have with different contents. The newer one stays.
        label_conflicts: files that two indexes have with different labels. That of the index that
            is named first stays.
        left_out: files that are left out or removed, because a person removed their photo from one
            of the indexes.
        missing_shards: numbers of the shards that are not among the parts.
        notes: what the user should know about settings that differ, one sentence each.
        unreadable: files of the index that give no photo.
        total: photos in the index after the merge.
        interrupted: whether the user interrupted the linking. The rows are merged then.
        seconds: duration of the merge.
    """

    parts: int = 0
    created: bool = False
    added: int = 0
    changed: int = 0
    kept: int = 0
    known: int = 0
    copies: int = 0
    conflicts: int = 0
    label_conflicts: int = 0
    left_out: int = 0
    missing_shards: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: int = 0
    total: int = 0
    interrupted: bool = False
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def merge_indexes(
    parts: Sequence[Path],
    whole: Path,
    *,
    allow_missing: bool = False,
    graph: bool = True,
    on_progress: OnStage | None = None,
) -> MergeReport:
    """Make one index of several, or add them to an index.

    Args:
        parts: the folders of the indexes, such as shards of a collection. Nothing in them changes.
        whole: the folder of the index that they become. It is made, or an index is there already.
        allow_missing: accept that not all shards are among the parts.
        graph: bring the neighbour graph up to date as well. Otherwise the next update does.
        on_progress: called with (stage, done, total).

    Returns:
        What was done.

    Raises:
        QueryError: no part is named, one is named twice, or `whole` is among them.
        NotAnIndex: a part is no index.
        EncoderMismatch: a part is of another encoder, keypoints, regions or projection.
        IndexLocked: another process is writing to a part or to `whole`.
        IndexDamaged: a part or `whole` does not open, or does not match its checksums.
        CollectionError: the run of a part did not come to its end; shards are missing, are there
            twice or have different counts; `whole` is a shard, or holds something else.
        StorageFull: the disk is full.
        KeyboardInterrupt: the user interrupted it before the rows were merged.
    """
    started = time.monotonic()
    report = MergeReport(parts=len(parts))
    require_other_folders(parts, whole)
    with ExitStack() as held:
        held.enter_context(room_for_open_files(_FILES_A_PART * len(parts)))
        opened = list(open_parts(held, parts))
        _require_fitting(opened)
        shards = [(one.index, one.manifest) for one in opened]
        report.missing_shards = missing_shards(shards, allowed=allow_missing)
        if not holds_index(whole):
            held.enter_context(_created(opened, whole, report, on_progress))
        else:
            held.enter_context(writer_lock(whole))
            _add(opened, whole, report, on_progress)
        _derive(whole, report, on_progress, graph=graph)
    report.seconds = time.monotonic() - started
    return report


def _require_fitting(parts: Sequence[Part]) -> None:
    for part in parts[1:]:
        require_same_kind(part.index, part.manifest, parts[0].index, parts[0].manifest)


@contextmanager
def _created(
    parts: Sequence[Part], whole: Path, report: MergeReport, on_progress: OnStage | None
) -> Iterator[None]:
    """Make a new index in a draft folder, and give it its name. The block holds its lock."""
    lance_path(whole)  # It refuses some paths before anything is made.
    draft = whole.absolute().parent / f".draft-merge-{whole.absolute().name}"
    with index_errors(whole, "write"):
        if os.path.lexists(whole):
            if not whole.is_dir():
                raise CollectionError(
                    f"{readable(whole)} is not a folder. Name another folder for the index."
                )
            require_empty(whole)
        draft.mkdir(parents=True, exist_ok=True)
    with _lock_of_draft(draft, whole):
        if holds_index(whole):  # Another merge came to its end meanwhile.
            shutil.rmtree(draft, ignore_errors=True)
            raise IndexLocked(
                f"{readable(whole)}: another process has just made this index. Run the same "
                "command again to add the parts to it."
            )
        try:
            _fill(draft, parts, report, on_progress)
            with index_errors(whole, "write"):
                _take_name(draft, whole)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        report.created = True
        yield


@contextmanager
def _lock_of_draft(draft: Path, whole: Path) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(writer_lock(draft))
        except IndexLocked:
            raise IndexLocked(
                f"{readable(whole)}: another process is merging into this index. Wait until it "
                "ends."
            ) from None
        yield


def _fill(
    draft: Path, parts: Sequence[Part], report: MergeReport, on_progress: OnStage | None
) -> None:
    """Write the parts as a new index into a draft folder, onto the disk."""
    for left in draft.iterdir():  # By a merge that was killed.
        if left.name != LOCK_FILE:
            remove_path(left)
    first = parts[0].manifest
    optional = {column.name for column in COLUMNS if column.optional}
    places = any(optional.issubset(part.table.dataset.schema.names) for part in parts)
    table = create_table(draft, first.dimension, places=places)
    plan = _plan(parts, report, into_first=False)
    progress = _Progress(plan, on_progress)
    copy_keypoints(
        plan,
        [part.table for part in parts],
        draft,
        first=0,
        regions=first.region_shape,
        on_rows=progress.more,
    )
    _write_rows(table, plan, [part.table for part in parts], progress)
    if first.projection is not None:
        shutil.copyfile(parts[0].index / first.projection, draft / first.projection)
        sync(draft / first.projection)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(first.of_no_shard(), created=created, approximate=False)
    _write_small_files(draft, _united(manifest, parts, report), parts)
    for folder in (draft, *(one for one in draft.iterdir() if one.is_dir())):
        sync(folder)


def _take_name(draft: Path, whole: Path) -> None:
    """Rename a whole draft. An empty folder, or what a creation left that was cut off, goes."""
    if whole.is_dir():
        with writer_lock(whole):
            if holds_index(whole):
                raise _taken(whole)
            remove_leftovers(whole)
        (whole / LOCK_FILE).unlink(missing_ok=True)
    try:
        os.rename(draft, whole)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _taken(whole) from error
        raise
    sync(whole.absolute().parent)


def _taken(whole: Path) -> CollectionError:
    return CollectionError(
        f"{readable(whole)} is not empty any more: another process wrote into it. Nothing was "
        "merged. Look at what it holds, and run the same command again."
    )


def _add(
    parts: Sequence[Part], whole: Path, report: MergeReport, on_progress: OnStage | None
) -> None:
    """Add the parts to an index that is there. The caller holds the writer's lock."""
    manifest = Manifest.read(whole)
    if manifest.shard is not None:
        raise CollectionError(
            f"{readable(whole)} is shard {manifest.shard} of a collection. Name another folder for "
            "the index of all shards."
        )
    require_same_kind(parts[0].index, parts[0].manifest, whole, manifest)
    remove_old_drafts(whole)
    table = open_table_to_write(whole)
    table.forget_unused_files()
    sources = [Part.of(whole, manifest, table), *parts]
    tables = [source.table for source in sources]
    plan = _plan(sources, report, into_first=True)
    used = set(np.unique(plan.files[: plan.starts[1]]).tolist())
    keypoint_files.remove_unused(whole, used)
    progress = _Progress(plan, on_progress)
    copy_keypoints(
        plan, tables, whole, first=1, regions=manifest.region_shape, on_rows=progress.more
    )
    fragments = _new_fragments(table, plan, tables, progress)
    has_changes = bool(fragments or plan.gone)
    version = table.version + has_changes
    manifest = _united(manifest, sources, report)
    with pending_files(whole, version) as pending:
        _write_small_files(pending, manifest, sources)
    if has_changes:
        table.commit(fragments, plan.gone)
    settle(whole, lambda: table.version)
    table.seal()
    if has_changes:
        table.tidy()
        table.drop_indices()


def _plan(sources: Sequence[Part], report: MergeReport, *, into_first: bool) -> MergePlan:
    """Decide which rows stay, and count what is done."""
    plan = plan_merge(
        [source.table for source in sources],
        into_first=into_first,
        labels=_labels(sources),
        removed=set().union(*(source.removed for source in sources)),
    )
    for name in ("kept", "added", "changed", "known", "copies", "conflicts", "left_out"):
        setattr(report, name, getattr(plan, name))
    report.label_conflicts = plan.label_conflicts + _edit_conflicts(sources)
    return plan


def _labels(sources: Sequence[Part]) -> dict[bytes, str | None]:
    """Return the labels that a person gave. That of the first index counts."""
    labels: dict[bytes, str | None] = {}
    for source in reversed(sources):
        labels.update(source.labels)
    return labels


def _edit_conflicts(sources: Sequence[Part]) -> int:
    """Return how many labels that a person gave are not used."""
    labels = _labels(sources)
    return sum(labels[path] != label for one in sources for path, label in one.labels.items())


def _new_fragments(
    table: Table, plan: MergePlan, tables: Sequence[Table], progress: _Progress
) -> list[Any]:
    rows = new_rows(plan, tables, table.dataset.schema, on_rows=progress.more)
    return [fragment for some in rows for fragment in table.write_rows(some)]


def _write_rows(
    table: Table, plan: MergePlan, tables: Sequence[Table], progress: _Progress
) -> None:
    if fragments := _new_fragments(table, plan, tables, progress):
        table.commit(fragments, ())
    table.seal()


def _write_small_files(folder: Path, manifest: Manifest, sources: Sequence[Part]) -> None:
    """Write the manifest, and what persons decided about photos in all the indexes."""
    manifest.write(folder)
    edits = LabelEdits(folder)
    edits.label_of = _labels(sources)
    if edits.label_of:
        edits.write()
    for source in sources:
        RemovedPhotos(folder).add(source.removed)


def _united(manifest: Manifest, sources: Sequence[Part], report: MergeReport) -> Manifest:
    """Return the manifest of the whole, with the folders and patterns of all parts."""
    all_manifests = [source.manifest for source in sources]
    patterns = tuple(dict.fromkeys(one for each in all_manifests for one in each.exclude))
    if any(each.exclude != patterns for each in all_manifests):
        report.notes.append(
            f"The patterns of --exclude differ. All {len(patterns)} count from now on."
        )
    rules = list(dict.fromkeys(each.labels for each in all_manifests if each.labels))
    if len(rules) > 1:
        report.notes.append(
            f"Labels come from {len(rules)} sources. Later runs take them from "
            f"{readable(rules[0])}: name another one with `veduta index --labels`."
        )
    names = [set(source.table.dataset.schema.names) for source in sources]
    if any(each != names[0] for each in names):
        report.notes.append(
            "Not all indexes store where photos were taken, so some photos have no place."
        )
    folders = [folder for each in all_manifests for folder in each.folders]
    tops = outermost_folders(folders, patterns).values()
    # An index without rows and without a run has no files that could be tried again.
    decoders = {
        each.manifest.decoders for each in sources if each.manifest.decoders or each.table.count()
    }
    return replace(
        manifest,
        folders=tuple(sorted(map(os.fsdecode, set(tops)))),
        labels=rules[0] if rules else None,
        exclude=patterns,
        # With others, the next update tries the files again that give no photo.
        decoders=decoders.pop() if len(decoders) == 1 else "mixed",
    )


def _derive(whole: Path, report: MergeReport, on_progress: OnStage | None, *, graph: bool) -> None:
    """Make the snapshot and the graph of the merged rows."""
    manifest = Manifest.read(whole)
    table = open_table_to_write(whole)
    report.total = table.count("problem IS NULL")
    report.unreadable = table.count("problem IS NOT NULL")
    try:
        snapshot = open_snapshot(whole)
        if snapshot.version != table.version:
            snapshot = build_snapshot(whole, manifest, table)
        keypoint_files.remove_unused(whole, snapshot.keypoint_files)
        on_linking = partial(on_progress, "Linking") if on_progress else None
        if graph:
            report.interrupted = not link_photos(whole, manifest, snapshot, on_linking)
    except KeyboardInterrupt:
        report.interrupted = True


class _Progress:
    """Counts photos whose keypoints are copied, and rows that are written, half a photo each."""

    def __init__(self, plan: MergePlan, on_progress: OnStage | None) -> None:
        rows = np.flatnonzero(plan.written)
        with_keypoints = (plan.files[rows] >= 0) & (plan.sources[rows] == rows)
        self._rows = len(rows)
        self._steps = len(rows) + int(with_keypoints.sum())
        self._done = 0
        self._on_progress = on_progress
        self.more(0)

    def more(self, steps: int) -> None:
        """Note further steps."""
        self._done += steps
        if self._on_progress and self._steps:
            done = self._done * self._rows // self._steps
            self._on_progress("Copying", min(done, self._rows), self._rows)
