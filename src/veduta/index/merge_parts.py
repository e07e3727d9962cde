"""The parts of a merge: opened for reading only, and refused if they do not fit together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from veduta.errors import CollectionError, EncoderMismatch, IndexDamaged, QueryError, readable
from veduta.index.label_edits import LabelEdits
from veduta.index.manifest import Manifest
from veduta.index.pending import has_pending
from veduta.index.projection_file import read_projection
from veduta.index.removed_photos import RemovedPhotos
from veduta.index.table import Table, no_writer, open_table
from veduta.text import count, veduta_command

__all__ = ["Part", "missing_shards", "open_parts", "require_other_folders", "require_same_kind"]

_LISTED_RANGES = 12


@dataclass(frozen=True, slots=True)
class Part:
    """An index that is merged.

    Attributes:
        index: its folder.
        manifest: of the index.
        table: its rows.
        labels: path → label, of the labels that a person gave.
        removed: paths of photos that a person took out.
    """

    index: Path
    manifest: Manifest
    table: Table
    labels: dict[bytes, str | None]
    removed: set[bytes]

    @classmethod
    def of(cls, index: Path, manifest: Manifest, table: Table) -> Part:
        """Return an index with what a person decided about its photos.

        Args:
            index: its folder.
            manifest: of the index.
            table: its rows.

        Raises:
            IndexDamaged: a file of these decisions is damaged.
        """
        removed = RemovedPhotos(index).paths
        return cls(index, manifest, table, LabelEdits(index).label_of, removed)


def require_other_folders(parts: Sequence[Path], whole: Path) -> None:
    """Refuse parts that are one and the same folder, or the index that they are merged into.

    Args:
        parts: the folders of the parts.
        whole: the folder of the index that they are merged into.

    Raises:
        QueryError: a folder is named twice, or no part is named.
    """
    if not parts:
        raise QueryError("Name the indexes to merge.")
    seen = {os.path.realpath(whole)}
    for part in parts:
        place = os.path.realpath(part)
        if place == os.path.realpath(whole):
            raise QueryError(
                f"{readable(part)} is the index that the parts are merged into. Leave it out of "
                "the parts: what it holds stays."
            )
        if place in seen:
            raise QueryError(f"{readable(part)} is named twice. Name each part once.")
        seen.add(place)


def open_parts(held: ExitStack, parts: Sequence[Path]) -> Iterator[Part]:
    """Open parts for reading, and keep writers out of them.

    Args:
        held: what is closed at the end of the merge.
        parts: their folders. Nothing in them is changed.

    Yields:
        The parts.

    Raises:
        NotAnIndex: a folder is no index.
        IndexLocked: a process is writing to a part.
        IndexDamaged: a part does not open, or its files do not match their checksums.
        CollectionError: the run that made a part was cut off.
    """
    for index in parts:
        Manifest.read(index)  # It says what is no index.
        held.enter_context(no_writer(index))
        manifest = Manifest.read(index)
        _require_finished(index, manifest)
        table = open_table(index, remember=False)
        if table.notice:
            raise IndexDamaged(table.notice)
        read_projection(index, manifest)
        yield Part.of(index, manifest, table)


def _require_finished(index: Path, manifest: Manifest) -> None:
    known = [] if manifest.folders else ["FOLDER"]
    command = veduta_command("index", *known, "--index", index)
    if manifest.unfinished:
        raise CollectionError(
            f"{readable(index)}: the last run of shard {manifest.shard} did not come to its end. "
            f"Continue it: {command}"
        )
    if not manifest.decoders:
        raise CollectionError(
            f"{readable(index)}: no run has come to its end here. Continue it: {command}"
        )
    if has_pending(index):
        raise CollectionError(
            f"{readable(index)}: a merge into it was cut off. Bring it to its end: {command}"
        )


def require_same_kind(part: Path, manifest: Manifest, like: Path, wanted: Manifest) -> None:
    """Refuse a part whose rows do not fit into an index.

    Args:
        part: its folder.
        manifest: of the part.
        like: the folder of the index, or of the first part.
        wanted: the manifest of that index.

    Raises:
        EncoderMismatch: it is of another encoder, keypoints, regions or projection.
    """
    other = part.with_name(f"{part.name}-new")

    def again(*options: str) -> str:
        command = veduta_command("index", "FOLDER", "--index", other, *options)
        return f"Leave it out, or index its photos again into another folder: {command}"

    def refuse(what: str, has: str, other_has: str, remedy: str) -> EncoderMismatch:
        return EncoderMismatch(
            f"{readable(part)} has another {what} than {readable(like)}: {has}, not {other_has}. "
            f"{remedy}"
        )

    encoders = [one.encoder for one in (manifest, wanted)]
    if encoders[0]["identity"] != encoders[1]["identity"]:
        has, other_has = (f"{one['name']} ({one['identity']})" for one in encoders)
        raise refuse("encoder", has, other_has, again("--encoder", str(encoders[1]["name"])))
    names = ("name", "identity", "count")
    keypoints = [
        one.keypoints and tuple(one.keypoints[name] for name in names) for one in (manifest, wanted)
    ]
    if keypoints[0] != keypoints[1]:
        has, other_has = (f"{one[0]}:{one[2]} ({one[1]})" if one else "none" for one in keypoints)
        option = f"{keypoints[1][0]}:{keypoints[1][2]}" if keypoints[1] else "none"
        raise refuse("kind of keypoints", has, other_has, again("--keypoints", option))
    if manifest.regions != wanted.regions:
        has, other_has = (
            f"{one.regions['count']} of version {one.regions['version']}" if one.regions else "none"
            for one in (manifest, wanted)
        )
        options = ["--regions"] if wanted.regions else []
        raise refuse("kind of regions", has, other_has, again(*options))
    if manifest.projection != wanted.projection:
        has, other_has = (one.projection or "none" for one in (manifest, wanted))
        file = like / wanted.projection if wanted.projection else "none"
        command = veduta_command("index", "--index", part, "--project", file)
        raise refuse("projection", has, other_has, f"Give it the same: {command}")


def missing_shards(parts: Iterable[tuple[Path, Manifest]], *, allowed: bool) -> list[int]:
    """Return the numbers of the shards that are not among some parts.

    Args:
        parts: folder and manifest of each. Those that are no shards are passed over.
        allowed: accept that some are missing.

    Raises:
        CollectionError: shards are missing, one is there twice, or they are of different counts.
    """
    part_of: dict[int, Path] = {}
    shards = [(index, one.shard) for index, one in parts if one.shard is not None]
    for index, shard in shards:
        first, known = shards[0]
        if shard.count != known.count:
            raise CollectionError(
                f"{readable(index)} is shard {shard}, but {readable(first)} is shard {known}: the "
                "collection was divided in two ways. Merge only parts of one of them."
            )
        if shard.number in part_of:
            raise CollectionError(
                f"{readable(index)} and {readable(part_of[shard.number])} are both shard {shard}. "
                "Leave one of them out."
            )
        part_of[shard.number] = index
    if not shards:
        return []
    shard = shards[0][1]
    missing = [number for number in range(1, shard.count + 1) if number not in part_of]
    if missing and not allowed:
        raise CollectionError(
            f"{count(len(missing), 'shard')} of {shard.count} missing: {_ranges(missing)}. Name "
            "the folders of all shards, or merge those that are there with --allow-missing."
        )
    return missing


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words: `2, 5-9`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [str(a) if a == b else f"{a}-{b}" for a, b in ranges]
    rest = len(words) - _LISTED_RANGES
    return ", ".join(words[:_LISTED_RANGES]) + (", …" if rest > 0 else "")
