"""Try to break every promise of docs/reliability.md; the exit code is 1 if one does not hold."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.report import write_section

from attack.case import NAMES, Attack, load
from attack.report import table_of
from attack.running import Place, run_cases

SECONDS_BETWEEN_LINES = 5.0
SHOWN_CHARACTERS = 1_500
SHOWN_FAILURES = 3


@dataclass(slots=True)
class Result:
    """What an attack found.

    Attributes:
        name: of the attack.
        inputs: what its cases are.
        promise: what had to hold.
        missing: why it did not run here, or nothing.
        seconds: that it took.
        cases: number of cases.
        tries: of all cases.
        kinds: number of cases of each kind.
        outcomes: number of cases of each outcome.
        failures: what the cases returned that broke the promise.
    """

    name: str
    inputs: str
    promise: str
    missing: str = ""
    seconds: float = 0.0
    cases: int = 0
    tries: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    options.add_argument("names", nargs="*", metavar="ATTACK", help=f"of {', '.join(NAMES)}")
    options.add_argument("--seed", type=int, default=1, help="another seed, other cases")
    options.add_argument(
        "--rounds", type=float, default=1.0, help="cases, as a factor of the usual number"
    )
    options.add_argument("--case", type=int, help="run this case of one attack alone")
    options.add_argument("--docs", type=Path, help="page whose section `attack` is written")
    options.add_argument(
        "--out",
        type=Path,
        default=ROOT / ".results" / "attack",
        help="folder of result.json and of the inputs that broke a promise",
    )
    chosen = options.parse_args(arguments)
    names = chosen.names or list(NAMES)
    if unknown := set(names) - set(NAMES):
        options.error(f"no attack is called {', '.join(sorted(unknown))}")
    if chosen.case is not None and len(chosen.names) != 1:
        options.error("--case needs the name of one attack")

    chosen.out.mkdir(parents=True, exist_ok=True)
    results = [
        run(name, load(name), chosen.seed, chosen.rounds, chosen.case, chosen.out) for name in names
    ]
    body = table_of([vars_of(result) for result in results], chosen.seed, chosen.rounds)
    print(f"\n{body}")
    (chosen.out / "result.json").write_text(
        json.dumps({"seed": chosen.seed, "attacks": list(map(vars_of, results))}, indent=2),
        encoding="utf-8",
    )
    if chosen.docs is not None:
        write_section(chosen.docs, "attack", body)
    return 1 if any(result.failures for result in results) else 0


def run(name: str, attack: Attack, seed: int, rounds: float, only: int | None, out: Path) -> Result:
    """Run one attack and return what it found; print its progress and what breaks."""
    result = Result(name, attack.inputs, attack.promise, attack.missing())
    if result.missing:
        print(f"{name}: not run, {result.missing}", flush=True)
        return result
    total = max(1, round(attack.cases * rounds))
    numbers = range(total) if only is None else (only,)
    failures = out / "failures"
    failures.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"veduta-attack-{name}-"))
    started = last_line = time.monotonic()

    def on_result(values: dict[str, Any]) -> None:
        nonlocal last_line
        result.cases += 1
        result.tries += values["tries"]
        result.kinds[values["kind"]] += 1
        result.outcomes[values["outcome"]] += 1
        if values["broken"]:
            result.failures.append(values)
            print_failure(name, seed, values, len(result.failures))
        now = time.monotonic()
        if now - last_line > SECONDS_BETWEEN_LINES or result.cases == len(numbers):
            last_line = now
            rate = result.cases / (now - started)
            print(
                f"{name}: {result.cases:,} of {len(numbers):,} cases, {rate:.1f} a second, "
                f"{len(result.failures):,} broken",
                flush=True,
            )

    try:
        run_cases(name, attack, seed, numbers, Place(work, failures), on_result)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result.seconds = round(time.monotonic() - started, 1)
    return result


def print_failure(name: str, seed: int, values: dict[str, Any], count: int) -> None:
    """Print what broke, and the command that repeats it."""
    if count > SHOWN_FAILURES:
        print(f"{name}, case {values['number']}: broken, see {values['kept']}", flush=True)
        return
    what = values["broken"]
    if len(what) > SHOWN_CHARACTERS:
        what = f"{what[:SHOWN_CHARACTERS]} …"
    print(
        f"\n{name}, case {values['number']} ({values['kind']}): {what}\n"
        f"  repeat it: {os.path.basename(sys.executable)} -m attack {name} --seed {seed} "
        f"--case {values['number']}\n"
        f"  its input: {values['kept']}\n",
        flush=True,
    )


def vars_of(result: Result) -> dict[str, Any]:
    """Return a result as JSON has it."""
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}


if __name__ == "__main__":
    sys.exit(main())
