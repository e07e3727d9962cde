"""Reading a pickle of plain values and numpy arrays without executing it.

A pickle is a program for a stack machine, and two of its instructions call any function by name.
The usual defence is `pickle.Unpickler` with an allow-list in `find_class`. It is not enough. It
calls the functions on the list with arguments that the file chooses (`_reconstruct` allocates any
shape, `dtype` and `__setstate__` read any state), and a memo number in a file of ten bytes makes it
allocate gigabytes.

This module interprets the program instead. It never imports or calls anything that the file names:
a name stays text. numpy's own pickles consist of a few calls (an array, its dtype, a scalar, and
bytes as protocol 2 writes them). This module recognises these calls by name and carries them out
itself, after it has checked their arguments against the bytes of the file. From the standard
library it uses only the table of the disassembler (`pickletools`), to cut the file into
instructions.
"""

from __future__ import annotations

import codecs
import io
import math
import os
import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import DatasetError, readable
from veduta.files import open_regular

__all__ = ["read_pickle"]

MAX_BYTES = 16 * 2**20
"""The limit for a file. The published files have less than one megabyte."""

MAX_INSTRUCTIONS = 2_000_000
MAX_COPIED_BYTES = 4 * MAX_BYTES
"""The limit for bytes that are copied from strings, since the file may name one string often."""

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = frozenset((module, "_reconstruct") for module in _MULTIARRAY)
_SCALAR = frozenset((module, "scalar") for module in _MULTIARRAY)
_FROM_BUFFER = frozenset(
    {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
)
_ARRAY = ("numpy", "ndarray")
_DTYPE = ("numpy", "dtype")
_ENCODE = ("_codecs", "encode")
_BYTES = frozenset({("__builtin__", "bytes"), ("builtins", "bytes")})
_KNOWN = _RECONSTRUCT | _SCALAR | _FROM_BUFFER | _BYTES | {_ARRAY, _DTYPE, _ENCODE}

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3}")

_INSTRUCTIONS = {info.code: info for info in pickletools.opcodes}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUSHES_ITS_ARGUMENT = frozenset(
    {
        "INT",
        "LONG",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    }
)


class _RefusedError(ValueError):
    """The pickle needs more than plain values. The message says what."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that the file names. It is never looked up."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class _Unbuilt:
    """An array, or a dtype with its `code`, before the instruction that sets its state."""

    code: str | None = None
    memo_keys: list[int] = field(default_factory=list)


def read_pickle(file: str | os.PathLike[str]) -> object:
    """Return the content of a pickle of any protocol: plain values and read-only numpy arrays.

    Plain values are None, bool, int of 64 bits, float, str, bytes, bytearray, list, tuple, and dict
    with keys of text, bytes or int. Arrays are of bool, int, uint, float, `S` or `U`. Text that
    Python 2 wrote as `str` is read as Latin-1.

    Args:
        file: the pickle.

    Raises:
        DatasetError: the file holds anything else (any other global, an object array, a persistent
            id, an extension code), is larger than 16 MB, or is no pickle. The message names the
            file and what it asks for.
    """
    path = Path(file)
    try:
        with open_regular(path) as source:
            data = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"{readable(path)}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise DatasetError(
            f"{readable(path)}: more than {MAX_BYTES // 2**20} MB, which no published protocol "
            "needs; check that it is the right file"
        )
    if data.startswith(b"\x1f\x8b"):
        raise DatasetError(f"{readable(path)}: compressed with gzip; unpack it first (gunzip)")
    try:
        value = _Machine().run(data)
        _check_plain(value)
    except _RefusedError as error:
        raise DatasetError(
            f"{readable(path)}: refused, {error}. Only lists, dictionaries, text, numbers and "
            "plain arrays are read; get the file from its publisher again, or write it anew with "
            "those alone"
        ) from error
    except (ValueError, OverflowError) as error:
        raise DatasetError(
            f"{readable(path)}: not a whole pickle ({error}); get the file from its publisher again"
        ) from error
    return value


class _Machine:
    """The stack machine of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied_bytes = 0

    def run(self, data: bytes) -> object:
        """Carry out the instructions up to STOP, and return the top of the stack."""
        with warnings.catch_warnings():
            # Texts with escapes that no pickler writes give this warning. The file is damaged.
            warnings.simplefilter("ignore", DeprecationWarning)
            return self._run(io.BytesIO(data))

    def _run(self, source: io.BytesIO) -> object:
        for _ in range(MAX_INSTRUCTIONS):
            code = source.read(1)
            info = _INSTRUCTIONS.get(code.decode("latin-1"))
            if info is None:
                where = f"byte {source.tell() - len(code)}"
                raise ValueError(f"no instruction at {where}" if code else "it ends too early")
            if info.name == "STRING":
                argument: Any = _quoted(source.readline())
            else:
                argument = info.arg.reader(source) if info.arg else None
            if info.name == "STOP":
                return self.pop()
            self.step(info.name, argument)
        raise _RefusedError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _PUSHES_ITS_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > 64:
                raise _RefusedError(f"it holds an integer of {argument.bit_length():,} bits")
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.remember(argument)
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            if argument not in self.memo:
                raise ValueError(f"memo {argument} is empty")
            self.stack.append(self.memo[argument])
        elif name in {"GLOBAL", "INST"}:
            module, _, attribute = argument.partition(" ")
            self.name(module, attribute)
            if name == "INST":
                raise _RefusedError(f"it makes an object of {module}.{attribute}")
        elif name not in {"PROTO", "FRAME"}:
            raise _RefusedError(f"it has the instruction {name}")

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("its stack is empty")
        return self.stack.pop()

    def pop_some(self, number: int) -> list[Any]:
        if len(self.stack) < number:
            raise ValueError("its stack is empty")
        items = self.stack[-number:]
        del self.stack[-number:]
        return items

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("a mark is missing")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def remember(self, key: int | None = None) -> None:
        """Keep the top of the stack in the memo, under `key` or the next free number."""
        if not self.stack:
            raise ValueError("its stack is empty")
        value = self.stack[-1]
        number = len(self.memo) if key is None else key
        self.memo[number] = value
        if isinstance(value, _Unbuilt):
            value.memo_keys.append(number)

    def extend_list(self, items: list[Any]) -> None:
        if not self.stack or type(self.stack[-1]) is not list:
            raise _RefusedError("it appends to something that is no list")
        self.stack[-1].extend(items)

    def update_dict(self, items: list[Any]) -> None:
        if not self.stack or type(self.stack[-1]) is not dict:
            raise _RefusedError("it sets an item of something that is no dictionary")
        self.stack[-1].update(_dict(items))

    def duplicate(self) -> None:
        self.stack.append(self.pop())
        self.stack.append(self.stack[-1])

    def discard(self) -> None:
        """Drop the top of the stack. If nothing lies above the last mark, drop the mark."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def discard_to_mark(self) -> None:
        self.pop_to_mark()

    def name(self, module: Any, attribute: Any) -> None:
        """Push a known global. Any other is refused before anything is done with it."""
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise _RefusedError("it names a global with something that is no text")
        wanted = _Name(module, attribute)
        if wanted.key not in _KNOWN:
            raise _RefusedError(f"it asks for {wanted}")
        self.stack.append(wanted)

    def reduce(self) -> None:
        """Carry out one of the known calls."""
        function, arguments = self.pop_some(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("it calls something that is no known function")
        self.stack.append(self.called(function, arguments))

    def called(self, function: _Name, arguments: tuple[Any, ...]) -> object:
        key = function.key
        if key in _RECONSTRUCT and arguments[:1] == (_Name(*_ARRAY),):
            # The shape and the bytes of the array come with its state.
            return _Unbuilt()
        if key == _DTYPE and arguments and isinstance(arguments[0], str | bytes):
            code = arguments[0]
            return _Unbuilt(code if isinstance(code, str) else code.decode("latin-1"))
        if key in _SCALAR and len(arguments) == 2:
            return self.array(arguments[0], (), "C", arguments[1])[()].item()
        if key in _FROM_BUFFER and len(arguments) == 4:
            raw, dtype, shape, order = arguments
            return self.array(dtype, shape, order, raw)
        if key == _ENCODE and arguments[1:] == ("latin1",) and isinstance(arguments[0], str):
            return self.raw_bytes(arguments[0])
        if key in _BYTES and not arguments:
            return b""
        raise _RefusedError(f"it calls {function} with other arguments than numpy's pickles do")

    def build(self) -> None:
        """Give an array or a dtype its state."""
        target, state = self.pop_some(2)
        if not isinstance(target, _Unbuilt) or not isinstance(state, tuple):
            raise _RefusedError("it sets the state of something that is no array")
        built: object
        if target.code is not None:
            built = _dtype(target.code, state)
        elif len(state) == 5:
            _, shape, dtype, fortran, raw = state
            built = self.array(dtype, shape, "F" if fortran else "C", raw)
        else:
            raise _RefusedError("it has an array in no known form")
        for key in target.memo_keys:
            self.memo[key] = built
        self.stack.append(built)

    def array(self, dtype: Any, shape: Any, order: Any, raw: Any) -> NDArray[Any]:
        """Return an array over bytes of the file. Their number must fit shape and dtype."""
        if not isinstance(dtype, np.dtype):
            raise _RefusedError("it has an array without a plain dtype")
        if (
            not isinstance(shape, tuple)
            or len(shape) > 4
            or not all(type(length) is int and 0 <= length < 2**31 for length in shape)
            or order not in ("C", "F")
        ):
            raise _RefusedError("it has an array of an impossible shape")
        if not isinstance(raw, str | bytes | bytearray):
            raise _RefusedError("it has an array whose values are objects")
        content = self.raw_bytes(raw)
        if math.prod(shape) * dtype.itemsize != len(content):
            raise _RefusedError(
                f"it has an array of shape {shape} and type {dtype} with {len(content)} bytes"
            )
        if not content:
            return np.empty(shape, dtype)
        return np.frombuffer(content, dtype).reshape(shape, order=order)

    def raw_bytes(self, text: str | bytes | bytearray) -> bytes:
        """Return bytes that the file holds as text. Protocols 0 to 2 and Python 2 write them so."""
        if isinstance(text, bytes):
            return text
        self.copied_bytes += len(text)
        if self.copied_bytes > MAX_COPIED_BYTES:
            raise _RefusedError("it makes far more data than it holds")
        return bytes(text) if isinstance(text, bytearray) else text.encode("latin-1")


def _dtype(code: str, state: tuple[Any, ...]) -> np.dtype[Any]:
    """Return the plain dtype of a dtype in numpy's pickled form."""
    if not _PLAIN_DTYPE.fullmatch(code):
        raise _RefusedError(f"it has an array of the type {code[:40]!r}")
    order = state[1] if len(state) in (8, 9) else None
    if isinstance(order, bytes):
        order = order.decode("latin-1")
    if not isinstance(order, str) or order not in ("<", ">", "|", "="):
        raise _RefusedError("it has a dtype in no known form")
    return np.dtype(order + code)


def _dict(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a dictionary lacks a value")
    keys = items[::2]
    # A tuple is no key here: hashing recurses without a limit, so a deep one would end the process.
    for key in keys:
        if type(key) not in (str, bytes, int):
            raise _RefusedError(f"it has a dictionary with a key of type {type(key).__name__}")
    return dict(zip(keys, items[1::2], strict=True))


def _quoted(line: bytes) -> str:
    """Return the text of a protocol 0 string. pickletools reads it as ASCII only."""
    text = line.rstrip(b"\r\n")
    if not line.endswith(b"\n") or len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
        raise ValueError("a string without its quotes")
    return codecs.escape_decode(text[1:-1])[0].decode("latin-1")


def _check_plain(value: object) -> None:
    """Refuse a result that holds a name, or an array without values."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _Name | _Unbuilt | np.dtype):
            raise _RefusedError("it holds a name or a type where a value belongs")
        if isinstance(item, list | tuple | dict) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)


_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "MARK": lambda machine: machine.marks.append(len(machine.stack)),
    "POP": _Machine.discard,
    "POP_MARK": _Machine.discard_to_mark,
    "DUP": _Machine.duplicate,
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "LIST": lambda machine: machine.stack.append(machine.pop_to_mark()),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine: machine.stack.append(tuple(machine.pop_some(1))),
    "TUPLE2": lambda machine: machine.stack.append(tuple(machine.pop_some(2))),
    "TUPLE3": lambda machine: machine.stack.append(tuple(machine.pop_some(3))),
    "DICT": lambda machine: machine.stack.append(_dict(machine.pop_to_mark())),
    "APPEND": lambda machine: machine.extend_list(machine.pop_some(1)),
    "APPENDS": lambda machine: machine.extend_list(machine.pop_to_mark()),
    "SETITEM": lambda machine: machine.update_dict(machine.pop_some(2)),
    "SETITEMS": lambda machine: machine.update_dict(machine.pop_to_mark()),
    "MEMOIZE": _Machine.remember,
    "STACK_GLOBAL": lambda machine: machine.name(*machine.pop_some(2)),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
