"""ILIAS: one object among up to a hundred million distractors.

Kordopatis-Zilos, Stojnić, Manko, Šuma, Ypsilantis, Efthymiadis, Laskar, Matas, Chum, Tolias,
"ILIAS: Instance-Level Image retrieval At Scale", CVPR 2025. The lists and the rule are those of the
authors' evaluation code. An id begins with the name of its object and a slash. The positives of a
query are all positives of its object. Queries and positives are in the order of their ids, then
come the distractors in the order of their list. The figure is mAP@1000 divided by min(1000,
positives).

Each positive has a scale and a clutter. A table for each divides the positives into four groups,
with the limits of the authors. The positives of the other groups are then taken out.

The queries are whole photos, as in the published figures. The variants that end in "-boxes" cut
them to their boxes, see `veduta.datasets.protocols.ilias_boxes`.

The distractors may be in tar files, as the authors publish them, see
`veduta.datasets.protocols.photos_in_tar`. Memory holds one text a distractor if its id is its path,
and two otherwise.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from veduta.datasets.judged_set import JudgedSet, Judgements, OnProgress, unique_ids
from veduta.datasets.protocols.ilias_boxes import read_boxes
from veduta.datasets.protocols.ilias_lists import (
    distractor_ids,
    object_of,
    positive_ids,
    query_ids,
)
from veduta.datasets.protocols.photos_in_tar import tar_files, unpack_tars, unpacked_in_tar
from veduta.datasets.protocols.protocol import (
    PHOTO_ENDINGS,
    Protocol,
    ReadOptions,
    layout_error,
    safe_path,
)
from veduta.datasets.protocols.unpacked_photos import unpack_folder
from veduta.errors import DatasetError, readable

__all__ = ["ILIAS"]

_LAYOUT = """
ilias/
  image_ids/                         the lists of the authors' evaluation code
    image_query_ids.txt              one line a query: its id, a comma, anything
    positive_ids.txt                 one line a positive: its id, scale, clutter
    distractor_ids.txt.gz            one id a line, for full; also without .gz
    mini_ilias_yfcc100m_ids.txt      for mini; any name with "mini"; also .txt.gz
  ilias_core/                        photos of queries and positives; or beside image_ids/
    NAME_000/query/Q000_00.jpg
    NAME_000/query/Q000_00_bbox.txt  its boxes, for the variants -boxes
    NAME_000/pos/P000_00.jpg
  yfcc100m/                          photos of distractors; or beside image_ids/
    *.tar                            as they are published, or unpacked
"""

_BOXES = "-boxes"

VARIANTS = ("core", "mini", "full", *(f"{each}{_BOXES}" for each in ("core", "mini", "full")))

_LISTS = "image_ids"
_QUERIES, _POSITIVES = "image_query_ids.txt", "positive_ids.txt"
_DISTRACTORS = ("distractor_ids.txt.gz", "distractor_ids.txt")
_CORE_FOLDERS = ("ilias_core",)
_DISTRACTOR_FOLDERS = ("yfcc100m", "distractors")
_CORE_TARS = ("ilias_core.tar",)

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
    variant = (options.variant or "core").removesuffix(_BOXES)
    with_boxes = (options.variant or "").endswith(_BOXES)
    root = folder if options.photos is None else options.photos
    query_file, positive_file = lists / _QUERIES, lists / _POSITIVES
    queries = sorted(query_ids(query_file))
    graded = positive_ids(positive_file)
    positives = sorted(graded)
    of_object: dict[str, list[int]] = {}
    for row, photo in enumerate(positives):
        of_object.setdefault(object_of(photo), []).append(row)
    for query in queries:
        if object_of(query) not in of_object:
            raise DatasetError(
                f"{readable(query_file)}: the object of {readable(query)} has no photo in "
                f"{_POSITIVES}; are both files of the same version of the set?"
            )
    judgements = Judgements.of(of_object[object_of(query)] for query in queries)
    query_paths = _paths(query_file, root, _CORE_FOLDERS, queries)
    gallery, paths = positives, _paths(positive_file, root, _CORE_FOLDERS, positives)
    unpack = None
    if variant != "core":
        file = _distractor_file(path, lists, variant)
        distractors = distractor_ids(file, set(positives))
        more_paths, unpack = _distractor_paths(file, root, distractors)
        gallery, paths = positives + distractors, paths + more_paths
    right = [graded[positives[row]] for row in judgements.positions.tolist()]
    return JudgedSet(
        protocol="ilias",
        name=f"ILIAS ({variant}{', queries cut to their boxes' if with_boxes else ''})",
        root=root,
        queries=unique_ids(query_file, "queries", queries),
        gallery=tuple(gallery),
        query_paths=tuple(query_paths),
        gallery_paths=tuple(paths),
        positives=judgements,
        distractors=len(gallery) - len(positives),
        boxes=read_boxes(root, query_paths) if with_boxes else (),
        groups={
            "scale": tuple(_SCALE_GROUPS[bisect_right(_SCALES, scale)] for scale, _ in right),
            "clutter": tuple(_CLUTTER_GROUPS[bisect_right(_CLUTTERS, each)] for _, each in right),
        },
        notes=(
            ("The gallery has no distractors. Published figures are lower, since theirs has.",)
            if variant == "core"
            else ()
        ),
        unpack=unpack,
    )


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


def _distractor_paths(
    file: Path, root: Path, ids: list[str]
) -> tuple[list[str], Callable[[OnProgress | None], None] | None]:
    """Return the paths of distractors, and what unpacks them if they are in tar files.

    The files themselves are not opened. If the first photo is there, all are taken to be unpacked.
    Unpacked by Veduta they are in the cache, so these paths are absolute.
    """

    def paths_of(photos: Iterable[str]) -> list[str]:
        return _paths(file, root, _DISTRACTOR_FOLDERS, photos)

    if os.path.isfile(root / paths_of(ids[:1])[0]):
        return paths_of(ids), None
    if os.path.isfile(root / paths_of(map(_in_folder, ids[:1]))[0]):
        return paths_of(map(_in_folder, ids)), None
    tars = tar_files(root / _folder_among(root, _DISTRACTOR_FOLDERS), _CORE_TARS)
    if not tars:
        return paths_of(ids), None
    cache = unpack_folder(tars)
    prefix = cache.absolute().as_posix()
    paths = [f"{prefix}/{unpacked_in_tar(photo)}" for photo in ids]
    return paths, partial(unpack_tars, tars, ids, cache)


def _in_folder(photo: str) -> str:
    """Return the id of a photo whose tar file was unpacked into a folder without its ending.

    A folder cannot have the name of the tar file beside it.
    """
    return photo.replace(".tar/", "/", 1)


def _folder_among(root: Path, folders: Sequence[str]) -> str:
    """Return the first of some folders that is there; "" if none is."""
    return next((name for name in folders if os.path.isdir(root / name)), "")


def _paths(file: Path, root: Path, folders: Sequence[str], ids: Iterable[str]) -> list[str]:
    """Return the paths of photos. Where an id is its path, it is the same text in memory."""
    folder = _folder_among(root, folders)
    paths = []
    for photo in ids:
        path = photo
        if ".." in path or ":" in path or "\\" in path or "\0" in path or path[0] == "/":
            path = safe_path(readable(file), path)
        if not path.lower().endswith(PHOTO_ENDINGS):
            path += ".jpg"
        paths.append(f"{folder}/{path}" if folder else path)
    return paths


ILIAS = Protocol(
    "ilias",
    "ILIAS (Kordopatis-Zilos et al., CVPR 2025)",
    _LAYOUT,
    _recognises,
    _read,
    VARIANTS,
)
