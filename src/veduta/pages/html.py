"""Fill in the templates: every page is made by `write_page` or `render_page`."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.files import write_text
from veduta.text import duration, format_number, printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from veduta.pages.charts import Chart

__all__ = ["PAGES", "environment", "render_page", "write_page"]

PAGES = Path(__file__).parent


def write_page(file: str | os.PathLike[str], template: str, page: object) -> None:
    """Write a page, part by part, so that memory never holds all of it.

    The file appears complete or not at all. An older file stays until then.

    Args:
        file: where to.
        template: name of a file in `templates`.
        page: what the template calls `page`.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(file, environment().get_template(template).generate(page=page))


def render_page(template: str, page: object) -> str:
    """Return a page as text: `page` is what the template calls so."""
    return environment().get_template(template).render(page=page)


@cache
def environment() -> Environment:
    """Return the environment of all templates. It escapes everything.

    Filters: `printable` and `breakable` for names, `data_uri` for JPEG bytes, `svg` for charts,
    `places`, `percent` and `number` for numbers, `duration` for seconds, `setting` for settings
    of any type. The test `finite` is true of finite numbers.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader([PAGES / "templates", PAGES / "static"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "breakable": _breakable,
        "data_uri": _data_uri,
        "duration": duration,
        "number": format_number,
        "percent": _percent,
        "places": _three_places,
        "printable": printable,
        "setting": _setting,
        "svg": _svg,
    }
    templates.tests["finite"] = math.isfinite
    return templates


def _breakable(text: str) -> Markup:
    """Return escaped `text` that may wrap after `_`, `/` and `-`, which file names often have."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/-])(?=\w)", text))


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _svg(chart: Chart) -> Markup:
    from markupsafe import Markup

    return Markup(chart.svg())  # noqa: S704 - charts escape what they are given


def _three_places(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    """Return a share as a CSS length, within its track."""
    return f"{100 * min(1.0, max(0.0, share)):.1f}%" if math.isfinite(share) else "0%"


def _setting(value: object) -> str:
    """Return a setting as text, and a mapping as one line."""
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
