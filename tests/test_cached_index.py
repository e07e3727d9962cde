"""The indexes and keypoints in the user's cache repair themselves, because nobody can name them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TinyEncoder, TinyExtractor, photo_folder

from veduta import errors, photos
from veduta.curate.described_photos import describe_photos
from veduta.evaluation.keypoint_cache import cached_keypoints
from veduta.index import check_index, open_snapshot, update_cached_index, update_index


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    photo_folder(tmp_path / "photos", 4)
    return sorted((tmp_path / "photos").rglob("*.png"))


def update(index: Path, files: list[Path], encoder: TinyEncoder | None = None) -> Any:
    return update_cached_index(index, files, encoder or TinyEncoder(), TinyExtractor(), graph=False)


def remove_versions(index: Path) -> None:
    for file in (index / "photos.lance/_versions").glob("*.manifest"):
        file.unlink()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest cut": lambda index: (index / "index.json").write_bytes(b"{"),
    "manifest gone": lambda index: (index / "index.json").unlink(),
    "manifest and copy gone": lambda index: [file.unlink() for file in index.glob("index*.json")],
    "no version": remove_versions,
    "no table": lambda index: shutil.rmtree(index / "photos.lance"),
    "snapshot gone": lambda index: shutil.rmtree(index / "snapshot"),
    "snapshot cut": lambda index: [
        file.write_bytes(file.read_bytes()[:9]) for file in index.rglob("rows.arrow")
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_in_the_cache_is_made_again(
    tmp_path: Path, files: list[Path], damage: str
) -> None:
    index = tmp_path / "cache/index"
    assert update(index, files).added == 4
    DAMAGES[damage](index)
    assert update(index, files).total == 4
    assert open_snapshot(index).photos == 4
    assert list(check_index(index)) == []
    assert update(index, files).unchanged == 4


def test_an_index_of_another_encoder_is_made_again(tmp_path: Path, files: list[Path]) -> None:
    index = tmp_path / "cache/index"
    update(index, files)
    assert update(index, files, TinyEncoder("other", "fedcba9876543210")).added == 4


def test_a_cache_that_another_process_uses_is_not_removed(
    tmp_path: Path, files: list[Path]
) -> None:
    from veduta.index.table import writer_lock

    index = tmp_path / "cache/index"
    update(index, files)
    with writer_lock(index), pytest.raises(errors.IndexLocked, match="another process"):
        update(index, files)
    assert update(index, files).unchanged == 4


def test_the_folder_of_somebody_else_is_not_removed(tmp_path: Path, files: list[Path]) -> None:
    index = tmp_path / "cache/index"
    index.mkdir(parents=True)
    (index / "letter.txt").write_text("keep me")
    with pytest.raises(errors.CollectionError, match="move these files away"):
        update(index, files)
    assert (index / "letter.txt").read_text() == "keep me"


def unreadable_once(name: str) -> Callable[[Any], bytes]:
    real = photos.read_bytes
    error = errors.PhotoUnreadable(name, "the disk reports a read error")

    def read_bytes(path: Any) -> bytes:
        if os.fsencode(path).endswith(name.encode()):
            raise error
        return real(path)

    return read_bytes


def test_keypoints_that_could_not_be_read_are_read_the_next_time(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(file) for file in files]
    broken = tmp_path / "photos/broken.jpg"
    broken.write_bytes(b"no photo")
    names.append(str(broken))
    extractor = TinyExtractor()
    monkeypatch.setattr(photos, "read_bytes", unreadable_once("photo0002.png"))
    cached = cached_keypoints(names, extractor, tmp_path / "cache")
    assert {Path(file).name for file in cached.problems} == {"photo0002.png", "broken.jpg"}
    monkeypatch.undo()
    cached = cached_keypoints(names, extractor, tmp_path / "cache")
    assert {Path(file).name for file in cached.problems} == {"broken.jpg"}
    before = extractor.extracted
    cached = cached_keypoints(names, extractor, tmp_path / "cache")
    assert extractor.extracted == before, "all verdicts are about the bytes, so nothing is read"


def test_a_described_photo_that_cannot_be_read_now_is_a_problem_of_this_run_only(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe() -> dict[int, str]:
        described = describe_photos(
            files, folder=tmp_path / "cache", encoder=TinyEncoder(), extractor=TinyExtractor()
        )
        return dict(described.problems)

    assert describe() == {}
    changed = next(file for file in files if file.name == "photo0002.png")
    os.utime(changed, (1, 1))
    monkeypatch.setattr(photos, "read_bytes", unreadable_once("photo0002.png"))
    assert describe() == {files.index(changed): "the disk reports a read error"}
    monkeypatch.undo()
    assert describe() == {}


def test_an_index_is_not_a_cache(tmp_path: Path, files: list[Path]) -> None:
    """Only a cache is emptied: `veduta index` of a damaged index names the repair."""
    index = tmp_path / "index"
    update(index, files)
    (index / "index.json").write_bytes(b"{")
    with pytest.raises(errors.IndexDamaged, match="veduta repair"):
        update_index(index, files, TinyEncoder(), TinyExtractor())
