"""`kill -9` at any step of a command that writes; afterwards the command is given again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, FOUND, INDEX, inside, succeeds
from attack.material import (
    answers,
    as_list,
    collection,
    contents,
    encoded,
    leftovers,
    photo,
    prepared,
    require_same,
)
from attack.raw_server import RawServer, files_of

PHOTOS = 18
MAX_KILLS = 3
BY_TIME_SHARE = 0.3
COMMAND_SECONDS = 50


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command that is killed.

    Attributes:
        begin: makes the files of the case; returns the command.
        end: gives the command again, and checks all that it left.
        serving: returns what runs meanwhile.
    """

    begin: Callable[[Case], list[str | Path]]
    end: Callable[[Case, list[str | Path]], None]
    serving: Callable[[Case], AbstractContextManager[Any]] = lambda case: nullcontext()


def prepare(shared: Path) -> None:
    case = prepared(shared)
    collection(shared / "photos", PHOTOS)
    collection(shared / "later", PHOTOS)
    change(shared / "later")
    for name in ("photos", "later"):
        index = shared / f"{name}-index"
        succeeds(case, "index", shared / name, "--index", index, "--labels", "folders")
        expected = answers(case, index, queries_of(shared), shared / name)
        (shared / f"{name}.json").write_text(json.dumps(expected))
    dirty(shared / "dirty")
    for name, scenario in SCENARIOS.items():
        place = Case("prepare", 0, 0, shared, shared / f"run-{name}")
        place.folder.mkdir()
        with scenario.serving(place):
            command = scenario.begin(place)
            code = kill(place, command, "step:0")
            if code not in (DONE, FOUND):
                raise RuntimeError(f"{command} ends with {code}")


def queries_of(shared: Path) -> list[Path]:
    """Return the photos that are searched."""
    return sorted((shared / "photos").rglob("*.jpg"))[::6]


def change(photos: Path) -> None:
    """Add, change, remove and rename photos of a collection of `PHOTOS` photos."""
    files = sorted(photos.rglob("*.jpg"))
    files[0].unlink()
    files[7].unlink()
    files[3].write_bytes(encoded(photo(900), "JPEG"))
    files[5].rename(files[5].with_name("renamed.jpg"))
    shutil.copy(files[9], files[9].with_name("copy.jpg"))
    collection(photos, 4, first=100)


def dirty(folder: Path) -> None:
    """Write a dataset with broken photos and copies, which `clean` proposes to drop."""
    files = collection(folder, PHOTOS)
    for file in files[::4]:
        file.with_name(f"cut-{file.name}").write_bytes(file.read_bytes()[:-900])
        file.with_name(f"copy-{file.name}").write_bytes(file.read_bytes())
    (files[0].parent / "empty.jpg").touch()


def run(case: Case) -> None:
    name = case.rng.choice(sorted(SCENARIOS))
    scenario = SCENARIOS[name]
    case.kind = name
    facts = json.loads((case.shared / f"run-{name}" / "facts.json").read_text())
    with scenario.serving(case):
        command = scenario.begin(case)
        kills = 0
        for _ in range(case.rng.randint(1, MAX_KILLS)):
            if case.rng.random() < BY_TIME_SHARE:
                moment = f"after:{case.rng.uniform(0, facts['seconds'])}"
            else:
                moment = f"step:{case.rng.randint(1, facts['steps'])}"
            code = kill(case, command, moment)
            case.note(f"{moment} ended with {code}")
            if code == -signal.SIGKILL:
                kills += 1
            elif code not in (DONE, FOUND):
                # The command did not get as far as the kill, because of an earlier one.
                break
        case.tries = kills
        case.outcome = "killed, then done" if kills else "done before the kill"
        scenario.end(case, command)


def kill(case: Case, command: list[str | Path], moment: str) -> int:
    """Run a command until a moment; return its exit code, negative for a signal."""
    call = [sys.executable, "-m", "attack.killed", case.folder / "facts.json", moment, *command]
    with (case.folder / "killed.txt").open("ab") as output:
        return subprocess.run(
            call, cwd=case.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            timeout=COMMAND_SECONDS, check=False,
        ).returncode  # fmt: skip


def begin_creation(case: Case) -> list[str | Path]:
    index = case.folder / "index"
    return ["index", case.shared / "photos", "--index", index, "--labels", "folders"]


def begin_update(case: Case) -> list[str | Path]:
    photos, index = case.folder / "photos", case.folder / "index"
    shutil.copytree(case.shared / "photos", photos)
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    change(photos)
    return ["index", "--index", index]


def end_index(case: Case, command: list[str | Path]) -> None:
    """The index becomes what it would be without a kill, and no photo is read a second time."""
    index = case.folder / "index"
    photos = case.folder / "photos"
    expected = "later" if photos.exists() else "photos"
    root = photos if photos.exists() else case.shared / "photos"
    held = photos_held(case, index)
    # A young draft in the snapshot may be one of a search that runs now, and is left.
    make_old(index)
    report = as_list(succeeds(case, *command, "--json").output)[0]
    total = len(list(root.rglob("*.jpg")))
    if report["total"] != total:
        raise PromiseBroken(f"{report['total']} photos, not {total}")
    if not photos.exists() and report["encoded"] > total - held:
        raise PromiseBroken(f"{report['encoded']} photos read again, though {held} were held")
    succeeds(case, "check", "--index", index)
    found = answers(case, index, queries_of(case.shared), root)
    require_same(
        json.loads((case.shared / f"{expected}.json").read_text()), found, "after the kill"
    )
    no_leftovers(index)
    shapes = {Path(file).parts[0] for file in os.listdir(index)}
    if extra := shapes - set(os.listdir(case.shared / "photos-index")):
        raise PromiseBroken(f"left in the index: {extra}")


def photos_held(case: Case, index: Path) -> int:
    """Return the number of photos that a killed run had committed."""
    ran = inside(case, "status", "--index", index, "--json", codes=(DONE, INDEX))
    return int(as_list(ran.output)[0]["photos"]) if ran.code == DONE else 0


def make_old(index: Path) -> None:
    """Let the drafts in an index be a day old."""
    day_ago = time.time() - 24 * 3600
    for name in leftovers(index):
        for part in (index / name, *(index / name).glob("*")):
            os.utime(part, (day_ago, day_ago), follow_symlinks=False)


def no_leftovers(folder: Path) -> None:
    """Raise `PromiseBroken` if drafts lie in a folder."""
    if found := leftovers(folder):
        raise PromiseBroken(f"left after the kill: {found}")


CLEAN = ("--only", "corrupt", "--only", "truncated", "--only", "exact-copy", "--apply")


def begin_clean(case: Case) -> list[str | Path]:
    shutil.copytree(case.shared / "dirty", case.folder / "dirty")
    return ["clean", case.folder / "dirty", *CLEAN]


def begin_undo(case: Case) -> list[str | Path]:
    succeeds(case, *begin_clean(case))
    return ["clean", "--undo", case.folder / "dirty.quarantine" / "undo.jsonl"]


def end_clean(case: Case, _: list[str | Path]) -> None:
    """No photo is lost or there twice, and all come back to their places."""
    dataset = case.folder / "dirty"
    expected = contents(case.shared / "dirty")
    moved = sorted(case.folder.glob("dirty.quarantine*"))
    there = Counter(contents(dataset).values())
    for folder in moved:
        there += Counter(
            digest for name, digest in contents(folder).items() if not name.startswith("undo.")
        )
    if missing := Counter(expected.values()) - there:
        raise PromiseBroken(f"{missing.total()} photos are lost")
    for folder in reversed(moved):
        undo = folder / "undo.jsonl"
        if undo.exists():
            inside(case, "clean", "--undo", undo, codes=(DONE,))
    found = contents(dataset)
    if found != expected:
        raise PromiseBroken(f"not all came back: {set(expected.items()) ^ set(found.items())}")


def begin_split(case: Case) -> list[str | Path]:
    out = case.folder / "split"
    parts = ("--into", "train=0.5,test=0.5", "--no-find-copies", "--copies")
    return ["split", case.shared / "photos", *parts, "--folders", out]


def end_split(case: Case, command: list[str | Path]) -> None:
    """The same command writes the same folders."""
    out = case.folder / "split"
    if not out.exists():
        succeeds(case, *command)
    expected = contents(case.shared / "run-split --folders" / "split")
    if contents(out) != expected:
        raise PromiseBroken(f"a part of the split was left: {sorted(contents(out))}")
    drafts = [file for file in leftovers(case.folder) if "draft" in file]
    if drafts:
        raise PromiseBroken(f"left after the kill: {drafts}")


def begin_collect(case: Case) -> list[str | Path]:
    photos = case.shared / "photos"
    server: RawServer = _SERVERS[case.folder]
    lines = ["id,url,label"]
    for file in sorted(photos.rglob("*.jpg")):
        path = file.relative_to(photos)
        lines.append(f"{file.stem},{server.url(str(path))},{file.parent.name}")
    source = case.folder / "list.csv"
    source.write_text("\n".join(lines))
    return ["collect", source, "--out", case.folder / "collected", "--allow-private"]


def end_collect(case: Case, command: list[str | Path]) -> None:
    """The same command fetches the rest."""
    succeeds(case, *command)
    out = case.folder / "collected"
    expected = contents(case.shared / "photos")
    found = {name: digest for name, digest in contents(out).items() if name.endswith(".jpg")}
    if found != expected:
        raise PromiseBroken(f"other photos: {set(expected.items()) ^ set(found.items())}")
    drafts = [file for file in leftovers(out) if "draft" in file]
    if drafts:
        raise PromiseBroken(f"left after the kill: {drafts}")


_SERVERS: dict[Path, RawServer] = {}


class _Serving(AbstractContextManager[None]):
    """A server of the photos, while a case collects them."""

    def __init__(self, case: Case) -> None:
        self._folder = case.folder
        self._server = RawServer(files_of(case.shared / "photos"))

    def __enter__(self) -> None:
        _SERVERS[self._folder] = self._server.__enter__()

    def __exit__(self, *error: Any) -> None:
        _SERVERS.pop(self._folder).__exit__(*error)


SCENARIOS = {
    "index, new": Scenario(begin_creation, end_index),
    "index, update": Scenario(begin_update, end_index),
    "clean --apply": Scenario(begin_clean, end_clean),
    "clean --undo": Scenario(begin_undo, end_clean),
    "split --folders": Scenario(begin_split, end_split),
    "collect": Scenario(begin_collect, end_collect, _Serving),
}

ATTACK = Attack(
    inputs="1 to 3 kills, at a step on the disk or at a time, of `index`, `clean`, `split` and "
    "`collect`",
    promise="nothing is lost or left, and the same command brings the state of a run without kills",
    run=run,
    cases=80,
    seconds=120,
    prepare=prepare,
)
