"""The labels of collected photos stay exactly as the list has them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from collecting import QUICK
from photo_server import PhotoServer

import veduta
from veduta.cli.main import run
from veduta.collect import Settings, Summary, collect
from veduta.datasets import read_dataset
from veduta.index import open_snapshot

LABELS = ("Paris/Eiffel", "🏰 castle", "St. Peter's: dome", "..", "CON", 'a "quoted", b', "plain")


def gathered(
    server: PhotoServer, folder: Path, labels: tuple[str, ...] = LABELS, name: str = "list.csv"
) -> Summary:
    source = folder / name
    with source.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "url", "label"])
        for number, label in enumerate(labels):
            rows.writerow([f"{name[:1]}{number}", server.url(f"photo/{number}.jpg?{name}"), label])
    return collect([source], folder / "out", Settings(**QUICK))


def labels_in(folder: Path) -> dict[str, str]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row["label"] for row in csv.DictReader(stream)}


def test_every_command_reads_these_classes(
    server: PhotoServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("VEDUTA_INDEX", str(tmp_path / "index"))
    source = tmp_path / "list.csv"
    rows = [f'{n},{server.url(f"photo/{n}")},"{label}"' for n, label in enumerate(LABELS[:3])]
    source.write_text("\n".join(["id,url,label", *rows]), "utf-8")
    out = tmp_path / "my photos"
    assert run(["collect", str(source), "--out", str(out), "--allow-private"]) == 0
    veduta.create(tmp_path / "index", keypoints=None)  # keypoints take time and no part here
    assert run(["index", str(out), "--labels", str(out / "labels.csv")]) == 0
    rows_of_index = open_snapshot(tmp_path / "index").rows.to_pylist()
    assert sorted(row["label"] for row in rows_of_index) == sorted(LABELS[:3])
    capsys.readouterr()
    assert run(["describe", str(out), "--no-photos", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert {
        name for name in LABELS[:3] if name in json.dumps(described, ensure_ascii=False)
    } == set(LABELS[:3])


def test_every_label_is_kept_exactly(server: PhotoServer, tmp_path: Path) -> None:
    done = gathered(server, tmp_path)
    assert done.labels_file == os.path.join(tmp_path, "out", "labels.csv")
    dataset = read_dataset(tmp_path / "out")
    assert sorted(map(str, dataset.labels)) == sorted(LABELS)
    assert not dataset.problems


def test_earlier_lists_keep_their_labels(server: PhotoServer, tmp_path: Path) -> None:
    gathered(server, tmp_path, ("a/b", "c"), "first.csv")
    gathered(server, tmp_path, ("d:e",), "second.csv")
    assert sorted(labels_in(tmp_path / "out").values()) == ["a/b", "c", "d:e"]
    gone = next(path for path, label in labels_in(tmp_path / "out").items() if label == "c")
    (tmp_path / "out" / gone).unlink()
    gathered(server, tmp_path, ("d:e",), "second.csv")
    assert sorted(labels_in(tmp_path / "out").values()) == ["a/b", "d:e"]


def test_a_changed_address_keeps_one_row_for_the_file(server: PhotoServer, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "a.csv").write_text(f"id,url,label\nx,{server.url(f'photo/{number}')},A/B\n")
        collect([tmp_path / "a.csv"], tmp_path / "out", Settings(**QUICK))
    assert list(labels_in(tmp_path / "out").values()) == ["A/B"]


def test_a_labels_file_of_somebody_else_stays(
    server: PhotoServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels.csv").write_text("path,label\nmine.jpg,mine\n")
    done = gathered(server, tmp_path, ("A/B",))
    assert (tmp_path / "out/labels.csv").read_text() == "path,label\nmine.jpg,mine\n"
    assert done.labels_file == os.path.join(tmp_path, "out", "labels.collected.csv")
    assert "A/B" in Path(done.labels_file).read_text("utf-8")


def test_a_labels_file_that_was_edited_stays(server: PhotoServer, tmp_path: Path) -> None:
    gathered(server, tmp_path, ("A/B",), "first.csv")
    edited = (tmp_path / "out/labels.csv").read_text("utf-8").replace("A/B", "my own")
    (tmp_path / "out/labels.csv").write_text(edited, "utf-8")
    done = gathered(server, tmp_path, ("C/D",), "second.csv")
    assert (tmp_path / "out/labels.csv").read_text("utf-8") == edited
    assert done.labels_file is not None
    assert sorted(Path(done.labels_file).read_text("utf-8").splitlines())[0].endswith("A/B")


def test_photos_without_labels_get_no_labels_file(server: PhotoServer, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"url\n{server.url('photo/1')}\n")
    done = collect([tmp_path / "a.csv"], tmp_path / "out", Settings(**QUICK))
    assert done.labels_file is None and not (tmp_path / "out/labels.csv").exists()


def test_a_planted_journal_leads_nowhere(server: PhotoServer, tmp_path: Path) -> None:
    """A line of a stranger names a path outside: the row is collected again."""
    gathered(server, tmp_path, ("plain",))
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    journal = tmp_path / "out/.veduta-collect/journal"
    journal.write_bytes(journal.read_bytes().replace(b"plain/l0.jpg", b"../secret.jpg"))
    done = gathered(server, tmp_path, ("plain",))
    assert (done.collected, done.already) == (1, 0)
    assert list(labels_in(tmp_path / "out")) == ["plain/l0.jpg"]


def test_what_a_killed_run_left_is_removed(server: PhotoServer, tmp_path: Path) -> None:
    gathered(server, tmp_path)
    out = tmp_path / "out"
    (out / ".draft-0123456789abcdef.csv").write_text("path,label\n")
    (out / ".veduta-collect" / ".draft-0123456789abcdef.hash").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("")
    (out / ".draft-link").symlink_to(tmp_path / "elsewhere")
    gathered(server, tmp_path)
    assert [path for path in out.rglob("*") if path.name.startswith(".draft-")] == []
    assert (tmp_path / "elsewhere" / "kept.txt").exists()
