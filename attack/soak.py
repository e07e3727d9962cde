"""Searches while another process updates the index, and several writers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, INDEX, inside, succeeds
from attack.material import (
    collection,
    differing,
    prepared,
    ranking,
    require_same,
    same_answers,
)

PHOTOS = 18
MOVING_PHOTOS = 3
SOAK_SECONDS = 15
WRITERS = 3
_LOCKED = ("another process", "Another process")


def prepare(shared: Path) -> None:
    prepared(shared)
    collection(shared / "photos", PHOTOS)


def run(case: Case) -> None:
    if case.number % 3 == 0:
        search_during_updates(case)
    else:
        write_at_once(case)


def search_during_updates(case: Case) -> None:
    """Each answer is that of a version that the index had."""
    case.kind = "search"
    photos, index = case.folder / "photos", case.folder / "index"
    shutil.copytree(case.shared / "photos", photos)
    queries = sorted(photos.rglob("*.jpg"))[::6]
    moving = case.rng.sample([f for f in photos.rglob("*.jpg") if f not in queries], MOVING_PHOTOS)
    away = case.folder / "away"
    away.mkdir()
    succeeds(case, "index", photos, "--index", index)
    command = ("search", *queries, "--index", index, "--rerank", "none", "-k", "50", "--json")
    right = [ranking(succeeds(case, *command).output, photos)]
    for file in moving:
        shutil.move(file, away / file.name)
        succeeds(case, "index", "--index", index)
        right.append(ranking(succeeds(case, *command).output, photos))
    writer = subprocess.Popen(
        [sys.executable, "-m", "attack.writer", index, away, *moving],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=(case.folder / "writer.txt").open("wb"),
    )  # fmt: skip
    searches = 0
    try:
        end = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < end:
            found = ranking(succeeds(case, *command).output, photos)
            searches += 1
            for number, answer in enumerate(found):
                # An update may come between two queries of one command.
                versions = [one[number] for one in right]
                if not any(same_answers(version, answer) for version in versions):
                    closest = min(versions, key=lambda one: len(differing(one, answer)))
                    require_same(closest, answer, f"than those of any version, after {searches}")
            inside(case, "search", queries[0], "--index", index, codes=(DONE,))
            inside(case, "status", "--index", index, codes=(DONE,))
            if writer.poll() is not None:
                errors = (case.folder / "writer.txt").read_text("utf-8", "replace")
                raise PromiseBroken(f"the writer ended: {errors}")
    finally:
        writer.terminate()
        writer.wait()
    case.outcome = "right searches"
    case.tries = searches
    succeeds(case, "index", "--index", index)
    succeeds(case, "check", "--index", index)


def write_at_once(case: Case) -> None:
    """Of several first writers one writes, and the others hear that another process does."""
    case.kind = "writers"
    case.tries = WRITERS
    index = case.folder / "index"
    command = [sys.executable, "-m", "veduta", "index", case.shared / "photos", "--index", index]
    writers = []
    for number in range(WRITERS):
        time.sleep(case.rng.random() * 0.1)
        errors = (case.folder / f"errors-{number}.txt").open("w+b")
        writers.append(
            (
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
                ),
                errors,
            )
        )
    done = 0
    for process, stream in writers:
        code = process.wait()
        stream.seek(0)
        text = stream.read().decode("utf-8", "replace")
        stream.close()
        case.note(f"{code}: {text}")
        done += code == DONE
        if code != DONE and not (code == INDEX and any(word in text for word in _LOCKED)):
            raise PromiseBroken(f"a writer ended with {code}: {text}")
    if not done:
        raise PromiseBroken("no writer wrote")
    succeeds(case, "index", case.shared / "photos", "--index", index)
    succeeds(case, "check", "--index", index)
    if os.path.exists(index / "index.json") and done:
        case.outcome = f"{done} wrote, {WRITERS - done} were told"


ATTACK = Attack(
    inputs=f"searches for {SOAK_SECONDS} seconds while photos come and go; {WRITERS} first writers "
    "at once",
    promise="each answer is that of a version; a writer that cannot write hears who does",
    run=run,
    cases=12,
    seconds=120,
    prepare=prepare,
)
