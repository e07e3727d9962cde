"""Things that fill a small part of a photo: the default search, and one with the regions of photos.

    python -m benchmarks.regions --data ../shared/data --docs docs/regions.md

Two kinds of tests are made from labelled photos, with fixed seeds:

- *pasted*: a gallery photo of each place is pasted into a distractor, on 5, 10 or 20 % of its area.
  The queries are other photos of the places. The gallery is these pictures and the other
  distractors.
- *cropped*: the queries are cropped to a detail with 10 or 25 % of their area. The gallery is as it
  is.

*whole* are the same queries and the same gallery with nothing pasted or cropped. A search without
regions is made with the same index and the same query, without what compares it with regions. No
graph is made, since it would link the pasted pictures with the photos in them. At most 50 queries
of a set are taken, at random with a fixed seed.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.labelled_sets import add_data_option, corridor_positives, require_sets
from benchmarks.report import MedianAndRange, parser, publish, table
from veduta import photos
from veduta.datasets import Dataset, open_dataset
from veduta.encoders import DEFAULT, load_encoder
from veduta.encoders.region_codes import codes_of
from veduta.encoders.region_descriptors import RegionEncoder
from veduta.index import create_index, open_snapshot, update_index
from veduta.keypoints import Extractor, load_extractor
from veduta.photos.orientation import UPRIGHT
from veduta.search import Engine, Hit, SearchOptions

SETS = {"scenes": "chosen on it", "landmarks30": "held out", "same_place": "held out"}
PASTED_SHARES = (0.05, 0.1, 0.2)
CROPPED_SHARES = (0.25, 0.1)
LONG_SIDE = 960
"""Of a picture with a pasted photo, in pixels."""
MIN_KEYPOINTS = 100
TRIES = 20
MAX_QUERIES = 50
QUERY_SEED = 0
TIMED_PHOTOS = 40
DISTRACTOR = "distractor"
WHOLE = "whole"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("regions", __doc__)
    add_data_option(options)
    options.add_argument("--encoder", default=DEFAULT, help="of the index")
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, chosen.sets)
    rows, costs = [], []
    for name in chosen.sets:
        measured = measure(chosen.data / name, chosen.work / f"regions-{name}", chosen.encoder)
        for test, tested in measured.tests.items():
            figures = [tested.without.figures(), tested.with_regions.figures()]
            rows.append([f"{name}, {test}", SETS[name], len(tested.without.ranks), *figures])
            print(*rows[-1], sep=" | ", flush=True)
        costs.append([name, measured.photos, *measured.cost])
        print(*costs[-1], sep=" | ", flush=True)
    head = ["set, queries", "constants", "number", "without regions", "with regions"]
    cost_head = ["set", "photos", "ms a query without", "ms with", "ms to encode", "ms with"]
    body = "\n\n".join(
        [
            "Recall@1 / recall@10 / mAP of searches that verify by geometry, without the graph. "
            f"Each line has the same index and the same queries, at most {MAX_QUERIES} of a set at "
            "random.",
            table(head, rows),
            f"The encoder is {chosen.encoder}. Times are processor times, the median and the "
            "range. That of a search counts the encoding of the query; that of a photo is for its "
            f"descriptor alone, in turns, on {TIMED_PHOTOS} photos. The codes of the regions take "
            f"{region_bytes(chosen.encoder):,} bytes a photo.",
            table(cost_head, costs),
        ]
    )
    publish("regions", body, chosen.docs)


def region_bytes(encoder: str) -> int:
    facts = RegionEncoder(load_encoder(encoder)).facts
    return facts["count"] * facts["bytes"]


# --- what is found --------------------------------------------------------------------------------


class Ranks:
    """The rankings of some queries."""

    def __init__(self) -> None:
        self.ranks: list[NDArray[np.intp]] = []

    def add(self, hits: Sequence[Hit], positives: set[str]) -> None:
        """Note at which ranks, from 1, the positives are. All photos are ranked."""
        found = [rank for rank, hit in enumerate(hits, 1) if hit.path in positives]
        if len(found) != len(positives):
            raise ValueError(f"{len(found)} of {len(positives)} positives are ranked")
        self.ranks.append(np.array(found))

    def figures(self) -> str:
        """Return recall@1, recall@10 and mAP."""
        first = np.array([ranks[0] for ranks in self.ranks])
        precision = [np.mean(np.arange(1, len(ranks) + 1) / ranks) for ranks in self.ranks]
        return f"{np.mean(first <= 1):.3f} / {np.mean(first <= 10):.3f} / {np.mean(precision):.3f}"


@dataclass(frozen=True, slots=True)
class Tested:
    """The same queries without and with regions."""

    without: Ranks
    with_regions: Ranks


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one set."""

    tests: dict[str, Tested]
    photos: int
    cost: list[MedianAndRange]


def measure(folder: Path, work: Path, encoder_name: str) -> Measured:
    dataset = open_dataset(folder.resolve())
    encoder, extractor = load_encoder(encoder_name), load_extractor()
    tags = make_collection(dataset, work)
    index = work / f"index-{encoder_name}"
    if not index.exists():
        create_index(index, encoder, extractor, regions=True)
    collection = [work / "pasted", dataset.root]
    update_index(
        index,
        [one for one in collection if one.is_dir()],
        encoder,
        extractor,
        labels=write_labels(work, tags),
        graph=False,
        on_progress=lambda state: print(f"{state.done} of {state.total}", end="\r", flush=True),
    )
    engine = Engine(index, encoder=encoder)
    tests: dict[str, Tested] = defaultdict(lambda: Tested(Ranks(), Ranks()))
    seconds: dict[bool, list[float]] = defaultdict(list)
    count = open_snapshot(index).photos
    for query in queries(dataset, extractor, with_pasted=(work / "pasted").is_dir()):
        encoded = engine.encode_query([query.pixels])
        for test, gallery in query.galleries.items():
            of_place = {path for path, tag in tags.items() if tag == f"{gallery}/{query.label}"}
            positives = query.positives or of_place
            if not positives:
                continue
            everything = SearchOptions(k=count, labels=tuple(labels_of(tags, gallery)))
            without = engine.search(replace(encoded, in_regions=None), everything)
            with_regions = engine.search(encoded, everything)
            tests[test].without.add(without, positives)
            tests[test].with_regions.add(with_regions, positives)
        for has_regions in (False, True) if WHOLE in query.galleries else ():
            seconds[has_regions].append(time_search(engine, query.pixels, has_regions))
    cost = [MedianAndRange.of(seconds[has_regions]) for has_regions in (False, True)]
    cost += time_encoding(dataset, encoder_name)
    return Measured(dict(tests), count, cost)


def time_search(engine: Engine, pixels: NDArray[np.uint8], has_regions: bool) -> float:
    """Return the processor time of a search in ms. Without regions, it encodes nothing for them."""
    started = time.process_time()
    views = engine.query_views([pixels])
    if not has_regions:
        views._region_encoder = None
    engine.search(views.encoded(UPRIGHT), SearchOptions())
    return 1000 * (time.process_time() - started)


def time_encoding(dataset: Dataset, encoder_name: str) -> list[MedianAndRange]:
    """Return the processor time to describe a photo in ms, without and with its regions."""
    encoder = load_encoder(encoder_name)
    regions = RegionEncoder(encoder)
    seconds: dict[str, list[float]] = defaultdict(list)
    for file in dataset.files[:TIMED_PHOTOS]:
        prepared = encoder.prepare(photos.load(file, at_least=encoder.long_side).pixels)
        started = time.process_time()
        encoder.encode([prepared])
        middle = time.process_time()
        codes_of(regions.describe(prepared)[1])
        seconds["without"].append(1000 * (middle - started))
        seconds["with"].append(1000 * (time.process_time() - middle))
    return [MedianAndRange.of(seconds[kind]) for kind in ("without", "with")]


# --- the collection -------------------------------------------------------------------------------


def make_collection(dataset: Dataset, work: Path) -> dict[str, str]:
    """Write the pasted pictures, and return a tag for each photo of the collection.

    Returns:
        Path → "distractor", or the gallery that the photo belongs to and its label, such as
        "gallery/taj_mahal" or "pasted 10 %/taj_mahal".
    """
    work.mkdir(parents=True, exist_ok=True)
    tags: dict[str, str] = {}
    first_of_label: dict[str, Path] = {}
    distractors = []
    for file, label, split in zip(dataset.files, dataset.labels, dataset.splits, strict=True):
        if split == "distractor":
            tags[str(file)] = DISTRACTOR
            distractors.append(file)
        elif split == "gallery":
            tags[str(file)] = f"gallery/{label}"
            first_of_label.setdefault(str(label), file)
    if len(distractors) < len(first_of_label):
        return tags
    backgrounds = np.random.default_rng(7).permutation(len(distractors))
    for share in PASTED_SHARES:
        folder = work / "pasted" / f"{share:.2f}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, (label, file) in enumerate(sorted(first_of_label.items())):
            target = folder / f"{label}.png"
            if not target.exists():
                background = distractors[backgrounds[number]]
                rng = np.random.default_rng([int(100 * share), number])
                draft = target.with_suffix(".draft")
                pasted(file, background, share, rng).save(draft, format="png")
                draft.replace(target)
            tags[str(target)] = f"pasted {share:.0%}/{label}"
    return tags


def labels_of(tags: dict[str, str], gallery: str) -> list[str]:
    """Return the labels of a gallery and of its distractors."""
    own = {tag for tag in tags.values() if tag.startswith(f"{gallery}/")}
    return [*sorted(own), DISTRACTOR]


def write_labels(work: Path, tags: dict[str, str]) -> Path:
    file = work / "labels.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["path", "label"])
        writer.writerows(tags.items())
    return file


def pasted(photo: Path, background: Path, share: float, rng: np.random.Generator) -> Image.Image:
    """Return a picture in which a photo covers a share of the area."""
    with Image.open(background) as opened:
        whole = opened.convert("RGB")
    factor = LONG_SIDE / max(whole.size)
    whole = whole.resize((round(whole.width * factor), round(whole.height * factor)))
    with Image.open(photo) as opened:
        thing = opened.convert("RGB")
    scale = np.sqrt(share * whole.width * whole.height / (thing.width * thing.height))
    scale = min(scale, whole.width / thing.width, whole.height / thing.height)
    thing = thing.resize((int(thing.width * scale), int(thing.height * scale)))
    x = int(rng.integers(0, whole.width - thing.width + 1))
    y = int(rng.integers(0, whole.height - thing.height + 1))
    whole.paste(thing, (x, y))
    return whole


# --- the queries ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        galleries: name of a test → the gallery that is searched.
        label: of the right photos.
        positives: their paths, if labels do not tell them.
    """

    pixels: NDArray[np.uint8]
    galleries: dict[str, str]
    label: str
    positives: set[str]


def queries(dataset: Dataset, extractor: Extractor, *, with_pasted: bool) -> Iterator[Query]:
    positives = corridor_positives(dataset.root)
    rows = [row for row, split in enumerate(dataset.splits) if split == "query"]
    chosen = np.random.default_rng(QUERY_SEED).permutation(rows)[:MAX_QUERIES]
    pasted_galleries = [f"pasted {share:.0%}" for share in PASTED_SHARES if with_pasted]
    for row in sorted(chosen.tolist()):
        file, label = dataset.files[row], str(dataset.labels[row])
        known = positives.get(file.relative_to(dataset.root).as_posix(), set())
        own = {str(dataset.root / path) for path in known}
        pixels = photos.load(file).pixels
        galleries = {WHOLE: "gallery", **{name: name for name in pasted_galleries}}
        yield Query(pixels, galleries, label, own)
        for share in CROPPED_SHARES:
            detail = cropped(pixels, share, extractor, np.random.default_rng(row))
            yield Query(detail, {f"cropped to {share:.0%}": "gallery"}, label, own)


def cropped(
    pixels: NDArray[np.uint8], share: float, extractor: Extractor, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a detail with enough keypoints, or the one with the most of some."""
    height, width = (max(1, int(side * share**0.5)) for side in pixels.shape[:2])
    best, most = pixels, -1
    for _ in range(TRIES):
        y = int(rng.integers(0, pixels.shape[0] - height + 1))
        x = int(rng.integers(0, pixels.shape[1] - width + 1))
        detail = np.ascontiguousarray(pixels[y : y + height, x : x + width])
        count = len(extractor.extract(detail, width, height))
        if count > most:
            best, most = detail, count
        if most >= MIN_KEYPOINTS:
            break
    return best


if __name__ == "__main__":
    main()
