"""The sets of metric learning without a gallery: Stanford Online Products, CUB-200-2011, Cars196.

- SOP: Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016.
  Every photo of `Ebay_test.txt` is a query against all others.
- CUB: Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011. Every photo of the classes 101
  to 200 is a query against all others (Oh Song et al.: the first 100 are for training).
- Cars: Krause et al., "3D Object Representations for Fine-Grained Categorization", 2013. Every
  photo of the classes 99 to 196 is a query against all others (Oh Song et al.).

A photo of the class of the query is right. The own photo of a query is taken out before ranking.
Photos are whole: the boxes of CUB and Cars are not used. An id is the path as the list has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veduta.datasets.csv_records import refuse
from veduta.datasets.judged_set import JudgedSet, Judgements, unique_ids
from veduta.datasets.matlab_file import read_matlab
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    positions_of,
    safe_path,
)
from veduta.datasets.text_lines import list_file, read_words, whole_number
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["CARS", "CUB", "SOP"]

_SOP_COLUMNS = ["image_id", "class_id", "super_class_id", "path"]
_CUB_TEST = range(101, 201)
_CARS_TEST = range(99, 197)

_SOP_LAYOUT = """
Stanford_Online_Products/
  Ebay_test.txt        image_id class_id super_class_id path
  bicycle_final/       photos, as the paths name them
"""
_CUB_LAYOUT = """
CUB_200_2011/
  images.txt              number and path of each photo
  image_class_labels.txt  number and class of each photo
  images/                 photos, as the paths name them
"""
_CARS_LAYOUT = """
cars196/
  cars_annos.mat       annotations: relative_im_path, class
  car_ims/             photos, as the paths name them
"""


def _recognises(name: str, folder: str) -> Callable[[Path], bool]:
    return lambda path: list_file(path, name, [folder]) is not None


def _leave_one_out(
    protocol: str, name: str, file: Path, root: Path, paths: Sequence[str], labels: Sequence[str]
) -> JudgedSet:
    """Return the set in which every photo is a query against all others."""
    ids = unique_ids(file, "photos", paths)
    own = np.arange(len(ids), dtype=np.int64)
    return JudgedSet(
        protocol=protocol,
        name=name,
        root=root,
        queries=ids,
        gallery=ids,
        query_paths=ids,
        gallery_paths=ids,
        positives=Judgements.of_equal_labels(labels, labels, own),
        own=own,
        query_labels=tuple(labels),
        gallery_labels=tuple(labels),
    )


def _read_sop(path: Path, options: ReadOptions) -> JudgedSet:
    file = list_file(path, "Ebay_test.txt", ["Stanford_Online_Products"])
    if file is None:
        raise layout_error(path, "sop", _SOP_LAYOUT, "no Ebay_test.txt")
    lines = read_words(file, 4)
    number, header = next(lines, (1, []))
    if header != _SOP_COLUMNS:
        refuse(file, number, f"found {' '.join(header)[:100]!r}; wanted {' '.join(_SOP_COLUMNS)!r}")
    paths, labels = [], []
    for number, (_, label, _, name) in lines:
        labels.append(str(whole_number(file, number, "class_id", label)))
        paths.append(safe_path(f"{readable(file)}, line {number}", name))
    if not paths:
        raise DatasetError(f"{readable(file)}: no photo below the header; is the file complete?")
    root = options.photos or file.parent
    return _leave_one_out("sop", "Stanford Online Products", file, root, paths, labels)


def _read_cub(path: Path, options: ReadOptions) -> JudgedSet:
    file = list_file(path, "images.txt", ["CUB_200_2011"])
    labels_file = list_file(path, "image_class_labels.txt", ["CUB_200_2011"])
    if file is None or labels_file is None:
        lacks = "images.txt" if file is None else "image_class_labels.txt"
        raise layout_error(path, "cub", _CUB_LAYOUT, f"no {lacks}")
    numbers, paths = [], []
    for line, (number, name) in read_words(file, 2):
        numbers.append(str(whole_number(file, line, "number of a photo", number)))
        paths.append(safe_path(f"{readable(file)}, line {line}", name))
    position_of = {
        each: position for position, each in enumerate(unique_ids(file, "photos", numbers))
    }
    labelled, classes = [], []
    for line, (number, label) in read_words(labels_file, 2):
        labelled.append(str(whole_number(labels_file, line, "number of a photo", number)))
        classes.append(whole_number(labels_file, line, "class", label))
    unique_ids(labels_file, "photos", labelled)
    rows = positions_of(readable(labels_file), labelled, position_of, "photo")
    class_of = dict(zip(rows, classes, strict=True))
    if unlabelled := len(paths) - len(class_of):
        raise DatasetError(
            f"{readable(labels_file)}: {count(unlabelled, 'photo')} of images.txt without a class; "
            "is the file complete?"
        )
    tested = [row for row in range(len(paths)) if class_of[row] in _CUB_TEST]
    return _of_classes(
        "cub",
        "CUB-200-2011",
        labels_file,
        options.photos or file.parent / "images",
        [paths[row] for row in tested],
        [class_of[row] for row in tested],
        _CUB_TEST,
    )


def _read_cars(path: Path, options: ReadOptions) -> JudgedSet:
    file = list_file(path, "cars_annos.mat", ["cars196"])
    if file is None:
        raise layout_error(path, "cars", _CARS_LAYOUT, "no cars_annos.mat")
    records = read_matlab(file).get("annotations")
    if isinstance(records, dict):
        records = [records]
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise DatasetError(
            f"{readable(file)}: no struct array 'annotations'; wanted the list of all 16,185 photos"
        )
    paths, classes = [], []
    for number, record in enumerate(records, start=1):
        where = f"{readable(file)}: annotations({number})"
        name, label = record.get("relative_im_path"), _single_number(record.get("class"))
        if not isinstance(name, str) or label is None:
            raise DatasetError(
                f"{where}: no relative_im_path or no class; wanted the file cars_annos.mat of "
                "Cars196, not those of its devkit"
            )
        if label in _CARS_TEST:
            paths.append(safe_path(where, name))
            classes.append(label)
    root = options.photos or file.parent
    return _of_classes("cars", "Cars196", file, root, paths, classes, _CARS_TEST)


def _single_number(value: Any) -> int | None:
    """Return the whole number that an array holds; None if it holds anything else."""
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in "iuf":
        return None
    number = value.item()
    return int(number) if float(number).is_integer() else None


def _of_classes(
    protocol: str,
    name: str,
    file: Path,
    root: Path,
    paths: Sequence[str],
    classes: Sequence[int],
    wanted: range,
) -> JudgedSet:
    if not paths:
        raise DatasetError(
            f"{readable(file)}: no photo of the classes {wanted[0]} to {wanted[-1]}, which are the "
            "queries; is the file complete?"
        )
    return _leave_one_out(protocol, name, file, root, paths, [str(label) for label in classes])


SOP = Protocol(
    "sop",
    "Stanford Online Products (Oh Song et al., CVPR 2016)",
    _SOP_LAYOUT,
    _recognises("Ebay_test.txt", "Stanford_Online_Products"),
    _read_sop,
)
CUB = Protocol(
    "cub",
    "CUB-200-2011 (Wah et al., 2011)",
    _CUB_LAYOUT,
    lambda path: (
        _recognises("images.txt", "CUB_200_2011")(path)
        and _recognises("image_class_labels.txt", "CUB_200_2011")(path)
    ),
    _read_cub,
)
CARS = Protocol(
    "cars",
    "Cars196 (Krause et al., 2013)",
    _CARS_LAYOUT,
    _recognises("cars_annos.mat", "cars196"),
    _read_cars,
)
