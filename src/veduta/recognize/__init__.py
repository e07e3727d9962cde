"""Recognition: what a photo shows and with which confidence, or that it is unknown."""

from veduta.recognize.labelled_gallery import LabelledGallery
from veduta.recognize.methods import METHODS
from veduta.recognize.model import Model, open_model
from veduta.recognize.recognition import MIN_SHOWN_CONFIDENCE, Recognition, recognition_of
from veduta.recognize.recognizer import METHOD, PRECISION, Recognizer, fit_recognizer
from veduta.recognize.recognizer_cache import cached_recognizer
from veduta.recognize.unknown import Answer, Decision, decide

__all__ = [
    "METHOD",
    "METHODS",
    "MIN_SHOWN_CONFIDENCE",
    "PRECISION",
    "Answer",
    "Decision",
    "LabelledGallery",
    "Model",
    "Recognition",
    "Recognizer",
    "cached_recognizer",
    "decide",
    "fit_recognizer",
    "open_model",
    "recognition_of",
]
