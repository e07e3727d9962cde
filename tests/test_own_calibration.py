"""A collection that asks itself: what it learns, and when it must learn nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta import index
from veduta.index.calibration import Correction, Corrections, calibration_of_index, probability
from veduta.index.distinct_photos import distinct_photos
from veduta.index.graph import open_graph
from veduta.index.manifest import Manifest
from veduta.index.own_calibration import VerifiedPairs, ask_itself, fit_correction
from veduta.index.snapshot import open_snapshot
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
    for scene in range(SCENES):
        for number in range(VIEWS):
            save_view(folder / "photos" / f"{scene}_{number}.png", scene, number, noise=0.5)
    return folder


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
    assert corrections.first != Correction() and corrections.further != Correction()


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
    assert float(corrections.first.apply(np.array(4.0))) > 0
    assert float(by_places.first.apply(np.array(4.0))) > 0


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


def test_known_pairs_by_hand() -> None:
    pairs = VerifiedPairs(np.array([0 * 5 + 3, 1 * 5 + 2, 2 * 5 + 4]), np.array([7.0, 8.0, 9.0]))
    np.testing.assert_array_equal(pairs.of_photo(2, np.array([0, 1, 3, 4]), 5), [0, 8, 0, 9])
    np.testing.assert_array_equal(pairs.of_photo(3, np.array([0]), 5), [7])
    none = VerifiedPairs(np.empty(0, np.int64), np.empty(0))
    np.testing.assert_array_equal(none.of_photo(3, np.array([0, 1]), 5), [0, 0])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_correction_is_the_maximum_that_an_optimiser_finds(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, count)
    right = rng.random(count) < probability(0.5 * logits - 1)
    weights = rng.uniform(0, 5, count)

    def loss(values: Any) -> float:
        slope, shift = values
        signed = np.where(right, -1, 1) * (slope * logits + shift)
        prior = 20 * (slope - 1) ** 2 / 2 + shift**2 / 2
        return float((weights * np.logaddexp(0, signed)).sum() + prior)

    slope, shift = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    found = fit_correction(logits, right, weights)
    assert found.slope == pytest.approx(max(0, slope), abs=1e-4)
    assert found.shift == pytest.approx(shift, abs=1e-3)


def test_no_answers_change_nothing() -> None:
    nothing = np.empty(0)
    assert fit_correction(nothing, np.empty(0, bool), nothing) == Correction()
