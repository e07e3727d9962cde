"""A copied or moved index gives the same answers, and nothing of it is made again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run_veduta
from tiny import CentredEncoder, TinyExtractor, save_view, view

from veduta import index
from veduta.index.table import newest_version
from veduta.search import Engine

Answers = list[tuple[str, float]]


def made_of(photos: Path, folder: Path) -> Path:
    encoder: Any = CentredEncoder()
    index.create_index(folder, encoder, TinyExtractor())
    index.update_index(folder, [photos], encoder, TinyExtractor())
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(5):
        for number in range(4):
            save_view(tmp_path / f"photos/{scene}/{number}.png", 300 + scene, number, 0.4)
    return tmp_path / "photos"


@pytest.fixture
def made(tmp_path: Path, photos: Path) -> Path:
    folder = made_of(photos, tmp_path / "index")
    answers(folder)  # Now it has its snapshot too.
    return folder


def answers(folder: Path) -> Answers:
    encoder: Any = CentredEncoder()
    engine = Engine(folder, encoder=encoder)
    assert engine.state.gallery.graph is not None
    return [
        (hit.path, hit.score)
        for scene in range(5)
        for hit in engine.search(engine.encode_query([view(300 + scene, 9, 0.4)]))
    ]


def derived_files(folder: Path) -> dict[str, bytes]:
    """Return the files of the graph and of the snapshot by their paths in the index.

    The file that notes their times, so that they are not read through twice, is none of them.
    """
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for part in ("graph", "snapshot")
        for file in sorted((folder / part).rglob("*"))
        if file.is_file() and file.name != "stamps.json"
    }


def copied_by(*command: str) -> Callable[[Path, Path], None]:
    def copy(source: Path, target: Path) -> None:
        subprocess.run([*command, str(source), str(target)], check=True)

    return copy


def copied_with_other_times(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for number, file in enumerate(sorted(target.rglob("*"))):
        os.utime(file, (10**9 + number, 10**9 + number))


WAYS: dict[str, Callable[[Path, Path], Any]] = {
    "cp -r": copied_by("cp", "-r"),
    "cp -a": copied_by("cp", "-a"),
    "other times": copied_with_other_times,
    "moved": shutil.move,
}


@pytest.mark.parametrize("way", WAYS)
def test_same_answers_from_the_same_files(
    way: str, made: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, files = answers(made), derived_files(made)
    copy = tmp_path / "elsewhere"
    WAYS[way](made, copy)
    inodes = {file: os.stat(copy / file).st_ino for file in files}

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("veduta.index.updating.build_graph", never)
    monkeypatch.setattr("veduta.index.snapshot.build_snapshot", never)
    assert index.read_status(copy)["linked"]
    assert answers(copy) == expected
    encoder: Any = CentredEncoder()
    report = index.update_index(copy, [photos], encoder, TinyExtractor())
    assert (report.unchanged, report.encoded) == (20, 0)
    assert derived_files(copy) == files
    assert {file: os.stat(copy / file).st_ino for file in files} == inodes


def test_copies_that_are_updated_apart_keep_their_own_graphs(
    made: Path, photos: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    save_view(photos / "late.png", 302, 12, 0.4)
    encoder: Any = CentredEncoder()
    expected = answers(made)
    index.update_index(copy, [photos], encoder, TinyExtractor())
    assert answers(made) == expected
    assert len(answers(copy)) == len(expected), "both give ten hits a query"
    assert str(photos / "late.png") in {path for path, _ in answers(copy)}


def test_an_index_made_anew_in_its_place_is_another_one(made: Path, photos: Path) -> None:
    """What an engine or a cache knows of the deleted index is not taken for the new one."""
    before = newest_version(made)
    assert before is not None
    encoder: Any = CentredEncoder()
    engine = Engine(made, encoder=encoder)
    shutil.rmtree(made)
    shutil.rmtree(photos / "4")
    made_of(photos, made)
    after = newest_version(made)
    assert after is not None
    assert after.number == before.number and after.digest != before.digest
    assert engine.state.snapshot.photos == 16


@pytest.mark.slow
def test_from_the_command_line(photos: Path, tmp_path: Path) -> None:
    def hits(folder: Path) -> tuple[list[tuple[str, float]], str]:
        query = save_view(tmp_path / "query.png", 302, 9, 0.4)
        run = run_veduta(tmp_path, "search", query, "--index", folder, "--json")
        assert run.returncode == 0, run.stderr
        (answer,) = json.loads(run.stdout)
        return [(hit["path"], hit["score"]) for hit in answer["hits"]], run.stderr

    first = run_veduta(tmp_path, "index", photos, "--index", "an index", "--encoder", "fast")
    assert first.returncode == 0, first.stderr
    expected, told = hits(tmp_path / "an index")
    assert told == ""
    subprocess.run(["cp", "-r", "an index", "a copy"], cwd=tmp_path, check=True)
    copy = tmp_path / "a copy"
    assert hits(copy) == (expected, "")
    status = run_veduta(tmp_path, "status", "--index", copy)
    assert "links       made and verified" in status.stdout
    shutil.rmtree(copy / "graph")
    _, told = hits(copy)
    assert "not all verified" in run_veduta(tmp_path, "status", "--index", copy).stdout
    words = shlex.split(told.partition("Link them with: ")[2])
    assert words == ["veduta", "index", "--index", str(copy)]
    assert run_veduta(tmp_path, *words[1:]).returncode == 0
    assert hits(copy) == (expected, "")
