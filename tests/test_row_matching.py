"""Rows of a labels file find their photo however the path is written, and never another photo."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veduta.datasets import LabelsFile
from veduta.errors import DatasetError

ROOT = "/collection/photos"

Writing = Callable[[str], str]
WRITINGS: dict[str, Writing] = {
    "as it is": lambda path: path,
    "with a dot": lambda path: f"./{path}",
    "whole": lambda path: f"{ROOT}/{path}",
    "with blanks": lambda path: f"  {path}\t",
    "for Windows": lambda path: path.replace("/", "\\"),
    "decomposed": lambda path: unicodedata.normalize("NFD", path),
    "in capitals": str.upper,
    "as an address": lambda path: f"file://{ROOT}/{quote(path)}",
    "quoted": quote,
    "of another machine": lambda path: f"/home/someone/photos/{path}",
    "of another Windows": lambda path: f"D:\\Old photos\\Photos\\{path}".replace("/", "\\"),
}

# Names that stay apart without regard to case and Unicode form, and that no writing turns into
# another.
words = st.text("abcdeéüñß œ07-_", min_size=1, max_size=5).filter(lambda word: word == word.strip())
photo_paths = st.lists(
    st.tuples(st.lists(words, max_size=3), words).map(lambda p: "/".join([*p[0], f"{p[1]}.jpg"])),
    min_size=1,
    max_size=8,
    unique_by=lambda path: unicodedata.normalize("NFC", path).casefold(),
)


def labels_file(folder: Path, rows: list[tuple[str, str]]) -> Path:
    file = folder / "labels.csv"
    lines = [f'"{path}",{label}' for path, label in rows]
    file.write_text("\n".join(["path,label", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS)
@settings(max_examples=40)
@given(paths=photo_paths)
def test_all_rows_find_their_photo(tmp_path: Path, writing: Writing, paths: list[str]) -> None:
    photos = {os.fsencode(f"{ROOT}/{path}"): f"label {n}" for n, path in enumerate(paths)}
    rows = [(writing(path), f"label {n}") for n, path in enumerate(paths)]
    found = LabelsFile(labels_file(tmp_path, rows)).match(photos, [ROOT])
    assert found.label_of == photos


@settings(max_examples=150)
@given(
    paths=photo_paths,
    written=st.lists(st.sampled_from(list(WRITINGS.values())), min_size=8, max_size=8),
    absent=st.lists(words, max_size=3, unique=True),
)
def test_no_row_finds_another_photo(
    tmp_path: Path, paths: list[str], written: list[Writing], absent: list[str]
) -> None:
    photos = {os.fsencode(f"{ROOT}/{path}"): f"label {n}" for n, path in enumerate(paths)}
    rows = [(written[n](path), f"label {n}") for n, path in enumerate(paths)]
    rows += [(f"nowhere/{word}.png", "wrong") for word in absent]
    try:
        found = LabelsFile(labels_file(tmp_path, rows)).match(photos, [ROOT])
    except DatasetError as error:
        assert "none of its" in str(error)
        return
    assert found.label_of.items() <= photos.items()
    if absent:
        assert f"no photo, of {len(rows):,} (" in found.notes[-1]
