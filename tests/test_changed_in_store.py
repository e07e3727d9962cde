"""Indexes in stores that are changed: by commands, by Python, by two writers at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from stored import cache, files_in, index, made, url
from tiny import save_view

import veduta
from veduta.cli.main import run
from veduta.errors import IndexChanged, IndexLocked, NotAnIndex, QueryError
from veduta.stored_index import changing, local_copy, open_store, publish
from veduta.stored_index.cache import CacheFolder

__all__ = ["cache", "index", "made", "url"]


@pytest.fixture
def photos(made: Path, tmp_path: Path) -> Path:
    """Return a folder with the photos of the index, which the test may change."""
    return shutil.copytree(made / "photos", tmp_path / "photos")


def test_each_command_that_reads_takes_an_address(
    made: Path, index: Path, url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish(index, url)
    query = str(made / "photos/place0/0.png")
    commands = (
        ("search", query, "--json", "--rerank", "none"),
        ("status",),
        ("check",),
        ("group", "--json"),
        ("recognize", query, "--json"),
        ("explain", query, "--json"),
        ("status", "--json"),
    )
    for command in commands:
        printed = []
        for place in (str(index), url):
            assert run([*command, "--index", place]) in (0, 1), command
            printed.append(capsys.readouterr().out.replace(str(index), url))
        assert _timeless(printed[0]) == _timeless(printed[1]), command
        assert str(tmp_path / "cache") not in printed[1], command
    for place in (str(index), url):
        assert run(["export", place, "--descriptors", str(tmp_path / f"{len(place)}.npy")]) == 0
    first, second = sorted(tmp_path.glob("*.npy"))
    assert first.read_bytes() == second.read_bytes()


def _timeless(text: str) -> list[str]:
    """Return the lines that do not say how large the folder is, or how long something took."""
    return [
        line for line in text.splitlines() if not {"bytes", "size", "seconds"} & set(_words(line))
    ]


def _words(line: str) -> list[str]:
    return line.replace('"', " ").replace(":", " ").split()


def test_the_default_index_may_be_an_address(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(index, url)
    monkeypatch.setenv("VEDUTA_INDEX", url)
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["index"] == url


def test_an_index_is_made_in_a_store_and_updated(
    photos: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["index", str(photos), "--index", url, "--encoder", "fast", "--keypoints", "none"]
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert f"6 photos in {url}" in printed.out
    assert f"Published version 1 of {url}" in printed.err
    save_view(photos / "place0/new.png", 0, 7)
    assert run(["index", "--index", url]) == 0
    assert "7 photos" in capsys.readouterr().out
    with veduta.open(url) as opened:
        assert len(opened) == 7
    assert run(["index", "--index", url]) == 0
    assert "version 2" in capsys.readouterr().err


def test_each_command_that_changes_publishes(
    made: Path, index: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(index, url)
    before = files_in(local_copy(url))
    assert run(["forget", str(made / "photos/place1"), "--index", url]) == 0
    assert run(["merge", str(index), "--index", url, "--json"]) == 0
    assert run(["index", "--index", url, "--labels", "none", "--allow-label-loss"]) == 0
    capsys.readouterr()
    assert run(["repair", "--index", url]) == 0
    assert "Nothing was damaged." in capsys.readouterr().out
    # No version that is there was changed, also not by way of a second name of a file.
    for name, content in files_in(CacheFolder(url).versions).items():
        if name.startswith("1-") and not name.endswith("stamps.json"):
            assert before[name.partition("/")[2]] == content, name


def test_shards_in_stores_are_merged_into_a_store(photos: Path, made: Path, tmp_path: Path) -> None:
    parts = [(tmp_path / f"store/part{number}").as_uri() for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        options = ["--encoder", "fast", "--keypoints", "orb:64", "--shard", f"{number}/2"]
        assert run(["index", str(made / "photos"), "--index", part, *options]) == 0
    whole = (tmp_path / "store/whole").as_uri()
    assert run(["merge", *parts, "--index", whole]) == 0
    query = made / "photos/place0/0.png"
    with veduta.open(made / "index") as one, veduta.open(whole) as other:
        assert [hit.path for hit in one.search(query)] == [hit.path for hit in other.search(query)]
        assert [hit.score for hit in one.search(query)] == [
            hit.score for hit in other.search(query)
        ]


def test_python_changes_an_index_in_a_store(index: Path, url: str, made: Path) -> None:
    publish(index, url)
    with veduta.open(url) as opened, veduta.open(url) as other:
        assert repr(opened) == f"<veduta.Index '{url}', encoder 'fast'>"
        assert opened.search(made / "photos/place0/0.png")
        encoder = opened.encoder
        opened.edit_labels({1: "other"})
        assert opened.remove(made / "photos/place1/1.png") == 1
        assert (len(opened), len(other)) == (5, 6)
        assert other.refresh() and not other.refresh()
        assert len(other) == 5
        assert len(opened.search(made / "photos/place0/0.png")) == 5
        assert opened.encoder is encoder
    assert not veduta.open(index).refresh()
    assert veduta.open(url).status()["removed"] == 1


def test_python_creates_an_index_in_a_store(photos: Path, url: str) -> None:
    from veduta import api

    with veduta.create(url, encoder="fast", keypoints=None) as opened:
        assert len(opened) == 0
        opened.add(photos, labels="folders")
        assert len(opened) == 6
    assert api.open_or_create(url).path == opened.path
    assert len(api.open_or_create(url + "2", "fast", "none")) == 0


def test_a_run_that_is_interrupted_is_not_published_and_goes_on(
    photos: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from veduta.index import updating

    arguments = ["index", str(photos), "--index", url, "--encoder", "fast", "--keypoints", "none"]
    make = updating.build_snapshot

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(updating, "build_snapshot", interrupt)
    assert run(arguments) == 130
    with pytest.raises(NotAnIndex):
        local_copy(url)
    monkeypatch.setattr(updating, "build_snapshot", make)
    capsys.readouterr()
    assert run(arguments) == 0
    assert len(veduta.open(url)) == 6


def test_a_change_that_fails_is_not_published(index: Path, url: str) -> None:
    publish(index, url)
    with pytest.raises(RuntimeError), changing(url) as change:
        veduta.open(change.path).edit_labels({1: "other"})
        raise RuntimeError
    assert veduta.open(url).status()["classes"] == 2
    with changing(url):  # The next change goes on with it.
        pass
    assert veduta.open(url).status()["classes"] == 3


def test_two_changes_at_once_on_one_machine(index: Path, url: str) -> None:
    publish(index, url)
    with (
        changing(url),
        pytest.raises(IndexLocked, match="is changing this index"),
        changing(url),
    ):
        pass


def test_the_second_of_two_machines_is_refused_and_loses_nothing(
    index: Path,
    url: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(index, url)
    save_view(photos / "place0/new.png", 0, 7)
    with pytest.raises(IndexChanged) as caught, changing(url) as change:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
        assert run(["index", str(photos / "place1"), "--index", url]) == 0
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        veduta.open(change.path).add(photos / "place0")
    message = str(caught.value)
    assert "is at version 2, and the changes here began from version 1" in message
    kept = CacheFolder(url).folder / "changes-1"
    command = f"veduta merge {kept} --index {url}"
    assert message.endswith(command)
    assert len(veduta.open(url)) == 9
    capsys.readouterr()
    assert run(command.split()[1:]) == 0
    with veduta.open(url) as opened:
        assert len(opened) == 13
        assert photos / "place0/new.png" in opened


def test_changes_that_are_too_old_are_set_aside_at_the_beginning(
    index: Path, url: str, tmp_path: Path
) -> None:
    publish(index, url)
    with changing(url) as change:
        change.keep()
    other = shutil.copytree(index, tmp_path / "other")
    veduta.open(other).edit_labels({1: "theirs"})
    publish(other, url)
    with changing(url) as change:  # Nothing was changed, so nothing is kept.
        assert veduta.open(change.path).status()["classes"] == 3
        veduta.open(change.path).edit_labels({2: "mine"})
        change.keep()
    veduta.open(other).edit_labels({1: "theirs again"})
    publish(other, url)
    with pytest.raises(IndexChanged, match="changes-1"), changing(url):
        pass
    with changing(url) as change:
        assert veduta.open(change.path).status()["classes"] == 3


def test_a_copy_that_the_disk_has_damaged_is_mended_from_the_store(
    index: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(index, url)
    copy = local_copy(url)
    for part in ("photos.lance/data", "keypoints", "snapshot", "graph"):
        file = max((copy / part).rglob("*.*"), key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    assert run(["check", "--index", url]) == 1
    assert f"veduta repair --index {url}" in capsys.readouterr().out
    assert run(["repair", "--index", url]) == 0
    assert "Nothing was damaged." in capsys.readouterr().out
    assert run(["check", "--index", url]) == 0


def test_publish_from_the_command_line(
    index: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", url, "--index", str(index)]) == 0
    assert f"Published version 1 of {url}" in capsys.readouterr().out
    assert run(["publish", url, "--index", str(index)]) == 0
    assert "Nothing is new" in capsys.readouterr().out
    assert run(["publish", url, "--index", str(index), "--replace", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2
    with pytest.raises(QueryError, match="which several processes share"):
        publish(local_copy(url), url + "2")


def test_errors_name_the_address_and_not_the_copy(
    index: Path, url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["search", "x.png", "--index", url]) == 4
    assert f"{url} holds no index" in capsys.readouterr().err
    publish(index, url)
    assert run(["forget", str(tmp_path / "elsewhere"), "--index", url]) in (0, 3, 4)
    printed = capsys.readouterr()
    assert str(tmp_path / "cache") not in printed.out + printed.err
    assert run(["status", "--index", "s3://user:secret@bucket/path"]) == 3
    assert "secret" not in capsys.readouterr().err
    assert open_store(url).size("current.json")
