"""Read the descriptors of one file, of each format. Nothing in a file is executed.

- `.npz`: the ids under one of `ID_NAMES`, the descriptors under one of `DESCRIPTOR_NAMES`.
- `.npy`: the descriptors, (N, d). The ids are beside it: `FILE.npy.json` has a list, or an object
  with `paths`; `FILE.npy.txt` or `FILE.txt` has one a line.
- HDF5, as hloc writes it (Sarlin et al., 2019): a group a photo, whose path is the id, with the
  dataset `global_descriptor`, (d,). Or, as the authors of ILIAS write it (Kordopatis-Zilos et al.,
  2025): the dataset `index`, (N,) texts, and the dataset `features`, (N, d). Links to other files
  are not followed.
- Parquet: a column of ids, and a column of lists of floats.

A `.npy` file is memory-mapped as it is. The others are copied once into a temporary file that is
memory-mapped, so that they need no more memory than a few photos. Of Parquet one row group must
fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from veduta.datasets.dataset import some_of
from veduta.errors import CannotWrite, DatasetError, readable
from veduta.files import open_regular, system_failure
from veduta.interchange.descriptor_parts import (
    CHECKED_BYTES,
    DESCRIPTOR_NAMES,
    ID_NAMES,
    DescriptorPart,
    GrowingRows,
    check_form,
    ids_of,
    one_of,
    refuse_dtype,
)
from veduta.npz_file import DAMAGED
from veduta.validation import InvalidValue, convert, parse_json, read_whole

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

__all__ = ["HDF5_DATASET", "read_part", "require_h5py"]

HDF5_DATASET = "global_descriptor"
"""What hloc calls the descriptor of a whole photo."""

_HDF5_IDS, _HDF5_ROWS = "index", "features"
"""What the authors of ILIAS call the ids and the descriptors."""

_BATCH_ROWS = 4096

# h5py and pyarrow raise OSError too. Errors of the operating system are told apart.
_DAMAGED = (*DAMAGED, OSError)


def read_part(file: Path) -> DescriptorPart:
    """Read one file of descriptors. They are not checked yet.

    Args:
        file: its ending says of which format it is.

    Returns:
        The descriptors.

    Raises:
        DatasetError: it cannot be read, or is not of its format.
        CannotWrite: there is no room for a temporary file.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{readable(file)}: descriptors are read from {', '.join(_READERS)}; name a file with "
            "one of these endings"
        )
    try:
        open_regular(file).close()
        return reader(file)
    except CannotWrite:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
        if failure := system_failure(error):
            raise DatasetError(
                f"{readable(file)}: cannot be read: {failure.reason}. {failure.remedy}"
            ) from error
        # The messages of numpy advise to load Python objects, which could run code.
        raise DatasetError(
            f"{readable(file)}: damaged, cut off, or no {file.suffix.lower()} file; write it again"
        ) from error


def _read_npy(file: Path) -> DescriptorPart:
    with open_regular(file) as stream:
        shape, is_fortran, dtype = _npy_header(file, stream, "the descriptors")
        start = stream.tell()
    if 0 in shape:
        raise DatasetError(f"{readable(file)}: no descriptors, its array is {shape}")
    bytes_wanted = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if file.stat().st_size < bytes_wanted:
        raise DatasetError(
            f"{readable(file)}: cut off, {file.stat().st_size:,} of {bytes_wanted:,} bytes; write "
            "it again"
        )
    rows = np.memmap(file, dtype, "r", start, shape, "F" if is_fortran else "C")
    return DescriptorPart(file, _ids_beside(file), rows)


def _read_npz(file: Path) -> DescriptorPart:
    with open_regular(file) as source, ZipFile(source) as archive, GrowingRows() as copy:
        members = [each.removesuffix(".npy") for each in archive.namelist()]
        holder = one_of(file, members, DESCRIPTOR_NAMES, "descriptors", alone=True)
        if holder is None:
            raise DatasetError(
                f"{readable(file)}: no array of descriptors; found {some_of(members) or 'nothing'}"
                f"; wanted one of {', '.join(DESCRIPTOR_NAMES[::2])}"
            )
        names = one_of(file, members, ID_NAMES, "ids")
        if names is None:
            ids = _ids_beside(file)
        else:
            with archive.open(f"{names}.npy") as stream:
                shape, _, dtype = _npy_header(file, stream, "the ids")
                data = stream.read()
            ids = ids_of(file, np.frombuffer(data, dtype).reshape(shape))
        with archive.open(f"{holder}.npy") as stream:
            shape, is_fortran, dtype = _npy_header(file, stream, "the descriptors")
            size = 0
            # The checksum of the archive is compared at the end of the stream.
            while data := stream.read(CHECKED_BYTES):
                copy.add_bytes(data)
                size += len(data)
        if size != dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise DatasetError(f"{readable(file)}: the array {holder} is cut off; write it again")
        if not size:
            raise DatasetError(f"{readable(file)}: no descriptors, its array is {shape}")
        rows = copy.mapped_as(dtype, shape[::-1] if is_fortran else shape)
        return DescriptorPart(file, ids, rows.T if is_fortran else rows)


def _npy_header(file: Path, stream: IO[bytes], what: str) -> tuple[Any, bool, np.dtype[Any]]:
    """Return the shape, whether it is in Fortran order, and the type of an array."""
    version = npy_format.read_magic(stream)
    read_header = {
        (1, 0): npy_format.read_array_header_1_0,
        (2, 0): npy_format.read_array_header_2_0,
    }[version]
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise DatasetError(
            f"{readable(file)}: {what} are an array of Python objects, which could run code; save "
            "an array of float32, and ids as an array of texts (dtype=str)"
        )
    return shape, is_fortran, dtype


def _ids_beside(file: Path) -> list[str]:
    """Return the ids that are in a file of their own."""
    listing = file.with_name(f"{file.name}.json")
    if listing.is_file():
        try:
            return convert(_paths(parse_json(read_whole(listing))), list[str])
        except (InvalidValue, OSError) as error:
            raise DatasetError(
                f"{readable(listing)}: {error}; wanted a list of ids, or an object with the list "
                '"paths"'
            ) from error
    texts = (file.with_name(f"{file.name}.txt"), file.with_suffix(".txt"))
    listing = next((each for each in texts if each.is_file()), texts[-1])
    if not listing.is_file():
        raise DatasetError(
            f"{readable(file)}: no ids; wanted {file.name}.json with a list, or {listing.name} "
            "with one id a line, in the order of the descriptors"
        )
    try:
        lines = read_whole(listing).decode("utf-8-sig").rstrip("\r\n").split("\n")
    except (InvalidValue, OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{readable(listing)}: {error}; wanted one id a line in UTF-8"
        ) from error
    return [line.removesuffix("\r") for line in lines]


def _paths(value: Any) -> Any:
    return value["paths"] if isinstance(value, dict) and "paths" in value else value


def require_h5py() -> Any:
    """Return the module `h5py`.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(
            "h5py is not installed, which HDF5 files need (pip install 'veduta[hdf5]')"
        ) from error
    return h5py


def _read_hdf5(file: Path) -> DescriptorPart:
    h5 = require_h5py()
    ending = f"/{HDF5_DATASET}"
    names: list[str] = []
    with h5.File(file, "r") as source, GrowingRows() as copy:
        if all(_has_dataset(h5, source, name) for name in (_HDF5_IDS, _HDF5_ROWS)):
            return _read_hdf5_table(file, h5, source, copy)

        def visit(name: str) -> None:
            if name.endswith(ending):
                names.append(name)

        # It visits each object once, and follows no link to another file.
        source.visit(visit)
        if not names:
            raise DatasetError(
                f"{readable(file)}: no dataset {HDF5_DATASET!r} in any group; found "
                f"{some_of(source) or 'nothing'}; wanted a group a photo, as hloc writes global "
                f"descriptors, or the datasets {_HDF5_IDS!r} and {_HDF5_ROWS!r}"
            )
        ids = [name.removesuffix(ending) for name in names]
        for each, name in zip(ids, names, strict=True):
            copy.add(file, [each], _descriptor(file, each, h5, source, name))
        return DescriptorPart(file, ids, copy.mapped())


def _has_dataset(h5: Any, source: h5py.File, name: str) -> bool:
    """Tell whether a file itself holds a dataset of that name."""
    return (
        source.get(name, getclass=True, getlink=True) is h5.HardLink
        and source.get(name, getclass=True) is h5.Dataset
    )


def _read_hdf5_table(file: Path, h5: Any, source: h5py.File, copy: GrowingRows) -> DescriptorPart:
    names, rows = source[_HDF5_IDS], source[_HDF5_ROWS]
    for name, dataset in ((_HDF5_IDS, names), (_HDF5_ROWS, rows)):
        if dataset.is_virtual or dataset.external:
            raise DatasetError(
                f"{readable(file)}: the dataset {name!r} is in another file; copy it into this one"
            )
    kind = h5.check_string_dtype(names.dtype)
    if kind is None or len(names.shape or ()) != 1:
        raise DatasetError(
            f"{readable(file)}: the ids are a dataset of shape {names.shape} and type "
            f"{names.dtype}; wanted texts, (N,)"
        )
    check_form(file, len(names), rows.shape or (), rows.dtype)
    # Texts of any length are read as Python objects, here bytes.
    values = names[:]
    ids = ids_of(file, np.array(values.tolist()) if kind.length is None else values)
    step = max(1, CHECKED_BYTES // (rows.dtype.itemsize * rows.shape[1]))
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        copy.add(file, ids[part], rows[part])
    return DescriptorPart(file, ids, copy.mapped())


def _descriptor(file: Path, photo: str, h5: Any, source: h5py.File, name: str) -> NDArray[Any]:
    """Return (1, d): the descriptor of a photo."""
    # `source[name]` and `[:]` take about twice as long, which matters for a million photos.
    dataset = h5.h5d.open(source.id, name.encode("utf-8", "surrogateescape"))
    properties = dataset.get_create_plist()
    if properties.get_layout() == h5.h5d.VIRTUAL or properties.get_external_count():
        raise DatasetError(
            f"{readable(file)}: the descriptor of {readable(photo)} is in another file; copy it "
            "into this one"
        )
    if dataset.rank != 1 or not dataset.shape[0]:
        raise DatasetError(
            f"{readable(file)}: the descriptor of {readable(photo)} has the shape "
            f"{dataset.shape}; wanted (d,)"
        )
    refuse_dtype(file, dataset.dtype, photo)
    row = np.empty((1, *dataset.shape), dataset.dtype)
    dataset.read(h5.h5s.ALL, h5.h5s.ALL, row)
    return row


def _read_parquet(file: Path) -> DescriptorPart:
    from pyarrow import parquet

    ids: list[str] = []
    with (
        open_regular(file) as source,
        parquet.ParquetFile(source, page_checksum_verification=True) as table,
        GrowingRows() as copy,
    ):
        columns = table.schema_arrow.names
        names = one_of(file, columns, ID_NAMES, "ids")
        holder = one_of(file, columns, DESCRIPTOR_NAMES, "descriptors", alone=True)
        if names is None or holder is None:
            raise DatasetError(
                f"{readable(file)}: found the columns {some_of(columns, 8)}; wanted one of "
                f"{', '.join(ID_NAMES[1::2])} and one of {', '.join(DESCRIPTOR_NAMES[1::2])}"
            )
        for batch in table.iter_batches(_BATCH_ROWS, columns=[names, holder]):
            new = _arrow_ids(file, len(ids), batch.column(names))
            for start, rows in _arrow_rows(file, new, batch.column(holder)):
                copy.add(file, new[start : start + len(rows)], rows)
            ids += new
        return DescriptorPart(file, ids, copy.mapped())


def _arrow_ids(file: Path, before: int, column: pa.Array) -> list[str]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not pa.types.is_integer(kind):
        raise DatasetError(f"{readable(file)}: the ids are of type {kind}; wanted texts")
    values = column.to_pylist()
    if None in values:
        raise DatasetError(f"{readable(file)}: row {before + values.index(None) + 1} has no id")
    return [str(each) for each in values]


def _arrow_rows(file: Path, ids: list[str], column: pa.Array) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first, (n, d)) of a column of lists: stretches of rows of equal length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_list(kind) for is_list in lists) or not pa.types.is_floating(kind.value_type):
        raise DatasetError(
            f"{readable(file)}: the descriptors are a column of type {kind}; wanted lists of floats"
        )

    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if 0 in lengths:
        missing = ids[int(np.flatnonzero(lengths == 0)[0])]
        raise DatasetError(f"{readable(file)}: no descriptor of {readable(missing)}")
    values = column.flatten()
    ends = np.cumsum(lengths)
    if values.null_count:
        first = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        holder = ids[int(np.searchsorted(ends, first, "right"))]
        raise DatasetError(
            f"{readable(file)}: the descriptor of {readable(holder)} has a missing value"
        )
    numbers = values.to_numpy(zero_copy_only=False)
    starts = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(lengths)], strict=True):
        part = numbers[ends[start] - lengths[start] : ends[end - 1]]
        yield start, part.reshape(end - start, int(lengths[start]))


_READERS: dict[str, Callable[[Path], DescriptorPart]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".parquet": _read_parquet,
}
