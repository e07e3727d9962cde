"""Photos from the Web to a folder: from a list of URLs to a labelled collection.

`collect` fetches what a Google-Landmarks CSV, any CSV or lists of URLs name, over many connections
and politely, checks that each answer is a photo, writes it to `folder/label/id.ext`, and tells in
`collected.parquet` what became of each row. It can be stopped at any time and goes on from there.
"""

from __future__ import annotations

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
