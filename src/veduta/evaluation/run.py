"""Run a labelled dataset through the same index and the same search that users have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta import index as store
from veduta import photos
from veduta.datasets import Dataset, RetrievalProtocol, open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, Encoder, Projection, load_encoder
from veduta.errors import DatasetError, PhotoError
from veduta.evaluation import report
from veduta.evaluation.metrics import QueryResult, judge
from veduta.evaluation.summary import Summary, class_table, summarise
from veduta.search.distances import distances
from veduta.search.exact import similarities

_QUERY_PHOTO = 640  # pixels, long side on the page
_BLOCK = 64  # queries ranked at a time

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        summary: the figures, with intervals.
        results: one a query, in the order of the dataset.
        settings: encoder, distance, projection.
        problems: what was left out and why.
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

    def as_json(self) -> dict[str, Any]:
        """Return the figures, the classes, the problems and the settings as JSON types."""
        figures = report.as_json(self.summary, self.results, self.problems)
        return {**figures, "settings": self.settings}

    def ranked_lists(self) -> dict[str, list[str]]:
        """Return the dictionary from query path to gallery paths, nearest first."""
        return report.ranked_lists(self.results, self.gallery_paths)

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
            query_photo=lambda path: self._photo(path, _QUERY_PHOTO),
            thumbnail=lambda path: self._photo(path, 256),
        )

    def _photo(self, path: str, side: int) -> bytes | None:
        try:
            return photos.thumbnail(photos.load(self.root / path, at_least=side).pixels, side)
        except PhotoError:  # gone since it was encoded: the page says that there is no preview
            return None


def evaluate(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    encoder: str = DEFAULT,
    runtime: str | None = None,
    distance: str = "cosine",
    project: int | None = None,
    keep: int = 10,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure retrieval on a labelled dataset.

    The gallery is indexed as `veduta index` does it, into the user's cache, so a second run only
    encodes what is new. Each query ranks the whole gallery, distractors included.

    Args:
        dataset: a folder, see `veduta.datasets.open_dataset`, or a `Dataset`.
        labels, queries, gallery: passed on to `open_dataset`.
        encoder: name of the encoder.
        runtime: `"onnxruntime"` (the default) or `"openvino"`.
        distance: one of `veduta.search.DISTANCES`.
        project: dimension of a PCA fitted on the gallery, without labels.
        keep: how many of the first answers each result holds.
        on_progress: called with (what, done, total).

    Raises:
        DatasetError: the dataset is not as its protocol wants it.
        EncoderError: the encoder cannot be had.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset, labels=labels, queries=queries, gallery=gallery)
    network = load_encoder(encoder, runtime=runtime)
    protocol = retrieval_protocol(dataset)
    dataset, indexes = _encode(dataset, protocol, network, on_progress)
    protocol = retrieval_protocol(dataset)
    store.set_projection(indexes["gallery"], project)
    snapshot = store.open_snapshot(indexes["gallery"])
    paths = dataset.table["path"].to_pylist()
    names = dataset.table["label"].to_pylist()
    rows = _rows_of(snapshot, dataset.root, [paths[i] for i in protocol.gallery])
    asking = _queries(dataset, protocol, snapshot, indexes, [paths[i] for i in protocol.queries])
    facts = network.describe()
    started = time.monotonic()
    results = [
        judge(
            paths[row],
            names[row],
            scores,
            protocol.relevant(number),
            itself=protocol.itself(number),
            keep=keep,
        )
        for number, row, scores in _scores(protocol, asking, snapshot, rows, distance)
    ]
    return Evaluation(
        summary=summarise(
            results,
            gallery=len(protocol.gallery) - protocol.distractors,
            distractors=protocol.distractors,
        ),
        results=tuple(results),
        settings={
            "encoder": network.name,
            "identity": network.identity,
            "runtime": facts["runtime"],
            "precision": facts["precision"],
            "distance": distance,
            "project": project,
        },
        problems=dataset.problems,
        gallery_paths=tuple(paths[i] for i in protocol.gallery),
        gallery_labels=tuple(names[i] for i in protocol.gallery),
        root=dataset.root,
        seconds=time.monotonic() - started,
    )


def _encode(
    dataset: Dataset, protocol: RetrievalProtocol, encoder: Encoder, on_progress: OnProgress | None
) -> tuple[Dataset, dict[str, Path]]:
    """Bring the cached indexes of queries and gallery up to date; drop what does not decode."""
    from platformdirs import user_cache_path

    cache = user_cache_path("veduta", appauthor=False) / "evaluate"
    parts = {"gallery": protocol.gallery}
    if not protocol.leave_one_out:
        parts["queries"] = protocol.queries
    paths = dataset.table["path"].to_pylist()
    dropped: dict[str, str] = {}
    indexes = {}
    for part, numbers in parts.items():
        files = {os.path.abspath(dataset.root / paths[i]): paths[i] for i in numbers}
        # One index for exactly these files, so that no photo of another protocol is in it.
        key = "\n".join((*sorted(files), encoder.identity, str(encoder.describe()["precision"])))
        indexes[part] = cache / photos.content_hash(key.encode()).hex()[:20]
        if not (indexes[part] / store.MANIFEST).exists():
            store.create(indexes[part], encoder)
        done = store.update(
            indexes[part],
            [Path(file) for file in files],
            encoder,
            on_progress=_named(on_progress, f"Encoding {part}"),
        )
        if done.interrupted:
            raise KeyboardInterrupt
        dropped.update({files[path]: reason for path, reason in done.unreadable if path in files})
    return dataset.without(dropped) if dropped else dataset, indexes


def _named(on_progress: OnProgress | None, name: str) -> Callable[[store.Progress], None] | None:
    if on_progress is None:
        return None
    return lambda state: on_progress(name, state.done, state.total)


def _rows_of(snapshot: store.Snapshot, root: Path, paths: Sequence[str]) -> NDArray[np.intp]:
    """Return the snapshot's row of each path."""
    known = {path: row for row, path in enumerate(snapshot.rows["path"].to_pylist())}
    try:
        rows = [known[os.fsencode(os.path.abspath(root / path))] for path in paths]
    except KeyError as error:
        raise DatasetError(f"{os.fsdecode(error.args[0])}: gone while it was indexed") from None
    return np.array(rows, np.intp)


def _queries(
    dataset: Dataset,
    protocol: RetrievalProtocol,
    snapshot: store.Snapshot,
    indexes: dict[str, Path],
    paths: Sequence[str],
) -> NDArray[np.float32]:
    """Return the descriptors of all queries, (Q, d) float32, as they are searched."""
    if protocol.leave_one_out:
        rows = _rows_of(snapshot, dataset.root, paths)
        return snapshot.descriptors[rows].astype(np.float32)
    asking = store.open_snapshot(indexes["queries"])
    rows = _rows_of(asking, dataset.root, paths)
    descriptors = asking.descriptors[rows].astype(np.float32)
    projection = store.Manifest.read(indexes["gallery"]).projection
    if projection is None:
        return descriptors
    return Projection.load(indexes["gallery"] / projection).apply(descriptors)


def _scores(
    protocol: RetrievalProtocol,
    queries: NDArray[np.float32],
    snapshot: store.Snapshot,
    rows: NDArray[np.intp],
    distance: str,
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (number, row in the dataset, (G,) scores) of each query."""
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
            yield number, int(protocol.queries[number]), values[rows]
