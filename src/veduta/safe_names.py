"""Names of files and folders that mean the same on every system.

A name stays unchanged if it consists of letters, digits, spaces and the characters ``-_.,+()'&=``
in Unicode normal form C, has no space or dot at its ends, is not a Windows device, and has at most
120 bytes. Any other name is rewritten and gets ``~`` and a hash of the original, so that two names
never become one.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

__all__ = ["case_folded", "digest", "name_with_hash", "safe_name"]

# Of UTF-8. With an extension, this is below the 143 bytes of encrypted folders, which is the
# smallest limit in use.
_MAX_NAME_BYTES = 120
_HASH_DIGITS = 16

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
    {
        "collected.parquet",
        "collected.failed.csv",
        "thumbs.db",
        "desktop.ini",
        "labels.csv",
        "labels.collected.csv",
    }
)


def safe_name(text: str) -> str:
    """Return a name for a file or folder that means the same on every system.

    Equal texts get equal names. Different texts get different names, except that case is ignored,
    and except for a chance of 1 in 2^64.

    Args:
        text: any text.
    """
    plain = _PLAIN_NAME.fullmatch(text) and not _WINDOWS_DEVICE.fullmatch(text.lower())
    return text if plain or _is_portable(text) else name_with_hash(text, text)


def case_folded(name: str) -> str:
    """Return a text that is equal for names which some file system takes for the same."""
    return name if name.isascii() and name.islower() else _case_folded(name)


def digest(text: str) -> bytes:
    """Return 8 bytes that stand for a text.

    Args:
        text: any text.
    """
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


def name_with_hash(text: str, hashed: str) -> str:
    """Return the allowed characters of a text, then a hash.

    Args:
        text: any text.
        hashed: the text whose hash is taken.
    """
    composed = unicodedata.normalize("NFC", text[: 2 * _MAX_NAME_BYTES])
    allowed = "".join(character if _is_allowed(character) else "_" for character in composed)
    max_bytes = _MAX_NAME_BYTES - _HASH_DIGITS - 2
    allowed = allowed.strip(" ._").encode()[:max_bytes].decode("utf-8", "ignore").rstrip(" .")
    if _WINDOWS_DEVICE.fullmatch(allowed.lower()):
        allowed = f"_{allowed}"
    return f"{allowed}~{digest(hashed).hex()}"
