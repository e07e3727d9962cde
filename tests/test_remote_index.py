"""An index of a service has the surface of a local one, and gives the same answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_server import Server, made_index, serving
from tiny import save_view

import veduta
from veduta.errors import CollectionError, NotAPhoto, PhotoUnreadable, QueryError, ServiceError
from veduta.web.keys import KeyFile

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("remote")
    made_index(home, scenes=2, views=3)
    save_view(home / "query.png", 1, 7, noise=0.3)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    key = KeyFile(home / "keys.json").create("admin")
    with serving(home / "places.veduta", "--require-key", "--keys", home / "keys.json") as server:
        server.key = key
        yield server


@pytest.fixture(scope="module")
def local(home: Path) -> veduta.Index:
    return veduta.open(home / "places.veduta")


@pytest.fixture(scope="module")
def remote(server: Server) -> veduta.Index:
    return veduta.open(server.url, key=server.key)


def same(found: veduta.Hits, expected: veduta.Hits) -> None:
    """Compare hits but for the digits that JSON does not carry."""
    assert [hit.path for hit in found] == [hit.path for hit in expected]
    assert found.orientation == expected.orientation
    for one, other in zip(found.as_json(), expected.as_json(), strict=True):
        spreads = one.pop("spread", None), other.pop("spread", None)
        assert spreads[0] == pytest.approx(spreads[1], abs=1e-3)
        assert one == other


def test_searches_find_the_same(local: veduta.Index, remote: veduta.Index, home: Path) -> None:
    query = home / "query.png"
    same(remote.search(query, k=4), local.search(query, k=4))
    same(remote.search(query, k=2, label="place0"), local.search(query, k=2, label="place0"))
    pixels = np.asarray(Image.open(query).convert("RGB"))
    same(remote.search(pixels, rerank="none"), local.search(pixels, rerank="none"))
    both = [query, home / "photos/place1/1-0.png"]
    same(remote.search(*both, k=3), local.search(*both, k=3))
    crop = (2, 1, 44, 30)
    same(remote.search(query, crop=crop, k=3), local.search(query, crop=crop, k=3))
    same(remote.search_like(3), local.search_like(3))
    wrong = local.search(query, k=1)[0].id
    same(remote.search(query, not_ids=[wrong]), local.search(query, not_ids=[wrong]))
    marked = remote.search(home / "photos/place1/1-0.png", mark_copies=True)
    assert marked[0].copy_of == "query"
    same(marked, local.search(home / "photos/place1/1-0.png", mark_copies=True))
    options = veduta.SearchOptions(k=2, rerank="global")
    many = list(remote.search_many([query, both], options=options))
    for found, expected in zip(
        many, local.search_many([query, both], options=options), strict=True
    ):
        same(found, expected)


def test_photos_are_the_same(local: veduta.Index, remote: veduta.Index, home: Path) -> None:
    assert len(remote) == len(local) == 6
    assert sorted(remote, key=lambda one: one.id) == sorted(local, key=lambda one: one.id)
    assert home / "photos/place0/0-1.png" in remote
    assert home / "photos/place0" not in remote
    hits = local.search(home / "query.png", k=3)
    assert remote.thumbnails(hits) == local.thumbnails(hits)
    assert remote.status()["photos"] == 6
    assert remote.notice == local.notice


def test_labels_and_photos_change(remote: veduta.Index, local: veduta.Index, home: Path) -> None:
    photo = home / "photos/place0/0-2.png"
    number = next(one.id for one in remote if one.path == str(photo))
    changes = remote.edit_labels({number: "gate"})
    assert [(one.label, one.previous) for one in changes] == [("gate", "place0")]
    assert next(one.label for one in local if one.id == number) == "gate"
    remote.edit_labels({one.id: one.previous for one in changes})
    assert remote.remove(photo, home / "no-such") == 1
    assert photo not in local
    progress: list[int] = []
    report = remote.add(all_photos=True, on_progress=lambda state: progress.append(state.total))
    assert (report.added, report.unchanged, report.total) == (1, 5, 6)
    assert progress
    with pytest.raises(CollectionError, match="no-such"):
        remote.add(home / "no-such")


def test_errors_are_those_of_a_local_index(
    remote: veduta.Index, server: Server, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.jpg").write_text("no photo")
    with pytest.raises(NotAPhoto, match=r"none\.jpg: not a photo"):
        remote.search(tmp_path / "none.jpg")
    with pytest.raises(PhotoUnreadable):
        remote.search(tmp_path / "missing.jpg")
    with pytest.raises(QueryError, match="not within the photo"):
        remote.search(home / "query.png", crop=(40, 2, 30, 20))
    for wrong in ({"k": 0}, {"distance": "euclidean"}, {"orientation": "x"}, {"unknown": 1}):
        with pytest.raises(QueryError):
            remote.search(home / "query.png", **wrong)  # type: ignore[arg-type]
    for call in (remote.descriptors, lambda: remote.encode(home / "query.png")):
        with pytest.raises(QueryError, match="needs the files of the index"):
            call()
    with pytest.raises(ServiceError, match="needs a key"):
        veduta.open(server.url)
    with pytest.raises(QueryError, match="It has: places"):
        veduta.open(server.url, key=server.key, name="x")
    with pytest.raises(QueryError, match="no address of a service"):
        veduta.open("http://")


def test_a_service_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServiceError, match="veduta serve"):
        veduta.open(f"http://127.0.0.1:{port}")


@pytest.mark.slow
def test_recognition_is_the_same(remote: veduta.Index, local: veduta.Index, home: Path) -> None:
    found, expected = (one.recognize(home / "query.png") for one in (remote, local))
    same(veduta.Hits(found.hits), veduta.Hits(expected.hits))
    rounded = replace(found, hits=(), confidence=0.0, threshold=0.0, runners_up=())
    assert rounded == replace(expected, hits=(), confidence=0.0, threshold=0.0, runners_up=())
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-6)
