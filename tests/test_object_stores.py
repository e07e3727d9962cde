"""The interface of stores: the same on a folder, on a small server, and on moto's S3."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_server import BUCKET, set_environment, store_server

from veduta.errors import QueryError, StoreError
from veduta.stored_index import ObjectMissing, Store, Tag, is_store_url, open_store
from veduta.stored_index.addresses import StoreAddress


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Return the address of moto's S3 with one bucket."""
    pytest.importorskip("obstore", reason="the extra veduta[cloud] is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    import logging

    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    patch = pytest.MonkeyPatch()
    set_environment(patch, url)
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
    yield url
    patch.undo()
    running.stop()


@pytest.fixture(params=["folder", "server", "moto"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(f"file://{tmp_path}/a/b")
        return
    pytest.importorskip("obstore", reason="the extra veduta[cloud] is not installed")
    if request.param == "moto":
        set_environment(monkeypatch, request.getfixturevalue("moto"))
        yield open_store(f"s3://{BUCKET}/{tmp_path.name}")
        return
    with store_server() as server:
        set_environment(monkeypatch, server.url)
        yield open_store(f"s3://{BUCKET}/a path/b")


def test_what_is_put_can_be_read_and_removed(store: Store) -> None:
    store.put("one/two.json", b"first")
    store.put("one/two.json", b"second")
    assert store.get("one/two.json") == b"second"
    assert store.size("one/two.json") == 6
    store.delete("one/two.json")
    store.delete("one/two.json")
    assert store.size("one/two.json") is None
    with pytest.raises(ObjectMissing, match=r"one/two\.json"):
        store.get("one/two.json")


def test_an_object_that_is_too_large_is_not_read(store: Store) -> None:
    store.put("large", bytes(1000))
    with pytest.raises(StoreError, match="1,000 bytes instead of 999"):
        store.get("large", most_bytes=999)


def test_put_if_absent_writes_once(store: Store) -> None:
    assert store.put_if_absent("once", b"first")
    assert not store.put_if_absent("once", b"second")
    assert store.get("once") == b"first"


def test_put_if_unchanged_refuses_what_somebody_else_has_changed(store: Store) -> None:
    store.put("pointer", b"1")
    seen = store.get_tagged("pointer")
    assert store.put_if_unchanged("pointer", b"2", seen.tag)
    assert not store.put_if_unchanged("pointer", b"3", seen.tag)
    assert not store.put_if_unchanged("pointer", b"3", Tag('"0"'))
    assert store.get("pointer") == b"2"
    assert not store.put_if_unchanged("absent", b"3", seen.tag)
    assert store.size("absent") is None


def test_of_many_that_put_at_the_same_time_one_wins(store: Store) -> None:
    won: list[int] = []

    def put(number: int) -> None:
        if store.put_if_absent("lock", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("lock") == str(won[0]).encode()


def test_files_come_back_as_they_were(store: Store, tmp_path: Path) -> None:
    for size in (0, 1, 100_000):
        data = os.urandom(size)
        (tmp_path / "sent").write_bytes(data)
        store.put_file("folder/file", tmp_path / "sent")
        store.get_file("folder/file", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == data


def test_a_missing_object_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        store.get_file("nothing", tmp_path / "got")
    assert not list(tmp_path.glob("*got*")) and not list(tmp_path.glob(".draft*"))
    with pytest.raises(OSError, match="nothing here"):
        store.put_file("name", tmp_path / "nothing here")


def test_a_listing_names_what_is_below_a_folder(store: Store) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "c"):
        store.put(name, b"x")
    assert sorted(store.list()) == ["a/1", "a/b/2", "ab/3", "c"]
    assert sorted(store.list("a")) == ["a/1", "a/b/2"]
    assert list(store.list("nothing")) == []


def test_a_large_file_is_sent_and_read_in_parts(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, moto)
    store = open_store(f"s3://{BUCKET}/large")
    data = os.urandom(1000) * 10_000
    (tmp_path / "sent").write_bytes(data)
    store.put_file("file", tmp_path / "sent")
    store.get_file("file", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/path", True),
        ("S3://bucket/path", True),
        ("gs://bucket/path", True),
        ("az://container/path", True),
        ("file:///mnt/shared/places", True),
        ("http://host:8642", False),
        ("photos.veduta", False),
        ("C:/photos", False),
        (Path("s3://bucket/path"), False),
        (None, False),
    ],
)
def test_an_address_is_told_from_a_folder(text: object, expected: bool) -> None:
    assert is_store_url(text) is expected


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("S3://Bucket/path/", "s3://Bucket/path"),
        ("s3://bucket/a path/é", "s3://bucket/a path/é"),
        ("file:///mnt/shared/../a%20b/", "file:///mnt/a%20b"),
        ("file://localhost/mnt/a b", "file:///mnt/a%20b"),
    ],
)
def test_an_address_has_one_form(url: str, same: str) -> None:
    assert str(StoreAddress.parse(url)) == same


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///path",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/a?x=1",
        "s3://bucket/a#b",
        "s3://bucket/a\nb",
        "s3://bu cket/a",
        "file://host/folder",
        "file://relative",
        "ftp://host/path",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(QueryError, match="Write it like"):
        open_store(url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(QueryError, match="no user and no password") as caught:
        open_store("s3://name:hunter2@bucket/path")
    assert "hunter2" not in str(caught.value)


def test_a_time_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="the extra veduta[cloud] is not installed")
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("VEDUTA_STORE_SECONDS", wrong)
        with pytest.raises(QueryError, match="VEDUTA_STORE_SECONDS"):
            open_store("s3://bucket/path")
