"""Honest measurement: protocols, metrics with intervals, and the pictures to judge them by."""

from veduta.evaluate.metrics import QueryResult
from veduta.evaluate.run import Evaluation, evaluate
from veduta.evaluate.summary import Summary

__all__ = ["Evaluation", "QueryResult", "Summary", "evaluate"]
