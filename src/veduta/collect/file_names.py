"""File names from ids and labels that strangers wrote.

A name stays unchanged if it means the same file on every system. It consists of letters, digits,
spaces and the characters ``-_.,+()'&=`` in Unicode normal form C, has no space or dot at its ends,
is not a Windows device, and has at most 120 bytes. Any other name is rewritten and gets ``~`` and a
hash of the original, so that two names never become one. Names that differ only in case, and rows
with the same id, get different files in the same way.

`FileNames` reads all rows before the first file is written. So the name of a file depends on the
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

__all__ = ["FileNames", "case_folded", "row_key", "safe_name"]

# Of UTF-8. With an extension, this is below the 143 bytes of encrypted folders, which is the
# smallest limit in use.
_MAX_NAME_BYTES = 120
_HASH_DIGITS = 16
_CACHED_LABELS = 4096

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_PUNCTUATION = frozenset(" -_.,+()'&=")
# Letters and marks that some file systems ignore when they compare names.
_IGNORED_BY_FILE_SYSTEMS = frozenset(
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
_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?")
_RESERVED_NAMES = frozenset(
    {"collected.parquet", "thumbs.db", "desktop.ini", "labels.csv", "labels.collected.csv"}
)


def safe_name(text: str) -> str:
    """Return a name for a file or folder that means the same on every system.

    Equal texts get equal names. Different texts get different names, except that case is ignored,
    and except for a chance of 1 in 2^64.

    Args:
        text: any text.
    """
    plain = _PLAIN_NAME.fullmatch(text) and not _WINDOWS_DEVICE.fullmatch(text.lower())
    return text if plain or _is_portable(text) else _with_hash(text, text)


def case_folded(name: str) -> str:
    """Return a text that is equal for names which some file system takes for the same."""
    return name if name.isascii() and name.islower() else _case_folded(name)


def row_key(row: Row) -> int:
    """Return 64 bits that stand for the id, the label and the URL of a row."""
    label = "" if row.label is None else f"={row.label}"
    return int.from_bytes(_digest(f"{label}\0{row.id}\0{row.url}"), "little")


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _case_folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).upper().casefold())


def _is_portable(text: str) -> bool:
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= _MAX_NAME_BYTES
        and all(map(_is_allowed, text))
        and text.strip(" .") == text
        and unicodedata.normalize("NFC", text) == text
        and not _WINDOWS_DEVICE.fullmatch(text.lower())
        and text.lower() not in _RESERVED_NAMES
    )


def _is_allowed(character: str) -> bool:
    return character in _PUNCTUATION or (
        unicodedata.category(character)[0] in "LNM" and character not in _IGNORED_BY_FILE_SYSTEMS
    )


def _with_hash(text: str, hashed: str) -> str:
    """Return the allowed characters of `text`, then the hash of `hashed`."""
    composed = unicodedata.normalize("NFC", text[: 2 * _MAX_NAME_BYTES])
    allowed = "".join(character if _is_allowed(character) else "_" for character in composed)
    max_bytes = _MAX_NAME_BYTES - _HASH_DIGITS - 2
    allowed = allowed.strip(" ._").encode()[:max_bytes].decode("utf-8", "ignore").rstrip(" .")
    if _WINDOWS_DEVICE.fullmatch(allowed.lower()):
        allowed = f"_{allowed}"
    return f"{allowed}~{_digest(hashed).hex()}"


class FileNames:
    """The file of each row: `add` all rows, then call `resolve_clashes`, then ask for paths.

    The paths do not depend on the order of the rows. A row takes 16 bytes of memory while rows are
    added, and 8 more in `resolve_clashes`.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._path_hashes = array("q")
        self._row_keys = array("Q")
        self._label_of: dict[str, str] = {}
        self._ambiguous_labels: set[str] = set()
        self._shared_paths: frozenset[int] = frozenset()
        self._clashing_paths: frozenset[int] = frozenset()
        self._folder = lru_cache(maxsize=_CACHED_LABELS)(self._folder_of)

    def __len__(self) -> int:
        return self._rows

    @property
    def labels(self) -> int:
        """Number of labels, without regard to case."""
        return len(self._label_of)

    def add(self, row: Row) -> None:
        """Note a row."""
        self._rows += 1
        self._path_hashes.append(self._path_hash(row))
        self._row_keys.append(row_key(row))
        if row.label is not None:
            key = _label_key(row.label)
            if self._label_of.setdefault(key, row.label) != row.label:
                self._ambiguous_labels.add(key)

    def resolve_clashes(self) -> None:
        """Find the rows that would share a file."""
        paths = np.frombuffer(self._path_hashes, np.int64)
        keys = np.frombuffer(self._row_keys, np.uint64)
        order = np.argsort(paths)
        same = paths[order[1:]] == paths[order[:-1]]
        self._shared_paths = frozenset(paths[order[1:][same]].tolist())
        different = same & (keys[order[1:]] != keys[order[:-1]])
        self._clashing_paths = frozenset(paths[order[1:][different]].tolist())
        del paths, keys
        self._path_hashes, self._row_keys = array("q"), array("Q")
        self._folder.cache_clear()

    def may_repeat(self, row: Row) -> bool:
        """Return whether another row has the same file name, and so may be the same row."""
        return bool(self._shared_paths) and self._path_hash(row) in self._shared_paths

    def path_of(self, row: Row) -> str:
        """Return the path of a row below the folder, with `/` and without extension."""
        stem = safe_name(row.id)
        if self._clashing_paths and self._path_hash(row) in self._clashing_paths:
            stem = _with_hash(row.id, f"{row.id}\0{row.url}")
        return stem if row.label is None else f"{self._folder(row.label)}/{stem}"

    def _folder_of(self, label: str) -> str:
        ambiguous = _label_key(label) in self._ambiguous_labels
        return _with_hash(label, label) if ambiguous else safe_name(label)

    def _path_hash(self, row: Row) -> int:
        label = "" if row.label is None else _label_key(row.label)
        return hash((label, case_folded(safe_name(row.id))))


@lru_cache(maxsize=_CACHED_LABELS)
def _label_key(label: str) -> str:
    return case_folded(safe_name(label))
