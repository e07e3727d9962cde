"""`veduta clean`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown
from veduta.cli.progress import progress, stages
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.curate.cleaning import Cleaning
    from veduta.curate.quarantine import Moved

_LISTED = 5  # findings of a kind; --json, --out and --html have more

# As in veduta.curate.findings, which is not loaded for `--help`; tests keep them equal.
KINDS = (
    "corrupt",
    "truncated",
    "not-a-photo",
    "unreadable",
    "tiny",
    "blank",
    "blurred",
    "dark",
    "overexposed",
    "aspect-ratio",
    "extension",
    "exact-copy",
    "near-copy",
    "off-topic",
    "mislabelled",
    "unlike",
)


@click.command("clean")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--labels", metavar="FILE", help="CSV in DATASET instead of labels.csv.")
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(KINDS),
    metavar="KIND",
    help="Look for this kind only; may be given several times: " + ", ".join(KINDS) + ".",
)
@click.option(
    "--like",
    "examples",
    type=click.Path(exists=True, path_type=Path),
    metavar="EXAMPLES",
    help="A folder of some good photos of one thing: rank all of DATASET by how little they look "
    "like these, and propose what to keep and what to drop.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the findings as .csv or .parquet.",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option(
    "--apply",
    "applied",
    is_flag=True,
    help="Move what is suggested to be dropped to a folder beside DATASET.",
)
@click.option(
    "--quarantine",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="That folder; new.  [default: DATASET.quarantine]",
)
@click.option(
    "--undo",
    "undo_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Put back what --apply moved: the undo.jsonl that it wrote.",
)
@click.option(
    "--review",
    "reviewed",
    is_flag=True,
    help="Then decide on a page in the browser, most doubtful first; see `veduta review`.",
)
@json_option
def command(
    dataset: Path | None,
    labels: str | None,
    only: tuple[str, ...],
    examples: Path | None,
    out: Path | None,
    html: Path | None,
    applied: bool,
    folder: Path | None,
    undo_file: Path | None,
    reviewed: bool,
    as_json: bool,
) -> int:
    """Find what DATASET is better without: broken, blurred, doubled, mislabelled photos.

    DATASET is a folder of one folder a class, with a labels.csv, of splits, or of photos without
    labels; or a CSV file. Nothing changes without --apply, and nothing is deleted with it: photos
    move to a folder beside DATASET, and new labels go to a new file. Descriptors are kept in the
    user's cache folder, so an interrupted run goes on from there.

    Exit code 1 when something was found, 0 when nothing was, or after --review; with --apply or
    --undo 1 when something could not be moved.
    """
    if undo_file is not None:
        if any((dataset, applied, only, examples, out, html, folder, labels, reviewed)):
            raise click.UsageError("--undo FILE stands alone: FILE knows its dataset.")
        return _undo(undo_file, as_json)
    if dataset is None:
        raise click.UsageError("Name a DATASET, or --undo FILE.")
    if reviewed and (applied or as_json):
        raise click.UsageError("--review decides by hand: leave out --apply and --json.")
    if folder is not None and not applied:
        raise click.UsageError("--quarantine DIR goes with --apply.")
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise click.BadParameter(f"{shown(out)}: wanted a .csv or a .parquet file.")
    if "unlike" in only and examples is None:
        raise click.UsageError("--only unlike goes with --like EXAMPLES.")
    from veduta.curate.cleaning import clean

    with stages(quiet=as_json) as advance:
        found = clean(dataset, labels=labels, only=only, examples=examples, on_progress=advance)
    _write(found, out, html)
    facts = found.as_json()
    code = 1 if found.findings else 0
    if not as_json:
        _print(found, [file for file in (out, html) if file is not None])
    if reviewed:
        from veduta.cli.review import print_outcome, run_review

        print_outcome(run_review(dataset, findings=found.findings))
        return 0
    if applied:
        done, new_labels = _apply(found, folder, as_json)
        facts |= {"moved": _moved(done), "labels": shown(new_labels) if new_labels else None}
        failed = (done and done.left) or (new_labels is None and found.relabels())
        code = 130 if done and done.interrupted else 1 if failed else 0
    elif found.drops() and not as_json:
        click.echo(f"{count(len(found.drops()), 'photo')} would go; --apply moves them.")
    if as_json:
        print_json(facts)
    return code


def _write(found: Cleaning, out: Path | None, html: Path | None) -> None:
    from veduta.curate.findings import write_findings
    from veduta.curate.findings_report import findings_page
    from veduta.pages.findings_page import write_findings_page

    try:
        if out is not None:
            write_findings(out, found.findings)
        if html is not None:
            write_findings_page(html, findings_page(found))
    except OSError as error:
        place = shown(error.filename or html or out or "")
        raise click.BadParameter(f"{place}: {error.strerror}.") from error


def _print(found: Cleaning, written: Sequence[Path]) -> None:
    for line in _lines(found):
        click.echo(line)
    for file in written:
        click.echo(f"wrote {shown(file)}")
    for problem in found.photos.problems:
        click.echo(f"left out: {problem}", err=True)


def _apply(found: Cleaning, folder: Path | None, as_json: bool) -> tuple[Moved | None, Path | None]:
    from veduta.curate.cleaned_labels import write_labels
    from veduta.curate.quarantine import quarantine

    drops, relabels, done = found.drops(), found.relabels(), None
    if drops:
        with progress("Moving", quiet=as_json) as advance:
            done = quarantine(found.photos.root, drops, folder=folder, on_progress=advance)
        if not as_json:
            _tell(done, "moved")
    new_labels = None
    if relabels and not (done and done.interrupted):
        gone = set(done.moved) if done else set()
        try:
            new_labels = write_labels(found.photos, gone, relabels)
        except OSError as error:
            click.echo(f"the new labels cannot be written: {error.strerror}", err=True)
        else:
            if not as_json:
                some = count(len(relabels), "suggested label")
                click.echo(f"{some} in {shown(new_labels)} (for --labels)")
    if not as_json and not drops and not relabels:
        click.echo("Nothing to move.")
    return done, new_labels


def _undo(undo_file: Path, as_json: bool) -> int:
    from veduta.curate.quarantine import undo

    with progress("Moving back", quiet=as_json) as advance:
        done = undo(undo_file, on_progress=advance)
    if as_json:
        print_json(_moved(done))
    else:
        _tell(done, "put back")
    return 130 if done.interrupted else 1 if done.left else 0


def _tell(done: Moved, verb: str) -> None:
    click.echo(f"{count(len(done.moved), 'photo')} {verb}.")
    if verb == "moved":
        click.echo(f"To put them back: veduta clean --undo {shown(done.undo_file)}")
    for path, why in list(done.left.items())[:_LISTED]:
        click.echo(f"stays where it is: {shown(path)}: {why}", err=True)
    if len(done.left) > _LISTED:
        click.echo(f"… and {len(done.left) - _LISTED:,} more", err=True)
    if done.interrupted:
        click.echo("Interrupted; the others have not moved.", err=True)


def _moved(done: Moved | None) -> dict[str, Any] | None:
    if done is None:
        return None
    return {
        "undo_file": str(done.undo_file),
        "moved": list(done.moved),
        "left": dict(done.left),
        "interrupted": done.interrupted,
    }


def _lines(found: Cleaning) -> Iterator[str]:
    from veduta.curate.findings import KINDS as MEANINGS

    yield (
        f"{shown(found.photos.root)}: {count(len(found.photos.paths), 'photo')}, "
        f"{found.readable:,} readable, in {duration(found.seconds)}"
    )
    if not found.findings:
        yield "Nothing is odd."
    for name, number in found.counts.items():
        kind = MEANINGS[name]
        some = [one for one in found.findings if one.kind == name]
        yield f"\n{name}: {number:,}  {kind.meaning} ({_suggestions(some)})"
        yield from _listed(some)
    if found.findings:
        yield ""
    for note in found.notes:
        yield fill(f"not looked for: {note}", 80, subsequent_indent="  ")


def _suggestions(findings: Sequence[Any]) -> str:
    """Return what is suggested, with numbers where it is not the same for all."""
    numbers = Counter(str(one.suggestion) for one in findings)
    if len(numbers) == 1:
        return next(iter(numbers))
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())


def _listed(findings: Sequence[Any]) -> Iterator[str]:
    from veduta.text import printable

    for one in findings[:_LISTED]:
        yield fill(
            f"{one.score:.2f}  {printable(one.path)}: {printable(one.reason)}",
            80,
            initial_indent="  ",
            subsequent_indent="        ",
            break_on_hyphens=False,
        )
    if len(findings) > _LISTED:
        yield f"        … and {len(findings) - _LISTED:,} more: --out, --html and --json have them"
