"""The page of groups: the places and objects of a collection, each with its photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veduta.pages.html import write_page

__all__ = ["GroupSection", "GroupTile", "GroupsPage", "write_groups_page"]


@dataclass(frozen=True, slots=True)
class GroupTile:
    """A photo of a group.

    Attributes:
        name: its file name; any text.
        thumbnail: JPEG bytes; None where there is no picture to show.
        link: a `file:` address to open on a click.
        label: of the photo, or None.
    """

    name: str
    thumbnail: bytes | None
    link: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class GroupSection:
    """One group.

    Attributes:
        name: of the group.
        summary: how many photos and copies it has, and when they were taken.
        tiles: its photos, the best first; the first ones of a large group.
        more: how many photos are not shown.
    """

    name: str
    summary: str
    tiles: Sequence[GroupTile]
    more: int = 0


@dataclass(frozen=True, slots=True)
class GroupsPage:
    """The content of the page.

    Attributes:
        title: the heading.
        summary: a sentence below it.
        groups: the largest first. Memory holds the photos of some groups at a time.
        more: how many groups are not shown.
    """

    title: str
    summary: str
    groups: Iterable[GroupSection]
    more: int = 0


def write_groups_page(file: str | os.PathLike[str], page: GroupsPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        CannotWrite: the file cannot be written.
    """
    write_page(file, "groups.html", page)
