"""A search whose answer arrives in parts ends with the answer that it has in one piece."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_server import Server, form, made_index, serving
from tiny import save_view

from veduta.errors import QueryError
from veduta.keypoints import load_extractor, verify_many
from veduta.search import Hits

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

EVENTS = "text/event-stream"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("events")
    made_index(home)
    save_view(home / "query.png", 1, 7, noise=0.3)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta") as server:
        yield server


def events_in(text: str) -> list[tuple[str, Any]]:
    """Read server-sent events: name and data of each."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def asked(server: Server, options: dict[str, Any], photo: bytes | None = None) -> tuple[Any, Any]:
    """Return the events of a search, and its answer in one piece."""
    body, kind = form([photo], options) if photo else (options, "application/json")
    streamed = server.ask("POST", "/search", body, content_type=kind, accept=EVENTS)
    assert streamed.status == 200, streamed.body
    assert streamed.headers["content-type"].startswith(EVENTS)
    whole = server.ask("POST", "/search", body, content_type=kind).json
    return events_in(streamed.body.decode()), whole


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["timings"]["total"] > 0
    return {name: value for name, value in answer.items() if name != "timings"}


@pytest.mark.parametrize("of_index", [True, False], ids=["photo_id", "form"])
def test_the_last_event_is_the_answer_in_one_piece(
    server: Server, home: Path, of_index: bool
) -> None:
    photo = None if of_index else (home / "query.png").read_bytes()
    options: dict[str, Any] = {"limit": 5} | ({"photo_id": 5} if of_index else {})
    events, whole = asked(server, options, photo)
    names = [name for name, _ in events]
    assert names[0] == "nearest" and names[-1] == "answer"
    assert set(names[1:-1]) == {"verified"}
    assert without_times(events[-1][1]) == without_times(whole)
    quick = asked(server, options | {"rerank": "none", "orientation": "upright"}, photo)[1]
    nearest = events[0][1]
    assert nearest["results"] == quick["results"]
    assert nearest["next"] is None and whole["next"] is not None
    last = [data for name, data in events if name == "verified"][-1]
    assert last["photos"] == last["of"] == 12, "the index has 12 photos"


def test_copies_are_marked_from_the_first_event_on(server: Server, home: Path) -> None:
    photo = (home / "photos/place2/2-1.png").read_bytes()
    events, whole = asked(server, {}, photo)
    for answer in (events[0][1], whole):
        marked = {one["name"]: one["copy_of"] for one in answer["results"]}
        assert {name for name, mark in marked.items() if mark} == {"2-1.png"}
        assert marked["2-1.png"] == "query"
    unmarked = asked(server, {"mark_copies": False}, photo)[1]["results"]
    assert {one["copy_of"] for one in unmarked} == {None}


def test_without_reranking_there_is_one_event(server: Server) -> None:
    events, whole = asked(server, {"photo_id": 5, "rerank": "none"})
    assert [name for name, _ in events] == ["answer"]
    assert without_times(events[0][1]) == without_times(whole)


def test_pages_are_those_of_a_search_in_one_piece(server: Server) -> None:
    first = server.post("/search", {"photo_id": 5, "limit": 4}).json
    events, whole = asked(server, {"photo_id": 5, "limit": 4, "cursor": first["next"]})
    assert without_times(events[-1][1]) == without_times(whole)
    ids = [one["id"] for page in (first, whole) for one in page["results"]]
    assert len(set(ids)) == 8


def test_a_region_of_an_indexed_photo_has_all_pages(server: Server) -> None:
    asked_for = {"photo_id": 5, "box": [2, 1, 44, 30], "limit": 4}
    seen = []
    answer = server.post("/search", asked_for).json
    while True:
        seen += [one["id"] for one in answer["results"]]
        if answer["next"] is None:
            break
        answer = server.post("/search", asked_for | {"cursor": answer["next"]}).json
    assert sorted(seen) == [number for number in range(12) if number != 5]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"photo_id": 999}, 404),
        ({"photo_id": 1, "limit": 0}, 422),
        ({"photo_id": 1, "filters": {"after": "never"}}, 422),
        ({"photo_id": 1, "index": "x"}, 404),
        ({"photo_id": 1, "cursor": "!"}, 422),
    ],
)
def test_a_request_that_is_not_possible_has_its_status(
    server: Server, body: dict[str, Any], status: int
) -> None:
    answer = server.ask("POST", "/search", body, accept=EVENTS)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json == server.post("/search", body).json


def test_clients_that_leave_end_the_search_and_give_their_places_back(server: Server) -> None:
    for _ in range(70):  # More than there are places.
        head = (
            "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(head.encode() + b'{"photo_id":1}')
            assert client.recv(8).startswith(b"HTTP")
    assert server.post("/search", {"photo_id": 1}).status == 200


def test_a_search_nobody_waits_for_ends_at_its_next_step() -> None:
    from veduta.web.search_events import ClientLeft, SearchEvents, search_events

    closed, ended = threading.Event(), threading.Event()
    reasons: list[type[BaseException]] = []

    def search(events: SearchEvents) -> None:
        try:
            events.nearest(Hits())
            assert closed.wait(10)
            events.verified(1, 2)
        except BaseException as error:
            reasons.append(type(error))
            raise
        finally:
            ended.set()

    async def answer(events: SearchEvents) -> dict[str, Any]:
        events.answer_of = lambda hits: {"results": list(hits)}
        await asyncio.get_running_loop().run_in_executor(None, search, events)
        return {}

    async def client() -> None:
        events = search_events(answer)
        assert events_in(await anext(events)) == [("nearest", {"results": []})]
        await events.aclose()
        closed.set()
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(client())
    assert reasons == [ClientLeft]


def test_a_search_that_fails_late_says_so_in_its_last_event() -> None:
    from veduta.web.search_events import SearchEvents, search_events

    async def answer(events: SearchEvents) -> dict[str, Any]:
        events.answer_of = lambda _: {}
        events.nearest(Hits())
        await asyncio.sleep(0.01)
        raise QueryError("not this way")

    async def client() -> list[tuple[str, Any]]:
        return events_in("".join([event async for event in search_events(answer)]))

    (first, _), (last, problem) = asyncio.run(client())
    assert (first, last) == ("nearest", "problem")
    assert (problem["status"], problem["detail"]) == (422, "not this way")


@pytest.mark.parametrize("parallel", [False, True])
def test_verification_ends_when_it_is_told_to(parallel: bool) -> None:
    extractor = load_extractor("orb")
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    one = extractor.extract(pixels, 160, 120)
    told: list[int] = []
    matching = extractor.matching
    found = verify_many(one, [one] * 6, matching, parallel=parallel, on_verified=told.append)
    plain = verify_many(one, [one] * 6, matching, parallel=parallel)
    assert [len(each.inliers) for each in found] == [len(each.inliers) for each in plain]
    assert told == [1, 2, 3, 4, 5, 6]

    class Enough(Exception):
        pass

    def stop(done: int) -> None:
        told.append(done)
        raise Enough

    with pytest.raises(Enough):
        verify_many(one, [one] * 6, matching, parallel=parallel, on_verified=stop)
    assert told[6:] == [1]
