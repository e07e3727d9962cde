"""Photos indexed a second, against what one would write with PyTorch and FAISS.

Both sides take the same folder of JPEGs from files to a searchable index, in turns; Veduta into a
fresh index on disk each time, the peer into memory. In the same rounds the two halves of Veduta's
work run alone on the same worker threads: reading and decoding with all that hangs on it, and the
network on photos that are ready. `veduta index` also finds keypoints and verifies the links of the
neighbour graph, to which the peer has no counterpart: that is measured beside.
"""

from __future__ import annotations

import os
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
from benchmarks.report import Spread, number, parser, publish, ratios, table, verdict
from veduta import photos
from veduta.encoders import Encoder, load_encoder
from veduta.index import create_index, open_snapshot, update_index
from veduta.keypoints import Extractor, load_extractor

TARGETS = {"12 megapixels": 3.0, "640 pixels": 2.0}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TURN_BY_TURN, SIDE_BY_SIDE = "PyTorch, turn by turn", "PyTorch, DataLoader"
WITH_KEYPOINTS = "with keypoints, photos/s"
SETTLE = 0.1  # seconds after which the threads of the one before no longer spin


def main(arguments: list[str] | None = None) -> None:
    options = parser("indexing", str(__doc__).splitlines()[0])
    options.add_argument("--encoders", nargs="+", default=["accurate", "fast"])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--large", type=int, default=24, help="photos of 12 megapixels")
    options.add_argument("--small", type=int, default=72, help="photos of 640 pixels")
    chosen = options.parse_args(arguments)

    sets = {
        "12 megapixels": photo_sets.twelve_megapixels(chosen.work, chosen.large),
        "640 pixels": photo_sets.small(chosen.work, chosen.small, 640),
    }
    rates, limits, wholes, agreement = [], [], [], []
    for name in chosen.encoders:
        encoder = load_encoder(name)
        with Peer(encoder) as peer:
            for kind, folder in sets.items():
                seconds, cosines = measure(encoder, peer, folder, chosen.work, chosen.rounds)
                count = len(list(folder.iterdir()))
                rates.append(rate_row(name, kind, count, seconds))
                limits.append(limit_row(name, kind, count, seconds))
                wholes.append(whole_row(name, kind, count, seconds))
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
                    SIDE_BY_SIDE,
                    "ratio to turn by turn",
                    "ratio to DataLoader",
                    "target, both",
                ],
                rates,
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
                limits,
            ),
            f"{CORES} worker threads. The share is that of the slower half alone. Both halves need "
            "the same cores, so the most that any schedule can reach is 1 / (1 / decode + 1 / "
            "network): the last column is the share of that.",
            table(
                ["encoder, photos", "descriptors only, photos/s", WITH_KEYPOINTS, "times as long"],
                wholes,
            ),
            "With keypoints is what `veduta index` does unless told otherwise: XFeat keypoints, "
            "links of the neighbour graph verified by geometry.",
            "Cosine between the descriptors of both sides: " + "; ".join(agreement) + ".",
        ]
    )
    publish("indexing", body, chosen.docs)


def measure(
    encoder: Encoder, peer: Peer, folder: Path, work: Path, rounds: int
) -> tuple[dict[str, list[float]], NDArray[np.float32]]:
    """Return seconds of each contender in each round, and the cosines of both sides' rows."""
    paths = sorted(folder.iterdir())
    built = work / "index"
    saved = work / "peer.npy"
    prepared = [encoder.prepare(_decoded(path, encoder).pixels) for path in paths]

    def alone(job: Callable[[int], object]) -> float:
        with ThreadPoolExecutor(CORES) as pool:
            started = time.perf_counter()
            list(pool.map(job, range(len(paths))))
            return time.perf_counter() - started

    extractor = load_extractor()
    contenders: dict[str, Callable[[], float]] = {
        WITH_KEYPOINTS: lambda: index_with_veduta(encoder, folder, built, extractor),
        "veduta": lambda: index_with_veduta(encoder, folder, built),
        TURN_BY_TURN: lambda: peer.seconds(paths, save=saved),
        SIDE_BY_SIDE: lambda: peer.seconds(paths, workers=CORES),
        "decode": lambda: alone(lambda i: everything_but_the_network(paths[i], encoder)),
        "network": lambda: alone(lambda i: encoder.encode([prepared[i]])),
    }
    index_with_veduta(encoder, folder, built)
    ours = open_snapshot(built).descriptors.astype(np.float32)
    peer.seconds(paths[:16])
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(SETTLE)
            seconds[name].append(contenders[name]())
    cosines = np.einsum("nd,nd->n", ours, np.load(saved))
    shutil.rmtree(built)
    saved.unlink()
    return seconds, cosines


def index_with_veduta(
    encoder: Encoder, folder: Path, built: Path, extractor: Extractor | None = None
) -> float:
    """Index `folder` into a fresh index and return how long that took."""
    shutil.rmtree(built, ignore_errors=True)
    started = time.perf_counter()
    create_index(built, encoder, extractor)
    report = update_index(built, [folder], encoder, extractor)
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


def _decoded(path: Path, encoder: Encoder) -> photos.Photo:
    return photos.load(path, at_least=encoder.long_side)


def rate_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    slower = [ratios(seconds[peer], seconds["veduta"]) for peer in (TURN_BY_TURN, SIDE_BY_SIDE)]
    worst = min(ratio.median for ratio in slower)
    return [
        f"{name}, {kind}",
        *(_rate(count, seconds[who]) for who in ("veduta", TURN_BY_TURN, SIDE_BY_SIDE)),
        *(f"{ratio} ×" for ratio in slower),
        verdict(worst, TARGETS[kind], at_least=True),
    ]


def limit_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    pairs = list(zip(seconds["decode"], seconds["network"], strict=True))
    share = ratios([max(pair) for pair in pairs], seconds["veduta"])
    bound = ratios([sum(pair) for pair in pairs], seconds["veduta"])
    return [
        f"{name}, {kind}",
        _rate(count, seconds["decode"]),
        _rate(count, seconds["network"]),
        share,
        verdict(share.median, 0.85, at_least=True),
        bound,
    ]


def whole_row(name: str, kind: str, count: int, seconds: dict[str, list[float]]) -> list[object]:
    return [
        f"{name}, {kind}",
        _rate(count, seconds["veduta"]),
        _rate(count, seconds[WITH_KEYPOINTS]),
        f"{ratios(seconds[WITH_KEYPOINTS], seconds['veduta'])} ×",
    ]


def _rate(count: int, seconds: list[float]) -> str:
    return number(Spread.of([count / s for s in seconds]).median)


if __name__ == "__main__":
    main()
