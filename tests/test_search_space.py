"""Search spaces: ranges and choices in recipes and on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")

from tiny_tuning import Toy, recipe

from veduta.errors import RecipeError
from veduta.learn.recipe import with_values
from veduta.learn.tuning.search_space import Choices, Range, parse_axis, read_space
from veduta.learn.tuning.tuner import tune


def test_a_space_is_read_with_its_types() -> None:
    made = recipe(
        {
            "training.learning_rate": {"low": 1, "high": 2},
            "training": {"batch": {"low": 8, "high": 64}},
            "network.layers.0.conv": {"low": 32, "high": 64, "step": 16},
            "network.layers.2.dropout": {"low": 0, "high": 0.2, "step": 0.05},
            "training.optimizer": {"choices": ["adam", "sgd"]},
            "network.layers.0": {"choices": [{"conv": 8}, {"flatten": True}]},
        }
    )

    assert read_space(made) == (
        Range("training.learning_rate", 1.0, 2.0, None, log=False, whole=False),
        Range("training.batch", 8, 64, None, log=False, whole=True),
        Range("network.layers.0.conv", 32, 64, 16, log=False, whole=True),
        Range("network.layers.2.dropout", 0.0, 0.2, 0.05, log=False, whole=False),
        Choices("training.optimizer", {"adam": "adam", "sgd": "sgd"}),
        Choices(
            "network.layers.0",
            {"{ conv = 8 }": {"conv": 8}, "{ flatten = true }": {"flatten": True}},
        ),
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "nothing to tune"),
        ({"training.bach": {"low": 1, "high": 2}}, "no 'bach' there; did you mean 'batch'"),
        ({"traning.batch": {"low": 1, "high": 2}}, "did you mean 'training'"),
        ({"network.layers.0.kernal": {"low": 1, "high": 2}}, "did you mean 'kernel'"),
        ({"network.layers.7.conv": {"low": 1, "high": 2}}, "the list has 3 items"),
        ({"training.batch.x": {"low": 1, "high": 2}}, "it has no keys inside"),
        ({"training.batch": 3}, r"expected \{"),
        ({"training.batch": {"low": 1, "hihg": 2}}, "unknown key hihg; did you mean 'high'"),
        ({"training.batch": {"low": 1}}, "missing required field `high`"),
        ({"training.batch": {"low": 2, "high": 2}}, "not less"),
        ({"training.batch": {"low": "a", "high": 2}}, "low: Expected"),
        ({"training.batch": {"low": True, "high": 2}}, "low: Expected"),
        ({"training.batch": {"low": 8, "high": 20, "step": 8}}, "no number of steps"),
        ({"training.batch": {"low": 8, "high": 16, "step": 0}}, "no number of steps"),
        ({"training.batch": {"low": 8, "high": 16, "step": -8}}, "no number of steps"),
        ({"training.batch": {"low": 1, "high": 2, "log": 1}}, "log: Expected `bool`"),
        ({"training.batch": {"low": 1, "high": 3, "step": 1, "log": True}}, "either step or log"),
        ({"training.l2": {"low": 0, "high": 1, "log": True}}, "greater than 0"),
        (
            {"training.batch": {"low": 1.5, "high": 2.5}},
            "expected a whole number of at least 1, not 1.5",
        ),
        (
            {"training.optimizer": {"low": 1, "high": 2}},
            "expected one of adam, adamw, rmsprop, sgd, not 1",
        ),
        (
            {"training.optimizer": {"choices": ["adam", "adams"]}},
            'expected one of adam, adamw, rmsprop, sgd, not "adams"',
        ),
        ({"training.optimizer": {"choices": []}}, "choices: Expected `array` of length >= 1"),
        ({"training.optimizer": {"choices": ["sgd", "sgd"]}}, "twice"),
        ({"training.optimizer": {"choices": ["sgd"], "low": 1}}, "either choices or low"),
        ({"training.monitor": {"choices": ["val_loss"]}}, "trials are compared by it"),
        ({"training.learning_rate": {"low": 1, "high": math.inf}}, "finite"),
    ],
)
def test_wrong_spaces_are_refused_before_anything_starts(
    tmp_path: Path, space: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        tune(recipe(space), tmp_path, tmp_path / "study", train=Toy())
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("key", "used_with"),
    [
        ("loss.margin", {"loss.name": "arcface"}),
        ("training.l2", {"network.layers.0.regularised": True, "training.l1": 0.1}),
    ],
)
def test_what_changes_the_loss_is_not_compared_by_it(key: str, used_with: dict[str, Any]) -> None:
    space = {key: {"low": 0.0, "high": 1.0}}
    assert read_space(with_values(recipe(space), used_with))
    with pytest.raises(RecipeError, match="cannot be compared"):
        read_space(recipe(space, monitor="val_loss"))


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("k=1:5", {"low": 1, "high": 5}),
        ("a.0.b = 8:64:8", {"low": 8, "high": 64, "step": 8}),
        ("k=1e-5:1e-1:log", {"low": 1e-5, "high": 1e-1, "log": True}),
        ("k=-1:1:0.5", {"low": -1, "high": 1, "step": 0.5}),
        ("k=adam,sgd", {"choices": ["adam", "sgd"]}),
        ("k=16,true,embedded:x", {"choices": [16, True, "embedded:x"]}),
    ],
)
def test_a_space_on_the_command_line(text: str, table: dict[str, Any]) -> None:
    key, read = parse_axis(text)
    assert key == text.partition("=")[0].strip()
    assert read == table


@pytest.mark.parametrize("text", ["", "k", "k=", "=1:2", "k=1", "k=a:b", "k=1:2:log:3", "k=1:2:x"])
def test_a_wrong_space_on_the_command_line(text: str) -> None:
    with pytest.raises(RecipeError, match="expected KEY=LOW:HIGH"):
        parse_axis(text)


@given(
    low=st.integers(0, 20), steps=st.integers(1, 9), step=st.sampled_from([0.05, 0.1, 0.3, 1, 7])
)
def test_a_stepped_range_reaches_both_of_its_ends(low: int, steps: int, step: float) -> None:
    high = round(low + steps * step, 10)
    table = {"low": low, "high": high, "step": step}
    (axis,) = read_space(recipe({"network.layers.2.dropout": table}))
    drawn = axis.distribution()  # Optuna warns, and warnings are errors, where a step is left over
    assert drawn.high == pytest.approx(high)
    assert drawn._contains(drawn.to_internal_repr(drawn.high))
