"""Sets in the form of BEIR, MTEB and TREC: corpus, queries and qrels."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

CORPUS = {"c10": "a/10.jpg", "c2": "a/2.jpg", "é": "a/e.jpg", "z": "a/z.jpg"}
QUERIES = {"q1": "q/1.jpg", "q2": "q/2.jpg", "q3": "q/3.jpg"}
QRELS = [("q1", "c2", 2), ("q1", "z", 1), ("q1", "c10", 0), ("q2", "é", 1), ("q2", "z", -1)]
HEADER = "query-id\tcorpus-id\tscore\n"
GALLERY = ("é", "z", "c2", "c10")


def write(file: Path, text: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(header: str, rows: list[tuple[Any, ...]]) -> str:
    return header + "".join("\t".join(map(str, row)) + "\n" for row in rows)


def beir(folder: Path) -> Path:
    write(folder / "corpus.jsonl", jsonl([{"_id": k, "image": v} for k, v in CORPUS.items()]))
    write(folder / "queries.jsonl", jsonl([{"_id": k, "image": v} for k, v in QUERIES.items()]))
    write(folder / "qrels" / "test.tsv", tsv(HEADER, QRELS))
    return folder


def packed(file: Path, photos: dict[str, bytes | None], **more: list[Any]) -> Path:
    """Write photos as Hugging Face does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": data, "path": f"{name}.jpg"} for name, data in photos.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"id": pa.array(list(photos)), "image": pa.array(images, kind), **more}
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file


def mteb(folder: Path, qrels: list[tuple[str, str, int]] = QRELS) -> Path:
    corpus = {name: f"photo {name}".encode() for name in CORPUS}
    first, last = dict(list(corpus.items())[:3]), dict(list(corpus.items())[3:])
    packed(folder / "corpus" / "corpus-00000-of-00002.parquet", first)
    packed(folder / "corpus" / "corpus-00001-of-00002.parquet", last)
    queries = {name: f"query {name}".encode() for name in QUERIES}
    packed(folder / "query" / "test-00000-of-00001.parquet", queries, modality=["image"] * 3)
    columns = zip(*qrels, strict=True)
    table = pa.table(dict(zip(["query-id", "corpus-id", "score"], map(list, columns), strict=True)))
    (folder / "qrels").mkdir()
    pq.write_table(table, folder / "qrels" / "test-00000-of-00001.parquet")
    return folder


def check(judged: JudgedSet) -> None:
    assert judged.protocol == "qrels"
    assert judged.queries == ("q1", "q2")
    # Descending by the bytes of UTF-8, as trec_eval orders equal scores.
    assert judged.gallery == GALLERY
    assert [judged.positives.of_query(query).tolist() for query in (0, 1)] == [[1, 2], [0]]
    assert [judged.positives.grades_of(query).tolist() for query in (0, 1)] == [[1, 2], [1]]
    assert judged.own is None
    assert judged.junk is None
    assert judged.notes == ("1 query without qrels left out.",)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, "qrels", **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def name_of(path: Path) -> str | None:
    protocol = find_protocol(path)
    return None if protocol is None else protocol.name


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: folder / "veduta")
    return folder / "veduta" / "evaluate" / "unpacked"


class TestFiles:
    def test_beir(self, tmp_path: Path) -> None:
        folder = beir(tmp_path / "birds")
        for path in (folder, folder / "qrels" / "test.tsv"):
            assert name_of(path) == "qrels"
            judged = open_protocol(path)
            check(judged)
            assert judged.name == "birds, test"
            assert judged.root == folder
            assert judged.gallery_paths == ("a/e.jpg", "a/z.jpg", "a/2.jpg", "a/10.jpg")
            assert judged.query_paths == ("q/1.jpg", "q/2.jpg")
            assert judged.unpack is None
        assert open_protocol(folder, photos=tmp_path).root == tmp_path

    def test_tables_with_other_names_of_columns(self, tmp_path: Path) -> None:
        corpus = [(*each, "x") for each in CORPUS.items()]
        write(tmp_path / "corpus.tsv", tsv("DocID\tFile_Name\tnote\n", corpus))
        queries = "".join(f"{path},{name}\n" for name, path in QUERIES.items())
        write(tmp_path / "queries.csv", f"path,qid\n{queries}")
        rows = [(grade, query, photo) for query, photo, grade in QRELS]
        write(tmp_path / "qrels.tsv", tsv("relevance\tqid\tdocid\n", rows))
        for path in (tmp_path, tmp_path / "qrels.tsv"):
            assert name_of(path) == "qrels"
            check(open_protocol(path))
        assert open_protocol(tmp_path).name == tmp_path.name

    @pytest.mark.parametrize("file", ["qrels.txt", "qrels.tsv", "qrels/test.qrels", "qrels/x.trec"])
    @pytest.mark.parametrize("separator", [" ", "\t", "   "])
    def test_qrels_of_trec(self, tmp_path: Path, file: str, separator: str) -> None:
        beir(tmp_path)
        shutil.rmtree(tmp_path / "qrels")
        lines = [separator.join([q, "0", c, str(grade)]) for q, c, grade in QRELS]
        write(tmp_path / file, "\r\n".join(lines) + "\n\n")
        assert name_of(tmp_path) == "qrels"
        check(open_protocol(tmp_path))

    def test_qrels_in_json_lines_with_more_columns(self, tmp_path: Path) -> None:
        beir(tmp_path)
        shutil.rmtree(tmp_path / "qrels")
        rows = [
            {"difficulty": "hard", "query-id": q, "Q0": 0, "corpus-id": c, "score": float(grade)}
            for q, c, grade in QRELS
        ]
        write(tmp_path / "qrels.jsonl", jsonl(rows))
        check(open_protocol(tmp_path))

    def test_numbers_as_ids(self, tmp_path: Path) -> None:
        rows = [{"id": number, "path": f"{number}.jpg"} for number in (9, 10, 11)]
        write(tmp_path / "corpus.jsonl", jsonl(rows))
        pq.write_table(pa.table({"id": [1], "path": ["q.jpg"]}), tmp_path / "queries.parquet")
        table = {"query-id": [1, 1], "corpus-id": [10, 9], "score": [1.0, 3.0]}
        pq.write_table(pa.table(table), tmp_path / "qrels.parquet")
        judged = open_protocol(tmp_path)
        assert judged.gallery == ("9", "11", "10")
        assert judged.positives.positions.tolist() == [0, 2]
        assert judged.positives.grades.tolist() == [3, 1]

    def test_a_column_of_structs_with_paths_alone(self, tmp_path: Path) -> None:
        packed(beir(tmp_path) / "corpus.parquet", dict.fromkeys(CORPUS))
        (tmp_path / "corpus.jsonl").unlink()
        judged = open_protocol(tmp_path)
        check(judged)
        assert judged.gallery_paths == ("é.jpg", "z.jpg", "c2.jpg", "c10.jpg")
        assert judged.unpack is None


class TestNotes:
    def notes(self, folder: Path, rows: list[tuple[Any, ...]]) -> str:
        beir(folder)
        write(folder / "qrels" / "test.tsv", tsv(HEADER, rows))
        return " ".join(open_protocol(folder).notes)

    def test_queries_without_qrels_or_right_photos(self, tmp_path: Path) -> None:
        said = self.notes(tmp_path, [("q1", "c2", 1), ("q2", "z", 0)])
        assert "1 query without qrels left out." in said
        assert "1 query with qrels but no right photo: trec_eval counts 0 for them" in said
        judged = open_protocol(tmp_path)
        assert judged.queries == ("q1", "q2")
        assert judged.positives.of_query(1).tolist() == []

    def test_grades_that_are_no_whole_numbers(self, tmp_path: Path) -> None:
        assert "no whole numbers; trec_eval" in self.notes(tmp_path, [("q1", "c2", 0.5)])

    def test_ids_of_both_lists(self, tmp_path: Path) -> None:
        beir(tmp_path)
        write(tmp_path / "queries.jsonl", jsonl([{"_id": "z", "image": "q/1.jpg"}]))
        write(tmp_path / "qrels" / "test.tsv", tsv(HEADER, [("z", "c2", 1)]))
        judged = open_protocol(tmp_path)
        assert judged.notes == (
            "1 query has the id of a gallery photo, which is ranked like any other.",
        )
        assert judged.own_position(0) is None

    def test_texts_beside_photos(self, tmp_path: Path) -> None:
        beir(tmp_path)
        rows = [
            {"_id": name, "image": path, "modality": "image,text" if name == "q1" else "image"}
            for name, path in QUERIES.items()
        ]
        write(tmp_path / "queries.jsonl", jsonl(rows))
        assert "1 row with a text beside the photo, which is not used." in " ".join(
            open_protocol(tmp_path).notes
        )


class TestSplits:
    def several(self, folder: Path) -> Path:
        beir(folder)
        write(folder / "qrels" / "train.tsv", tsv(HEADER, [("q3", "z", 1)]))
        return folder

    def test_test_is_the_usual_one(self, tmp_path: Path) -> None:
        folder = self.several(tmp_path)
        check(open_protocol(folder))
        assert open_protocol(folder, variant="train").queries == ("q3",)
        assert open_protocol(folder / "qrels" / "train.tsv").queries == ("q3",)
        assert open_protocol(folder, variant="train").name.endswith(", train")

    def test_the_only_one_there(self, tmp_path: Path) -> None:
        beir(tmp_path)
        (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "dev.tsv")
        assert open_protocol(tmp_path).name.endswith(", dev")

    def test_others_only(self, tmp_path: Path) -> None:
        folder = self.several(tmp_path)
        (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
        said = refusal(folder)
        assert "no qrels of the split test; found dev, train; name one with --variant" in said

    def test_a_split_of_an_unsplit_set(self, tmp_path: Path) -> None:
        beir(tmp_path)
        (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels.tsv")
        assert "no qrels of the split train; it has no splits" in refusal(tmp_path, variant="train")
        with pytest.raises(DatasetError, match="no variant 'other'"):
            open_protocol(tmp_path, variant="other")

    def test_queries_of_each_split(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        packed(tmp_path / "query" / "train-00000-of-00001.parquet", {"t": b"photo"})
        check(open_protocol(tmp_path))

    def test_a_list_of_other_splits(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        for file in (tmp_path / "query").iterdir():
            file.rename(file.with_name(file.name.replace("test", "train")))
        check(open_protocol(tmp_path))  # The only split there, as in MTEB.
        packed(tmp_path / "query" / "dev-00000-of-00001.parquet", {"t": b"photo"})
        said = refusal(tmp_path)
        assert f"{tmp_path / 'query'}: no file of the split test; found dev, train; which" in said


class TestHubLayouts:
    """The folders that Hugging Face makes of configurations and splits."""

    @pytest.mark.parametrize("holder", ["", "data"])
    def test_shards_that_begin_with_the_name_of_the_list(self, tmp_path: Path, holder: str) -> None:
        mteb(tmp_path / "mteb")
        folder = tmp_path / "set"
        (folder / holder).mkdir(parents=True)
        for name, shards in (("corpus", 2), ("query", 1), ("qrels", 1)):
            files = sorted((tmp_path / "mteb" / name).iterdir())
            assert len(files) == shards
            for number, file in enumerate(files):
                file.rename(folder / holder / f"{name}-{number:05}-of-{shards:05}.parquet")
        write(folder / holder / "corpus-notes.tsv", "no shard\n")
        assert name_of(folder) == "qrels"
        judged = open_protocol(folder)
        check(judged)
        assert judged.name == "set"
        assert judged.unpack is not None
        judged.unpack(None)
        assert judged.missing_photos() == ([], [])

    @pytest.mark.parametrize("holder", ["data", "default"])
    def test_qrels_in_the_default_configuration(self, tmp_path: Path, holder: str) -> None:
        mteb(tmp_path)
        (tmp_path / "qrels").rename(tmp_path / holder)
        assert name_of(tmp_path) == "qrels"
        check(open_protocol(tmp_path))

    def test_data_without_a_split_is_no_qrels(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        (tmp_path / "qrels").rename(tmp_path / "data")
        file = tmp_path / "data" / "test-00000-of-00001.parquet"
        file.rename(file.with_name("photos.parquet"))
        assert name_of(tmp_path) is None
        assert "no qrels. The protocol qrels expects:" in refusal(tmp_path)

    def test_the_same_list_at_two_places(self, tmp_path: Path) -> None:
        folder = mteb(tmp_path)
        packed(folder / "data" / "corpus-00000-of-00001.parquet", {"x": b"1"})
        assert "2 lists of the corpus (corpus/corpus-00000-of-00002.parquet, " in refusal(folder)


class TestPhotosInParquet:
    @pytest.mark.parametrize("empty", ["corpus-00000-of-00003", "corpus-00002-of-00003"])
    @pytest.mark.parametrize("photos_are_bytes", [True, False])
    def test_a_shard_without_rows(self, tmp_path: Path, empty: str, photos_are_bytes: bool) -> None:
        mteb(tmp_path)
        packed(tmp_path / "corpus" / f"{empty}.parquet", {})
        if not photos_are_bytes:
            shutil.rmtree(tmp_path / "query")
            write(tmp_path / "queries.jsonl", jsonl([{"id": k, "path": "q"} for k in QUERIES]))
            for number, ids in enumerate((list(CORPUS)[:3], list(CORPUS)[3:])):
                file = tmp_path / "corpus" / f"corpus-{number:05}-of-00002.parquet"
                packed(file, dict.fromkeys(ids))
        judged = open_protocol(tmp_path)
        check(judged)
        if photos_are_bytes:
            assert judged.unpack is not None
            judged.unpack(None)
            assert judged.missing_photos() == ([], [])

    def test_only_shards_without_rows(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        for file in (tmp_path / "corpus").iterdir():
            packed(file, {})
        assert "no row; is the file complete?" in refusal(tmp_path)

    def test_a_group_of_rows_is_not_read_as_a_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[dict[str, Any]] = []
        parquet_file = pq.ParquetFile

        def recorded(source: Any, **options: Any) -> Any:
            opened.append(options)
            return parquet_file(source, **options)

        folder = mteb(tmp_path)
        monkeypatch.setattr(pq, "ParquetFile", recorded)
        judged = open_protocol(folder)
        assert judged.unpack is not None
        judged.unpack(None)
        assert opened
        assert all(each["buffer_size"] > 0 and not each["pre_buffer"] for each in opened)

    def test_photos_are_written_once(self, tmp_path: Path, cache: Path) -> None:
        folder = mteb(tmp_path / "set")
        assert name_of(folder) == "qrels"
        judged = open_protocol(folder)
        check(judged)
        assert judged.root.parent == cache
        assert not judged.root.exists()
        assert judged.missing_photos() == (list(judged.queries), list(judged.gallery))
        assert judged.unpack is not None
        told: list[tuple[str, int, int]] = []
        judged.unpack(lambda *progress: told.append(progress))
        assert judged.missing_photos() == ([], [])
        assert told[-1] == ("Unpacking photos", 7, 7)
        for ids, paths, kind in (
            (judged.queries, judged.query_paths, "query"),
            (judged.gallery, judged.gallery_paths, "photo"),
        ):
            for name, path in zip(ids, paths, strict=True):
                assert (judged.root / path).read_text() == f"{kind} {name}"
                assert name not in path

        files = [judged.root / path for path in judged.gallery_paths]
        times = [file.stat().st_mtime_ns for file in files]
        files[2].unlink()
        open_protocol(folder).unpack(None)  # type: ignore[misc]
        assert files[2].read_text() == "photo c2"
        others = [0, 1, 3]  # The last of them is in the same group of rows as the missing one.
        assert [files[each].stat().st_mtime_ns for each in others] == [times[e] for e in others]
        assert not [name for _, _, names in os.walk(cache) for name in names if "draft" in name]

    def test_reading_the_lists_reads_no_photo(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = mteb(tmp_path)
        read: list[str] = []
        iterate = pq.ParquetFile.iter_batches

        def recorded(self: Any, *args: Any, columns: list[str], **options: Any) -> Any:
            read.extend(columns)
            return iterate(self, *args, columns=columns, **options)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
        open_protocol(folder)
        assert set(read) == {"id", "modality", "query-id", "corpus-id", "score"}

    def test_the_folder_follows_the_files(self, tmp_path: Path) -> None:
        folder = mteb(tmp_path)
        first = open_protocol(folder).root
        assert open_protocol(folder).root == first
        file = folder / "corpus" / "corpus-00000-of-00002.parquet"
        os.utime(file, ns=(1, 1))
        assert open_protocol(folder).root != first

    def test_plain_columns_of_bytes_and_any_id(self, tmp_path: Path) -> None:
        names = ["../../etc/passwd", "a\0b", "Ü" * 500]
        table = pa.table({"id": names, "image": [b"1", b"2", b"3"]})
        pq.write_table(table, tmp_path / "corpus.parquet")
        pq.write_table(table, tmp_path / "queries.parquet")
        qrels = {"query-id": names, "corpus-id": names, "score": [1, 1, 1]}
        pq.write_table(pa.table(qrels), tmp_path / "qrels.parquet")
        judged = open_protocol(tmp_path)
        assert judged.unpack is not None
        judged.unpack(None)
        assert judged.missing_photos() == ([], [])
        assert {*judged.query_paths}.isdisjoint(judged.gallery_paths)
        for path in (*judged.query_paths, *judged.gallery_paths):
            assert len(path) == 33
            assert (judged.root / path).resolve().is_relative_to(judged.root.resolve())
        paths = dict(zip(judged.gallery, judged.gallery_paths, strict=True))
        assert (judged.root / paths["a\0b"]).read_bytes() == b"2"

    def test_a_file_without_statistics_is_refused_when_it_is_unpacked(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        file = tmp_path / "corpus" / "corpus-00001-of-00002.parquet"
        table = pq.read_table(packed(file, {"z": None, "y": b"1"}))
        assert "1 row of 2 without a photo in the column 'image.bytes'" in refusal(tmp_path)
        pq.write_table(table, file, write_statistics=False)
        judged = open_protocol(tmp_path)
        assert judged.unpack is not None
        with pytest.raises(DatasetError, match="row 1: no photo; only photos are ranked"):
            judged.unpack(None)

    def test_bytes_and_files_do_not_mix(self, tmp_path: Path) -> None:
        mteb(tmp_path)
        assert "so there is no folder of them" in refusal(tmp_path, photos=tmp_path)
        shutil.rmtree(tmp_path / "query")
        write(tmp_path / "queries.jsonl", jsonl([{"id": "q1", "path": "q.jpg"}]))
        assert "bytes and those of the other are files" in refusal(tmp_path)
        write(tmp_path / "corpus" / "more.jsonl", jsonl([{"id": "x", "path": "q.jpg"}]))
        assert "some of its files hold photos and others paths" in refusal(tmp_path)

    @pytest.mark.parametrize("at", [0, 4, 40, -40, -6, -1])
    def test_damaged_files(self, tmp_path: Path, at: int) -> None:
        mteb(tmp_path)
        file = tmp_path / "qrels" / "test-00000-of-00001.parquet"
        file.write_bytes(file.read_bytes()[:at])
        assert "parquet" in refusal(tmp_path)
        assert "is it complete?" in refusal(tmp_path)


class TestRefuses:
    @pytest.mark.parametrize(
        ("file", "text", "said"),
        [
            ("corpus.jsonl", "", "line 1: no column '_id'; found none"),
            ("corpus.jsonl", "{}\n", "no column '_id'; found none"),
            (
                "corpus.jsonl",
                '{"_id": "a", "text": "b"}\n',
                "no column 'image'; found '_id', 'text'",
            ),
            ("corpus.jsonl", "[1]\n", "line 1: no JSON object; wanted one a line"),
            ("corpus.jsonl", '{"_id"\n', "line 1: not valid JSON"),
            ("corpus.jsonl", b'{"_id": "\xff"}\n', "line 1: not UTF-8"),
            (
                "corpus.jsonl",
                '{"_id": "a", "image": null}\n',
                "line 1: a has no photo; queries and",
            ),
            (
                "corpus.jsonl",
                '{"_id": "a", "image": "../b"}\n',
                "line 1: the path '../b' leads out",
            ),
            (
                "corpus.jsonl",
                '{"_id": "", "image": "b"}\n',
                "line 1: the id '' of the corpus is no",
            ),
            (
                "corpus.jsonl",
                '{"_id": 1.5, "image": "b"}\n',
                "line 1: the id 1.5 of the corpus is no",
            ),
            (
                "corpus.jsonl",
                '{"_id": true, "image": "b"}\n',
                "the id True of the corpus is no text",
            ),
            (
                "corpus.jsonl",
                '{"_id": "\\ud800", "image": "b"}\n',
                "the id '\\ud800' of the corpus",
            ),
            (
                "corpus.jsonl",
                jsonl([{"_id": "a", "image": "b"}] * 2),
                "1 id of the corpus list twice (a)",
            ),
            ("queries.jsonl", jsonl([{"_id": "q1", "image": "b"}] * 2), "query list twice (q1)"),
            ("qrels/test.tsv", "", "no column 'query-id' and no column 'corpus-id' and no column"),
            ("qrels/test.tsv", HEADER, "no row; wanted a query, a photo and a grade"),
            (
                "qrels/test.tsv",
                "query-id\tcorpus-id\nq1\tz\n",
                "no column 'score'; found 'query-id'",
            ),
            ("qrels/test.tsv", HEADER + "q1\tz\n", "line 2: 2 fields, but the header has 3"),
            ("qrels/test.tsv", HEADER + "q9\tz\t1\n", "line 2: 1 unknown query (q9)"),
            ("qrels/test.tsv", HEADER + "q1\tx\t1\n", "line 2: 1 unknown corpus photo (x)"),
            ("qrels/test.tsv", HEADER + "q1\tz\tgood\n", "line 2: the grade 'good' is no finite"),
            ("qrels/test.tsv", HEADER + "q1\tz\tnan\n", "line 2: the grade 'nan' is no finite"),
            ("qrels/test.tsv", HEADER + "q1\tz\tinf\n", "line 2: the grade 'inf' is no finite"),
            ("qrels/test.tsv", HEADER + "q1\tz\t\n", "line 2: the grade '' is no finite number"),
            (
                "qrels/test.tsv",
                HEADER + "q1\tz\t1\nq1\tz\t2\n",
                "line 3: the photo z comes twice for the query q1",
            ),
            ("qrels/test.tsv", "q1 0 z 1\nq1 0 z\n", "line 2: 3 words; wanted query, 0, photo"),
            (
                "qrels/test.tsv",
                "q1 0 z 1\nq1 0 c2 x\n",
                "line 2: the grade 'x' is no finite number",
            ),
            ("qrels/test.tsv", b"q1 0 z 1\n\xff 0 z 1\n", "line 2: not UTF-8"),
            ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\n\xff\tz\t1\n", "line 2: not UTF-8"),
        ],
    )
    def test_a_list(self, tmp_path: Path, file: str, text: str | bytes, said: str) -> None:
        write(beir(tmp_path) / file, text)
        assert said in refusal(tmp_path)

    @pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels"])
    def test_a_missing_list(self, tmp_path: Path, missing: str) -> None:
        beir(tmp_path)
        path = tmp_path / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert name_of(tmp_path) is None
        said = refusal(tmp_path)
        assert f"no {missing.removesuffix('.jsonl')}. The protocol qrels expects:" in said

    def test_two_lists_of_one_name(self, tmp_path: Path) -> None:
        write(beir(tmp_path) / "corpus.tsv", "id\tpath\na\tb\n")
        said = refusal(tmp_path)
        assert "2 lists of the corpus (corpus.jsonl, corpus.tsv); move all but one" in said

    def test_qrels_that_are_no_table(self, tmp_path: Path) -> None:
        beir(tmp_path)
        shutil.rmtree(tmp_path / "qrels")
        write(tmp_path / "qrels.txt", "query photo grade\n")
        assert "line 1: wanted query, 0, photo and grade" in refusal(tmp_path)

    def test_two_columns_of_one_name(self, tmp_path: Path) -> None:
        beir(tmp_path)
        (tmp_path / "corpus.jsonl").unlink()
        table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["id", "path", "path"])
        pq.write_table(table, tmp_path / "corpus.parquet")
        assert "two columns have one name" in refusal(tmp_path)


def test_ordinary_folders_are_not_recognised(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    write(tmp_path / "photos" / "cat" / "1.jpg", "")
    for path in (folder / "corpus.jsonl", folder / "qrels", tmp_path / "photos", tmp_path / "none"):
        assert name_of(path) is None


def test_many_rows(tmp_path: Path) -> None:
    names = [f"{number:06d}" for number in range(30_000)]
    table = pa.table({"id": names, "path": names})
    pq.write_table(table, tmp_path / "corpus.parquet")
    pq.write_table(table, tmp_path / "queries.parquet")
    qrels = {"query-id": names, "corpus-id": names[::-1], "score": np.ones(len(names))}
    pq.write_table(pa.table(qrels), tmp_path / "qrels.parquet")
    judged = open_protocol(tmp_path)
    np.testing.assert_array_equal(judged.positives.positions, np.arange(30_000))
