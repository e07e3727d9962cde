"""What a check of an index finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["FILE_KINDS", "KINDS", "CheckFinding", "FileKind", "Kind"]

RowKind = Literal[
    "descriptor damaged",
    "keypoints damaged",
    "photo missing",
    "photo changed",
    "photo unreadable",
]
FileKind = Literal[
    "table damaged",
    "snapshot damaged",
    "cells damaged",
    "graph damaged",
    "projection damaged",
    "recogniser damaged",
]
Kind = RowKind | FileKind

FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
KINDS: tuple[Kind, ...] = (*get_args(RowKind), *FILE_KINDS)


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """A row that does not match, or a file of the index that is damaged.

    Attributes:
        id: of the row; None for a file of the index.
        path: of the photo, or of the file or folder in the index.
        kind: what is the matter.
        detail: what is wrong, in a few words.
    """

    id: int | None
    path: bytes
    kind: Kind
    detail: str
