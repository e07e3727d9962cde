"""What shards and their merge cost: time, bytes, memory, open files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.costs_of_photos import MeasuredPhotos
from benchmarks.fake_encoder import FakeEncoder
from benchmarks.generated_index import generated_rows
from benchmarks.processes import ROOT, folder_bytes, peak_bytes
from veduta import photos
from veduta.encoders import DEFAULT, load_encoder
from veduta.index import (
    Manifest,
    create_index,
    keypoint_files,
    merging,
    open_snapshot,
    update_index,
    updating,
)
from veduta.index.keypoint_files import KeypointWriter
from veduta.index.merge_parts import open_parts
from veduta.index.merge_plan import plan_merge
from veduta.index.shards import MAX_SHARDS, Shard
from veduta.index.snapshot import build_snapshot
from veduta.index.table import open_table, writer_lock
from veduta.keypoints import load_extractor

__all__ = ["Figures", "merge", "shards"]

Figures = dict[str, list[float]]
"""Name of a cost → its measurements."""

_COMMIT_ROWS = 512
_FILES = 20_000
_FILE_BYTES = 60_000
_PATH = b"/photos/of/a/collection/%04d/%09d.jpg"
"""Of a photo, because merges keep the paths of all."""


def shards(work: Path, some: Sequence[Path], rounds: int) -> Figures:
    """Start `veduta index --shard` with two photos, and list the files of other shards."""
    figures: Figures = defaultdict(list)
    folder, index = work / "shard-photos", work / "shard-index"
    for each in (folder, index):
        shutil.rmtree(each, ignore_errors=True)
    folder.mkdir()
    for photo in some[:2]:
        shutil.copy(photo, folder)
    for _ in range(rounds):
        command = [sys.executable, "-m", "veduta", "index", str(folder), "--shard", "1/1"]
        started = time.perf_counter()
        subprocess.run([*command, "--index", str(index)], cwd=ROOT, check=True, capture_output=True)
        figures["start a shard, s"].append(time.perf_counter() - started)
        shutil.rmtree(index)
    seconds = []
    for files in (_FILES // 4, _FILES):
        shutil.rmtree(folder)
        for number in range(files):
            file = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        of_size = []
        for _ in range(rounds):
            encoder = FakeEncoder(64)
            create_index(index, encoder)
            started = time.perf_counter()
            update_index(index, [folder], encoder, shard=Shard(MAX_SHARDS, MAX_SHARDS))
            of_size.append(time.perf_counter() - started)
            shutil.rmtree(index)
        seconds.append(of_size)
    figures["list a file of another shard, µs"] = [
        (large - small) / (_FILES - _FILES // 4) * 1e6
        for small, large in zip(*seconds, strict=True)
    ]
    shutil.rmtree(folder)
    return figures


def merge(
    work: Path, measured: MeasuredPhotos, rows: NDArray[np.float16], parts: int, rounds: int
) -> Figures:
    """Write parts of an index as shards do, with thumbnails and keypoints, and merge them."""
    figures: Figures = defaultdict(list)
    folders = [work / f"merge-part-{number}" for number in range(parts)]
    whole = work / "merge-whole"
    for each in (*folders, whole):
        shutil.rmtree(each, ignore_errors=True)
    for folder, places in zip(folders, np.array_split(np.arange(len(rows)), parts), strict=True):
        _write_part(folder, measured, rows, places, figures)
    for _ in range(rounds):
        with ExitStack() as opening:
            started = time.perf_counter()
            opened = list(open_parts(opening, folders))
            figures["open a part, ms"].append((time.perf_counter() - started) / parts * 1e3)
            tables = [part.table for part in opened]
            started = time.perf_counter()
            plan_merge(tables, into_first=False, labels={}, removed=set())
            microseconds = (time.perf_counter() - started) / len(rows) * 1e6
            figures["merge: choose a row, µs"].append(microseconds)
            plan_bytes = peak_bytes(
                lambda tables=tables: plan_merge(tables, into_first=False, labels={}, removed=set())
            )
        shutil.rmtree(whole, ignore_errors=True)
        before, most = _open_files(), [0]

        def watch(_stage: str, _done: int, _total: int, most: list[int] = most) -> None:
            most[0] = max(most[0], _open_files())

        started = time.perf_counter()
        with mock.patch.object(merging, "link_photos", return_value=True):
            merging.merge_indexes(folders, whole, on_progress=watch)
        figures["merge, ms"].append((time.perf_counter() - started) / len(rows) * 1e3)
        figures["files that an open part holds open"].append((most[0] - before) / parts)
        with writer_lock(whole):
            manifest, table = Manifest.read(whole), open_table(whole)
            started = time.perf_counter()
            build_snapshot(whole, manifest, table)
            figures["snapshot, ms"].append((time.perf_counter() - started) / len(rows) * 1e3)
    # Files of an earlier round that are not closed yet make the difference too small.
    held = "files that an open part holds open"
    figures[held] = [max(figures[held])]
    figures["memory: merge, bytes"].append(plan_bytes / len(rows))
    figures["merge, kB written"].append(folder_bytes(whole) / len(rows) / 1e3)
    figures["part, kB"].append(sum(map(folder_bytes, folders)) / len(rows) / 1e3)
    snapshot = open_snapshot(whole)
    report = updating.UpdateReport()
    lists = peak_bytes(
        lambda: updating._Update(table, snapshot, describe=None, report=report, on_progress=None)  # type: ignore[arg-type]
    )
    figures["memory: update, bytes"].append(lists / len(rows))
    figures["list a keypoint file, µs"].append(_seconds_to_list_a_keypoint_file(whole) * 1e6)
    for each in (*folders, whole):
        shutil.rmtree(each)
    return figures


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _write_part(
    folder: Path,
    measured: MeasuredPhotos,
    rows: NDArray[np.float16],
    places: NDArray[np.intp],
    figures: Figures,
) -> None:
    create_index(folder, load_encoder(DEFAULT), load_extractor())
    table, keypoints = open_table(folder), KeypointWriter(folder)
    for start in range(0, len(places), _COMMIT_ROWS):
        some = places[start : start + _COMMIT_ROWS]
        of_photos = [int(place) % len(measured.packed) for place in some]
        started = time.perf_counter()
        stored = keypoints.append([measured.packed[each] for each in of_photos])
        others = {
            "path": pa.array([_PATH % (i // 1000, i) for i in some], pa.binary()),
            "size": pa.array([_FILE_BYTES] * len(some), pa.int64()),
            "mtime_ns": pa.array([time.time_ns()] * len(some), pa.int64()),
            "format": pa.array(["JPEG"] * len(some)),
            "perceptual_hash": pa.array(some.astype(np.uint64)),
            # The number makes them differ, so that equal ones are not stored once.
            "thumbnail": pa.array(
                [
                    measured.thumbnails[each] + int(place).to_bytes(8, "big")
                    for each, place in zip(of_photos, some, strict=True)
                ],
                pa.binary(),
            ),
            **{
                name: pa.array([place[at] for place in stored])
                for at, name in enumerate(keypoint_files.COLUMNS)
            },
        }
        schema = table.dataset.schema
        table.append(generated_rows(rows[some], int(some[0]), schema, others))
        seconds = time.perf_counter() - started
        figures["commit, ms"].append(seconds / len(some) * 1e3)
    # A merge takes only parts whose run came to its end.
    replace(Manifest.read(folder), decoders=photos.decoders()).write(folder)


def _seconds_to_list_a_keypoint_file(index: Path) -> float:
    """Each writer of keypoints lists those that are there, to find its number."""
    files = 2000
    for number in range(1000, 1000 + files):
        keypoint_files.file_path(index, number).touch()
    started = time.perf_counter()
    for _ in range(5):
        KeypointWriter(index)
    return (time.perf_counter() - started) / 5 / files
