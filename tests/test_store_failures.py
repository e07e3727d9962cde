"""Stores that refuse, lie, keep silent or lose something: clear errors, and nothing lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_server import BUCKET, Request, StoreServer, set_environment, store_server
from stored import cache, change, files_in, forget_what_is_held, index, made

import veduta
from veduta.errors import IndexChanged, NotAnIndex, StoreError
from veduta.stored_index import local_copy, open_store, publish
from veduta.stored_index.index_files import files_of_index

pytest.importorskip("obstore", reason="the extra veduta[cloud] is not installed")

__all__ = ["cache", "index", "made"]

URL = f"s3://{BUCKET}/collections/holiday"
SECRETS = ("a-secret-that-nobody-may-see", "a-name-of-a-key")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    with store_server() as server:
        set_environment(monkeypatch, server.url)
        yield server


def failure(action: object, kind: type[Exception] = StoreError) -> str:
    """Return the message of an error, which names the address and no secret."""
    with pytest.raises(kind) as caught:
        action()  # type: ignore[operator]
    message = str(caught.value)
    assert URL in message
    assert not any(secret in message for secret in SECRETS)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, StoreError)
    return message


def test_a_copy_is_asked_for_once(server: StoreServer, index: Path) -> None:
    publish(index, URL)
    copy = local_copy(URL)
    wanted = {name: (index / name).read_bytes() for name in files_of_index(index)}
    assert wanted.items() <= files_in(copy).items()
    asked = len(server.requests)
    assert local_copy(URL) == copy
    assert [one.key for one in server.requests[asked:]] == ["collections/holiday/current.json"]


def test_credentials_are_kept_nowhere(server: StoreServer, index: Path, cache: Path) -> None:
    publish(index, URL)
    local_copy(URL)
    for content in (*files_in(cache).values(), *files_in(index).values(), *server.objects.values()):
        assert not any(secret.encode() in content for secret in SECRETS)


def test_a_reader_lists_nothing_so_a_listing_that_lies_does_no_harm(
    server: StoreServer, index: Path
) -> None:
    server.listed = lambda _: []
    publish(index, URL)
    local_copy(URL)
    assert server.asked("GET") == [key for key in server.asked("GET") if key]
    server.listed = lambda keys: [*keys, f"collections/holiday/objects/1/{'0' * 64}", "other"]
    change(index, "other")
    publish(index, URL)
    forget_what_is_held()
    assert list(veduta.open(local_copy(URL)).check()) == []


def test_an_object_of_somebody_else_is_never_removed(server: StoreServer, index: Path) -> None:
    others = {f"collections/{name}": b"x" for name in ("holiday2/a", "holiday/mine", "b")}
    server.objects |= others
    for number in range(2):
        change(index, f"label {number}")
        publish(index, URL)
    assert others.items() <= server.objects.items()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "AccessDenied", r"refuses these credentials \(403 Forbidden, AccessDenied\)"),
        (401, "Unauthorized", "refuses these credentials"),
        (404, "NoSuchBucket", f"there is no bucket '{BUCKET}'"),
        (503, "SlowDown", "it answers 503 Service Unavailable, SlowDown"),
        (400, "AuthorizationHeaderMalformed", "Set AWS_REGION"),
    ],
)
def test_a_store_that_refuses(
    server: StoreServer,
    index: Path,
    status: int,
    code: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VEDUTA_STORE_SECONDS", "0.5")
    server.trouble = lambda _: (status, code)
    for action in (lambda: local_copy(URL), lambda: publish(index, URL)):
        with pytest.raises(StoreError, match=message):
            action()
        assert "the right to read" in failure(action) or status not in (401, 403)


def test_a_store_that_may_only_be_read(server: StoreServer, index: Path) -> None:
    publish(index, URL)
    server.trouble = lambda one: (403, "AccessDenied") if one.method != "GET" else None
    local_copy(URL)
    change(index, "other")
    assert "does not write" in failure(lambda: publish(index, URL))
    server.trouble = lambda _: None
    assert publish(index, URL).version == 2


def test_old_versions_that_may_not_be_removed_are_a_note(server: StoreServer, index: Path) -> None:
    publish(index, URL)
    server.objects[f"collections/holiday/objects/1/{'0' * 64}"] = b"left by a killed publication"
    for forbidden in (lambda one: one.method == "DELETE", lambda one: "list-type" in one.query):
        server.trouble = lambda one, forbidden=forbidden: (
            (403, "AccessDenied") if forbidden(one) else None
        )
        change(index, str(forbidden))
        report = publish(index, URL)
        assert report.note is not None
        assert report.note.startswith(f"Version {report.version} is published. Old ones are not")


def test_a_bucket_that_is_missing(server: StoreServer, index: Path) -> None:
    missing = "s3://nothing-here/path"
    for action in (lambda: local_copy(missing), lambda: publish(index, missing)):
        with pytest.raises(StoreError, match="there is no bucket 'nothing-here'"):
            action()


def test_an_address_without_index(server: StoreServer) -> None:
    assert "holds no index" in failure(lambda: local_copy(URL), NotAnIndex)


def test_a_store_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, server: StoreServer
) -> None:
    set_environment(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("VEDUTA_STORE_SECONDS", "1")
    message = failure(lambda: local_copy(URL))
    assert "cannot be reached" in message
    assert "AWS_ENDPOINT_URL" in message


def test_a_store_that_keeps_silent_is_given_up_in_time(
    server: StoreServer, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEDUTA_STORE_SECONDS", "1")
    over = threading.Event()
    server.trouble = lambda _: over.wait(30) and None
    started = time.monotonic()
    assert "does not answer in time" in failure(lambda: local_copy(URL))
    assert time.monotonic() - started < 3
    over.set()


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, server: StoreServer) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("VEDUTA_STORE_SECONDS", "1")
    message = failure(lambda: local_copy(URL))
    assert "no credentials" in message and "AWS_ACCESS_KEY_ID" in message
    assert server.requests == []


def test_plain_http_needs_an_endpoint_that_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, server: StoreServer
) -> None:
    assert open_store(URL)._store.client_options["allow_http"] == "true"  # type: ignore[attr-defined]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert open_store(URL)._store.client_options["allow_http"] == "false"  # type: ignore[attr-defined]


def test_the_copy_at_hand_is_named_if_the_store_is_away(
    server: StoreServer, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, URL)
    copy = local_copy(URL)
    server.trouble = lambda _: (403, "AccessDenied")
    assert f"--index {copy}" in failure(lambda: local_copy(URL))


@pytest.mark.parametrize("kind", ["changed", "cut off", "longer"])
def test_a_piece_with_other_bytes_is_refused(
    server: StoreServer, index: Path, cache: Path, kind: str
) -> None:
    publish(index, URL)
    damage = {
        "changed": lambda data: bytes([data[0] ^ 1]) + data[1:],
        "cut off": lambda data: data[:-1],
        "longer": lambda data: data + b"x",
    }[kind]
    server.change = lambda key, data: damage(data) if "/objects/" in key else data
    message = failure(lambda: local_copy(URL))
    assert "objects/1/" in message
    assert not list(cache.glob("veduta/indexes/*/versions/1-*"))
    server.change = lambda _, data: data
    assert list(veduta.open(local_copy(URL)).check()) == []


def test_a_piece_that_came_damaged_once_is_fetched_again(server: StoreServer, index: Path) -> None:
    publish(index, URL)
    seen: set[str] = set()

    def damage_once(key: str, data: bytes) -> bytes:
        if "/objects/" not in key or key in seen:
            return data
        seen.add(key)
        return data[:-1] + bytes([data[-1] ^ 1])

    server.change = damage_once
    assert list(veduta.open(local_copy(URL)).check()) == []


@pytest.mark.parametrize("name", ["objects/1/", "versions/1-"])
def test_an_object_that_is_gone_is_named_and_the_remedy_helps(
    server: StoreServer, index: Path, name: str
) -> None:
    publish(index, URL)
    gone = next(key for key in server.objects if name in key)
    del server.objects[gone]
    message = failure(lambda: local_copy(URL))
    assert gone.removeprefix("collections/holiday/") in message
    assert f"veduta publish {URL} --index INDEX --replace" in message
    assert publish(index, URL, replace=True).sent_bytes > 0
    assert list(veduta.open(local_copy(URL)).check()) == []


def test_a_listing_with_other_bytes_is_refused(server: StoreServer, index: Path) -> None:
    publish(index, URL)
    server.change = lambda key, data: data + b" " if "/versions/" in key else data
    assert "does not match its checksum" in failure(lambda: local_copy(URL))


@pytest.mark.parametrize("ignored", ["If-None-Match", "If-Match", "both"])
def test_a_store_without_conditional_writes_is_refused(
    server: StoreServer, index: Path, ignored: str
) -> None:
    server.ignored = ("If-None-Match", "If-Match") if ignored == "both" else (ignored,)
    assert "no conditional writes" in failure(lambda: publish(index, URL))
    assert "collections/holiday/current.json" not in server.objects
    server.ignored = ()
    assert publish(index, URL).version == 1


def test_a_store_that_does_not_know_conditional_writes(server: StoreServer, index: Path) -> None:
    server.trouble = lambda one: (501, "NotImplemented") if one.method == "PUT" else None
    assert "501" in failure(lambda: publish(index, URL))


def test_the_pointer_is_written_only_if_it_is_unchanged(
    server: StoreServer, index: Path, tmp_path: Path
) -> None:
    """The other writer comes between the last look and the write."""
    publish(index, URL)
    before = server.objects["collections/holiday/current.json"]
    change(index, "other")

    def change_before_put(one: Request) -> None:
        if one.method == "PUT" and one.key.endswith("current.json"):
            server.objects[one.key] = before + b" "

    server.trouble = change_before_put
    assert "changed by another process" in failure(lambda: publish(index, URL), IndexChanged)
    server.trouble = lambda _: None
    server.objects["collections/holiday/current.json"] = before
    assert publish(index, URL).version == 2


def test_an_error_after_the_pointer_was_written_is_no_error(
    server: StoreServer, index: Path
) -> None:
    def write_and_fail(one: Request) -> tuple[int, str] | None:
        key = "collections/holiday/current.json"
        if one.method == "PUT" and one.key == key and key not in server.objects:
            server.objects[key] = one.body
            return 500, "InternalError"
        return None

    server.trouble = write_and_fail
    assert publish(index, URL).version == 1
    assert list(veduta.open(local_copy(URL)).check()) == []


def test_nothing_else_of_the_environment_is_printed(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.stored_index.addresses import StoreAddress
    from veduta.stored_index.cloud_errors import store_error

    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=abc")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    text = f"Generic: at http://host/path?sig=abc&x with sig=abc and {secret}"
    message = str(store_error(ValueError(text), StoreAddress.parse(URL), "x", "read"))
    assert "sig=abc" not in message and secret not in message and "host" not in message
