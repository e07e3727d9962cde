"""NaN, infinity, negative and huge values for every option that takes a number or a text."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import click

from attack.case import Attack, Case
from attack.commands import Argument, outside
from attack.hostile_files import prepare

VALUES = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e-400",
    "1e400",
    "9" * 30,
    "9" * 5_000,
    str(2**31),
    str(2**63 - 1),
    "",
    " ",
    "\x1b[31m",
    "\ud800",
    "../../outside",
    "0001-01-01",
    "9999-12-31T23:59:59",
    "1,2,3",
    "nan,nan,nan,nan",
    "1e30,0,1,1",
    "=",
    "a=b=c",
    "train=nan,test=1",
    "train=1e400,test=1",
)
# The arguments with which each command works.
CALLS: dict[str, str] = {
    "index": "{}/photos --index {}/index",
    "search": "{}/query.jpg --index {}/index",
    "match": "{}/query.jpg {}/query.jpg",
    "recognize": "{}/query.jpg --index {}/index",
    "describe": "{}/photos",
    "evaluate": "{}/photos",
    "compare": "{}/report {}/report",
    "score": "{}/answers.csv {}/solution.csv",
    "models": "",
    "recipes": "",
    "status": "--index {}/index",
    "check": "--index {}/index",
    "repair": "--index {}/index",
    "collect": "{}/urls.txt --out {}/new --allow-private --retries 0",
    "clean": "{}/photos --only exact-copy",
    "split": "{}/photos",
    "augment": "{}/photos --out {}/augmented --copies 1 --all",
}
# These start a server, a browser, or work of hours.
_LEFT_OUT = frozenset({"open", "review", "runtime", "help"})


def options_of(command: str) -> list[str]:
    """Return the options of a command that take a value."""
    loaded: click.Command = import_module(f"veduta.cli.{command}").command
    return [
        max(parameter.opts, key=len)
        for parameter in loaded.params
        if isinstance(parameter, click.Option)
        and not parameter.is_flag
        and not parameter.count
        and parameter.name not in _LEFT_OUT
    ]


def run(case: Case) -> None:
    pairs = [(command, option) for command in CALLS for option in options_of(command)]
    command, option = pairs[case.number % len(pairs)]
    value = case.rng.choice(VALUES)
    case.kind = command
    case.note(f"{command} {option} {value[:60]!r}")
    tree = Path(shutil.copytree(case.shared / "tree", case.folder / "tree"))
    words = [word.replace("{}", str(tree)) for word in CALLS[command].split()]
    arguments: list[Argument] = [command, *words]
    given = value.encode("utf-8", "surrogatepass")
    ran = outside(case, *arguments, option.encode() + b"=" + given, folder=tree)
    case.outcome = "refused" if ran.code > 1 else "done"


ATTACK = Attack(
    inputs="a hostile value for each option of each command that takes one",
    promise="the command does it, or says in one message why not, within 60 seconds",
    run=run,
    cases=200,
    prepare=prepare,
)
