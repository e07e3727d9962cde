"""What a run with Ray did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from veduta.index import UpdateReport
from veduta.text import count

__all__ = ["FailedBlock", "RayReport", "failed_lines"]


@dataclass(frozen=True, slots=True)
class FailedBlock:
    """A block that was given up.

    Attributes:
        block: its number and that of all, such as "3/16".
        photos: its files. They are not in the index, and the next run tries them again.
        reasons: what happened each time, with the machine.
    """

    block: str
    photos: int
    reasons: list[str]


@dataclass(slots=True)
class RayReport(UpdateReport):
    """What a run with Ray did, in photos.

    Attributes:
        blocks: blocks of new and changed photos.
        kept_blocks: those of them that an earlier run had finished.
        finished_blocks: those of them that are finished now.
        block_seconds: how long workers were at work on blocks.
        failed_blocks: those of them that were given up.
        set_aside: why machines were not used, one sentence each.
    """

    blocks: int = 0
    kept_blocks: int = 0
    finished_blocks: int = 0
    block_seconds: float = 0.0
    failed_blocks: list[FailedBlock] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        # `super()` without arguments does not work in a dataclass with slots.
        values = UpdateReport.as_json(self)
        return values | {"failed_blocks": [asdict(one) for one in self.failed_blocks]}


def failed_lines(report: RayReport) -> Iterator[str]:
    """Yield which blocks were given up, why, and what to do.

    Args:
        report: of the run.
    """
    for block in report.failed_blocks:
        photos = count(block.photos, "photo")
        yield f"Block {block.block} is given up, and its {photos} are not in the index:"
        for reason in block.reasons:
            yield f"  {reason}"
    yield (
        "The same command tries these photos again. A photo that ends each worker can be left out "
        "with --exclude."
    )
