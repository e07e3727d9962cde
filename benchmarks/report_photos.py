"""Lay out the files that a page of docs/reports starts from, and serve photos to `veduta collect`.

A page starts from lists of URLs, or from folders of training, query and gallery photos. The photos
come from the caller: from the sets that were measured, or from few small photos in the tests.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, islice
from pathlib import Path

__all__ = ["CLASSES", "START", "Photos", "serving"]

Photos = Mapping[str, Sequence[Path]]
"""Label → photos. The label `OTHER` has photos of anything else."""

OTHER = "other"

CLASSES = {
    "two-monuments": ("gateway_of_india", "india_gate"),
    "landmark-capstone": (
        "charminar",
        "golden_temple",
        "hawa_mahal",
        "lotus_temple",
        "mysore_palace",
        "thanjavur_temple",
        "victoria_memorial",
    ),
}
"""The labels that the commands of a page name."""

CONFUSION = "confusion_classes"


def two_monuments(photos: Photos, folder: Path, server: str) -> None:
    """Write a list of URLs for each monument, five good photos of each, and a pile to filter.

    The lists have what results of a search have: photos of other things, one photo twice, a page
    in place of a photo, a damaged photo, and addresses that are gone.
    """
    others = list(photos[OTHER])
    for number, label in enumerate(CLASSES["two-monuments"]):
        own = list(photos[label])
        kept = own[: max(2, len(own) * 4 // 5)]
        strangers = others[number::4]
        for at, photo in enumerate([*kept, kept[0], *strangers]):
            _publish(photo, folder / "www" / label / f"{at:03}{photo.suffix}")
        www = folder / "www" / label
        (www / "page.jpg").write_text("<html>This photo has moved.</html>", encoding="utf-8")
        (www / "cut.jpg").write_bytes(kept[1].read_bytes()[: kept[1].stat().st_size // 3])
        names = [*sorted(file.name for file in www.iterdir()), "gone-1.jpg", "gone-2.jpg"]
        urls = "".join(f"{server}/{label}/{name}\n" for name in names)
        (folder / f"{label}.txt").write_text(urls, encoding="utf-8")
        for photo in kept[2:7]:
            _publish(photo, folder / "good" / label / photo.name)
        for at, photo in enumerate([*own[len(kept) :], *others[number + 2 :: 4]]):
            _publish(photo, folder / "pile" / f"{label[:2]}{at:03}{photo.suffix}")


def landmark_capstone(photos: Photos, folder: Path, server: str) -> None:
    """Write `train.csv` as Google Landmarks has it: id, url, landmark_id."""
    rows = []
    for label in CLASSES["landmark-capstone"]:
        for at, photo in enumerate(photos[label]):
            name = f"{label[:3]}{at:03}"
            _publish(photo, folder / "www" / f"{name}{photo.suffix}")
            rows.append((name, f"{server}/{name}{photo.suffix}", label))
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "url", "landmark_id"))
        writer.writerows(rows)


def query_and_gallery(
    photos: Photos,
    folder: Path,
    server: str,
    *,
    queries: int = 1,
    gallery: int = 5,
    training: int = 8,
) -> None:
    """Write `query`, `gallery` and `training`, each with a folder a class, and one `photo.jpg`.

    The query and the gallery have a folder of photos that show none of the classes.
    """
    del server
    others = cycle(photos[OTHER])
    for label, own in photos.items():
        if label == OTHER:
            continue
        left = iter(own)
        parts = {"training": min(training, len(own) // 2), "query": queries, "gallery": gallery}
        for part, most in parts.items():
            for photo in islice(left, most):
                _publish(photo, folder / part / label / photo.name)
    first = next(file for file in sorted((folder / "query").glob("*/*")) if file.is_file())
    _publish(first, folder / "photo.jpg")
    classes = len(photos) - 1
    for part, most in (("query", classes // 2), ("gallery", classes * 3)):
        for photo in islice(others, max(2, min(most, len(photos[OTHER]) // 2))):
            _publish(photo, folder / part / CONFUSION / photo.name)


START: Mapping[str, Callable[[Photos, Path, str], None]] = {
    "two-monuments": two_monuments,
    "landmark-capstone": landmark_capstone,
    "query-and-gallery": query_and_gallery,
    "image-search-engine": partial(query_and_gallery, queries=3, gallery=10),
    "seventeen-networks": partial(query_and_gallery, queries=2, gallery=8),
}
"""Page → what writes the files that it starts from: (photos, folder, address of the server)."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of `folder/www` on the loopback, and yield the address."""
    (folder / "www").mkdir(parents=True, exist_ok=True)
    handler = partial(_Quiet, directory=str(folder / "www"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    """Answers without a log."""

    def log_message(self, *_: object) -> None:
        pass


def _publish(photo: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(photo, target)
