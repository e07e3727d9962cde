"""Rows of a labels file that share the label of their `label_group`, in every reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import save

from veduta.cli.main import run
from veduta.datasets import read_dataset
from veduta.datasets.labels_csv import LabelsFile, read_relabelled, read_rows
from veduta.errors import DatasetError


def table(file: Path, *rows: str, header: str = "path,label,label_group") -> Path:
    file.write_text("\n".join((header, *rows, "")), "utf-8")
    return file


def labels(file: Path) -> list[str | None]:
    return [row.label for row in read_rows(file)]


@pytest.mark.parametrize("header", ["path,label,label_group", "Photo, Class ,Label Group"])
def test_one_row_names_the_group(tmp_path: Path, header: str) -> None:
    rows = ("a.png,,g1", "b.png, tower ,g1", "c.png,,g1", "d.png,,g2", "e.png,gate,", "f.png,,")
    file = table(tmp_path / "labels.csv", *rows, header=header)
    assert labels(file) == ["tower", "tower", "tower", None, "gate", None]
    assert [row.label for row in LabelsFile(file).rows] == labels(file)


def test_a_label_of_its_own_stays(tmp_path: Path) -> None:
    rows = ("a.png,tower,g", "b.png,tower,g", "c.png,gate,g")
    assert labels(table(tmp_path / "labels.csv", *rows)) == ["tower", "tower", "gate"]


def test_a_group_with_two_labels_is_refused_at_the_row_without_one(tmp_path: Path) -> None:
    file = table(tmp_path / "labels.csv", "a.png,tower,g", "b.png,gate,g", "c.png,,g")
    with pytest.raises(DatasetError) as refused:
        labels(file)
    message = str(refused.value)
    assert "labels.csv, line 4: the row has no label" in message
    assert "'tower' on line 2, 'gate' on line 3" in message
    remedies = [("a.png,tower,g", "b.png,gate,g", "c.png,gate,g")]
    remedies.append(("a.png,tower,g", "b.png,gate,", "c.png,,g"))
    for rows in remedies:
        assert None not in labels(table(file, *rows)), "the remedies of the message work"


def test_other_columns_name_no_groups(tmp_path: Path) -> None:
    file = table(tmp_path / "labels.csv", "a.png,,g", "b.png,tower,g", header="path,label,group")
    assert labels(file) == [None, "tower"]


def test_a_dataset_and_what_is_written_from_it(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    file = table(tmp_path / "labels.csv", "0.png,,g", "1.png,tower,g", "2.png,,")
    assert read_dataset(tmp_path, keep_columns=True).labels == ("tower", "tower", None)
    assert read_dataset(tmp_path, keep_columns=True).further_columns == {}
    written = [fields for _, fields in read_relabelled(file, {"0.png": "gate"}, {})]
    assert written[1:] == [["0.png", "gate", "g"], ["1.png", "tower", "g"], ["2.png", "", ""]]
    table(file, *(",".join(fields) for fields in written[1:]))
    assert labels(file) == ["gate", "tower", None], "it reads back as it was written"


@pytest.mark.parametrize("option", ["--photos", "--no-photos"])
def test_describe_counts_the_labels_of_groups(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    table(tmp_path / "labels.csv", "0.png,,g", "1.png,tower,g", "2.png,gate,")
    assert run(["describe", str(tmp_path), option, "--json"]) == 0
    sizes = json.loads(capsys.readouterr().out)["class_sizes"]
    assert "tower" in str(sizes) and "gate" in str(sizes)
    assert {row["label"]: row["photos"] for row in sizes} == {"tower": 2, "gate": 1}


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from(["", "g", "h"])), min_size=1
    )
)
def test_as_in_slow_form(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    written = [f"{number}.png,{label},{group}" for number, (label, group) in enumerate(rows)]
    file = table(tmp_path / "labels.csv", *written)
    expected: list[str | None] = []
    for label, group in rows:
        of_group = {other for other, its in rows if its == group and other} if group else set()
        if not label and len(of_group) > 1:
            with pytest.raises(DatasetError, match="label_group"):
                labels(file)
            return
        expected.append(label or next(iter(of_group), None))
    assert labels(file) == expected
