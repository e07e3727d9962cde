"""MATLAB 5 files (`.mat`), read without executing anything.

Read are numeric and logical arrays, texts, cell arrays, structs and struct arrays, in either byte
order, compressed or not: what MATLAB writes with `save -v6` and `save -v7`. Refused by name are
objects, function handles, opaque and sparse arrays, files of MATLAB 4 and of MATLAB 7.3 (HDF5).

The format is that of "MAT-File Format", The MathWorks. Sizes, counts and depth are limited, since
anyone may have written a file.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from veduta.errors import DatasetError, readable
from veduta.files import open_regular

__all__ = ["read_matlab"]

MAX_FILE_BYTES = 64 * 2**20
"""The limit for the file."""

MAX_EXPANDED_BYTES = 512 * 2**20
"""The limit for all that is decompressed and all arrays together."""

MAX_VALUES = 2_000_000
"""The limit for arrays, texts, cells and structs together. The largest list known has 113,000."""

MAX_DEPTH = 32
"""The limit for cells and structs in each other."""

_HEADER_BYTES = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
_VERSION_5, _VERSION_73 = 0x0100, 0x0200

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""Type of an element → type of its numbers."""

_TEXT_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""Type of an element → encoding of a text."""

_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
"""Class of an array → type of its numbers."""

_REFUSED = {3: "an object", 5: "a sparse array", 16: "a function handle", 17: "an opaque object"}
_LOGICAL, _COMPLEX = 0x0200, 0x0800


def read_matlab(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the variables of a MATLAB 5 file.

    Args:
        file: the file.

    Returns:
        Name → value. A numeric array is a numpy array of its class and shape, (1, 1) for a single
        number; a logical one is of bool. A text is a `str`, one of several rows a list of them. A
        cell array is a list, column after column. A struct is a dictionary, and a struct array of
        any size but 1 × 1 a list of dictionaries.

    Raises:
        DatasetError: the file cannot be read, is too large or damaged, has no variable, or holds
            what the module docstring says is refused.
    """
    try:
        with open_regular(file) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    reader = _Reader(readable(file), _byte_order(readable(file), data))
    reader.take_bytes(len(data))
    found: dict[str, Any] = {}
    at = _HEADER_BYTES
    while at < len(data):
        element = reader.element(memoryview(data), at, "the file")
        name, value = reader.variable(element)
        if name in found:
            reader.refuse(name, "it is there twice")
        # MATLAB keeps the methods of objects in an array without a name.
        if name:
            found[name] = value
        at = element.next
    if not found:
        reader.refuse("the file", "it has no variable; is it complete?")
    return found


def _byte_order(file: str, data: bytes) -> str:
    """Return "<" or ">", and refuse what is no file of MATLAB 5."""
    if len(data) > MAX_FILE_BYTES:
        raise DatasetError(
            f"{file}: larger than {MAX_FILE_BYTES // 2**20} MB; is it a list of photos?"
        )
    if data.startswith(_HDF5) or data[512:520] == _HDF5 or data.startswith(b"MATLAB 7.3"):
        raise DatasetError(
            f"{file}: a file of MATLAB 7.3 (HDF5); save it in MATLAB again, with save -v7"
        )
    order = _BYTE_ORDERS.get(data[126:128])
    if order is None:
        kind = "of MATLAB 4" if len(data) >= 20 and 0 in data[:4] else "no MATLAB file"
        raise DatasetError(
            f"{file}: {kind}; wanted a file of MATLAB 5, as save -v7 writes it"
            + ("" if len(data) >= _HEADER_BYTES else "; is it complete?")
        )
    (version,) = struct.unpack(f"{order}H", data[124:126])
    if version != _VERSION_5:
        raise DatasetError(
            f"{file}: of version {version:#06x}; wanted a file of MATLAB 5, as save -v7 writes it"
        )
    return order


@dataclass(frozen=True, slots=True)
class _Element:
    """A piece of a file: its type, its bytes, and where the next one begins."""

    kind: int
    data: memoryview
    next: int


class _Reader:
    """Reads the elements of one file, and counts what they take."""

    def __init__(self, file: str, order: str) -> None:
        self.file = file
        self.order = order
        self.encoding_suffix = "-le" if order == "<" else "-be"
        self._tag = struct.Struct(f"{order}II")
        self._bytes = 0
        self._values = 0

    def refuse(self, where: str, why: str, cause: Exception | None = None) -> NoReturn:
        raise DatasetError(f"{self.file}: {where}: {why}") from cause

    def damaged(self, where: str, why: str, cause: Exception | None = None) -> NoReturn:
        self.refuse(where, f"damaged ({why}); download the file again", cause)

    def take_bytes(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_EXPANDED_BYTES:
            limit = MAX_EXPANDED_BYTES // 2**20
            self.refuse("the file", f"expands to more than {limit} MB; is it a list of photos?")

    def take_values(self, number: int, where: str) -> None:
        self._values += number
        if self._values > MAX_VALUES:
            self.refuse(where, f"more than {MAX_VALUES:,} values; is it a list of photos?")

    def element(self, data: memoryview, at: int, where: str) -> _Element:
        """Return the element that begins at a byte."""
        if at + 8 > len(data):
            self.damaged(where, "it ends within an element")
        kind, size = self._tag.unpack_from(data, at)
        if kind >> 16:  # Up to four bytes stand in the tag itself.
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                self.damaged(where, f"a short element of {size} bytes")
            return _Element(kind, data[at + 4 : at + 4 + size], at + 8)
        start = at + 8
        if start + size > len(data):
            self.damaged(where, f"an element of {size:,} bytes, of which {len(data) - start:,} are")
        # All elements but compressed ones are padded to eight bytes.
        padding = 0 if kind == _COMPRESSED else -size % 8
        return _Element(kind, data[start : start + size], start + size + padding)

    def variable(self, element: _Element) -> tuple[str, Any]:
        """Return the name and the value of a variable."""
        if element.kind == _COMPRESSED:
            expanded = memoryview(self._expanded(element.data))
            element = self.element(expanded, 0, "a compressed variable")
        if element.kind != _MATRIX:
            self.damaged("the file", f"an element of type {element.kind} in place of a variable")
        return self.matrix(element.data, "", 0)

    def _expanded(self, data: memoryview) -> bytes:
        stream = zlib.decompressobj()
        left = MAX_EXPANDED_BYTES - self._bytes
        try:
            expanded = stream.decompress(data, left + 1)
        except zlib.error as error:
            self.damaged("a compressed variable", str(error), error)
        self.take_bytes(len(expanded))
        if not stream.eof:
            self.damaged("a compressed variable", "it ends too early")
        return expanded

    def matrix(self, data: memoryview, where: str, depth: int) -> tuple[str, Any]:
        """Return the name and the value of an array of any class."""
        self.take_values(1, where)
        if not len(data):  # An empty cell or field.
            return "", np.empty((0, 0))
        flags_part = self.element(data, 0, where or "a variable")
        if flags_part.kind != _UINT32 or len(flags_part.data) != 8:
            self.damaged(where or "a variable", "no flags")
        (flags,) = struct.unpack_from(f"{self.order}I", flags_part.data)
        array_class = flags & 0xFF
        if array_class in _REFUSED:
            what = _REFUSED[array_class]
            self.refuse(
                where or "a variable", f"it is {what}; wanted numbers, texts, cells and structs"
            )
        shape_part = self.element(data, flags_part.next, where or "a variable")
        shape = self._shape(shape_part, where or "a variable")
        name_part = self.element(data, shape_part.next, where or "a variable")
        if name_part.kind not in {_INT8, _UTF8}:
            self.damaged(where or "a variable", "no name")
        name = str(name_part.data, "latin-1")
        where = where or name or "a variable"
        if depth > MAX_DEPTH:
            self.refuse(where, f"cells and structs more than {MAX_DEPTH} deep")
        at = name_part.next
        if array_class == _CELL:
            return name, self._cells(data, at, shape, where, depth)
        if array_class == _STRUCT:
            return name, self._structs(data, at, shape, where, depth)
        if array_class == _CHAR:
            return name, self._text(self.element(data, at, where), shape, where)
        if array_class not in _NUMERIC:
            self.damaged(where, f"an array of class {array_class}")
        return name, self._array(data, at, shape, flags, where)

    def _shape(self, part: _Element, where: str) -> tuple[int, ...]:
        count, rest = divmod(len(part.data), 4)
        if part.kind != _INT32 or rest or not 2 <= count <= 32:
            self.damaged(where, "no shape")
        shape = struct.unpack(f"{self.order}{count}i", part.data)
        if min(shape) < 0:
            self.damaged(where, f"the shape {shape}")
        return shape

    def _numbers(self, part: _Element, shape: tuple[int, ...], where: str) -> NDArray[Any]:
        """Return the stored numbers, as many as the shape has."""
        if part.kind not in _STORED:
            self.damaged(where, f"numbers of type {part.kind}")
        stored = np.dtype(f"{self.order}{_STORED[part.kind]}")
        wanted = math.prod(shape)
        if len(part.data) != wanted * stored.itemsize:
            self.damaged(where, f"{len(part.data):,} bytes for the shape {shape}")
        return np.frombuffer(part.data, stored).reshape(shape, order="F")

    def _array(
        self, data: memoryview, at: int, shape: tuple[int, ...], flags: int, where: str
    ) -> NDArray[Any]:
        kind = "?" if flags & _LOGICAL else _NUMERIC[flags & 0xFF]
        part = self.element(data, at, where)
        array = self._cast(self._numbers(part, shape, where), kind, where)
        if not flags & _COMPLEX:
            return array
        imaginary = self._numbers(self.element(data, part.next, where), shape, where)
        self.take_bytes(2 * array.nbytes)
        combined: NDArray[Any] = array + 1j * self._cast(imaginary, kind, where)
        return combined

    def _cast(self, numbers: NDArray[Any], kind: str, where: str) -> NDArray[Any]:
        """Return numbers in the type of their array; MATLAB stores them in a smaller one."""
        self.take_bytes(numbers.size * np.dtype(kind).itemsize)
        with np.errstate(all="ignore"):
            cast = numbers.astype(kind)
        if cast.dtype.kind in "iu" and not np.array_equal(cast, numbers):
            self.damaged(where, f"numbers that are no {cast.dtype}")
        return cast

    def _text(self, part: _Element, shape: tuple[int, ...], where: str) -> str | list[str]:
        if part.kind not in _TEXT_ENCODINGS:
            self.damaged(where, f"a text of type {part.kind}")
        encoding = _TEXT_ENCODINGS[part.kind]
        if encoding in {"utf-16", "utf-32"}:
            encoding += self.encoding_suffix
        self.take_bytes(4 * len(part.data))
        try:
            text = str(part.data, encoding)
        except UnicodeDecodeError as error:
            self.damaged(where, f"a text that is not {encoding}", error)
        rows, wanted = shape[0], math.prod(shape)
        # MATLAB counts a character beyond the first 65,536 twice.
        if wanted not in {len(text), len(text.encode("utf-16-le", "surrogatepass")) // 2}:
            self.damaged(where, f"{len(text):,} characters for the shape {shape}")
        if rows <= 1:
            return text
        if wanted != len(text):
            self.refuse(where, "rows of text with characters beyond the first 65,536")
        self.take_values(rows, where)
        return [text[row::rows] for row in range(rows)]

    def _cells(
        self, data: memoryview, at: int, shape: tuple[int, ...], where: str, depth: int
    ) -> list[Any]:
        count = math.prod(shape)
        self._check_room(count, data, at, where)
        values = []
        for number in range(count):
            value, at = self._inner(data, at, f"{where}{{{number + 1}}}", depth)
            values.append(value)
        return values

    def _structs(
        self, data: memoryview, at: int, shape: tuple[int, ...], where: str, depth: int
    ) -> dict[str, Any] | list[dict[str, Any]]:
        length_part = self.element(data, at, where)
        if length_part.kind != _INT32 or len(length_part.data) != 4:
            self.damaged(where, "no length of field names")
        (length,) = struct.unpack(f"{self.order}i", length_part.data)
        names_part = self.element(data, length_part.next, where)
        packed = bytes(names_part.data)
        if packed and (names_part.kind != _INT8 or length < 1 or len(packed) % length):
            self.damaged(where, "no field names")
        fields = [
            packed[start : start + length].split(b"\0", 1)[0].decode("latin-1")
            for start in range(0, len(packed), max(length, 1))
        ]
        if len(set(fields)) < len(fields):
            self.damaged(where, "a field is there twice")
        at = names_part.next
        count = math.prod(shape)
        self.take_values(count, where)
        self._check_room(count * len(fields), data, at, where)
        structs = []
        for number in range(count):
            place = where if count == 1 else f"{where}({number + 1})"
            values = {}
            for field in fields:
                values[field], at = self._inner(data, at, f"{place}.{field}", depth)
            structs.append(values)
        return structs[0] if count == 1 else structs

    def _check_room(self, count: int, data: memoryview, at: int, where: str) -> None:
        """Refuse more cells or fields than the rest of the array can hold."""
        if count * 8 > max(0, len(data) - at):
            self.damaged(where, f"{count:,} values in {max(0, len(data) - at):,} bytes")

    def _inner(self, data: memoryview, at: int, where: str, depth: int) -> tuple[Any, int]:
        part = self.element(data, at, where)
        if part.kind != _MATRIX:
            self.damaged(where, f"an element of type {part.kind} in place of an array")
        return self.matrix(part.data, where, depth + 1)[1], part.next
