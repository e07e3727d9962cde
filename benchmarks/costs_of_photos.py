"""What one photo costs on its way into an index: processor time of each step, and bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import folder_bytes
from veduta import api, photos
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import PhotoError
from veduta.index import Manifest, open_snapshot
from veduta.index.columns import EncodedPhoto, photo_values
from veduta.index.graph import FOLDER as GRAPH
from veduta.index.graph import LINK_KEYPOINTS, linked_pairs
from veduta.index.keypoint_files import FOLDER as KEYPOINTS
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.snapshot import SNAPSHOT_FOLDER as SNAPSHOT
from veduta.index.table import TABLE_FOLDER
from veduta.keypoints import Keypoints, load_extractor, verify
from veduta.processor_cores import processor_cores

__all__ = ["ALL_STEPS", "STEPS", "MeasuredPhotos", "measure_photos", "size_of_parts", "verify_some"]

STEPS = ("read and hash", "decode", "descriptor", "keypoints", "row and thumbnail")
ALL_STEPS = "all of these"
PACK_16_BYTES = "pack keypoints in 16 bytes"


@dataclass(frozen=True, slots=True)
class MeasuredPhotos:
    """The costs of n photos.

    Attributes:
        milliseconds: step → n figures, processor time of one core while all cores are busy.
        kilobytes: part → n figures.
        thumbnails: of each photo.
        packed: the keypoints of each photo, as they are stored.
    """

    milliseconds: dict[str, list[float]]
    kilobytes: dict[str, list[float]]
    thumbnails: list[bytes]
    packed: list[bytes]


def measure_photos(paths: Sequence[Path]) -> MeasuredPhotos:
    """Take photos from their file to what an index stores, on all cores.

    Args:
        paths: of the photos. Files that give no photo are passed over.
    """
    encoder, extractor = load_encoder(DEFAULT), load_extractor()

    def measure(path: Path) -> tuple[dict[str, float], dict[str, bytes]] | None:
        seconds: dict[str, float] = {}

        def timed(name: str, call: Callable[[], Any]) -> Any:
            started = time.thread_time()
            result = call()
            seconds[name] = time.thread_time() - started
            return result

        def read() -> tuple[bytes, bytes]:
            data = photos.read_bytes(path)
            return data, photos.content_hash(data)

        long_side = max(encoder.long_side, extractor.long_side)
        data, content = timed(STEPS[0], read)
        try:
            photo = timed(STEPS[1], lambda: photos.decode(data, path=path, at_least=long_side))
        except PhotoError:
            return None
        descriptor = timed(
            STEPS[2],
            lambda: encoder.encode([encoder.prepare(photo.pixels)])[0].astype(np.float16),
        )

        def find() -> tuple[Keypoints, bytes]:
            found = extractor.extract(photo.pixels, photo.width, photo.height)
            return found, found.pack(extractor.stored_bits)

        found, packed = timed(STEPS[3], find)
        row = timed(STEPS[4], lambda: photo_values(EncodedPhoto(content, photo, descriptor)))
        small = timed(PACK_16_BYTES, lambda: found.pack(2))
        return seconds, {
            "file": data,
            "thumbnail": row["thumbnail"],
            "keypoints": packed,
            "keypoints in 16 bytes": small,
        }

    measure(paths[0])  # The first photo also loads the networks.
    with ThreadPoolExecutor(processor_cores()) as threads:
        measured = [one for one in threads.map(measure, paths) if one is not None]
    milliseconds = {
        name: [seconds[name] * 1e3 for seconds, _ in measured] for name in (*STEPS, PACK_16_BYTES)
    }
    milliseconds[ALL_STEPS] = [
        sum(seconds[name] for name in STEPS) * 1e3 for seconds, _ in measured
    ]
    return MeasuredPhotos(
        milliseconds,
        {name: [len(kept[name]) / 1e3 for _, kept in measured] for name in measured[0][1]},
        [kept["thumbnail"] for _, kept in measured],
        [kept["keypoints"] for _, kept in measured],
    )


def size_of_parts(index: Path, folder: Path) -> tuple[dict[str, float], float]:
    """Index a folder.

    Args:
        index: where.
        folder: of photos.

    Returns:
        Part of the index → bytes a photo, and the processor time of a photo in milliseconds, with
        its links.
    """
    made = api.open_or_create(index)
    started = time.process_time()
    report = made.add(folder)
    seconds = time.process_time() - started
    parts = (TABLE_FOLDER, KEYPOINTS, SNAPSHOT, GRAPH)
    sizes = {part: folder_bytes(index / part) / report.total for part in parts}
    return sizes, seconds / report.total * 1e3


def verify_some(index: Path, number: int) -> tuple[list[float], float]:
    """Verify linked pairs of an index again.

    Args:
        index: whose photos are linked.
        number: of pairs, spread over all.

    Returns:
        Milliseconds of processor time of each pair, and the number of pairs for each photo.
    """
    manifest, snapshot = Manifest.read(index), open_snapshot(index)
    pairs, extractor = linked_pairs(index, manifest, snapshot), extractor_of_index(manifest)
    assert pairs is not None and extractor is not None
    stored = StoredKeypoints(index, snapshot)
    rows = pairs.photos.row_of_photo
    chosen = np.linspace(0, len(pairs.first) - 1, number).astype(int)

    def verified(pair: int) -> float:
        started = time.thread_time()
        first, second = (
            stored.read(int(rows[side[pair]])).best(LINK_KEYPOINTS)
            for side in (pairs.first, pairs.second)
        )
        verify(first, second, extractor.matching.pairs(first, second))
        return (time.thread_time() - started) * 1e3

    with ThreadPoolExecutor(processor_cores()) as threads:
        milliseconds = list(threads.map(verified, chosen.tolist()))
    return milliseconds, len(pairs.first) / len(rows)
