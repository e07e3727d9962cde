"""Link collections with keypoints: time and own memory, while the collection grows.

The photos are generated from real ones: descriptors around the real ones, each with the keypoints
of the real photo that is nearest, written anew, so that they take the room of as many photos. Own
memory is the anonymous memory of the process. Mapped files are counted apart: the system takes
them back when another program needs the room.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.generated_descriptors import Generator
from benchmarks.generated_index import generated_rows
from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.processes import process_memory, run_child
from benchmarks.report import check_target, format_number, parser, publish, table
from benchmarks.scale import MAX_OWN_MEMORY_MB, Stopwatch
from veduta import api
from veduta.index import Manifest, open_snapshot
from veduta.index.distinct_photos import distinct_photos
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import FOLDER, KeypointWriter, file_path
from veduta.index.snapshot import as_float32, build_snapshot
from veduta.index.table import open_table


def main(arguments: list[str] | None = None) -> None:
    options = parser("linking_memory", __doc__)
    add_data_option(options)
    options.add_argument("--photos", nargs="+", type=int, default=[5_000, 10_000, 20_000])
    options.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    real = chosen.work / "real-photos-with-keypoints"
    if chosen.child:
        print(json.dumps(measure(real, chosen.work / "linking", chosen.child)))
        return
    folders = [chosen.data / name for name in present_sets(options, chosen.data, SETS)]
    api.open_or_create(real).add(*folders)
    sizes = [
        run_child("linking_memory", "--child", n, "--work", chosen.work, "--data", chosen.data)
        for n in chosen.photos
    ]
    publish("linking_memory", page(sizes), chosen.docs)


def measure(real: Path, folder: Path, number: int) -> dict[str, Any]:
    """Make an index of generated photos, without links, and link it."""
    shutil.rmtree(folder, ignore_errors=True)
    made = api.open_or_create(folder)
    try:
        _fill(real, made.path, number)
        manifest = Manifest.read(made.path)
        snapshot = build_snapshot(made.path, manifest, open_table(made.path))
        watch = Stopwatch()
        with watch.timed("links"):
            build_graph(made.path, manifest, snapshot)
        watch.stop()
        return {
            "photos": number,
            "seconds": watch.seconds["links"],
            "own_bytes": watch.own_bytes,
            "peak_bytes": process_memory("VmHWM"),
            "keypoint_bytes": sum(
                file.stat().st_size for file in (made.path / FOLDER).glob("*.bin")
            ),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(real: Path, index: Path, number: int) -> None:
    """Add generated photos with keypoints to an empty index."""
    snapshot = open_snapshot(real)
    rows = distinct_photos(snapshot).row_of_photo
    generator = Generator(as_float32(snapshot.descriptors[rows]))
    columns = ("keypoints_file", "keypoints_at", "keypoints_size", "width", "height")
    places = np.stack([snapshot.rows[name].to_numpy() for name in columns], axis=1)[rows]
    contents = {file: file_path(real, file).read_bytes() for file in set(places[:, 0].tolist())}
    table_of_index = open_table(index)
    writer = KeypointWriter(index)
    first = 0
    for block, seeds in generator.blocks_with_seeds(1, number):
        of_seed = places[seeds].tolist()
        packed = [contents[file][at : at + size] for file, at, size, _, _ in of_seed]
        written = writer.append(packed)
        placed = [(*to, *place[3:]) for to, place in zip(written, of_seed, strict=True)]
        others = {
            name: pa.array(values)
            for name, values in zip(columns, zip(*placed, strict=True), strict=True)
        }
        table_of_index.append(
            generated_rows(
                block,
                first,
                table_of_index.dataset.schema,
                others,
            )
        )
        first += len(block)


def page(sizes: list[dict[str, Any]]) -> str:
    """Return the section."""
    lines = []
    for size in sizes:
        own = size["own_bytes"] / 2**20
        lines.append(
            [
                f"{size['photos']:,}",
                format_number(size["keypoint_bytes"] / 2**20),
                format_number(size["seconds"] / size["photos"] * 1e3),
                f"{format_number(own)} {check_target(own, MAX_OWN_MEMORY_MB, at_least=False)}",
                format_number(size["peak_bytes"] / 2**20),
            ]
        )
    first, last = sizes[0], sizes[-1]
    grown = (last["own_bytes"] - first["own_bytes"]) / max(1, last["photos"] - first["photos"])
    text = table(
        [
            "photos",
            "keypoints, MB",
            "links, ms a photo",
            "own memory, MB",
            "with mapped files, MB",
        ],
        lines,
    )
    return f"{text}\n\nOwn memory grows by {grown:,.0f} bytes a photo."


if __name__ == "__main__":
    main()
