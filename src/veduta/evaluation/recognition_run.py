"""Run a labelled dataset through the same recogniser that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veduta.datasets import Dataset, class_coverage, open_dataset
from veduta.datasets.google_landmarks import photo_id, write_recognition_submission
from veduta.datasets.recognition import recognition_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.calibration_error import expected_calibration_error
from veduta.evaluation.dataset_index import Encoded, OnProgress, encode
from veduta.evaluation.metrics import NearestPhoto
from veduta.evaluation.open_set import OpenSetFigures, open_set_figures
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.recognize import METHOD, PRECISION, Recognizer, label, recognizer_of
from veduta.recognize.confidence import check_precision
from veduta.recognize.methods import GEOMETRIC
from veduta.recognize.recognizer import check
from veduta.search.reranking import open_gallery

__all__ = ["RecognitionEvaluation", "RecognitionResult", "evaluate_recognition"]


@dataclass(frozen=True, slots=True)
class RecognitionResult:
    """How one photo that was to be recognised fared.

    `label`: what it shows, None if none of the gallery's places. `guess`: the likeliest label, None
    if nothing speaks for any. `confidence`: that the guess is right, in [0, 1]. `named`: whether
    the guess was given as the answer. `nearest`: the gallery photos that decided.
    """

    path: str
    label: str | None
    guess: str | None
    confidence: float
    named: bool
    nearest: tuple[NearestPhoto, ...]

    @property
    def right(self) -> bool:
        """Whether the guess is what the photo shows."""
        return self.guess is not None and self.guess == self.label


@dataclass(frozen=True, slots=True)
class RecognitionEvaluation:
    """What came of an evaluation.

    Attributes:
        summary: the figures, with intervals.
        calibration_error: of the confidences, expected, in [0, 1].
        results: one a query, in the order of the dataset.
        settings: the encoder, the method, the wanted precision and its threshold.
        thresholds: for each of `veduta.recognize.confidence.PRECISIONS`, see there.
        problems: what was left out and why.
        notes: what else to know of the dataset: classes without an answer, photos set aside.
        gallery_paths, gallery_labels: (G,), what `results` refer to by number.
        root: the folder that paths are relative to.
        seconds: time for recognising alone, without encoding and learning.
    """

    summary: OpenSetFigures
    calibration_error: float
    results: tuple[RecognitionResult, ...]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    gallery_paths: tuple[str, ...]
    gallery_labels: tuple[str | None, ...]
    root: Path
    seconds: float
    notes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the problems and the settings as JSON types."""
        return {
            "task": "recognize",
            **self.summary.as_json(),
            "calibration_error": self.calibration_error,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "settings": self.settings,
        }

    def write_submission(self, file: str | os.PathLike[str]) -> None:
        """Write the guesses as a Google Landmarks recognition submission, whether given or not.

        A photo's id is its file name without the ending.

        Raises:
            DatasetError: a name cannot stand in such a file, or the file cannot be written.
        """
        write_recognition_submission(
            file,
            (
                (photo_id(result.path), (result.guess, result.confidence) if result.guess else None)
                for result in self.results
            ),
        )


def evaluate_recognition(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
    encoder: str = DEFAULT,
    runtime: str | None = None,
    method: str = METHOD,
    precision: float = PRECISION,
    keep: int = 10,
    on_progress: OnProgress | None = None,
) -> RecognitionEvaluation:
    """Measure recognition on a labelled dataset.

    The gallery is indexed as `veduta index` does it; what answers are worth is learned from the
    gallery alone. A query whose label no gallery photo has counts as unknown.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        labels, queries, gallery, distractors, unknown: passed on to `open_dataset`.
        encoder: name of the encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        method: one of `veduta.recognize.METHODS`.
        precision: share of the names given that should be right, on questions that the gallery asks
            itself; see `veduta.recognize.held_out`.
        keep: how many of the deciding gallery photos each result holds.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: the dataset is not as its protocol wants it.
        EncoderError: the encoder cannot be had.
        QueryError: no method has that name, the precision is not in [0.5, 0.99], or the gallery has
            no labels, or one label and no photo without.
    """
    check(method)
    check_precision(precision)
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(
            dataset,
            labels=labels,
            queries=queries,
            gallery=gallery,
            distractors=distractors,
            unknown=unknown,
        )
    network = load_encoder(encoder, runtime=runtime)
    extractor = load_extractor() if method in GEOMETRIC else None
    encoded = encode(dataset, recognition_protocol, network, extractor, on_progress)
    set_projection(encoded.gallery, None)
    recognizer, answering = _recognizer(encoded, method, on_progress)
    threshold = recognizer.confidence.threshold(precision)
    started = time.monotonic()
    results = tuple(_results(encoded, recognizer, answering, threshold, keep, on_progress))
    seconds = time.monotonic() - started
    paths, names = (encoded.dataset.table[name].to_pylist() for name in ("path", "label"))
    return RecognitionEvaluation(
        summary=open_set_figures(
            [result.label for result in results],
            [result.guess for result in results],
            [result.named for result in results],
            [result.confidence for result in results],
        ),
        calibration_error=expected_calibration_error(
            [result.confidence for result in results], [result.right for result in results]
        ),
        results=results,
        settings={
            "encoder": network.name,
            "identity": network.identity,
            "runtime": network.describe()["runtime"],
            "method": method,
            "precision": precision,
            "threshold": threshold if threshold <= 1 else None,
            "learned_from": recognizer.confidence.questions,
            "learned": recognizer.learned,
        },
        thresholds=recognizer.confidence.thresholds,
        problems=encoded.dataset.problems,
        notes=class_coverage(encoded.dataset).notes(),
        gallery_paths=tuple(paths[i] for i in encoded.protocol.gallery),
        gallery_labels=tuple(
            names[row] if code >= 0 else None
            for row, code in zip(
                encoded.protocol.gallery, encoded.protocol.gallery_codes, strict=True
            )
        ),
        root=encoded.dataset.root,
        seconds=seconds,
    )


def _recognizer(
    encoded: Encoded, method: str, on_progress: OnProgress | None
) -> tuple[Recognizer, dict[int, int]]:
    """Return the recogniser of the gallery, and snapshot row → position in the gallery."""
    opened = open_gallery(encoded.gallery)
    rows = encoded.gallery_rows(opened.snapshot)
    names = encoded.dataset.table["label"]
    labels: list[str | None] = [None] * opened.snapshot.photos
    for row, number, code in zip(
        rows.tolist(),
        encoded.protocol.gallery.tolist(),
        encoded.protocol.gallery_codes,
        strict=True,
    ):
        if code >= 0:
            labels[row] = names[number].as_py()
    recognizer = recognizer_of(
        encoded.gallery,
        label(opened, labels),
        method,
        on_progress=partial(on_progress, "Learning") if on_progress else None,
    )
    return recognizer, {row: position for position, row in enumerate(rows.tolist())}


def _results(
    encoded: Encoded,
    recognizer: Recognizer,
    answering: dict[int, int],
    threshold: float,
    keep: int,
    on_progress: OnProgress | None,
) -> list[RecognitionResult]:
    protocol = encoded.protocol
    keypoints = encoded.query_keypoints() if recognizer.geometric else None
    paths = encoded.dataset.table["path"].to_pylist()
    names = encoded.dataset.table["label"].to_pylist()
    there = set(protocol.gallery_codes.tolist()) - {-1}
    code_of: dict[str | None, int] = {
        name: code for code, name in enumerate(recognizer.known.names)
    }
    found = []
    for number, descriptor in enumerate(encoded.query_descriptors()):
        if on_progress is not None:
            on_progress("Recognising", number, len(protocol.queries))
        row, code = int(protocol.queries[number]), int(protocol.query_codes[number])
        answer = recognizer.answer(
            descriptor / max(float(np.linalg.norm(descriptor)), 1e-12),
            [keypoints(number)] if keypoints else [],
        )
        sure = float(answer.confidences[0]) if answer.names else 0.0
        true = names[row] if code in there else None
        ranking = answer.ranking
        right = code_of.get(true)
        nearest = tuple(
            NearestPhoto(answering[at], float(likely), bool(recognizer.known.codes[at] == right))
            for at, likely in zip(
                ranking.rows[:keep].tolist(), ranking.probabilities[:keep].tolist(), strict=True
            )
        )
        guess = answer.names[0] if answer.names else None
        found.append(
            RecognitionResult(
                paths[row], true, guess, sure, bool(answer.names) and sure >= threshold, nearest
            )
        )
    return found
