"""Numbers and names that no command expects: an answer or an error of Veduta, never a fault."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from tiny import save_view

import veduta
from veduta.cli.main import COMMANDS, run
from veduta.errors import QueryError, VedutaError

Capture = pytest.CaptureFixture[str]

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "-0.0",
    str(10**12),
    str(10**30),
    "1.5",
    "x",
    "",
)
ALLOWED = {0, 1, 2, 3, 4, 5}

# A call of each command whose options are tried. Training takes too long, so only its summary is.
CALLS: dict[str, tuple[str, ...]] = {
    "clean": ("photos", "--only", "corrupt"),
    "collect": ("list.txt", "--out", "collected"),
    "evaluate": ("photos", "--encoder", "fast", "--rerank", "none"),
    "export": ("--run", "all.run"),
    "recognize": ("photos/a/0.png", "--method", "knn"),
    "search": ("photos/a/0.png",),
    "serve": ("absent",),  # With an index it would begin to serve, and never end.
    "split": ("photos", "--no-find-copies"),
    "train": ("cnn-1", "--summary"),
}


def number_options() -> list[tuple[str, str]]:
    """Return (command, option) for each option that takes a number."""
    found = []
    for name in COMMANDS:
        command: click.Command = import_module(f"veduta.cli.{name}").command
        for parameter in command.params:
            number = isinstance(
                parameter.type, click.types.IntParamType | click.types.FloatParamType
            )
            if isinstance(parameter, click.Option) and number:
                found.append((name, parameter.opts[0]))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("options")
    for scene, name in enumerate(("a", "b")):
        for number in range(3):
            save_view(home / f"photos/{name}/{number}.png", scene, number)
    (home / "list.txt").write_text("file:///absent.jpg\n")
    made = ["index", str(home / "photos"), "--index", str(home / "index"), "--labels", "folders"]
    assert run([*made, "--encoder", "fast"]) == 0
    return home


@pytest.fixture
def inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("VEDUTA_INDEX", str(home / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return home


@pytest.mark.slow
@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("command", "option"), number_options(), ids="".join)
def test_any_number_for_any_option(command: str, option: str, capsys: Capture) -> None:
    # Without a call of its own, a command has a wrong number of arguments, which is said later.
    for number in NUMBERS:
        code = run([command, *CALLS.get(command, ()), option, number])
        printed = capsys.readouterr()
        assert code in ALLOWED, (number, printed.err)
        assert "Traceback" not in printed.err
        if number in ("nan", "inf", "-inf", "1e400", "x", ""):
            assert code == 2, (number, printed.err)


LONG = "x" * 5000
PHOTO = "photos/a/0.png"


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    "query", [LONG, f"{LONG}/a.jpg", "", "photos/a/../..", "/dev/zero", "\udcff"]
)
def test_a_query_that_is_no_photo(query: str, capsys: Capture) -> None:
    assert run(["search", query, "--rerank", "none"]) in (0, 3)
    assert run(["search", query, PHOTO, "--rerank", "none"]) in (0, 3)
    assert run(["match", query, PHOTO, "--encoder", "fast"]) == 3
    assert run(["recognize", query, "--method", "knn"]) in (0, 3)
    assert run(["describe", query]) in (0, 3)
    assert run(["index", query, "--index", "new"]) in (0, 3, 4)
    assert "fault of Veduta" not in capsys.readouterr().err


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    "name", ["a:b", "s3://bucket/x", "q?x", "h#x", "p%20x", "b  l", "-dash", "file:///x", "🏰"]
)
def test_an_index_of_any_name(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = str(tmp_path / name) if not name.startswith("-") else name
    assert run(["index", "photos/a", "--index", path, "--encoder", "fast"]) == 0
    assert run(["search", PHOTO, "--index", path, "-k", "1", "--json"]) == 0
    assert PHOTO in capsys.readouterr().out
    assert run(["check", "--index", path]) == 0


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("name", ["new\nline", "caf\udce9", LONG])
def test_an_index_that_cannot_have_that_name(name: str, capsys: Capture) -> None:
    for command in ("index", "search", "status", "check", "repair"):
        words = {"index": ["photos"], "search": [PHOTO]}.get(command, [])
        assert run([command, *words, "--index", name]) == 4
        assert capsys.readouterr().err.startswith("veduta: ")


@pytest.fixture(scope="module")
def index(home: Path) -> veduta.Index:
    return veduta.open(home / "index")


@pytest.fixture
def photo(home: Path) -> str:
    return str(home / PHOTO)


class TestPython:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"k": 0}, "at least one hit, not 0"),
            ({"k": -3}, "at least one hit, not -3"),
            ({"k": True}, "at least one hit, not True"),
            ({"k": 2.5}, "at least one hit, not 2.5"),
            ({"k": "3"}, "at least one hit, not '3'"),
            ({"verify": -5}, "at least one photo, not -5"),
            ({"verify": math.nan}, "at least one photo, not nan"),
            ({"min_score": math.nan}, "a finite number, not nan"),
            ({"min_score": math.inf}, "a finite number, not inf"),
            ({"min_score": "0.5"}, "a finite number, not '0.5'"),
            ({"crop": (1, 2, 3)}, "x, y, width, height in whole pixels"),
            ({"crop": ()}, "x, y, width, height in whole pixels"),
            ({"crop": (0, 0, 10, 9.5)}, "x, y, width, height in whole pixels"),
            ({"crop": (0, 0, 10**12, 1)}, "is not within the photo"),
            ({"distance": "\0"}, "No distance"),
            ({"rerank": "\0"}, "There is no way to rerank"),
            ({"after": "yesterday"}, "yesterday"),
        ],
    )
    def test_options_of_a_search(
        self, index: veduta.Index, photo: str, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(QueryError) as caught:
            index.search(photo, **options)
        assert message in str(caught.value)

    def test_large_numbers_mean_all(self, index: veduta.Index, photo: str) -> None:
        assert len(index.search(photo, k=10**12)) == 6
        assert len(index.search(photo, k=10**30, rerank="none")) == 6
        assert len(index.search(photo, k=np.int64(2), verify=10**30)) == 2

    @pytest.mark.parametrize("projection", [2.5, "8", True, math.nan, 0, -1, 10**12])
    def test_projections(self, index: veduta.Index, projection: Any) -> None:
        with pytest.raises(VedutaError):
            index.project(projection)

    def test_names_with_nul(self, index: veduta.Index, tmp_path: Path) -> None:
        for call in (
            lambda: veduta.open("a\0b"),
            lambda: veduta.create(f"{tmp_path}/a\0b", encoder="fast"),
            lambda: index.search("a\0b"),
            lambda: index.add("a\0b"),
            lambda: index.export_model("a\0b"),
            lambda: veduta.match("a\0b", "a\0b", encoder="fast"),
        ):
            with pytest.raises(VedutaError):
                call()
        assert list(tmp_path.iterdir()) == []
