"""INSTRE with the queries and the answers that retrieval papers use.

Wang, Jiang, "INSTRE: A New Benchmark for Instance-Level Object Retrieval and Recognition", TOMM
2015; queries and answers of Iscen, Tolias, Avrithis, Furon, Chum, "Efficient Diffusion on Region
Manifolds", CVPR 2017. `gnd_INSTRE.mat` has the names of the gallery (`imlist`) and of the queries
(`qimlist`), and a struct a query (`gnd`): the right photos `ok`, maybe `junk`, and the box `bbx`.

Positions in `ok` and `junk` count from 1, as MATLAB does. The box is x1, y1, x2, y2 in pixels; it
is rounded as for Oxford and Paris. The whole gallery is ranked but for `junk`. The figure is mAP by
the trapezoids of Oxford.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.judged_set import Box, JudgedSet, Judgements, unique_ids
from veduta.datasets.matlab_file import read_matlab
from veduta.datasets.protocols.protocol import (
    PHOTO_ENDINGS,
    Protocol,
    ReadOptions,
    checked_box,
    layout_error,
    safe_path,
)
from veduta.errors import DatasetError, readable

__all__ = ["INSTRE"]

_LAYOUT = """
instre/
  gnd_INSTRE.mat              imlist, qimlist and gnd; as save -v7 writes it
  jpg/                        the photos, with the paths of the lists; or beside the file
    INSTRE-S1/01a/001.jpg
"""

_FILE = "gnd_instre.mat"
"""In lower case. The publishers write it in either case."""


def _file_of(path: Path) -> Path | None:
    """Return the file with the judgements, for that file or its folder; None if there is none."""
    if os.path.isfile(path):
        return path
    try:
        names = sorted(name for name in os.listdir(path) if name.lower() == _FILE)
    except (OSError, ValueError):
        return None
    return path / names[0] if names else None


def _recognises(path: Path) -> bool:
    file = _file_of(path)
    return file is not None and file.name.lower() == _FILE


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    file = _file_of(path)
    if file is None:
        raise layout_error(path, "instre", _LAYOUT, "no gnd_INSTRE.mat")
    content = read_matlab(file)
    names = {key: _names(file, content, key) for key in ("imlist", "qimlist")}
    truths = content.get("gnd")
    if isinstance(truths, dict):  # One query.
        truths = [truths]
    if not isinstance(truths, list) or not all(isinstance(each, dict) for each in truths):
        _refuse(file, "gnd", "it is missing or no struct array; wanted one struct a query")
    if len(truths) != len(names["qimlist"]):
        _refuse(
            file,
            "gnd",
            f"{len(truths):,} structs for {len(names['qimlist']):,} names in qimlist; wanted as "
            "many",
        )
    gallery = unique_ids(file, "gallery photos", names["imlist"])
    lists: dict[str, list[NDArray[np.int64]]] = {"ok": [], "junk": []}
    boxes: list[Box | None] = []
    for number, truth in enumerate(truths, 1):
        where = f"{readable(file)}, gnd({number})"
        if "ok" not in truth:
            raise DatasetError(f"{where}: no field ok; found {', '.join(truth) or 'none'}")
        for key, rows in lists.items():
            rows.append(_positions(f"{where}.{key}", truth.get(key), len(gallery)))
        if both := np.intersect1d(lists["ok"][-1], lists["junk"][-1]).tolist():
            raise DatasetError(f"{where}: position {both[0] + 1} is in ok and in junk; keep one")
        boxes.append(_box(f"{where}.bbx", truth.get("bbx")))
    root = file.parent / "jpg" if os.path.isdir(file.parent / "jpg") else file.parent
    return JudgedSet(
        protocol="instre",
        name="INSTRE",
        root=root if options.photos is None else options.photos,
        queries=unique_ids(file, "queries", names["qimlist"]),
        gallery=gallery,
        query_paths=_paths(file, "qimlist", names["qimlist"]),
        gallery_paths=_paths(file, "imlist", names["imlist"]),
        positives=Judgements.of(lists["ok"]),
        junk=Judgements.of(lists["junk"]) if any(map(len, lists["junk"])) else None,
        boxes=tuple(boxes) if any(boxes) else (),
    )


def _refuse(file: Path, key: str, why: str) -> NoReturn:
    raise DatasetError(f"{readable(file)}, {key}: {why}")


def _names(file: Path, content: dict[str, Any], key: str) -> list[str]:
    """Return the names of photos: a cell array of texts, or rows of one text."""
    value = content.get(key)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        found = ", ".join(content)
        _refuse(file, key, f"it is missing or no list of names; the file has {found}")
    names = [each.strip() for each in values]
    if not names:
        _refuse(file, key, "it is empty; fetch the file again")
    return names


def _positions(where: str, value: Any, photos: int) -> NDArray[np.int64]:
    """Return positions in the gallery, from 0."""
    if value is None:
        return np.empty(0, np.int64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise DatasetError(f"{where}: no numbers; wanted positions in imlist")
    numbers = value.ravel()
    wrong = numbers[~((numbers >= 1) & (numbers <= photos) & (numbers == np.floor(numbers)))]
    if len(wrong):
        raise DatasetError(
            f"{where}: the position {wrong[0]:g}; wanted whole numbers from 1 to {photos}, the "
            "number of names in imlist"
        )
    rows = np.sort(numbers.astype(np.int64)) - 1
    if twice := rows[1:][rows[1:] == rows[:-1]].tolist():
        raise DatasetError(f"{where}: the position {twice[0] + 1} comes twice; list it once")
    return rows


def _box(where: str, value: Any) -> Box | None:
    """Return a box as x, y, width, height; None if there is none."""
    if value is None or (isinstance(value, np.ndarray) and not value.size):
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise DatasetError(f"{where}: no numbers; wanted x1, y1, x2, y2")
    corners = value.astype(np.float64).ravel().tolist()
    if len(corners) != 4 or not np.isfinite(corners).all():
        raise DatasetError(f"{where}: {corners}; wanted four finite numbers: x1, y1, x2, y2")
    left, top, right, bottom = map(round, corners)
    return checked_box(where, (left, top, right - left, bottom - top))


def _paths(file: Path, key: str, names: list[str]) -> tuple[str, ...]:
    paths = [
        safe_path(f"{readable(file)}, {key}{{{number}}}", name)
        for number, name in enumerate(names, 1)
    ]
    return tuple(path if path.lower().endswith(PHOTO_ENDINGS) else f"{path}.jpg" for path in paths)


INSTRE = Protocol(
    "instre",
    "INSTRE (Wang, Jiang, 2015; protocol of Iscen et al., CVPR 2017)",
    _LAYOUT,
    _recognises,
    _read,
)
