"""Fit the confidence of each recognition method on small collections with a background.

Collections that cannot fit their own confidence use it: those of few labelled photos, and those of
one or two labels without photos of other things (`veduta.recognize.held_out`). It is fitted on
such collections, made of photos of objects20 and scenes: 40 of each, of one and of two labels in
turn. Each recognises photos of its labels that it does not hold, and strangers: photos of the same
set, with other labels or with none, and of the other set. Strangers have two thirds of the weight.

    python -m tools.fit_small_collections --data ../shared/data

writes the part "with background" of `src/veduta/recognize/defaults.json`. It takes about three
minutes, and twenty more the first time, which indexes the photos.

A name needs a confidence of the wanted precision. Thresholds that were fitted on the collections
would be lower, because most of their strangers are told apart with ease. A user's may be harder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.small_collections import IndexedPhotos, Verifications, keep_verifications
from numpy.typing import NDArray
from tools.recognition_defaults import rounded, write_part

from veduta.curate.described_photos import describe_photos
from veduta.datasets import open_dataset
from veduta.recognize import METHODS, LabelledGallery
from veduta.recognize.background import background_of_index
from veduta.recognize.confidence import LabelledExample, fit
from veduta.recognize.linear import train
from veduta.recognize.methods import RecognitionQuery
from veduta.recognize.recognizer import WITH_BACKGROUND
from veduta.recognize.unknown import PRECISIONS

DATASETS = ("objects20", "scenes")

COLLECTIONS = 40
PHOTOS_EACH = (3, 5, 10, 20)
"""Photos of each label, in turn. Of a label with fewer photos a third are queries."""

MAX_QUERIES = 5
STRANGERS_OF_SET = 8
STRANGERS_OF_OTHER_SET = 4
STRANGERS_WEIGHT = 2.0
"""What the strangers of a collection weigh together; the photos of its labels weigh 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """A photo, and its label if the collection has it."""

    photos: IndexedPhotos
    row: int
    label: str | None


@dataclass(frozen=True, slots=True)
class Collection:
    """A labelled collection with its queries."""

    labelled: LabelledGallery
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Photos:
    """The photos of a set with their labels; `None` for distractors."""

    indexed: IndexedPhotos
    background: NDArray[np.float32]
    labels: NDArray[np.object_]

    @classmethod
    def open(cls, folder: Path, verifications: Verifications) -> Photos:
        opened = open_dataset(folder)
        paths, names = (opened.table[name].to_pylist() for name in ("path", "label"))
        described = describe_photos([opened.root / path for path in paths])
        indexed = IndexedPhotos.of(described.index, verifications)
        labels = np.full(indexed.gallery.snapshot.photos, None, np.object_)
        labels[described.rows] = names
        background = background_of_index(described.index)
        assert background is not None
        return cls(indexed, background, labels)

    def rows(self, label: str) -> NDArray[np.intp]:
        return np.flatnonzero(self.labels == label)


def collections(sets: dict[str, Photos]) -> Iterator[Collection]:
    generator = np.random.default_rng(0)
    for name in DATASETS:
        photos = sets[name]
        known = sorted({label for label in photos.labels if label is not None})
        known = [label for label in known if len(photos.rows(label)) > 2]
        for number in range(COLLECTIONS):
            labels = generator.permutation(known)[: 1 + number % 2].tolist()
            each = PHOTOS_EACH[number // 2 % len(PHOTOS_EACH)]
            rows: list[int] = []
            queries: list[Query] = []
            for label in labels:
                of_label = generator.permutation(photos.rows(label)).tolist()
                held_out = max(len(of_label) // 3, 1)
                rows += of_label[held_out:][:each]
                queries += [
                    Query(photos.indexed, row, label) for row in of_label[:held_out][:MAX_QUERIES]
                ]
            for other, its_photos in sets.items():
                may_be = np.flatnonzero(~np.isin(its_photos.labels, labels))
                count = STRANGERS_OF_SET if other == name else STRANGERS_OF_OTHER_SET
                queries += [
                    Query(its_photos.indexed, row, None)
                    for row in generator.permutation(may_be)[:count].tolist()
                ]
            labelled = LabelledGallery.of(
                photos.indexed.collection(np.array(rows)),
                photos.labels[rows].tolist(),
                background=photos.background,
            )
            yield Collection(labelled, tuple(queries))


def examples(collection: Collection) -> dict[str, list[LabelledExample]]:
    """Return for each method the candidates of each query."""
    labelled = collection.labelled
    linear = train(labelled).linear
    known = sum(query.label is not None for query in collection.queries)
    found: dict[str, list[LabelledExample]] = {method: [] for method in METHODS}
    for query in collection.queries:
        descriptor = query.photos.descriptor(query.row)
        asked = RecognitionQuery(
            descriptor=descriptor,
            keypoints=[query.photos.keypoints(query.row)],
            linear_scores=linear.scores(descriptor[None])[0],
            excluded_rows=np.empty(0, np.intp),
        )
        strangers = len(collection.queries) - known
        weight = 1 / known if query.label is not None else STRANGERS_WEIGHT / strangers
        for method, candidates_of in METHODS.items():
            candidates = candidates_of(labelled, asked)
            names = [labelled.names[class_id] for class_id in candidates.class_ids.tolist()]
            right = np.array([name == query.label for name in names], np.bool_)
            found[method].append(LabelledExample(candidates.features, right, weight))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    verifications = Verifications()
    keep_verifications(verifications)
    sets = {name: Photos.open(options.data / name, verifications) for name in DATASETS}
    all_examples: dict[str, list[LabelledExample]] = {method: [] for method in METHODS}
    for collection in collections(sets):
        for method, found in examples(collection).items():
            all_examples[method] += found
        print(".", end="", flush=True)
    print()
    fitted = {}
    for method, found in all_examples.items():
        fitted[method] = rounded(replace(fit(found), thresholds=PRECISIONS))
        print(method, fitted[method]["weights"], fitted[method]["questions"], flush=True)
    write_part(WITH_BACKGROUND, fitted)


if __name__ == "__main__":
    main()
