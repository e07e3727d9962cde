"""Tuning: the search, failures, interruptions, and the folder of a study."""

from __future__ import annotations

import errno
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from tiny_tuning import LAYERS, SPACE, Toy, facts, recipe

from veduta.errors import DatasetError, LearnError
from veduta.learn.recipe import Recipe, Tuning, open_recipe
from veduta.learn.training.schedule import Epoch
from veduta.learn.tuning.search_space import read_space
from veduta.learn.tuning.study import DatasetChoice, open_study_folder, read_study
from veduta.learn.tuning.study_report import training_command
from veduta.learn.tuning.tuner import tune

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
from tiny_tuning import Toy, recipe
from veduta.learn.tuning.tuner import tune

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
from tiny_tuning import Toy, recipe
from veduta.learn.tuning.tuner import tune

toy = Toy(lambda made, epoch: time.sleep(0.02))
tune(recipe(), Path({root!r}), Path({root!r}) / "study", trials=16, train=toy)
print(" ".join(toy.folders))
"""


@pytest.mark.slow
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
    for options in ({"exclude": ("raw/",)}, {"photos_per_class": 3}, {"subset_seed": 1}):
        with pytest.raises(LearnError, match=f"another {next(iter(options))}"):
            tune(recipe(), tmp_path, folder, trials=3, train=Toy(), **options)  # type: ignore[arg-type]
    assert (folder / "study.jsonl").read_bytes() == before
    about = replace(recipe(), about="said otherwise", name="renamed")
    assert len(tune(about, tmp_path, folder, trials=3, train=Toy()).trials) == 3


def test_the_command_that_trains_the_best_reads_the_same_photos(tmp_path: Path) -> None:
    data = tmp_path / "a b"
    data.mkdir()
    chosen = {"labels": "l.csv", "column": "cls_split", "exclude": ("raw/", "*.bmp")}
    chosen |= {"photos_per_class": 8, "subset_seed": 2}
    all_options = " --labels l.csv --exclude raw/ --exclude '*.bmp' --column cls_split"
    all_options += " --photos-per-class 8 --subset-seed 2"
    for number, (choice, options) in enumerate((({}, ""), (chosen, all_options))):
        folder = tmp_path / str(number)
        toy = Toy()
        study = tune(recipe(), data, folder, trials=1, train=toy, **choice)  # type: ignore[arg-type]
        assert {key: toy.options[key] for key in choice} == choice
        again = tune(recipe(), data, folder, trials=2, train=toy, **choice)  # type: ignore[arg-type]
        assert len(again.trials) == 2
        assert training_command(study) == (
            f"veduta train {folder}/best.toml '{data}'{options} --out RUN"
        )


def test_a_study_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    """Its journal does not have the options that came later."""
    folder = tmp_path / "study"
    tune(recipe(), tmp_path, folder, trials=1, train=Toy())
    journal = folder / "study.jsonl"
    newer = ("exclude", "photos_per_class", "subset_seed")
    kept = [
        line
        for line in journal.read_text().splitlines(keepends=True)
        if not any(f'"{key}"' in line for key in newer)
    ]
    journal.write_text("".join(kept))
    with pytest.raises(LearnError, match="another exclude"):
        tune(recipe(), tmp_path, folder, trials=2, exclude=["raw/"], train=Toy())
    assert len(tune(recipe(), tmp_path, folder, trials=2, train=Toy()).trials) == 2


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
