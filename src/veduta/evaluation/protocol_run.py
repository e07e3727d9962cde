"""Evaluate a published protocol: with the search that users have, or with given answers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.judged_set import JudgedSet
from veduta.datasets.protocols import open_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import PhotoError
from veduta.evaluation.answered_by import retrieved_by
from veduta.evaluation.dataset_index import OnProgress
from veduta.evaluation.descriptor_ranking import check_verification, resolved_rerank
from veduta.evaluation.figures import json_value
from veduta.evaluation.given_answers import open_given_answers
from veduta.evaluation.photo_ranking import DescriptorOptions, RankedQuery
from veduta.evaluation.protocol_judge import (
    Answer,
    ProtocolFigures,
    ProtocolJudge,
    ProtocolQuery,
)
from veduta.evaluation.protocol_photos import (
    rank_photos,
    with_boxes_inside,
    with_photos_that_exist,
)
from veduta.evaluation.turned_queries import turned_note
from veduta.keypoints import DEFAULT_KEYPOINTS, load_extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search import VERIFIED_PHOTOS
from veduta.search.options import check_orientation

__all__ = ["ProtocolEvaluation", "evaluate_protocol"]


@dataclass(frozen=True, slots=True)
class ProtocolEvaluation:
    """The result of an evaluation by a published protocol.

    Attributes:
        judged: the set, without the photos that were left out.
        figures: with intervals.
        results: one a query, in the order of the set.
        settings: the encoder and the re-ranking, or the file of the answers.
        problems: what was left out and why.
        notes: facts about the set and the queries.
        seconds: time for ranking and judging, without encoding the gallery.
        descriptor_alone: the figures of the same queries by the descriptor alone, if the ranking
            was re-ranked; None otherwise.
        pairs: the pairs of all queries that count, as `PairPool.sorted`, if pairs are pooled.
    """

    judged: JudgedSet
    figures: ProtocolFigures
    results: tuple[ProtocolQuery, ...]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    descriptor_alone: ProtocolFigures | None = None
    pairs: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]] | None = None

    @property
    def answered_by(self) -> str:
        """What the ranking comes from, such as "descriptor alone"."""
        return retrieved_by(self.settings)

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.judged.root

    @property
    def gallery_paths(self) -> tuple[str, ...]:
        """(G,) paths of the gallery."""
        return self.judged.gallery_paths

    @property
    def gallery_labels(self) -> tuple[str | None, ...]:
        """(G,) labels of the gallery; None where there are none."""
        return self.judged.gallery_labels or (None,) * len(self.judged.gallery)

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the tables, the problems and the settings as JSON types."""
        judged, figures, alone = self.judged, self.figures, self.descriptor_alone
        keys = list(figures.figures)
        tables = {
            name: [
                {"group": group, "queries": queries, **dict(zip(keys, values, strict=False))}
                if name != "distance"
                else {"within": float(group), "queries": queries, "first_answer": values[0]}
                for group, queries, values in rows
            ]
            for name, rows in figures.tables.items()
        }
        with_all = dict(figures.with_all_queries)
        return {
            "task": "protocol",
            "protocol": judged.protocol,
            "set": judged.name,
            "answered_by": self.answered_by,
            **figures.figures_as_json(),
            **({"with_all_queries": with_all} if with_all else {}),
            "queries": figures.queries,
            "queries_without_positives": figures.queries_without_positives,
            "gallery": len(judged.gallery) - judged.distractors,
            "distractors": judged.distractors,
            "descriptor_alone": alone.figures_as_json() if alone else None,
            "tables": json_value(tables),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "settings": self.settings,
        }

    def ranked_lists(self) -> dict[str, list[str]]:
        """Return query id → gallery ids, nearest first."""
        return {
            result.id: [self.judged.gallery[near.row] for near in result.nearest]
            for result in self.results
        }


def evaluate_protocol(
    dataset: str | os.PathLike[str] | JudgedSet,
    *,
    protocol: str | None = None,
    variant: str | None = None,
    photos: str | os.PathLike[str] | None = None,
    encoder: str | None = None,
    runtime: str | None = None,
    distance: str = "cosine",
    rerank: str | None = None,
    verify: int = VERIFIED_PHOTOS,
    keypoints: str = DEFAULT_KEYPOINTS,
    orientation: str = UPRIGHT.name,
    descriptors: Sequence[str | os.PathLike[str]] = (),
    ranking: str | os.PathLike[str] | None = None,
    keep: int = 10,
    allow_missing: bool = False,
    on_progress: OnProgress | None = None,
) -> ProtocolEvaluation:
    """Measure the search, or another program, on a set of a published protocol.

    Args:
        dataset: the folder of the set, or a file of it, see `veduta.datasets.protocols`; or a set
            that was read.
        protocol: the name of the protocol; None: it is recognised.
        variant: one of the variants of the protocol; None: the usual one.
        photos: the folder of the photos; None: where the published files have it.
        encoder: as in `veduta.evaluation.evaluate`, as are the next options.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        distance: one of `veduta.search.DISTANCES`.
        rerank: None: `"auto"` if no encoder is named, `"none"` if one is.
        verify: how many of the nearest photos are verified by geometry.
        keypoints: by which photos are verified.
        orientation: how the queries are turned.
        descriptors: files of descriptors of another program, by which the gallery is ranked, see
            `veduta.interchange.descriptor_files`. Then no photo is read, and of the options of the
            search only `distance` has an effect.
        ranking: a file of rankings of another program, see `veduta.interchange.ranking_files`; not
            with `descriptors`.
        keep: how many of the first answers each result holds.
        allow_missing: leave out photos that are missing, instead of refusing the set.
        on_progress: called with (stage, done, total).

    Returns:
        The figures and the result of each query.

    Raises:
        DatasetError: the set is not as its protocol expects, photos are missing, no query has a
            right answer, or a file of answers is of another set or lacks scores that are needed.
        EncoderError: the encoder is unknown or not available.
        QueryError: options do not go with each other.
    """
    judged = dataset
    if not isinstance(judged, JudgedSet):
        judged = open_protocol(judged, protocol, photos=photos, variant=variant)
    if descriptors or ranking is not None:
        given = open_given_answers(
            judged.queries,
            judged.gallery,
            descriptors=[Path(file) for file in descriptors],
            ranking=None if ranking is None else Path(ranking),
            distance=distance,
        )
        judged = judged.with_problems(*given.problems)
        return _judge(judged, given.settings, given.answers, keep=keep, on_progress=on_progress)
    mode = resolved_rerank(rerank, distance, encoder_is_named=encoder is not None)
    check_verification(mode, verify=verify, keypoints=keypoints)
    check_orientation(orientation)
    options = DescriptorOptions(
        encoder, runtime, distance, None, mode, verify, keypoints, orientation
    )
    if judged.unpack is not None:
        judged.unpack(on_progress)
    judged = with_boxes_inside(with_photos_that_exist(judged, allow_missing=allow_missing))
    network = load_encoder(encoder or DEFAULT, runtime=runtime)
    extractor = load_extractor(keypoints) if options.verifies else None
    judged, settings, ranked = rank_photos(judged, options, network, extractor, on_progress)
    return _judge(judged, settings, ranked, keep=keep, on_progress=on_progress)


def _judge(
    judged: JudgedSet,
    settings: dict[str, Any],
    answers: Iterable[Answer | RankedQuery | PhotoError],
    *,
    keep: int,
    on_progress: OnProgress | None,
) -> ProtocolEvaluation:
    started = time.monotonic()
    judge, alone = ProtocolJudge(judged, keep=keep), ProtocolJudge(judged, keep=1)
    turned: Counter[Orientation] = Counter()
    problems: list[str] = []
    for number, answer in enumerate(answers):
        if isinstance(answer, PhotoError):
            problems.append(f"{answer}; the figures do not compare with published ones")
        elif isinstance(answer, RankedQuery):
            turned[answer.orientation] += 1
            judge.add(number, answer.scores)
            if answer.descriptor_scores is not None:
                alone.add(number, answer.descriptor_scores)
        else:
            judge.add(number, answer)
        if on_progress is not None:
            on_progress("Ranking", number + 1, len(judged.queries))
    return ProtocolEvaluation(
        judged=judged,
        figures=judge.figures(),
        results=tuple(judge.results),
        settings=settings,
        problems=(*judged.problems, *problems),
        notes=(*judged.notes, *turned_note(turned)),
        seconds=time.monotonic() - started,
        descriptor_alone=alone.figures() if alone.results else None,
        pairs=judge.pooled_pairs() if judge.pools else None,
    )
