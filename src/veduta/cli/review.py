"""The command `veduta review`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import OutputFile, exclude_option, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.text import count

if TYPE_CHECKING:
    from veduta.curate.findings import Finding
    from veduta.web import ReviewFiles, ReviewOutcome
    from veduta.web.review_access import ReviewAccess


@click.command("review")
@click.argument("dataset", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--findings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV of findings, as `veduta clean --out` writes it.",
)
@exclude_option
@click.option("--label", metavar="NAME", help="Review this class only.")
@click.option(
    "--out",
    type=OutputFile(),
    metavar="FILE",
    help="CSV of the decisions; the journal is beside it.  [default: DATASET-decisions.csv]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port on 127.0.0.1.  [default: any that is free]",
)
@click.option("--open/--no-open", "browse", default=True, help="Open a browser.  [default: open]")
@json_option
def command(**options: Any) -> None:
    """Keep, drop or relabel the photos of DATASET on a page in your browser.

    Each decision is on the disk before the page says so. The same command continues where you
    stopped. No photo is changed. The decisions go to a CSV file. The labels of the photos that stay
    go to another one, for `veduta evaluate DATASET --labels` and other commands.

    DATASET is a folder with one folder for each class or with a labels.csv, or a CSV file.
    """
    as_json = options.pop("as_json")
    outcome = run_review(**options)
    if as_json:
        print_json(outcome.as_json())
    else:
        print_outcome(outcome)


def run_review(
    dataset: Path,
    *,
    findings: Path | Sequence[Finding] | None = None,
    label: str | None = None,
    exclude: Sequence[str] = (),
    out: Path | None = None,
    port: int = 0,
    browse: bool = True,
) -> ReviewOutcome:
    """Serve the review until the user ends it. Its address goes to standard error.

    Args:
        dataset: the photos.
        findings: a CSV file of findings, or the findings.
        label: the only class to review.
        exclude: patterns of photos that are left out.
        out: the file of decisions.
        port: port on 127.0.0.1; 0 means any free port.
        browse: open a browser.

    Raises:
        CannotWrite: a file cannot be written.
    """
    from veduta.web import review

    return review(
        dataset,
        findings=findings,
        label=label,
        exclude=exclude,
        out=out,
        port=port,
        on_ready=_announce(browse),
    )


def print_outcome(outcome: ReviewOutcome) -> None:
    """Print the outcome of a review."""
    say(
        f"{count(outcome.photos, 'photo')}: {outcome.kept:,} kept, {outcome.dropped:,} dropped, "
        f"{outcome.relabelled:,} relabelled, {outcome.undecided:,} undecided"
    )
    say(f"wrote {shown(outcome.decisions)}")
    say(f"wrote {shown(outcome.labels)}")
    for problem in outcome.problems:
        say(f"note: {problem}", err=True)


def _announce(browse: bool) -> Callable[[ReviewAccess, ReviewFiles], None]:
    def announce(access: ReviewAccess, files: ReviewFiles) -> None:
        say(f"Review at {access.url}", err=True)
        say(f"Progress is in {shown(files.journal)}. Ctrl-C ends it.", err=True)
        if browse and _has_screen():
            import webbrowser

            webbrowser.open(access.single_use_url())

    return announce


def _has_screen() -> bool:
    """Return whether a browser would open a window instead of taking over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
