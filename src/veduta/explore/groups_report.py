"""What the page of groups shows, and the words for a group."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.index import read_thumbnails
from veduta.pages.groups_page import GroupSection, GroupsPage, GroupTile
from veduta.text import count

if TYPE_CHECKING:
    from veduta.explore.photo_groups import PhotoGroup

__all__ = ["dates_text", "groups_page", "size_text"]

_MAX_GROUPS = 500
_MAX_TILES = 21
"""The best photo takes the room of four, so this fills four lines of a wide window."""


def groups_page(
    index: Path, groups: Sequence[PhotoGroup], summary: str, *, title: str = "Groups"
) -> GroupsPage:
    """Return the content of the page of groups.

    Args:
        index: the folder of the index, which has the thumbnails.
        groups: of the index.
        summary: a sentence below the heading.
        title: the heading.
    """
    shown = groups[:_MAX_GROUPS]
    return GroupsPage(title, summary, _sections(index, shown), len(groups) - len(shown))


def _sections(index: Path, groups: Sequence[PhotoGroup]) -> Iterator[GroupSection]:
    for group in groups:
        shown = group.photos[: min(_MAX_TILES, group.size)]
        thumbnails = read_thumbnails(index, [photo.id for photo in shown])
        tiles = [
            GroupTile(
                name=os.path.basename(photo.path),
                thumbnail=thumbnail or None,
                link=Path(photo.path).as_uri(),
                label=photo.label,
            )
            for photo, thumbnail in zip(shown, thumbnails, strict=True)
        ]
        words = (size_text(group), dates_text(group))
        yield GroupSection(
            group.name, ", ".join(filter(None, words)), tiles, group.size - len(shown)
        )


def size_text(group: PhotoGroup) -> str:
    """Return how many photos a group has, such as "12 photos and 3 copies"."""
    copies = f" and {count(len(group.copies), 'copy', 'copies')}" if group.copies else ""
    return f"{count(group.size, 'photo')}{copies}"


def dates_text(group: PhotoGroup) -> str:
    """Return when the photos of a group were taken; "" if no photo has a date."""
    first, last = group.first_taken, group.last_taken
    if first is None or last is None:
        return ""
    days = [_day(first), _day(last)]
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
