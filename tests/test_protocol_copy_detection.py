"""DISC21 and Copydays: copies and the photos that they are copies of."""

from __future__ import annotations

from pathlib import Path

import pytest

from veduta.datasets.protocols import PROTOCOLS, find_protocol, open_protocol
from veduta.errors import DatasetError
from veduta.evaluation import evaluate_protocol

TRUTH = "query_id,reference_id\nQ00001,R000002\nQ00000,\nQ00002,R000000\n"


def photos(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def disc21(root: Path, truth: str = TRUTH, name: str = "dev_ground_truth.csv") -> Path:
    photos(root, *(f"references/R00000{row}.jpg" for row in range(3)), "dev_queries/Q00000.jpg")
    (root / name).write_text(truth)
    return root


def copydays(root: Path) -> Path:
    photos(
        root,
        *(f"original/{name}.jpg" for name in (200000, 200100, 213000)),
        *(f"strong/{name}.jpg" for name in (200001, 200002, 213001)),
        *(f"jpeg/{level}/{name}.jpg" for level in (3, 20, 100) for name in (200000, 200100)),
        "crops/10/213000.jpg",
    )
    return root


def refusal(path: Path, name: str, **options: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, name, **options)
    return str(caught.value)


class TestDisc21:
    def test_the_published_layout(self, tmp_path: Path) -> None:
        judged = open_protocol(disc21(tmp_path))
        assert (judged.protocol, judged.name, judged.root) == ("disc21", "DISC21 (dev)", tmp_path)
        assert judged.queries == ("Q00001", "Q00000", "Q00002")
        assert judged.gallery == ("R000000", "R000001", "R000002")
        assert judged.query_paths[0] == "dev_queries/Q00001.jpg"
        assert judged.gallery_paths[2] == "references/R000002.jpg"
        assert [judged.positives.of_query(q).tolist() for q in range(3)] == [[2], [], [0]]
        assert judged.own is None and judged.notes == ()

    @pytest.mark.parametrize(
        "truth",
        [
            "Q00001,R000002\nQ00000,\nQ00002,R000000\n",
            "Q00001.jpg,R000002.jpg\nQ00000.jpg,\nQ00002.jpg,R000000.jpg\n",
            "reference_id,score,query_id\nR000002,1,Q00001\n,1,Q00000\nR000000,1,Q00002\n",
        ],
    )
    def test_other_forms_of_the_ground_truth(self, tmp_path: Path, truth: str) -> None:
        judged = open_protocol(disc21(tmp_path, truth))
        assert judged.queries == ("Q00001", "Q00000", "Q00002")
        assert [judged.positives.of_query(q).tolist() for q in range(3)] == [[2], [], [0]]

    def test_a_query_with_two_references(self, tmp_path: Path) -> None:
        judged = open_protocol(disc21(tmp_path, "Q00001,R000002\nQ00001,R000000\nQ00000,\n"))
        assert [judged.positives.of_query(q).tolist() for q in range(2)] == [[0, 2], []]

    @pytest.mark.parametrize(
        ("name", "title", "folder"),
        [
            ("final_ground_truth.csv", "DISC21 (final)", "final_queries"),
            ("test_queries_groundtruth.csv", "DISC21 (test)", "test_queries"),
            ("ground_truth.csv", "DISC21", "queries"),
        ],
    )
    def test_names_of_the_ground_truth(
        self, tmp_path: Path, name: str, title: str, folder: str
    ) -> None:
        judged = open_protocol(disc21(tmp_path, name=name))
        assert (judged.name, judged.query_paths[0]) == (title, f"{folder}/Q00001.jpg")

    def test_queries_in_a_folder_without_a_prefix(self, tmp_path: Path) -> None:
        photos(disc21(tmp_path), "queries/Q00000.jpg")
        assert open_protocol(tmp_path).query_paths[0] == "dev_queries/Q00001.jpg"
        (tmp_path / "dev_queries/Q00000.jpg").unlink()
        (tmp_path / "dev_queries").rmdir()
        assert open_protocol(tmp_path).query_paths[0] == "queries/Q00001.jpg"

    def test_several_ground_truths(self, tmp_path: Path) -> None:
        root = disc21(tmp_path)
        final = root / "final_ground_truth.csv"
        final.write_text("Q00009,\nQ00008,R000001\n")
        message = refusal(root, "disc21")
        assert "2 ground truths (dev_ground_truth.csv, final_ground_truth.csv)" in message
        assert "--variant" in message
        assert open_protocol(root, variant="final").queries == ("Q00009", "Q00008")
        assert open_protocol(root, variant="dev").queries[0] == "Q00001"
        assert open_protocol(final).name == "DISC21 (final)"
        assert "no public_ground_truth.csv" in refusal(root, "disc21", variant="public")

    def test_photos_elsewhere(self, tmp_path: Path) -> None:
        root = disc21(tmp_path / "lists")
        (root / "references").rename(tmp_path / "references")
        judged = open_protocol(root, "disc21", photos=tmp_path)
        assert judged.root == tmp_path and len(judged.gallery) == 3

    def test_the_lists_of_the_authors(self, tmp_path: Path) -> None:
        lists = tmp_path / "list_files"
        photos(tmp_path, "images/references/R000009.jpg", "images/queries/Q00000.jpg")
        lists.mkdir()
        truth = lists / "subset_1_ground_truth.csv"
        truth.write_text("Q00002,R000001\n")
        (lists / "subset_1_references").write_text("R000001\nR000000.jpg\n\n")
        (lists / "subset_1_queries").write_text("Q00005\nQ00002\n")
        for path in (tmp_path, lists, truth):
            judged = open_protocol(path)
            assert (judged.name, judged.root) == ("DISC21 (subset_1)", tmp_path / "images")
            assert judged.gallery == ("R000001", "R000000")
            assert judged.gallery_paths == ("references/R000001.jpg", "references/R000000.jpg")
            assert judged.query_paths == ("queries/Q00002.jpg", "queries/Q00005.jpg")
            assert [judged.positives.of_query(q).tolist() for q in range(2)] == [[0], []]
            assert judged.notes == ()

    def test_the_list_of_the_public_queries(self, tmp_path: Path) -> None:
        root = disc21(tmp_path, name="public_ground_truth.csv")
        photos(root, "list_files/other")
        (root / "list_files/dev_queries_25k").write_text("Q00001\nQ00003\n")
        judged = open_protocol(root)
        assert judged.queries == ("Q00001", "Q00000", "Q00002", "Q00003")
        assert judged.query_paths[0] == "dev_queries/Q00001.jpg"
        assert len(judged.gallery) == 3

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "references: no id"),
            (b"R000001\nR000002\nR000001\n", "references: 1 id of the list twice (R000001)"),
            (b"R000001\n../x\n", "references, line 2: the path '../x' leads out"),
            (b"R000001\n\xff\n", "references, line 2: not UTF-8"),
            (b"R000000\n", "query Q00001: 1 unknown reference (R000002)"),
        ],
    )
    def test_bad_lists(self, tmp_path: Path, content: bytes, message: str) -> None:
        root = disc21(tmp_path)
        photos(root, "list_files/other")
        (root / "list_files/references").write_bytes(content)
        assert message in refusal(root, "disc21")

    def test_queries_that_all_have_a_reference_are_told(self, tmp_path: Path) -> None:
        judged = open_protocol(disc21(tmp_path, "Q00001,R000002\n"))
        assert "no query without a reference" in judged.notes[0]

    def test_not_recognised(self, tmp_path: Path) -> None:
        photos(tmp_path, "references/R000000.jpg")
        assert find_protocol(tmp_path) is None
        (tmp_path / "labels.csv").write_text("path,label\n")
        assert find_protocol(tmp_path) is None
        assert find_protocol(tmp_path / "labels.csv") is None
        assert "no ground_truth.csv" in refusal(tmp_path, "disc21")
        disc21(tmp_path)
        found = find_protocol(tmp_path)
        assert found is not None and found.name == "disc21"

    @pytest.mark.parametrize(
        ("truth", "message"),
        [
            ("", "dev_ground_truth.csv: no query"),
            ("query_id,reference_id\n", "dev_ground_truth.csv: no query"),
            ("Q00001\n", "line 1: 1 fields; wanted a query and its reference"),
            (TRUTH + "Q00001,R000002\n", "line 5: query Q00001 is on an earlier line"),
            (TRUTH + "Q00001,\n", "line 5: query Q00001 is on an earlier line"),
            (TRUTH + "Q00000,R000002\n", "line 5: query Q00000 is on an earlier line"),
            (TRUTH + ",R000002\n", "line 5: the query is empty"),
            (TRUTH + "Q00009,R000009\n", "query Q00009: 1 unknown reference (R000009)"),
            (TRUTH + "../x,R000001\n", "the path '../x' leads out of the folder"),
            (TRUTH + "Q00009,R000001,5\n", "line 5: 3 fields, but the header has 2"),
        ],
    )
    def test_bad_ground_truths(self, tmp_path: Path, truth: str, message: str) -> None:
        assert message in refusal(disc21(tmp_path, truth), "disc21")

    def test_other_bad_input(self, tmp_path: Path) -> None:
        root = disc21(tmp_path)
        (root / "dev_ground_truth.csv").write_bytes(TRUTH.encode() + b"\xff\xfe,\n")
        assert "line 5: not UTF-8" in refusal(root, "disc21")
        (root / "dev_ground_truth.csv").write_text(TRUTH)
        photos(root, "references/R000000.png")
        assert "1 id of the references twice (R000000)" in refusal(root, "disc21")
        for file in (root / "references").iterdir():
            file.unlink()
        assert "no photo in references/" in refusal(root, "disc21")
        (root / "references").rmdir()
        (root / "dev_ground_truth.csv").write_text("Q00000,other\n")
        assert "no references/" in refusal(root, "disc21")

    def test_a_submission_needs_no_photo(self, tmp_path: Path) -> None:
        truth = tmp_path / "dev_ground_truth.csv"
        truth.write_text("query_id,reference_id\nQ00000,R999999\nQ00001,\nQ00002,R000007\n")
        assert find_protocol(tmp_path) is PROTOCOLS["disc21"]
        submission = tmp_path / "submission.csv"
        submission.write_text(
            "query_id,reference_id,score\nQ00000,R999999,0.9\nQ00001,R000001,0.8\n"
            "Q00002,R000007,0.7\n"
        )
        result = evaluate_protocol(tmp_path, ranking=submission)
        assert len(result.judged.gallery) == 1_000_000
        assert result.figures.micro_ap == pytest.approx((1 + 2 / 3) / 2)
        assert result.figures.recall_at_precision90 == 0.5


class TestCopydays:
    def test_the_published_layout(self, tmp_path: Path) -> None:
        judged = open_protocol(copydays(tmp_path))
        assert (judged.protocol, judged.name) == ("copydays", "Copydays (strong)")
        assert judged.root == tmp_path
        assert judged.queries == judged.query_paths
        assert judged.queries == ("strong/200001.jpg", "strong/200002.jpg", "strong/213001.jpg")
        assert judged.gallery == judged.gallery_paths
        assert judged.gallery == tuple(f"original/{each}.jpg" for each in (200000, 200100, 213000))
        assert [judged.positives.of_query(q).tolist() for q in range(3)] == [[0], [0], [2]]
        assert judged.distractors == 0 and judged.own is None

    def test_variants(self, tmp_path: Path) -> None:
        root = copydays(tmp_path)
        jpeg = open_protocol(root, variant="jpeg")
        assert jpeg.queries == tuple(
            f"jpeg/{level}/{name}.jpg" for level in (3, 20, 100) for name in (200000, 200100)
        )
        assert [jpeg.positives.of_query(q).tolist() for q in range(6)] == [[0], [1]] * 3
        crops = open_protocol(root, variant="crops")
        assert crops.queries == ("crops/10/213000.jpg",)
        assert crops.positives.of_query(0).tolist() == [2]
        whole = open_protocol(root, variant="all")
        assert len(whole.queries) == 10 and len(set(whole.queries)) == 10
        assert open_protocol(root / "original", variant="all").queries == whole.queries

    def test_the_other_name_of_the_folder(self, tmp_path: Path) -> None:
        root = copydays(tmp_path)
        (root / "jpeg").rename(root / "jpegqual")
        assert open_protocol(root, variant="jpeg").queries[0] == "jpegqual/3/200000.jpg"

    def test_distractors_come_last(self, tmp_path: Path) -> None:
        root = copydays(tmp_path)
        photos(root, "distractors/any.jpg", "distractors/200000.jpg")
        judged = open_protocol(root)
        assert judged.distractors == 2
        assert judged.gallery[3:] == ("distractors/200000.jpg", "distractors/any.jpg")
        assert [judged.positives.of_query(q).tolist() for q in range(3)] == [[0], [0], [2]]

    def test_not_recognised(self, tmp_path: Path) -> None:
        photos(tmp_path, "original/a.jpg", "strong/b.jpg")
        assert find_protocol(tmp_path) is None
        photos(tmp_path / "alone", "original/200000.jpg")
        assert find_protocol(tmp_path / "alone") is None
        assert find_protocol(tmp_path / "none") is None
        found = find_protocol(copydays(tmp_path / "copydays"))
        assert found is not None and found.name == "copydays"

    def test_bad_input(self, tmp_path: Path) -> None:
        root = copydays(tmp_path)
        photos(root, "strong/999901.jpg")
        assert "strong/999901.jpg: 1 unknown block (9999)" in refusal(root, "copydays")
        photos(root, "strong/copy.jpg")
        message = refusal(root, "copydays")
        assert "strong: 1 photos with other names (copy.jpg); wanted six digits" in message
        photos(root, "original/200001.jpg")
        assert "1 id of the blocks twice (2000)" in refusal(root, "copydays")

    def test_missing_folders(self, tmp_path: Path) -> None:
        assert "no original/" in refusal(tmp_path, "copydays")
        photos(tmp_path, "original/200000.jpg")
        message = refusal(tmp_path, "copydays")
        assert "no strong/" in message and "jpegqual/" in message
        (tmp_path / "crops").mkdir()
        assert "no level in crops/" in refusal(tmp_path, "copydays", variant="crops")
        (tmp_path / "strong").mkdir()
        assert "no photo in strong/" in refusal(tmp_path, "copydays")
