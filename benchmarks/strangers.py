"""Strangers: how well a collection of one or two labels tells them from photos of its labels.

Every pair of labels of a set is a collection, and every single label. The queries are those of the
labels; strangers are photos of the other labels and distractors. Descriptors and keypoints come
from an index in the user's cache folder, which is made once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import check_target, parser, publish, table
from benchmarks.small_collections import IndexedPhotos, Verifications, keep_verifications
from veduta.curate.described_photos import describe_photos
from veduta.datasets import open_dataset
from veduta.encoders import DEFAULT, load_encoder
from veduta.learn.models.projection import learn_projection
from veduta.recognize import LabelledGallery, decide, fit_recognizer
from veduta.recognize.background import background_of_index
from veduta.recognize.methods import GEOMETRIC
from veduta.recognize.recognizer import METHOD, PRECISION

SETS = ("landmarks30", "objects20")

STRANGERS_OF_A_KIND = 10
"""Strangers of each collection: so many distractors, and as many photos of other labels."""

DISTRACTORS = 60
"""The distractors that take part at all, chosen at random. Each is compared with every photo."""

TRAINING_SPLITS = ("gallery", "train")
QUERY_SPLITS = ("query", "test")

HEAD = ["each collection", "strangers rejected", "right photos kept", "named wrong", "collections"]


@dataclass(frozen=True)
class LabelledSet:
    """The photos of a set, as rows of its index.

    Attributes:
        name: of the set.
        photos: the index.
        background: of its encoder.
        training: label → rows.
        queries: label → rows.
        distractors: rows.
    """

    name: str
    photos: IndexedPhotos
    background: NDArray[np.float32] | None
    training: dict[str, list[int]]
    queries: dict[str, list[int]]
    distractors: list[int]

    @classmethod
    def open(
        cls, folder: Path, verifications: Verifications, encoder: str = DEFAULT
    ) -> LabelledSet:
        opened = open_dataset(folder)
        paths, labels, splits = (
            opened.table[name].to_pylist() for name in ("path", "label", "split")
        )
        described = describe_photos(
            [opened.root / path for path in paths], encoder=load_encoder(encoder)
        )
        row_of = dict(zip(paths, described.rows.tolist(), strict=True))
        training: dict[str, list[int]] = {}
        queries: dict[str, list[int]] = {}
        distractors = []
        for path, label, split in zip(paths, labels, splits, strict=True):
            row = row_of[path]
            if row < 0:
                continue
            if split in TRAINING_SPLITS and label:
                training.setdefault(label, []).append(row)
            elif split in QUERY_SPLITS and label:
                queries.setdefault(label, []).append(row)
            elif split == "distractor":
                distractors.append(row)
        generator = np.random.default_rng(0)
        chosen = generator.permutation(distractors)[:DISTRACTORS].tolist()
        photos = IndexedPhotos.of(described.index, verifications)
        background = background_of_index(described.index)
        return cls(folder.name, photos, background, training, queries, chosen)


@dataclass(frozen=True, slots=True)
class Shares:
    """The answers to the queries of one collection, as shares in [0, 1].

    Attributes:
        rejected: strangers that got no name.
        kept: photos of the labels that got their name.
        wrong: photos of the labels that got another name.
    """

    rejected: float
    kept: float
    wrong: float


def measure(
    photos: LabelledSet,
    labels: Sequence[str],
    each: int | None,
    method: str,
    *,
    background: bool = True,
    project: bool = False,
) -> Shares:
    """Recognise the queries of some labels, and strangers, by a collection of these labels.

    Args:
        photos: the set.
        labels: of the collection.
        each: how many photos of each label it has; None: all.
        method: of recognition.
        background: whether the background takes part.
        project: whether the collection is searched through a projection that was learned from its
            labels, as `veduta index --project labels` does.
    """
    names = sorted(photos.training)
    generator = np.random.default_rng([names.index(label) for label in labels])
    chosen: dict[int, str] = {}
    for label in labels:
        # The same photos of a label in each collection, so that pairs are verified only once.
        of_label = np.random.default_rng(names.index(label)).permutation(photos.training[label])
        chosen |= {int(row): label for row in of_label[:each]}
    rows = np.array(sorted(chosen), np.intp)
    labels_of_rows = [chosen[row] for row in rows.tolist()]
    projection, others = None, photos.background if background else None
    if project:
        projection = learn_projection(
            np.stack([photos.photos.descriptor(row) for row in rows.tolist()]), labels_of_rows
        )
        others = None if others is None else projection.apply(others)
    labelled = LabelledGallery.of(
        photos.photos.collection(rows, projection), labels_of_rows, background=others
    )
    recognizer = fit_recognizer(labelled, method)
    threshold = recognizer.confidence.threshold(PRECISION)

    def name(row: int) -> str | None:
        keypoints = [photos.photos.keypoints(row)] if method in GEOMETRIC else []
        descriptor = photos.photos.descriptor(row, projection)
        return decide(recognizer.answer(descriptor, keypoints), threshold).label

    not_held = [row for label in names if label not in labels for row in photos.queries[label]]
    strangers = [
        row
        for kind in (not_held, photos.distractors)
        for row in generator.permutation(kind)[:STRANGERS_OF_A_KIND].tolist()
    ]
    answers = [(label, name(row)) for label in labels for row in photos.queries[label]]
    return Shares(
        rejected=float(np.mean([name(row) is None for row in strangers])),
        kept=float(np.mean([label == answer for label, answer in answers])),
        wrong=float(np.mean([answer not in {None, label} for label, answer in answers])),
    )


def mean_row(
    title: str,
    photos: LabelledSet,
    collections: Sequence[Sequence[str]],
    each: int | None,
    *,
    method: str = METHOD,
    background: bool = True,
    project: bool = False,
) -> tuple[list[str], Shares]:
    """Return a row of the table, and the means over the collections."""
    print(photos.name, title, len(collections), flush=True)
    shares = [
        measure(photos, labels, each, method, background=background, project=project)
        for labels in collections
    ]
    mean = Shares(*np.mean([(s.rejected, s.kept, s.wrong) for s in shares], axis=0).tolist())
    cells = [f"{value:.3f}" for value in (mean.rejected, mean.kept, mean.wrong)]
    print("  ", *cells, flush=True)
    return [title, *cells, str(len(collections))], mean


def other_encoders(data: Path, encoders: Sequence[str], every: int) -> str:
    """Return the table of the encoders, and of the default one with a learned projection."""
    rows = []
    for name in SETS:
        for encoder in [*encoders, DEFAULT]:
            # Keypoints differ if the encoder wants photos decoded at another size.
            verifications = Verifications()
            keep_verifications(verifications)
            photos = LabelledSet.open(data / name, verifications, encoder)
            pairs = list(itertools.combinations(sorted(photos.training), 2))[::every]
            for project in (False, True) if encoder == DEFAULT else (False,):
                for each in (5, None):
                    title = f"{each} photos each" if each else "all photos"
                    row, _ = mean_row(title, photos, pairs, each, project=project)
                    known_as = f"`{encoder}`" + (", `--project labels`" if project else "")
                    rows.append([name, known_as, *row])
    head = ["set", "encoder", "two labels", *HEAD[1:]]
    return (
        f"{table(head, rows)}\n\nOne of {every} pairs of labels. Each projection was learned from "
        "the two labels alone. The confidence is the same for all: that of `accurate` without a "
        "projection."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("strangers", __doc__)
    add_data_option(options)
    options.add_argument("--every", type=int, default=1, help="measure only every so many pairs")
    options.add_argument(
        "--encoder",
        nargs="+",
        default=[],
        help="measure these encoders, and a learned projection, in a section of their own",
    )
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, SETS)
    if chosen.encoder:
        body = other_encoders(chosen.data, chosen.encoder, chosen.every)
        publish("strangers", body, chosen.docs, section="strangers_encoders")
        return
    verifications = Verifications()
    keep_verifications(verifications)
    parts = []
    for name in SETS:
        photos = LabelledSet.open(chosen.data / name, verifications)
        pairs = list(itertools.combinations(sorted(photos.training), 2))[:: chosen.every]
        single = [(label,) for label in sorted(photos.training)]
        rows = []
        for each in (5, 10, None):
            number = f"{each} photos" if each else "all photos"
            row, pair = mean_row(f"two labels, {number} each", photos, pairs, each)
            rows.append(row)
            rows.append(mean_row(f"one label, {number}", photos, single, each)[0])
        some = pairs[:: max(1, len(pairs) // 60)]
        rows.append(
            mean_row(
                "two labels, all photos each, without a background",
                photos,
                some,
                None,
                background=False,
            )[0]
        )
        parts.append(f"### {name}\n\n{table(HEAD, rows)}")
        if name == "landmarks30":
            rejected = check_target(pair.rejected, 0.95, at_least=True)
            kept = check_target(pair.kept, 0.85, at_least=True)
            parts.append(
                f"Two labels with all photos: strangers rejected {rejected}; right photos kept "
                f"{kept}."
            )
    which = "Every pair" if chosen.every == 1 else f"One of {chosen.every} pairs"
    intro = (
        f"{which} of labels is a collection, and every single label; the figures are means over "
        f"them, at the default precision of {PRECISION}. Strangers are {STRANGERS_OF_A_KIND} "
        f"distractors and {STRANGERS_OF_A_KIND} queries of the other labels for each collection. "
        "The confidence was fitted on objects20 and scenes. "
        "[what-landmarks30-influenced.md](decisions/what-landmarks30-influenced.md) says which "
        "choices were made after a look at landmarks30."
    )
    publish("strangers", "\n\n".join([intro, *parts]), chosen.docs)


if __name__ == "__main__":
    main()
