"""Damage of a sealed folder is found, and a sound file is hashed once."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from veduta.index import checksums
from veduta.index.checksums import CHECKSUMS_FILE, Checksums, seal
from veduta.validation import InvalidValue

CONTENT = {"a.bin": b"first", "b.bin": b"second" * 1000, "sub/c.bin": b"", "d.txt": b"fourth"}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "sealed"
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        make_old(folder / name)
    seal(folder, CONTENT)
    return folder


def make_old(file: Path) -> None:
    """Wait until a change of the file has another change time for sure."""
    while os.stat(file).st_ctime_ns > checksums.time.time_ns() - checksums._CLOCK_STEP_NS:
        checksums.time.sleep(0.01)


def read(folder: Path) -> Checksums:
    known = Checksums.read(folder)
    assert known is not None
    return known


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are hashed."""
    names: list[str] = []
    real = checksums.open_regular

    def noted(file: Path) -> Any:
        names.append(file.name)
        return real(file)

    monkeypatch.setattr(checksums, "open_regular", noted)
    monkeypatch.setattr(checksums, "_hashed_here", {})
    return names


def test_the_digests_are_those_of_blake3(sealed: Path) -> None:
    expected = {name: blake3(data).hexdigest() for name, data in CONTENT.items()}
    assert read(sealed).digests == expected
    assert read(sealed).damaged() == []


def test_a_sound_file_is_not_read_again(sealed: Path, hashed: list[str]) -> None:
    assert read(sealed).damaged() == []
    assert hashed == []
    assert read(sealed).damaged(anew=True) == []
    assert sorted(hashed) == ["a.bin", "b.bin", "c.bin", "d.txt"]


def test_a_copy_is_hashed_once(sealed: Path, hashed: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    for name in CONTENT:
        make_old(copy / name)
    assert read(copy).damaged() == []
    assert len(hashed) == 4
    checksums._hashed_here.clear()
    assert read(copy).damaged() == []
    assert len(hashed) == 4


def test_a_copy_that_cannot_be_written_is_hashed_once_in_a_process(
    sealed: Path, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    for name in CONTENT:
        make_old(copy / name)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(checksums, "write_text", refuse)
    assert read(copy).damaged() == []
    assert read(copy).damaged() == []
    assert len(hashed) == 4


@pytest.mark.parametrize("name", ["a.bin", "b.bin", "d.txt"])
@pytest.mark.parametrize("damage", ["flipped", "same time", "cut", "longer", "gone", "folder"])
def test_each_kind_of_damage_is_found(sealed: Path, name: str, damage: str) -> None:
    file = sealed / name
    data = bytearray(CONTENT[name])
    status = file.stat()
    match damage:
        case "flipped":
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "same time":
            data[-1] ^= 0x80
            file.write_bytes(data)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "cut":
            file.write_bytes(data[:-1])
        case "longer":
            file.write_bytes(data + b"\0")
        case "gone":
            file.unlink()
        case "folder":
            file.unlink()
            file.mkdir()
    assert read(sealed).damaged() == [name]
    assert read(sealed).damaged(anew=True) == [name]
    assert read(sealed).damaged(["a.bin" if name != "a.bin" else "b.bin"]) == []


def test_damage_that_changes_no_stamp_is_found_anew(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sealed / "a.bin").write_bytes(b"First")
    stamps = json.loads((sealed / "stamps.json").read_text())
    status = (sealed / "a.bin").stat()
    stamps["a.bin"][:4] = (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )
    (sealed / "stamps.json").write_text(json.dumps(stamps))
    monkeypatch.setattr(checksums, "_hashed_here", {})
    assert read(sealed).damaged() == []
    assert read(sealed).damaged(anew=True) == ["a.bin"]


def test_changes_within_one_step_of_the_clock_are_found(tmp_path: Path) -> None:
    """A file that changes again at once may keep its stamp, so the stamp is not believed."""
    file = tmp_path / "a.bin"
    for _ in range(100):
        file.write_bytes(b"right")
        (tmp_path / CHECKSUMS_FILE).unlink(missing_ok=True)
        seal(tmp_path, ["a.bin"])
        assert read(tmp_path).damaged() == []
        file.write_bytes(b"wrong")
        assert read(tmp_path).damaged() == ["a.bin"]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_checksums_are_found(sealed: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = sealed / CHECKSUMS_FILE
    sound = file.read_bytes()
    for _ in range(200):
        wrong = bytearray(sound)
        if rng.random() < 0.2:
            wrong = wrong[: rng.randrange(len(wrong))]
        else:
            wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        file.write_bytes(wrong)
        try:
            same = json.loads(wrong) == json.loads(sound)
        except ValueError:
            same = False
        if same:  # A blank became another one.
            continue
        with pytest.raises(InvalidValue):
            Checksums.read(sealed)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a.bin": 3}', '{"a.bin": [1, 2, 3, 4, 5]}'])
def test_damaged_stamps_cost_only_time(sealed: Path, content: str, hashed: list[str]) -> None:
    (sealed / "stamps.json").write_text(content)
    assert read(sealed).damaged() == []
    assert len(hashed) == 4
    (sealed / "a.bin").write_bytes(b"First")
    assert read(sealed).damaged() == ["a.bin"]


def test_files_come_and_go(sealed: Path, hashed: list[str]) -> None:
    (sealed / "new.bin").write_bytes(b"new")
    (sealed / "d.txt").unlink()
    seal(sealed, ["a.bin", "b.bin", "new.bin"])
    assert sorted(read(sealed).digests) == ["a.bin", "b.bin", "new.bin"]
    assert hashed == ["new.bin"], "a file that has a checksum is not read"


def test_a_damaged_file_is_not_sealed_as_sound(sealed: Path) -> None:
    (sealed / "a.bin").write_bytes(b"First")
    (sealed / "new.bin").write_bytes(b"new")
    seal(sealed, [*CONTENT, "new.bin"])
    assert read(sealed).damaged() == ["a.bin"]


def test_a_folder_without_checksums(tmp_path: Path) -> None:
    assert Checksums.read(tmp_path) is None
    assert Checksums.read(tmp_path / "none") is None


def test_a_pipe_is_not_read(sealed: Path) -> None:
    (sealed / "a.bin").unlink()
    os.mkfifo(sealed / "a.bin")
    assert read(sealed).damaged() == ["a.bin"]
