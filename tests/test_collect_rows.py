"""The rows that `veduta collect` reads, and the file names that it gives them."""

from __future__ import annotations

import os
import random
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veduta.collect import Columns, collect
from veduta.collect.file_names import FileNames, case_folded, safe_name
from veduta.collect.rows import Row, id_from_url, read_rows
from veduta.errors import DatasetError
from veduta.photos import find_photos


class TestRows:
    def rows(self, file: Path, text: str | bytes, columns: Columns | None = None) -> list[Row]:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list(read_rows([file], columns or Columns()))

    def test_google_landmarks(self, tmp_path: Path) -> None:
        text = '\ufeffid,url,landmark_id\r\n"a1", http://h/1.jpg ,7\r\nb2,None,8\r\n'
        assert self.rows(tmp_path / "train.CSV", text) == [
            Row("a1", "7", "http://h/1.jpg"),
            Row("b2", "8", "None"),
        ]

    def test_any_csv(self, tmp_path: Path) -> None:
        text = 'Name,Link,Place\nx,"http://h/a,b.jpg",Eiffel Tower\n'
        named = Columns(url="link", label="Place", id="name")
        assert self.rows(tmp_path / "a.csv", text, named) == [
            Row("x", "Eiffel Tower", "http://h/a,b.jpg")
        ]
        alone = self.rows(tmp_path / "a.csv", "url\nhttp://h/Some%20Photo.JPG\n")
        assert alone == [
            Row(id_from_url("http://h/Some%20Photo.JPG"), None, "http://h/Some%20Photo.JPG")
        ]
        assert alone[0].id.startswith("some-photo-")

    def test_a_list(self, tmp_path: Path) -> None:
        text = "\ufeff# my list\n\nhttp://h/a.jpg\r\n  http://h/b.jpg  \n\n#x\nhttp://h/a.jpg"
        rows = self.rows(tmp_path / "Notre Dame.txt", text)
        assert [row.url for row in rows] == ["http://h/a.jpg", "http://h/b.jpg", "http://h/a.jpg"]
        assert {row.label for row in rows} == {"Notre Dame"}
        assert rows[0].id == rows[2].id != rows[1].id

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "id,link\n1,http://h/\n", "no column 'url'; found 'id', 'link'"),
            ("a.csv", "id,url,landmark_id\n1,http://h/,\n", "line 2: the landmark_id is empty"),
            ("a.csv", "url,label\nhttp://h/,x\nhttp://i/, \n", "line 3: the label is empty"),
            ("a.csv", "url,id\nhttp://h/,\n", "line 2: the id is empty"),
            ("a.csv", 'url\n"http://h/\n', "line 2: not a CSV record"),
            ("a.csv", b"url\n\xff\n", "line 2: not UTF-8"),
            ("a.txt", b"http://h/\n\xff\n", "line 2: not UTF-8"),
            ("a.txt", b"\0" * 70_000, "line 1: longer than 65,536 bytes"),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, text: Any, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            self.rows(tmp_path / name, text)

    def test_refused_sources(self, tmp_path: Path) -> None:
        for source, message in ((tmp_path, "a folder"), (tmp_path / "no.csv", "not there")):
            with pytest.raises(DatasetError, match=message):
                collect([source], tmp_path / "out")
        (tmp_path / "list.txt").write_text("# nothing\n")
        with pytest.raises(DatasetError, match="no rows"):
            collect([tmp_path / "list.txt"], tmp_path / "out")
        with pytest.raises(DatasetError, match="rename it or leave out the names"):
            collect([tmp_path / "list.txt"], tmp_path / "out", columns=Columns(url="x"))
        assert not (tmp_path / "out").exists(), "nothing is written for sources that are refused"


TEXTS = st.text(max_size=150) | st.sampled_from(
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:\\x",
        "con",
        "NUL.txt",
        "aux",
        "COM1",
        "a\0b",
        "x" * 400,
        "é" * 100,
        "A",
        "a",
        "Straße",
        "STRASSE",
        " a",
        "a.",
        "a ",
        "e\u0301",
        "\u00e9",
        "a\u200db",
        "ab",
        "collected.parquet",
        "Collected.Failed.csv",
        ".veduta-collect",
        "-rf",
        "~",
        "a\ufe0f",
        "\ud800",
        "K",
        "\u212a",
        "ı",
        "I",
        "i",
    ]
)


def check_name(name: str) -> None:
    assert 0 < len(name.encode("utf-8")) <= 120
    assert not set(name) & set('/\\:*?"<>|\0') and name.isprintable()
    assert name not in (".", "..") and not name.startswith(".") and name.strip(" .") == name
    assert not is_device(name) and not is_device(f"{name}.jpg")
    assert case_folded(name) not in ("collected.parquet", "collected.failed.csv")


def is_device(name: str) -> bool:
    reserved = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    reserved |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
    return PureWindowsPath(name).name.partition(".")[0].strip().upper() in reserved


class TestNames:
    @pytest.mark.slow
    @given(TEXTS)
    def test_any_text_becomes_a_harmless_name(self, text: str) -> None:
        check_name(safe_name(text))
        assert safe_name(text) == safe_name(text)

    @given(
        st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.sampled_from(["u", "v"])), max_size=30),
        st.randoms(use_true_random=False),
    )
    @example([("a", "X", "u"), ("a", "x", "u"), ("A", "x", "u")], random.Random(1))
    def test_two_rows_two_files_in_any_order(
        self, wanted: list[tuple[str, str | None, str]], order: random.Random
    ) -> None:
        rows = [Row(*each) for each in wanted]
        files = self.files(rows)
        shuffled = rows.copy()
        order.shuffle(shuffled)
        assert self.files(shuffled) == files
        assert len({case_folded(file) for file in files.values()}) == len(files) == len(set(rows))
        folders: dict[str, str] = {}
        for row, file in files.items():
            parts = file.split("/")
            assert len(parts) == (1 if row.label is None else 2)
            for part in parts:
                check_name(part)
            if row.label is not None:
                assert folders.setdefault(case_folded(parts[0]), row.label) == row.label

    def files(self, rows: list[Row]) -> dict[Row, str]:
        names = FileNames()
        for row in rows:
            names.add(row)
        if rows:
            names.resolve_clashes()
        return {row: names.path_of(row) for row in rows}

    def test_ordinary_names_stay(self) -> None:
        for name in (
            "eiffel_tower",
            "Notre-Dame de Paris",
            "97c0a12e07ae8dd5",
            "東京タワー",
            "St. Peter's (Rome)",
            "ताज महल",
            "IMG_1234",
        ):
            assert safe_name(name) == name

    def test_a_repeated_row_keeps_the_plain_name(self) -> None:
        row = Row("a", "x", "u")
        assert self.files([row, row]) == {row: "x/a"}
        other = Row("a", "x", "v")
        assert all("~" in file for file in self.files([row, other]).values())

    def test_the_names_of_files_that_were_written(self, gather) -> None:
        wanted = {
            "../../up": "photo/1",
            "..": "photo/2",
            "a/b": "photo/3",
            "A": "photo/4",
            "a": "photo/5",
            "con": "photo/6",
            "x" * 300: "photo/7",
        }
        done = gather(wanted, label="../out2/..")
        assert set(done.outcomes().values()) == {"collected"}
        found = {Path(os.fsdecode(each.path)) for each in find_photos([done.folder])}
        assert found == {done.folder / row["path"] for row in done.rows}
        assert len(found) == len(wanted)
        outside = {path.name for path in done.folder.parent.iterdir()}
        assert outside == {"out", "rows.csv"}
        for row in done.rows:
            assert (done.folder / row["path"]).resolve().is_relative_to(done.folder.resolve())
            assert row["label"] == "../out2/.."
