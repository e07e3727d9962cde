"""Cells of near photos: what they find, in graphs and searches, and how they are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tiny import TinyEncoder, photo_folder

from veduta import errors, index
from veduta.index import cell_files, cells, graph, neighbours
from veduta.index.cell_files import open_cells, update_cells
from veduta.index.columns import descriptor_checksum
from veduta.index.distinct_photos import distinct_photos
from veduta.index.graph import build_graph, open_graph
from veduta.index.manifest import Manifest
from veduta.index.snapshot import Snapshot, as_float32, open_snapshot, quantise
from veduta.index.table import open_table
from veduta.photos import content_hash
from veduta.search import approximate, exact
from veduta.search.engine import Engine
from veduta.search.options import SearchOptions

MANIFEST = Manifest(encoder={"name": "tiny", "identity": "tiny-1", "dimension": 48})
DIMENSION = 48


def descriptors(number: int, seed: int = 0, scenes: int = 20) -> NDArray[np.float16]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((scenes, DIMENSION))
    rows = centres[rng.integers(0, scenes, number)] + 0.7 * rng.standard_normal((number, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def snapshot_of(rows: NDArray[np.float16], name: str = "one") -> Snapshot:
    """Photos without a table behind them; those with equal descriptors are copies."""
    n = len(rows)
    table = pa.table(
        {
            "id": pa.array(range(n), pa.int64()),
            "path": pa.array([b"/%06d.jpg" % i for i in range(n)], pa.binary()),
            "content": pa.array([content_hash(row.tobytes()) for row in rows], pa.binary()),
            "label": pa.nulls(n, pa.string()),
        }
    )
    return Snapshot(1, None, table, rows, *quantise(rows), name=name)


def nearest_by_hand(rows: NDArray[np.float16], query: NDArray[np.float32], k: int) -> list[int]:
    scores = rows.astype(np.float64) @ query.astype(np.float64)
    return np.argsort(-scores, kind="stable")[:k].tolist()


class TestCells:
    def test_every_photo_is_in_one_cell_with_its_code(self) -> None:
        rows = descriptors(700)
        snapshot = snapshot_of(rows)
        made = cells.assign(snapshot, cells.train(snapshot))
        assert sorted(made.rows.tolist()) == list(range(700))
        assert made.starts[0] == 0 and made.starts[-1] == 700
        full = as_float32(rows)
        assert (made.codes == made.code(full[made.rows])).all()
        nearest = made.distances(full).argmin(axis=1)
        for cell in range(len(made.centres)):
            inside = made.rows[made.starts[cell] : made.starts[cell + 1]]
            assert (nearest[inside] == cell).all()
            assert (np.diff(inside) > 0).all()

    def test_distances_to_centres_by_hand(self) -> None:
        rows = descriptors(300)
        made = cells.train(snapshot_of(rows))
        query = as_float32(rows[:1])
        flat = (query - made.mean) @ made.directions
        by_hand = ((flat - made.centres) ** 2).sum(axis=1)
        difference = by_hand - made.distances(query)[0]
        assert np.ptp(difference) < 1e-4, "the same but for a constant"

    def test_directions_and_rotations_are_orthogonal(self) -> None:
        made = cells.train(snapshot_of(descriptors(500)))
        eye = made.directions.T @ made.directions
        assert np.abs(eye - np.eye(len(eye))).max() < 1e-3
        for rotation in made.rotations:
            assert np.abs(rotation @ rotation.T - np.eye(len(rotation))).max() < 1e-5
        assert made.codes.shape[1] * 8 >= 1024, "a short descriptor has a long code"

    @pytest.mark.parametrize("dimension", [5, 8, 100, 256, 300, 2560])
    def test_any_dimension(self, dimension: int) -> None:
        rng = np.random.default_rng(1)
        rows = rng.standard_normal((120, dimension))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        snapshot = snapshot_of(rows)
        made = cells.assign(snapshot, cells.train(snapshot))
        assert made.candidates(as_float32(rows[7:8])[0], 1, 120).tolist() == [7]

    def test_all_candidates_of_all_cells_are_all_photos(self) -> None:
        snapshot = snapshot_of(descriptors(90))
        made = cells.assign(snapshot, cells.train(snapshot))
        query = as_float32(snapshot.descriptors[:1])[0]
        assert made.candidates(query, 90, 1).tolist() == list(range(90))
        assert made.candidates(query, 1000, 1000).tolist() == list(range(90))

    def test_the_nearest_codes_by_hand(self) -> None:
        rng = np.random.default_rng(3)
        codes = rng.integers(0, 256, (5, 16), dtype=np.uint8)
        others = rng.integers(0, 256, (9000, 16), dtype=np.uint8)
        got = cells.nearest_codes(codes, others, 20)
        for code, row in zip(codes, got, strict=True):
            distances = np.bitwise_count(others ^ code).sum(axis=1)
            assert len(set(row.tolist())) == 20
            assert sorted(distances[row]) == sorted(distances)[:20]

    def test_equal_descriptors(self) -> None:
        rows = np.repeat(descriptors(2), 40, axis=0)
        snapshot = snapshot_of(rows)
        made = cells.assign(snapshot, cells.train(snapshot))
        assert len(made.candidates(as_float32(rows[:1])[0], 40, 40)) == 40


class TestUpdates:
    def test_known_photos_are_not_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = descriptors(400)
        before = snapshot_of(rows[:350])
        made = cells.assign(before, cells.train(before))
        known = np.full(400, -1)
        place = np.empty(350, np.intp)
        place[made.rows] = np.arange(350)
        known[50:400] = place
        after = snapshot_of(np.concatenate([rows[350:], rows[:350]]))
        read: list[int] = []
        real = cells.as_float32
        monkeypatch.setattr(cells, "as_float32", lambda each: read.append(len(each)) or real(each))
        grown = cells.assign(after, made, known)
        assert sum(read) == 50
        anew = cells.assign(after, made)
        for name in ("starts", "rows", "codes"):
            assert (getattr(grown, name) == getattr(anew, name)).all()

    def test_kept_extended_and_trained_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 100)
        rows = descriptors(700)
        trained: list[int] = []
        real = cell_files.train
        monkeypatch.setattr(
            cell_files, "train", lambda each: trained.append(each.photos) or real(each)
        )
        for number in (200, 300, 250, 401, 700):
            name = f"with-{number}"
            stored = update_cells(tmp_path, MANIFEST, snapshot_of(rows[:number], name))
            assert stored is not None and stored.recall >= 0.98
            assert sorted(stored.cells.rows.tolist()) == list(range(number))
            assert [each.name for each in (tmp_path / "cells").iterdir()] == [name]
        assert trained == [200, 401], "again when twice as many"
        assert update_cells(tmp_path, MANIFEST, snapshot_of(rows[:99], "few")) is None
        assert not (tmp_path / "cells").exists()

    def test_recall_by_hand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 100)
        monkeypatch.setattr(cell_files, "_LEAST_COMPARED_PHOTOS", 60)
        monkeypatch.setattr(cell_files, "_SCORED_PHOTOS", 12)
        monkeypatch.setattr(cell_files, "_WANTED_RECALL", 0.5)
        monkeypatch.setattr(cell_files, "_LEAST_RECALL", 0.1)
        rows = descriptors(900)
        snapshot = snapshot_of(rows)
        stored = update_cells(tmp_path, MANIFEST, snapshot)
        assert stored is not None
        contents = [content_hash(row.tobytes()) for row in rows]
        asked = sorted(range(900), key=contents.__getitem__)[-400:]
        found = 0
        for row in asked:
            query = as_float32(rows[row : row + 1])[0]
            candidates = set(stored.cells.candidates(query, 12, stored.compared).tolist())
            found += len(candidates & (set(nearest_by_hand(rows, query, 11)) - {row}))
        assert stored.recall == pytest.approx(found / (400 * 10), abs=1e-9)
        assert 0.5 <= stored.recall < 1, "the test can tell"

    def test_the_photos_that_are_asked_did_not_train_the_cells(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 100)
        monkeypatch.setattr(cells, "_DIRECTION_PHOTOS", 64)
        monkeypatch.setattr(cells, "_TRAINING_PHOTOS_PER_CELL", 4)
        used: dict[str, set[int]] = {}

        def noted(name: str, real: Any) -> Any:
            def choose(snapshot: Snapshot, number: int) -> NDArray[np.intp]:
                rows = real(snapshot, number)
                used[name] = set(rows.tolist())
                return rows

            return choose

        monkeypatch.setattr(cells, "smallest_hashes", noted("trained", cells.smallest_hashes))
        monkeypatch.setattr(cell_files, "largest_hashes", noted("asked", cell_files.largest_hashes))
        assert update_cells(tmp_path, MANIFEST, snapshot_of(descriptors(900))) is not None
        assert len(used["asked"]) == 400 and len(used["trained"]) == 4 * 60
        assert not used["asked"] & used["trained"]

    def test_cells_that_find_too_little_are_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 100)
        monkeypatch.setattr(cell_files, "_SCORED_PHOTOS", 1)
        with pytest.raises(errors.CollectionError, match=r"find 0\.\d\d\d of the nearest"):
            update_cells(tmp_path, MANIFEST, snapshot_of(descriptors(300)))
        assert not (tmp_path / "cells").exists()


class TestGraph:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 50)

    def link(self, folder: Path, rows: NDArray[np.float16], name: str) -> neighbours.Links:
        folder.mkdir(exist_ok=True)
        snapshot = snapshot_of(rows, name)
        build_graph(folder, MANIFEST, snapshot)
        assert open_graph(folder, MANIFEST) is not None
        (made,) = (folder / "graph").iterdir()
        return neighbours.Links(
            *(np.load(made / f"{each}.npy") for each in ("contents", "ends", "similarities")),
            consistent_matches=np.empty(0, np.uint16),
        )

    def exact_links(self, rows: NDArray[np.float16]) -> neighbours.Links:
        snapshot = snapshot_of(rows)
        photos = distinct_photos(snapshot)
        links = neighbours.empty_links(photos)
        every = np.ones((2, len(photos.contents)), np.bool_)
        neighbours.find_neighbours(snapshot, photos, links, *every)
        return links

    def test_all_scored_is_exact(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graph, "CELLS_FROM_PHOTOS", 50)
        monkeypatch.setattr(neighbours, "_SCORED_PHOTOS", 10_000)
        rows = descriptors(330)
        rows[300:] = rows[:30]  # Copies.
        made, wanted = self.link(tmp_path, rows, "one"), self.exact_links(rows)
        assert made.ends.shape == (300, 8)
        assert (made.ends == wanted.ends).all()
        assert (made.similarities == wanted.similarities).all()

    def test_updates_that_are_all_scored_are_exact(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(graph, "CELLS_FROM_PHOTOS", 50)
        monkeypatch.setattr(neighbours, "_SCORED_PHOTOS", 10_000)
        rows = descriptors(400)
        for step, some in enumerate((slice(0, 120), slice(0, 140), slice(30, 390), slice(0, 400))):
            made, wanted = self.link(tmp_path, rows[some], f"{step}"), self.exact_links(rows[some])
            assert (made.ends == wanted.ends).all(), step
            assert (made.similarities == wanted.similarities).all(), step

    def test_most_links_are_found_and_all_similarities_are_exact(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(graph, "CELLS_FROM_PHOTOS", 50)
        monkeypatch.setattr(neighbours, "_COMPARED_PHOTOS", 300)
        rows = descriptors(3000, scenes=60)
        made, wanted = self.link(tmp_path, rows, "one"), self.exact_links(rows)
        shared = [len(set(a) & set(b)) for a, b in zip(made.ends, wanted.ends, strict=True)]
        assert 0.93 < sum(shared) / made.ends.size < 1
        ordered = rows[distinct_photos(snapshot_of(rows)).row_of_photo].astype(np.float64)
        by_hand = np.einsum("nd,nkd->nk", ordered, ordered[made.ends]).astype(np.float32)
        assert (made.similarities == by_hand).all()
        assert (np.diff(made.similarities, axis=1) <= 0).all()
        assert (made.ends != np.arange(3000)[:, None]).all()
        assert all(len(set(row)) == 8 for row in made.ends.tolist())


def filled(folder: Path, number: int) -> Path:
    """An index whose table holds descriptors that no photo has."""
    index.create_index(folder, TinyEncoder())
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 192))
    rows = centres[rng.integers(0, 200, number)] + rng.standard_normal((number, 192)) / 2
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    table = open_table(folder)
    values = [
        {
            "id": i,
            "path": b"/p/%d.jpg" % i,
            "content": content_hash(b"%d" % i),
            "width": 1,
            "height": 1,
            "descriptor": stored,
            "checksum": descriptor_checksum(stored),
        }
        for i, stored in enumerate(rows)
    ]
    table.append(pa.Table.from_pylist(values, schema=table.dataset.schema))
    return folder


def veduta(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "veduta", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def hits(engine: Engine, query: NDArray[np.float32], k: int, **options: Any) -> list[Any]:
    ranking = engine.rank(query, SearchOptions(k=k, rerank="none", **options))
    return list(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True))


class TestSearch:
    def test_too_few_photos(self, tmp_path: Path) -> None:
        made = filled(tmp_path / "index", 20)
        with pytest.raises(errors.CollectionError, match=r"has 20 photos.*5,000"):
            index.build_approximate(made)
        assert not Manifest.read(made).approximate

    def test_the_nearest_with_the_scores_of_the_exact_search(self) -> None:
        rows = descriptors(2000)
        snapshot = snapshot_of(rows)
        made = cells.assign(snapshot, cells.train(snapshot))
        stored = cell_files.StoredCells(made, 600, 1.0)
        shared = 0
        for query in as_float32(descriptors(50, seed=5)):
            got, scores = approximate.nearest(snapshot, stored, query, 10)
            wanted, true = exact.nearest(snapshot, query, 10)
            assert (np.diff(scores) <= 0).all() and len(set(got.tolist())) == 10
            same = dict(zip(wanted.tolist(), true.tolist(), strict=True))
            for row, score in zip(got.tolist(), scores.tolist(), strict=True):
                assert same.get(row, score) == score
            shared += len(set(same) & set(got.tolist()))
        assert shared > 0.9 * 500

    def test_on_request(self, tmp_path: Path) -> None:
        made = filled(tmp_path / "index", 5200)
        index.build_approximate(made)
        engine = Engine(made, encoder=TinyEncoder())
        assert engine.state.cells is not None
        done = veduta("status", "--index", made, "--json")
        told = json.loads(done.stdout)["cells"]
        assert told["recall"] >= 0.98 and told["count"] == len(engine.state.cells.cells.centres)
        assert f"{told['count']:,}; they find" in veduta("status", "--index", made).stdout
        # A new version without cells is searched exactly until they are made.
        table = open_table(made)
        table.delete([7])
        assert engine.state.cells is None
        # Damage is found, told, and repaired.
        index.repair_index(made)
        assert engine.state.cells is not None
        (folder,) = (made / "cells").iterdir()
        file = folder / "codes.npy"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert engine.state.cells is None, "searched exactly"
        kinds = {finding.kind for finding in index.check_index(made) if finding.id is None}
        assert kinds == {"cells damaged"}
        assert index.repair_index(made).rebuilt == ("cells",)
        assert open_cells(made, Manifest.read(made)) is not None
        assert engine.state.cells is not None

    def test_a_large_collection_uses_them_unasked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = filled(tmp_path / "index", 300)
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 200)
        manifest = Manifest.read(made)
        build_graph(made, manifest, open_snapshot(made))
        assert Engine(made, encoder=TinyEncoder()).state.cells is None
        monkeypatch.setattr(approximate, "SEARCHED_FROM_PHOTOS", 300)
        assert Engine(made, encoder=TinyEncoder()).state.cells is not None

    def test_an_update_makes_them_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cell_files, "CELLS_FROM_PHOTOS", 30)
        made, encoder = tmp_path / "index", TinyEncoder()
        index.create_index(made, encoder)
        photo_folder(tmp_path / "photos", 40)
        index.update_index(made, [tmp_path / "photos"], encoder)
        before = open_cells(made, Manifest.read(made))
        assert before is not None and len(before.cells.rows) == 40
        for lost in ("codes.npy", "cells.json", "checksums.json"):
            (folder,) = (made / "cells").iterdir()
            (folder / lost).unlink()
            assert open_cells(made, Manifest.read(made)) is None
            report = index.update_index(made, [], encoder)
            assert report.unchanged == 40
            again = open_cells(made, Manifest.read(made))
            assert again is not None and (again.cells.codes == before.cells.codes).all()
        shutil.rmtree(tmp_path / "photos/class0")
        index.update_index(made, [], encoder)
        fewer = open_cells(made, Manifest.read(made))
        assert fewer is None, "too few are left"
