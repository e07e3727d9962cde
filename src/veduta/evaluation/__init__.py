"""Honest measurement: protocols, metrics with intervals, and the pictures to judge them by."""

from veduta.evaluation.keypoint_methods import METHODS
from veduta.evaluation.metrics import QueryResult
from veduta.evaluation.run import Evaluation, evaluate
from veduta.evaluation.summary import Summary

__all__ = ["METHODS", "Evaluation", "QueryResult", "Summary", "evaluate"]
