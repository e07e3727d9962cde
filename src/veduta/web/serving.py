"""The server of a service: its socket, its processes, its start and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import VedutaError, readable
from veduta.index import Manifest
from veduta.processor_cores import limit_processor_cores, processor_cores
from veduta.stored_index.fetching import usable_copy
from veduta.web.handed_connections import READY, HandedConnections
from veduta.web.listening import listen
from veduta.web.memory_arenas import limit_memory_arenas
from veduta.web.settings import ServeSettings
from veduta.web.worker_processes import run_workers

if TYPE_CHECKING:
    import uvicorn

    from veduta.curate.review_files import ReviewOutcome
    from veduta.web.service import Service

__all__ = ["names_of", "serve"]

_STOP_SECONDS = 5


def names_of(indexes: Sequence[Path | str]) -> dict[str, Path | str]:
    """Give each index a name, after its folder or address: name → folder or address."""
    named: dict[str, Path | str] = {}
    for path in indexes:
        folder = path if isinstance(path, str) else os.path.abspath(path)
        base = readable(Path(folder).name).removesuffix(".veduta") or "index"
        name, number = base, 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = path
    return named


def serve(
    settings: ServeSettings, on_ready: Callable[[str], None] = lambda _url: None
) -> ReviewOutcome | None:
    """Serve indexes until Ctrl-C or a signal ends it.

    Args:
        settings: of the service.
        on_ready: called with the address once it accepts connections.

    Returns:
        What was decided in the review, if there is one, and the files.

    Raises:
        NotAnIndex: a folder holds no index.
        IndexDamaged: an index does not open.
        DatasetError: as `veduta.web.review` raises it.
        VedutaError: FastAPI is not installed, or the address is taken or not of this machine.
        OSError: a result of the review cannot be written.
    """
    try:
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401

        from veduta.web import api_app  # noqa: F401
        from veduta.web.served_index import ServedIndex
    except ImportError as error:
        raise VedutaError(
            f"serving needs a web server, which is not installed ({error}): "
            "pip install 'veduta[web]'"
        ) from error
    for place in settings.indexes.values():
        Manifest.read(usable_copy(place)[0])
    with closing(listen(settings.host, settings.port)) as listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{listener.getsockname()[1]}{settings.root_path}/"
        if settings.workers == 1:
            return _run(settings, listener, lambda: on_ready(url))
        for name, place in settings.indexes.items():
            ServedIndex(name, place).open()  # What is wrong with it is said once, here.
        run_workers(
            partial(_run_worker, settings),
            settings.workers,
            listener,
            lambda: on_ready(url),
            _STOP_SECONDS + 1,
        )
        return None


def _server(service: Service, on_start: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    from veduta.web.api_app import api_app
    from veduta.web.slow_clients import TimedProtocol

    settings = service.settings
    config = uvicorn.Config(
        api_app(service),
        log_level="error",  # A stranger must not fill the log with broken requests.
        access_log=False,
        ws="none",
        http=TimedProtocol,
        loop="asyncio",
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        timeout_graceful_shutdown=_STOP_SECONDS,
    )

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                on_start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Before the connections end: a page that watches a run sees it end.
            await asyncio.to_thread(service.jobs.close)
            await super().shutdown(sockets)

    return Announced(config)


def _run(
    settings: ServeSettings, listener: socket.socket, on_start: Callable[[], None] = lambda: None
) -> ReviewOutcome | None:
    from veduta.web.service import Service

    limit_memory_arenas()
    service = Service(settings)
    review = service.review
    with nullcontext() if review is None else closing(review):
        with suppress(KeyboardInterrupt):
            _server(service, on_start).run(sockets=[listener])
        return None if review is None else review.write()


def _run_worker(settings: ServeSettings, channel: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first process ends this one.
    # More threads than cores would take turns and wait for each other.
    limit_processor_cores(max(1, processor_cores() // settings.workers))
    connections = HandedConnections(channel)
    _run(settings, connections, lambda: connections.tell(READY))
