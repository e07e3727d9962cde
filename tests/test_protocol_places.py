"""Photos named by UTM coordinates: within 25 m is right, and no grid may change that."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.datasets.protocols.nearby import judged_by_distance
from veduta.errors import DatasetError


def photo(east: object, north: object, note: str = "") -> str:
    return f"@{east}@{north}@17@T@40.4@-80.0@{note}@@@@@@@@.jpg"


def write_split(folder: Path, database: list[str], queries: list[str]) -> Path:
    for side, names in (("database", database), ("queries", queries)):
        for name in names:
            file = folder / side / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return folder


@pytest.fixture
def pitts(tmp_path: Path) -> Path:
    write_split(
        tmp_path / "pitts30k/images/test",
        [photo("0000000.00", "0000000.00"), photo(0, "25.0001"), f"007/{photo(7, 24, 'b')}"],
        [photo(0, 0, "q"), photo(0, 25, "q"), photo(500, 500, "q")],
    )
    return tmp_path / "pitts30k"


def positives(judged_set) -> dict[str, list[str]]:  # type: ignore[no-untyped-def]
    return {
        query: [judged_set.gallery[row] for row in judged_set.positives.of_query(number)]
        for number, query in enumerate(judged_set.queries)
    }


@pytest.mark.parametrize("below", ["", "images", "images/test"])
def test_the_set_its_images_or_a_split_can_be_given(pitts: Path, below: str) -> None:
    found = find_protocol(pitts / below)
    assert found is not None
    assert found.name == "places"
    read = open_protocol(pitts / below)
    assert read.name == "pitts30k test"
    assert read.root == pitts / "images/test"
    assert not any(read.missing_photos())
    assert read.gallery_paths[0] == f"database/{read.gallery[0]}"


def test_25_metres_are_right_and_a_little_more_is_not(pitts: Path) -> None:
    read = open_protocol(pitts)
    origin, further, subfolder = (
        photo("0000000.00", "0000000.00"),
        photo(0, "25.0001"),
        f"007/{photo(7, 24, 'b')}",
    )
    assert read.gallery == (subfolder, origin, further)
    assert positives(read) == {
        photo(0, 0, "q"): [subfolder, origin],  # 7² + 24² = 25²
        photo(0, 25, "q"): [subfolder, origin, further],
        photo(500, 500, "q"): [],
    }
    assert read.query_places.tolist() == [[0, 0], [0, 25], [500, 500]]
    assert read.gallery_places.tolist() == [[7, 24], [0, 0], [0, 25.0001]]


def test_queries_without_a_right_photo_are_counted(pitts: Path) -> None:
    notes = " ".join(open_protocol(pitts).notes)
    assert "1 query of 3 has no right photo" in notes
    assert "times 2 / 3" in notes


def test_negative_coordinates(tmp_path: Path) -> None:
    write_split(
        tmp_path / "set/images/test",
        [photo("-0000010.5", "-3"), photo("-20", "-30"), photo("14.5", "-3")],
        [photo("-10.5", "-3", "q")],
    )
    read = open_protocol(tmp_path / "set")
    assert positives(read)[photo("-10.5", "-3", "q")] == [
        photo("-0000010.5", "-3"),
        photo("14.5", "-3"),
    ]


def test_lists_of_paths_are_read_in_their_order(pitts: Path) -> None:
    split = pitts / "images/test"
    names = [photo(0, "25.0001"), f"007/{photo(7, 24, 'b')}"]
    (split / "database_images_paths.txt").write_text("\n".join(names) + "\n\n", newline="\r\n")
    (split / "queries_images_paths.txt").write_text(photo(0, 0, "q"))
    read = open_protocol(pitts)
    assert read.gallery == tuple(names)
    assert positives(read) == {photo(0, 0, "q"): [names[1]]}


def test_lists_alone_are_enough(tmp_path: Path) -> None:
    for side in ("database", "queries"):
        (tmp_path / f"{side}_images_paths.txt").write_text(photo(1, 2))
    found = find_protocol(tmp_path)
    assert found is not None
    assert found.name == "places"
    read = open_protocol(tmp_path, photos=tmp_path / "elsewhere")
    assert read.root == tmp_path / "elsewhere"
    assert positives(read) == {photo(1, 2): [photo(1, 2)]}


def test_the_usual_split_is_test(pitts: Path) -> None:
    write_split(pitts / "images/val", [photo(1, 1)], [photo(2, 2), photo(3, 3)])
    assert len(open_protocol(pitts).queries) == 3
    validation = open_protocol(pitts, variant="val")
    assert validation.name == "pitts30k val"
    assert len(validation.queries) == 2
    with pytest.raises(DatasetError, match=r"no split 'train', only val, test(.|\n)*database/"):
        open_protocol(pitts, variant="train")
    with pytest.raises(DatasetError, match="a single split, 'test'; for 'val' give the folder abo"):
        open_protocol(pitts / "images/test", variant="val")


def test_a_single_split_is_read_whatever_it_is(tmp_path: Path) -> None:
    write_split(tmp_path / "svox/images/val", [photo(1, 1)], [photo(2, 2)])
    assert open_protocol(tmp_path / "svox").name == "svox val"
    write_split(tmp_path / "svox/images/train", [photo(1, 1)], [photo(2, 2)])
    with pytest.raises(DatasetError, match="no split 'test', only train, val"):
        open_protocol(tmp_path / "svox")


@pytest.mark.parametrize("value", ["x", "nan", "inf", "1e400", "", "1e10"])
def test_a_coordinate_that_is_no_number_names_the_file(pitts: Path, value: str) -> None:
    write_split(pitts / "images/test", [photo(value, 5, "bad")], [])
    with pytest.raises(DatasetError, match=r"database: @.*bad.*not two numbers of metres; wanted"):
        open_protocol(pitts, "places")


def test_a_name_without_coordinates_is_refused(pitts: Path) -> None:
    write_split(pitts / "images/test", [], ["holiday.jpg"])
    with pytest.raises(DatasetError, match=r"queries: holiday.jpg: the name has no coordinates"):
        open_protocol(pitts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "database_images_paths.txt: empty; wanted the path of one photo a line"),
        (b"\n \n", "empty"),
        (b"@1@2@.jpg\n\xff@1@2@.jpg\n", "database_images_paths.txt, line 2: not UTF-8"),
        (b"@1@2@.jpg\n../@1@2@.jpg\n", "database_images_paths.txt, line 2: .* leads out"),
        (b"/a/@1@2@.jpg\n", "line 1: .* leads out"),
        (b"@1@2@.jpg\n@1@3@.jpg\n@1@2@.jpg\n", "1 id of the database twice"),
        (b"@1@2@.jpg\n@1@none@.jpg\n", "@1@none@.jpg: the coordinates '1', 'none'"),
    ],
)
def test_a_bad_list_is_refused(pitts: Path, content: bytes, message: str) -> None:
    (pitts / "images/test/database_images_paths.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_protocol(pitts, "places")


def test_an_empty_side_and_a_wrong_layout_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "set", [photo(1, 1)], [])
    with pytest.raises(DatasetError, match=r"no database/ and queries/(.|\n)*Found: database/"):
        open_protocol(tmp_path / "set", "places")
    (tmp_path / "set/queries").mkdir()
    with pytest.raises(DatasetError, match="queries: no photo; wanted photos named @east@north"):
        open_protocol(tmp_path / "set", "places")


def test_hidden_files_are_no_photos_and_links_end(pitts: Path) -> None:
    database = pitts / "images/test/database"
    (database / f"._{photo(1, 1)}").touch()
    (database / "@eaDir").mkdir()
    (database / "@eaDir" / photo(1, 1)).touch()
    (database / "again").symlink_to(database, target_is_directory=True)
    assert len(open_protocol(pitts).gallery) == 3


@pytest.mark.parametrize("name", ["IMG_1.jpg", "@home@office.jpg", "a@b.jpg"])
def test_ordinary_folders_are_not_claimed(tmp_path: Path, name: str) -> None:
    write_split(tmp_path, [f"cat/{name}"], [f"cat/{name}"])
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "nothing") is None
    (tmp_path / "file.jpg").touch()
    assert find_protocol(tmp_path / "file.jpg") is None


def test_a_large_set_takes_seconds_and_agrees_with_brute_force() -> None:
    random = np.random.default_rng(1)
    # Rounded to metres, so that many pairs are exactly 25 m apart.
    queries, gallery = np.round(random.uniform(-1000, 1000, (2, 20_000, 2)))
    begin = time.perf_counter()
    judged = judged_by_distance(queries, gallery)
    assert time.perf_counter() - begin < 10
    exact = 0
    for query in range(0, 20_000, 40):
        squares = ((gallery - queries[query]) ** 2).sum(axis=1)
        assert judged.of_query(query).tolist() == np.flatnonzero(squares <= 625).tolist()
        exact += (squares == 625).sum()
    assert exact > 20
    assert len(judged) == 20_000
    assert judged.starts[-1] == len(judged.positions) == len(judged.grades)


@pytest.mark.parametrize("shift", [0.0, 583_021.37, 4_477_030.95, -123.456])
def test_the_grid_loses_no_neighbour_at_its_edges(shift: float) -> None:
    steps = np.arange(-4, 5) * 12.5 + shift
    places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    judged = judged_by_distance(places, places)
    for query, place in enumerate(places):
        squares = ((places - place) ** 2).sum(axis=1)
        assert judged.of_query(query).tolist() == np.flatnonzero(squares <= 625).tolist()


def test_a_crowd_in_one_place_is_judged_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veduta.datasets.protocols.nearby._BLOCK_PAIRS", 7)
    queries = np.array([[0.0, 0], [1000, 0], [3, 4], [26, 0]])
    gallery = np.zeros((5, 2))
    judged = judged_by_distance(queries, gallery)
    assert [judged.of_query(query).tolist() for query in range(4)] == [
        [0, 1, 2, 3, 4],
        [],
        [0, 1, 2, 3, 4],
        [],
    ]
    assert len(judged_by_distance(queries, np.empty((0, 2)))) == 4
    assert len(judged_by_distance(np.empty((0, 2)), gallery)) == 0
