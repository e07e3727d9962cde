"""Patterns of files and folders that the user wants passed over, in the syntax of gitignore.

Patterns come from the user, for a whole collection, and from `.vedutaignore` files, for the folder
that holds the file. The last pattern that matches decides. Patterns of the user go before those of
files, and those of a folder before those of the folders above it. A folder that is passed over is
not entered, so a pattern with `!` takes back nothing inside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from veduta.errors import path_bytes
from veduta.text import composed

__all__ = ["IGNORE_FILE", "MAX_IGNORE_FILE_BYTES", "NO_MEDIA_FILE", "ExclusionRules"]

IGNORE_FILE = b".vedutaignore"
"""The name of the files with patterns."""

NO_MEDIA_FILE = b".nomedia"
"""A folder that holds a file of this name is passed over, as on Android."""

MAX_IGNORE_FILE_BYTES = 1 << 20

_MANY_STARS = re.compile(r"(?<![^/])\*{3,}(?![^/])")
_TRAILING_BLANKS = re.compile(r"(?<!\\)[ ]+\Z")


class _Patterns:
    """The patterns of one source, compiled. The last one that matches decides."""

    def __init__(self, patterns: Iterable[str]) -> None:
        rules = [rule for rule in map(_rule, patterns) if rule is not None]
        # Neighbours that decide alike become one expression. The last ones are asked first.
        by_sign = groupby(rules, lambda rule: rule.excludes)
        groups: list[tuple[bool, list[_Rule]]] = [(sign, list(group)) for sign, group in by_sign]
        self._of_folders = [(_any_of(group), sign) for sign, group in reversed(groups)]
        self._of_files = [
            (_any_of([rule for rule in group if not rule.folders_only]), sign)
            for sign, group in reversed(groups)
        ]

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """Return whether a path is passed over, or None if no pattern matches."""
        for expression, excludes in self._of_folders if is_folder else self._of_files:
            if expression.match(path):
                return excludes
        return None


class _Source(NamedTuple):
    folder: bytes  # With a separator at its end.
    patterns: _Patterns


@dataclass(frozen=True, slots=True)
class ExclusionRules:
    """What is passed over in one folder and below it.

    Attributes:
        given: the patterns that the user gave.
        files: those of `.vedutaignore` files, the deepest first.
    """

    given: tuple[_Source, ...] = ()
    files: tuple[_Source, ...] = ()

    @classmethod
    def of(cls, patterns: Sequence[str], folder: bytes) -> ExclusionRules:
        """Return the rules of patterns that the user gave.

        Args:
            patterns: one or several, in the syntax of gitignore, but a `#` in front is a part of
                the name.
            folder: the folder that the patterns are relative to.
        """
        if isinstance(patterns, str):
            patterns = [patterns]
        if not patterns:
            return cls()
        texts = (path_bytes(pattern).decode("utf-8", "surrogateescape") for pattern in patterns)
        return cls((_Source(os.path.join(folder, b""), _compiled(tuple(texts))),))

    def with_file(self, data: bytes, folder: bytes) -> ExclusionRules:
        """Return the rules in a folder that holds a `.vedutaignore`.

        Args:
            data: the content of the file. Lines with a `#` in front are comments.
            folder: the folder.
        """
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        lines = (line.removesuffix("\r") for line in text.split("\n"))
        patterns = _compiled(tuple(line for line in lines if not line.startswith("#")))
        return ExclusionRules(
            self.given, (_Source(os.path.join(folder, b""), patterns), *self.files)
        )

    def exclude(self, path: bytes, *, is_folder: bool) -> bool:
        """Return whether a file or folder is passed over.

        Args:
            path: its path, which begins with the folder that the rules were made for.
            is_folder: whether it is a folder.
        """
        for source in (*self.given, *self.files):
            relative = _comparable(path[len(source.folder) :])
            verdict = source.patterns.verdict(relative, is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False


class _Rule(NamedTuple):
    expression: str
    excludes: bool
    folders_only: bool


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> _Patterns:
    return _Patterns(patterns)


def _rule(pattern: str) -> _Rule | None:
    """Return a pattern as a rule; None for a blank one, and for one that matches nothing."""
    from wcmatch import glob

    pattern = composed(_TRAILING_BLANKS.sub("", pattern))
    excludes = not pattern.startswith("!")
    pattern = pattern if excludes else pattern[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    if not pattern or "//" in f"{pattern}/" or re.search(r"(?<!\\)(?:\\\\)*\\\Z", pattern):
        return None
    pattern = _MANY_STARS.sub("**", pattern)
    # A slash ties a pattern to its folder. Without one it is a name, at any depth.
    pattern = pattern.removeprefix("/") if "/" in pattern else f"**/{pattern}"
    flags = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
    (expression,), _ = glob.translate(pattern, flags=flags)
    return _Rule(expression, excludes, folders_only)


def _any_of(rules: Sequence[_Rule]) -> re.Pattern[str]:
    if not rules:
        return re.compile(r"(?!)")  # It matches nothing.
    return re.compile("|".join(f"(?:{rule.expression})" for rule in rules))


def _comparable(path: bytes) -> str:
    """Return a path as text in which names that look the same are the same."""
    text = path.decode("utf-8", "surrogateescape")
    if os.path.sep != "/":
        text = text.replace(os.path.sep, "/")
    return composed(text)
