"""Copies of one photo are folded into one hit, or marked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import pixels, save, save_view

import veduta
from veduta import Index, SearchOptions
from veduta.cli.main import run

DISTINCT = 8


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Return an index of eight photos; one has twelve copies of its bytes, one was saved again."""
    folder = tmp_path_factory.mktemp("copied")
    photos = folder / "photos"
    for seed in range(DISTINCT):
        save(photos / f"{seed}.png", seed)
    for number in range(12):
        shutil.copy(photos / "0.png", photos / f"0 copy {number:02}.png")
    again = Image.fromarray(pixels(1)).resize((40, 27), Image.Resampling.LANCZOS)
    again.save(photos / "1 again.jpg", quality=80)
    index = veduta.create(folder / "index", "fast", keypoints=None)
    index.add(photos)
    return index


def query(index: Index, name: str = "0.png") -> Path:
    return index.path.parent / "photos" / name


@pytest.mark.parametrize("options", [{}, {"rerank": "none"}, {"distance": "euclidean"}])
def test_each_photo_is_one_hit_with_the_paths_of_its_copies(copied: Index, options) -> None:
    plain = copied.search(query(copied), k=10, **options)
    assert sum("0" in Path(hit.path).name for hit in plain) == 10, "all places are one photo"
    assert all(hit.copies is None for hit in plain)
    folded = copied.search(query(copied), k=10, fold_copies=True, **options)
    names = [Path(hit.path).name for hit in folded]
    assert len(folded) == DISTINCT, "k counts folded hits, and there are no more"
    assert {name.partition(".")[0].partition(" ")[0] for name in names} == set("01234567")
    copies = {Path(hit.path).name[0]: hit.copies for hit in folded}
    assert len(copies["0"]) == 12 and len(copies["1"]) == 1
    assert all(copies[name] == () for name in "234567")
    found = [path for hit in folded for path in (hit.path, *hit.copies)]
    assert sorted(found) == sorted(map(str, (copied.path.parent / "photos").iterdir()))


def test_the_best_copy_stands_for_the_others(copied: Index) -> None:
    plain = copied.search(query(copied, "1.png"), k=30, rerank="none")
    folded = copied.search(query(copied, "1.png"), k=3, rerank="none", fold_copies=True)
    assert folded[0].path == plain[0].path
    assert folded[0].copies == (plain[1].path,)
    assert folded[0].score == plain[0].score
    fewer = copied.search(query(copied, "1.png"), k=1, rerank="none", fold_copies=True)
    assert fewer == folded[:1]


def test_a_least_score_holds_for_the_copies_too(copied: Index) -> None:
    worst = copied.search(query(copied, "1.png"), k=2, rerank="none")[0].score
    folded = copied.search(query(copied, "1.png"), rerank="none", fold_copies=True, min_score=worst)
    assert [hit.copies for hit in folded] == [()]


def test_many_queries_at_once(copied: Index) -> None:
    options = SearchOptions(k=3, fold_copies=True, rerank="none")
    queries = [query(copied, f"{number}.png") for number in range(3)]
    answers = list(copied.search_many(queries, options=options))
    assert [len(hits) for hits in answers] == [3, 3, 3]
    assert [len(hits[0].copies or ()) for hits in answers] == [12, 1, 0]
    assert answers[0].to_arrow()["copies"].to_pylist()[0] == list(answers[0][0].copies)


def test_alike_drawings_on_white_are_no_copies(tmp_path: Path) -> None:
    """Their hashes are near, but their luma does not correlate."""
    for number in range(3):
        drawing = Image.new("L", (64, 64), 255)
        drawing.paste(0, (20 + 8 * number, 30, 24 + 8 * number, 34))
        (tmp_path / "photos").mkdir(exist_ok=True)
        drawing.save(tmp_path / f"photos/{number}.png")
    index = veduta.create(tmp_path / "index", "fast", keypoints=None)
    index.add(tmp_path / "photos")
    hits = index.search(tmp_path / "photos/0.png", fold_copies=True, rerank="none")
    assert [hit.copies for hit in hits] == [(), (), ()]


def test_the_command_prints_copies_as_text_and_json_and_on_the_page(
    copied: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["search", str(query(copied)), "--index", str(copied.path), "-k", "2"]
    page = tmp_path / "page.html"
    assert run([*call, "--fold-copies", "--html", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.strip().startswith("copy: ") for line in lines) >= 5
    assert any("… 12 copies in all: --json lists them" in line for line in lines)
    html = page.read_text("utf-8")
    assert "12 copies</summary>" in html and "0 copy 11.png" in html
    assert run([*call, "--fold-copies", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)[0]["hits"]
    assert len(answer) == 2 and len(answer[0]["copies"]) == 12
    assert run([*call, "--json"]) == 0
    assert "copies" not in json.loads(capsys.readouterr().out)[0]["hits"][0]


def marks(hits: veduta.Hits) -> dict[str, str | None]:
    return {Path(hit.path).name: hit.copy_of for hit in hits}


@pytest.mark.parametrize("rerank", ["auto", "none"])
def test_copies_of_the_query_and_of_other_hits_are_marked(
    copied: Index, tmp_path: Path, rerank: str
) -> None:
    smaller = Image.fromarray(pixels(0)).resize((44, 30), Image.Resampling.LANCZOS)
    smaller.save(tmp_path / "sent.jpg", quality=85)
    options = {"k": 30, "mark_copies": True, "rerank": rerank}
    found = copied.search(tmp_path / "sent.jpg", **options)
    marked = marks(found)
    assert {name for name, mark in marked.items() if mark == "query"} == {
        "0.png",
        *(f"0 copy {number:02}.png" for number in range(12)),
    }
    pair = [hit.path for hit in found if "1" in Path(hit.path).stem[:1]]
    assert (marked[Path(pair[0]).name], marked[Path(pair[1]).name]) == (None, pair[0])
    assert all(marked[f"{number}.png"] is None for number in range(2, DISTINCT))
    plain = copied.search(tmp_path / "sent.jpg", k=30, rerank=rerank)
    assert [hit.path for hit in plain] == [hit.path for hit in found]
    assert all(hit.copy_of is None for hit in plain)
    assert found.to_arrow()["copy_of"].to_pylist() == [hit.copy_of for hit in found]
    assert "copy_of" not in plain.as_json()[0] and found.as_json()[0]["copy_of"] == "query"


def test_copies_of_a_photo_of_the_index_and_of_folded_hits_are_marked(copied: Index) -> None:
    (photo,) = (one for one in copied if one.path == str(query(copied, "1.png")))
    options = SearchOptions(k=30, mark_copies=True)
    assert marks(copied.search_like(photo.id, options))["1 again.jpg"] == "query"
    folded = copied.search_like(photo.id, SearchOptions(k=30, mark_copies=True, fold_copies=True))
    assert marks(folded)["1 again.jpg"] == "query"
    assert [mark for mark in marks(folded).values() if mark] == ["query"]


def test_a_region_is_no_copy_and_a_turned_copy_is_one(tmp_path: Path) -> None:
    save_view(tmp_path / "photos/one.png", 3, 1)
    save_view(tmp_path / "photos/other.png", 4, 1)
    index = veduta.create(tmp_path / "index", "fast")
    index.add(tmp_path / "photos")
    photo = Image.open(tmp_path / "photos/one.png")
    width, height = photo.size
    turned = np.asarray(photo.convert("RGB").transpose(Image.Transpose.ROTATE_90))
    hits = index.search(turned, mark_copies=True, orientation="90")
    assert marks(hits) == {"one.png": "query", "other.png": None}
    assert set(marks(index.search(turned, mark_copies=True, orientation="180")).values()) == {None}
    crop = (0, 0, width, height // 2)
    hits = index.search(tmp_path / "photos/one.png", mark_copies=True, crop=crop)
    assert set(marks(hits).values()) == {None}
