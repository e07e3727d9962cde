"""Evaluate retrieval: run a labelled dataset through the index and search that users have."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, class_coverage, open_dataset, retrieval_protocol
from veduta.datasets.google_landmarks import photo_ids, write_retrieval_submission
from veduta.encoders import DEFAULT, load_encoder
from veduta.errors import DatasetError, NoLabels, QueryError
from veduta.evaluation.answered_by import retrieved_by
from veduta.evaluation.dataset_index import OnProgress, cache_folder
from veduta.evaluation.descriptor_ranking import (
    check_verification,
    rank_by_descriptors,
    resolved_rerank,
)
from veduta.evaluation.given_answers import open_given_answers
from veduta.evaluation.keypoint_methods import check_method, rank_by_keypoints
from veduta.evaluation.metrics import NearestPhoto, QueryResult, judge, judge_ranked
from veduta.evaluation.photo_ranking import DescriptorOptions, RankedQuery
from veduta.evaluation.protocol_judge import GivenOrder
from veduta.evaluation.score_matrix import open_score_matrix
from veduta.evaluation.summary import Summary, class_table, summarise
from veduta.evaluation.turned_queries import turned_note
from veduta.keypoints import DEFAULT_KEYPOINTS, load_extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search import VERIFIED_PHOTOS
from veduta.search.options import check_orientation

if TYPE_CHECKING:
    from veduta.evaluation.report_parts import DrawMap

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation of retrieval.

    Attributes:
        summary: the figures, with intervals.
        results: one a query, in the order of the dataset.
        settings: the encoder, distance, projection and re-ranking; or the method.
        problems: what was left out and why.
        gallery_paths: (G,) paths of the gallery, which `results` refer to by number.
        gallery_labels: (G,) their labels.
        root: the folder that paths are relative to.
        seconds: time for ranking alone, without encoding.
        notes: facts about the dataset: classes without a gallery photo, photos set aside.
        descriptor_alone: the figures of the same queries by the descriptor alone, if the ranking
            was re-ranked; None otherwise.
        descriptor_alone_results: the results of that ranking, in the order of `results`, without
            their nearest photos.
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
    descriptor_alone: Summary | None = None
    descriptor_alone_results: tuple[QueryResult, ...] = ()

    @property
    def answered_by(self) -> str:
        """What the ranking comes from, such as "descriptor alone"."""
        return retrieved_by(self.settings)

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the classes, the problems and the settings as JSON types."""
        alone = self.descriptor_alone
        classes = [
            {"label": row.label, "queries": row.queries, "top1": row.top1, "map": row.map}
            for row in class_table(self.results)
        ]
        return {
            "task": "retrieve",
            "answered_by": self.answered_by,
            **self.summary.as_json(),
            "descriptor_alone": alone.figures_as_json() if alone else None,
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
        self,
        file: str | os.PathLike[str],
        *,
        rows: int = 40,
        command: str = "",
        draw_map: DrawMap | None = None,
    ) -> None:
        """Write the report page with `rows` queries from the worst to the best.

        Args:
            file: the HTML file to write.
            rows: queries with pictures.
            command: the command line, for the page.
            draw_map: draws the map of the similarity of a query and each of its first answers, such
                as `veduta.explanation.map_pictures.map_drawer(encoder)`; None: there are no maps.

        Raises:
            OSError: the file cannot be written.
        """
        from veduta.evaluation.report_retrieval import write_sampled_page

        write_sampled_page(self, file, rows=rows, command=command, draw_map=draw_map)

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


def evaluate(
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
    distance: str = "cosine",
    project: int | None = None,
    rerank: str | None = None,
    verify: int = VERIFIED_PHOTOS,
    keypoints: str = DEFAULT_KEYPOINTS,
    orientation: str = UPRIGHT.name,
    method: str | None = None,
    descriptors: Sequence[str | os.PathLike[str]] = (),
    ranking: str | os.PathLike[str] | None = None,
    keep: int = 10,
    matrix: str | os.PathLike[str] | None = None,
    need_labels: bool = True,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure retrieval on a labelled dataset.

    The gallery is indexed as `veduta index` does it, in the user's cache folder, so a second run
    only encodes what is new. Each query ranks the whole gallery, distractors included.

    If no encoder is named, this measures the search that users have, with its re-ranking. If one is
    named, the ranking is that of its descriptors alone, unless `rerank` says otherwise. Figures
    with re-ranking always have those of the descriptor alone beside them.

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
        distance: one of `veduta.search.DISTANCES`.
        project: dimension of a PCA fitted on the gallery, without labels.
        rerank: one of `veduta.search.RERANK_MODES`; `"auto"` is `"geometry"`, or `"none"` with
            other distances than cosine. For comparison also `"expansion"`, `"augmentation"` and
            `"superglobal"`, see `veduta.search.expansion`; their scores are no probabilities. None:
            `"auto"` if no encoder is named, `"none"` if one is.
        verify: how many of the nearest photos are verified by geometry.
        keypoints: by which photos are verified, one of `veduta.keypoints.KINDS`.
        orientation: one of `veduta.search.ORIENTATIONS`: how the queries are turned. By default
            they are taken as they are, as published figures are measured; `"auto"` is what a search
            does by default.
        method: one of `veduta.evaluation.METHODS`, which rank by keypoints alone, or None for the
            global descriptor. The options from `encoder` to `orientation` do not go with a method.
        descriptors: files of descriptors of another program, by which the gallery is ranked, see
            `veduta.interchange.descriptor_files`. Photos are named by their paths in the dataset.
            Of the options from `encoder` to `method` only `distance` goes with it.
        ranking: a file of rankings of another program, see `veduta.interchange.ranking_files`. None
            of these options goes with it. A right photo that it lacks counts as never found.
        keep: how many of the first answers each result holds.
        matrix: a file for the scores of all queries and gallery photos, see
            `veduta.evaluation.score_matrix`; None: no file.
        need_labels: whether a dataset in which no query has a right answer is refused. If not, its
            gallery is ranked, and all figures are NaN.
        on_progress: called with (stage, done, total).

    Returns:
        The figures and the result of each query.

    Raises:
        DatasetError: the dataset does not fit the protocol of retrieval.
        EncoderError: the encoder is unknown or not available.
        QueryError: a method or a re-ranking is unknown, or options do not go with each other.
    """
    check_orientation(orientation)
    options = DescriptorOptions(
        encoder, runtime, distance, project, rerank, verify, keypoints, orientation
    )
    if method is not None:
        check_method(method)
        _check_defaults(options, method)
    mode = resolved_rerank(rerank, distance, encoder_is_named=encoder is not None)
    options = replace(options, rerank=mode)
    check_verification(mode, verify=verify, keypoints=keypoints)
    if not isinstance(dataset, Dataset):
        try:
            dataset = open_dataset(
                dataset,
                labels=labels,
                queries=queries,
                gallery=gallery,
                distractors=distractors,
                unknown=unknown,
                exclude=exclude,
                column=column,
                need_labels=need_labels,
            )
        except NoLabels as error:
            raise DatasetError(
                f"{error}. To rank photos without labels, add --dict or --matrix FILE"
            ) from None
    ranked: Iterator[RankedQuery | GivenOrder]
    if descriptors or ranking is not None:
        dataset, settings, ranked = _given(dataset, descriptors, ranking, distance)
    elif method is not None:
        dataset, settings, ranked = rank_by_keypoints(dataset, method, cache_folder(), on_progress)
    else:
        network = load_encoder(encoder or DEFAULT, runtime=runtime)
        extractor = load_extractor(keypoints) if options.verifies else None
        dataset, settings, ranked = rank_by_descriptors(
            dataset, options, network, extractor, on_progress
        )
    protocol = retrieval_protocol(dataset)
    paths = dataset.table["path"].to_pylist()
    names = dataset.table["label"].to_pylist()
    gallery_paths = tuple(paths[i] for i in protocol.gallery)
    query_paths = [paths[i] for i in protocol.queries]
    started = time.monotonic()
    results: list[QueryResult] = []
    alone: list[QueryResult] = []
    turned: Counter[Orientation] = Counter()
    with (
        nullcontext()
        if matrix is None
        else open_score_matrix(matrix, query_paths, gallery_paths, retrieved_by(settings))
    ) as rows:
        for number, query in enumerate(ranked):
            itself, row = protocol.own_position(number), int(protocol.queries[number])
            relevant = protocol.relevant(number)
            if isinstance(query, GivenOrder):
                results.append(_judged_order(query, paths[row], names[row], relevant, itself, keep))
                continue
            turned[query.orientation] += 1
            if rows is not None:
                rows.add(query.scores, itself)
            results.append(
                judge(paths[row], names[row], query.scores, relevant, itself=itself, keep=keep)
            )
            if query.descriptor_scores is not None:
                scores = query.descriptor_scores
                alone.append(judge(paths[row], names[row], scores, relevant, itself=itself, keep=0))
            if on_progress is not None and method is None:
                on_progress("Ranking", number + 1, len(query_paths))
    seconds = time.monotonic() - started
    sizes = {
        "gallery": len(protocol.gallery) - protocol.distractors,
        "distractors": protocol.distractors,
    }
    return Evaluation(
        summary=summarise(results, **sizes, need_positives=need_labels),
        results=tuple(results),
        settings=settings,
        problems=dataset.problems,
        notes=(*class_coverage(dataset).notes(), *turned_note(turned)),
        gallery_paths=gallery_paths,
        gallery_labels=tuple(names[i] for i in protocol.gallery),
        root=dataset.root,
        seconds=seconds,
        descriptor_alone=(summarise(alone, **sizes, need_positives=need_labels) if alone else None),
        descriptor_alone_results=tuple(alone),
    )


def _given(
    dataset: Dataset,
    descriptors: Sequence[str | os.PathLike[str]],
    ranking: str | os.PathLike[str] | None,
    distance: str,
) -> tuple[Dataset, dict[str, Any], Iterator[RankedQuery | GivenOrder]]:
    """Return the dataset, the settings and the answers of another program."""
    protocol = retrieval_protocol(dataset)
    paths = dataset.table["path"].to_pylist()
    given = open_given_answers(
        [paths[row] for row in protocol.queries],
        [paths[row] for row in protocol.gallery],
        descriptors=[Path(file) for file in descriptors],
        ranking=None if ranking is None else Path(ranking),
        distance=distance,
    )
    ranked = (
        answer if isinstance(answer, GivenOrder) else RankedQuery(number, answer)
        for number, answer in enumerate(given.answers)
    )
    problems = (*dataset.problems, *given.problems)
    return replace(dataset, problems=problems), given.settings, ranked


def _judged_order(
    query: GivenOrder,
    path: str,
    label: str | None,
    relevant: NDArray[np.bool_],
    itself: int | None,
    keep: int,
) -> QueryResult:
    """Judge a ranking that may lack some of the gallery."""
    stays = np.ones(len(query.rows), np.bool_) if itself is None else query.rows != itself
    rows = query.rows[stays]
    scores = np.full(len(rows), math.nan) if query.scores is None else query.scores[stays]
    nearest = zip(rows[:keep].tolist(), scores[:keep].tolist(), strict=True)
    return judge_ranked(
        path,
        label,
        relevant[rows],
        positives=int(relevant.sum()),
        nearest=tuple(NearestPhoto(row, score, bool(relevant[row])) for row, score in nearest),
    )


def _check_defaults(options: DescriptorOptions, method: str) -> None:
    """Raise `QueryError` if an option is not at its default."""
    for field in fields(options):
        if getattr(options, field.name) != field.default:
            raise QueryError(
                f"the method {method!r} ranks by keypoints alone: leave out {field.name!r}"
            )
