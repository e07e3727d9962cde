"""How often the stamp of a photo agency makes photos of different things look like the same place.

    python -m benchmarks.stamps --data ../shared/data --docs docs/reranking.md

The stamps are made for this benchmark, in the styles of several agencies: what an agency draws on
photos that nobody has bought yet. A stamp is scaled with the photo, and its parts keep their places
relative to the middle, the corners and the edges. The two photos of a pair show different things
and have different sizes and shapes. If they are called the same place, only the stamp is the
reason.

The second part searches. Every query has a stamp, and so has every distractor of the gallery; the
photos of the query's own place have none. A first answer that becomes a distractor is changed by
the stamp.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

import veduta
from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish, table
from benchmarks.shared_overlays import PHOTO_SETS, font, photos_of_different_things, with_overlay
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.keypoints import load_extractor
from veduta.search.pair import compare
from veduta.search.verdict import SAME_PLACE

SEARCHED_SET = "scenes"
DISTRACTORS = "_distractors"
RERANKS = {"none": "descriptors alone", "auto": "the default"}

PAIRS = 40
"""Of each agency. There are five agencies."""

SIZES = ((1024, 768), (768, 1024), (1300, 731), (640, 640), (450, 600), (1600, 900), (800, 533))

Stamp = Callable[[ImageDraw.ImageDraw, tuple[int, int], int], None]
"""Draws the stamp of one agency on a layer of a size. The last argument is the photo's number."""


def main(arguments: list[str] | None = None) -> None:
    options = parser("stamps", __doc__)
    add_data_option(options)
    options.add_argument("--pairs", type=int, default=PAIRS, help="of each agency")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, (*PHOTO_SETS, SEARCHED_SET))
    photos = photos_of_different_things(chosen.data)
    if len(photos) < 2 * chosen.pairs:
        options.error(f"{len(photos)} photos are too few for {chosen.pairs} pairs")
    body = [pairs_table(photos, chosen.pairs)]
    body.append(searches_table(chosen.data / SEARCHED_SET, chosen.work / "stamps"))
    publish("stamps", "\n\n".join(body), chosen.docs, section="stamps")


def pairs_table(photos: list[Path], pairs: int) -> str:
    """Return how many pairs of different things with one stamp are called the same place."""
    network, extractor = load_encoder(DEFAULT), load_extractor()
    verified: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for number in range(pairs):
        print(f"pair {number + 1} of {pairs}", flush=True)
        for agency in AGENCIES:
            one, other = (
                np.asarray(stamped(photos[2 * number + which], agency, 2 * number + which))
                for which in (0, 1)
            )
            match = compare(one, other, network, extractor)
            verified[agency] += match.model is not None
            same[agency] += match.verdict == SAME_PLACE
    rows = [[agency, verified[agency], same[agency], pairs] for agency in AGENCIES]
    rows.append(["all", verified.total(), same.total(), pairs * len(AGENCIES)])
    return table(["one stamp, different photos", "verified", "*same place*", "of"], rows)


def searches_table(folder: Path, work: Path) -> str:
    """Return how many first answers of searches stamps change."""
    dataset = open_dataset(folder)
    protocol = retrieval_protocol(dataset)
    photos = dataset.table.to_pylist()
    queries = [photos[number] for number in protocol.queries]
    gallery = [photos[number] for number in protocol.gallery]
    wanted = [photo["label"] for photo in queries]
    first: dict[tuple[bool, str], list[str | None]] = {}
    for has_stamps in (False, True):
        print(f"search with{'' if has_stamps else 'out'} stamps", flush=True)
        home = work / ("stamped" if has_stamps else "plain")
        shutil.rmtree(home, ignore_errors=True)
        for number, photo in enumerate(gallery):
            label = photo["label"] or DISTRACTORS
            file = home / "gallery" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            shown = has_stamps and label == DISTRACTORS
            with_stamp(dataset.root / photo["path"], number, shown=shown).save(file)
        index = veduta.create(home / "index")
        index.add(home / "gallery", labels="folders")
        for number, photo in enumerate(queries):
            pixels = with_stamp(dataset.root / photo["path"], number, shown=has_stamps)
            for rerank in RERANKS:
                (hit,) = index.search(np.asarray(pixels), k=1, rerank=rerank)
                first.setdefault((has_stamps, rerank), []).append(hit.label)
    rows = []
    for rerank, name in RERANKS.items():
        plain, stamps = first[False, rerank], first[True, rerank]
        taken = sum(
            before == label and after == DISTRACTORS
            for before, after, label in zip(plain, stamps, wanted, strict=True)
        )
        right = [sum(map(str.__eq__, map(str, found), wanted)) for found in (plain, stamps)]
        rows.append([name, *right, taken, len(queries)])
    head = [
        f"first answers in {len(gallery)} photos of {dataset.root.name}",
        "right without stamps",
        "right with stamps",
        "right ones that became a distractor",
        "of",
    ]
    return table(head, rows)


def with_stamp(file: Path, number: int, *, shown: bool) -> Image.Image:
    """Return a photo at its own shape, under the stamp of one of the agencies if it is shown."""
    photo = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    if not shown:
        return photo
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    AGENCIES[list(AGENCIES)[number % len(AGENCIES)]](ImageDraw.Draw(layer), photo.size, number)
    return with_overlay(photo, layer)


def stamped(file: Path, agency: str, number: int) -> Image.Image:
    """Return a photo of one of `SIZES` under the stamp of an agency.

    Args:
        file: the photo.
        agency: a key of `AGENCIES`.
        number: of the photo. It decides the size, and some stamps show it.
    """
    size = random.Random(f"{agency} {number}").choice(SIZES)
    photo = ImageOps.fit(Image.open(file).convert("RGB"), size, Image.Resampling.LANCZOS)
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    AGENCIES[agency](ImageDraw.Draw(layer), size, number)
    return with_overlay(photo, layer)


OUTLINE = {"stroke_width": 2, "stroke_fill": (0, 0, 0, 110)}
"""Of words that shall be read on light photos and on dark ones."""


def white(alpha: int) -> tuple[int, int, int, int]:
    return 255, 255, 255, alpha


def letters_and_banner(draw: ImageDraw.ImageDraw, size: tuple[int, int], number: int) -> None:
    """A logo in the middle, single letters near the corners, and a banner with another number."""
    width, height = size
    unit = width / 100
    middle = width / 2, height / 2
    draw.text(middle, "allure", fill=white(180), font=font(14 * unit), anchor="mm", **OUTLINE)
    ring = (
        middle[0] - 24 * unit,
        middle[1] - 8 * unit,
        middle[0] + 24 * unit,
        middle[1] + 8 * unit,
    )
    draw.rounded_rectangle(ring, 6 * unit, outline=white(180), width=max(2, int(unit)))
    for x in (0.14, 0.86):
        for y in (0.16, 0.84):
            draw.text(
                (x * width, y * height), "a", fill=white(130), font=font(9 * unit), anchor="mm"
            )
    top = height - 5 * unit
    draw.rectangle((0, top, width, height), fill=(0, 0, 0, 255))
    draw.text((2 * unit, top + unit), "allure stock photo", fill="white", font=font(2.6 * unit))
    code = f"Image ID: {7919 * (number + 3) % 999983:06X}  www.allure.example"
    draw.text(
        (width - 2 * unit, top + unit), code, fill="white", font=font(2.6 * unit), anchor="ra"
    )


def tiled_words(draw: ImageDraw.ImageDraw, size: tuple[int, int], number: int) -> None:
    """The name of the agency in rows over all of the photo, scaled with the width."""
    width, height = size
    letters = width / 22
    row = 0
    while row * 2.6 * letters < height:
        for column in range(-1, 4):
            left = (column + row % 2 / 2) * width / 3
            place = (left, row * 2.6 * letters)
            draw.text(place, "dreamshot", fill=white(150), font=font(letters), **OUTLINE)
        row += 1


def cross_and_badge(draw: ImageDraw.ImageDraw, size: tuple[int, int], number: int) -> None:
    """Lines from corner to corner, and a badge in the middle, scaled with the shorter side."""
    width, height = size
    line = max(1, min(size) // 250)
    draw.line((0, 0, width, height), fill=white(120), width=line)
    draw.line((0, height, width, 0), fill=white(120), width=line)
    radius = 0.13 * min(size)
    x, y = width / 2, height / 2
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(20, 20, 20, 150))
    for ray in range(8):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.pieslice(box, ray * 45, ray * 45 + 14, fill=white(130))
    draw.text((x, y), "123", fill=white(230), font=font(radius * 0.8), anchor="mm")


def name_and_contributor(draw: ImageDraw.ImageDraw, size: tuple[int, int], number: int) -> None:
    """A dark box with name and photographer at the right, scaled with the longer side."""
    width, height = size
    unit = max(size) / 100
    left, top = width - 34 * unit, height / 2 - 5 * unit
    draw.rectangle((left, top, width, top + 10 * unit), fill=(0, 0, 0, 140))
    draw.text((left + unit, top + unit), "gettable", fill="white", font=font(4.6 * unit))
    draw.text(
        (left + unit, top + 6 * unit), "Credit: M. Example", fill="white", font=font(2 * unit)
    )


def corner_logo(draw: ImageDraw.ImageDraw, size: tuple[int, int], number: int) -> None:
    """A logo in the lower right corner and a line of small print, scaled with the width."""
    width, height = size
    unit = width / 100
    side = 16 * unit
    box = (width - side - 2 * unit, height - side - 2 * unit, width - 2 * unit, height - 2 * unit)
    draw.rounded_rectangle(box, 3 * unit, fill=(230, 60, 40, 255))
    inner = (box[0] + 3 * unit, box[1] + 3 * unit, box[2] - 3 * unit, box[3] - 3 * unit)
    draw.ellipse(inner, fill="white")
    draw.pieslice(inner, 30, 150, fill=(30, 30, 120, 255))
    place = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    draw.text(place, "PIX", fill=(230, 60, 40, 255), font=font(5 * unit), anchor="mm")
    print_place = (2 * unit, height - 3 * unit)
    words = "for preview only - not for resale - pix.example"
    draw.text(print_place, words, fill=white(220), font=font(2 * unit))


AGENCIES: dict[str, Stamp] = {
    "logo, letters in the corners, banner": letters_and_banner,
    "rows of the name": tiled_words,
    "cross and badge": cross_and_badge,
    "box with a name": name_and_contributor,
    "logo in a corner": corner_logo,
}


if __name__ == "__main__":
    main()
