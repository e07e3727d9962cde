"""The API of a service answers as the Python surface does, and changes what it should."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from service_server import Server, made_index, serving
from tiny import save_view

import veduta
from veduta.web.cursors import SearchCursor

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("service")
    made_index(home)
    other = home / "other"
    save_view(other / "photos/0.png", 5, 1)
    with veduta.create(other / "places.veduta", encoder="fast", keypoints=None) as index:
        index.add(other / "photos")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home / "places.veduta", home / "other/places.veduta", "--metrics") as server:
        yield server


@pytest.fixture(scope="module")
def query(home: Path) -> bytes:
    save_view(home / "query.png", 1, 7, noise=0.3)
    return (home / "query.png").read_bytes()


def test_it_is_ready_and_says_what_it_serves(server: Server) -> None:
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/ready").json == {"status": "ready"}
    version = server.get("/version").json
    assert (version["version"], version["scope"]) == (veduta.__version__, "admin")
    indexes = server.get("/indexes").json["indexes"]
    assert [(one["name"], one["photos"]) for one in indexes] == [("places", 12), ("places-2", 1)]
    assert server.get("/indexes/places").json["photos"] == 12


def test_a_search_finds_what_python_finds(server: Server, home: Path, query: bytes) -> None:
    with veduta.open(home / "places.veduta") as index:
        hits = index.search(home / "query.png", k=5)
    answer = server.post_form("/search", query, options={"limit": 5})
    assert answer.status == 200
    found = answer.json["results"]
    assert [one["path"] for one in found] == [hit.path for hit in hits]
    for one, hit in zip(found, hits, strict=True):
        assert hit.evidence is not None
        assert one["id"] == hit.id
        assert one["verdict"] == hit.evidence.verdict
        assert one["inliers"] == hit.evidence.inliers
        assert one["probability"] == pytest.approx(hit.evidence.probability, abs=1e-6)
    assert found[0]["label"] == "place1"
    x, y, width, height = found[0]["box"]
    corners = found[0]["region"]
    assert all(x <= a <= x + width + 0.1 and y <= b <= y + height + 0.1 for a, b in corners)
    assert {"decode", "encode", "scan", "verify", "total"} <= answer.json["timings"].keys()
    assert answer.json["index"]["name"] == "places"


def test_pages_of_a_search_are_one_list(server: Server) -> None:
    whole = server.post("/search", {"photo_id": 5, "limit": 11}).json
    assert whole["next"] is None
    assert 5 not in [one["id"] for one in whole["results"]], "the query itself is no answer"
    assert len(whole["results"]) == 11
    paged: list[int] = []
    cursor = None
    while True:
        asked = {"photo_id": 5, "limit": 4} | ({"cursor": cursor} if cursor else {})
        page = server.post("/search", asked).json
        paged += [one["id"] for one in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == [one["id"] for one in whole["results"]]


@pytest.mark.parametrize("offset", [12, 9_999, 10_000, 2**40])
def test_a_page_after_the_last_one_is_empty(server: Server, offset: int) -> None:
    version = server.post("/search", {"photo_id": 5, "limit": 1}).json["index"]["version"]
    cursor = SearchCursor(offset, version).text()
    page = server.post("/search", {"photo_id": 5, "cursor": cursor}).json
    assert (page["results"], page["next"]) == ([], None)
    page = server.get(f"/groups?cursor={cursor}").json
    assert (page["groups"], page["next"]) == ([], None)


def test_filters_and_boxes(server: Server, home: Path, query: bytes) -> None:
    filters: dict[str, Any] = {"label": ["place0", "place2"]}
    found = server.post("/search", {"photo_id": 5, "filters": filters}).json["results"]
    assert {one["label"] for one in found} == {"place0", "place2"}
    filters = {"folder": str(home / "photos/place2")}
    found = server.post("/search", {"photo_id": 5, "filters": filters}).json["results"]
    assert {one["label"] for one in found} == {"place2"}
    boxed = {"box": [2, 1, 44, 30], "limit": 3}
    with veduta.open(home / "places.veduta") as index:
        hits = index.search(home / "query.png", k=3, crop=(2, 1, 44, 30))
        own = index.search(home / "photos/place1/1-1.png", k=4, crop=(2, 1, 44, 30))
    found = server.post_form("/search", query, options=boxed).json["results"]
    assert [one["id"] for one in found] == [hit.id for hit in hits]
    assert found[0]["query_region"] == [list(one) for one in hits[0].evidence.query_region]  # type: ignore[union-attr]
    found = server.post("/search", {"photo_id": 5, **boxed}).json["results"]
    assert [one["id"] for one in found] == [hit.id for hit in own if hit.id != 5]
    outside = server.post_form("/search", query, options={"box": [40, 2, 30, 20]})
    assert (outside.status, outside.json["type"]) == (422, "urn:veduta:problem:QueryError")
    assert "not within the photo" in outside.json["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/search", {}, 422, "no query"),
        ("/search", {"photo_id": 999}, 404, "no photo number 999"),
        ("/search", {"photo_id": 1, "index": "x"}, 404, "This server has: places, places-2"),
        ("/search", {"photo_id": 1, "cursor": "!"}, 422, "cursor"),
        ("/search", {"photo_id": 1, "limit": 0}, 422, "limit"),
        ("/search", {"photo_id": 1, "unknown": 0}, 422, "unknown"),
        ("/search", {"photo_id": 1, "filters": {"after": "never"}}, 422, "is no date"),
        (
            "/search",
            {"photo_id": 0, "index": "places-2", "rerank": "geometry"},
            422,
            "no keypoints",
        ),
        ("/match", {"photo_id": 1}, 422, "Name two photos"),
        ("/match", {"index": "places-2", "photo_id": 0, "other_id": 0}, 409, "no keypoints"),
        ("/recognize", {"index": "places-2", "photo_id": 0}, 422, "label"),
        ("/explain", {"photo_id": 1}, 422, "hit_id"),
        ("/jobs/index", {"folders": ["/no/such/folder"], "index": "x"}, 404, "There is no index"),
    ],
)
def test_problems_have_the_words_of_the_command_line(
    server: Server, path: str, body: Any, status: int, words: str
) -> None:
    answer = server.post(path, body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, answer.json["status"]) == (status, status)
    assert words in answer.json["detail"]


def test_photos_that_are_none(server: Server) -> None:
    answer = server.post_form("/search", b"no photo", name="../../etc/passwd")
    assert (answer.status, answer.json["title"]) == (415, "Unsupported Media Type")
    assert answer.json["detail"].startswith("passwd: not a photo")
    assert server.post_form("/search", b"").status == 422
    assert server.post("/search", b"{}", content_type="text/plain").status == 415
    assert server.post("/search", b"x", content_type="multipart/form-data").status == 422


def test_two_photos_are_compared(server: Server, home: Path, query: bytes) -> None:
    expected = veduta.match(home / "query.png", home / "photos/place1/1-1.png", encoder="fast")
    answer = server.post_form("/match", query, options={"other_id": 5}).json
    assert (answer["verdict"], answer["inliers"]) == (expected.verdict, expected.inliers)
    assert answer["sizes"] == [[48, 32], [48, 32]]
    assert len(answer["lines"]) == min(200, expected.inliers)
    for x1, y1, x2, y2 in answer["lines"]:
        assert 0 <= x1 <= 48 and 0 <= y1 <= 32 and 0 <= x2 <= 48 and 0 <= y2 <= 32
    same = server.post("/match", {"photo_id": 5, "other_id": 5}).json
    assert same["verdict"] == "same place"
    assert answer["geometry"] == expected.geometry
    assert (answer["is_copy"], same["is_copy"]) == (False, True)
    assert all(line[:2] == line[2:] for line in same["lines"])


def test_a_part_of_the_first_photo_is_compared(server: Server, home: Path, query: bytes) -> None:
    box = (2, 1, 44, 30)
    other = home / "photos/place1/1-1.png"
    expected = veduta.match(home / "query.png", other, crop=box, encoder="fast")
    by_id = server.post_form("/match", query, options={"other_id": 5, "box": box}).json
    by_form = server.post_form("/match", query, other.read_bytes(), options={"box": box}).json
    for answer in (by_id, by_form):
        assert (answer["verdict"], answer["inliers"]) == (expected.verdict, expected.inliers)
        assert answer["similarity"] == pytest.approx(expected.similarity, abs=1e-5)
        assert answer["sizes"] == [[44, 30], [48, 32]]
    inside = server.post("/match", {"photo_id": 5, "other_id": 5, "box": box}).json
    for x1, y1, x2, y2 in inside["lines"]:
        assert (x1, y1) == (pytest.approx(x2, abs=2), pytest.approx(y2, abs=2))
    outside = server.post("/match", {"photo_id": 5, "other_id": 5, "box": [40, 2, 30, 20]})
    assert (outside.status, "not within the photo" in outside.json["detail"]) == (422, True)


@pytest.mark.slow
def test_recognition_and_explanation(server: Server, query: bytes) -> None:
    answer = server.post_form("/recognize", query).json
    assert answer["guess"] == "place1"
    assert {one["label"] for one in answer["hits"]} <= {"place0", "place1", "place2"}
    answer = server.post_form("/explain", query, options={"hit_id": 5}).json
    rows, columns = answer["shape"]
    assert (len(answer["map"]), len(answer["map"][0])) == (rows, columns)
    assert answer["similarity"] == pytest.approx(answer["against"]["similarity"])
    body = json.dumps({"photo_id": 4, "hit_id": 5, "side": 300}).encode()
    drawn = server.post("/explain", body, Accept="image/png")
    assert Image.open(io.BytesIO(drawn.body)).format == "PNG"


def test_a_similarity_is_explained_between_any_two_photos(
    server: Server, home: Path, query: bytes
) -> None:
    answer = server.post_form("/explain", query, options={"hit_id": 5}).json
    other = (home / "photos/place1/1-1.png").read_bytes()
    both = server.post_form("/explain", query, other).json
    for one, sent in ((answer, both), (answer["against"], both["against"])):
        np.testing.assert_allclose(sent["map"], one["map"], atol=2e-4)
        assert (sent["box"], sent["size"], sent["strongest"]) == (
            one["box"],
            one["size"],
            one["strongest"],
        )
    largest = max(np.abs(one["map"]).max() for one in (answer, answer["against"]))
    assert answer["scale"]["high"] == pytest.approx(largest, abs=1e-5)
    assert all(re.fullmatch("#[0-9a-f]{6}", one) for one in answer["scale"]["colours"])
    assert server.post_form("/explain", query).status == 422
    assert server.post_form("/explain", query, other, options={"hit_id": 5}).status == 422
    part = {"box": [2, 1, 44, 30]}
    boxed = server.post_form("/explain", query, options={"hit_id": 5, **part}).json
    sent = server.post_form("/explain", query, other, options=part).json
    np.testing.assert_allclose(sent["map"], boxed["map"], atol=2e-4)
    assert sent["size"] == boxed["size"] == [44, 30]


def test_lists_of_photos(server: Server, home: Path) -> None:
    paged: list[str] = []
    cursor = ""
    while True:
        page = server.get(f"/photos?limit=5{cursor}").json
        assert page["total"] == 12
        paged += [one["path"] for one in page["photos"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert paged == sorted(map(str, (home / "photos").rglob("*.png")))
    assert server.get("/photos?label=place0&label=place2").json["total"] == 8
    assert server.get("/photos?label=none-such").json == {
        "photos": [],
        "total": 0,
        "next": None,
        "index": page["index"],
    }
    assert server.get("/photos?limit=0").status == 422
    chosen = server.get("/photos?id=5&id=2&id=999").json["photos"]
    assert [one["id"] for one in chosen] == [2, 5]
    assert server.get("/photos/ids?label=place1").json == {
        "ids": [4, 5, 6, 7],
        "index": page["index"],
    }
    assert server.get("/photos/ids?month=none&order=taken").json["ids"] == list(range(12))
    assert server.get("/photos/ids?month=2014-05").json["ids"] == []
    assert server.get("/photos/ids?month=2014-5").status == 422
    facets = server.get("/facets").json
    assert facets["labels"] == [{"label": f"place{n}", "photos": 4} for n in range(3)]
    assert facets["months"] == [{"month": None, "photos": 12}]


def test_files_of_photos(server: Server, home: Path) -> None:
    photo = server.get("/photos/5").json
    assert (photo["name"], photo["label"]) == ("1-1.png", "place1")
    original = server.get("/photos/5/original")
    assert original.body == (home / "photos/place1/1-1.png").read_bytes()
    assert original.headers["content-type"] == "image/png"
    for kind in ("thumbnail", "preview"):
        answer = server.get(f"/photos/5/{kind}")
        shown = Image.open(io.BytesIO(answer.body))
        assert (shown.format, shown.size) == ("JPEG", (48, 32))
        again = server.get(f"/photos/5/{kind}", If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
    assert server.get("/photos/5/preview?side=7").status == 422
    assert server.get("/photos/999/thumbnail").status == 404


def test_labels_change_and_change_back(server: Server) -> None:
    version = server.get("/photos/2").json
    assert version["label"] == "place0"
    changed = server.ask("PATCH", "/photos/2", {"label": "gate"}).json["changes"]
    assert changed == [{"id": 2, "label": "gate", "previous": "place0"}]
    assert server.get("/photos?label=gate").json["total"] == 1
    assert server.ask("PATCH", "/photos/3", {"label": None}).status == 200
    assert server.get("/photos/ids?unlabelled=true").json["ids"] == [3]
    assert server.get("/photos/ids?unlabelled=true&label=gate").json["ids"] == [2, 3]
    changed.append({"id": 3, "label": None, "previous": "place0"})
    back = [{"id": one["id"], "label": one["previous"]} for one in changed]
    assert server.ask("PATCH", "/photos", {"changes": back}).status == 200
    assert server.get("/photos/2").json["label"] == "place0"
    twice = {"changes": [{"id": 2, "label": "a"}, {"id": 2, "label": "b"}]}
    assert server.ask("PATCH", "/photos", twice).status == 422
    assert server.ask("PATCH", "/photos/999", {"label": "a"}).status == 404
    assert server.ask("PATCH", "/photos/2", {"label": ""}).status == 422


def test_photos_are_removed_and_come_back_when_that_is_asked(server: Server, home: Path) -> None:
    first = server.post("/search", {"photo_id": 4, "limit": 2}).json
    assert server.ask("DELETE", "/photos/11").status == 204
    assert server.get("/photos/11").status == 404
    assert (home / "photos/place2/2-3.png").exists()
    assert server.ask("DELETE", "/photos?id=10&id=999").status == 404
    assert server.ask("DELETE", "/photos?id=10&id=9").status == 204
    assert server.get("/photos/ids").json["ids"] == list(range(9))
    stale = server.post("/search", {"photo_id": 4, "limit": 2, "cursor": first["next"]})
    assert (stale.status, stale.json["type"]) == (409, "urn:veduta:problem:IndexChanged")
    started = server.post("/jobs/index", {"all_photos": True})
    assert started.status == 202
    assert started.headers["location"] == f"/api/v1/jobs/{started.json['id']}"
    stream = server.get(f"/jobs/{started.json['id']}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(line[6:]) for line in stream.body.decode().split("\n") if line[:6] == "data: "
    ]
    assert events[0]["state"] == "waiting"
    assert events[-1]["state"] == "done"
    assert events[-1]["report"]["added"] == 3
    assert server.get("/photos").json["total"] == 12
    ids = [line[4:] for line in stream.body.decode().split("\n") if line[:4] == "id: "]
    later = server.get(f"/jobs/{started.json['id']}/events", Last_Event_ID=ids[-2])
    assert later.body.decode().count("data: ") == 1
    assert server.get(f"/jobs/{started.json['id']}/events?after=7").body == stream.body
    assert server.get("/jobs").json[0]["state"] == "done"
    assert server.get("/jobs?index=places-2").json == []


def test_an_indexing_run_fails_with_words_and_can_be_cancelled(server: Server, home: Path) -> None:
    number = server.post("/jobs/index", {"folders": [str(home / "no-such")]}).json["id"]
    server.get(f"/jobs/{number}/events")
    state = server.get(f"/jobs/{number}").json
    assert state["state"] == "failed"
    assert "no-such" in state["detail"]
    more = home / "more"
    for view in range(200):
        save_view(more / f"{view}.png", 50 + view, 1, noise=0.3)
    try:
        number = server.post("/jobs/index", {"folders": [str(more)]}).json["id"]
        locked = 200
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = server.get(f"/jobs/{number}").json
            if state["state"] == "running" and state.get("done", 0) > 0:
                locked = server.post("/jobs/index", {}).status
                break
            time.sleep(0.02)
        assert locked == 409
        assert server.ask("DELETE", f"/jobs/{number}").status == 202
        server.get(f"/jobs/{number}/events")
        assert server.get(f"/jobs/{number}").json["state"] == "cancelled"
        assert server.get("/photos").json["total"] < 212
    finally:
        shutil.rmtree(more)
        veduta.open(home / "places.veduta").remove(more)
    assert server.get("/jobs/" + "0" * 32).status == 404
    assert server.get("/jobs/..%2F..%2Fetc").status == 404


def test_metrics_count_answers(server: Server) -> None:
    server.get("/no/such/path")
    server.get("/photos/999")
    text = server.get("/metrics").body.decode()
    assert 'route="/photos/{photo_id}",status="404"' in text
    assert 'route="none",status="404"' in text
    assert 'veduta_encoded_photos{index="places"}' in text
    for line in text.splitlines():
        assert line.startswith("# TYPE ") or float(line.rpartition(" ")[2]) >= 0


def test_an_index_that_is_deleted_or_replaced_is_told(server: Server, home: Path) -> None:
    folder = home / "other/places.veduta"
    kept = home / "kept"
    shutil.move(folder, kept)
    try:
        answer = server.post("/search", {"photo_id": 0, "index": "places-2", "limit": 1})
        assert (answer.status, answer.json["type"]) == (503, "urn:veduta:problem:NotAnIndex")
        assert "places.veduta" in answer.json["detail"]
        assert server.get("/ready").status == 503
        assert server.get("/photos").status == 200, "the other index still answers"
        with veduta.create(folder, encoder="fast", keypoints=None) as index:
            index.add(home / "photos/place0")
        assert server.get("/photos?index=places-2").json["total"] == 4
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(kept, folder)
    assert server.get("/photos?index=places-2").json["total"] == 1
    assert server.get("/ready").status == 200


def test_two_requests_on_one_connection(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        for _ in range(3):
            connection.request("GET", "/api/v1/health")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
    finally:
        connection.close()
