"""What the documents say is true: their examples run, their names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import save

import veduta

ROOT = Path(__file__).resolve().parents[1]


def test_examples_of_the_python_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        label = ("tower", "bridge")[number % 2]
        save(tmp_path / f"photos/{label}/{label}{number // 2}.jpg", number)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    page = (ROOT / "docs/python.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) > 8
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "6 added, 0 unreadable, 6 in the index" in printed
    assert re.search(r"^0\.9\d\d  tower  .*/photos/tower/tower0\.jpg$", printed, re.MULTILINE)
    assert "no-such-photo.jpg: the file is not there" in printed
    assert "photos is not an index" in printed


def test_public_names_exist() -> None:
    assert sorted(veduta.__all__) == dir(veduta)
    for name in veduta.__all__:
        assert getattr(veduta, name) is not None
    assert callable(veduta.evaluate), "the function, also when its room is loaded"
    with pytest.raises(AttributeError, match="no_such"):
        _ = veduta.no_such  # type: ignore[attr-defined]


def test_error_tree_is_complete() -> None:
    from veduta import errors

    tree = errors.__doc__ or ""
    for name in errors.__all__:
        if isinstance(getattr(errors, name), type):
            assert re.search(rf"\b{name}\b", tree), f"{name} is missing in the tree"


def test_readme_names_only_commands_that_exist() -> None:
    from veduta.cli.main import COMMANDS

    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\s*(?:\$ )?(?:\.venv/bin/)?veduta ([a-z]+)", readme, re.MULTILINE))
    assert named and named <= set(COMMANDS)


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
