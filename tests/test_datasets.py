"""Labels files, class folders and folder pairs: what is read, and what is refused."""

from __future__ import annotations

import csv
import io
import os
import posixpath
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veduta.datasets import (
    Dataset,
    LabelsFile,
    class_coverage,
    labels_from_folders,
    open_dataset,
    retrieval_protocol,
)
from veduta.datasets.labels_csv import read_rows
from veduta.errors import DatasetError


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff")


def rows_of(dataset: Dataset) -> list[tuple[str, str | None, str]]:
    return [(row["path"], row["label"], row["split"]) for row in dataset.table.to_pylist()]


def open_csv(root: Path, text: str | bytes, *photos: str) -> Dataset:
    put(root, *(photos or ("a.jpg", "b.jpg", "c.jpg")))
    (root / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return open_dataset(root)


def refusal(root: Path, text: str | bytes, *photos: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_csv(root, text, *photos)
    assert str(root / "labels.csv") in str(caught.value)
    return str(caught.value)


class TestLabelsCsv:
    def test_columns_in_any_order_and_case_with_others_between(self, tmp_path: Path) -> None:
        dataset = open_csv(
            tmp_path,
            "Split,source, LABEL ,path\nquery,web,tower,a.jpg\nDistractor,web,,sub/b.jpg\n"
            "gallery,,tower,c.jpg\n",
            "a.jpg",
            "sub/b.jpg",
            "c.jpg",
        )
        assert rows_of(dataset) == [
            ("a.jpg", "tower", "query"),
            ("sub/b.jpg", None, "distractor"),
            ("c.jpg", "tower", "gallery"),
        ]
        assert dataset.root == tmp_path
        assert dataset.problems == ()

    def test_byte_order_mark_crlf_quotes_and_blank_lines(self, tmp_path: Path) -> None:
        dataset = open_csv(
            tmp_path,
            b'\xef\xbb\xbfpath,label\r\n\r\n"a, b.jpg","the ""old"" tower"\r\n  \r\n,\r\n'
            b"./sub//../c.jpg, caf\xc3\xa9 \r\n",
            "a, b.jpg",
            "c.jpg",
        )
        assert rows_of(dataset) == [("a, b.jpg", 'the "old" tower', ""), ("c.jpg", "café", "")]

    def test_empty_fields_that_a_spreadsheet_adds_are_no_fields(self, tmp_path: Path) -> None:
        assert rows_of(open_csv(tmp_path, "path,label\na.jpg,x,,\n")) == [("a.jpg", "x", "")]

    @pytest.mark.parametrize("split", ["query", "gallery", "distractor", "junk", "unknown"])
    def test_splits_are_kept(self, tmp_path: Path, split: str) -> None:
        text = f"path,label,split\na.jpg,x,{split}\nb.jpg,x,query\nc.jpg,y,gallery\n"
        assert rows_of(open_csv(tmp_path, text))[0] == ("a.jpg", "x", split)

    def test_train_and_test_stand_in_for_gallery_and_query(self, tmp_path: Path) -> None:
        dataset = open_csv(tmp_path, "path,label,split\na.jpg,x,test\nb.jpg,x,train\nc.jpg,,junk\n")
        assert [row[2] for row in rows_of(dataset)] == ["query", "gallery", "junk"]

    def test_train_stays_train_beside_queries(self, tmp_path: Path) -> None:
        text = "path,label,split\na.jpg,x,query\nb.jpg,x,train\nc.jpg,x,gallery\n"
        assert [row[2] for row in rows_of(open_csv(tmp_path, text))] == [
            "query",
            "train",
            "gallery",
        ]

    def test_missing_files_are_left_out_and_listed(self, tmp_path: Path) -> None:
        names = [f"gone{number}.jpg" for number in range(7)]
        text = "path,label\n" + "".join(f"{name},x\n" for name in [*names, "a.jpg"])
        dataset = open_csv(tmp_path, text)
        assert rows_of(dataset) == [("a.jpg", "x", "")]
        (problem,) = dataset.problems
        assert "7 missing" in problem
        assert "gone0.jpg, and 6 more" in problem

    def test_the_file_may_have_another_name(self, tmp_path: Path) -> None:
        put(tmp_path, "a.jpg")
        (tmp_path / "other.csv").write_text("path,label\na.jpg,x\n")
        by_name = open_dataset(tmp_path, labels="other.csv")
        assert rows_of(by_name) == rows_of(open_dataset(tmp_path / "other.csv"))
        with pytest.raises(DatasetError, match=r"absent\.csv: cannot be read"):
            open_dataset(tmp_path, labels="absent.csv")


class TestLabelsCsvRefuses:
    def test_missing_columns_naming_found_and_wanted(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "number,quality\n1,x\n")
        assert "line 1: no column 'path' and no column 'label'" in message
        assert "found 'number', 'quality'" in message
        assert "wanted 'path', 'label' and optionally 'split'" in message

    def test_other_separators_with_a_hint(self, tmp_path: Path) -> None:
        assert "separate the columns with commas" in refusal(tmp_path, "path:label\na.jpg:x\n")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        assert "found none" in refusal(tmp_path, "\n\n")

    def test_a_doubled_column(self, tmp_path: Path) -> None:
        assert "'label' is there 2 times" in refusal(tmp_path, "path,label,Label\na.jpg,x,y\n")

    def test_an_unquoted_comma(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label\nb.jpg,x\na, b.jpg,x\n")
        assert "line 3: 3 fields, but the header has 2 (path, label)" in message

    def test_a_short_row(self, tmp_path: Path) -> None:
        assert "line 2: 1 fields" in refusal(tmp_path, "path,label\na.jpg\n")

    def test_the_same_photo_twice_naming_both_lines(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, 'path,label\n"a.jpg","x\ny"\n\nb.jpg,x\n./a.jpg,x\n')
        assert "line 6: a.jpg is already on line 2" in message

    @pytest.mark.parametrize("path", ["../a.jpg", "sub/../../a.jpg", "/etc/hostname", ".."])
    def test_a_path_out_of_the_root(self, tmp_path: Path, path: str) -> None:
        put(tmp_path.parent, "a.jpg")
        message = refusal(tmp_path, f"path,label\n{path},x\n")
        assert f"line 2: {path} leads out of the dataset" in message

    def test_a_name_that_only_begins_with_dots_is_inside(self, tmp_path: Path) -> None:
        dataset = open_csv(tmp_path, "path,label\n..a.jpg,x\n", "..a.jpg")
        assert rows_of(dataset) == [("..a.jpg", "x", "")]

    def test_an_empty_path(self, tmp_path: Path) -> None:
        assert "line 2: the path is empty" in refusal(tmp_path, "path,label\n,x\n")

    def test_a_nul_in_a_path(self, tmp_path: Path) -> None:
        assert "line 2: " in refusal(tmp_path, "path,label\na\0.jpg,x\n")

    def test_an_unknown_split(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label,split\na.jpg,x,Quary\n")
        assert "line 2: unknown split 'Quary'; wanted one of query, gallery" in message

    def test_a_split_left_empty_in_one_row(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label,split\na.jpg,x,query\n\nb.jpg,x,\n")
        assert "line 4: the split is empty" in message

    def test_another_encoding_naming_the_line(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label\na.jpg,x\nb.jpg,café\n".encode("latin-1"))
        assert "line 3: not UTF-8" in message
        assert "line 1: not UTF-8" in refusal(tmp_path, "path,label\na.jpg,x\n".encode("utf-16"))

    def test_an_open_quote(self, tmp_path: Path) -> None:
        assert "line 3: not a CSV record" in refusal(
            tmp_path, 'path,label\na.jpg,x\n"b.jpg,x\nc.jpg,x\n'
        )

    def test_line_ends_of_old(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label\ra.jpg,x\r")
        assert "line 1: not a CSV record: a bare carriage return; end lines with LF" in message

    def test_no_label_at_all(self, tmp_path: Path) -> None:
        assert "no labelled photo" in refusal(tmp_path, "path,label\na.jpg,\n")

    def test_no_photo_at_all_saying_where_it_looked(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "path,label\nimages/a.jpg,x\n")
        assert "none of its 1 photos is there (images/a.jpg)" in message
        assert f"paths are taken from {tmp_path}" in message


fields = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
paths = fields.filter(
    lambda text: (
        text.strip()
        and not posixpath.normpath(text).startswith("/")
        and posixpath.normpath(text).split("/")[0] != ".."
    )
)


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(paths, fields),
        min_size=1,
        max_size=6,
        unique_by=lambda r: posixpath.normpath(r[0]),
    ),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_the_csv_module_writes_reads_back(
    tmp_path: Path, rows: list[tuple[str, str]], line_end: str, mark: bool, quoting: int
) -> None:
    text = io.StringIO()
    if any("\r" in path + label for path, label in rows):
        quoting = (
            csv.QUOTE_ALL
        )  # before Python 3.13 the writer left a bare carriage return unquoted
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerow(["path", "label"])
    writer.writerows(rows)
    file = tmp_path / "round_trip.csv"
    file.write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    assert [(row.path, row.label) for row in read_rows(file)] == [
        (posixpath.normpath(path), unicodedata.normalize("NFC", label.strip()) or None)
        for path, label in rows
    ]


def test_labels_for_an_index_are_found_under_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "mine.csv"
    file.write_text("path,label,split\n../é.jpg,tower,later\n/photos/b.jpg,dome,\nc.jpg,,\n")
    with pytest.raises(DatasetError, match="unknown split 'later'"):
        LabelsFile(file)
    file.write_text("path,label\n../é.jpg,tower\n/photos/b.jpg,dome\nd.jpg,\n")
    photos = [os.fsencode(tmp_path / "é.jpg"), b"/photos/b.jpg", b"/photos/c.jpg"]
    labels = LabelsFile(file).match(photos)
    assert labels.label_of == {photos[0]: "tower", photos[1]: "dome"}
    assert labels.notes == (f"{file}: 1 row names no photo, of 3 (d.jpg)",)


class TestClassFolders:
    def test_the_first_folder_is_the_label(self, tmp_path: Path) -> None:
        put(tmp_path, "dome/a.jpg", "tower/2019/b.jpg", "tower/c.jpg")
        dataset = open_dataset(tmp_path)
        assert rows_of(dataset) == [
            ("dome/a.jpg", "dome", ""),
            ("tower/2019/b.jpg", "tower", ""),
            ("tower/c.jpg", "tower", ""),
        ]
        assert dataset.problems == ()

    def test_from_a_relative_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tmp_path, "set/dome/a.jpg")
        monkeypatch.chdir(tmp_path / "set")
        assert rows_of(open_dataset(".")) == [("dome/a.jpg", "dome", "")]

    def test_a_photo_in_no_class_folder_has_no_label_and_is_listed(self, tmp_path: Path) -> None:
        put(tmp_path, "loose.jpg", "dome/a.jpg")
        dataset = open_dataset(tmp_path)
        assert ("loose.jpg", None, "") in rows_of(dataset)
        assert "1 in no class folder" in dataset.problems[0]
        assert "loose.jpg" in dataset.problems[0]

    @pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names")
    def test_a_name_that_is_not_utf8_is_left_out_and_listed(self, tmp_path: Path) -> None:
        put(tmp_path, "dome/a.jpg")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/dome/caf\xe9.jpg")).write_bytes(b"\xff\xd8\xff")
        dataset = open_dataset(tmp_path)
        assert rows_of(dataset) == [("dome/a.jpg", "dome", "")]
        assert "dome/caf\\xe9.jpg" in dataset.problems[0]

    def test_a_broken_link_is_left_out_and_listed(self, tmp_path: Path) -> None:
        put(tmp_path, "dome/a.jpg")
        (tmp_path / "dome" / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
        dataset = open_dataset(tmp_path)
        assert rows_of(dataset) == [("dome/a.jpg", "dome", "")]
        assert "1 cannot be read, left out (dome/b.jpg)" in dataset.problems[0]

    def test_flat_files_say_what_is_wanted(self, tmp_path: Path) -> None:
        put(tmp_path, "a_1.jpg", "a_2.jpg")
        with pytest.raises(DatasetError, match=r"no labels: wanted a labels\.csv .* class"):
            open_dataset(tmp_path)

    def test_folders_named_like_splits_are_no_classes(self, tmp_path: Path) -> None:
        put(tmp_path, "Query/1.jpg", "gallery/2.jpg")
        with pytest.raises(DatasetError, match=r"are splits, not classes.*--queries, --gallery"):
            open_dataset(tmp_path)
        put(tmp_path, "Query/a/3.jpg", "gallery/a/4.jpg")
        assert rows_of(open_dataset(tmp_path)) == [
            ("Query/1.jpg", None, "query"),
            ("Query/a/3.jpg", "a", "query"),
            ("gallery/2.jpg", None, "gallery"),
            ("gallery/a/4.jpg", "a", "gallery"),
        ]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="holds no photos"):
            open_dataset(tmp_path)
        with pytest.raises(DatasetError, match="not a folder"):
            open_dataset(tmp_path / "absent")


def test_labels_from_folders_by_path(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    given_paths = [
        root + b"/dome/a.jpg",
        tmp_path / "dome" / "deep" / "b.jpg",
        str(tmp_path / "loose.jpg"),
        root + b"/caf\xe9/c.jpg",
        "/elsewhere/x/d.jpg",
        root + b"2/x/d.jpg",
    ]
    labels = labels_from_folders(given_paths, tmp_path)
    assert list(labels) == ["dome", "dome", None, "caf\\xe9", None, None]


class TestFolderPair:
    def test_labels_and_splits(self, tmp_path: Path) -> None:
        put(tmp_path, "mine/dome/a.jpg", "all/dome/b.jpg", "all/tower/c.jpg", "all/loose.jpg")
        inside = open_dataset(tmp_path, queries=Path("mine"), gallery=Path("all"))
        outside = open_dataset(".", queries=tmp_path / "mine", gallery=tmp_path / "all")
        assert inside == outside
        assert inside.root == tmp_path
        assert rows_of(inside) == [
            ("mine/dome/a.jpg", "dome", "query"),
            ("all/dome/b.jpg", "dome", "gallery"),
            ("all/loose.jpg", None, "gallery"),
            ("all/tower/c.jpg", "tower", "gallery"),
        ]

    def test_flat_files(self, tmp_path: Path) -> None:
        put(tmp_path, "q/dome_1.jpg", "g/dome/b.jpg")
        with pytest.raises(DatasetError, match=r"/q: no labels: wanted one folder .* each class"):
            open_dataset(tmp_path, queries=Path("q"), gallery=Path("g"))

    @pytest.mark.parametrize("gallery", ["q", "q/dome", "."])
    def test_one_inside_the_other(self, tmp_path: Path, gallery: str) -> None:
        put(tmp_path, "q/dome/a.jpg")
        with pytest.raises(DatasetError, match="one holds the other"):
            open_dataset(tmp_path, queries=Path("q"), gallery=Path(gallery))

    def test_one_alone(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="give both"):
            open_dataset(tmp_path, queries=Path("q"))


class TestRetrievalProtocol:
    def test_queries_gallery_and_right_answers(self, tmp_path: Path) -> None:
        splits = {
            "q1": ("x", "query"),
            "j1": ("x", "junk"),
            "g1": ("x", "gallery"),
            "d1": ("x", "distractor"),
            "u1": ("x", "unknown"),
            "g2": ("y", "gallery"),
            "q2": ("", "query"),
            "d2": ("", "distractor"),
            "g3": ("", "gallery"),
            "t1": ("x", "train"),
        }
        text = "path,label,split\n" + "".join(f"{n},{lb},{s}\n" for n, (lb, s) in splits.items())
        protocol = retrieval_protocol(open_csv(tmp_path, text, *splits))
        assert protocol.queries.tolist() == [0, 6]
        assert protocol.gallery.tolist() == [2, 3, 5, 7, 8]
        assert protocol.distractors == 2
        assert not protocol.leave_one_out
        # The distractor has the label of the query, and is not a right answer.
        assert protocol.relevant(0).tolist() == [True, False, False, False, False]
        assert protocol.relevant(1).tolist() == [False] * 5
        assert protocol.own_position(0) is None

    def test_without_a_split_each_photo_is_a_query_against_the_others(self, tmp_path: Path) -> None:
        put(tmp_path, "x/1.jpg", "x/2.jpg", "y/3.jpg")
        protocol = retrieval_protocol(open_dataset(tmp_path))
        assert protocol.leave_one_out
        assert protocol.queries.tolist() == protocol.gallery.tolist() == [0, 1, 2]
        assert protocol.relevant(0).tolist() == [False, True, False]
        assert protocol.relevant(2).tolist() == [False, False, False]
        assert [protocol.own_position(query) for query in range(3)] == [0, 1, 2]

    @pytest.mark.parametrize(("there", "wanted"), [("query", "gallery"), ("gallery", "query")])
    def test_one_side_missing(self, tmp_path: Path, there: str, wanted: str) -> None:
        dataset = open_csv(tmp_path, f"path,label,split\na.jpg,x,{there}\nb.jpg,x,distractor\n")
        with pytest.raises(DatasetError, match=f"no photo with the split '{wanted}'"):
            retrieval_protocol(dataset)

    def test_photos_that_do_not_decode_leave_both_sides(self, tmp_path: Path) -> None:
        put(tmp_path, "x/1.jpg", "x/2.jpg", "x/3.jpg")
        dataset = open_dataset(tmp_path).without({"x/2.jpg": "it is truncated"})
        assert [row[0] for row in rows_of(dataset)] == ["x/1.jpg", "x/3.jpg"]
        assert dataset.problems == ("x/2.jpg: left out, it is truncated",)
        assert retrieval_protocol(dataset).relevant(1).tolist() == [True, False]


class TestExcludedClasses:
    """Folders of distractors and of unknown queries beside the class folders."""

    PAIR = (
        "q/dome/a.jpg",
        "q/only_asked/b.jpg",
        "q/none/c.jpg",
        "g/dome/d.jpg",
        "g/only_there/e.jpg",
        "g/only_there/f.jpg",
        "g/confusion_classes/g.jpg",
        "g/confusion_classes/h.jpg",
    )

    def pair(self, root: Path, **sides: tuple[str, ...]) -> Dataset:
        put(root, *self.PAIR)
        return open_dataset(root, queries=Path("q"), gallery=Path("g"), **sides)

    def test_without_names_they_are_classes(self, tmp_path: Path) -> None:
        coverage = class_coverage(self.pair(tmp_path))
        assert coverage.both == ("dome",)
        assert coverage.query_only == ("none", "only_asked")
        assert coverage.query_only_photos == 2
        assert coverage.gallery_only == ("confusion_classes", "only_there")
        assert coverage.gallery_only_photos == 4
        assert (coverage.distractors, coverage.unknown) == (0, 0)

    def test_with_names_they_are_excluded(self, tmp_path: Path) -> None:
        dataset = self.pair(tmp_path, distractors=("confusion_classes",), unknown=("none",))
        assert rows_of(dataset) == [
            ("q/dome/a.jpg", "dome", "query"),
            ("q/none/c.jpg", None, "unknown"),
            ("q/only_asked/b.jpg", "only_asked", "query"),
            ("g/confusion_classes/g.jpg", None, "distractor"),
            ("g/confusion_classes/h.jpg", None, "distractor"),
            ("g/dome/d.jpg", "dome", "gallery"),
            ("g/only_there/e.jpg", "only_there", "gallery"),
            ("g/only_there/f.jpg", "only_there", "gallery"),
        ]
        protocol = retrieval_protocol(dataset)
        assert protocol.queries.tolist() == [0, 2]
        assert protocol.gallery.tolist() == [3, 4, 5, 6, 7]
        assert protocol.distractors == 2
        assert protocol.relevant(0).tolist() == [False, False, True, False, False]
        # The class of this query has no photo in the gallery.
        assert not protocol.relevant(1).any()

    def test_the_counts_are_noted(self, tmp_path: Path) -> None:
        dataset = self.pair(tmp_path, distractors=("confusion_classes",), unknown=("none",))
        coverage = class_coverage(dataset)
        assert coverage.notes() == (
            "1 class of the queries not in the gallery (only_asked): 1 query",
            "1 class of the gallery that no query has (only_there): 2 photos",
            "2 distractors in the gallery",
            "1 query with none of the classes",
        )

    def test_nothing_to_note(self, tmp_path: Path) -> None:
        put(tmp_path, "q/dome/a.jpg", "g/dome/b.jpg")
        dataset = open_dataset(tmp_path, queries=Path("q"), gallery=Path("g"))
        assert class_coverage(dataset).notes() == ()

    def test_a_class_on_both_sides_has_to_be_named_for_both(self, tmp_path: Path) -> None:
        put(tmp_path, "q/none/a.jpg", "q/dome/b.jpg", "g/none/c.jpg", "g/dome/d.jpg")
        sides = {"queries": Path("q"), "gallery": Path("g")}
        with pytest.raises(DatasetError, match=r"none has photos with the split 'query' too; name"):
            open_dataset(tmp_path, **sides, distractors=("none",))
        with pytest.raises(DatasetError, match=r"split 'gallery' too; name it under 'distractor'"):
            open_dataset(tmp_path, **sides, unknown=("none",))
        both = open_dataset(tmp_path, **sides, distractors=("none",), unknown=("none",))
        assert {row[2]: row[1] for row in rows_of(both) if "none" in row[0]} == {
            "unknown": None,
            "distractor": None,
        }

    def test_a_class_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no class Confusion \(found: confusion_classes, "):
            self.pair(tmp_path, distractors=("Confusion",))

    def test_unsplit_distractors_are_in_the_gallery_and_no_queries(self, tmp_path: Path) -> None:
        put(tmp_path, "a_noise/1.jpg", "dome/2.jpg", "dome/3.jpg", "single/4.jpg", "zero/5.jpg")
        dataset = open_dataset(tmp_path, distractors=("a_noise",), unknown=("zero",))
        protocol = retrieval_protocol(dataset)
        assert protocol.leave_one_out
        assert protocol.queries.tolist() == [1, 2, 3]
        assert protocol.gallery.tolist() == [1, 2, 3, 0]
        assert protocol.distractors == 1
        assert [protocol.own_position(query) for query in range(3)] == [0, 1, 2]
        assert protocol.relevant(0).tolist() == [False, True, False, False]
        assert not protocol.relevant(2).any()
        coverage = class_coverage(dataset)
        assert coverage.both == ("dome",)
        assert coverage.query_only == ("single",)
        assert coverage.gallery_only == ()
        assert (coverage.distractors, coverage.unknown) == (1, 1)

    def test_unsplit_a_class_is_one_or_the_other(self, tmp_path: Path) -> None:
        put(tmp_path, "none/1.jpg", "dome/2.jpg", "dome/3.jpg")
        with pytest.raises(DatasetError, match="cannot be both distractors and unknown"):
            open_dataset(tmp_path, distractors=("none",), unknown=("none",))

    def test_labels_of_a_csv_file_too(self, tmp_path: Path) -> None:
        put(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
        (tmp_path / "labels.csv").write_text(
            "path,label,split\na.jpg,x,query\nb.jpg,x,gallery\nc.jpg,odd,gallery\nd.jpg,odd,train\n"
        )
        dataset = open_dataset(tmp_path, distractors=("odd",))
        assert rows_of(dataset)[2:] == [("c.jpg", None, "distractor"), ("d.jpg", "odd", "train")]

    @settings(max_examples=60)
    @given(
        rows=st.lists(
            st.tuples(st.sampled_from("xyz"), st.sampled_from(["query", "gallery", "junk"])),
            min_size=1,
            max_size=12,
        )
    )
    def test_coverage_counts_every_query_and_gallery_photo(
        self, rows: list[tuple[str, str]]
    ) -> None:
        from veduta.datasets.dataset import as_table

        names = [f"{number}.jpg" for number in range(len(rows))]
        table = as_table(names, [label for label, _ in rows], [split for _, split in rows])
        coverage = class_coverage(Dataset(Path(), table))
        queries = [label for label, split in rows if split == "query"]
        gallery = [label for label, split in rows if split == "gallery"]
        assert set(coverage.both) == set(queries) & set(gallery)
        assert coverage.query_only_photos == sum(label not in gallery for label in queries)
        assert coverage.gallery_only_photos == sum(label not in queries for label in gallery)


@pytest.mark.parametrize(
    ("name", "labels", "queries", "gallery", "distractors"),
    [
        ("landmarks30", None, 149, 866 + 503, 503),
        ("landmarks30", "labels_openset.csv", 149, 866 + 300, 300),
        ("same_place", None, 121, 135, 0),
        ("objects20", None, 200, 400 + 117, 117),
        ("domains4", None, 160, 120, 0),
    ],
)
def test_the_shared_sets(
    shared_data, name: str, labels: str | None, queries: int, gallery: int, distractors: int
) -> None:
    dataset = open_dataset(shared_data(name), labels=labels)
    protocol = retrieval_protocol(dataset)
    assert dataset.problems == ()
    assert (len(protocol.queries), len(protocol.gallery)) == (queries, gallery)
    assert protocol.distractors == distractors
    coverage = class_coverage(dataset)
    assert coverage.distractors == distractors
    without_answer = sum(not protocol.relevant(query).any() for query in range(queries))
    assert coverage.query_only_photos + coverage.unlabelled_queries == without_answer
