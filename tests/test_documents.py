"""What the documents say is true: their examples run, their names, links and targets exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import pixels, save
from walls import scene

import veduta
from veduta import errors
from veduta.cli.main import COMMANDS, run

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?veduta ([a-z]+)(.*)$", re.MULTILINE)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README_LINES = 120


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", read(page)):
        file = page.parent / target if target else page
        assert file.exists(), f"{name(page)} links to {target}"
        if heading:
            assert heading in headings(file), f"{name(page)} links to {target}#{heading}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = "".join(re.findall(r"```console\n(.*?)```", read(page), re.DOTALL))
    for command, rest in COMMAND.findall(blocks):
        assert command in COMMANDS
        assert run([command, "--help"]) == 0
        help_text = capsys.readouterr().out.replace("\n", " ")
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.split("#")[0]):
            assert f"{option} " in help_text, f"veduta {command} has no {option}"


def test_the_readme_and_the_tour_show_the_main_commands() -> None:
    shown = {command for command, _ in COMMAND.findall(read(ROOT / "README.md"))}
    assert shown >= {"index", "search", "recognize"}
    shown |= {command for command, _ in COMMAND.findall(read(ROOT / "docs/tour.md"))}
    assert shown >= {"index", "search", "recognize", "match", "evaluate", "check"}


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    lines = read(ROOT / "README.md").splitlines()
    assert len(lines) <= README_LINES
    first_picture = next(number for number, line in enumerate(lines) if line.startswith("!["))
    assert first_picture < 25


def test_the_documentation_has_an_index_of_all_pages() -> None:
    for folder in (ROOT / "docs", ROOT / "docs/decisions"):
        linked = set(re.findall(r"\]\(([^)#]+)\)", read(folder / "README.md")))
        pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
        assert pages <= linked, sorted(pages - linked)


def test_the_size_of_an_installation_is_the_same_everywhere() -> None:
    makefile, readme = read(ROOT / "Makefile"), read(ROOT / "README.md")
    contributing = read(ROOT / "CONTRIBUTING.md")
    tests = re.search(r"([\d.]+) GB on disk\.\"\n\t.*dev,", makefile, re.MULTILINE)
    core = re.search(r"a minute, ([\d.]+) GB on disk", makefile)
    assert core and tests
    assert f"{core[1]} GB on disk, without torch" in readme
    assert f"({tests[1]} GB)" in readme
    assert f"({tests[1]} GB on Linux" in contributing


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")
def test_the_list_of_targets_is_what_make_help_prints() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) > 5
    assert done.stdout in read(ROOT / "CONTRIBUTING.md")


def test_every_file_that_the_guide_names_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| (.*) \|$", read(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    files = [file for row in rows for file in re.findall(r"`([\w/.]+)`", row)]
    assert len(files) > 12
    for file in files:
        assert (ROOT / "src/veduta" / file).exists(), file


@pytest.mark.slow
def test_the_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = EXAMPLE.findall(read(ROOT / "README.md"))
    for file, picture in {
        "gallery/cat/cat-01.png": pixels(0),
        "gallery/moon/moon-01.png": pixels(1),
        "queries/cat/cat-query.jpg": pixels(0),
    }.items():
        photo = tmp_path / ".demo" / "photos" / file
        photo.parent.mkdir(parents=True)
        Image.fromarray(picture).save(photo)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "cat"
    assert second.split()[1] == "moon"
    assert float(first.split()[0]) > float(second.split()[0])


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        label = ("tower", "bridge")[number % 2]
        photo = tmp_path / f"photos/{label}/{label}{number // 2}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number)).save(photo)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    examples = EXAMPLE.findall(read(ROOT / "docs/python.md"))
    assert len(examples) > 8
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "6 added, 0 unreadable, 6 in the index" in printed
    assert re.search(r"^0\.9\d\d  tower  .*/photos/tower/tower0\.jpg$", printed, re.MULTILINE)
    assert "no-such-photo.jpg: the file is not there" in printed
    assert "photos is not an index" in printed


def test_the_example_of_the_evaluation_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = EXAMPLE.findall(read(ROOT / "docs/evaluation.md"))
    for number, folder in enumerate(("query/a", "query/none", "gallery/a", "gallery/other")):
        save(tmp_path / f"{folder.replace('other', 'confusion_classes')}/{number}.png", number)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/evaluation.md", "exec"), names)
    rows = names["dataset"].table.select(["label", "split"]).to_pylist()
    assert {(row["label"], row["split"]) for row in rows} == {
        ("a", "query"),
        (None, "unknown"),
        ("a", "gallery"),
        (None, "distractor"),
    }


def test_python_examples_stand_only_on_pages_that_are_run() -> None:
    pages = {name(page) for page in PAGES if EXAMPLE.search(read(page))}
    assert pages == {"README.md", "docs/python.md", "docs/evaluation.md", "docs/serve.md"}


def test_public_names_exist() -> None:
    assert sorted(veduta.__all__) == dir(veduta)
    for public in veduta.__all__:
        assert getattr(veduta, public) is not None
    assert callable(veduta.evaluate), "the function, also when its package is loaded"
    with pytest.raises(AttributeError, match="no_such"):
        _ = veduta.no_such  # type: ignore[attr-defined]


def test_error_tree_is_complete() -> None:
    tree = errors.__doc__ or ""
    for public in errors.__all__:
        if isinstance(getattr(errors, public), type):
            assert re.search(rf"\b{public}\b", tree), f"{public} is missing in the tree"
