"""One training run: dataset and recipe in, a run folder out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import LearnError, readable
from veduta.files import write_text
from veduta.learn.runs.card import CARD, RECIPE

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe
    from veduta.learn.runs.card import Card
    from veduta.learn.training.loop import Epoch

__all__ = ["train"]

OnProgress = Callable[[str, int, int], None]

LOCK = ".lock"

# Bytes of decoded photos that are kept in memory; beyond, each epoch decodes them again.
PICTURES = 4 * 2**30


def train(
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    labels: str | None = None,
    column: str = "split",
    allow_leak: bool = False,
    devices: str | int = "auto",
    nodes: int = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Card:
    """Train a recipe's network on a dataset and write the run folder.

    A run that was interrupted continues at its last whole epoch when it is called again with the
    same recipe and photos, and ends with the same weights.

    Args:
        recipe: what to train.
        dataset: a folder of classes, a folder of splits with classes in them, or a labels file.
        out: the run folder; new, or that of the interrupted run.
        labels: the CSV file in the folder `dataset`.
        column: the column of it that says which photos are for training, validation and test.
        allow_leak: train although photos of the test are also among those to train on.
        devices, nodes: how many GPUs or processes on each machine, and how many machines.
        on_epoch: called after each epoch; what it raises ends the run.
        on_progress: called with (what, done, total).
        command: how the run was asked for, for its card.

    Raises:
        DatasetError: the dataset does not read.
        RecipeError, LearnError: it cannot be trained on, weights are not to be had, or training
            fails; the message says which and what helps.
    """
    with _claimed(out):
        from veduta.learn.data.splits import read_splits
        from veduta.learn.recipe_text import recipe_toml

        training = recipe.training
        parts = read_splits(
            dataset,
            labels=labels,
            column=column,
            validation=training.validation,
            seed=training.seed,
            allow_leak=allow_leak,
        )
        write_text(out / RECIPE, [recipe_toml(recipe)])
        if recipe.network.encoder:
            from veduta.learn.runs.frozen_encoder import train_frozen

            return train_frozen(
                recipe, parts, out, on_epoch=on_epoch, on_progress=on_progress, command=command
            )
        import torch

        from veduta.learn.data.image_cache import cache_images
        from veduta.learn.models.networks import build
        from veduta.learn.runs.run_folder import write_run
        from veduta.learn.training.loop import fit

        torch.manual_seed(training.seed)
        net = build(recipe, len(parts.class_names))
        pictures, parts = cache_images(
            parts,
            recipe.input,
            workers=os.cpu_count() or 1,
            max_bytes=PICTURES,
            on_progress=on_progress,
        )
        trained = fit(
            recipe,
            net,
            parts,
            pictures,
            out,
            on_epoch=on_epoch,
            on_progress=on_progress,
            devices=devices,
            nodes=nodes,
        )
        return write_run(out, recipe, parts, trained, pictures, command=command)


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Hold the folder of a run, new or interrupted; say what the system says of it."""
    from filelock import FileLock, Timeout

    if (out / CARD).exists():
        raise LearnError(f"{readable(out)}: a finished run is there; name a new folder with --out")
    there = {file.name for file in out.iterdir()} - {LOCK} if out.is_dir() else set()
    if there and RECIPE not in there:
        raise LearnError(f"{readable(out)}: not empty and no run; name a new folder with --out")
    # Of several processes the first one holds the lock for all. A killed run's own processes may
    # live on for some seconds.
    first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / LOCK, timeout=10) if first else nullcontext():
            yield
    except Timeout:
        raise LearnError(f"{readable(out)}: another process is training into it") from None
    except OSError as error:
        raise LearnError(
            f"{readable(out)}: cannot be written: {error.strerror or error}"
        ) from error
