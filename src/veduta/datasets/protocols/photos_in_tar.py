"""Photos that tar files hold in the form of webdataset: written once to the user's cache.

A tar file is a shard. Its members are `KEY.jpg`, and maybe `KEY.json` and the like. A photo is
named by its shard and its key, `SHARD.tar/KEY` or `SHARD/KEY`, or by its key alone.

The headers of the shards are read first, without the photos. So it is known before the first photo
is written whether a shard is damaged and whether there is room. A photo that is there already is
not written again, and a shard without a photo that is missing is not opened. The names of members
are compared, and never become paths.
"""

from __future__ import annotations

import os
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from veduta.datasets.judged_set import OnProgress
from veduta.datasets.protocols.protocol import PHOTO_ENDINGS
from veduta.datasets.protocols.unpacked_photos import check_room, unpacked_name, write_photo
from veduta.errors import DatasetError, readable
from veduta.files import open_regular

__all__ = ["tar_files", "unpack_tars", "unpacked_in_tar"]

MAX_PHOTO_BYTES = 256 * 2**20
"""The limit for a photo. The largest of YFCC100M have a few megabytes."""

_MAX_HEADER_BYTES = 2**20
"""The limit for the long names and further facts that stand before a member."""

_ENDING = ".tar"
_SIDE = "distractor"

_BLOCK_BYTES = 4096
"""Most file systems give a file whole blocks of this size."""

_PROGRESS_PHOTOS = 1000

# What `tarfile` raises for headers that are damaged, besides its own errors.
_DAMAGED = (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError)

_REMEDY = (
    "unpack the tar files elsewhere and name the folder of all photos with --photos, or set "
    "XDG_CACHE_HOME to a folder on another disk"
)


@dataclass(slots=True)
class _Shard:
    """The photos of one tar file that are to be written."""

    file: Path
    positions: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))


def tar_files(folder: Path, but: Sequence[str] = ()) -> list[Path]:
    """Return the tar files directly in a folder, sorted; none if it cannot be read.

    Args:
        folder: the folder.
        but: names of files that are left out.
    """
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.name.endswith(_ENDING)]
    except OSError:
        return []
    files = [folder / name for name in sorted(names) if name not in but]
    return [file for file in files if os.path.isfile(file)]


def unpacked_in_tar(photo: str) -> str:
    """Return the path below the folder of the cache that `unpack_tars` gives a photo.

    Args:
        photo: its id.
    """
    return unpacked_name(_SIDE, photo)


def unpack_tars(
    tars: Sequence[Path],
    photos: Sequence[str],
    folder: Path,
    on_progress: OnProgress | None = None,
) -> None:
    """Write the photos that are not there yet. Those that no tar file has stay missing.

    Args:
        tars: the tar files.
        photos: (N,) ids.
        folder: receives them.
        on_progress: called with (stage, done, total).

    Raises:
        DatasetError: a tar file is damaged or cannot be read, two ids name one photo, a photo is
            too large, or there is no room.
        CannotWrite: a photo cannot be written.
    """
    missing = _missing(photos, folder)
    if not missing:
        return
    shards = [_Shard(file) for file in tars]
    anywhere = _by_key(photos, missing.pop("", ()))
    for number, shard in enumerate(shards, 1):
        here = _by_key(photos, missing.pop(shard.file.name.removesuffix(_ENDING), ()))
        if here or anywhere:
            _find(shard, here, anywhere)
        if on_progress is not None:
            on_progress("Reading tar files", number, len(shards))
    total = sum(len(shard.sizes) for shard in shards)
    needed = sum(-(-size // _BLOCK_BYTES) for shard in shards for size in shard.sizes)
    check_room(folder, total, needed * _BLOCK_BYTES, _REMEDY)
    done = 0
    for shard in shards:
        for photo, data in _photos_of(shard, photos):
            write_photo(folder / unpacked_in_tar(photo), data)
            done += 1
            if on_progress is not None and (done % _PROGRESS_PHOTOS == 0 or done == total):
                on_progress("Unpacking photos", done, total)


def _missing(photos: Sequence[str], folder: Path) -> dict[str, array[int]]:
    """Return shard → the positions of its photos that are not there; "" for any shard."""
    missing: dict[str, array[int]] = {}
    for position, photo in enumerate(photos):
        if not os.path.isfile(folder / unpacked_in_tar(photo)):
            shard, _ = _shard_and_key(photo)
            missing.setdefault(shard, array("q")).append(position)
    return missing


def _shard_and_key(photo: str) -> tuple[str, str]:
    """Return the two parts of an id without their endings; the first is "" if it is not there."""
    shard, slash, key = photo.partition("/")
    if not slash:
        shard, key = "", photo
    return shard.removesuffix(_ENDING), _key(key) or key


def _key(name: str) -> str | None:
    """Return the name of a photo without its ending; None for a file of another kind."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in PHOTO_ENDINGS else None


def _by_key(photos: Sequence[str], positions: Sequence[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for position in positions:
        _, key = _shard_and_key(photos[position])
        first = found.setdefault(key, position)
        if first != position:
            raise DatasetError(
                f"the ids {readable(photos[first])} and {readable(photos[position])} name one "
                "photo; keep one of them in the list"
            )
    return found


def _find(shard: _Shard, here: dict[str, int], anywhere: dict[str, int]) -> None:
    """Add the photos of a tar file that are wanted, and take them out of what is wanted.

    Args:
        shard: receives the photos.
        here: key → position, of the photos of this shard.
        anywhere: the same, of the photos that may be in any shard.
    """
    for member in _members(shard.file):
        key = _key(member.name.removeprefix("./"))
        if key is None or not member.isreg() or member.issparse():
            continue
        for wanted in (here, anywhere):
            position = wanted.pop(key, None)
            if position is None:
                continue
            if member.size > MAX_PHOTO_BYTES:
                raise DatasetError(
                    f"{readable(shard.file)}: the photo {readable(member.name)} has "
                    f"{member.size:,} bytes, and at most {MAX_PHOTO_BYTES:,} are read; fetch the "
                    "file again, or leave the photo out of the list"
                )
            shard.positions.append(position)
            shard.offsets.append(member.offset_data)
            shard.sizes.append(member.size)


def _members(file: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar file. What the members hold is skipped."""
    with _reading(file) as source:
        try:
            with tarfile.open(fileobj=_Bounded(source), mode="r:") as archive:  # type: ignore[call-overload]
                end = -1
                while (member := archive.next()) is not None:
                    # A negative size would lead back, for ever.
                    if archive.offset <= end:
                        _refuse(file)
                    end = archive.offset
                    # `tarfile` keeps each header otherwise.
                    archive.members.clear()
                    yield member
                # `tarfile` ends in silence where a header is damaged or cut off.
                source.seek(archive.offset)
        except _DAMAGED as error:
            _refuse(file, error)
        end_mark = source.read(tarfile.BLOCKSIZE)
        if end_mark != bytes(tarfile.BLOCKSIZE):
            _refuse(file)


def _photos_of(shard: _Shard, photos: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the bytes of each photo that was found, in the order of the file."""
    if not shard.sizes:
        return
    with _reading(shard.file) as source:
        found = zip(shard.positions, shard.offsets, shard.sizes, strict=True)
        for position, offset, size in found:
            source.seek(offset)
            data = source.read(size)
            if len(data) < size:
                _refuse(shard.file)
            yield photos[position], data


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    """Open a tar file. An error of the system names it."""
    try:
        with open_regular(file) as source:
            yield source
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def _refuse(file: Path, cause: Exception | None = None) -> NoReturn:
    raise DatasetError(
        f"{readable(file)}: damaged, cut off, or no tar file without compression; fetch it again"
    ) from cause


class _Bounded:
    """A file that `tarfile` reads headers from, which refuses to read very many bytes at once."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.tell, self.seek = source.tell, source.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header has too many bytes")
        return self._source.read(size)
