"""Evaluate retrieval: run a labelled dataset through the index and search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, class_coverage, open_dataset, retrieval_protocol
from veduta.datasets.google_landmarks import photo_ids, write_retrieval_submission
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import QueryError
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
from veduta.keypoints import DEFAULT_KEYPOINTS, load_extractor
from veduta.search import VERIFIED_PHOTOS, exact
from veduta.search.distances import distances
from veduta.search.exact import similarities
from veduta.search.expansion import EXPANSIONS, rank_by_expansion
from veduta.search.reranking import open_gallery, resolve_rerank
from veduta.search.reranking import rerank as rerank_hits

__all__ = ["Evaluation", "evaluate"]

_BLOCK_QUERIES = 64

Ranked = Iterator[tuple[int, int, NDArray[np.floating[Any]]]]
"""(number, row in the dataset, (G,) scores) of each query."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation of retrieval.

    Attributes:
        summary: the figures, with intervals.
        results: one a query, in the order of the dataset.
        settings: the encoder, distance, projection and re-ranking; or the method.
        problems: what was left out and why.
        notes: facts about the dataset: classes without a gallery photo, photos set aside.
        gallery_paths: (G,) paths of the gallery, which `results` refer to by number.
        gallery_labels: (G,) their labels.
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
        classes = [
            {"label": row.label, "queries": row.queries, "top1": row.top1, "map": row.map}
            for row in class_table(self.results)
        ]
        return {
            "task": "retrieve",
            **self.summary.as_json(),
            "classes": classes,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "settings": self.settings,
        }

    def ranked_lists(self) -> dict[str, list[str]]:
        """Return query path → gallery paths, nearest first."""
        return {
            result.path: [self.gallery_paths[near.row] for near in result.nearest]
            for result in self.results
        }

    def write_submission(self, file: str | os.PathLike[str]) -> None:
        """Write the ranked lists as a Google Landmarks retrieval submission.

        `veduta.datasets.google_landmarks.photo_ids` says what the id of a photo is. For each query
        the file lists as many gallery photos as the results hold (`keep`), of which a hundred
        count.

        Args:
            file: the CSV file to write.

        Raises:
            DatasetError: the file cannot be written.
        """
        queries = photo_ids([result.path for result in self.results])
        gallery = photo_ids(self.gallery_paths)
        write_retrieval_submission(
            file,
            (
                (query, [gallery[near.row] for near in result.nearest])
                for query, result in zip(queries, self.results, strict=True)
            ),
        )

    def write_html(
        self, file: str | os.PathLike[str], *, rows: int = 40, command: str = ""
    ) -> None:
        """Write the report page with `rows` queries from the worst to the best.

        Args:
            file: the HTML file to write.
            rows: queries with pictures.
            command: the command line, for the page.

        Raises:
            OSError: the file cannot be written.
        """
        from veduta.evaluation.report_retrieval import write_sampled_page

        write_sampled_page(self, file, rows=rows, command=command)

    def write_png(self, file: str | os.PathLike[str], *, rows: int = 12) -> None:
        """Write a contact sheet: `rows` queries, each with its ten nearest photos.

        Args:
            file: the PNG file to write.
            rows: queries, at most `veduta.pages.contact_sheet.MAX_ROWS`.

        Raises:
            ValueError: too many rows, or none.
            OSError: the file cannot be written.
        """
        from veduta.evaluation.report_retrieval import write_contact_sheet

        write_contact_sheet(self, file, rows=rows)


@dataclass(frozen=True, slots=True)
class _DescriptorOptions:
    """How to rank by descriptors: the options of `evaluate` that keypoint methods do not have."""

    encoder: str = DEFAULT
    runtime: str | None = None
    distance: str = "cosine"
    project: int | None = None
    rerank: str = "auto"
    verify: int = VERIFIED_PHOTOS
    keypoints: str = DEFAULT_KEYPOINTS


def evaluate(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
    exclude: Sequence[str] = (),
    encoder: str = DEFAULT,
    runtime: str | None = None,
    distance: str = "cosine",
    project: int | None = None,
    rerank: str = "auto",
    verify: int = VERIFIED_PHOTOS,
    keypoints: str = DEFAULT_KEYPOINTS,
    method: str | None = None,
    keep: int = 10,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure retrieval on a labelled dataset.

    The gallery is indexed as `veduta index` does it, in the user's cache folder, so a second run
    only encodes what is new. Each query ranks the whole gallery, distractors included.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        labels: passed on to `open_dataset`.
        queries: passed on to `open_dataset`.
        gallery: passed on to `open_dataset`.
        distractors: passed on to `open_dataset`.
        unknown: passed on to `open_dataset`.
        exclude: passed on to `open_dataset`.
        encoder: name of the encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        distance: one of `veduta.search.DISTANCES`.
        project: dimension of a PCA fitted on the gallery, without labels.
        rerank: one of `veduta.search.RERANK_MODES`; `"auto"` is `"geometry"`, or `"none"` with
            other distances than cosine. For comparison also `"expansion"`, `"augmentation"` and
            `"superglobal"`, see `veduta.search.expansion`; their scores are no probabilities.
        verify: how many of the nearest photos are verified by geometry.
        keypoints: by which photos are verified, one of `veduta.keypoints.KINDS`.
        method: one of `veduta.evaluation.METHODS`, which rank by keypoints alone, or None for the
            global descriptor. The options from `encoder` to `keypoints` do not go with a method.
        keep: how many of the first answers each result holds.
        on_progress: called with (stage, done, total).

    Returns:
        The figures and the result of each query.

    Raises:
        DatasetError: the dataset does not fit the protocol of retrieval.
        EncoderError: the encoder is unknown or not available.
        QueryError: a method or a re-ranking is unknown, or options do not go with each other.
    """
    options = _DescriptorOptions(encoder, runtime, distance, project, rerank, verify, keypoints)
    if method is not None:
        check_method(method)
        _check_defaults(options, method)
    options = replace(options, rerank=_resolve_rerank(rerank, distance))
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(
            dataset,
            labels=labels,
            queries=queries,
            gallery=gallery,
            distractors=distractors,
            unknown=unknown,
            exclude=exclude,
        )
    if method is not None:
        dataset, settings, ranked = rank_by_keypoints(dataset, method, cache_folder(), on_progress)
    else:
        dataset, settings, ranked = _rank_by_descriptors(dataset, options, on_progress)
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


def _resolve_rerank(rerank: str, distance: str) -> str:
    if rerank not in EXPANSIONS:
        return resolve_rerank(rerank, distance, keypoints=True)
    if distance != "cosine":
        raise QueryError(f"--rerank {rerank} goes with the cosine distance only.")
    return rerank


def _check_defaults(options: _DescriptorOptions, method: str) -> None:
    """Raise `QueryError` if an option is not at its default."""
    for field in fields(options):
        if getattr(options, field.name) != field.default:
            raise QueryError(
                f"the method {method!r} ranks by keypoints alone: leave out {field.name!r}"
            )


def _rank_by_descriptors(
    dataset: Dataset, options: _DescriptorOptions, on_progress: OnProgress | None
) -> tuple[Dataset, dict[str, Any], Ranked]:
    """Bring the indexes up to date, and rank the gallery as `veduta search` does.

    Returns the dataset without photos that do not decode, the settings, and the scores of each
    query.
    """
    verifies = options.rerank in {"geometry", "expansion"}
    extractor = load_extractor(options.keypoints) if verifies else None
    network = load_encoder(options.encoder, runtime=options.runtime)
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, on_progress)
    set_projection(indexed.gallery_index, options.project)
    if options.rerank == "none":
        ranked = _scores(indexed, options.distance)
    else:
        ranked = _reranked_scores(indexed, options, verifies=verifies)
    facts = network.describe()
    settings = {
        "encoder": network.name,
        "identity": network.identity,
        "runtime": facts["runtime"],
        "precision": facts["precision"],
        "distance": options.distance,
        "project": options.project,
        "rerank": options.rerank,
        "verify": options.verify if verifies else None,
    }
    if verifies and options.keypoints != DEFAULT_KEYPOINTS:
        calibration = open_gallery(indexed.gallery_index).calibration
        calibrated = calibration.geometry_is_calibrated
        settings |= {
            "keypoints": options.keypoints,
            "score_kind": "probability" if calibrated else "evidence",
        }
    return indexed.dataset, settings, ranked


def _reranked_scores(
    indexed: IndexedDataset, options: _DescriptorOptions, *, verifies: bool
) -> Ranked:
    protocol = indexed.protocol
    gallery = open_gallery(indexed.gallery_index)
    rows = indexed.gallery_rows(gallery.snapshot)
    keypoints_of = indexed.query_keypoints() if verifies else None
    photos, verify = gallery.snapshot.photos, options.verify
    for number, descriptor in enumerate(indexed.query_descriptors()):
        own_position = protocol.own_position(number)
        own_row = None if own_position is None else int(rows[own_position])
        keep = None
        if own_row is not None:
            keep = np.ones(photos, np.bool_)
            keep[own_row] = False
        nearest, similarity = exact.nearest(gallery.snapshot, descriptor, photos, keep)
        keypoints = [keypoints_of(number)] if keypoints_of is not None else []
        query = gallery, descriptor, keypoints, nearest, similarity
        scores = np.zeros(photos)
        if options.rerank in EXPANSIONS:
            ranked_rows, ranked_scores = rank_by_expansion(
                options.rerank, *query, verify=verify, keep=keep, without=own_row
            )
            scores[ranked_rows] = ranked_scores
        else:
            without = [] if own_row is None else [own_row]
            reranked = rerank_hits(*query, verify=verify, keep=keep, without=without)
            scores[reranked.rows] = reranked.scores
        yield number, int(protocol.queries[number]), scores[rows]


def _scores(indexed: IndexedDataset, distance: str) -> Ranked:
    snapshot = open_snapshot(indexed.gallery_index)
    rows = indexed.gallery_rows(snapshot)
    queries = indexed.query_descriptors()
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        if distance == "cosine":
            scores = np.empty((len(block), snapshot.photos), np.float32)
            for part, values in similarities(snapshot, block):
                scores[:, part] = values
        else:
            scores = np.stack([-distances(snapshot.descriptors, q, distance) for q in block])
        for offset, values in enumerate(scores):
            number = start + offset
            yield number, int(indexed.protocol.queries[number]), values[rows]
