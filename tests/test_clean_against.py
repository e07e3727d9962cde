"""`veduta clean --against ARCHIVE`: what an archive has already, with the archive protected."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_copies import scene
from tiny_cleaning import photo, tree

import veduta
from veduta.cli.main import run
from veduta.curate.archive import Archive
from veduta.curate.archive_copies import ArchivePhotos, archive_copies
from veduta.curate.copies import CopyPair


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Return new photos and an archive. Photo 1 is in each of them twice, photo 3 in the new."""
    new, archive = tmp_path / "new", tmp_path / "archive"
    for folder in (new / "a", archive / "2020"):
        folder.mkdir(parents=True)
    photo(1).save(archive / "2020/one.png")
    photo(2).save(archive / "2020/two.png")
    shutil.copy(archive / "2020/one.png", archive / "2020/one again.png")
    shutil.copy(archive / "2020/one.png", new / "a/IMG_1.png")
    shutil.copy(archive / "2020/one.png", new / "a/IMG_1 copy.png")
    photo(3).save(new / "a/IMG_3.png")
    shutil.copy(new / "a/IMG_3.png", new / "a/IMG_3 copy.png")
    return new, archive


def findings(capsys: pytest.CaptureFixture[str], *call: object) -> dict[str, dict[str, object]]:
    run(["clean", *map(str, call), "--json"])
    answer = json.loads(capsys.readouterr().out)
    return {found["path"]: found for found in answer["findings"]}


def test_exact_copies_of_a_folder_are_dropped_and_the_archive_is_not(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new, archive = two
    before = tree(archive)
    found = findings(capsys, new, "--only", "exact-copy", "--against", archive)
    assert {path: one["suggestion"] for path, one in found.items()} == {
        "a/IMG_1.png": "drop",
        "a/IMG_1 copy.png": "drop",
        "a/IMG_3 copy.png": "drop",
    }
    one = found["a/IMG_1.png"]
    assert one["other"] == str(archive / "2020/one again.png")
    assert one["reason"] == f"same bytes; the archive has it: {one['other']}"
    assert found["a/IMG_3 copy.png"]["other"] == "a/IMG_3.png", "as without an archive"
    call = ["clean", str(new), "--only", "exact-copy", "--against", str(archive), "--apply"]
    assert run(call) == 0
    printed = capsys.readouterr().out
    assert "against 3 photos of " in printed
    assert tree(archive) == before
    assert [path.name for path in (new / "a").iterdir()] == ["IMG_3.png"]
    back = printed.partition("To put them back: ")[2].splitlines()[0]
    assert run(shlex.split(back)[1:]) == 0
    assert len(list((new / "a").iterdir())) == 4


def test_an_index_is_an_archive_too_also_if_it_holds_the_new_photos(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new, archive = two
    index = veduta.create(new.parent / "index", "fast", keypoints=None)
    index.add(new, archive)
    found = findings(capsys, new, "--only", "exact-copy", "--against", index.path)
    assert sorted(found) == ["a/IMG_1 copy.png", "a/IMG_1.png", "a/IMG_3 copy.png"]
    assert found["a/IMG_1.png"]["other"] == str(archive / "2020/one again.png")
    (archive / "2020/two.png").unlink()
    run(["clean", str(new), "--only", "exact-copy", "--against", str(index.path)])
    printed = capsys.readouterr().out
    assert "against 2 photos of " in printed
    assert "not looked for: copies of 1 photo that the index has lost" in printed


def test_the_folder_above_the_dataset_is_an_archive_of_its_other_photos(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new, _ = two
    found = findings(capsys, new, "--only", "exact-copy", "--against", new.parent)
    assert {found[path]["other"] for path in ("a/IMG_1.png", "a/IMG_1 copy.png")} == {
        str(new.parent / "archive/2020/one again.png")
    }


@pytest.mark.parametrize("where", ["inside", "same", "link", "empty"])
def test_an_archive_whose_photos_may_be_moved_is_refused(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], where: str
) -> None:
    new, _ = two
    (new.parent / "link").symlink_to(new / "a")
    (new.parent / "empty").mkdir()
    named = {"inside": new / "a", "same": new, "link": new.parent / "link"}
    call = ["clean", str(new), "--against", str(named.get(where, new.parent / "empty"))]
    before = tree(new)
    assert run([*call, "--only", "exact-copy", "--apply"]) == 3
    message = capsys.readouterr().err
    assert "lies in the dataset" in message or "no photo outside" in message
    assert tree(new) == before


def test_links_between_the_two_make_no_photo_a_copy_of_itself(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new, archive = two
    (archive / "2020/link.png").symlink_to(new / "a/IMG_3.png")
    found = findings(capsys, new, "--only", "exact-copy", "--against", archive)
    assert found["a/IMG_3 copy.png"]["other"] == "a/IMG_3.png"
    assert "a/IMG_3.png" not in found


def test_it_looks_for_copies_only(two: tuple[Path, Path]) -> None:
    new, archive = two
    call = ["clean", str(new), "--against", str(archive)]
    assert run([*call, "--only", "blank"]) == 3
    assert run(["clean", str(new), "--against", str(new / "none")]) == 2
    assert run(["clean", "--undo", "x", "--against", str(archive)]) == 2


def test_a_copy_of_a_copy_goes_and_a_larger_photo_stays(tmp_path: Path) -> None:
    """Photos 0 to 5 are new, 6 and 7 are those of the archive."""
    archive = Archive(tmp_path, (tmp_path / "x.jpg", tmp_path / "y.jpg"))
    known = ArchivePhotos(archive, {b"x": 0, b"y": 1}, {0: 100, 1: 100})
    pairs = [
        CopyPair(0, 6, "same bytes", 1.0),
        CopyPair(0, 1, "cut", 0.97),
        CopyPair(1, 4, "mirrored", 0.98),
        CopyPair(2, 7, "same picture", 0.99),
    ]
    digests = {0: b"x", 1: b"1", 2: b"2", 3: b"3", 4: b"4"}
    pixels = {0: 100, 1: 60, 2: 400, 3: 100, 4: 60}
    found = archive_copies(digests, pixels, pairs, 6, known)
    assert [(one.position, one.kind, one.score, one.keep) for one in found] == [
        (0, "exact-copy", 1.0, False),
        (1, "near-copy", 0.97, False),
        (2, "near-copy", 0.99, True),
        (4, "near-copy", 0.5, False),
    ]
    has_it = f"the archive has it: {tmp_path / 'x.jpg'}"
    assert found[1].reason == f"cut; {has_it}", "its partner has the bytes of the archive's photo"
    assert found[3].reason == f"a copy of a copy; {has_it}"
    assert found[2].reason.endswith("with fewer pixels than this one")
    assert found[2].other == str(tmp_path / "y.jpg")


@pytest.mark.slow
def test_near_copies_of_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved again, cut, mirrored and on its side: the archive's photo is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    new, archive = tmp_path / "new", tmp_path / "archive"
    made = {
        "again": scene(1)[::2, ::2],
        "cut": scene(1)[40:265, 60:360],
        "mirrored": scene(1)[:, ::-1],
        "turned": np.rot90(scene(1)),
        "other": scene(2),
    }
    for folder in (new, archive):
        folder.mkdir()
    for name, pixels in made.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(new / f"{name}.jpg", quality=80)
    for seed in (1, 3, 4):
        Image.fromarray(scene(seed)).save(archive / f"{seed}.jpg", quality=92)
    found = findings(capsys, new, "--only", "near-copy", "--against", archive)
    assert set(found) == {f"{name}.jpg" for name in made if name != "other"}
    assert {one["other"] for one in found.values()} == {str(archive / "1.jpg")}
    assert {one["suggestion"] for one in found.values()} == {"drop"}
    page = tmp_path / "page.html"
    monkeypatch.chdir(tmp_path)
    assert run(["clean", "new", "--only", "near-copy", "--against", "archive", "--html", str(page)])
    assert "the archive has it" in page.read_text("utf-8")
