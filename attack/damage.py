"""Damage in each file of an index: flipped bits, zeros, cuts, lost files."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, FOUND, INDEX, Ran, inside, succeeds
from attack.material import answers, collection, prepared, ranking, require_same, same_answers
from attack.mutants import damaged, put_special

PHOTOS = 12
DIMENSIONS = 8
MAX_REMEDIES = 6
LOST_SHARE, SPECIAL_SHARE, OPENED_SHARE, SAME_TIME_SHARE = 0.1, 0.05, 0.5, 0.5

_REMEDY = re.compile(r"veduta (index|repair)\b(?: (--reread))?")
_ELSEWHERE = re.compile(r"another folder|new folder|index again into|Name another")


def prepare(shared: Path) -> None:
    case = prepared(shared)
    photos, index = shared / "photos", shared / "index"
    collection(photos, PHOTOS)
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    succeeds(case, "index", "--index", index, "--project", str(DIMENSIONS))
    queries = queries_of(photos)
    inside(case, "recognize", queries[0], "--index", index, codes=(DONE,))
    expected = answers(case, index, queries, photos)
    (shared / "answers.json").write_text(json.dumps(expected))


def queries_of(photos: Path) -> list[Path]:
    """Return the photos that are searched."""
    return sorted(photos.rglob("*.jpg"))[::5]


def run(case: Case) -> None:
    photos = case.shared / "photos"
    expected = json.loads((case.shared / "answers.json").read_text())
    index = Path(shutil.copytree(case.shared / "index", case.folder / "index"))
    queries = queries_of(photos)
    if case.rng.random() < OPENED_SHARE:
        succeeds(case, "search", queries[0], "--index", index)
    damage_one_file(case, index)

    command = ("search", *queries, "--index", index, "-k", "50", "--json")
    ran = inside(case, *command, codes=(DONE, INDEX))
    if ran.code == INDEX:
        require_named(ran, index)
        case.outcome = "refused, then mended"
    elif same_answers(expected[0], ranking(ran.output, photos)):
        case.outcome = "the same answers"
    elif ran.errors.strip():
        case.outcome = "told, then mended"
    else:
        require_same(expected[0], ranking(ran.output, photos), "without a word")
    for name in ("recognize", "status"):
        query = [queries[0]] if name == "recognize" else []
        require_named(inside(case, name, *query, "--index", index, codes=(DONE, INDEX)), index)
    follow_remedies(case, index, photos, expected)


def damage_one_file(case: Case, index: Path) -> None:
    """Damage a file of the index; half of the damages leave its time as it was."""
    files = sorted(
        file for file in index.rglob("*") if file.is_file() and file.name != "writer.lock"
    )
    kinds = sorted({kind_of(file, index) for file in files})
    case.kind = case.rng.choice(kinds)
    file = case.rng.choice([file for file in files if kind_of(file, index) == case.kind])
    before = file.stat()
    drawn = case.rng.random()
    if drawn < LOST_SHARE:
        file.unlink()
        what = "lost"
    elif drawn < LOST_SHARE + SPECIAL_SHARE:
        what = put_special(file, case.rng)
    else:
        what, data = damaged(file.read_bytes(), case.rng)
        file.write_bytes(data)
        if case.rng.random() < SAME_TIME_SHARE:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    case.note(f"{file.relative_to(index)}: {what}")


def kind_of(file: Path, index: Path) -> str:
    """Return the path of a file in an index without what differs from index to index."""
    parts = file.relative_to(index).parts
    return "/".join(
        "*" if re.search(r"\d{2}|[0-9a-f]{8}", part) else part for part in parts[:1]
    ) + ("/" + re.sub(r"[0-9a-f]{8,}(-[0-9a-f]+)*|\d+", "*", parts[-1]) if parts[1:] else "")


def require_named(ran: Ran, index: Path) -> None:
    """Raise `PromiseBroken` if a refusal does not name the index or a file in it."""
    if ran.code == INDEX and str(index) not in ran.text and index.name not in ran.text:
        raise PromiseBroken(f"the message names no file: {ran}")


def follow_remedies(case: Case, index: Path, photos: Path, expected: Any) -> None:
    """Do what the messages advise until the index is sound and answers as before.

    Raises:
        PromiseBroken: no message names a remedy, or the remedies do not help.
    """
    for _ in range(MAX_REMEDIES):
        checked = inside(case, "check", "--index", index, codes=(DONE, FOUND, INDEX))
        searched = inside(
            case, "search", *queries_of(photos), "--index", index, "-k", "50", "--json",
            codes=(DONE, INDEX),
        )  # fmt: skip
        if checked.code == DONE and searched.code == DONE and not searched.errors.strip():
            found = ranking(searched.output, photos)
            require_same(expected[0], found, "though check finds nothing")
            return
        messages = checked.text if checked.code != DONE else searched.errors.decode()
        if checked.code == INDEX and _ELSEWHERE.search(messages) and "repair" not in messages:
            build_elsewhere(case, photos, expected)
            case.outcome = "refused, then built anew"
            return
        follow(case, index, messages)
    raise PromiseBroken(f"the remedies do not help: {checked}\n{searched}")


def follow(case: Case, index: Path, messages: str) -> None:
    """Run each command that a message names, and those that their output names."""
    named = _REMEDY.findall(messages)
    if not named:
        raise PromiseBroken(f"no remedy is named: {messages}")
    for command, option in dict.fromkeys(named):
        ran = inside(
            case, command, *filter(None, [option]), "--index", index, codes=(DONE, FOUND, INDEX)
        )
        for later, later_option in dict.fromkeys(_REMEDY.findall(ran.text)):
            inside(
                case, later, *filter(None, [later_option]), "--index", index,
                codes=(DONE, FOUND, INDEX),
            )  # fmt: skip


def build_elsewhere(case: Case, photos: Path, expected: Any) -> None:
    """Build the index again in another folder, which must answer as the first one did."""
    index = case.folder / "another"
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    succeeds(case, "index", "--index", index, "--project", str(DIMENSIONS))
    found = answers(case, index, queries_of(photos), photos)
    require_same(expected, found, "of the new index")


ATTACK = Attack(
    inputs="flipped bits, zeros, cuts, insertions, lost and replaced files, in each file of an "
    "index",
    promise="the same answers, or the damage is named, and the remedy that is named brings them "
    "back",
    run=run,
    cases=240,
    seconds=120,
    prepare=prepare,
)
