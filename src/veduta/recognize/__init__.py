"""Recognition: what a photo shows, how sure that is, or that it is unknown."""

from veduta.recognize.labelled import Labelled, label
from veduta.recognize.methods import METHODS
from veduta.recognize.model import Model, open_model
from veduta.recognize.recognition import Recognition, decide
from veduta.recognize.recognizer import METHOD, PRECISION, Answer, Recognizer, learn
from veduta.recognize.stored import recognizer_of

__all__ = [
    "METHOD",
    "METHODS",
    "PRECISION",
    "Answer",
    "Labelled",
    "Model",
    "Recognition",
    "Recognizer",
    "decide",
    "label",
    "learn",
    "open_model",
    "recognizer_of",
]
