"""What the README shows is what one gets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tiny import pixels

from veduta.cli.main import COMMANDS, run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")
def test_the_list_of_targets_is_what_make_help_prints():
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) > 5
    assert done.stdout in README


def test_each_command_and_option_that_it_names_exists(capsys):
    shown = re.findall(r"^\$ veduta (\w+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in shown} >= {"index", "search", "evaluate", "check"}
    for name, rest in shown:
        assert name in COMMANDS
        assert run([name, "--help"]) == 0
        known = capsys.readouterr().out
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            assert f"{option} " in known


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_to_a_file_leads_to_one(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for name, picture in {
        "gallery/cat/cat-01.png": pixels(0),
        "gallery/moon/moon-01.png": pixels(1),
        "queries/cat/cat-query.jpg": pixels(0),
    }.items():
        photo = tmp_path / ".demo" / "photos" / name
        photo.parent.mkdir(parents=True)
        Image.fromarray(picture).save(photo)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "cat"
    assert second.split()[1] == "moon"
    assert float(first.split()[0]) > float(second.split()[0])
