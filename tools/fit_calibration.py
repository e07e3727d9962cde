"""Fit what the evidence of a search is worth: `src/veduta/index/calibrations.json`.

    python -m tools.fit_calibration --data ../shared/data
    python -m tools.fit_calibration --data ../shared/data --keypoints sift
    python -m tools.fit_calibration --data ../shared/data --encoder fast

Labelled photos in, logistic models for each encoder out (`veduta.index.calibration` describes
them). With `--keypoints` only the models with geometry of that kind are fitted, and everything else
in the file stays.

They are fitted on `same_place`, `objects20` and `scenes`. `landmarks30` and `domains4` are left
out, so what `make results` says of them is a test. `--sets` leaves out others. In
`same_place` the frames of the corridor count as the same where the set's own truth says so, a few
frames apart, not only where their labels are equal.

Half of the evidence comes from queries with their right answers in the gallery. For the other half
all right answers are taken out of the gallery first, because people also ask for what a collection
does not have.

The weights of XFeat keypoints are fitted freely. For other keypoints only the scale and the
constant of each model are fitted, and the terms keep the proportions that XFeat's weights have.
Weights that were fitted freely for them made the ranking of other sets worse.

Two photos are verified once, whichever encoder asks for it.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, PRESETS, load_encoder
from veduta.index import (
    MANIFEST_FILE,
    Manifest,
    calibration,
    create_index,
    open_snapshot,
    update_index,
)
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import (
    KINDS,
    Keypoints,
    Matching,
    Verification,
    load_extractor,
    verify_many,
)
from veduta.keypoints.xfeat import XFeat
from veduta.search import exact, reranking
from veduta.search.options import VERIFIED_PHOTOS
from veduta.search.reranking import CandidateEvidence, Gallery, gather_evidence, open_gallery

ENCODERS = tuple(PRESETS)
SETS = ("same_place", "objects20", "scenes")
SETS_OF_PAIRS = {"scenes"}
"""In these sets most things have two photos. They say little about the order of many right hits."""

ORDERED_HITS = 50
"""The order of hits is fitted on so many best ones of each query."""

JUDGED_HITS = 10
"""Their probability is fitted on so many."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query: what it is compared by, and which rows of the gallery are right."""

    descriptor: NDArray[np.float32]
    keypoints: Keypoints
    right: NDArray[np.bool_]  # (n,)
    near_right: NDArray[np.bool_]  # (n,) right, or of the same label: no example of a wrong one


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """One set: its name, the index of its gallery, and its queries."""

    name: str
    index: Path
    queries: tuple[Query, ...]


def index_set(data: Path, name: str, encoder_name: str, kind: str, work: Path) -> LabelledSet:
    """Index one set as `veduta index` does it and read its queries.

    Raises:
        ValueError: the index has photos of another folder.
    """
    dataset = open_dataset((data / name).resolve())
    protocol = retrieval_protocol(dataset)
    paths = dataset.table["path"].to_pylist()
    encoder, extractor = load_encoder(encoder_name, threads=1), load_extractor(kind)
    indexes = {}
    for part, numbers in (("gallery", protocol.gallery), ("queries", protocol.queries)):
        indexes[part] = work / f"{encoder.identity}-{extractor.identity}" / name / part
        if not (indexes[part] / MANIFEST_FILE).exists():
            create_index(indexes[part], encoder, extractor)
        files = [dataset.root / paths[i] for i in numbers]
        update_index(indexes[part], files, encoder, extractor, graph=part == "gallery")
        if open_snapshot(indexes[part]).photos != len(files):
            raise ValueError(f"{indexes[part]} has photos of another folder: remove it")
    gallery, query_photos = (open_snapshot(indexes[part]) for part in ("gallery", "queries"))
    stored = StoredKeypoints(indexes["queries"], query_photos)
    gallery_row = {path: row for row, path in enumerate(gallery.rows["path"].to_pylist())}
    query_row = {path: row for row, path in enumerate(query_photos.rows["path"].to_pylist())}

    def key(path: str) -> bytes:
        return os.fsencode(os.path.abspath(dataset.root / path))

    rows = np.array([gallery_row[key(paths[i])] for i in protocol.gallery])
    truth = corridor_truth(data / name)
    queries = []
    for number, photo in enumerate(protocol.queries):
        right = np.zeros(gallery.photos, np.bool_)
        right[rows[protocol.relevant(number)]] = True
        near_right = right
        if paths[photo] in truth:
            right = np.zeros(gallery.photos, np.bool_)
            for path in truth[paths[photo]]:
                right[gallery_row[key(path)]] = True
            near_right = right | near_right
        row = query_row[key(paths[photo])]
        descriptor = query_photos.descriptors[row].astype(np.float32)
        queries.append(Query(descriptor, stored.read(row), right, near_right))
    return LabelledSet(name, indexes["gallery"], tuple(queries))


def corridor_truth(folder: Path) -> dict[str, list[str]]:
    """Return the set's own truth, by query path, if it has one."""
    file = folder / "corridor_positives.csv"
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        return {row["query"]: row["positives"].split() for row in csv.DictReader(stream)}


def evidence_of_queries(
    labelled: LabelledSet, gallery: Gallery, *, geometry: bool
) -> Iterator[tuple[CandidateEvidence, NDArray[np.bool_]]]:
    """Yield the evidence of each query, with and without its right answers in the gallery."""
    n = gallery.snapshot.photos
    everything = np.ones(n, np.bool_)
    for query in labelled.queries:
        for keep in (everything, ~query.near_right):
            rows, similarities = exact.nearest(gallery.snapshot, query.descriptor, n, keep)
            evidence = gather_evidence(
                gallery,
                query.descriptor,
                [query.keypoints] if geometry else [],
                rows,
                similarities,
                keep=keep,
                without=np.flatnonzero(~keep).tolist(),
            )
            yield evidence, query.right[evidence.rows] & keep[evidence.rows]


def fit(columns: list[NDArray[np.float64]], right: list[NDArray[np.bool_]]) -> list[float]:
    """Return weights and constant of a logistic model; each set counts the same.

    More evidence must never make a photo less likely, so a term whose weight would be negative is
    left out.
    """
    share = np.concatenate([np.full(len(part), 1e3 / len(part)) for part in right])
    table, answers = np.concatenate(columns), np.concatenate(right)
    kept = np.arange(table.shape[1])
    while True:
        model = LogisticRegression(C=1.0, max_iter=2000)
        model.fit(table[:, kept], answers, share)
        if (model.coef_[0] >= 0).all():
            break
        kept = np.delete(kept, model.coef_[0].argmin())
    weights = np.zeros(table.shape[1])
    weights[kept] = model.coef_[0]
    return [round(float(v), 4) for v in (*weights, model.intercept_[0])]


def scaled(
    columns: list[NDArray[np.float64]], right: list[NDArray[np.bool_]], weights: Sequence[float]
) -> list[float]:
    """Return weights, the constant last, of which only the scale and the constant are fitted."""
    *proportions, constant = weights
    logits = [(part @ proportions + constant)[:, None] for part in columns]
    scale, shift = fit(logits, right)
    return [
        round(value, 4)
        for value in (*(scale * weight for weight in proportions), scale * constant + shift)
    ]


def fit_pair(
    sets: list[LabelledSet], *, geometry: bool, proportions: Sequence[float] | None = None
) -> list[float]:
    """Fit the model of a pair, on the photos that would be verified.

    With `proportions`, weights and a constant, only the scale and the constant are fitted.
    """
    columns, right = [], []
    for labelled in sets:
        gallery = open_gallery(labelled.index)
        rows = []
        for evidence, is_right in evidence_of_queries(labelled, gallery, geometry=geometry):
            verified = slice(0, VERIFIED_PHOTOS)
            consistent = evidence.consistent_matches[verified] if geometry else None
            terms = terms_of_pairs(gallery, evidence.deviations[verified], consistent)
            rows.append((terms, is_right[verified]))
        columns.append(np.concatenate([part for part, _ in rows]))
        right.append(np.concatenate([part for _, part in rows]))
    return scaled(columns, right, proportions) if proportions else fit(columns, right)


def fit_first(
    sets: list[LabelledSet], *, geometry: bool, proportions: Sequence[float] | None = None
) -> list[float]:
    """Fit the model of a first hit. `proportions` are as for `fit_pair`."""
    columns, right = [], []
    for labelled in sets:
        gallery = open_gallery(labelled.index)
        terms, is_right = [], []
        for evidence, right_rows in evidence_of_queries(labelled, gallery, geometry=geometry):
            first = int(evidence.pair.argmax())
            consistent = evidence.consistent_matches[[first]] if geometry else None
            deviations = np.array([evidence.first_deviations])
            terms.append(terms_of_pairs(gallery, deviations, consistent))
            is_right.append(right_rows[[first]])
        columns.append(np.concatenate(terms))
        right.append(np.concatenate(is_right))
    return scaled(columns, right, proportions) if proportions else fit(columns, right)


def terms_of_pairs(
    gallery: Gallery,
    deviations: NDArray[np.floating[Any]],
    consistent_matches: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return what pairs count, one pair a row."""
    by_chance = gallery.calibration.chance_matches
    terms = calibration.pair_terms(deviations, consistent_matches, by_chance)
    return np.stack(terms, axis=1).astype(np.float64)


def fit_hit(
    sets: list[LabelledSet], *, geometry: bool, order: Sequence[float] | None = None
) -> list[float]:
    """Fit the model of a further hit, on the best hits that its parts would give.

    It is fitted in two steps: what orders the hits of one query, on many hits; and what sets one
    query apart from another, on few. With `order`, the weights of pair and nearness, only the
    second step is done.
    """
    tables = []
    for labelled in sets:
        gallery = open_gallery(labelled.index)
        tables.append(
            [
                hit_table(gallery, evidence, right)
                for evidence, right in evidence_of_queries(labelled, gallery, geometry=geometry)
            ]
        )
    if order is None:
        chosen = [
            part
            for labelled, part in zip(sets, tables, strict=True)
            if labelled.name not in SETS_OF_PAIRS
        ]
        best = [joined([table.best(ORDERED_HITS) for table in part]) for part in chosen or tables]
        order = fit([part.terms for part in best], [part.right for part in best])[:2]
    best = [joined([table.best(JUDGED_HITS, order) for table in part]) for part in tables]
    columns = [np.column_stack([part.terms[:, :2] @ order, part.terms[:, 2:]]) for part in best]
    scale, first, constant = fit(columns, [part.right for part in best])
    return [*(round(scale * weight, 4) for weight in order), first, constant]


@dataclass(frozen=True, slots=True)
class HitTable:
    """Further hits, one a row: what each counts, and whether it is right."""

    terms: NDArray[np.float64]
    right: NDArray[np.bool_]

    def best(self, count: int, order: Sequence[float] = (1.0, 1.0)) -> HitTable:
        """Return the best hits by the first two terms with the weights `order`."""
        rows = np.argsort(-(self.terms[:, :2] @ order), kind="stable")[:count]
        return HitTable(self.terms[rows], self.right[rows])


def hit_table(
    gallery: Gallery, evidence: CandidateEvidence, is_right: NDArray[np.bool_]
) -> HitTable:
    """Return the further hits of one query."""
    assert evidence.nearness is not None
    parts = calibration.hit_terms(evidence.pair, evidence.nearness, evidence.first)
    terms = np.stack(np.broadcast_arrays(*parts), axis=1).astype(np.float64)
    further = evidence.pair < evidence.pair.max()
    return HitTable(terms[further], is_right[further])


def joined(tables: list[HitTable]) -> HitTable:
    """Return all hits as one table."""
    return HitTable(
        np.concatenate([table.terms for table in tables]),
        np.concatenate([table.right for table in tables]),
    )


class VerificationMemory:
    """Verifies two photos once, and remembers the result."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, bytes], Verification] = {}

    def verify_many(
        self, query: Keypoints, others: Sequence[Keypoints], matching: Matching, **options: Any
    ) -> list[Verification]:
        """Verify one query against many photos, see `veduta.keypoints.verify_many`."""
        names = [(digest(query), digest(other)) for other in others]
        missing = [at for at, name in enumerate(names) if name not in self.known]
        found = verify_many(query, [others[at] for at in missing], matching, **options)
        self.known.update(zip((names[at] for at in missing), found, strict=True))
        return [self.known[name] for name in names]


def digest(keypoints: Keypoints) -> bytes:
    """Return a name for keypoints."""
    parts = (keypoints.xy.tobytes(), keypoints.descriptors.tobytes())
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def background(sets: list[LabelledSet]) -> list[float]:
    """Return mean and std of a query's similarity to a collection, the median over queries."""
    means, stds = [], []
    for labelled in sets:
        snapshot = open_snapshot(labelled.index)
        for query in labelled.queries:
            similarities = snapshot.descriptors[:].astype(np.float32) @ query.descriptor
            means.append(float(similarities.mean()))
            stds.append(float(similarities.std()))
    return [round(float(np.median(means)), 4), round(float(np.median(stds)), 4)]


def link(sets: list[LabelledSet], *, verified: bool) -> None:
    """Build the graphs of the galleries with the weights that are in the file now."""
    for labelled in sets:
        manifest = Manifest.read(labelled.index)
        snapshot = open_snapshot(labelled.index)
        build_graph(labelled.index, manifest, snapshot, verified=verified)


def main() -> None:
    """Fit all encoders and write the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path(".results/calibration"))
    parser.add_argument("--keypoints", choices=KINDS, action="append")
    parser.add_argument("--encoder", choices=ENCODERS, action="append")
    parser.add_argument("--sets", nargs="+", default=SETS, help="fit on these sets")
    parser.add_argument("--into", type=Path, help="write this file, and leave the package as it is")
    options = parser.parse_args()

    shipped = calibration.FILE
    content: dict[str, Any] = json.loads(shipped.read_text("utf-8"))
    calibration.FILE = options.work / shipped.name  # until all is fitted
    options.work.mkdir(parents=True, exist_ok=True)

    # Every search of this process verifies by the memory.
    reranking.verify_many = VerificationMemory().verify_many

    def save() -> None:
        calibration.FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        calibration.clear_cache()

    save()
    for name in options.encoder or ENCODERS:
        identity = load_encoder(name).identity
        # A new encoder begins with the weights of the generic one, so that the file reads.
        generic = content["calibrations"][content["generic"]]
        entry = content["calibrations"].setdefault(identity, copy.deepcopy(generic))
        # Only the default keypoints are measured with weights that stay out of the package.
        for kind in options.keypoints or (KINDS[:1] if options.into else KINDS):
            extractor = load_extractor(kind)
            if extractor.calibration is None:
                continue
            sets = [index_set(options.data, s, name, kind, options.work) for s in options.sets]
            if options.keypoints is None and kind == KINDS[0]:
                entry |= {
                    "encoder": name,
                    "fitted_on": list(options.sets),
                    "background": background(sets),
                }
                save()
                entry["pair"] = fit_pair(sets, geometry=False)
                entry["first"] = fit_first(sets, geometry=False)
                save()
                link(sets, verified=False)
                entry["hit"] = fit_hit(sets, geometry=False)
            weights = entry["keypoints"][extractor.calibration] = {
                "identity": extractor.identity,
                "matching": repr(extractor.matching),
                "pair": [0.0] * 4,
                "first": [0.0] * 4,
                "hit": [0.0] * 4,
            }
            save()
            xfeat = None if kind == XFeat.name else entry["keypoints"][XFeat.calibration]
            weights["pair"] = fit_pair(
                sets, geometry=True, proportions=xfeat["pair"] if xfeat else None
            )
            weights["first"] = fit_first(
                sets, geometry=True, proportions=xfeat["first"] if xfeat else None
            )
            save()
            link(sets, verified=True)  # the links weigh what the pairs are worth
            order = None
            if xfeat:
                scale = weights["pair"][0] / xfeat["pair"][0]
                order = [xfeat["hit"][0] / scale, xfeat["hit"][1]]
            weights["hit"] = fit_hit(sets, geometry=True, order=order)
            save()
            print(name, kind, json.dumps(weights), flush=True)
        if name == DEFAULT:
            content["generic"] = identity
    (options.into or shipped).write_bytes(calibration.FILE.read_bytes())


if __name__ == "__main__":
    main()
