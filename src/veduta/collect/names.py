"""File names out of ids and labels that strangers wrote.

A name stays as it is if it means the same file on every system: letters, digits, space and the
signs ``-_.,+()'&=`` in normal form C, no space or dot at its ends, no device of Windows, at most
120 bytes. Any other is rewritten and gets ``~`` and a hash of what it was, so that two names never
become one. Names that differ only in case, and rows that share an id, are told apart the same way:
`Names` has seen all rows before the first file is written, so that a file's name depends on the
rows and not on their order.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from veduta.collect.rows import Row

__all__ = ["Names", "folded", "key_of", "safe_name"]

_LONGEST = 120
"""Bytes of UTF-8; with an extension below the 143 of encrypted folders, the least in use."""
_HASH_DIGITS = 16

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_SIGNS = frozenset(" -_.,+()'&=")
# Letters and marks that some file systems do not see, and take two names for one.
_UNSEEN = frozenset(
    map(
        chr,
        (
            0x34F,
            0x115F,
            0x1160,
            0x17B4,
            0x17B5,
            *range(0x180B, 0x1810),
            0x3164,
            *range(0xFE00, 0xFE10),
            0xFFA0,
            *range(0xE0100, 0xE01F0),
        ),
    )
)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?")
_OWN = frozenset({"collected.parquet", "thumbs.db", "desktop.ini", "labels.csv"})


def safe_name(text: str) -> str:
    """Return a name for a file or folder that no system takes for anything else.

    One text, one name; two texts, two names (up to case, and to a chance of 1 in 2^64).
    """
    plain = _PLAIN.fullmatch(text) and not _DEVICE.fullmatch(text.lower())
    return text if plain or _is_portable(text) else _marked(text, text)


def folded(name: str) -> str:
    """Return what names have in common that a careless file system takes for one."""
    return name if name.isascii() and name.islower() else _folded(name)


def key_of(row: Row) -> int:
    """Return 64 bits that stand for the id, the label and the URL of a row."""
    label = "" if row.label is None else f"={row.label}"
    return int.from_bytes(_digest(f"{label}\0{row.id}\0{row.url}"), "little")


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).upper().casefold())


def _is_portable(text: str) -> bool:
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= _LONGEST
        and all(map(_may_stand, text))
        and text.strip(" .") == text
        and unicodedata.normalize("NFC", text) == text
        and not _DEVICE.fullmatch(text.lower())
        and text.lower() not in _OWN
    )


def _may_stand(sign: str) -> bool:
    return sign in _SIGNS or (unicodedata.category(sign)[0] in "LNM" and sign not in _UNSEEN)


def _marked(text: str, told_apart_by: str) -> str:
    """Return what is legible of `text`, then a hash."""
    composed = unicodedata.normalize("NFC", text[: 2 * _LONGEST])
    legible = "".join(sign if _may_stand(sign) else "_" for sign in composed)
    room = _LONGEST - _HASH_DIGITS - 2
    legible = legible.strip(" ._").encode()[:room].decode("utf-8", "ignore").rstrip(" .")
    if _DEVICE.fullmatch(legible.lower()):
        legible = f"_{legible}"
    return f"{legible}~{_digest(told_apart_by).hex()}"


class Names:
    """The file of each row. `see` all rows, then `settle`; 16 bytes of memory a row, 8 more then.

    What is asked for after `settle` is the same whatever the order in which the rows were seen.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._paths = array("q")
        self._keys = array("Q")
        self._spelling: dict[str, str] = {}
        self._several: set[str] = set()
        self._shared: frozenset[int] = frozenset()
        self._clashing: frozenset[int] = frozenset()
        self._folder = lru_cache(maxsize=4096)(self._folder_of)

    def __len__(self) -> int:
        return self._rows

    @property
    def labels(self) -> int:
        """How many labels were seen, up to case."""
        return len(self._spelling)

    def see(self, row: Row) -> None:
        """Take note of a row."""
        self._rows += 1
        self._paths.append(self._place(row))
        self._keys.append(key_of(row))
        if row.label is not None:
            self._see_label(row.label)

    def _see_label(self, label: str) -> None:
        fold = _fold_of(label)
        if self._spelling.setdefault(fold, label) != label:
            self._several.add(fold)

    def settle(self) -> None:
        """Find the rows that would share a file."""
        paths = np.frombuffer(self._paths, np.int64)
        keys = np.frombuffer(self._keys, np.uint64)
        order = np.argsort(paths)
        same = paths[order[1:]] == paths[order[:-1]]
        self._shared = frozenset(paths[order[1:][same]].tolist())
        different = same & (keys[order[1:]] != keys[order[:-1]])
        self._clashing = frozenset(paths[order[1:][different]].tolist())
        del paths, keys
        self._paths, self._keys = array("q"), array("Q")
        self._folder.cache_clear()

    def may_repeat(self, row: Row) -> bool:
        """Tell whether another row has the same file name; only then can it be the same row."""
        return bool(self._shared) and self._place(row) in self._shared

    def file_of(self, row: Row) -> str:
        """Return the path below the folder, with `/` and without extension."""
        stem = safe_name(row.id)
        if self._clashing and self._place(row) in self._clashing:
            stem = _marked(row.id, f"{row.id}\0{row.url}")
        return stem if row.label is None else f"{self._folder(row.label)}/{stem}"

    def _folder_of(self, label: str) -> str:
        return _marked(label, label) if _fold_of(label) in self._several else safe_name(label)

    def _place(self, row: Row) -> int:
        label = "" if row.label is None else _fold_of(row.label)
        return hash((label, folded(safe_name(row.id))))


@lru_cache(maxsize=4096)
def _fold_of(label: str) -> str:
    return folded(safe_name(label))
