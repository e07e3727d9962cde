"""Synthetic descriptors that are distributed like real ones, in an index that can be searched.

Real descriptors (EfficientNet-Lite2 at 448 pixels with GeM, 102 photos of landmarks30) have no
negative component. Between any two photos the cosine has the mean 0.45 and the standard deviation
0.11; between two photos of one place it is about 0.8. The synthetic ones have 0.44, 0.11 and 0.80.
They are drawn around scenes, and the scenes differ from a mean in eight directions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.fake_encoder import FakeEncoder
from veduta.index import Manifest, columns, create_index, snapshot
from veduta.photos import content_hash

BLOCK_ROWS = 8192
PHOTOS_OF_A_SCENE = 20


class Scenes:
    """Draws descriptors around a fixed set of scenes."""

    def __init__(self, scenes: int, dimension: int) -> None:
        rng = np.random.default_rng(0)
        mean = rng.normal(0.1, 0.4, dimension).astype(np.float32)
        directions = rng.standard_normal((8, dimension), np.float32) * np.float32(0.8 / 8**0.5)
        self.centres = mean + rng.standard_normal((scenes, 8), np.float32) @ directions

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return (count, d) float32 unit rows without negative components."""
        centres = self.centres[rng.integers(0, len(self.centres), count)]
        noise = rng.standard_normal(centres.shape, np.float32)
        noise *= np.float32(0.5)
        rows: NDArray[np.float32] = np.maximum(centres + noise, 0, out=noise)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def write_index(index: Path, count: int, dimension: int) -> Scenes:
    """Make an index whose snapshot has `count` rows, while its table is empty."""
    create_index(index, FakeEncoder(dimension))
    manifest = Manifest.read(index)
    name = snapshot.snapshot_name(index, manifest)
    folder = index / snapshot.SNAPSHOT_FOLDER / name
    folder.mkdir(parents=True)
    scenes = Scenes(max(1, count // PHOTOS_OF_A_SCENE), dimension)
    rng = np.random.default_rng(1)
    names = ("descriptors.f16", "codes.i8", "scales.f32", "errors.f32")
    files = [(folder / name).open("wb") for name in names]
    for start in range(0, count, BLOCK_ROWS):
        rows = scenes.draw(rng, min(BLOCK_ROWS, count - start)).astype(np.float16)
        arrays: tuple[NDArray[Any], ...] = (rows, *snapshot.quantise(rows))
        for file, array in zip(files, arrays, strict=True):
            array.tofile(file)
    for file in files:
        file.close()
    _write_rows(folder / "rows.arrow", count)
    facts = {"version": 1, "notice": None, "photos": count, "dimension": dimension}
    (folder / "snapshot.json").write_text(json.dumps(facts), "utf-8")
    return scenes


def snapshot_of(rows: NDArray[np.float16]) -> snapshot.Snapshot:
    """Return a snapshot of descriptors (n, d) in memory, without files."""
    table = pa.table(
        {
            "id": pa.array(np.arange(len(rows))),
            "path": pa.array([b"photos/%09d.jpg" % i for i in range(len(rows))], pa.binary()),
            "content": pa.array([content_hash(b"%d" % i) for i in range(len(rows))], pa.binary()),
        }
    )
    return snapshot.Snapshot(1, None, table, rows, *snapshot.quantise(rows))


def _write_rows(file: Path, count: int) -> None:
    schema = columns.schema(1)
    filled_columns = {
        "id": pa.array(np.arange(count)),
        "path": pa.array([b"photos/%09d.jpg" % i for i in range(count)], pa.binary()),
    }
    fields = [schema.field(name) for name in columns.snapshot_columns()]
    arrays = [filled_columns.get(field.name, pa.nulls(count, field.type)) for field in fields]
    rows = pa.table(arrays, schema=pa.schema(fields))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as out:
        out.write_table(rows)
