"""Search: rank a gallery by its likeness to a query, with the evidence for each hit."""

from veduta.search.distances import NAMES as DISTANCES
from veduta.search.engine import Box, Engine, Query, Question, hits_of, together
from veduta.search.filters import Filter
from veduta.search.hit import Evidence, Hit
from veduta.search.reranking import MODES, VERIFIED

__all__ = [
    "DISTANCES",
    "MODES",
    "VERIFIED",
    "Box",
    "Engine",
    "Evidence",
    "Filter",
    "Hit",
    "Query",
    "Question",
    "hits_of",
    "together",
]
