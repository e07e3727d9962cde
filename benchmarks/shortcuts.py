"""What the two shortcuts of verification leave out, and what is lost by it.

    python -m benchmarks.shortcuts --data ../shared/data --docs docs/reranking.md

No model is looked for in pairs with hardly any consistent match. And a query in another orientation
gets a full answer only if half of its keypoints agree with a photo. Both are judged by what the
full verification says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.labelled_sets import SETS, add_data_option, present_sets
from benchmarks.report import parser, publish, table
from veduta import photos
from veduta.datasets import open_dataset, retrieval_protocol
from veduta.encoders import DEFAULT, load_encoder
from veduta.evaluation.dataset_index import index_dataset
from veduta.index import set_projection
from veduta.keypoints import Extractor, Keypoints, Verification, load_extractor, verify
from veduta.keypoints.verification import MIN_CONSISTENT_MATCHES
from veduta.photos.orientation import Orientation
from veduta.search import VERIFIED_PHOTOS, exact
from veduta.search.promising import is_promising
from veduta.search.query import EncodedQuery
from veduta.search.reranking import Gallery, open_gallery

ALL_SETS = (*SETS, "scenes")
PHOTOS_OF_A_SET = 100
LEAST_CONSISTENT = (4, MIN_CONSISTENT_MATCHES, 12, 20)
MIRRORED = Orientation(mirrored=True)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("shortcuts", __doc__)
    add_data_option(options)
    options.add_argument("--photos", type=int, default=PHOTOS_OF_A_SET, help="of each set")
    chosen = options.parse_args(arguments)
    judged = {
        name: list(judged_photos(chosen.data / name, chosen.photos))
        for name in present_sets(options, chosen.data, ALL_SETS)
    }
    publish("shortcuts", page(judged), chosen.docs)


@dataclass(frozen=True, slots=True)
class JudgedPhoto:
    """A photo as a query, without itself in the gallery.

    Attributes:
        upright: its full verification with each of its nearest photos.
        mirrored: that of its mirror image.
        may_agree: whether it is promising.
        mirrored_may_agree: whether its mirror image is.
    """

    upright: list[Verification]
    mirrored: list[Verification]
    may_agree: bool
    mirrored_may_agree: bool


def judged_photos(folder: Path, count: int) -> Iterator[JudgedPhoto]:
    """Yield some photos of the gallery of a set."""
    network, extractor = load_encoder(DEFAULT), load_extractor()
    dataset = open_dataset(folder)
    indexed = index_dataset(dataset, retrieval_protocol, network, extractor, None)
    set_projection(indexed.gallery_index, None)
    gallery = open_gallery(indexed.gallery_index)
    rows = indexed.gallery_rows(gallery.snapshot)
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    for position in chosen.tolist():
        file = dataset.files[int(indexed.protocol.gallery[position])]
        yield judge(gallery, int(rows[position]), mirror_image(extractor, file))


def mirror_image(extractor: Extractor, file: Path) -> Keypoints:
    photo = photos.load(file, at_least=extractor.long_side)
    return extractor.extract(MIRRORED.apply(photo.pixels), photo.width, photo.height)


def judge(gallery: Gallery, row: int, mirrored: Keypoints) -> JudgedPhoto:
    stored = gallery.keypoints
    assert stored is not None, "this index is made with keypoints"
    others = np.arange(gallery.snapshot.photos) != row
    descriptor = gallery.snapshot.take(np.array([row]))[0]
    near = exact.nearest(gallery.snapshot, descriptor, VERIFIED_PHOTOS, others)[0].tolist()

    def judged(keypoints: Keypoints) -> tuple[list[Verification], bool]:
        verified = [full_verification(gallery, keypoints, stored.read(one)) for one in near]
        return verified, is_promising(gallery, EncodedQuery(descriptor, (keypoints,)), near)

    upright, may_agree = judged(stored.read(row))
    of_mirrored, mirrored_may_agree = judged(mirrored)
    return JudgedPhoto(upright, of_mirrored, may_agree, mirrored_may_agree)


def full_verification(gallery: Gallery, query: Keypoints, other: Keypoints) -> Verification:
    assert gallery.matching is not None, "this index is made with keypoints"
    return verify(query, other, gallery.matching.pairs(query, other), min_consistent=0)


def page(judged: dict[str, list[JudgedPhoto]]) -> str:
    pairs = {
        name: [one for photo in found for one in photo.upright] for name, found in judged.items()
    }
    queries = {
        name: [(photo.upright, photo.may_agree) for photo in found]
        + [(photo.mirrored, photo.mirrored_may_agree) for photo in found]
        for name, found in judged.items()
    }
    return "\n\n".join(
        [
            f"Each photo is paired with its {VERIFIED_PHOTOS} nearest photos by descriptor. "
            "Without the shortcut, a pair with so few consistent matches may have a model.",
            table(
                ["set", "pairs", "fewer consistent matches than", "share", "of them with a model"],
                [row for name, found in pairs.items() for row in pair_rows(name, found)],
            ),
            "The photos as they are and mirrored, as queries: which of them are promising.",
            table(
                [
                    "set",
                    "verified with a photo",
                    "of them promising",
                    "not verified",
                    "of them promising",
                ],
                [query_row(name, found) for name, found in queries.items()],
            ),
        ]
    )


def pair_rows(name: str, verifications: Sequence[Verification]) -> list[list[object]]:
    rows: list[list[object]] = []
    for least in LEAST_CONSISTENT:
        few = [one for one in verifications if one.consistent_matches < least]
        share = f"{len(few) / len(verifications):.2f}"
        models = sum(one.model is not None for one in few)
        rows.append([name, len(verifications), least, share, models])
    return rows


def query_row(name: str, queries: Sequence[tuple[list[Verification], bool]]) -> list[object]:
    promising: dict[bool, list[bool]] = {True: [], False: []}
    for verifications, may_agree in queries:
        promising[any(one.model is not None for one in verifications)].append(may_agree)
    verified, other = promising[True], promising[False]
    return [name, len(verified), sum(verified), len(other), sum(other)]


if __name__ == "__main__":
    main()
