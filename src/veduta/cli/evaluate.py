"""`veduta evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import DISTANCES, json_option, rerank_options, runtime_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import stages

if TYPE_CHECKING:
    from veduta.evaluation import Evaluation

# As in veduta.evaluation, which is not loaded for `--help`; a test keeps the two equal.
METHODS = ("sift", "orb", "surf", "xfeat", "vlad-xfeat")
_NOT_WITH_A_METHOD = ("encoder", "runtime", "distance", "project", "rerank", "verify")

_CLASSES = 40  # lines of the table; --json and --html have all
_FIGURES = ("top1", "top3", "top5", "top10", "map", "p10")


@click.command("evaluate")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@click.option("--labels", metavar="FILE", help="CSV in DATASET instead of labels.csv.")
@click.option("--encoder", metavar="NAME", help="Encoder: see `veduta models`.")
@runtime_option
@click.option(
    "--distance", type=click.Choice(DISTANCES), default="cosine", show_default=True,
    help="How descriptors are compared.",
)  # fmt: skip
@click.option(
    "--project", type=click.IntRange(min=1), metavar="DIM",
    help="Search through a PCA to DIM dimensions, fitted on the gallery.",
)  # fmt: skip
@rerank_options
@click.option(
    "--method", type=click.Choice(METHODS),
    help="Rank by keypoints alone, without an encoder; not with any option from --encoder "
    "to --verify.",
)  # fmt: skip
@json_option
@click.option("--dict", "as_dict", is_flag=True, help='Print {"query": ["gallery", …], …} as JSON.')
@click.option("-k", default=10, show_default=True, metavar="N", help="Answers kept a query.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Queries on the page.")
def command(
    dataset: Path | None,
    queries: Path | None,
    gallery: Path | None,
    labels: str | None,
    encoder: str | None,
    runtime: str | None,
    distance: str,
    project: int | None,
    rerank: str,
    verify: int,
    method: str | None,
    as_json: bool,
    as_dict: bool,
    k: int,
    html: Path | None,
    png: Path | None,
    rows: int | None,
) -> None:
    """Measure retrieval on DATASET: top-k, mAP, precision@10, with 95 % intervals.

    DATASET is a folder with a labels.csv (path,label,split) or a folder of one folder a class,
    where each photo is a query against all others. Or name --queries and --gallery.
    """
    from veduta.encoders import DEFAULT
    from veduta.evaluation import evaluate

    if dataset is None and (queries is None or gallery is None):
        raise click.UsageError("Name a DATASET, or both --queries and --gallery.")
    if method is not None:
        _check_alone()
    quiet = as_json or as_dict
    with stages(quiet=quiet) as advance:
        done = evaluate(
            dataset or Path(), labels=labels, queries=queries, gallery=gallery,
            encoder=encoder or DEFAULT, runtime=runtime, distance=distance, project=project,
            rerank=rerank, verify=verify, method=method, keep=k, on_progress=advance,
        )  # fmt: skip
    if html:
        done.write_html(html, **({"rows": rows} if rows else {}))
    if png:
        done.write_png(png, **({"rows": rows} if rows else {}))
    if as_dict:
        print_json(done.ranked_lists())
    elif as_json:
        print_json(done.as_json())
    else:
        _print(done)
        for file in (html, png):
            if file:
                click.echo(f"wrote {shown(file)}")


def _check_alone() -> None:
    """Refuse options, even at their defaults, that a keypoint method has no use for."""
    context = click.get_current_context()
    for name in _NOT_WITH_A_METHOD:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--method ranks by keypoints alone: it does not go with --{name}."
            )


def _print(done: Evaluation) -> None:
    summary = done.summary
    distractors = f" + {summary.distractors:,} distractors" if summary.distractors else ""
    click.echo(f"{summary.queries:,} queries, {summary.gallery:,} gallery photos{distractors}")
    if summary.queries_without_positives:
        click.echo(f"{summary.queries_without_positives:,} queries without a right answer left out")
    for key in _FIGURES:
        low, high = getattr(summary, f"{key}_interval")
        click.echo(f"  {key:6} {getattr(summary, key):.3f}   95 % [{low:.3f}, {high:.3f}]")
    classes = sorted(done.as_json()["classes"], key=lambda row: (row["map"], row["label"]))
    if len(classes) > 1:
        click.echo("\n  class, weakest first            queries   top1    mAP")
        for row in classes[:_CLASSES]:
            name = row["label"] if len(row["label"]) <= 30 else row["label"][:29] + "…"
            click.echo(f"  {name:30}  {row['queries']:7,}  {row['top1']:.3f}  {row['map']:.3f}")
        if len(classes) > _CLASSES:
            click.echo(f"  … and {len(classes) - _CLASSES:,} more: --json or --html list all.")
    for problem in done.problems:
        click.echo(f"left out: {problem}", err=True)
