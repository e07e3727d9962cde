"""The index that an argument names: a folder, or an address in an object store.

A command works on a folder in both cases. For an address, this module fetches the copy before the
command runs, and publishes it afterwards if the command changes it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from veduta.cli.printing import say
from veduta.cli.progress import OnProgress, OnStage, stages

__all__ = [
    "IndexPath",
    "changes_index",
    "default_index",
    "local_index",
    "reads_index",
]

_MEGABYTE = 1_000_000
_INTERRUPTED = 130


def default_index() -> Path | str:
    """Return the default index: `$VEDUTA_INDEX`, or a folder in the user's data folder."""
    if named := os.environ.get("VEDUTA_INDEX"):
        return named if _is_address(named) else Path(named)
    from platformdirs import user_data_path

    return user_data_path("veduta", appauthor=False) / "index"


class IndexPath(click.Path):
    """A folder, as a Path; or an address in an object store, as a text in its usual form."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder or the address.

        Args:
            value: what the user has written.
            param: the option.
            ctx: of the command.

        Raises:
            QueryError: it begins like an address and is none.
        """
        if isinstance(value, str) and _is_address(value):
            from veduta.stored_index.addresses import StoreAddress

            return str(StoreAddress.parse(value))
        return super().convert(value, param, ctx)


def local_index(index: Path | str, *, quiet: bool = False) -> Path:
    """Return the folder of an index. The copy of one in an object store is fetched.

    Args:
        index: from `IndexPath`.
        quiet: show no progress.
    """
    if isinstance(index, Path):
        return index
    from veduta.stored_index import local_copy

    with stages("MB", quiet=quiet) as advance:
        return local_copy(index, on_progress=_in_megabytes(advance, "Fetching"))


def reads_index(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the folder of the index that its parameter `index_path` names.

    Args:
        function: the command.
    """

    @functools.wraps(function)
    def with_folder(*args: Any, **options: Any) -> Any:
        if options.get("model") is None:  # With a model, a command reads no index.
            quiet = bool(options.get("as_json"))
            options["index_path"] = local_index(options["index_path"], quiet=quiet)
        return function(*args, **options)

    return with_folder


def changes_index(function: Callable[..., Any], *, verify: bool = False) -> Callable[..., Any]:
    """Give a command the folder of the index that it changes, and publish what it has done.

    Nothing is published if the command ends with an error, or returns that it was interrupted.

    Args:
        function: the command. It gets the index as `index_path`.
        verify: look for damage of the copy first.
    """

    @functools.wraps(function)
    def with_folder(*args: Any, **options: Any) -> Any:
        index = options["index_path"]
        if isinstance(index, Path):
            return function(*args, **options)
        from veduta.stored_index import changing

        quiet = bool(options.get("as_json"))
        with (
            ExitStack() as fetching,
            stages("MB", quiet=quiet) as sent,
            changing(
                index,
                verify=verify,
                on_fetch=_in_megabytes(
                    fetching.enter_context(stages("MB", quiet=quiet)), "Fetching"
                ),
                on_publish=_in_megabytes(sent, "Publishing"),
            ) as change,
        ):
            fetching.close()  # A terminal can show only one bar.
            code = function(*args, **{**options, "index_path": change.path})
            if code == _INTERRUPTED:
                change.keep()
        report = change.published
        if report is not None and report.note:
            say(f"veduta: {report.note}", err=True)
        if report is not None and not quiet:
            done = "Published" if report.is_new else "Nothing is new:"
            say(f"{done} version {report.version} of {index}", err=True)
        return code

    return with_folder


def _in_megabytes(advance: OnStage, stage: str) -> OnProgress:
    return lambda done, total: advance(stage, done // _MEGABYTE, total // _MEGABYTE)


def _is_address(text: str) -> bool:
    if "://" not in text:  # Most commands need not load what reads stores.
        return False
    from veduta.stored_index import is_store_url

    return is_store_url(text)
