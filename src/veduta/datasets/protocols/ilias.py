"""ILIAS: one object among up to a hundred million distractors.

Kordopatis-Zilos, Stojnić, Manko, Šuma, Ypsilantis, Efthymiadis, Laskar, Matas, Chum, Tolias,
"ILIAS: Instance-Level Image retrieval At Scale", CVPR 2025. The lists and the rule are those of the
authors' evaluation code. An id begins with the name of its object and a slash. The positives of a
query are all positives of its object. Queries and positives are in the order of their ids, then
come the distractors in the order of their list. The figure is mAP@1000 divided by min(1000,
positives).

Each positive has a scale and a clutter. A table for each divides the positives into four groups,
with the limits of the authors. The positives of the other groups are then taken out.

The list of distractors is read line by line. Memory holds one text a distractor if its id is its
path, and eight bytes a distractor to find an id that comes twice.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from veduta.datasets.csv_records import refuse
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.protocols.protocol import (
    PHOTO_ENDINGS,
    Protocol,
    ReadOptions,
    layout_error,
    safe_path,
)
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable

__all__ = ["ILIAS"]

_LAYOUT = """
ilias/
  image_ids/                    the lists of the authors' evaluation code
    image_query_ids.txt         one line a query: its id, a comma, anything
    positive_ids.txt            one line a positive: its id, scale, clutter
    distractor_ids.txt.gz       one id a line, for the variant full; also without .gz
    mini_distractor_ids.txt.gz  any name with "mini", for the variant mini; also without .gz
  ilias_core/                   photos of queries and positives; or beside image_ids/
  yfcc100m/                     photos of distractors; or beside image_ids/
"""

VARIANTS = ("core", "mini", "full")

_LISTS = "image_ids"
_QUERIES, _POSITIVES = "image_query_ids.txt", "positive_ids.txt"
_DISTRACTORS = ("distractor_ids.txt.gz", "distractor_ids.txt")
_CORE_FOLDERS = ("ilias_core",)
_DISTRACTOR_FOLDERS = ("yfcc100m", "distractors")

_MAX_LINE_BYTES = 4096

_SCALES = (0.06880213760855043, 0.13526567164179104, 0.2729876723163842)
_SCALE_GROUPS = ("0 to 0.069", "0.069 to 0.135", "0.135 to 0.273", "0.273 and more")
_CLUTTERS = (18, 33, 53)
_CLUTTER_GROUPS = ("0 to 17", "18 to 32", "33 to 52", "53 and more")
"""The first group ends before the first limit. Sorted by name, the groups are in their order."""


def _folder_of(path: Path) -> Path:
    """Return the folder of the set, for that folder or for one in it."""
    return path.parent if path.name in (_LISTS, *_CORE_FOLDERS) else path


def _recognises(path: Path) -> bool:
    lists = _folder_of(path) / _LISTS
    return all(os.path.isfile(lists / name) for name in (_QUERIES, _POSITIVES))


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path)
    lists = folder / _LISTS
    for name in (_QUERIES, _POSITIVES):
        if not os.path.isfile(lists / name):
            raise layout_error(path, "ilias", _LAYOUT, f"no {_LISTS}/{name}")
    variant = options.variant or "core"
    root = folder if options.photos is None else options.photos
    query_file, positive_file = lists / _QUERIES, lists / _POSITIVES
    queries = sorted(_query_ids(query_file))
    graded = _positives(positive_file)
    positives = sorted(graded)
    of_object: dict[str, list[int]] = {}
    for row, photo in enumerate(positives):
        of_object.setdefault(_object(photo), []).append(row)
    for query in queries:
        if _object(query) not in of_object:
            raise DatasetError(
                f"{readable(query_file)}: the object of {readable(query)} has no photo in "
                f"{_POSITIVES}; are both files of the same version of the set?"
            )
    judgements = Judgements.of(of_object[_object(query)] for query in queries)
    query_paths = _paths(query_file, root, _CORE_FOLDERS, queries)
    gallery, paths = positives, _paths(positive_file, root, _CORE_FOLDERS, positives)
    if variant != "core":
        file = _distractor_file(path, lists, variant)
        gallery = positives + _distractor_ids(file, set(positives))
        paths += _paths(file, root, _DISTRACTOR_FOLDERS, gallery[len(positives) :])
    right = [graded[positives[row]] for row in judgements.positions.tolist()]
    return JudgedSet(
        protocol="ilias",
        name=f"ILIAS ({variant})",
        root=root,
        queries=unique_ids(query_file, "queries", queries),
        gallery=tuple(gallery),
        query_paths=tuple(query_paths),
        gallery_paths=tuple(paths),
        positives=judgements,
        distractors=len(gallery) - len(positives),
        groups={
            "scale": tuple(_SCALE_GROUPS[bisect_right(_SCALES, scale)] for scale, _ in right),
            "clutter": tuple(_CLUTTER_GROUPS[bisect_right(_CLUTTERS, each)] for _, each in right),
        },
        notes=(
            ("The gallery has no distractors. Published figures are lower, since theirs has.",)
            if variant == "core"
            else ()
        ),
    )


def _object(photo: str) -> str:
    return photo.partition("/")[0]


def _query_ids(file: Path) -> Iterator[str]:
    for line, text in _lines(file):
        yield _core_id(file, line, text.split(",")[0].strip())


def _positives(file: Path) -> dict[str, tuple[float, int]]:
    """Return the scale and the clutter of each positive."""
    found: dict[str, tuple[float, int]] = {}
    for line, text in _lines(file):
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != 3:
            refuse(file, line, f"{len(fields)} fields; wanted an id, a scale and a clutter")
        photo = _core_id(file, line, fields[0])
        if photo in found:
            refuse(file, line, f"{readable(photo)} is already on an earlier line; keep one")
        try:
            scale, clutter = float(fields[1]), int(fields[2])
        except ValueError:
            scale, clutter = math.nan, 0
        if not math.isfinite(scale) or scale < 0 or clutter < 0:
            refuse(
                file,
                line,
                f"the scale {fields[1]!r} and the clutter {fields[2]!r}; wanted a finite number "
                "and a whole number, neither below 0",
            )
        found[photo] = scale, clutter
    return found


def _core_id(file: Path, line: int, photo: str) -> str:
    if not _object(photo) or "/" not in photo:
        refuse(file, line, f"the id {photo!r}; wanted the object, a slash and the photo")
    return photo


def _distractor_file(path: Path, lists: Path, variant: str) -> Path:
    names = (
        list(_DISTRACTORS)
        if variant == "full"
        else sorted(
            name
            for name in os.listdir(lists)
            if "mini" in name.lower() and name.lower().endswith((".txt", ".txt.gz"))
        )
    )
    files = [lists / name for name in names if os.path.isfile(lists / name)]
    if not files:
        missing = _DISTRACTORS[0] if variant == "full" else 'list with "mini" in its name'
        raise layout_error(path, "ilias", _LAYOUT, f"no {_LISTS}/{missing}")
    if variant == "mini" and len(files) > 1:
        raise DatasetError(
            f'{readable(lists)}: {len(files)} lists with "mini" in their name '
            f"({', '.join(file.name for file in files)}); keep one of them there"
        )
    return files[0]


def _distractor_ids(file: Path, positives: set[str]) -> list[str]:
    """Return the ids of the distractors; one that comes twice or is a positive is refused."""
    ids = []
    for line, text in _lines(file):
        if text in positives:
            refuse(file, line, f"{readable(text)} is a positive too; it cannot be a distractor")
        ids.append(text)
    hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
    hashes.sort()
    # Ids that share a hash are rare. Only these are compared.
    suspects = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if suspects:
        unique_ids(file, "distractors", [each for each in ids if hash(each) in suspects])
    return ids


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list, which has at least one."""
    number = 0
    for number, text in read_lines(file, _MAX_LINE_BYTES):
        yield number, text
    if not number:
        raise DatasetError(f"{readable(file)}: no id; fetch the file again")


def _paths(file: Path, root: Path, folders: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the paths of photos. Where an id is its path, it is the same text in memory."""
    prefix = next((f"{name}/" for name in folders if os.path.isdir(root / name)), "")
    paths = []
    for photo in ids:
        path = photo
        if ".." in path or ":" in path or "\\" in path or "\0" in path or path[0] == "/":
            path = safe_path(readable(file), path)
        if not path.lower().endswith(PHOTO_ENDINGS):
            path += ".jpg"
        paths.append(prefix + path if prefix else path)
    return paths


ILIAS = Protocol(
    "ilias",
    "ILIAS (Kordopatis-Zilos et al., CVPR 2025)",
    _LAYOUT,
    _recognises,
    _read,
    VARIANTS,
)
