"""Queries of an evaluation with their first answers, each marked as right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veduta.cli.printing import mark, say

if TYPE_CHECKING:
    from veduta.evaluation import Evaluation

__all__ = ["print_queries", "queries_as_json"]


def print_queries(evaluation: Evaluation, number: int, hits: int) -> None:
    """Print queries, spread evenly from the weakest to the strongest.

    Args:
        evaluation: of a retrieval.
        number: queries, 1 or more.
        hits: of each query at most.
    """
    from veduta.evaluation.report_retrieval import evenly_sampled

    for result in evenly_sampled(evaluation.results, number):
        label = f"  [{result.label}]" if result.label else ""
        say("", f"{result.path}{label}")
        for rank, near in enumerate(result.nearest[:hits], 1):
            of_photo = evaluation.gallery_labels[near.row]
            name = evaluation.gallery_paths[near.row] + (f"  [{of_photo}]" if of_photo else "")
            correct = near.correct if result.positives else None
            say(f"{rank:3}  {mark(correct)}  {near.score:6.3f}  {name}")


def queries_as_json(evaluation: Evaluation, number: int, hits: int) -> list[dict[str, Any]]:
    """Return what `print_queries` prints as JSON types.

    Args:
        evaluation: of a retrieval.
        number: queries, 1 or more.
        hits: of each query at most.
    """
    from veduta.evaluation.report_retrieval import evenly_sampled

    return [
        {
            "query": result.path,
            "label": result.label,
            "hits": [
                {
                    "path": evaluation.gallery_paths[near.row],
                    "label": evaluation.gallery_labels[near.row],
                    "score": round(near.score, 6),
                    "correct": near.correct if result.positives else None,
                }
                for near in result.nearest[:hits]
            ],
        }
        for result in evenly_sampled(evaluation.results, number)
    ]
