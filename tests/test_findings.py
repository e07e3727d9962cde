"""The table of findings: which copy stays, what is dropped, and the file."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from PIL import Image
from tiny_cleaning import cleaned, photo, tiny_described

from veduta.cli import clean as cli
from veduta.curate import cleaning as cleaning_module
from veduta.curate.cleaning import Cleaning, clean
from veduta.curate.copies import SAME_VIEW, CopyPair
from veduta.curate.findings import KINDS, most_certain_first, write_findings
from veduta.curate.photo_scan import scan_photos
from veduta.datasets import read_dataset
from veduta.errors import DatasetError, QueryError
from veduta.photos.jpeg import coded_bytes


def test_copies_keep_the_best_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
    photo(1).save(data / "a/best.jpg", quality=95)
    photo(1).save(data / "a/squeezed.jpg", quality=40)
    photo(1).resize((160, 120)).save(data / "b/small.jpg", quality=95)
    for copy in ("a/copy.jpg", "b/twin.jpg"):
        (data / copy).write_bytes((data / "a/squeezed.jpg").read_bytes())
    (data / "a/alias.jpg").symlink_to("best.jpg")
    photo(2).save(data / "b/other.jpg")
    names = [path.name for path in read_dataset(data, every_photo=True).files]
    place = {name: names.index(name) for name in names}

    def near(*_: object, **__: object) -> list[CopyPair]:
        def pair(one: str, other: str, kind: str, score: float) -> CopyPair:
            first, second = sorted((place[one], place[other]))
            return CopyPair(first, second, kind, score)

        return [
            pair("best.jpg", "squeezed.jpg", "same picture", 0.99),
            pair("best.jpg", "small.jpg", "cut", 0.98),
        ]

    monkeypatch.setattr(cleaning_module, "copies_among", near)
    found = cleaned(data, "exact-copy", "near-copy", describe=tiny_described(tmp_path))
    told = {one.path: (one.kind, one.other, one.group) for one in found.findings}
    assert told == {
        "a/copy.jpg": ("near-copy", "a/best.jpg", 1),
        "a/squeezed.jpg": ("exact-copy", "a/copy.jpg", 1),
        "b/twin.jpg": ("exact-copy", "a/copy.jpg", 1),
        "b/small.jpg": ("near-copy", "a/best.jpg", 1),
    }
    reasons = {one.path: one.reason for one in found.findings}
    assert "different labels (a)" in reasons["b/twin.jpg"]
    assert reasons["b/small.jpg"] == (
        "cut; a/best.jpg stays: it is larger; the two have different labels (a)"
    )
    # The pair with the same bytes is named, and the photo that stays.
    assert reasons["b/twin.jpg"].startswith("same bytes as a/copy.jpg; a/best.jpg stays: ")
    assert len(found.drops()) == 4 and "a/best.jpg" not in found.drops()
    # A link is no photo of its own, unless a labels file says so.
    rows = [f"{folder}/{name}.jpg,x" for folder, name in (("a", "best"), ("a", "alias"))]
    (data / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (alias,) = cleaned(data, "exact-copy").findings
    assert (alias.path, alias.other) == ("a/alias.jpg", "a/best.jpg")
    assert "best.jpg stays: it is a file and no link" in alias.reason


def test_other_exposures_of_a_view_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy is dropped, the other exposure is not, and is told once."""
    photo(1).save(tmp_path / "a.png")
    photo(2).save(tmp_path / "b.png")
    photo(1).save(tmp_path / "copy.jpg")

    def near(*_: object, **__: object) -> list[CopyPair]:
        return [
            CopyPair(0, 1, SAME_VIEW, 0.91),
            CopyPair(0, 2, "same picture", 0.99),
            CopyPair(1, 2, SAME_VIEW, 0.9),
        ]

    monkeypatch.setattr(cleaning_module, "copies_among", near)
    found = cleaned(tmp_path, "near-copy", "same-view", describe=tiny_described(tmp_path / "c"))
    told = {(one.path, one.kind, one.suggestion, one.other) for one in found.findings}
    assert {one[1:3] for one in told} == {("near-copy", "drop"), ("same-view", "keep")}
    (view,) = (one for one in found.findings if one.kind == "same-view")
    assert view.path == "b.png" and view.other == "a.png" and view.score == 0.91
    assert view.group is None and "no copy" in view.reason
    assert "b.png" not in found.drops() and len(found.drops()) == 1


def test_what_follows_a_jpeg_makes_it_no_better(tmp_path: Path) -> None:
    """The size that counts is that of the coded pixels."""
    photo(1).save(tmp_path / "good.jpg", quality=90)
    photo(1).save(tmp_path / "worse.jpg", quality=60, comment=b"x" * 60_000)
    longer = (tmp_path / "worse.jpg").read_bytes() + b"\0" * 100_000
    (tmp_path / "worse.jpg").write_bytes(longer)
    sizes = scan_photos([tmp_path / "good.jpg", tmp_path / "worse.jpg"]).coded_bytes.tolist()
    plain = io.BytesIO()
    photo(1).save(plain, "JPEG", quality=60)
    assert sizes[1] == coded_bytes(plain.getvalue()) < sizes[0] < len(longer)


def test_what_a_link_that_stays_leads_to_stays(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "blank.png")
    (tmp_path / "b.png").symlink_to("blank.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,x\nb.png,x\nblank.png,x\n")
    found = cleaned(tmp_path, "blank")
    assert sorted(found.drops()) == ["b.png", "blank.png"]
    kept = tuple(one for one in found.findings if one.path == "blank.png")
    fewer = Cleaning(found.dataset, found.readable, kept, (), 0.0)
    assert fewer.drops() == ()


def test_rank_by_doubt_and_kinds() -> None:
    assert tuple(KINDS) == cli.KINDS
    with pytest.raises(QueryError, match="no kind 'fuzzy'"):
        clean(Path(), only=["fuzzy"])


def test_findings_are_written_and_read_back(tmp_path: Path) -> None:
    from pyarrow import parquet

    odd = os.fsdecode(b"a/\xff,\n.png")
    data = tmp_path / "data"
    for path in (odd, "b/x.png"):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 90)).save(data / path)
    found = cleaned(data, "blank", "exact-copy").findings
    assert found == most_certain_first(reversed(found)) and len(found) == 3
    write_findings(tmp_path / "f.csv", found)
    with (tmp_path / "f.csv").open(encoding="utf-8", newline="") as rows:
        read = list(csv.DictReader(rows))
    assert {row["path"] for row in read} == {"a/\\xff,\n.png", "b/x.png"}
    assert [row["kind"] for row in read] == [one.kind for one in found]
    write_findings(tmp_path / "f.parquet", found)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table["score"].to_pylist() == [one.score for one in found]
    assert "a/\\xff,\n.png" in table["path"].to_pylist()
    with pytest.raises(DatasetError, match=r"\.csv or a \.parquet"):
        write_findings(tmp_path / "f.xlsx", found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "f.csv", "f.parquet"]
