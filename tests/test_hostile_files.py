"""Files that Veduta reads, changed by a stranger: only errors of Veduta, whatever is in them."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_comparison import recognition, retrieval
from tiny import save_view

from veduta.cli.main import run
from veduta.errors import VedutaError
from veduta.text import printable
from veduta.validation import (
    MAX_DEPTH,
    InvalidValue,
    parse_json,
    parse_toml,
    read_json,
    read_toml,
    read_whole,
)

EDITS = 150

SIDECAR = {
    "sizes": [320, [448, 0.5]],
    "fit": "aspect",
    "stride": 32,
    "keep": 0.9,
    "scale": 0.004,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "pooling": "gem",
    "gem_p": 3.0,
    "output": "features",
}
HUB_CONFIG = {
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 0.00392,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
RECIPE = """
about = "small"
augment = [{ flip = "horizontal" }, { rotation = 20 }]
[input]
size = 16
mean = [0.4, 0.5, 0.6]
[network]
layers = [{ conv = 4, kernel = 3, activation = "relu" }, { flatten = true }, { dense = "classes" }]
[loss]
name = "cross-entropy"
[training]
epochs = 4
batch = 16
learning_rate = 0.01
[tune]
trials = 3
[tune.space]
"training.learning_rate" = { low = 0.001, high = 0.1, log = true }
"""


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def compared(file: Path) -> None:
    from veduta.cli.compare_text import csv_text, markdown_lines, text_lines
    from veduta.evaluation.compared_systems import compare_systems, systems_of_report
    from veduta.evaluation.comparison import compare, read_report

    original = read_report(file.with_name("original"))
    report = read_report(file)
    json.dumps(compare((report, original), resamples=20).as_json(), allow_nan=False)
    rows = [systems_of_report(one, name, name) for one, name in ((original, "a"), (report, "b"))]
    table = compare_systems([row for of_one in rows for row in of_one], resamples=20)
    json.dumps(table.as_json(), allow_nan=False)
    "\n".join([csv_text(table), *markdown_lines(table)]).encode()
    assert max(len(printable(line)) for line in text_lines(table)) < 10**4


def sidecar(file: Path) -> None:
    from veduta.encoders.settings import settings_beside
    from veduta.encoders.spec import EncoderSpec

    beside = settings_beside(file.with_suffix(".onnx"))
    values = {name: getattr(beside, name) for name in SIDECAR if getattr(beside, name) is not None}
    spec = {"sizes": ((320, 1.0),), "output": "x", **values}
    assert len(EncoderSpec("x", file, "0" * 64, "float-nchw", **spec).identity) == 16


def recogniser(file: Path) -> None:
    from veduta.recognize import model

    model._read(file.parent)


def recipe(file: Path) -> None:
    from veduta.learn.recipe import open_recipe
    from veduta.learn.recipe_text import recipe_toml

    made = open_recipe(str(file))
    assert len(made.digest()) > 8 and recipe_toml(made)


def review_journal(file: Path) -> None:
    from veduta.curate.review_journal import ReviewJournal

    ReviewJournal(file, Path("/data"), ["a.jpg", "b.jpg"]).close()


def collect_journal(file: Path) -> None:
    from veduta.collect.journal import Journal
    from veduta.collect.rows import Row

    journal = Journal(file, {"resize": 5})
    journal.find([Row("1", "a", "http://x/1"), Row("2", None, "http://x/2")])
    journal.close()


def undo_file(file: Path) -> None:
    from veduta.curate.undo_file import read_undo_file

    read_undo_file(file)


def labels(file: Path) -> None:
    from veduta.datasets import read_dataset

    read_dataset(file)


def findings(file: Path) -> None:
    from veduta.curate.suspicions import read_suspicions

    read_suspicions(file)


def scored(file: Path) -> None:
    from veduta.datasets import google_landmarks as read

    if read.landmark_task(file) == "retrieval":
        if read.is_solution(file):
            read.read_retrieval_solution(file)
        else:
            read.read_retrieval_submission(file)
    elif read.is_solution(file):
        read.read_recognition_solution(file)
    else:
        read.read_recognition_submission(file)


def answers(file: Path) -> None:
    from veduta.learn.runs.prediction_files import read_answers

    read_answers(file)


def history(file: Path) -> None:
    from veduta.learn.runs.history import read_history

    read_history(file)


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, a valid content, its reader, and the errors that are allowed."""

    name: str
    content: bytes
    read: Callable[[Path], None]
    errors: tuple[type[Exception], ...] = (VedutaError,)


def written_journals(folder: Path) -> dict[str, bytes]:
    """Return journals as the package writes them."""
    from veduta.collect.journal import Journal
    from veduta.collect.outcome import Outcome, Result
    from veduta.collect.rows import Row
    from veduta.curate.review_journal import ReviewJournal
    from veduta.curate.undo_file import write_undo_file
    from veduta.web import Decision

    (folder / "quarantine").mkdir()
    write_undo_file(folder / "quarantine/undo", Path("/data"), ["a/1.jpg", "b/2.jpg"])
    review = ReviewJournal(folder / "review", Path("/data"), ["a.jpg", "b.jpg"])
    review.set([(("a.jpg", "a"), Decision("keep"))])
    review.set([(("b.jpg", None), Decision("relabel", "c")), (("a.jpg", "a"), None)])
    review.undo()
    review.close()
    collect = Journal(folder / "collect", {"resize": 5})
    collect.append([(Row("1", "a", "http://x/1"), Result(Outcome.COLLECTED, path="a/1.jpg"))])
    collect.append([(Row("2", None, "http://x/2"), Result(Outcome.BUSY))])
    collect.close()
    return {name: (folder / name).read_bytes() for name in ("review", "collect")}


def kinds(folder: Path) -> list[Kind]:
    journals = written_journals(folder)
    return [
        Kind("report.json", as_json(retrieval(1, queries=6) | FURTHER_FIGURES), compared),
        Kind("recognised.json", as_json(recognition(1, queries=6) | FURTHER_FIGURES), compared),
        Kind("model.json", as_json(SIDECAR), sidecar),
        Kind("preprocessor_config.json", as_json(HUB_CONFIG), sidecar),
        Kind("recipe.toml", RECIPE.encode(), recipe),
        Kind("review.journal", journals["review"], review_journal),
        Kind("journal", journals["collect"], collect_journal),
        Kind("undo.jsonl", (folder / "quarantine/undo").read_bytes(), undo_file),
        Kind("labels.csv", b"path,label,split\na.jpg,a,train\nb/b.jpg,b,test\n", labels),
        Kind("findings.csv", b"photo,kind,score,label\na.jpg,blurred,0.5,a\n", findings),
        Kind("solution.csv", b"id,images,Usage\na,x y,Public\nb,z,Private\n", scored),
        Kind("solved.csv", b"id,landmarks\na,7 0.5\nb,\n", scored),
        Kind("answers.csv", b"path,label,answer\na.jpg,a,b\nb.jpg,b,b\n", answers, (ValueError,)),
    ]


FURTHER_FIGURES = {
    "answered_by": "descriptor, graph",
    "query_count": 6,
    "seconds": 1.5,
    "gap": 0.5,
    "descriptor_alone": {"map": 0.5, "gap": 0.25, "method": "linear"},
    "settings": {"encoder": "accurate", "method": "knn", "model": "run"},
}
VALUES = (
    None, True, False, -1, 0, 1, 2**63, 2**64, 10**30, -0.0, 0.5, 1e308, "", "x", "x" * 5000,
    "\ud800", "a\0b", "../../x", "\x1b[31m", [], {}, [1], [[[]]], {"a": {"b": 1}}, ["x"] * 50,
)  # fmt: skip
TEXTS = (
    b"NaN", b"Infinity", b"-1e400", b"9" * 5000, b"[" * 50_000, b'{"a":' * 2000, b'"\\ud800"',
    b"\xff\xfe", b"\0", b"\xef\xbb\xbf", b"\r", b'"', b",", b";" * 40, b"\n\n", b"''", b"= [[",
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return each (table or list, key) inside a value."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((value, key))
        if isinstance(item, dict | list):
            found += places(item)
    return found


def edited(content: bytes, random_number: random.Random) -> bytes:
    """Return a file with one change: of a value if a line of it is JSON, or of its bytes."""
    choice = random_number.random()
    lines = content.splitlines()
    at = random_number.randrange(len(lines))
    if choice < 0.6 and lines[at][:1] == b"{":
        value = json.loads(lines[at])
        holder, key = random_number.choice(places(value))
        if random_number.random() < 0.2:
            del holder[key]
        else:
            holder[key] = random_number.choice(VALUES)
        lines[at] = as_json(value)
        return b"\n".join(lines) + b"\n"
    start, end = sorted(random_number.randrange(len(content) + 1) for _ in range(2))
    if choice < 0.7:
        return content[:start]
    if choice < 0.8:
        end = min(end, start + 8)
    if choice < 0.9:
        return content[:start] + random_number.choice(TEXTS) + content[end:]
    flipped = bytes(random_number.randrange(256) for _ in range(min(4, end - start)))
    return content[:start] + flipped + content[start + len(flipped) :]


NAMES = [
    "report.json", "recognised.json", "model.json", "preprocessor_config.json", "recipe.toml",
    "review.journal", "journal", "undo.jsonl", "labels.csv", "findings.csv", "solution.csv",
    "solved.csv", "answers.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def kind_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds(tmp_path_factory.mktemp("kinds"))}


@pytest.fixture
def placed(kind_of: dict[str, Kind], tmp_path: Path) -> Callable[[str], tuple[Kind, Path]]:
    """Return a function that places a valid file of a kind, with what its reader needs beside."""

    def place(name: str) -> tuple[Kind, Path]:
        kind = kind_of[name]
        (tmp_path / "original").write_bytes(kind.content)
        file = tmp_path / name
        file.write_bytes(kind.content)
        return kind, file

    return place


@pytest.mark.parametrize("name", NAMES)
def test_only_errors_of_veduta(placed: Callable[[str], tuple[Kind, Path]], name: str) -> None:
    kind, file = placed(name)
    random_number = random.Random(name)
    refused = 0
    for _ in range(EDITS):
        content = edited(kind.content, random_number)
        file.write_bytes(content)
        try:
            kind.read(file)
        except kind.errors as error:
            assert str(error), content
            refused += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}: {content[:400]!r}") from error
    assert refused > EDITS // 10, "the changes are felt"


BAD_JSON = (
    "1e400", "NaN", "-Infinity", "9" * 5000, str(2**64), "[" * 100_000, '{"a":' * 2000, "", "\x00",
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
)  # fmt: skip
BAD_TOML = (
    "a = " + "9" * 5000, "a = " + "[" * 5000, "a = " + "[" * 99 + "]" * 99, f"[a{'.a' * 3000}]",
    "a = 2020-99-99", 'a = "\\ud800"', "a", "a = 1\na = 2", "\x00",
)  # fmt: skip


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: text[:12])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_json(text)


@pytest.mark.parametrize("text", BAD_TOML, ids=lambda text: text[:12])
def test_toml_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_toml(text)


@given(st.one_of(st.text(), st.binary()))
def test_any_text_is_json_or_refused(text: str | bytes) -> None:
    try:
        value = parse_json(text)
    except InvalidValue:
        return
    assert parse_json(json.dumps(value)) == value


@given(st.text())
def test_any_text_is_toml_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_toml(text), dict)
    except InvalidValue:
        return


def test_what_json_may_be(tmp_path: Path) -> None:
    assert parse_json(b"\xef\xbb\xbf[1]") == [1], "a byte-order mark"
    assert parse_json("[1]".encode("utf-16")) == [1]
    assert parse_json('"\\udcff"') == "\udcff", "a byte of a name that is not UTF-8"
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}
    assert parse_json("[1e400]", finite=False) == [float("inf")]
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"a": 1}
    (tmp_path / "a.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(InvalidValue, match="not UTF-8"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.parametrize("read", [read_whole, read_toml, lambda file: read_json(file, dict)])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(OSError):
            read(place)
    with pytest.raises(InvalidValue, match="NUL"):
        read(Path("a\0b"))


def test_a_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veduta.validation.MAX_BYTES", 3)
    (tmp_path / "a").write_bytes(b"[1]")
    assert read_json(tmp_path / "a", list[int]) == [1]
    (tmp_path / "a").write_bytes(b"[12]")
    with pytest.raises(InvalidValue, match="larger than"):
        read_json(tmp_path / "a", list[int])


COMMANDS = (
    ("recipes", "{}.toml"),
    ("table", "{}.toml"),
    ("augment", "DATA", "--out", "new", "--recipe", "{}.toml"),
    ("compare", "{}.json", "DATA"),
    ("describe", "{}.csv"),
    ("evaluate", "{}.csv"),
    ("score", "{}.csv", "{}.csv"),
    ("clean", "--undo", "{}.jsonl"),
    ("recognize", "q.jpg", "--model", "{}"),
    ("review", "DATA", "--no-open", "--findings", "{}.csv"),
    ("evaluate", "gnd_{}.pkl"),
    ("match", "q.png", "q.png", "--encoder", "{}.onnx"),
    ("collect", "{}.csv", "--out", "collected"),
)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Interrupt a test that waits for a pipe without a writer."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_waits_or_fails_at_a_file_that_is_none(
    tmp_path: Path,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command gets a pipe without a writer, an endless device and a folder."""
    monkeypatch.chdir(tmp_path)
    save_view(tmp_path / "DATA/a/0.png", 0, 0)
    save_view(tmp_path / "DATA/b/0.png", 1, 0)
    save_view(tmp_path / "q.png", 0, 0)
    for ending in ("", ".toml", ".json", ".csv", ".jsonl", ".onnx", ".pkl"):
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
        (tmp_path / f"folder{ending}").mkdir()
    for name in ("pipe", "zero", "folder"):
        arguments = [part.format(name).replace("gnd_", "") for part in command]
        assert run(arguments) in (2, 3, 4, 5), arguments
        assert capsys.readouterr().err.strip(), arguments
