"""Run the commands of docs/explanations.md, and write their outputs and pictures into the page.

The photos are free: views of photos of scikit-image, made by `veduta.demo`. The networks are
trained by recipes of the package, on those views.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.report import parser
from benchmarks.report_pages import read_commands, run_command, with_outputs
from veduta.demo import SUBJECTS, write_photos

PAGE = Path("docs/explanations.md")

NAMES = ("astronaut", "cat", "coffee", "rocket")
"""The subjects of the demo that the networks learn."""

PAIR = ("cat", "rocket")
"""Those that a network with one output tells apart."""

VIEWS = 11  # of each subject, beside the photo itself
TEST_VIEWS = 3

PICTURES = ("hit.png", "region.png", "heat-maps.png", "all-methods.png")
"""What the commands of the page draw, and the page shows."""

MAX_BYTES = 150_000
WIDTHS = (1600, 1280, 1000)  # pixels
QUALITIES = (85, 75, 65)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("explanation_pictures", __doc__)
    options.set_defaults(docs=PAGE)
    chosen = options.parse_args(arguments)
    folder = chosen.work.resolve() / "explanation_pictures"
    shutil.rmtree(folder, ignore_errors=True)
    write_start(folder)
    text = chosen.docs.read_text("utf-8")
    outputs = []
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache"), "COLUMNS": "80"}
    for command in read_commands(text):
        print(f"$ {command.text}", flush=True)
        outputs.append(run_command(command, folder, environment=environment))
        print(outputs[-1], flush=True)
    for name in PICTURES:
        picture = chosen.docs.parent / "images" / f"explanations-{Path(name).stem}.jpg"
        write_small_jpeg(folder / name, picture)
    chosen.docs.write_text(with_outputs(text, outputs), "utf-8")


def write_start(folder: Path, *, names: Sequence[str] = NAMES, views: int = VIEWS) -> None:
    """Write the files that the page starts from: `gallery` and `queries`, and two splits.

    Args:
        folder: where to.
        names: of the subjects; `PAIR` is among them.
        views: of each subject.
    """
    specification = importlib.util.find_spec("skimage")
    if specification is None or specification.origin is None:
        raise SystemExit("The photos are those of scikit-image: pip install scikit-image")
    subjects = [subject for subject in SUBJECTS if subject.name in names]
    source = Path(specification.origin).parent / "data"
    photos = write_photos(source, folder, subjects=subjects, views=views)
    write_split(photos.gallery, names, "split.csv")
    write_split(photos.gallery, PAIR, "pair.csv")


def write_split(gallery: Path, names: Sequence[str], file: str) -> None:
    """Write the labels and the split of the photos of some subjects."""
    with (gallery / file).open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split"))
        for name in names:
            photos = sorted((gallery / name).glob("*-*.jpg"))
            for at, photo in enumerate(photos):
                part = "train" if at < len(photos) - TEST_VIEWS else "test"
                writer.writerow((f"{name}/{photo.name}", name, part))


def write_small_jpeg(picture: Path, file: Path) -> None:
    """Write a picture as a JPEG of at most 150 kB and 1,600 pixels, or fewer."""
    with Image.open(picture) as opened:
        small = opened.convert("RGB")
    for width in WIDTHS:
        small.thumbnail((width, small.height), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            small.save(file, "JPEG", quality=quality, optimize=True)
            if file.stat().st_size <= MAX_BYTES:
                return
    raise SystemExit(f"{file} is larger than {MAX_BYTES:,} bytes at the smallest size")


if __name__ == "__main__":
    main(sys.argv[1:])
