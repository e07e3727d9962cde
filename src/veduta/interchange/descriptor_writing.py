"""Write descriptors as other programs read them, and as `veduta.interchange` reads them back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike, NDArray

from veduta.errors import DatasetError, readable
from veduta.files import atomic_file, write_text
from veduta.interchange.descriptor_formats import HDF5_DATASET
from veduta.interchange.descriptor_parts import as_float32, check_ids, check_rows
from veduta.interchange.hdf5_writing import hdf5_writer

__all__ = ["write_descriptors"]

Take = Callable[[Sequence[str], NDArray[np.float32]], object]
"""Takes the ids and the descriptors of a block, and writes them."""

_HDF5_PARTS = ("", ".", "..", HDF5_DATASET)


def write_descriptors(file: Path, ids: Sequence[str], blocks: Iterable[ArrayLike]) -> None:
    """Write descriptors as float32, one block in memory at a time.

    Args:
        file: the file to write. Its ending says how: `.npz` with `names` and `descriptors`; `.npy`,
            with the ids in `FILE.npy.json`; `.h5` or `.hdf5`, as hloc writes global descriptors;
            or `.parquet` with the columns `path` and `descriptor`.
        ids: (N,) all different.
        blocks: (n, d) arrays of floats, N rows in all, in the order of `ids`.

    Raises:
        DatasetError: a descriptor has NaN, an infinite value or only zeros; an id is wrong or
            comes twice; the format is unknown; or h5py is not installed.
        ValueError: there are not as many descriptors as ids, or their dimensions differ.
        CannotWrite: the file cannot be written.
    """
    writer = _WRITERS.get(file.suffix.lower())
    if writer is None:
        raise DatasetError(
            f"{readable(file)}: descriptors are written as {', '.join(_WRITERS)}; name a file with "
            "one of these endings"
        )
    check_ids(file, ids)
    checked = _checked(file, ids, blocks)
    first = next(checked, None)
    if first is None:
        raise ValueError("there are no descriptors")
    names_file = file.with_name(f"{file.name}.json")
    has_names_file = file.suffix.lower() == ".npy"
    with atomic_file(file) as draft:
        with writer(draft, ids, first[1].shape[1]) as take:
            take(*first)
            for some, rows in checked:
                take(some, rows)
        if has_names_file:
            # Old ids must not stand beside new descriptors, if the process ends in between.
            names_file.unlink(missing_ok=True)
    if has_names_file:
        write_text(names_file, json.dumps({"paths": list(ids)}, ensure_ascii=False, indent=0))


def _checked(
    file: Path, ids: Sequence[str], blocks: Iterable[ArrayLike]
) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
    """Yield each block with its ids."""
    start = 0
    dimension = None
    for block in blocks:
        rows = as_float32(np.asarray(block))
        if rows.ndim != 2 or not rows.shape[1] or rows.shape[1] != (dimension or rows.shape[1]):
            raise ValueError(f"a block has the shape {rows.shape}; wanted (n, {dimension or 'd'})")
        dimension = rows.shape[1]
        some = ids[start : start + len(rows)]
        start += len(rows)
        if start > len(ids):
            raise ValueError(f"there are more descriptors than the {len(ids)} ids")
        check_rows(file, some, rows)
        if len(rows):
            yield some, rows
    if start != len(ids):
        raise ValueError(f"there are {start} descriptors, but {len(ids)} ids")


@contextmanager
def _npy(draft: Path, ids: Sequence[str], dimension: int) -> Iterator[Take]:
    with draft.open("wb") as stream:
        _begin_array(stream, len(ids), dimension)
        yield lambda _, rows: stream.write(rows.tobytes())


@contextmanager
def _npz(draft: Path, ids: Sequence[str], dimension: int) -> Iterator[Take]:
    with ZipFile(draft, "w") as archive:
        archive.compression = ZIP_DEFLATED  # names have the width of the longest
        with archive.open("names.npy", "w", force_zip64=True) as stream:
            npy_format.write_array(stream, np.array(ids, dtype=np.str_), allow_pickle=False)
        archive.compression = 0
        with archive.open("descriptors.npy", "w", force_zip64=True) as stream:
            _begin_array(stream, len(ids), dimension)
            yield lambda _, rows: stream.write(rows.tobytes())


def _begin_array(stream: IO[bytes], count: int, dimension: int) -> None:
    kind = npy_format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": kind, "fortran_order": False, "shape": (count, dimension)}
    npy_format.write_array_header_1_0(stream, header)


@contextmanager
def _hdf5(draft: Path, ids: Sequence[str], dimension: int) -> Iterator[Take]:
    for each in ids:
        if any(part in _HDF5_PARTS for part in each.split("/")):
            raise DatasetError(
                f"{readable(each)}: HDF5 cannot hold this id; wanted a path without empty parts, "
                f"'.', '..' and {HDF5_DATASET!r}"
            )
    with hdf5_writer(draft) as target:

        def take(some: Sequence[str], rows: NDArray[np.float32]) -> None:
            for each, row in zip(some, rows, strict=True):
                target.add(each, {HDF5_DATASET: row})

        yield take


@contextmanager
def _parquet(draft: Path, ids: Sequence[str], dimension: int) -> Iterator[Take]:
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.list_(pa.float32(), dimension)
    schema = pa.schema([("path", pa.string()), ("descriptor", kind)])
    with parquet.ParquetWriter(draft, schema, write_page_checksum=True) as target:

        def take(some: Sequence[str], rows: NDArray[np.float32]) -> None:
            lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=kind)
            target.write_batch(pa.record_batch([pa.array(some, pa.string()), lists], schema))

        yield take


_WRITERS: dict[str, Callable[[Path, Sequence[str], int], AbstractContextManager[Take]]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".parquet": _parquet,
}
