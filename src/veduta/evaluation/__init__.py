"""Measure retrieval and recognition: metrics with intervals, and reports."""

from veduta.evaluation.keypoint_methods import METHODS
from veduta.evaluation.metrics import QueryResult
from veduta.evaluation.model_run import evaluate_model
from veduta.evaluation.protocol_run import (
    ProtocolEvaluation,
    evaluate_protocol,
)
from veduta.evaluation.recognition_run import (
    RecognitionEvaluation,
    RecognitionResult,
    evaluate_recognition,
)
from veduta.evaluation.retrieval_run import Evaluation, evaluate
from veduta.evaluation.revisited_run import RevisitedEvaluation, evaluate_revisited
from veduta.evaluation.summary import Summary

__all__ = [
    "METHODS",
    "Evaluation",
    "ProtocolEvaluation",
    "QueryResult",
    "RecognitionEvaluation",
    "RecognitionResult",
    "RevisitedEvaluation",
    "Summary",
    "evaluate",
    "evaluate_model",
    "evaluate_protocol",
    "evaluate_recognition",
    "evaluate_revisited",
]
