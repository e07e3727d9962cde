"""Docstrings have one style: Google's, so that `make docs` shows every argument.

ruff checks the form of sections. This file checks that arguments and errors have sections at all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src/veduta"
FILES = sorted(SOURCE.rglob("*.py"))

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

RAISES_IN_PROSE = re.compile(r"(^|\. )(Raises|It raises|May raise) [`A-Z]", re.MULTILINE)
LIST_OF_NAMES = re.compile(r"^(- )?`\w+`(, `\w+`)*: ", re.MULTILINE)
SECTION_OF_ARGUMENTS = re.compile(r"^Args:\n((?:[ ]+.*\n?|\n)*)", re.MULTILINE)
SEVERAL_ARGUMENTS = re.compile(r"^    \w+(, \w+)+:", re.MULTILINE)


def faults(source: str) -> Iterator[str]:
    """Yield what is wrong with the docstrings of a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Documented):
            continue
        text = ast.get_docstring(node) or ""
        name = getattr(node, "name", "the module")
        if RAISES_IN_PROSE.search(text):
            yield f"{name}: errors stand in a section `Raises:`"
        section = SECTION_OF_ARGUMENTS.search(text)
        if section and SEVERAL_ARGUMENTS.search(section[1]):
            yield f"{name}: each argument has a line of its own"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if LIST_OF_NAMES.search(text):
                yield f"{name}: arguments stand in a section `Args:`"
            if "\n\n" in text and arguments(node) and not section and is_public(node):
                yield f"{name}: its arguments are not documented"


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    positional = function.args.posonlyargs + function.args.args
    names = [argument.arg for argument in positional + function.args.kwonlyargs]
    return [name for name in names if name not in {"self", "cls"}]


def is_public(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not function.name.startswith("_") and not is_command(function)


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether click shows the docstring of a function as the help of a command."""
    return any("click" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_arguments_and_errors_stand_in_sections(file: Path) -> None:
    assert list(faults(file.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("Do it.\n\nRaises `OSError` when it fails.\n\nArgs:\n    a: one.", "Raises:"),
        ("Do it.\n\nArgs:\n    a, b: two.", "line of its own"),
        ("Do it.\n\n`a`: one.\n\nArgs:\n    a: one.", "section `Args:`"),
        ("Do it.\n\nMore of it.", "not documented"),
    ],
)
def test_a_wrong_docstring_is_found(docstring: str, fault: str) -> None:
    source = f"def run(a, b):\n    {docstring!r}\n"
    assert [fault in found for found in faults(source)] == [True]
    assert list(faults(source.replace("def run", "def _run"))) == [] or fault != "not documented"


def test_a_right_docstring_is_not() -> None:
    text = "Do it.\n\nArgs:\n    a: one.\n    b: two.\n\nRaises:\n    OSError: it fails.\n"
    assert list(faults(f"def run(a, b):\n    {text!r}\n")) == []
