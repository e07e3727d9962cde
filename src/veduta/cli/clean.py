"""The command `veduta clean`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import (
    OutputFile,
    device_option,
    exclude_option,
    html_option,
    json_option,
    labels_option,
)
from veduta.cli.printing import print_json, quoted, say, shown
from veduta.cli.progress import progress, stages
from veduta.text import count, duration

if TYPE_CHECKING:
    from veduta.curate.cleaning import Cleaning
    from veduta.curate.findings import Finding
    from veduta.curate.quarantine import Moved

# Of each kind. --json, --out and --html have all findings.
_MAX_LISTED = 5

# As in veduta.curate.findings, which is not imported for `--help`. A test keeps the two equal.
KINDS = (
    "corrupt",
    "truncated",
    "not-a-photo",
    "unsupported",
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
    "same-view",
    "off-topic",
    "mislabelled",
    "unlike",
)


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of the command, under the names that click gives them."""

    dataset: Path | None
    labels: str | None
    exclude: tuple[str, ...]
    only: tuple[str, ...]
    examples: Path | None
    against: Path | None
    out: Path | None
    html: Path | None
    apply: bool
    folder: Path | None
    undo_file: Path | None
    review: bool
    as_json: bool

    def any_but_undo(self) -> bool:
        """Return whether options were given that do not go with --undo."""
        names = (
            "labels",
            "exclude",
            "only",
            "examples",
            "against",
            "out",
            "html",
            "apply",
            "folder",
            "review",
        )
        return any(getattr(self, name) for name in names)

    def refuse_contradictions(self) -> None:
        """Refuse options that contradict each other."""
        if self.review and (self.apply or self.as_json):
            raise click.UsageError("--review decides by hand: leave out --apply and --json.")
        if self.folder is not None and not self.apply:
            raise click.UsageError("--quarantine DIR goes with --apply.")
        if self.out is not None and self.out.suffix.lower() not in (".csv", ".parquet"):
            raise click.BadParameter(f"{shown(self.out)}: wanted a .csv or a .parquet file.")
        if "unlike" in self.only and self.examples is None:
            raise click.UsageError("--only unlike goes with --like EXAMPLES.")


@click.command("clean")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@labels_option
@exclude_option
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(KINDS),
    metavar="KIND",
    help="Look for this kind only (repeatable): " + ", ".join(KINDS) + ".",
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
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="ARCHIVE",
    help="A folder or an index: propose to drop the photos of DATASET that it has already. Its own "
    "photos are never moved or changed.",
)
@click.option(
    "--out",
    type=OutputFile(),
    metavar="FILE",
    help="Write the findings as .csv or .parquet.",
)
@html_option
@click.option(
    "--apply",
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
    help="Put back what --apply moved: the undo.jsonl that it wrote. The photos go to the dataset "
    "beside its folder, or to DATASET.",
)
@click.option(
    "--review",
    is_flag=True,
    help="Then decide on a page in the browser, the most doubtful photos first, as with "
    "`veduta review`.",
)
@device_option
@json_option
def command(**options: Any) -> int:
    """Find broken, blurred, duplicate, off-topic and mislabelled photos in DATASET.

    DATASET is a folder with one folder for each class, with a labels.csv, with splits, or with
    photos without labels; or a CSV file. Without --apply nothing changes. With it, photos move to a
    folder beside DATASET, new labels go to a new file, and nothing is deleted. Descriptors are kept
    in the user's cache folder, so that a run can continue after an interruption.

    The exit code is 1 if something was found, and 0 if not or after --review. With --apply and
    --undo it is 1 if something could not be moved.
    """
    return _run(_Options(**options))


def _run(options: _Options) -> int:
    if options.undo_file is not None:
        if options.any_but_undo():
            raise click.UsageError("--undo FILE goes with DATASET and --json only.")
        return _undo(options.undo_file, options.dataset, options.as_json)
    if options.dataset is None:
        raise click.UsageError("Name a DATASET, or --undo FILE.")
    options.refuse_contradictions()
    return _clean(options.dataset, options)


def _clean(dataset: Path, options: _Options) -> int:
    from veduta.curate.cleaning import clean

    with stages(quiet=options.as_json) as advance:
        cleaning = clean(
            dataset,
            labels=options.labels,
            exclude=options.exclude,
            only=options.only,
            examples=options.examples,
            against=options.against,
            on_progress=advance,
        )
    _write(cleaning, options.out, options.html)
    facts = cleaning.as_json()
    code = 1 if cleaning.findings else 0
    if not options.as_json:
        _print(cleaning, [file for file in (options.out, options.html) if file is not None])
    if options.review:
        from veduta.cli.review import print_outcome, run_review

        print_outcome(run_review(dataset, findings=cleaning.findings, exclude=options.exclude))
        return 0
    if options.apply:
        moved, new_labels = _apply(cleaning, options.folder, options.as_json)
        facts |= {"moved": _moved_json(moved), "labels": shown(new_labels) if new_labels else None}
        failed = (moved and moved.left) or (new_labels is None and cleaning.relabels())
        code = 130 if moved and moved.interrupted else 1 if failed else 0
    elif not options.as_json and (cleaning.drops() or cleaning.relabels()):
        would = []
        if drops := len(cleaning.drops()):
            would.append(f"{count(drops, 'photo')} would go")
        if labels := len(cleaning.relabels()):
            would.append(f"{count(labels, 'photo')} would get another label")
        say(f"{' and '.join(would)}; --apply does it.")
    if options.as_json:
        print_json(facts)
    return code


def _write(cleaning: Cleaning, out: Path | None, html: Path | None) -> None:
    from veduta.curate.findings import write_findings
    from veduta.curate.findings_report import findings_page
    from veduta.pages.findings_page import write_findings_page

    if out is not None:
        write_findings(out, cleaning.findings)
    if html is not None:
        write_findings_page(html, findings_page(cleaning))


def _print(cleaning: Cleaning, written: Sequence[Path]) -> None:
    for line in _lines(cleaning):
        say(line)
    for file in written:
        say(f"wrote {shown(file)}")
    for problem in cleaning.dataset.problems:
        say(f"note: {problem}", err=True)


def _apply(
    cleaning: Cleaning, folder: Path | None, as_json: bool
) -> tuple[Moved | None, Path | None]:
    from veduta.curate.cleaned_labels import write_cleaned_labels
    from veduta.curate.quarantine import quarantine

    drops, relabels, moved = cleaning.drops(), cleaning.relabels(), None
    if drops:
        with progress("Moving", quiet=as_json) as advance:
            moved = quarantine(cleaning.dataset.root, drops, folder=folder, on_progress=advance)
        if not as_json:
            _print_moved(moved, "moved")
    new_labels = None
    if relabels and not (moved and moved.interrupted):
        removed = set(moved.moved) if moved else set()
        try:
            new_labels = write_cleaned_labels(cleaning.dataset, removed, relabels)
        except OSError as error:
            say(f"the new labels cannot be written: {error.strerror}", err=True)
        else:
            if not as_json:
                labels = count(len(relabels), "suggested label")
                say(f"{labels} in {shown(new_labels)} (for --labels)")
                root = cleaning.dataset.root
                say(
                    f"Next: veduta split {quoted(root)} --labels {quoted(new_labels.name)} "
                    f"--into train=0.8,test=0.2 --out {quoted(root / 'split.csv')}"
                )
    if not as_json and not drops and not relabels:
        say("Nothing to move.")
    return moved, new_labels


def _undo(undo_file: Path, dataset: Path | None, as_json: bool) -> int:
    from veduta.curate.quarantine import undo

    with progress("Moving back", quiet=as_json) as advance:
        moved = undo(undo_file, root=dataset, on_progress=advance)
    if as_json:
        print_json(_moved_json(moved))
    else:
        _print_moved(moved, "put back")
    return 130 if moved.interrupted else 1 if moved.left else 0


def _print_moved(moved: Moved, verb: str) -> None:
    where = f" into {shown(moved.root)}" if verb == "put back" and moved.moved else ""
    say(f"{count(len(moved.moved), 'photo')} {verb}{where}.")
    if verb == "moved" and moved.moved:
        dataset = "" if moved.dataset_is_found else f"{quoted(moved.root)} "
        say(f"To put them back: veduta clean {dataset}--undo {quoted(moved.undo_file)}")
    for path, reason in list(moved.left.items())[:_MAX_LISTED]:
        say(f"stays where it is: {shown(path)}: {reason}", err=True)
    if len(moved.left) > _MAX_LISTED:
        say(f"… and {len(moved.left) - _MAX_LISTED:,} more", err=True)
    if moved.interrupted:
        say("Interrupted; the others have not moved.", err=True)


def _moved_json(moved: Moved | None) -> dict[str, Any] | None:
    if moved is None:
        return None
    return {
        "dataset": str(moved.root),
        "undo_file": str(moved.undo_file),
        "moved": list(moved.moved),
        "left": dict(moved.left),
        "interrupted": moved.interrupted,
    }


def _lines(cleaning: Cleaning) -> Iterator[str]:
    from veduta.curate.findings import KINDS as KIND_OF_NAME

    yield (
        f"{shown(cleaning.dataset.root)}: {count(len(cleaning.dataset.paths), 'photo')}, "
        f"{cleaning.readable:,} readable, in {duration(cleaning.seconds)}"
    )
    if cleaning.archive is not None:
        archive = cleaning.archive
        yield f"  against {count(len(archive.files), 'photo')} of {shown(archive.path)}"
    if not cleaning.findings:
        yield "Nothing is odd."
    for name, number in cleaning.counts.items():
        findings = [finding for finding in cleaning.findings if finding.kind == name]
        meaning = KIND_OF_NAME[name].meaning
        yield ""
        yield f"{name}: {number:,}  {meaning} ({_suggestions(findings)})"
        yield from _finding_lines(findings)
    if cleaning.findings:
        yield ""
        yield "The number of a finding says how sure it is: 0.50 is just over its threshold."
    for note in cleaning.notes:
        yield from wrap(f"not looked for: {note}", 80, subsequent_indent="  ")


def _suggestions(findings: Sequence[Finding]) -> str:
    """Return the suggestions, with their numbers if they differ."""
    numbers = Counter(str(finding.suggestion) for finding in findings)
    if len(numbers) == 1:
        return next(iter(numbers))
    return ", ".join(f"{suggestion} {number:,}" for suggestion, number in numbers.items())


def _finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    from veduta.text import printable

    for finding in findings[:_MAX_LISTED]:
        yield from wrap(
            f"{finding.score:.2f}  {printable(finding.path)}: {printable(finding.reason)}",
            80,
            initial_indent="  ",
            subsequent_indent="        ",
            break_on_hyphens=False,
        )
    if len(findings) > _MAX_LISTED:
        more = len(findings) - _MAX_LISTED
        yield f"        … and {more:,} more: --out, --html and --json have them"
