"""Run the pages of docs/reports on real photos, and write their outputs and figures into them.

Each page repeats the way of one report, from its first photos to its last table. The photos of the
reports are not public, so the commands run on places of landmarks30 and classes of objects20. The
table of a page has the numbers of its report beside those of this run. Trainings are short: the
pages say how short.
"""

from __future__ import annotations

import csv
import datetime
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import machine_description, parser, write_section
from benchmarks.report_figures import FIGURES
from benchmarks.report_pages import PAGES, read_commands, run_command, with_outputs
from benchmarks.report_photos import CLASSES, OTHER, START, Photos, serving

SETS = ("landmarks30", "objects20")
ADDED = {"collect": ("--allow-private",)}  # the photos come from a server on this machine

CHARTS = {
    "two-monuments": {
        "runs/cnn-3/accuracy.png": "Accuracy of network 3 by epoch, for training and test photos.",
        "runs/cnn-3/loss.png": "Its loss by epoch.",
    },
    "landmark-capstone": {
        "charts/most_frequent_classes.png": "The landmarks with the most photos.",
        "runs/transfer-10/accuracy.png": "Accuracy by epoch, for training and validation photos.",
    },
    "query-and-gallery": {"runs/siamese/loss.png": "Loss of the Siamese network by epoch."},
    "image-search-engine": {"runs/scratch/loss.png": "Loss of the network from scratch by epoch."},
}
"""Page → pictures without photos that its commands write, and what each shows."""

OTHERS = 60  # photos of other things, at most
PLACES = 22  # classes of the contest of two reports
OBJECTS = 10  # classes of the photos of the image search engine


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("reports", __doc__)
    add_data_option(options)
    options.add_argument("--only", nargs="+", choices=PAGES, help="run only these pages")
    options.set_defaults(docs=Path("docs/reports"))  # a folder here
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, SETS)
    for name in chosen.only or PAGES:
        folder = chosen.work.resolve() / "reports" / name
        shutil.rmtree(folder, ignore_errors=True)
        page = chosen.docs / f"{name}.md"
        text = page.read_text("utf-8")
        started = time.monotonic()
        outputs = run_page(name, text, photos_of(name, chosen.data), folder)
        minutes = (time.monotonic() - started) / 60
        parts = [FIGURES[name](folder), *charts(name, folder, chosen.docs.parent / "images")]
        body = "\n\n".join([*parts, provenance(name, minutes)])
        page.write_text(with_outputs(text, outputs), "utf-8")
        write_section(page, name, body)


def charts(name: str, folder: Path, images: Path) -> list[str]:
    """Copy the charts of a page to the pictures of the documentation, and return their links."""
    links = []
    for chart, description in CHARTS.get(name, {}).items():
        picture = f"{name}-{chart.replace('/', '-')}"
        shutil.copyfile(folder / chart, images / picture)
        links.append(f"![{description}](../images/{picture})\n\n*{description}*")
    return links


def provenance(name: str, minutes: float) -> str:
    """Return what the photos were, when and where the commands ran, and how to repeat it."""
    photos = "objects20" if name == "image-search-engine" else "landmarks30"
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"The photos of the report are not public. Ours are of {photos}: other photos, fewer of "
        f"them, and shorter trainings. {today}, {minutes:.0f} minutes. "
        f"{machine_description()}\n\n    python -m benchmarks.reports --only {name}"
    )


def photos_of(name: str, data: Path) -> Photos:
    """Return the photos that a page starts from, by label."""
    labels = CLASSES.get(name)
    if name == "image-search-engine":
        photos, others = read_set(data / "objects20")
        labels = tuple(sorted(photos)[:OBJECTS])
    else:
        photos, others = read_set(data / "landmarks30")
        labels = labels or tuple(sorted(photos, key=lambda label: (-len(photos[label]), label)))
    kept = {label: photos[label] for label in labels[:PLACES]}
    step = max(1, len(others) // OTHERS)
    return {**kept, OTHER: others[::step][:OTHERS]}


def read_set(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return label → photos of a set, and its distractors. Junk is left out."""
    photos: dict[str, list[Path]] = {}
    others: list[Path] = []
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["split"] == "distractor":
                others.append(folder / row["path"])
            elif row["split"] != "junk":
                photos.setdefault(row["label"], []).append(folder / row["path"])
    return photos, others


def run_page(name: str, page: str, photos: Photos, folder: Path) -> list[str]:
    """Run the commands of a page in a new folder, and return what each printed."""
    outputs = []
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache"), "COLUMNS": "100"}
    with serving(folder) as server:
        START[name](photos, folder, server)
        for command in read_commands(page):
            print(f"$ {command.text}", flush=True)
            output = run_command(
                command, folder, added=ADDED.get(command.name, ()), environment=environment
            )
            print(output, flush=True)
            outputs.append(output.replace(server, "https://photos.example"))
    return outputs


if __name__ == "__main__":
    main(sys.argv[1:])
