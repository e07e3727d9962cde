"""The server of a service: its socket, its processes, its start and its end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.errors import VedutaError, readable
from veduta.index import Manifest
from veduta.stored_index.fetching import usable_copy
from veduta.web.listening import listen
from veduta.web.memory_arenas import limit_memory_arenas
from veduta.web.settings import ServeSettings

if TYPE_CHECKING:
    import uvicorn

    from veduta.curate.review_files import ReviewOutcome
    from veduta.web.service import Service

__all__ = ["names_of", "serve"]

_STOP_SECONDS = 5
_RESTART_SECONDS = 1.0


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
        with suppress(KeyboardInterrupt):
            on_ready(url)
            _run_processes(settings, listener)
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


def _run_processes(settings: ServeSettings, listener: socket.socket) -> None:
    """Run several processes on one socket, and replace those that end by a fault."""
    spawn = multiprocessing.get_context("spawn")

    def started() -> Any:
        process = spawn.Process(target=_run_worker, args=(settings, listener), daemon=True)
        process.start()
        return process

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    processes = [started() for _ in range(settings.workers)]
    try:
        while not stopping:
            time.sleep(0.1)
            for number, process in enumerate(processes):
                if not process.is_alive() and not stopping:
                    time.sleep(_RESTART_SECONDS)
                    processes[number] = started()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_STOP_SECONDS + 1)
        for one, handler in before.items():
            signal.signal(one, handler)


def _run_worker(settings: ServeSettings, listener: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first process ends this one.
    _run(settings, listener)
