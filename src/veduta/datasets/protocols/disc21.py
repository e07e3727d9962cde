"""DISC21, the Image Similarity set of 2021: copies of photos, and photos that are copies of none.

Douze et al., "The 2021 Image Similarity Dataset and Challenge", 2021. A ground truth lists queries
with the reference photo that they are copies of. A query without one stays in the set: its pairs
count in µAP, always as wrong. The authors' code has lists of ids in `list_files/`. A list of
references is the gallery. A list of queries adds those that the ground truth lacks. Without photos
and lists of references, the published million is the gallery, so that a submission can be judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Set
from pathlib import Path

from veduta.datasets.csv_records import normalised, read_table, refuse
from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.protocol import (
    PHOTO_ENDINGS,
    Protocol,
    ReadOptions,
    layout_error,
    photo_names,
    positions_of,
    safe_path,
)
from veduta.datasets.text_lines import read_words
from veduta.errors import DatasetError, readable

__all__ = ["DISC21"]

_LAYOUT = """
disc21/
  dev_ground_truth.csv        or final_, public_, test_, subset_1_, or without a prefix
                              query_id,reference_id with or without this first line
  dev_queries/Q00000.jpg      the folder has the prefix of the file, or is queries/
  references/R000000.jpg      the folders of photos may be in images/
  list_files/                 optional: references, dev_queries, one id a line;
                              the ground truth may be here too
"""
_GROUND_TRUTH = re.compile(
    r"(?:(dev|final|public|test|subset_1)(?:_queries)?_)?ground_?truth\.csv", re.IGNORECASE
)
_VARIANTS = ("dev", "final", "public", "test", "subset_1")
_LISTS = "list_files"
_PARTS_OF_DEV = ("public", "subset_1")
"""Variants whose queries are some of the dev queries."""

_LIST_OF_QUERIES = {"public": "dev_queries_25k"}
"""Variant → the list of its queries, where it has another name than the variant."""

_PUBLISHED_REFERENCES = 1_000_000
_PUBLISHED_ID = re.compile(r"R\d{6}")

_COLUMNS = ("query_id", "reference_id")
_NO_WRONG_QUERY = (
    "The ground truth lists no query without a reference. Such queries lower µAP, so it does not "
    "compare with figures on all queries."
)


def _ground_truths(folder: Path) -> dict[str, Path]:
    """Return variant → ground truth; a file without a prefix has the variant ""."""
    found: dict[str, Path] = {}
    for place in (folder / _LISTS, folder):
        try:
            names = sorted(os.listdir(place))
        except (OSError, ValueError):
            continue
        matches = {name: _GROUND_TRUTH.fullmatch(name) for name in names}
        found |= {
            (match[1] or "").lower(): place / name
            for name, match in matches.items()
            if match is not None
        }
    return found


def _folder_of(path: Path) -> Path:
    """Return the folder of the set, for that folder, the one of its lists, or a ground truth."""
    folder = path.parent if os.path.isfile(path) else path
    return folder.parent if folder.name == _LISTS else folder


def _references_list(folder: Path, variant: str) -> Path | None:
    """Return the list of the references; None without one."""
    names = (f"{variant}_references", "references")
    files = (folder / _LISTS / name for name in names)
    return next((file for file in files if os.path.isfile(file)), None)


def _photos_folder(folder: Path) -> Path:
    return folder / "images" if os.path.isdir(folder / "images" / "references") else folder


def _recognises(path: Path) -> bool:
    folder = _folder_of(path)
    if os.path.isfile(path):
        match = _GROUND_TRUTH.fullmatch(path.name)
        variants = [] if match is None else [(match[1] or "").lower()]
    else:
        variants = list(_ground_truths(folder))
    has_photos = os.path.isdir(_photos_folder(folder) / "references")
    return any(
        has_photos or each or _references_list(folder, each) is not None for each in variants
    )


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path)
    variant, file = _ground_truth(path, options.variant)
    root = _photos_folder(folder if options.photos is None else options.photos)
    references = _references(file)
    named = {reference for right in references.values() for reference in right}
    gallery, gallery_paths = _gallery(root, _references_list(folder, variant), named)
    queries = folder / _LISTS / _LIST_OF_QUERIES.get(variant, f"{variant}_queries")
    if os.path.isfile(queries):
        references = references | {query: {} for query in _ids(queries) if query not in references}
    position_of = {reference: row for row, reference in enumerate(gallery)}
    places = [f"{variant}_queries" if variant else "queries", "queries"]
    if variant in _PARTS_OF_DEV:
        places.append("dev_queries")
    queries_folder = next((name for name in places if os.path.isdir(root / name)), places[0])
    return JudgedSet(
        protocol="disc21",
        name=f"DISC21 ({variant})" if variant else "DISC21",
        root=root,
        queries=tuple(references),
        gallery=gallery,
        query_paths=tuple(
            f"{queries_folder}/{safe_path(readable(file), query)}.jpg" for query in references
        ),
        gallery_paths=gallery_paths,
        positives=Judgements.of(
            positions_of(f"{readable(file)}, query {query}", right, position_of, "reference")
            for query, right in references.items()
        ),
        notes=() if any(not right for right in references.values()) else (_NO_WRONG_QUERY,),
    )


def _gallery(
    root: Path, listed: Path | None, named: Set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids and the paths of the references: those of the list, or all photos.

    Args:
        root: the folder of the photos.
        listed: the list of references, if there is one.
        named: the references of the ground truth.
    """
    if listed is not None:
        ids = _ids(listed)
        return ids, tuple(f"references/{each}.jpg" for each in ids)
    if not os.path.isdir(root / "references"):
        if named and all(_PUBLISHED_ID.fullmatch(each) for each in named):
            ids = tuple(f"R{number:06}" for number in range(_PUBLISHED_REFERENCES))
            return ids, tuple(f"references/{each}.jpg" for each in ids)
        raise layout_error(root, "disc21", _LAYOUT, "no references/")
    names = photo_names(root / "references")
    if not names:
        raise layout_error(root, "disc21", _LAYOUT, "no photo in references/")
    ids = unique_ids(root / "references", "references", [os.path.splitext(n)[0] for n in names])
    return ids, tuple(f"references/{name}" for name in names)


def _ids(file: Path) -> tuple[str, ...]:
    """Return the ids of a list."""
    ids = [
        _stem(safe_path(f"{readable(file)}, line {line}", words[0]))
        for line, words in read_words(file, 1)
    ]
    if not ids:
        raise DatasetError(f"{readable(file)}: no id; wanted one a line")
    return unique_ids(file, "list", ids)


def _ground_truth(path: Path, variant: str | None) -> tuple[str, Path]:
    """Return the variant and its file."""
    if os.path.isfile(path):
        match = _GROUND_TRUTH.fullmatch(path.name)
        return ((match and match[1]) or "").lower(), path
    found = _ground_truths(_folder_of(path))
    if variant is not None:
        found = {name: file for name, file in found.items() if name == variant}
    if not found:
        missing = "ground_truth.csv" if variant is None else f"{variant}_ground_truth.csv"
        raise layout_error(path, "disc21", _LAYOUT, f"no {missing}")
    if len(found) > 1:
        raise DatasetError(
            f"{readable(path)}: {len(found)} ground truths "
            f"({some_of(file.name for file in found.values())}); choose one with --variant"
        )
    return next(iter(found.items()))


def _references(file: Path) -> dict[str, dict[str, None]]:
    """Return the references of each query, in the order of the file."""
    found: dict[str, dict[str, None]] = {}
    without: set[str] = set()
    columns: list[int] | None = None
    for line, fields in read_table(file):
        if columns is None:
            header = [normalised(name) for name in fields]
            if all(name in header for name in _COLUMNS):
                columns = [header.index(name) for name in _COLUMNS]
                continue
            if len(fields) != 2:
                refuse(file, line, f"{len(fields)} fields; wanted a query and its reference")
            columns = [0, 1]
        query, reference = (_stem(fields[column].strip()) for column in columns)
        if not query:
            refuse(file, line, "the query is empty")
        right = found.setdefault(query, {})
        if query in without or (right and not reference) or reference in right:
            refuse(file, line, f"query {readable(query)} is on an earlier line; keep one of them")
        if reference:
            right[reference] = None
        else:
            without.add(query)
    if not found:
        raise DatasetError(f"{readable(file)}: no query; fetch the file again")
    return found


def _stem(name: str) -> str:
    """Return the name of a photo without its ending."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in PHOTO_ENDINGS else name


DISC21 = Protocol(
    "disc21",
    "DISC21, the Image Similarity set (Douze et al., 2021)",
    _LAYOUT,
    _recognises,
    _read,
    _VARIANTS,
)
