"""Indexes of small photos for the tests of merges, and what an index answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tiny import CentredEncoder, TinyExtractor

from veduta.index import Manifest, create_index, open_snapshot, update_index
from veduta.index.graph import open_graph
from veduta.index.keypoint_files import StoredKeypoints
from veduta.index.shards import Shard
from veduta.index.table import open_table
from veduta.search import Engine, SearchOptions

OWN_COLUMNS = ("id", "keypoints_file", "keypoints_at", "keypoints_size")
"""The columns of which the values are of one index."""


def indexed(
    index: Path,
    folders: Sequence[Path],
    shard: Shard | None = None,
    encoder: Any = None,
    extractor: Any = "tiny",
    **options: Any,
) -> Path:
    """Bring an index of small photos up to date; it is created if it is missing."""
    encoder = encoder or CentredEncoder()
    extractor = TinyExtractor() if extractor == "tiny" else extractor
    if not index.exists():
        create_index(index, encoder, extractor)
    update_index(index, folders, encoder, extractor, shard=shard, graph=not shard, **options)
    return index


def shards(home: Path, folders: Sequence[Path], count: int, **options: Any) -> list[Path]:
    """Index each shard of some folders into an index of its own."""
    return [
        indexed(home / f"part{number}", folders, Shard(number, count), **options)
        for number in range(1, count + 1)
    ]


def rows_of(index: Path) -> dict[bytes, dict[str, Any]]:
    """Return path → all that an index holds of the file."""
    rows: dict[bytes, dict[str, Any]] = {}
    table = open_table(index)
    for batch in table.batches(table.dataset.schema.names):
        for row in batch.to_pylist():
            assert row["path"] not in rows
            rows[row["path"]] = {
                name: str(value) for name, value in row.items() if name not in OWN_COLUMNS
            }
    snapshot = open_snapshot(index)
    stored = StoredKeypoints(index, snapshot) if Manifest.read(index).keypoints else None
    for number, path in enumerate(snapshot.rows["path"].to_pylist()[: snapshot.photos]):
        if stored:
            rows[path]["keypoints"] = stored.read(number).pack().hex()
        rows[path]["searched with"] = snapshot.descriptors[number].tobytes().hex()
    ids = table.dataset.to_table(columns=["id"])["id"].to_pylist()
    assert len(set(ids)) == len(ids) == len(rows)
    return rows


def graph_of(index: Path) -> dict[str, Any] | None:
    """Return the graph of an index, without the rows that its photos have in this index."""
    made = open_graph(index, Manifest.read(index))
    if made is None:
        return None
    contents = open_snapshot(index).rows["content"].to_pylist()
    arrays = {name: getattr(made, name).tobytes() for name in ("starts", "ends", "weights")}
    return {
        **arrays,
        "photos": [contents[row] for row in made.row_of_photo],
        "corrections": repr((made.by_similarity, made.by_geometry)),
    }


def answers_of(index: Path, queries: Iterable[Path], encoder: Any = None) -> list[Any]:
    """Return all hits of queries, with their evidence. Hits of one score are in no order."""
    engine = Engine(index, encoder=encoder or CentredEncoder())
    options = SearchOptions(k=100)
    return [
        sorted(
            (-hit.score, hit.path, hit.similarity, str(hit.label), repr(hit.evidence))
            for hit in engine.search(engine.encode_query([query], rerank="auto"), options)
        )
        for query in queries
    ]


def state_of(index: Path) -> dict[str, Any]:
    """Return what two equal indexes have in common."""
    manifest = Manifest.read(index)
    return {
        "rows": rows_of(index),
        "graph": graph_of(index),
        "folders": manifest.folders,
        "labels": manifest.labels,
        "exclude": manifest.exclude,
        "shard": manifest.shard,
        "needs": manifest.needs,
    }


def files_of(index: Path) -> dict[str, tuple[bytes, int]]:
    """Return all files of an index, with their times."""
    return {
        str(file.relative_to(index)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in index.rglob("*")
        if file.is_file()
    }
