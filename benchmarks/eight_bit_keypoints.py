"""XFeat in eight bits beside 32: keypoints, time, and what verification makes of them.

    python -m benchmarks.eight_bit_keypoints --data ../shared/data

Queries of each set are paired with the gallery photos that are nearest by descriptor. Each pair is
verified with the keypoints of both networks. Times are processor time on one thread, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.avx2_only import can_hide, keypoints
from benchmarks.labelled_sets import add_data_option, present_sets
from benchmarks.report import format_number, parser, publish, table
from benchmarks.verification import Pair, candidate_pairs, rows_of
from veduta import photos
from veduta.keypoints import Keypoints, verify
from veduta.keypoints.xfeat import LONG_SIDE, XFeat, XFeatIn32Bits
from veduta.photos import Photo

MEASURED_SETS = ("landmarks30", "same_place", "scenes")
VERSIONS = (XFeatIn32Bits, XFeat)
COUNT = 512


@dataclass(slots=True)
class Measured:
    """What was measured on one set, with each of `VERSIONS` in turn.

    Attributes:
        same: share of the keypoints of 32 bits that have the same place in 8, of each photo.
        cosines: of their descriptors.
        milliseconds: of each photo, by version.
        consistent: consistent matches of each pair, by version.
        verified: whether each pair is verified, by version.
        right: whether each pair is right.
    """

    same: list[float] = field(default_factory=list)
    cosines: list[NDArray[np.float64]] = field(default_factory=list)
    milliseconds: tuple[list[float], ...] = field(default_factory=lambda: ([], []))
    consistent: tuple[NDArray[np.intp], ...] = ()
    verified: tuple[NDArray[np.bool_], ...] = ()
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("eight_bit_keypoints", __doc__)
    add_data_option(options)
    options.add_argument("--queries", type=int, default=40, help="of each set, at most")
    options.add_argument("--nearest", type=int, default=20, help="gallery photos a query")
    options.add_argument("--photos", type=int, default=8, help="of each set, for other processors")
    options.add_argument("--sets", nargs="+", choices=MEASURED_SETS, default=MEASURED_SETS)
    chosen = options.parse_args(arguments)
    extractors = [version.load(COUNT, 1) for version in VERSIONS]
    keypoint_lines, pair_lines, sample = [], [], []
    for name in present_sets(options, chosen.data, chosen.sets):
        paths, pairs = candidate_pairs(chosen.data / name, chosen.queries, chosen.nearest)
        measured = measure(paths, pairs, extractors)
        keypoint_lines.append(keypoint_line(name, measured))
        pair_lines += pair_line_of(name, measured)
        sample += [paths[row] for row in rows_of(pairs)[:: max(1, len(pairs) // 64)]][
            : chosen.photos
        ]
        print(name, flush=True)
    parts = [
        table(
            [
                "photos",
                "same keypoints, mean (least)",
                "cosine of descriptors, median (1 %)",
                "32 bits, ms",
                "8 bits, ms",
                "faster",
            ],
            keypoint_lines,
        ),
        table(
            [
                "pairs",
                "number",
                "consistent matches, mean: 32 bits",
                "8 bits",
                "correlation",
                "verified: 32 bits",
                "8 bits",
            ],
            pair_lines,
        ),
    ]
    if can_hide():
        parts.append(other_processors([photos.load(path, at_least=LONG_SIDE) for path in sample]))
    publish("eight_bit_keypoints", "\n\n".join(parts), chosen.docs)


def measure(paths: list[Path], pairs: list[Pair], extractors: Sequence[XFeat]) -> Measured:
    """Extract the keypoints of all photos and verify all pairs, with each extractor."""
    measured = Measured()
    found: tuple[dict[int, Keypoints], ...] = ({}, {})
    for turn, row in enumerate(rows_of(pairs)):
        photo = photos.load(paths[row], at_least=LONG_SIDE)
        for position in (0, 1) if turn % 2 else (1, 0):
            started = time.thread_time()
            found[position][row] = extractors[position].extract(
                photo.pixels, photo.width, photo.height
            )
            measured.milliseconds[position].append(1000 * (time.thread_time() - started))
        compare(found[0][row], found[1][row], measured)
    results = [[verified(of_version, pair) for pair in pairs] for of_version in found]
    measured.consistent = tuple(np.array([one for one, _ in rows]) for rows in results)
    measured.verified = tuple(np.array([two for _, two in rows]) for rows in results)
    measured.right = np.array([pair.right for pair in pairs])
    return measured


def compare(full: Keypoints, eight: Keypoints, measured: Measured) -> None:
    """Note how many keypoints of a photo are the same, and how near their descriptors are."""
    place = {tuple(xy): position for position, xy in enumerate(full.xy)}
    both = [(place[key], i) for i, xy in enumerate(eight.xy) if (key := tuple(xy)) in place]
    if not both:
        return
    measured.same.append(len(both) / len(full))
    rows = np.array(both)
    a, b = (k.descriptors[rows[:, side]].astype(np.float64) for side, k in enumerate((full, eight)))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    measured.cosines.append((a * b).sum(axis=1) / lengths)


def verified(of_row: dict[int, Keypoints], pair: Pair) -> tuple[int, bool]:
    """Return the consistent matches of a pair, and whether geometry verifies it."""
    a, b = of_row[pair.query], of_row[pair.other]
    found = verify(a, b, XFeat.matching.pairs(a, b))
    return found.consistent_matches, found.model is not None


def keypoint_line(name: str, measured: Measured) -> list[object]:
    cosines = np.concatenate(measured.cosines)
    full, eight = measured.milliseconds
    return [
        f"{name}, {len(measured.same)}",
        f"{statistics.mean(measured.same):.3f} ({min(measured.same):.3f})",
        f"{np.median(cosines):.4f} ({np.quantile(cosines, 0.01):.4f})",
        format_number(statistics.median(full)),
        format_number(statistics.median(eight)),
        f"{statistics.median(a / b for a, b in zip(full, eight, strict=True)):.2f} ×",
    ]


def pair_line_of(name: str, measured: Measured) -> list[list[object]]:
    lines: list[list[object]] = []
    for kind, chosen in (("right", measured.right), ("wrong", ~measured.right)):
        full, eight = (counts[chosen] for counts in measured.consistent)
        lines.append(
            [
                f"{name}, {kind}",
                int(chosen.sum()),
                f"{full.mean():.2f}",
                f"{eight.mean():.2f}",
                f"{np.corrcoef(full, eight)[0, 1]:.3f}",
                *(f"{marks[chosen].mean():.3f}" for marks in measured.verified),
            ]
        )
    return lines


def other_processors(sample: list[Photo]) -> str:
    """Return how much the keypoints differ on a processor with AVX2 and nothing newer."""
    rows = []
    for version, bits in zip(VERSIONS, (32, 8), strict=True):
        here, there = (
            keypoints([photo.pixels for photo in sample], version.model, avx2_only=avx2_only)
            for avx2_only in (False, True)
        )
        measured = Measured()
        for one, other in zip(here, there, strict=True):
            compare(one, other, measured)
        cosines = np.concatenate(measured.cosines)
        rows.append(
            [
                f"{bits} bits",
                f"{statistics.mean(measured.same):.4f} ({min(measured.same):.4f})",
                f"{np.mean(cosines > 1 - 1e-9):.4f}",
                f"{cosines.min():.4f}",
            ]
        )
    head = ["network", "same keypoints, mean (least)", "same descriptor", "least cosine"]
    title = f"{len(sample)} photos, with all instructions and with AVX2 and nothing newer:"
    return f"{title}\n\n{table(head, rows)}"


if __name__ == "__main__":
    main()
