"""The content of a report of Oxford or Paris, classic or revisited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from veduta.evaluation.figures import json_value
from veduta.evaluation.report_parts import beside, method_line
from veduta.evaluation.revisited import REVISITED_METRICS
from veduta.pages import charts
from veduta.pages.report_page import Plot, Provenance, ReportPage
from veduta.pages.results_page import Figure, Table
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.revisited import RevisitedSetup
    from veduta.evaluation.revisited_run import RevisitedEvaluation

__all__ = ["query_values", "revisited_page"]

_AP_BINS = 20


def revisited_page(
    evaluation: RevisitedEvaluation, *, provenance: Provenance | None = None
) -> ReportPage:
    """Return the page of an evaluation.

    Args:
        evaluation: the evaluation.
        provenance: how it was made.

    Returns:
        The content of the page.
    """
    judged = {name: setup for name, setup in evaluation.setups.items() if setup.queries}
    alone = evaluation.descriptor_alone or {}
    rows = list(judged.items())
    for name, setup in alone.items():
        if setup.queries:
            rows.append((f"{name}, descriptor alone", setup))
    return ReportPage(
        title=f"{evaluation.name}: retrieval by its published protocol",
        counts=f"{count(len(evaluation.queries), 'query', 'queries')} against "
        f"{count(evaluation.gallery, 'gallery photo')}"
        + (f" and {count(evaluation.distractors, 'distractor')}" if evaluation.distractors else ""),
        method=f"{method_line(evaluation.settings, ('encoder', 'rerank'))}; ranked by: "
        f"{evaluation.answered_by}",
        figures=[
            Figure(
                f"mAP, {name}",
                setup.map,
                setup.map_interval,
                f"mean over {count(setup.queries, 'query', 'queries')} of the area under "
                "precision and recall, by trapezoids, junk taken out",
                beside(alone[name].map) if alone else "",
            )
            for name, setup in judged.items()
        ],
        figures_note="Below each, the 95 % bootstrap interval over queries.",
        plots=[_ap_histogram(name, setup) for name, setup in judged.items()],
        tables=[
            Table(
                "The setups",
                ("setup", "queries", *(metric.title for metric in REVISITED_METRICS)),
                [
                    (name, setup.queries, *(figure.value for figure in setup.figures.values()))
                    for name, setup in rows
                ],
            )
        ],
        groups=[],
        answers="",
        left_out=[*evaluation.notes, *evaluation.problems],
        settings={**evaluation.settings, "time for ranking": f"{evaluation.seconds:.1f} s"},
        provenance=provenance or Provenance(),
    )


def query_values(evaluation: RevisitedEvaluation) -> Iterator[dict[str, object]]:
    """Yield the object of each query in the JSON file: its AP in each setup, or null."""
    for number, path in enumerate(evaluation.queries):
        values = {
            f"ap_{name}": json_value(float(setup.ap[number]))
            for name, setup in evaluation.setups.items()
        }
        yield {"path": path, **values}


def _ap_histogram(name: str, setup: RevisitedSetup) -> Plot:
    counts, edges = np.histogram(setup.ap[np.isfinite(setup.ap)], bins=_AP_BINS, range=(0, 1))
    chart = charts.histogram(
        f"Average precision, {name}", counts, edges, x_label="average precision", y_label="queries"
    )
    return Plot(chart, "The distribution of the average precision of single queries.")
