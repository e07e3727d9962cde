"""A few cases of each attack, and the suite itself: it must find what is broken."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# One case of each: with what it needs, that takes minutes. `make attack` runs many, also of the
# attacks whose promises `test_damage.py` and `test_order.py` test as well.
CASES = {
    "kills": 1,
    "full_disk": 1,
    "photo_mutants": 1,
    "hostile_files": 1,
    "hostile_names": 1,
    "hostile_options": 1,
    "servers": 1,
    "private_addresses": 1,
}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the attacks need Linux"
)
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_first_cases_keep_their_promise(name: str, tmp_path: Path) -> None:
    from attack.case import load

    rounds = CASES[name] / load(name).cases
    done = attack(name, "--rounds", str(rounds), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads((tmp_path / "out" / "result.json").read_text())["attacks"]
    if not result["missing"]:
        assert result["cases"] == CASES[name]
        assert sum(result["outcomes"].values()) == CASES[name]


def attack(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attack", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def test_every_attack_can_be_loaded() -> None:
    from attack.case import NAMES, load

    files = {path.stem for path in (ROOT / "attack").glob("*.py")}
    for name in NAMES:
        found = load(name)
        assert name in files
        assert found.cases > 0 and found.promise and found.inputs
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in NAMES), "the page names each attack"


BROKEN = """
import os, signal, time
from attack.case import Attack, PromiseBroken

def run(case):
    case.kind = "fake"
    case.note(f"number {case.number}, drew {case.rng.random()}")
    (case.folder / "input").write_text("kept")
    if case.number == 1:
        raise PromiseBroken("it did not hold")
    if case.number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if case.number == 3:
        try:
            time.sleep(60)
        except Exception:
            pass
    if case.number == 4:
        raise ValueError("a fault of the attack")
    case.outcome = "held"

ATTACK = Attack(inputs="fakes", promise="nothing", run=run, cases=6, seconds=1)
"""


def test_the_suite_finds_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attack.case import load
    from attack.running import Place, run_cases

    (tmp_path / "a_broken_attack.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    place = Place(tmp_path / "work", tmp_path / "failures")
    place.work.mkdir()
    place.failures.mkdir()
    results: dict[int, dict[str, Any]] = {}
    name = "a_broken_attack"
    run_cases(
        name, load(name), 7, range(6), place, lambda one: results.update({one["number"]: one})
    )
    assert [results[n]["outcome"] == "held" for n in range(6)] == [True, *4 * [False], True]
    assert results[1]["broken"] == "it did not hold"
    assert "SIGSEGV" in results[2]["broken"] and "number 2" in results[2]["broken"]
    assert results[3]["broken"].startswith("out of time")
    assert "ValueError: a fault of the attack" in results[4]["broken"]
    for number in range(1, 5):
        kept = place.failures / f"{name}-{number}"
        assert results[number]["kept"] == str(kept)
        assert (kept / "input").read_text() == "kept"
    notes = (place.failures / f"{name}-1" / "notes.txt").read_text()
    assert f"drew {random.Random(f'7 {name} 1').random()}" in notes, "a case follows from the seed"


def ran(code: int = 0, output: bytes = b"", errors: bytes = b"") -> Any:
    from attack.commands import Ran

    return Ran(("search",), code, output, errors)


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (lambda: ran(-11), "killed by SIGSEGV"),
        (lambda: ran(70, b"", b"veduta: a fault"), "not one of the exit codes"),
        (lambda: ran(1, b"", b"Traceback (most recent call last):\n"), "a traceback"),
        (lambda: ran(3), "an exit code without a message"),
        (lambda: ran(0, b"\x1b[31mred"), "control character"),
        (lambda: ran(0, "\u202egpj".encode()), "control character"),
    ],
)
def test_a_command_is_judged(ended: Callable[[], Any], message: str, tmp_path: Path) -> None:
    from attack.case import Case, PromiseBroken
    from attack.commands import ANY, _judged

    case = Case("none", 0, 0, tmp_path, tmp_path)
    with pytest.raises(PromiseBroken, match=message):
        _judged(case, ended(), ANY)
    assert _judged(case, ran(4, b"", b"veduta: there is no index"), ANY).code == 4


def test_other_answers_are_other_answers() -> None:
    from attack.case import PromiseBroken
    from attack.material import require_same, same_answers

    answer = [[["a.jpg", 0.9, "tower"], ["b.jpg", 0.1, None]]]
    assert same_answers(answer, [[["a.jpg", 0.90001, "tower"], ["b.jpg", 0.1, None]]])
    for other in (
        [[["a.jpg", 0.91, "tower"], ["b.jpg", 0.1, None]]],
        [[["b.jpg", 0.1, None], ["a.jpg", 0.9, "tower"]]],
        [[["a.jpg", 0.9, "gate"], ["b.jpg", 0.1, None]]],
        [[["a.jpg", float("nan"), "tower"], ["b.jpg", 0.1, None]]],
        [[["a.jpg", 0.9, "tower"]]],
    ):
        with pytest.raises(PromiseBroken, match="other answers here"):
            require_same(answer, other, "here")


def test_damage_changes_the_bytes() -> None:
    from attack.mutants import damaged

    rng = random.Random(1)
    data = bytes(range(256)) * 4
    kinds = set()
    for _ in range(400):
        kind, changed = damaged(data, rng)
        kinds.add(kind)
        assert changed != data or kind in ("two blocks swapped", "a block of zeros")
    assert len(kinds) == 9
    assert damaged(b"", rng)[1], "an empty file becomes longer"


def test_the_table_has_a_row_for_each_attack() -> None:
    from attack.report import table_of

    held = {
        "name": "kills", "inputs": "kills", "promise": "all is there", "missing": "", "seconds": 30,
        "cases": 5, "tries": 1200, "outcomes": {"done": 4, "promise broken": 1}, "failures": [{}],
    }  # fmt: skip
    skipped = {
        **held,
        "name": "full_disk",
        "missing": "no root",
        "cases": 0,
        "tries": 0,
        "failures": [],
    }
    text = table_of([held, skipped], 1, 1.0)
    assert "| kills | kills | all is there | 5 | 1,200 | done: 4, promise broken: 1 | 1 |" in text
    assert "| full_disk | kills | all is there | 0 | 0 | not run: no root | 0 |" in text
    assert "5 cases with 1,200 tries in 1 minutes, 1 broken promises, seed 1." in text
    assert "    make attack" in text
