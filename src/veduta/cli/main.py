"""The command line: run a command, and turn its errors into a message and an exit code."""

from __future__ import annotations

import io
import os
import traceback
from importlib import import_module

import click

from veduta._version import __version__
from veduta.cli.interrupts import Interrupts
from veduta.cli.printing import Invocation, say, without_folders
from veduta.cli.streams import discard_output, prepare_streams
from veduta.cli.unexpected import explanation
from veduta.errors import CannotWrite, VedutaError, WrongLayout
from veduta.text import printable, veduta_command

# Name → summary in `veduta --help`. The module of a command is loaded only when it runs.
COMMANDS = {
    "collect": "Fetch the photos of a CSV or of lists of URLs into folders.",
    "clean": "Find broken, blurred, duplicate, off-topic and mislabelled photos.",
    "review": "Keep, drop or relabel photos on a page in your browser.",
    "split": "Split a dataset so that copies of a photo stay together; find leaks.",
    "augment": "Show the transforms of training photos, or write transformed copies.",
    "recipes": "List the networks that can be trained, or print a recipe.",
    "train": "Train a network on your photos, as an encoder and a recogniser.",
    "table": "Train and measure the rows of a table, beside a report's figures.",
    "tune": "Search for the best settings of a recipe.",
    "index": "Build an index of folders of photos, or update it.",
    "merge": "Make one index of several, such as the shards of a collection.",
    "publish": "Put an index into an object store, where other machines search it.",
    "forget": "Take folders and their photos out of an index.",
    "search": "Rank the photos of an index by their similarity to a query photo.",
    "match": "Say whether two photos show the same place, and why.",
    "explain": "Show which regions of a photo decide a similarity or a class.",
    "group": "Find the places and objects of an index without labels.",
    "recognize": "Name what a photo shows, or say that it is unknown.",
    "describe": "Describe a dataset: classes, balance, photos, copies across splits.",
    "evaluate": "Measure retrieval or recognition on a labelled dataset.",
    "compare": "Compare trained runs or evaluation reports, with significance tests.",
    "score": "Score a Google Landmarks submission: mAP@100 or GAP.",
    "serve": "Serve indexes to browsers and programs.",
    "keys": "Make, list and revoke the keys of `veduta serve`.",
    "models": "List the encoders: size, dimension, licence, availability.",
    "status": "Show the contents and the state of an index.",
    "export": "Write an index in the forms of hloc, COLMAP and evaluation tools.",
    "check": "Compare every row of an index with its photo and its checksum.",
    "repair": "Repair a damaged index from its readable parts.",
    "demo": "Try Veduta on sample photos with a known answer, or on a folder of yours.",
}


def _debug_option(*, hidden: bool = False) -> click.Option:
    """Return `--debug`, which stands before the name of a command or after it."""

    def wanted(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
        if value:
            ctx.ensure_object(Invocation).debug = True

    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=wanted,
        help="Show where in the code an error arose, for a report of a fault.",
    )


class _LazyCommands(click.Group):
    """Loads the module of a command only when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if ctx.resilient_parsing or getattr(ctx, "listing", False):
            return click.Command(cmd_name, short_help=COMMANDS[cmd_name])
        command: click.Command = import_module(f"veduta.cli.{cmd_name}").command
        if all(one.name != "debug" for one in command.params):
            command.params.append(_debug_option(hidden=True))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_LazyCommands,
    params=[_debug_option()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="veduta")
def veduta() -> None:
    """Find which photos of a collection show the same place or object, offline.

    \b
    veduta index ~/Photos            build the index
    veduta search statue.jpg         search it
    """


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the name of the program.

    Returns:
        The exit code: 0 done; 1 a check found something; 2 the command line is wrong; 3 the input
        cannot be used or the output cannot be written; 4 an index, or 5 an encoder, cannot be used;
        70 a fault of Veduta; 130 interrupted.
    """
    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("FORCE_COLOR", "")
    prepare_streams()
    invocation = Invocation(veduta_command(*map(without_folders, arguments)))
    interrupts = Interrupts()
    try:
        try:
            with interrupts:
                result = veduta.main(
                    arguments, prog_name="veduta", standalone_mode=False, obj=invocation
                )
        except Exception as error:
            if invocation.debug:
                say(*traceback.format_exc().rstrip("\n").split("\n"), err=True)
            if interrupts.happened:
                raise click.Abort from error
            return _explained(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        say("veduta: interrupted.", err=True)
        return 130
    return int(result or 0)


def _explained(error: Exception, arguments: list[str]) -> int:
    """Print an error as a user needs it, and return the exit code."""
    further_lines: tuple[str, ...] = ()
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort():
            raise error
        case click.ClickException():
            _show(error)
            return error.exit_code
        case WrongLayout():
            message, code = error.message, error.exit_code
            further_lines = error.further_lines
        case VedutaError():
            message, code = str(error), error.exit_code
        case _:
            message, code = explanation(error, arguments)
            discard_output()  # click itself prints the help, maybe onto a full disk
    try:
        say(f"veduta: {message}", *further_lines, err=True)
    except CannotWrite:
        return code  # Standard error cannot be written, so the exit code is all that is left.
    return code


def _show(error: click.ClickException) -> None:
    """Print a wrong call. Its message may have a name that a stranger gave to a file."""
    shown = io.StringIO()
    error.show(shown)
    # The lines that click adds are its own. A line break in the message is not. Click has already
    # removed the colours that a name pretends to have.
    text = shown.getvalue().replace(click.unstyle(error.message), printable(error.message))
    say(*text.removesuffix("\n").split("\n"), err=True)
