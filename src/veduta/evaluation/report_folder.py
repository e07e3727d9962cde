"""The report of an evaluation: a folder with a page for people and a JSON file for programs."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.errors import VedutaError, readable
from veduta.evaluation import report_recognition, report_retrieval, report_revisited
from veduta.evaluation.report_environment import environment
from veduta.evaluation.retrieval_run import Evaluation
from veduta.evaluation.revisited_run import RevisitedEvaluation
from veduta.files import write_text
from veduta.pages.report_page import write_report_page

if TYPE_CHECKING:
    from veduta.evaluation.recognition_run import RecognitionEvaluation

__all__ = ["JSON_FILE", "PAGE_FILE", "report_folder", "write_report"]

PAGE_FILE, JSON_FILE = "report.html", "report.json"


def report_folder(folder: str | os.PathLike[str]) -> Path:
    """Return `folder`, made if it is not there: so that hours of measuring are not for nothing.

    Raises `VedutaError` when it cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from None
    return path


def write_report(
    evaluation: Evaluation | RecognitionEvaluation | RevisitedEvaluation,
    folder: str | os.PathLike[str],
    *,
    command: str,
    rows: int = 12,
) -> None:
    """Write `report.html` and `report.json` into `folder`, which is made if it is not there.

    The page needs nothing else, neither scripts nor the photos. The JSON file holds what
    `evaluation.as_json()` does, for recognition also accuracy, F1, the classes and the confusions
    (`veduta.evaluation.classification`), and `task`, `queries` (a list of objects, one a query),
    `environment`, `command` and `generated`; the number of the queries is `query_count`, NaN is
    null. `veduta compare` reads it. An older report is replaced, file by file, only when the new
    one is complete.

    Args:
        evaluation: of retrieval, of recognition, or by a published protocol.
        folder: where to.
        command: what it was called with, as it can be called again.
        rows: queries with pictures on the page.

    Raises:
        VedutaError: the folder cannot be written to.
    """
    path = report_folder(folder)
    made = environment()
    date = str(made["date"])
    described = {"environment": made, "command": command, "generated": date}
    queries: Iterable[dict[str, object]]
    more: dict[str, object] = {}
    if isinstance(evaluation, Evaluation):
        task, queries = "retrieve", report_retrieval.query_values(evaluation)
        page = report_retrieval.retrieval_page(evaluation, rows=rows, **described)
    elif isinstance(evaluation, RevisitedEvaluation):
        task, queries = "revisited", report_revisited.query_values(evaluation)
        page = report_revisited.revisited_page(evaluation, **described)
    else:
        task, queries = "recognize", report_recognition.query_values(evaluation)
        classes = report_recognition.classified(evaluation)
        page = report_recognition.recognition_page(evaluation, classes, rows=rows, **described)
        more = classes.as_json() if classes else {}
    figures = {"task": task, **more, **evaluation.as_json(), **described}
    if "queries" in figures:  # their number; the name is that of the list
        figures["query_count"] = figures.pop("queries")
    try:
        write_text(path / JSON_FILE, _json(figures, queries))
        write_report_page(path / PAGE_FILE, page)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _json(figures: dict[str, Any], queries: Iterable[dict[str, object]]) -> Iterator[str]:
    """Yield the file, a line a query, so that memory does not hold it all as text.

    Letters beyond ASCII are escaped: names need not be UTF-8, and come back as they were.
    """
    whole = json.dumps(_without_nan(figures), indent=2, allow_nan=False)
    yield whole.removesuffix("\n}") + ',\n  "queries": ['
    between = "\n"
    for query in queries:
        yield f"{between}    {json.dumps(_without_nan(query), allow_nan=False)}"
        between = ",\n"
    yield "\n  ]\n}\n"


def _without_nan(value: Any) -> Any:
    """Return `value` with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _without_nan(of) for key, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cannot_write(path: Path, error: OSError) -> VedutaError:
    why = error.strerror or error
    return VedutaError(
        f"{readable(path)}: no report can be written there ({why}); name a folder that can be "
        "written to"
    )
