"""The neighbour graph: whatever the way to a collection, its graph is that of the collection."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny import CentredEncoder, TinyEncoder, TinyExtractor, save, save_view, scene_keypoints

from veduta import errors, index
from veduta.index import graph, neighbours, pair_verification
from veduta.index.calibration import calibration_of_index, probability
from veduta.index.distinct_photos import SAMPLE_PHOTOS, distinct_photos
from veduta.index.graph import Graph, build_graph, graph_is_whole, open_graph
from veduta.index.keypoint_files import KeypointWriter
from veduta.index.manifest import Manifest
from veduta.index.snapshot import Snapshot, quantise
from veduta.keypoints import Keypoints, Verification, verify_many
from veduta.photos import content_hash

Rows = NDArray[np.float32]
KEYPOINTS = {"name": "tiny", "identity": "f" * 16, "count": 60}
MANIFEST = Manifest(encoder={"name": "tiny", "identity": "0" * 16, "dimension": 24})
VERIFYING = Manifest(encoder=MANIFEST.encoder, keypoints=KEYPOINTS)


@dataclass
class Collection:
    """Photos by id, each a descriptor and a scene; a snapshot of them without a table behind it."""

    folder: Path
    manifest: Manifest = MANIFEST
    photos: dict[int, tuple[Rows, int, bytes]] = field(default_factory=dict)
    made: int = 0

    def add(self, number: int, scenes: int = 10, spread: float = 0.8) -> None:
        for _ in range(number):
            self.put(self.made, scene=self.made % scenes, spread=spread)

    def put(self, at: int, scene: int, spread: float = 0.8) -> None:
        """Add photo `at`, or replace it."""
        centre = np.random.default_rng(scene).standard_normal(24)
        own = np.random.default_rng((scene, self.made)).standard_normal(24)
        row = centre + spread * own
        content = content_hash(b"photo %d" % self.made)
        self.photos[at] = ((row / np.linalg.norm(row)).astype(np.float32), scene, content)
        self.made += 1

    def snapshot(self) -> Snapshot:
        ids = list(self.photos)
        n = len(ids)
        stored = np.array([self.photos[i][0] for i in ids], np.float16).reshape(n, 24)
        places: list[Any] = [(None, None, None)] * n
        if self.manifest.keypoints:
            self.folder.mkdir(exist_ok=True)
            packed = [scene_keypoints(self.photos[i][1], i % 16).pack() for i in ids]
            places = list(KeypointWriter(self.folder).append(packed))
        columns = list(zip(*places, strict=True)) if n else [(), (), ()]
        rows = pa.table(
            {
                "id": pa.array(ids, pa.int64()),
                "content": pa.array([self.photos[i][2] for i in ids], pa.binary()),
                "label": pa.nulls(n, pa.string()),
                "width": pa.array([48] * n, pa.int32()),
                "height": pa.array([32] * n, pa.int32()),
                "keypoints_file": pa.array(columns[0], pa.int32()),
                "keypoints_at": pa.array(columns[1], pa.int64()),
                "keypoints_size": pa.array(columns[2], pa.int32()),
            }
        )
        return Snapshot(1, None, rows, stored, *quantise(stored))

    def link(self, **options: Any) -> Graph:
        self.folder.mkdir(exist_ok=True)
        build_graph(self.folder, self.manifest, self.snapshot(), **options)
        made = open_graph(self.folder, self.manifest)
        assert made is not None
        return made


def dense(made: Graph) -> NDArray[np.float64]:
    """The weights between rows; copies have the same."""
    m = made.photos
    out = np.zeros((m, m))
    photos = np.repeat(np.arange(m), np.diff(made.starts))
    assert len(set(zip(photos.tolist(), made.ends.tolist(), strict=True))) == len(photos), (
        "no link twice"
    )
    out[photos, made.ends] = made.weights
    assert (made.photo_of_row[made.row_of_photo] == np.arange(m)).all()
    return out[np.ix_(made.photo_of_row, made.photo_of_row)]


def by_hand(collection: Collection, *, verified: bool = False) -> Any:
    """The graph from its description: all against all, in float64, by plain loops."""
    first_of = {}
    for i, (row, scene, content) in collection.photos.items():
        first_of.setdefault(content, (row, (scene, i % 16)))
    contents = sorted(first_of)
    rows = np.stack([first_of[content][0] for content in contents]).astype(np.float16)
    similar = rows.astype(np.float64) @ rows.astype(np.float64).T
    n = len(rows)
    calibration = calibration_of_index(collection.manifest)
    prior = calibration.background
    deviations = np.zeros((n, n))
    for i in range(n):
        values = similar[i, :SAMPLE_PHOTOS]
        mean = (values.sum() + 8 * prior.mean) / (len(values) + 8)
        square = ((values - mean) ** 2).sum() + 8 * (prior.std**2 + (prior.mean - mean) ** 2)
        deviations[i] = (similar[i] - mean) / np.sqrt(square / (len(values) + 8))
    seen = [first_of[content][1] for content in contents]
    weights = np.zeros((n, n))
    for i in range(n):
        others = [j for j in range(n) if j != i]
        # Python's sort is stable: of equally near ones the one with the smaller hash comes first.
        for j in sorted(others, key=lambda j: -np.float32(similar[i, j]))[: neighbours.NEIGHBOURS]:
            middle = np.array([(deviations[i, j] + deviations[j, i]) / 2])
            if verified:
                matches = agreeing(seen[min(i, j)], seen[max(i, j)])
                logit = calibration.pair_logit(middle, np.array([matches]))
            else:
                logit = calibration.pair_logit(middle)
            weights[i, j] = weights[j, i] = float(probability(logit)[0])
    degrees = weights.sum(axis=1)
    scale = np.sqrt(np.maximum(degrees, np.finfo(np.float32).tiny))
    photos = [contents.index(content) for _, _, content in collection.photos.values()]
    return (weights / scale[:, None] / scale[None])[np.ix_(photos, photos)]


def same(a: Any, b: Any) -> None:
    assert ((a > 0) == (b > 0)).all(), "the same links"
    np.testing.assert_allclose(a, b, atol=2e-4)


@cache
def agreeing(a: tuple[int, int], b: tuple[int, int]) -> float:
    (verification,) = verify_many(
        scene_keypoints(*a), [scene_keypoints(*b)], TinyExtractor.matching
    )
    return float(verification.consistent_matches)


@pytest.fixture
def empty(tmp_path: Path) -> Collection:
    return Collection(tmp_path / "index")


class TestLinks:
    """Which photos are linked, and how strongly."""

    @pytest.mark.parametrize("number", [2, 3, 5, 8, 9, 10, 40])
    def test_by_hand(self, empty: Collection, number: int) -> None:
        empty.add(number)
        same(dense(empty.link()), by_hand(empty))

    @pytest.mark.parametrize("number", [2, 9, 24])
    def test_verified_by_hand(self, empty: Collection, number: int) -> None:
        empty.manifest = VERIFYING
        empty.add(number, scenes=6)
        same(dense(empty.link()), by_hand(empty, verified=True))

    def test_geometry_tells_the_same_from_the_similar(self, tmp_path: Path) -> None:
        """Two scenes that look alike hang together without keypoints, and not with them."""
        plain, verified = (Collection(tmp_path / str(i)) for i in range(2))
        verified.manifest = VERIFYING
        shares = []
        for collection in (plain, verified):
            collection.add(12, scenes=1)
            for i in range(0, 12, 2):  # another place that looks the same
                row, _, content = collection.photos[i]
                collection.photos[i] = (row, 777, content)
            weights = dense(collection.link())
            across = weights[0::2, 1::2].sum() / weights.sum() * 2
            shares.append(across)
        assert shares[1] < 0.5 * shares[0]

    def test_symmetric_and_no_stronger_than_one(self, empty: Collection) -> None:
        empty.add(60)
        weights = dense(empty.link())
        np.testing.assert_allclose(weights, weights.T, rtol=1e-4)
        assert (np.diag(weights) == 0).all(), "no photo is linked to itself"
        values = np.linalg.eigvalsh((weights + weights.T) / 2)
        assert np.abs(values).max() < 1 + 1e-5

    def test_types(self, empty: Collection) -> None:
        empty.add(20)
        made = empty.link()
        assert (made.starts.dtype, made.ends.dtype) == (np.int64, np.int32)
        assert made.weights.dtype == np.float32
        assert made.starts[0] == 0 and made.starts[-1] == len(made.ends) == len(made.weights)

    def test_exact_duplicates(self, empty: Collection) -> None:
        """Copies are one photo: they take no link from others, whatever their number."""
        empty.add(30)
        expected = dense(empty.link())
        for i in range(30, 42):
            empty.photos[i] = empty.photos[3]
        made = empty.link()
        assert made.photos == 30
        weights = dense(made)
        np.testing.assert_array_equal(weights[:30, :30], expected)
        np.testing.assert_array_equal(weights[30:, :30], np.tile(expected[3], (12, 1)))
        same(weights, by_hand(empty))

    def test_other_files_with_equal_descriptors(self, empty: Collection) -> None:
        """Equally near photos: those with the smaller content hashes are neighbours."""
        empty.add(30)
        for i in range(1, 20):
            empty.photos[i] = (empty.photos[0][0], 0, empty.photos[i][2])
        same(dense(empty.link()), by_hand(empty))
        for i in range(30, 36):
            empty.photos[i] = (empty.photos[0][0], 0, content_hash(b"late %d" % i))
        del empty.photos[5]
        same(dense(empty.link()), by_hand(empty))

    def test_only_copies_of_one_photo_have_no_graph(self, empty: Collection) -> None:
        empty.add(1)
        for i in range(1, 12):
            empty.photos[i] = empty.photos[0]
        empty.folder.mkdir()
        build_graph(empty.folder, empty.manifest, empty.snapshot())
        assert open_graph(empty.folder, empty.manifest) is None

    @pytest.mark.parametrize("rows", [1, 7, 1000])
    @pytest.mark.parametrize("columns", [1, 3, 8, 9, 10, 1000])
    def test_the_size_of_the_blocks_does_not_matter(
        self, empty: Collection, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neighbours, "_BLOCK_ROWS", rows)
        monkeypatch.setattr(neighbours, "_BLOCK_COLUMNS", columns)
        empty.add(31)
        same(dense(empty.link()), by_hand(empty))
        empty.add(5)
        del empty.photos[3]
        same(dense(empty.link()), by_hand(empty))

    def test_never_all_against_all(
        self, empty: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neighbours, "_BLOCK_ROWS", 16)
        monkeypatch.setattr(neighbours, "_BLOCK_COLUMNS", 32)
        real, shapes = neighbours._merge, []

        def note(links: Any, rows: Any, ends: Any, near: Any) -> None:
            shapes.append(near.shape)
            real(links, rows, ends, near)

        monkeypatch.setattr(neighbours, "_merge", note)
        empty.add(200)
        empty.link()
        empty.add(40)
        empty.link()
        assert max(a * b for a, b in shapes) <= 16 * 32

    def test_memory_stays_with_the_blocks(
        self, empty: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import tracemalloc

        monkeypatch.setattr(neighbours, "_BLOCK_ROWS", 64)
        monkeypatch.setattr(neighbours, "_BLOCK_COLUMNS", 256)
        empty.add(3000)
        snapshot = empty.snapshot()
        photos = distinct_photos(snapshot)
        links = neighbours.empty_links(photos)
        tracemalloc.start()
        neighbours.find_neighbours(snapshot, photos, links, *np.ones((2, 3000), np.bool_))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3000 * 3000 * 4 / 8, "an eighth of all against all"


class TestUpdates:
    """In rounds or at once: the same graph."""

    def test_three_rounds(self, empty: Collection) -> None:
        for number in (15, 1, 20):
            empty.add(number)
            same(dense(empty.link()), by_hand(empty))

    def test_from_one_photo_on(self, empty: Collection) -> None:
        empty.add(1)
        empty.folder.mkdir()
        build_graph(empty.folder, empty.manifest, empty.snapshot())
        assert open_graph(empty.folder, empty.manifest) is None
        for _ in range(14):  # past the number of neighbours
            empty.add(1)
            same(dense(empty.link()), by_hand(empty))

    def test_removed(self, empty: Collection) -> None:
        empty.add(40)
        empty.link()
        for i in (0, 7, 20, 39):
            del empty.photos[i]
        same(dense(empty.link()), by_hand(empty))
        for i in list(empty.photos)[5:]:
            del empty.photos[i]
        same(dense(empty.link()), by_hand(empty))

    def test_changed(self, empty: Collection) -> None:
        empty.add(40)
        empty.link()
        empty.put(11, scene=3)
        same(dense(empty.link()), by_hand(empty))

    def test_swapped(self, empty: Collection) -> None:
        empty.add(40)
        empty.link()
        empty.photos[4], empty.photos[21] = empty.photos[21], empty.photos[4]
        same(dense(empty.link()), by_hand(empty))

    def test_rows_in_another_order(self, empty: Collection) -> None:
        """A table that is tidied up gives its rows in another order."""
        empty.add(40)
        empty.link()
        order = np.random.default_rng(0).permutation(40).tolist()
        empty.photos = {i: empty.photos[i] for i in order}
        same(dense(empty.link()), by_hand(empty))

    @pytest.mark.slow
    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), verified=st.booleans())
    def test_whatever_happens(self, seed: int, verified: bool, tmp_path: Path) -> None:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "index"
        shutil.rmtree(folder, ignore_errors=True)
        collection = Collection(folder, VERIFYING if verified else MANIFEST)
        collection.add(int(rng.integers(2, 25)))
        collection.link()
        for _ in range(4):
            ids = list(collection.photos)
            for i in rng.choice(ids, min(len(ids) - 2, int(rng.integers(0, 5))), replace=False):
                del collection.photos[int(i)]
            ids = list(collection.photos)
            for i in rng.choice(ids, int(rng.integers(0, 3)), replace=False):
                collection.put(int(i), scene=int(rng.integers(10)))
            new = [1000 + collection.made + i for i in range(int(rng.integers(0, 9)))]
            for i in new:
                collection.put(i, scene=int(rng.integers(10)))
            got = dense(collection.link())
            same(got, by_hand(collection, verified=verified))

    def test_only_what_is_new_is_compared(
        self, empty: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty.add(100)
        empty.link()
        real, asked = graph.find_neighbours, []

        def note(snapshot: Any, photos: Any, links: Any, *fresh: Any) -> None:
            asked.append(int(fresh[0].sum()))
            real(snapshot, photos, links, *fresh)

        monkeypatch.setattr(graph, "find_neighbours", note)
        empty.add(3)
        empty.link()
        assert asked == [3]

    def test_damaged_links_are_made_anew(self, empty: Collection) -> None:
        empty.add(30)
        empty.link()
        (folder,) = (empty.folder / "graph").iterdir()
        for name, data in (
            ("graph.json", b"{"),
            ("graph.json", b"{}"),
            ("ends.npy", b""),
            ("contents.npy", None),
        ):
            file = folder / name
            if data is None:
                file.unlink()
            else:
                file.write_bytes(data)
            same(dense(empty.link()), by_hand(empty))
            assert graph_is_whole(empty.folder, empty.manifest)

    def test_a_graph_that_is_cut_off_is_none(self, empty: Collection) -> None:
        empty.add(30)
        empty.link()
        (folder,) = (empty.folder / "graph").iterdir()
        with (folder / "graph_ends.npy").open("r+b") as file:
            file.truncate(200)
        assert open_graph(empty.folder, empty.manifest) is None

    def test_links_of_another_way_of_linking_are_made_anew(self, empty: Collection) -> None:
        empty.add(30)
        empty.link()
        (file,) = (empty.folder / "graph").glob("*/graph.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "version": 10**6}))
        assert not graph_is_whole(empty.folder, empty.manifest)
        same(dense(empty.link()), by_hand(empty))

    def test_drafts_of_a_run_that_died_are_removed(self, empty: Collection) -> None:
        empty.add(12)
        empty.link()
        (empty.folder / "graph/.draft-dead").mkdir()
        (empty.folder / "graph/0123456789abcdef").mkdir()
        same(dense(empty.link()), by_hand(empty))
        assert len(list((empty.folder / "graph").iterdir())) == 1


class Counting:
    """`verify_many` that counts pairs; by descriptor and position, since it sees no ids."""

    def __init__(self) -> None:
        self.pairs: Counter[frozenset[bytes]] = Counter()
        self._lock = threading.Lock()

    def __call__(
        self, query: Keypoints, others: Sequence[Keypoints], matching: Any, **options: Any
    ) -> list[Verification]:
        with self._lock:
            self.pairs.update(frozenset((query.pack(), o.pack())) for o in others)
        return verify_many(query, others, matching, **options)

    @property
    def calls(self) -> int:
        return sum(self.pairs.values())


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counter = Counting()
    monkeypatch.setattr(pair_verification, "verify_many", counter)
    return counter


def links(made: Graph) -> int:
    return len(made.ends) // 2


@pytest.fixture
def verifying(tmp_path: Path) -> Collection:
    # Views repeat after 16, so 16 photos at most are of one scene.
    return Collection(tmp_path / "index", VERIFYING)


class TestVerification:
    """Each pair of photos is verified once."""

    def test_each_link_once(self, verifying: Collection, counting: Counting) -> None:
        verifying.add(30)
        made = verifying.link()
        assert set(counting.pairs.values()) == {1}
        assert counting.calls == links(made)

    def test_no_pair_again_in_later_rounds(self, verifying: Collection, counting: Counting) -> None:
        verifying.add(20)
        verifying.link()
        for _ in range(3):
            verifying.add(5)
            verifying.link()
        assert set(counting.pairs.values()) == {1}
        before = counting.calls
        verifying.link()
        assert counting.calls == before

    def test_a_removed_photo_costs_only_what_comes_up(
        self, verifying: Collection, counting: Counting
    ) -> None:
        verifying.add(30)
        verifying.link()
        del verifying.photos[3]
        verifying.link()
        assert set(counting.pairs.values()) == {1}

    def test_a_changed_photo_is_verified_again(
        self, verifying: Collection, counting: Counting
    ) -> None:
        verifying.add(30)
        verifying.link()
        before = counting.calls
        row, _, _ = verifying.photos[3]
        verifying.photos[3] = (row, 555, content_hash(b"another"))  # it looks alike but is not
        same(dense(verifying.link()), by_hand(verifying, verified=True))
        assert 0 < counting.calls - before <= 29

    def test_a_copy_costs_no_verification(self, verifying: Collection, counting: Counting) -> None:
        verifying.add(20)
        before, calls = dense(verifying.link()), counting.calls
        for copy in (100, 101):
            verifying.photos[copy] = verifying.photos[4]
            weights = dense(verifying.link())
        assert counting.calls == calls
        np.testing.assert_array_equal(weights[:20, :20], before)
        assert (weights[[4, 20, 21]] == weights[4]).all(), "a copy has the links of the photo"

    def test_progress_ends_at_the_total(
        self, verifying: Collection, counting: Counting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pair_verification, "_QUERIES_PER_REPORT", 3)
        verifying.add(30)
        seen: list[tuple[int, int]] = []
        made = verifying.link(on_progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (links(made), links(made))
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert len(seen) > 5

    def test_interrupted_it_goes_on_where_it_was(
        self, verifying: Collection, counting: Counting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pair_verification, "_QUERIES_PER_REPORT", 3)
        verifying.add(30)

        def stop(done: int, total: int) -> None:
            if done > total / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verifying.link(on_progress=stop)
        first = counting.calls
        assert open_graph(verifying.folder, VERIFYING) is not None, "usable all the same"
        assert not graph_is_whole(verifying.folder, VERIFYING)
        verifying.add(2)
        totals = set()
        made = verifying.link(on_progress=lambda _, total: totals.add(total))
        assert graph_is_whole(verifying.folder, VERIFYING)
        assert set(counting.pairs.values()) == {1}, "none again"
        assert totals == {counting.calls - first}
        same(dense(made), by_hand(verifying, verified=True))

    def test_without_verification(self, verifying: Collection, counting: Counting) -> None:
        verifying.add(20)
        same(dense(verifying.link(verified=False)), by_hand(verifying))
        assert counting.calls == 0

    def test_unreadable_keypoints_keep_the_links_that_were_verified(
        self, verifying: Collection, counting: Counting
    ) -> None:
        verifying.add(20)
        snapshot = verifying.snapshot()
        (file,) = (verifying.folder / "keypoints").iterdir()
        data = bytearray(file.read_bytes())
        data[-5] ^= 1  # of the last photo
        file.write_bytes(data)
        with pytest.raises(errors.IndexDamaged, match="repair"):
            build_graph(verifying.folder, VERIFYING, snapshot)
        assert not graph_is_whole(verifying.folder, VERIFYING)
        first = counting.calls
        verifying.link()
        assert 0 < first < counting.calls
        assert graph_is_whole(verifying.folder, VERIFYING)


class TestSizes:
    """Collections without a graph."""

    @pytest.mark.parametrize("number", [0, 1])
    def test_too_few(self, empty: Collection, number: int) -> None:
        empty.add(5)
        empty.link()
        empty.photos = dict(list(empty.photos.items())[:number])
        build_graph(empty.folder, empty.manifest, empty.snapshot())
        assert open_graph(empty.folder, empty.manifest) is None
        assert not (empty.folder / "graph").exists(), "that of before is gone"

    def test_a_full_disk(self, empty: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
        empty.add(10)

        def full(*args: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with pytest.raises(errors.StorageFull):
            empty.link()


@pytest.fixture
def encoder() -> Any:
    return CentredEncoder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(6):
        for number in range(4):
            save_view(tmp_path / f"photos/scene{scene}/{number}.png", 300 + scene, number, 0.4)
    return tmp_path / "photos"


@pytest.fixture
def made(tmp_path: Path, photos: Path, encoder: Any) -> Path:
    path = tmp_path / "index"
    index.create_index(path, encoder, TinyExtractor())
    index.update_index(path, [photos], encoder, TinyExtractor())
    return path


def graph_of(made: Path) -> Graph | None:
    return open_graph(made, Manifest.read(made))


def by_path(made: Path) -> dict[tuple[bytes, bytes], float]:
    found = graph_of(made)
    assert found is not None
    paths = index.open_snapshot(made).rows["path"].to_pylist()
    names: dict[int, bytes] = {}  # Of copies the first path.
    for path, photo in sorted(zip(paths, found.photo_of_row.tolist(), strict=False)):
        names.setdefault(photo, path)
    return {
        (names[photo], names[found.ends[at]]): float(found.weights[at])
        for photo in range(found.photos)
        for at in range(found.starts[photo], found.starts[photo + 1])
    }


def anew(tmp_path: Path, photos: Path, encoder: Any) -> dict[tuple[bytes, bytes], float]:
    other = tmp_path / "anew"
    index.create_index(other, encoder, TinyExtractor())
    index.update_index(other, [photos], encoder, TinyExtractor())
    return by_path(other)


class TestInAnIndex:
    """The graph goes with the photos on the disk."""

    def test_scenes_hang_together(self, made: Path) -> None:
        weights = by_path(made)
        within = sum(w for (a, b), w in weights.items() if os.path.dirname(a) == os.path.dirname(b))
        assert within > 0.9 * sum(weights.values())

    def test_the_way_to_a_collection_does_not_matter(
        self, made: Path, photos: Path, encoder: Any, tmp_path: Path
    ) -> None:
        save_view(photos / "scene0/9.png", 300, 9, 0.4)
        index.update_index(made, [photos], encoder, TinyExtractor())
        save_view(photos / "scene1/0.png", 305, 8, 0.4)  # changed
        (photos / "scene2/3.png").unlink()
        index.update_index(made, [photos], encoder, TinyExtractor())
        a, b = photos / "scene3/0.png", photos / "scene4/0.png"
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)
        shutil.copy(photos / "scene5/1.png", photos / "scene5/copy.png")
        shutil.move(photos / "scene5/2.png", photos / "scene5/moved.png")
        index.update_index(made, [photos], encoder, TinyExtractor())
        got, expected = by_path(made), anew(tmp_path, photos, encoder)
        assert got == expected

    def test_an_idle_run_does_not_link(
        self, made: Path, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*args: Any) -> None:
            raise AssertionError("linked again")

        monkeypatch.setattr("veduta.index.updating.build_graph", never)
        assert index.update_index(made, [photos], encoder, TinyExtractor()).unchanged == 24

    def test_a_graph_that_was_lost_is_made_by_the_next_run(
        self, made: Path, photos: Path, encoder: Any
    ) -> None:
        before = by_path(made)
        shutil.rmtree(made / "graph")
        assert graph_of(made) is None
        index.update_index(made, [photos], encoder, TinyExtractor())
        assert by_path(made) == before

    def test_interrupt_while_linking(
        self,
        made: Path,
        photos: Path,
        encoder: Any,
        counting: Counting,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(pair_verification, "_QUERIES_PER_REPORT", 2)
        for number in range(8):
            save_view(photos / f"late/{number}.png", 400, number, 0.4)

        def stop(done: int, total: int) -> None:
            if done > total / 2:
                raise KeyboardInterrupt

        report = index.update_index(made, [photos], encoder, TinyExtractor(), on_linking=stop)
        assert report.interrupted
        assert (report.added, report.total) == (8, 32), "the photos are in the index"
        again = index.update_index(made, [photos], encoder, TinyExtractor())
        assert (again.interrupted, again.unchanged) == (False, 32)
        assert set(counting.pairs.values()) == {1}
        assert graph_is_whole(made, Manifest.read(made))

    def test_stale_graph_is_not_taken_for_the_newest(
        self, made: Path, photos: Path, encoder: Any
    ) -> None:
        save_view(photos / "late.png", 400)
        index.update_index(made, [photos], encoder, TinyExtractor(), graph=False)
        assert index.open_snapshot(made).photos == 25
        assert graph_of(made) is None
        index.update_index(made, [photos], encoder, TinyExtractor())
        found = graph_of(made)
        assert found is not None and len(found.starts) == 26

    def test_projection(self, made: Path, photos: Path, encoder: Any, counting: Counting) -> None:
        before = by_path(made)
        index.set_projection(made, 8)
        found = graph_of(made)
        assert found is not None
        assert set(by_path(made)) != set(before), "other neighbours in other descriptors"
        verified = counting.calls
        index.set_projection(made, None)
        assert by_path(made) == before
        assert counting.calls - verified <= len(before) // 2
        index.set_projection(made, 8)
        save_view(photos / "late.png", 400)
        index.update_index(made, [photos], encoder, TinyExtractor())
        found = graph_of(made)
        assert found is not None and len(found.starts) == 26

    def test_without_keypoints(self, tmp_path: Path) -> None:
        encoder: Any = TinyEncoder()
        for number in range(12):
            save(tmp_path / f"photos/{number}.png", number)
        made = tmp_path / "index"
        index.create_index(made, encoder)
        called: list[Any] = []
        index.update_index(
            made, [tmp_path / "photos"], encoder, on_linking=lambda *counts: called.append(counts)
        )
        assert graph_of(made) is not None and not called
        assert graph_is_whole(made, Manifest.read(made))

    @pytest.mark.parametrize("number", [0, 1, 2, 3])
    def test_few_photos(self, tmp_path: Path, encoder: Any, number: int) -> None:
        (tmp_path / "photos").mkdir()
        for i in range(number):
            save_view(tmp_path / f"photos/{i}.png", 1, i)
        made = tmp_path / "index"
        index.create_index(made, encoder, TinyExtractor())
        for _ in range(2):
            report = index.update_index(made, [tmp_path / "photos"], encoder, TinyExtractor())
            assert (report.total, report.interrupted) == (number, False)
        found = graph_of(made)
        assert (found is not None) == (number > 1)
        if found is not None:
            assert len(found.ends) == number * (number - 1)

    def test_unreadable_files_are_no_part(self, made: Path, photos: Path, encoder: Any) -> None:
        (photos / "broken.jpg").write_bytes(b"")
        (photos / "scene0/0.png").write_bytes(b"")
        index.update_index(made, [photos], encoder, TinyExtractor())
        found = graph_of(made)
        assert found is not None and len(found.starts) == 24

    def test_repair_makes_it_anew(self, made: Path) -> None:
        before = by_path(made)
        (file,) = (made / "graph").glob("*/ends.npy")
        wrong = np.load(file)
        wrong[:] = wrong[::-1]
        np.save(file, wrong)
        index.repair_index(made)
        assert by_path(made) == before
