"""Download photos: from a list of URLs to photos in folders and a table of all rows.

`collect` fetches the photos of a Google Landmarks CSV, of any other CSV or of lists of URLs, over
many connections, and limits the load of each server. It checks that each response is a photo and
writes it to `folder/label/id.ext`. `collected.parquet` has the outcome of each row. A run can be
stopped at any time. The next run continues it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veduta.collect.outcome import Outcome, Result
    from veduta.collect.rows import Columns, Row, read_rows
    from veduta.collect.run import collect
    from veduta.collect.settings import USER_AGENT, Settings
    from veduta.collect.summary import Progress, Reason, Summary

__all__ = [
    "USER_AGENT",
    "Columns",
    "Outcome",
    "Progress",
    "Reason",
    "Result",
    "Row",
    "Settings",
    "Summary",
    "collect",
    "read_rows",
]

_MODULES = {
    "USER_AGENT": "settings",
    "Columns": "rows",
    "Outcome": "outcome",
    "Progress": "summary",
    "Reason": "summary",
    "Result": "outcome",
    "Row": "rows",
    "Settings": "settings",
    "Summary": "summary",
    "collect": "run",
    "read_rows": "rows",
}


def __getattr__(name: str) -> Any:
    # Each module is imported at the first use, because most users of `veduta` need no HTTP client.
    if name not in _MODULES:
        raise AttributeError(f"module 'veduta.collect' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"veduta.collect.{_MODULES[name]}"), name)
