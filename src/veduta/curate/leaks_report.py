"""The content of the page of leaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from veduta.pages.leaks_page import LeaksPage
from veduta.pages.photo_rows import PagePhoto, PhotoRow, load_photo

if TYPE_CHECKING:
    from veduta.curate.splitting import Leak
    from veduta.datasets import Dataset

__all__ = ["leaks_page"]

_MAX_SHOWN_LEAKS = 300
_PHOTO_SIDE_PIXELS = 256


def leaks_page(
    dataset: Dataset, parts: Sequence[str], leaks: Sequence[Leak], summary: str
) -> LeaksPage:
    """Return the content of the page.

    Args:
        dataset: the photos.
        parts: (N,) the part of each photo.
        leaks: between the parts.
        summary: a sentence on all leaks.
    """

    def photo(row: int) -> PagePhoto:
        return load_photo(
            dataset.root,
            dataset.paths[row],
            side=_PHOTO_SIDE_PIXELS,
            label=dataset.labels[row],
            split=parts[row],
        )

    rows = [
        PhotoRow(
            (photo(leak.first), photo(leak.second)),
            note=leak.kind if leak.score == 1.0 else f"{leak.kind}, {leak.score:.3f}",
        )
        for leak in leaks[:_MAX_SHOWN_LEAKS]
    ]
    return LeaksPage(f"Leaks of {dataset.root.resolve().name}", summary, rows, len(leaks))
