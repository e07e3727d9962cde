"""Real files as people have them: every one decodes or is refused as its manifest says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from veduta import photos
from veduta.errors import BrokenPhoto, PhotoError, UnsupportedFormat

# Pillow reads these, but they are no photos: their format is not on the allow-list.
NOT_ALLOWED = {"PPM"}


@pytest.mark.parametrize("at_least", [None, 200])
def test_messy_files_decode_or_fail_as_the_manifest_says(
    shared_data: Callable[[str], Path], at_least: int | None
) -> None:
    root = shared_data("messy")
    surprises = []
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 225
    for row in rows:
        decodes = row["pillow_decode"] == "ok" and row["actual_format"] not in NOT_ALLOWED
        try:
            photo = photos.load(root / row["path"], at_least=at_least)
        except PhotoError as error:
            if decodes:
                surprises.append((row["path"], str(error)))
            continue
        if not decodes or photo.format != row["actual_format"]:
            surprises.append((row["path"], photo.format))
        # The manifest gives the size as stored; a photo on its side has it the other way round.
        stored = sorted(map(int, row["size"].split("x")))
        if sorted((photo.width, photo.height)) != stored:
            surprises.append((row["path"], f"{photo.width}x{photo.height}"))
    assert surprises == []


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("truncated_half", BrokenPhoto, "cut short"),
        ("truncated_tail", BrokenPhoto, "cut short"),
        ("zero_bytes", BrokenPhoto, "empty"),
        ("html_as_jpg", UnsupportedFormat, "an HTML page"),
        ("noise_middle", BrokenPhoto, "damaged"),
        ("header_only", BrokenPhoto, "ends before the picture begins"),
        ("not_an_image", UnsupportedFormat, "text"),
    ],
)
def test_what_is_wrong_is_said(
    shared_data: Callable[[str], Path], kind: str, error: type[PhotoError], words: str
) -> None:
    root = shared_data("messy")
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == kind]
    assert rows
    for row in rows:
        with pytest.raises(error, match=words):
            photos.load(root / row["path"])


def test_byte_identical_pairs_have_one_content_hash(shared_data: Callable[[str], Path]) -> None:
    root = shared_data("messy")
    groups: dict[str, set[bytes]] = {}
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "exact_dup":
                data = photos.read_bytes(root / row["path"])
                groups.setdefault(row["dup_group"], set()).add(photos.content_hash(data))
    assert len(groups) > 30
    assert all(len(hashes) == 1 for hashes in groups.values())
