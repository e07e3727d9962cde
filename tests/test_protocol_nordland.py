"""Nordland: three sets of frames, each with its own tolerance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError


def write_frames(folder: Path, numbers: Iterable[int], name: str = "images-{:05}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / name.format(number)).touch()


def write_lists(folder: Path, queries: Iterable[int], gallery: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, season, numbers in (("query", "winter", queries), ("index", "summer", gallery)):
        (folder / f"nordland_imageNames_{file}.txt").write_text(
            "".join(f"./nordland/{season}/images-{number:05}.png\n" for number in numbers)
        )


def right(read: JudgedSet, query: int) -> list[int]:
    return read.positives.of_query(query).tolist()


def protocol_of(path: Path) -> str | None:
    found = find_protocol(path)
    return None if found is None else found.name


def test_27592_frames_have_a_tolerance_of_10(tmp_path: Path) -> None:
    # Patch-NetVLAD begins with frame 202 and skips frames, which have no rank.
    numbers = [*range(202, 1000), *range(2000, 2000 + 27592 - 798)]
    write_lists(tmp_path / "lists", numbers, numbers)
    assert protocol_of(tmp_path / "lists") == "nordland"
    read = open_protocol(tmp_path / "lists")
    assert read.name == "Nordland 27592 (±10), query to ref"
    assert (len(read.queries), len(read.gallery)) == (27592, 27592)
    assert read.queries[0] == read.query_paths[0] == "nordland/winter/images-00202.png"
    assert read.gallery[0] == "nordland/summer/images-00202.png"
    assert right(read, 0) == list(range(11))
    assert right(read, 5) == list(range(16))
    assert right(read, 797) == list(range(787, 808))  # across the gap
    assert right(read, 27591) == list(range(27581, 27592))
    assert read.query_places[797].tolist() == [797.0]
    assert read.gallery_places.shape == (27592, 1)


def test_lists_may_lie_in_the_folder_of_the_set_or_above(tmp_path: Path) -> None:
    write_lists(tmp_path / "nordland", range(40), range(40))
    folder = tmp_path / "nordland"
    assert open_protocol(folder, variant="27592").root == folder
    write_frames(folder / "winter", range(1))
    assert open_protocol(folder, variant="27592").root == tmp_path
    assert open_protocol(folder, variant="27592", photos=folder).root == folder


@pytest.mark.parametrize("name", ["{:05}.png", "{}.jpg", "images-{:05}.png"])
def test_3450_frames_have_a_tolerance_of_2(tmp_path: Path, name: str) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / f"set/{season}", range(3450), name)
    assert protocol_of(tmp_path / "set") == "nordland"
    read = open_protocol(tmp_path / "set")
    assert read.name == "Nordland 3450 (±2), winter to summer"
    assert read.queries[3000] == f"winter/{name.format(3000)}"
    assert read.gallery[3000] == f"summer/{name.format(3000)}"
    assert right(read, 3000) == [2998, 2999, 3000, 3001, 3002]
    assert not any(read.missing_photos())


def test_the_sections_of_the_partitioned_set(tmp_path: Path) -> None:
    for season in ("summer", "winter", "fall", "spring"):
        for section in range(3):
            write_frames(
                tmp_path / f"Dataset_images/test/{season}_images_test/section{section + 1}",
                range(section * 1150, section * 1150 + 1150),
                "{}.png",
            )
    for path in (tmp_path, tmp_path / "Dataset_images", tmp_path / "Dataset_images/test"):
        assert protocol_of(path) == "nordland"
        read = open_protocol(path)
        assert read.name == "Nordland 3450 (±2), winter to summer"
        assert read.queries[1150] == "winter_images_test/section2/1150.png"
        assert right(read, 1150) == [1148, 1149, 1150, 1151, 1152]


@pytest.mark.parametrize("counted", [True, False])
def test_2760_queries_are_every_tenth_frame(tmp_path: Path, *, counted: bool) -> None:
    queries = range(2760) if counted else range(0, 27592, 10)
    write_frames(tmp_path / "VPR/Nordland/query", queries, "{:07}.jpg")
    write_frames(tmp_path / "VPR/Nordland/ref", range(27592), "{:07}.jpg")
    assert protocol_of(tmp_path / "VPR/Nordland") == "nordland"
    read = open_protocol(tmp_path / "VPR/Nordland")
    assert read.name == "Nordland 2760 (±1), query to ref"
    assert (len(read.queries), len(read.gallery)) == (2760, 27592)
    assert right(read, 0) == [0, 1]
    assert right(read, 123) == [1229, 1230, 1231]
    assert right(read, 2759) == [27589, 27590, 27591]
    assert read.query_places[123].tolist() == [1230.0]


def test_2760_of_all_frames_are_taken_from_summer(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / f"nordland/{season}", range(100, 195))
    for path in (tmp_path / "nordland", tmp_path):
        read = open_protocol(path, variant="2760")
        assert read.name == "Nordland 2760 (±1), summer to winter"
        assert read.queries[:2] == ("summer/images-00100.png", "summer/images-00110.png")
        assert (len(read.queries), len(read.gallery)) == (10, 95)
        assert [right(read, query) for query in (0, 1, 9)] == [[0, 1], [9, 10, 11], [89, 90, 91]]
        assert "published set has 2,760 queries and 27,592 gallery frames" in read.notes[1]


def test_the_season_with_fewer_frames_has_the_queries(tmp_path: Path) -> None:
    write_frames(tmp_path / "nordland/winter", range(0, 95, 10))
    write_frames(tmp_path / "nordland/summer", range(95))
    read = open_protocol(tmp_path / "nordland", variant="2760")
    assert read.name == "Nordland 2760 (±1), winter to summer"
    assert right(read, 9) == [89, 90, 91]


def test_2760_frames_of_both_seasons(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / season, range(2760))
    read = open_protocol(tmp_path)
    assert read.name == "Nordland 2760 (±1), summer to winter"
    assert right(read, 50) == [49, 50, 51]


def test_selected_frames_are_those_of_the_list(tmp_path: Path) -> None:
    root = tmp_path / "nordland"
    write_frames(root / "summer", range(1, 30))
    write_frames(root / "winter", [2, 7, 15, 16, 20])
    with pytest.raises(DatasetError, match=r"its frames are not those of .*cleanImageNames.txt"):
        open_protocol(root, variant="3450")
    (root / "cleanImageNames.txt").write_text(
        "".join(f"images-{number:05}.png\n" for number in (2, 7, 15, 20))
    )
    read = open_protocol(root, variant="3450")
    assert read.gallery == tuple(f"summer/images-{number:05}.png" for number in (2, 7, 15, 20))
    assert right(read, 3) == [1, 2, 3]  # the ranks count, not the gaps
    (root / "winter/images-00015.png").unlink()
    with pytest.raises(DatasetError, match=r"winter: lacks 1 of the 4 frames of cleanImageNames"):
        open_protocol(root, variant="3450")


def test_another_number_of_frames_needs_the_variant(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / season, range(100))
    with pytest.raises(
        DatasetError,
        match=r"100 queries and 100 gallery frames, which is no known set; name the variant.*"
        r"\(27592: ±10; 2760: ±1; 3450: ±2\)",
    ):
        open_protocol(tmp_path)
    read = open_protocol(tmp_path, variant="27592")
    assert right(read, 50) == list(range(40, 61))
    assert "The published set has 27,592 queries and 27,592 gallery frames." in read.notes


def test_a_variant_of_another_number_of_frames_is_refused(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / season, range(3450))
    with pytest.raises(DatasetError, match="are the variant 3450, not 27592; their tolerances"):
        open_protocol(tmp_path, variant="27592")
    with pytest.raises(DatasetError, match="has no variant '10'; it has 27592, 2760, 3450"):
        open_protocol(tmp_path, variant="10")


def test_other_seasons_go_into_query_and_ref(tmp_path: Path) -> None:
    for season in ("spring", "fall"):
        write_frames(tmp_path / f"nordland/{season}", range(30))
    assert protocol_of(tmp_path / "nordland") == "nordland"
    with pytest.raises(DatasetError, match="no winter and no summer; put another pair of seasons"):
        open_protocol(tmp_path / "nordland", variant="3450")
    (tmp_path / "nordland/spring").rename(tmp_path / "nordland/query")
    (tmp_path / "nordland/fall").rename(tmp_path / "nordland/ref")
    read = open_protocol(tmp_path / "nordland", "nordland", variant="3450")
    assert read.name == "Nordland 3450 (±2), query to ref"
    assert right(read, 10) == [8, 9, 10, 11, 12]


def test_names_that_are_no_frames_are_refused(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        write_frames(tmp_path / season, range(30))
    (tmp_path / "winter/cover.png").touch()
    with pytest.raises(DatasetError, match=r"winter: winter/cover.png: no frame number; wanted"):
        open_protocol(tmp_path, "nordland", variant="3450")
    (tmp_path / "winter/cover.png").rename(tmp_path / "winter/5.png")
    with pytest.raises(DatasetError, match="have the same frame number; each must be there once"):
        open_protocol(tmp_path, "nordland", variant="3450")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nordland_imageNames_query.txt: empty"),
        (b"a/1.png\n\xff/2.png\n", "nordland_imageNames_query.txt, line 2: not UTF-8"),
        (b"a/1.png\na/../../2.png\n", "nordland_imageNames_query.txt, line 2: .* leads out"),
        (b"a/1.png\na/1.png\n", "1 id of the frames twice"),
        (b"a/1.png\nb/1.png\n", "have the same frame number"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_lists(tmp_path, range(5), range(5))
    (tmp_path / "nordland_imageNames_query.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_protocol(tmp_path, "nordland", variant="3450")


def test_a_wrong_layout_and_an_empty_season_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "winter", range(5))
    with pytest.raises(DatasetError, match=r"no folders of two seasons(.|\n)*Found: winter/"):
        open_protocol(tmp_path, "nordland")
    (tmp_path / "summer").mkdir()
    with pytest.raises(DatasetError, match=r"summer: no photo; wanted frames such as 00001.png"):
        open_protocol(tmp_path, "nordland", variant="3450")


@pytest.mark.parametrize("name", ["{:03}.jpg", "IMG_{}.jpg", "oak{}tree.png"])
def test_class_folders_named_like_seasons_are_not_claimed(tmp_path: Path, name: str) -> None:
    for season in ("spring", "summer", "fall", "winter"):
        write_frames(tmp_path / season, range(25), name)
    assert find_protocol(tmp_path) is None
    for side in ("query", "ref"):
        write_frames(tmp_path / "other" / side, range(25), name)
    assert find_protocol(tmp_path / "other") is None
