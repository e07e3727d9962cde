"""`veduta serve` with an index in an object store: newer versions, and a store that is away."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from stored import cache, change, index, made, url

import veduta
from veduta.errors import StoreError
from veduta.stored_index import cache as caches
from veduta.stored_index import publish
from veduta.stored_index.cache import CacheFolder
from veduta.stored_index.folder_store import FolderStore

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")

from service_server import serving

from veduta.web.newer_versions import NewerVersions
from veduta.web.problems import Problem
from veduta.web.served_index import ServedIndex
from veduta.web.serving import names_of

__all__ = ["cache", "index", "made", "url"]


def test_a_service_shows_newer_versions_and_refuses_changes(index: Path, url: str) -> None:
    publish(index, url)
    with serving(url, "--refresh", "0.1") as server:
        facts = server.ask("GET", "/indexes").json["indexes"][0]
        assert (facts["name"], facts["photos"], facts["notice"]) == ("store", 6, None)
        with veduta.open(index) as opened:
            opened.remove(next(iter(opened)).path)
        publish(index, url)
        end = time.monotonic() + 20
        while server.ask("GET", "/indexes").json["indexes"][0]["photos"] != 5:
            assert time.monotonic() < end
            time.sleep(0.05)
        photo = server.ask("GET", "/photos").json["photos"][0]["id"]
        for method, path, body in (
            ("PATCH", f"/photos/{photo}", {"label": "other"}),
            ("DELETE", f"/photos/{photo}", None),
            ("POST", "/jobs/index", {"folders": []}),
        ):
            answer = server.ask(method, path, None if body is None else json.dumps(body).encode())
            assert answer.status == 403, (method, answer)
            assert f"veduta index --index {url}" in answer.json["detail"]
        page = server.ask("GET", "//index").body.decode()
        assert f"veduta index --index {url}" in page and "--read-only" not in page


def test_a_newer_version_is_open_before_it_is_used(index: Path, url: str) -> None:
    publish(index, url)
    served = ServedIndex("places", url)
    served.load()
    encoder, engine = served.encoder, served._engine
    before = served.path
    veduta.open(index).edit_labels({1: "other"})
    publish(index, url)
    served.refresh()
    assert served.path != before and before.is_dir()
    assert served._engine is not engine and served._engine.state.snapshot.photos == 6
    served.load()
    assert served.encoder is encoder
    assert engine.state.snapshot.photos == 6  # A request that is at work still has its version.


def held(url: str) -> set[Path]:
    """Return the versions of an index that this process holds."""
    return {Path(one) for one in caches._held if Path(one).parent == CacheFolder(url).versions}


def test_versions_that_are_used_no_more_are_given_free(index: Path, url: str) -> None:
    publish(index, url)
    served = ServedIndex("places", url)
    newer = NewerVersions([served, ServedIndex("folder", index)], 60)
    paths = [served.path]
    for number in range(3):
        change(index, f"label {number}")
        publish(index, url)
        newer.look()
        paths.append(served.path)
        assert held(url) == set(paths[-2:])
    newer.look()
    assert held(url) == set(paths[-1:])
    assert not paths[0].exists()


def test_a_service_goes_on_while_the_store_is_away(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(index, url)
    served = ServedIndex("places", url)
    get = FolderStore.get_tagged

    def silent(*_: object, **__: object) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(FolderStore, "get_tagged", silent)
    for _ in range(3):
        served.refresh()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("veduta: the store does not answer")
    assert "Newer versions cannot be fetched now" in (served.facts()["notice"] or "")
    assert served.facts()["photos"] == 6
    again = ServedIndex("places", url)  # After a restart of the machine.
    assert again.path == served.path and again.facts()["notice"] is not None
    monkeypatch.setattr(FolderStore, "get_tagged", get)
    for one in (served, again):
        one.refresh()
        assert one.facts()["notice"] is None
    monkeypatch.setattr(FolderStore, "get_tagged", silent)
    with pytest.raises(StoreError):
        ServedIndex("other", url + "2")


def test_two_services_read_one_store(
    index: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, url)
    one = ServedIndex("places", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
    other = ServedIndex("places", url)
    assert CacheFolder(url).newest() == other.path != one.path
    assert one.version == other.version


def test_a_change_is_refused(index: Path, url: str) -> None:
    publish(index, url)
    served = ServedIndex("places", url)
    with pytest.raises(Problem, match="is in an object store"):
        served.edit_labels({1: "other"})


def test_an_index_in_a_store_is_named_after_its_address() -> None:
    places = ("s3://bucket/photos/places.veduta", Path("places"), "file:///x/y")
    assert list(names_of(places)) == ["places", "places-2", "y"]
