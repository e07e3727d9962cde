"""A collection that asks itself: what it learns, and when it must learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import index
from veduta.index import asked_pairs
from veduta.index.calibration import (
    Corrections,
    FirstCorrection,
    FurtherCorrection,
    calibration_of_index,
    probability,
)
from veduta.index.distinct_photos import distinct_photos
from veduta.index.graph import graph_state, open_graph
from veduta.index.manifest import Manifest
from veduta.index.own_calibration import ask_itself, fit_correction
from veduta.index.snapshot import open_snapshot
from veduta.keypoints import Keypoints
from veduta.search.reranking import open_gallery

SCENES, VIEWS = 14, 4


def write_labels(file: Path, label_of: Any) -> Path:
    lines = ["path,label"]
    for scene in range(SCENES):
        for number in range(VIEWS):
            if (label := label_of(scene, number)) is not None:
                lines.append(f"{file.parent}/photos/{scene}_{number}.png,{label}")
    file.write_text("\n".join(lines) + "\n")
    return file


def place(scene: int, number: int) -> str:
    del number
    return f"place {scene}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    save_photos(folder)
    return folder


def save_photos(folder: Path) -> None:
    for scene in range(SCENES):
        for number in range(VIEWS):
            save_view(folder / "photos" / f"{scene}_{number}.png", scene, number, noise=0.5)


def indexed(photos: Path, name: str, labels: Any) -> Path:
    made = photos / name
    encoder, extractor = CentredEncoder(), TinyExtractor()
    index.create_index(made, encoder, extractor)
    rule = write_labels(photos / f"{name}.csv", labels) if labels else None
    index.update_index(made, [photos / "photos"], encoder, extractor, labels=rule)
    return made


def learned(made: Path) -> Corrections:
    gallery = open_gallery(made)
    assert gallery.graph is not None
    return gallery.graph.by_geometry


def test_a_collection_with_labels_learns(photos: Path) -> None:
    corrections = learned(indexed(photos, "labelled", place))
    assert corrections.questions > 60
    assert corrections.first != FirstCorrection()
    assert corrections.further != FurtherCorrection()
    assert corrections.further.order_slope > 0


def test_a_collection_without_labels_learns_nothing(photos: Path) -> None:
    assert learned(indexed(photos, "plain", None)) == Corrections()


def test_one_label_for_all_teaches_nothing(photos: Path) -> None:
    """If it is hidden nothing is left to be found."""
    assert learned(indexed(photos, "one", lambda *_: "everything")) == Corrections()


def test_a_label_for_each_photo_teaches_nothing(photos: Path) -> None:
    """No photo can be found, because none has another of its label."""
    assert (
        learned(indexed(photos, "each", lambda scene, number: f"photo {scene} {number}"))
        == Corrections()
    )


def test_labels_that_are_no_places_do_not_make_proven_hits_wrong(photos: Path) -> None:
    """Two labels, each on half of the photos of every place, as folders of two years have them."""
    corrections = learned(indexed(photos, "years", lambda _, number: f"year {number % 2}"))
    by_places = learned(photos / "labelled")
    calibration = calibration_of_index(Manifest.read(photos / "years"))
    for learned_here in (corrections, by_places):
        proven = calibration.first_logit(np.array(4.0), np.array(100.0), learned_here.first)
        assert float(proven) > 0


def test_labels_may_change_without_new_photos(photos: Path) -> None:
    made = indexed(photos, "changed", None)
    assert learned(made) == Corrections()
    rule = write_labels(photos / "changed.csv", place)
    index.update_index(made, [photos / "photos"], CentredEncoder(), TinyExtractor(), labels=rule)
    assert learned(made) == learned(photos / "labelled")


def test_without_keypoints_it_asks_by_similarity(photos: Path) -> None:
    made = photos / "labelled"
    manifest, snapshot = Manifest.read(made), open_snapshot(made)
    graph = open_graph(made, manifest)
    assert graph is not None
    alone = ask_itself(
        snapshot, distinct_photos(snapshot), graph, None, calibration_of_index(manifest)
    )
    assert alone == graph.by_similarity != graph.by_geometry


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_correction_is_the_maximum_that_an_optimiser_finds(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 3, (count, 2))
    constant = float(rng.normal())
    right = rng.random(count) < probability(parts @ [0.5, 1.5] - 1)
    weights = rng.uniform(0, 5, count)
    precisions = (100.0, 20.0, 1.0)

    def loss(values: Any) -> float:
        signed = np.where(right, -1, 1) * (parts @ values[:2] + values[2] + constant)
        prior = np.array(precisions) @ (values - [1.0, 1.0, 0.0]) ** 2 / 2
        return float((weights * np.logaddexp(0, signed)).sum() + prior)

    best = minimize(loss, [1.0, 1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    found = fit_correction(parts, constant, right, weights, precisions)
    np.testing.assert_allclose(found, best, atol=1e-3)


def test_no_answers_change_nothing() -> None:
    nothing = np.empty((0, 2))
    no_answers = np.empty(0, bool), np.empty(0)
    assert fit_correction(nothing, -3.0, *no_answers, (20.0, 20.0, 1.0)) == (1.0, 1.0, 0.0)


def test_the_photos_of_a_question_are_verified_like_those_of_a_search(photos: Path) -> None:
    """Of a hidden label no verified link is left, but the nearest strangers are verified."""
    made = photos / "labelled"
    manifest, snapshot = Manifest.read(made), open_snapshot(made)
    graph = open_graph(made, manifest)
    assert graph is not None
    asked: list[tuple[int, Sequence[int]]] = []

    def count_matches(row: int, others: Sequence[int]) -> list[int]:
        asked.append((row, others))
        return [0] * len(others)

    calibration = calibration_of_index(manifest)
    ask_itself(snapshot, distinct_photos(snapshot), graph, count_matches, calibration)
    labels = snapshot.rows["label"].to_pylist()
    assert all(len(others) == 10 and row not in others for row, others in asked)
    shown = [row for row, others in asked if labels[row] in {labels[one] for one in others}]
    hidden = [row for row, others in asked if labels[row] not in {labels[one] for one in others}]
    assert sorted(shown) == sorted(hidden) == list(range(SCENES * VIEWS))


def test_a_pair_is_verified_for_the_questions_of_one_update_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later update asks nearly the same questions. What it learns is what a new index learns."""
    save_photos(tmp_path)
    verified: list[int] = []
    real = asked_pairs.verify_many

    def counted(query: Keypoints, others: Sequence[Keypoints], *rest: Any) -> Any:
        verified.append(len(others))
        return real(query, others, *rest)

    monkeypatch.setattr(asked_pairs, "verify_many", counted)
    made, rule = indexed(tmp_path, "first", place), tmp_path / "first.csv"
    all_at_once, verified[:] = sum(verified), []
    save_view(tmp_path / "photos" / "0_0.png", 0, VIEWS, noise=0.5)
    index.update_index(made, [tmp_path / "photos"], CentredEncoder(), TinyExtractor(), labels=rule)
    assert 0 < sum(verified) < all_at_once / 4
    again = indexed(tmp_path, "again", place)
    assert learned(made) == learned(again)


def test_an_interrupt_of_the_questions_keeps_what_was_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_photos(tmp_path)

    class Interrupt(BaseException):
        pass

    real = asked_pairs.verify_many
    calls: list[int] = []

    def interrupted(query: Keypoints, others: Sequence[Keypoints], *rest: Any) -> Any:
        calls.append(len(others))
        if len(calls) == 10:
            raise Interrupt
        return real(query, others, *rest)

    monkeypatch.setattr(asked_pairs, "verify_many", interrupted)
    with pytest.raises(Interrupt):
        indexed(tmp_path, "cut", place)
    made = tmp_path / "cut"
    assert graph_state(made, Manifest.read(made)) == "unfinished"
    calls[:] = [0] * 10
    index.update_index(
        made, [tmp_path / "photos"], CentredEncoder(), TinyExtractor(), labels=tmp_path / "cut.csv"
    )
    assert graph_state(made, Manifest.read(made)) == "whole"
    assert learned(made) == learned(indexed(tmp_path, "whole", place))
