"""Piles: which photos of a pile `veduta clean PILE --like EXAMPLES` proposes to keep.

A pile holds the photos of one class, without the examples, and photos of other things. The rule of
`veduta.curate.unlike_findings` is compared with others. Each of these has the lowest threshold that
rejects 95 % of the photos of the most similar classes, mean over objects20 and scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import add_data_option, require_sets
from benchmarks.report import check_target, parser, publish, table
from veduta.curate.described_photos import describe_photos
from veduta.curate.example_likeness import (
    MIN_KEPT_LIKENESS,
    MIN_KEPT_LIKENESS_IF_MATCHED,
    MIN_MATCHES,
    example_likeness,
)
from veduta.datasets import read_dataset
from veduta.evaluation.metrics import average_precision
from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import Keypoints, Matching, verify_many
from veduta.recognize.background import background_of_index
from veduta.recognize.linear import RIDGE

FITTED_ON = {"objects20": (3, 5, 10), "scenes": (3,)}
"""Set → numbers of examples."""

SIMILAR_CLASSES = {"objects20": 5, "scenes": 10}
SIMILAR = ", similar strangers"
"""Ends the name of a part of a set in which the strangers are those of `SIMILAR_CLASSES`."""

MEASURED_ON = ("landmarks30", "objects20")
NOISE = (0.1, 0.3, 0.6)
EXAMPLES = (5, 10)
DRAWS = 3
WANTED_REJECTED, WANTED_KEPT = 0.95, 0.85

Descriptors = NDArray[np.float32]
Rows = NDArray[np.intp]
Shares = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("piles", __doc__)
    add_data_option(options)
    chosen = options.parse_args(arguments)
    require_sets(options, chosen.data, (*FITTED_ON, *MEASURED_ON))
    sets = {name: PhotosOfSet.open(chosen.data / name) for name in {*FITTED_ON, *MEASURED_ON}}
    fitted = fitting_parts(sets)
    thresholds = {
        rule.name: rule.fixed or lowest_threshold(rule.likeness, fitted) for rule in RULES
    }
    body = "\n\n".join(
        (
            "#### The rules on the sets that they were chosen on",
            fitting_table(fitted, thresholds),
            "#### The piles",
            piles_table(sets, thresholds),
        )
    )
    publish("piles", body, chosen.docs)


@dataclass(frozen=True)
class PhotosOfSet:
    """The photos of a set that decode.

    Attributes:
        descriptors: (n, d) unit rows.
        labels: (n,); "" for none.
        background: (b, d), of the encoder.
        keypoints: (n,), read from the index when they are needed.
        matching: of the keypoints.
    """

    descriptors: Descriptors
    labels: NDArray[np.str_]
    background: Descriptors
    keypoints: Callable[[int], Keypoints]
    matching: Matching
    _matches: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> PhotosOfSet:
        dataset = read_dataset(folder, every_photo=True)
        described = describe_photos(dataset.files)
        there = np.flatnonzero(described.rows >= 0)
        rows = described.snapshot.take(described.rows[there].astype(np.intp))
        labels = np.array([dataset.labels[at] or "" for at in there])
        background = background_of_index(described.index)
        assert background is not None
        stored = StoredKeypoints(described.index, described.snapshot)
        return cls(
            unit(rows.astype(np.float32)),
            labels,
            background,
            cache(lambda number: stored.read(int(described.rows[there[number]]))),
            described.extractor.matching,
        )

    def matches(self, photo: int, examples: Rows) -> int:
        """Return the number of consistent matches with the example that has most."""
        new = [example for example in examples.tolist() if (photo, example) not in self._matches]
        others = [self.keypoints(example) for example in new]
        found = verify_many(self.keypoints(photo), others, self.matching) if new else []
        for example, one in zip(new, found, strict=True):
            self._matches[photo, example] = one.consistent_matches
        return max(self._matches[photo, example] for example in examples.tolist())

    @property
    def classes(self) -> list[str]:
        return sorted(set(self.labels.tolist()) - {""})

    def similar_to(self, label: str, number: int) -> list[str]:
        """Return the classes whose mean descriptors are the most similar to that of a class."""
        others = [other for other in self.classes if other != label]
        mean = self.descriptors[self.labels == label].mean(axis=0)
        cosines = [self.descriptors[self.labels == other].mean(axis=0) @ mean for other in others]
        return [others[at] for at in np.argsort(cosines)[::-1][:number]]


@dataclass(frozen=True, slots=True)
class Pile:
    """Photos of a set, by their numbers: examples, wanted photos and unwanted ones."""

    photos: PhotosOfSet
    examples: Rows
    wanted: Rows
    unwanted: Rows

    def likeness(self, rule: Likeness) -> tuple[Shares, Shares]:
        return (
            rule(self.photos, self.examples, self.wanted),
            rule(self.photos, self.examples, self.unwanted),
        )


Likeness = Callable[[PhotosOfSet, Rows, Rows], Shares]
"""Of photos of a set to examples, the second argument."""

LikenessOfDescriptors = Callable[[Descriptors, Descriptors, Descriptors], Shares]
"""Of photos to examples, with a background: each (·, d), unit rows."""


def of_descriptors(likeness: LikenessOfDescriptors) -> Likeness:
    def of_photos(photos: PhotosOfSet, examples: Rows, rows: Rows) -> Shares:
        of = photos.descriptors
        return likeness(of[examples], of[rows], photos.background)

    return of_photos


def likeness_of_clean(photos: PhotosOfSet, examples: Rows, rows: Rows) -> Shares:
    """Return the likeness, with 0.3 added where matches decide that a photo is kept.

    So one threshold does what the two of `veduta clean` do.
    """
    likeness = example_likeness(photos.descriptors[examples], photos.descriptors[rows])
    is_open = (likeness >= MIN_KEPT_LIKENESS_IF_MATCHED) & (likeness < MIN_KEPT_LIKENESS)
    for at in np.flatnonzero(is_open).tolist():
        if photos.matches(int(rows[at]), examples) >= MIN_MATCHES:
            likeness[at] += MIN_KEPT_LIKENESS - MIN_KEPT_LIKENESS_IF_MATCHED
    return likeness


def cosines_of_clean(examples: Descriptors, photos: Descriptors, _: Descriptors) -> Shares:
    return example_likeness(examples, photos)


def mean_cosine(examples: Descriptors, photos: Descriptors, _: Descriptors) -> Shares:
    """Return the likeness if all examples count alike."""
    count = len(examples)
    among = ((examples @ examples.T).sum() - count) / (count * (count - 1))
    return np.asarray((photos @ examples.T).mean(axis=1) / among, np.float64)


def centred(examples: Descriptors, photos: Descriptors, background: Descriptors) -> Shares:
    mean = background.mean(axis=0)
    return example_likeness(unit(examples - mean), unit(photos - mean))


def linear(examples: Descriptors, photos: Descriptors, background: Descriptors) -> Shares:
    """Return scores by the classifier of recognition, by the mean held-out score of examples."""
    both = np.concatenate([examples, background])
    mean = both.mean(axis=0)
    rows = unit(both - mean)
    middle = rows.mean(axis=0)
    rows -= middle
    count = len(rows)
    products = (rows @ rows.T).astype(np.float64)
    regularised = products + RIDGE * np.trace(products) / count * np.eye(count)
    targets = (np.arange(count) < len(examples)).astype(np.float64)
    weights = np.linalg.solve(regularised, targets - targets.mean())
    hat = np.diag(products @ np.linalg.inv(regularised)) + 1 / count
    residuals = (targets - (products @ weights + targets.mean())) / (1 - hat)
    scores = (unit(photos - mean) - middle) @ rows.T @ weights + targets.mean()
    return np.asarray(scores / np.mean(1 - residuals[: len(examples)]))


@dataclass(frozen=True, slots=True)
class Rule:
    """A likeness, and the threshold from which on a photo is kept; None: it is chosen here."""

    name: str
    likeness: Likeness
    fixed: float | None = None


OURS = Rule("`veduta clean`: cosines and matches", likeness_of_clean, MIN_KEPT_LIKENESS)
EARLIER = Rule("mean and nearest cosine, as before", of_descriptors(cosines_of_clean), 0.72)
RULES = (
    OURS,
    EARLIER,
    Rule("cosines and matches, less strict", likeness_of_clean, MIN_KEPT_LIKENESS - 0.01),
    Rule("mean and nearest cosine, stricter", of_descriptors(cosines_of_clean)),
    Rule("mean cosine", of_descriptors(mean_cosine)),
    Rule("mean and nearest cosine, centred on the background", of_descriptors(centred)),
    Rule("linear classifier against the background", of_descriptors(linear)),
)


def fitting_parts(sets: dict[str, PhotosOfSet]) -> dict[str, list[Pile]]:
    """Return the piles of each set, once with all strangers, once with the most similar ones."""
    parts: dict[str, list[Pile]] = {}
    for name, counts in FITTED_ON.items():
        photos = sets[name]
        for label in photos.classes:
            own = np.flatnonzero(photos.labels == label)
            similar = photos.similar_to(label, SIMILAR_CLASSES[name])
            strangers = {
                name: np.flatnonzero(photos.labels != label),
                f"{name}{SIMILAR}": np.flatnonzero(np.isin(photos.labels, similar)),
            }
            for count, seed in ((count, seed) for count in counts for seed in range(DRAWS)):
                if len(own) <= count:
                    continue
                drawn = np.random.default_rng(seed).permutation(own)
                for part, rows in strangers.items():
                    pile = Pile(photos, drawn[:count], drawn[count:], rows)
                    parts.setdefault(part, []).append(pile)
    return parts


def lowest_threshold(likeness: Likeness, fitted: dict[str, list[Pile]]) -> float:
    """Return the lowest likeness, in steps of 0.01, that rejects enough similar strangers."""
    similar = [piles for part, piles in fitted.items() if part.endswith(SIMILAR)]
    strangers = [[pile.likeness(likeness)[1] for pile in piles] for piles in similar]
    steps = (np.arange(30, 131) / 100).tolist()
    for step in steps:
        rejected = [np.mean([np.mean(one < step) for one in part]) for part in strangers]
        if np.mean(rejected) >= WANTED_REJECTED:
            return float(step)
    return float(steps[-1])


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rule makes of a pile.

    Attributes:
        ap: average precision of its ranking.
        precision: share of the kept photos that are wanted.
        kept: share of the wanted photos that are kept.
        rejected: share of the unwanted photos that are not kept.
    """

    ap: float
    precision: float
    kept: float
    rejected: float

    @classmethod
    def of(cls, pile: Pile, likeness: Likeness, threshold: float) -> Judged:
        wanted, unwanted = pile.likeness(likeness)
        both = np.concatenate([wanted, unwanted])
        truth = np.arange(len(both)) < len(wanted)
        kept = both >= threshold
        return cls(
            average_precision(truth[np.argsort(-both, kind="stable")]),
            float(np.mean(truth[kept])) if kept.any() else 0.0,
            float(np.mean(kept[truth])),
            float(np.mean(~kept[~truth])),
        )

    @classmethod
    def mean(cls, piles: Sequence[Judged]) -> Judged:
        return cls(*np.mean([(p.ap, p.precision, p.kept, p.rejected) for p in piles], axis=0))


def fitting_table(fitted: dict[str, list[Pile]], thresholds: dict[str, float]) -> str:
    rows = []
    for rule in RULES:
        cells = []
        for piles in fitted.values():
            at = thresholds[rule.name]
            cells.append(Judged.mean([Judged.of(pile, rule.likeness, at) for pile in piles]))
        mean = Judged.mean(
            [one for part, one in zip(fitted, cells, strict=True) if part.endswith(SIMILAR)]
        )
        rows.append(
            [
                rule.name,
                f"{thresholds[rule.name]:.2f}",
                *(f"{one.ap:.3f}, {one.rejected:.3f} / {one.kept:.3f}" for one in cells),
                f"{mean.ap:.4f}, {mean.rejected:.3f} / {mean.kept:.3f}",
            ]
        )
    head = ["rule", "threshold", *fitted, "mean of similar"]
    return (
        f"{table(head, rows)}\n\nAverage precision, then strangers rejected / right photos kept, "
        "means over the classes. The strangers are all photos of other things of the set, or the "
        "photos of the most similar classes. objects20 has 3, 5 and 10 examples, scenes has 3. "
        "The thresholds of the first three rules are fixed. The others are the lowest that reject "
        f"{100 * WANTED_REJECTED:.0f} % of the similar strangers. "
        "Most places of same_place have two photos, which are too few."
    )


def piles_of(photos: PhotosOfSet, noise: float, count: int) -> Iterator[Pile]:
    """Yield a pile for each class with enough photos; `noise` is the share of other things."""
    for class_id, label in enumerate(photos.classes):
        rng = np.random.default_rng(class_id)
        own = rng.permutation(np.flatnonzero(photos.labels == label))
        others = np.flatnonzero(photos.labels != label)
        if len(own) < 2 * count:
            continue
        number = min(round((len(own) - count) * noise / (1 - noise)), len(others))
        yield Pile(photos, own[:count], own[count:], rng.choice(others, number, replace=False))


def piles_table(sets: dict[str, PhotosOfSet], thresholds: dict[str, float]) -> str:
    rows = []
    of_rule: dict[tuple[str, str], list[Judged]] = {}
    for name in MEASURED_ON:
        for noise in NOISE:
            for count in EXAMPLES:
                piles = list(piles_of(sets[name], noise, count))
                for rule in (OURS, EARLIER):
                    at = thresholds[rule.name]
                    one = Judged.mean([Judged.of(pile, rule.likeness, at) for pile in piles])
                    of_rule.setdefault((name, rule.name), []).append(one)
                    rows.append(row_of(name, f"{100 * noise:.0f} %", count, len(piles), rule, one))
    for (name, rule_name), judged in of_rule.items():
        rule = next(rule for rule in RULES if rule.name == rule_name)
        rows.append(row_of(name, "mean", "", "", rule, Judged.mean(judged)))
    targets = []
    for name in MEASURED_ON:
        for rule in (OURS, EARLIER):
            mean = Judged.mean(of_rule[name, rule.name])
            rejected = check_target(mean.rejected, WANTED_REJECTED, at_least=True)
            kept = check_target(mean.kept, WANTED_KEPT, at_least=True)
            targets.append(
                f"{name}, {rule.name}, mean: strangers rejected {rejected}; kept {kept}."
            )
    head = ["set", "of other things", "examples", "piles", "rule", "AP"]
    head += ["precision", "right photos kept", "strangers rejected"]
    return (
        f"{table(head, rows)}\n\nMeans over the classes. Precision is the share of the kept photos "
        f"that show the class. Copies are not removed. {' '.join(targets)}"
    )


def row_of(
    name: str, noise: str, count: int | str, piles: int | str, rule: Rule, judged: Judged
) -> list[object]:
    figures = (judged.ap, judged.precision, judged.kept, judged.rejected)
    return [name, noise, count, piles, rule.name, *(f"{figure:.3f}" for figure in figures)]


def unit(rows: Descriptors) -> Descriptors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


if __name__ == "__main__":
    main()
