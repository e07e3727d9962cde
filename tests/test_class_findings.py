"""Wrong labels and off-topic photos, planted on purpose, and the formulas behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import save_view
from tiny_cleaning import cleaned, tiny_described

from veduta.curate import class_findings as class_findings_module
from veduta.curate import mislabelled as mislabelled_module
from veduta.curate.class_members import ClassMembers, class_members
from veduta.curate.mislabelled import (
    HeldOutScores,
    Mislabelled,
    confident_classes,
    find_mislabelled,
    fit_sharpness,
)
from veduta.curate.off_topic import MIN_OUTLIER_RANGES, ClassLikeness, find_off_topic
from veduta.datasets import read_dataset
from veduta.recognize.linear import RIDGE


def test_wrong_labels_and_strays_are_found(places: Path, tmp_path: Path) -> None:
    found = cleaned(places, "mislabelled", "off-topic", describe=tiny_described(tmp_path))
    wrong = {one.path: one for one in found.findings if one.kind == "mislabelled"}
    assert set(wrong) == {"place2/wrong1.png", "place4/wrong3.png"}
    one = wrong["place2/wrong1.png"]
    assert (one.label, one.suggested_label, one.suggestion) == ("place2", "place1", "relabel")
    assert (one.probability or 0) > 0.5 and one.score > 0.5
    assert found.relabels() == {"place2/wrong1.png": "place1", "place4/wrong3.png": "place3"}
    assert [o.path for o in found.findings if o.kind == "off-topic"] == ["place0/stray.png"]
    assert not found.notes


def test_one_class_has_nothing_to_compare(places: Path, tmp_path: Path) -> None:
    found = cleaned(
        places / "place1", "mislabelled", "off-topic", describe=tiny_described(tmp_path)
    )
    assert not found.findings and "two classes of 5" in found.notes[0]


def members_of(places: Path, folder: Path) -> tuple[ClassMembers, Path]:
    photos = read_dataset(places, every_photo=True)
    known = tiny_described(folder)(photos.files, None)
    groups = np.full(len(photos.paths), -1)
    groups[[3, 17, 18]] = 0
    return class_members(known.snapshot, known.rows, photos.labels, groups), known.index


def test_held_out_is_training_again_without(places: Path, tmp_path: Path) -> None:
    """Against ridge regression with an intercept, solved anew for each photo left out."""
    members, index = members_of(places, tmp_path)
    classes = np.arange(len(members.names))
    held = HeldOutScores(members, index, classes)
    places_ = np.array([0, 3, 17, 40])
    scores = held.scores(places_)
    every = np.arange(len(members.rows))
    linear = held._training.linear
    away = members.descriptors(every).astype(np.float64) - linear.mean
    centred = away / np.linalg.norm(away, axis=1, keepdims=True) - linear.centred_mean
    table = np.column_stack([centred, np.ones(len(every))])
    targets = (members.class_ids[:, None] == classes).astype(float)
    ridge = np.eye(table.shape[1]) * RIDGE * (centred**2).sum() / len(every)
    ridge[-1, -1] = 0
    for at, place in enumerate(places_):
        gone = [3, 17, 18] if place in (3, 17) else [place]
        rest = np.delete(every, gone)
        gram = table[rest].T @ table[rest] + ridge
        weights = np.linalg.solve(gram, table[rest].T @ targets[rest])
        assert scores[at] == pytest.approx(table[place] @ weights, abs=2e-4)


def test_confident_classes_by_hand() -> None:
    """Means of the own class: 0.6 and 0.5; the third photo reaches neither."""
    probability = np.array([[0.9, 0.1], [0.3, 0.7], [0.55, 0.45], [0.35, 0.65]])
    assert confident_classes(probability, np.array([0.6, 0.5])).tolist() == [0, 1, -1, 1]
    both = np.array([[0.48, 0.52]])
    assert confident_classes(both, np.array([0.4, 0.5])).tolist() == [1], "the more probable one"


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_sharpness_and_noise_are_the_most_likely(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 90)
    scores = rng.normal(size=(90, 3)) + 2 * np.eye(3)[labels]
    labels[:9] = rng.integers(0, 3, 9)

    def likelihood(scale: float, wrong: float) -> float:
        powers = np.exp(scale * scores)
        own = powers[np.arange(90), labels] / powers.sum(axis=1)
        # The prior: normal around 0 with a thousandth of the weight of all photos.
        prior = 0.5e-3 * (scale * scores.std()) ** 2
        return float(np.log((1 - wrong) * own + wrong / 3).mean() - prior)

    scale, wrong = fit_sharpness(scores, labels)
    best = likelihood(scale, wrong) + 1e-6
    assert all(best >= likelihood(scale * f, wrong) for f in (0.5, 0.9, 0.99, 1.01, 1.1, 2))
    # Towards a share of none the steps become ever shorter, and worth ever less.
    near = best + 1e-4
    assert all(near >= likelihood(scale, w) for w in (wrong / 2, wrong * 0.9, 1.1 * wrong, 0.3))


def test_share_of_wrong_labels_is_estimated() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    scores = 0.3 * rng.normal(size=(4000, 10)) + np.eye(10)[labels]
    true_scale, _ = fit_sharpness(scores, labels)
    labels[:400] = rng.integers(0, 10, 400)
    scale, wrong = fit_sharpness(scores, labels)
    assert wrong == pytest.approx(0.1, abs=0.015)
    assert scale == pytest.approx(true_scale, rel=0.15), "wrong labels do not make it softer"


def test_off_topic_against_the_formula(places: Path, tmp_path: Path) -> None:
    members, _ = members_of(places, tmp_path)
    rows = members.descriptors(np.arange(len(members.rows))).astype(np.float64)
    of_class = {}
    for place in np.flatnonzero(members.judged):
        copies = next((group for group in members.copies if place in group), (place,))
        others = [
            p
            for p in np.flatnonzero(members.class_ids == members.class_ids[place])
            if p not in copies
        ]
        mean = rows[others].mean(axis=0)
        of_class[place] = rows[place] @ mean / np.linalg.norm(rows[place]) / np.linalg.norm(mean)
    usual = {
        code: np.median([v for p, v in of_class.items() if members.class_ids[p] == code])
        for code in set(members.class_ids[members.judged].tolist())
    }
    away = {place: value - usual[members.class_ids[place]] for place, value in of_class.items()}
    lower, upper = np.quantile(list(away.values()), [0.25, 0.75])
    wanted = {p for p, v in away.items() if v < lower - MIN_OUTLIER_RANGES * (upper - lower)}
    found = find_off_topic(members, ClassLikeness(members))
    assert {one.member for one in found} == wanted and wanted
    for one in found:
        assert one.likeness.similarity == pytest.approx(of_class[one.member], abs=1e-5)


def test_a_stranger_is_off_topic_and_gets_no_label(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the recogniser says: it knows only which class is the nearest."""
    dataset = read_dataset(places, every_photo=True)
    names = sorted(set(dataset.labels))
    at = {path: position for position, path in enumerate(dataset.paths)}
    stray, wrong = at["place0/stray.png"], at["place2/wrong1.png"]

    def sure(*_: object) -> list[Mislabelled]:
        return [Mislabelled(photo, 0.0, names.index("place1"), 1.0) for photo in (stray, wrong)]

    monkeypatch.setattr(class_findings_module, "find_mislabelled", sure)
    found = cleaned(places, "mislabelled", "off-topic", describe=tiny_described(tmp_path))
    of_path = {one.path: one for one in found.findings}
    assert found.relabels() == {"place2/wrong1.png": "place1"}
    assert of_path["place2/wrong1.png"].suggestion == "relabel"
    assert "more than 99 %" in of_path["place2/wrong1.png"].reason
    one = of_path["place0/stray.png"]
    assert (one.kind, one.suggestion, one.suggested_label) == ("off-topic", "keep", None)
    assert one.reason.startswith("like no class: similarity ")
    assert "%" not in one.reason and one.score > 0.5


def test_likeness_to_another_class_leaves_out_the_photo_and_its_copies(
    places: Path, tmp_path: Path
) -> None:
    members, _ = members_of(places, tmp_path)
    likeness = ClassLikeness(members)
    rows = members.descriptors(np.arange(len(members.rows))).astype(np.float64)
    photo = 3
    other = int(members.class_ids[17])
    assert other != members.class_ids[photo] and {3, 17, 18} <= set(members.copies[0])
    rest = [p for p in np.flatnonzero(members.class_ids == other) if p not in members.copies[0]]
    mean = rows[rest].mean(axis=0)
    expected = rows[photo] @ mean / np.linalg.norm(rows[photo]) / np.linalg.norm(mean)
    assert likeness.to_class(photo, other).similarity == pytest.approx(expected, abs=1e-5)


def test_the_order_of_the_photos_does_not_matter(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sharpness is fitted on a sample, which is the same one in any order."""
    monkeypatch.setattr(mislabelled_module, "_MAX_FITTED_PHOTOS", 20)
    members, index = members_of(places, tmp_path)
    order = np.random.default_rng(0).permutation(len(members.rows))
    place = np.argsort(order)
    turned = replace(
        members,
        rows=members.rows[order],
        class_ids=members.class_ids[order],
        copies=tuple(tuple(int(place[one]) for one in group) for group in members.copies),
    )
    found = {one.member: one for one in find_mislabelled(members, index)}
    again = {int(order[one.member]): one for one in find_mislabelled(turned, index)}
    assert found and found.keys() == again.keys()
    for member, one in found.items():
        assert again[member].probability == pytest.approx(one.probability, abs=1e-6)


def test_copies_do_not_vouch_for_each_other(tmp_path: Path) -> None:
    """A photo with a wrong label, five times in its class, is found all five times."""
    root = tmp_path / "data"
    for scene in range(4):
        for number in range(8):
            save_view(root / f"place{scene}/{number}.png", scene, number, noise=0.3)
    for number in range(5):
        save_view(root / f"place0/copy{number}.png", 1, 99, noise=0.3)
    found = cleaned(root, "mislabelled", describe=tiny_described(tmp_path))
    assert {one.path for one in found.findings} == {f"place0/copy{n}.png" for n in range(5)}


def test_classes_of_few_photos_are_left_alone(places: Path, tmp_path: Path) -> None:
    members, index = members_of(places, tmp_path)
    few = members.names.index("few")
    assert not members.judged[members.class_ids == few].any()
    assert all(one.suggested != few for one in find_mislabelled(members, index))
