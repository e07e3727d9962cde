"""What the commands print disturbs no terminal, whoever wrote it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny import save_view
from tiny_onnx import channel_means, write

import veduta
from veduta.cli.main import run
from veduta.cli.printing import print_json, print_names, say, without_folders
from veduta.encoders import name_without_folders
from veduta.text import printable

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\u200f\nFAKE LINE\r\x85\u2028\x7f"


def raw_marks(text: str) -> list[str]:
    """Return the characters of a text that would disturb a terminal; line breaks are allowed."""
    return re.findall(
        "(?!\n)[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text
    )


def test_each_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a {HOSTILE}", "b")
    say()
    say(HOSTILE, err=True)
    printed = capsys.readouterr()
    assert printed.out.split("\n") == [f"a {printable(HOSTILE)}", "b", "", ""]
    assert printed.err == (
        "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202eevil\\u2066\\u200f\\x0aFAKE LINE"
        "\\x0d\\x85\\u2028\\x7f\n"
    )


def test_reports_and_cards_name_no_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_folders(str(tmp_path / "runs" / "a")) == "runs/a"
    assert without_folders(f"--data=all={tmp_path}/photos") == "--data=all=photos"
    assert without_folders("network.weights=/far/away/w.safetensors") == (
        "network.weights=…/w.safetensors"
    )
    for word in ("runs/a", "training.epochs=3", "--json", "", "hub:owner/name", "a=b=c/d"):
        assert without_folders(word) == word
    assert name_without_folders("/home/me/runs/a") == "a"
    assert name_without_folders("/home/me/runs/a/model.onnx") == "a/model.onnx"
    assert name_without_folders("/home/me/other.onnx") == "other.onnx"
    for name in ("fast", "hub:owner/name", "timm:resnet18"):
        assert name_without_folders(name) == name


@pytest.mark.slow
def test_a_report_of_an_encoder_by_its_path_names_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "folder of the user"
    run_folder = home / "runs" / "mine"
    run_folder.mkdir(parents=True)
    write(run_folder, channel_means())
    for number in range(4):
        part = ("query", "gallery")[number % 2]
        save_view(home / part / f"class{number // 2}" / f"{number}.png", number // 2, number)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--queries", str(home / "query"), "--gallery", str(home / "gallery")]
    words += ["--encoder", str(home / "runs" / "mine"), "--report", "report"]
    monkeypatch.chdir(home)
    assert run(["evaluate", *words]) == 0
    report = json.loads(Path("report/report.json").read_text("utf-8"))
    assert report["settings"]["encoder"] == "mine"
    texts = [file for file in Path("report").rglob("*") if file.suffix in {".json", ".html"}]
    assert len(texts) >= 2
    assert not [file for file in texts if tmp_path.name in file.read_text("utf-8")]


def test_bold_text_is_safe_too(capsys: pytest.CaptureFixture[str]) -> None:
    say("!", bold=HOSTILE)
    assert capsys.readouterr().out == f"{printable(HOSTILE)}!\n"


def test_json_says_the_same_with_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    value = {HOSTILE: [HOSTILE, "Zürich 🏰", os_name := "\udcff"]}
    print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value and os_name
    assert not raw_marks(text)


def test_names_for_programs_keep_their_bytes_but_no_control_character(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert print_names(["a b.jpg", "Zürich 🏰.jpg", "\udcff.jpg"])
    assert capfdbinary.readouterr().out == "a b.jpg\nZürich 🏰.jpg\n".encode() + b"\xff.jpg\n"
    assert not print_names(["a\x1b[31m.jpg", "\u202eb.jpg"])
    assert capfdbinary.readouterr().out == b"a\\x1b[31m.jpg\n\\u202eb.jpg\n"


def test_a_recipe_is_printed_as_it_is_but_no_control_character(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "# one\n\n[network]\nencoder = 'x'\n"
    (tmp_path / "r.toml").write_text(text, "utf-8")
    assert run(["recipes", str(tmp_path / "r.toml")]) == 0
    assert capsys.readouterr().out == text
    (tmp_path / "r.toml").write_bytes(b"# \x1b[2J \xff\t\xc2\x9b\r\n")
    assert run(["recipes", str(tmp_path / "r.toml")]) == 0
    assert capsys.readouterr().out == "# \\x1b[2J \\xff    \\x9b\n"


def test_a_wrong_call_names_a_hostile_file_safely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["clean", str(tmp_path / HOSTILE.replace("/", "")), "--quarantine", "x"]) == 2
    assert run([HOSTILE]) == 2
    assert run(["split", HOSTILE]) == 2
    assert run(["describe", HOSTILE]) == 3
    printed = capsys.readouterr()
    assert not raw_marks(printed.out + printed.err)
    assert not re.search("^FAKE", printed.out + printed.err, re.MULTILINE)


def test_nothing_else_of_the_package_prints() -> None:
    """Everything is printed by `veduta.cli.printing`, so nothing from outside stays raw."""
    package = Path(veduta.__file__).parent
    printing = re.compile(r"\b(?:click\.s?echo|(?<![.\w])print|sys\.std(?:out|err)\.write)\(")
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if printing.search(line) and not line.startswith("    print(hit")
    }
    assert found == {"cli/printing.py"}
