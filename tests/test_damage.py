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
from veduta.errors import CollectionError, IndexDamaged
from veduta.index import snapshot as snapshots
from veduta.index.checksums import Checksums
from veduta.index.projection_file import read_projection
from veduta.index.table import open_table
from veduta.index.table_files import files_of_fragment
from veduta.recognize import LabelledGallery, cached_recognizer
from veduta.search import Engine
from veduta.search.reranking import open_gallery

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
    """Return an index of three runs, the last of which removed a photo; no test may change it."""
    made = tmp_path_factory.mktemp("sound") / "index"
    encoder, extractor = CentredEncoder(), TinyExtractor()
    index.create_index(made, encoder, extractor)
    late = save_view(photos / "scene0/late.png", 300, 9)
    index.update_index(made, [photos / "scene0"], encoder, extractor, labels="folders")
    index.update_index(made, [photos], encoder, extractor, labels="folders")
    late.unlink()
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


ROLES = ("manifest", "data", "deletions")


def table_file(made: Path, role: str) -> str:
    """Return the name in the index of a file of the table's newest version."""
    folder = made / "photos.lance"
    if role == "manifest":
        return os.fspath(min((folder / "_versions").glob("*.manifest")).relative_to(made))
    (fragment, *_) = [f for f in open_table(made).dataset.get_fragments() if f.deletion_file()]
    data, deletions = files_of_fragment(fragment)
    return f"photos.lance/{data if role == 'data' else deletions}"


def kinds(made: Path) -> set[str]:
    return {finding.kind for finding in index.check_index(made)}


def close_to(expected: Answers) -> list[object]:
    return [pytest.approx(dict(hits), abs=1e-6) for hits in expected]


def as_dicts(found: Answers) -> list[dict[str, float]]:
    return [dict(hits) for hits in found]


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

    @pytest.mark.slow
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


@pytest.mark.parametrize("role", ROLES)
class TestTable:
    """It holds the truth, so damage of it is told, and repair drops what is lost."""

    def test_a_search_goes_on(self, made: Path, photos: Path, expected: Answers, role: str) -> None:
        """It reads the snapshot; only damage of the newest manifest can be seen from there."""
        file = made / table_file(made, role)
        data = file.read_bytes()
        for wrong in damages(data, seed=len(role)):
            file.write_bytes(wrong)
            assert answers(made, photos) == expected
            notice = index.open_snapshot(made).notice
            if role == "manifest":
                assert notice is not None
                assert "damaged" in notice
                assert f"veduta repair --index {made}" in notice
            else:
                assert notice is None

    def test_nothing_is_read_from_it(self, made: Path, role: str) -> None:
        name = table_file(made, role)
        file = made / name
        data = file.read_bytes()
        for wrong in [*damages(data, seed=len(role)), None]:
            shutil.rmtree(made / "snapshot", ignore_errors=True)
            if wrong is None:
                file.unlink()
            else:
                file.write_bytes(wrong)
            with pytest.raises(IndexDamaged, match=f"veduta repair --index {made}") as info:
                update(made)
            if role == "manifest":
                snapshot = index.open_snapshot(made)
                assert snapshot.notice is not None
                assert f"veduta repair --index {made}" in snapshot.notice
                assert "last good version" in snapshot.notice
            else:
                assert name in str(info.value) or wrong is None
                with pytest.raises(IndexDamaged, match=f"veduta repair --index {made}"):
                    index.open_snapshot(made)
                with pytest.raises(IndexDamaged, match=f"veduta repair --index {made}"):
                    index.StoredThumbnails(made).read([3])

    @pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
    def test_repair_and_index_give_the_same_answers(
        self, made: Path, photos: Path, expected: Answers, role: str, damage: str
    ) -> None:
        file = made / table_file(made, role)
        data = bytearray(file.read_bytes())
        match damage:
            case "flipped":
                data[len(data) // 2] ^= 16
                file.write_bytes(data)
            case "cut":
                file.write_bytes(data[:-9])
            case "gone":
                file.unlink()
        gone = {"photo missing"} if role == "manifest" else set()  # Its version removed a photo.
        assert kinds(made) == {"table damaged", *gone}
        report = index.repair_index(made)
        if role == "manifest":
            assert report.went_back
        else:
            assert report.lost_fragments == 1
        done = update(made)
        assert done.total == 20
        assert kinds(made) == set()
        assert as_dicts(answers(made, photos)) == close_to(expected)
        again = index.repair_index(made)
        assert not again.went_back
        assert (again.lost_fragments, again.removed_rows, again.rebuilt) == (0, 0, ())


class TestChecksumsOfTheTable:
    """They are no part of the truth, but without them damage is not found."""

    def test_they_are_damaged(self, made: Path, photos: Path, expected: Answers) -> None:
        file = made / "photos.lance/checksums.json"
        for wrong in damages(file.read_bytes(), seed=0):
            file.write_bytes(wrong)
            assert answers(made, photos) == expected
            assert kinds(made) == {"table damaged"}
            with pytest.raises(IndexDamaged, match=r"checksums\.json.*veduta repair"):
                update(made)
        assert index.repair_index(made).rebuilt == ("checksums",)
        assert kinds(made) == set()
        assert update(made).unchanged == 20

    def test_an_index_without_them_gets_them_at_its_next_update(self, made: Path) -> None:
        file = made / "photos.lance/checksums.json"
        sealed = file.read_bytes()
        file.unlink()
        shutil.rmtree(made / "snapshot")
        assert index.open_snapshot(made).photos == 20
        assert update(made).unchanged == 20
        assert file.read_bytes() == sealed

    def test_the_newest_version_vanished(self, made: Path, photos: Path, expected: Answers) -> None:
        (made / table_file(made, "manifest")).unlink()
        snapshot = index.open_snapshot(made)
        assert snapshot.notice is not None
        assert "Its snapshot is whole and is used" in snapshot.notice
        assert answers(made, photos) == expected
        shutil.rmtree(made / "snapshot")
        snapshot = index.open_snapshot(made)
        assert snapshot.notice is not None
        assert "is gone; using the last good version" in snapshot.notice
        assert kinds(made) == {"table damaged", "photo missing"}, "the removed photo is back"
        assert index.repair_index(made).went_back
        assert update(made).removed == 1
        assert kinds(made) == set()
        assert as_dicts(answers(made, photos)) == close_to(expected)

    def test_a_version_vanished_of_an_index_without_checksums(self, made: Path) -> None:
        """Lance notes which version is its newest."""
        (made / "photos.lance/checksums.json").unlink()
        (made / table_file(made, "manifest")).unlink()
        snapshot = index.open_snapshot(made)
        assert snapshot.notice is not None
        assert "is gone; using the last good version" in snapshot.notice
        assert f"veduta repair --index {made}" in snapshot.notice
        assert index.repair_index(made).went_back
        assert index.open_snapshot(made).notice is None
        assert update(made).removed == 1
        assert kinds(made) == set()

    def test_each_commit_is_sealed(self, made: Path, photos: Path) -> None:
        known = Checksums.read(made / "photos.lance")
        assert known is not None
        folder = made / "photos.lance"
        files = {
            file.relative_to(folder).as_posix()
            for part in ("data", "_versions", "_deletions")
            for file in (folder / part).iterdir()
            if file.suffix != ".json"
        }
        assert set(known.digests) == files
        assert known.damaged(anew=True) == []


def put_special(file: Path, kind: str) -> None:
    """Put something that is no regular file in the place of a file."""
    file.unlink()
    match kind:
        case "folder":
            file.mkdir()
            (file / "something").write_text("in it")
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "loop":
            file.symlink_to(file.name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop"])
@pytest.mark.parametrize(
    "pattern",
    [
        "photos.lance/checksums.json",
        "photos.lance/_versions/*.manifest",
        "photos.lance/data/*",
        "snapshot/*/rows.arrow",
        "snapshot/*/checksums.json",
        "graph/*/graph.json",
        "keypoints/*.bin",
    ],
)
def test_what_is_no_regular_file_is_damage(
    made: Path, photos: Path, expected: Answers, pattern: str, kind: str
) -> None:
    """Nothing waits for a pipe or reads a device that never ends."""
    put_special(min(made.glob(pattern)), kind)
    try:
        answers(made, photos)
    except IndexDamaged as error:
        assert f"veduta repair --index {made}" in str(error)
    assert kinds(made) <= {
        "table damaged", "photo missing", "keypoints damaged", "snapshot damaged", "graph damaged"
    }  # fmt: skip
    index.repair_index(made)
    update(made)
    assert kinds(made) == set()
    assert as_dicts(answers(made, photos)) == close_to(expected)


@pytest.fixture
def projected(made: Path, photos: Path) -> tuple[Path, Answers]:
    """Return an index with a projection, and its answers."""
    index.set_projection(made, 6)
    return made, answers(made, photos)


def projection_file(made: Path) -> Path:
    (file,) = made.glob("projection-*.npz")
    return file


class TestProjection:
    """It cannot be fitted again in all cases, so the snapshot holds a copy."""

    def test_a_search_uses_the_copy_and_says_so(
        self, projected: tuple[Path, Answers], photos: Path
    ) -> None:
        made, expected = projected
        file = projection_file(made)
        for wrong in [*damages(file.read_bytes(), seed=1), b"PK", None]:
            if wrong is None:
                file.unlink()
            else:
                file.write_bytes(wrong)
            assert answers(made, photos) == expected
            notice = Engine(made).state.notice
            if notice is None:  # The flipped bit is of no account.
                read_projection(made, index.Manifest.read(made))
                continue
            assert file.name in notice
            assert f"veduta repair --index {made}" in notice
            assert "unsafe" not in notice
            assert "pickle" not in notice
        assert Engine(made).state.notice is not None

    def test_repair_restores_it(self, projected: tuple[Path, Answers], photos: Path) -> None:
        made, expected = projected
        file = projection_file(made)
        sound = file.read_bytes()
        for wrong in (sound[:-100], b"", None):
            if wrong is None:
                file.unlink()
            else:
                file.write_bytes(wrong)
            assert kinds(made) == {"projection damaged"}
            report = index.repair_index(made)
            assert (report.projection, report.rebuilt) == ("restored", ())
            assert kinds(made) == set()
            assert answers(made, photos) == expected

    def test_repair_drops_it_without_a_copy(
        self, projected: tuple[Path, Answers], photos: Path, expected: Answers
    ) -> None:
        made, with_projection = projected
        projection_file(made).unlink()
        shutil.rmtree(made / "snapshot")
        with pytest.raises(IndexDamaged, match=f"projection-.*veduta repair --index {made}"):
            answers(made, photos)
        assert index.repair_index(made).projection == "dropped"
        assert kinds(made) == set()
        assert as_dicts(answers(made, photos)) == close_to(expected)
        index.set_projection(made, 6)
        assert as_dicts(answers(made, photos)) == close_to(with_projection)

    def test_an_update_says_so_before_it_reads(
        self, projected: tuple[Path, Answers], photos: Path
    ) -> None:
        made, _ = projected
        projection_file(made).write_bytes(b"PK")
        with pytest.raises(IndexDamaged, match=f"projection-.*veduta repair --index {made}"):
            update(made)

    def test_another_projection_under_its_name(
        self, projected: tuple[Path, Answers], tmp_path: Path, photos: Path
    ) -> None:
        made, expected = projected
        file = projection_file(made)
        index.set_projection(made, 5)
        other = projection_file(made).read_bytes()
        index.set_projection(made, 6)
        assert projection_file(made) == file
        file.write_bytes(other)
        assert kinds(made) == {"projection damaged"}
        assert answers(made, photos) == expected

    def test_objects_are_not_loaded(self, projected: tuple[Path, Answers]) -> None:
        made, _ = projected
        content = np.array([{"a": 1}], dtype=object)
        with projection_file(made).open("wb") as stream:
            np.savez(stream, mean=content, matrix=content, power=1, samples=1)
        shutil.rmtree(made / "snapshot")
        with pytest.raises(IndexDamaged) as info:
            index.open_snapshot(made)
        assert "allow_pickle" not in str(info.value)
        assert "unsafe" not in str(info.value)


GRAPH_FILES = (
    "graph.json",
    "graph_starts.npy",
    "graph_ends.npy",
    "graph_weights.npy",
    "photo_of_row.npy",
    "row_of_photo.npy",
    "checksums.json",
)
LINK_FILES = ("contents.npy", "ends.npy", "similarities.npy", "agreeing.npy")


def graph_folder(made: Path) -> Path:
    (folder,) = (made / "graph").iterdir()
    return folder


class TestGraph:
    """It is derived, so a search does without it and says so, and an update makes it again."""

    @pytest.mark.parametrize("name", GRAPH_FILES)
    def test_a_search_does_without_it_and_says_so(
        self, made: Path, photos: Path, name: str
    ) -> None:
        file = graph_folder(made) / name
        data = file.read_bytes()
        without = Path(shutil.copytree(made, made.with_name("without")))
        shutil.rmtree(without / "graph")
        expected = answers(without, photos)
        for wrong in damages(data, seed=len(name)):
            file.write_bytes(wrong)
            engine = Engine(made, encoder=CentredEncoder())
            assert engine.state.gallery.graph is None
            assert engine.state.notice is not None
            assert f"Make it again with: veduta index --index {made}" in engine.state.notice
        assert answers(made, photos) == expected
        status = index.read_status(made)
        assert (status["graph"], status["linked"]) == ("damaged", False)
        assert status["notice"] == engine.state.notice

    @pytest.mark.parametrize("name", [*GRAPH_FILES, *LINK_FILES])
    def test_an_update_makes_it_again(
        self, made: Path, photos: Path, expected: Answers, name: str
    ) -> None:
        file = graph_folder(made) / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
        assert kinds(made) == {"graph damaged"}
        assert index.read_status(made)["graph"] == "damaged"
        assert update(made).unchanged == 20
        assert index.read_status(made)["linked"]
        assert kinds(made) == set()
        assert answers(made, photos) == expected

    @pytest.mark.parametrize("name", ["graph_weights.npy", "ends.npy"])
    def test_repair_makes_it_again(
        self, made: Path, photos: Path, expected: Answers, name: str
    ) -> None:
        (graph_folder(made) / name).write_bytes(b"")
        assert index.repair_index(made).rebuilt == ("graph",)
        assert kinds(made) == set()
        assert answers(made, photos) == expected

    def test_it_is_on_the_disk_before_it_has_its_name(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: set[str] = set()
        real_rename = Path.rename

        def renamed(self: Path, target: Path) -> Path:
            if target.parent.name == "graph" and self.name.startswith(".draft"):
                assert {*GRAPH_FILES, *LINK_FILES, self.name} <= synced
            return real_rename(self, target)

        monkeypatch.setattr("veduta.files.sync", lambda path: synced.add(Path(path).name))
        monkeypatch.setattr(Path, "rename", renamed)
        shutil.rmtree(graph_folder(made))
        update(made)
        assert "graph" in synced


def test_files_that_are_cut_under_an_open_engine(
    made: Path, photos: Path, expected: Answers
) -> None:
    """To read beyond the end of a mapped file would end the process."""
    engine = Engine(made, encoder=CentredEncoder())
    query = engine.encode_query([photos / "scene1/1.png"])
    for name in SNAPSHOT_FILES:
        os.truncate(snapshot_folder(made) / name, 0)
        hits = engine.search(query)
        assert [(hit.path, hit.score) for hit in hits] == expected[1]
        assert "its snapshot was damaged" in (engine.state.notice or "")
        hits = engine.search(query)
        assert "its snapshot was damaged" in (engine.state.notice or ""), "it is not forgotten"
    os.truncate(graph_folder(made) / "graph_weights.npy", 0)
    engine.search(query)
    assert "neighbour graph" in (engine.state.notice or "")


class TestRecognisers:
    """They are learned from the labels, so they can be learned again."""

    @pytest.fixture
    def learned(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        self.recognised(made)
        (file,) = (made / "recognition").iterdir()
        return file

    def recognised(self, made: Path) -> list[float]:
        gallery = open_gallery(made)
        labels = gallery.snapshot.rows["label"].to_pylist()[: gallery.snapshot.photos]
        recognizer = cached_recognizer(made, LabelledGallery.of(gallery, labels), "linear")
        answer = recognizer.answer(gallery.snapshot.descriptors[3].astype(np.float32), ())
        return [float(confidence) for confidence in answer.confidences]

    def test_a_damaged_one_is_learned_again(self, made: Path, learned: Path) -> None:
        expected = self.recognised(made)
        sound = learned.read_bytes()
        for wrong in damages(sound, seed=5):
            learned.write_bytes(wrong)
            assert self.recognised(made) == expected

    def test_the_check_finds_it_and_repair_removes_it(self, made: Path, learned: Path) -> None:
        expected = self.recognised(made)
        data = bytearray(learned.read_bytes())
        data[len(data) // 2] ^= 1
        learned.write_bytes(data)
        assert kinds(made) == {"recogniser damaged"}
        assert index.repair_index(made).rebuilt == ("recogniser",)
        assert not learned.exists()
        assert kinds(made) == set()
        assert self.recognised(made) == expected


class TestKeypoints:
    """A search reads those of a few photos, so each photo's have a checksum of their own."""

    def test_damage_is_told_and_mended(self, made: Path, photos: Path, expected: Answers) -> None:
        file = sorted((made / "keypoints").iterdir())[-1]
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(IndexDamaged, match=f"{file.name}.*veduta repair --index {made}"):
            answers(made, photos)
        assert kinds(made) == {"keypoints damaged"}
        assert index.repair_index(made).removed_rows == 1
        assert update(made).added == 1
        assert kinds(made) == set()
        assert as_dicts(answers(made, photos)) == close_to(expected)


def all_files(made: Path) -> list[str]:
    return sorted(os.fspath(f.relative_to(made)) for f in made.rglob("*") if f.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_damage_of_any_file_is_believed(
    sound: Path, photos: Path, expected: Answers, tmp_path: Path, seed: int
) -> None:
    """Each file in turn: the answers are right, or a notice or an error names the remedy."""
    rng = random.Random(seed)
    made = tmp_path / "index"
    shutil.copytree(sound, made)
    without = Path(shutil.copytree(sound, tmp_path / "without"))
    shutil.rmtree(without / "graph")
    accepted = (expected, answers(without, photos))
    found: dict[str, int] = {"right": 0, "notice": 0, "error": 0}
    for name in all_files(sound):
        data = (sound / name).read_bytes()
        for wrong in rng.sample(list(damages(data, rng.randrange(1000))), 2) if data else [b"x"]:
            shutil.rmtree(made)
            shutil.copytree(sound, made)
            (made / name).write_bytes(wrong)
            try:
                engine = Engine(made, encoder=CentredEncoder())
                answer = answers(made, photos)
            except CollectionError as error:
                assert error.exit_code == 4
                assert "veduta " in str(error), (name, error)
                found["error"] += 1
            else:
                assert answer in accepted, name
                assert answer == expected or engine.state.notice, name
                found["notice" if engine.state.notice else "right"] += 1
            try:
                assert update(made).unchanged == 20, name
            except CollectionError as error:
                assert "veduta " in str(error), (name, error)
    assert min(found.values()) > 0
