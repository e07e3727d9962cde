"""Search: rank a gallery by its likeness to a query, with the evidence for each hit."""

from typing import TYPE_CHECKING, Any

from veduta.search.options import (
    DISTANCES,
    ORIENTATIONS,
    RERANK_MODES,
    VERIFIED_PHOTOS,
    SearchOptions,
)

if TYPE_CHECKING:
    from veduta.search.batch import search_many
    from veduta.search.engine import Engine, hits_of
    from veduta.search.hit import Evidence, Hit
    from veduta.search.hits import Hits
    from veduta.search.query import Box, EncodedQuery, PhotoSource, mean_descriptor
    from veduta.search.turned_search import search_photos

__all__ = [
    "DISTANCES",
    "ORIENTATIONS",
    "RERANK_MODES",
    "VERIFIED_PHOTOS",
    "Box",
    "EncodedQuery",
    "Engine",
    "Evidence",
    "Hit",
    "Hits",
    "PhotoSource",
    "SearchOptions",
    "hits_of",
    "mean_descriptor",
    "search_many",
    "search_photos",
]

_MODULES = {
    "Box": "query",
    "EncodedQuery": "query",
    "Engine": "engine",
    "Evidence": "hit",
    "Hit": "hit",
    "Hits": "hits",
    "PhotoSource": "query",
    "hits_of": "engine",
    "mean_descriptor": "query",
    "search_many": "batch",
    "search_photos": "turned_search",
}


def __getattr__(name: str) -> Any:
    # The command line needs the options for `--help`, without numpy.
    if name not in _MODULES:
        raise AttributeError(f"module 'veduta.search' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"veduta.search.{_MODULES[name]}"), name)
