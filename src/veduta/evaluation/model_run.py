"""Evaluate a trained recogniser: the test photos of a dataset, named by the classifier of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from veduta.datasets import Dataset, open_dataset
from veduta.datasets.dataset import some_of
from veduta.datasets.split_names import NO_SPLIT
from veduta.encoders import name_without_folders
from veduta.encoders.sources import RUN_MODEL
from veduta.errors import DatasetError, NotAnIndex, PhotoError, readable
from veduta.evaluation.calibration_error import expected_calibration_error
from veduta.evaluation.dataset_index import OnProgress
from veduta.evaluation.recognition_run import (
    RecognitionEvaluation,
    RecognitionResult,
    figures_of,
)
from veduta.recognize import PRECISION, Model, open_model
from veduta.recognize.unknown import check_precision
from veduta.text import count

__all__ = ["evaluate_model"]


def evaluate_model(
    dataset: str | os.PathLike[str] | Dataset,
    model: str | os.PathLike[str],
    *,
    labels: str | None = None,
    unknown: Sequence[str] = (),
    exclude: Sequence[str] = (),
    column: str = "split",
    precision: float | None = None,
    tested: Collection[str] | None = None,
    on_progress: OnProgress | None = None,
) -> RecognitionEvaluation:
    """Measure a trained recogniser on the test photos of a dataset.

    The test photos are those of the splits `test`, `query` and `unknown`. If the dataset has no
    splits, they are the photos that the run was tested on, and in another dataset all photos. A
    photo whose label the model does not know shows none of its classes, as one of `unknown`.

    If there are no such photos and no precision is wanted, every photo gets the likeliest name. So
    the accuracy is that of the card of the run.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        model: the folder of a run or of an exported recogniser, see `veduta.recognize.open_model`.
        labels: passed on to `open_dataset`.
        unknown: passed on to `open_dataset`.
        exclude: passed on to `open_dataset`.
        column: passed on to `open_dataset`.
        precision: share of the given names that should be right. None: 0.9 if some test photos show
            none of the classes; otherwise every photo is named.
        tested: paths of the photos that the run was tested on, in the dataset that it was trained
            on. None: not known.
        on_progress: called with (stage, done, total).

    Returns:
        The figures and the result of each test photo, without photos of a gallery.

    Raises:
        DatasetError: the dataset has no test photos, or none can be read.
        NotAnIndex: the folder holds no recogniser.
        QueryError: the precision is not in [0.5, 0.99].
    """
    if precision is not None:
        check_precision(precision)
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(
            dataset, labels=labels, unknown=unknown, exclude=exclude, column=column
        )
    folder = Path(model)
    recogniser = _open(folder)
    rows, notes = _test_rows(dataset, tested)
    labelled = _labels_of(dataset, rows, recogniser.names)
    of_test = {dataset.labels[row] for row in rows if dataset.splits[row] != "unknown"}
    if other := sorted(of_test - {None, *recogniser.names}, key=str):
        notes.append(
            f"{count(len(other), 'label')} that the model does not know "
            f"({some_of(map(str, other))}): their photos count as none of its classes"
        )
    open_set = any(label is None for label in labelled)
    if precision is None and open_set:
        precision = PRECISION
    threshold = 0.0 if precision is None else recogniser.confidence.threshold(precision)
    started = time.monotonic()
    results, problems = _named(dataset, rows, labelled, recogniser, threshold, on_progress)
    if not results:
        raise DatasetError(f"{readable(dataset.root)}: no test photo can be read")
    examples = recogniser.confidence.examples
    is_network = recogniser.linear is None
    return RecognitionEvaluation(
        summary=figures_of(results),
        calibration_error=expected_calibration_error(
            [result.confidence for result in results], [result.right for result in results]
        ),
        results=results,
        settings={
            "model": folder.resolve().name,
            # The encoder of a run is a file in the folder of the run.
            "encoder": folder.resolve().name
            if is_network
            else name_without_folders(recogniser.encoder.name),
            "identity": recogniser.encoder.identity,
            "runtime": recogniser.encoder.describe().get("runtime"),
            "method": "network" if is_network else "linear",
            "precision": precision,
            "threshold": threshold if threshold <= 1 else None,
            "learned_from": examples,
            "learned": bool(examples),
        },
        thresholds=recogniser.confidence.thresholds,
        problems=(*dataset.problems, *problems),
        notes=tuple(notes),
        gallery_paths=(),
        gallery_labels=(),
        root=dataset.root,
        seconds=time.monotonic() - started,
    )


def _open(folder: Path) -> Model:
    try:
        return open_model(folder)
    except NotAnIndex as error:
        if not (folder / RUN_MODEL).is_file():
            raise
        raise NotAnIndex(
            f"{readable(folder)}: this run has no recogniser: its network gives no scores of "
            "classes. Its descriptors can be measured: name it as --encoder, with --task retrieve "
            "or --task recognize."
        ) from error


def _test_rows(dataset: Dataset, tested: Collection[str] | None) -> tuple[list[int], list[str]]:
    """Return the rows of the test photos, and notes on how they were found."""
    of_run = frozenset(tested or ()).intersection(dataset.paths)
    same_dataset = bool(tested) and len(of_run) == len(frozenset(tested or ()))
    splits = dataset.splits
    if NO_SPLIT in splits:
        rows = [row for row, split in enumerate(splits) if split in {NO_SPLIT, "unknown"}]
        if not same_dataset:
            return rows, ["no split says which are test photos: all photos are named"]
        paths = dataset.paths
        kept = [row for row in rows if paths[row] in of_run or splits[row] == "unknown"]
        return kept, [
            "no split says which are test photos: those are named that the run kept aside"
        ]
    rows = [row for row, split in enumerate(splits) if split in {"query", "unknown"}]
    if not rows:
        found = ", ".join(sorted(set(splits)))
        raise DatasetError(
            f"{readable(dataset.root)}: no test photos: no photo has the split 'test' or 'query' "
            f"(found: {found}); name the folder of the test photos, or another --column"
        )
    if not same_dataset:
        return rows, []
    new = [row for row in rows if dataset.paths[row] not in of_run and splits[row] == "query"]
    if not new:
        return rows, []
    return rows, [
        f"{count(len(new), 'test photo')} of {len(rows):,} not among those that the run was "
        "tested on, so it may have learned from them: name the --column that it was trained with"
    ]


def _labels_of(dataset: Dataset, rows: Sequence[int], names: Sequence[str]) -> list[str | None]:
    """Return the label of each row; None if it is no class of the model."""
    known = frozenset(names)
    labels, splits = dataset.labels, dataset.splits
    return [
        label if splits[row] != "unknown" and (label := labels[row]) in known else None
        for row in rows
    ]


def _named(
    dataset: Dataset,
    rows: Sequence[int],
    labels: Sequence[str | None],
    model: Model,
    threshold: float,
    on_progress: OnProgress | None,
) -> tuple[tuple[RecognitionResult, ...], list[str]]:
    """Return the result of each photo that can be read, and why the others cannot."""
    paths = dataset.paths
    results, problems = [], []
    for number, (row, label) in enumerate(zip(rows, labels, strict=True), 1):
        try:
            found = model.recognize(dataset.root / paths[row])
        except PhotoError as error:
            problems.append(f"{readable(paths[row])}: left out, {error.reason}")
        else:
            named = found.guess is not None and found.confidence >= threshold
            results.append(
                RecognitionResult(paths[row], label, found.guess, found.confidence, named, ())
            )
        if on_progress is not None:
            on_progress("Recognising", number, len(rows))
    return tuple(results), problems
