"""Published protocols: the `gnd_*.pkl` of Oxford and Paris, the CSV files of Google Landmarks."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from veduta.datasets import google_landmarks as gld
from veduta.datasets import open_revisited, retrieval_protocol
from veduta.datasets.revisited import protocol_file
from veduta.errors import DatasetError

in_one_folder = settings(max_examples=100)

NAMES = ["all_souls_000000", "all_souls_000001", "christ_church_000002", "oxford_000003"]
QUERIES = ["all_souls_000013", "oxford_002416"]


def photo(path: Path, width: int = 64, height: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 40)).save(path)


def revisited(**changes: Any) -> dict[str, Any]:
    """The content of a file as its publishers write it."""
    content: dict[str, Any] = {
        "gnd": [
            {
                "bbx": [3.4, 5.5, 40.5, 30.6],
                "easy": np.array([1, 0]),
                "hard": np.array([3]),
                "junk": np.array([], dtype=np.float64),
            },
            {"bbx": np.array([0.0, 0.0, 64.0, 48.0]), "easy": [], "hard": [2], "junk": [0, 1]},
        ],
        "imlist": NAMES,
        "qimlist": QUERIES,
    }
    return content | changes


def with_query(**changes: Any) -> dict[str, Any]:
    content = revisited()
    content["gnd"][0] |= changes
    return content


def written(folder: Path, content: object, protocol: int = 2) -> Path:
    (folder / "jpg").mkdir(exist_ok=True)
    for name in NAMES + QUERIES:
        if not (folder / "jpg" / f"{name}.jpg").exists():
            photo(folder / "jpg" / f"{name}.jpg")
    file = folder / "gnd_set.pkl"
    file.write_bytes(pickle.dumps(content, protocol))
    return file


def refusal(folder: Path, content: object) -> str:
    file = written(folder, content)
    with pytest.raises(DatasetError) as caught:
        open_revisited(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


class TestRevisited:
    @pytest.mark.parametrize("protocol", range(6))
    def test_what_the_publishers_write(self, tmp_path: Path, protocol: int) -> None:
        opened = open_revisited(written(tmp_path, revisited(), protocol))
        assert opened.dataset.root == tmp_path / "jpg"
        assert opened.queries == tuple(f"{name}.jpg" for name in QUERIES)
        assert opened.gallery == tuple(f"{name}.jpg" for name in NAMES)
        assert [rows.tolist() for rows in opened.easy] == [[0, 1], []]
        assert [rows.tolist() for rows in opened.hard] == [[3], [2]]
        assert [rows.tolist() for rows in opened.junk] == [[], [0, 1]]
        assert {rows.dtype for rows in (*opened.easy, *opened.hard, *opened.junk)} == {
            np.dtype(np.int64)
        }
        assert opened.truth(1)["junk"].tolist() == [0, 1]
        assert not opened.classic
        assert opened.dataset.problems == ()

    def test_the_table_fits_the_lists(self, tmp_path: Path) -> None:
        opened = open_revisited(written(tmp_path, revisited()))
        rows = opened.dataset.table.to_pylist()
        assert [row["split"] for row in rows] == ["query"] * 2 + ["gallery"] * 4
        assert {row["label"] for row in rows} == {None}
        protocol = retrieval_protocol(opened.dataset)
        paths = opened.dataset.table["path"].to_pylist()
        assert [paths[row] for row in protocol.gallery] == list(opened.gallery)
        assert [paths[row] for row in protocol.queries] == list(opened.queries)

    @in_one_folder
    @given(corners=st.tuples(*[st.floats(0, 40)] * 2, *[st.floats(0.6, 20)] * 2))
    def test_the_box_is_what_pillow_crops(self, tmp_path: Path, corners: tuple) -> None:
        left, top, width, height = corners
        box = [left, top, left + width, top + height]
        with Image.new("RGB", (64, 64)) as image:
            cropped = image.crop(box).size
        photo(tmp_path / "jpg" / f"{QUERIES[0]}.jpg", 64, 64)
        if min(cropped) == 0:
            assert "empty or outside" in refusal(tmp_path, with_query(bbx=box))
            return
        opened = open_revisited(written(tmp_path, with_query(bbx=box)))
        assert opened.boxes[0] is not None
        assert opened.boxes[0][2:] == cropped

    def test_a_box_goes_from_corners_to_a_size(self, tmp_path: Path) -> None:
        opened = open_revisited(written(tmp_path, revisited()))
        # 5.5 and 40.5 go to the even number, as in Python's round and so in Pillow's crop.
        assert opened.boxes == ((3, 6, 37, 25), (0, 0, 64, 48))

    def test_a_box_past_the_edge_is_cut_and_told(self, tmp_path: Path) -> None:
        opened = open_revisited(written(tmp_path, with_query(bbx=[-4.0, 2, 70, 48.6])))
        assert opened.boxes[0] == (0, 2, 64, 46)
        (problem,) = opened.dataset.problems
        assert "query 0 (all_souls_000013): the box (-4, 2, 70, 48.6) leaves the photo" in problem
        assert "64 × 48" in problem

    def test_one_pixel_past_the_edge_is_rounding(self, tmp_path: Path) -> None:
        opened = open_revisited(written(tmp_path, with_query(bbx=[0, 0, 64.6, 48.6])))
        assert opened.boxes[0] == (0, 0, 64, 48)
        assert opened.dataset.problems == ()

    def test_no_box_is_the_whole_photo(self, tmp_path: Path) -> None:
        content = revisited()
        del content["gnd"][0]["bbx"]
        assert open_revisited(written(tmp_path, content)).boxes[0] is None

    def test_the_classic_protocol(self, tmp_path: Path) -> None:
        content = revisited(
            gnd=[
                {"bbx": (0, 0, 9, 9), "ok": [0, 2], "junk": [1]},
                {"bbx": (0, 0, 9, 9), "good": [1], "ok": [3], "junk": np.array([0], np.uint16)},
            ],
            qimlist=[NAMES[0], NAMES[3]],
        )
        opened = open_revisited(written(tmp_path, content))
        assert opened.classic
        assert [rows.tolist() for rows in opened.easy] == [[0, 2], [1, 3]]
        assert [rows.tolist() for rows in opened.hard] == [[], []]
        assert [rows.tolist() for rows in opened.junk] == [[1], [0]]
        assert opened.queries == ("all_souls_000000.jpg", "oxford_000003.jpg")

    def test_python_2_keys_as_bytes_and_names_as_an_array(self, tmp_path: Path) -> None:
        content = {
            key.encode(): np.array(value) if key == "imlist" else value
            for key, value in revisited().items()
        }
        content[b"gnd"] = [{k.encode(): v for k, v in one.items()} for one in content[b"gnd"]]
        assert open_revisited(written(tmp_path, content)).gallery[3] == "oxford_000003.jpg"

    def test_another_folder_of_photos(self, tmp_path: Path) -> None:
        file = written(tmp_path, revisited())
        (tmp_path / "jpg").rename(tmp_path / "photos")
        with pytest.raises(DatasetError, match=r"jpg: not a folder; the photos of .*gnd_set\.pkl"):
            open_revisited(file)
        assert open_revisited(file, tmp_path / "photos").dataset.root == tmp_path / "photos"

    def test_missing_photos_leave_all_lists_and_are_told(self, tmp_path: Path) -> None:
        file = written(tmp_path, revisited())
        (tmp_path / "jpg" / f"{NAMES[1]}.jpg").unlink()
        with pytest.raises(
            DatasetError, match=r"1 of 4 gallery photos are missing .*\(all_souls_000001\.jpg\)"
        ):
            open_revisited(file)
        opened = open_revisited(file, allow_missing=True)
        assert [name.split("_")[-1] for name in opened.gallery] == [
            "000000.jpg",
            "000002.jpg",
            "000003.jpg",
        ]
        assert [rows.tolist() for rows in opened.easy] == [[0], []]
        assert [rows.tolist() for rows in opened.hard] == [[2], [1]]
        assert [rows.tolist() for rows in opened.junk] == [[], [0]]
        (problem,) = opened.dataset.problems
        assert "1 gallery photos missing, left out (all_souls_000001.jpg)" in problem
        assert "do not compare with published ones" in problem

    def test_a_missing_query_takes_its_box_and_lists_along(self, tmp_path: Path) -> None:
        file = written(tmp_path, revisited())
        (tmp_path / "jpg" / f"{QUERIES[0]}.jpg").unlink()
        opened = open_revisited(file, allow_missing=True)
        assert opened.queries == (f"{QUERIES[1]}.jpg",)
        assert opened.boxes == ((0, 0, 64, 48),)
        assert [rows.tolist() for rows in opened.hard] == [[2]]
        (tmp_path / "jpg" / f"{QUERIES[1]}.jpg").unlink()
        with pytest.raises(DatasetError, match="none of its 2 query photos is in"):
            open_revisited(file, allow_missing=True)

    @pytest.mark.parametrize("beside", ["file", "folder"])
    def test_the_million_distractors_come_last_and_are_in_no_list(
        self, tmp_path: Path, beside: str
    ) -> None:
        folder = tmp_path / "datasets" / "roxford5k"
        folder.mkdir(parents=True)
        file = written(folder, revisited())
        distractors = (folder if beside == "file" else folder.parent) / "revisitop1m"
        photo(distractors / "jpg" / "3" / "a.jpg")
        photo(distractors / "jpg" / "b.jpg")
        (distractors / "revisitop1m.txt").write_text("3/a.jpg\nb.jpg\n", "utf-8")
        assert protocol_file(folder) == file
        opened = open_revisited(folder)
        assert opened.distractors == 2
        assert len(opened.gallery) == 6
        files = [opened.dataset.root / path for path in opened.gallery[4:]]
        assert [file.resolve() for file in files] == [
            (distractors / "jpg" / name).resolve() for name in ("3/a.jpg", "b.jpg")
        ]
        assert max(rows.max(initial=0) for rows in (*opened.easy, *opened.hard)) < 4
        assert open_revisited(folder, without_distractors=True).gallery == opened.gallery[:4]
        less = opened.without({opened.gallery[4]: "it is broken"})
        assert (less.distractors, len(less.gallery)) == (1, 5)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "lists no photo; leave it out with --without-distractors"),
            (b"a.jpg\na.jpg\n", r"names .*a\.jpg twice"),
            (b"../a.jpg\n", "leads out of the folder of photos"),
            (b"\xff\xfe", "line 1: not UTF-8"),
            (b"a.jpg\n", "1 of 5 gallery photos are missing"),
        ],
    )
    def test_a_wrong_list_of_distractors(self, tmp_path: Path, text: bytes, words: str) -> None:
        file = written(tmp_path, revisited())
        (tmp_path / "revisitop1m").mkdir()
        (tmp_path / "revisitop1m" / "revisitop1m.txt").write_bytes(text)
        with pytest.raises(DatasetError, match=words):
            open_revisited(file)

    @given(
        gone=st.sets(st.integers(0, 19)),
        lists=st.lists(st.sampled_from(["easy", "hard", "junk", ""]), min_size=20, max_size=20),
    )
    @in_one_folder
    def test_the_lists_name_the_same_photos_after_some_are_dropped(
        self, tmp_path: Path, gone: set[int], lists: list[str]
    ) -> None:
        names = [f"photo{number}" for number in range(20)]
        for name in names:
            if not (tmp_path / "jpg" / f"{name}.jpg").exists():
                photo(tmp_path / "jpg" / f"{name}.jpg", 8, 8)
        truth = {
            kind: [row for row, listed in enumerate(lists) if listed == kind]
            for kind in ("easy", "hard", "junk")
        }
        content = {"gnd": [truth], "imlist": names, "qimlist": QUERIES[:1]}
        opened = open_revisited(written(tmp_path, content))
        less = opened.without({f"photo{row}.jpg": "it is broken" for row in gone})
        assert len(less.gallery) == 20 - len(gone)
        assert len(less.dataset.problems) == len(gone)
        for kind in ("easy", "hard", "junk"):
            left = {less.gallery[row] for row in less.truth(0)[kind]}
            assert left == {f"photo{row}.jpg" for row in truth[kind] if row not in gone}

    def test_a_photo_that_is_named_again_is_told(self, tmp_path: Path) -> None:
        opened = open_revisited(written(tmp_path, with_query(easy=[1, 0, 1])))
        assert opened.easy[0].tolist() == [0, 1]
        assert "easy names 1 photos again" in opened.dataset.problems[0]


class TestRevisitedRefuses:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"easy": [4]}, "easy holds 4, but imlist has 4 photos (0 to 3)"),
            ({"junk": [-1]}, "junk holds -1, but imlist has 4 photos"),
            ({"easy": [2**63]}, f"easy holds {2**63}"),
            ({"hard": np.array([2**63], np.uint64)}, f"hard holds {2**63}"),
            ({"easy": [0], "junk": [0]}, "photo 0 is both easy and junk"),
            ({"easy": [1.0]}, "easy is not a list of whole numbers"),
            ({"easy": np.array([1.5])}, "easy is not a list of whole numbers"),
            ({"easy": [[1], [2]]}, "easy is not a list of whole numbers"),
            ({"easy": np.ones((2, 2), int)}, "easy is not a list of whole numbers"),
            ({"easy": "12"}, "easy is not a list of whole numbers"),
            ({"easy": None}, "easy is not a list of whole numbers"),
            ({"easy": [True]}, "easy is not a list of whole numbers"),
            ({"bbx": [1, 2, 3]}, "bbx is not four numbers"),
            ({"bbx": [1, 2, 3, math.nan]}, "bbx is not four numbers"),
            ({"bbx": [1, 2, 3, math.inf]}, "bbx is not four numbers"),
            ({"bbx": "1234"}, "bbx is not four numbers"),
            ({"bbx": [9, 9, 9, 20]}, "the box (9, 9, 9, 20) is empty or outside the photo of 64"),
            ({"bbx": [30, 9, 20, 20]}, "is empty or outside"),
            ({"bbx": [64, 9, 90, 20]}, "is empty or outside"),
        ],
    )
    def test_a_query(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        message = refusal(tmp_path, with_query(**changes))
        assert "query 0 (all_souls_000013): " in message
        assert said in message

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"gnd": []}, "no imlist and no qimlist; found the keys gnd; wanted a dictionary"),
            ([1, 2], "found list; wanted a dictionary with gnd, imlist and qimlist"),
            (revisited(imlist=[]), "imlist is not a list of photo names"),
            (revisited(imlist="abc"), "imlist is not a list of photo names"),
            (revisited(imlist=[1, 2, 3, 4]), "imlist holds int; wanted names"),
            (revisited(imlist=NAMES[:3] + NAMES[:1]), "imlist names all_souls_000000.jpg twice"),
            (revisited(imlist=[*NAMES[:3], "../etc/passwd"]), "leads out of the folder"),
            (revisited(qimlist=["/etc/passwd", "a"]), "leads out of the folder"),
            (revisited(qimlist=["", "a"]), "leads out of the folder"),
            (revisited(qimlist=["\ud800", "a"]), "is no text"),
            (revisited(qimlist=QUERIES[:1]), "gnd has 2 queries, but qimlist has 1"),
            (revisited(gnd={"a": 1}), "gnd is not a list of dictionaries"),
            (revisited(gnd=[1, 2]), "gnd is not a list of dictionaries"),
            (revisited(gnd=[{"bbx": None, "\ud800": 1}, {}]), "wanted easy, hard and junk"),
        ],
    )
    def test_the_file(self, tmp_path: Path, content: object, said: str) -> None:
        assert said in refusal(tmp_path, content)

    def test_lists_that_grow_when_they_are_laid_out(self, tmp_path: Path) -> None:
        rows: list[Any] = [1]
        for _ in range(60):
            rows = [rows, rows]
        assert "not a list of whole numbers" in refusal(tmp_path, with_query(easy=rows))

    def test_code(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return print, ("it ran",)

        assert "it asks for __builtin__.print" in refusal(tmp_path, with_query(easy=Evil()))


def csv(folder: Path, text: str | bytes, name: str = "file.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def csv_refusal(reader: Any, file: Path, *more: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        result = reader(file, *more)
        if isinstance(result, Iterator):
            list(result)
    assert str(file) in str(caught.value)
    return str(caught.value)


READERS = [
    (gld.read_train, "id,url,landmark_id", "a,u,1"),
    (gld.read_train_clean, "landmark_id,images", "1,a b"),
    (gld.read_photo_list, "id", "a"),
    (gld.read_retrieval_solution, "id,images,Usage", "a,b c,Public"),
    (gld.read_recognition_solution, "id,landmarks,Usage", "a,1 2,Public"),
    (gld.read_retrieval_submission, "id,images", "a,b c"),
    (gld.read_recognition_submission, "id,landmarks", "a,1 0.5"),
]


def result_of(reader: Any, file: Path) -> Any:
    result = reader(file)
    if isinstance(result, Iterator):
        return list(result)
    return (result.answers, result.ignored) if isinstance(result, gld.LandmarkSolution) else result


class TestEveryGoogleLandmarksFile:
    @pytest.mark.parametrize(("reader", "header", "row"), READERS)
    def test_a_byte_order_mark_crlf_and_other_columns(
        self, tmp_path: Path, reader: Any, header: str, row: str
    ) -> None:
        plain = result_of(reader, csv(tmp_path, f"{header}\n{row}\n"))
        marked = f"\ufeffextra,{header.upper()}\r\n\r\nx,{row}\r\n"
        assert result_of(reader, csv(tmp_path, marked)) == plain
        assert plain

    @pytest.mark.parametrize(("reader", "header", "row"), READERS)
    def test_wrong_columns_naming_found_and_wanted(
        self, tmp_path: Path, reader: Any, header: str, row: str
    ) -> None:
        message = csv_refusal(reader, csv(tmp_path, "photo,class\na,b\n"))
        assert "line 1: no column " in message
        assert "found 'photo', 'class'; wanted " in message
        for name in header.removesuffix(",Usage").split(","):
            assert repr(name) in message
        assert "separate the columns with commas" in csv_refusal(
            reader, csv(tmp_path, "photo:class\na:b\n")
        )
        assert "found none" in csv_refusal(reader, csv(tmp_path, ""))

    @pytest.mark.parametrize(("reader", "header", "row"), READERS)
    def test_an_id_that_is_there_twice_naming_both_lines(
        self, tmp_path: Path, reader: Any, header: str, row: str
    ) -> None:
        key = "1" if reader is gld.read_train_clean else "a"
        other = row.replace(key, "other", 1)
        message = csv_refusal(reader, csv(tmp_path, f"{header}\n{row}\n\n{other}\n{row}\n"))
        assert f"line 5: {key} is already on line 2; keep one of the two" in message

    @pytest.mark.parametrize(("reader", "header", "row"), READERS)
    def test_bad_ids_bad_bytes_and_torn_rows(
        self, tmp_path: Path, reader: Any, header: str, row: str
    ) -> None:
        key = "1" if reader is gld.read_train_clean else "a"
        for bad in ("x y", " "):
            rest = row.replace(key, bad, 1)
            if rest.strip():
                assert "line 2: the id is" in csv_refusal(
                    reader, csv(tmp_path, f"{header}\n{rest}\n")
                )
        assert "line 2: not UTF-8" in csv_refusal(
            reader, csv(tmp_path, f"{header}\n".encode() + b"\xe9" + row.encode())
        )
        assert "fields, but the header has" in csv_refusal(
            reader, csv(tmp_path, f"{header},more\n{row}\n")
        )
        with pytest.raises(DatasetError, match="cannot be read"):
            result_of(reader, tmp_path / "absent.csv")


class TestTrain:
    def test_rows(self, tmp_path: Path) -> None:
        file = csv(tmp_path, 'landmark_id,id,url\n7,ab,"http://x/a,b.jpg"\n 8 ,cd,\n')
        assert list(gld.read_train(file)) == [
            gld.TrainPhoto("ab", "http://x/a,b.jpg", "7"),
            gld.TrainPhoto("cd", "", "8"),
        ]
        clean = csv(tmp_path, "landmark_id,images\n1,aa bb cc\n2,dd\n")
        assert list(gld.read_train_clean(clean)) == [
            gld.CleanLandmark("1", ("aa", "bb", "cc")),
            gld.CleanLandmark("2", ("dd",)),
        ]
        listed = csv(tmp_path, "id,url\naa,http://x\nbb,\n")
        assert list(gld.read_photo_list(listed)) == [("aa", "http://x"), ("bb", None)]

    def test_a_row_without_a_landmark(self, tmp_path: Path) -> None:
        message = csv_refusal(gld.read_train, csv(tmp_path, "id,url,landmark_id\na,u,\n"))
        assert "line 2: the landmark_id is empty" in message

    def test_a_landmark_of_very_many_photos(self, tmp_path: Path) -> None:
        photos = " ".join(
            f"{number:016x}" for number in range(20_000)
        )  # csv's own limit is 131,072
        (row,) = gld.read_train_clean(csv(tmp_path, f"landmark_id,images\n1,{photos}\n"))
        assert len(row.photos) == 20_000

    def test_a_file_without_ends_of_lines_is_not_read_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "train.csv"
        with file.open("wb") as stream:
            stream.write(b"id,url,landmark_id\na,u,1\n")
            stream.truncate(2**36)
        assert "line 3: longer than 16,777,216 bytes" in csv_refusal(gld.read_train, file)

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_rows(self, tmp_path: Path) -> None:
        number = 100_000
        rows = "".join(f"{i:016x},http://example.org/{i:060},{i % 99}\n" for i in range(number))
        file = csv(tmp_path, "id,url,landmark_id\n" + rows)
        tracemalloc.start()
        assert sum(1 for _ in gld.read_train(file)) == number
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * number

    def test_what_shares_a_hash_is_not_the_same(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(gld, "hash", len, raising=False)
        file = csv(tmp_path, "id\naa\nbb\nc\n")
        assert [row.id for row in gld.read_photo_list(file)] == ["aa", "bb", "c"]
        assert "line 4: bb is already on line 3" in csv_refusal(
            gld.read_photo_list, csv(tmp_path, "id\naa\nbb\nbb\n")
        )


class TestSolutions:
    TEXT = "id,images,Usage\na,x y,Public\nb,z,Private\nc,None,Ignored\nd,None,Public\n"

    @pytest.mark.parametrize(
        ("usage", "answers", "ignored"),
        [
            ("all", {"a": ("x", "y"), "b": ("z",), "d": ()}, {"c"}),
            ("Public", {"a": ("x", "y"), "d": ()}, {"b", "c"}),
            ("Private", {"b": ("z",)}, {"a", "c", "d"}),
        ],
    )
    def test_usage(self, tmp_path: Path, usage: str, answers: dict, ignored: set) -> None:
        solution = gld.read_retrieval_solution(csv(tmp_path, self.TEXT), usage)
        assert solution.answers == answers
        assert solution.ignored == ignored

    def test_landmarks(self, tmp_path: Path) -> None:
        file = csv(
            tmp_path, "id,landmarks,Usage\na,7 8,public\nb,,Private\nc,7,\n".replace("c,7,\n", "")
        )
        assert gld.read_recognition_solution(file).answers == {
            "a": frozenset({"7", "8"}),
            "b": frozenset(),
        }

    def test_without_a_usage_all_count(self, tmp_path: Path) -> None:
        file = csv(tmp_path, "id,landmarks\na,7\n")
        assert gld.read_recognition_solution(file).answers == {"a": frozenset({"7"})}
        message = csv_refusal(gld.read_recognition_solution, file, "Public")
        assert "no query with the usage Public (found: none)" in message

    def test_bad_usages(self, tmp_path: Path) -> None:
        read = gld.read_retrieval_solution
        message = csv_refusal(read, csv(tmp_path, "id,images,Usage\na,x,Test\n"))
        assert "line 2: unknown usage 'Test'; wanted Public, Private or Ignored" in message
        message = csv_refusal(read, csv(tmp_path, "id,images,Usage\na,x,Public\nb,x,\n"))
        assert "empty in some rows" in message
        assert "no query to score" in csv_refusal(
            read, csv(tmp_path, "id,images,Usage\na,x,Ignored\n")
        )
        with pytest.raises(ValueError, match="wanted one of Public"):
            read(csv(tmp_path, self.TEXT), "private")


class TestSubmissions:
    def test_retrieval(self, tmp_path: Path) -> None:
        file = csv(tmp_path, "id,images\na,x  y \nb,\n")
        assert gld.read_retrieval_submission(file) == {"a": ["x", "y"], "b": []}

    def test_photos_that_are_listed_often_are_in_memory_once(self, tmp_path: Path) -> None:
        file = csv(tmp_path, "id,images\na,photo1 photo2\nb,photo1\n")
        read = gld.read_retrieval_submission(file)
        assert read["a"][0] is read["b"][0]

    def test_recognition(self, tmp_path: Path) -> None:
        file = csv(tmp_path, "id,landmarks\na,7 0.25\nb,\nc,x -1e3 \n")
        assert gld.read_recognition_submission(file) == {
            "a": ("7", 0.25),
            "b": None,
            "c": ("x", -1000.0),
        }

    @pytest.mark.parametrize("bad", ["nan", "NaN", "inf", "-inf", "high", "0,5", "1e999"])
    def test_a_confidence_that_is_no_number(self, tmp_path: Path, bad: str) -> None:
        file = csv(tmp_path, f'id,landmarks\na,7 0.5\nb,"7 {bad}"\n')
        message = csv_refusal(gld.read_recognition_submission, file)
        assert f"line 3: the confidence is {bad!r}; wanted a finite number" in message

    @pytest.mark.parametrize("bad", ["7", "7 0.5 8 0.4", "7 0.5 8"])
    def test_a_prediction_that_is_no_pair(self, tmp_path: Path, bad: str) -> None:
        file = csv(tmp_path, f"id,landmarks\na,{bad}\n")
        message = csv_refusal(gld.read_recognition_submission, file)
        assert "line 2: " in message and "wanted one landmark and its confidence" in message

    def test_queries_that_the_solution_does_not_have(self, tmp_path: Path) -> None:
        solution = gld.read_retrieval_solution(
            csv(tmp_path, "id,images,Usage\na,x,Public\nb,x,Private\nc,x,Ignored\n", "truth.csv"),
            "Public",
        )
        known = csv(tmp_path, "id,images\nb,x\nc,x\na,y x\n")
        assert gld.read_retrieval_submission(known, solution) == {"a": ["y", "x"]}
        unknown = csv(tmp_path, "id,images\na,x\n" + "".join(f"q{i},x\n" for i in range(7)))
        message = csv_refusal(gld.read_retrieval_submission, unknown, solution)
        assert "7 queries that " in message and "truth.csv does not have" in message
        assert "q0 on line 3, q1 on line 4" in message and "and 2 more" in message


ids = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=8)
confidences = st.floats(allow_nan=False, allow_infinity=False)


class TestWriters:
    @in_one_folder
    @given(rankings=st.dictionaries(ids, st.lists(ids, max_size=130), max_size=5))
    def test_a_retrieval_submission_reads_back(self, tmp_path: Path, rankings: dict) -> None:
        file = tmp_path / "submission.csv"
        gld.write_retrieval_submission(file, rankings.items())
        assert gld.read_retrieval_submission(file) == {
            query: photos[:100] for query, photos in rankings.items()
        }
        assert gld.landmark_task(file) == "retrieval"
        assert not gld.is_solution(file)

    @in_one_folder
    @given(
        predictions=st.dictionaries(
            ids, st.one_of(st.none(), st.tuples(ids, confidences)), max_size=5
        )
    )
    def test_a_recognition_submission_reads_back(self, tmp_path: Path, predictions: dict) -> None:
        file = tmp_path / "submission.csv"
        gld.write_recognition_submission(file, predictions.items())
        assert gld.read_recognition_submission(file) == predictions
        assert gld.landmark_task(file) == "recognition"

    def test_the_bytes(self, tmp_path: Path) -> None:
        file = tmp_path / "submission.csv"
        gld.write_recognition_submission(file, [("a", ("7", np.float32(0.5))), ("b", None)])
        assert file.read_bytes() == b"id,landmarks\na,7 0.5\nb,\n"
        gld.write_retrieval_submission(file, [("a", ["x", "y"]), ("b", ())])
        assert file.read_bytes() == b"id,images\na,x y\nb,\n"
        gld.write_recognition_solution(file, [("a", "7"), ("b", None)])
        assert file.read_bytes() == b"id,landmarks,Usage\na,7,Private\nb,,Private\n"
        assert gld.is_solution(file)

    def test_names_that_a_field_cannot_hold_are_escaped(self, tmp_path: Path) -> None:
        names = ["a b", "a,b", 'a"', "a\n", " a", "a%20b", "é|;", "a\u2028", "\udce9", "a\x00"]
        submission, solution = tmp_path / "submission.csv", tmp_path / "solution.csv"
        gld.write_recognition_submission(submission, [(name, (name, 0.5)) for name in names])
        gld.write_recognition_solution(solution, [(name, name) for name in names])
        truths = gld.read_recognition_solution(solution)
        read = gld.read_recognition_submission(submission, truths)
        assert [unquote(name, errors="surrogateescape") for name in read] == names
        assert truths.answers == {name: {name} for name in read}
        assert read == {name: (name, 0.5) for name in read}
        gld.write_retrieval_submission(submission, [(names[0], names)])
        (row,) = gld.read_retrieval_submission(submission).values()
        assert row == list(read)

    def test_an_empty_name(self, tmp_path: Path) -> None:
        file = csv(tmp_path, "before", "submission.csv")
        for rows in ([("", ["x"])], [("a", [""])]):
            with pytest.raises(DatasetError, match="an empty name"):
                gld.write_retrieval_submission(file, rows)
        for predictions in ([("", ("7", 0.5))], [("a", ("", 0.5))]):
            with pytest.raises(DatasetError, match="an empty name"):
                gld.write_recognition_submission(file, predictions)
        assert file.read_text() == "before"
        assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]

    def test_ids_are_names_or_paths(self) -> None:
        assert gld.photo_ids(["test/a/1.jpg", "test/b/2.png"]) == ["1", "2"]
        assert gld.photo_ids(["a/1.jpg", "b/1.jpg"]) == ["a/1.jpg", "b/1.jpg"]
        assert gld.photo_ids([]) == []

    def test_other_mistakes(self, tmp_path: Path) -> None:
        file = tmp_path / "submission.csv"
        with pytest.raises(DatasetError, match="query a comes twice"):
            gld.write_retrieval_submission(file, [("a", ["x"]), ("a", ["y"])])
        for bad in (math.nan, math.inf):
            with pytest.raises(DatasetError, match=f"the confidence of a is {bad}"):
                gld.write_recognition_submission(file, [("a", ("7", bad))])
        with pytest.raises(DatasetError, match="cannot be written"):
            gld.write_retrieval_submission(tmp_path / "absent" / "file.csv", [])
        assert list(tmp_path.iterdir()) == []


class TestTask:
    def test_by_columns(self, tmp_path: Path) -> None:
        assert gld.landmark_task(csv(tmp_path, "\ufeffID, Images ,Usage\n")) == "retrieval"
        assert gld.landmark_task(csv(tmp_path, "landmarks,id\n")) == "recognition"
        assert gld.is_solution(csv(tmp_path, "id,images,USAGE\n"))
        for header in ("id,image", "images", "id,images,landmarks", ""):
            message = csv_refusal(gld.landmark_task, csv(tmp_path, header + "\n"))
            assert "cannot tell retrieval from recognition; found " in message
