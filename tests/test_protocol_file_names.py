"""Holidays, UKBench and GPR1200: the names of the photos say what they show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

HOLIDAYS = ["100000.jpg", "100001.jpg", "100002.jpg", "100100.jpg", "100101.jpg"]
UKBENCH = [f"ukbench{number:05d}.jpg" for number in range(8)]
GPR1200 = ["0_1000.jpg", "0_1001.jpg", "1_77.jpg", "1_78.jpg", "10_a_b.jpg", "10_c.jpg"]


def photos(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def refusal(path: Path, name: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, name)
    return str(caught.value)


def test_holidays(tmp_path: Path) -> None:
    judged = open_protocol(photos(tmp_path, HOLIDAYS))
    assert (judged.protocol, judged.root) == ("holidays", tmp_path)
    assert judged.queries == judged.query_paths == ("100000.jpg", "100100.jpg")
    assert judged.gallery == judged.gallery_paths == tuple(HOLIDAYS)
    # The query is in the gallery, and neither right nor ranked.
    assert [judged.own_position(query) for query in (0, 1)] == [0, 3]
    assert [judged.positives.of_query(query).tolist() for query in (0, 1)] == [[1, 2], [4]]
    assert [judged.left_out(query).tolist() for query in (0, 1)] == [[0], [3]]
    assert judged.query_labels == ("1000", "1001")
    assert judged.gallery_labels == ("1000",) * 3 + ("1001",) * 2


def test_ukbench(tmp_path: Path) -> None:
    judged = open_protocol(photos(tmp_path, UKBENCH))
    assert judged.protocol == "ukbench"
    assert judged.queries == judged.gallery == tuple(UKBENCH)
    # The query itself is one of the four right photos of N-S.
    assert judged.own is None
    assert [judged.positives.of_query(query).tolist() for query in (0, 3, 4)] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


def test_gpr1200(tmp_path: Path) -> None:
    judged = open_protocol(photos(tmp_path, GPR1200))
    names = tuple(sorted(GPR1200))
    assert judged.protocol == "gpr1200"
    assert judged.queries == judged.gallery == names
    # The query is ranked, and right, as in the evaluation code of the authors.
    assert judged.own is None
    right = {
        names[query]: [names[row] for row in judged.positives.of_query(query)] for query in range(6)
    }
    assert right["0_1000.jpg"] == ["0_1000.jpg", "0_1001.jpg"]
    assert right["10_a_b.jpg"] == ["10_a_b.jpg", "10_c.jpg"]
    assert right["1_78.jpg"] == ["1_77.jpg", "1_78.jpg"]
    assert set(judged.gallery_labels) == {"0", "1", "10"}


@pytest.mark.parametrize(
    ("name", "folder", "names"),
    [("holidays", "jpg", HOLIDAYS), ("ukbench", "full", UKBENCH), ("gpr1200", "images", GPR1200)],
)
def test_photos_in_the_folder_of_the_publishers(
    tmp_path: Path, name: str, folder: str, names: list[str]
) -> None:
    photos(tmp_path / folder, names)
    found = find_protocol(tmp_path)
    assert found is not None and found.name == name
    judged = open_protocol(tmp_path)
    assert judged.root == tmp_path / folder
    assert set(judged.gallery) == set(names)
    (tmp_path / "lists").mkdir()
    elsewhere = open_protocol(tmp_path / "lists", name, photos=tmp_path / folder)
    assert elsewhere.gallery == judged.gallery


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["100000.jpg"],
        ["a.jpg", "b.jpg"],
        [*HOLIDAYS, "cover.jpg"],
        [*UKBENCH, "cover.jpg"],
        [*GPR1200, "cover.jpg"],
        ["ukbench0.jpg", "ukbench1.jpg"],
        ["2024_01_x.png", "2024_02_x.png"],
        ["1000000.jpg", "1000001.jpg"],
    ],
)
def test_other_folders_are_not_recognised(tmp_path: Path, names: list[str]) -> None:
    assert find_protocol(photos(tmp_path, names)) is None


def test_class_folders_and_other_paths_are_not_recognised(tmp_path: Path) -> None:
    photos(tmp_path / "cat", HOLIDAYS)
    photos(tmp_path / "dog", HOLIDAYS)
    assert find_protocol(tmp_path) is None
    assert find_protocol(tmp_path / "cat" / HOLIDAYS[0]) is None
    assert find_protocol(tmp_path / "none") is None


def test_a_folder_that_cannot_be_read_is_not_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path, HOLIDAYS)

    def denied(path: object = ".") -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    monkeypatch.setattr(os, "listdir", denied)
    assert find_protocol(tmp_path) is None
    with pytest.raises(DatasetError, match="cannot be read: Permission denied"):
        open_protocol(tmp_path, "holidays")


def test_bad_names(tmp_path: Path) -> None:
    photos(tmp_path, [*HOLIDAYS, "cover.jpg"])
    message = refusal(tmp_path, "holidays")
    assert "1 photos with other names (cover.jpg)" in message
    assert "four digits of the scene" in message and "Found: 100000.jpg, 100001.jpg" in message
    assert "no photo" in refusal(photos(tmp_path / "empty", []), "gpr1200")


def test_holidays_without_a_query(tmp_path: Path) -> None:
    photos(tmp_path, HOLIDAYS[1:3])
    assert "no query; the name of a query ends in 00" in refusal(tmp_path, "holidays")


def test_ukbench_with_an_incomplete_object(tmp_path: Path) -> None:
    photos(tmp_path, UKBENCH[:7])
    message = refusal(tmp_path, "ukbench")
    assert "1 objects without four photos (object 1)" in message
    photos(tmp_path, [UKBENCH[7], "ukbench00000.jpeg"])
    assert "1 objects without four photos (object 0)" in refusal(tmp_path, "ukbench")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        open_protocol(tmp_path, "holidays", photos=tmp_path / "none")
