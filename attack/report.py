"""The table of docs/reliability.md."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from benchmarks.report import machine_description


def table_of(attacks: Sequence[dict[str, Any]], seed: int, rounds: float) -> str:
    """Return what each attack tried and found, as Markdown.

    Args:
        attacks: the fields of `Result`, for each attack.
        seed: of the run.
        rounds: factor of the usual number of cases.
    """
    head = "| attack | inputs | promise | cases | tries | what happened | broken |"
    lines = [head, "|---|---|---|---:|---:|---|---:|"]
    for attack in attacks:
        if attack["missing"]:
            happened = f"not run: {attack['missing']}"
        else:
            outcomes = sorted(attack["outcomes"].items(), key=lambda item: -item[1])
            happened = ", ".join(f"{word}: {count:,}" for word, count in outcomes)
        cells = (
            attack["name"],
            attack["inputs"],
            attack["promise"],
            f"{attack['cases']:,}",
            f"{attack['tries']:,}",
            happened,
            f"{len(attack['failures']):,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    cases = sum(attack["cases"] for attack in attacks)
    tries = sum(attack["tries"] for attack in attacks)
    broken = sum(len(attack["failures"]) for attack in attacks)
    minutes = sum(attack["seconds"] for attack in attacks) / 60
    today = datetime.datetime.now(datetime.UTC).date()
    call = "make attack" if rounds == 1 else f"python -m attack --rounds {rounds:g}"
    return "\n".join(
        [
            *lines,
            "",
            f"{cases:,} cases with {tries:,} tries in {minutes:.0f} minutes, {broken:,} broken "
            f"promises, seed {seed}. {today}. {machine_description()}",
            "",
            f"    {call}",
        ]
    )
