"""What people are told of the files and folders that were not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from veduta.text import count

if TYPE_CHECKING:
    from veduta.photos.finding import PassedOver

__all__ = ["passed_over_lines"]

MAX_LISTED_KINDS = 12

_WHY = {
    "hidden": "hidden",
    "system": "kept by a system or program",
    "excluded": "excluded by a pattern",
    ".nomedia": "with a .nomedia file",
}


def passed_over_lines(passed_over: PassedOver) -> Iterator[str]:
    """Yield lines of text.

    Args:
        passed_over: the counts of `veduta.photos.find_photos`.
    """
    images, others = passed_over.unread_images, passed_over.other_files
    if images:
        total = count(sum(images.values()), "image")
        kinds = "a kind that is" if sum(images.values()) == 1 else "kinds that are"
        yield f"{total} of {kinds} not read: {_by_extension(images)}"
    if others:
        number = sum(others.values())
        are = "file is no photo" if number == 1 else "files are no photos"
        yield f"{number:,} {are}: {_by_extension(others)}"
    for why, words in _WHY.items():
        names = {
            name: number
            for (name, reason), number in passed_over.folders.most_common()
            if reason == why
        }
        if names:
            yield f"passed over {count(sum(names.values()), 'folder')} {words}: {_listed(names)}"
    files = [
        count(passed_over.excluded, "file") + " excluded by a pattern"
        if passed_over.excluded
        else "",
        count(passed_over.hidden, "hidden file") if passed_over.hidden else "",
        count(len(passed_over.links), "link") + " to photos that are here"
        if passed_over.links
        else "",
    ]
    if any(files):
        yield f"passed over {', '.join(filter(None, files))}"


def _by_extension(numbers: Mapping[str, int]) -> str:
    return _listed(
        {f".{name}" if name else "without an extension": n for name, n in numbers.items()}
    )


def _listed(numbers: Mapping[str, int]) -> str:
    listed = [f"{number:,} {name}" for name, number in list(numbers.items())[:MAX_LISTED_KINDS]]
    rest = list(numbers.values())[MAX_LISTED_KINDS:]
    if rest:
        listed.append(f"and {sum(rest):,} of {count(len(rest), 'other kind')}")
    return ", ".join(listed)
