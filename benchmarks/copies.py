"""Copies of photos: how many are found, beside perceptual hashes, and whether a split leaks.

messy has real copies from the Web; its manifest is the truth. The hashes are those of imagededup
(pHash: the median of 8 × 8 DCT coefficients of 32 × 32 luma; dHash: 9 × 8 luma), each at the
threshold that is best on messy itself. Into landmarks30 go copies made here, 30 % of its photos; no
threshold was chosen on either set.
"""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from benchmarks.report import number, parser, publish, table, verdict
from veduta.curate.copies import copies_among
from veduta.curate.described_photos import describe_photos
from veduta.curate.groups import copy_groups
from veduta.curate.splitting import bound_together, split
from veduta.datasets import open_dataset
from veduta.errors import PhotoError
from veduta.photos import load

Pairs = set[tuple[int, int]]
PARTS = {"train": 0.8, "val": 0.1, "test": 0.1}
SEEDS = range(5)
# What the manifest of messy does not say: the same photo, seen by eye.
UNTOLD = (
    ("food15", "food16"),
    ("ukbench00120", "files/dedup/data/alpha_channel_image.png"),
    ("files/food/satay/001.png", "files/food/satay/006.png"),
)


def main(arguments: list[str] | None = None) -> None:
    options = parser("copies", str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = options.parse_args(arguments)
    for name in ("messy", "landmarks30"):
        if not (chosen.data / name).is_dir():
            options.error(f"{chosen.data} has no {name}")
    body = [messy(chosen.data / "messy", chosen.work), *leaks(chosen.data, chosen.work)]
    publish("copies", "\n\n".join(body), chosen.docs)


def messy(folder: Path, work: Path) -> str:
    """The table of pairs found in messy."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    files = [folder / row["path"] for row in rows]
    photos = describe_photos(files, folder=work / "copies-messy")
    known = {row["path"]: row["dup_group"] or row["path"] for row in rows}
    told = within([known[row["path"]] for row in rows], photos.problems)
    better = dict(known)
    for one, other in UNTOLD:
        a, b = known.get(one, one), known.get(other, other)
        better = {path: a if group == b else group for path, group in better.items()}
    seen = within([better[row["path"]] for row in rows], photos.problems)
    ours = {
        pair
        for group in copy_groups(copies_among(photos), len(files))
        for pair in combinations(group, 2)
    }
    lines: list[list[object]] = [["Veduta", "", *scores(ours, told), *scores(ours, seen)]]
    for name, hashed in (("pHash", phash), ("dHash", dhash)):
        hashes = {at: hashed(luma(files[at])) for at in range(len(files)) if readable(files[at])}
        bits = {
            (a, b): int((hashes[a] != hashes[b]).sum()) for a, b in combinations(sorted(hashes), 2)
        }
        best = max(range(33), key=lambda most: f1(near(bits, most), seen))
        sure = [most for most in range(33) if precision(near(bits, most), seen) >= 0.98]
        for most, what in ((best, "best F1"), (max(sure, default=0), "precision ≥ 0.98")):
            found = near(bits, most)
            words = f"≤ {most} bits ({what})"
            lines.append([name, words, *scores(found, told), *scores(found, seen)])
    recall, exact = (float(value) for value in scores(ours, seen))
    head = ["", "threshold", "recall", "precision", "recall, corrected", "precision, corrected"]
    return (
        f"messy: {len(told)} pairs of {len(files) - len(photos.problems)} photos by the manifest, "
        f"{len(seen)} with three groups that it does not know.\n\n{table(head, lines)}\n\n"
        f"Corrected: recall {verdict(recall, 0.95, at_least=True)}, precision "
        f"{verdict(exact, 0.98, at_least=True)}."
    )


def leaks(data: Path, work: Path) -> list[str]:
    """What is found of the copies added to landmarks30, and what a split of both leaks."""
    dataset = open_dataset(data / "landmarks30")
    paths = dataset.table["path"].to_pylist()
    labels = dataset.table["label"].to_pylist()
    originals = [dataset.root / path for path in paths]
    made = add_copies(originals, work / "copies-landmarks30-photos", round(0.3 * len(originals)))
    files = [*originals, *(file for _, file, _ in made)]
    truth = {(at, len(originals) + n): kind for n, (at, _, kind) in enumerate(made)}
    photos = describe_photos(files, folder=work / "copies-landmarks30")
    pairs = copies_among(photos)
    joined = bound_together(len(files), pairs)
    found = Counter(kind for (a, b), kind in truth.items() if joined[a] == joined[b])
    total = Counter(truth.values())
    names = [*paths, *(file.name for _, file, _ in made)]
    both = [*labels, *(labels[at] for at, _, _ in made)]
    apart = {"bound": joined, "not bound": list(range(len(files)))}
    leaking: dict[str, list[int]] = defaultdict(list)
    wanted: list[int] = []
    for how, bound in apart.items():
        for seed in SEEDS:
            chosen = split(names, both, bound, PARTS, seed=seed)
            lost = [kind for (a, b), kind in truth.items() if chosen[a] != chosen[b]]
            leaking[how].append(len(lost))
            if how == "bound":
                wanted.append(sum(kind in ASKED for kind in lost))
    own = [pair for pair in pairs if pair.second < len(originals)]
    return [
        table(
            ["copies added to landmarks30", "found", "of"],
            [[kind, found[kind], total[kind]] for kind in KINDS],
        ),
        f"A split of both into {', '.join(f'{n} {s:g}' for n, s in PARTS.items())}, "
        f"{len(SEEDS)} seeds: cut, mirrored and re-encoded copies across parts "
        f"{number(max(wanted))} at most ({verdict(max(wanted), 0, at_least=False)}), of all kinds "
        f"{max(leaking['bound'])} at most; without binding copies together "
        f"{min(leaking['not bound'])} to {max(leaking['not bound'])}.",
        f"landmarks30 itself, cleaned of near-duplicates by its makers: {len(own)} pairs.",
    ]


def within(of: Sequence[str], left_out: object) -> Pairs:
    members: dict[str, list[int]] = defaultdict(list)
    for at, group in enumerate(of):
        if at not in left_out:  # type: ignore[operator]
            members[group].append(at)
    return {pair for group in members.values() for pair in combinations(group, 2)}


def near(bits: dict[tuple[int, int], int], most: int) -> Pairs:
    return {pair for pair, different in bits.items() if different <= most}


def precision(found: Pairs, truth: Pairs) -> float:
    return len(found & truth) / len(found) if found else 1.0


def f1(found: Pairs, truth: Pairs) -> float:
    return 2 * len(found & truth) / (len(found) + len(truth))


def scores(found: Pairs, truth: Pairs) -> tuple[str, str]:
    return f"{len(found & truth) / len(truth):.3f}", f"{precision(found, truth):.3f}"


def readable(file: Path) -> bool:
    try:
        load(file)
    except PhotoError:
        return False
    return True


def luma(file: Path) -> Image.Image:
    return Image.fromarray(load(file).pixels).convert("L")


def phash(grey: Image.Image) -> np.ndarray:
    import cv2

    small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return np.asarray(low >= np.median(low[1:]))


def dhash(grey: Image.Image) -> np.ndarray:
    small = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


def add_copies(
    originals: Sequence[Path], folder: Path, how_many: int
) -> list[tuple[int, Path, str]]:
    """Write copies of some photos, each kind as often; return (place, file, kind)."""
    rng = random.Random(7)
    places = rng.sample(range(len(originals)), how_many)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for n, at in enumerate(places):
        kind = list(KINDS)[n % len(KINDS)]
        file = folder / f"{n:04}-{kind.replace(' ', '-')}.jpg"
        copy = KINDS[kind](Image.open(originals[at]).convert("RGB"), rng)
        quality = rng.choice((40, 60, 85))
        if not file.exists():
            copy.save(file, quality=quality)
        made.append((at, file, kind))
    return made


def cut(share: float) -> Callable[[Image.Image, random.Random], Image.Image]:
    def made(photo: Image.Image, rng: random.Random) -> Image.Image:
        width, height = photo.size
        wide = min(width, round(width * share**0.5 * float(np.exp(rng.uniform(-0.15, 0.15)))))
        high = min(height, round(width * height * share / wide))
        left, top = rng.randint(0, width - wide), rng.randint(0, height - high)
        return photo.crop((left, top, left + wide, top + high))

    return made


def turned(photo: Image.Image, rng: random.Random) -> Image.Image:
    degrees = rng.choice((-5, -3, 3, 5))
    width, height = photo.size
    lost = int(np.ceil(max(width, height) * np.tan(np.radians(abs(degrees))) / 2)) + 1
    whole = photo.rotate(degrees, resample=Image.Resampling.BICUBIC)
    return whole.crop((lost, lost, width - lost, height - lost))


def marked(photo: Image.Image, rng: random.Random) -> Image.Image:
    over = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(over)
    font = ImageFont.load_default(size=max(10, photo.width // 9))
    for line in (1, 4, 7):
        place = rng.randint(0, photo.width // 3), photo.height * line // 10
        draw.text(place, "(c) SAMPLE PHOTO", fill=(255, 255, 255, 130), font=font)
    return Image.alpha_composite(photo.convert("RGBA"), over).convert("RGB")


def recoloured(photo: Image.Image, rng: random.Random) -> Image.Image:
    hue, saturation, value = photo.convert("HSV").split()
    step = rng.randint(15, 40)
    hue = hue.point([(at + step) % 256 for at in range(256)])
    other = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    other = ImageEnhance.Brightness(other).enhance(rng.choice((0.75, 1.25)))
    return ImageEnhance.Contrast(other).enhance(rng.choice((0.75, 1.3)))


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "re-encoded": lambda photo, _: photo,
    "half the size": lambda photo, _: photo.resize((photo.width // 2, photo.height // 2)),
    "mirrored": lambda photo, _: ImageOps.mirror(photo),
    "cut to 75 %": cut(0.75),
    "cut to 50 %": cut(0.5),
    "mirrored, cut to 60 %": lambda photo, rng: ImageOps.mirror(cut(0.6)(photo, rng)),
    "turned by 3 or 5°": turned,
    "watermarked": marked,
    "recoloured": recoloured,
    "grey": lambda photo, _: photo.convert("L").convert("RGB"),
    "blurred": lambda photo, _: photo.filter(ImageFilter.GaussianBlur(photo.width / 200)),
    "framed": lambda photo, _: ImageOps.expand(photo, border=photo.width // 12, fill="white"),
}
ASKED = {"re-encoded", "mirrored", "cut to 75 %", "cut to 50 %", "mirrored, cut to 60 %"}


if __name__ == "__main__":
    main()
