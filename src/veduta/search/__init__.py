"""Search: rank a gallery by its likeness to a query, with the evidence for each hit."""

from veduta.search.distances import NAMES as DISTANCES
from veduta.search.engine import Box, Engine, Query, together
from veduta.search.filters import Filter
from veduta.search.hit import Hit

__all__ = ["DISTANCES", "Box", "Engine", "Filter", "Hit", "Query", "together"]
