"""Pages that a browser on this machine opens: the review of a dataset.

`review` serves it until the user ends it. It needs FastAPI and uvicorn, the extra `veduta[web]`;
both are loaded only when `review` is called.
"""

from veduta.curate.review_decisions import Decision
from veduta.curate.review_files import ReviewFiles, ReviewOutcome
from veduta.curate.review_journal import ReviewJournal
from veduta.curate.suspicions import Suspicion, read_suspicions, suspicions_of
from veduta.web.review import review

__all__ = [
    "Decision",
    "ReviewFiles",
    "ReviewJournal",
    "ReviewOutcome",
    "Suspicion",
    "read_suspicions",
    "review",
    "suspicions_of",
]
