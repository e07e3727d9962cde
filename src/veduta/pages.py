"""What all pages share: names made safe to show, photos inside, files that appear whole."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.atomic import whole_file

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from veduta.charts import Chart

__all__ = ["environment", "printable", "write_atomically"]

_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def environment(templates: Path) -> Environment:
    """Return what fills in the templates of a folder.

    Everything is escaped. The filters `printable` and `breakable` are for names, `data_uri` is for
    JPEG bytes, `svg` for charts; the test `share` tells floats.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(templates),
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


def write_atomically(file: str | os.PathLike[str], parts: Iterable[str]) -> None:
    """Write text to `file`, which appears complete or not at all: an older one stays until then.

    Raises `OSError` when it cannot be written.
    """
    with whole_file(file) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(parts)


def printable(text: str) -> str:
    """Return `text` with what would disturb a line made visible as an escape.

    That is control characters, marks that turn the direction of the text, and surrogates; a byte
    that Python smuggled in a file name comes out as `\\xNN`.
    """
    return _NOT_SHOWN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


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
