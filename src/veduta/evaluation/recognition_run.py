"""Evaluate recognition: run a labelled dataset through the recogniser that users have."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veduta.datasets import Dataset, class_coverage, open_dataset
from veduta.datasets.google_landmarks import (
    photo_ids,
    write_recognition_solution,
    write_recognition_submission,
)
from veduta.datasets.protocol import recognition_protocol
from veduta.datasets.protocols.google_landmarks import recognition_dataset
from veduta.encoders import DEFAULT, load_encoder, name_without_folders
from veduta.evaluation.answered_by import recognised_by
from veduta.evaluation.calibration_error import expected_calibration_error
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.evaluation.metrics import NearestPhoto
from veduta.evaluation.open_set import OpenSetFigures, open_set_figures
from veduta.evaluation.turned_queries import turned_note
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.recognize import (
    METHOD,
    PRECISION,
    LabelledGallery,
    Recognizer,
    cached_recognizer,
    decide,
)
from veduta.recognize.background import background_of_index
from veduta.recognize.methods import GEOMETRIC, check_method
from veduta.recognize.unknown import check_precision
from veduta.search.options import check_orientation
from veduta.search.query_views import QueryViews
from veduta.search.reranking import open_gallery

__all__ = [
    "DESCRIPTOR_METHOD",
    "RecognitionEvaluation",
    "RecognitionResult",
    "evaluate_recognition",
    "figures_of",
]

DESCRIPTOR_METHOD = "linear"
"""The method that recognises by the descriptor alone, where that is to be measured."""


@dataclass(frozen=True, slots=True)
class RecognitionResult:
    """The result of one query.

    Attributes:
        path: the photo.
        label: what it shows; None if that is no label of the gallery.
        guess: the likeliest label; None if no photo with a label resembles the query.
        confidence: probability in [0, 1] that the guess is right.
        named: whether the guess was given as the answer.
        nearest: the gallery photos that decided, nearest first.
        orientation: how the photo was turned to be recognised.
    """

    path: str
    label: str | None
    guess: str | None
    confidence: float
    named: bool
    nearest: tuple[NearestPhoto, ...]
    orientation: Orientation = UPRIGHT

    @property
    def answer(self) -> str | None:
        """The name that was given; None: "unknown"."""
        return self.guess if self.named else None

    @property
    def right(self) -> bool:
        """Whether the guess, given or not, is what the photo shows."""
        return self.guess is not None and self.guess == self.label

    @property
    def answered_right(self) -> bool:
        """Whether the answer, a name or "unknown", is right."""
        return self.answer == self.label


@dataclass(frozen=True, slots=True)
class RecognitionEvaluation:
    """The result of an evaluation of recognition.

    Attributes:
        summary: the figures, with intervals.
        calibration_error: expected calibration error of the confidences, in [0, 1].
        results: one a query, in the order of the dataset.
        settings: the encoder, the method, the wanted precision and its threshold.
        problems: what was left out and why.
        gallery_paths: (G,) paths of the gallery, which `results` refer to by number. Empty if a
            trained model gave the names.
        gallery_labels: (G,) their labels.
        root: the folder that paths are relative to.
        seconds: time for recognising alone, without encoding and training.
        notes: facts about the dataset: classes without a gallery photo, photos set aside.
        thresholds: one for each of `veduta.recognize.unknown.PRECISIONS`, see there.
        descriptor_alone: the figures of the same queries by the descriptor alone
            (`DESCRIPTOR_METHOD`), if keypoints took part in `results`; None otherwise.
        descriptor_alone_results: the results of that, in the order of `results`, without photos.
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
    descriptor_alone: OpenSetFigures | None = None
    descriptor_alone_results: tuple[RecognitionResult, ...] = ()

    @property
    def answered_by(self) -> str:
        """What the names come from, such as "descriptor alone"."""
        return recognised_by(self.settings)

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the problems and the settings as JSON types."""
        alone = self.descriptor_alone
        return {
            "task": "recognize",
            "answered_by": self.answered_by,
            **self.summary.as_json(),
            "calibration_error": self.calibration_error,
            "descriptor_alone": (
                {
                    "method": DESCRIPTOR_METHOD,
                    "accuracy": float(
                        np.mean([one.answered_right for one in self.descriptor_alone_results])
                    ),
                    **alone.figures_as_json(),
                }
                if alone
                else None
            ),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "settings": self.settings,
        }

    def write_submission(self, file: str | os.PathLike[str]) -> None:
        """Write the guesses, given or not, as a Google Landmarks recognition submission.

        `veduta.datasets.google_landmarks.photo_ids` says what the id of a photo is.

        Args:
            file: the CSV file to write.

        Raises:
            DatasetError: the file cannot be written.
        """
        write_recognition_submission(
            file,
            (
                (query, (result.guess, result.confidence) if result.guess else None)
                for query, result in zip(
                    photo_ids([result.path for result in self.results]), self.results, strict=True
                )
            ),
        )

    def write_solution(self, file: str | os.PathLike[str]) -> None:
        """Write the right answers to `write_submission`, as a solution of Google Landmarks.

        Args:
            file: the CSV file to write.

        Raises:
            DatasetError: the file cannot be written.
        """
        ids = photo_ids([result.path for result in self.results])
        labels = [result.label for result in self.results]
        write_recognition_solution(file, zip(ids, labels, strict=True))


def evaluate_recognition(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
    exclude: Sequence[str] = (),
    column: str = "split",
    encoder: str | None = None,
    runtime: str | None = None,
    method: str | None = None,
    precision: float = PRECISION,
    orientation: str = UPRIGHT.name,
    keep: int = 10,
    on_progress: OnProgress | None = None,
) -> RecognitionEvaluation:
    """Measure recognition on a labelled dataset.

    The gallery is indexed as `veduta index` does it. The confidence is fitted on the gallery
    alone. A query whose label no gallery photo has counts as unknown.

    If no encoder is named, this measures the recogniser that users have. If one is named, its
    descriptors alone are measured, unless `method` says otherwise. Figures in which keypoints took
    part always have those of the descriptor alone beside them.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        labels: passed on to `open_dataset`.
        queries: passed on to `open_dataset`.
        gallery: passed on to `open_dataset`.
        distractors: passed on to `open_dataset`.
        unknown: passed on to `open_dataset`.
        exclude: passed on to `open_dataset`.
        column: passed on to `open_dataset`.
        encoder: name of the encoder; None: the default encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        method: one of `veduta.recognize.METHODS`. None: `veduta.recognize.METHOD` if no encoder is
            named, `DESCRIPTOR_METHOD` if one is.
        precision: share of the given names that should be right, on held-out photos of the
            gallery; see `veduta.recognize.held_out`.
        orientation: one of `veduta.search.ORIENTATIONS`: how the queries are turned. By default
            they are taken as they are; `"auto"` is what `veduta recognize` does by default.
        keep: how many of the deciding gallery photos each result holds.
        on_progress: called with (stage, done, total).

    Returns:
        The figures and the result of each query.

    Raises:
        DatasetError: the dataset does not fit the protocol of recognition.
        EncoderError: the encoder is unknown or not available.
        QueryError: no method has that name, the precision is not in [0.5, 0.99], or the gallery
            has no labels, or one label and no photo without.
    """
    if method is None:
        method = METHOD if encoder is None else DESCRIPTOR_METHOD
    check_method(method)
    check_precision(precision)
    check_orientation(orientation)
    if not isinstance(dataset, Dataset) and labels is None and queries is None:
        dataset = recognition_dataset(Path(dataset)) or dataset
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(
            dataset,
            labels=labels,
            queries=queries,
            gallery=gallery,
            distractors=distractors,
            unknown=unknown,
            exclude=exclude,
            column=column,
        )
    network = load_encoder(encoder or DEFAULT, runtime=runtime)
    extractor = load_extractor() if method in GEOMETRIC else None
    indexed = index_dataset(
        dataset,
        recognition_protocol,
        network,
        extractor,
        on_progress,
        graph=method in GEOMETRIC,
    )
    set_projection(indexed.gallery_index, None)
    recognizer, position_of_row = _recognizer(indexed, method, on_progress)
    threshold = recognizer.confidence.threshold(precision)
    started = time.monotonic()
    views_of = indexed.query_views(network, extractor, unit=True)
    photos = _Queries(indexed, position_of_row, orientation, on_progress)
    results = photos.recognised(recognizer, views_of, threshold, keep)
    seconds = time.monotonic() - started
    alone: tuple[RecognitionResult, ...] = ()
    if method in GEOMETRIC:
        bare, _ = _recognizer(indexed, DESCRIPTOR_METHOD, on_progress)
        views_of = indexed.query_views(network, None, unit=True)
        alone = photos.recognised(bare, views_of, bare.confidence.threshold(precision), 0)
    paths, names = (indexed.dataset.table[name].to_pylist() for name in ("path", "label"))
    protocol = indexed.protocol
    return RecognitionEvaluation(
        summary=figures_of(results),
        calibration_error=expected_calibration_error(
            [result.confidence for result in results],
            [result.right for result in results],
        ),
        results=results,
        settings={
            "encoder": name_without_folders(network.name),
            "identity": network.identity,
            "runtime": network.describe()["runtime"],
            "method": method,
            "precision": precision,
            "threshold": threshold if threshold <= 1 else None,
            "learned_from": recognizer.confidence.examples,
            "learned": recognizer.learned,
            "why_not_learned": recognizer.why_not_learned,
            **({"orientation": orientation} if orientation != UPRIGHT.name else {}),
        },
        thresholds=recognizer.confidence.thresholds,
        problems=indexed.dataset.problems,
        notes=(
            *class_coverage(indexed.dataset).notes(),
            *turned_note(Counter(result.orientation for result in results)),
        ),
        gallery_paths=tuple(paths[row] for row in protocol.gallery),
        gallery_labels=tuple(
            names[row] if class_id >= 0 else None
            for row, class_id in zip(protocol.gallery, protocol.gallery_class_ids, strict=True)
        ),
        root=indexed.dataset.root,
        seconds=seconds,
        descriptor_alone=figures_of(alone) if alone else None,
        descriptor_alone_results=alone,
    )


def figures_of(results: Sequence[RecognitionResult]) -> OpenSetFigures:
    """Return the figures of the results of all queries.

    Args:
        results: one a query.
    """
    return open_set_figures(
        [result.label for result in results],
        [result.guess for result in results],
        [result.named for result in results],
        [result.confidence for result in results],
    )


def _recognizer(
    indexed: IndexedDataset, method: str, on_progress: OnProgress | None
) -> tuple[Recognizer, dict[int, int]]:
    """Return the recogniser of the gallery, and snapshot row → position in the gallery."""
    gallery = open_gallery(indexed.gallery_index)
    rows = indexed.gallery_rows(gallery.snapshot)
    names = indexed.dataset.table["label"]
    labels: list[str | None] = [None] * gallery.snapshot.photos
    for row, number, class_id in zip(
        rows.tolist(),
        indexed.protocol.gallery.tolist(),
        indexed.protocol.gallery_class_ids,
        strict=True,
    ):
        if class_id >= 0:
            labels[row] = names[number].as_py()
    recognizer = cached_recognizer(
        indexed.gallery_index,
        LabelledGallery.of(gallery, labels, background=background_of_index(indexed.gallery_index)),
        method,
        on_progress=partial(on_progress, "Learning") if on_progress else None,
    )
    return recognizer, {row: position for position, row in enumerate(rows.tolist())}


@dataclass(frozen=True, slots=True)
class _Queries:
    """The queries of a dataset.

    Attributes:
        indexed: the dataset.
        position_of_row: row of the gallery's snapshot → position in the gallery.
        orientation: one of `veduta.search.ORIENTATIONS`.
        on_progress: called with (stage, done, total).
    """

    indexed: IndexedDataset
    position_of_row: Mapping[int, int]
    orientation: str
    on_progress: OnProgress | None

    def recognised(
        self,
        recognizer: Recognizer,
        views_of: Callable[[int], QueryViews],
        threshold: float,
        keep: int,
    ) -> tuple[RecognitionResult, ...]:
        """Return the result of each query.

        Args:
            recognizer: of the gallery.
            views_of: returns a query by its number.
            threshold: the confidence that a name needs.
            keep: how many of the deciding gallery photos each result holds.
        """
        protocol, labelled = self.indexed.protocol, recognizer.labelled
        paths = self.indexed.dataset.table["path"].to_pylist()
        names = self.indexed.dataset.table["label"].to_pylist()
        in_gallery = set(protocol.gallery_class_ids.tolist()) - {-1}
        class_id_of: dict[str | None, int] = {name: i for i, name in enumerate(labelled.names)}
        results = []
        for number, row in enumerate(protocol.queries.tolist()):
            label = names[row] if int(protocol.query_class_ids[number]) in in_gallery else None
            answer, query = recognizer.answer_in_orientation(views_of(number), self.orientation)
            decision = decide(answer, threshold)
            ranking = answer.ranking
            nearest = tuple(
                NearestPhoto(
                    self.position_of_row[gallery_row],
                    float(score),
                    bool(labelled.class_ids[gallery_row] == class_id_of.get(label)),
                )
                for gallery_row, score in zip(
                    ranking.rows[:keep].tolist(), ranking.scores[:keep].tolist(), strict=True
                )
            )
            results.append(
                RecognitionResult(
                    paths[row],
                    label,
                    decision.guess,
                    decision.confidence,
                    decision.label is not None,
                    nearest,
                    query.orientation,
                )
            )
            if self.on_progress is not None:
                self.on_progress("Recognising", number + 1, len(protocol.queries))
        return tuple(results)
