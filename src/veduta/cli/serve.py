"""The command `veduta serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from veduta.cli.index_argument import IndexPath, default_index, local_index
from veduta.cli.options import FiniteFloat, OutputFile, device_option
from veduta.cli.printing import print_json, say, shown
from veduta.cli.review import print_outcome
from veduta.errors import StoreError
from veduta.text import veduta_command

if TYPE_CHECKING:
    from veduta.web.open_review import ReviewRequest


class _RootPath(click.ParamType[str]):
    """A path such as /photos: "" or with a slash at the start and none at the end."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip("/")
        if not all(letter.isalnum() or letter in "-._~/" for letter in text) or not text.isascii():
            self.fail("write it like /photos: letters, digits, and - . _ ~ /", param, ctx)
        return f"/{text}" if text else ""


class _Address(click.ParamType[str]):
    """An address or a network, such as 10.0.0.2 or 10.0.0.0/24."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ipaddress import ip_network

        try:
            return str(ip_network(value)).removesuffix("/32").removesuffix("/128")
        except ValueError:
            self.fail("write an address like 10.0.0.2 or a network like 10.0.0.0/24", param, ctx)


@click.command("serve")
@click.argument("indexes", nargs=-1, type=IndexPath())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0: any free."
)
@click.option(
    "--root-path",
    type=_RootPath(),
    default="",
    metavar="PATH",
    help="Path under which a proxy shows the service, such as /photos.",
)
@click.option("--read-only", is_flag=True, help="Refuse everything that changes an index.")
@click.option(
    "--require-key",
    is_flag=True,
    help="Ask for a key on this machine, too. Beyond it, and behind a proxy, one is always needed.",
)
@click.option(
    "--keys",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of the keys.  [default: $VEDUTA_KEYS, or in the user's data folder]",
)
@click.option(
    "--originals/--no-originals",
    default=None,
    help="Send the files of photos as they are.  [default: only if no key is needed]",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A name by which clients reach the service (repeatable). Addresses always work.",
)
@click.option(
    "--trust-proxy",
    "proxies",
    multiple=True,
    type=_Address(),
    metavar="ADDRESS",
    help="A proxy whose X-Forwarded headers are believed (repeatable).",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of processes. One for each processor core serves many clients best.",
)
@click.option("--metrics", is_flag=True, help="Answer /api/v1/metrics, for Prometheus.")
@click.option(
    "--max-upload-mb",
    type=click.IntRange(1, 1000),
    default=32,
    show_default=True,
    help="Largest photo that is taken, in megabytes.",
)
@click.option(
    "--max-upload-mpixels",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Largest photo that is taken, in millions of pixels.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Requests that wait or are at work in one process. Others get the answer 429.",
)
@click.option(
    "--review",
    "dataset",
    type=click.Path(path_type=Path, exists=True),
    metavar="DATASET",
    help="Also show the page of `veduta review DATASET`.",
)
@click.option(
    "--findings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV of findings for --review, as `veduta clean --out` writes it.",
)
@click.option(
    "--decisions",
    type=OutputFile(),
    metavar="FILE",
    help="CSV of the decisions of --review.  [default: DATASET-decisions.csv]",
)
@click.option(
    "--refresh",
    type=FiniteFloat(0.1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Look so often for a newer version of an index that is in an object store.",
)
@device_option
@click.option("--open/--no-open", "browse", default=False, help="Open a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
def command(
    indexes: tuple[Path | str, ...],
    *,
    key_file: Path | None,
    require_key: bool,
    originals: bool | None,
    browse: bool,
    as_json: bool,
    max_upload_mb: int,
    max_upload_mpixels: int,
    queue: int,
    dataset: Path | None,
    findings: Path | None,
    decisions: Path | None,
    **options: Any,
) -> None:
    """Serve INDEXES to browsers and programs, until Ctrl-C.

    An INDEX is a folder, or an address in an object store, such as s3://bucket/path. Without
    INDEXES, the default index is served. The service is for this machine, unless --host
    names another address. Then clients need a key: see `veduta keys`. At a terminal the first one
    is made and shown when there is none. The API is described at /api/v1/openapi.json.
    """
    from veduta.web.listening import is_loopback
    from veduta.web.serving import names_of, serve
    from veduta.web.settings import ServeSettings

    beyond = not is_loopback(options["host"]) or options["proxies"] or options["host_names"]
    keys = _key_file(key_file) if require_key or beyond else None
    served = indexes or (default_index(),)
    for index in served:
        with suppress(StoreError):  # A copy that is there already may do.
            local_index(index, quiet=as_json)
    settings = ServeSettings(
        indexes=names_of(served),
        key_file=keys,
        originals=keys is None if originals is None else originals,
        max_upload_bytes=max_upload_mb * 2**20,
        max_upload_pixels=max_upload_mpixels * 1_000_000,
        queued_requests=queue,
        review=_review(dataset, findings, decisions, options),
        **options,
    )
    outcome = serve(settings, _announcer(settings.key_file, browse=browse, as_json=as_json))
    if outcome is not None and not as_json:
        print_outcome(outcome)


def _review(
    dataset: Path | None, findings: Path | None, decisions: Path | None, options: dict[str, Any]
) -> ReviewRequest | None:
    if dataset is None:
        if findings or decisions:
            raise click.UsageError("--findings and --decisions are for --review DATASET.")
        return None
    if options["read_only"]:
        raise click.UsageError("--review writes decisions, which --read-only forbids.")
    if options["workers"] > 1:
        raise click.UsageError("Only one process can write the decisions of --review.")
    from veduta.web.open_review import ReviewRequest

    return ReviewRequest(dataset, findings, out=decisions)


def _key_file(named: Path | None) -> Path:
    from veduta.web.keys import default_key_file

    return named or default_key_file()


def _announcer(keys: Path | None, *, browse: bool, as_json: bool) -> Callable[[str], None]:
    def announce(url: str) -> None:
        from veduta.web.keys import KeyFile

        key = None
        keyless = keys if keys is not None and not KeyFile(keys).known() else None
        # What no person sees may stay in a log.
        if keyless is not None and (as_json or sys.stderr.isatty()):
            key = KeyFile(keyless).create("admin")
        if as_json:
            print_json({"url": url, "api": f"{url}api/v1", "key": key})
        else:
            say(f"Serving at {url}", err=True)
            if keyless is not None:
                _tell_of_the_first_key(keyless, key)
            say("Ctrl-C ends it.", err=True)
        if browse:
            import webbrowser

            webbrowser.open(url)

    return announce


def _tell_of_the_first_key(file: Path, key: str | None) -> None:
    if key is None:
        create = veduta_command("keys", "create", "admin", "--keys", file)
        say(f"There is no key yet. Make one: {create}", err=True)
    else:
        say(f"The first key, for admin: {key}", err=True)
        say(f"It is not shown again. A hash of it is in {shown(file)}.", err=True)
