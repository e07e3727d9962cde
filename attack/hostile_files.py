"""Hostile versions of every text and model file that a command reads."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

from attack.case import Attack, Case, PromiseBroken
from attack.commands import inside, succeeds
from attack.kills import CLEAN, dirty
from attack.material import collection, prepared
from attack.mutants import damaged, hostile_text, put_special
from attack.raw_server import RawServer, files_of

PHOTOS = 12
SPECIAL_SHARE = 0.1
RECIPE = "cnn-1"
Call = list[str]


@dataclass(frozen=True, slots=True)
class Reader:
    """A file, and the commands that read it; `{}` in an argument is the folder of the case.

    Attributes:
        file: below the folder of the case.
        calls: commands.
        text: whether it is a text file.
    """

    file: str
    calls: tuple[Call, ...]
    text: bool = True


def _calls(*lines: str) -> tuple[Call, ...]:
    return tuple(line.split() for line in lines)


_LABELS = "--labels {}/labels.csv"
READERS = (
    Reader(
        "index/index.json",
        _calls(
            "status --index {}/index",
            "search {}/query.jpg --index {}/index",
            "recognize {}/query.jpg --index {}/index",
            "check --index {}/index",
            "index --index {}/index",
            "repair --index {}/index",
        ),
    ),
    Reader(
        "photos/labels.csv",
        _calls(
            "describe {}/photos --no-photos",
            "split {}/photos --no-find-copies",
            "evaluate {}/photos --rerank none",
            "clean {}/photos --only exact-copy",
            "index {}/photos --index {}/index --labels {}/photos/labels.csv",
            "augment {}/photos --out {}/augmented --copies 1 --steps flip=horizontal --all",
        ),
    ),
    Reader("landmarks.csv", _calls("describe {}/landmarks.csv")),
    Reader("list.csv", _calls("collect {}/list.csv --out {}/new --retries 0 --connect-timeout 1")),
    Reader("urls.txt", _calls("collect {}/urls.txt --out {}/new --retries 0 --connect-timeout 1")),
    Reader(
        "collected/.veduta-collect/journal",
        _calls("collect {}/collected.csv --out {}/collected --retries 0 --connect-timeout 1"),
    ),
    Reader("dirty.quarantine/undo.jsonl", _calls("clean --undo {}/dirty.quarantine/undo.jsonl")),
    Reader("report/report.json", _calls("compare {}/report {}/report --json")),
    Reader("answers.csv", _calls("score {}/answers.csv {}/solution.csv")),
    Reader("solution.csv", _calls("score {}/answers.csv {}/solution.csv")),
    Reader("run/model.json", _calls("recognize {}/query.jpg --model {}/run")),
    Reader("run/weights.npz", _calls("recognize {}/query.jpg --model {}/run"), text=False),
    Reader(
        "projection.npz",
        _calls(
            "index --index {}/index --project {}/projection.npz",
            "search {}/query.jpg --index {}/index",
        ),
        text=False,
    ),
    Reader(
        "model.json",
        _calls("index {}/photos --index {}/other --encoder {}/model.onnx --keypoints none"),
    ),
    Reader(
        "model.onnx",
        _calls("index {}/photos --index {}/other --encoder {}/model.onnx --keypoints none"),
        text=False,
    ),
    Reader("gnd_tiny.pkl", _calls("describe {}/gnd_tiny.pkl"), text=False),
    Reader("recipe.toml", _calls("train {}/recipe.toml {}/photos --summary")),
    Reader(
        "recipe.toml",
        _calls("augment {}/query.jpg --preview {}/sheet.png --recipe {}/recipe.toml"),
    ),
)


def prepare(shared: Path) -> None:
    case = prepared(shared)
    tree = shared / "tree"
    photos = tree / "photos"
    files = collection(photos, PHOTOS)
    shutil.copy(files[0], tree / "query.jpg")
    index = tree / "index"
    succeeds(case, "index", photos, "--index", index, "--labels", "folders")
    export = ("--method", "linear", "--export", tree / "run")
    succeeds(case, "recognize", "--index", index, *export)
    succeeds(case, "index", "--index", index, "--project", "8")
    shutil.copy(next(index.glob("projection-*.npz")), tree / "projection.npz")
    dirty(tree / "dirty")
    succeeds(case, "clean", tree / "dirty", *CLEAN)
    _write_texts(tree, files)
    inside(case, "evaluate", photos, "--rerank", "none", "--report", tree / "report")
    with RawServer(files_of(photos)) as server:
        rows = [f"{f.stem},{server.url(str(f.relative_to(photos)))},{f.parent.name}" for f in files]
        (tree / "collected.csv").write_text("\n".join(["id,url,label", *rows]))
        succeeds(
            case, "collect", tree / "collected.csv", "--out", tree / "collected", "--allow-private"
        )
    sys.path.append(str(ROOT / "tests"))
    from tiny_onnx import PLAIN, mirror, write

    write(tree, mirror(), PLAIN)
    if missing := [reader.file for reader in READERS if not (tree / reader.file).is_file()]:
        raise RuntimeError(f"nothing to attack in {missing}")


def _write_texts(tree: Path, files: list[Path]) -> None:
    photos = tree / "photos"
    rows = [
        f"{file.relative_to(photos)},{file.parent.name},{'query' if at % 3 == 1 else 'gallery'}"
        for at, file in enumerate(files)
    ]
    (photos / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    (tree / "landmarks.csv").write_text('id,url,landmark_id\na,"http://x/a.jpg",7\nb,,8\nc,,7\n')
    (tree / "list.csv").write_text('id,url,label\na,"http://127.0.0.1:9/a.jpg",x\nb,ftp://x,y\n')
    (tree / "urls.txt").write_text("http://127.0.0.1:9/a.jpg\n# a comment\n\n")
    (tree / "answers.csv").write_text("id,images\nq1,a b c\nq2,d\n")
    (tree / "solution.csv").write_text("id,images,Usage\nq1,a c,Public\nq2,e,Private\n")
    names = [file.stem for file in files]
    gnd = [{"bbx": [0, 0, 99, 99], "easy": [1], "hard": [2], "junk": [3]}]
    values = {"imlist": names[1:], "qimlist": names[:1], "gnd": gnd}
    (tree / "gnd_tiny.pkl").write_bytes(pickle.dumps(values, protocol=2))
    recipe = ROOT / "src/veduta/learn/recipes" / f"{RECIPE}.toml"
    shutil.copy(recipe, tree / "recipe.toml")


def run(case: Case) -> None:
    tree = Path(shutil.copytree(case.shared / "tree", case.folder / "tree"))
    reader = READERS[case.number % len(READERS)]
    file = tree / reader.file
    case.kind = reader.file
    if case.rng.random() < SPECIAL_SHARE:
        what = put_special(file, case.rng)
    else:
        how: Callable[..., tuple[str, bytes]] = hostile_text if reader.text else damaged
        what, data = how(file.read_bytes(), case.rng)
        if not reader.text and case.rng.random() < SPECIAL_SHARE:
            what, data = hostile_text(file.read_bytes(), case.rng)
        file.write_bytes(data)
    case.note(f"{file}: {what}")
    case.tries = len(reader.calls)
    codes = set()
    for call in reader.calls:
        ran = inside(case, *[word.replace("{}", str(tree)) for word in call])
        codes.add(ran.code)
    case.outcome = "refused" if max(codes) > 1 else "read"
    if escaped := [*case.folder.rglob("pwned"), *Path("/").glob("outside*")]:
        raise PromiseBroken(f"a file outside: {escaped}")
    case.note(json.dumps(sorted(codes)))


ATTACK = Attack(
    inputs="index.json, label files, lists, journals, undo files, reports, recipes, models, "
    "projections and pickles that are deep, huge, wrongly typed, of another encoding, cut, pipes, "
    "devices and folders",
    promise="an answer, or one message with its exit code, within 30 seconds",
    run=run,
    cases=len(READERS) * 20,
    seconds=30,
    prepare=prepare,
)
