"""Which encoder settings find the same place best, and what each costs.

    python benchmarks/ablation.py --data ../shared/data --cache .results/ablation \
        --json .results/ablation.json > .results/ablation.md

Model x resolution x pooling x projection x multi-resolution, global descriptor only, on four sets
of photos: landmarks30 and same_place (the job), objects20 and domains4 (where a choice that only
suits landmarks shows). AP is non-interpolated, over the whole ranked gallery. Speed is network
and resize on one and on two threads, without the decode of the file.

Descriptors are kept under `--cache`, one file per model and resolution: the first run takes
about twenty minutes on one core, the next ones seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "veduta" / "encoders" / "models"
STRIDE = 32
SIZES = (224, 256, 288, 320, 352, 384, 416, 448, 512, 576, 640)
NETWORKS = {"lite0": "efficientnet-lite0", "lite1": "efficientnet-lite1", "lite2": "efficientnet-lite2"}

Array = NDArray[np.float32]


# --- the sets ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos with labels; `queries` and `gallery` hold positions in `paths`."""

    name: str
    paths: list[Path]
    labels: NDArray[np.str_]
    queries: NDArray[np.intp]
    gallery: NDArray[np.intp]


QUERY_SPLITS = {"query", "test"}
GALLERY_SPLITS = {"gallery", "distractor", "train"}


def read_set(root: Path) -> PhotoSet:
    """Read `labels.csv`; of domains4, the styles' training photos are left out."""
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if root.name == "domains4":
        rows = [row for row in rows if row["split"] != "train"]
    rows = [row for row in rows if row["split"] in QUERY_SPLITS | GALLERY_SPLITS]
    splits = np.array([row["split"] for row in rows])
    return PhotoSet(
        root.name,
        [root / row["path"] for row in rows],
        np.array([row["label"] for row in rows]),
        np.flatnonzero(np.isin(splits, sorted(QUERY_SPLITS))),
        np.flatnonzero(np.isin(splits, sorted(GALLERY_SPLITS))),
    )


# --- from photo to pooled descriptors ------------------------------------------------------------


def load(path: Path) -> Image.Image:
    """Return the photo, upright, RGB."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def input_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Return width and height with the aspect kept as far as multiples of the stride allow."""
    scale = long_side / max(width, height)
    return (
        max(STRIDE, round(width * scale / STRIDE) * STRIDE),
        max(STRIDE, round(height * scale / STRIDE) * STRIDE),
    )


def resize(image: Image.Image, long_side: int) -> NDArray[np.uint8]:
    """Return the network's input, (1, H, W, 3)."""
    size = input_size(*image.size, long_side)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))[None]


def session(network: str, threads: int) -> onnxruntime.InferenceSession:
    """Open an embedded model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = MODELS / f"{NETWORKS[network]}.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def gem(features: Array, p: float, weights: Array | None = None) -> Array:
    """Pool (C, h, w) to (C,) by the generalised mean (Radenović et al., TPAMI 2019)."""
    powers = np.maximum(features, 1e-6) ** p
    mean = powers.mean((1, 2)) if weights is None else (powers * weights).sum((1, 2))
    return mean ** (1 / p)


def centre_prior(height: int, width: int) -> Array:
    """Return a Gaussian over the frame, sum 1: sigma half of each side."""
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    prior = np.exp(-2 * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)
    return prior / prior.sum()


def crow(features: Array) -> Array:
    """Cross-dimensional weighting (Kalantidis et al., ECCV-W 2016)."""
    total = features.sum(0)
    spatial = np.sqrt(total / np.sqrt((total**2).sum()))
    pooled = (features * spatial).sum((1, 2))
    share = (features > 0).mean((1, 2))
    return pooled * np.log(share.sum() / np.maximum(share, 1e-3)).astype(np.float32)


def regions(features: Array, levels: int = 3) -> Array:
    """Sum of normalised GeM descriptors over R-MAC's regions (Tolias et al., ICLR 2016)."""
    _, height, width = features.shape
    cubes = features**3
    total = np.zeros(features.shape[0], np.float32)
    short = min(height, width)
    for level in range(1, levels + 1):
        side = max(1, round(2 * short / (level + 1)))
        steps = [level + (1 if extent > short else 0) for extent in (height, width)]
        tops = np.unique(np.linspace(0, height - side, steps[0]).round().astype(int))
        lefts = np.unique(np.linspace(0, width - side, steps[1]).round().astype(int))
        for top in tops:
            for left in lefts:
                region = cubes[:, top : top + side, left : left + side].mean((1, 2)) ** (1 / 3)
                total += region / max(float(np.linalg.norm(region)), 1e-6)
    return total


POOLINGS: dict[str, Callable[[Array], Array]] = {
    "average": lambda f: f.mean((1, 2)),
    "gem2": lambda f: gem(f, 2),
    "gem3": lambda f: gem(f, 3),
    "gem4": lambda f: gem(f, 4),
    "gem5": lambda f: gem(f, 5),
    "max": lambda f: f.max((1, 2)),
    "crow": crow,
    "regions": regions,
    "centre": lambda f: gem(f, 3, centre_prior(*f.shape[1:])),
}


def extract(
    images: Sequence[Image.Image], network: str, long_side: int, *, flip: bool = False
) -> dict[str, Array]:
    """Return, for each pooling, the raw descriptors (N, C)."""
    model = session(network, 1)
    pooled: dict[str, list[Array]] = {name: [] for name in POOLINGS}
    for image in images:
        pixels = resize(image, long_side)
        if flip:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        features = model.run(["features"], {"photos": pixels})[0][0]
        for name, pool in POOLINGS.items():
            pooled[name].append(pool(features))
    return {name: np.stack(rows) for name, rows in pooled.items()}
