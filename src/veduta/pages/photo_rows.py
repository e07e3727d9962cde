"""Photos on a page: small copies in rows, as `templates/parts.html` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.photos import preview

__all__ = ["PagePhoto", "PhotoRow", "load_photo"]


@dataclass(frozen=True, slots=True)
class PagePhoto:
    """A photo of a dataset.

    Attributes:
        name: its path in the dataset; any text.
        jpeg: a small copy; None where the photo cannot be read.
        label: of the photo, or None.
        split: of the photo, or "".
    """

    name: str
    jpeg: bytes | None
    label: str | None = None
    split: str = ""


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """Photos side by side under a title and a note, such as how often or how similar."""

    photos: Sequence[PagePhoto]
    title: str = ""
    note: str = ""


def load_photo(
    root: Path, path: str, *, side: int, label: str | None = None, split: str = ""
) -> PagePhoto:
    """Read a photo for a page; one that cannot be read has no picture.

    Args:
        root: the folder that `path` is relative to.
        path: of the photo.
        side: pixels of the long side of its copy.
        label: shown below it.
        split: shown before its name.
    """
    return PagePhoto(path, preview(root / path, side), label, split)
