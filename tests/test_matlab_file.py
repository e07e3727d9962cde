"""MATLAB 5 files, compared with what scipy writes; files that are damaged on purpose."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veduta.datasets import matlab_file
from veduta.datasets.matlab_file import read_matlab
from veduta.errors import DatasetError

HEADER = b"MATLAB 5.0 MAT-file".ljust(124, b" ")


def header(order: str = "<") -> bytes:
    return HEADER + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(
    kind: int,
    shape: tuple[int, ...] = (1, 1),
    parts: bytes = b"",
    name: str = "x",
    flags: int = 0,
    order: str = "<",
) -> bytes:
    inside = (
        element(6, struct.pack(f"{order}II", kind | flags, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + element(1, name.encode(), order)
        + parts
    )
    return element(14, inside, order)


CUT_STREAM = zlib.compress(matrix(9, (1, 1), element(2, b"\1")))[:-2]
"""All of a variable, without the end of its checksum."""


def written(folder: Path, data: bytes) -> Path:
    file = folder / "file.mat"
    file.write_bytes(data)
    return file


def refusal(folder: Path, data: bytes) -> str:
    file = written(folder, data)
    with pytest.raises(DatasetError) as caught:
        read_matlab(file)
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value)


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            same(found[key], value)
    elif isinstance(wanted, list):
        assert isinstance(found, list)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    else:
        assert type(found) is type(wanted)
        assert found == wanted


@pytest.fixture(scope="module")
def savemat() -> Any:
    return pytest.importorskip("scipy.io").savemat


def cells(*values: object) -> np.ndarray:
    array = np.empty((1, len(values)), object)
    for number, value in enumerate(values):
        array[0, number] = value
    return array


class TestWhatScipyWrites:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_all_kinds(self, tmp_path: Path, savemat: Any, compressed: bool) -> None:
        numeric = {
            kind.replace("?", "logical"): (np.arange(6).reshape(2, 3) % 5).astype(kind)
            for kind in ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c16", "?"]
        }
        numeric = {f"n_{name}": values for name, values in numeric.items()}
        records = np.zeros((1, 3), [("path", object), ("class", object), ("test", object)])
        for number in range(3):
            records[0, number] = (f"car_ims/{number}.jpg", np.uint8(number), np.array([[True]]))
        savemat(
            tmp_path / "file.mat",
            {
                **numeric,
                "deep": np.arange(24.0).reshape(2, 3, 4),
                "empty": np.empty((0, 3)),
                "text": "Straße 東京",
                "no_text": "",
                "rows": np.array(["ab ", "cde"]),
                "cell": cells("a", np.array([[1.5]]), cells("b"), np.empty((0, 0))),
                "struct": {"a": np.array([[1, 2]], np.int32), "b": {"c": "d"}},
                "annotations": records,
            },
            do_compression=compressed,
        )
        found = read_matlab(tmp_path / "file.mat")
        for name, values in numeric.items():
            same(found[name], values)
        same(found["deep"], np.arange(24.0).reshape(2, 3, 4))
        same(found["empty"], np.empty((0, 3)))
        assert found["text"] == "Straße 東京"
        assert found["no_text"] == ""
        assert found["rows"] == ["ab ", "cde"]
        same(found["cell"], ["a", np.array([[1.5]]), ["b"], np.empty((0, 0))])
        same(found["struct"], {"a": np.array([[1, 2]], np.int32), "b": {"c": "d"}})
        same(
            found["annotations"],
            [
                {
                    "path": f"car_ims/{number}.jpg",
                    "class": np.array([[number]], np.uint8),
                    "test": np.array([[True]]),
                }
                for number in range(3)
            ],
        )

    @pytest.mark.parametrize("compressed", [False, True])
    def test_truncated_at_every_byte(self, tmp_path: Path, savemat: Any, compressed: bool) -> None:
        stream = io.BytesIO()
        record = np.zeros((1, 2), [("path", object), ("class", object)])
        record[0, 0] = ("a.jpg", np.array([[7]], np.uint8))
        record[0, 1] = ("b.jpg", cells("c", np.arange(3.0)[None]))
        savemat(stream, {"annotations": record}, do_compression=compressed)
        data = stream.getvalue()
        file = written(tmp_path, data)
        assert read_matlab(file)["annotations"][1]["path"] == "b.jpg"
        for size in range(len(data)):
            file.write_bytes(data[:size])
            with pytest.raises(DatasetError):
                read_matlab(file)

    def test_changed_at_every_byte(self, tmp_path: Path, savemat: Any) -> None:
        stream = io.BytesIO()
        savemat(stream, {"a": {"b": cells("c", np.arange(3.0)[None])}})
        data = stream.getvalue()
        file = tmp_path / "file.mat"
        refused = 0
        for at in range(128, len(data)):
            for changed in (0, 0x7F, 0xFF):
                file.write_bytes(data[:at] + bytes([changed]) + data[at + 1 :])
                try:
                    read_matlab(file)
                except DatasetError:
                    refused += 1
        assert refused > 200


class TestByHand:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_both_byte_orders(self, tmp_path: Path, order: str) -> None:
        data = header(order)
        data += matrix(6, (1, 2), element(4, struct.pack(f"{order}2H", 3, 500), order), order=order)
        text = element(4, "né".encode("utf-16-le" if order == "<" else "utf-16-be"), order)
        data += matrix(4, (1, 2), text, "t", order=order)
        fields = element(5, struct.pack(f"{order}i", 4), order) + element(
            1, b"a\0\0\0b\0\0\0", order
        )
        inside = matrix(4, (1, 2), text, "", order=order) + element(14, b"", order)
        data += matrix(2, (1, 1), fields + inside, "s", order=order)
        found = read_matlab(written(tmp_path, data))
        same(found["x"], np.array([[3.0, 500.0]]))
        assert found["t"] == "né"
        same(found["s"], {"a": "né", "b": np.empty((0, 0))})

    def test_columns_come_first(self, tmp_path: Path) -> None:
        data = header() + matrix(9, (2, 2), element(2, bytes([1, 2, 3, 4])))
        same(read_matlab(written(tmp_path, data))["x"], np.array([[1, 3], [2, 4]], np.uint8))

    def test_an_array_without_a_name_is_left_out(self, tmp_path: Path) -> None:
        number = matrix(9, (1, 1), element(2, b"\1"))
        data = header() + number + matrix(9, (1, 1), element(2, b"\2"), "")
        assert list(read_matlab(written(tmp_path, data))) == ["x"]

    def test_a_struct_array_without_structs(self, tmp_path: Path) -> None:
        fields = element(5, struct.pack("<i", 4)) + element(1, b"a\0\0\0")
        assert read_matlab(written(tmp_path, header() + matrix(2, (0, 0), fields)))["x"] == []


class TestRefuses:
    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            (3, "x: it is an object"),
            (5, "x: it is a sparse array"),
            (16, "x: it is a function handle"),
            (17, "x: it is an opaque object"),
        ],
    )
    def test_what_is_no_data(self, tmp_path: Path, kind: int, said: str) -> None:
        inner = element(14, matrix(kind, name="")[8:])
        outer = header() + matrix(1, (1, 1), inner)
        assert said.replace("x:", "x{1}:") in refusal(tmp_path, outer)
        assert said.replace("x:", "a variable:") in refusal(tmp_path, header() + matrix(kind))

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "no MATLAB file"),
            (b"id,label\n" * 40, "no MATLAB file"),
            (b"\x89HDF\r\n\x1a\n" + bytes(200), "MATLAB 7.3 (HDF5); save it in MATLAB again"),
            (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "MATLAB 7.3 (HDF5)"),
            (bytes(200), "of MATLAB 4; wanted a file of MATLAB 5"),
            (HEADER + struct.pack("<H", 0x0300) + b"IM", "of version 0x0300"),
            (header(), "it has no variable; is it complete?"),
            (header() + b"\0", "it ends within an element"),
            (header() + element(9, bytes(8)), "an element of type 9 in place of a variable"),
            (header() + element(15, b"no zlib stream"), "a compressed variable: damaged"),
            (header() + element(15, zlib.compress(b"")), "ends within an element"),
            (
                header() + element(15, CUT_STREAM),
                "a compressed variable: damaged (it ends too early",
            ),
            (header() + 2 * matrix(9, (1, 1), element(2, b"\1")), "x: it is there twice"),
            (header() + matrix(9, (2**31 - 1,) * 4, element(2, b"\1")), "bytes for the shape"),
            (header() + matrix(9, (-1, -1), element(2, b"\1")), "the shape (-1, -1)"),
            (header() + matrix(9, (1,), element(2, b"\1")), "no shape"),
            (header() + matrix(1, (2**31 - 1,) * 4), "values in 0 bytes"),
            (header() + matrix(77, (1, 1), element(2, b"\1")), "an array of class 77"),
            (header() + matrix(8, (1, 1), element(2, b"\xff")), "numbers that are no int8"),
            (header() + matrix(9, (1, 1), element(9, struct.pack("<d", np.nan))), "no uint8"),
            (header() + matrix(9, (1, 1), element(99, b"\1")), "numbers of type 99"),
            (header() + matrix(4, (1, 1), element(16, b"\xff")), "a text that is not utf-8"),
            (header() + matrix(4, (1, 9), element(16, b"a")), "1 characters for the shape (1, 9)"),
            (header() + matrix(4, (2**31 - 1, 0), element(16, b"")), "more than 2,000,000 values"),
        ],
    )
    def test_the_file(self, tmp_path: Path, data: bytes, said: str) -> None:
        assert said in refusal(tmp_path, data)

    def test_structs_without_fields(self, tmp_path: Path) -> None:
        fields = element(5, struct.pack("<i", 1)) + element(1, b"")
        data = header() + matrix(2, (2**31 - 1, 1), fields)
        assert "more than 2,000,000 values" in refusal(tmp_path, data)

    def test_a_zip_bomb(self, tmp_path: Path) -> None:
        stream = zlib.compressobj(9)
        size = matlab_file.MAX_EXPANDED_BYTES + 2**20
        bomb = stream.compress(bytes(2**20))
        bomb += b"".join(stream.compress(bytes(2**20)) for _ in range(size // 2**20))
        bomb += stream.flush()
        assert len(bomb) < 2**20
        assert "expands to more than 512 MB" in refusal(tmp_path, header() + element(15, bomb))

    def test_small_numbers_that_become_large(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(matlab_file, "MAX_EXPANDED_BYTES", 3 * 2**20)
        data = header() + matrix(6, (1, 2**20), element(2, bytes(2**20)))
        assert "expands to more than 3 MB" in refusal(tmp_path, data)
        data = header() + matrix(9, (1, 2**20), element(2, bytes(2**20)))
        assert read_matlab(written(tmp_path, data))["x"].shape == (1, 2**20)

    def test_a_large_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matlab_file, "MAX_FILE_BYTES", 2**20)
        assert "larger than 1 MB" in refusal(tmp_path, header() + bytes(2**20))

    @pytest.mark.parametrize("depth", [40, 2_000])
    def test_deep_nesting(self, tmp_path: Path, depth: int) -> None:
        inner = matrix(9, (1, 1), element(2, b"\1"), "")
        for _ in range(depth):
            inner = matrix(1, (1, 1), inner, "")
        assert "more than 32 deep" in refusal(tmp_path, header() + inner)

    def test_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot be read"):
            read_matlab(tmp_path / "none.mat")
        with pytest.raises(DatasetError, match="cannot be read"):
            read_matlab(tmp_path)
