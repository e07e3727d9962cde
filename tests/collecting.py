"""Collect photos from the test server, and look at what a run wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from photo_server import PhotoServer

from veduta.collect import Settings, Summary, collect

QUICK = {
    "allow_private": True,
    "first_wait": 0.01,
    "connect_timeout": 10.0,
    "read_timeout": 10.0,
    "total_timeout": 20.0,
    "retries": 2,
}


class Collected:
    """What a run left: its summary and its table, by id."""

    def __init__(self, summary: Summary, folder: Path) -> None:
        self.summary = summary
        self.folder = folder
        self.rows = pq.read_table(folder / "collected.parquet").to_pylist()

    def __getitem__(self, name: str) -> dict[str, Any]:
        return next(row for row in self.rows if row["id"] == name)

    def outcomes(self) -> dict[str, str]:
        return {row["id"]: row["outcome"] for row in self.rows}


class Collector:
    """Collects photos of a server into one folder, with one label."""

    def __init__(self, server: PhotoServer, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def __call__(self, wanted: dict[str, str], label: str = "x", **settings: Any) -> Collected:
        """Collect {id: path on the server, or URL}."""
        file = self._folder / "rows.csv"
        lines = ["id,url,landmark_id"]
        for name, path in wanted.items():
            url = path if ":" in path.partition("/")[0] else self._server.url(path)
            lines.append(f'{name},"{url}",{label}')
        file.write_text("\n".join(lines), encoding="utf-8")
        out = self._folder / "out"
        summary = collect([file], out, Settings(**{**QUICK, **settings}))
        return Collected(summary, out)


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
