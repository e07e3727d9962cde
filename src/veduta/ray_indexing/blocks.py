"""The blocks of a run: the shards of the files that are to be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veduta.index.shards import MAX_SHARDS, RelativePaths, Shard, shard_number
from veduta.photos import Candidate, content_hash

__all__ = ["Block", "block_count", "divide"]

_MAX_FILES = 2000
"""What a killed worker loses at most: about two minutes of one core."""
_MIN_FILES = 50
_BLOCKS_PER_CORE = 4
"""With fewer, some cores would wait long for the last block of another one."""
_DIGEST_BYTES = 10


@dataclass(frozen=True, slots=True)
class Block:
    """One shard of the files that are to be read.

    Attributes:
        shard: its number, and the number of all.
        files: in the order of their paths.
        token: of the plan.
    """

    shard: Shard
    files: tuple[Candidate, ...]
    token: str

    @property
    def part(self) -> str:
        """The name of its part. It tells the files, so a part of the same name is the same."""
        facts = b"\0".join(b"%s\0%d\0%d" % (f.path, f.size, f.mtime_ns) for f in self.files)
        return f"{part_prefix(self.shard, self.token)}{content_hash(facts)[:_DIGEST_BYTES].hex()}"


def part_prefix(shard: Shard, token: str) -> str:
    """Return how the names of all parts of a shard begin, whatever files are in them.

    Args:
        shard: the shard.
        token: of the plan.
    """
    return f"part-{shard.number:06}-{token}-"


def block_count(files: int, cores: int) -> int:
    """Return into how many shards files are divided.

    Args:
        files: their number.
        cores: of all workers.
    """
    size = -(-files // (_BLOCKS_PER_CORE * max(cores, 1)))
    size = min(max(size, _MIN_FILES), _MAX_FILES)
    return min(max(-(-files // size), 1), MAX_SHARDS)


def divide(
    files: Iterable[Candidate], folders: Sequence[str], count: int, token: str
) -> list[Block]:
    """Return the shards of files, without those that have none.

    Args:
        files: to be divided.
        folders: of the index, absolute.
        count: number of shards.
        token: of the plan.
    """
    paths = RelativePaths(folders)
    files_of: dict[int, list[Candidate]] = defaultdict(list)
    for file in files:
        files_of[shard_number(paths.of(file.path), count)].append(file)
    return [
        Block(
            Shard(number, count),
            tuple(sorted(files_of[number], key=lambda file: file.path)),
            token,
        )
        for number in sorted(files_of)
    ]
