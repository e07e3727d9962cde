"""Veduta: find which photos of a collection show the same place or object, offline.

```python
import veduta

index = veduta.create("monuments.veduta")
index.add("photos/")
for hit in index.search("query.jpg", k=5):
    print(hit.score, hit.path)
```
"""

from typing import TYPE_CHECKING, Any

from veduta import errors
from veduta._version import __version__

if TYPE_CHECKING:
    from veduta.api import Index, create, match, open  # noqa: A004
    from veduta.evaluation import evaluate
    from veduta.search import Hit
    from veduta.search.pair import Match

__all__ = [
    "Hit",
    "Index",
    "Match",
    "__version__",
    "create",
    "errors",
    "evaluate",
    "match",
    "open",
]

_HOMES = {
    "Hit": "veduta.search",
    "Index": "veduta.api",
    "Match": "veduta.search.pair",
    "create": "veduta.api",
    "evaluate": "veduta.evaluation",
    "match": "veduta.api",
    "open": "veduta.api",
}


def __getattr__(name: str) -> Any:
    # Loaded at the first use: the command line answers `--help` without numpy.
    if name not in _HOMES:
        raise AttributeError(f"module 'veduta' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
