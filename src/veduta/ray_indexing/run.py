"""One run with Ray: the new and changed photos in blocks, a merge of their parts, an update.

The driver lists the folders once and divides the files that an update would read. Workers make a
part of each block. One commit merges the parts into the index. Then an ordinary update of the index
does what concerns all photos: labels, photos that are gone or have moved, and the links. It reads
only what no part has. So the index is that of one run, whatever failed on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from veduta.devices import device_named
from veduta.errors import DeviceError, IndexDamaged
from veduta.index import (
    Manifest,
    UpdateReport,
    files_to_update,
    merge_indexes,
    open_snapshot,
    open_table,
    update_index,
)
from veduta.index.places import has_places
from veduta.photos import Candidate
from veduta.ray_indexing.address import RayAddress
from veduta.ray_indexing.block_work import WorkSettings
from veduta.ray_indexing.blocks import Block, block_count, divide
from veduta.ray_indexing.known_contents import KnownContents
from veduta.ray_indexing.plan import Plan, kind_of
from veduta.ray_indexing.pool import Pool
from veduta.ray_indexing.ray_cluster import connected, require_ray
from veduta.ray_indexing.ray_pool import RayPool, cluster_cores, worker_environment
from veduta.ray_indexing.report import RayReport
from veduta.ray_indexing.schedule import Done, run_blocks
from veduta.ray_indexing.staging import FolderStaging, Staging
from veduta.ray_indexing.store_staging import StoreStaging
from veduta.search.engine import encoder_of, extractor_of

__all__ = ["RunOptions", "index_with_ray"]

OnStage = Callable[[str, int, int], None]
"""Called with (stage, done, total), in photos. The stages are "Indexing", "Copying", "Linking"."""

_SAMPLE_FILES = 16


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of an update that a run with Ray has, as `veduta.index.update_index` has them."""

    labels: str | Path | None = None
    exclude: Sequence[str] | None = None
    allow_empty: bool = False
    allow_label_loss: bool = False
    accept_truncated: bool = False
    all_photos: bool = False
    runtime: str | None = None

    def of_listing(self) -> dict[str, Any]:
        """Return those that decide which files are read."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "runtime"
        }


def index_with_ray(
    index: Path,
    folders: Sequence[Path],
    address: RayAddress,
    options: RunOptions = RunOptions(),
    *,
    url: str | None = None,
    on_stage: OnStage | None = None,
    say: Callable[[str], None] | None = None,
) -> RayReport:
    """Bring an index up to date with folders on a disk that all machines of a cluster share.

    Args:
        index: an existing index. Finished parts wait in a folder beside it until they are merged,
            so it lies on a disk that all machines share, or is the copy of one in an object store.
        folders: as in `veduta.index.update_index`.
        address: of the cluster.
        options: of the update.
        url: of the object store that the index is a copy of. Finished parts wait there.
        on_stage: called with (stage, done, total).
        say: called with what the user should know at once, a sentence.

    Returns:
        What was done. If the user interrupts the run, finished parts are kept, and the next run
        continues with them.

    Raises:
        ServiceError: Ray is not installed, the cluster cannot be reached, or no worker fits.
        DeviceError: networks are to run on another device than processors.
        IndexLocked: another process is writing to the index.
        VedutaError: as in `veduta.index.update_index`.
    """
    require_ray()
    _require_processor()
    index = index.absolute()
    folder = index.with_name(f"{index.name}.parts")
    if url is not None:
        staging = StoreStaging(f"{url}.parts", folder)
        return _Run(index, folders, staging, options, on_stage, say).all(address)
    shared = FolderStaging(folder)
    with shared.locked():
        return _Run(index, folders, shared, options, on_stage, say).all(address)


def _require_processor() -> None:
    device = device_named()
    if not device.is_processor:
        raise DeviceError(
            f"With Ray, networks run on processors, not on '{device.name}'. Leave the device out, "
            "or index shards on the machines that have it (--shard), and merge them."
        )


class _Run:
    def __init__(
        self,
        index: Path,
        folders: Sequence[Path],
        staging: Staging,
        options: RunOptions,
        on_stage: OnStage | None,
        say: Callable[[str], None] | None,
    ) -> None:
        self.index = index
        self.folders = folders
        self.staging = staging
        self.options = options
        self.on_stage = on_stage or (lambda *_: None)
        self.say = say
        self.report = RayReport()
        self.parts: dict[str, Path] = {}
        self.to_be_labelled: set[int] = set()

    def all(self, address: RayAddress) -> RayReport:
        """Do everything, and return what was done."""
        started = time.monotonic()
        try:
            later = self._blocks(address)
            merged = self._merge()
            self._update(merged, later)
            if not self.report.interrupted:
                self.staging.clear()
        except KeyboardInterrupt:
            self.report.interrupted = True
            self.report.total = open_snapshot(self.index).photos
        self.report.seconds = time.monotonic() - started
        return self.report

    def _blocks(self, address: RayAddress) -> set[bytes]:
        """Make the parts of all blocks; return the files of those that were given up."""
        files, folders = files_to_update(self.index, self.folders, **self.options.of_listing())
        if not files:
            return set()
        manifest = Manifest.read(self.index)
        kind = kind_of(manifest, folders, {"accept_truncated": self.options.accept_truncated})
        plan = Plan.read(self.staging)
        with ExitStack() as stack:
            ray = None
            if plan is None or plan.kind != kind:
                ray = stack.enter_context(connected(address))
                count = block_count(len(files), cluster_cores(ray))
                plan = Plan.begin(self.staging, kind, count)
            blocks = divide(files, folders, plan.count, plan.token)
            todo = [block for block in blocks if not self._is_there(block)]
            self.report.blocks = len(blocks)
            self.report.kept_blocks = len(blocks) - len(todo)
            if not todo:
                return set()
            ray = ray or stack.enter_context(connected(address))
            settings = self._settings(manifest, plan, files, folders)
            pool = RayPool(ray, settings, worker_environment() if address.is_local else None)
            stack.callback(pool.stop)
            return self._run_blocks(blocks, todo, pool)

    def _run_blocks(self, blocks: Sequence[Block], todo: Sequence[Block], pool: Pool) -> set[bytes]:
        total = sum(len(block.files) for block in blocks)
        kept = total - sum(len(block.files) for block in todo)

        def on_progress(done: int) -> None:
            self.on_stage("Indexing", kept + done, total)

        on_progress(0)
        started = time.monotonic()
        done: Done = run_blocks(todo, pool, self._accept, on_progress=on_progress, say=self.say)
        self.report.block_seconds = time.monotonic() - started
        self.report.failed_blocks = [failed for _, failed in done.failed]
        self.report.set_aside = done.set_aside
        self.report.encoded += done.encoded
        self.report.runtime = done.runtime
        return {file.path for block, _ in done.failed for file in block.files}

    def _is_there(self, block: Block) -> bool:
        """Tell whether the part of a block is there, whole. A damaged one is removed."""
        if not self.staging.has(block.part):
            return False
        try:
            self._accept(block)
        except IndexDamaged:
            return False
        return True

    def _accept(self, block: Block) -> None:
        try:
            self.parts[block.part] = self.staging.take(block.part)
            self.report.finished_blocks = len(self.parts)
        except IndexDamaged:
            self.staging.remove(block.part)
            raise

    def _settings(
        self, manifest: Manifest, plan: Plan, files: Sequence[Candidate], folders: tuple[str, ...]
    ) -> WorkSettings:
        snapshot = open_snapshot(self.index)
        there = [file for file in files if file.size >= 0]
        projection = manifest.projection
        return WorkSettings(
            manifest=manifest,
            projection=(self.index / projection).read_bytes() if projection else None,
            places=has_places(snapshot),
            folders=folders,
            sample=tuple(there[:: -(-len(there) // _SAMPLE_FILES) or 1]),
            staging=self.staging.settings,
            token=plan.token,
            runtime=self.options.runtime,
            accept_truncated=self.options.accept_truncated,
            known_contents=KnownContents.packed(filter(None, snapshot.rows["content"].to_pylist())),
        )

    def _merge(self) -> UpdateReport:
        """Merge all parts into the index, in one commit, and return what that changed."""
        changes = UpdateReport()
        if not self.parts:
            return changes
        before = open_snapshot(self.index).photos
        without_label = self._ids_without_label()
        merged = merge_indexes(
            [self.parts[name] for name in sorted(self.parts)],
            self.index,
            allow_missing=True,
            graph=False,
            on_progress=self.on_stage,
        )
        if merged.interrupted:
            raise KeyboardInterrupt
        changes.changed = merged.changed
        changes.copied = merged.copies
        changes.added = max(merged.total - before - merged.copies, 0)
        self.to_be_labelled = self._ids_without_label() - without_label
        return changes

    def _ids_without_label(self) -> set[int]:
        rows = open_table(self.index).batches(["id"], where="label IS NULL")
        return {row_id for batch in rows for row_id in batch.column("id").to_pylist()}

    def _update(self, merged: UpdateReport, later: set[bytes]) -> None:
        """Do what concerns all photos of the index, and read what no part has."""
        manifest = Manifest.read(self.index)
        keypoints = manifest.keypoints
        update = update_index(
            self.index,
            self.folders,
            encoder_of(manifest, threads=1, runtime=self.options.runtime),
            extractor_of(keypoints, threads=1) if keypoints else None,
            **self.options.of_listing(),
            on_progress=lambda state: self.on_stage("Reading the rest", state.done, state.total),
            on_linking=partial(self.on_stage, "Linking"),
            later=later,
        )
        mine = self.report
        for field in fields(UpdateReport):
            if field.name not in ("encoded", "runtime"):
                setattr(mine, field.name, getattr(update, field.name))
        mine.encoded += update.encoded
        mine.runtime = mine.runtime or update.runtime
        for kind in ("added", "changed", "copied"):
            setattr(mine, kind, getattr(mine, kind) + getattr(merged, kind))
            mine.unchanged -= getattr(merged, kind)
        mine.unchanged = max(mine.unchanged, 0)
        if self.to_be_labelled:
            # Parts have no labels, and the first label of a photo is no change.
            mine.relabelled -= len(self.to_be_labelled - self._ids_without_label())
