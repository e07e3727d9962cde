"""The page of leaks: pairs of photos that belong together and are in different parts of a split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from veduta.pages.html import write_page
from veduta.pages.photo_rows import PhotoRow

__all__ = ["LeaksPage", "write_leaks_page"]


@dataclass(frozen=True, slots=True)
class LeaksPage:
    """The content of the page.

    Attributes:
        title: the heading.
        summary: a sentence below it.
        rows: two photos each, with a note on why they belong together.
        leaks: how many there are; the page may show fewer.
    """

    title: str
    summary: str
    rows: Sequence[PhotoRow]
    leaks: int


def write_leaks_page(file: str | os.PathLike[str], page: LeaksPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "leaks.html", page)
