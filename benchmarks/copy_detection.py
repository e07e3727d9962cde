"""Copies that were cut, turned, recompressed and edited: Veduta and perceptual hashes by µAP.

The set is in the layout of Copydays, and is made from photos of landmarks30: copies of one photo of
each landmark are the queries, and other photos of the same landmarks and of strangers are the
distractors. Each system scores pairs of a copy and a gallery photo, which go into a file as for
DISC21, and `veduta evaluate --ranking` judges it. No parameter of a system was chosen on this set.
"""

from __future__ import annotations

import csv
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.copies import dhash, luma, phash
from benchmarks.copy_set import SEED, kind_of, write_set
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.pdq import pdq
from benchmarks.report import parser, publish, table
from veduta.curate.copies import copies_among
from veduta.curate.described_photos import DescribedPhotos, describe_photos
from veduta.datasets import open_dataset
from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import open_protocol
from veduta.evaluation import evaluate_protocol
from veduta.evaluation.figures import Measured
from veduta.photos import load

Scores = NDArray[np.float64]
"""(Q, G) scores of queries and gallery photos; NaN for a pair that is not in the answer."""

VEDUTA, DESCRIPTOR = "Veduta", "descriptor alone"
STRANGERS = "_distractors"
ALL = "all"
KindFigures = Mapping[str, Measured]
NOTHING_FOUND = dict.fromkeys(("micro_ap", "recall_at_precision90"), Measured(0.0, (0.0, 0.0)))


def main(arguments: list[str] | None = None) -> None:
    options = parser("copy_detection", __doc__)
    add_data_option(options)
    options.add_argument("--originals", type=int, default=30, help="photos that are copied")
    options.add_argument("--distractors", type=int, default=470, help="other gallery photos")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, ("landmarks30",))
    folder = chosen.work / "copy-detection-set"
    write_set(*choose(chosen.data / "landmarks30", chosen.originals, chosen.distractors), folder)
    judged = open_protocol(folder, "copydays", variant=ALL)
    photos = describe_photos(
        [folder / path for path in (*judged.gallery_paths, *judged.query_paths)],
        folder=chosen.work / "copy-detection",
    )
    answers = {
        VEDUTA: of_detector(photos, len(judged.gallery)),
        DESCRIPTOR: of_descriptors(photos, len(judged.gallery)),
        **of_hashes(folder, judged),
    }
    figures = {
        name: figures_by_kind(judged, scores, chosen.work / "copy-detection.csv")
        for name, scores in answers.items()
    }
    shutil.rmtree(folder)
    publish("copy_detection", page(judged, answers, figures), chosen.docs)


def choose(folder: Path, originals: int, distractors: int) -> tuple[list[Path], list[Path]]:
    """Return one photo of each of some landmarks, and as many others, drawn from all."""
    dataset = open_dataset(folder)
    of_label: dict[str, list[Path]] = defaultdict(list)
    for path, label in zip(dataset.paths, dataset.table["label"].to_pylist(), strict=True):
        of_label[label or STRANGERS].append(dataset.root / path)
    rng = random.Random(SEED)
    landmarks = sorted(of_label.keys() - {STRANGERS})[:originals]
    copied = [rng.choice(sorted(of_label[label])) for label in landmarks]
    others = sorted(file for files in of_label.values() for file in files if file not in copied)
    return copied, rng.sample(others, min(distractors, len(others)))


def of_detector(photos: DescribedPhotos, gallery: int) -> Scores:
    """Return the scores of the pairs that `veduta clean` reports; of other exposures, less 1."""
    scores = np.full((len(photos.files) - gallery, gallery), np.nan)
    for pair in copies_among(photos, apart=gallery):
        if pair.first < gallery <= pair.second:
            score = pair.score if pair.is_copy else pair.score - 1
            scores[pair.second - gallery, pair.first] = score
    return scores


def of_descriptors(photos: DescribedPhotos, gallery: int) -> Scores:
    """Return the cosine similarities of the default descriptor."""
    rows = photos.snapshot.descriptors[photos.rows].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarities: Scores = rows[gallery:] @ rows[:gallery].T
    return similarities


def of_hashes(folder: Path, judged: JudgedSet) -> dict[str, Scores]:
    """Return the scores of the hashes: minus the bits that differ."""
    hashes: dict[str, Callable[[Path], NDArray[np.bool_]]] = {
        "pHash": lambda file: phash(luma(file)),
        "dHash": lambda file: dhash(luma(file)),
    }
    scores = {}
    for name, hash_of in hashes.items():
        queries, gallery = (
            np.array([hash_of(folder / path) for path in paths])
            for paths in (judged.query_paths, judged.gallery_paths)
        )
        scores[name] = -differing_bits(queries, gallery)
    turns, gallery = (
        np.array([pdq(Image.fromarray(load(folder / path).pixels)) for path in paths])
        for paths in (judged.query_paths, judged.gallery_paths)
    )
    bits = np.array([differing_bits(turns[:, turn], gallery[:, 0]) for turn in range(8)])
    return {**scores, "PDQ": -bits[0], "PDQ, 8 orientations": -bits.min(axis=0)}


def differing_bits(queries: NDArray[np.bool_], gallery: NDArray[np.bool_]) -> Scores:
    """Return (Q, G) how many bits differ between (Q, B) and (G, B) hashes."""
    a, b = queries.astype(np.float64), gallery.astype(np.float64)
    return a.sum(1)[:, None] + b.sum(1) - 2 * (a @ b.T)


def figures_by_kind(judged: JudgedSet, scores: Scores, file: Path) -> dict[str, KindFigures]:
    """Return the figures of all queries and of those of each kind of change.

    Args:
        judged: the set.
        scores: of its queries and gallery.
        file: that is written, judged and removed.
    """
    kinds = [kind_of(query) for query in judged.queries]
    figures = {}
    for kind in (ALL, *dict.fromkeys(kinds)):
        chosen = [number for number, own in enumerate(kinds) if kind in (ALL, own)]
        some = {judged.queries[number] for number in chosen}
        part = judged.without([query for query in judged.queries if query not in some], ())
        figures[kind] = NOTHING_FOUND
        if not np.isnan(scores[chosen]).all():  # A file without a pair is refused.
            write_predictions(file, part, scores[chosen])
            figures[kind] = evaluate_protocol(part, ranking=file).figures.figures
    file.unlink(missing_ok=True)
    return figures


def write_predictions(file: Path, judged: JudgedSet, scores: Scores) -> None:
    with file.open("w", newline="", encoding="utf-8") as sink:
        rows = csv.writer(sink)
        rows.writerow(["query_id", "reference_id", "score"])
        for query, values in zip(judged.queries, scores, strict=True):
            for number in np.flatnonzero(~np.isnan(values)).tolist():
                rows.writerow([query, judged.gallery[number], values[number]])


def page(
    judged: JudgedSet,
    answers: dict[str, Scores],
    figures: dict[str, dict[str, KindFigures]],
) -> str:
    overall = table(
        ["", "pairs", "µAP", "", "recall at precision 0.9", ""],
        [
            [
                name,
                f"{int((~np.isnan(answers[name])).sum()):,}",
                *with_interval(figures[name][ALL], "micro_ap"),
                *with_interval(figures[name][ALL], "recall_at_precision90"),
            ]
            for name in figures
        ],
    )
    return "\n\n".join(
        [
            f"{len(judged.queries):,} copies of {len(judged.gallery) - judged.distractors} photos "
            f"are the queries, and these photos and {judged.distractors} others the gallery.",
            overall,
            "µAP by the kind of change:",
            by_kind(judged.queries, figures, "micro_ap"),
            "Recall at precision 0.9, with a threshold for each kind:",
            by_kind(judged.queries, figures, "recall_at_precision90"),
            "In brackets are 95 % bootstrap intervals over queries. Equal scores count against a "
            "system. Veduta's score is that of `veduta clean`: the correlation of the details of "
            "two aligned photos, or for an edited copy the share of its keypoints that are at the "
            "right position. Pairs that it calls another exposure of the same view follow with "
            "this score minus 1, and no other pairs are in its answer. The other systems score "
            "all pairs: the descriptor by cosine similarity, the hashes by minus the bits that "
            "differ. PDQ with 8 orientations takes the nearest of the eight hashes of the copy.",
        ]
    )


def with_interval(figures: KindFigures, key: str) -> list[str]:
    value, (low, high) = figures[key]
    return [f"{value:.3f}", f"({low:.3f}–{high:.3f})"]


def by_kind(queries: Sequence[str], figures: dict[str, dict[str, KindFigures]], key: str) -> str:
    copies = Counter(map(kind_of, queries))
    return table(
        ["", "copies", *figures],
        [
            [kind, number, *(f"{of_kind[kind][key].value:.3f}" for of_kind in figures.values())]
            for kind, number in copies.items()
        ],
    )


if __name__ == "__main__":
    main()
