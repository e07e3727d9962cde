"""`veduta evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option, rerank_options, runtime_option
from veduta.cli.printing import command_line, print_json, shown
from veduta.cli.progress import stages
from veduta.search.options import DISTANCES
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation import Evaluation, RecognitionEvaluation, RevisitedEvaluation

    Done = Evaluation | RecognitionEvaluation | RevisitedEvaluation

# As in veduta.evaluation, veduta.recognize and veduta.datasets, which are not loaded for `--help`;
# tests keep them equal.
METHODS = ("sift", "orb", "surf", "xfeat", "vlad-xfeat")
RECOGNITION = ("evidence", "knn", "inliers", "prototypes", "linear")
MAX_SCORED_PHOTOS = 100  # of a query in a submission

# What each kind of evaluation has no use for.
_UNUSED = {
    "retrieve": ("precision", "photos"),
    "retrieve with a keypoint method": (
        "encoder",
        "runtime",
        "distance",
        "project",
        "rerank",
        "verify",
        "precision",
        "photos",
    ),
    "recognize": (
        "distance",
        "project",
        "rerank",
        "verify",
        "photos",
        "as_dict",
        "html",
        "png",
        "rows",
    ),
    "a published protocol": (
        "task",
        "labels",
        "queries",
        "gallery",
        "distractors",
        "unknown",
        "distance",
        "project",
        "method",
        "precision",
        "as_dict",
        "k",
        "html",
        "png",
        "rows",
        "submission",
    ),
}

_CLASSES = 40  # lines of the table; --json and --html have all
_FIGURES = ("top1", "top3", "top5", "top10", "map", "p10", "recall10", "map100")
_RECOGNITION_FIGURES = (
    "gap",
    "known_named",
    "named_right",
    "unknown_rejected",
    "named_right_overall",
    "guess_right",
    "auroc",
)

Advance = Callable[[str, int, int], None]


@click.command("evaluate")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@click.option("--labels", metavar="FILE", help="CSV in DATASET instead of labels.csv.")
@click.option(
    "--distractors",
    multiple=True,
    metavar="CLASS",
    help="Class of the gallery whose photos are distractors (repeatable).",
)
@click.option(
    "--unknown",
    multiple=True,
    metavar="CLASS",
    help="Class of the queries whose photos show none of the others (repeatable).",
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos of a gnd_*.pkl DATASET; the folder jpg beside it otherwise.",
)
@click.option(
    "--task",
    type=click.Choice(("retrieve", "recognize")),
    default="retrieve",
    show_default=True,
    help="Rank the gallery, or name what each query shows.",
)
@click.option("--encoder", metavar="NAME", help="Encoder: see `veduta models`.")
@runtime_option
@click.option(
    "--distance",
    type=click.Choice(DISTANCES),
    default="cosine",
    show_default=True,
    help="How descriptors are compared.",
)
@click.option(
    "--project",
    type=click.IntRange(min=1),
    metavar="DIM",
    help="Search through a PCA to DIM dimensions, fitted on the gallery.",
)
@rerank_options
@click.option(
    "--method",
    type=click.Choice((*METHODS, *RECOGNITION)),
    metavar="NAME",
    help=f"To rank by keypoints alone, without an encoder: {', '.join(METHODS)}. To recognise: "
    f"{', '.join(RECOGNITION)}; {RECOGNITION[0]} if none is named.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0.5, 0.99),
    metavar="P",
    help="To recognise: share of the names given that should be right; 0.9 if not given.",
)
@json_option
@click.option("--dict", "as_dict", is_flag=True, help='Print {"query": ["gallery", …], …} as JSON.')
@click.option("-k", default=10, show_default=True, metavar="N", help="Answers kept a query.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write report.html, with all figures and pictures, and report.json for `compare`.",
)
@click.option(
    "--submission",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the answers as a Google Landmarks submission, for `score`.",
)
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Queries on the page.")
def command(
    dataset: Path | None,
    task: str,
    method: str | None,
    as_json: bool,
    as_dict: bool,
    report: Path | None,
    submission: Path | None,
    **options: Any,
) -> None:
    """Measure retrieval or recognition on DATASET, with 95 % intervals.

    DATASET is a folder with a labels.csv (path,label,split), or a folder of one folder a class,
    where each photo is a query against all others, or a gnd_*.pkl of (revisited) Oxford or Paris.
    Or name --queries and --gallery.
    """
    from veduta.evaluation.report_folder import report_folder, write_report

    if dataset is None and (options["queries"] is None or options["gallery"] is None):
        raise click.UsageError("Name a DATASET, or both --queries and --gallery.")
    kind = _kind(dataset, task, method)
    _check(kind, method)
    # Before hours of measuring.
    if report is not None:
        report_folder(report)
    if submission is not None:
        if not submission.absolute().parent.is_dir():
            raise click.UsageError(f"--submission: there is no folder {shown(submission.parent)}.")
        if kind.startswith("retrieve"):
            options["k"] = max(options["k"], MAX_SCORED_PHOTOS)
    run = {"recognize": _recognition, "a published protocol": _revisited}.get(kind, _retrieval)
    with stages(quiet=as_json or as_dict) as advance:
        done: Any = run(dataset or Path(), {**options, "method": method}, advance)
    written = _pages(done, options["html"], options["png"], options["rows"])
    if report is not None:
        write_report(done, report, command=command_line())
        written.append(report)
    if submission is not None:
        done.write_submission(submission)
        written.append(submission)
    if as_dict:
        print_json(done.ranked_lists())
    elif as_json:
        print_json(done.as_json())
    else:
        _print(done)
    for file in written:
        click.echo(f"wrote {shown(file)}", err=as_json or as_dict)


def _kind(dataset: Path | None, task: str, method: str | None) -> str:
    if dataset is not None and dataset.suffix == ".pkl":
        return "a published protocol"
    if task == "recognize":
        return task
    return "retrieve with a keypoint method" if method in METHODS else "retrieve"


def _check(kind: str, method: str | None) -> None:
    """Refuse options, even at their defaults, that this kind of evaluation has no use for."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and name in _UNUSED[kind]:
            raise click.UsageError(f"{parameter.opts[0]} does not go with: {kind}.")
    fitting = RECOGNITION if kind == "recognize" else METHODS
    if method is not None and method not in fitting:
        raise click.UsageError(
            f"--method {method} does not go with: {kind}. Choose one of {', '.join(fitting)}."
        )


def _given(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return those of the options that have a value; the functions know the other defaults."""
    return {name: options[name] for name in names if options[name] not in (None, ())}


def _retrieval(dataset: Path, options: dict[str, Any], advance: Advance) -> Evaluation:
    from veduta.evaluation import evaluate

    return evaluate(
        dataset,
        **_given(
            options,
            "labels",
            "queries",
            "gallery",
            "distractors",
            "unknown",
            "encoder",
            "runtime",
            "distance",
            "project",
            "rerank",
            "verify",
            "method",
        ),
        keep=options["k"],
        on_progress=advance,
    )


def _recognition(dataset: Path, options: dict[str, Any], advance: Advance) -> RecognitionEvaluation:
    from veduta.evaluation import evaluate_recognition

    return evaluate_recognition(
        dataset,
        **_given(
            options,
            "labels",
            "queries",
            "gallery",
            "distractors",
            "unknown",
            "encoder",
            "runtime",
            "method",
            "precision",
        ),
        keep=options["k"],
        on_progress=advance,
    )


def _revisited(dataset: Path, options: dict[str, Any], advance: Advance) -> RevisitedEvaluation:
    from veduta.evaluation import evaluate_revisited

    return evaluate_revisited(
        dataset,
        **_given(options, "photos", "encoder", "runtime", "rerank", "verify"),
        on_progress=advance,
    )


def _pages(done: Done, html: Path | None, png: Path | None, rows: int | None) -> list[Path]:
    written = []
    for file, write in ((html, "write_html"), (png, "write_png")):
        if file is not None:
            getattr(done, write)(file, **({"rows": rows} if rows else {}))
            written.append(file)
    return written


def _print(done: Done) -> None:
    found = done.as_json()
    if found["task"] == "retrieve":
        _print_retrieval(found)
    elif found["task"] == "recognize":
        _print_recognition(found)
    else:
        _print_revisited(found)
    for note in found.get("notes", ()):
        click.echo(f"note: {note}", err=True)
    for problem in done.problems:
        click.echo(f"left out: {problem}", err=True)


def _print_retrieval(found: dict[str, Any]) -> None:
    distractors = f" + {found['distractors']:,} distractors" if found["distractors"] else ""
    click.echo(f"{found['queries']:,} queries, {found['gallery']:,} gallery photos{distractors}")
    if without := found["queries_without_positives"]:
        click.echo(f"{without:,} queries without a right answer left out")
    _print_figures(found, _FIGURES)
    classes = sorted(found["classes"], key=lambda row: (row["map"], row["label"]))
    if len(classes) > 1:
        click.echo("\n  class, weakest first            queries   top1    mAP")
        for row in classes[:_CLASSES]:
            name = row["label"] if len(row["label"]) <= 30 else row["label"][:29] + "…"
            click.echo(f"  {name:30}  {row['queries']:7,}  {row['top1']:.3f}  {row['map']:.3f}")
        if len(classes) > _CLASSES:
            click.echo(f"  … and {len(classes) - _CLASSES:,} more: --json or --html list all.")


def _print_recognition(found: dict[str, Any]) -> None:
    settings = found["settings"]
    known, unknown = count(found["known"], "photo"), count(found["unknown"], "photo")
    click.echo(f"{known} of known places, {unknown} of none")
    _print_figures(found, _RECOGNITION_FIGURES)
    click.echo(f"  {'calibration error':19} {found['calibration_error']:.3f}")
    least = settings["threshold"]
    threshold = "never" if least is None else f"from a confidence of {least:.2f} on"
    click.echo(f"  named {threshold}, for a precision of {settings['precision']:.0%}")
    if settings["learned"]:
        learned = f"learned from {count(settings['learned_from'], 'question')} to the gallery"
    else:
        learned = "too few labelled photos to learn that from: as on other collections"
    click.echo(f"  {learned}")


def _print_revisited(found: dict[str, Any]) -> None:
    click.echo("           mAP    mP@1   mP@5   mP@10   queries")
    for setup in ("easy", "medium", "hard"):
        row = found[setup]
        if row["queries"]:
            figures = "  ".join(f"{row[key]:.3f}" for key in ("map", "mp1", "mp5", "mp10"))
            click.echo(f"  {setup:7}  {figures}  {row['queries']:8,}")


def _print_figures(found: dict[str, Any], names: tuple[str, ...]) -> None:
    width = max(map(len, names))
    for name in names:
        value, (low, high) = found[name], found[f"{name}_interval"]
        if value is not None:
            click.echo(f"  {name:{width}} {value:.3f}   95 % [{low:.3f}, {high:.3f}]")
