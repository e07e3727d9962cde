"""What every reader of a protocol offers, and what the readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import Box, JudgedSet
from veduta.errors import DatasetError, WrongLayout, readable
from veduta.text import count

__all__ = [
    "PHOTO_ENDINGS",
    "Protocol",
    "ReadOptions",
    "checked_box",
    "layout_error",
    "photo_names",
    "positions_of",
    "safe_path",
]

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader may be told.

    Attributes:
        photos: the folder of the photos; None: where the published files have it.
        variant: one of the variants of the protocol; None: the usual one, or the one that the files
            show.
    """

    photos: Path | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """A published protocol and its reader.

    Attributes:
        name: in `--protocol` and in `veduta.evaluation.protocol_metrics.PROTOCOL_METRICS`.
        title: its name in words.
        layout: a listing of the folder that the reader expects, a few lines.
        recognises: tells from the names of files whether a path is of this protocol. It reads no
            large file.
        read: reads the set, and does not look whether photos exist.
        variants: what `variant` may be; empty if there is only one.
    """

    name: str
    title: str
    layout: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], JudgedSet]
    variants: tuple[str, ...] = ()


def layout_error(path: Path, protocol: str, layout: str, missing: str) -> DatasetError:
    """Return the error for a path that is not of a protocol: what was expected and what was found.

    Args:
        path: the path.
        protocol: the name of the protocol.
        layout: the listing that was expected.
        missing: what is missing, such as "no queries/".
    """
    if path.is_dir():
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in path.iterdir())
        found = some_of(names, 8) or "nothing"
    else:
        found = "a file" if path.exists() else "nothing"
    listing = [f"    {line}" for line in layout.strip("\n").splitlines()]
    return WrongLayout(
        f"{readable(path)}: {missing}. The protocol {protocol} expects:",
        [*listing, f"  Found: {found}"],
    )


def photo_names(folder: Path) -> list[str]:
    """Return the names of the photo files directly in a folder, sorted.

    Args:
        folder: the folder.

    Raises:
        DatasetError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if entry.name.lower().endswith(PHOTO_ENDINGS)
            )
    except OSError as error:
        raise DatasetError(f"{readable(folder)}: cannot be read: {error.strerror}") from error


def safe_path(where: str, name: str) -> str:
    """Return a path from a file with forward slashes, and refuse one that leads out of its folder.

    Args:
        where: the file and the line or key, for the message.
        name: the path.

    Raises:
        DatasetError: the path is empty or absolute, or has "..".
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\0" in name or ":" in parts[0]:
        raise DatasetError(
            f"{where}: the path {name!r} leads out of the folder of photos; wanted a path below it"
        )
    return "/".join(parts)


def checked_box(where: str, box: Sequence[float]) -> Box:
    """Return a box in whole pixels, and refuse one that is empty or left of or above its photo.

    `veduta.datasets.boxes` compares it with the photo.

    Args:
        where: the file and the query, for the message.
        box: x, y, width, height in pixels.

    Raises:
        DatasetError: a value is no finite number, or the box is empty or outside the photo.
    """
    try:
        x, y, width, height = (round(float(value)) for value in box)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(
            f"{where}: the box {tuple(box)!r} is not four numbers; wanted x, y, width, height"
        ) from None
    if width < 1 or height < 1 or x + width <= 0 or y + height <= 0:
        raise DatasetError(
            f"{where}: the box ({x}, {y}, {width}, {height}) is empty or outside its photo; "
            "wanted x, y, width, height in pixels"
        )
    return x, y, width, height


def positions_of(
    where: str, ids: Iterable[str], position_of: dict[str, int], what: str
) -> Iterator[int]:
    """Yield the position of each id, and refuse an unknown one.

    Args:
        where: the file and the line or query, for the message.
        ids: the ids.
        position_of: id → position.
        what: what they are the ids of, such as "gallery photo".

    Raises:
        DatasetError: ids are unknown. The message has how many, and the first of them.
    """
    listed = list(ids)
    unknown = [each for each in listed if each not in position_of]
    if unknown:
        raise DatasetError(
            f"{where}: {count(len(unknown), f'unknown {what}')} ({some_of(unknown)}); are all "
            "files of the same version of the set?"
        )
    return (position_of[each] for each in listed)
