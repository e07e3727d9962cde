"""What answers a browser or a program: the service of indexes, and the review of a dataset.

Both need FastAPI and uvicorn, the extra `veduta[web]`; these are loaded only when one of them runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veduta.curate.review_decisions import Decision
    from veduta.curate.review_files import ReviewFiles, ReviewOutcome
    from veduta.curate.review_journal import ReviewJournal
    from veduta.curate.suspicions import Suspicion, read_suspicions, suspicions_of
    from veduta.web.review_server import review
    from veduta.web.serving import serve
    from veduta.web.settings import ServeSettings

_MODULES = {
    "Decision": "veduta.curate.review_decisions",
    "ReviewFiles": "veduta.curate.review_files",
    "ReviewJournal": "veduta.curate.review_journal",
    "ReviewOutcome": "veduta.curate.review_files",
    "ServeSettings": "veduta.web.settings",
    "Suspicion": "veduta.curate.suspicions",
    "read_suspicions": "veduta.curate.suspicions",
    "review": "veduta.web.review_server",
    "serve": "veduta.web.serving",
    "suspicions_of": "veduta.curate.suspicions",
}

__all__ = [
    "Decision",
    "ReviewFiles",
    "ReviewJournal",
    "ReviewOutcome",
    "ServeSettings",
    "Suspicion",
    "read_suspicions",
    "review",
    "serve",
    "suspicions_of",
]


def __getattr__(name: str) -> Any:
    # Loaded at the first use: a service starts without what only the review needs.
    if name not in _MODULES:
        raise AttributeError(f"module 'veduta.web' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
