"""A disk that is full at any byte: commands on small file systems that grow afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, ERRORS, Ran, inside, succeeds
from attack.kills import PHOTOS, change, queries_of
from attack.material import answers, collection, contents, leftovers, prepared, require_same
from attack.raw_server import RawServer, files_of

LARGEST_DISK_BYTES = 1_400_000
GROWN_DISK_BYTES = 64_000_000
_FULL = ("disk is full", "disk full", "No space left", "no space", "is full")


def missing() -> str:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root can mount a small disk"
    return ""


@contextmanager
def disk(case: Case, size: int) -> Iterator[Path]:
    """Yield a folder on a file system of `size` bytes of its own."""
    mounted = case.folder / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mounted)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def grow(mounted: Path) -> None:
    """Give the file system space."""
    option = f"remount,size={GROWN_DISK_BYTES}"
    subprocess.run(["mount", "-o", option, str(mounted)], check=True, capture_output=True)


def fill(mounted: Path) -> None:
    """Leave no byte."""
    with (mounted / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def prepare(shared: Path) -> None:
    case = prepared(shared)
    for name in ("photos", "later"):
        collection(shared / name, PHOTOS)
        if name == "later":
            change(shared / name)
        index = shared / f"{name}-index"
        succeeds(case, "index", shared / name, "--index", index, "--labels", "folders")
        expected = answers(case, index, queries_of(shared), shared / name)
        (shared / f"{name}.json").write_text(json.dumps(expected))


def run(case: Case) -> None:
    name = sorted(SCENARIOS)[case.number % len(SCENARIOS)]
    case.kind = name
    size = case.rng.randrange(4096 * 4, LARGEST_DISK_BYTES)
    with disk(case, GROWN_DISK_BYTES if name in FILLED else size) as mounted:
        case.note(f"{name}, {size} bytes")
        SCENARIOS[name](case, mounted)


def full_or_done(case: Case, mounted: Path, *command: str | Path) -> bool:
    """Run a command that may find the disk full; return whether it was done.

    Raises:
        PromiseBroken: it failed and did not say that the disk is full.
    """
    ran = inside(case, *command)
    if ran.code == DONE:
        case.outcome = "it fits"
        return True
    if ran.code not in ERRORS or not any(word in ran.text for word in _FULL):
        raise PromiseBroken(f"it does not say that the disk is full: {ran}")
    if "repair" in ran.text:
        raise PromiseBroken(f"a full disk is taken for damage: {ran}")
    case.outcome = "told, then done"
    return False


def check_index(case: Case, index: Path, name: str, root: Path) -> None:
    """The index is what it would be on a large disk."""
    succeeds(case, "check", "--index", index)
    expected = json.loads((case.shared / f"{name}.json").read_text())
    require_same(expected, answers(case, index, queries_of(case.shared), root), "on the grown disk")
    if found := leftovers(index):
        raise PromiseBroken(f"left on the disk: {found}")


def new_index(case: Case, mounted: Path) -> None:
    index, photos = mounted / "index", case.shared / "photos"
    command = ("index", photos, "--index", index, "--labels", "folders")
    full_or_done(case, mounted, *command)
    grow(mounted)
    succeeds(case, *command)
    check_index(case, index, "photos", photos)


def update(case: Case, mounted: Path) -> None:
    photos, index = case.folder / "photos", mounted / "index"
    shutil.copytree(case.shared / "photos", photos)
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    change(photos)
    with (mounted / "free").open("wb") as file:
        file.write(bytes(case.rng.randrange(LARGEST_DISK_BYTES)))
    fill(mounted)
    (mounted / "free").unlink()
    full_or_done(case, mounted, "index", "--index", index)
    (mounted / "filler").unlink()
    succeeds(case, "index", "--index", index)
    check_index(case, index, "later", photos)


def nothing_to_do(case: Case, mounted: Path) -> None:
    """Reading works on a full disk, and an update that has nothing to write does no harm."""
    photos, index = case.shared / "photos", mounted / "index"
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    drop = case.rng.choice(("nothing", "snapshot", "graph"))
    if drop != "nothing":
        shutil.rmtree(index / drop)
    case.note(f"without {drop}")
    fill(mounted)
    query = queries_of(case.shared)[0]
    for command in (
        ("search", query, "--index", index), ("status", "--index", index),
        ("check", "--index", index), ("recognize", query, "--index", index),
    ):  # fmt: skip
        ran: Ran = inside(case, *command)
        if ran.code != DONE and not any(word in ran.text for word in _FULL):
            raise PromiseBroken(f"it does not say that the disk is full: {ran}")
    full_or_done(case, mounted, "index", "--index", index)
    (mounted / "filler").unlink()
    succeeds(case, "index", "--index", index)
    check_index(case, index, "photos", photos)


def collect(case: Case, mounted: Path) -> None:
    photos = case.shared / "photos"
    with RawServer(files_of(photos)) as server:
        lines = ["id,url,label"]
        for file in sorted(photos.rglob("*.jpg")):
            url = server.url(str(file.relative_to(photos)))
            lines.append(f"{file.stem},{url},{file.parent.name}")
        source = case.folder / "list.csv"
        source.write_text("\n".join(lines))
        command = ("collect", source, "--out", mounted / "out", "--allow-private")
        full_or_done(case, mounted, *command)
        grow(mounted)
        succeeds(case, *command)
    found = {k: v for k, v in contents(mounted / "out").items() if k.endswith(".jpg")}
    if found != contents(photos):
        raise PromiseBroken(f"other photos: {sorted(found)}")


def split(case: Case, mounted: Path) -> None:
    out = mounted / "split"
    command = ("split", case.shared / "photos", "--no-find-copies", "--copies", "--folders", out)
    done = full_or_done(case, mounted, *command)
    grow(mounted)
    if not done:
        if out.exists() and any(out.iterdir()):
            raise PromiseBroken(f"a part is left: {sorted(contents(out))}")
        succeeds(case, *command)
    if len(contents(out)) != PHOTOS:
        raise PromiseBroken(f"not all photos: {sorted(contents(out))}")


def outputs(case: Case, mounted: Path) -> None:
    """Pages, tables and pictures onto a full disk."""
    photos = case.shared / "photos"
    query = queries_of(case.shared)[0]
    fill(mounted)
    index = case.shared / "photos-index"
    for command in (
        ("search", query, "--index", index, "--html", mounted / "page.html"),
        ("describe", photos, "--html", mounted / "description.html"),
        ("clean", photos, "--only", "exact-copy", "--out", mounted / "findings.csv"),
        ("match", query, query, "--picture", mounted / "match.png"),
        ("evaluate", photos, "--rerank", "none", "--html", mounted / "evaluation.html"),
        ("evaluate", photos, "--rerank", "none", "--report", mounted / "report"),
    ):
        full_or_done(case, mounted, *command)
    if left := [name for name in os.listdir(mounted) if name.startswith(".")]:
        raise PromiseBroken(f"drafts are left: {left}")


SCENARIOS: dict[str, Callable[[Case, Path], None]] = {
    "index, new": new_index,
    "index, update": update,
    "index, nothing to do": nothing_to_do,
    "collect": collect,
    "split --folders": split,
    "pages and tables": outputs,
}
FILLED = ("index, update", "index, nothing to do", "pages and tables")

ATTACK = Attack(
    inputs="disks of 16 kB to 1.4 MB, and full ones, under `index`, `collect`, `split` and all "
    "that writes pages and tables",
    promise="the message says that the disk is full, and with space the same command is done",
    run=run,
    cases=48,
    seconds=120,
    prepare=prepare,
    missing=missing,
)
