"""How often photos of different things with the same overlay are called the same place.

    python -m benchmarks.shared_overlays --data ../shared/data --docs docs/reranking.md

An overlay, for example a logo or a frame, is drawn at the same position on two photos that show
different things. If they are called the same place, only the overlay is the reason. The benchmark
also has pairs of a photo and a copy that is changed strongly. A rule that rejects overlays must not
reject these.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish, table
from veduta.datasets import open_dataset
from veduta.encoders import DEFAULT, load_encoder
from veduta.keypoints import load_extractor
from veduta.search.pair import compare
from veduta.search.verdict import SAME_PLACE

PHOTO_SETS = ("landmarks30", "objects20")
SIZE = 1024, 768
SEED = 7
PAIRS = 30

Change = Callable[[Image.Image, random.Random], Image.Image]
DrawOverlay = Callable[[random.Random], Image.Image]
"""Draws a transparent layer of `SIZE`."""


def main(arguments: list[str] | None = None) -> None:
    options = parser("shared_overlays", __doc__)
    add_data_option(options)
    options.add_argument("--pairs", type=int, default=PAIRS)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, PHOTO_SETS)
    photos = photos_of_different_things(chosen.data)
    if len(photos) < 2 * chosen.pairs:
        options.error(f"{len(photos)} photos are too few for {chosen.pairs} pairs")
    network, extractor = load_encoder(DEFAULT), load_extractor()
    verified: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for number in range(chosen.pairs):
        print(f"pair {number + 1} of {chosen.pairs}", flush=True)
        one, other = photos[2 * number : 2 * number + 2]
        for kind, a, b in pairs_of(one, other, number):
            match = compare(np.asarray(a), np.asarray(b), network, extractor)
            verified[kind] += match.model is not None
            same[kind] += match.verdict == SAME_PLACE
    publish("shared_overlays", "\n\n".join(tables(verified, same, chosen.pairs)), chosen.docs)


def photos_of_different_things(data: Path) -> list[Path]:
    """Return photos no two of which have the same label, in a fixed random order."""
    files = []
    for name in PHOTO_SETS:
        dataset = open_dataset(data / name)
        labels: set[str] = set()
        for row in dataset.table.to_pylist():
            label = row["label"]
            if not label or label not in labels:
                files.append(dataset.root / row["path"])
            labels.add(label or "")
    random.Random(SEED).shuffle(files)
    return files


def pairs_of(one: Path, other: Path, number: int) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    """Yield (kind, photo, photo): both photos with each overlay, then the first with each copy."""
    a, b = (
        ImageOps.fit(Image.open(path).convert("RGB"), SIZE, Image.Resampling.LANCZOS)
        for path in (one, other)
    )
    for kind, draw_overlay in OVERLAYS.items():
        layer = draw_overlay(random.Random(f"{SEED} {number} {kind}"))
        yield kind, with_overlay(a, layer), with_overlay(b, layer)
    for kind, change in COPIES.items():
        yield kind, a, change(a, random.Random(f"{SEED} {number} {kind}"))


def tables(verified: Counter[str], same: Counter[str], pairs: int) -> Sequence[str]:
    """Return how many pairs of each kind have a geometric model and are called the same place."""
    bodies = []
    for head, kinds in (
        ("one overlay, different photos", OVERLAYS),
        ("one photo, a copy of it", COPIES),
    ):
        rows = [[kind, verified[kind], same[kind], pairs] for kind in kinds]
        sums = [sum(count[kind] for kind in kinds) for count in (verified, same)]
        rows.append(["all", *sums, pairs * len(kinds)])
        bodies.append(table([head, "verified", "*same place*", "of"], rows))
    return bodies


# --- overlays: transparent layers that are drawn on a photo --------------------------------------


def with_overlay(photo: Image.Image, layer: Image.Image) -> Image.Image:
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def empty_layer(size: tuple[int, int] = SIZE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    return layer, ImageDraw.Draw(layer)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(10, size))


def logo(share: float) -> DrawOverlay:
    """Return an overlay of a badge with a ring, rays and a name; `share` of the photo's width."""

    def draw_logo(rng: random.Random) -> Image.Image:
        layer, draw = empty_layer()
        side = share * SIZE[0]
        left, top = rng.uniform(20, SIZE[0] - side - 20), rng.uniform(20, SIZE[1] - side - 20)
        box = (left, top, left + side, top + side)
        draw.ellipse(box, fill=(200, 30, 40, 255), outline="white", width=max(2, int(side / 30)))
        for ray in range(rng.randint(7, 13)):
            draw.pieslice(box, ray * 40, ray * 40 + 12, fill=(250, 220, 60, 255))
        middle = (left + side / 2, top + side / 2)
        draw.text(middle, "ACME", fill="black", font=font(side / 4), anchor="mm")
        return layer

    return draw_logo


def banner(_: random.Random) -> Image.Image:
    layer, draw = empty_layer()
    height = SIZE[1] * 0.15
    lines = {0.0: "GREETINGS FROM THE CITY", SIZE[1] - height: "Travel magazine - issue 42 - May"}
    for top, words in lines.items():
        draw.rectangle((0, top, SIZE[0], top + height), fill=(20, 20, 90, 255))
        middle = (SIZE[0] / 2, top + height / 2)
        draw.text(middle, words, fill="white", font=font(height / 2), anchor="mm")
    return layer


def tiled(rng: random.Random) -> Image.Image:
    words = rng.choice(("STOCKPHOTO", "(c) an agency", "PREVIEW ONLY"))
    size, alpha = rng.randint(24, 60), rng.randint(60, 160)
    layer, draw = empty_layer((2 * SIZE[0], 2 * SIZE[1]))
    for row, top in enumerate(range(0, layer.height, 3 * size)):
        for left in range(row % 2 * 3 * size, layer.width, int(size * len(words) * 0.8)):
            draw.text((left, top), words, fill=(255, 255, 255, alpha), font=font(size))
    rotated = layer.rotate(rng.choice((-30, 30, 45)), resample=Image.Resampling.BICUBIC)
    left, top = SIZE[0] // 2, SIZE[1] // 2
    return rotated.crop((left, top, left + SIZE[0], top + SIZE[1]))


def diagonal(rng: random.Random) -> Image.Image:
    layer, draw = empty_layer()
    size, alpha = rng.randint(SIZE[1] // 7, SIZE[1] // 5), rng.randint(90, 200)
    middle = SIZE[0] / 2, SIZE[1] / 2
    words = rng.choice(("SAMPLE", "DRAFT COPY", "PREVIEW"))
    draw.text(middle, words, fill=(255, 255, 255, alpha), font=font(size), anchor="mm")
    below = middle[0], middle[1] + size
    site = "www.stockphotos.example"
    draw.text(below, site, fill=(255, 255, 255, 200), font=font(size / 3), anchor="mm")
    return layer.rotate(rng.choice((25, 35)), resample=Image.Resampling.BICUBIC)


def grid(rng: random.Random) -> Image.Image:
    layer, draw = empty_layer()
    white = (255, 255, 255, rng.randint(80, 160))
    for left in range(-SIZE[1], SIZE[0], 80):
        draw.line((left, 0, left + SIZE[1], SIZE[1]), fill=white, width=2)
        draw.line((left + SIZE[1], 0, left, SIZE[1]), fill=white, width=2)
    middle = SIZE[0] / 2, SIZE[1] / 2
    draw.text(middle, "agency", fill=white, font=font(SIZE[1] / 5), anchor="mm")
    return layer


def frame(rng: random.Random) -> Image.Image:
    layer, draw = empty_layer()
    side = int(SIZE[1] * rng.uniform(0.06, 0.12))
    colour = rng.randint(150, 255), rng.randint(100, 200), 60, 255
    corners = [(left, top) for left in range(0, SIZE[0], side) for top in (0, SIZE[1] - side)]
    corners += [(left, top) for top in range(0, SIZE[1], side) for left in (0, SIZE[0] - side)]
    for left, top in corners:
        box = (left, top, left + side, top + side)
        draw.rectangle(box, fill=colour, outline=(40, 20, 0, 255), width=3)
        inner = (left + side // 4, top + side // 4, left + side * 3 // 4, top + side * 3 // 4)
        draw.ellipse(inner, fill=(80, 0, 0, 255))
        draw.line(box, fill="white", width=3)
    return layer


def greeting(rng: random.Random) -> Image.Image:
    layer, draw = empty_layer()
    name = rng.choice(("DEAR FRIEND", "GRANDMA", "LITTLE ONE"))
    for line, words in enumerate(("HAPPY", "BIRTHDAY", name), 1):
        draw.text(
            (SIZE[0] / 2, SIZE[1] * line / 4),
            words,
            fill=(255, 230, 0, 255),
            font=font(SIZE[1] / 6),
            stroke_width=4,
            stroke_fill="black",
            anchor="mm",
        )
    return layer


OVERLAYS: dict[str, DrawOverlay] = {
    "logo, 12 % of the width": logo(0.12),
    "logo, 30 % of the width": logo(0.3),
    "banners above and below": banner,
    "tiled words of an agency": tiled,
    "large words, diagonal": diagonal,
    "grid with a name": grid,
    "ornamented frame": frame,
    "greeting over all of it": greeting,
}


# --- copies --------------------------------------------------------------------------------------


def compressed(photo: Image.Image, _: random.Random) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=8)
    return Image.open(file).convert("RGB")


def noisy(photo: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 40, (*SIZE[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8))


def under(draw_overlay: DrawOverlay) -> Change:
    """Return a change that draws an overlay on the copy alone."""
    return lambda photo, rng: with_overlay(photo, draw_overlay(rng))


COPIES: dict[str, Change] = {
    "a quarter of the size": lambda photo, _: photo.resize((SIZE[0] // 4, SIZE[1] // 4)),
    "cut to 64 %": lambda photo, _: ImageOps.crop(photo, (102, 77, 102, 77)),
    "JPEG of quality 8": compressed,
    "blurred": lambda photo, _: photo.filter(ImageFilter.GaussianBlur(4)),
    "darkened": lambda photo, _: ImageEnhance.Brightness(photo).enhance(0.3),
    "noisy": noisy,
    "under tiled words": under(tiled),
    "under a frame": under(frame),
    "under a greeting": under(greeting),
}


if __name__ == "__main__":
    main()
