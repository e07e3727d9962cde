"""Run a labelled dataset through the same index and the same search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, class_coverage, open_dataset, retrieval_protocol
from veduta.datasets.google_landmarks import photo_id, write_retrieval_submission
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import QueryError
from veduta.evaluation import report
from veduta.evaluation.dataset_index import (
    IndexedDataset,
    OnProgress,
    cache_folder,
    index_dataset,
)
from veduta.evaluation.keypoint_methods import check_method, rank_by_keypoints
from veduta.evaluation.metrics import QueryResult, judge
from veduta.evaluation.summary import Summary, class_table, summarise
from veduta.index import open_snapshot, set_projection
from veduta.keypoints import load_extractor
from veduta.photos import preview
from veduta.search import VERIFIED_PHOTOS, exact
from veduta.search.distances import distances
from veduta.search.exact import similarities
from veduta.search.expansion import ALTERNATIVES, rank_by
from veduta.search.reranking import open_gallery, resolve_rerank
from veduta.search.reranking import rerank as rerank_hits

_QUERY_PHOTO = 640  # pixels, long side on the page
_BLOCK = 64  # queries ranked at a time

Ranked = Iterator[tuple[int, int, NDArray[np.floating[Any]]]]
"""(number, row in the dataset, (G,) scores) of each query, whatever ranks."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        summary: the figures, with intervals.
        results: one a query, in the order of the dataset.
        settings: the encoder, distance, projection and re-ranking; or the method.
        problems: what was left out and why.
        notes: what else to know of the dataset: classes without an answer, photos set aside.
        gallery_paths, gallery_labels: (G,), what `results` refer to by number.
        root: the folder that paths are relative to.
        seconds: time for ranking alone, without encoding.
    """

    summary: Summary
    results: tuple[QueryResult, ...]
    settings: dict[str, Any]
    problems: tuple[str, ...]
    gallery_paths: tuple[str, ...]
    gallery_labels: tuple[str | None, ...]
    root: Path
    seconds: float
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the classes, the problems and the settings as JSON types."""
        figures = report.as_json(self.summary, self.results, self.problems)
        return {"task": "retrieve", **figures, "notes": list(self.notes), "settings": self.settings}

    def ranked_lists(self) -> dict[str, list[str]]:
        """Return the dictionary from query path to gallery paths, nearest first."""
        return report.ranked_lists(self.results, self.gallery_paths)

    def write_submission(self, file: str | os.PathLike[str]) -> None:
        """Write the ranked lists as a Google Landmarks retrieval submission.

        A photo's id is its file name without the ending. Of each query as many gallery photos are
        written as the results hold (`keep`), of which a hundred count.

        Raises:
            DatasetError: a name cannot stand in such a file, or the file cannot be written.
        """
        write_retrieval_submission(
            file,
            (
                (
                    photo_id(result.path),
                    [photo_id(self.gallery_paths[near.row]) for near in result.nearest],
                )
                for result in self.results
            ),
        )

    def write_html(self, file: str | os.PathLike[str], *, rows: int = 40) -> None:
        """Write a page: the figures, the classes, and `rows` queries from worst to best."""
        report.write_html(
            file,
            title=f"{self.root.name}: retrieval",
            summary=self.summary,
            classes=class_table(self.results),
            rows=self._rows(rows),
            subtitle=", ".join(f"{name} {value}" for name, value in self.settings.items() if value),
            problems=self.problems,
        )

    def write_png(self, file: str | os.PathLike[str], *, rows: int = 12) -> None:
        """Write the reports' picture: `rows` queries, each with its ten nearest."""
        report.write_png(
            file, title=self.root.name, summary=self.summary, rows=list(self._rows(rows))
        )

    def _rows(self, number: int) -> Iterator[report.ResultRow]:
        return report.result_rows(
            report.sample(self.results, number),
            self.gallery_paths,
            self.gallery_labels,
            query_photo=lambda path: preview(self.root / path, _QUERY_PHOTO),
            thumbnail=lambda path: preview(self.root / path, 256),
        )


def evaluate(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
    encoder: str = DEFAULT,
    runtime: str | None = None,
    distance: str = "cosine",
    project: int | None = None,
    rerank: str = "auto",
    verify: int = VERIFIED_PHOTOS,
    method: str | None = None,
    keep: int = 10,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure retrieval on a labelled dataset.

    The gallery is indexed as `veduta index` does it, into the user's cache, so a second run only
    encodes what is new. Each query ranks the whole gallery, distractors included.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        labels, queries, gallery, distractors, unknown: passed on to `open_dataset`.
        encoder: name of the encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        distance: one of `veduta.search.DISTANCES`.
        project: dimension of a PCA fitted on the gallery, without labels.
        rerank: one of `veduta.search.RERANK_MODES`; `"auto"` is `"geometry"`, or `"none"` with
            other distances than cosine. Or, to compare with, one of `"expansion"`,
            `"augmentation"` and `"superglobal"`, see `veduta.search.expansion`: their scores are
            no probabilities.
        verify: how many of the nearest photos geometry is asked of.
        method: one of `veduta.evaluation.METHODS`, which rank by keypoints alone, or None for the
            global descriptor. With a method, the options from `encoder` to `verify` have no
            meaning and must be left out.
        keep: how many of the first answers each result holds.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: the dataset is not as its protocol wants it.
        EncoderError: the encoder cannot be had.
        QueryError: re-ranking by that name does not exist, or not with this distance; a method is
            unknown, or named beside what it has no use for.
    """
    if method is not None:
        check_method(method)
        _check_unused(
            method,
            encoder=encoder,
            runtime=runtime,
            distance=distance,
            project=project,
            rerank=rerank,
            verify=verify,
        )
    mode = _mode(rerank, distance)
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(
            dataset,
            labels=labels,
            queries=queries,
            gallery=gallery,
            distractors=distractors,
            unknown=unknown,
        )
    if method is not None:
        dataset, settings, ranked = rank_by_keypoints(dataset, method, cache_folder(), on_progress)
    else:
        dataset, settings, ranked = _rank_by_descriptors(
            dataset, encoder, runtime, distance, project, mode, verify, on_progress
        )
    protocol = retrieval_protocol(dataset)
    paths = dataset.table["path"].to_pylist()
    names = dataset.table["label"].to_pylist()
    started = time.monotonic()
    results = [
        judge(
            paths[row],
            names[row],
            scores,
            protocol.relevant(number),
            itself=protocol.own_position(number),
            keep=keep,
        )
        for number, row, scores in ranked
    ]
    return Evaluation(
        summary=summarise(
            results,
            gallery=len(protocol.gallery) - protocol.distractors,
            distractors=protocol.distractors,
        ),
        results=tuple(results),
        settings=settings,
        problems=dataset.problems,
        notes=class_coverage(dataset).notes(),
        gallery_paths=tuple(paths[i] for i in protocol.gallery),
        gallery_labels=tuple(names[i] for i in protocol.gallery),
        root=dataset.root,
        seconds=time.monotonic() - started,
    )


def _mode(rerank: str, distance: str) -> str:
    if rerank not in ALTERNATIVES:
        return resolve_rerank(rerank, distance, keypoints=True)
    if distance != "cosine":
        raise QueryError(f"--rerank {rerank} goes with the cosine distance only.")
    return rerank


def _check_unused(method: str, **given: object) -> None:
    """Raise `QueryError` if one of the options of `evaluate` is not at its default."""
    defaults = signature(evaluate).parameters
    for name, value in given.items():
        if value != defaults[name].default:
            raise QueryError(f"the method {method!r} ranks by keypoints alone: leave out {name!r}")


def _rank_by_descriptors(
    dataset: Dataset,
    encoder: str,
    runtime: str | None,
    distance: str,
    project: int | None,
    mode: str,
    verify: int,
    on_progress: OnProgress | None,
) -> tuple[Dataset, dict[str, Any], Ranked]:
    """Bring the indexes up to date; rank the gallery as `veduta search` does.

    Returns the dataset less what does not decode, the settings, and the scores of its queries.
    """
    verifies = mode in {"geometry", "expansion"}
    extractor = load_extractor() if verifies else None
    network = load_encoder(encoder, runtime=runtime)
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, on_progress)
    set_projection(indexed.gallery_index, project)
    ranked = (
        _scores(indexed, distance) if mode == "none" else _reranked(indexed, mode, verify, verifies)
    )
    facts = network.describe()
    settings = {
        "encoder": network.name,
        "identity": network.identity,
        "runtime": facts["runtime"],
        "precision": facts["precision"],
        "distance": distance,
        "project": project,
        "rerank": mode,
        "verify": verify if verifies else None,
    }
    return indexed.dataset, settings, ranked


def _reranked(indexed: IndexedDataset, mode: str, verify: int, verifies: bool) -> Ranked:
    protocol = indexed.protocol
    gallery = open_gallery(indexed.gallery_index)
    rows = indexed.gallery_rows(gallery.snapshot)
    keypoints = indexed.query_keypoints() if verifies else None
    everything = gallery.snapshot.photos
    for number, query in enumerate(indexed.query_descriptors()):
        itself = protocol.own_position(number)
        without = None if itself is None else int(rows[itself])
        keep = None
        if without is not None:
            keep = np.ones(everything, np.bool_)
            keep[without] = False
        nearest, similar = exact.nearest(gallery.snapshot, query, everything, keep)
        asked = [keypoints(number)] if keypoints is not None else []
        evidence = gallery, query, asked, nearest, similar
        scores = np.zeros(everything)
        if mode in ALTERNATIVES:
            found, after = rank_by(mode, *evidence, verify=verify, keep=keep, without=without)
            scores[found] = after
        else:
            left_out = [] if without is None else [without]
            ranking = rerank_hits(*evidence, verify=verify, keep=keep, without=left_out)
            scores[ranking.rows] = ranking.probabilities
        yield number, int(protocol.queries[number]), scores[rows]


def _scores(indexed: IndexedDataset, distance: str) -> Ranked:
    snapshot = open_snapshot(indexed.gallery_index)
    rows = indexed.gallery_rows(snapshot)
    queries = indexed.query_descriptors()
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        if distance == "cosine":
            scores = np.empty((len(block), snapshot.photos), np.float32)
            for part, values in similarities(snapshot, block):
                scores[:, part] = values
        else:
            scores = np.stack([-distances(snapshot.descriptors, q, distance) for q in block])
        for offset, values in enumerate(scores):
            number = start + offset
            yield number, int(indexed.protocol.queries[number]), values[rows]
