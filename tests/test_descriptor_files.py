"""Descriptors of other programs: every format, every way to name a photo, every kind of damage."""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from veduta.errors import CannotWrite, DatasetError
from veduta.evaluation.given_answers import open_given_answers
from veduta.interchange.descriptor_files import DescriptorTable, open_descriptors
from veduta.interchange.descriptor_writing import write_descriptors

IDS = ["db/a.jpg", "db/b.jpg", "query/c.jpg"]
ROWS = np.array([[1, 0, 0.5], [0, 1, 0.25], [3, -1, 2]], np.float32)


def npz(file: Path, ids: Sequence[str] = IDS, rows: Any = ROWS) -> None:
    np.savez(file, names=np.array(ids), descriptors=rows)


def npy(file: Path, ids: Sequence[str] = IDS, rows: Any = ROWS) -> None:
    np.save(file, rows)
    file.with_name(f"{file.name}.json").write_text(json.dumps(list(ids)))


def hdf5(file: Path, ids: Sequence[str] = IDS, rows: Any = ROWS) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as target:
        for each, row in zip(ids, rows, strict=True):
            target.require_group(each).create_dataset("global_descriptor", data=row)


def hdf5_table(file: Path, ids: Sequence[str] = IDS, rows: Any = ROWS, **options: Any) -> None:
    """Write descriptors as the authors of ILIAS do."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as target:
        target["index"] = np.array([each.encode() for each in ids], options.pop("texts", None))
        target.create_dataset("features", data=rows, **options)


def parquet_file(file: Path, ids: Sequence[str] = IDS, rows: Any = ROWS) -> None:
    parquet.write_table(pa.table({"path": list(ids), "embedding": list(rows)}), file)


WRITERS: dict[str, Callable[..., None]] = {
    "a.npz": npz,
    "a.npy": npy,
    "a.h5": hdf5,
    "a.hdf5": hdf5_table,
    "a.parquet": parquet_file,
}
every_format = pytest.mark.parametrize("name", WRITERS)


def all_rows(table: DescriptorTable, rows: Any = None, block: int = 2) -> np.ndarray:
    wanted = np.arange(len(table)) if rows is None else np.asarray(rows, np.int64)
    parts = list(table.blocks(wanted, block))
    assert [part.start for part, _ in parts] == list(range(0, len(wanted), block))
    assert all(len(values) == part.stop - part.start for part, values in parts)
    assert all(values.dtype == np.float32 for _, values in parts)
    return np.concatenate([values for _, values in parts])


def refusal(*files: Path) -> str:
    with pytest.raises(DatasetError) as error:
        open_descriptors(files)
    assert files[-1].name in str(error.value)
    return str(error.value)


@every_format
def test_each_format_gives_the_same_table(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    WRITERS[name](file)
    table = open_descriptors([file])
    assert (table.dimension, len(table), table.problems) == (3, 3, ())
    assert table.rows_of(IDS[::-1]).tolist() == [2, 1, 0]
    assert table.rows_of(IDS).dtype == np.int64
    assert np.array_equal(all_rows(table, [2, 0, 2]), ROWS[[2, 0, 2]])


@every_format
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_taken(tmp_path: Path, name: str, dtype: Any) -> None:
    WRITERS[name](tmp_path / name, rows=ROWS.astype(dtype))
    assert np.array_equal(all_rows(open_descriptors([tmp_path / name])), ROWS)


def test_several_files_are_one_table(tmp_path: Path) -> None:
    npz(tmp_path / "gallery.npz", IDS[:2], ROWS[:2])
    parquet_file(tmp_path / "queries.parquet", IDS[2:], ROWS[2:].astype(np.float16))
    table = open_descriptors([tmp_path / "gallery.npz", tmp_path / "queries.parquet"])
    rows = table.rows_of([IDS[2], IDS[0], IDS[1]])
    assert np.array_equal(all_rows(table, rows, block=3), ROWS[[2, 0, 1]])


@pytest.mark.parametrize("ids", ["names", "paths", "ids", "IDs"])
@pytest.mark.parametrize("rows", ["descriptors", "features", "embeddings"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz_have_several_names(
    tmp_path: Path, ids: str, rows: str, save: Any
) -> None:
    save(tmp_path / "a.npz", **{ids: np.array(IDS), rows: np.asfortranarray(ROWS)})
    table = open_descriptors([tmp_path / "a.npz"])
    assert list(table.ids) == IDS
    assert np.array_equal(all_rows(table), ROWS)


def test_ids_of_an_npz_may_be_bytes_or_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=np.array(["é".encode(), b"b", b"c"]), features=ROWS)
    assert list(open_descriptors([tmp_path / "a.npz"]).ids) == ["é", "b", "c"]
    np.savez(tmp_path / "b.npz", ids=np.array([7, 8, 9]), features=ROWS)
    assert list(open_descriptors([tmp_path / "b.npz"]).ids) == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.npy.json", json.dumps(IDS)),
        ("a.npy.json", json.dumps({"paths": IDS, "other": 1})),
        ("a.npy.txt", "\n".join(IDS)),
        ("a.txt", "\ufeff" + "\r\n".join(IDS) + "\r\n"),
    ],
)
def test_ids_of_an_npy_are_beside_it(tmp_path: Path, name: str, text: str) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(ROWS.astype(">f4")))
    (tmp_path / name).write_bytes(text.encode())
    table = open_descriptors([tmp_path / "a.npy"])
    assert list(table.ids) == IDS
    assert np.array_equal(all_rows(table), ROWS)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 3)]
)
def test_parquet_has_lists_of_any_kind(tmp_path: Path, kind: Any) -> None:
    values = ROWS.astype(np.float16) if kind.value_type == pa.float16() else ROWS
    column = pa.array([list(row) for row in values], kind)
    table = pa.table({"other": [1, 2, 3], "Name": IDS, "features": column})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    opened = open_descriptors([tmp_path / "a.parquet"])
    assert list(opened.ids) == IDS
    assert np.array_equal(all_rows(opened), ROWS)


def test_hdf5_may_hold_more(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    hdf5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as target:
        target.create_group("db/local.jpg").create_dataset("keypoints", data=[[1.0, 2.0]])
        target["db/a.jpg"].create_dataset("image_size", data=[4, 3])
        target["outside"] = h5py.ExternalLink("/etc/passwd", "/")
    table = open_descriptors([tmp_path / "a.h5"])
    assert sorted(table.ids) == IDS


# How photos are found


def table_of(tmp_path: Path, *ids: str) -> DescriptorTable:
    npz(tmp_path / "t.npz", ids, np.eye(len(ids) + 1, dtype=np.float32)[: len(ids)])
    return open_descriptors([tmp_path / "t.npz"])


@pytest.mark.parametrize(
    ("there", "wanted", "rows"),
    [
        (["a.jpg", "a"], ["a", "a.jpg"], [1, 0]),  # exact before anything else
        (["a.jpg", "b.png"], ["b", "a"], [1, 0]),
        (["a", "b"], ["b.jpg", "a.JPEG"], [1, 0]),
        (["a.png", "b.png"], ["b.jpg", "a.jpg"], [1, 0]),
        (["db\\a.jpg", "./db/b.jpg"], ["db/b.jpg", "db/a.jpg"], [1, 0]),
        (["@0543.2@41.9@x", "@0543.2@41.7@x"], ["@0543.2@41.7@x.jpg"], [1]),
        (["@1.25", "@1.50"], ["@1.50"], [1]),
        (["/data/x/a.jpg", "/data/y/b.jpg"], ["b", "db/a.png"], [1, 0]),
    ],
)
def test_photos_are_found(
    tmp_path: Path, there: list[str], wanted: list[str], rows: list[int]
) -> None:
    assert table_of(tmp_path, *there).rows_of(wanted).tolist() == rows


@pytest.mark.parametrize(
    ("there", "wanted", "missing"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "c.jpg"], "1 of 2 photos (c.jpg)"),
        (["a.jpg", "a.png"], ["a"], "1 of 1 photo (a)"),  # which one is it?
        (["a"], ["a.jpg", "a.png"], "2 of 2 photos (a.jpg, a.png)"),
        (["x/1.jpg", "y/1.jpg"], ["z/1.jpg"], "1 of 1 photo (z/1.jpg)"),
        (["x/1.jpg"], ["x/1.jpg", "y/1.jpg"], "1 of 2 photos (y/1.jpg)"),
        (["u/1.jpg"], ["x/1.jpg", "y/1.jpg"], "2 of 2 photos (x/1.jpg, y/1.jpg)"),
        (["@1.25"], ["@1.50"], "1 of 1 photo (@1.50)"),  # .25 is no ending
        (["z"], list("abcdefg"), "7 of 7 photos (a, b, c, d, e, and 2 more)"),
    ],
)
def test_unknown_and_ambiguous_photos_are_refused(
    tmp_path: Path, there: list[str], wanted: list[str], missing: str
) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"t.npz: no descriptor for {missing}; ")):
        table_of(tmp_path, *there).rows_of(wanted)


def test_a_gallery_does_not_stand_for_the_queries(tmp_path: Path) -> None:
    """Nordland's queries and gallery have the same file names."""
    table = table_of(tmp_path, "db/1.jpg", "db/2.jpg")
    table.rows_of(["query/1.jpg"])
    with pytest.raises(DatasetError, match="would stand for query/1"):
        table.rows_of(["db/1.jpg", "db/2.jpg"])


def test_the_same_photo_may_be_query_and_gallery(tmp_path: Path) -> None:
    table = table_of(tmp_path, "1.jpg", "2.jpg")
    assert table.rows_of(["2", "2"]).tolist() == table.rows_of(["2"]).tolist() * 2 == [1, 1]


def test_a_guess_by_the_last_part_is_told(tmp_path: Path) -> None:
    table = table_of(tmp_path, "x/1.jpg", "x/2.jpg")
    table.rows_of(["x/1"])
    assert table.problems == ()
    table.rows_of(["y/2.jpg"])
    assert table.problems == (
        "1 photo found by the last part of the path only, such as y/2.jpg as x/2.jpg.",
    )


# What is refused


@every_format
@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (1e30, "too small or too large")],
)
def test_values_that_cannot_be_compared(
    tmp_path: Path, name: str, value: float, fault: str
) -> None:
    rows = ROWS.copy()
    rows[1, 2] = value
    WRITERS[name](tmp_path / name, rows=rows)
    message = refusal(tmp_path / name)
    assert "db/b.jpg" in message
    assert fault in message


@every_format
def test_only_zeros(tmp_path: Path, name: str) -> None:
    rows = ROWS.copy()
    rows[1:] = 0
    WRITERS[name](tmp_path / name, rows=rows)
    assert "the descriptor of db/b.jpg has only zeros, and 1 after it" in refusal(tmp_path / name)


def test_a_float64_that_float32_does_not_hold(tmp_path: Path) -> None:
    npy(tmp_path / "a.npy", rows=ROWS.astype(np.float64) * 1e200)
    assert "db/a.jpg has a value that is infinite as float32" in refusal(tmp_path / "a.npy")


@every_format
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_numbers_that_are_no_floats(tmp_path: Path, name: str, dtype: Any) -> None:
    WRITERS[name](tmp_path / name, rows=ROWS.astype(dtype))
    assert "float" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.hdf5"])
@pytest.mark.parametrize("shape", [(9,), (3, 3, 1), ()])
def test_wrong_shapes(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    WRITERS[name](tmp_path / name, rows=np.ones(shape, np.float32))
    assert f"have the shape {shape}; wanted one row a photo, (N, d)" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_descriptors(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    WRITERS[name](tmp_path / name, rows=np.ones(shape, np.float32))
    assert f"no descriptors, its array is {shape}" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5", "a.parquet"])
def test_no_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, [], ROWS[:0])
    assert re.search("no d|column of type null", refusal(tmp_path / name))


@pytest.mark.parametrize("name", ["a.h5", "a.parquet"])
def test_different_dimensions_in_a_file(tmp_path: Path, name: str) -> None:
    rows = [ROWS[0], ROWS[1, :2], ROWS[2]]
    WRITERS[name](tmp_path / name, rows=rows)
    message = refusal(tmp_path / name)
    assert "the descriptor of db/b.jpg has 2 dimensions, that of db/a.jpg 3" in message


def test_a_descriptor_of_hdf5_with_another_shape(tmp_path: Path) -> None:
    hdf5(tmp_path / "a.h5", IDS[:1], ROWS[None, :1])
    assert "the descriptor of db/a.jpg has the shape (1, 3)" in refusal(tmp_path / "a.h5")


def test_different_dimensions_of_two_files(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", IDS[:2], ROWS[:2])
    npz(tmp_path / "b.npz", IDS[2:], ROWS[2:, :2])
    message = refusal(tmp_path / "a.npz", tmp_path / "b.npz")
    assert message.startswith(f"{tmp_path}/b.npz: 2 dimensions, but {tmp_path}/a.npz has 3")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.hdf5", "a.parquet"])
def test_duplicate_ids(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ["a", "b", "a"])
    assert "the id a comes twice" in refusal(tmp_path / name)


def test_duplicate_ids_of_two_files(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    npy(tmp_path / "b.npy", IDS[2:], ROWS[2:])
    message = refusal(tmp_path / "a.npz", tmp_path / "b.npy")
    assert f"b.npy: the id query/c.jpg is in {tmp_path}/a.npz too" in message
    assert "is in" in refusal(tmp_path / "a.npz", tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.hdf5"])
def test_another_number_of_ids(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, IDS[:2])
    assert "3 descriptors, but 2 ids" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.hdf5", "a.parquet"])
def test_an_empty_id(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ["a", "", "c"])
    assert "id 2 ('') is empty" in refusal(tmp_path / name)


def test_an_id_that_is_no_text(tmp_path: Path) -> None:
    npy(tmp_path / "a.npy", ["a", "\ud800", "c"])
    assert "id 2 ('\\ud800') is empty, or is no text" in refusal(tmp_path / "a.npy")


def test_a_header_that_is_no_python(tmp_path: Path) -> None:
    npy(tmp_path / "a.npy")
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"}", b"("))
    assert "damaged" in refusal(tmp_path / "a.npy")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("a pickle was executed",)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    bombs = np.array([Bomb()] * 3, object)
    np.savez(tmp_path / "ids.npz", names=bombs, descriptors=ROWS)
    assert "the ids are an array of Python objects" in refusal(tmp_path / "ids.npz")
    np.savez(tmp_path / "rows.npz", names=np.array(IDS), descriptors=bombs)
    assert "the descriptors are an array of Python objects" in refusal(tmp_path / "rows.npz")
    npy(tmp_path / "a.npy", rows=bombs)
    assert "the descriptors are an array of Python objects" in refusal(tmp_path / "a.npy")
    for name in WRITERS:
        (tmp_path / name).write_bytes(pickle.dumps({"a": Bomb()}))
        if name not in ("a.h5", "a.hdf5") or "h5py" in sys.modules:
            assert "damaged, cut off, or no" in refusal(tmp_path / name)


@every_format
def test_a_file_that_is_cut_off(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in (0, 1, 7, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        assert "cut off" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_changed_bytes_are_found_by_checksums(tmp_path: Path, name: str) -> None:
    write_descriptors(tmp_path / name, IDS, [ROWS])
    data = (tmp_path / name).read_bytes()
    at = data.index(ROWS[2].tobytes())
    (tmp_path / name).write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    assert "damaged" in refusal(tmp_path / name)


def test_an_array_of_an_npz_that_says_another_size(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[:-4] if name == "descriptors.npy" else data)
    assert "the array descriptors is cut off" in refusal(tmp_path / "a.npz")


def test_what_else_is_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    message = refusal(tmp_path / "a.npy")
    assert "no ids; wanted a.npy.json with a list, or a.txt with one id a line" in message
    np.savez(tmp_path / "a.npz", names=np.array(IDS), vectors=ROWS)
    assert "no array of descriptors; found names, vectors" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", names=np.array(IDS), features=ROWS, descriptors=ROWS)
    assert "has descriptors, features, and each could be" in refusal(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", features=ROWS)
    assert "no ids" in refusal(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", names=ROWS, features=ROWS)
    assert "wanted texts, (N,)" in refusal(tmp_path / "d.npz")
    parquet.write_table(pa.table({"x": IDS, "features": list(ROWS)}), tmp_path / "a.parquet")
    assert "found the columns x, features; wanted one of" in refusal(tmp_path / "a.parquet")
    assert "no such file" in refusal(tmp_path / "none.npy").lower()
    (tmp_path / "folder.npz").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.npz")
    assert "are read from .npz, .npy" in refusal(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="name a file"):
        open_descriptors([])


def test_missing_values_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"id": IDS, "features": [[1.0, 2], None, [1.0, 2]]}), file)
    assert "no descriptor of db/b.jpg" in refusal(file)
    parquet.write_table(pa.table({"id": IDS, "features": [[1.0, 2], [1.0, None], [1, 2]]}), file)
    assert "the descriptor of db/b.jpg has a missing value" in refusal(file)
    parquet.write_table(pa.table({"id": ["a", None, "c"], "features": list(ROWS)}), file)
    assert "row 2 has no id" in refusal(file)
    parquet.write_table(pa.table({"id": [0.5, 1, 2], "features": list(ROWS)}), file)
    assert "the ids are of type double; wanted texts" in refusal(file)


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.npy.json", b"[1, 2, 3]", "Expected `str`"),
        ("a.npy.json", b'{"names": []}', "Expected `array`"),
        ("a.npy.json", b'["a", ', "not valid JSON"),
        ("a.txt", b"a\n\xff\nc", "can't decode"),
    ],
)
def test_damaged_ids_name_their_file(tmp_path: Path, name: str, data: bytes, fault: str) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=re.escape(f"{name}: ")) as error:
        open_descriptors([tmp_path / "a.npy"])
    assert fault in str(error.value)


def test_hdf5_that_holds_something_else(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as target:
        target.create_dataset("global_descriptor", data=ROWS)
    assert "no dataset 'global_descriptor' in any group" in refusal(tmp_path / "a.h5")
    ROWS[0].tofile(tmp_path / "raw")
    with h5py.File(tmp_path / "b.h5", "w") as target:
        target.create_group("a").create_dataset(
            "global_descriptor", (3,), "f4", external=[(str(tmp_path / "raw"), 0, 12)]
        )
    assert "the descriptor of a is in another file" in refusal(tmp_path / "b.h5")


@pytest.mark.parametrize("texts", ["vlen", "S40"])
def test_hdf5_of_ilias_may_be_compressed(tmp_path: Path, texts: str) -> None:
    h5py = pytest.importorskip("h5py")
    kind = h5py.string_dtype() if texts == "vlen" else texts
    # The last of them stands for "ä": it stays as it is.
    ids = ["cup_001/pos/P001_00.jpg", "yfcc100m_00000.tar/0af", "b_#U00e4/query/Q2.jpg"]
    hdf5_table(
        tmp_path / "a.hdf5",
        ids,
        ROWS.astype(np.float16),
        texts=kind,
        compression="gzip",
        chunks=(1, 3),
    )
    table = open_descriptors([tmp_path / "a.hdf5"])
    assert list(table.ids) == ids
    assert np.array_equal(all_rows(table), ROWS)


def test_hdf5_of_ilias_is_copied_in_several_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veduta.interchange.descriptor_formats.CHECKED_BYTES", 30)
    hdf5_table(tmp_path / "a.hdf5")
    assert np.array_equal(all_rows(open_descriptors([tmp_path / "a.hdf5"])), ROWS)


def test_hdf5_of_ilias_that_holds_something_else(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "a.h5"

    def write(**datasets: Any) -> None:
        with h5py.File(file, "w") as target:
            for name, value in datasets.items():
                target[name] = value

    texts = np.array([b"a", b"b", b"c"])
    write(index=np.arange(3), features=ROWS)
    assert "the ids are a dataset of shape (3,) and type int64; wanted texts" in refusal(file)
    write(index=texts[:, None], features=ROWS)
    assert "the ids are a dataset of shape (3, 1)" in refusal(file)
    write(index=np.array([b"a", b"\xff", b"c"]), features=ROWS)
    assert "an id is not UTF-8" in refusal(file)
    write(index=texts)
    assert "found index; wanted a group a photo" in refusal(file)
    assert "or the datasets 'index' and 'features'" in refusal(file)
    write(features=ROWS, index=h5py.Empty("S3"))
    assert "wanted texts, (N,)" in refusal(file)
    write(index=texts, features=h5py.Empty("f4"))
    assert "the shape (); wanted one row a photo" in refusal(file)
    hdf5_table(tmp_path / "other.h5")
    write(index=texts, features=h5py.ExternalLink("other.h5", "features"))
    assert "no dataset 'global_descriptor' in any group" in refusal(file)
    ROWS.tofile(tmp_path / "raw")
    with h5py.File(file, "w") as target:
        target["index"] = texts
        target.create_dataset("features", (3, 3), "f4", external=[(str(tmp_path / "raw"), 0, 36)])
    assert "the dataset 'features' is in another file" in refusal(file)
    layout = h5py.VirtualLayout((3, 3), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "features", (3, 3))
    with h5py.File(file, "w") as target:
        target["index"] = texts
        target.create_virtual_dataset("features", layout)
    assert "the dataset 'features' is in another file" in refusal(file)


def test_photos_of_hloc_may_be_named_like_the_datasets_of_ilias(tmp_path: Path) -> None:
    hdf5(tmp_path / "a.h5", ["features", "index", "x"])
    assert list(open_descriptors([tmp_path / "a.h5"]).ids) == ["features", "index", "x"]


def test_without_h5py_a_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"x")
    for act in (
        lambda: open_descriptors([tmp_path / "a.h5"]),
        lambda: write_descriptors(tmp_path / "b.h5", IDS, [ROWS]),
    ):
        with pytest.raises(DatasetError, match=re.escape("pip install 'veduta[hdf5]'")):
            act()
    assert [each.name for each in tmp_path.iterdir()] == ["a.h5"]


# Writing


@every_format
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    if name == "a.h5":
        pytest.importorskip("h5py")
    ids = ["db/é.jpg", "db", "q/c"]
    write_descriptors(tmp_path / name, ids, iter([ROWS[:2], ROWS[2:].astype(np.float64)]))
    table = open_descriptors([tmp_path / name])
    assert sorted(table.ids) == sorted(ids)
    assert np.array_equal(all_rows(table, table.rows_of(ids)), ROWS)


@every_format
def test_other_programs_read_what_is_written(tmp_path: Path, name: str) -> None:
    if name == "a.h5":
        pytest.importorskip("h5py")
    file = tmp_path / name
    write_descriptors(file, IDS, [ROWS])
    if name == "a.npz":
        arrays = np.load(file)
        assert arrays["names"].tolist() == IDS
        assert np.array_equal(arrays["descriptors"], ROWS)
        arrays.close()
    elif name == "a.npy":
        assert np.array_equal(np.load(file), ROWS)
        assert json.loads((tmp_path / "a.npy.json").read_text()) == {"paths": IDS}
    elif name == "a.parquet":
        expected = [{"path": a, "descriptor": b} for a, b in zip(IDS, ROWS.tolist(), strict=True)]
        assert parquet.read_table(file).to_pylist() == expected
    else:
        import h5py

        with h5py.File(file) as source:
            assert source["db/b.jpg/global_descriptor"][:].tolist() == ROWS[1].tolist()


@every_format
@pytest.mark.parametrize(
    ("ids", "blocks", "kind", "fault"),
    [
        (IDS[:2], [ROWS], ValueError, "more descriptors than the 2 ids"),
        (IDS, [ROWS[:2]], ValueError, "2 descriptors, but 3 ids"),
        (IDS, [ROWS[:2], ROWS[2:, :2]], ValueError, "(1, 2); wanted (n, 3)"),
        (IDS, [], ValueError, "0 descriptors, but 3 ids"),
        (IDS, [ROWS[:2], ROWS[2:] * np.nan], DatasetError, "query/c.jpg has NaN"),
        (["a", "a", "b"], [ROWS], DatasetError, "the id a comes twice"),
        (["a", "\udcff", "b"], [ROWS], DatasetError, "no text in UTF-8"),
    ],
)
def test_wrong_descriptors_leave_the_old_file(
    tmp_path: Path, name: str, ids: Any, blocks: Any, kind: type[Exception], fault: str
) -> None:
    if name == "a.h5":
        pytest.importorskip("h5py")
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(kind, match=re.escape(fault)):
        write_descriptors(tmp_path / name, ids, blocks)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="are written as"):
        write_descriptors(tmp_path / "a.csv", IDS, [ROWS])
    with pytest.raises(CannotWrite, match="none"):
        write_descriptors(tmp_path / "none/a.npy", IDS, [ROWS])


@pytest.mark.parametrize("photo", ["/a", "a//b", "a/../b", "a/global_descriptor"])
def test_ids_that_hdf5_cannot_hold(tmp_path: Path, photo: str) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(DatasetError, match="HDF5 cannot hold this id"):
        write_descriptors(tmp_path / "a.h5", [photo], [ROWS[:1]])


def test_given_descriptors_give_the_scores_of_the_gallery(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    (scores,) = open_given_answers(
        ["query/c.jpg"], ["db/b", "db/a"], descriptors=[tmp_path / "a.npz"]
    ).answers
    lengths = np.linalg.norm(ROWS, axis=1)
    assert scores == pytest.approx(ROWS[[1, 0]] @ ROWS[2] / lengths[[1, 0]] / lengths[2])
