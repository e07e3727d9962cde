"""File and folder names with line breaks, escapes, bytes that are not UTF-8, and link loops."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from attack.case import Attack, Case, PromiseBroken
from attack.commands import DONE, FOUND, INDEX, INPUT, inside, outside, succeeds
from attack.material import encoded, photo

NAMES = (
    b"new\nline",
    b"return\rtab\t",
    b"\x1b[31mred\x1b[0m\x07",
    b"\xff\xfe not utf-8",
    b"\xed\xa0\x80 surrogate",
    b"-rf",
    b"--help",
    b" blanks ",
    b"a:b",
    b"s3:",
    b"%41%00?#q=1",
    b"*[a-z]?",
    b"'\"`$(touch pwned)`",
    b"<script>alert(1)</script>".replace(b"/", b"|"),
    b"{{7*7}}",
    b'=1+1,"x"',
    b"back\\slash",
    b"~",
    b"CON",
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    "\u202egpj.exe".encode(),
    "\u2028line \u0085 \u009b31m".encode(),
    "\U0001f3f0 castle".encode(),
    b"x" * 251,
    b"%s%n%d",
)
EXTENSIONS = (b".jpg", b".JPG", b".jpeg")
ENCODINGS = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "latin-1", "NO_COLOR": "1"},
    {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONUTF8": "1", "LC_ALL": "C"},
    {"FORCE_COLOR": ""},
)
MAX_NAME_BYTES = 255


def run(case: Case) -> None:
    photos = os.fsencode(case.folder / "photos")
    files = []
    folders = case.rng.sample(NAMES, 2)
    for number, name in enumerate(case.rng.sample(NAMES, 5)):
        folder = os.path.join(photos, folders[number % 2])
        os.makedirs(folder, exist_ok=True)
        extension = case.rng.choice(EXTENSIONS)
        file = os.path.join(folder, name[: MAX_NAME_BYTES - len(extension)] + extension)
        with open(file, "wb") as stream:
            stream.write(encoded(photo(case.rng.randrange(1000), (96, 72)), "JPEG"))
        files.append(file)
    if case.rng.random() < 0.5:
        os.symlink("..", os.path.join(photos, folders[0], b"loop"))
    place = os.fsencode(case.folder) + b"/" + case.rng.choice(NAMES) + b".d"
    case.kind = "names"
    case.note(repr([place, *files]))
    index = os.path.join(place, b"index") if case.rng.random() < 0.5 else place

    ran = inside(
        case, "index", photos, "--index", index, "--labels", "folders", "--json",
        codes=(DONE, INPUT, INDEX),
    )  # fmt: skip
    if ran.code != DONE:
        case.outcome = "the name of the index is refused"
        if os.path.lexists(index):
            raise PromiseBroken(f"refused, and yet something is there: {ran}")
        index = os.fsencode(case.folder / "index")
        ran = succeeds(case, "index", photos, "--index", index, "--labels", "folders", "--json")
    if json.loads(ran.output)["total"] != len(files):
        raise PromiseBroken(f"not {len(files)} photos: {ran}")
    for file in files[:2]:
        ran = succeeds(case, "search", file, "--index", index, "--json", "--rerank", "none")
        values = json.loads(ran.output)
        hit = (values[0] if isinstance(values, list) else values)["hits"][0]
        if os.fsencode(os.path.realpath(hit["path"])) != os.path.realpath(file):
            raise PromiseBroken(f"{file!r} is not its own first hit: {hit['path']!r}")
    page = os.fsencode(case.folder) + b"/page.html"
    for call in (
        ("search", files[0], "--index", index, "--html", page),
        ("recognize", files[1], "--index", index),
        ("status", "--index", index),
        ("check", "--index", index),
        ("describe", photos, "--no-photos"),
        ("describe", photos, "--json"),
        ("clean", photos, "--only", "exact-copy"),
        ("clean", photos, "--only", "corrupt", "--json"),
        ("split", photos, "--no-find-copies", "--into", "train=0.5,test=0.5", "--json"),
        ("match", files[0], files[1]),
    ):
        inside(case, *call, codes=(DONE, FOUND))
    environment = case.rng.choice(ENCODINGS)
    case.note(str(environment))
    for arguments in (("status",), ("search", files[0])):
        ran = outside(case, *arguments, "--index", index, environment=environment, codes=(DONE,))
        if b"Warning" in ran.errors:
            raise PromiseBroken(f"a warning: {ran}")
    nothing_ran(case)
    case.outcome = case.outcome or "all answered"


def nothing_ran(case: Case) -> None:
    """Raise `PromiseBroken` if a name was taken for a command or an element of a page."""
    if found := list(Path(case.folder).rglob("pwned")):
        raise PromiseBroken(f"a name was run: {found}")
    page = (case.folder / "page.html").read_bytes()
    if b"<script>alert(1)" in page or b">49<" in page:
        raise PromiseBroken("a name is an element of the page")
    shutil.rmtree(case.folder / "photos")


ATTACK = Attack(
    inputs="photos, folders and indexes with names that disturb terminals, shells, URLs and pages, "
    "in six kinds of terminals",
    promise="every photo is found under its name, and nothing raw reaches terminal or page",
    run=run,
    cases=40,
    seconds=120,
)
