"""A small dataset of labelled photos with splits, for tests."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image
from tiny import pixels


def save_photo(path: Path, seed: int, width: int = 48, height: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path)


def split_dataset(root: Path, splits: dict[str, int] | None = None, classes: int = 2) -> Path:
    """Classes of photos of 40 × 30 pixels, with a column of splits and one more."""
    rows = []
    for label in range(classes):
        for split, photos in (splits or {"train": 3, "val": 1, "test": 1}).items():
            for number in range(photos):
                path = f"photos/c{label}/{split}{number}.jpg"
                save_photo(root / path, len(rows), width=40, height=30)
                rows.append([path, f"class {label}", split, f"note, {number}"])
    write_rows(root / "labels.csv", ["path", "label", "split", "note"], rows)
    return root


def write_rows(file: Path, header: list[str], rows: list[list[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
