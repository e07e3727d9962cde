"""The page of an index: what it holds, indexing runs, and the photos that could not be read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from veduta.index.status import moment_words, status_lines
from veduta.web.access import needs, scope_of, service_of
from veduta.web.index_jobs import ENDED
from veduta.web.pages_frame import Page, framed, shown_index
from veduta.web.served_index import ServedIndex
from veduta.web.service import Service

__all__ = ["PAGE", "router"]

PAGE = Page("Index", "/index")

router = APIRouter(dependencies=[needs("search")], include_in_schema=False)

_MAX_LISTED = 100
"""Files that could not be read; `veduta status --json` lists all."""


@dataclass(frozen=True, slots=True)
class _Unread:
    """Files that could not be read: their number, and the first of them with the reasons."""

    number: int
    files: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, files: Sequence[Mapping[str, str]]) -> _Unread:
        return cls(len(files), files[:_MAX_LISTED])


@dataclass(frozen=True, slots=True)
class _Run:
    """An indexing run.

    Attributes:
        number: of it.
        started: when, in words.
        state: as in `JobAnswer`.
        folders: that it reads; none: those of the index.
        position: of the state, for the events that follow.
        words: what it is doing, or has done, one sentence each.
        detail: why it failed or ended.
        done: photos so far.
        total: photos in all; 0: not known.
        unread: files that it could not read.
    """

    number: str
    started: str
    state: str
    folders: Sequence[str]
    position: int
    words: Sequence[str]
    detail: str | None
    done: int
    total: int
    unread: _Unread

    @property
    def is_running(self) -> bool:
        return self.state not in ENDED


@dataclass(frozen=True, slots=True)
class _Shown:
    """The content of the page.

    Attributes:
        photos: number of photos.
        address: of the object store that the index is in, or None.
        notice: what the user must know about damage, or None.
        facts: names with words.
        folders: of the index, each with whether it is there.
        labels: the rule of the labels, or None.
        exclude: the patterns of photos that are left out.
        unread: files that could not be read.
        runs: the last runs, the newest first; None: this browser may not see them.
        is_locked: whether another process writes to the index.
    """

    photos: int
    address: str | None
    notice: str | None
    facts: Sequence[tuple[str, str]]
    folders: Sequence[tuple[str, bool]]
    labels: str | None
    exclude: Sequence[str]
    unread: _Unread
    runs: Sequence[_Run] | None
    is_locked: bool

    @property
    def running(self) -> _Run | None:
        return next((run for run in self.runs or () if run.is_running), None)

    @property
    def ended(self) -> list[_Run]:
        return [run for run in self.runs or () if not run.is_running]


@router.get(PAGE.path)
async def show(request: Request) -> Response:
    """Show the page."""
    service = service_of(request)
    index = shown_index(request)
    is_changed_here = not service.settings.read_only and index.url is None
    may_see_runs = scope_of(request) == "admin" and is_changed_here
    shown = await service.light(_shown, service, index, may_see_runs=may_see_runs)
    return framed(request, "index.html", shown)


def _shown(service: Service, index: ServedIndex, *, may_see_runs: bool) -> _Shown:
    state = index.status()
    return _Shown(
        photos=state["photos"],
        address=index.url,
        notice=state["notice"],
        facts=list(status_lines(state)),
        folders=[(folder, os.path.isdir(folder)) for folder in state["folders"]],
        labels=state["labels"],
        exclude=state["exclude"],
        unread=_Unread.of(state["unreadable"]),
        runs=[_run(one) for one in service.jobs.all(index.name)] if may_see_runs else None,
        is_locked=state["locked"],
    )


def _run(state: Mapping[str, Any]) -> _Run:
    return _Run(
        number=state["id"],
        started=moment_words(state["started"]),
        state=state["state"],
        folders=state["request"]["folders"],
        position=state["position"],
        words=state.get("words", ()),
        detail=state.get("detail"),
        done=state.get("done", 0),
        total=state.get("total", 0),
        unread=_Unread.of(state.get("report", {}).get("unreadable", ())),
    )
