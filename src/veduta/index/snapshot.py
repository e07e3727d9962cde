"""A memory-mapped copy of one version of the table, for searches.

To open Lance takes most of a second, and a scan of its columns more. A search needs neither. A
snapshot is a folder of plain files that map into memory at once:

- `rows.arrow`: the columns of `veduta.index.columns` that searches need; photos first, then the
  files that could not be read.
- `descriptors.f16`: (n, d) float16, unit rows, after the projection if the index has one.
- `codes.i8`, `scales.f32`, `errors.f32`: the same rows quantised to int8: row ≈ scale · quantised.
  `errors` is the length of the difference. It makes the int8 scan of `veduta.search.exact` exact.
- `regions.u8`: (n, r, b) uint8, the codes of regions, if the index has them.
- `projection.npz`: a copy of the projection, for the case that the one of the index is lost.

Its folder is sealed by `veduta.index.checksums`. A snapshot is derived data and can be deleted at
any time. It is built again when the version of the table changes, or when it is damaged.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import Projection
from veduta.errors import EncoderError, IndexDamaged, StorageError, readable
from veduta.files import atomic_folder, is_draft
from veduta.index.checksums import CHECKSUMS_FILE, Checksums, seal
from veduta.index.columns import descriptor_is_sound, snapshot_columns
from veduta.index.keypoint_files import KeypointReader, keypoint_places
from veduta.index.manifest import Manifest
from veduta.index.projection_file import load_projection, read_projection
from veduta.index.storage_errors import repair_command, storage_error
from veduta.index.table import Table, Version, lost_version, newest_version, open_table
from veduta.photos import content_hash
from veduta.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

SNAPSHOT_FOLDER = "snapshot"
_PROJECTION_FILE = "projection.npz"


class RowFile:
    """A file of equal rows that is read row by row.

    A few rows of a mapped file cost more: the kernel maps up to two megabytes around each.
    """

    def __init__(self, path: Path, dtype: Any, width: int) -> None:
        self._dtype = np.dtype(dtype)
        self._width = width
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def take(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return `rows` (m,) as (m, width)."""
        size = self._width * self._dtype.itemsize
        data = b"".join(os.pread(self._descriptor, size, row * size) for row in rows.tolist())
        return np.frombuffer(data, self._dtype).reshape(len(rows), self._width)


@dataclass(frozen=True)
class Snapshot:
    """One version of an index, mapped into memory.

    Attributes:
        version: number of the table's version.
        notice: what the user must know about this version, or None.
        rows: the columns that searches need. The first n rows are photos; those after them are
            files that could not be read.
        descriptors: (n, d) float16, unit rows.
        quantised: (n, d) int8 in [-127, 127].
        scales: (n,) float32.
        errors: (n,) float32, ‖row - scale · quantised‖.
        file: the file of `descriptors`, if the system can read it row by row.
        name: of everything that is derived from this version, see `snapshot_name`.
        regions: (n, r, b) uint8, the codes of the regions of each photo
            (`veduta.encoders.region_codes`); None if the index has none.
    """

    version: int
    notice: str | None
    rows: pa.Table
    descriptors: NDArray[np.float16]
    quantised: NDArray[np.int8]
    scales: NDArray[np.float32]
    errors: NDArray[np.float32]
    file: RowFile | None = None
    name: str = ""
    regions: NDArray[np.uint8] | None = None

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the descriptors of `rows` (m,), (m, d) float32."""
        stored = self.descriptors[rows] if self.file is None else self.file.take(rows)
        return as_float32(stored)

    def rows_at(self, rows: NDArray[np.intp], names: Sequence[str]) -> pa.Table:
        """Return some columns of some rows.

        `pyarrow.Table.take` looks at every part of the table, which has one for 256 photos.

        Args:
            rows: (m,) of the snapshot.
            names: of the columns.

        Returns:
            A table of m rows.
        """
        import pyarrow as pa

        starts, batches = self._batches
        numbers = np.searchsorted(starts, rows, side="right") - 1
        picked = [
            batches[number].select(list(names)).slice(row - int(starts[number]), 1)
            for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)
        ]
        return pa.Table.from_batches(picked, self.rows.select(list(names)).schema)

    @cached_property
    def _batches(self) -> tuple[NDArray[np.intp], list[pa.RecordBatch]]:
        """The first row of each part of `rows`, and the parts."""
        batches = self.rows.to_batches()
        lengths = [batch.num_rows for batch in batches]
        return np.cumsum([0, *lengths[:-1]]), batches

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """(n,) the number of each photo, which it keeps as long as it is in the index."""
        ids: NDArray[np.int64] = self.rows["id"].slice(0, self.photos).to_numpy()
        return ids

    @cached_property
    def order_of_ids(self) -> NDArray[np.intp]:
        """(n,) the rows by ascending `ids`."""
        return np.argsort(self.ids, kind="stable")

    @property
    def photos(self) -> int:
        """Number n of photos that can be searched."""
        return len(self.descriptors)

    @property
    def keypoint_files(self) -> set[int]:
        """Numbers of the files that hold the photos' keypoints."""
        return set(self.rows["keypoints_file"].unique().to_pylist()) - {None}

    @property
    def dimension(self) -> int:
        """Length d of a descriptor as searched, after any projection."""
        return int(self.descriptors.shape[1])


class _Facts(msgspec.Struct):
    """The content of `snapshot.json`."""

    version: int
    notice: str | None
    photos: int
    dimension: int
    regions: tuple[int, int] | None = None


def as_float32(
    descriptors: NDArray[np.float16] | NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return descriptors in float32, six times as fast as `astype` of NumPy.

    Args:
        descriptors: of any shape.
    """
    import numkong

    wide = np.empty(descriptors.shape, np.float32)
    numkong.astype(descriptors, "float32", out=wide)
    return wide


def open_snapshot(index: Path) -> Snapshot:
    """Return a snapshot of the newest version of an index.

    It is built if there is none yet, or if the one that is there is damaged. Then its notice says
    so. If the index cannot be written, because its disk is full or read-only, a temporary folder
    holds the snapshot as long as the process runs.

    Args:
        index: the folder of the index.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the index does not open.
        StorageError: the disk does not read, or neither it nor the temporary folder can be written.
    """
    manifest = Manifest.read(index)
    lost = lost_version(index)
    if lost is not None:
        snapshot = _open_for_search(index, _name(lost, manifest))
        if snapshot is not None:
            return _with_notice(
                snapshot,
                f"{readable(index)} is damaged: version {lost.number} of its table does not open. "
                "Its snapshot is whole and is used. "
                f"Repair it with: {repair_command(index)}",
            )
    name = _name(newest_version(index), manifest)
    snapshot = _open_for_search(index, name)
    if snapshot is not None:
        return snapshot
    # 0.1.0 did not seal its snapshots, and a writer removes one after it has made a newer version.
    sealed = (index / SNAPSHOT_FOLDER / name / CHECKSUMS_FILE).exists()
    damaged = sealed and name == _name(newest_version(index), Manifest.read(index))
    table = open_table(index)
    try:
        snapshot = build_snapshot(index, manifest, table)
    except StorageError:  # The disk may be full or read-only, and a search needs not write there.
        snapshot = _open_elsewhere(index, manifest, table)
    if damaged:
        notice = f"{readable(index)}: its snapshot was damaged. It was built again from the table."
        return _with_notice(snapshot, notice)
    return snapshot


def _open_for_search(index: Path, name: str) -> Snapshot | None:
    try:
        return _open(index / SNAPSHOT_FOLDER / name)
    except OSError as error:
        raise storage_error(error, index, "read") from error


def _with_notice(snapshot: Snapshot, notice: str) -> Snapshot:
    return replace(snapshot, notice=" ".join(filter(None, (snapshot.notice, notice))))


def snapshot_is_damaged(index: Path, manifest: Manifest) -> bool:
    """Hash the snapshot of the newest version of an index anew.

    Args:
        index: the folder of the index.
        manifest: of the index.

    Returns:
        False also if there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    folder = index / SNAPSHOT_FOLDER / snapshot_name(index, manifest)
    return (folder / CHECKSUMS_FILE).exists() and _open(folder, anew=True) is None


def copied_projection(index: Path, manifest: Manifest) -> Projection | None:
    """Return the projection of an index from its copy in the snapshot.

    Args:
        index: the folder of the index.
        manifest: of the index.

    Returns:
        None if there is no copy, or if it is damaged.
    """
    if manifest.projection is None:
        return None
    file = index / SNAPSHOT_FOLDER / snapshot_name(index, manifest) / _PROJECTION_FILE
    try:
        return load_projection(file, manifest.projection)
    except EncoderError:
        return None


def build_snapshot(index: Path, manifest: Manifest, table: Table) -> Snapshot:
    """Write a snapshot and open it. Older ones are removed.

    Args:
        index: the folder of the index.
        manifest: of the index.
        table: the open version.

    Raises:
        StorageFull: the disk is full.
        StorageError: the disk does not read or write.
        IndexDamaged: the table does not read.
    """
    try:
        return _build(index / SNAPSHOT_FOLDER, index, manifest, table, durable=True)
    except OSError as error:
        raise storage_error(error, index, "write") from error


def _open_elsewhere(index: Path, manifest: Manifest, table: Table) -> Snapshot:
    """Open or build a snapshot in a temporary folder, for an index that cannot be written."""
    try:
        folder = _temporary_folder(index)
        snapshot = _open(folder / _name(newest_version(index), manifest))
        return snapshot or _build(folder, index, manifest, table, durable=False)
    except OSError as error:
        raise storage_error(error, Path(tempfile.gettempdir()), "write") from error


@cache
def _temporary_folder(index: Path) -> Path:
    """Return the folder for snapshots of an index in this process. It is removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="veduta-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build(
    folder: Path, index: Path, manifest: Manifest, table: Table, *, durable: bool
) -> Snapshot:
    name = _name(newest_version(index), manifest)
    with atomic_folder(folder / name, durable=durable) as draft:
        _write(draft, index, manifest, table)
        # It is mapped before it gets its name, because another process may replace it then.
        snapshot = _open(draft)
        if snapshot is None or not _is_valid(snapshot.rows):
            raise IndexDamaged(
                f"{readable(folder / name)} does not read back as it was written. Is the disk "
                "or the memory failing? Run the same command again."
            )
    snapshot = replace(snapshot, name=name)
    for other in folder.iterdir():
        # Readers that map an older snapshot keep its pages until they close it.
        if other.name != name and not is_draft(other):
            shutil.rmtree(other, ignore_errors=True)
    return snapshot


def snapshot_name(index: Path, manifest: Manifest) -> str:
    """Return the name of everything that is derived from the newest version of an index.

    If the newest version of the table does not open, and its snapshot is there, it is that version.

    Args:
        index: the folder of the index.
        manifest: of the index.
    """
    lost = lost_version(index)
    if lost is not None and (index / SNAPSHOT_FOLDER / _name(lost, manifest)).exists():
        return _name(lost, manifest)
    return _name(newest_version(index), manifest)


def _name(version: Version | None, manifest: Manifest) -> str:
    return content_hash(repr((version, manifest.projection)).encode()).hex()[:16]


def _open(folder: Path, *, anew: bool = False) -> Snapshot | None:
    """Map the snapshot in `folder`; None if it is missing or damaged.

    `anew` hashes all files, whatever their stamps are.
    """
    import pyarrow as pa

    try:
        checksums = Checksums.read(folder)
        if checksums is None or checksums.damaged(anew=anew):
            return None
        facts = read_json(folder / "snapshot.json", _Facts)
        n, d = facts.photos, facts.dimension

        def mapped(name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} is cut off")
            return (
                np.memmap(folder / name, dtype, "r", shape=shape) if n else np.empty(shape, dtype)
            )

        with pa.memory_map(str(folder / "rows.arrow")) as source:
            rows = pa.ipc.open_file(source).read_all()
        return Snapshot(
            version=facts.version,
            notice=facts.notice,
            rows=rows,
            descriptors=mapped("descriptors.f16", np.float16, (n, d)),
            quantised=mapped("codes.i8", np.int8, (n, d)),
            scales=mapped("scales.f32", np.float32, (n,)),
            errors=mapped("errors.f32", np.float32, (n,)),
            file=RowFile(folder / "descriptors.f16", np.float16, d)
            if hasattr(os, "pread")
            else None,
            name=folder.name,
            regions=mapped("regions.u8", np.uint8, (n, *facts.regions)) if facts.regions else None,
        )
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # The caller builds this derived data again.


def _is_valid(rows: pa.Table) -> bool:
    import pyarrow as pa

    try:
        rows.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _write(draft: Path, index: Path, manifest: Manifest, table: Table) -> None:
    import pyarrow as pa

    projection = read_projection(index, manifest)
    if projection is not None:
        projection.save(draft / _PROJECTION_FILE)
    photos = 0
    dimension = projection.matrix.shape[1] if projection else table.dimension
    columns = snapshot_columns(table.dataset.schema.names)
    schema = pa.schema([table.dataset.schema.field(name) for name in columns])
    with ExitStack() as stack:
        streams = [
            stack.enter_context((draft / name).open("wb"))
            for name in ("descriptors.f16", "codes.i8", "scales.f32", "errors.f32")
        ]
        rows_file = stack.enter_context(pa.OSFile(str(draft / "rows.arrow"), "wb"))
        rows_writer = stack.enter_context(pa.ipc.new_file(rows_file, schema))
        regions_file = (
            stack.enter_context((draft / "regions.u8").open("wb")) if manifest.regions else None
        )
        reader = KeypointReader(index)
        for batch in table.batches([*columns, "descriptor", "checksum"], "problem IS NULL"):
            _require_sound_descriptors(batch, index)
            rows_writer.write_batch(batch.select(columns))
            descriptors = descriptor_array(batch.column("descriptor"))
            if projection is not None:
                descriptors = projection.apply(descriptors)
            stored = descriptors.astype(np.float16)
            arrays: tuple[NDArray[Any], ...] = (stored, *quantise(stored))
            for stream, array in zip(streams, arrays, strict=True):
                array.tofile(stream)
            if regions_file is not None and manifest.region_shape is not None:
                for place in keypoint_places(batch):
                    regions_file.write(reader.read_regions(place, manifest.region_shape).tobytes())
            photos += len(stored)
        for batch in table.batches(columns, "problem IS NOT NULL"):
            rows_writer.write_batch(batch)
    facts = _Facts(table.version, table.notice, photos, dimension, manifest.region_shape)
    (draft / "snapshot.json").write_text(json.dumps(msgspec.to_builtins(facts)), "utf-8")
    seal(draft)


def _require_sound_descriptors(batch: pa.RecordBatch, index: Path) -> None:
    """Raise `IndexDamaged` for a row whose descriptor is not what was stored, or not finite."""
    column = batch.column("descriptor")
    whole = not column.null_count
    if whole:
        descriptors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        checksums = batch.column("checksum").to_pylist()
        sound = list(map(descriptor_is_sound, descriptors, checksums))
    else:
        sound = column.is_valid().to_pylist()
    if not all(sound):
        path = batch.column("path")[sound.index(False)].as_py()
        raise IndexDamaged(
            f"{readable(index)} is damaged: the descriptor of {readable(path)} does not match its "
            f"checksum. Repair it with: {repair_command(index)}"
        )


def descriptor_array(column: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """Return a descriptor column without nulls as (n, d) float32."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    shape = (len(column), column.type.list_size)
    return np.asarray(flat, dtype=np.float32).reshape(shape)


def quantise(
    rows: NDArray[np.float16],
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Quantise descriptors to int8, each row with its own scale.

    Args:
        rows: (n, d).

    Returns:
        quantised (n, d) int8, scales (n,) float32 and errors (n,) float32, with
        rows ≈ scales · quantised.
    """
    full = as_float32(rows)
    peak = np.abs(full).max(axis=1, initial=0.0)
    scales = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    quantised = np.rint(full / scales[:, None]).astype(np.int8)
    errors = np.linalg.norm(full - scales[:, None] * quantised, axis=1).astype(np.float32)
    return quantised, scales, errors
