"""Fit the confidence of each recognition method on collections without a background.

Collections whose encoder has no background, and that cannot fit their own confidence, use it. It is
fitted on the held-out photos of objects20 and same_place, see `veduta.recognize.held_out`:

    python -m tools.fit_recognition --data ../shared/data

writes the part "without background" of `src/veduta/recognize/defaults.json`. It takes about ten
minutes. `tools/fit_small_collections.py` writes the other part.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tools.recognition_defaults import rounded, write_part

from veduta.datasets import Dataset, open_dataset, retrieval_protocol
from veduta.datasets.dataset import as_table
from veduta.datasets.split_names import NO_SPLIT
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.keypoints import load_extractor
from veduta.recognize import METHODS, LabelledGallery
from veduta.recognize.confidence import LabelledExample, fit
from veduta.recognize.held_out import held_out_examples
from veduta.recognize.linear import train
from veduta.recognize.recognizer import WITHOUT_BACKGROUND
from veduta.recognize.unknown import PRECISIONS
from veduta.search.reranking import open_gallery

DATASETS = ("objects20", "same_place")


def labelled_gallery(folder: Path) -> LabelledGallery:
    """Return all photos of a dataset as one labelled gallery; distractors have no label."""
    opened = open_dataset(folder)
    paths, labels = (opened.table[name].to_pylist() for name in ("path", "label"))
    whole = Dataset(opened.root, as_table(paths, labels, [NO_SPLIT] * len(paths)))
    indexed = index_dataset(
        whole, retrieval_protocol, load_encoder(DEFAULT), load_extractor(), None
    )
    gallery = open_gallery(indexed.gallery_index)
    names = indexed.dataset.table["label"].to_pylist()
    label_of_row: list[str | None] = [None] * gallery.snapshot.photos
    for row, number in zip(
        indexed.gallery_rows(gallery.snapshot).tolist(), indexed.protocol.gallery, strict=True
    ):
        label_of_row[row] = names[number]
    return LabelledGallery.of(gallery, label_of_row)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    galleries = [labelled_gallery(options.data / name) for name in DATASETS]
    trainings = [train(labelled) for labelled in galleries]
    fitted = {}
    for method in METHODS:
        examples: list[LabelledExample] = []
        for labelled, training in zip(galleries, trainings, strict=True):
            own = held_out_examples(method, labelled, training)
            total = sum(example.weight for example in own)
            examples += [replace(example, weight=example.weight / total) for example in own]
        # As in `fit_small_collections`: thresholds of these examples named nearly all strangers.
        fitted[method] = rounded(replace(fit(examples), thresholds=PRECISIONS))
        print(method, fitted[method]["weights"], fitted[method]["questions"], flush=True)
    write_part(WITHOUT_BACKGROUND, fitted)


if __name__ == "__main__":
    main()
