"""Pages that a browser on this machine opens: the review of a dataset.

`review` serves it until the reader is done. It needs FastAPI and uvicorn, the extra `veduta[web]`;
nothing of either is loaded before `review` is called.
"""

from veduta.web.decisions import Decision
from veduta.web.journal import Journal
from veduta.web.results import ReviewFiles, ReviewOutcome
from veduta.web.review import review
from veduta.web.suspicions import Suspicion, read_suspicions, suspicions_of

__all__ = [
    "Decision",
    "Journal",
    "ReviewFiles",
    "ReviewOutcome",
    "Suspicion",
    "read_suspicions",
    "review",
    "suspicions_of",
]
