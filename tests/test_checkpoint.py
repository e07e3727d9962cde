"""Interrupted runs: they continue, bit for bit, as if they had not been interrupted."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny import save
from tiny_training import AUGMENT, coloured_photos, tiny_recipe, train

from veduta.errors import LearnError
from veduta.learn.training import checkpoint
from veduta.learn.training.loop import TrainingResult
from veduta.learn.training.schedule import Epoch

pytestmark = pytest.mark.usefixtures("one_torch_thread")


TOUGH = {
    "epochs": 6,
    "mixup": 0.3,
    "reduce_patience": 1,
    "balanced": True,
    "learning_rate": 0.005,
    "unfreeze_after": 2,
}
KILLED = """
import os, signal, sys
from pathlib import Path
import tiny_training as t
import torch
from test_checkpoint import TOUGH
torch.set_num_threads(1)
photos, out, when = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def now(doing, done, total):
    if doing == "Training" and done >= when:
        os.kill(os.getpid(), signal.SIGKILL)
t.train(t.tiny_recipe(augment=t.AUGMENT, **TOUGH), photos, out, on_progress=now)
"""


def is_same(one: TrainingResult, other: TrainingResult) -> bool:
    weights = [trained.net.state_dict() for trained in (one, other)]
    figures = [[replace(e, seconds=0) for e in trained.history] for trained in (one, other)]
    return (
        figures[0] == figures[1]
        and one.best_epoch == other.best_epoch
        and one.stop_reason == other.stop_reason
        and weights[0].keys() == weights[1].keys()
        and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks, from Python 3.12 on
def test_killed_and_resumed_is_the_same_bit_for_bit(coloured_dataset: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(augment=AUGMENT, **TOUGH)
    whole = train(recipe, coloured_dataset, tmp_path / "whole")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    when = str(19 * 3 + 9)  # in the middle of the fourth epoch
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, coloured_dataset, tmp_path / "cut", when],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    again: list[int] = []
    cut = train(
        recipe, coloured_dataset, tmp_path / "cut", on_epoch=lambda e: again.append(e.number)
    )
    assert again[-1] == 6
    assert again[0] in (2, 3, 4)
    assert is_same(whole, cut)


def test_interrupted_after_every_epoch_is_the_same(
    coloured_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veduta.learn.training import loop as training

    monkeypatch.setattr(training, "MAX_CHECKPOINT_TIME_SHARE", math.inf)  # a checkpoint each epoch
    recipe = tiny_recipe(**TOUGH)
    whole = train(recipe, coloured_dataset, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        raise Stop

    for _ in range(6):
        with pytest.raises(Stop):
            train(recipe, coloured_dataset, tmp_path / "cut", on_epoch=stop)
    seen: list[Epoch] = []
    cut = train(recipe, coloured_dataset, tmp_path / "cut", on_epoch=seen.append)
    assert seen == []
    assert is_same(whole, cut)
    checkpoint.remove_checkpoint(tmp_path / "cut")
    assert not (tmp_path / "cut" / "checkpoint").exists()


def test_a_checkpoint_of_another_recipe_is_refused(coloured_dataset: Path, tmp_path: Path) -> None:
    train(tiny_recipe(epochs=1), coloured_dataset, tmp_path)
    other = tiny_recipe(epochs=1, learning_rate=0.5, balanced=True)
    with pytest.raises(LearnError) as caught:
        train(other, coloured_dataset, tmp_path)
    text = str(caught.value)
    assert "training.learning_rate: 0.001 in the checkpoint, 0.5 in this run" in text
    assert "training.balanced: false in the checkpoint, true in this run" in text
    assert "--out" in text
    described = replace(tiny_recipe(epochs=1), about="Another text is the same recipe.")
    assert len(train(described, coloured_dataset, tmp_path).history) == 1


def test_a_checkpoint_of_other_photos_is_refused(tmp_path: Path) -> None:
    photos = coloured_photos(tmp_path / "photos", 2, 5)
    train(tiny_recipe(epochs=1), photos, tmp_path / "run")
    save(photos / "class1" / "more.png", 500)
    with pytest.raises(
        LearnError, match=r"belongs to other photos: 8 for training.* 9 for training"
    ):
        train(tiny_recipe(epochs=1), photos, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused(coloured_dataset: Path, tmp_path: Path) -> None:
    train(tiny_recipe(epochs=1), coloured_dataset, tmp_path)
    file = tmp_path / "checkpoint" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LearnError, match=r"cannot be read.*Delete this folder"):
        train(tiny_recipe(epochs=1), coloured_dataset, tmp_path)


def test_files_of_an_unfinished_checkpoint_are_ignored(
    coloured_dataset: Path, tmp_path: Path
) -> None:
    place = tmp_path / "checkpoint"
    place.mkdir()
    (place / "best-0001.safetensors").write_bytes(b"of a run whose first checkpoint never came")
    done = train(tiny_recipe(epochs=1), coloured_dataset, tmp_path)
    assert len(done.history) == 1
    assert len(train(tiny_recipe(epochs=1), coloured_dataset, tmp_path).history) == 1


def test_only_files_of_checkpoints_are_removed(coloured_dataset: Path, tmp_path: Path) -> None:
    """A run of a stranger has a link in the place of its checkpoints, to a folder with files."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint").symlink_to(victim)
    for _ in range(2):
        train(tiny_recipe(epochs=2), coloured_dataset, tmp_path / "run")
    assert (victim / "mine.txt").read_text() == "mine"
    assert len(list(victim.glob("best-*.safetensors"))) == 1
