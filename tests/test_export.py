"""`veduta export`: what other programs read is what the index holds."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from PIL import Image
from walls import wall_view

import veduta
from veduta.cli.main import run
from veduta.errors import DatasetError
from veduta.index import open_snapshot
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.manifest import Manifest
from veduta.interchange.colmap_database import MAX_IMAGE_ID, ColmapDatabase, colmap_database
from veduta.interchange.exported_pairs import MatchedPair
from veduta.interchange.exported_photos import ExportedPhotos
from veduta.interchange.hloc_files import hloc_matches, unit_rows
from veduta.interchange.ranking_files import read_ranking
from veduta.keypoints import Keypoints, Verification, verify
from veduta.keypoints.features import quantised
from veduta.keypoints.verification import FoundModel
from veduta.keypoints.xfeat import XFeat
from veduta.search import all_against_all
from veduta.search.all_against_all import nearest_of_all

NAMES = ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/copy.jpg", "b/0.jpg", "b/1.jpg", "b/flat.png"]
VERIFIED = {("a/0.jpg", "a/1.jpg"), ("a/1.jpg", "a/2.jpg"), ("b/0.jpg", "b/1.jpg")}
"""Some pairs that must be found: neighbouring views of one wall."""

Answer = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two walls, a copy, and a photo on which there is nothing; indexed."""
    home = tmp_path_factory.mktemp("export")
    photos = home / "photos"
    for name in "ab":
        (photos / name).mkdir(parents=True)
    for wall, folder, views in ((1, "a", 3), (2, "b", 2)):
        for number in range(views):
            wall_view(wall, number).save(photos / folder / f"{number}.jpg", quality=92)
    shutil.copy(photos / "a/1.jpg", photos / "a/copy.jpg")
    Image.new("RGB", (64, 48), "navy").save(photos / "b/flat.png")
    done = run_veduta(home, "index", "photos", "--encoder", "fast")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def everything(home: Path) -> dict[str, Any]:
    """All files of the real command but those of HDF5, written in one call."""
    done = run_veduta(
        home,
        *("export", "index", "--descriptors", "all.npz", "--pairs", "pairs.txt"),
        *("--colmap", "database.db", "--run", "all.run", "--json"),
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def answer(home: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Return `answer(option, …)`: the JSON of the command in this process."""

    def answer(*options: str | Path) -> dict[str, Any]:
        assert run(["export", str(home / "index"), *map(str, options), "--json"]) == 0
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)
        return printed

    return answer


@pytest.fixture
def refused(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return `refused(option, …)`: the exit code and the message of the command."""

    def refused(*options: str | Path, index: Path | None = None) -> tuple[int, str]:
        code = run(["export", str(index or home / "index"), *map(str, options)])
        return code, capsys.readouterr().err

    return refused


def stored(home: Path) -> dict[str, Keypoints]:
    """The keypoints of each photo as the index holds them."""
    snapshot = open_snapshot(home / "index")
    keypoints = StoredKeypoints(home / "index", snapshot)
    root = home / "photos"
    return {
        Path(photo.path).relative_to(root).as_posix(): keypoints.read(row)
        for row, photo in enumerate(veduta.open(home / "index"))
    }


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text("utf-8").splitlines()]


def test_it_says_what_it_wrote(home: Path, everything: dict[str, Any]) -> None:
    assert everything["photos"] == 7
    assert everything["photos_root"] == str(home / "photos")
    assert everything["without_keypoints"] == ["b/flat.png"]
    written = {one.pop("kind"): one for one in everything["written"]}
    assert list(written) == ["descriptors", "pairs", "colmap", "run"]
    assert written["descriptors"] == {"file": "all.npz", "photos": 7, "dimension": 1280}
    assert written["pairs"] == {"file": "pairs.txt", "pairs": 15, "copies_left_out": 1}
    assert written["run"] == {"file": "all.run", "queries": 7, "ranked": 42}
    assert written["colmap"]["photos"] == 7 and written["colmap"]["pairs"] == 15
    assert written["colmap"]["verified"] >= len(VERIFIED)


def test_people_are_told_too(home: Path, tmp_path: Path) -> None:
    done = run_veduta(home, "export", "--colmap", tmp_path / "database.db")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert "7 photos, " in told and "15 pairs, " in told
    assert "1 copy of other photos in no pair" in told
    assert "1 photo without keypoints, such as b/flat.png" in told
    assert "Names are relative to photos" in told


def test_an_export_changes_nothing_in_the_index(home: Path, answer: Answer, tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        files = (file for file in (home / "index").rglob("*") if file.is_file())
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}

    before = state()
    answer("--pairs", tmp_path / "p.txt", "--colmap", tmp_path / "c.db", "--run", tmp_path / "r")
    assert state() == before


@pytest.mark.parametrize("ending", [".npz", ".npy", ".parquet", ".h5"])
def test_descriptors_rank_as_the_index_does(
    home: Path, answer: Answer, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    if ending == ".h5":
        pytest.importorskip("h5py")
    file = home / f"descriptors{ending}"
    answer("--descriptors", file)
    assert run(["evaluate", str(home / "photos"), "--descriptors", str(file), "--dict"]) == 0
    answers = json.loads(capsys.readouterr().out)
    ranking: dict[str, list[str]] = {}
    answer("--run", home / "again.run")
    for query, _, photo, *_ in lines(home / "again.run"):
        ranking.setdefault(query, []).append(photo)
    assert list(ranking) == NAMES
    for query, photos in ranking.items():
        (found,) = (value for key, value in answers.items() if key.endswith(query))
        found = [next(name for name in NAMES if one.endswith(name)) for one in found]
        # The copy and its original are equally near to others.
        assert [one.replace("1.jpg", "copy.jpg") for one in found] == [
            one.replace("1.jpg", "copy.jpg") for one in photos
        ]


def test_descriptors_are_those_of_the_index(home: Path, everything: dict[str, Any]) -> None:
    del everything
    with np.load(home / "all.npz") as file:
        assert file["names"].tolist() == NAMES
        assert file["descriptors"].dtype == np.float32
        of_name = dict(zip(file["names"].tolist(), file["descriptors"], strict=True))
    found = veduta.open(home / "index").descriptors()
    for path, vector in zip(found.photos["path"].to_pylist(), found.vectors, strict=True):
        name = Path(path).relative_to(home / "photos").as_posix()
        assert np.array_equal(of_name[name], vector.astype(np.float32))


def test_a_run_leaves_the_photo_itself_out(home: Path, answer: Answer) -> None:
    assert answer("--run", home / "three.run", "-k", "3")["written"][0]["ranked"] == 21
    rows = lines(home / "three.run")
    assert all(query != photo for query, _, photo, *_ in rows)
    assert [int(row[3]) for row in rows] == 7 * [1, 2, 3]
    first = {
        query: (photo, float(score)) for query, _, photo, rank, score, _ in rows if rank == "1"
    }
    assert first["a/1.jpg"][0] == "a/copy.jpg" and first["a/copy.jpg"][0] == "a/1.jpg"
    assert first["a/1.jpg"][1] == pytest.approx(1, abs=1e-3)


def test_pairs_are_the_links_of_the_graph(home: Path, everything: dict[str, Any]) -> None:
    del everything
    different = [name for name in NAMES if name != "a/copy.jpg"]
    pairs = [tuple(pair) for pair in lines(home / "pairs.txt")]
    assert pairs == list(combinations(different, 2))  # Six photos are linked with all others.


def test_keypoints_read_back_as_hloc_reads_them(home: Path, answer: Answer, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    found = answer("--keypoints", tmp_path / "features.h5")
    ours = stored(home)
    assert found["written"][0]["keypoints"] == sum(map(len, ours.values()))
    with h5py.File(tmp_path / "features.h5", "r") as file:
        for name in NAMES:
            group, own = file[name], ours[name]
            n = len(own)
            assert group["keypoints"].shape == (n, 2) and group["scores"].shape == (n,)
            assert group["image_size"][()].tolist() == [own.width, own.height]
            # hloc counts from the middle of the first pixel, as Veduta does.
            assert np.array_equal(group["keypoints"][()], own.xy)
            descriptors = group["descriptors"][()].astype(np.float32)
            assert descriptors.shape == (64, n)
            assert np.allclose(np.linalg.norm(descriptors, axis=0), 1, atol=2e-3)
            cosines = np.einsum("dn,nd->n", descriptors, own.descriptors.astype(np.float32))
            lengths = np.linalg.norm(own.descriptors.astype(np.float32), axis=1)
            assert np.allclose(cosines, lengths, rtol=2e-3)
            assert (np.diff(group["scores"][()]) < 0).all()
        assert file["a/0.jpg/keypoints"].attrs["uncertainty"] == 1.0  # 640 × 480, its working size
        assert len(file["b/flat.png/keypoints"]) == 0


def test_matches_are_those_of_the_stored_keypoints(
    home: Path, answer: Answer, tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    answer("--pairs", tmp_path / "pairs.txt", "--matches", tmp_path / "matches.h5")
    ours = stored(home)
    verified = set()
    with h5py.File(tmp_path / "matches.h5", "r") as file:
        for first, second in lines(tmp_path / "pairs.txt"):
            group = file[f"{first.replace('/', '-')}/{second.replace('/', '-')}"]
            matches, scores = group["matches0"][()], group["matching_scores0"][()]
            assert len(matches) == len(scores) == len(ours[first])
            matched = np.flatnonzero(matches != -1)
            assert (scores[matched] > 0.8).all() and (np.delete(scores, matched) == 0).all()
            if not len(matched):
                continue
            verified.add((first, second))
            assert len(set(matches[matched].tolist())) == len(matched)
            both = ours[first], ours[second]
            expected = verify(*both, XFeat.matching.pairs(*both))
            assert (
                sorted(expected.inliers.tolist())
                == np.stack([matched, matches[matched]], axis=1).tolist()
            )
    assert verified >= VERIFIED
    assert all(first[0] == second[0] for first, second in verified)


@pytest.mark.parametrize("pair", [("a/0.jpg", "a/1.jpg"), ("a/0.jpg", "b/0.jpg")])
def test_a_pair_is_verified_as_veduta_match_does(
    home: Path,
    everything: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    pair: tuple[str, str],
) -> None:
    del everything
    options = ("--encoder", "fast", "--orientation", "upright", "--json")
    assert run(["match", *(str(home / "photos" / name) for name in pair), *options]) == 0
    match = json.loads(capsys.readouterr().out)
    with closing(sqlite3.connect(home / "database.db")) as database:
        ids = dict(database.execute("SELECT name, image_id FROM images"))
        number = ids[pair[0]] * 2147483647 + ids[pair[1]]
        found = database.execute(
            "SELECT rows FROM two_view_geometries WHERE pair_id = ?", (number,)
        ).fetchone()
    assert (found is not None) == (match["model"] is not None) == (match["verdict"] == "same place")
    if found:
        # `match` has more keypoints, and no rounded descriptors.
        assert 0.3 * match["inliers"] < found[0] < 1.5 * match["inliers"]


COLUMNS = {
    "cameras": "camera_id model width height params prior_focal_length",
    "images": "image_id name camera_id prior_qw prior_qx prior_qy prior_qz prior_tx prior_ty "
    "prior_tz",
    "keypoints": "image_id rows cols data",
    "descriptors": "image_id rows cols data",
    "matches": "pair_id rows cols data",
    "two_view_geometries": "pair_id rows cols data config F E H qvec tvec",
}
"""Of the tables of COLMAP 3.x."""


def test_the_database_has_the_tables_of_colmap(home: Path, everything: dict[str, Any]) -> None:
    del everything
    ours = stored(home)
    with closing(sqlite3.connect(home / "database.db")) as database:
        for table, columns in COLUMNS.items():
            found = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            assert found == columns.split()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        images = database.execute("SELECT image_id, name, camera_id FROM images").fetchall()
        assert images == [(number, name, number) for number, name in enumerate(NAMES, start=1)]
        for number, model, width, height, params, prior in database.execute(
            "SELECT * FROM cameras"
        ):
            own = ours[NAMES[number - 1]]
            assert (model, width, height, prior) == (2, own.width, own.height, 0)
            focal = 1.2 * max(width, height)
            assert np.frombuffer(params, "<f8").tolist() == [focal, width / 2, height / 2, 0]
        for number, rows, cols, data in database.execute("SELECT * FROM keypoints"):
            own = ours[NAMES[number - 1]]
            assert (rows, cols, len(data)) == (len(own), 2, 8 * len(own))
            positions = np.frombuffer(data, "<f4").reshape(rows, 2)
            assert np.array_equal(positions, own.xy + np.float32(0.5))
        assert database.execute("SELECT count(*) FROM descriptors").fetchone() == (0,)
        matches = dict(database.execute("SELECT pair_id, data FROM matches"))
        geometries = database.execute("SELECT * FROM two_view_geometries").fetchall()
    assert len(geometries) == len(matches) >= len(VERIFIED)
    for pair, rows, cols, data, config, f, e, h, qvec, tvec in geometries:
        first, second = divmod(pair, 2147483647)
        assert 1 <= first < second <= len(NAMES)
        assert (cols, len(data), e, qvec, tvec) == (2, 8 * rows, None, None, None)
        assert (f is None, h is None) == {6: (True, False), 3: (False, True)}[config]
        inliers = np.frombuffer(data, "<u4").reshape(rows, 2)
        every = np.frombuffer(matches[pair], "<u4").reshape(-1, 2)
        assert set(map(tuple, inliers.tolist())) <= set(map(tuple, every.tolist()))
        assert (inliers.max(axis=0) < [len(ours[NAMES[one - 1]]) for one in (first, second)]).all()


def two_photos(*names: str) -> ExportedPhotos:
    sizes = np.array([[640, 480]] * len(names))
    return ExportedPhotos(Path("/photos"), names, sizes, np.argsort(names))


def points(seed: int, n: int = 30, columns: int = 128) -> Keypoints:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(50, 400, (n, 2)).astype(np.float32)
    return Keypoints(xy, quantised(rng.random((n, columns))), 640, 480)


def written_pair(file: Path, model: str, matrix: np.ndarray[Any, Any]) -> dict[str, np.ndarray]:
    """Write a pair with a model, and return what the database has of it."""
    every = np.stack([np.arange(30)] * 2, axis=1)
    verification = Verification(30, 30, lambda: FoundModel(model, matrix, every[:20], 1.0))
    pair = MatchedPair(1, 0, (points(1), points(2)), every, verification)
    with colmap_database(file, two_photos("b.jpg", "a.jpg")) as database:
        database.add_pair(pair)  # Its first photo, by name, is row 1.
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM two_view_geometries").fetchone()
    assert row["pair_id"] == MAX_IMAGE_ID + 2
    return {key: np.frombuffer(row[key], "<f8").reshape(3, 3) for key in "FH" if row[key]}


def test_models_are_for_positions_counted_from_the_corner(tmp_path: Path) -> None:
    homography = np.array([[1.1, 0.1, 20], [-0.05, 0.9, 7], [1e-4, 2e-4, 1]])
    (matrix,) = written_pair(tmp_path / "h.db", "homography", homography).values()

    def mapped(by: np.ndarray[Any, Any], point: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x, y, w = by @ [*point, 1]
        return np.array([x / w, y / w])

    at = np.array([123.0, 45.0])
    assert np.allclose(mapped(matrix, at + 0.5), mapped(homography, at) + 0.5)

    rng = np.random.default_rng(0)
    x, y, z = translation = rng.normal(size=3)
    fundamental = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])  # A camera that only moves.
    seen = rng.normal(size=(5, 3)) + np.array([0, 0, 5])
    both = [one[:, :2] / one[:, 2:] for one in (seen, seen + translation)]
    matrix = written_pair(tmp_path / "f.db", "fundamental", fundamental)["F"]
    for first, second in zip(*both, strict=True):
        assert [*second, 1] @ fundamental @ [*first, 1] == pytest.approx(0, abs=1e-12)
        assert [*(second + 0.5), 1] @ matrix @ [*(first + 0.5), 1] == pytest.approx(0, abs=1e-12)


def test_only_sift_has_descriptors_in_colmap(tmp_path: Path) -> None:
    for kind, expected in (("sift", 1), ("xfeat", 0)):
        source: Any = SimpleNamespace(read=lambda _: points(1))
        with colmap_database(tmp_path / "c.db", two_photos("a.jpg")) as database:
            assert isinstance(database, ColmapDatabase)
            assert database.add_photos(source, kind).tolist() == [30]
        with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
            rows = connection.execute("SELECT * FROM descriptors").fetchall()
        assert len(rows) == expected
        if rows:
            assert rows[0][1:3] == (30, 128) and len(rows[0][3]) == 30 * 128
            lengths = np.linalg.norm(np.frombuffer(rows[0][3], np.uint8).reshape(30, 128), axis=1)
            assert np.allclose(lengths, 512, atol=6)


def test_bits_become_numbers_that_order_pairs_alike() -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 256, (9, 32), dtype=np.uint8)
    rows = unit_rows(Keypoints(np.zeros((9, 2), np.float32), bits, 640, 480))
    distances = np.unpackbits(bits[:, None] ^ bits[None], axis=2).sum(axis=2, dtype=np.int64)
    assert rows.shape == (9, 256)
    assert np.allclose(rows @ rows.T, 1 - distances / 128, atol=1e-5)


@pytest.mark.parametrize("k", [1, 4, 30])
def test_each_photo_against_all_others(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(all_against_all, "_BLOCK_QUERIES", 4)
    monkeypatch.setattr(all_against_all, "_BLOCK_ROWS", 5)
    rng = np.random.default_rng(1)
    rows = rng.integers(-2, 3, (23, 3)).astype(np.float16)  # Many are equally near; some are zero.
    order = rng.permutation(23)
    snapshot: Any = SimpleNamespace(photos=23, descriptors=rows)
    found = list(nearest_of_all(snapshot, k, order))
    assert [query for query, *_ in found] == order.tolist()
    place = {row: at for at, row in enumerate(order.tolist())}
    products = rows.astype(np.float64) @ rows.T.astype(np.float64)
    for query, others, similarities in found:
        expected = sorted(set(range(23)) - {query}, key=lambda o: (-products[query, o], -place[o]))
        assert others.tolist() == expected[:k]
        assert similarities.tolist() == products[query, expected[:k]].tolist()


def test_a_single_photo_has_no_neighbour() -> None:
    snapshot: Any = SimpleNamespace(photos=1, descriptors=np.ones((1, 2), np.float16))
    ((query, others, _),) = nearest_of_all(snapshot, 3, np.array([0]))
    assert query == 0 and not len(others)


def test_names_are_relative_to_a_folder_of_choice(
    home: Path, answer: Answer, refused: Callable[..., tuple[int, str]]
) -> None:
    answer("--pairs", home / "named.txt", "--photos-root", home)
    assert lines(home / "named.txt")[0] == ["photos/a/0.jpg", "photos/a/1.jpg"]
    wrong = home / "photos" / "a"
    code, message = refused("--pairs", home / "wrong.txt", "--photos-root", wrong)
    assert code == 3 and "0.jpg is not below" in message
    assert f"such as {home / 'photos'}" in message
    assert not (home / "wrong.txt").exists()
    # A folder whose name only begins like that of the photos.
    code, message = refused("--pairs", home / "wrong.txt", "--photos-root", home / "photo")
    assert code == 3


def test_wrong_calls(home: Path, tmp_path: Path, refused: Callable[..., tuple[int, str]]) -> None:
    file = tmp_path / "file.npz"
    code, message = refused()
    assert code == 2 and "Name at least one file to write" in message
    code, message = refused("--descriptors", file, "-k", "3")
    assert code == 2 and "-k goes with --run." in message
    code, message = refused("--descriptors", file, "--run", file)
    assert code == 2 and "Two options name the same file" in message
    code, message = refused("--descriptors", file, index=tmp_path)
    assert code == 4 and "no index" in message
    code, message = refused("--descriptors", tmp_path / "absent" / "file.npz")
    assert code == 3 and "cannot be written" in message
    code, message = refused("--descriptors", tmp_path / "file.txt")
    assert code == 3 and "name a file with one of these endings" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--keypoints", "--matches", "--descriptors"])
def test_hdf5_needs_its_library(
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., tuple[int, str]],
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, message = refused(option, tmp_path / "file.h5", "--pairs", tmp_path / "pairs.txt")
    assert code == 3 and "pip install 'veduta[hdf5]'" in message
    assert not list(tmp_path.iterdir())


def test_a_database_that_another_program_writes_stays(
    home: Path, tmp_path: Path, refused: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "c.db").write_bytes(b"theirs")
    (tmp_path / "c.db-wal").write_bytes(b"theirs")
    code, message = refused("--colmap", tmp_path / "c.db", "--overwrite")
    assert code == 3 and "c.db-wal is there: another program" in message
    assert (tmp_path / "c.db").read_bytes() == b"theirs"


def test_an_error_leaves_no_half_database(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        colmap_database(tmp_path / "c.db", two_photos("a.jpg")),
    ):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_names_that_hloc_takes_for_one(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    photos = two_photos("a/b.jpg", "a-b.jpg")
    pairs: Any = SimpleNamespace(rows=np.array([[1, 0]]))
    with (
        pytest.raises(DatasetError, match=r"takes a/b\.jpg and a-b\.jpg for one photo"),
        hloc_matches(tmp_path / "m.h5", photos, pairs),
    ):
        pass


@pytest.fixture(scope="module")
def without_keypoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index without keypoints; the name of a photo has a blank."""
    home = tmp_path_factory.mktemp("without")
    (home / "photos").mkdir()
    for number, name in enumerate(("one photo.png", "other.png")):
        wall_view(1, number).resize((64, 48)).save(home / "photos" / name)
    done = run_veduta(home, "index", "photos", "--encoder", "fast", "--keypoints", "none")
    assert done.returncode == 0, done.stderr
    assert Manifest.read(home / "index").keypoints is None
    return home


@pytest.mark.parametrize("option", ["--keypoints", "--matches", "--colmap"])
def test_an_index_without_keypoints(
    without_keypoints: Path,
    tmp_path: Path,
    refused: Callable[..., tuple[int, str]],
    option: str,
) -> None:
    code, message = refused(option, tmp_path / "file", index=without_keypoints / "index")
    assert code == 3 and "has no keypoints" in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--pairs", "--run"])
def test_a_blank_in_a_name(
    without_keypoints: Path,
    tmp_path: Path,
    refused: Callable[..., tuple[int, str]],
    option: str,
) -> None:
    index = without_keypoints / "index"
    code, message = refused(option, tmp_path / "file", index=index)
    assert code == 3 and "one photo.png" in message and "a name with a blank" in message
    assert refused("--descriptors", tmp_path / "file.npz", index=index)[0] == 0


def test_an_index_without_photos(tmp_path: Path, refused: Callable[..., tuple[int, str]]) -> None:
    veduta.create(tmp_path / "index", encoder="fast").close()
    code, message = refused("--run", tmp_path / "file", index=tmp_path / "index")
    assert code == 4 and "has no photos" in message


def test_a_database_that_is_there_is_replaced_only_if_asked(home: Path, tmp_path: Path) -> None:
    database = tmp_path / "database.db"
    database.write_bytes(b"work of hours")
    done = run_veduta(home, "export", "--colmap", database)
    assert done.returncode == 2
    assert "replace it with --overwrite" in " ".join(done.stderr.split())
    assert database.read_bytes() == b"work of hours"
    assert run_veduta(home, "export", "--colmap", database, "--overwrite").returncode == 0
    assert database.read_bytes().startswith(b"SQLite format 3")


def test_a_run_is_read_back_in_its_order(home: Path, tmp_path: Path) -> None:
    assert run_veduta(home, "export", "--run", tmp_path / "all.run").returncode == 0
    lines = [line.split() for line in (tmp_path / "all.run").read_text("utf-8").splitlines()]
    names = sorted({line[0] for line in lines} | {line[2] for line in lines})
    rankings = read_ranking(tmp_path / "all.run", names, names)
    for number, name in enumerate(names):
        written = [line[2] for line in lines if line[0] == name]
        assert [names[row] for row in rankings.of_query(number)[0]] == written
