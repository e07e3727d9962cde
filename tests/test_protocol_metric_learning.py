"""Stanford Online Products, CUB-200-2011, Cars196 and In-Shop, as they lie on disk."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import find_protocol, open_protocol
from veduta.errors import DatasetError

SOP_HEADER = "image_id class_id super_class_id path\n"
SOP = SOP_HEADER + (
    "59552 11319 1 bicycle_final/a_0.JPG\n"
    "59553 11319 1 bicycle_final/a_1.JPG\n"
    "59554 11320 1 chair_final/b_0.JPG\n"
    "59555 11319 1 bicycle_final/a_2.JPG\n"
    "59556 11320 1 chair_final/b_1.JPG\n"
)
CUB_IMAGES = "1 001.A/a.jpg\n2 101.B/b.jpg\n3 200.C/c.jpg\n4 101.B/d.jpg\n5 100.D/e.jpg\n"
CUB_LABELS = "1 1\n2 101\n3 200\n4 101\n5 100\n"
INSHOP_HEADER = "image_name item_id evaluation_status\n"
INSHOP = (
    "6\n"
    "image_name item_id                 evaluation_status   \n"
    "img/WOMEN/Dresses/id_1/01_1_front.jpg    id_1     train\n"
    "img/WOMEN/Dresses/id_2/01_1_front.jpg    id_2     gallery\n"
    "img/WOMEN/Dresses/id_2/01_2_side.jpg     id_2     query\n"
    "img/MEN/Denim/id_3/01_1_front.jpg        id_3     query\n"
    "img/MEN/Denim/id_3/01_2_side.jpg         id_3     gallery\n"
    "img/WOMEN/Dresses/id_2/01_3_back.jpg     id_2     gallery\n"
)


def write(file: Path, text: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def lists(judged: JudgedSet) -> list[list[int]]:
    return [judged.positives.of_query(query).tolist() for query in range(len(judged.queries))]


def refusal(path: Path, protocol: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_protocol(path, protocol)
    assert str(path) in str(caught.value)
    return str(caught.value)


def name_of(path: Path) -> str | None:
    protocol = find_protocol(path)
    return None if protocol is None else protocol.name


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(kind: int, shape: tuple[int, int], data: bytes, name: str = "") -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<2i", *shape))
    return element(14, head + element(1, name.encode()) + data)


def cars_file(rows: list[tuple[str, int]], names: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of cars_annos.mat, with the fields that its publishers write."""
    fields = names or ("relative_im_path", "bbox_x1", "class", "test")
    packed = b"".join(field.encode().ljust(20, b"\0") for field in fields)
    parts = element(5, struct.pack("<i", 20)) + element(1, packed)
    for path, label in rows:
        parts += array(4, (1, len(path)), element(16, path.encode()))
        parts += array(9, (1, 1), element(2, b"\7"))
        parts += array(9, (1, 1), element(2, bytes([label])))
        parts += array(9, (1, 1), element(2, b"\0"))
    variable = zlib.compress(array(2, (1, len(rows)), parts, "annotations"))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    return head + struct.pack("<II", 15, len(variable)) + variable


CARS = [("car_ims/1.jpg", 98), ("car_ims/2.jpg", 99), ("car_ims/3.jpg", 196), ("car_ims/4.jpg", 99)]


class TestStanfordOnlineProducts:
    def test_every_test_photo_is_a_query(self, tmp_path: Path) -> None:
        write(tmp_path / "Ebay_test.txt", SOP)
        write(tmp_path / "Ebay_train.txt", SOP_HEADER + "1 1 1 bicycle_final/z.JPG\n")
        assert name_of(tmp_path) == "sop"
        judged = open_protocol(tmp_path)
        assert judged.queries == judged.gallery == judged.gallery_paths
        assert judged.queries[2] == "chair_final/b_0.JPG"
        assert judged.root == tmp_path
        assert lists(judged) == [[1, 3], [0, 3], [4], [0, 1], [2]]
        assert judged.own is not None
        assert judged.own.tolist() == [0, 1, 2, 3, 4]
        assert judged.query_labels == ("11319", "11319", "11320", "11319", "11320")
        assert judged.junk is None
        assert judged.distractors == 0

    def test_the_folder_above_and_the_file_itself(self, tmp_path: Path) -> None:
        folder = tmp_path / "Stanford_Online_Products"
        file = write(folder / "Ebay_test.txt", SOP.replace("\n", "\r\n"))
        for path in (tmp_path, folder, file):
            assert name_of(path) == "sop"
            assert open_protocol(path).root == folder
        assert open_protocol(tmp_path, photos=tmp_path / "else").root == tmp_path / "else"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "line 1: found ''; wanted 'image_id class_id super_class_id path'"),
            ("image_id,class_id,super_class_id,path\n", "line 1: 1 words; wanted 4"),
            (
                "id class_id super_class_id path\n",
                "line 1: found 'id class_id super_class_id path'",
            ),
            (SOP_HEADER, "no photo below the header"),
            (SOP + "1 x 1 a.JPG\n", "line 7: the class_id 'x' is no whole number"),
            (SOP + "1 -1 1 a.JPG\n", "line 7: the class_id '-1' is no whole number"),
            (SOP + "1 1 1\n", "line 7: 3 words; wanted 4"),
            (SOP + "1 1 1 ../a.JPG\n", "line 7: the path '../a.JPG' leads out of the folder"),
            (SOP + "1 1 1 /etc/passwd\n", "line 7: the path '/etc/passwd' leads out"),
            (SOP + "1 1 1 chair_final/b_0.JPG\n", "1 id of the photos twice (chair_final/b_0.JPG)"),
            (SOP.encode() + b"1 1 1 \xff.JPG\n", "line 7: not UTF-8"),
            (SOP + "1 1 1 " + "a" * 70_000, "line 7: longer than 65,536 bytes"),
        ],
    )
    def test_refuses(self, tmp_path: Path, text: str | bytes, said: str) -> None:
        write(tmp_path / "Ebay_test.txt", text)
        assert said in refusal(tmp_path, "sop")

    def test_no_list(self, tmp_path: Path) -> None:
        assert name_of(tmp_path) is None
        message = refusal(tmp_path, "sop")
        assert "no Ebay_test.txt. The protocol sop expects:" in message
        assert "Found: nothing" in message


class TestCub:
    def written(
        self, folder: Path, images: str | bytes = CUB_IMAGES, labels: str | bytes = CUB_LABELS
    ) -> Path:
        write(folder / "images.txt", images)
        write(folder / "image_class_labels.txt", labels)
        return folder

    def test_the_last_hundred_classes(self, tmp_path: Path) -> None:
        folder = self.written(tmp_path / "CUB_200_2011")
        for path in (tmp_path, folder):
            assert name_of(path) == "cub"
            judged = open_protocol(path)
            assert judged.queries == judged.gallery == ("101.B/b.jpg", "200.C/c.jpg", "101.B/d.jpg")
            assert judged.root == folder / "images"
            assert lists(judged) == [[2], [], [0]]
            assert judged.own is not None
            assert judged.own.tolist() == [0, 1, 2]
            assert judged.query_labels == ("101", "200", "101")

    def test_labels_in_another_order(self, tmp_path: Path) -> None:
        labels = "".join(reversed(CUB_LABELS.splitlines(keepends=True)))
        judged = open_protocol(self.written(tmp_path, labels=labels))
        assert lists(judged) == [[2], [], [0]]

    @pytest.mark.parametrize(
        ("images", "labels", "said"),
        [
            ("", "", "no photo of the classes 101 to 200"),
            ("1 a.jpg\n", "1 100\n", "no photo of the classes 101 to 200"),
            (CUB_IMAGES, CUB_LABELS + "6 101\n", "1 unknown photo (6)"),
            (CUB_IMAGES, CUB_LABELS + "5 101\n", "1 id of the photos twice (5)"),
            (CUB_IMAGES, "1 1\n", "4 photos of images.txt without a class"),
            (CUB_IMAGES + "5 x.jpg\n", CUB_LABELS, "1 id of the photos twice (5)"),
            (CUB_IMAGES + "6 101.B/b.jpg\n", CUB_LABELS + "6 101\n", "twice (101.B/b.jpg)"),
            (CUB_IMAGES + "x a.jpg\n", CUB_LABELS, "line 6: the number of a photo 'x' is no whole"),
            (CUB_IMAGES + "6 /a.jpg\n", CUB_LABELS, "line 6: the path '/a.jpg' leads out"),
            (CUB_IMAGES, CUB_LABELS + "6 1.5\n", "line 6: the class '1.5' is no whole number"),
            (CUB_IMAGES, CUB_LABELS + "6\n", "line 6: 1 words; wanted 2"),
            (CUB_IMAGES.encode() + b"6 \xff\n", CUB_LABELS, "line 6: not UTF-8"),
        ],
    )
    def test_refuses(
        self, tmp_path: Path, images: str | bytes, labels: str | bytes, said: str
    ) -> None:
        assert said in refusal(self.written(tmp_path, images, labels), "cub")

    def test_one_of_its_files(self, tmp_path: Path) -> None:
        write(tmp_path / "images.txt", CUB_IMAGES)
        assert name_of(tmp_path) is None
        assert "no image_class_labels.txt. The protocol cub expects" in refusal(tmp_path, "cub")


class TestCars:
    def test_the_last_98_classes(self, tmp_path: Path) -> None:
        file = write(tmp_path / "cars_annos.mat", cars_file(CARS))
        for path in (tmp_path, file):
            assert name_of(path) == "cars"
            judged = open_protocol(path)
            assert judged.queries == judged.gallery
            assert judged.queries == ("car_ims/2.jpg", "car_ims/3.jpg", "car_ims/4.jpg")
            assert judged.root == tmp_path
            assert lists(judged) == [[2], [], [0]]
            assert judged.own is not None
            assert judged.own.tolist() == [0, 1, 2]
            assert judged.boxes == ()

    def test_a_file_of_scipy(self, tmp_path: Path) -> None:
        scipy_io = pytest.importorskip("scipy.io")
        records = np.zeros(
            (1, len(CARS)), [("relative_im_path", object), ("class", object), ("test", object)]
        )
        for number, (path, label) in enumerate(CARS):
            records[0, number] = (path, np.array([[label]], np.uint8), np.array([[0]], np.uint8))
        scipy_io.savemat(tmp_path / "cars_annos.mat", {"annotations": records})
        judged = open_protocol(tmp_path)
        assert judged.queries == ("car_ims/2.jpg", "car_ims/3.jpg", "car_ims/4.jpg")

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "no MATLAB file"),
            (cars_file(CARS)[:-9], "damaged"),
            (cars_file(CARS[:1]), "no photo of the classes 99 to 196"),
            (cars_file([]), "no photo of the classes 99 to 196"),
            (cars_file([("../a.jpg", 99)]), "annotations(1): the path '../a.jpg' leads out"),
            (cars_file([CARS[1], CARS[1]]), "1 id of the photos twice (car_ims/2.jpg)"),
            (
                cars_file(CARS, ("fname", "bbox_x1", "class", "test")),
                "annotations(1): no relative_im_path or no class; wanted the file cars_annos.mat",
            ),
        ],
    )
    def test_refuses(self, tmp_path: Path, data: bytes, said: str) -> None:
        write(tmp_path / "cars_annos.mat", data)
        assert said in refusal(tmp_path, "cars")

    def test_another_variable(self, tmp_path: Path) -> None:
        number = array(9, (1, 1), element(2, b"\1"), "class_names")
        write(tmp_path / "cars_annos.mat", cars_file([])[:128] + number)
        assert "no struct array 'annotations'" in refusal(tmp_path, "cars")

    def test_no_list(self, tmp_path: Path) -> None:
        write(tmp_path / "devkit" / "cars_meta.mat", b"")
        assert "no cars_annos.mat" in refusal(tmp_path, "cars")
        assert "Found: devkit/" in refusal(tmp_path, "cars")


class TestInShop:
    @pytest.mark.parametrize("folder", ["Eval", "Anno", ""])
    @pytest.mark.parametrize("photos", ["img", "Img/img"])
    def test_queries_against_the_gallery(self, tmp_path: Path, folder: str, photos: str) -> None:
        file = write(tmp_path / folder / "list_eval_partition.txt", INSHOP)
        (tmp_path / photos).mkdir(parents=True)
        for path in (tmp_path, file):
            assert name_of(path) == "inshop"
            judged = open_protocol(path)
            assert judged.queries == (
                "img/WOMEN/Dresses/id_2/01_2_side.jpg",
                "img/MEN/Denim/id_3/01_1_front.jpg",
            )
            assert judged.gallery == (
                "img/WOMEN/Dresses/id_2/01_1_front.jpg",
                "img/MEN/Denim/id_3/01_2_side.jpg",
                "img/WOMEN/Dresses/id_2/01_3_back.jpg",
            )
            assert judged.root == tmp_path / photos
            assert judged.query_paths[0] == "WOMEN/Dresses/id_2/01_2_side.jpg"
            assert lists(judged) == [[0, 2], [1]]
            assert judged.own is None
            assert judged.gallery_labels == ("id_2", "id_3", "id_2")

    def test_another_folder_of_photos(self, tmp_path: Path) -> None:
        write(tmp_path / "list_eval_partition.txt", INSHOP)
        (tmp_path / "a" / "img").mkdir(parents=True)
        (tmp_path / "b").mkdir()
        assert open_protocol(tmp_path, photos=tmp_path / "a").root == tmp_path / "a" / "img"
        assert open_protocol(tmp_path, photos=tmp_path / "b").root == tmp_path / "b"

    @pytest.mark.parametrize(
        "text",
        [
            "000001.jpg 0\n000002.jpg 1\n",
            "289222\nimage_name  evaluation_status\nimg/a.jpg train\n",
            "9\nimage_pair_name_1 image_pair_name_2 item_id evaluation_status\n",
            "",
        ],
    )
    def test_lists_of_other_sets_are_not_recognised(self, tmp_path: Path, text: str) -> None:
        write(tmp_path / "list_eval_partition.txt", text)
        assert name_of(tmp_path) is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "line 1: the number of photos '' is no whole number"),
            ("many\n", "line 1: the number of photos 'many' is no whole number"),
            ("1\n", "line 2: found ''; wanted 'image_name item_id evaluation_status'"),
            ("1\na b c\n", "line 2: found 'a b c'"),
            (INSHOP.replace("6\n", "7\n", 1), "6 photos, but the first line says 7"),
            (INSHOP.replace("train", "tests"), "line 3: wanted a name, an item, and one of train"),
            (INSHOP + "img/a.jpg query\n", "line 9: wanted a name, an item"),
            (INSHOP + "../a.jpg id query\n", "line 9: the path '../a.jpg' leads out"),
            (INSHOP.replace("query", "gallery"), "no photo with the status query"),
            (INSHOP.replace("gallery", "train"), "no photo with the status gallery"),
            (INSHOP.replace("01_3_back", "01_1_front"), "1 id of the photos twice"),
            (INSHOP.encode() + b"\xff\n", "line 9: not UTF-8"),
        ],
    )
    def test_refuses(self, tmp_path: Path, text: str | bytes, said: str) -> None:
        write(tmp_path / "list_eval_partition.txt", text)
        assert said in refusal(tmp_path, "inshop")

    def test_no_list(self, tmp_path: Path) -> None:
        assert "no list_eval_partition.txt. The protocol inshop" in refusal(tmp_path, "inshop")


def test_ordinary_folders_and_files_are_not_recognised(tmp_path: Path) -> None:
    write(tmp_path / "images" / "cat" / "1.jpg", "")
    write(tmp_path / "labels.csv", "file,label\n")
    for path in (tmp_path, tmp_path / "images", tmp_path / "labels.csv", tmp_path / "none"):
        assert name_of(path) is None


def test_many_lines(tmp_path: Path) -> None:
    rows = "".join(f"{row} {row // 5} 1 a/{row}.JPG\n" for row in range(50_000))
    write(tmp_path / "Ebay_test.txt", SOP_HEADER + rows)
    judged = open_protocol(tmp_path)
    assert len(judged.positives.positions) == 200_000
