"""Fit what answers of the ways to recognise are worth on collections in general.

For collections with too few labelled photos to learn it from. Fitted on objects20 and same_place,
each asking itself as `veduta.recognize.held_out` does:

    python -m tools.fit_recognition --data ../shared/data

writes `src/veduta/recognize/defaults.json`. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from veduta.datasets import Dataset, open_dataset, retrieval_protocol
from veduta.datasets.dataset import NO_SPLIT, as_table
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import encode
from veduta.keypoints import load_extractor
from veduta.recognize import METHODS, label
from veduta.recognize.confidence import Confidence, Question, fit
from veduta.recognize.held_out import questions
from veduta.recognize.labelled import Labelled
from veduta.recognize.linear import train
from veduta.recognize.recognizer import DEFAULTS
from veduta.search.reranking import open_gallery

SETS = ("objects20", "same_place")


def labelled(folder: Path) -> Labelled:
    """All photos of a set as one labelled gallery; distractors have no label."""
    opened = open_dataset(folder)
    paths, labels = (opened.table[name].to_pylist() for name in ("path", "label"))
    whole = Dataset(opened.root, as_table(paths, labels, [NO_SPLIT] * len(paths)))
    encoded = encode(whole, retrieval_protocol, load_encoder(DEFAULT), load_extractor(), None)
    gallery = open_gallery(encoded.gallery)
    names = encoded.dataset.table["label"].to_pylist()
    of_row: list[str | None] = [None] * gallery.snapshot.photos
    for row, number in zip(
        encoded.gallery_rows(gallery.snapshot).tolist(), encoded.protocol.gallery, strict=True
    ):
        of_row[row] = names[number]
    return label(gallery, of_row)


def rounded(found: Confidence) -> dict[str, object]:
    return {
        "weights": [round(weight, 4) for weight in found.weights],
        "thresholds": [round(threshold, 4) for threshold in found.thresholds],
        "questions": found.questions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    collections = [labelled(options.data / name) for name in SETS]
    trainings = [train(known) for known in collections]
    fitted = {}
    for method in METHODS:
        asked: list[Question] = []
        for known, training in zip(collections, trainings, strict=True):
            own = questions(method, known, training)
            total = sum(question.weight for question in own)
            asked += [replace(question, weight=question.weight / total) for question in own]
        fitted[method] = rounded(fit(asked))
        print(method, fitted[method]["weights"], fitted[method]["questions"], flush=True)
    DEFAULTS.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
