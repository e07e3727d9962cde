"""One training run: a recipe and a dataset in, a run folder out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import LearnError, readable
from veduta.files import write_text
from veduta.learn.recipe import names_file
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe
    from veduta.learn.runs.card import Card, Parameters, Start
    from veduta.learn.runs.starting_run import Part, StartingRun
    from veduta.learn.training.loop import Epoch

__all__ = ["train"]

OnProgress = Callable[[str, int, int], None]
OnStart = Callable[["Start"], None]

LOCK_FILE = ".lock"
LOCK_TIMEOUT_SECONDS = 10

# Decoded photos are kept in memory up to this size. Each epoch decodes the others again.
MAX_PHOTO_CACHE_BYTES = 4 * 2**30


def train(
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    labels: str | None = None,
    exclude: Sequence[str] = (),
    column: str = "split",
    allow_leak: bool = False,
    photos_per_class: int | None = None,
    subset_seed: int = 0,
    devices: str | int = "auto",
    nodes: int = 1,
    start: Path | None = None,
    part: Part = "",
    on_start: OnStart | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> Card:
    """Train a recipe's network on a dataset and write the run folder.

    If the run was interrupted, a second call with the same recipe and photos continues after the
    last complete epoch and ends with the same weights.

    Args:
        recipe: the recipe.
        dataset: a folder of classes, a folder of splits with classes in them, or a labels file.
        out: the run folder. It is new, or belongs to the interrupted run.
        labels: the CSV file in the folder `dataset`.
        exclude: patterns of photos and folders that are left out, as for
            `veduta.datasets.read_dataset`.
        column: the column of it that says which photos are for training, validation and test.
        allow_leak: train even if test photos are also among the training photos.
        photos_per_class: the largest number of training photos of a class, see `read_splits`.
        subset_seed: decides which photos of a class are in the subset.
        devices: number of GPUs or processes on each machine.
        nodes: number of machines.
        start: the folder of a finished run whose weights are the first ones, as far as they fit. It
            is only read.
        part: "" for its whole network, or "encoder" or "decoder" if it is an autoencoder.
        on_start: called before training with the first weights, if they come from a file.
        on_epoch: called after each epoch. An exception that it raises ends the run.
        on_progress: called with (activity, done, total).
        command: the command line of the run, for its card.

    Returns:
        The card of the run.

    Raises:
        DatasetError: the dataset cannot be read.
        RecipeError: a setting of the recipe has no effect, or the recipe does not fit the photos.
        LearnError: first weights are not available or do not fit, or training fails.
    """
    from veduta.learn.models.weights_file import read_weights
    from veduta.learn.runs.starting_run import open_starting_run
    from veduta.learn.training.unused_settings import check_settings

    check_settings(recipe)
    # A file that cannot be used is refused before the photos are read and the folder is made.
    start_run = None if start is None else open_starting_run(start, part, recipe)
    if names_file(recipe.network.weights):
        read_weights(Path(recipe.network.weights))
    with _locked(out):
        from veduta.learn.data.splits import read_splits
        from veduta.learn.recipe_text import recipe_toml

        splits = read_splits(
            dataset,
            labels=labels,
            exclude=exclude,
            column=column,
            validation=recipe.training.validation,
            seed=recipe.training.seed,
            allow_leak=allow_leak,
            photos_per_class=photos_per_class,
            subset_seed=subset_seed,
            test_chooses=recipe.training.epoch_chosen_by == "test",
        )
        write_text(out / RECIPE_FILE, recipe_toml(recipe))
        if recipe.network.encoder:
            from veduta.learn.runs.frozen_encoder import train_frozen

            return train_frozen(
                recipe,
                splits,
                out,
                start_run=start_run,
                on_start=on_start,
                on_epoch=on_epoch,
                on_progress=on_progress,
                command=command,
            )
        return _train_network(
            recipe,
            splits,
            out,
            devices=devices,
            nodes=nodes,
            start_run=start_run,
            on_start=on_start,
            on_epoch=on_epoch,
            on_progress=on_progress,
            command=command,
        )


def _train_network(
    recipe: Recipe,
    splits: DatasetSplits,
    out: Path,
    *,
    devices: str | int,
    nodes: int,
    start_run: StartingRun | None,
    on_start: OnStart | None,
    on_epoch: Callable[[Epoch], None] | None,
    on_progress: OnProgress | None,
    command: str,
) -> Card:
    """Train a network that takes photos."""
    import torch

    from veduta.learn.data.image_cache import cache_images
    from veduta.learn.runs.export import export_network
    from veduta.learn.runs.run_folder import run_on_splits, write_run_folder
    from veduta.learn.runs.starting_run import report_start
    from veduta.learn.training.loop import fit
    from veduta.learn.training.recipe_network import build_network

    torch.manual_seed(recipe.training.seed)
    first = None if start_run is None else start_run.first_weights(splits.class_names)
    net = build_network(recipe, len(splits.class_names), first=first)
    report_start(net, recipe, start_run, on_start)
    photos, splits = cache_images(
        splits,
        recipe.input,
        workers=processor_cores(),
        max_bytes=MAX_PHOTO_CACHE_BYTES,
        on_progress=on_progress,
    )
    trained = fit(
        recipe,
        net,
        splits,
        photos,
        out,
        on_epoch=on_epoch,
        on_progress=on_progress,
        devices=devices,
        nodes=nodes,
    )
    if torch.cuda.is_available():
        net.cuda()
    outputs = run_on_splits(net, splits, photos)
    net.cpu()
    return write_run_folder(
        out,
        recipe,
        splits,
        trained,
        outputs,
        _parameters(net),
        partial(export_network, net, recipe),
        command=command,
        start_run=start_run,
    )


def _parameters(net: Net) -> Parameters:
    from veduta.learn.models.summary import count_parameters
    from veduta.learn.runs.card import Parameters

    # If training ended before the backbone began to learn, it is still frozen here.
    net.set_backbone_trainable(True)
    trainable, non_trainable = count_parameters(net)
    return Parameters(trainable + non_trainable, trainable)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder of a new or interrupted run; report errors of the system for it."""
    from filelock import FileLock, Timeout

    if (out / CARD_FILE).exists():
        raise LearnError(
            f"{readable(out)}: already holds a finished run; name a new folder with --out"
        )
    names = {file.name for file in out.iterdir()} - {LOCK_FILE} if out.is_dir() else set()
    if names and RECIPE_FILE not in names:
        raise LearnError(f"{readable(out)}: not empty and not a run; name a new folder with --out")
    # With several processes, the first one holds the lock for all. The lock is waited for because
    # processes of a killed run may live on for some seconds.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK_FILE, timeout=LOCK_TIMEOUT_SECONDS)
        with lock if is_first else nullcontext():
            yield
    except Timeout:
        raise LearnError(f"{readable(out)}: another process is training into it") from None
    except OSError as error:
        raise LearnError(
            f"{readable(out)}: cannot be written: {error.strerror or error}"
        ) from error
