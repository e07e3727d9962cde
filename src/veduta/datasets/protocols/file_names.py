"""Holidays, UKBench and GPR1200: sets whose file names say what a photo shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from veduta.datasets.dataset import some_of
from veduta.datasets.judged_set import JudgedSet, Judgements
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    photo_names,
)
from veduta.errors import DatasetError, readable

__all__ = ["GPR1200", "HOLIDAYS", "UKBENCH"]

_SAMPLE_NAMES = 20
"""How many names are looked at to recognise a protocol."""

_HOLIDAYS_NAME = re.compile(r"(\d{4})(\d\d)\.jpe?g", re.IGNORECASE)
_UKBENCH_NAME = re.compile(r"ukbench(\d{5})\.jpe?g", re.IGNORECASE)
_GPR1200_NAME = re.compile(r"(\d{1,4})_(.+)\.jpe?g", re.IGNORECASE)

_HOLIDAYS_LAYOUT = """
holidays/
  jpg/               or the photos themselves
    100000.jpg       four digits of the scene, two of the photo; 00 is the query
    100001.jpg
"""
_UKBENCH_LAYOUT = """
ukbench/
  full/              or the photos themselves
    ukbench00000.jpg four photos in a row show one object
    ukbench00001.jpg
"""
_GPR1200_LAYOUT = """
GPR1200/
  images/            or the photos themselves
    0_1000.jpg       the class, an underscore, any name
    0_1001.jpg
"""


def _folder_of(path: Path, folder: str, photos: Path | None = None) -> Path:
    """Return the folder of the photos."""
    if photos is not None:
        return photos
    return path / folder if (path / folder).is_dir() else path


def _recognises(name: re.Pattern[str], folder: str) -> Callable[[Path], bool]:
    def recognises(path: Path) -> bool:
        if not path.is_dir():
            return False
        try:
            names = photo_names(_folder_of(path, folder))[:_SAMPLE_NAMES]
        except DatasetError:
            return False
        return len(names) > 1 and all(name.fullmatch(each) for each in names)

    return recognises


def _names(
    path: Path, folder: Path, pattern: re.Pattern[str], protocol: str, layout: str
) -> tuple[list[str], list[re.Match[str]]]:
    """Return the names of the photos and their parts; other names are refused."""
    if not folder.is_dir():
        raise layout_error(path, protocol, layout, f"no folder {readable(folder)}")
    names = photo_names(folder)
    matches = {name: pattern.fullmatch(name) for name in names}
    if others := [name for name, match in matches.items() if match is None]:
        raise layout_error(
            path, protocol, layout, f"{len(others)} photos with other names ({some_of(others)})"
        )
    if not names:
        raise layout_error(path, protocol, layout, "no photo")
    return names, [match for match in matches.values() if match is not None]


def _read_holidays(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path, "jpg", options.photos)
    names, parts = _names(path, folder, _HOLIDAYS_NAME, "holidays", _HOLIDAYS_LAYOUT)
    scenes = [part[1] for part in parts]
    query_rows = [row for row, part in enumerate(parts) if part[2] == "00"]
    if not query_rows:
        raise DatasetError(
            f"{readable(folder)}: no query; the name of a query ends in 00, as in 100000.jpg"
        )
    own = np.array(query_rows, np.int64)
    queries = [scenes[row] for row in query_rows]
    return _named_set("holidays", "Holidays", folder, names, query_rows, queries, scenes, own)


def _read_ukbench(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path, "full", options.photos)
    names, parts = _names(path, folder, _UKBENCH_NAME, "ukbench", _UKBENCH_LAYOUT)
    objects = [str(int(part[1]) // 4) for part in parts]
    incomplete = [each for each, photos in Counter(objects).items() if photos != 4]
    if incomplete:
        raise DatasetError(
            f"{readable(folder)}: {len(incomplete)} objects without four photos "
            f"(object {some_of(incomplete)}); N-S counts how many of four are found"
        )
    rows = list(range(len(names)))
    return _named_set("ukbench", "UKBench", folder, names, rows, objects, objects, None)


def _read_gpr1200(path: Path, options: ReadOptions) -> JudgedSet:
    folder = _folder_of(path, "images", options.photos)
    names, parts = _names(path, folder, _GPR1200_NAME, "gpr1200", _GPR1200_LAYOUT)
    classes = [str(int(part[1])) for part in parts]
    rows = list(range(len(names)))
    # The evaluation code of the authors ranks the query too and counts it as right.
    return _named_set("gpr1200", "GPR1200", folder, names, rows, classes, classes, None)


def _named_set(
    protocol: str,
    name: str,
    folder: Path,
    names: list[str],
    query_rows: list[int],
    query_labels: list[str],
    labels: list[str],
    own: np.ndarray[tuple[int], np.dtype[np.int64]] | None,
) -> JudgedSet:
    queries = tuple(names[row] for row in query_rows)
    return JudgedSet(
        protocol=protocol,
        name=name,
        root=folder,
        queries=queries,
        gallery=tuple(names),
        query_paths=queries,
        gallery_paths=tuple(names),
        positives=Judgements.of_equal_labels(query_labels, labels, own),
        own=own,
        query_labels=tuple(query_labels),
        gallery_labels=tuple(labels),
    )


HOLIDAYS = Protocol(
    "holidays",
    "INRIA Holidays (Jégou, Douze, Schmid, ECCV 2008)",
    _HOLIDAYS_LAYOUT,
    _recognises(_HOLIDAYS_NAME, "jpg"),
    _read_holidays,
)
UKBENCH = Protocol(
    "ukbench",
    "UKBench (Nistér, Stewénius, CVPR 2006)",
    _UKBENCH_LAYOUT,
    _recognises(_UKBENCH_NAME, "full"),
    _read_ukbench,
)
GPR1200 = Protocol(
    "gpr1200",
    "GPR1200 (Schall, Barthel, Hezel, Jung, 2021)",
    _GPR1200_LAYOUT,
    _recognises(_GPR1200_NAME, "images"),
    _read_gpr1200,
)
