"""Tuning: the space, the study and its folder, the report, and the command."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")

from veduta.cli.main import run
from veduta.cli.tune import command
from veduta.errors import DatasetError, LearnError, RecipeError
from veduta.learn.recipe import Input, Network, Recipe, Training, Tuning, open_recipe
from veduta.learn.recipe_text import recipe_toml
from veduta.learn.runs.history import write_history
from veduta.learn.training.schedule import Epoch
from veduta.learn.tuning.search_space import Choices, Range, parse_axis, read_space
from veduta.learn.tuning.study import DatasetChoice, Study, open_study_folder, read_study
from veduta.learn.tuning.study_report import study_page, training_command
from veduta.learn.tuning.tuner import tune
from veduta.pages.study_page import write_study_page

LAYERS = ({"conv": 32, "kernel": 3}, {"flatten": True}, {"dropout": 0})
SPACE = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "training.batch": {"low": 8, "high": 64, "step": 8},
}


def recipe(space: Mapping[str, Any] = SPACE, **training: Any) -> Recipe:
    settings = {"epochs": 4, "seed": 5} | training
    return Recipe(
        "toy",
        network=Network(layers=LAYERS),
        training=Training(**settings),
        tune=Tuning(20, dict(space)),
    )


def nothing(_made: Recipe, _epoch: int) -> None:
    pass


class Toy:
    """Stands in for training: its figure is best, 0.9, at a rate of 0.003 and a batch of 40.

    Like the real one it goes on where an interrupted run ended. `also` is called in each epoch.
    """

    def __init__(self, also: Callable[[Recipe, int], None] = nothing) -> None:
        self.also = also
        self.folders: list[str] = []
        self.recipes: list[Recipe] = []

    def figure(self, made: Recipe) -> float:
        rate = math.log10(made.training.learning_rate / 0.003)
        return 0.9 - 0.1 * rate**2 - 0.1 * ((made.training.batch - 40) / 40) ** 2

    def __call__(self, made: Recipe, _dataset: Path, out: Path, **options: Any) -> None:
        self.folders.append(out.name)
        self.recipes.append(made)
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.toml").write_text(recipe_toml(made))
        checkpoint = out / "checkpoint"
        checkpoint.mkdir(exist_ok=True)
        history = []
        for number in range(1, made.training.epochs + 1):
            reached = self.figure(made) * number / made.training.epochs
            history.append(Epoch(number, 0.1, 0.1, 1.0, 0.5, 1 - reached, reached))
            if not (checkpoint / str(number)).exists():
                self.also(made, number)
                (checkpoint / str(number)).touch()
                options["on_epoch"](history[-1])
        for name in ("model.onnx", "card.md", "card.json"):
            (out / name).write_text(name)
        write_history(history, out / "history.csv")


def facts(study: Study) -> list[tuple[Any, ...]]:
    """All of the trials but how long they took."""
    return [(one.number, one.state, one.figure, dict(one.values)) for one in study.trials]


# The search


def test_finds_the_optimum_and_leaves_its_recipe(tmp_path: Path) -> None:
    toy = Toy()
    study = tune(recipe(), tmp_path, tmp_path / "study", trials=30, train=toy)

    best = study.best
    assert best is not None
    assert len(study.trials) == len(toy.recipes) == 30
    assert best.figure == pytest.approx(toy.figure(toy.recipes[best.number - 1]))
    assert best.figure == max(one.figure for one in study.trials if one.state == "complete")
    assert best.figure > 0.89  # a quarter of an order of magnitude and eight photos off
    assert study.importance["training.learning_rate"] > study.importance["training.batch"]
    assert sum(study.importance.values()) == pytest.approx(1)
    written = open_recipe(str(tmp_path / "study" / "best.toml"))
    assert written == replace(toy.recipes[best.number - 1], name="best")
    assert written.training.learning_rate == best.values["training.learning_rate"]
    assert written.tune == Tuning()
    assert written.network.layers == LAYERS


def test_a_seed_decides_the_trials(tmp_path: Path) -> None:
    one, same = (tune(recipe(), tmp_path, tmp_path / name, trials=15, train=Toy()) for name in "ab")
    other = tune(recipe(seed=6), tmp_path, tmp_path / "c", trials=15, train=Toy())

    assert facts(one) == facts(same)
    assert facts(one) != facts(other)


def test_a_study_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = tune(recipe(), tmp_path, tmp_path / "whole", trials=14, train=Toy())
    for trials in (3, 3, 11, 14):
        parts = tune(recipe(), tmp_path, tmp_path / "parts", trials=trials, train=Toy())

    assert facts(parts) == facts(whole)
    assert read_study(tmp_path / "parts") == parts


def test_val_loss_is_minimised(tmp_path: Path) -> None:
    made = recipe(monitor="val_loss")
    study = tune(made, tmp_path, tmp_path / "study", trials=25, train=Toy())

    assert study.best is not None
    assert study.best.figure == min(one.figure for one in study.ranked())
    assert study.best.figure < 0.11


def test_prunes_what_is_worse_than_the_median(tmp_path: Path) -> None:
    toy = Toy()
    study = tune(recipe(epochs=8), tmp_path, tmp_path / "study", trials=20, train=toy)

    states = [one.state for one in study.trials]
    assert "pruned" in states[5:]
    assert set(states[:5]) == {"complete"}  # of fewer there is no median to speak of
    for trial in study.trials:
        whole = toy.figure(toy.recipes[trial.number - 1])
        if trial.state == "pruned":
            complete = [one for one in study.trials[: trial.number] if one.state == "complete"]
            finals = sorted(one.figure for one in complete if one.figure is not None)
            # All grow alike, so the median at the epoch is that of the last epochs.
            assert whole < finals[len(finals) // 2]
            assert 2 <= trial.epochs < 8
            rows = (study.run(trial) / "history.csv").read_text().splitlines()
            assert len(rows) == 1 + trial.epochs
        else:
            assert trial.epochs == 8
            assert trial.figure == pytest.approx(whole)


# Failures


def test_failing_trials_are_recorded_and_do_not_stop_the_study(tmp_path: Path) -> None:
    kinds = [
        LearnError("epoch 2, step 3: the loss is no finite number"),
        RuntimeError("CUDA out of memory"),
        MemoryError(),
    ]

    def fails(made: Recipe, epoch: int) -> None:
        if made.training.batch > 40 and epoch == 2:
            raise kinds[len(toy.folders) % 3]

    toy = Toy(fails)
    study = tune(recipe(), tmp_path, tmp_path / "study", trials=20, train=toy)

    failed = [one for one in study.trials if one.state == "failed"]
    assert {one.number for one in failed} == {
        number for number, made in enumerate(toy.recipes, 1) if made.training.batch > 40
    } - {one.number for one in study.trials if one.state == "pruned"}
    assert {one.reason for one in failed} == {str(one) or "out of memory" for one in kinds}
    assert study.best is not None
    assert study.best.values["training.batch"] <= 40
    for trial in failed:
        assert "Traceback" in (study.run(trial) / "error.txt").read_text()
        assert len((study.run(trial) / "history.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("figure", [math.nan, math.inf, None])
def test_a_figure_that_is_none_fails_the_trial(tmp_path: Path, figure: float | None) -> None:
    def train(made: Recipe, _dataset: Path, out: Path, **options: Any) -> None:
        out.mkdir(parents=True)
        options["on_epoch"](Epoch(1, 0.1, 0.1, 1.0, 0.5, figure, figure))

    study = tune(recipe(), tmp_path, tmp_path / "study", trials=2, train=train)

    assert [one.state for one in study.trials] == ["failed", "failed"]
    assert study.best is None
    assert "val_accuracy" in study.trials[0].reason
    assert not (tmp_path / "study" / "best.toml").exists()


def test_stops_when_the_first_trials_fail_alike(tmp_path: Path) -> None:
    def fails(_made: Recipe, _epoch: int) -> None:
        raise LearnError("one class only")

    toy = Toy(fails)
    with pytest.raises(
        LearnError, match="first 3 trials failed for the same reason: one class only"
    ):
        tune(recipe(), tmp_path, tmp_path / "study", trials=20, train=toy)
    assert len(toy.folders) == 3


@pytest.mark.parametrize("kind", ["dataset", "disk", "bug"])
def test_what_concerns_all_trials_ends_the_call_and_can_be_mended(
    tmp_path: Path, kind: str
) -> None:
    def fails(_made: Recipe, _epoch: int) -> None:
        if len(toy.folders) != 2:
            return
        if kind == "dataset":
            raise DatasetError("labels.csv: does not read")
        if kind == "bug":
            raise KeyError("x")
        raise LearnError("cannot be written") from OSError(errno.ENOSPC, "no space left")

    toy = Toy(fails)
    with pytest.raises((DatasetError, LearnError, KeyError)):
        tune(recipe(), tmp_path, tmp_path / "study", trials=4, train=toy)
    assert [one.state for one in read_study(tmp_path / "study").trials] == ["complete", "running"]

    study = tune(recipe(), tmp_path, tmp_path / "study", trials=4, train=toy)
    assert toy.folders == ["0001", "0002", "0002", "0003", "0004"]
    assert [one.state for one in study.trials] == ["complete"] * 4


# Interruptions


def test_ctrl_c_leaves_a_trial_that_goes_on_at_its_epoch(tmp_path: Path) -> None:
    def interrupts(_made: Recipe, epoch: int) -> None:
        epochs.append((len(toy.folders), epoch))
        if (len(toy.folders), epoch) == (3, 2):
            raise KeyboardInterrupt

    epochs: list[tuple[int, int]] = []
    toy = Toy(interrupts)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe(), tmp_path, tmp_path / "study", trials=6, train=toy)
    study = tune(recipe(), tmp_path, tmp_path / "study", trials=6, train=toy)

    assert toy.folders == ["0001", "0002", "0003", "0003", "0004", "0005", "0006"]
    assert [epoch for call, epoch in epochs if call == 4] == [2, 3, 4]
    whole = tune(recipe(), tmp_path, tmp_path / "whole", trials=6, train=Toy())
    assert facts(study) == facts(whole)


def test_hours_end_a_call_after_an_epoch(tmp_path: Path) -> None:
    def slow(_made: Recipe, _epoch: int) -> None:
        time.sleep(0.02)

    toy = Toy(slow)
    first = tune(recipe(), tmp_path, tmp_path / "study", trials=2, hours=0.001 / 3600, train=toy)
    assert [(one.state, one.epochs) for one in first.trials] == [("running", 1)]

    second = tune(recipe(), tmp_path, tmp_path / "study", trials=2, train=toy)
    assert toy.folders == ["0001", "0001", "0002"]
    assert [(one.state, one.epochs) for one in second.trials] == [("complete", 4)] * 2
    assert second.trials[0].seconds >= 0.08  # of both calls


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tuning import Toy, recipe, tune

def also(made, epoch):
    if (len(toy.folders), epoch) == (4, 3):
        Path({marker!r}).touch()
        time.sleep(60)

toy = Toy(also)
tune(recipe(), Path({root!r}), Path({root!r}) / "study", trials=8, train=toy)
"""


def test_resumes_after_kill_9(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    script = KILLED.format(tests=str(Path(__file__).parent), marker=str(marker), root=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        for _ in range(600):
            if marker.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert marker.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    toy = Toy()
    study = tune(recipe(), tmp_path, tmp_path / "study", trials=8, train=toy)

    assert toy.folders == ["0004", "0005", "0006", "0007", "0008"]
    whole = tune(recipe(), tmp_path, tmp_path / "whole", trials=8, train=Toy())
    assert facts(study) == facts(whole)


def test_a_line_that_a_crash_cut_short_is_taken_off(tmp_path: Path) -> None:
    tune(recipe(), tmp_path, tmp_path / "study", trials=3, train=Toy())
    with (tmp_path / "study" / "study.jsonl").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"9f')

    study = tune(recipe(), tmp_path, tmp_path / "study", trials=5, train=Toy())
    assert [one.state for one in study.trials] == ["complete"] * 5
    whole = tune(recipe(), tmp_path, tmp_path / "whole", trials=5, train=Toy())
    assert facts(study) == facts(whole)


def test_a_run_that_only_lacked_the_book_keeping_is_not_trained_again(tmp_path: Path) -> None:
    def killed(made: Recipe, dataset: Path, out: Path, **options: Any) -> None:
        told = options.pop("on_epoch")
        # The last epoch reaches the history, but nobody is told of it.
        toy(made, dataset, out, on_epoch=lambda one: one.number < 4 and told(one), **options)
        raise KeyboardInterrupt

    toy = Toy()
    with pytest.raises(KeyboardInterrupt):
        tune(recipe(), tmp_path, tmp_path / "study", trials=1, train=killed)
    study = tune(recipe(), tmp_path, tmp_path / "study", trials=1, train=toy)

    assert toy.folders == ["0001"]
    assert study.trials[0].figure == pytest.approx(toy.figure(toy.recipes[0]))


def test_a_trial_that_ends_its_process_again_and_again_is_given_up(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    dataset = DatasetChoice(str(tmp_path))
    for _ in range(3):
        opened = open_study_folder(folder, recipe(), read_space(recipe()), dataset)
        trial = opened.claim(2)
        assert trial is not None
        assert trial.number == 1
        trial.lock.release()  # The kernel does this for a killed process.

    toy = Toy()
    study = tune(recipe(), tmp_path, folder, trials=2, train=toy)
    assert [one.state for one in study.trials] == ["failed", "complete"]
    assert "3 times" in study.trials[0].reason
    assert toy.folders == ["0002"]


TOGETHER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tuning import Toy, recipe, tune

toy = Toy(lambda made, epoch: time.sleep(0.02))
tune(recipe(), Path({root!r}), Path({root!r}) / "study", trials=16, train=toy)
print(" ".join(toy.folders))
"""


def test_processes_share_a_study(tmp_path: Path) -> None:
    script = TOGETHER.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(said[0] + said[1]) == [f"{number:04d}" for number in range(1, 17)]
    study = read_study(tmp_path / "study")
    assert {one.state for one in study.trials} <= {"complete", "pruned"}
    assert len({tuple(one.values.values()) for one in study.trials}) == 16
    assert study.best is not None
    assert (study.run(study.best) / "model.onnx").exists()


# The folder


@pytest.mark.parametrize("keep_all", [False, True])
def test_only_the_best_run_stays_whole(tmp_path: Path, keep_all: bool) -> None:
    study = tune(recipe(), tmp_path, tmp_path / "s", trials=8, train=Toy(), keep_all=keep_all)

    for trial in study.trials:
        left = {one.name for one in study.run(trial).iterdir()}
        if trial == study.best or (keep_all and trial.state == "complete"):
            assert left == {
                "card.json",
                "card.md",
                "history.csv",
                "recipe.toml",
                "model.onnx",
                "checkpoint",
            }
        elif not keep_all:
            assert left <= {"card.json", "card.md", "history.csv", "recipe.toml"}
            assert {"history.csv", "recipe.toml"} <= left


def test_a_study_is_of_one_recipe_space_and_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    tune(recipe(), tmp_path, folder, trials=2, train=Toy())
    before = (folder / "study.jsonl").read_bytes()

    narrow = {**SPACE, "training.batch": {"low": 8, "high": 32, "step": 8}}
    (tmp_path / "other").mkdir()
    for made, dataset, column, what in (
        (recipe(epochs=5), tmp_path, "split", "another recipe"),
        (recipe(narrow), tmp_path, "split", r"another \[tune.space\]"),
        (recipe(), tmp_path / "other", "split", "another dataset"),
        (recipe(), tmp_path, "cls_split", "another column"),
    ):
        with pytest.raises(LearnError, match=what):
            tune(made, dataset, folder, trials=3, column=column, train=Toy())
    assert (folder / "study.jsonl").read_bytes() == before
    about = replace(recipe(), about="said otherwise", name="renamed")
    assert len(tune(about, tmp_path, folder, trials=3, train=Toy()).trials) == 3


def test_the_command_that_trains_the_best_reads_the_same_photos(tmp_path: Path) -> None:
    data = tmp_path / "a b"
    data.mkdir()
    for number, (labels, column, options) in enumerate(
        (
            (None, "split", ""),
            ("l.csv", "cls_split", " --labels l.csv --column cls_split"),
        )
    ):
        folder = tmp_path / str(number)
        study = tune(recipe(), data, folder, trials=1, labels=labels, column=column, train=Toy())
        assert training_command(study) == (
            f"veduta train {folder}/best.toml '{data}'{options} --out RUN"
        )


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    opened = open_study_folder(
        tmp_path / "study", recipe(), read_space(recipe()), DatasetChoice(str(tmp_path))
    )
    opened.study.set_user_attr("dataset", 3)
    with pytest.raises(LearnError, match=r"study\.jsonl: the study is damaged: dataset: Expected"):
        read_study(tmp_path / "study")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"photo")

    with pytest.raises(LearnError, match="not a study"):
        tune(recipe(), tmp_path, tmp_path / "photos", train=Toy())
    assert [one.name for one in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    with pytest.raises(LearnError, match="not a study"):
        read_study(tmp_path / "photos")
    with pytest.raises(LearnError, match="cannot be written"):
        tune(recipe(), tmp_path, tmp_path / "photos" / "a.jpg" / "study", train=Toy())


# The space


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


@pytest.mark.parametrize("key", ["loss.margin", "training.l2"])
def test_what_changes_the_loss_is_not_compared_by_it(key: str) -> None:
    space = {key: {"low": 0.0, "high": 1.0}}
    assert read_space(recipe(space))
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


# The page


@pytest.fixture(scope="module")
def odd_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Trials of every state, choices with a name that is HTML, a key with a logarithmic range."""
    root = tmp_path_factory.mktemp("page") / "a & <b>"
    root.mkdir()

    def fails(made: Recipe, _epoch: int) -> None:
        if made.training.batch > 56:
            raise LearnError("<script>alert(1)</script> out of memory")

    space = {
        **SPACE,
        "network.layers.0.conv": {"low": 32, "high": 64, "step": 16},
        "network.weights": {"choices": ["<i>none</i>", "a" * 60, "pretrained"]},
    }
    made = replace(recipe(space), name="<b>toy</b>")
    return tune(made, root, root / "study", trials=30, train=Toy(fails))


def test_the_page_says_all_and_needs_nothing_else(odd_study: Study, tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", study_page(odd_study))
    page = (tmp_path / "report.html").read_text("utf-8")

    assert "&lt;b&gt;toy&lt;" in page
    for bad in ("<b>toy", "<script", "<i>none", "<link", "@import"):
        assert bad not in page
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= namespaces
    assert page.count("<svg") == 2 + len(odd_study.axes)
    assert odd_study.best is not None
    assert f"{odd_study.best.figure:.4f}" in page
    assert "prefers-color-scheme: dark" in page
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == 30
    assert {"complete", "pruned", "failed"} <= set(re.findall(r"text state (\w+)", body))


def test_the_page_of_a_study_without_a_figure(tmp_path: Path) -> None:
    def fails(_made: Recipe, _epoch: int) -> None:
        raise LearnError("no memory")

    study = tune(recipe(), tmp_path, tmp_path / "study", trials=1, train=Toy(fails))
    write_study_page(tmp_path / "report.html", study_page(study))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "no trial is complete" in page
    assert "<svg" not in page


def test_the_page_fits_desk_and_phone(odd_study: Study, browser: Any, tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", study_page(odd_study))
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.title() == "Tuning of <b>toy</b>"
        assert said == []
        page.close()


# The command


def invoke(monkeypatch: pytest.MonkeyPatch, toy: Any, *arguments: str) -> Result:
    monkeypatch.setattr("veduta.learn.runs.train.train", toy)
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture
def toml(tmp_path: Path) -> str:
    file = tmp_path / "toy.toml"
    file.write_text(recipe_toml(recipe()))
    return str(file)


def test_the_command(tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    study = tmp_path / "study"
    toy = Toy()
    done = invoke(
        monkeypatch,
        toy,
        toml,
        str(tmp_path),
        "--out",
        str(study),
        "--trials",
        "12",
        "--set",
        "training.epochs=2",
        "--space",
        "training.optimizer=adam,sgd",
    )

    assert done.exit_code == 0, done.output
    assert {made.training.epochs for made in toy.recipes} == {2}
    assert {made.training.optimizer for made in toy.recipes} == {"adam", "sgd"}
    assert len(toy.recipes) == 12
    table = done.stdout
    assert "12 trials" in table
    assert re.search(r"^ +1 +\d+ +0\.\d{4}  complete +2 ", table, re.M)
    figures = [float(one) for one in re.findall(r"(0\.\d{4})  complete", table)]
    assert figures == sorted(figures, reverse=True)
    assert "best.toml" in table
    assert "trial 12 of 12: " in done.stderr
    assert (study / "report.html").exists()
    assert open_recipe(str(study / "best.toml")).training.epochs == 2
    for line in [*table.splitlines(), *done.stderr.splitlines()]:
        assert len(line) <= 80 or str(tmp_path) in line

    again = invoke(
        monkeypatch,
        toy,
        toml,
        str(tmp_path),
        "--out",
        str(study),
        "--trials",
        "12",
        "--json",
        "--set",
        "training.epochs=2",
        "--space",
        "training.optimizer=adam,sgd",
    )
    told = json.loads(again.stdout)
    assert len(toy.recipes) == 12  # nothing was left to do
    assert again.stderr == ""
    assert told["best"] in range(1, 13)
    assert [one["trial"] for one in told["trials"]] == list(range(1, 13))


def test_the_command_says_what_is_wrong(
    tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")

    def fails(_made: Recipe, _epoch: int) -> None:
        raise LearnError("one class only")

    monkeypatch.setattr("veduta.learn.runs.train.train", Toy(fails))
    out = ["--out", str(tmp_path / "study")]
    for arguments, code, message in (
        ([toml, "nowhere", *out], 2, "nowhere"),
        ([toml, str(tmp_path), *out, "--space", "training.batch=9"], 3, "KEY=LOW:HIGH"),
        ([toml, str(tmp_path), *out, "--space", "training.bach=1:9"], 3, "did you mean 'batch'"),
        ([toml, str(tmp_path), *out, "--trials", "0"], 2, "--trials"),
        ([toml, str(tmp_path), *out, "--hours", "0"], 2, "--hours"),
        ([toml, str(tmp_path), *out], 3, "failed for the same reason: one class only"),
        ([toml, str(tmp_path), "--out", str(tmp_path / "b"), "--trials", "2"], 3, "all trials"),
    ):
        assert run_command(arguments) == code
        assert message in capsys.readouterr().err


def run_command(arguments: list[str]) -> int:
    """Run the command as `veduta.cli.main` does."""
    return run(["tune", *arguments])


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, toml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")

    def interrupts(_made: Recipe, _epoch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veduta.learn.runs.train.train", Toy(interrupts))
    assert run_command([toml, str(tmp_path), "--out", str(tmp_path / "study")]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_real_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials of one epoch, on photos that differ in colour."""
    for package in ("torch", "torchvision", "pytorch_lightning", "onnxscript"):
        pytest.importorskip(package)
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    layers = ({"flatten": True}, {"dense": 4}, {"dense": "classes"})
    made = replace(
        recipe({"network.layers.1.dense": {"low": 4, "high": 8}}, epochs=1, batch=4),
        input=Input(size=16),
        network=Network(layers=layers),
    )
    (tmp_path / "real.toml").write_text(recipe_toml(made))
    study = tmp_path / "study"
    asked = [str(tmp_path / "real.toml"), str(tmp_path / "photos"), "--out", str(study)]

    assert run_command([*asked, "--trials", "2"]) == 0, capsys.readouterr()
    said = capsys.readouterr()
    assert "2 trials (2 complete)" in said.out
    read = read_study(study)
    assert read.best is not None
    best = read.run(read.best)
    assert {"model.onnx", "model.safetensors", "card.json"} <= {one.name for one in best.iterdir()}
    card = json.loads((best / "card.json").read_text())
    assert card["values"]["network"]["layers"][1]["dense"] in range(4, 9)
    assert card["recipe_digest"] == open_recipe(str(study / "best.toml")).digest()
    assert card["val"]["accuracy"] == pytest.approx(read.best.figure)


def test_help_is_quick_to_load() -> None:
    code = (
        "import sys; import veduta.cli.tune, veduta.cli.recipes; "
        "print([one for one in ('torch', 'optuna', 'matplotlib', 'numpy') if one in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "[]"
