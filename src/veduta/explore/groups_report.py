"""What the page of groups shows, and the words for a group."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.index import StoredThumbnails
from veduta.pages.groups_page import GroupSection, GroupsPage, GroupTile
from veduta.text import count

if TYPE_CHECKING:
    from veduta.explore.photo_groups import PhotoGroup
    from veduta.index import IndexedPhoto

__all__ = ["dates_text", "groups_page", "size_text"]

_MAX_GROUPS = 500
_MAX_TILES = 21
"""The best photo takes the room of four, so this fills four lines of a wide window."""

_GROUPS_AT_A_TIME = 16
"""Their thumbnails are read together, because each opening of the table takes a while."""


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
    stored = StoredThumbnails(index)
    for start in range(0, len(groups), _GROUPS_AT_A_TIME):
        some = groups[start : start + _GROUPS_AT_A_TIME]
        ids = [photo.id for group in some for photo in _shown(group)]
        thumbnails = iter(stored.read(ids))
        for group in some:
            tiles = [
                GroupTile(
                    name=os.path.basename(photo.path),
                    thumbnail=next(thumbnails) or None,
                    link=Path(photo.path).as_uri(),
                    label=photo.label,
                )
                for photo in _shown(group)
            ]
            words = ", ".join(filter(None, (size_text(group), dates_text(group))))
            yield GroupSection(group.name, words, tiles, group.size - len(tiles))


def _shown(group: PhotoGroup) -> Sequence[IndexedPhoto]:
    """Return the photos of a group that the page shows, without copies."""
    return group.photos[: min(_MAX_TILES, group.size)]


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
