"""The columns of an index: the schema on disk, and a new column declared in one place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from tiny import TinyEncoder, TinyExtractor, pixels, save

from veduta.index import (
    Manifest,
    create_index,
    open_snapshot,
    open_table,
    update_index,
)
from veduta.index.columns import COLUMNS, FORMAT_VERSION, Column, EncodedPhoto, schema

PLACES = [pa.field("latitude", pa.float64()), pa.field("longitude", pa.float64())]
"""The columns that an index of version 2 may lack."""
VERSION_2 = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("path", pa.binary(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("content", pa.binary()),
        pa.field("label", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("taken", pa.timestamp("s")),
        *PLACES,
        pa.field("perceptual_hash", pa.uint64()),
        pa.field("descriptor", pa.list_(pa.float16(), 192)),
        pa.field("checksum", pa.uint32()),
        pa.field("thumbnail", pa.binary()),
        pa.field("keypoints_file", pa.int32()),
        pa.field("keypoints_at", pa.int64()),
        pa.field("keypoints_size", pa.int32()),
        pa.field("problem", pa.string()),
    ]
)
IN_SNAPSHOTS = set(VERSION_2.names) - {"descriptor", "checksum", "thumbnail"}


def test_the_schema_on_disk_is_that_of_version_2() -> None:
    assert FORMAT_VERSION == 2, "another schema needs another version: add its literal here"
    assert schema(192).equals(VERSION_2)
    assert schema(1280).field("descriptor").type == pa.list_(pa.float16(), 1280)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, and a file that is none."""
    folder = tmp_path / "photos"
    save(folder / "a.png", 1)
    save(folder / "b.png", 2)
    (folder / "broken.png").write_bytes(b"no photo")
    return folder


def test_a_table_and_its_snapshot_have_these_columns(tmp_path: Path, photos: Path) -> None:
    create_index(tmp_path / "index", TinyEncoder(), TinyExtractor())
    update_index(tmp_path / "index", [photos], TinyEncoder(), TinyExtractor())
    assert open_table(tmp_path / "index").dataset.schema.equals(VERSION_2)
    assert set(open_snapshot(tmp_path / "index").rows.schema.names) == IN_SNAPSHOTS
    assert Manifest.read(tmp_path / "index").format == 2


def brightness(encoded: EncodedPhoto) -> float:
    return float(encoded.photo.pixels.mean())


def test_a_new_column_is_declared_in_one_place(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the table, in snapshots and in the rows of copies; null where there is no photo."""
    new = (
        Column("brightness", "float64", "photo", brightness),
        Column("name", "string", "file", lambda file: Path(file.path.decode()).name),
        Column("secret", "int8", "photo", lambda _: 7, in_snapshot=False),
    )
    monkeypatch.setattr("veduta.index.columns.COLUMNS", (*COLUMNS, *new))
    index, encoder = tmp_path / "index", TinyEncoder()
    create_index(index, encoder)
    update_index(index, [photos], encoder)
    Image.fromarray(pixels(1)).save(photos / "copy.png")
    (photos / "b.png").rename(photos / "moved.png")
    report = update_index(index, [photos], encoder)
    assert (report.copied, report.moved, encoder.encoded) == (1, 1, 2)

    first, second = (float(pixels(seed).mean()) for seed in (1, 2))
    wanted = {
        "a.png": (first, 7),
        "copy.png": (first, 7),
        "moved.png": (second, 7),
        "broken.png": (None, None),
    }
    batches = open_table(index).batches(["name", "brightness", "secret"])
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert {row["name"]: (row["brightness"], row["secret"]) for row in rows} == wanted
    snapshot = open_snapshot(index)
    assert "secret" not in snapshot.rows.schema.names
    found = dict(
        zip(snapshot.rows["name"].to_pylist(), snapshot.rows["brightness"].to_pylist(), strict=True)
    )
    assert found == {name: values[0] for name, values in wanted.items()}


def test_column_names_are_unique() -> None:
    names = [column.name for column in COLUMNS]
    assert len(names) == len(set(names))
