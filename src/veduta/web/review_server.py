"""The whole review: read the dataset, serve the page, write the decisions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.curate.review_files import ReviewFiles, ReviewOutcome, write_results
from veduta.curate.review_journal import ReviewJournal
from veduta.curate.review_set import make_review_set
from veduta.curate.suspicions import read_suspicions, suspicions_of
from veduta.datasets import read_dataset
from veduta.datasets.reading import find_labels_file
from veduta.errors import VedutaError
from veduta.web.listening import listen
from veduta.web.review_access import ReviewAccess

if TYPE_CHECKING:
    from veduta.curate.findings import Finding

__all__ = ["default_out", "review"]

HOST = "127.0.0.1"


def default_out(dataset: Path) -> Path:
    """Return the default file of decisions: in the current folder, named after the dataset."""
    path = Path(os.path.abspath(dataset))
    folder = path.parent if path.is_file() else path
    return Path(f"{folder.name or 'dataset'}-decisions.csv")


def review(
    dataset: Path,
    *,
    findings: Path | Sequence[Finding] | None = None,
    label: str | None = None,
    exclude: Sequence[str] = (),
    out: Path | None = None,
    port: int = 0,
    on_ready: Callable[[ReviewAccess, ReviewFiles], None] = lambda _access, _files: None,
) -> ReviewOutcome:
    """Serve the review of a dataset on this machine until it is ended.

    It ends by the button of the page or by Ctrl-C. It writes its results then, and whenever the
    page asks for it.

    Args:
        dataset: a folder or a CSV file, as `veduta.datasets.read_dataset` takes it.
        findings: those of `veduta clean`, or a CSV file of them, see `read_suspicions`.
        label: the only class to review.
        exclude: patterns of photos that are left out, as for `veduta.datasets.read_dataset`.
        out: the file of decisions; the journal and the labels lie beside it. An older journal is
            continued.
        port: of 127.0.0.1; 0 is any free port.
        on_ready: called with the addresses once they answer.

    Returns:
        What was decided, and the files.

    Raises:
        DatasetError: the dataset, the findings or the journal do not fit.
        VedutaError: FastAPI is not installed, the port is taken or the journal is in use.
        OSError: a result cannot be written.
    """
    try:
        import uvicorn

        from veduta.web.review_app import review_app
    except ImportError as error:
        raise VedutaError(
            f"the review needs a web server, which is not installed ({error}): "
            "pip install 'veduta[web]'"
        ) from error
    files = ReviewFiles(default_out(dataset) if out is None else out)
    labels_file = find_labels_file(dataset)
    files.check([file for file in (labels_file, findings) if isinstance(file, Path)])
    collection = read_dataset(dataset, exclude=exclude)
    if isinstance(findings, Path):
        suspicions = read_suspicions(findings)
    else:
        suspicions = suspicions_of(findings or ())
    review_set = make_review_set(collection, suspicions, label)
    with (
        closing(listen(HOST, port)) as listener,
        closing(
            ReviewJournal(
                files.journal, review_set.root, (photo.path for photo in review_set.photos)
            )
        ) as journal,
    ):

        def write() -> ReviewOutcome:
            return write_results(files, review_set, journal.decisions, labels_file)

        def stop() -> None:
            server.should_exit = True

        access = ReviewAccess(listener.getsockname()[1])
        app = review_app(review_set, journal, files, access, write=write, stop=stop)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        config.load()
        server = uvicorn.Server(config)
        # The socket already accepts connections; they are answered as soon as the server runs.
        on_ready(access, files)
        # Ctrl-C ends the review. uvicorn shuts down before it raises KeyboardInterrupt again.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        return write()
