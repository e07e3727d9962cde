"""Text for people: safe to print, counted nouns, durations, suggestions, commands to paste."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable

__all__ = [
    "UNSAFE_CHARACTERS",
    "composed",
    "count",
    "did_you_mean",
    "duration",
    "format_number",
    "pace",
    "printable",
    "shell_word",
    "veduta_command",
]

UNSAFE_CHARACTERS = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
)
"""Ranges of a regular expression: control characters, line separators, marks that turn the
direction of text, and surrogates."""

_UNSAFE = re.compile(f"[{UNSAFE_CHARACTERS}]")


def printable(text: str) -> str:
    r"""Return text with each character that would disturb a line as a visible escape.

    These are control characters, marks that turn the direction of the text, and surrogates. A byte
    of a file name that is not UTF-8 becomes `\xNN`. Use it for what a terminal or a page shows.
    `veduta.errors.readable` changes less, because its result is also written to files.

    Args:
        text: any text, such as a name or a message that Veduta did not write.
    """
    return _UNSAFE.sub(_escape, text)


def composed(text: str) -> str:
    """Return text in the Unicode form NFC, in which names that look the same are the same.

    A letter with an accent is one character or two. macOS writes two into file names.

    Args:
        text: a label or a name.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def did_you_mean(word: str, choices: Iterable[str], *, prefix: str = "") -> str:
    """Return the question "did you mean 'xfeat'?", or an empty text if no choice is similar.

    Args:
        word: the unknown word. Upper and lower case count as equal.
        choices: the known words.
        prefix: what stands before the word where the user writes it, such as "training.".
    """
    import difflib

    known = {choice.lower(): choice for choice in choices}
    similar = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {prefix + known[similar[0]]!r}?" if similar else ""


def veduta_command(*words: str | bytes | os.PathLike[str]) -> str:
    """Return a `veduta` command as a user pastes it into a shell.

    Messages name commands in no other way, so that every command that they name works.

    Args:
        words: what follows `veduta`, as for `shell_word`.
    """
    return " ".join(["veduta", *map(shell_word, words)])


def shell_word(word: str | bytes | os.PathLike[str]) -> str:
    """Return a path or another word of a command as a user pastes it into a shell.

    Blanks, quotes and other special characters are quoted. A word that is not UTF-8, or that holds
    control characters, is written as `$'…'`, which bash, zsh and ksh understand.

    Args:
        word: a path is a `Path` or bytes, so that a leading dash does not make it an option.
    """
    try:
        raw = os.fsencode(word)
    except UnicodeEncodeError:  # A file of a stranger can hold what no path can.
        raw = os.fspath(word).encode("utf-8", "surrogatepass") if isinstance(word, str) else b""
    if raw.startswith(b"-") and not isinstance(word, str):
        raw = b"./" + raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _escaped_word(raw)
    return _escaped_word(raw) if _UNSAFE.search(text) else shlex.quote(text)


def _escaped_word(raw: bytes) -> str:
    plain = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else "" for byte in raw)
    escaped = (letter or f"\\{byte:03o}" for letter, byte in zip(plain, raw, strict=True))
    return f"$'{''.join(escaped)}'"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 photo", "12,000 photos", "2 queries".

    Args:
        number: how many.
        singular: the noun for one.
        plural: the noun for any other number. The default is the singular with an "s".
    """
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def duration(seconds: float) -> str:
    """Return "0.8 s", "42 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def pace(per_second: float, unit: str, left: float | None) -> str:
    """Return "14.1 photos/s, 3 min 5 s left".

    Args:
        per_second: how many are done in a second.
        unit: what is counted.
        left: how many are to do; None: it is not known.
    """
    text = f"{per_second:,.1f} {unit}/s"
    return text if left is None else f"{text}, {duration(left / per_second)} left"


def format_number(value: float) -> str:
    """Return "12,000" or "0.125": three significant digits, and whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.3g}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python stores an undecodable byte of a file name this way.
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
