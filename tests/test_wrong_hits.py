"""Photos that a person has called wrong leave the answer, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import save_view

import veduta
from veduta import Index, SearchOptions
from veduta.cli.main import run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Index:
    home = tmp_path_factory.mktemp("wrong")
    for scene in range(3):
        for view in range(3):
            save_view(home / f"photos/{scene}-{view}.png", scene, view, noise=0.3)
    shutil.copy(home / "photos/1-0.png", home / "photos/copy.png")
    save_view(home / "query.png", 1, 7, noise=0.3)
    index = veduta.create(home / "index", "fast")
    index.add(home / "photos")
    return index


def names(hits: veduta.Hits) -> list[str]:
    return [Path(hit.path).name for hit in hits]


@pytest.mark.parametrize("options", [{}, {"rerank": "none"}, {"fold_copies": True}])
def test_the_others_keep_their_order_and_scores(places: Index, options: dict) -> None:
    query = places.path.parent / "query.png"
    before = places.search(query, k=20, orientation="upright", **options)
    wrong = [hit for hit in before if Path(hit.path).name in {"1-0.png", "copy.png", "2-1.png"}]
    ids = [hit.id for hit in wrong if hit.id is not None][:1] + [
        hit.id for hit in wrong if Path(hit.path).name == "2-1.png"
    ]
    after = places.search(query, k=20, orientation="upright", not_ids=ids, **options)
    assert len(wrong) >= 2 and after == [hit for hit in before if hit not in wrong]
    first = places.search(query, k=3, orientation="upright", not_ids=ids, **options)
    assert first == after[:3], "as many hits as were asked for"


def test_a_photo_of_the_index_as_the_query_and_ids_that_are_gone(places: Index) -> None:
    before = places.search_like(0, SearchOptions(k=20))
    after = places.search_like(0, SearchOptions(k=20, not_ids=(before[0].id, 10**9)))
    assert after == before[1:]


def test_the_command_takes_paths(places: Index, capsys: pytest.CaptureFixture[str]) -> None:
    photos = places.path.parent / "photos"
    call = ["search", str(places.path.parent / "query.png"), "--index", str(places.path), "--json"]
    assert run([*call, "--not", str(photos / "1-0.png"), "--not", str(photos / "2-0.png")]) == 0
    found = {Path(hit["path"]).name for hit in json.loads(capsys.readouterr().out)[0]["hits"]}
    assert len(found) == 7 and not found & {"1-0.png", "copy.png", "2-0.png"}
    assert run([*call, "--not", str(photos / "none.png")]) != 0
    assert "the index has no such photo" in capsys.readouterr().err
