"""The files of a review: the findings it reads, the decisions and labels it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from review_server import EVIL, findings_file, rows_of
from tiny import save

from veduta.curate.findings import Finding
from veduta.curate.review_files import write_results
from veduta.curate.review_set import make_review_set
from veduta.datasets import open_dataset
from veduta.errors import DatasetError
from veduta.web import Decision, ReviewFiles, read_suspicions, suspicions_of

KEEP, DROP = Decision("keep"), Decision("drop")


def test_findings_are_read(tmp_path: Path) -> None:
    lines = [
        "t/a.png,blurred,0.25,soft,keep,t",
        "./t/a.png,mislabelled,0.75,gate?,relabel:big gate,t",
        "t/b.png,odd,0.5,,,t",
    ]
    found = read_suspicions(findings_file(tmp_path, *lines))
    assert list(found) == ["t/a.png", "t/b.png"]
    first, second = found["t/a.png"]
    assert (first.kind, first.score, first.reason) == ("mislabelled", 0.75, "gate?")
    assert first.suggestion == Decision("relabel", "big gate")
    assert second.suggestion == KEEP and found["t/b.png"][0].suggestion is None


def test_findings_of_clean_are_read_as_it_writes_them(tmp_path: Path) -> None:
    from veduta.curate.findings import write_findings

    findings = [
        Finding("t/a.png", "near-copy", 0.9, "saved again", "drop", "t", group=1, other="t/b.png"),
        Finding("t/c.png", "mislabelled", 0.8, "looks like g", "relabel", "t", "g", 0.7),
    ]
    write_findings(tmp_path / "findings.csv", findings)
    read = read_suspicions(tmp_path / "findings.csv")
    assert read == suspicions_of(findings)
    assert read["t/a.png"][0].other == "t/b.png"
    assert read["t/c.png"][0].suggestion == Decision("relabel", "g")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("t/a.png,k,high,r,drop,t", "line 2: the score is 'high'; wanted a number"),
        ("t/a.png,k,nan,r,drop,t", "the score is 'nan'"),
        ("t/a.png,k,1,r,burn,t", "the suggestion is 'burn'"),
        ("t/a.png,k,1,r,relabel,t", "the suggestion is 'relabel'"),
        ("t/a.png,k,1,r,relabel: ,t", "the suggestion is 'relabel:'"),
        (",k,1,r,drop,t", "the photo is empty"),
        ("t/a.png,k,1", "3 fields"),
    ],
)
def test_findings_that_are_refused(tmp_path: Path, line: str, wanted: str) -> None:
    with pytest.raises(DatasetError, match=wanted):
        read_suspicions(findings_file(tmp_path, line))


def test_the_most_doubtful_come_first(tmp_path: Path) -> None:
    for name in "abcdef":
        save(tmp_path / f"t/{name}.png", ord(name))
    save(tmp_path / "g/z.png", 1)
    lines = [
        "t/b.png,blurred,0.99,r,keep,",
        "t/d.png,off-topic,0.5,r,drop,",
        "t/e.png,mislabelled,0.7,r,relabel:g,",
        "t/f.png,dark,0.9,r,keep,",
        "t/f.png,off-topic,0.6,r,drop,",
        "t/gone.png,dark,0.9,r,keep,",
    ]
    found = read_suspicions(findings_file(tmp_path, *lines))
    review_set = make_review_set(open_dataset(tmp_path), found)
    assert [group.label for group in review_set.classes] == ["g", "t"]
    order = [review_set.photos[number].path for number in review_set.classes[1].photos]
    assert order == ["t/f.png", "t/e.png", "t/d.png", "t/b.png", "t/a.png", "t/c.png"]
    by_path = {photo.path: photo for photo in review_set.photos}
    assert by_path["t/f.png"].suggestion == DROP, "what wants a change goes before what does not"
    assert any(
        "1 photos of the findings are not in the dataset (t/gone.png)" in problem
        for problem in review_set.problems
    )
    only = make_review_set(open_dataset(tmp_path), found, "g")
    assert [group.label for group in only.classes] == ["g"] and list(only.labels) == ["g", "t"]
    with pytest.raises(DatasetError, match="no photo is labelled 'x'; it has g, t"):
        make_review_set(open_dataset(tmp_path), found, "x")


def test_results_keep_the_other_columns(tmp_path: Path) -> None:
    names = [EVIL, "b.png", "c.png", "d.png", "e.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, number, format="png")
    source = tmp_path / "labels.csv"
    with source.open("w", encoding="utf-8-sig", newline="") as out:
        table = csv.writer(out)
        table.writerow(["note", "Path", " label", "split", ""])
        table.writerow([])
        table.writerows(
            [
                [f"n{number}", f"./{name}", "t" if number < 4 else "", "train", ""]
                for number, name in enumerate(names)
            ]
        )
    review_set = make_review_set(open_dataset(tmp_path), {})
    decisions = {
        (EVIL, "t"): Decision("relabel", "g, h"),
        ("b.png", "t"): DROP,
        ("c.png", "t"): KEEP,
        ("d.png", "another"): DROP,
    }
    files = ReviewFiles(tmp_path / "out.csv")
    outcome = write_results(files, review_set, decisions, source)
    assert (outcome.photos, outcome.undecided) == (5, 2)
    assert (outcome.kept, outcome.dropped, outcome.relabelled) == (1, 1, 1)
    assert rows_of(files.decisions) == [
        ["photo", "label_before", "decision", "label_after"],
        [EVIL, "t", "relabel", "g, h"],
        ["b.png", "t", "drop", ""],
        ["c.png", "t", "keep", "t"],
    ]
    assert rows_of(files.labels) == [
        ["note", "Path", " label", "split", ""],
        ["n0", f"./{EVIL}", "g, h", "train", ""],
        ["n2", "./c.png", "t", "train", ""],
        ["n3", "./d.png", "t", "train", ""],
        ["n4", "./e.png", "", "train", ""],
    ]
    again = open_dataset(tmp_path, labels=str(files.labels))
    assert again.table["path"].to_pylist() == [EVIL, "c.png", "d.png", "e.png"]
    assert again.table["label"].to_pylist() == ["g, h", "t", "t", None]
