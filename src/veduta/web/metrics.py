"""Numbers for Prometheus: what one process of the service answered, and how long it took."""

from __future__ import annotations

import threading
import time
from collections import Counter

from veduta.web.asgi import Application, Message, Receive, Send

__all__ = ["BUCKET_SECONDS", "CountedRequests", "Metrics", "metric_name"]

BUCKET_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper limits of the buckets of the histogram."""


class Metrics:
    """Counts of answers by method, route and status, and a histogram of their times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        with self._lock:
            self._answers[method, route, status] += 1
            self._requests[route] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            for limit in BUCKET_SECONDS:
                if seconds <= limit:
                    self._buckets[route, limit] += 1

    def text(self, gauges: dict[str, float]) -> str:
        """Return everything in the text format of Prometheus.

        Args:
            gauges: name → value, of what is counted elsewhere.
        """
        with self._lock:
            lines = ["# TYPE veduta_http_requests_total counter"]
            lines += [
                f'veduta_http_requests_total{{method="{method}",route="{route}",status="{status}"}}'
                f" {number}"
                for (method, route, status), number in sorted(self._answers.items())
            ]
            lines.append("# TYPE veduta_http_request_seconds histogram")
            for route, number in sorted(self._requests.items()):
                name = "veduta_http_request_seconds"
                lines += [
                    f'{name}_bucket{{route="{route}",le="{limit}"}} {self._buckets[route, limit]}'
                    for limit in BUCKET_SECONDS
                ]
                lines.append(f'{name}_bucket{{route="{route}",le="+Inf"}} {number}')
                lines.append(f'{name}_sum{{route="{route}"}} {self._seconds[route]:.6f}')
                lines.append(f'{name}_count{{route="{route}"}} {number}')
        for name, value in gauges.items():
            bare = name.partition("{")[0]
            lines += [f"# TYPE veduta_{bare} gauge", f"veduta_{name} {value:g}"]
        return "\n".join(lines) + "\n"


def metric_name(name: str, index: str) -> str:
    """Return the name of a number of one index, in the format of Prometheus."""
    label = index.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}{{index="{label}"}}'


class CountedRequests:
    """An ASGI application around another one, which counts its answers."""

    def __init__(self, app: Application, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route = scope.get("route")
            # The path of a request that no route answered is a stranger's text.
            path = "none" if route is None else route.path
            self._metrics.count(scope["method"], path, status, time.perf_counter() - started)
