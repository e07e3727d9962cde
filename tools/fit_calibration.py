"""Fit what the evidence of a search is worth: `src/veduta/index/calibrations.json`.

    python tools/fit_calibration.py --data ../shared/data

Labelled photos in, three logistic models an encoder out (`veduta.index.calibration` says which).
They are fitted on `same_place` and `objects20`; `landmarks30` and `domains4` take no part, so what
`make results` says of them is a test. In `same_place` the frames of the corridor count as the same
where the set's own truth says so, a few frames apart, not only where their labels are equal.

Half of the evidence comes from queries as they are. For the other half all right answers are taken
out of the gallery first: people also ask for what a collection does not have. What a whole query is
worth is fitted on the queries of one set in the gallery of the other as well.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import load_encoder
from veduta.index import MANIFEST_FILE, Manifest, create_index, open_snapshot, update_index
from veduta.index import calibration as weights
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import Keypoints, load_extractor
from veduta.search import exact
from veduta.search.reranking import VERIFIED_PHOTOS, Findings, Gallery, gather, open_gallery

ENCODERS = ("accurate", "fast")
SETS = ("same_place", "objects20")
SEEN = 50  # first hits of a query that a model is fitted on


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its evidence, and which rows of the gallery are right."""

    descriptor: NDArray[np.float32]
    keypoints: Keypoints
    right: NDArray[np.bool_]  # (n,)
    near_right: NDArray[np.bool_]  # (n,) right, or of the same label: no example of a wrong one


@dataclass(frozen=True, slots=True)
class Material:
    """One set: its gallery and its queries."""

    index: Path
    queries: tuple[Query, ...]


def prepare(data: Path, name: str, encoder_name: str, work: Path) -> Material:
    """Index one set as `veduta index` does it and read its queries."""
    dataset = open_dataset(data / name)
    protocol = retrieval_protocol(dataset)
    paths = dataset.table["path"].to_pylist()
    encoder, extractor = load_encoder(encoder_name, threads=1), load_extractor()
    places = {}
    for part, numbers in (("gallery", protocol.gallery), ("queries", protocol.queries)):
        places[part] = work / encoder.identity / name / part
        if not (places[part] / MANIFEST_FILE).exists():
            create_index(places[part], encoder, extractor)
        files = [dataset.root / paths[i] for i in numbers]
        update_index(places[part], files, encoder, extractor, graph=part == "gallery")
    gallery, asking = (open_snapshot(places[part]) for part in ("gallery", "queries"))
    stored = StoredKeypoints(places["queries"], asking)
    row_of = {path: row for row, path in enumerate(gallery.rows["path"].to_pylist())}
    asked = {path: row for row, path in enumerate(asking.rows["path"].to_pylist())}

    def key(number: int) -> bytes:
        return os.fsencode(os.path.abspath(dataset.root / paths[number]))

    rows = np.array([row_of[key(i)] for i in protocol.gallery])
    truth = corridor(data / name)
    queries = []
    for number, of in enumerate(protocol.queries):
        right = np.zeros(gallery.photos, np.bool_)
        right[rows[protocol.relevant(number)]] = True
        near_right = right
        if paths[of] in truth:
            right = np.zeros(gallery.photos, np.bool_)
            for path in truth[paths[of]]:
                right[row_of[os.fsencode(os.path.abspath(dataset.root / path))]] = True
            near_right = right | near_right
        row = asked[key(of)]
        descriptor = asking.descriptors[row].astype(np.float32)
        queries.append(Query(descriptor, stored.read(row), right, near_right))
    return Material(places["gallery"], tuple(queries))


def corridor(folder: Path) -> dict[str, list[str]]:
    """Return the set's own truth, by query path, where it has one."""
    file = folder / "corridor_positives.csv"
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        return {row["query"]: row["positives"].split() for row in csv.DictReader(stream)}


def evidence(
    material: Material, gallery: Gallery, *, geometry: bool, strangers: Sequence[Query] = ()
) -> Iterator[tuple[Findings, NDArray[np.bool_]]]:
    """Yield the findings of each query, with and without its right answers in the gallery.

    Or those of `strangers`, who have none.
    """
    n = gallery.snapshot.photos
    everything = np.ones(n, np.bool_)
    asked: list[tuple[Query, NDArray[np.bool_], NDArray[np.bool_]]] = []
    if strangers:
        asked = [(query, everything, np.zeros(n, np.bool_)) for query in strangers]
    else:
        for query in material.queries:
            asked.append((query, everything, query.right))
            asked.append((query, ~query.near_right, query.right))
    for query, keep, right in asked:
        rows, similar = exact.nearest(gallery.snapshot, query.descriptor, n, keep)
        found = gather(
            gallery, query.descriptor, [query.keypoints] if geometry else [], rows, similar,
            keep=keep, without=np.flatnonzero(~keep).tolist(),
        )  # fmt: skip
        yield found, right[found.rows]


def fit(columns: list[NDArray[np.float64]], right: list[NDArray[np.bool_]]) -> list[float]:
    """Return weights and constant of a logistic model; each set counts the same."""
    share = [np.full(len(part), 1e3 / len(part)) for part in right]
    model = LogisticRegression(C=1.0, max_iter=2000)
    model.fit(np.concatenate(columns), np.concatenate(right), np.concatenate(share))
    return [round(float(v), 4) for v in (*model.coef_[0], model.intercept_[0])]


def fit_pairs(materials: list[Material], *, geometry: bool) -> list[float]:
    """Fit the model of a pair, on the photos that would be verified."""
    columns, right = [], []
    for material in materials:
        gallery = open_gallery(material.index)
        rows = []
        for found, good in evidence(material, gallery, geometry=geometry):
            seen = slice(0, VERIFIED_PHOTOS)
            parts = [weights.standing_out(found.deviations[seen])]
            if geometry:
                parts += weights.geometry_terms(found.agreeing[seen])
            rows.append((np.stack(parts, axis=1).astype(np.float64), good[seen]))
        columns.append(np.concatenate([part for part, _ in rows]))
        right.append(np.concatenate([part for _, part in rows]))
    return fit(columns, right)


def fit_found(materials: list[Material], *, geometry: bool) -> list[float]:
    """Fit the model of a hit, on the first hits that its parts would give.

    In two steps: what orders the hits of one query is fitted on queries of the set itself, what
    sets one query apart from another on the queries of the other set too. Those are strangers, and
    must not move the order.
    """
    tables: list[list[Table]] = []
    for at, material in enumerate(materials):
        gallery = open_gallery(material.index)
        strangers = [
            query for other in materials[:at] + materials[at + 1 :] for query in other.queries
        ]
        own = list(found_tables(evidence(material, gallery, geometry=geometry)))
        foreign = evidence(material, gallery, geometry=geometry, strangers=strangers)
        tables.append([joined(own), joined([*own, *found_tables(foreign)])])
    order = fit([part[0].terms for part in tables], [part[0].right for part in tables])[:2]
    columns = [
        np.column_stack([part[1].terms[:, :2] @ order, part[1].terms[:, 2:]]) for part in tables
    ]
    scale, best, constant = fit(columns, [part[1].right for part in tables])
    return [*(round(scale * weight, 4) for weight in order), best, constant]


@dataclass(frozen=True, slots=True)
class Table:
    """Hits, one a row: what each counts, and whether it is right."""

    terms: NDArray[np.float64]
    right: NDArray[np.bool_]


def found_tables(found: Iterator[tuple[Findings, NDArray[np.bool_]]]) -> Iterator[Table]:
    """Yield the first hits of each query."""
    for findings, good in found:
        assert findings.nearness is not None
        parts = weights.found_terms(findings.pair, findings.nearness, findings.best)
        table = np.stack(np.broadcast_arrays(*parts), axis=1).astype(np.float64)
        first = np.argsort(-(table[:, 0] + table[:, 1]), kind="stable")[:SEEN]
        yield Table(table[first], good[first])


def joined(tables: list[Table]) -> Table:
    """Return all hits as one table."""
    return Table(
        np.concatenate([table.terms for table in tables]),
        np.concatenate([table.right for table in tables]),
    )


def usual(materials: list[Material]) -> list[float]:
    """Return mean and spread of a query's similarity to a collection, the median over queries."""
    means, spreads = [], []
    for material in materials:
        snapshot = open_snapshot(material.index)
        for query in material.queries:
            similar = snapshot.descriptors[:].astype(np.float32) @ query.descriptor
            means.append(float(similar.mean()))
            spreads.append(float(similar.std()))
    return [round(float(np.median(means)), 4), round(float(np.median(spreads)), 4)]


def main() -> None:
    """Fit all encoders and write the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path(".results/calibration"))
    options = parser.parse_args()

    final = weights.FILE
    weights.FILE = options.work / final.name  # until all is fitted
    options.work.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, object]] = {}
    for name in ENCODERS:
        encoder = load_encoder(name)
        materials = [prepare(options.data, s, name, options.work) for s in SETS]
        entry: dict[str, object] = {
            "encoder": name,
            "fitted_on": list(SETS),
            "background": usual(materials),
            "alike": [0.0, 0.0],
            "pair": [0.0, 0.0, 0.0, 0.0],
            "found_alike": [0.0] * 4,
            "found": [0.0] * 4,
        }
        entries[encoder.identity] = entry
        if name == ENCODERS[0]:
            entries[weights.GENERIC] = entry

        def save() -> None:
            text = json.dumps({"calibrations": entries}, indent=2) + "\n"
            weights.FILE.write_text(text, encoding="utf-8")
            weights.forget()

        save()
        entry["alike"] = fit_pairs(materials, geometry=False)
        entry["pair"] = fit_pairs(materials, geometry=True)
        save()
        for material in materials:  # the links weigh what the pairs are worth
            manifest = Manifest.read(material.index)
            build_graph(material.index, manifest, open_snapshot(material.index))
        entry["found"] = fit_found(materials, geometry=True)
        for material in materials:
            manifest = Manifest.read(material.index)
            build_graph(material.index, manifest, open_snapshot(material.index), verified=False)
        entry["found_alike"] = fit_found(materials, geometry=False)
        save()
        print(name, json.dumps(entry), flush=True)
    final.write_bytes(weights.FILE.read_bytes())


if __name__ == "__main__":
    main()
