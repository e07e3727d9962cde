"""The rankings of another program, and the same written.

Read are, whatever the ending of the file is:

- a TREC run, `query Q0 photo rank score tag`. It is sorted as trec_eval does: by score, compared as
  float32, highest first; equal scores by the larger id, compared as bytes. The rank is ignored.
- JSON, `{"query": ["photo", …]}` best first, as `veduta evaluate --dict` prints it, or
  `{"query": {"photo": score}}`, a run of pytrec_eval, which is sorted like a TREC run.
- CSV with the columns `id` and `images`, whose ids are separated by blanks, best first: a
  submission for Google Landmarks (Weyand et al., 2020).
- CSV with the columns `query_id`, `reference_id` and `score`: the predictions of DISC21 (Douze et
  al., 2021). Equal scores keep the order of the file.

An id is taken as it is, else without its ending or with any ending if that is unique.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from veduta.datasets.csv_records import normalised, read_header, read_records, refuse
from veduta.errors import DatasetError, readable
from veduta.files import open_regular, write_text
from veduta.interchange.photo_ids import is_utf8
from veduta.interchange.rankings import RankedPairs, Rankings
from veduta.validation import InvalidValue, convert, read_whole

__all__ = ["Rankings", "read_ranking", "write_run"]

_MAX_LINE_BYTES = 2**20
_RUN_FIELDS = 6
_SUBMISSION = ("id", "images")
_PREDICTIONS = ("query_id", "reference_id", "score")
_BLANKS = frozenset(" \t\n\r\v\f")
_FORMS = (
    "wanted a TREC run (query Q0 photo rank score tag), JSON, CSV with the columns id and images, "
    "or CSV with the columns query_id, reference_id and score"
)


def read_ranking(file: Path, queries: Sequence[str], gallery: Sequence[str]) -> Rankings:
    """Read a file of rankings.

    A query that the file lacks has an empty ranking, and `problems` counts it.

    Args:
        file: in one of the forms of the module docstring.
        queries: (Q,) ids.
        gallery: (G,) ids.

    Returns:
        The rankings of all queries.

    Raises:
        DatasetError: the file cannot be read, a score is no finite number, an id is unknown, or a
            pair comes twice.
    """
    try:
        with open_regular(file) as source:
            start = source.readline(_MAX_LINE_BYTES)
            while start and not start.strip(b" \t\r\n\xef\xbb\xbf"):
                start = source.readline(_MAX_LINE_BYTES)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    first = start.strip(b" \t\r\n\xef\xbb\xbf")
    if not first:
        raise DatasetError(f"{readable(file)}: is empty; {_FORMS}")
    if first[:1] in b"{[" or file.suffix.lower() == ".json":
        return _read_json(file).ranked(queries, gallery, as_trec_eval=True)
    if len(first.split()) == _RUN_FIELDS and file.suffix.lower() != ".csv":
        return _read_run(file).ranked(queries, gallery, as_trec_eval=True)
    columns = {normalised(each) for each in read_header(file)}
    if columns.issuperset(_SUBMISSION):
        return _read_submission(file).ranked(queries, gallery)
    if columns.issuperset(_PREDICTIONS):
        return _read_predictions(file).ranked(queries, gallery)
    begin = first[:60].decode("utf-8", "backslashreplace")
    raise DatasetError(f"{readable(file)}: begins with {begin!r}; {_FORMS}")


def write_run(file: Path, rows: Iterable[tuple[str, str, float]], *, tag: str = "veduta") -> None:
    """Write a TREC run.

    Args:
        file: the file to write.
        rows: (query, gallery photo, score), the pairs of a query one after the other, best first.
            What reads the file sorts equal scores by the ids.
        tag: the name of the run.

    Raises:
        DatasetError: an id is empty, has a blank, or is not UTF-8; or a score is not finite.
        CannotWrite: the file cannot be written.
    """
    write_text(file, _run_lines(file, rows, tag))


def _run_lines(file: Path, rows: Iterable[tuple[str, str, float]], tag: str) -> Iterator[str]:
    last, rank = None, 0
    for query, photo, score in rows:
        rank = rank + 1 if query == last else 1
        last = query
        for word in (query, photo, tag):
            if not word or not _BLANKS.isdisjoint(word) or not is_utf8(word):
                raise DatasetError(
                    f"{readable(file)}: a TREC run cannot hold {word!r}, which is empty, "
                    "has a blank, or is not UTF-8"
                )
        if not math.isfinite(score):
            raise DatasetError(
                f"{readable(file)}: the score of {readable(photo)} for the query "
                f"{readable(query)} is {score}; wanted a finite number"
            )
        yield f"{query} Q0 {photo} {rank} {float(score)!r} {tag}\n"


def _read_run(file: Path) -> RankedPairs:
    pairs = RankedPairs(file, scored=True)
    texts: dict[bytes, str] = {}
    try:
        with open_regular(file) as source:
            lines = iter(partial(source.readline, _MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):
                fields = line.removeprefix(b"\xef\xbb\xbf").split()
                if not fields:
                    continue
                if len(fields) != _RUN_FIELDS:
                    refuse(
                        file,
                        number,
                        f"{len(fields)} words; wanted 6: query Q0 photo rank score tag, where no "
                        "id has a blank",
                    )
                for each in (fields[0], fields[2]):
                    if each not in texts:
                        texts[each] = _text(file, number, each)
                score = _score(file, number, fields[4])
                pairs.add(number, texts[fields[0]], texts[fields[2]], score)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    return pairs


def _read_predictions(file: Path) -> RankedPairs:
    pairs = RankedPairs(file, scored=True)
    for line, (query, photo, score) in read_records(file, _PREDICTIONS):
        pairs.add(line, query.strip(), photo.strip(), _score(file, line, score))
    return pairs


def _read_submission(file: Path) -> RankedPairs:
    pairs = RankedPairs(file, scored=False)
    lines: dict[str, int] = {}
    for line, (query, photos) in read_records(file, _SUBMISSION):
        name = query.strip()
        if lines.setdefault(name, line) != line:
            refuse(file, line, f"the query {readable(name)} is in line {lines[name]} too")
        pairs.add_query(name)
        for photo in photos.split():
            pairs.add(line, name, photo)
    return pairs


def _read_json(file: Path) -> RankedPairs:
    try:
        answers = _parse(read_whole(file).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{readable(file)}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{readable(file)}: not valid JSON: {error}") from error
    if not isinstance(answers, dict) or not answers:
        raise DatasetError(
            f'{readable(file)}: wanted {{"query": ["photo", …]}} or {{"query": {{"photo": score}}}}'
        )
    scored = isinstance(next(iter(answers.values())), dict)
    pairs = RankedPairs(file, scored=scored)
    kind: Any = dict[str, float] if scored else list[str]
    for query, answer in answers.items():
        where = f"{readable(file)}, query {readable(query)}"
        try:
            photos = convert(answer, kind)
        except InvalidValue as error:
            form = "photos with scores" if scored else "a list of photos"
            raise DatasetError(
                f"{where}: {error}; wanted {form}, as for the first query"
            ) from error
        pairs.add_query(query)
        if not scored:
            for photo in photos:
                pairs.add(0, query, photo)
            continue
        for photo, score in photos.items():
            if not math.isfinite(score):
                raise DatasetError(
                    f"{where}: the score of {readable(photo)} is {score}; wanted a finite number"
                )
            pairs.add(0, query, photo, score)
    return pairs


def _parse(text: str) -> Any:
    """Return the value of a JSON text; a key that comes twice is refused."""
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_number)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise InvalidValue(f"the key {twice!r} comes twice")
    if wrong := [key for key in values if not is_utf8(key)]:
        raise InvalidValue(f"the key {wrong[0]!r} is no text in UTF-8")
    return values


def _no_number(text: str) -> NoReturn:
    raise InvalidValue(f"{text} is no finite number")


def _text(file: Path, line: int, word: bytes) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(file, line, f"not UTF-8 ({error.reason}); save the file as UTF-8", error)


def _score(file: Path, line: int, text: str | bytes) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        refuse(file, line, f"the score {text!r} is no finite number")
    return score
