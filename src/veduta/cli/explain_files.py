"""The files that `veduta explain` writes: a picture, a page, and the numbers of a map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.cli.printing import say, shown
from veduta.files import atomic_file
from veduta.text import count

if TYPE_CHECKING:
    from PIL import Image

    from veduta.explanation import Explanation
    from veduta.pages.explanation_page import ExplanationSection


def write_files(
    groups: Sequence[Sequence[Explanation]],
    *,
    class_sheet: bool,
    png: Path | None,
    html: Path | None,
    npy: Path | None,
) -> None:
    """Write the files that are asked for, and say so.

    Args:
        groups: each with the maps of one photo, or of two photos. None: nothing is written.
        class_sheet: whether each group is one map of a class sheet.
        png: a picture of all maps.
        html: a page with all maps.
        npy: the first map; beside it that over the other photo, if there is one.

    Raises:
        CannotWrite: a file cannot be written.
    """
    if not groups:
        return
    if png is not None:
        from veduta.pages.explanation_sheet import write_map_sheet

        write_map_sheet(png, _sheet(groups, class_sheet=class_sheet))
        say(f"wrote {shown(png)}", err=True)
    if html is not None:
        from veduta.pages.explanation_page import ExplanationPage, write_explanation_page

        sections = [_class_section(groups)] if class_sheet else map(_section, groups)
        write_explanation_page(html, ExplanationPage("Veduta: explain", sections))
        say(f"wrote {shown(html)}", err=True)
    if npy is not None:
        explanation = groups[0][0]
        _write_map(npy, explanation)
        if explanation.against is not None:
            _write_map(npy.with_name(f"{npy.stem}-against{npy.suffix}"), explanation.against)


def _write_map(file: Path, explanation: Explanation) -> None:
    import numpy as np

    with atomic_file(file) as draft, draft.open("wb") as stream:
        np.save(stream, explanation.map)
    say(f"wrote {shown(file)}: the map of {shown(explanation.photo)}", err=True)


def _sheet(groups: Sequence[Sequence[Explanation]], *, class_sheet: bool) -> Image.Image:
    from veduta.explanation.map_panels import heading, method_panels
    from veduta.pages.explanation_sheet import draw_map_sheet, stacked

    if class_sheet:
        section = _class_section(groups)
        return draw_map_sheet(section.panels, title=f"{section.heading}: {section.subject}")
    sheets = []
    for group in groups:
        panels = method_panels(group)
        columns = len(panels) if len(group) == 1 else None
        sheets.append(draw_map_sheet(panels, columns=columns, title=heading(group)))
    return stacked(sheets)


def _section(group: Sequence[Explanation]) -> ExplanationSection:
    """Return the part of the page with the maps of one photo, or of two photos."""
    from veduta.explanation.map_panels import heading, method_panels
    from veduta.explanation.methods import METHODS
    from veduta.explanation.wording import arithmetic, strongest, subject
    from veduta.pages.explanation_page import ExplanationSection, MethodRow

    rows = [
        MethodRow(
            method=one.method,
            strongest=strongest(one)
            if one.against is None
            else f"{strongest(one)}; of the other photo: {strongest(one.against)}",
            arithmetic=arithmetic(one),
            seconds=one.seconds,
            about=f"{METHODS[one.method].summary} ({METHODS[one.method].source})",
            notes=one.notes,
        )
        for one in group
    ]
    return ExplanationSection(heading(group), subject(group[0]), method_panels(group), rows)


def _class_section(groups: Sequence[Sequence[Explanation]]) -> ExplanationSection:
    """Return the maps of many photos by one method."""
    from veduta.explanation.map_panels import map_panel
    from veduta.pages.explanation_page import ExplanationSection

    explanations = [group[0] for group in groups]
    classes = sorted({one.class_name or "" for one in explanations})
    panels = [map_panel(one, title=os.path.basename(one.photo)) for one in explanations]
    about = f"{count(len(panels), 'photo')} by {explanations[0].method}, each with its own scale"
    return ExplanationSection(", ".join(classes), about, panels, ())
