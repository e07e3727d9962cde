"""The scores of all queries and gallery photos as a file: a row a query, a column a gallery photo.

The rows are written one after the other, so memory holds one of them, however large the file is.

FILE.csv    the first row has the paths of the gallery, the first column those of the queries
FILE.npy    (Q, G) float32 for `numpy.load`; FILE.npy.json has the paths: "queries", "gallery"

A score is the one by which the gallery is ranked, and a higher one is nearer. The place of a
query's own photo, which is not ranked, is empty in the CSV file and NaN in the other.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.errors import DatasetError, readable
from veduta.files import atomic_file

__all__ = ["MATRIX_ENDINGS", "ScoreRows", "matrix_files", "open_score_matrix"]

MATRIX_ENDINGS = (".csv", ".npy")

_NAMES_ENDING = ".json"


class ScoreRows:
    """A file that takes the rows of the matrix, one query after the other."""

    def add(self, scores: ArrayLike, itself: int | None = None) -> None:
        """Write the scores of the next query.

        Args:
            scores: (G,) of every gallery photo.
            itself: position of the query's own photo in the gallery, if it is there.
        """
        row = np.array(scores, dtype=np.float32)
        if itself is not None:
            row[itself] = np.nan
        self._write(row)

    def _write(self, row: NDArray[np.float32]) -> None:
        raise NotImplementedError


class _NumpyRows(ScoreRows):
    def __init__(self, file: BinaryIO, shape: tuple[int, int]) -> None:
        self._file = file
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def _write(self, row: NDArray[np.float32]) -> None:
        self._file.write(row.astype("<f4").tobytes())


class _CsvRows(ScoreRows):
    def __init__(self, file: TextIO, queries: Iterable[str], gallery: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(["query", *gallery])
        self._queries = iter(queries)

    def _write(self, row: NDArray[np.float32]) -> None:
        # Nine digits read back as the same float32.
        cells = ["" if math.isnan(score) else f"{score:.9g}" for score in row.tolist()]
        self._writer.writerow([next(self._queries), *cells])


def matrix_files(file: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that a matrix consists of.

    Args:
        file: its name, which ends in one of `MATRIX_ENDINGS`.

    Raises:
        DatasetError: the name has another ending.
    """
    path = Path(file)
    ending = path.suffix.lower()
    if ending not in MATRIX_ENDINGS:
        raise DatasetError(
            f"{readable(path)}: a matrix of scores is written as .csv or .npy; name a file with "
            "one of these endings"
        )
    return (path,) if ending == ".csv" else (path, path.with_name(path.name + _NAMES_ENDING))


@contextmanager
def open_score_matrix(
    file: str | os.PathLike[str],
    queries: Sequence[str],
    gallery: Sequence[str],
    answered_by: str,
) -> Iterator[ScoreRows]:
    """Yield what takes the rows. The files appear complete at the end of the block, or not at all.

    Args:
        file: the file, which ends in one of `MATRIX_ENDINGS`.
        queries: (Q,) paths of the queries, in the order of the rows.
        gallery: (G,) paths of the gallery photos.
        answered_by: what the scores come from, for the JSON file.

    Raises:
        DatasetError: the name of the file has another ending.
        CannotWrite: a file cannot be written.
    """
    path, *names_file = matrix_files(file)
    with ExitStack() as files:
        draft = files.enter_context(atomic_file(path))
        if not names_file:
            text = files.enter_context(
                draft.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            )
            yield _CsvRows(text, queries, gallery)
            return
        names_draft = files.enter_context(atomic_file(names_file[0]))
        names = {
            "queries": list(queries),
            "gallery": list(gallery),
            "answered_by": answered_by,
        }
        names_draft.write_text(json.dumps(names, indent=1) + "\n", "utf-8")
        yield _NumpyRows(files.enter_context(draft.open("wb")), (len(queries), len(gallery)))
