"""`veduta train`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from veduta.cli.options import OutputFolder, json_option, training_options
from veduta.cli.printing import command_line, print_json, quoted, say, shown
from veduta.cli.progress import stages
from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe
    from veduta.learn.runs.card import Card, Start
    from veduta.learn.training.loop import Epoch

WIDTH = 80


@click.command("train")
@click.argument("recipe")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=OutputFolder(),
    metavar="RUN",
    help="Folder of the run.  [default: runs/RECIPE]",
)
@training_options
@click.option(
    "--devices", default="auto", show_default=True, metavar="N", help="GPUs of this machine."
)
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on from the weights of a finished run, as far as they fit the network.",
)
@click.option(
    "--part",
    type=click.Choice(["encoder", "decoder"]),
    help="With --from: take only this part of an autoencoder.",
)
@click.option("--summary", is_flag=True, help="Only show the layers of the network.")
@json_option
def command(
    recipe: str,
    dataset: Path | None,
    out: Path | None,
    changes: tuple[str, ...],
    labels: str | None,
    column: str,
    allow_leak: bool,
    exclude: tuple[str, ...],
    photos_per_class: int | None,
    subset_seed: int,
    devices: str,
    nodes: int,
    start: Path | None,
    part: Literal["encoder", "decoder"] | None,
    summary: bool,
    as_json: bool,
) -> int:
    """Train the network of RECIPE on the photos of DATASET.

    RECIPE is a name that `veduta recipes` lists, or a .toml file. DATASET is a folder of one folder
    for each class, of splits with classes in them, or with a labels.csv. If there are no photos for
    validation, some of the training photos are held out. After an interruption, the same command
    continues after the last complete epoch. Other commands use the run:
    `veduta index --encoder RUN`, `veduta recognize --model RUN`, `veduta compare RUN…`.
    """
    from veduta.learn import require_packages
    from veduta.learn.recipe import open_recipe

    if part and start is None:
        raise click.UsageError("--part is for --from RUN.")
    if summary:
        _check_only_layers_are_asked_for()
    opened = open_recipe(recipe, changes)
    if opened.network.encoder and (devices != "auto" or nodes > 1):
        raise click.UsageError(
            f"--devices and --nodes are for networks that take photos; {opened.name} trains "
            f"a few layers behind {opened.network.backbone} in one process. Leave them out."
        )
    if summary:
        require_packages()
        return _print_summary(opened, as_json=as_json)
    if dataset is None:
        raise click.UsageError("Name a DATASET, or give --summary.")
    if devices != "auto" and not devices.isdigit():
        raise click.BadParameter(f"{devices!r} is not a number of GPUs.", param_hint="--devices")
    require_packages()
    from veduta.learn.runs.train import train

    run = out or Path("runs") / opened.name
    chooser = "test" if opened.training.epoch_chosen_by == "test" else "val"
    with stages(quiet=as_json) as advance:
        card = train(
            opened,
            dataset,
            run,
            labels=labels,
            exclude=exclude,
            column=column,
            allow_leak=allow_leak,
            photos_per_class=photos_per_class,
            subset_seed=subset_seed,
            devices=int(devices) if devices.isdigit() else "auto",
            nodes=nodes,
            start=start,
            part=part or "",
            on_start=None if as_json else _print_start,
            on_epoch=None if as_json else partial(_print_epoch, chooser=chooser),
            on_progress=advance,
            command=command_line(),
        )
    if as_json:
        print_json({"run": shown(run), **card.as_json()})
    else:
        for line in _result_lines(card, run):
            say(line)
    return 0


def _check_only_layers_are_asked_for() -> None:
    """Raise `click.UsageError` for an option that has no effect with --summary."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and name not in {"recipe", "changes", "summary", "as_json"}:
            what = parameter.opts[0] if isinstance(parameter, click.Option) else name.upper()
            raise click.UsageError(f"--summary shows the layers only; leave {what} out.")


def _print_summary(recipe: Recipe, *, as_json: bool) -> int:
    from veduta.learn.models.summary import summarise, summary_text
    from veduta.learn.training.recipe_network import network_without_weights

    layers = summarise(network_without_weights(recipe), recipe)
    if as_json:
        print_json(layers.as_json())
    else:
        say(*summary_text(layers).split("\n"))
    return 0


def _print_start(start: Start) -> None:
    say(*_start_lines(start), err=True)


def _start_lines(start: Start) -> list[str]:
    return textwrap.wrap(printable(start.text()), WIDTH, break_on_hyphens=False)


def _print_epoch(epoch: Epoch, *, chooser: str) -> None:
    figures = [f"epoch {epoch.number}", f"loss {epoch.train_loss:.4f}"]
    for name, value in (
        ("accuracy", epoch.train_accuracy),
        (f"{chooser} loss", epoch.val_loss),
        (f"{chooser} accuracy", epoch.val_accuracy),
    ):
        if value is not None:
            figures.append(f"{name} {value:.4f}")
    figures.append(duration(epoch.seconds))
    say(", ".join(figures), err=True)


def _best_figure(card: Card) -> str:
    part, _, quantity = card.best_figure.partition("_")
    return f"{'test' if card.epoch_chosen_by == 'test' else part} {quantity}"


def _result_lines(card: Card, run: Path) -> Iterator[str]:
    for problem in card.problems:
        yield f"note: {printable(problem)}"
    yield (
        f"{card.recipe}: {count(card.epochs, 'epoch')} in {duration(card.seconds)}, the best "
        f"is {card.best_epoch} by the {_best_figure(card)} ({card.stopped})"
    )
    if card.start is not None:
        yield from _start_lines(card.start)
    trainable = card.parameters.trainable
    yield f"{card.parameters.total:,} parameters, {trainable:,} of them trained"
    for split, figures in (("validation", card.val), ("test", card.test)):
        if figures is not None:
            gap = f", GAP {figures.gap:.4f}" if figures.gap is not None else ""
            photos = count(figures.photos, "photo")
            if figures.unknown:
                gap += f" with {figures.unknown:,} more that show none of the classes"
            yield f"{split}: accuracy {figures.accuracy:.4f} on {photos}{gap}"
    if card.epoch_chosen_by == "test":
        yield "The test photos chose the epoch, so their figures are optimistic."
    if (retrieval := card.retrieval) is not None:
        yield (
            f"search for the test photos among the training photos: top-1 {retrieval.top1:.4f}, "
            f"mAP {retrieval.map:.4f}"
        )
    yield ""
    yield f"All figures are in {shown(run / 'card.md')}. Next:"
    yield f"  veduta index DIR --encoder {quoted(run)}"
    if card.answers == "scores":  # Otherwise there is no recogniser.
        yield f"  veduta recognize PHOTO --model {quoted(run)}"
