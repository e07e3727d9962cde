"""Write the report of an evaluation: a folder with a page and a JSON file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from veduta.errors import VedutaError, readable
from veduta.evaluation import (
    report_protocol,
    report_recognition,
    report_retrieval,
    report_revisited,
)
from veduta.evaluation.figures import json_value
from veduta.evaluation.protocol_run import ProtocolEvaluation
from veduta.evaluation.report_environment import provenance_of
from veduta.evaluation.retrieval_run import Evaluation
from veduta.evaluation.revisited_run import RevisitedEvaluation
from veduta.files import write_text
from veduta.pages.report_page import write_report_page

if TYPE_CHECKING:
    from veduta.evaluation.recognition_run import RecognitionEvaluation
    from veduta.evaluation.report_parts import DrawMap

__all__ = [
    "JSON_FILE",
    "PAGE_FILE",
    "classification_json",
    "make_report_folder",
    "write_report",
]

AnyEvaluation: TypeAlias = (
    "Evaluation | RecognitionEvaluation | RevisitedEvaluation | ProtocolEvaluation"
)

PAGE_FILE, JSON_FILE = "report.html", "report.json"


def make_report_folder(folder: str | os.PathLike[str]) -> Path:
    """Make the folder of a report if it is missing, and check that it can be written to.

    Call it before an evaluation, which may take hours.

    Args:
        folder: the folder.

    Returns:
        The folder.

    Raises:
        VedutaError: the folder cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from None
    return path


def classification_json(
    evaluation: AnyEvaluation,
) -> dict[str, Any]:
    """Return accuracy, F1, the classes and the confusions of a recognition, as JSON types.

    Args:
        evaluation: of any task.

    Returns:
        The keys of the JSON file that the evaluation itself does not have. None for another task,
        or if no query shows a class and none got a name.
    """
    if isinstance(evaluation, (Evaluation, RevisitedEvaluation, ProtocolEvaluation)):
        return {}
    classes = report_recognition.classified(evaluation)
    return dict(json_value(classes.as_json())) if classes else {}


def write_report(
    evaluation: AnyEvaluation,
    folder: str | os.PathLike[str],
    *,
    command: str,
    rows: int = 12,
    draw_map: DrawMap | None = None,
) -> None:
    """Write `report.html` and `report.json` into a folder, which is made if it is missing.

    The page needs no other file, no scripts and no photos. The JSON file holds the keys of
    `evaluation.as_json()`; for recognition also accuracy, F1, the classes and the confusions
    (`veduta.evaluation.classification`). It also holds `task`, `seconds` (for ranking or
    recognising alone), `queries` (a list of objects, one a query), `environment`, `command` and
    `generated`. The number of queries is `query_count`, and NaN is null. `veduta compare` reads it.
    An older file is replaced when the new one is complete.

    Args:
        evaluation: of retrieval, of recognition, or by a published protocol.
        folder: the folder.
        command: the command line, so that the evaluation can be repeated.
        rows: queries with pictures on the page.
        draw_map: draws the map of the similarity of a query and each of its first photos, such as
            `veduta.explanation.map_pictures.map_drawer(encoder)`; None: there are no maps.

    Raises:
        VedutaError: the folder cannot be written to.
    """
    path = make_report_folder(folder)
    provenance = provenance_of(command)
    queries: Iterable[dict[str, object]]
    classification: dict[str, object] = {}
    if isinstance(evaluation, Evaluation):
        task, queries = "retrieve", report_retrieval.query_values(evaluation)
        page = report_retrieval.retrieval_page(
            evaluation, rows=rows, provenance=provenance, draw_map=draw_map
        )
    elif isinstance(evaluation, RevisitedEvaluation):
        task, queries = "revisited", report_revisited.query_values(evaluation)
        page = report_revisited.revisited_page(evaluation, provenance=provenance)
    elif isinstance(evaluation, ProtocolEvaluation):
        task, queries = "protocol", report_protocol.query_values(evaluation)
        page = report_protocol.protocol_page(evaluation, rows=rows, provenance=provenance)
    else:
        task, queries = "recognize", report_recognition.query_values(evaluation)
        classes = report_recognition.classified(evaluation)
        page = report_recognition.recognition_page(
            evaluation, classes, rows=rows, provenance=provenance, draw_map=draw_map
        )
        classification = classes.as_json() if classes else {}
    figures = {
        "task": task,
        **classification,
        **evaluation.as_json(),
        "seconds": evaluation.seconds,
        "environment": provenance.environment,
        "command": provenance.command,
        "generated": provenance.generated,
    }
    if "queries" in figures:  # in a report this name is that of the list of queries
        figures["query_count"] = figures.pop("queries")
    try:
        write_text(path / JSON_FILE, _json(figures, queries))
        write_report_page(path / PAGE_FILE, page)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _json(figures: dict[str, Any], queries: Iterable[dict[str, object]]) -> Iterator[str]:
    """Yield the file, a line a query, so that memory never holds all of its text.

    Letters beyond ASCII are escaped, so that names that are not UTF-8 come back unchanged.
    """
    text = json.dumps(json_value(figures), indent=2, allow_nan=False)
    yield text.removesuffix("\n}") + ',\n  "queries": ['
    separator = "\n"
    for query in queries:
        yield f"{separator}    {json.dumps(json_value(query), allow_nan=False)}"
        separator = ",\n"
    yield "\n  ]\n}\n"


def _cannot_write(path: Path, error: OSError) -> VedutaError:
    why = error.strerror or error
    return VedutaError(
        f"{readable(path)}: no report can be written there ({why}); name a folder that can be "
        "written to"
    )
