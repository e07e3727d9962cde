"""Indexes that are published in a store, and copied from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from stored import (
    answers,
    cache,
    change,
    content_of_change,
    end_of,
    files_in,
    forget_what_is_held,
    in_another_process,
    index,
    made,
    url,
)

import veduta
from veduta.errors import (
    IndexChanged,
    IndexDamaged,
    IndexLocked,
    NotAnIndex,
    StorageFull,
    StoreError,
)
from veduta.index.table import writer_lock
from veduta.stored_index import fetching, listing, local_copy, open_store, publish, publishing
from veduta.stored_index.folder_store import FolderStore
from veduta.stored_index.index_files import files_of_index, is_index_file
from veduta.stored_index.listing import content_of, encoded, read_listing, read_pointer

__all__ = ["cache", "index", "made", "url"]


def names_in(url: str, folder: str) -> set[str]:
    return set(open_store(url).list(folder))


def published(url: str) -> listing.Listing:
    store = open_store(url)
    found = read_pointer(store)
    assert found is not None
    return read_listing(store, found[0].listing, found[0].digest)


def test_a_copy_has_the_same_files_and_gives_the_same_answers(
    made: Path, index: Path, url: str
) -> None:
    report = publish(index, url)
    assert (report.version, report.is_new, report.note) == (1, True, None)
    copy = local_copy(url)
    wanted = {name: (index / name).read_bytes() for name in files_of_index(index)}
    assert {name: files_in(copy)[name] for name in wanted} == wanted
    assert set(files_in(copy)) - set(wanted) == {"published.json"}
    assert answers(copy, made / "photos") == answers(index, made / "photos")
    assert list(veduta.open(copy).check()) == []


def test_files_of_one_machine_are_not_published(index: Path, url: str) -> None:
    for name in ("jobs/1/job.json", "damaged/x", "notes.txt", "keypoints/.draft-1", "secret/key"):
        (index / name).parent.mkdir(parents=True, exist_ok=True)
        (index / name).write_text("private")
    publish(index, url)
    names = set(published(url).files)
    assert names == {name for name in names if is_index_file(name)}
    objects = [open_store(url).get(name) for name in names_in(url, "objects")]
    assert b"private" not in objects
    assert not any(name.endswith(("stamps.json", "writer.lock")) for name in names)


def test_all_files_of_an_index_are_published(made: Path, index: Path, url: str) -> None:
    """A new kind of file must be named in `index_files`, or here."""
    with veduta.open(index) as opened:
        opened.edit_labels({1: "other"})
        opened.remove(made / "photos/place0/1.png")
    ours = {"writer.lock"}
    left = {name for name in files_in(index) if not is_index_file(name)}
    assert {name for name in left if not name.endswith("stamps.json")} == ours
    assert is_index_file(f"projection-{'0a' * 8}.npz") and is_index_file("cells/0a/cells.npz")


def test_what_the_version_before_has_is_not_sent_or_fetched_again(index: Path, url: str) -> None:
    first = publish(index, url)
    before = local_copy(url)
    change(index, "other")
    second = publish(index, url)
    assert second.version == 2
    assert 0 < second.sent_bytes < first.sent_bytes
    seen: list[tuple[int, int]] = []
    asked: list[str] = []
    get = fetching._Copy._content

    def counted(copy: Any, piece: str, size: int) -> bytes:
        if listing.digest_of_piece(piece) not in copy.local:
            asked.append(piece)
        return get(copy, piece, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching._Copy, "_content", counted)
        after = local_copy(url, on_progress=lambda done, total: seen.append((done, total)))
    assert before != after and before.is_dir()
    assert {listing.version_of(piece) for piece in asked} == {2}
    assert seen[-1][0] == seen[-1][1] == published(url).bytes


def test_a_file_that_grew_shares_its_pieces(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PIECE_BYTES", 1000)
    old = os.urandom(3500)
    (index / "keypoints/7").write_bytes(old)
    monkeypatch.setattr(
        publishing, "Listing", lambda *a, **b: listing.Listing(*a, **b, piece_bytes=1000)
    )
    publish(index, url)
    (index / "keypoints/7").write_bytes(old + b"more")
    report = publish(index, url)
    assert report.sent_bytes == 504
    assert [listing.version_of(one) for one in published(url).files["keypoints/7"].pieces] == [
        1,
        1,
        1,
        2,
    ]
    assert (local_copy(url) / "keypoints/7").read_bytes() == old + b"more"


def test_the_same_index_is_not_published_twice(index: Path, url: str) -> None:
    publish(index, url)
    report = publish(index, url)
    assert (report.version, report.is_new, report.sent_bytes) == (1, False, 0)
    (index / "published.json").write_text("damaged")
    with pytest.raises(IndexChanged, match="holds an index already"):
        publish(index, url)


def test_the_second_of_two_writers_is_refused(index: Path, url: str, tmp_path: Path) -> None:
    publish(index, url)
    other = shutil.copytree(index, tmp_path / "other")
    change(index, "mine")
    change(other, "theirs")
    publish(other, url)
    with pytest.raises(IndexChanged, match=r"version 2.*comes from version 1") as caught:
        publish(index, url)
    assert f"veduta merge {index} --index {url}" in str(caught.value)
    assert "--replace" in str(caught.value)
    assert content_of_change(local_copy(url)) == "theirs"
    assert publish(index, url, replace=True).version == 3
    assert content_of_change(local_copy(url)) == "mine"


def test_two_that_publish_at_the_same_moment(
    index: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, url)
    other = shutil.copytree(index, tmp_path / "other")
    change(index, "mine")
    change(other, "theirs")
    send = publishing._send

    def send_while_another_publishes(*values: Any) -> int:
        monkeypatch.setattr(publishing, "_send", send)
        publish(other, url)
        return send(*values)

    monkeypatch.setattr(publishing, "_send", send_while_another_publishes)
    with pytest.raises(IndexChanged, match="while this index was published"):
        publish(index, url)
    assert content_of_change(local_copy(url)) == "theirs"
    assert content_of_change(index) == "mine"


def test_an_answer_that_is_lost_is_looked_up(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = FolderStore.put_if_absent

    def put_without_answer(store: Any, name: str, data: bytes) -> bool:
        done = put(store, name, data)
        if name == "current.json":
            raise StoreError("no answer")
        return done

    monkeypatch.setattr(FolderStore, "put_if_absent", put_without_answer)
    assert publish(index, url).version == 1


def publish_and_die(index: Path, url: str, moment: str) -> None:
    """Publish, and end like a process that is killed."""
    calls: list[str] = []
    real = getattr(publishing, moment)
    put = FolderStore.put

    def die(*values: Any) -> Any:
        calls.append(moment)
        # The first record is written before anything is sent, the second one at the end.
        if moment != "_remember" or len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*values)

    def put_one(store: FolderStore, name: str, data: bytes) -> None:
        put(store, name, data)
        if name.startswith("objects/2/"):
            die()

    publishing.TRANSFERS = 1
    if moment == "_send":
        FolderStore.put = put_one  # type: ignore[method-assign]
    else:
        setattr(publishing, moment, die)
    publish(index, url)


@pytest.mark.parametrize("moment", ["_send", "_make_current", "_remember"])
def test_a_publication_that_is_killed_is_completed_by_the_next(
    index: Path, url: str, moment: str
) -> None:
    publish(index, url)
    change(index, "other")
    before = files_in(local_copy(url))
    assert (
        end_of(in_another_process(lambda: publish_and_die(index, url, moment))) == -signal.SIGKILL
    )
    is_there = moment == "_remember"
    assert (files_in(local_copy(url)) == before) is not is_there
    report = publish(index, url)
    assert (report.version, report.is_new) == (2, not is_there)
    assert content_of_change(local_copy(url)) == "other"
    if moment == "_send":  # What was there already was not sent again.
        sent = sum(size for size in map(open_store(url).size, names_in(url, "objects/2")) if size)
        assert 0 < report.sent_bytes < sent
    change(index, "third")
    assert publish(index, url).version == 3


def test_old_versions_are_removed_from_the_store(index: Path, url: str) -> None:
    for number in range(5):
        change(index, f"label {number}")
        publish(index, url)
    assert {listing.version_of(name) for name in names_in(url, "versions")} == {3, 4, 5}
    store = open_store(url)
    needed = {
        piece for name in names_in(url, "versions") for piece in read_listing(store, name).pieces
    }
    assert names_in(url, "objects") == needed


def test_what_killed_publications_left_is_removed_and_no_newer_piece(index: Path, url: str) -> None:
    publish(index, url)
    store = open_store(url)
    left, newer = f"objects/2/{'0' * 64}", f"objects/3/{'0' * 64}"
    for name in (left, newer, "versions/9-0123456789abcdef.json", "objects/mine.txt"):
        store.put(name, b"x")
    change(index, "other")
    publish(index, url)
    assert store.size(left) is None
    assert store.size(newer) == 1  # Somebody may be publishing version 3 now.
    assert store.size("objects/mine.txt") == 1


def test_a_version_that_is_removed_while_it_is_fetched_gives_way_to_a_newer_one(
    index: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, url)
    fetch = fetching._fetch

    def fetch_while_others_publish(*values: Any, **options: Any) -> None:
        monkeypatch.setattr(fetching, "_fetch", fetch)
        for number in range(4):
            change(index, f"label {number}")
            publish(index, url)
        fetch(*values, **options)

    monkeypatch.setattr(fetching, "_fetch", fetch_while_others_publish)
    assert local_copy(url).name.startswith("5-")


def test_a_version_that_is_read_stays_and_others_go(index: Path, url: str) -> None:
    publish(index, url)
    (has_read, tell_read), (may_end, tell_end) = os.pipe(), os.pipe()

    def read_until_told() -> None:
        os.write(tell_read, os.fsencode(local_copy(url)))
        os.read(may_end, 1)

    reader = in_another_process(read_until_told)
    read = Path(os.fsdecode(os.read(has_read, 1000)))
    copies = [read]
    for number in range(2):
        change(index, f"label {number}")
        publish(index, url)
        copies.append(local_copy(url))
        forget_what_is_held()
    assert [path.is_dir() for path in copies] == [True, False, True]
    assert list(veduta.open(read).check()) == []
    os.write(tell_end, b"x")
    assert end_of(reader) == 0
    for end in (has_read, tell_read, may_end, tell_end):
        os.close(end)
    change(index, "last")
    publish(index, url)
    last = local_copy(url)
    assert [path.name for path in last.parent.iterdir()] == [last.name]


def test_processes_that_fetch_at_the_same_time_share_one_copy(index: Path, url: str) -> None:
    publish(index, url)
    running = [in_another_process(lambda: local_copy(url)) for _ in range(4)]
    assert [end_of(process) for process in running] == [0, 0, 0, 0]
    copy = local_copy(url)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_fetch_that_is_killed_continues(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, url)
    content = fetching._Copy._content
    asked: list[str] = []

    def interrupted(copy: Any, piece: str, size: int) -> bytes:
        asked.append(piece)
        if len(asked) == 10:
            raise KeyboardInterrupt
        return content(copy, piece, size)

    monkeypatch.setattr(fetching._Copy, "_content", interrupted)
    monkeypatch.setattr(fetching, "TRANSFERS", 1)
    with pytest.raises(KeyboardInterrupt):
        local_copy(url)
    first, asked[:] = set(asked[:9]), []
    monkeypatch.setattr(fetching._Copy, "_content", lambda *a: asked.append(a[1]) or content(*a))
    copy = local_copy(url)
    twice = set(published(url).files["index.json"].pieces)  # Its copy has the same content.
    assert len(first) >= 8 and first.isdisjoint(set(asked) - twice)
    assert list(veduta.open(copy).check()) == []


def test_a_copy_that_lost_a_file_is_made_again(index: Path, url: str) -> None:
    publish(index, url)
    copy = local_copy(url)
    file = next((copy / "keypoints").iterdir())
    file.write_bytes(b"")
    assert local_copy(url) == copy
    assert file.stat().st_size > 0
    shutil.rmtree(copy)
    assert (local_copy(url) / "index.json").is_file()


def test_a_snapshot_that_a_search_made_anew_is_no_reason_to_fetch(index: Path, url: str) -> None:
    publish(index, url)
    copy = local_copy(url)
    shutil.rmtree(copy / "snapshot")
    inode = (copy / "index.json").stat().st_ino
    assert local_copy(url) == copy
    assert (copy / "index.json").stat().st_ino == inode


def test_file_systems_without_links_and_locks(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.stored_index import cache

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(cache, "fcntl", None)
    publish(index, url)
    local_copy(url)
    change(index, "other")
    publish(index, url)
    copy = local_copy(url)
    assert list(veduta.open(copy).check()) == []
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_no_index_at_an_address(url: str) -> None:
    with pytest.raises(NotAnIndex, match=f"{url} holds no index. Publish one: veduta publish"):
        local_copy(url)


def test_an_index_that_is_being_written_is_not_published(index: Path, url: str) -> None:
    with writer_lock(index), pytest.raises(IndexLocked):
        publish(index, url)


def test_a_folder_without_index_is_not_published(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotAnIndex):
        publish(tmp_path / "nothing", url)


@pytest.mark.parametrize("part", ["photos.lance/data", "graph", "snapshot"])
def test_a_damaged_index_is_not_published(index: Path, url: str, part: str) -> None:
    files = [path for path in (index / part).rglob("*") if path.suffix not in (".json", ".arrow")]
    file = max(filter(Path.is_file, files), key=lambda path: path.stat().st_size)
    stamp = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    with file.open("r+b") as stream:
        stream.write(data)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    if part == "snapshot":  # It is made again.
        assert publish(index, url).is_new
        assert list(veduta.open(local_copy(url)).check()) == []
    else:
        with pytest.raises(IndexDamaged, match="damaged"):
            publish(index, url)
        assert read_pointer(open_store(url)) is None


def test_an_index_on_a_disk_that_is_read_only_is_published(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.errors import CannotWrite
    from veduta.stored_index.record import Record

    def refuse(_: Record, folder: Path) -> None:
        raise CannotWrite(folder / "published.json", OSError(30, "read-only"))

    monkeypatch.setattr(Record, "write", refuse)
    report = publish(index, url)
    assert report.note is not None and "--replace" in report.note
    with pytest.raises(IndexChanged):
        change(index, "other")
        publish(index, url)


def test_too_little_room_is_said_before_anything_is_fetched(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, url)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(StorageFull, match="XDG_CACHE_HOME"):
        local_copy(url)


def test_an_index_of_a_newer_version_is_refused_before_it_is_fetched(index: Path, url: str) -> None:
    from veduta.index.manifest import _checksum

    values = json.loads((index / "index.json").read_text())
    del values["checksum"]
    values |= {"needs": ["mosaics"], "written_by": "99.1", "format": values["format"] + 1}
    values["checksum"] = _checksum(values)
    publish(index, url)
    change_object(url, "index.json", json.dumps(values).encode())
    with pytest.raises(IndexDamaged, match=r"veduta>=99\.1") as caught:
        local_copy(url)
    assert str(caught.value).startswith(f"{url} was written by Veduta 99.1")


def change_object(url: str, name: str, data: bytes) -> None:
    """Put another file into the current version, as a newer Veduta would have published it."""
    store = open_store(url)
    found = read_pointer(store)
    assert found is not None
    old = read_listing(store, found[0].listing)
    piece = listing.piece_name(1, content_of(data))
    store.put(piece, data)
    files = {**old.files, name: listing.StoredFile(len(data), (piece,))}
    put_listing(url, encoded(listing.Listing(1, files)))


def put_listing(url: str, data: bytes) -> None:
    store = open_store(url)
    digest = content_of(data)
    name = listing.listing_name(1, digest)
    store.put(name, data)
    store.put("current.json", encoded(listing.Pointer(1, name, digest)))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "", "a//b", "a\nb"],
)
def test_a_listing_cannot_name_files_outside_the_copy(index: Path, url: str, name: str) -> None:
    publish(index, url)
    values = json.loads(encoded(published(url)))
    values["files"][name] = values["files"]["index.json"]
    put_listing(url, json.dumps(values).encode())
    with pytest.raises(IndexDamaged, match="is no file of an index"):
        local_copy(url)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, r"layout 2.*pip install --upgrade 'veduta>=0\.0\.test'"),
        ("format", "x", "does not read"),
        ("version", 0, "does not read"),
        ("piece_bytes", 0, "does not read"),
        ("files", {"index.json": {"size": -1, "pieces": []}}, "does not read"),
        ("files", {"index.json": {"size": 1, "pieces": []}}, "0 pieces and 1 bytes"),
        ("files", {"index.json": {"size": 1, "pieces": ["../../x"]}}, "does not read"),
    ],
)
def test_a_listing_that_makes_no_sense(
    index: Path, url: str, key: str, value: object, message: str
) -> None:
    publish(index, url)
    values = json.loads(encoded(published(url))) | {"written_by": "0.0.test", key: value}
    put_listing(url, json.dumps(values).encode())
    with pytest.raises(IndexDamaged, match=message):
        local_copy(url)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00", "[" * 2000])
def test_a_pointer_that_makes_no_sense(index: Path, url: str, text: str) -> None:
    publish(index, url)
    open_store(url).put("current.json", text.encode())
    with pytest.raises(IndexDamaged, match=r"current\.json does not read"):
        local_copy(url)


def test_no_clock_decides_anything(index: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = time.time()
    for jump in (0.0, -1e8, 1e8, -1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        change(index, f"label {jump}")
        version = publish(index, url).version
        copy = local_copy(url)
        assert copy.name.startswith(f"{version}-")
        for path in (copy, *copy.parent.iterdir()):
            os.utime(path, (now - jump, now - jump))
    assert version == 4
