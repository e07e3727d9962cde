"""Text that is safe to show: names and messages come from strangers."""

from __future__ import annotations

import re

__all__ = ["printable"]

# Control characters, line separators, marks that turn the direction of text, and surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return `text` with each character that would disturb a line as a visible escape.

    These are control characters, marks that turn the direction of the text, and surrogates. A byte
    of a file name that is not UTF-8 becomes `\xNN`.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python keeps an odd byte of a file name as such a surrogate
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
