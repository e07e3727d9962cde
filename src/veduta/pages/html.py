"""What all pages share: names made safe to show, photos inside, files that appear whole."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from veduta.pages.charts import Chart

__all__ = ["PAGES", "environment"]

PAGES = Path(__file__).parent


def environment() -> Environment:
    """Return what fills in the templates of this package.

    Everything is escaped. The filters `printable` and `breakable` are for names, `data_uri` is for
    JPEG bytes, `svg` for charts; the test `share` tells floats.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(PAGES / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "printable": printable,
        "breakable": _breakable,
        "data_uri": _data_uri,
        "svg": _svg,
    }
    made.tests["share"] = _is_share
    return made


def _breakable(text: str) -> Markup:
    """Return escaped `text` that may wrap behind the marks which file names use for spaces."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/-])(?=\w)", text))


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _svg(chart: Chart) -> Markup:
    from markupsafe import Markup

    return Markup(chart.svg())  # noqa: S704 - charts escape what they are given


def _is_share(value: Any) -> bool:
    return isinstance(value, float)
