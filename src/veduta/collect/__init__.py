"""Download: from a list of URLs to photos in folders, and a table of what became of each row.

`collect` fetches what a Google-Landmarks CSV, any CSV or lists of URLs name, over many connections
and politely. It checks that each answer is a photo, writes it to `folder/label/id.ext`, and notes
in `collected.parquet` what became of each row. It can be stopped at any time; the next run goes on
from there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veduta.collect.outcome import Outcome, Result
    from veduta.collect.rows import Columns, Row, read_rows
    from veduta.collect.run import collect
    from veduta.collect.settings import USER_AGENT, Settings
    from veduta.collect.summary import Progress, Summary

__all__ = [
    "USER_AGENT",
    "Columns",
    "Outcome",
    "Progress",
    "Result",
    "Row",
    "Settings",
    "Summary",
    "collect",
    "read_rows",
]

_HOMES = {
    "USER_AGENT": "settings",
    "Columns": "rows",
    "Outcome": "outcome",
    "Progress": "summary",
    "Result": "outcome",
    "Row": "rows",
    "Settings": "settings",
    "Summary": "summary",
    "collect": "run",
    "read_rows": "rows",
}


def __getattr__(name: str) -> Any:
    # Loaded at the first use: what only looks at photos needs no HTTP client.
    if name not in _HOMES:
        raise AttributeError(f"module 'veduta.collect' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"veduta.collect.{_HOMES[name]}"), name)
