"""A memory-mapped copy of one version of the table, for searches.

Opening Lance costs most of a second and a scan of its columns more; a search needs neither. A
snapshot is a folder of plain files that map into memory at once:

- `rows.arrow`: every column but descriptors and thumbnails; photos first, then the files that
  could not be read.
- `descriptors.f16`: (n, d) float16, unit rows, after the projection if the index has one.
- `codes.i8`, `scales.f32`, `errors.f32`: the same rows as int8: row ≈ scale · code, and `errors`
  is the length of what is lost, which makes the int8 scan of `veduta.search.exact` exact.

It is derived, so it can always be thrown away: it is rebuilt when the table's version moves on.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.encoders.projection import Projection
from veduta.errors import IndexDamaged, readable
from veduta.index.manifest import Manifest
from veduta.index.table import Table, Version, newest_version, open_table, storage_error
from veduta.photos import content_hash

if TYPE_CHECKING:
    import pyarrow as pa

SNAPSHOT_FOLDER = "snapshot"
ROW_COLUMNS = (
    "id",
    "path",
    "size",
    "mtime_ns",
    "content",
    "label",
    "format",
    "width",
    "height",
    "taken",
    "perceptual_hash",
    "problem",
    "keypoints_file",
    "keypoints_at",
    "keypoints_size",
)


class RowFile:
    """A file of equal rows, read row by row.

    A few rows out of a mapped file cost more: the kernel maps up to two megabytes around each.
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of an index, mapped into memory.

    Attributes:
        version: number of the table's version.
        notice: what the user must know about this version, or None.
        rows: all rows but their descriptors and thumbnails (`ROW_COLUMNS`); the first n are
            photos, those after them are files that could not be read.
        descriptors: (n, d) float16, unit rows.
        quantised: (n, d) int8 in [-127, 127].
        scales: (n,) float32.
        errors: (n,) float32, ‖row - scale · code‖.
        file: the file behind `descriptors`, where the system can read it row by row.
    """

    version: int
    notice: str | None
    rows: pa.Table
    descriptors: NDArray[np.float16]
    quantised: NDArray[np.int8]
    scales: NDArray[np.float32]
    errors: NDArray[np.float32]
    file: RowFile | None = None

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float16]:
        """Return the descriptors of `rows` (m,), (m, d) float16."""
        return self.descriptors[rows] if self.file is None else self.file.take(rows)

    @property
    def photos(self) -> int:
        """Number n of photos that can be found."""
        return len(self.descriptors)

    @property
    def keypoint_files(self) -> set[int]:
        """Numbers of the files that hold the photos' keypoints."""
        return set(self.rows["keypoints_file"].unique().to_pylist()) - {None}

    @property
    def dimension(self) -> int:
        """Length d of a descriptor as searched, after any projection."""
        return int(self.descriptors.shape[1])


def open_snapshot(index: Path) -> Snapshot:
    """Return a snapshot of the newest version of `index`, built now if there is none yet.

    Raises:
        NotAnIndex, IndexDamaged: as `Manifest.read` and `open_table`.
    """
    manifest = Manifest.read(index)
    version = newest_version(index)
    if version is not None and (ready := _open(index / SNAPSHOT_FOLDER / _name(version, manifest))):
        return ready
    return build_snapshot(index, manifest, open_table(index))


def build_snapshot(index: Path, manifest: Manifest, table: Table) -> Snapshot:
    """Write a snapshot of the open version and return it; older ones are removed."""
    folder = index / SNAPSHOT_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    except OSError:  # an index that may not be written to is searched all the same
        folder = Path(tempfile.mkdtemp(prefix="veduta-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    final = folder / snapshot_name(index, manifest)
    try:
        _write(draft, index, manifest, table)
        made = _open(draft)  # mapped before it gets its name: another process may replace it then
        if final.exists():  # not whole, or another reader was quicker
            shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    except OSError as error:
        raise storage_error(error, index, "write") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if made is None:
        raise IndexDamaged(f"{readable(final)} does not read back; is the disk failing?")
    for other in folder.iterdir():
        # Readers that still map an old snapshot keep its pages until they close it.
        if other != final and not other.name.startswith(".draft-"):
            shutil.rmtree(other, ignore_errors=True)
    return made


def snapshot_name(index: Path, manifest: Manifest) -> str:
    """Return what names the newest version of `index`, and what is derived from it."""
    return _name(newest_version(index), manifest)


def _name(version: Version | None, manifest: Manifest) -> str:
    return content_hash(repr((version, manifest.projection)).encode()).hex()[:16]


def _open(folder: Path) -> Snapshot | None:
    """Map the snapshot in `folder`; None if it is not there or not whole."""
    import pyarrow as pa

    try:
        facts = json.loads((folder / "snapshot.json").read_text("utf-8"))
        n, d = facts["photos"], facts["dimension"]

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
            version=facts["version"],
            notice=facts["notice"],
            rows=rows,
            descriptors=mapped("descriptors.f16", np.float16, (n, d)),
            quantised=mapped("codes.i8", np.int8, (n, d)),
            scales=mapped("scales.f32", np.float32, (n,)),
            errors=mapped("errors.f32", np.float32, (n,)),
            file=RowFile(folder / "descriptors.f16", np.float16, d)
            if hasattr(os, "pread")
            else None,
        )
    except (OSError, ValueError, KeyError):
        return None  # derived data: the caller builds it again


def _write(draft: Path, index: Path, manifest: Manifest, table: Table) -> None:
    import pyarrow as pa

    projection = Projection.load(index / manifest.projection) if manifest.projection else None
    photos = 0
    dimension = projection.matrix.shape[1] if projection else manifest.dimension
    names = ("descriptors.f16", "codes.i8", "scales.f32", "errors.f32")
    files = [(draft / name).open("wb") for name in names]
    try:
        columns = table.dataset.schema
        kept = pa.schema([columns.field(name) for name in ROW_COLUMNS])
        with pa.OSFile(str(draft / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, kept) as out:
            for batch in table.batches([*ROW_COLUMNS, "descriptor"], "problem IS NULL"):
                out.write_batch(batch.select(list(ROW_COLUMNS)))
                rows = descriptor_array(batch.column("descriptor"))
                if projection is not None:
                    rows = projection.apply(rows)
                stored = rows.astype(np.float16)
                parts: tuple[NDArray[Any], ...] = (stored, *quantise(stored))
                for file, part in zip(files, parts, strict=True):
                    part.tofile(file)
                photos += len(stored)
            for batch in table.batches(ROW_COLUMNS, "problem IS NOT NULL"):
                out.write_batch(batch)
    finally:
        for file in files:
            file.close()
    facts = {
        "version": table.version,
        "notice": table.notice,
        "photos": photos,
        "dimension": dimension,
    }
    (draft / "snapshot.json").write_text(json.dumps(facts), "utf-8")


def descriptor_array(column: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """Return a descriptor column without nulls as (n, d) float32."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    shape = (len(column), column.type.list_size)
    return np.asarray(flat, dtype=np.float32).reshape(shape)


def quantise(
    rows: NDArray[np.float16],
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Return (codes int8, scales float32, errors float32) with rows ≈ scales · codes."""
    full = rows.astype(np.float32)
    peak = np.abs(full).max(axis=1, initial=0.0)
    scales = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    codes = np.rint(full / scales[:, None]).astype(np.int8)
    errors = np.linalg.norm(full - scales[:, None] * codes, axis=1).astype(np.float32)
    return codes, scales, errors
