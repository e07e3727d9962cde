"""The tables of `benchmarks.explanations`, and the maps that it makes by itself."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.explanation_measures import (
    AREAS,
    CONTROLS,
    Measured,
    comparison_table,
    faithfulness_score,
    measure_controls,
    measure_method,
    measures_table,
    ranking_of,
)

from veduta.explanation import Explanation


def explained(values: list[list[float]], box: tuple[int, int, int, int]) -> Explanation:
    pixels = np.zeros((10, 20, 3), np.uint8)
    return Explanation("a.jpg", pixels, np.array(values, np.float32), box, "shares", seconds=0.25)


def measured(**figures: list[float]) -> Measured:
    names = dict(zip(("a", "b", "c", "d"), AREAS, strict=True))
    return Measured(values={names[name]: values for name, values in figures.items()})


def test_a_map_of_a_reduced_copy_is_laid_over_the_whole_photo() -> None:
    photo = np.zeros((20, 40, 3), np.uint8)
    ranking = ranking_of(explained([[1, 2]], (5, 0, 10, 10)), photo)
    assert ranking.shape == (20, 40)
    assert not ranking[:, :10].any()
    assert not ranking[:, 30:].any()
    assert (ranking[:, 10], ranking[:, 29]) == (pytest.approx(1), pytest.approx(2))


def test_a_method_that_knows_the_scorer_beats_every_control() -> None:
    rng = np.random.default_rng(0)
    found: dict[str, Measured] = {}
    for _ in range(4):
        pixels = rng.integers(0, 256, (10, 20, 3), dtype=np.uint8)
        weights = np.zeros((10, 20))
        weights[:3, :5] = 1  # a corner

        def scorer(photos: list[np.ndarray], weights: np.ndarray = weights) -> np.ndarray:
            return np.array([-np.sum(weights * photo[..., 0].std()) for photo in photos])

        def corner(_: np.ndarray) -> Explanation:
            return explained([[1, 0], [0, 0]], (0, 0, 20, 10))

        region = weights > 0
        measure_method(found.setdefault("corner", Measured()), corner, None, pixels, scorer, region)
        measure_controls(found, pixels, scorer, region)
    assert set(found) == {"corner", *CONTROLS}
    assert found["corner"].values["maximum inside"] == [1] * 4
    others = [np.mean(found[name].values["mass inside"]) for name in CONTROLS]
    assert np.mean(found["corner"].values["mass inside"]) > max(others)
    lines = measures_table(found).splitlines()
    assert lines[2].startswith("| corner |")
    assert lines[2].endswith("| 250 |")


def test_the_order_of_methods_is_that_of_insertion_minus_deletion() -> None:
    good = measured(a=[0.1, 0.3], b=[0.8, 0.6], c=[0.2, 0.2], d=[0.9, 0.7])
    # (0.7 - 0.2 + 0.8 - 0.2) / 2
    assert faithfulness_score(good) == pytest.approx(0.55)
    bad = measured(a=[0.5, 0.5], b=[0.5, 0.5], c=[0.5, 0.5], d=[0.5, 0.5])
    rows = measures_table({"bad": bad, "random": good, "good": good}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| good", "| bad", "| random"]


def test_verdicts_say_better_worse_or_neither() -> None:
    first = measured(a=[0.1, 0.2, 0.1, 0.2], b=[0.5, 0.9, 0.1, 0.4])
    second = measured(a=[0.8, 0.9, 0.7, 0.9], b=[0.6, 0.7, 0.2, 0.3])
    row = comparison_table({"x": first, "y": second}, "x", ["y"]).splitlines()[2]
    _, _, deletion, insertion, _ = row.split("|")
    # A smaller deletion is better: the difference is turned round.
    assert deletion.strip().startswith("+0.675")
    assert deletion.strip().endswith("better, intervals apart")
    assert insertion.strip().endswith("no difference shown")
    back = comparison_table({"x": first, "y": second}, "y", ["x"]).splitlines()[2]
    assert back.split("|")[2].strip().endswith("worse, intervals apart")


@pytest.mark.usefixtures("one_torch_thread")
def test_shares_in_torch_are_those_of_the_encoder() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from benchmarks.similarity_maps import NETWORK, _in_torch, shares_of
    from tiny_onnx import scene

    from veduta.encoders import load_encoder
    from veduta.explanation.similarity import explain_similarity
    from veduta.learn.models.embedded_network import embedded_network

    encoder = load_encoder("accurate")
    network = embedded_network(NETWORK, pretrained=True).eval().requires_grad_(False)
    query, hit = scene(96, 384, seed=1), scene(96, 384, seed=2)
    exact = explain_similarity(encoder, query, hit)
    again = _in_torch(shares_of, encoder, network, hit)(query)
    assert again.map == pytest.approx(exact.map, abs=2e-5)
