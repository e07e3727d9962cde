"""Keypoints of the index: each row's read back as they were, or the error names their file."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tiny import CentredEncoder, TinyExtractor, save_view, scene_keypoints

from veduta import errors, index
from veduta.index import graph, keypoint_files
from veduta.index.keypoint_files import KeypointReader, KeypointWriter, Place, StoredKeypoints
from veduta.index.table import open_table

PACKED = [scene_keypoints(scene, 0).pack() for scene in range(6)]


def file_of(made: Path, number: int) -> Path:
    return made / "keypoints" / f"{number:08}.bin"


def numbers(made: Path) -> list[int]:
    return sorted(int(file.stem) for file in (made / "keypoints").iterdir())


def reads(made: Path, place: Place) -> bytes:
    return KeypointReader(made).read(place, 48, 32).pack()


class TestFiles:
    """The files by themselves."""

    def test_places_read_back(self, tmp_path: Path) -> None:
        writer = KeypointWriter(tmp_path)
        places = [*writer.append(PACKED[:2]), *writer.append(PACKED[2:3]), *writer.append(PACKED)]
        for place, data in zip(places, [*PACKED[:3], *PACKED], strict=True):
            assert reads(tmp_path, place) == data
        assert numbers(tmp_path) == [0]
        assert file_of(tmp_path, 0).stat().st_size == sum(map(len, [*PACKED[:3], *PACKED]))

    def test_nothing_to_write_makes_no_file(self, tmp_path: Path) -> None:
        assert KeypointWriter(tmp_path).append([]) == []
        assert not (tmp_path / "keypoints").exists()

    def test_photo_without_keypoints(self, tmp_path: Path) -> None:
        from dataclasses import replace

        some = scene_keypoints(1, 0)
        none = replace(some, xy=some.xy[:0], descriptors=some.descriptors[:0])
        first, second = KeypointWriter(tmp_path).append([none.pack(), some.pack()])
        assert len(KeypointReader(tmp_path).read(first, 48, 32)) == 0
        assert reads(tmp_path, second) == some.pack()

    def test_each_run_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        (first,) = KeypointWriter(tmp_path).append(PACKED[:1])
        (second,) = KeypointWriter(tmp_path).append(PACKED[1:2])
        assert (first.file, second.file, second.offset) == (0, 1, 0)
        keypoint_files.remove_unused(tmp_path, {1})
        (third,) = KeypointWriter(tmp_path).append(PACKED[2:3])
        assert third.file == 2, "a number in use is not given again"
        assert [reads(tmp_path, p) for p in (second, third)] == PACKED[1:3]

    def test_a_run_that_died_is_not_written_into(self, tmp_path: Path) -> None:
        KeypointWriter(tmp_path).append(PACKED[:1])
        with file_of(tmp_path, 0).open("ab") as file:
            file.write(b"half of a photo's")
        (place,) = KeypointWriter(tmp_path).append(PACKED[1:2])
        assert place.file == 1
        assert reads(tmp_path, place) == PACKED[1]

    def test_what_a_failed_write_left_shifts_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = KeypointWriter(tmp_path)
        (before,) = writer.append(PACKED[:1])
        real = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(errors.StorageFull, match="disk is full"):
            writer.append(PACKED[1:3])
        monkeypatch.setattr(os, "fsync", real)
        with file_of(tmp_path, 0).open("ab") as file:
            file.write(b"more than was noted")
        after = writer.append(PACKED[3:5])
        assert [reads(tmp_path, p) for p in (before, *after)] == [PACKED[0], *PACKED[3:5]]

    def test_a_write_that_is_cut_short_shifts_nobody(self, tmp_path: Path) -> None:
        writer = KeypointWriter(tmp_path)
        (before,) = writer.append(PACKED[:1])
        writer.append(PACKED[1:3])
        with file_of(tmp_path, 0).open("r+b") as file:
            file.truncate(before.size + 10)
        after = writer.append(PACKED[3:4])
        assert [reads(tmp_path, p) for p in (before, *after)] == [PACKED[0], PACKED[3]]

    @pytest.mark.parametrize("failing", ["write", "ftruncate", "close"])
    def test_an_append_that_fails_anywhere_shifts_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        """A part of the bytes is written, and then the disk is full."""
        writer = KeypointWriter(tmp_path)
        (before,) = writer.append(PACKED[:1])
        real_write, real = os.write, getattr(os, failing)
        written: list[int] = []

        def write(descriptor: int, data: Any) -> int:
            if written:
                raise OSError(28, "No space left on device")
            written.append(real_write(descriptor, data[:1000]))
            return written[0]

        def fail(descriptor: int, *arguments: Any) -> None:
            if not written:
                return real(descriptor, *arguments)
            if failing == "close":
                real(descriptor)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "write", write)
            if failing != "write":
                broken.setattr(os, failing, fail)
            with pytest.raises(errors.StorageFull, match="disk is full"):
                writer.append(PACKED[1:3])
        assert written == [1000]
        after = writer.append(PACKED[3:5])
        assert [reads(tmp_path, p) for p in (before, *after)] == [PACKED[0], *PACKED[3:5]]
        assert after[0].offset == before.size

    def test_unused_files_go_and_strangers_stay(self, tmp_path: Path) -> None:
        keypoint_files.remove_unused(tmp_path, set())  # no folder yet
        for _ in range(3):
            KeypointWriter(tmp_path).append(PACKED[:1])
        (tmp_path / "keypoints/notes.txt").write_text("keep me")
        (tmp_path / "keypoints/mine.bin").write_text("keep me too")
        keypoint_files.remove_unused(tmp_path, {1})
        left = sorted(file.name for file in (tmp_path / "keypoints").iterdir())
        assert left == ["00000001.bin", "mine.bin", "notes.txt"]

    @pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "shifted", "folder"])
    def test_damage_names_the_file_and_the_remedy(self, tmp_path: Path, damage: str) -> None:
        first, second = KeypointWriter(tmp_path).append(PACKED[:2])
        file = file_of(tmp_path, 0)
        data = bytearray(file.read_bytes())
        place = second
        match damage:
            case "flipped":
                data[second.offset + 200] ^= 1
                file.write_bytes(data)
                assert reads(tmp_path, first) == PACKED[0], "the other photo's are as they were"
            case "cut":
                file.write_bytes(data[:-1])
            case "gone":
                file.unlink()
            case "shifted":
                place = Place(0, second.offset - 1, second.size)
            case "folder":
                file.unlink()
                file.mkdir()
        with pytest.raises(errors.IndexDamaged, match=r"00000000\.bin.*veduta repair --index"):
            reads(tmp_path, place)

    def test_every_flipped_byte_is_found(self, tmp_path: Path) -> None:
        (place,) = KeypointWriter(tmp_path).append(PACKED[:1])
        data = file_of(tmp_path, 0).read_bytes()
        for at in [*range(12), *range(12, len(data), 97), len(data) - 1]:
            wrong = bytearray(data)
            wrong[at] ^= 0x40
            file_of(tmp_path, 0).write_bytes(wrong)
            with pytest.raises(errors.IndexDamaged):
                reads(tmp_path, place)

    def test_no_permission_and_a_full_disk_are_told_apart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: Path, *args: Any, **options: Any) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(errors.CollectionError, match="no permission, so it cannot write"):
            KeypointWriter(tmp_path).append(PACKED[:1])

    def test_several_threads_read_at_once(self, tmp_path: Path) -> None:
        places = KeypointWriter(tmp_path).append(PACKED)
        reader = KeypointReader(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda p: reader.read(p, 48, 32).pack(), places * 30))
        assert got == PACKED * 30


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(4):
        for number in range(3):
            save_view(tmp_path / f"photos/scene{scene}/{number}.png", 300 + scene, number)
    return tmp_path / "photos"


@pytest.fixture
def encoder() -> Any:
    return CentredEncoder()


@pytest.fixture
def extractor() -> TinyExtractor:
    return TinyExtractor()


@pytest.fixture
def made(tmp_path: Path, photos: Path, encoder: Any, extractor: TinyExtractor) -> Path:
    path = tmp_path / "index"
    index.create_index(path, encoder, extractor)
    index.update_index(path, [photos], encoder, extractor)
    return path


def places(made: Path) -> dict[str, Place]:
    rows = index.open_snapshot(made).rows.to_pylist()
    return {
        os.path.basename(os.path.dirname(os.fsdecode(row["path"])))
        + "/"
        + os.path.basename(os.fsdecode(row["path"])): Place(
            *(row[name] for name in keypoint_files.COLUMNS)
        )
        for row in rows
    }


def all_are_right(made: Path) -> None:
    """Each row's keypoints are those of the photo that is at its path now."""
    from veduta.photos import load

    snapshot = index.open_snapshot(made)
    stored = StoredKeypoints(made, snapshot)
    for number, row in enumerate(snapshot.rows.to_pylist()[: snapshot.photos]):
        photo = load(row["path"])
        expected = TinyExtractor().extract(photo.pixels, photo.width, photo.height)
        assert stored.read(number).pack() == expected.pack()


class TestInAnIndex:
    """From the photos to the rows that point into the files."""

    def test_each_photo_has_its_keypoints(self, made: Path, extractor: TinyExtractor) -> None:
        all_are_right(made)
        assert extractor.extracted == 12
        assert list(index.check_index(made)) == []

    def test_those_of_few_photos_are_kept_in_memory(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keypoint_files, "_KEPT_PHOTOS", 2)
        stored = StoredKeypoints(made, index.open_snapshot(made))
        first = stored.read(0)
        assert stored.read(0) is first
        assert stored.read(1).pack() != first.pack()
        stored.read(2)
        assert stored.read(0) is not first and stored.read(0).pack() == first.pack()

    def test_many_commits_of_one_run_share_a_file(
        self,
        tmp_path: Path,
        photos: Path,
        encoder: Any,
        extractor: TinyExtractor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", 5)
        made = tmp_path / "other"
        index.create_index(made, encoder, extractor)
        index.update_index(made, [photos], encoder, extractor)
        assert numbers(made) == [0]
        all_are_right(made)

    def test_copies_and_moved_photos_keep_their_place(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor
    ) -> None:
        before = places(made)
        shutil.copy(photos / "scene0/0.png", photos / "scene0/copy.png")
        shutil.move(photos / "scene1/1.png", photos / "scene1/moved.png")
        report = index.update_index(made, [photos], encoder, extractor)
        assert (report.copied, report.moved, report.encoded) == (1, 1, 0)
        after = places(made)
        assert after["scene0/copy.png"] == after["scene0/0.png"] == before["scene0/0.png"]
        assert after["scene1/moved.png"] == before["scene1/1.png"]
        assert extractor.extracted == 12
        all_are_right(made)
        (photos / "scene0/0.png").unlink()
        index.update_index(made, [photos], encoder, extractor)
        all_are_right(made)

    def test_a_changed_photo_gets_new_ones(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor
    ) -> None:
        before = places(made)
        save_view(photos / "scene0/0.png", 999)
        index.update_index(made, [photos], encoder, extractor)
        after = places(made)
        assert [name for name in after if after[name] != before[name]] == ["scene0/0.png"]
        assert numbers(made) == [0, 1]
        all_are_right(made)

    def test_two_photos_that_swap_names_swap_keypoints(
        self,
        made: Path,
        photos: Path,
        encoder: Any,
        extractor: TinyExtractor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for rows in (1, 512):
            monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", rows)
            a, b = photos / "scene0/0.png", photos / "scene3/2.png"
            first, second = a.read_bytes(), b.read_bytes()
            a.write_bytes(second)
            b.write_bytes(first)
            index.update_index(made, [photos], encoder, extractor)
            all_are_right(made)

    def test_files_that_no_row_needs_are_removed(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor
    ) -> None:
        for path in photos.rglob("*.png"):
            path.write_bytes(path.read_bytes() + b"changed")
        index.update_index(made, [photos], encoder, extractor)
        assert numbers(made) == [1]
        all_are_right(made)
        for path in photos.rglob("*.png"):
            path.unlink()
        index.update_index(made, [photos], encoder, extractor, allow_empty=True)
        assert numbers(made) == []

    def test_a_broken_photo_has_none_and_gets_them_when_mended(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor
    ) -> None:
        (photos / "scene0/0.png").write_bytes(b"")
        index.update_index(made, [photos], encoder, extractor)
        assert places(made)["scene0/0.png"] == (None, None, None)
        all_are_right(made)
        save_view(photos / "scene0/0.png", 5)
        index.update_index(made, [photos], encoder, extractor)
        all_are_right(made)

    def test_a_commit_that_fails_leaves_no_row_without_keypoints(
        self,
        made: Path,
        photos: Path,
        encoder: Any,
        extractor: TinyExtractor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from veduta.index.table import Table

        monkeypatch.setattr("veduta.index.updating.COMMIT_ROWS", 2)
        for number in range(6):
            save_view(photos / f"late/{number}.png", 700 + number)
        real, commits = Table.append, []

        def fail(self: Table, rows: Any) -> None:
            commits.append(rows)
            if len(commits) == 2:
                raise errors.StorageFull("the disk is full")
            real(self, rows)

        monkeypatch.setattr(Table, "append", fail)
        with pytest.raises(errors.StorageFull):
            index.update_index(made, [photos], encoder, extractor)
        monkeypatch.undo()
        assert index.open_snapshot(made).photos == 14
        all_are_right(made)
        assert list(index.check_index(made)) == []
        index.update_index(made, [photos], encoder, extractor)
        assert index.open_snapshot(made).photos == 18
        all_are_right(made)

    @pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
    def test_check_finds_and_repair_removes_just_those_rows(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor, damage: str
    ) -> None:
        save_view(photos / "late/0.png", 800)
        index.update_index(made, [photos], encoder, extractor)
        where = places(made)
        file = file_of(made, 0)
        data = bytearray(file.read_bytes())
        if damage == "flipped":
            data[where["scene2/1.png"].offset + 30] ^= 1
            file.write_bytes(data)
            expected = {"scene2/1.png"}
        elif damage == "cut":
            cut = sorted(place.offset for place in where.values() if place.file == 0)[7]
            file.write_bytes(data[: cut + 5])
            expected = {n for n, p in where.items() if p.file == 0 and p.offset >= cut}
            assert len(expected) == 5
        else:
            file.unlink()
            expected = {name for name, place in where.items() if place.file == 0}
            assert len(expected) == 12
        found = list(index.check_index(made))
        assert {f.kind for f in found} == {"keypoints damaged"}
        assert {"/".join(os.fsdecode(f.path).split("/")[-2:]) for f in found} == expected
        repaired = index.repair_index(made)
        assert (repaired.removed_rows, repaired.photos) == (len(expected), 13 - len(expected))
        assert list(index.check_index(made)) == []
        report = index.update_index(made, [photos], encoder, extractor)
        assert report.added == len(expected)
        assert index.open_snapshot(made).photos == 13
        assert list(index.check_index(made)) == []
        all_are_right(made)

    def test_what_no_row_points_into_is_no_damage(self, made: Path) -> None:
        with file_of(made, 0).open("ab") as file:
            file.write(b"left by a failed commit")
        file_of(made, 7).write_bytes(b"left by a run that died")
        assert list(index.check_index(made)) == []
        assert index.repair_index(made).removed_rows == 0
        all_are_right(made)

    def test_a_damaged_row_stops_the_linking_and_says_so(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor
    ) -> None:
        shutil.rmtree(made / "graph")
        file_of(made, 0).unlink()
        with pytest.raises(errors.IndexDamaged, match=r"00000000\.bin.*repair"):
            index.update_index(made, [photos], encoder, extractor)
        index.repair_index(made)
        assert index.update_index(made, [photos], encoder, extractor).added == 12
        assert graph.graph_is_whole(made, index.Manifest.read(made))

    def test_keypoints_of_another_kind_are_refused(
        self, made: Path, photos: Path, encoder: Any, extractor: TinyExtractor, tmp_path: Path
    ) -> None:
        other = TinyExtractor("ffffffffffffffff")
        with pytest.raises(errors.EncoderMismatch, match=r"'tiny' \(0000.*'tiny' \(ffff"):
            index.update_index(made, [photos], encoder, other)
        with pytest.raises(errors.EncoderMismatch, match="this run uses: none"):
            index.update_index(made, [photos], encoder)
        plain = tmp_path / "plain"
        index.create_index(plain, encoder)
        with pytest.raises(errors.EncoderMismatch, match="holds no keypoints"):
            index.update_index(plain, [photos], encoder, extractor)

    def test_an_index_without_keypoints_has_no_files(
        self, tmp_path: Path, photos: Path, encoder: Any
    ) -> None:
        plain = tmp_path / "plain"
        index.create_index(plain, encoder)
        index.update_index(plain, [photos], encoder)
        assert not (plain / "keypoints").exists()
        assert index.open_snapshot(plain).keypoint_files == set()
        assert list(index.check_index(plain)) == []
        assert open_table(plain).count("keypoints_file IS NULL") == 12
