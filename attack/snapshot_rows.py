"""Mutants of `rows.arrow`, the file of the snapshot that is parsed by native code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, INDEX, inside
from attack.damage import prepare, queries_of
from attack.material import ranking, same_answers
from attack.mutants import damaged

MUTANTS_PER_CASE = 20


def run(case: Case) -> None:
    from veduta.errors import VedutaError
    from veduta.index import open_snapshot

    index = Path(shutil.copytree(case.shared / "index", case.folder / "index"))
    rows = open_snapshot(index).rows.to_pylist()
    file = next((index / "snapshot").glob("*/rows.arrow"))
    data = file.read_bytes()
    case.kind = "rows.arrow"
    case.tries = MUTANTS_PER_CASE
    case.outcome = "the same rows"
    for number in range(MUTANTS_PER_CASE):
        what, changed = damaged(data, case.rng)
        (case.folder / "mutant.arrow").write_bytes(changed)
        case.note(f"{number}: {what}")
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(changed)
        try:
            found = open_snapshot(index).rows.to_pylist()
        except VedutaError as error:
            raise PromiseBroken(f"not built again: {error}") from error
        if found != rows:
            raise PromiseBroken("other rows are believed")
    search(case, index)


def search(case: Case, index: Path) -> None:
    """The last mutant has left an index that answers as before."""
    photos = case.shared / "photos"
    expected = json.loads((case.shared / "answers.json").read_text())
    ran = inside(
        case, "search", *queries_of(photos), "--index", index, "-k", "50", "--json",
        codes=(DONE, INDEX),
    )  # fmt: skip
    if ran.code != DONE or not same_answers(expected[0], ranking(ran.output, photos)):
        raise PromiseBroken(f"other answers: {ran}")


ATTACK = Attack(
    inputs=f"{MUTANTS_PER_CASE} damaged versions of `rows.arrow` a case",
    promise="the process lives, and the rows are those of the table",
    run=run,
    cases=150,
    seconds=120,
    prepare=prepare,
)
