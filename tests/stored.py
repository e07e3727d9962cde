"""A small index to publish, and stores and caches of a test's own."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import save_view

import veduta


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an index of six photos, `index`, which no test may change."""
    if not _made:  # All modules that a process tests share one.
        _made.append(_new_index(tmp_path_factory.mktemp("made")))
    return _made[0]


_made: list[Path] = []


def _new_index(home: Path) -> Path:
    for scene in range(2):
        for view in range(3):
            save_view(home / f"photos/place{scene}/{view}.png", scene, view)
    with veduta.create(home / "index", encoder="fast", keypoints="orb:64") as index:
        index.add(home / "photos", labels="folders")
    return home


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    """Return an index that the test may change."""
    shutil.copytree(made / "index", tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a cache folder that the test has for itself."""
    from veduta.stored_index import cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = set(cache._held)
    yield tmp_path / "cache"
    for path in set(cache._held) - before:
        cache.release(Path(path))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a store that is a folder."""
    return (tmp_path / "store").as_uri()


def forget_what_is_held() -> None:
    """Do what the end of the process would do: give all copies free."""
    from veduta.stored_index import cache

    for path in list(cache._held):
        cache.release(Path(path))


def in_another_process(work: Callable[[], object]) -> int:
    """Start a copy of this process that does some work, and return its number.

    A new interpreter would take a second to load what this one has loaded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Neither other threads nor Lance are needed in it.
        number = os.fork()
    if number:
        return number
    try:
        forget_what_is_held()
        work()
        os._exit(0)
    finally:
        os._exit(1)


def end_of(process: int) -> int:
    """Wait for a process, and return its exit code; a negative one is the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def files_in(folder: Path) -> dict[str, bytes]:
    """Return path → content of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def change(index: Path, content: str) -> None:
    """Change two files of an index that searches do not need, which takes no time."""
    (index / "recognition").mkdir(exist_ok=True)
    (index / "recognition/changed.txt").write_text(content)
    (index / "recognition/changed too.txt").write_text(f"{content}, too")


def content_of_change(index: Path) -> str:
    """Return the content that `change` has given last."""
    return (index / "recognition/changed.txt").read_text()


def answers(index: Path | str, photos: Path) -> str:
    """Return all that a search with each photo of a folder answers, as text."""
    with veduta.open(index) as opened:
        hits = [opened.search(photo, k=6).as_json() for photo in sorted(photos.rglob("*.png"))]
        return json.dumps(hits, default=os.fspath)
