"""What the report of Oxford or Paris, classic or revisited, says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.pages import charts
from veduta.pages.report_page import Plot, ReportPage
from veduta.pages.results_page import Figure, Table
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.revisited import RevisitedSetup
    from veduta.evaluation.revisited_run import RevisitedEvaluation

__all__ = ["query_values", "revisited_page"]

_MEANS = (("mAP", "map"), ("mP@1", "mp1"), ("mP@5", "mp5"), ("mP@10", "mp10"))
_BINS = 20


def revisited_page(evaluation: RevisitedEvaluation, **made: Any) -> ReportPage:
    """Return the page. `made`: `environment`, `command` and `generated` of `ReportPage`."""
    judged = {name: setup for name, setup in evaluation.setups.items() if setup.queries}
    settings = evaluation.settings
    return ReportPage(
        title=f"{evaluation.name}: retrieval by its published protocol",
        counts=f"{count(len(evaluation.queries), 'query', 'queries')} against "
        f"{count(evaluation.gallery, 'gallery photo')}",
        method=f"encoder {settings['encoder']}, rerank {settings['rerank']}",
        figures=[
            Figure(
                f"mAP, {name}",
                setup.map,
                setup.map_interval,
                f"mean over {count(setup.queries, 'query', 'queries')} of the area under "
                "precision and recall, by trapezoids, junk taken out",
            )
            for name, setup in judged.items()
        ],
        figures_note="Below each, the 95 % bootstrap interval over queries.",
        plots=[_spread(name, setup) for name, setup in judged.items()],
        tables=[
            Table(
                "The setups",
                ("setup", "queries", *(name for name, _ in _MEANS)),
                [
                    (name, setup.queries, *(getattr(setup, key) for _, key in _MEANS))
                    for name, setup in judged.items()
                ],
            )
        ],
        groups=[],
        answers="",
        left_out=evaluation.problems,
        settings={**settings, "time for ranking": f"{evaluation.seconds:.1f} s"},
        **made,
    )


def query_values(evaluation: RevisitedEvaluation) -> Iterator[dict[str, object]]:
    """Yield what the JSON file says of each query: its AP in each setup, null without positives."""
    for number, path in enumerate(evaluation.queries):
        values = {name: float(setup.ap[number]) for name, setup in evaluation.setups.items()}
        yield {
            "path": path,
            **{f"ap_{name}": None if math.isnan(ap) else ap for name, ap in values.items()},
        }


def _spread(name: str, setup: RevisitedSetup) -> Plot:
    counts, edges = np.histogram(setup.ap[np.isfinite(setup.ap)], bins=_BINS, range=(0, 1))
    chart = charts.histogram(
        f"Average precision, {name}", counts, edges, x_label="average precision", y_label="queries"
    )
    return Plot(chart, "How the average precision of single queries is spread around the mean.")
