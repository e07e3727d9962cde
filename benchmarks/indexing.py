"""Photos indexed a second, by Veduta and by a program with PyTorch and FAISS.

Both turn the same folder of JPEGs into a searchable index, in turns: Veduta into a fresh index on
disk each time, the peer into memory. In the same rounds the two halves of Veduta's work run alone
on the same worker threads: everything but the network, and the network on prepared photos.
`veduta index` also finds keypoints and verifies the links of the neighbour graph. The peer does
neither, so that is measured separately.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import photo_sets
from benchmarks.peers.process import Peer
from benchmarks.report import (
    MedianAndRange,
    check_target,
    format_number,
    parser,
    publish,
    ratios,
    rotated,
    table,
)
from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.index import create_index, open_snapshot, update_index
from veduta.keypoints import Extractor, load_extractor
from veduta.processor_cores import processor_cores

MIN_SPEED_RATIOS = {"12 megapixels": 3.0, "640 pixels": 2.0}
MIN_SHARE_OF_SLOWER_HALF = 0.85
TURN_BY_TURN, DATA_LOADER = "PyTorch, turn by turn", "PyTorch, DataLoader"
WITH_KEYPOINTS = "with keypoints, photos/s"
# After this time the threads of the contender before no longer spin.
PAUSE_SECONDS = 0.1


def main(arguments: list[str] | None = None) -> None:
    options = parser("indexing", __doc__)
    options.add_argument("--encoders", nargs="+", default=["accurate", "fast"])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--large", type=int, default=24, help="photos of 12 megapixels")
    options.add_argument("--small", type=int, default=72, help="photos of 640 pixels")
    chosen = options.parse_args(arguments)

    sets = {
        "12 megapixels": photo_sets.twelve_megapixels(chosen.work, chosen.large),
        "640 pixels": photo_sets.small(chosen.work, chosen.small, 640),
    }
    rate_rows, limit_rows, keypoint_rows, agreement = [], [], [], []
    for name in chosen.encoders:
        encoder = load_encoder(name)
        with Peer(encoder) as peer:
            for kind, folder in sets.items():
                seconds, cosines = measure(encoder, peer, folder, chosen.work, chosen.rounds)
                count = len(list(folder.iterdir()))
                rate_rows.append(rate_row(name, kind, count, seconds))
                limit_rows.append(limit_row(name, kind, count, seconds))
                keypoint_rows.append(keypoint_row(name, kind, count, seconds))
                agreement.append(
                    f"{name}, {kind}: {cosines.min():.4f} at least, {np.median(cosines):.4f} median"
                )
    body = "\n\n".join(
        [
            table(
                [
                    "encoder, photos",
                    "Veduta, photos/s",
                    TURN_BY_TURN,
                    DATA_LOADER,
                    "ratio to turn by turn",
                    "ratio to DataLoader",
                    "target, both",
                ],
                rate_rows,
            ),
            table(
                [
                    "encoder, photos",
                    "decode alone, photos/s",
                    "network alone",
                    "share of the slower",
                    "target",
                    "share of what the cores allow",
                ],
                limit_rows,
            ),
            f"{processor_cores()} worker threads. The share is relative to the slower half alone. "
            "Both halves need the same cores, so no schedule can be faster than 1 / (1 / decode + "
            "1 / network). The last column is the share of that rate.",
            table(
                ["encoder, photos", "descriptors only, photos/s", WITH_KEYPOINTS, "times as long"],
                keypoint_rows,
            ),
            "With keypoints is the default of `veduta index`: it finds XFeat keypoints and "
            "verifies the links of the neighbour graph by geometry.",
            "Cosine between the descriptors of both sides: " + "; ".join(agreement) + ".",
        ]
    )
    publish("indexing", body, chosen.docs)


def measure(
    encoder: Encoder, peer: Peer, folder: Path, work: Path, rounds: int
) -> tuple[dict[str, list[float]], NDArray[np.float32]]:
    """Return the seconds of each contender in each round, and the cosines of both sides' rows."""
    paths = sorted(folder.iterdir())
    index = work / "index"
    peer_descriptors = work / "peer.npy"
    prepared = [
        encoder.prepare(photos.load(path, at_least=encoder.long_side).pixels) for path in paths
    ]

    def on_all_threads(job: Callable[[int], object]) -> float:
        with ThreadPoolExecutor(processor_cores()) as pool:
            started = time.perf_counter()
            list(pool.map(job, range(len(paths))))
            return time.perf_counter() - started

    extractor = load_extractor()
    contenders: dict[str, Callable[[], float]] = {
        WITH_KEYPOINTS: lambda: index_with_veduta(encoder, folder, index, extractor),
        "veduta": lambda: index_with_veduta(encoder, folder, index),
        TURN_BY_TURN: lambda: peer.seconds(paths, save=peer_descriptors),
        DATA_LOADER: lambda: peer.seconds(paths, workers=processor_cores()),
        "decode": lambda: on_all_threads(
            lambda position: everything_but_the_network(paths[position], encoder)
        ),
        "network": lambda: on_all_threads(lambda position: encoder.encode([prepared[position]])),
    }
    index_with_veduta(encoder, folder, index)
    our_descriptors = open_snapshot(index).descriptors.astype(np.float32)
    peer.seconds(paths[:16])
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        for name in rotated(list(contenders), turn):
            time.sleep(PAUSE_SECONDS)
            seconds[name].append(contenders[name]())
    cosines = np.einsum("nd,nd->n", our_descriptors, np.load(peer_descriptors))
    shutil.rmtree(index)
    peer_descriptors.unlink()
    return seconds, cosines


def index_with_veduta(
    encoder: Encoder, folder: Path, index: Path, extractor: Extractor | None = None
) -> float:
    """Index `folder` into a fresh index and return the seconds."""
    shutil.rmtree(index, ignore_errors=True)
    started = time.perf_counter()
    create_index(index, encoder, extractor)
    report = update_index(index, [folder], encoder, extractor)
    seconds = time.perf_counter() - started
    if report.unreadable or report.encoded != report.total:
        raise RuntimeError(f"not all photos were indexed: {report}")
    return seconds


def everything_but_the_network(path: Path, encoder: Encoder) -> None:
    data = photos.read_bytes(path)
    photos.content_hash(data)
    photo = photos.decode(data, path=path, at_least=encoder.long_side)
    encoder.prepare(photo.pixels)
    photos.perceptual_hash(photo.pixels)
    photos.thumbnail(photo.pixels)


def rate_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    peer_ratios = [ratios(seconds[peer], seconds["veduta"]) for peer in (TURN_BY_TURN, DATA_LOADER)]
    smallest_ratio = min(ratio.median for ratio in peer_ratios)
    return [
        f"{name}, {kind}",
        *(_rate(count, seconds[who]) for who in ("veduta", TURN_BY_TURN, DATA_LOADER)),
        *(f"{ratio} ×" for ratio in peer_ratios),
        check_target(smallest_ratio, MIN_SPEED_RATIOS[kind], at_least=True),
    ]


def limit_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    halves = list(zip(seconds["decode"], seconds["network"], strict=True))
    share = ratios([max(pair) for pair in halves], seconds["veduta"])
    share_of_bound = ratios([sum(pair) for pair in halves], seconds["veduta"])
    return [
        f"{name}, {kind}",
        _rate(count, seconds["decode"]),
        _rate(count, seconds["network"]),
        share,
        check_target(share.median, MIN_SHARE_OF_SLOWER_HALF, at_least=True),
        share_of_bound,
    ]


def keypoint_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    return [
        f"{name}, {kind}",
        _rate(count, seconds["veduta"]),
        _rate(count, seconds[WITH_KEYPOINTS]),
        f"{ratios(seconds[WITH_KEYPOINTS], seconds['veduta'])} ×",
    ]


def _rate(count: int, seconds: list[float]) -> str:
    return format_number(MedianAndRange.of([count / s for s in seconds]).median)


if __name__ == "__main__":
    main()
