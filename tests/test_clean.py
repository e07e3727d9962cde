"""The command `veduta clean`, and a pile that is ranked by a few examples."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import CentredEncoder, save_view
from tiny_cleaning import cleaned, photo, planted, tiny_described, tree

from veduta.cli.main import run
from veduta.curate import cleaning as cleaning_module
from veduta.curate import quarantine as moves
from veduta.curate import unlike_findings
from veduta.curate.described_photos import DescribedPhotos, describe_photos
from veduta.curate.example_likeness import example_likeness
from veduta.curate.quarantine import UNDO_FILE
from veduta.datasets import open_dataset, read_dataset
from veduta.errors import QueryError


def test_command_finds_moves_and_puts_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    for name in ("a/1.png", "b/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(len(name) + int(name[2])).save(root / name)
    (root / "a/empty.jpg").write_bytes(b"")
    (root / "b/copy.png").write_bytes((root / "a/1.png").read_bytes())
    before = tree(root)
    light = [f"--only={kind}" for kind in ("corrupt", "exact-copy", "tiny")]
    assert run(["clean", str(root), *light]) == 1
    text = capsys.readouterr().out
    assert "corrupt: 1" in text and "exact-copy: 1" in text and "2 photos would go" in text
    assert max(map(len, text.splitlines())) <= 80 + len(str(root))
    assert tree(root) == before, "nothing changes without --apply"

    page, table = tmp_path / "page.html", tmp_path / "found.csv"
    arguments = ["clean", str(root), *light, "--apply", "--json", "--html", str(page)]
    assert run([*arguments, "--out", str(table)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"corrupt": 1, "exact-copy": 1}
    assert sorted(facts["moved"]["moved"]) == ["a/empty.jpg", "b/copy.png"]
    assert "<script" not in page.read_text("utf-8") and "b/copy.png" in page.read_text("utf-8")
    assert len(table.read_text("utf-8").splitlines()) == 3
    assert run(["clean", str(root), *light]) == 0
    assert "Nothing is odd." in capsys.readouterr().out
    assert run(["clean", "--undo", facts["moved"]["undo_file"], "--json"]) == 0
    assert tree(root) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["clean"], 2),
        (["clean", "DATA", "--undo", "x"], 3),
        (["clean", "--undo", "x", "--apply"], 2),
        (["clean", "DATA", "--quarantine", "x"], 2),
        (["clean", "DATA", "--only", "fuzzy"], 2),
        (["clean", "DATA", "--only", "tiny", "--out", "x.txt"], 2),
        (["clean", "DATA", "--only", "tiny", "--html", "DATA/no/x.html"], 3),
        (["clean", "DATA/none"], 3),
        (["clean", "DATA", "--labels", "none.csv"], 3),
        (["clean", "--undo", "DATA/none"], 3),
    ],
)
def test_wrong_calls(tmp_path: Path, arguments: list[str], code: int) -> None:
    photo(1).save(tmp_path / "a.png")
    assert run([part.replace("DATA", str(tmp_path)) for part in arguments]) == code


def test_new_labels_go_to_a_new_file(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    photos = read_dataset(places, every_photo=True)
    rows = ["\ufeffLabel,path,taken by"]
    for path, label in zip(photos.paths, photos.labels, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((places / path).read_bytes())
        rows.append(f'{label},{path},"me, myself"')
    (root / "place0/empty.jpg").touch()
    rows.append('place0,place0/empty.jpg,"me, myself"')
    table = root / "labels.csv"
    table.write_text("\n".join(rows) + "\n", "utf-8")
    before = table.read_bytes()
    monkeypatch.setattr(cleaning_module, "_describe", tiny_described(tmp_path))
    only = ["--only", "mislabelled", "--only", "corrupt", "--only", "not-a-photo", "--apply"]
    assert run(["clean", str(root), *only]) == 0
    assert table.read_bytes() == before
    written = open_dataset(root, labels="labels.cleaned.csv").table.to_pylist()
    label_of = {row["path"]: row["label"] for row in written}
    assert label_of["place2/wrong1.png"] == "place1" and "place0/empty.jpg" not in label_of
    assert len(label_of) == len(photos.paths)
    lines = (root / "labels.cleaned.csv").read_text("utf-8").splitlines()
    assert lines[0] == "Label,path,taken by" and lines[1].endswith(',"me, myself"')
    assert run(["clean", "--undo", str(tmp_path / "data.quarantine" / UNDO_FILE)]) == 0
    assert run(["clean", str(root), *only]) == 0
    assert (root / "labels.cleaned-2.csv").exists()


def test_ctrl_c_while_moving_tells_how_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    planted(root, ["a/1.jpg", "a/2.jpg", "a/3.jpg"])
    move, left = moves._move, [1]

    def interrupted(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(moves, "_move", interrupted)
    assert run(["clean", str(root), "--only", "not-a-photo", "--apply"]) == 130
    out = capsys.readouterr()
    assert "1 photo moved." in out.out and "--undo" in out.out and "Interrupted" in out.err


def test_known_bad_files_of_real_photos(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("messy")
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["path"].endswith(".txt")]
    found = cleaned(folder / "files", "corrupt", "truncated", "not-a-photo", "exact-copy")
    bad = {one.path for one in found.findings if one.kind != "exact-copy"}
    assert bad == {
        row["path"].removeprefix("files/") for row in rows if row["pillow_decode"] != "ok"
    }
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row["kind"] == "exact_dup":
            groups.setdefault(row["dup_group"], set()).add(row["path"].removeprefix("files/"))
    copies = {one.path for one in found.findings if one.kind == "exact-copy"}
    pairs = [group for group in groups.values() if len(group) > 1]
    assert pairs and all(len(group - copies) == 1 for group in pairs), "one of each stays"


def test_review_gets_the_findings_and_decides_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    planted(root, ["a/1.jpg", "a/2.jpg"])
    (root / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    asked: dict[str, object] = {}

    def reviewed(dataset: Path, **given: object) -> str:
        asked.update(given, dataset=dataset)
        return "outcome"

    monkeypatch.setattr("veduta.cli.review.run_review", reviewed)
    monkeypatch.setattr("veduta.cli.review.print_outcome", print)
    assert run(["clean", str(root), "--only", "corrupt", "--review"]) == 0
    assert asked["dataset"] == root and "outcome" in capsys.readouterr().out
    assert [finding.path for finding in asked["findings"]] == ["a/broken.jpg"]  # type: ignore[attr-defined]
    for other in ("--apply", "--json"):
        assert run(["clean", str(root), "--review", other]) == 2


def test_likeness_is_the_mean_and_the_nearest_cosine_in_units_of_those_among_the_examples() -> None:
    examples = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    mean_among = (0.8 + 0.6 + 0.96) / 3
    nearest_among = (0.8 + 0.96 + 0.96) / 3
    among = 0.7 * mean_among + 0.3 * nearest_among
    photos = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    first = 0.7 * (1 + 0.8 + 0.6) / 3 + 0.3 * 1
    second = 0.7 * (0.6 + 0.8) / 3 + 0.3 * 0.8
    expected = [first / among, second / among, 0.0]
    np.testing.assert_allclose(example_likeness(examples, photos), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_examples_are_refused(count: int) -> None:
    with pytest.raises(QueryError, match=f"{count} of the examples"):
        example_likeness(np.eye(3, dtype=np.float32)[:count], np.eye(3, dtype=np.float32))


def test_examples_without_anything_in_common_are_refused() -> None:
    with pytest.raises(QueryError, match="nothing in common"):
        example_likeness(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))


@pytest.fixture(scope="module")
def pile_with_a_detail(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Any]]:
    """Four examples, and a pile of two photos: a part of an example, and another scene."""
    folder = tmp_path_factory.mktemp("pile")
    for name in ("good", "pile"):
        (folder / name).mkdir()
    for seed in range(4):
        photo(seed).save(folder / f"good/{seed}.png")
    photo(2).crop((60, 40, 260, 190)).resize((320, 240)).save(folder / "pile/detail.png")
    photo(9).save(folder / "pile/other.png")

    def described(files: Sequence[Path], _: object) -> DescribedPhotos:
        return describe_photos(files, folder=folder / "cache", encoder=CentredEncoder())  # type: ignore[arg-type]

    return folder, described


@pytest.mark.parametrize(
    ("likeness", "kept"),
    [
        (0.77, {"detail.png", "other.png"}),
        (0.769, {"detail.png"}),
        (0.48, {"detail.png"}),
        (0.46, set()),
    ],
)
def test_a_photo_with_the_details_of_an_example_may_be_less_like_it(
    pile_with_a_detail: tuple[Path, Callable[..., Any]],
    monkeypatch: pytest.MonkeyPatch,
    likeness: float,
    kept: set[str],
) -> None:
    folder, described = pile_with_a_detail
    monkeypatch.setattr(
        unlike_findings, "example_likeness", lambda _, rows: np.full(len(rows), likeness)
    )
    found = cleaned(folder / "pile", "unlike", examples=folder / "good", describe=described)
    assert {one.path for one in found.findings if one.suggestion == "keep"} == kept
    for one in found.findings:
        assert (one.score <= 0.5) == (one.path in kept)
        assert ("details match" in one.reason) == (
            one.path == "detail.png" and 0.47 < likeness < 0.77
        )


def test_a_pile_is_ranked_by_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        save_view(tmp_path / f"good/{number}.png", 1, number, noise=0.3)
    for number in range(4, 9):
        save_view(tmp_path / f"pile/same{number}.png", 1, number, noise=0.3)
        save_view(tmp_path / f"pile/other{number}.png", 10 + number, number, noise=0.3)
    (tmp_path / "pile/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setattr(cleaning_module, "_describe", tiny_described(tmp_path))
    call = ["clean", str(tmp_path / "pile"), "--like", str(tmp_path / "good"), "--only", "unlike"]
    assert run([*call, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["path"]: one["suggestion"] for one in told["findings"]} == {
        f"{name}{number}.png": suggestion
        for number in range(4, 9)
        for name, suggestion in (("same", "keep"), ("other", "drop"))
    }
    scores = [one["score"] for one in told["findings"]]
    assert scores == sorted(scores, reverse=True)
    assert all((one["score"] >= 0.5) == (one["suggestion"] == "drop") for one in told["findings"])
    assert run(call) == 1
    assert "(drop 5, keep 5)" in capsys.readouterr().out
    assert run([*call, "--apply"]) == 0
    assert sorted(file.name for file in (tmp_path / "pile").iterdir()) == [
        "broken.png",
        *(f"same{number}.png" for number in range(4, 9)),
    ]
    assert run(["clean", str(tmp_path / "pile"), "--only", "unlike"]) == 2
