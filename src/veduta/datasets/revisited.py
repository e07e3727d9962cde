"""Oxford and Paris, classic and revisited, from their `gnd_*.pkl` files.

Philbin, Chum, Isard, Sivic, Zisserman, "Object Retrieval with Large Vocabularies and Fast Spatial
Matching", CVPR 2007, and "Lost in Quantization", CVPR 2008; Radenović, Iscen, Tolias, Avrithis,
Chum, "Revisiting Oxford and Paris", CVPR 2018.

The million distractors of the revisited sets (`revisitop1m/revisitop1m.txt` and `revisitop1m/jpg/`)
are read too, if the folder is beside the file or beside the folder of the file. They come after the
gallery and are never right.

The file is a dictionary. `imlist` and `qimlist` are photo names without `.jpg`. `gnd` has one
dictionary a query: the box `bbx` (x1, y1, x2, y2), and lists of positions in `imlist`, counted from
0. The lists are `easy`, `hard` and `junk`; in a classic file `ok` (and `good`) and `junk`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.boxes import fitted_box, photo_size
from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.judged_set import Box
from veduta.datasets.safe_pickle import read_pickle
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable

__all__ = ["RevisitedDataset", "open_revisited", "protocol_file"]

_PositionLists = tuple[NDArray[np.int64], ...]

KEYS_OF_LIST = {"easy": ("easy", "ok", "good"), "hard": ("hard",), "junk": ("junk",)}
"""The keys of the file for each list. The right answers of a classic file count as easy."""

EXTENSION = ".jpg"

DISTRACTOR_FOLDER = "revisitop1m"


@dataclass(frozen=True, slots=True)
class RevisitedDataset:
    """A protocol that lists the right photos of each query, in place of labels.

    Attributes:
        dataset: the queries (split `query`), then the gallery (split `gallery`), each in the order
            of the file and without labels. Its root is the folder of photos.
        boxes: (Q,) the part of each query photo that is the query; None for the whole photo. A
            query is cropped before anything else is done to it.
        easy: (Q,) lists of (n,) int64 positions in the gallery, ascending, from 0. In a classic
            protocol it has all right answers.
        hard: (Q,) lists like `easy`. Empty in a classic protocol.
        junk: (Q,) lists like `easy` of photos that are neither right nor wrong.
        classic: whether it is the protocol of 2007 and 2008, which has one setup and whose query
            photos may be in the gallery.
        distractors: how many of the gallery photos, the last ones, are distractors.
    """

    dataset: Dataset
    boxes: tuple[Box | None, ...]
    easy: _PositionLists
    hard: _PositionLists
    junk: _PositionLists
    classic: bool
    distractors: int = 0

    @property
    def queries(self) -> tuple[str, ...]:
        """(Q,) paths of the query photos, relative to `dataset.root`."""
        return self.dataset.paths[: len(self.boxes)]

    @property
    def gallery(self) -> tuple[str, ...]:
        """(G,) paths of the gallery photos, relative to `dataset.root`."""
        return self.dataset.paths[len(self.boxes) :]

    @property
    def gallery_ids(self) -> tuple[str, ...]:
        """(G,) names of the gallery photos: distractors as their list has them."""
        regular = len(self.gallery) - self.distractors
        before = f"{DISTRACTOR_FOLDER}/jpg/"
        distractors = (path.partition(before)[2] for path in self.gallery[regular:])
        return (*self.gallery[:regular], *distractors)

    def truth(self, query: int) -> dict[str, NDArray[np.int64]]:
        """Return the lists `easy`, `hard` and `junk` of one query by name."""
        return {name: getattr(self, name)[query] for name in KEYS_OF_LIST}

    def without(self, dropped: Mapping[str, str]) -> RevisitedDataset:
        """Return the protocol without some photos, which become problems.

        The other gallery photos move up, in the gallery and in the lists.

        Args:
            dropped: path → reason.
        """
        query_stays = [path not in dropped for path in self.queries]
        gallery_stays = np.array([path not in dropped for path in self.gallery], np.bool_)
        new_positions = np.cumsum(gallery_stays) - 1

        def moved(lists: _PositionLists) -> _PositionLists:
            return tuple(
                new_positions[positions[gallery_stays[positions]]]
                for positions, stays in zip(lists, query_stays, strict=True)
                if stays
            )

        regular = len(self.gallery) - self.distractors
        return replace(
            self,
            distractors=int(gallery_stays[regular:].sum()),
            dataset=self.dataset.without(dropped),
            boxes=tuple(box for box, stays in zip(self.boxes, query_stays, strict=True) if stays),
            easy=moved(self.easy),
            hard=moved(self.hard),
            junk=moved(self.junk),
        )


def protocol_file(path: str | os.PathLike[str]) -> Path | None:
    """Return the file of a protocol of Oxford or Paris; None if there is none.

    Args:
        path: the file, or the folder that it is in.
    """
    file = Path(path)
    if file.suffix == ".pkl":
        return file
    found = sorted(file.glob("gnd_*.pkl")) if file.is_dir() else []
    return found[0] if len(found) == 1 else None


def open_revisited(
    file: str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    *,
    allow_missing: bool = False,
    without_distractors: bool = False,
    need_photos: bool = True,
) -> RevisitedDataset:
    """Open a `gnd_*.pkl` file. Nothing in it is executed.

    Boxes are rounded to whole pixels as the published code does (Pillow's `crop`: to the nearest,
    halves to the even one, the right and lower edge left out), and cut to the photo. A box that
    leaves its photo by more than a pixel is listed in the problems of the dataset.

    Args:
        file: the file.
        photos: the folder of photos; None: the folder `jpg` beside the file.
        allow_missing: leave out photos that do not exist, and list them in the problems of the
            dataset. If not, they are refused: the figures would not compare with published ones.
        without_distractors: leave out the million distractors.
        need_photos: whether photos are looked at at all. If not, boxes are not cut to them.

    Raises:
        DatasetError: the file is not such a protocol, a position is not in the gallery, a photo is
            in two lists of a query, a box is empty or outside its photo, a photo does not exist, or
            no query or no gallery photo exists. The message names the file, the query and what was
            wanted.
    """
    path = protocol_file(file) or Path(file)
    names, query_names, truths = _content(path)
    root = Path(photos) if photos is not None else path.parent / "jpg"
    if need_photos and not root.is_dir():
        raise DatasetError(
            f"{readable(root)}: not a folder; the photos of {readable(path)} belong into a folder "
            "jpg beside it, or name the folder that they are in"
        )
    gallery = [_photo_path(path, "imlist", name) for name in names]
    queries = [_photo_path(path, "qimlist", name) for name in query_names]
    if len(set(gallery)) < len(gallery):
        twice = sorted(name for name, times in Counter(gallery).items() if times > 1)
        raise DatasetError(f"{readable(path)}: imlist names {some_of(twice)} twice")
    lists: dict[str, list[NDArray[np.int64]]] = {name: [] for name in KEYS_OF_LIST}
    boxes: list[Box | None] = []
    problems: list[str] = []
    for number, (query, truth) in enumerate(zip(query_names, truths, strict=True)):
        where = f"{readable(path)}, query {number} ({readable(query)})"
        _add_lists(where, truth, len(gallery), lists, problems)
        photo = root / queries[number] if need_photos else None
        boxes.append(_box(where, truth.get("bbx"), photo, problems))
    distractors = [] if without_distractors else _distractors(path, root)
    gallery += distractors
    splits = ["query"] * len(queries) + ["gallery"] * len(gallery)
    table = as_table([*queries, *gallery], [None] * len(splits), splits)
    protocol = RevisitedDataset(
        Dataset(root, table, tuple(problems)),
        tuple(boxes),
        tuple(lists["easy"]),
        tuple(lists["hard"]),
        tuple(lists["junk"]),
        classic=any("ok" in truth or "good" in truth for truth in truths),
        distractors=len(distractors),
    )
    return _without_missing(path, protocol, allow_missing) if need_photos else protocol


def _distractors(file: Path, root: Path) -> list[str]:
    """Return the paths of the distractors, relative to `root`; none if they are not there."""
    places = (file.parent, file.parent.resolve().parent)
    lists = [place / DISTRACTOR_FOLDER / f"{DISTRACTOR_FOLDER}.txt" for place in places]
    found = next((each for each in lists if each.is_file()), None)
    if found is None:
        return []
    folder = os.path.relpath(found.parent / "jpg", root).replace(os.sep, "/")
    names = [text for _, text in read_lines(found)]
    paths = [f"{folder}/{_photo_path(found, 'the list', name)}" for name in names]
    if not paths:
        raise DatasetError(
            f"{readable(found)}: lists no photo; leave it out with --without-distractors"
        )
    if len(set(paths)) < len(paths):
        twice = sorted(name for name, times in Counter(paths).items() if times > 1)
        raise DatasetError(f"{readable(found)}: names {some_of(twice)} twice")
    return paths


def _content(file: Path) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Return `imlist`, `qimlist` and `gnd`, with checked types."""
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
    """Return text without lone surrogates. A pickle may hold them, a message cannot."""
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
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DatasetError(
            f"{readable(file)}: {key} names {name!r}, which leads out of the folder of photos"
        )
    path = "/".join(parts)
    return path if path.lower().endswith((EXTENSION, ".jpeg", ".png")) else path + EXTENSION


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
    list_of_position: dict[int, str] = {}
    for name, keys in KEYS_OF_LIST.items():
        positions = np.concatenate(
            [_positions(where, key, truth.get(key, ()), gallery) for key in keys]
        )
        unique = np.unique(positions)
        repeated = len(positions) - len(unique)
        if repeated:
            problems.append(f"{where}: {name} names {repeated} photos again, left out")
        for position in unique.tolist():
            if position in list_of_position:
                raise DatasetError(
                    f"{where}: photo {position} is both {list_of_position[position]} and {name}"
                )
            list_of_position[position] = name
        lists[name].append(unique)


def _positions(where: str, key: str, written: Any, gallery: int) -> NDArray[np.int64]:
    """Return (n,) int64 positions in the gallery."""
    if isinstance(written, np.ndarray):
        whole = written.dtype.kind in "iu" and written.size == max(written.shape, default=1)
        if written.size and not whole:
            _not_positions(where, key)
        positions = written.ravel().tolist()
    elif isinstance(written, list | tuple) and all(type(value) is int for value in written):
        positions = list(written)
    else:
        _not_positions(where, key)
    if not positions:
        return np.zeros(0, np.int64)
    low, high = min(positions), max(positions)
    if low < 0 or high >= gallery:
        wrong = low if low < 0 else high
        raise DatasetError(
            f"{where}: {key} holds {wrong}, but imlist has {gallery} photos (0 to {gallery - 1}); "
            "is the file of the same set as its imlist, and does it count from 0?"
        )
    return np.array(positions, np.int64)


def _not_positions(where: str, key: str) -> NoReturn:
    raise DatasetError(f"{where}: {key} is not a list of whole numbers, positions in imlist")


def _box(where: str, written: Any, photo: Path | None, problems: list[str]) -> Box | None:
    """Return the box in whole pixels, cut to the photo if there is one and it can be read."""
    if written is None:
        return None
    corners = _corners(where, written)
    size = None if photo is None else photo_size(photo)
    return fitted_box(where, corners, size, problems)


def _corners(where: str, written: Any) -> list[float]:
    values: Sequence[Any] = written.ravel().tolist() if isinstance(written, np.ndarray) else written
    if (
        not isinstance(values, list | tuple)
        or len(values) != 4
        or not all(type(value) in (int, float) and abs(value) < 1e6 for value in values)
    ):
        raise DatasetError(f"{where}: bbx is not four numbers x1, y1, x2, y2")
    return [float(value) for value in values]


def _without_missing(
    file: Path, protocol: RevisitedDataset, allow_missing: bool
) -> RevisitedDataset:
    root = protocol.dataset.root
    paths_of_split = {"query": set(protocol.queries), "gallery": set(protocol.gallery)}
    gone: set[str] = set()
    problems: list[str] = []
    for split, paths in paths_of_split.items():
        missing = sorted(path for path in paths if not os.path.isfile(root / path))
        if len(missing) == len(paths):
            raise DatasetError(
                f"{readable(file)}: none of its {len(paths)} {split} photos is in {readable(root)} "
                f"({some_of(missing)}); name the folder that they are in"
            )
        if missing and not allow_missing:
            raise DatasetError(
                f"{readable(file)}: {len(missing):,} of {len(paths):,} {split} photos are missing "
                f"in {readable(root)} ({some_of(missing)}). Without them the figures do not "
                "compare with published ones; name the folder of the photos with --photos, or "
                "measure on the others with --allow-missing"
            )
        if missing:
            gone.update(missing)
            problems.append(
                f"{readable(file)}: {len(missing)} {split} photos missing, left out "
                f"({some_of(missing)}); the figures do not compare with published ones"
            )
    if not gone:
        return protocol
    less = protocol.without(dict.fromkeys(gone, ""))
    all_problems = (*protocol.dataset.problems, *problems)
    return replace(less, dataset=replace(less.dataset, problems=all_problems))
