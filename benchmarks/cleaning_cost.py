"""Seconds and memory of `veduta clean` over the number of photos, for `benchmarks.cleaning`."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.fake_encoder import FakeEncoder, unit_rows
from benchmarks.photo_sets import JPEG_QUALITY, SOURCE_FOLDERS, small, synthetic_photo
from benchmarks.processes import process_memory, run_child
from benchmarks.report import check_target, format_number, table
from veduta.curate.class_findings import judge_classes
from veduta.curate.class_members import class_members
from veduta.curate.cleaning import clean
from veduta.curate.copies import _candidates, copies_among
from veduta.curate.described_photos import DescribedPhotos, describe_photos
from veduta.curate.findings import KINDS
from veduta.datasets import read_dataset
from veduta.keypoints import Keypoints
from veduta.processor_cores import processor_cores

KINDS_WITHOUT_ENCODER = tuple(
    kind for kind in KINDS if kind not in ("near-copy", "off-topic", "mislabelled", "unlike")
)
DIMENSION = 1280 * 2
CLASS_COUNT = 30
CLUSTER_PHOTOS = 12
TILES_A_SIDE = 3
MAX_GROWTH = 1.5  # Of the time a photo.

Figures = dict[str, dict[str, float]]
"""Step of cleaning → seconds, peak memory in bytes, and more."""


def cost_table(work: Path, sizes: Sequence[int]) -> str:
    """Measure every step on collections of these sizes."""
    rows = []
    smallest: dict[str, float] = {}
    candidates = []
    # The encoder counts its photos. Each size adds photos to those of the size before.
    encoder = _ClusterEncoder(DIMENSION)
    shutil.rmtree(_index_of_tiles(work), ignore_errors=True)
    try:
        for photos in sorted(sizes):
            folder = _class_folders(work, photos)
            try:
                figures: Figures = run_child("cleaning", "--child", "steps", folder, photos)
            finally:
                shutil.rmtree(folder)
            _describe_tiles(work, photos, encoder)
            figures |= run_child("cleaning", "--child", "comparing", work, photos)
            for step in ("looking", "indexing", "comparing", "judging labels"):
                seconds, peak = figures[step]["seconds"], figures[step]["peak"]
                milliseconds = 1000 * seconds / photos
                smallest.setdefault(step, milliseconds)
                growth = round(milliseconds / smallest[step], 2)
                has_target = photos > min(sizes) and step != "indexing"
                rows.append(
                    [
                        f"{photos:,}: {step}",
                        format_number(seconds),
                        format_number(milliseconds),
                        format_number(peak / 1e6),
                        check_target(growth, MAX_GROWTH, at_least=False) if has_target else "",
                    ]
                )
            count = format_number(figures["comparing"]["candidates"])
            candidates.append(f"{count} (of {photos:,} photos)")
    finally:
        shutil.rmtree(_index_of_tiles(work), ignore_errors=True)
    return table(["photos", "seconds", "ms a photo", "peak, MB", "near-linear"], rows) + (
        "\n\n“Looking” is every finding that needs no encoder, exact copies included. “Indexing” "
        "reads the photos into the cache, with a fake encoder and without keypoints; the section "
        "on indexing has what these cost. “Comparing” finds the near-copies among described "
        "photos. These are ninths of real photos, which do not overlap, with XFeat's keypoints and "
        "synthetic descriptors. The candidates that it compares with each photo, straight and "
        f"mirrored: {', '.join(candidates)}. landmarks30 has 5.9, and no collection has more than "
        "12 by descriptor. “Judging labels” looks for mislabelled and off-topic photos, on "
        f"descriptors of {DIMENSION} dimensions and {CLASS_COUNT} classes. “Near-linear” means: at "
        f"most {MAX_GROWTH:g} × the time a photo of the smallest run. “Peak” is the resident "
        "memory of the process."
    )


def measure_here(task: str, folder: Path, photos: int) -> Figures:
    """Run one task of `cost_table` in this process."""
    return _compare_tiles(folder, photos) if task == "comparing" else _clean_steps(folder, photos)


def _class_folders(work: Path, photos: int) -> Path:
    """Make class folders from a few hundred photos, each again and again with other last bytes."""
    originals = sorted(small(work, 300, 640).glob("*.jpg"))
    folder = work / f"to-clean-{photos}"
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(photos):
        file = folder / f"class{number % CLASS_COUNT}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = originals[number % len(originals)].read_bytes()
        file.write_bytes(content + number.to_bytes(8, "big"))
    return folder


def _clean_steps(folder: Path, photos: int) -> Figures:
    """Clean a folder step by step, all but the comparison of photos."""
    figures: Figures = {}

    def timed(step: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - started
        figures[step] = {"seconds": seconds, "peak": process_memory("VmHWM")}
        return result

    timed("looking", lambda: clean(folder, only=KINDS_WITHOUT_ENCODER))
    dataset = read_dataset(folder, every_photo=True)
    encoder: Any = _RandomEncoder(DIMENSION)
    extractor: Any = _NoKeypoints()
    cache = folder.with_name(folder.name + "-cache")
    try:
        described = timed(
            "indexing",
            lambda: describe_photos(
                dataset.files, folder=cache, encoder=encoder, extractor=extractor
            ),
        )

        def judge_labels() -> None:
            no_copies = np.full(photos, -1)
            members = class_members(described.snapshot, described.rows, dataset.labels, no_copies)
            judge_classes(members, described.index)

        timed("judging labels", judge_labels)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return figures


def _compare_tiles(work: Path, photos: int) -> Figures:
    """Find the copies among the tiles, which are already described."""
    described = _describe_tiles(work, photos, _ClusterEncoder(DIMENSION))
    started = time.perf_counter()
    copies_among(described)
    seconds, peak = time.perf_counter() - started, process_memory("VmHWM")
    candidates = len(_candidates(described, described.rows)) / photos
    return {"comparing": {"seconds": seconds, "peak": peak, "candidates": candidates}}


def _index_of_tiles(work: Path) -> Path:
    return work / "to-compare-index"


def _describe_tiles(work: Path, photos: int, encoder: Any) -> DescribedPhotos:
    return describe_photos(_tiles(work, photos), folder=_index_of_tiles(work), encoder=encoder)


def _tiles(work: Path, photos: int) -> list[Path]:
    """Return photos that are no copies of each other. Those of a dozen are mostly of one place.

    Each is a ninth of a photo, in a size and colours of its own. First come the upper left ninths
    of a dozen photos, then the next ninths of the same dozen, and so on. The files are kept for the
    next run. A larger collection contains a smaller one.
    """
    folder = work / "to-compare"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:06}.jpg" for number in range(photos)]
    block = CLUSTER_PHOTOS * TILES_A_SIDE**2
    needed = CLUSTER_PHOTOS * -(-photos // block)
    originals = _mixed_originals()
    if originals and len(originals) < needed:
        raise SystemExit(f"{len(originals)} photos are too few for {photos} parts")

    def cut(number: int) -> None:
        first = number // CLUSTER_PHOTOS * block + number % CLUSTER_PHOTOS
        tiles = files[first : first // block * block + block : CLUSTER_PHOTOS]
        if all(file.exists() for file in tiles):
            return
        if originals:
            photo = Image.open(originals[number]).convert("RGB")
        else:
            photo = synthetic_photo(number)
        rng = np.random.default_rng(number)
        for position, file in enumerate(tiles):
            row, column = divmod(position, TILES_A_SIDE)
            left, top, right, bottom = rng.uniform(0, 0.04, 4)
            box = (
                (column + left) * photo.width / TILES_A_SIDE,
                (row + top) * photo.height / TILES_A_SIDE,
                (column + 1 - right) * photo.width / TILES_A_SIDE,
                (row + 1 - bottom) * photo.height / TILES_A_SIDE,
            )
            scale = rng.uniform(480, 640) / max(box[2] - box[0], box[3] - box[1])
            size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
            tile = photo.resize(size, Image.Resampling.BICUBIC, box=box)
            tile = ImageEnhance.Brightness(tile).enhance(rng.uniform(0.85, 1.15))
            tile = ImageEnhance.Color(tile).enhance(rng.uniform(0.7, 1.3))
            draft = file.with_suffix(".part")
            tile.save(draft, "JPEG", quality=JPEG_QUALITY)
            draft.replace(file)

    with ThreadPoolExecutor(processor_cores()) as pool:
        list(pool.map(cut, range(needed)))
    return files


def _mixed_originals() -> list[Path]:
    """Return the photos of landmarks30, place by place, with the distractors evenly in between."""
    files = sorted(SOURCE_FOLDERS[0].rglob("*.jpg"))
    distractors = [file for file in files if file.parent.name == "_distractors"]
    places = [file for file in files if file.parent.name != "_distractors"]
    relative_position = {
        file: (position + 0.5) / len(group)
        for group in (places, distractors)
        for position, file in enumerate(group)
    }
    return sorted(files, key=lambda file: relative_position[file])


class _NoKeypoints:
    name, identity, long_side, count = "none", "f" * 16, 64, 0

    def extract(self, _pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        no_positions = np.empty((0, 2), np.float32)
        return Keypoints(no_positions, np.empty((0, 64), np.int8), width, height)


class _RandomEncoder(FakeEncoder):
    """Gives each photo another random descriptor."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._seeds = itertools.count(1)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        rows = [
            np.random.default_rng(next(self._seeds))
            .standard_normal(self.dimension)
            .astype(np.float32)
            for _ in prepared
        ]
        return unit_rows(np.stack(rows))


class _ClusterEncoder(FakeEncoder):
    """Gives similar descriptors to each dozen photos that follow each other.

    A photo then has five or six candidates, as in landmarks30, in a collection of any size.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._numbers = itertools.count()

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        rows = []
        for _ in prepared:
            number = next(self._numbers)
            cluster = number // CLUSTER_PHOTOS
            centre = np.random.default_rng([0, cluster]).standard_normal(self.dimension)
            difference = np.random.default_rng([1, number]).standard_normal(self.dimension)
            rows.append(centre + 0.9 * difference)
        return unit_rows(np.stack(rows).astype(np.float32))
