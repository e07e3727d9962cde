"""Evaluate Oxford or Paris, classic or revisited, with the index and search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, RetrievalProtocol, open_revisited
from veduta.encoders import DEFAULT, Encoder, load_encoder, name_without_folders
from veduta.errors import PhotoError
from veduta.evaluation.answered_by import retrieved_by
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.evaluation.descriptor_ranking import check_verification, resolved_rerank
from veduta.evaluation.revisited import RevisitedSetup, judge_revisited, summarise_revisited
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search import VERIFIED_PHOTOS, Box, Engine, exact, hits_of
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.options import check_orientation
from veduta.search.reranking import rerank as rerank_hits

__all__ = ["RevisitedEvaluation", "evaluate_revisited"]


@dataclass(frozen=True, slots=True)
class RevisitedEvaluation:
    """The result of an evaluation by a published protocol.

    Attributes:
        name: of the protocol's file, without its ending.
        queries: paths of the queries that could be read, in the order of `RevisitedSetup.ap`.
        gallery: how many photos are ranked.
        setups: the figures of "easy", "medium" and "hard".
        settings: the encoder and the re-ranking.
        problems: what was left out and why.
        seconds: time for describing the queries and ranking.
        descriptor_alone: the figures of the setups by the descriptor alone, if the ranking was
            re-ranked; None otherwise.
    """

    name: str
    queries: tuple[str, ...]
    gallery: int
    setups: dict[str, RevisitedSetup]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    seconds: float
    descriptor_alone: dict[str, RevisitedSetup] | None = None

    @property
    def answered_by(self) -> str:
        """What the ranking comes from, such as "descriptor alone"."""
        return retrieved_by(self.settings)

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the problems and the settings as JSON types."""
        alone = self.descriptor_alone
        return {
            "task": "revisited",
            "answered_by": self.answered_by,
            **{name: setup.as_json() for name, setup in self.setups.items()},
            "descriptor_alone": (
                {name: setup.as_json() for name, setup in alone.items()} if alone else None
            ),
            "problems": list(self.problems),
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
        on_progress: called with (stage, done, total).

    Returns:
        The figures of each setup.

    Raises:
        DatasetError: the file is not such a protocol, or no query can be read.
        EncoderError: the encoder is unknown or not available.
        QueryError: `verify` would have no effect.
    """
    mode = resolved_rerank(rerank, "cosine", encoder_is_named=encoder is not None)
    check_verification(mode, verify=verify)
    check_orientation(orientation)
    revisited = open_revisited(file, photos)
    network = load_encoder(encoder or DEFAULT, runtime=runtime)
    extractor = load_extractor() if mode == "geometry" else None
    indexed = index_dataset(
        revisited.dataset,
        _gallery_protocol,
        network,
        extractor,
        on_progress,
        graph=mode != "none",
    )
    decoded = set(indexed.dataset.table["path"].to_pylist())
    undecodable = {path: "does not decode" for path in revisited.gallery if path not in decoded}
    revisited = revisited.without(undecodable) if undecodable else revisited
    set_projection(indexed.gallery_index, None)
    started = time.monotonic()
    rank = _ranking_function(indexed, network, mode, verify, orientation)
    judged, alone, queries, problems = [], [], [], []
    for number, (path, box) in enumerate(zip(revisited.queries, revisited.boxes, strict=True)):
        if on_progress is not None:
            on_progress("Ranking", number, len(revisited.boxes))
        try:
            ranking, by_descriptor = rank(Path(revisited.dataset.root) / path, box)
        except PhotoError as error:
            problems.append(str(error))
            continue
        judged.append(judge_revisited(ranking, revisited.truth(number)))
        if mode != "none":
            alone.append(judge_revisited(by_descriptor, revisited.truth(number)))
        queries.append(path)
    return RevisitedEvaluation(
        name=Path(file).stem,
        queries=tuple(queries),
        gallery=len(revisited.gallery),
        setups=summarise_revisited(judged),
        settings={
            "encoder": name_without_folders(network.name),
            "identity": network.identity,
            "runtime": network.describe()["runtime"],
            "rerank": mode,
            "verify": verify if mode == "geometry" else None,
            **({"orientation": orientation} if orientation != UPRIGHT.name else {}),
        },
        problems=(*revisited.dataset.problems, *problems),
        seconds=time.monotonic() - started,
        descriptor_alone=summarise_revisited(alone) if alone else None,
    )


def _gallery_protocol(dataset: Dataset) -> RetrievalProtocol:
    """Return a protocol of the gallery alone: queries are crops and are encoded one by one."""
    rows = np.flatnonzero(dataset.table["split"].to_numpy() == "gallery")
    no_labels = np.full(len(rows), -1, np.int32)
    return RetrievalProtocol(rows, rows, 0, True, no_labels, no_labels)


def _ranking_function(
    indexed: IndexedDataset, encoder: Encoder, mode: str, verify: int, orientation: str
) -> Callable[[Path, Box | None], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return a function from a photo and a box in it to the whole gallery, nearest first.

    It returns the ranking of the mode, and that of the descriptor alone.
    """
    engine = Engine(indexed.gallery_index, encoder=encoder)
    gallery = engine.state.gallery
    rows = indexed.gallery_rows(gallery.snapshot)
    position_of_row = np.empty(gallery.snapshot.photos, np.int64)
    position_of_row[rows] = np.arange(len(rows))

    def rank(photo: Path, box: Box | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        views = engine.query_views([photo], crop=box, rerank=mode)

        def attempt(turn: Orientation) -> Attempt[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            query = views.encoded(turn)
            nearest, similarities = exact.nearest(
                gallery.snapshot, query.descriptor, gallery.snapshot.photos
            )
            ranked, hits = nearest, None
            if mode != "none":
                ranking = rerank_hits(
                    gallery, query.descriptor, query.keypoints, nearest, similarities, verify=verify
                )
                ranked, hits = ranking.rows, hits_of(gallery.snapshot, ranking, 1, query)
            rows = position_of_row[ranked], position_of_row[nearest]
            return Attempt.of(
                rows,
                hits,
                verified=views.verified,
                stands_out=gallery.stands_out(query.descriptor, similarities[:1]),
            )

        return best_attempt(
            orientation,
            attempt,
            partial(views.first_similarity, gallery.snapshot),
            verified=views.verified,
            is_promising=partial(views.is_promising, gallery, verify),
        )

    return rank
