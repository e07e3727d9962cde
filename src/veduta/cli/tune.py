"""`veduta tune`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from veduta.cli.options import (
    FiniteFloat,
    OutputFolder,
    json_option,
    training_options,
)
from veduta.cli.printing import command_line, print_json, say, shown
from veduta.cli.progress import stages
from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.learn.recipe import Recipe
    from veduta.learn.tuning.study import Study, Trial

# The report and --json have all trials.
MAX_TRIALS_LISTED = 10
MAX_REASONS_LISTED = 3


@click.command("tune")
@click.argument("recipe")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=OutputFolder(),
    metavar="STUDY",
    help="Folder of the study.  [default: studies/RECIPE]",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    help="Number of trials of the study.  [default: the recipe's tune.trials]",
)
@click.option(
    "--hours",
    type=FiniteFloat(0, min_open=True),
    metavar="H",
    help="Stop after this time; the next call continues.",
)
@click.option(
    "--space",
    "spaces",
    multiple=True,
    metavar="KEY=LOW:HIGH[:STEP|:log]",
    help="Also tune this key, or in this range; KEY=ONE,OTHER for choices.",
)
@training_options
@click.option(
    "--keep-all", is_flag=True, help="Keep the weights of every trial, not only of the best."
)
@json_option
def command(
    recipe: str,
    dataset: Path,
    out: Path | None,
    trials: int | None,
    hours: float | None,
    changes: tuple[str, ...],
    spaces: tuple[str, ...],
    labels: str | None,
    exclude: tuple[str, ...],
    column: str,
    photos_per_class: int | None,
    subset_seed: int,
    allow_leak: bool,
    keep_all: bool,
    as_json: bool,
) -> int:
    """Search for the values of RECIPE with which it learns DATASET best.

    \b
    veduta tune cnn-3-tuned DATASET --out STUDY --trials 30
    veduta tune cnn-1 DATASET --space training.learning_rate=1e-5:1e-2:log

    The recipe's [tune.space] names the keys and their ranges. Trials are compared by the validation
    figure that training.monitor names; test photos are not used. After an interruption, the same
    command continues the unfinished trials. Several processes may work on one STUDY: one for each
    GPU, chosen by CUDA_VISIBLE_DEVICES. The command writes best.toml, the recipe with the best
    values, and report.html.
    """
    from veduta.learn import require_packages
    from veduta.learn.recipe import open_recipe

    opened = _with_spaces(open_recipe(recipe, changes), spaces)
    require_packages()
    from veduta.learn.tuning.study_report import REPORT_FILE, study_page
    from veduta.learn.tuning.tuner import tune
    from veduta.pages.study_page import write_study_page

    folder = out or Path("studies") / opened.name
    limit = trials or opened.tune.trials
    try:
        with stages(quiet=as_json) as advance:
            study = tune(
                opened,
                dataset,
                folder,
                trials=trials,
                hours=hours,
                labels=labels,
                exclude=exclude,
                column=column,
                photos_per_class=photos_per_class,
                subset_seed=subset_seed,
                allow_leak=allow_leak,
                keep_all=keep_all,
                on_progress=advance,
                on_trial=None if as_json else _trial_printer(limit, hours),
                command=command_line(),
            )
    except KeyboardInterrupt:
        say(f"{shown(folder)} is kept; the same command continues it.", err=True)
        raise
    report = folder / REPORT_FILE
    write_study_page(report, study_page(study))
    if as_json:
        print_json({**study.as_json(), "report": str(report)})
    else:
        for line in _result_lines(study, limit):
            say(line)
        say(f"report   {shown(report)}")
    _check_outcome(study)
    return 0


def _with_spaces(recipe: Recipe, spaces: Sequence[str]) -> Recipe:
    from veduta.learn.tuning.search_space import flatten_space, parse_axis

    if not spaces:
        return recipe
    space = flatten_space(recipe.tune.space) | dict(parse_axis(text) for text in spaces)
    return replace(recipe, tune=replace(recipe.tune, space=space))


def _trial_printer(limit: int, hours: float | None) -> Callable[[Trial, Study], None]:
    """Return a function that prints each trial that has ended, on standard error."""
    start, ended = time.monotonic(), 0

    def print_trial(trial: Trial, study: Study) -> None:
        nonlocal ended
        ended += 1
        elapsed = time.monotonic() - start
        ended_in_study = sum(one.state != "running" for one in study.trials)
        remaining = (limit - ended_in_study) * elapsed / ended
        if hours is not None:
            remaining = min(remaining, max(0.0, 3600 * hours - elapsed))
        best = study.best
        so_far = f"; best {best.figure:.4f} (trial {best.number})" if best else ""
        line = (
            f"trial {trial.number} of {limit}: {_outcome(trial, study.monitor)}, "
            f"{duration(trial.seconds)}{so_far}, {duration(remaining)} left"
        )
        say(line, err=True)
        if trial.state == "failed":
            say(*_wrapped(f"  {trial.reason}", "  "), err=True)

    return print_trial


def _outcome(trial: Trial, monitor: str) -> str:
    if trial.state == "complete":
        return f"{monitor} {trial.figure:.4f}"
    if trial.state == "pruned":
        return f"pruned after {count(trial.epochs, 'epoch')}"
    return trial.state


def _result_lines(study: Study, limit: int) -> Iterator[str]:
    states = Counter(trial.state for trial in study.trials)
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    seconds = sum(trial.seconds for trial in study.trials)
    yield f"{study.recipe}: {count(len(study.trials), 'trial')} ({counts}), {duration(seconds)}"
    ranked = study.ranked()
    if ranked:
        yield ""
        yield f"rank  trial  {study.monitor:>12}  state     epochs  time"
    for rank, trial in enumerate(ranked[:MAX_TRIALS_LISTED], 1):
        yield (
            f"{rank:4}  {trial.number:5}  {trial.figure:12.4f}  {trial.state:8}  {trial.epochs:6}  "
            f"{duration(trial.seconds)}"
        )
        yield from _value_lines(trial)
    if len(ranked) > MAX_TRIALS_LISTED:
        yield f"… and {len(ranked) - MAX_TRIALS_LISTED:,} more: the report and --json list all"
    reasons = Counter(trial.reason for trial in study.trials if trial.state == "failed")
    if reasons:
        yield ""
        yield "failed"
    for reason, number in reasons.most_common(MAX_REASONS_LISTED):
        yield from _wrapped(f"{number:4}  {reason}", " " * 6)
    yield ""
    if len(study.trials) < limit or states["running"]:
        yield "The same command continues the study."
    if study.best:
        from veduta.learn.tuning.study_report import training_command

        yield f"the run  {shown(study.run(study.best))}"
        yield f"again    {training_command(study)}"


def _value_lines(trial: Trial) -> Iterator[str]:
    from veduta.learn.tuning.study_report import short_value

    pairs = [f"{key}={printable(short_value(value))}" for key, value in trial.values.items()]
    line = " " * 6
    for pair in pairs:
        if line.strip() and len(line) + 2 + len(pair) > 80:
            yield line
            line = " " * 6
        line += f"  {pair}" if line.strip() else pair
    yield line


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(printable(text), 80, subsequent_indent=indent, break_on_hyphens=False)


def _check_outcome(study: Study) -> None:
    from veduta.errors import LearnError, readable

    if study.trials and all(trial.state == "failed" for trial in study.trials):
        raise LearnError(f"{readable(study.folder)}: all trials failed")
