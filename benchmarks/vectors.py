"""Made-up descriptors that are distributed like real ones, in the layout that searches map.

Real ones (EfficientNet-Lite2 at 448 pixels with GeM, 102 photos of landmarks30) have no negative
component, a mean cosine of 0.45 with a standard deviation of 0.11 between any two, and about 0.8
between two of one place. These have 0.44, 0.11 and 0.80: a mean, eight directions in which scenes
differ, scenes along these, and photos around each scene.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.fake_encoder import StandIn
from veduta.index import Manifest, columns, create_index, snapshot

CHUNK = 8192
SCENE = 20  # photos of one


class Scenes:
    """Draws descriptors around a fixed set of scenes."""

    def __init__(self, scenes: int, dimension: int) -> None:
        rng = np.random.default_rng(0)
        mean = rng.normal(0.1, 0.4, dimension).astype(np.float32)
        directions = rng.standard_normal((8, dimension), np.float32) * np.float32(0.8 / 8**0.5)
        self.centres = mean + rng.standard_normal((scenes, 8), np.float32) @ directions

    def draw(self, rng: np.random.Generator, number: int) -> NDArray[np.float32]:
        """Return (number, d) float32 unit rows without negative components."""
        centres = self.centres[rng.integers(0, len(self.centres), number)]
        noise = rng.standard_normal(centres.shape, np.float32)
        noise *= np.float32(0.5)
        rows = np.maximum(centres + noise, 0, out=noise)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def write_index(index: Path, number: int, dimension: int) -> Scenes:
    """Make an index whose snapshot holds `number` rows, though its table is empty."""
    create_index(index, StandIn(dimension))
    manifest = Manifest.read(index)
    name = snapshot.snapshot_name(index, manifest)
    folder = index / snapshot.SNAPSHOT_FOLDER / name
    folder.mkdir(parents=True)
    scenes = Scenes(max(1, number // SCENE), dimension)
    rng = np.random.default_rng(1)
    parts = ("descriptors.f16", "codes.i8", "scales.f32", "errors.f32")
    files = [(folder / part).open("wb") for part in parts]
    for start in range(0, number, CHUNK):
        rows = scenes.draw(rng, min(CHUNK, number - start)).astype(np.float16)
        for file, part in zip(files, (rows, *snapshot.quantise(rows)), strict=True):
            part.tofile(file)
    for file in files:
        file.close()
    _write_rows(folder / "rows.arrow", number)
    facts = {"version": 1, "notice": None, "photos": number, "dimension": dimension}
    (folder / "snapshot.json").write_text(json.dumps(facts), "utf-8")
    return scenes


def _write_rows(file: Path, number: int) -> None:
    schema = columns.schema(1)
    known = {
        "id": pa.array(np.arange(number)),
        "path": pa.array([b"photos/%09d.jpg" % i for i in range(number)], pa.binary()),
    }
    fields = [schema.field(name) for name in columns.snapshot_columns()]
    arrays = [known.get(field.name, pa.nulls(number, field.type)) for field in fields]
    rows = pa.table(arrays, schema=pa.schema(fields))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as out:
        out.write_table(rows)
