"""How far descriptors, keypoints and answers of a device differ from those of the processor.

The limits of the comparison at each start are between what devices that work differ by and what
another network differs by. For answers, an index is made on either, and asked with the photos of
either: a device may be used for the one and not for the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import parser, publish, table
from veduta import api, photos
from veduta.devices import DEVICES, PROCESSOR
from veduta.devices.comparison import near_share
from veduta.devices.pictures import probe_pictures
from veduta.encoders import Encoder, load_encoder
from veduta.keypoints.xfeat import XFeat, XFeatIn32Bits
from veduta.search import Hit

ENCODERS = ("accurate-int8", "accurate", "fast")
KEYPOINTS = (XFeat, XFeatIn32Bits)
K = 10

Pixels = NDArray[np.uint8]


def main(arguments: list[str] | None = None) -> None:
    options = parser("device_agreement", __doc__)
    add_data_option(options)
    options.add_argument("--device", choices=tuple(DEVICES), required=True)
    options.add_argument("--set", default="objects20", help="labelled set")
    options.add_argument("--photos", type=int, default=100, help="compared, spread over the set")
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, (chosen.set,))
    folder = Path(os.path.abspath(chosen.data / chosen.set))  # As an index names its photos.
    files = sorted(folder.rglob("*.jpg"))
    asked = [files[row] for row in np.linspace(0, len(files) - 1, chosen.photos).astype(int)]
    groups = {
        "generated": list(probe_pictures()),
        f"of {chosen.set}": [photos.load(path, at_least=640).pixels for path in asked],
    }
    tables = [
        descriptor_table(chosen.device, groups),
        keypoint_table(chosen.device, groups),
        answer_table(chosen.work, chosen.device, folder, asked),
    ]
    publish("device_agreement", "\n\n".join(tables), chosen.docs)


def descriptor_table(device: str, groups: dict[str, list[Pixels]]) -> str:
    """Return the cosines of descriptors of the device and of the processor, as a table."""
    lines = []
    for name in ENCODERS:
        one, other = load_encoder(name, device=PROCESSOR.name), load_encoder(name, device=device)
        for group, pictures in groups.items():
            lines.append([f"{name}, {group}", *_range(cosines(one, other, pictures))])
    twins = load_encoder(ENCODERS[0], device="cpu"), load_encoder(ENCODERS[1], device="cpu")
    for group, pictures in groups.items():
        name = f"{ENCODERS[0]} and {ENCODERS[1]}, both on the processor, {group}"
        lines.append([name, *_range(cosines(*twins, pictures))])
    return table(["descriptors", "least cosine", "median"], lines)


def cosines(one: Encoder, other: Encoder, pictures: Sequence[Pixels]) -> list[float]:
    """Return the cosine of the descriptors of each picture by two encoders."""
    return [
        float((one.encode([one.prepare(each)]) * other.encode([other.prepare(each)])).sum())
        for each in pictures
    ]


def keypoint_table(device: str, groups: dict[str, list[Pixels]]) -> str:
    """Return how many keypoints the device and the processor both find, as a table."""
    lines = []
    for kind in KEYPOINTS:
        one, other = (kind.load(kind.default_count, 1, name) for name in ("cpu", device))
        for group, pictures in groups.items():
            shares = []
            for picture in pictures:
                height, width = picture.shape[:2]
                a, b = (each.extract(picture, width, height) for each in (one, other))
                shares.append(near_share(a.xy, b.xy))
            lines.append([f"{kind.model}, {group}", *_range(shares)])
    return table(["keypoints within a pixel", "least share", "median"], lines)


def answer_table(work: Path, device: str, folder: Path, asked: Sequence[Path]) -> str:
    """Return how good the answers are, whichever of the two made index and query, as a table."""
    answers: dict[tuple[str, str], list[list[Hit]]] = {}
    indexes = {name: work / f"device-agreement-{name}" for name in (PROCESSOR.name, device)}
    for name, path in indexes.items():
        shutil.rmtree(path, ignore_errors=True)
        api.create(path, device=name).add(folder, labels=folder / "labels.csv")
    for made_by, path in indexes.items():
        for asked_by in indexes:
            index = api.open(path, device=asked_by)
            answers[made_by, asked_by] = [
                [hit for hit in index.search(photo, k=K + 1) if hit.path != str(photo)][:K]
                for photo in asked
            ]
    label_of = {each.path: each.label for each in api.open(indexes[device])}
    labels = [label_of[str(photo)] for photo in asked]
    plain = answers[PROCESSOR.name, PROCESSOR.name]
    lines = []
    for (made_by, asked_by), found in answers.items():
        right = [
            [hit.label == label for hit in hits]
            for hits, label in zip(found, labels, strict=True)
            if label is not None
        ]
        same = [
            [{hit.path for hit in hits[:k]} == {hit.path for hit in wanted[:k]} for k in (1, K)]
            for hits, wanted in zip(found, plain, strict=True)
        ]
        figures = (
            np.mean([each[0] for each in right]),
            np.mean([np.mean(each) for each in right]),
            *np.mean(same, axis=0),
        )
        name = f"index on {made_by}, queries on {asked_by}"
        lines.append([name, *(f"{figure:.3f}" for figure in figures)])
    for path in indexes.values():
        shutil.rmtree(path)
    return table(
        [
            f"{len(asked)} queries",
            "first hit right",
            f"right of the first {K}",
            "first hit as on cpu",
            f"first {K} as on cpu",
        ],
        lines,
    )


def _range(values: Sequence[float]) -> tuple[str, str]:
    return f"{min(values):.4f}", f"{np.median(values):.4f}"


if __name__ == "__main__":
    main()
