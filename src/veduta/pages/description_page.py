"""The page of a description: one HTML file with its charts and pictures inside, without scripts."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from veduta.files import write_text
from veduta.pages.class_samples import Row, Shelf, class_rows
from veduta.pages.description_charts import class_charts, photo_charts
from veduta.pages.html import environment

if TYPE_CHECKING:
    from jinja2 import Template

    from veduta.curate.duplicates import Copy
    from veduta.explore.description import Description

__all__ = ["write_page"]

_MOST_PAIRS, _MOST_GROUPS, _MOST_ROWS = 24, 12, 500
_GROUP_PHOTOS = 6


def write_page(file: str | os.PathLike[str], description: Description) -> None:
    """Write the page to `file`, which appears complete or not at all.

    Raises `OSError` when it cannot be written.
    """
    write_text(file, _template().generate(_content(description)))


def _content(description: Description) -> dict[str, object]:
    sizes, seen, found = description.sizes, description.facts, description.duplicates
    splits = [name for name in sizes.splits if name]
    rows = [
        (label, size, *(int(sizes.by_split[split][at]) for split in splits))
        for at, (label, size) in enumerate(
            zip(sizes.names[:_MOST_ROWS], sizes.sizes[:_MOST_ROWS].tolist(), strict=True)
        )
    ]
    content: dict[str, object] = {
        "title": description.name,
        "sizes": sizes,
        "imbalance": sizes.imbalance(),
        "splits": {name: sizes.splits[name] for name in splits},
        "lacking": description.lacking(),
        "class_rows": rows,
        "class_charts": class_charts(sizes),
        "problems": description.problems,
        "seen": seen,
        "photo_charts": photo_charts(seen) if seen else {},
        "found": found,
        "between": description.copies_between(),
        "unreadable": [],
        "misnamed": [],
        "across_splits": [],
        "across_labels": [],
        "groups": [],
        "frequent": [],
        "random": [],
    }
    if seen is None or found is None or description.dataset is None:
        return content
    dataset = description.dataset
    shelf = Shelf(dataset)
    splits_of = dataset.table["split"].to_pylist()
    # One picture of each pair once: a copy in another split and under another label says both.
    labels_only = [
        copy for copy in found.across_labels if splits_of[copy.first] == splits_of[copy.second]
    ]
    frequent, random = class_rows(description, shelf)
    content |= {
        "unreadable": [(shelf.paths[at], why) for at, why in seen.unreadable],
        "misnamed": [(shelf.paths[at], kind) for at, kind in seen.misnamed],
        "across_splits": [_pair(shelf, copy) for copy in found.across_splits[:_MOST_PAIRS]],
        "across_labels": [_pair(shelf, copy) for copy in labels_only[:_MOST_PAIRS]],
        "labels_only": len(labels_only),
        "groups": [_group(shelf, group) for group in found.groups[:_MOST_GROUPS]],
        "frequent": frequent,
        "random": random,
    }
    return content


def _pair(shelf: Shelf, copy: Copy) -> Row:
    note = "same bytes" if copy.same_bytes else f"likeness {copy.likeness:.3f}"
    return Row("", note, [shelf.picture(copy.first), shelf.picture(copy.second)])


def _group(shelf: Shelf, group: tuple[int, ...]) -> Row:
    return Row("", f"{len(group)} photos", [shelf.picture(at) for at in group[:_GROUP_PHOTOS]])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.3g}"


@cache
def _template() -> Template:
    made = environment()
    made.filters["number"] = _number
    return made.get_template("description.html")
