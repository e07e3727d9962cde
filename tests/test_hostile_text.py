"""Names, labels and answers of strangers disturb no terminal, whatever command prints them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from photo_server import PhotoServer
from tiny import save
from tiny_onnx import channel_means, write

import veduta
from veduta.cli.main import run

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2067\u200f\r\nFAKE LINE\x85\u2028\x7f"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Say = Callable[..., str]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Say:
    """Return `said(arguments…)`: what a command printed, after a check that it is harmless."""

    def call(*arguments: object) -> str:
        code = run([str(argument) for argument in arguments])
        printed = "".join(capfd.readouterr())
        assert code in (0, 1, 2, 3, 4, 5), (code, arguments[0])
        assert not UNSAFE.search(printed), (arguments, UNSAFE.search(printed))
        assert not re.search("^FAKE", printed, re.MULTILINE), arguments
        return printed

    return call


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return class folders and photos with hostile names, and one file that is no photo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VEDUTA_INDEX", str(tmp_path / "index"))
    folder = tmp_path / f"set {HOSTILE}"
    for number in range(12):
        save(folder / f"{number % 2}{HOSTILE}" / f"{number} {HOSTILE}.png", number)
    (folder / f"0{HOSTILE}" / f"broken {HOSTILE}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    return folder


@pytest.fixture
def index(photos: Path, tmp_path: Path) -> Path:
    model = write(tmp_path, channel_means(), {"sizes": [64]})
    veduta.create(tmp_path / "index", model, keypoints=None).add(photos, labels="folders")
    return tmp_path / "index"


def first_photo(photos: Path) -> Path:
    return next(photos.rglob("0 *.png"))


def test_commands_on_an_index(said: Say, photos: Path, index: Path, tmp_path: Path) -> None:
    query = first_photo(photos)
    save(photos / f"1{HOSTILE}" / f"new {HOSTILE}.png", 40)
    assert "broken" in said("index", photos, "--labels", "folders")
    for more in ([], ["--json"], ["--dict"], ["--fold-copies", "--regions"]):
        assert "evil" in said("search", query, *more)
    assert "evil" in said("search", photos, "--rerank", "none", "-k", "2")
    page = tmp_path / "explained.html"
    for more in ([], ["--json"], ["--html", page, "--png", tmp_path / "explained.png"]):
        assert "evil" in said("explain", query, *more)
    assert "evil" in page.read_text("utf-8") and not UNSAFE.search(page.read_text("utf-8"))
    for option in ("--method", "--model", "--against", "--encoder"):
        said("explain", query, option, HOSTILE)
    said("search", tmp_path / HOSTILE)
    said("search", query, "--label", HOSTILE)
    for more in ([], ["--json"], ["--filter", "--label", f"0{HOSTILE}"]):
        said("recognize", query, *more)
    said("recognize", query, "--filter", "--label", HOSTILE)
    escape = save(tmp_path / "q\x1b[2J\u202e.png", 0)
    for label in (f"0{HOSTILE}", f"1{HOSTILE}"):
        said("recognize", escape, "--filter", "--label", label)
    assert "evil" in said("status") and "evil" in said("status", "--json")
    next(photos.rglob("2 *.png")).write_bytes(b"changed")
    assert "evil" in said("check") and "evil" in said("check", "--json")
    said("repair")
    said("models", "--fetch", f"hub:{HOSTILE}")


def test_a_manifest_with_hostile_names(said: Say, photos: Path, index: Path) -> None:
    """The encoder, the folders and the labels file are those of a stranger."""
    file = index / "index.json"
    facts = json.loads(file.read_text("utf-8"))
    del facts["checksum"]  # As in an index of an older version.
    for changes in (
        {"encoder": {**facts["encoder"], "name": f"hub:{HOSTILE}/x"}},
        {"encoder": {**facts["encoder"], "name": HOSTILE}},
        {"folders": [f"/{HOSTILE}"]},
        {"labels": f"/{HOSTILE}.csv"},
        {"projection": HOSTILE},
        {"keypoints": {"name": HOSTILE, "identity": HOSTILE, "count": 9}},
    ):
        file.write_text(json.dumps({**facts, **changes}), "utf-8")
        for command in (["search", first_photo(photos)], ["index"], ["status"], ["check"]):
            said(*command)


def test_commands_on_a_dataset(said: Say, photos: Path, tmp_path: Path) -> None:
    assert "evil" in said("describe", photos)
    assert "evil" in said("describe", photos, "--json")
    kinds = [
        part for kind in ("corrupt", "tiny", "blank", "exact-copy") for part in ("--only", kind)
    ]
    assert "evil" in said("clean", photos, *kinds)
    assert "evil" in said("clean", photos, *kinds, "--json")
    assert "evil" in said("clean", photos, *kinds, "--apply")
    undo = next(tmp_path.glob("set*.quarantine*")) / "undo.jsonl"
    assert "evil" in said("clean", "--undo", undo)
    split = ["split", photos, "--no-find-copies", "--into", "train=0.5,test=0.5"]
    assert "evil" in said(*split, "--folders", tmp_path / f"made {HOSTILE}")
    assert "evil" in said(*split, "--json")
    said("split", photos, "--check", "--no-find-copies")


def test_a_labels_file_with_hostile_labels(said: Say, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    rows = ["path,label,split"]
    for number in range(8):
        save(folder / f"{number}.png", number)
        part = ("train", "test")[number // 4]
        rows.append(f'{number}.png,"{number % 2} \x1b[31m\x9b\u202e\nFAKE",{part}')
    (folder / "labels.csv").write_text("\n".join(rows), "utf-8")
    said("describe", folder)
    said("split", folder, "--check", "--no-find-copies")
    said("split", folder, "--no-find-copies", "--into", "train=0.5,test=0.5", "--column", "x")
    said("clean", folder, "--only", "exact-copy")
    for text in (
        f"path,{HOSTILE}\n",
        f'path,label\n"{HOSTILE}",x\n',
        f'path,label,split\na,b,"{HOSTILE}"',
    ):
        (folder / "labels.csv").write_text(text, "utf-8")
        said("describe", folder)


def test_match_and_models_with_hostile_names(said: Say, photos: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted(photos.rglob("*.png"))
    assert "evil" in said("match", first, second, "--encoder", "fast", "--keypoints", "orb")
    said("match", first, tmp_path / HOSTILE)
    model = Path(write(tmp_path, channel_means(), {"sizes": [64]}))
    hostile = model.rename(tmp_path / f"{HOSTILE.replace('/', '')}.onnx")
    hostile.with_suffix(".json").write_text(json.dumps({HOSTILE: 1, "pooling": HOSTILE}), "utf-8")
    said("match", first, second, "--encoder", hostile)
    said("index", photos, "--encoder", hostile, "--index", tmp_path / "other")
    said("match", first, second, "--encoder", HOSTILE)


def test_an_evaluation_of_hostile_classes(said: Say, tmp_path: Path) -> None:
    folder = tmp_path / f"set {HOSTILE}"
    for number in range(12):
        part = ("query", "gallery")[number // 4 > 0]
        save(folder / part / f"{number % 2}{HOSTILE}" / f"{number}{HOSTILE}.png", number)
    (folder / "gallery" / f"0{HOSTILE}" / f"broken{HOSTILE}.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    model = write(tmp_path, channel_means(), {"sizes": [64]})
    call = ["evaluate", folder, "--encoder", model, "--rerank", "none"]
    reports = [tmp_path / f"report{HOSTILE}{number}" for number in range(2)]
    for report in reports:
        assert "evil" in said(*call, "--report", report)
    assert "evil" in said(*call, "--json")
    assert "evil" in said("compare", *(report / "report.json" for report in reports))
    said("evaluate", folder, "--task", "recognize", "--encoder", model)
    said("evaluate", folder, "--encoder", HOSTILE)
    said("evaluate", folder, "--distractors", HOSTILE)


def test_recipes_reports_and_undo_files(said: Say, tmp_path: Path) -> None:
    recipe = tmp_path / f"{HOSTILE}.toml"
    escaped = json.dumps(HOSTILE)
    recipe.write_text(f"about = {escaped}\n[network]\nbackbone = {escaped}\n", "utf-8")
    said("recipes", recipe)
    said("recipes", HOSTILE)
    report = tmp_path / f"{HOSTILE}.json"
    report.write_text(json.dumps({HOSTILE: HOSTILE}), "utf-8")
    said("compare", report, report)
    undo = tmp_path / "undo.jsonl"
    header = {"veduta clean": 1, "root": HOSTILE, "photos": 1}
    undo.write_text(f"{json.dumps(header)}\n{json.dumps({'path': HOSTILE})}\n", "utf-8")
    said("clean", tmp_path, "--undo", undo)
    said("score", "retrieval", report, report)


def test_a_hostile_server_and_a_hostile_list(
    said: Say, server: PhotoServer, tmp_path: Path
) -> None:
    source = tmp_path / f"{HOSTILE}.csv"
    urls = ["escape", "text-as/x%1b%5b2J", "html", f"photo/1?{HOSTILE}", "to//gone%1b%5b2J"]
    rows = [f'{n},"{server.url(url)}","{n} {HOSTILE}"' for n, url in enumerate(urls)]
    source.write_text("\n".join(["id,url,label", *rows]), "utf-8")
    out = tmp_path / f"out {HOSTILE}"
    call = ["collect", source, "--out", out, "--allow-private", "--retries", "0"]
    assert "evil" in said(*call)
    assert "evil" in said(*call, "--json")
    source.write_text(f"id,url,{HOSTILE}\n", "utf-8")
    said("collect", source, "--out", out)
    said("collect", source, "--out", out, "--label-column", HOSTILE, "--user-agent", HOSTILE)
    said("collect", source, "--out", out, "--header", f"X: {HOSTILE}", "--proxy", HOSTILE)
