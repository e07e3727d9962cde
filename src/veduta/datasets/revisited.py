"""Oxford and Paris, classic and revisited, from their `gnd_*.pkl` files.

Philbin, Chum, Isard, Sivic, Zisserman, "Object Retrieval with Large Vocabularies and Fast Spatial
Matching", CVPR 2007, and "Lost in Quantization", CVPR 2008; Radenović, Iscen, Tolias, Avrithis,
Chum, "Revisiting Oxford and Paris", CVPR 2018. The file is a dictionary: `imlist` and `qimlist` are
photo names without `.jpg`, `gnd` has one dictionary a query, with the box `bbx` (x1, y1, x2, y2)
and lists of positions in `imlist`, from 0: `easy`, `hard` and `junk`, or classic `ok` (and `good`)
and `junk`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.safe_pickle import read_pickle
from veduta.errors import DatasetError, PhotoError, readable

__all__ = ["Box", "RevisitedDataset", "open_revisited"]

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

_Rows = tuple[NDArray[np.int64], ...]

_KINDS = {"easy": ("easy", "ok", "good"), "hard": ("hard",), "junk": ("junk",)}
"""From the kinds to the keys of the file; the classic positives count as easy, none as hard."""

_EXTENSION = ".jpg"


@dataclass(frozen=True, slots=True)
class RevisitedDataset:
    """A protocol whose truth is a list of photos for each query, not a label.

    `dataset`
        the queries (split `query`), then the gallery (split `gallery`), each in the order of the
        file and without labels. `root` is the folder of photos.
    `boxes`
        (Q,) the part of each query photo that is the query; None for the whole photo. A query is
        cropped before anything else is done to it.
    `easy`, `hard`, `junk`
        (Q,) of (n,) int64, ascending: positions in the gallery, from 0. In a classic protocol
        `easy` has all positives and `hard` none.
    `classic`
        whether it is the protocol of 2007 and 2008: one setup, and query photos may be in the
        gallery.
    """

    dataset: Dataset
    boxes: tuple[Box | None, ...]
    easy: _Rows
    hard: _Rows
    junk: _Rows
    classic: bool

    @property
    def queries(self) -> tuple[str, ...]:
        """(Q,) paths of the query photos, relative to `dataset.root`."""
        return self._paths()[: len(self.boxes)]

    @property
    def gallery(self) -> tuple[str, ...]:
        """(G,) paths of the gallery photos, relative to `dataset.root`."""
        return self._paths()[len(self.boxes) :]

    def truth(self, query: int) -> dict[str, NDArray[np.int64]]:
        """Return `easy`, `hard` and `junk` of one query by name."""
        return {kind: getattr(self, kind)[query] for kind in _KINDS}

    def without(self, dropped: Mapping[str, str]) -> RevisitedDataset:
        """Return the protocol less the photos in `dropped` (path → why), which become problems.

        The positions of the others in the gallery, and so in the lists, move up.
        """
        asks = [path not in dropped for path in self.queries]
        answers = np.array([path not in dropped for path in self.gallery], np.bool_)
        moved = np.cumsum(answers) - 1

        def kept(lists: _Rows) -> _Rows:
            return tuple(
                moved[rows[answers[rows]]]
                for rows, asking in zip(lists, asks, strict=True)
                if asking
            )

        return replace(
            self,
            dataset=self.dataset.without(dropped),
            boxes=tuple(box for box, asking in zip(self.boxes, asks, strict=True) if asking),
            easy=kept(self.easy),
            hard=kept(self.hard),
            junk=kept(self.junk),
        )

    def _paths(self) -> tuple[str, ...]:
        return tuple(self.dataset.table["path"].to_pylist())


def open_revisited(
    file: str | os.PathLike[str], photos: str | os.PathLike[str] | None = None
) -> RevisitedDataset:
    """Open a `gnd_*.pkl` file; nothing in it is executed.

    `photos`: the folder of photos; by default the folder `jpg` beside the file.

    Boxes are rounded to whole pixels as the published code does (Pillow's `crop`: to the nearest,
    halves to the even one, the right and lower edge left out), and cut to the photo. Photos that
    are not there are dropped and told in `Dataset.problems`, and so are boxes that leave their
    photo by more than a pixel.

    Raises `DatasetError`, naming the file, the query and what was wanted, when the file is no such
    protocol, a position is not in the gallery, a photo is of two kinds, a box is empty or outside
    its photo, or no query or no gallery photo is there.
    """
    path = Path(file)
    names, query_names, truths = _parts(path)
    root = Path(photos) if photos is not None else path.parent / "jpg"
    if not root.is_dir():
        raise DatasetError(
            f"{readable(root)}: not a folder; the photos of {readable(path)} belong into a folder "
            "jpg beside it, or name the folder that they are in"
        )
    gallery = [_photo_path(path, "imlist", name) for name in names]
    queries = [_photo_path(path, "qimlist", name) for name in query_names]
    if len(set(gallery)) < len(gallery):
        twice = sorted(name for name, times in Counter(gallery).items() if times > 1)
        raise DatasetError(f"{readable(path)}: imlist names {some_of(twice)} twice")
    lists: dict[str, list[NDArray[np.int64]]] = {kind: [] for kind in _KINDS}
    boxes: list[Box | None] = []
    problems: list[str] = []
    for number, (query, truth) in enumerate(zip(query_names, truths, strict=True)):
        where = f"{readable(path)}, query {number} ({readable(query)})"
        _add_lists(where, truth, len(gallery), lists, problems)
        boxes.append(_box(where, truth.get("bbx"), root / queries[number], problems))
    splits = ["query"] * len(queries) + ["gallery"] * len(gallery)
    table = as_table([*queries, *gallery], [None] * len(splits), splits)
    protocol = RevisitedDataset(
        Dataset(root, table, tuple(problems)),
        tuple(boxes),
        tuple(lists["easy"]),
        tuple(lists["hard"]),
        tuple(lists["junk"]),
        classic=any("ok" in truth or "good" in truth for truth in truths),
    )
    return _without_missing(path, protocol)


def _parts(file: Path) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Return `imlist`, `qimlist` and `gnd`, of the right types."""
    content = read_pickle(file)
    top = _text_keys(content) if isinstance(content, dict) else {}
    missing = [key for key in ("gnd", "imlist", "qimlist") if key not in top]
    if missing:
        found = f"the keys {some_of(sorted(top))}" if top else type(content).__name__
        raise DatasetError(
            f"{readable(file)}: no {' and no '.join(missing)}; found {found}; wanted a dictionary "
            "with gnd, imlist and qimlist, as the publishers of revisited Oxford and Paris write it"
        )
    names, queries = (_names(file, key, top[key]) for key in ("imlist", "qimlist"))
    truths = top["gnd"]
    if not isinstance(truths, list | tuple) or not all(isinstance(one, dict) for one in truths):
        raise DatasetError(f"{readable(file)}: gnd is not a list of dictionaries")
    if len(truths) != len(queries):
        raise DatasetError(
            f"{readable(file)}: gnd has {len(truths)} queries, but qimlist has {len(queries)}"
        )
    return names, queries, [_text_keys(one) for one in truths]


def _text_keys(pairs: dict[Any, Any]) -> dict[str, Any]:
    """Return the dictionary with the keys as text: Python 2 wrote them as bytes."""
    return {
        key.decode("latin-1") if isinstance(key, bytes) else _printable(str(key)): value
        for key, value in pairs.items()
    }


def _printable(text: str) -> str:
    """Return text without lone surrogates, which a pickle may hold and no message can."""
    return text.encode("utf-8", "backslashreplace").decode()


def _names(file: Path, key: str, written: Any) -> list[str]:
    if isinstance(written, np.ndarray) and written.ndim == 1:
        written = written.tolist()
    if not isinstance(written, list | tuple) or not written:
        raise DatasetError(f"{readable(file)}: {key} is not a list of photo names")
    names = [name.decode("latin-1") if isinstance(name, bytes) else name for name in written]
    for name in names:
        if not isinstance(name, str):
            raise DatasetError(
                f"{readable(file)}: {key} holds {type(name).__name__}; wanted names of photos"
            )
        if _printable(name) != name:
            raise DatasetError(f"{readable(file)}: {key} names {name!a}, which is no text")
    return names


def _photo_path(file: Path, key: str, name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DatasetError(
            f"{readable(file)}: {key} names {name!r}, which leads out of the folder of photos"
        )
    path = "/".join(parts)
    return path if path.lower().endswith((_EXTENSION, ".jpeg", ".png")) else path + _EXTENSION


def _add_lists(
    where: str,
    truth: Mapping[str, Any],
    gallery: int,
    lists: Mapping[str, list[NDArray[np.int64]]],
    problems: list[str],
) -> None:
    """Add the three lists of one query."""
    if not any(key in truth for key in ("easy", "hard", "ok", "good")):
        raise DatasetError(
            f"{where}: no list of right photos; found the keys {some_of(sorted(truth))}; wanted "
            "easy, hard and junk, or ok and junk"
        )
    kind_of: dict[int, str] = {}
    for kind, keys in _KINDS.items():
        rows = np.concatenate([_positions(where, key, truth.get(key, ()), gallery) for key in keys])
        once = np.unique(rows)
        if len(once) < len(rows):
            problems.append(f"{where}: {kind} names {len(rows) - len(once)} photos again, left out")
        for row in once.tolist():
            if row in kind_of:
                raise DatasetError(f"{where}: photo {row} is both {kind_of[row]} and {kind}")
            kind_of[row] = kind
        lists[kind].append(once)


def _positions(where: str, key: str, written: Any, gallery: int) -> NDArray[np.int64]:
    """Return (n,) int64 positions in the gallery."""
    if isinstance(written, np.ndarray):
        whole = written.dtype.kind in "iu" and written.size == max(written.shape, default=1)
        if written.size and not whole:
            _not_positions(where, key)
        rows = written.ravel().tolist()
    elif isinstance(written, list | tuple) and all(type(row) is int for row in written):
        rows = list(written)
    else:
        _not_positions(where, key)
    if not rows:
        return np.zeros(0, np.int64)
    low, high = min(rows), max(rows)
    if low < 0 or high >= gallery:
        wrong = low if low < 0 else high
        raise DatasetError(
            f"{where}: {key} holds {wrong}, but imlist has {gallery} photos (0 to {gallery - 1}); "
            "is the file of the same set as its imlist, and does it count from 0?"
        )
    return np.array(rows, np.int64)


def _not_positions(where: str, key: str) -> NoReturn:
    raise DatasetError(f"{where}: {key} is not a list of whole numbers, positions in imlist")


def _box(where: str, written: Any, photo: Path, problems: list[str]) -> Box | None:
    """Return the box in whole pixels, cut to the photo where that is there."""
    if written is None:
        return None
    corners = _corners(where, written)
    left, top, right, bottom = (round(value) for value in corners)
    width, height = _size(photo) or (max(right, 1), max(bottom, 1))
    cut = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise DatasetError(
            f"{where}: the box {_listed(corners)} is empty or outside the photo of "
            f"{width} × {height} pixels; wanted x1, y1, x2, y2 in pixels"
        )
    wanted = left, top, right, bottom
    if max(abs(one - other) for one, other in zip(cut, wanted, strict=True)) > 1:
        problems.append(
            f"{where}: the box {_listed(corners)} leaves the photo of {width} × {height} pixels, "
            "cut to it"
        )
    return cut[0], cut[1], cut[2] - cut[0], cut[3] - cut[1]


def _corners(where: str, written: Any) -> list[float]:
    values: Sequence[Any] = written.ravel().tolist() if isinstance(written, np.ndarray) else written
    if (
        not isinstance(values, list | tuple)
        or len(values) != 4
        or not all(type(value) in (int, float) and abs(value) < 1e6 for value in values)
    ):
        raise DatasetError(f"{where}: bbx is not four numbers x1, y1, x2, y2")
    return [float(value) for value in values]


def _listed(corners: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corners) + ")"


def _size(photo: Path) -> tuple[int, int] | None:
    """Return the width and height of a photo; None if it is not there or does not decode.

    Whoever encodes it will find out that it does not decode, and leave it out.
    """
    from veduta.photos import load

    try:
        found = load(photo, at_least=1)
    except PhotoError:
        return None
    return found.width, found.height


def _without_missing(file: Path, protocol: RevisitedDataset) -> RevisitedDataset:
    root = protocol.dataset.root
    parts = {"query": set(protocol.queries), "gallery": set(protocol.gallery)}
    gone: set[str] = set()
    problems: list[str] = []
    for part, paths in parts.items():
        missing = sorted(path for path in paths if not os.path.isfile(root / path))
        if len(missing) == len(paths):
            raise DatasetError(
                f"{readable(file)}: none of its {len(paths)} {part} photos is in {readable(root)} "
                f"({some_of(missing)}); name the folder that they are in"
            )
        if missing:
            gone.update(missing)
            problems.append(
                f"{readable(file)}: {len(missing)} {part} photos missing, left out "
                f"({some_of(missing)}); the figures do not compare with published ones"
            )
    if not gone:
        return protocol
    less = protocol.without(dict.fromkeys(gone, ""))
    told = (*protocol.dataset.problems, *problems)
    return replace(less, dataset=replace(less.dataset, problems=told))
