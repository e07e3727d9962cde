"""Run Oxford or Paris, classic or revisited, through the same index and search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, RetrievalProtocol, RevisitedDataset, open_revisited
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import PhotoError
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.evaluation.revisited import RevisitedSetup, revisited_figures
from veduta.index import set_projection
from veduta.keypoints import load_extractor
from veduta.search import VERIFIED_PHOTOS, Engine, exact
from veduta.search.reranking import rerank as rerank_hits
from veduta.search.reranking import resolve_rerank

__all__ = ["RevisitedEvaluation", "evaluate_revisited"]


@dataclass(frozen=True, slots=True)
class RevisitedEvaluation:
    """What came of an evaluation.

    Attributes:
        name: of the protocol's file, without its ending.
        queries: paths of those that were asked, in the order of `RevisitedSetup.ap`.
        gallery: how many photos answered.
        setups: the figures of "easy", "medium" and "hard".
        settings: the encoder and the re-ranking.
        problems: what was left out and why.
        seconds: time for describing the queries and ranking.
    """

    name: str
    queries: tuple[str, ...]
    gallery: int
    setups: dict[str, RevisitedSetup]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the problems and the settings as JSON types."""
        return {
            "task": "revisited",
            **{name: setup.as_json() for name, setup in self.setups.items()},
            "problems": list(self.problems),
            "settings": self.settings,
        }


def evaluate_revisited(
    file: str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    *,
    encoder: str = DEFAULT,
    runtime: str | None = None,
    rerank: str = "auto",
    verify: int = VERIFIED_PHOTOS,
    on_progress: OnProgress | None = None,
) -> RevisitedEvaluation:
    """Measure retrieval on Oxford or Paris, each query cropped to the box of its building.

    Args:
        file: `gnd_roxford5k.pkl` or one of its kind.
        photos: the folder of photos; None: see `veduta.datasets.open_revisited`.
        encoder: name of the encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        rerank: one of `veduta.search.RERANK_MODES`.
        verify: how many of the nearest photos geometry is asked of.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: the file is not such a protocol, or no query can be read.
        EncoderError: the encoder cannot be had.
    """
    mode = resolve_rerank(rerank, "cosine", keypoints=True)
    revisited = open_revisited(file, photos)
    network = load_encoder(encoder, runtime=runtime)
    extractor = load_extractor() if mode == "geometry" else None
    indexed = index_dataset(revisited.dataset, _gallery, network, extractor, on_progress)
    there = set(indexed.dataset.table["path"].to_pylist())
    gone = {path: "does not decode" for path in revisited.gallery if path not in there}
    revisited = revisited.without(gone) if gone else revisited
    set_projection(indexed.gallery_index, None)
    started = time.monotonic()
    unread: dict[str, str] = {}
    answered: list[int] = []
    rankings = _rankings(revisited, indexed, mode, verify, answered, unread, on_progress)
    # One ranking at a time: `answered` grows with each, before its truth is asked for.
    setups = revisited_figures(rankings, (revisited.truth(number) for number in answered))
    return RevisitedEvaluation(
        name=Path(file).stem,
        queries=tuple(revisited.queries[number] for number in answered),
        gallery=len(revisited.gallery),
        setups=setups,
        settings={
            "encoder": network.name,
            "identity": network.identity,
            "runtime": network.describe()["runtime"],
            "rerank": mode,
            "verify": verify if mode == "geometry" else None,
        },
        problems=(*revisited.dataset.problems, *unread.values()),
        seconds=time.monotonic() - started,
    )


def _gallery(dataset: Dataset) -> RetrievalProtocol:
    """Return the protocol in which only the gallery is described: queries are parts of photos."""
    rows = np.flatnonzero(dataset.table["split"].to_numpy() == "gallery")
    nothing = np.full(len(rows), -1, np.int32)
    return RetrievalProtocol(rows, rows, 0, True, nothing, nothing)


def _rankings(
    revisited: RevisitedDataset,
    indexed: IndexedDataset,
    mode: str,
    verify: int,
    answered: list[int],
    unread: dict[str, str],
    on_progress: OnProgress | None,
) -> Iterator[NDArray[np.int64]]:
    """Yield the whole gallery, nearest first, for each query that can be read.

    Its number goes into `answered`; that of the others with the reason into `unread`.
    """
    engine = Engine(indexed.gallery_index)
    gallery = engine.state.gallery
    rows = indexed.gallery_rows(gallery.snapshot)
    position = np.empty(gallery.snapshot.photos, np.int64)
    position[rows] = np.arange(len(rows))
    root = Path(revisited.dataset.root)
    for number, (path, box) in enumerate(zip(revisited.queries, revisited.boxes, strict=True)):
        if on_progress is not None:
            on_progress("Ranking", number, len(revisited.boxes))
        try:
            asked = engine.encode_query([root / path], crop=box, rerank=mode)
        except PhotoError as error:
            unread[path] = str(error)
            continue
        nearest, similar = exact.nearest(
            gallery.snapshot, asked.descriptor, gallery.snapshot.photos
        )
        if mode != "none":
            ranking = rerank_hits(
                gallery, asked.descriptor, asked.keypoints, nearest, similar, verify=verify
            )
            nearest = ranking.rows
        answered.append(number)
        yield position[nearest]
