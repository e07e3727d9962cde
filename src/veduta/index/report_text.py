"""What an update of an index did, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from veduta.errors import readable
from veduta.photos.passed_over_text import passed_over_lines
from veduta.text import count, duration, veduta_command

if TYPE_CHECKING:
    from veduta.index.updating import UpdateReport

__all__ = ["changes_line", "note_lines"]

_CHANGES = ("added", "changed", "moved", "copied", "removed", "relabelled", "unchanged")


def changes_line(report: UpdateReport) -> str:
    """Return how many photos an update changed, and how fast it was.

    Args:
        report: of the update.
    """
    changes = [f"{getattr(report, kind):,} {kind}" for kind in _CHANGES if getattr(report, kind)]
    if report.excluded:
        changes.append(f"{report.excluded:,} of the removed excluded")
    if report.exif_changed:
        changes.append(f"{report.exif_changed:,} of the unchanged with another date or place")
    if report.unlabelled:
        changes.append(f"{report.unlabelled:,} without a label now")
    rate = ""
    if report.encoded and report.seconds > 0:
        rate = f", {report.encoded / report.seconds:.1f} photos/s ({report.runtime})"
    return f"{', '.join(changes) or 'Nothing to do'} in {duration(report.seconds)}{rate}."


def note_lines(report: UpdateReport) -> Iterator[str]:
    """Yield what else the user should know: what was left out, and about labels and folders.

    Args:
        report: of the update.
    """
    yield from passed_over_lines(report.passed_over)
    yield from report.notes
    if report.other_shards:
        yield (
            f"{count(report.other_shards, 'file')} left to other shards: this is shard "
            f"{report.shard}."
        )
    if report.left_out:
        photos = count(report.left_out, "photo")
        yield (
            f"{photos} left out, because they were removed from the index. Add them again with: "
            + veduta_command("index", "--all-photos")
        )
    if report.not_read:
        yield (
            f"{count(len(report.not_read), 'file')} could not be read for a cause that is not in "
            "the file. The next run tries again."
        )
    for folder in report.dropped_folders:
        yield (
            f"{readable(folder)} is missing, and no photo of the index lies in it. It is not read "
            "any more."
        )
