"""Why: which regions of a photo decide a similarity or a class, and how far such maps are true."""

from veduta.explanation.explanation import Explanation
from veduta.explanation.methods import METHODS, Method, find_method

__all__ = ["METHODS", "Explanation", "Method", "find_method"]
