"""Sets in the form of BEIR and MTEB: a corpus, queries, and qrels with grades.

Thakur et al., "BEIR", NeurIPS 2021 Datasets and Benchmarks; Xiao et al., "MIEB: Massive Image
Embedding Benchmark", 2025; and the qrels of TREC. The rule is that of trec_eval: a photo with a
grade above 0 is right, with that grade; one with 0 or less, or without a grade, is not. trec_eval
ranks equal scores by the id, the larger one first, compared byte by byte. So the gallery is ordered
by descending id, and equal scores rank in the order of the gallery. (trec_eval keeps scores in
single precision, so that scores which differ by less than that are equal there.) A photo with the
id of the query is ranked like any other.

A list is a file, or a folder of files: CSV, TSV, JSON Lines or parquet. The qrels of TREC (`query 0
photo grade`, without a header) are read too. Photos are files, which a column names, or bytes in
parquet, which are written to the user's cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from veduta.datasets.csv_records import refuse, refuse_columns
from veduta.datasets.judged_set import JudgedSet, Judgements
from veduta.datasets.protocols.list_tables import (
    TABLE_ENDINGS,
    column_names,
    find_column,
    place,
    read_rows,
    refuse_table,
    text_id,
)
from veduta.datasets.protocols.photo_lists import PhotoList, read_photo_list
from veduta.datasets.protocols.photos_in_parquet import unpack_photos
from veduta.datasets.protocols.protocol import (
    Protocol,
    ReadOptions,
    layout_error,
    positions_of,
)
from veduta.datasets.protocols.split_files import (
    SPLITS,
    chosen_split,
    files_of_split,
    find_default,
    find_lists,
    only_list,
    split_of,
)
from veduta.datasets.protocols.unpacked_photos import unpack_folder
from veduta.datasets.text_lines import read_words
from veduta.errors import DatasetError, readable
from veduta.files import open_regular
from veduta.text import count

__all__ = ["QRELS"]

_LAYOUT = """
set/
  corpus.jsonl         or corpus.tsv, corpus.parquet, corpus/*.parquet: id, image or path
                       or corpus-00000-of-00003.parquet, also in data/
  queries.jsonl        or the like, also query/: id, image or path
  qrels/test.tsv       or qrels.tsv, qrels/test-*.parquet: query-id, corpus-id, score
                       or data/test-*.parquet
"""
_QREL_ENDINGS = (*TABLE_ENDINGS, ".txt", ".qrels", ".trec")
_HEAD_BYTES = 4096

_CORPUS_IDS = ("_id", "id", "corpus-id", "corpus_id", "doc_id", "docid", "did")
_QUERY_IDS = ("_id", "id", "query-id", "query_id", "qid")
_QREL_COLUMNS = (
    ("query-id", "query_id", "qid"),
    ("corpus-id", "corpus_id", "doc_id", "docid", "did"),
    ("score", "grade", "relevance", "rel", "label"),
)


def _parts_of(path: Path) -> tuple[Path, str | None]:
    """Return the folder of a set, and the split if the path is a file of qrels that names one."""
    if not path.is_file():
        return path, None
    inside = path.parent.name == "qrels"
    return (path.parent.parent if inside else path.parent), split_of(path)


_LISTS = (
    ("corpus", ("corpus",), TABLE_ENDINGS),
    ("queries", ("queries", "query"), TABLE_ENDINGS),
    ("qrels", ("qrels",), _QREL_ENDINGS),
)


def _found(
    folder: Path, what: str, stems: Sequence[str], endings: Sequence[str]
) -> list[list[Path]]:
    """Return the lists of a name. MTEB may keep the qrels in the configuration "default"."""
    found = find_lists(folder, stems, endings)
    if not found and what == "qrels":
        default = find_default(folder, endings)
        return [default] if default else []
    return found


def _recognises(path: Path) -> bool:
    try:
        if path.is_file() and "qrels" not in {path.stem, path.parent.name}:
            return False
        folder, _ = _parts_of(path)
        return all(_found(folder, *names) for names in _LISTS)
    except (OSError, ValueError):
        return False


def _read(path: Path, options: ReadOptions) -> JudgedSet:
    folder, named = _parts_of(path)
    files = {}
    for what, stems, endings in _LISTS:
        try:
            lists = _found(folder, what, stems, endings)
        except OSError as error:
            raise DatasetError(f"{readable(folder)}: cannot be read: {error.strerror}") from error
        if not lists:
            raise layout_error(folder, "qrels", _LAYOUT, f"no {what}")
        files[what] = only_list(folder, what, lists)
    split = chosen_split(folder, files["qrels"], options.variant or named)
    corpus = read_photo_list(files_of_split(files["corpus"], split), "corpus", _CORPUS_IDS)
    queries = read_photo_list(files_of_split(files["queries"], split), "query", _QUERY_IDS)
    root, packed = _root(folder, corpus, queries, options.photos), (*corpus.packed, *queries.packed)
    order = sorted(range(len(corpus.ids)), key=lambda row: corpus.ids[row].encode(), reverse=True)
    gallery = tuple(corpus.ids[row] for row in order)
    grades = _read_grades(files_of_split(files["qrels"], split), queries.ids, gallery)
    judged = sorted(grades)
    if not judged:
        raise DatasetError(
            f"{readable(files['qrels'][0])}: no row; wanted a query, a photo and a grade in each"
        )
    right = [{photo: grade for photo, grade in grades[row].items() if grade > 0} for row in judged]
    name = Path(os.path.abspath(folder)).name
    return JudgedSet(
        protocol="qrels",
        name=name if split is None else f"{name}, {split}",
        root=root,
        queries=tuple(queries.ids[row] for row in judged),
        gallery=gallery,
        query_paths=tuple(queries.paths[row] for row in judged),
        gallery_paths=tuple(corpus.paths[row] for row in order),
        positives=Judgements.of(right, [list(each.values()) for each in right]),
        notes=tuple(_notes(corpus, queries, judged, right)),
        unpack=partial(unpack_photos, packed, root) if packed else None,
    )


def _root(folder: Path, corpus: PhotoList, queries: PhotoList, photos: Path | None) -> Path:
    """Return the folder that the paths of both lists are relative to."""
    packed = (*corpus.packed, *queries.packed)
    if not packed:
        return photos or folder
    if not (corpus.packed and queries.packed):
        raise DatasetError(
            f"{readable(folder)}: the photos of one list are bytes and those of the other are "
            "files; put all photos into files"
        )
    if photos is not None:
        raise DatasetError(
            f"{readable(folder)}: its parquet files hold the photos, so there is no folder of them"
        )
    return unpack_folder([column.file for column in packed])


def _notes(
    corpus: PhotoList, queries: PhotoList, judged: Sequence[int], right: Sequence[dict[int, float]]
) -> Iterator[str]:
    if unjudged := len(queries.ids) - len(judged):
        yield f"{count(unjudged, 'query', 'queries')} without qrels left out."
    if no_right := sum(not each for each in right):
        yield (
            f"{count(no_right, 'query', 'queries')} with qrels but no right photo: trec_eval "
            "counts 0 for them, here they do not count."
        )
    if any(not grade.is_integer() for each in right for grade in each.values()):
        yield "Some grades are no whole numbers; trec_eval has whole ones only."
    known = set(corpus.ids)
    if shared := sum(queries.ids[row] in known for row in judged):
        yield (
            f"{count(shared, 'query has', 'queries have')} the id of a gallery photo, which is "
            "ranked like any other."
        )
    if with_text := corpus.with_text + queries.with_text:
        yield f"{count(with_text, 'row')} with a text beside the photo, which is not used."


def _read_grades(
    files: Sequence[Path], queries: Sequence[str], gallery: Sequence[str]
) -> dict[int, dict[int, float]]:
    """Return the position of a query → the position of a photo → its grade."""
    query_at = {name: position for position, name in enumerate(queries)}
    photo_at = {name: position for position, name in enumerate(gallery)}
    grades: dict[int, dict[int, float]] = {}
    for file in files:
        for number, query, photo, grade in _qrel_rows(file):
            row = _position(file, number, query, query_at, "query")
            position = _position(file, number, photo, photo_at, "corpus photo")
            of_query = grades.setdefault(row, {})
            if position in of_query:
                raise refuse_table(
                    file, number, f"the photo {photo} comes twice for the query {query}"
                )
            of_query[position] = grade
    return grades


def _position(file: Path, number: int, name: str, position_of: dict[str, int], what: str) -> int:
    position = position_of.get(name)
    if position is None:
        (position,) = positions_of(place(file, number), [name], position_of, what)
    return position


def _qrel_rows(file: Path) -> Iterator[tuple[int, str, str, float]]:
    """Yield the line, the query, the photo and the grade of each row."""
    if file.suffix not in {".parquet", ".jsonl"} and _is_trec(file):
        for number, words in read_words(file):
            if len(words) != 4:
                refuse(file, number, f"{len(words)} words; wanted query, 0, photo and grade")
            yield number, words[0], words[2], _grade(file, number, words[3])
        return
    if file.suffix not in TABLE_ENDINGS:
        raise DatasetError(f"{readable(file)}, line 1: wanted query, 0, photo and grade")
    names = column_names(file)
    columns = [find_column(names, wanted) for wanted in _QREL_COLUMNS]
    found = [column for column in columns if column is not None]
    if len(found) < len(columns):
        lacking = zip(_QREL_COLUMNS, columns, strict=True)
        missing = [wanted[0] for wanted, column in lacking if column is None]
        refuse_columns(file, 1, missing, names, [wanted[0] for wanted in _QREL_COLUMNS])
    for number, (query, photo, grade) in read_rows(file, found):
        yield (
            number,
            text_id(file, number, "query", query),
            text_id(file, number, "photo", photo),
            _grade(file, number, grade),
        )


def _is_trec(file: Path) -> bool:
    """Tell whether the first line is one of the qrels of TREC, which have no header."""
    try:
        with open_regular(file) as source:
            words = (
                source.read(_HEAD_BYTES).decode("utf-8-sig", "replace").split("\n", 1)[0].split()
            )
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    return len(words) == 4 and words[3].lstrip("+-").isdecimal()


def _grade(file: Path, number: int, value: Any) -> float:
    try:
        grade = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        grade = math.nan
    if not math.isfinite(grade):
        raise refuse_table(file, number, f"the grade {ascii(value)[:60]} is no finite number")
    return grade


QRELS = Protocol("qrels", "BEIR, MTEB and TREC", _LAYOUT, _recognises, _read, SPLITS)
