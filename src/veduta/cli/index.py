"""The command `veduta index`: build an index, or bring it up to date."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.options import (
    changed_index_option,
    device_option,
    exclude_option,
    json_option,
    runtime_option,
)
from veduta.cli.printing import print_json, say, shown
from veduta.cli.progress import stages
from veduta.text import count

if TYPE_CHECKING:
    from veduta.api import Index
    from veduta.index import UpdateReport
    from veduta.index.shards import Shard
    from veduta.ray_indexing import RayAddress
    from veduta.ray_indexing.report import RayReport

MAX_LISTED_FILES = 20


def _shard(_context: click.Context, _option: click.Parameter, text: str | None) -> Shard | None:
    """Return the shard that the option names."""
    from veduta.errors import QueryError
    from veduta.index.shards import Shard

    try:
        return None if text is None else Shard.parse(text)
    except QueryError as error:
        raise click.BadParameter(str(error)) from error


def _ray_address(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> RayAddress | None:
    """Return the Ray cluster that the option names."""
    from veduta.errors import QueryError

    if text is None:
        return None
    from veduta.ray_indexing.address import RayAddress

    try:
        return RayAddress.parse(text)
    except QueryError as error:
        raise click.BadParameter(str(error)) from error


@click.command("index")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@changed_index_option
@click.option("--encoder", metavar="NAME", help="Encoder of a new index: see `veduta models`.")
@click.option(
    "--keypoints",
    metavar="NAME[:NUMBER[:FORM]]|none",
    help="Keypoints of a new index, for geometric verification: xfeat (the default), sift, orb, "
    "surf, or none; xfeat:512 for another number of them. 1024 of xfeat take 37 kB a photo; "
    "xfeat:1024:16bytes take 20 kB and verify fewer photos.",
)
@click.option(
    "--regions",
    is_flag=True,
    help="Describe regions of the photos of a new index too, for things that fill a small part of "
    "a photo. They take about 3 kB a photo.",
)
@click.option(
    "--labels",
    metavar="folders|FILE.csv|none",
    help="Take labels from the class folders in each FOLDER, or from a CSV file (path,label). "
    "'none' takes all labels away.",
)
@exclude_option
@click.option(
    "--shard",
    metavar="NUMBER/COUNT",
    callback=_shard,
    help="Index only the photos of one shard, such as 3/16, so that several machines index a "
    "collection. `veduta merge` makes one index of the shards.",
)
@click.option(
    "--ray",
    metavar="auto|local|HOST:PORT",
    callback=_ray_address,
    help="Read and encode on all machines of a Ray cluster: the one that this machine belongs to "
    "(auto), one of this machine alone (local), or the one with this head. FOLDERS and the index "
    "are on a disk that all machines share.",
)
@click.option("--no-gps", is_flag=True, help="A new index: do not store where photos were taken.")
@click.option("--no-exclude", is_flag=True, help="Forget the patterns of earlier runs.")
@click.option(
    "--project",
    metavar="DIM|labels|FILE.npz|none",
    help="Search through a projection: a PCA to DIM dimensions, fitted on the photos of the index; "
    "one learned from its labels; or the projection-….npz of another index. 'none' removes it.",
)
@click.option(
    "--approximate",
    is_flag=True,
    help="Search by cells of near photos, as large collections are searched without this option.",
)
@runtime_option
@device_option
@click.option("--allow-empty", is_flag=True, help="Accept that a folder has no photos any more.")
@click.option(
    "--allow-label-loss", is_flag=True, help="Accept that photos that are there lose their label."
)
@click.option(
    "--reread",
    is_flag=True,
    help="Read all files again, also those whose size and time did not change.",
)
@click.option(
    "--accept-truncated",
    is_flag=True,
    help="Use JPEGs that are cut short if at least half of the rows are there.",
)
@click.option(
    "--all-photos",
    is_flag=True,
    help="Add photos again that were removed from the index one by one.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a photo could not be read.")
@json_option
def command(
    folders: tuple[Path, ...],
    index_path: Path,
    encoder: str | None,
    keypoints: str | None,
    regions: bool,
    labels: str | None,
    exclude: tuple[str, ...],
    shard: Shard | None,
    ray: RayAddress | None,
    no_gps: bool,
    no_exclude: bool,
    project: str | None,
    approximate: bool,
    runtime: str | None,
    allow_empty: bool,
    allow_label_loss: bool,
    reread: bool,
    accept_truncated: bool,
    all_photos: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Build an index of FOLDERS of photos, or bring it up to date.

    New and changed photos are read. Moved photos are recognised by their content. Photos that are
    gone from a FOLDER are removed from the index. Without FOLDERS, the folders of the index are
    updated. The index remembers where its labels come from and the patterns of --exclude. Photos
    are never changed. An interrupted run continues where it stopped.
    """
    from veduta import api

    if ray is not None and (reread or shard is not None):
        raise click.UsageError("--ray goes with neither --reread nor --shard.")
    if ray is not None:
        from veduta.ray_indexing.ray_cluster import require_ray

        require_ray()  # Before a new index is made.
    index = api.open_or_create(index_path, encoder, keypoints, places=not no_gps, regions=regions)
    options: dict[str, Any] = {
        "labels": labels,
        "exclude": _patterns(index, exclude, no_exclude),
        "allow_empty": allow_empty,
        "allow_label_loss": allow_label_loss,
        "accept_truncated": accept_truncated,
        "all_photos": all_photos,
        "runtime": runtime,
    }
    report: UpdateReport
    ray_report: RayReport | None = None
    with stages(quiet=as_json) as advance:
        if ray is not None:
            from veduta.ray_indexing import RunOptions, index_with_ray

            # Of an index in an object store, the command gets the folder of a copy.
            named = click.get_current_context().params["index_path"]
            report = ray_report = index_with_ray(
                index_path,
                folders,
                ray,
                RunOptions(**options),
                url=named if isinstance(named, str) else None,
                on_stage=advance,
                say=partial(say, err=True),
            )
        else:
            report = index.add(
                *folders,
                on_progress=lambda state: advance("Indexing", state.done, state.total),
                on_linking=partial(advance, "Linking"),
                reread=reread,
                shard=(shard.number, shard.count) if shard else None,
                **options,
            )
    if not report.interrupted:
        if project:
            _project(index, project)
        if approximate:
            index.build_approximate()
    if as_json:
        print_json({"index": str(index_path), **report.as_json()})
    else:
        _print(report, index_path, _blocks_line(ray_report) if ray_report is not None else "")
    if report.interrupted:
        return 130
    has_gaps = ray_report is not None and _has_gaps(ray_report, quiet=as_json)
    return 1 if has_gaps or (strict and report.unreadable) else 0


def _blocks_line(report: RayReport) -> str:
    """Return how far a run with Ray came that was interrupted before the parts were merged."""
    if not (report.blocks and report.interrupted):
        return ""
    return f"{report.finished_blocks:,} of {count(report.blocks, 'block')} finished."


def _has_gaps(report: RayReport, *, quiet: bool) -> bool:
    """Tell whether a run with Ray has given up blocks, and say which."""
    from veduta.ray_indexing.report import failed_lines

    if report.failed_blocks and not quiet:
        say(*failed_lines(report), err=True)
    return bool(report.failed_blocks)


def _patterns(index: Index, given: tuple[str, ...], forget: bool) -> list[str] | None:
    """Return the patterns from now on; None for those that the index remembers."""
    from veduta.index import Manifest

    if not given and not forget:
        return None
    return [*([] if forget else Manifest.read(index.path).exclude), *given]


def _project(index: Index, project: str) -> None:
    if project == "none":
        index.project(None)
    elif project == "labels":
        from veduta.learn.models.projection import projection_of_index

        index.project(projection_of_index(index.path))
    elif project.endswith(".npz"):
        from veduta.encoders import Projection

        index.project(Projection.load(project))
    elif project.isdecimal() and int(project) > 0:
        index.project(int(project))
    else:
        raise click.BadParameter(
            f"'{project}' is not a number of dimensions, 'labels', a .npz file or 'none'."
        )


def _print(report: UpdateReport, index_path: Path, blocks_line: str) -> None:
    from veduta.index.report_text import changes_line, note_lines

    say(blocks_line or changes_line(report), *note_lines(report))
    if report.unreadable:
        say(f"{count(len(report.unreadable), 'file')} could not be read:")
        for path, reason in report.unreadable[:MAX_LISTED_FILES]:
            say(f"  {shown(path)}: {reason}")
        if len(report.unreadable) > MAX_LISTED_FILES:
            rest = len(report.unreadable) - MAX_LISTED_FILES
            say(f"  … and {rest:,} more: the option --json lists all.")
    say(f"{count(report.total, 'photo')} in {shown(index_path)}")
    if report.interrupted:
        say("Interrupted. What was read is kept. Run the same command to continue.", err=True)
