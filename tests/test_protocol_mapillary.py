"""Mapillary Street-Level Sequences, as its authors evaluate it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

Row = tuple[str, object, object, bool, bool]
"""key, east, north, panorama, subtask all"""

TRAINING_CITIES = """
trondheim london boston melbourne amsterdam helsinki tokyo toronto saopaulo moscow zurich paris
bangkok budapest austin berlin ottawa phoenix goa amman nairobi manila
"""


def write_side(folder: Path, rows: Iterable[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    places = [",key,easting,northing,unique_cluster,control_panel,night,view_direction"]
    raw = [",key,lon,lat,ca,captured_at,pano"]
    subtasks = [",key,all,s2w,w2s,o2n,n2o,d2n,n2d"]
    for number, (key, east, north, panorama, takes_part) in enumerate(rows):
        places.append(f"{number},{key},{east},{north},{number},True,False,Forward")
        raw.append(f"{number},{key},12.5,55.6,90.0,2019-01-01,{panorama}")
        subtasks.append(f"{number},{key},{takes_part}{',False' * 6}")
    for name, lines in (("postprocessed", places), ("raw", raw), ("subtask_index", subtasks)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def msls(tmp_path: Path) -> Path:
    root = tmp_path / "msls"
    cities = root / "train_val"
    write_side(
        cities / "cph/query",
        [
            ("q1", 347000.5, 6172000, False, True),
            ("q-alone", 9000, 9000, False, True),
            ("q-pano", 347000.5, 6172000, True, True),
            ("q-other", 347000.5, 6172000, False, False),
        ],
    )
    write_side(
        cities / "cph/database",
        [
            ("d-pano", 347000.5, 6172000, True, True),
            ("d1", 347025.5, 6172000, False, True),
            ("d-far", 347000.5, "6172025.0001", False, True),
            ("d2", 347007.5, 6172024, False, True),
        ],
    )
    # The same numbers as in Copenhagen, in another zone.
    write_side(cities / "sf/query", [("q2", 347000.5, 6172000, False, True)])
    write_side(cities / "sf/database", [("d3", 347000.5, 6172000, False, True)])
    return root


def positives(judged_set: JudgedSet) -> dict[str, list[str]]:
    return {
        query: [judged_set.gallery[row] for row in judged_set.positives.of_query(number)]
        for number, query in enumerate(judged_set.queries)
    }


@pytest.mark.parametrize("below", ["", "train_val"])
def test_both_cities_are_one_gallery_and_no_city_answers_for_another(
    msls: Path, below: str
) -> None:
    found = find_protocol(msls / below)
    assert found is not None
    assert found.name == "mapillary"
    read = open_protocol(msls / below)
    assert read.name == "Mapillary SLS val"
    assert read.gallery == ("d1", "d-far", "d2", "d3")
    assert positives(read) == {"q1": ["d1", "d2"], "q-alone": [], "q2": ["d3"]}
    assert (read.root / read.query_paths[0]) == msls / "train_val/cph/query/images/q1.jpg"
    assert (read.root / read.gallery_paths[3]) == msls / "train_val/sf/database/images/d3.jpg"


def test_what_takes_no_part_is_counted(msls: Path) -> None:
    notes = " ".join(open_protocol(msls).notes)
    assert "2 panoramas and 1 photo outside the subtask all. 1 query without a right photo" in notes


def test_photos_may_lie_elsewhere(msls: Path, tmp_path: Path) -> None:
    assert open_protocol(msls, photos=tmp_path / "photos").root == tmp_path / "photos"


def test_the_training_cities_are_a_variant(msls: Path) -> None:
    with pytest.raises(DatasetError, match=r"train lacks train_val/trondheim/, train_val/london/"):
        open_protocol(msls, variant="train")
    for city in TRAINING_CITIES.split():
        write_side(msls / f"train_val/{city}/query", [(f"q-{city}", 1, 2, False, True)])
        write_side(msls / f"train_val/{city}/database", [(f"d-{city}", 1, 2, False, True)])
    read = open_protocol(msls, variant="train")
    assert len(read.queries) == len(read.gallery) == 22
    assert positives(read)["q-goa"] == ["d-goa"]


def test_the_coordinates_of_the_test_cities_are_not_public(msls: Path) -> None:
    for city in ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala"):
        for side in ("query", "database"):
            write_side(msls / f"test/{city}/{side}", [(f"{side}-{city}", 5, 5, False, True)])
    assert len(open_protocol(msls, variant="test").queries) == 6  # with coordinates it is read
    (msls / "test/athens/query/postprocessed.csv").unlink()
    with pytest.raises(DatasetError, match=r"athens/query/postprocessed.csv: .* not public"):
        open_protocol(msls, variant="test")


def test_a_missing_city_or_file_is_named(msls: Path) -> None:
    (msls / "train_val/sf/query/raw.csv").unlink()
    assert any(
        "no train_val/sf/query/raw.csv; photos that it would leave out take part" in problem
        for problem in open_protocol(msls).problems
    )
    (msls / "train_val/sf/database/postprocessed.csv").unlink()
    with pytest.raises(DatasetError, match=r"no train_val/sf/database/postprocessed.csv. The prot"):
        open_protocol(msls)
    (msls / "train_val/sf").rename(msls / "train_val/zurich")
    (problem,) = open_protocol(msls).problems
    assert "no sf; the figures do not compare with those of all cities of val" in problem
    with pytest.raises(DatasetError, match=r"test lacks test/miami/, test/athens/"):
        open_protocol(msls, variant="test")


def test_right_photos_are_grouped_by_the_years_between(msls: Path) -> None:
    edit(
        msls / "train_val/cph/database/raw.csv",
        "d1,12.5,55.6,90.0,2019-01-01",
        "d1,1,1,1,2016-06-01",
    )
    edit(msls / "train_val/cph/database/raw.csv", "d2,12.5,55.6,90.0,2019-01-01", "d2,1,1,1,never")
    edit(
        msls / "train_val/sf/database/raw.csv", "2019-01-01", "1577836800000"
    )  # 2020-01-01 in milliseconds
    read = open_protocol(msls)
    assert read.groups == {"years apart": ("2", "unknown", "0")}
    assert str(read.gallery_dates[0]) == "2016-06-01"
    assert np.isnat(read.gallery_dates[2])
    assert str(read.gallery_dates[3]) == "2020-01-01"
    less = read.without({"q1"}, {"d1"})
    assert less.groups == {"years apart": ("0",)}
    assert [str(day) for day in less.gallery_dates] == ["2019-01-01", "NaT", "2020-01-01"]


def test_another_split_is_read_if_it_is_the_only_one(msls: Path) -> None:
    (msls / "train_val/sf").rename(msls / "train_val/zurich")
    shutil.rmtree(msls / "train_val/cph")
    assert open_protocol(msls).name == "Mapillary SLS train"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("postprocessed", "347025.5", "east", r"postprocessed.csv, line 3: .*'east'.*not two num"),
        ("postprocessed", "347025.5", "nan", r"line 3: the coordinates 'nan', '6172000'"),
        ("postprocessed", "easting", "x", r"line 1: no column 'easting'"),
        ("postprocessed", ",d1,", ",../d1,", r"raw.csv, line 3: the key 'd1', but postpro"),
        ("raw", ",d1,", ",other,", r"raw.csv, line 3: the key 'other', but postprocessed.csv has"),
        ("raw", "01,True", "01,maybe", r"raw.csv, line 2: pano is 'maybe'; wanted True or False"),
        ("raw", "3,d2,12.5,55.6,90.0,2019-01-01,False\n", "", r"different numbers of .*raw.csv en"),
        ("subtask_index", "d1,True", "d1,", r"subtask_index.csv, line 3: all is ''; wanted True"),
    ],
)
def test_bad_rows_are_refused_with_their_line(
    msls: Path, file: str, old: str, new: str, message: str
) -> None:
    edit(msls / f"train_val/cph/database/{file}.csv", old, new)
    with pytest.raises(DatasetError, match=message):
        open_protocol(msls)


def test_keys_come_once_and_stay_in_their_folder(msls: Path) -> None:
    write_side(msls / "train_val/sf/database", [("d1", 347000.5, 6172000, False, True)])
    with pytest.raises(DatasetError, match="1 id of the gallery twice"):
        open_protocol(msls)
    write_side(msls / "train_val/sf/database", [("../d1", 347000.5, 6172000, False, True)])
    with pytest.raises(DatasetError, match=r"line 2: the path '../d1' leads out"):
        open_protocol(msls)


def test_files_that_are_empty_or_not_utf8_are_refused(msls: Path) -> None:
    file = msls / "train_val/cph/query/raw.csv"
    file.write_bytes(file.read_bytes().replace(b"12.5", b"\xff", 1))
    with pytest.raises(DatasetError, match=r"raw.csv, line 2: not UTF-8"):
        open_protocol(msls)
    file.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"raw.csv, line 1: no column 'pano'"):
        open_protocol(msls)


def test_a_set_without_any_right_photo_is_refused(msls: Path) -> None:
    for city in ("cph", "sf"):
        write_side(msls / f"train_val/{city}/query", [(f"q{city}", 1, 1, False, True)])
    with pytest.raises(DatasetError, match="no query of val has a gallery photo within 25 m"):
        open_protocol(msls)


def test_city_folders_of_other_sets_are_not_claimed(tmp_path: Path) -> None:
    for side in ("query", "database"):
        (tmp_path / "cph" / side).mkdir(parents=True)
        (tmp_path / "cph" / side / "a.jpg").touch()
    assert find_protocol(tmp_path) is None
