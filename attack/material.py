"""Photos, indexes and answers that the attacks begin with."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.photo_sets import synthetic_photo
from PIL import Image

from attack.case import Case, PromiseBroken
from attack.commands import DONE, inside

CLASSES = ("bridge", "castle", "tower")
PHOTO_SIDES = (240, 180)
SCORE_DIGITS = 5
SHOWN_DIFFERENCES = 10


def photo(number: int, sides: tuple[int, int] = PHOTO_SIDES) -> Image.Image:
    """Return a synthetic photo, another one for each number."""
    return synthetic_photo(number).resize(sides)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a file of a photo."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def collection(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write `count` JPEGs into class folders; every third one shows a part of the one before."""
    files = []
    for number in range(first, first + count):
        image = photo(number)
        if number % 3 == 1:
            image = photo(number - 1).crop((12, 9, 228, 171))
        file = folder / CLASSES[number // 3 % len(CLASSES)] / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(image, "JPEG", quality=90))
        files.append(file)
    return files


def prepared(shared: Path) -> Case:
    """Return a stand-in for a case, for the commands of `Attack.prepare`."""
    notes = shared / "prepare"
    notes.mkdir(exist_ok=True)
    return Case("prepare", 0, 0, shared, notes)


def answers(case: Case, index: Path, queries: list[Path], root: Path, **_: Any) -> Any:
    """Return what an index answers: paths below `root`, scores and labels of all hits."""
    found = []
    for rerank in ("auto", "none"):
        ran = inside(
            case, "search", *queries, "--index", index, "--rerank", rerank, "-k", "50", "--json",
            codes=(DONE,),
        )  # fmt: skip
        found.append(ranking(ran.output, root))
    return found


def ranking(output: bytes, root: Path) -> Any:
    """Return of the JSON of a search what must not change: place, path, score and label of hits."""
    return [
        [
            [
                os.path.relpath(hit["path"], root),
                round(hit["score"], SCORE_DIGITS),
                hit.get("label"),
            ]
            for hit in one["hits"]
        ]
        for one in as_list(output)
    ]


def as_list(output: bytes) -> list[Any]:
    """Return the JSON objects that a command printed."""
    value = json.loads(output)
    return value if isinstance(value, list) else [value]


def same_answers(expected: Any, found: Any) -> bool:
    """Return whether two `answers` are the same, with the last digit of a score free."""
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same_answers, expected, found))
    if isinstance(expected, float) and isinstance(found, float):
        return abs(expected - found) < 3 * 10**-SCORE_DIGITS
    return bool(expected == found)


def require_same(expected: Any, found: Any, when: str) -> None:
    """Raise `PromiseBroken` if answers differ."""
    if not same_answers(expected, found):
        differences = "\n".join(differing(expected, found)[:SHOWN_DIFFERENCES])
        raise PromiseBroken(f"other answers {when}:\n{differences}")


def differing(expected: Any, found: Any, place: str = "") -> list[str]:
    """Return in which places answers differ, and how."""
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        if not any(isinstance(one, list) for one in expected):
            return [] if same_answers(expected, found) else [f"{place}: {expected}, now {found}"]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for at, pair in pairs for line in differing(*pair, f"{place}/{at}")]
    return [f"{place}: {expected}, now {found}"]


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of each file below a folder, by its path."""
    return {
        os.path.relpath(os.path.join(where, name), folder): hashlib.sha256(
            Path(where, name).read_bytes()
        ).hexdigest()
        for where, _, names in os.walk(folder)
        for name in names
    }


def leftovers(folder: Path) -> list[str]:
    """Return the drafts that lie below a folder."""
    return sorted(
        os.path.relpath(os.path.join(where, name), folder)
        for where, folders, names in os.walk(folder)
        for name in (*folders, *names)
        if name.startswith(".") or name.endswith((".tmp", ".veduta-half"))
    )
