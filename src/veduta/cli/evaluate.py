"""`veduta evaluate`: measure retrieval or recognition on a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.evaluate_kinds import (
    METHODS,
    OXFORD_OR_PARIS,
    PUBLISHED_PROTOCOL,
    RECOGNITION_METHODS,
    check_options,
    kind_of,
)
from veduta.cli.evaluation_text import print_evaluation
from veduta.cli.options import (
    FiniteFloat,
    OutputFile,
    OutputFolder,
    device_option,
    exclude_option,
    html_option,
    json_option,
    labels_option,
    orientation_option,
    rerank_options,
    runtime_option,
)
from veduta.cli.printing import command_line, print_json, say, shown
from veduta.cli.progress import stages
from veduta.cli.shown_queries import print_queries, queries_as_json
from veduta.errors import VedutaError
from veduta.processor_cores import processor_cores
from veduta.search.options import DISTANCES

if TYPE_CHECKING:
    from veduta.evaluation import (
        Evaluation,
        ProtocolEvaluation,
        RecognitionEvaluation,
        RevisitedEvaluation,
    )
    from veduta.evaluation.report_parts import DrawMap

MAX_SCORED_PHOTOS = 100  # of a query in a submission

# A copy from veduta.datasets.protocols, which is too slow to load for `--help`. A test keeps them
# equal.
PROTOCOL_NAMES = (
    "copydays",
    "holidays",
    "ukbench",
    "gpr1200",
    "places",
    "mapillary",
    "nordland",
    "sop",
    "cub",
    "cars",
    "inshop",
    "google-landmarks",
    "met",
    "instre",
    "ilias",
    "disc21",
    "qrels",
)

Advance = Callable[[str, int, int], None]


class MatrixFile(OutputFile):
    """The file of a matrix of scores, and the file with the names of its rows and columns."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        from veduta.evaluation.score_matrix import matrix_files

        try:
            files = matrix_files(os.fsdecode(value))
        except VedutaError as error:
            self.fail(str(error), param, ctx)
        for file in files:
            self.check(file)
        return files[0]


@click.command("evaluate")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@labels_option
@exclude_option
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
    help="Photos of a published protocol, if they are not where its files have them.",
)
@click.option(
    "--protocol",
    metavar="NAME",
    help="Read DATASET by this published protocol, which is otherwise recognised: "
    f"{', '.join(PROTOCOL_NAMES)}.",
)
@click.option(
    "--variant", metavar="NAME", help="Variant of the published protocol, such as a split."
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Measure a published protocol without photos that are missing. The figures then do not "
    "compare with published ones.",
)
@click.option(
    "--without-distractors",
    is_flag=True,
    help="Leave out the million distractors (revisitop1m) beside a gnd_*.pkl.",
)
@click.option(
    "--descriptors",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Rank by descriptors of another program: .npz, .npy, .h5 (as hloc or ILIAS writes) or "
    ".parquet (repeatable).",
)
@click.option(
    "--ranking",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure the ranking of another program: a TREC run, JSON, or CSV.",
)
@click.option(
    "--task",
    type=click.Choice(("retrieve", "recognize")),
    default="retrieve",
    show_default=True,
    help="Rank the gallery, or name what each query shows.",
)
@click.option(
    "--column",
    default="split",
    show_default=True,
    metavar="NAME",
    help="Column of the labels file with the split of each photo.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="Measure this encoder (see `veduta models`, or the folder of a run) by its descriptor "
    "alone: nothing is re-ranked unless --rerank or --method asks for it.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Name the test photos by the classifier of this run, or of a recogniser that `veduta "
    "recognize --export` wrote.",
)
@runtime_option
@device_option
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
@partial(orientation_option, default="upright", photo="each query")
@partial(rerank_options, default=None, shown_default="none with --encoder, auto without")
@click.option(
    "--keypoints",
    metavar="NAME",
    help="Keypoints that verify photos: xfeat (the default), sift, orb or surf; xfeat:2048 for "
    "another number of them.",
)
@click.option(
    "--method",
    type=click.Choice((*METHODS, *RECOGNITION_METHODS)),
    metavar="NAME",
    help=f"To rank by keypoints alone, without an encoder: {', '.join(METHODS)}. To recognise: "
    f"{', '.join(RECOGNITION_METHODS)}; if none is named, linear with --encoder and "
    f"{RECOGNITION_METHODS[0]} without.",
)
@click.option(
    "--precision",
    type=FiniteFloat(0.5, 0.99),
    metavar="P",
    help="To recognise: share of the names given that should be right; 0.9 if not given.",
)
@json_option
@click.option("--dict", "as_dict", is_flag=True, help='Print {"query": ["gallery", …], …} as JSON.')
@click.option(
    "--matrix",
    type=MatrixFile(),
    metavar="FILE",
    help="Write the scores of all queries (rows) and gallery photos (columns), as .csv or .npy.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Hits to keep per query.",
)
@html_option
@click.option("--png", type=OutputFile(), metavar="FILE", help="Write a picture.")
@click.option(
    "--maps",
    is_flag=True,
    help="On the pages, show which regions of a query and of its first answers are similar; this "
    "takes about a second for each answer.",
)
@click.option(
    "--report",
    type=OutputFolder(),
    metavar="DIR",
    help="Write report.html, with all figures and pictures, and report.json for `compare`.",
)
@click.option(
    "--submission",
    type=OutputFile(),
    metavar="FILE",
    help="Write the answers as a Google Landmarks submission, for `score`: ranked photos, or "
    "names with their confidence.",
)
@click.option(
    "--solution",
    type=OutputFile(),
    metavar="FILE",
    help="Write the right names, to `score` the submission with.",
)
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Queries on the page.")
@click.option(
    "--show",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print N queries from the weakest to the strongest, with their first -k hits: ○ is right, "
    "× is wrong (o and x without UTF-8).",
)
def command(
    dataset: Path | None,
    task: str,
    model: Path | None,
    method: str | None,
    as_json: bool,
    as_dict: bool,
    report: Path | None,
    submission: Path | None,
    solution: Path | None,
    show: int | None,
    **options: Any,
) -> None:
    """Measure retrieval or recognition on DATASET, with 95 % intervals.

    DATASET is a folder with a labels.csv (path,label,split), a folder with one folder for each
    class, where each photo is a query against all others, a gnd_*.pkl of (revisited) Oxford or
    Paris, or a set of another published protocol. Or name --queries and --gallery.

    --descriptors and --ranking judge the answers of another program; no photo is read.

    Without --encoder this measures the search and the recognition that Veduta offers; with it, that
    encoder. Where keypoints or the graph take part, the figures of the descriptor alone stand
    beside. --dict, --matrix and --submission need no labels.
    """
    from veduta.evaluation.report_folder import classification_json, write_report

    if dataset is None and (options["queries"] is None or options["gallery"] is None):
        both = "" if model else ", or both --queries and --gallery"
        raise click.UsageError(f"Name a DATASET{both}.")
    options |= {"task": task, "method": method, "model": model}
    given = bool(options["descriptors"] or options["ranking"])
    if options["descriptors"] and options["ranking"]:
        raise click.UsageError("Name either --descriptors or --ranking.")
    kind = kind_of(dataset, options)
    check_options(kind, method, given_answers=given)
    draw_map = _map_drawer(options, report) if options["maps"] else None
    hits = options["k"]
    if submission is not None and kind.startswith("retrieve"):
        options["k"] = max(options["k"], MAX_SCORED_PHOTOS)
    run = {
        "recognize": _recognition,
        "recognize with --model": _model,
        OXFORD_OR_PARIS: _revisited,
        PUBLISHED_PROTOCOL: _protocol,
    }.get(kind, _retrieval)
    need_labels = not (as_dict or submission or options["matrix"])
    options |= {"need_labels": need_labels}
    with stages(quiet=as_json or as_dict) as advance:
        evaluation: Any = run(dataset or Path(), options, advance)
    written = _write_pages(evaluation, options["html"], options["png"], options["rows"], draw_map)
    if options["matrix"] is not None:
        written.insert(0, options["matrix"])
    if report is not None:
        write_report(evaluation, report, command=command_line(), draw_map=draw_map)
        written.append(report)
    if submission is not None:
        evaluation.write_submission(submission)
        written.append(submission)
    if solution is not None:
        evaluation.write_solution(solution)
        written.append(solution)
    if as_dict:
        print_json(evaluation.ranked_lists())
    elif as_json:
        queries = {"queries_shown": queries_as_json(evaluation, show, hits)} if show else {}
        print_json({**classification_json(evaluation), **evaluation.as_json(), **queries})
    else:
        print_evaluation(evaluation)
        if show:
            print_queries(evaluation, show, hits)
    for file in written:
        say(f"wrote {shown(file)}", err=as_json or as_dict)


def _given(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the options that have a value; the functions have defaults for the others."""
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
            "exclude",
            "column",
            "encoder",
            "runtime",
            "distance",
            "project",
            "rerank",
            "verify",
            "keypoints",
            "orientation",
            "method",
            "matrix",
            "need_labels",
            "descriptors",
            "ranking",
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
            "exclude",
            "column",
            "encoder",
            "runtime",
            "method",
            "precision",
            "orientation",
        ),
        keep=options["k"],
        on_progress=advance,
    )


def _model(dataset: Path, options: dict[str, Any], advance: Advance) -> RecognitionEvaluation:
    from veduta.evaluation import evaluate_model
    from veduta.learn.runs.prediction_files import tested_photos

    return evaluate_model(
        dataset,
        options["model"],
        **_given(options, "labels", "unknown", "exclude", "column", "precision"),
        tested=tested_photos(options["model"]),
        on_progress=advance,
    )


def _revisited(dataset: Path, options: dict[str, Any], advance: Advance) -> RevisitedEvaluation:
    from veduta.evaluation import evaluate_revisited

    return evaluate_revisited(
        dataset,
        **_given(
            options,
            "photos",
            "encoder",
            "runtime",
            "rerank",
            "verify",
            "orientation",
            "allow_missing",
            "without_distractors",
            "descriptors",
            "ranking",
        ),
        on_progress=advance,
    )


def _protocol(dataset: Path, options: dict[str, Any], advance: Advance) -> ProtocolEvaluation:
    from veduta.evaluation import evaluate_protocol

    return evaluate_protocol(
        dataset,
        **_given(
            options,
            "protocol",
            "variant",
            "photos",
            "encoder",
            "runtime",
            "distance",
            "rerank",
            "verify",
            "keypoints",
            "orientation",
            "descriptors",
            "ranking",
            "allow_missing",
        ),
        keep=options["k"],
        on_progress=advance,
    )


def _map_drawer(options: dict[str, Any], report: Path | None) -> DrawMap:
    """Return what draws the maps of the encoder that is measured, before any work."""
    from veduta.encoders import DEFAULT, load_encoder
    from veduta.explanation.map_pictures import map_drawer

    if options["html"] is None and report is None:
        raise click.UsageError("--maps goes with --html or --report: the maps stand on the page.")
    if options["project"] is not None:
        raise click.UsageError("--maps is about whole descriptors and does not go with --project.")
    threads = processor_cores()
    encoder = load_encoder(options["encoder"] or DEFAULT, threads=threads)
    return map_drawer(encoder)


def _write_pages(
    evaluation: Evaluation,
    html: Path | None,
    png: Path | None,
    rows: int | None,
    draw_map: DrawMap | None,
) -> list[Path]:
    """Write what is named, and return it. Without `rows` the functions have their defaults."""
    number = {"rows": rows} if rows else {}
    if html is not None:
        evaluation.write_html(html, command=command_line(), draw_map=draw_map, **number)
    if png is not None:
        evaluation.write_png(png, **number)
    return [file for file in (html, png) if file is not None]
