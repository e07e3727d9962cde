"""A small index to publish, and stores and caches of a test's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import save_view

import veduta


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an index of six photos, `index`, which no test may change."""
    home = tmp_path_factory.mktemp("made")
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


def files_in(folder: Path) -> dict[str, bytes]:
    """Return path → content of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def answers(index: Path, photo: Path) -> str:
    """Return all that a search answers, as text."""
    with veduta.open(index) as opened:
        hits = opened.search(photo, k=6)
        return json.dumps(hits.as_json(), default=os.fspath)
