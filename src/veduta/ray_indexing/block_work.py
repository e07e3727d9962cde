"""What a worker does: check that its machine fits, then index one block after the other.

A worker keeps its networks loaded between blocks. Each block becomes an index in a temporary folder
of the machine. The finished part is delivered as a whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from veduta.devices import PROCESSOR
from veduta.encoders import Encoder
from veduta.errors import (
    EncoderError,
    EncoderMismatch,
    IndexDamaged,
    StorageError,
    VedutaError,
    readable,
)
from veduta.files import scratch_folder
from veduta.index import Manifest, UpdateProgress, create_index, update_index
from veduta.index.shards import Shard
from veduta.keypoints import Extractor
from veduta.photos import Candidate
from veduta.ray_indexing.known_contents import KnownContents
from veduta.ray_indexing.places import staging_of
from veduta.ray_indexing.plan import Plan
from veduta.ray_indexing.staging import Staging
from veduta.search.engine import encoder_of, extractor_of

__all__ = ["BlockWork", "BlockWorker", "MachineUnfit", "WorkSettings"]

_SCRATCH_NAME = "veduta-block"


class MachineUnfit(VedutaError):
    """A machine cannot do the work, whichever block it gets."""


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """What all workers of a run have in common.

    Attributes:
        manifest: of the index that the parts become.
        projection: the content of its projection file, if it has one.
        places: whether it stores where photos were taken.
        folders: of the index, absolute.
        sample: some of the files to read, by which a machine is seen to have them.
        staging: `Staging.settings`.
        token: of the plan.
        runtime: of the encoder.
        accept_truncated: use photos that are cut short.
        known_contents: of the index, from `KnownContents.packed`.
    """

    manifest: Manifest
    projection: bytes | None
    places: bool
    folders: tuple[str, ...]
    sample: tuple[Candidate, ...]
    staging: dict[str, str]
    token: str
    runtime: str | None = None
    accept_truncated: bool = False
    known_contents: Any = field(default_factory=lambda: KnownContents.packed(()))


@dataclass(frozen=True, slots=True)
class BlockWork:
    """What was done for a block.

    Attributes:
        encoded: photos that were read and encoded.
        runtime: what ran the network, and its precision.
    """

    encoded: int
    runtime: str


class BlockWorker:
    """Indexes blocks on one machine.

    Attributes:
        done: files of the current block that were read.
    """

    def __init__(self, settings: WorkSettings) -> None:
        """Check the machine, and load the networks.

        Args:
            settings: of the run.

        Raises:
            MachineUnfit: the machine does not see the photos or the place for the parts, or lacks
                the encoder of the index.
        """
        self.done = 0
        self._settings = settings
        require_same_files(settings.sample)
        self._staging = _same_staging(settings)
        self._encoder, self._extractor = _networks(settings)
        self._contents = KnownContents(np.asarray(settings.known_contents))

    def index_block(self, shard: Shard, part: str, files: Sequence[Candidate]) -> BlockWork:
        """Index a block, and deliver its part.

        Args:
            shard: of the block.
            part: the name of the part.
            files: of the block.

        Returns:
            What was done.

        Raises:
            MachineUnfit: the photos or the room for temporary files have gone.
            VedutaError: the block cannot be indexed.
        """
        self.done = 0
        with scratch_folder(_SCRATCH_NAME) as scratch:
            index = scratch / "part"
            try:
                self._begin(index, shard)
                report = update_index(
                    index,
                    self._sources(files),
                    self._encoder,
                    self._extractor,
                    on_progress=self._note,
                    workers=1,
                    allow_empty=True,
                    accept_truncated=self._settings.accept_truncated,
                    all_photos=True,
                    shard=shard,
                    graph=False,
                    listed=files,
                    known_elsewhere=self._contents,
                )
                if report.not_read:
                    require_same_files(self._settings.sample)
                self._staging.put(part, index)
            except StorageError as error:
                raise MachineUnfit(str(error)) from error
        return BlockWork(report.encoded, report.runtime)

    def _begin(self, index: Path, shard: Shard) -> None:
        """Make an empty part, or go on with one of the same shard that has other files."""
        from veduta.ray_indexing.blocks import part_prefix

        for name in self._staging.like(part_prefix(shard, self._settings.token)):
            try:
                index.mkdir()
                self._staging.fetch(name, index)
            except IndexDamaged:
                shutil.rmtree(index)
                continue
            return
        settings = self._settings
        create_index(
            index,
            self._encoder,
            self._extractor,
            places=settings.places,
            regions=settings.manifest.regions is not None,
        )
        if settings.projection is not None:
            name = str(settings.manifest.projection)
            (index / name).write_bytes(settings.projection)
            replace(Manifest.read(index), projection=name).write(index)

    def _sources(self, files: Sequence[Candidate]) -> list[Path]:
        folders = [Path(folder) for folder in self._settings.folders if os.path.isdir(folder)]
        return folders or [Path(os.fsdecode(file.path)) for file in files]

    def _note(self, progress: UpdateProgress) -> None:
        self.done = progress.done


def _networks(settings: WorkSettings) -> tuple[Encoder, Extractor | None]:
    """Load the encoder and the extractor of the index, each for one processor thread."""
    manifest = settings.manifest
    try:
        encoder = encoder_of(manifest, threads=1, runtime=settings.runtime, device=PROCESSOR.name)
        keypoints = manifest.keypoints
        return encoder, (
            extractor_of(keypoints, threads=1, device=PROCESSOR.name) if keypoints else None
        )
    except (EncoderError, EncoderMismatch) as error:
        # The cause of a mismatch says which file is another one, without a remedy for one machine.
        raise MachineUnfit(
            f"{str(error.__cause__ or error).rstrip('.')}. Install the same version of Veduta, and "
            "put the same model at the same path, on all machines"
        ) from error


def require_same_files(sample: Sequence[Candidate]) -> None:
    """Refuse a machine that does not see the files, or sees others in their place.

    Args:
        sample: some files, as the driver has listed them.

    Raises:
        MachineUnfit: at least half of them are missing or others. Single ones may just change.
    """
    unlike = [file for file in sample if not _is_there(file)]
    if unlike and 2 * len(unlike) >= len(sample):
        raise MachineUnfit(
            f"{readable(unlike[0].path)} is missing there, or is another file. Mount the folder of "
            "the photos at the same path on all machines"
        )


def _is_there(file: Candidate) -> bool:
    try:
        status = os.stat(file.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def _same_staging(settings: WorkSettings) -> Staging:
    """Return the place of finished parts, if this machine sees the plan there."""
    try:
        staging = staging_of(settings.staging)
        plan = Plan.read(staging)
    except VedutaError as error:
        raise MachineUnfit(str(error)) from error
    if plan is None or plan.token != settings.token:
        raise MachineUnfit(
            f"{staging.where} is not the same there. Name an --index on a disk that all machines "
            "share at the same path, or in an object store"
        )
    return staging
