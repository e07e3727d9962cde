"""What an attack is: numbered cases, each of which finds a promise kept or broken."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

NOTES_FILE = "notes.txt"


class PromiseBroken(BaseException):
    """A case found that a promise does not hold. The message says what happened instead.

    It is no `Exception`, so that no code that is attacked swallows it.
    """


@dataclass(slots=True)
class Case:
    """One case of an attack.

    Attributes:
        attack: name of the attack.
        seed: of the whole run.
        number: of the case, from 0.
        shared: what `Attack.prepare` made for all cases. It must not be changed.
        folder: of this case alone, empty at its start.
        kind: what was attacked; cases are counted by it.
        outcome: what Veduta did; cases are counted by it.
        tries: number of kills, damaged files, requests or searches of the case.
        rng: draws the same values in each run of this case.
    """

    attack: str
    seed: int
    number: int
    shared: Path
    folder: Path
    kind: str = ""
    outcome: str = ""
    tries: int = 1
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed} {self.attack} {self.number}")

    def note(self, text: str) -> None:
        """Write down at once what the case does, so that it is known even after a crash."""
        with (self.folder / NOTES_FILE).open("a", encoding="utf-8", errors="backslashreplace") as f:
            f.write(f"{text}\n")


def _nothing(shared: Path) -> None:
    del shared


def _possible() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Attack:
    """How to attack, and what must hold.

    Attributes:
        inputs: what the cases are, for the table.
        promise: what must hold in each case, for the table.
        run: runs a case; raises `PromiseBroken`.
        cases: number of cases of one round.
        seconds: a case that takes longer breaks its promise.
        prepare: makes what the cases share, in an empty folder.
        alone: whether cases run one after the other, because they measure time or memory.
        missing: returns what this machine lacks for the attack, or nothing.
    """

    inputs: str
    promise: str
    run: Callable[[Case], None]
    cases: int
    seconds: int = 60
    prepare: Callable[[Path], None] = _nothing
    alone: bool = False
    missing: Callable[[], str] = _possible


NAMES = (
    "kills",
    "full_disk",
    "damage",
    "snapshot_rows",
    "photo_mutants",
    "bombs",
    "hostile_files",
    "hostile_names",
    "hostile_options",
    "servers",
    "private_addresses",
    "order",
    "soak",
)


def load(name: str) -> Attack:
    """Return an attack.

    Args:
        name: one of `NAMES`, or the name of another module that has an `ATTACK`.
    """
    attack: Attack = import_module(f"attack.{name}" if name in NAMES else name).ATTACK
    return attack
