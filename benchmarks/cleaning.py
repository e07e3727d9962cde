"""What `veduta clean` finds, and what it costs.

With `--data`, accuracy is measured: with labels that are flipped with a seed, photos of other
things in classes, and faults that are made on purpose; and on unchanged photos, how many are false
alarms. Descriptors and copies are kept in the user's cache folder. Without `--data`, seconds and
memory are measured over the number of photos.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.cleaning_cost import KINDS_WITHOUT_ENCODER, cost_table, measure_here
from benchmarks.report import check_target, parser, publish, table
from veduta.curate.class_findings import judge_classes
from veduta.curate.class_members import ClassMembers, class_members
from veduta.curate.cleaning import clean
from veduta.curate.copies import copies_among
from veduta.curate.described_photos import DescribedPhotos, describe_photos
from veduta.curate.findings import KINDS
from veduta.curate.groups import copy_groups
from veduta.curate.mislabelled import HeldOutScores, find_mislabelled, fit_sharpness, softmax
from veduta.curate.off_topic import ClassLikeness, find_off_topic
from veduta.curate.photo_scan import scan_photos
from veduta.datasets import read_dataset
from veduta.recognize.labelled_gallery import UNLABELLED

CLEANED_SETS = ("landmarks30", "objects20", "domains4")
FLIP_RATES = (0.05, 0.1)
SEEDS = (0, 1, 2)
MIN_PRECISION_AND_RECALL = 0.85
OFF_TOPIC_RATE = 0.05
STRANGER_HOSTS = ("landmarks30",)
STRANGER_RATE = 0.1
STRANGER_CLASSES: tuple[int | None, ...] = (2, 5, None)
STRANGER_SEEDS = {2: 12, 5: 12, None: 3}
MAX_STRANGERS_OF_A_SET = 120
OURS = "Veduta: confident joint, ridge in closed form"

Flags = NDArray[np.bool_]
Change = Callable[[Image.Image], Image.Image]


def main(arguments: list[str] | None = None) -> None:
    options = parser("cleaning", __doc__)
    options.add_argument("--data", type=Path, help="measure accuracy on the sets in this folder")
    options.add_argument("--photos", nargs="+", type=int, default=[1000, 3000, 10_000])
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.child:
        task, folder, photos = chosen.child
        print(json.dumps(measure_here(task, Path(folder), int(photos))))
    elif chosen.data:
        publish("cleaning", accuracy(chosen.data), chosen.docs)
    else:
        cost = cost_table(chosen.work, chosen.photos)
        publish("cleaning", cost, chosen.docs, section="cleaning_cost")


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The photos of a set that decode, by class.

    Attributes:
        members: descriptors, classes and copies.
        index: the index of the photos.
    """

    members: ClassMembers
    index: Path


def accuracy(data: Path) -> str:
    sets = {name: labelled_set(data / name) for name in CLEANED_SETS if (data / name).is_dir()}
    return "\n\n".join(
        (
            "### Wrong labels\n\n" + wrong_labels(sets),
            "### Strangers\n\n" + strangers(data),
            "### Off-topic photos\n\n" + off_topic_photos(sets),
            "### Faults\n\n" + faults(data),
            "### False alarms\n\n" + false_alarms(data),
        )
    )


def labelled_set(folder: Path) -> LabelledSet:
    dataset = read_dataset(folder, every_photo=True)
    described = describe_photos(dataset.files)
    group_of = np.full(len(dataset.paths), -1)
    for number, group in enumerate(copy_groups(copies_among(described), len(dataset.paths))):
        group_of[list(group)] = number
    members = class_members(described.snapshot, described.rows, dataset.labels, group_of)
    return LabelledSet(members, described.index)


def flip_labels(members: ClassMembers, rate: float, seed: int) -> tuple[ClassMembers, Flags]:
    """Give a share of the labelled photos a random other class; return also which they are."""
    rng = np.random.default_rng(seed)
    labelled = np.flatnonzero(members.class_ids != UNLABELLED)
    chosen = rng.choice(labelled, round(rate * len(labelled)), replace=False)
    class_ids = members.class_ids.copy()
    offset = rng.integers(1, len(members.names), len(chosen))
    class_ids[chosen] = (class_ids[chosen] + offset) % len(members.names)
    return replace(members, class_ids=class_ids), flags_at(chosen, len(class_ids))


def wrong_labels(sets: dict[str, LabelledSet]) -> str:
    """Return the table of methods that find flipped labels."""
    # Method → set and rate → precision, recall, share of right suggestions, for each seed.
    results: dict[str, dict[tuple[str, float], list[tuple[float, float, float]]]] = {}
    for name, one in sets.items():
        for rate in FLIP_RATES:
            for seed in SEEDS:
                members, truth = flip_labels(one.members, rate, seed)
                print(name, rate, seed, flush=True)
                true_ids = one.members.class_ids
                for method, flags, right in flags_of_methods(members, one.index, true_ids):
                    of_seeds = results.setdefault(method, {}).setdefault((name, rate), [])
                    of_seeds.append((*precision_and_recall(flags, truth), right))
    columns = [(name, rate) for name in sets for rate in FLIP_RATES]
    rows = []
    for method, by_column in results.items():
        figures = [np.mean(by_column[column], axis=0) for column in columns]
        counted = [
            one for one, (name, _) in zip(figures, columns, strict=True) if name != "domains4"
        ]
        mean = np.mean(counted, axis=0) if counted else np.full(3, np.nan)
        target = ""
        if method == OURS:
            smaller = round(float(mean[:2].min()), 3)
            target = check_target(smaller, MIN_PRECISION_AND_RECALL, at_least=True)
        rows.append(
            [
                method,
                *(f"{one[0]:.2f} / {one[1]:.2f}" for one in figures),
                f"{mean[0]:.3f} / {mean[1]:.3f}",
                target,
            ]
        )
    right_share = np.mean([one[2] for of_seeds in results[OURS].values() for one in of_seeds])
    head = [
        "method",
        *(f"{name}, {100 * rate:.0f} %" for name, rate in columns),
        "mean without domains4",
        "both",
    ]
    return (
        f"{table(head, rows)}\n\nPrecision / recall of the flipped labels, mean of "
        f"{len(SEEDS)} seeds. A label of the set that was already wrong counts as a false alarm if "
        "it is found. For the flipped labels that Veduta finds, it suggests the right label in "
        f"{100 * right_share:.0f} % of the cases. A class of domains4 has photos, paintings, "
        "cartoons and sketches. No method has a threshold that was tuned here. But the softmax "
        "allows for wrong labels because one that did not had a recall of 0.79 here."
    )


def flags_of_methods(
    members: ClassMembers, index: Path, true_ids: NDArray[np.int32]
) -> Iterator[tuple[str, Flags, float]]:
    """Yield what each method flags, and the share of right suggestions among the right flags."""
    count = len(members.rows)
    found = [one.photo for one in judge_classes(members, index).of_another_class]
    right = [
        one.suggested == true_ids[one.member]
        for one in found
        if true_ids[one.member] != members.class_ids[one.member]
    ]
    right_share = float(np.mean(right)) if right else np.nan
    yield OURS, flags_at([one.member for one in found], count), right_share

    judged = np.flatnonzero(members.judged)
    labels = members.class_ids[judged].astype(np.intp)

    def flags_among_judged(flagged: Flags) -> Flags:
        return flags_at(judged[flagged], count)

    scores = HeldOutScores(members, index, np.arange(len(members.names))).scores(judged)
    ours = softmax(fit_sharpness(scores, labels)[0] * scores)
    yield "another label is more probable", flags_among_judged(ours.argmax(axis=1) != labels), 0
    probabilities = {"the same": ours}
    if find_spec("sklearn") is not None:
        regression = logistic_regression(members.descriptors(judged), labels)
        probabilities["logistic regression, five folds"] = regression
    for source, values in probabilities.items():
        for method, flagged in cleanlab_flags(values, labels):
            yield f"cleanlab `{method}`, {source}", flags_among_judged(flagged), 0


def cleanlab_flags(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp]
) -> Iterator[tuple[str, Flags]]:
    """Yield what each method of cleanlab flags; nothing if cleanlab is not installed."""
    if find_spec("cleanlab") is None:
        return
    from cleanlab.filter import find_label_issues

    for method in ("confident_learning", "prune_by_noise_rate", "both"):
        yield method, find_label_issues(labels, probabilities, filter_by=method, n_jobs=1)


def logistic_regression(
    descriptors: NDArray[np.float32], labels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the held-out probabilities of all classes, (N, C)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(C=10, max_iter=100)
    probabilities: NDArray[np.float64] = cross_val_predict(
        model, descriptors, labels, cv=folds, method="predict_proba"
    )
    return probabilities


def flags_at(positions: NDArray[np.intp] | list[int], count: int) -> Flags:
    """Return (count,) flags that are set at these positions."""
    flags = np.zeros(count, np.bool_)
    flags[positions] = True
    return flags


def precision_and_recall(flags: Flags, truth: Flags) -> tuple[float, float]:
    right, flagged, true = (int(np.count_nonzero(one)) for one in (flags & truth, flags, truth))
    return right / max(1, flagged), right / max(1, true)


def strangers(data: Path) -> str:
    """Return the table of photos of other sets that are put into classes, and what they become."""
    rows = []
    for name in STRANGER_HOSTS:
        others = [other for other in CLEANED_SETS if other != name]
        if not all((data / one).is_dir() for one in CLEANED_SETS):
            continue
        mixed = mixed_set(data, name, others)
        for classes in STRANGER_CLASSES:
            totals: Counter[str] = Counter()
            for seed in range(STRANGER_SEEDS[classes]):
                totals.update(relabelled_strangers(mixed, classes, seed))
            shown = totals["strangers"], totals["relabelled before"], totals["relabelled"]
            flipped = totals["flipped"], totals["flips found before"], totals["flips found"]
            rows.append([name, classes or "all", *shown, totals["off-topic"], *flipped])
    head = ["set", "classes", "strangers", "relabelled by the recogniser alone", "relabelled"]
    head += ["off-topic", "flipped labels", "found by the recogniser alone", "found"]
    return (
        f"{table(head, rows)}\n\nStrangers are photos of the three sets that have no label, and of "
        f"domains4. They are {100 * STRANGER_RATE:.0f} % as many as the photos of the classes that "
        f"they are put into, and {100 * FLIP_RATES[0]:.0f} % of these get the label of another "
        f"class. Sums over {STRANGER_SEEDS[2]} draws of the classes, and over "
        f"{STRANGER_SEEDS[None]} of all. Off-topic are the strangers that are not relabelled and "
        "are found to be unlike their class."
    )


@dataclass(frozen=True, slots=True)
class MixedSet:
    """The labelled photos of a set, and strangers.

    Attributes:
        described: all of them.
        labels: the label of each; None for strangers.
    """

    described: DescribedPhotos
    labels: list[str | None]


def mixed_set(data: Path, host: str, others: list[str]) -> MixedSet:
    own = read_dataset(data / host, every_photo=True)
    files, labels = list(own.files), list(own.labels)
    for other in others:
        dataset = read_dataset(data / other, every_photo=True)
        found = [
            file
            for file, label in zip(dataset.files, dataset.labels, strict=True)
            if label is None or other == "domains4"
        ]
        chosen = np.random.default_rng(0).permutation(len(found))[:MAX_STRANGERS_OF_A_SET]
        files += [found[number] for number in sorted(chosen)]
        labels += [None] * len(chosen)
    return MixedSet(describe_photos(files), labels)


def relabelled_strangers(mixed: MixedSet, classes: int | None, seed: int) -> dict[str, int]:
    """Put strangers into some classes, flip labels, and count what becomes of them."""
    rng = np.random.default_rng(seed)
    names = sorted({label for label in mixed.labels if label is not None})
    if classes is not None:
        names = sorted(rng.choice(names, classes, replace=False).tolist())
    there = np.flatnonzero(mixed.described.rows >= 0).tolist()
    labelled = np.array([at for at in there if mixed.labels[at] in names])
    unlabelled = np.array([at for at in there if mixed.labels[at] is None])
    labels = [label if label in names else None for label in mixed.labels]
    count = min(round(STRANGER_RATE * len(labelled)), len(unlabelled))
    put = rng.choice(unlabelled, count, replace=False)
    for at in put:
        labels[at] = names[rng.integers(len(names))]
    flipped = rng.choice(labelled, round(FLIP_RATES[0] * len(labelled)), replace=False)
    for at in flipped:
        labels[at] = rng.choice([name for name in names if name != labels[at]])
    used = np.array([at for at in there if labels[at] is not None])
    described = mixed.described
    members = class_members(
        described.snapshot,
        described.rows[used],
        [labels[at] for at in used],
        np.full(len(used), -1),
    )
    judged = judge_classes(members, described.index)

    def among(found: Iterable[int], wanted: NDArray[np.intp]) -> int:
        return len(set(used[list(found)].tolist()) & set(wanted.tolist()))

    alone = [one.member for one in find_mislabelled(members, described.index)]
    relabelled = [one.photo.member for one in judged.of_another_class]
    off_topic = [one.photo.member for one in judged.of_no_class]
    off_topic += [one.member for one in judged.off_topic]
    return {
        "strangers": count,
        "relabelled before": among(alone, put),
        "relabelled": among(relabelled, put),
        "off-topic": among(off_topic, put),
        "flipped": len(flipped),
        "flips found before": among(alone, flipped),
        "flips found": among(relabelled, flipped),
    }


def off_topic_photos(sets: dict[str, LabelledSet]) -> str:
    """Return the table of distractors that are put into classes and found."""
    rows = []
    for name, one in sets.items():
        labelled = one.members.class_ids != UNLABELLED
        distractors = np.flatnonzero(~labelled)
        flagged_before = len(find_off_topic(one.members, ClassLikeness(one.members)))
        count = round(OFF_TOPIC_RATE * np.count_nonzero(labelled))
        cells = ["–"]
        if len(distractors) >= count:
            figures = []
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                chosen = rng.choice(distractors, count, replace=False)
                class_ids = one.members.class_ids.copy()
                class_ids[chosen] = rng.integers(0, len(one.members.names), count)
                with_distractors = replace(one.members, class_ids=class_ids)
                found = find_off_topic(with_distractors, ClassLikeness(with_distractors))
                flags = flags_at([photo.member for photo in found], len(class_ids))
                figures.append(precision_and_recall(flags, flags_at(chosen, len(class_ids))))
            cells = ["{:.2f} / {:.2f}".format(*np.mean(figures, axis=0))]
        rows.append([name, *cells, f"{flagged_before} of {np.count_nonzero(labelled):,}"])
    return (
        table(["set", f"{100 * OFF_TOPIC_RATE:.0f} % distractors", "flagged without them"], rows)
        + f"\n\nPrecision / recall, mean of {len(SEEDS)} seeds. Distractors of the set are put "
        "into random classes. The photos that are flagged without them are unusual rather than "
        "wrong: a drawing, a stamp, an interior."
    )


def blurred(width: float) -> Change:
    """Return a change that blurs by this share of the long side."""
    return lambda photo: photo.filter(ImageFilter.GaussianBlur(width * max(photo.size)))


def scaled(factor: float, offset: float = 0) -> Change:
    """Return a change that scales all pixel values."""

    def change(photo: Image.Image) -> Image.Image:
        values = np.asarray(photo).astype(np.float32) * factor + offset
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))

    return change


FAULTS: tuple[tuple[str, str, Change], ...] = (
    ("blurred by 0.4 % of its length", "blurred", blurred(0.004)),
    ("blurred by 0.8 %", "blurred", blurred(0.008)),
    ("blurred by 1.5 %", "blurred", blurred(0.015)),
    ("at 15 % of its light", "dark", scaled(0.15)),
    ("white except for 10 %", "overexposed", scaled(0.1, 229.5)),
    ("cut off anywhere behind the header", "truncated", lambda photo: photo),
)
"""(what is done to a photo, the kind of fault that has to be found, the change)."""


def faults(data: Path) -> str:
    """Make faults in photos of landmarks30, and return how many are found."""
    files = sorted((data / CLEANED_SETS[0]).rglob("*.jpg"))[::8]
    rng = np.random.default_rng(0)
    rows = []
    for name, kind, change in FAULTS:
        with tempfile.TemporaryDirectory() as work:
            written = []
            for number, file in enumerate(files):
                with Image.open(file) as photo:
                    out = io.BytesIO()
                    change(photo.convert("RGB")).save(out, "JPEG", quality=90)
                content = out.getvalue()
                if kind == "truncated":
                    content = content[: int(rng.integers(700, len(content) - 2))]
                written.append(Path(work, f"{number}.jpg"))
                written[-1].write_bytes(content)
            scan = scan_photos(written, faults=True)
        accepted = ("truncated", "corrupt") if kind == "truncated" else (kind,)
        found = {fault.position for fault in scan.faults if fault.kind in accepted}
        rows.append([name, kind, f"{len(found)} of {len(files)}"])
    return table(["photos of landmarks30", "kind", "found"], rows)


def false_alarms(data: Path) -> str:
    """Return the faults that are found in unchanged photos."""
    rows = []
    for name in (*CLEANED_SETS, "same_place", "messy/files"):
        if not (data / name).is_dir():
            continue
        dataset = read_dataset(data / name, every_photo=True)
        counts = Counter(fault.kind for fault in scan_photos(dataset.files, faults=True).faults)
        listed = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS if counts[kind]) or "none"
        rows.append([name, f"{len(dataset.paths):,}", listed])
    text = table(["unchanged photos", "photos", "faults"], rows)
    manifest = data / "messy" / "manifest.csv"
    return f"{text}\n\n{messy_findings(manifest)}" if manifest.is_file() else text


def messy_findings(manifest: Path) -> str:
    """Compare the findings in messy with its manifest."""
    with manifest.open(encoding="utf-8", newline="") as lines:
        row_of = {row["path"].removeprefix("files/"): row for row in csv.DictReader(lines)}
    findings = clean(manifest.parent / "files", only=KINDS_WITHOUT_ENCODER).findings
    undecodable_kinds = ("corrupt", "truncated", "not-a-photo")
    flagged = {finding.path for finding in findings if finding.kind in undecodable_kinds}
    undecodable = {
        path
        for path, row in row_of.items()
        if row["pillow_decode"] != "ok" and not path.endswith(".txt")
    }
    flagged_copies = {finding.path for finding in findings if finding.kind == "exact-copy"}
    groups: dict[str, set[str]] = {}
    for path, row in row_of.items():
        if row["kind"] == "exact_dup":
            groups.setdefault(row["dup_group"], set()).add(path)
    groups_of_copies = [group for group in groups.values() if len(group) > 1]
    copies = sum(len(group) - 1 for group in groups_of_copies)
    found_copies = sum(
        min(len(group & flagged_copies), len(group) - 1) for group in groups_of_copies
    )
    return (
        f"By messy's manifest {len(undecodable)} files do not decode: {len(flagged & undecodable)} "
        f"of them are found, and {len(flagged - undecodable)} others. {found_copies} of {copies} "
        "exact copies are found; one of each group is not counted."
    )


if __name__ == "__main__":
    main()
