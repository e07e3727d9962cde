"""The review alone: read the dataset, serve the page, write the decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.curate.review_files import ReviewFiles, ReviewOutcome
from veduta.errors import VedutaError
from veduta.web.listening import listen
from veduta.web.open_review import OpenReview, ReviewRequest
from veduta.web.review_access import ReviewAccess

if TYPE_CHECKING:
    from veduta.curate.findings import Finding

__all__ = ["review"]

HOST = "127.0.0.1"


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
        dataset: as in `ReviewRequest`.
        findings: as in `ReviewRequest`.
        label: as in `ReviewRequest`.
        exclude: as in `ReviewRequest`.
        out: as in `ReviewRequest`.
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
    request = ReviewRequest(dataset, findings, label, exclude, out)
    with (
        closing(listen(HOST, port)) as listener,
        closing(OpenReview(request)) as opened,
    ):

        def stop() -> None:
            server.should_exit = True

        access = ReviewAccess(listener.getsockname()[1])
        app = review_app(opened, access, stop)
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
        on_ready(access, opened.files)
        # Ctrl-C ends the review. uvicorn shuts down before it raises KeyboardInterrupt again.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        return opened.write()
