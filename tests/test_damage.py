"""Damaged files of an index are found: an answer is right, or an error names the file."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import index
from veduta.index import snapshot as snapshots
from veduta.search import Engine

Answers = list[list[tuple[str, float]]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for scene in range(4):
        for number in range(5):
            save_view(folder / f"scene{scene}/{number}.png", 300 + scene, number)
    return folder


@pytest.fixture(scope="module")
def sound(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an index of two runs; no test may change it."""
    made = tmp_path_factory.mktemp("sound") / "index"
    encoder, extractor = CentredEncoder(), TinyExtractor()
    index.create_index(made, encoder, extractor)
    index.update_index(made, [photos / "scene0"], encoder, extractor, labels="folders")
    index.update_index(made, [photos], encoder, extractor, labels="folders")
    return made


@pytest.fixture(scope="module")
def expected(sound: Path, photos: Path) -> Answers:
    return answers(sound, photos)


@pytest.fixture
def made(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def answers(made: Path, photos: Path) -> Answers:
    """Return the hits of four queries with their scores."""
    engine = Engine(made, encoder=CentredEncoder())
    queries = [photos / f"scene{scene}/{scene}.png" for scene in range(4)]
    found = [engine.search(engine.encode_query([query])) for query in queries]
    return [[(hit.path, hit.score) for hit in hits] for hits in found]


def update(made: Path) -> index.UpdateReport:
    return index.update_index(made, [], CentredEncoder(), TinyExtractor())


def snapshot_folder(made: Path) -> Path:
    (folder,) = (made / "snapshot").iterdir()
    return folder


def damages(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield the data with a flipped bit at the beginning, middle and end, and cut."""
    rng = random.Random(seed)
    for at in {0, rng.randrange(len(data)), len(data) // 2, len(data) - 1}:
        wrong = bytearray(data)
        wrong[at] ^= 1 << rng.randrange(8)
        yield bytes(wrong)
    for size in {0, 1, rng.randrange(len(data)), len(data) - 1}:
        if size < len(data):
            yield data[:size]


SNAPSHOT_FILES = (
    "rows.arrow",
    "descriptors.f16",
    "codes.i8",
    "scales.f32",
    "errors.f32",
    "snapshot.json",
    "checksums.json",
)


class TestSnapshot:
    """It is derived from the table, and built again when it is damaged."""

    @pytest.mark.parametrize("name", SNAPSHOT_FILES)
    def test_damage_changes_no_answer(
        self, made: Path, photos: Path, expected: Answers, name: str
    ) -> None:
        data = (snapshot_folder(made) / name).read_bytes()
        for wrong in damages(data, seed=len(name)):
            file = snapshot_folder(made) / name
            status = file.stat()
            file.write_bytes(wrong)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
            found = index.open_snapshot(made)
            assert found.notice is not None
            assert "its snapshot was damaged" in found.notice
            assert index.open_snapshot(made).notice is None, "it was mended"
            assert answers(made, photos) == expected

    @pytest.mark.parametrize("name", SNAPSHOT_FILES)
    def test_a_missing_file_changes_no_answer(
        self, made: Path, photos: Path, expected: Answers, name: str
    ) -> None:
        (snapshot_folder(made) / name).unlink()
        assert answers(made, photos) == expected

    @pytest.mark.slow
    def test_no_mutant_of_the_rows_is_believed(self, made: Path) -> None:
        folder = snapshot_folder(made)
        file = folder / "rows.arrow"
        data = file.read_bytes()
        rng = random.Random(0)
        for _ in range(3000):
            wrong = bytearray(data)
            wrong[rng.randrange(len(data))] = rng.randrange(256)
            file.write_bytes(wrong)
            assert (snapshots._open(folder) is not None) == (wrong == data)

    def test_an_update_does_not_read_from_it(
        self, made: Path, photos: Path, expected: Answers
    ) -> None:
        file = snapshot_folder(made) / "rows.arrow"
        data = file.read_bytes()
        name = os.fsencode(photos / "scene1/1.png")
        assert name in data
        file.write_bytes(data.replace(name, os.fsencode(photos / "scene1/7.png")))
        report = update(made)
        assert (report.unchanged, report.added, report.removed) == (20, 0, 0)
        assert answers(made, photos) == expected

    def test_descriptors_that_are_no_numbers_are_not_believed(
        self, made: Path, photos: Path, expected: Answers
    ) -> None:
        file = snapshot_folder(made) / "descriptors.f16"
        rows = np.frombuffer(file.read_bytes(), np.float16).copy()
        rows[:200] = np.nan
        file.write_bytes(rows.tobytes())
        assert answers(made, photos) == expected

    def test_the_check_finds_what_no_stamp_tells(self, made: Path) -> None:
        manifest = index.Manifest.read(made)
        assert not snapshots.snapshot_is_damaged(made, manifest)
        file = snapshot_folder(made) / "scales.f32"
        file.write_bytes(b"\0" * file.stat().st_size)
        assert snapshots.snapshot_is_damaged(made, manifest)

    def test_it_is_on_the_disk_before_it_has_its_name(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: set[str] = set()
        real_rename = Path.rename

        def renamed(self: Path, target: Path) -> Path:
            if target.parent.name == "snapshot" and self.name.startswith(".draft"):
                assert {*SNAPSHOT_FILES, self.name} <= synced
            return real_rename(self, target)

        monkeypatch.setattr("veduta.files.sync", lambda path: synced.add(Path(path).name))
        monkeypatch.setattr(Path, "rename", renamed)
        shutil.rmtree(snapshot_folder(made))
        index.open_snapshot(made)
        assert "snapshot" in synced
