"""Evaluate Oxford or Paris, classic or revisited, with the index and search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veduta.datasets import RevisitedDataset, open_revisited
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import PhotoError
from veduta.evaluation.answered_by import retrieved_by
from veduta.evaluation.cropped_queries import cropped_queries, gallery_only
from veduta.evaluation.dataset_index import OnProgress, index_dataset
from veduta.evaluation.descriptor_ranking import (
    check_verification,
    resolved_rerank,
    settings_of,
)
from veduta.evaluation.given_answers import open_given_answers
from veduta.evaluation.judged_ranking import ranked_down_to
from veduta.evaluation.metrics import ranking as ranked_rows
from veduta.evaluation.photo_ranking import DescriptorOptions
from veduta.evaluation.protocol_judge import GivenOrder
from veduta.evaluation.revisited import RevisitedSetup, judge_revisited, summarise_revisited
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.photos import content_hash
from veduta.photos.orientation import UPRIGHT
from veduta.search import VERIFIED_PHOTOS
from veduta.search.options import check_orientation

__all__ = ["RevisitedEvaluation", "evaluate_revisited"]


@dataclass(frozen=True, slots=True)
class RevisitedEvaluation:
    """The result of an evaluation by a published protocol.

    Attributes:
        name: of the protocol's file, without its ending.
        queries: paths of the queries that could be read, in the order of `RevisitedSetup.ap`.
        gallery: how many photos are ranked, without the distractors.
        distractors: how many distractors are ranked with them.
        setups: the figures of "easy", "medium" and "hard".
        settings: the encoder and the re-ranking.
        problems: what was left out and why.
        notes: facts that a reader of the figures must know.
        seconds: time for describing the queries and ranking.
        descriptor_alone: the figures of the setups by the descriptor alone, if the ranking was
            re-ranked; None otherwise.
    """

    name: str
    queries: tuple[str, ...]
    gallery: int
    distractors: int
    setups: dict[str, RevisitedSetup]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    seconds: float
    descriptor_alone: dict[str, RevisitedSetup] | None = None
    notes: tuple[str, ...] = ()

    @property
    def answered_by(self) -> str:
        """What the ranking comes from, such as "descriptor alone"."""
        return retrieved_by(self.settings)

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the problems and the settings as JSON types."""
        alone = self.descriptor_alone
        return {
            "task": "revisited",
            "set": self.name,
            "gallery": self.gallery,
            "distractors": self.distractors,
            "answered_by": self.answered_by,
            **{name: setup.as_json() for name, setup in self.setups.items()},
            "descriptor_alone": (
                {name: setup.as_json() for name, setup in alone.items()} if alone else None
            ),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "settings": self.settings,
        }


def evaluate_revisited(
    file: str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    *,
    encoder: str | None = None,
    runtime: str | None = None,
    rerank: str | None = None,
    verify: int = VERIFIED_PHOTOS,
    orientation: str = UPRIGHT.name,
    allow_missing: bool = False,
    without_distractors: bool = False,
    descriptors: Sequence[str | os.PathLike[str]] = (),
    ranking: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> RevisitedEvaluation:
    """Measure retrieval on Oxford or Paris, each query cropped to the box of its building.

    Args:
        file: `gnd_roxford5k.pkl` or another file of this format.
        photos: the folder of photos; None: see `veduta.datasets.open_revisited`.
        encoder: name of the encoder; None: the default encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        rerank: one of `veduta.search.RERANK_MODES`. None: `"auto"` if no encoder is named, `"none"`
            if one is, so that its figures are its own.
        verify: how many of the nearest photos are verified by geometry.
        orientation: one of `veduta.search.ORIENTATIONS`: how the queries are turned. By default
            they are taken as they are, as published figures are measured.
        allow_missing: as in `veduta.datasets.open_revisited`.
        without_distractors: as in `veduta.datasets.open_revisited`.
        descriptors: files of descriptors of another program, see
            `veduta.interchange.descriptor_files`. Photos are named as in `imlist` and `qimlist`. No
            photo is read, and the options of the search do not go with it.
        ranking: a file of rankings of another program, see `veduta.interchange.ranking_files`.
        on_progress: called with (stage, done, total).

    Returns:
        The figures of each setup.

    Raises:
        DatasetError: the file is not such a protocol, or no query can be read.
        EncoderError: the encoder is unknown or not available.
        QueryError: `verify` would have no effect.
    """
    if descriptors or ranking is not None:
        revisited = open_revisited(
            file, photos, without_distractors=without_distractors, need_photos=False
        )
        return _judge_given(Path(file).stem, revisited, descriptors, ranking, on_progress)
    mode = resolved_rerank(rerank, "cosine", encoder_is_named=encoder is not None)
    check_verification(mode, verify=verify)
    check_orientation(orientation)
    options = DescriptorOptions(
        encoder, runtime, rerank=mode, verify=verify, orientation=orientation
    )
    revisited = open_revisited(
        file, photos, allow_missing=allow_missing, without_distractors=without_distractors
    )
    root = revisited.dataset.root
    network = load_encoder(encoder or DEFAULT, runtime=runtime)
    extractor = load_extractor() if mode == "geometry" else None
    indexed = index_dataset(
        revisited.dataset,
        gallery_only,
        network,
        extractor,
        on_progress,
        graph=mode != "none",
    )
    decoded = set(indexed.dataset.table["path"].to_pylist())
    undecodable = {path: "does not decode" for path in revisited.gallery if path not in decoded}
    revisited = revisited.without(undecodable) if undecodable else revisited
    set_projection(indexed.gallery_index, None)
    queries_of = cropped_queries(
        indexed, options, network, [root / path for path in revisited.queries], revisited.boxes
    )
    started = time.monotonic()
    judged, alone, queries, problems = [], [], [], []
    for number, path in enumerate(revisited.queries):
        if on_progress is not None:
            on_progress("Ranking", number, len(revisited.boxes))
        try:
            ranked = queries_of.ranked(number)
        except PhotoError as error:
            problems.append(str(error))
            continue
        truth = revisited.truth(number)
        judged.append(judge_revisited(ranked_rows(ranked.scores), truth))
        if ranked.descriptor_scores is not None:
            alone.append(judge_revisited(ranked_rows(ranked.descriptor_scores), truth))
        queries.append(path)
    return RevisitedEvaluation(
        name=Path(file).stem,
        queries=tuple(queries),
        gallery=len(revisited.gallery) - revisited.distractors,
        distractors=revisited.distractors,
        setups=summarise_revisited(judged),
        settings=settings_of(options, network, indexed.gallery_index),
        problems=(*revisited.dataset.problems, *problems),
        seconds=time.monotonic() - started,
        descriptor_alone=summarise_revisited(alone) if alone else None,
        notes=_notes([root / path for path in queries]),
    )


def _notes(photos: Sequence[Path]) -> tuple[str, ...]:
    """Return a note that tells copies of a set apart by the bytes of the queries."""
    together = b"".join(content_hash(photo.read_bytes()) for photo in photos)
    return (
        f"query photos {content_hash(together).hex()[:12]}: compare only with figures on photos of "
        "the same mark. The official photos have had blurred faces since 2022",
    )


def _judge_given(
    name: str,
    revisited: RevisitedDataset,
    descriptors: Sequence[str | os.PathLike[str]],
    ranking: str | os.PathLike[str] | None,
    on_progress: OnProgress | None,
) -> RevisitedEvaluation:
    """Judge the answers of another program. No photo is read."""
    given = open_given_answers(
        revisited.queries,
        revisited.gallery_ids,
        descriptors=[Path(file) for file in descriptors],
        ranking=None if ranking is None else Path(ranking),
    )
    started = time.monotonic()
    judged = []
    for number, answer in enumerate(given.answers):
        truth = revisited.truth(number)
        if isinstance(answer, GivenOrder):
            order = answer.rows
        else:
            order = ranked_down_to(answer, np.concatenate(list(truth.values())))
        judged.append(judge_revisited(order, truth))
        if on_progress is not None:
            on_progress("Ranking", number + 1, len(revisited.queries))
    return RevisitedEvaluation(
        name=name,
        queries=revisited.queries,
        gallery=len(revisited.gallery) - revisited.distractors,
        distractors=revisited.distractors,
        setups=summarise_revisited(judged),
        settings=given.settings,
        problems=(*revisited.dataset.problems, *given.problems),
        seconds=time.monotonic() - started,
    )
