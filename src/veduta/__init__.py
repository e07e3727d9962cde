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

from veduta import errors, no_telemetry
from veduta._version import __version__

if TYPE_CHECKING:
    from veduta.api import Index, create, explain, find_keypoints, match, merge
    from veduta.encoders import Encoder, Projection, load_encoder
    from veduta.evaluation import (
        Evaluation,
        ProtocolEvaluation,
        RecognitionEvaluation,
        RevisitedEvaluation,
        evaluate,
        evaluate_model,
        evaluate_protocol,
        evaluate_recognition,
        evaluate_revisited,
    )
    from veduta.explanation import Explanation
    from veduta.explore.photo_groups import PhotoGroup
    from veduta.index import (
        CheckFinding,
        Descriptors,
        IndexedPhoto,
        MergeReport,
        UpdateProgress,
        UpdateReport,
    )
    from veduta.keypoints import Extractor, Keypoints, load_extractor
    from veduta.recognize import Recognition, Recognizer
    from veduta.remote import RemoteIndex, open  # noqa: A004
    from veduta.search import Evidence, Hit, Hits, SearchOptions
    from veduta.search.pair import Match
    from veduta.search.photo_keypoints import PhotoKeypoints
    from veduta.stored_index import Published, publish

_MODULES = {
    "CheckFinding": "veduta.index",
    "Descriptors": "veduta.index",
    "Encoder": "veduta.encoders",
    "Evaluation": "veduta.evaluation",
    "Evidence": "veduta.search",
    "Explanation": "veduta.explanation",
    "Extractor": "veduta.keypoints",
    "Hit": "veduta.search",
    "Hits": "veduta.search",
    "Index": "veduta.api",
    "IndexedPhoto": "veduta.index",
    "Keypoints": "veduta.keypoints",
    "Match": "veduta.search.pair",
    "MergeReport": "veduta.index",
    "PhotoGroup": "veduta.explore.photo_groups",
    "PhotoKeypoints": "veduta.search.photo_keypoints",
    "Projection": "veduta.encoders",
    "ProtocolEvaluation": "veduta.evaluation",
    "Published": "veduta.stored_index",
    "Recognition": "veduta.recognize",
    "RecognitionEvaluation": "veduta.evaluation",
    "RevisitedEvaluation": "veduta.evaluation",
    "Recognizer": "veduta.recognize",
    "RemoteIndex": "veduta.remote",
    "SearchOptions": "veduta.search",
    "UpdateProgress": "veduta.index",
    "UpdateReport": "veduta.index",
    "create": "veduta.api",
    "evaluate": "veduta.evaluation",
    "evaluate_model": "veduta.evaluation",
    "evaluate_protocol": "veduta.evaluation",
    "evaluate_recognition": "veduta.evaluation",
    "evaluate_revisited": "veduta.evaluation",
    "explain": "veduta.api",
    "find_keypoints": "veduta.api",
    "load_encoder": "veduta.encoders",
    "load_extractor": "veduta.keypoints",
    "match": "veduta.api",
    "merge": "veduta.api",
    "open": "veduta.remote",
    "publish": "veduta.stored_index",
}

__all__ = [
    "CheckFinding",
    "Descriptors",
    "Encoder",
    "Evaluation",
    "Evidence",
    "Explanation",
    "Extractor",
    "Hit",
    "Hits",
    "Index",
    "IndexedPhoto",
    "Keypoints",
    "Match",
    "MergeReport",
    "PhotoGroup",
    "PhotoKeypoints",
    "Projection",
    "ProtocolEvaluation",
    "Published",
    "Recognition",
    "RecognitionEvaluation",
    "Recognizer",
    "RemoteIndex",
    "RevisitedEvaluation",
    "SearchOptions",
    "UpdateProgress",
    "UpdateReport",
    "__version__",
    "create",
    "errors",
    "evaluate",
    "evaluate_model",
    "evaluate_protocol",
    "evaluate_recognition",
    "evaluate_revisited",
    "explain",
    "find_keypoints",
    "load_encoder",
    "load_extractor",
    "match",
    "merge",
    "open",
    "publish",
]


no_telemetry.switch_off_telemetry()


def __getattr__(name: str) -> Any:
    # Loaded at the first use: the command line answers `--help` without numpy.
    if name not in _MODULES:
        raise AttributeError(f"module 'veduta' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
