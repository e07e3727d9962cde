"""Where an interrupted run goes on: weights, optimizer and history of its last whole epoch."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.errors import LearnError, readable
from veduta.learn.training.schedule import Epoch

if TYPE_CHECKING:
    from torch import Tensor

    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Recipe

__all__ = ["FOLDER", "State", "origin", "read_checkpoint", "remove_checkpoint", "write_checkpoint"]

FOLDER = "checkpoint"
_LAST = "last.safetensors"
_VERSION = 1
_SHOWN = 5  # keys that a message lists

Tensors = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class State:
    """A run after whole epochs.

    `weights`: of the network and of the loss, by name. `optimizer`: what it keeps of each
    parameter, by "number/name". `best`: the network's weights after the best epoch.
    """

    history: tuple[Epoch, ...]
    weights: Tensors
    optimizer: Tensors
    best: Tensors


def origin(recipe: Recipe, parts: DatasetSplits) -> dict[str, Any]:
    """Return what a checkpoint must have in common with the run that continues it."""
    values = recipe.as_json()
    ignored = ["about", "source", "tune"]
    if recipe.network.encoder:  # It prepares photos in its own way.
        ignored.append("input")
    for key in ignored:
        values.pop(key, None)
    return {
        "version": _VERSION,
        "recipe": recipe.name,
        "values": _flat(values),
        "photos": parts.digest,
        "numbers": [len(parts.train), len(parts.val), len(parts.class_names)],
    }


def write_checkpoint(folder: Path, state: State, made_by: Mapping[str, Any], best: int) -> None:
    """Write `folder`/checkpoint so that at any moment a whole one is there.

    Args:
        folder: of the run.
        state: after whole epochs; its tensors are on the processor.
        made_by: as `origin` returns it.
        best: number of the best epoch. Its weights are written once.

    Raises:
        LearnError: the disk is full, or the folder cannot be written.
    """
    place = folder / FOLDER
    best_file = f"best-{best:04}.safetensors"
    facts = {
        **made_by,
        "best": best_file,
        "history": [asdict(epoch) for epoch in state.history],
    }
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    tensors |= {f"optimizer/{name}": value for name, value in state.optimizer.items()}
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / best_file).exists():
            _write(place / best_file, state.best, {})
        # From here on the other file of best weights is no longer asked for.
        _write(place / _LAST, tensors, {"state": json.dumps(facts)})
        _tidy(place, best_file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LearnError(
                f"{readable(place)}: the disk is full, the checkpoint of epoch "
                f"{len(state.history)} has no room. The one before is kept: make room and run the "
                "same command again"
            ) from error
        raise LearnError(
            f"{readable(place)}: the checkpoint cannot be written: {error.strerror or error}"
        ) from error


def read_checkpoint(folder: Path, made_by: Mapping[str, Any]) -> State | None:
    """Read what `write_checkpoint` wrote; None where there is nothing.

    Files of an epoch whose checkpoint was not finished are removed.

    Raises:
        LearnError: it is of another recipe or of other photos, which the message names, or it does
            not read.
    """
    place = folder / FOLDER
    if not (place / _LAST).exists():
        remove_checkpoint(folder)
        return None
    tensors, facts = _read(place / _LAST)
    _compare(place, facts, made_by)
    best, _ = _read(place / str(facts["best"]))
    _tidy(place, str(facts["best"]))
    try:
        history = tuple(Epoch(**values) for values in facts["history"])
    except (KeyError, TypeError) as error:
        raise _damaged(place, error) from error
    kinds: dict[str, Tensors] = {"weights": {}, "optimizer": {}}
    for name, value in tensors.items():
        kind, _, own = name.partition("/")
        kinds[kind][own] = value
    return State(history, kinds["weights"], kinds["optimizer"], best)


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run, if there is one."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _tidy(place: Path, best_file: str) -> None:
    for old in place.iterdir():
        if old.name not in (best_file, _LAST):
            old.unlink()


def _write(file: Path, tensors: Tensors, facts: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    draft = file.with_name(f".{file.name}")
    try:
        save_file(tensors, draft, facts)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    except SafetensorError as error:
        draft.unlink(missing_ok=True)
        said = re.search(r"os error (\d+)", str(error))
        number = int(said[1]) if said else errno.EIO
        raise OSError(number, os.strerror(number)) from error
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _read(file: Path) -> tuple[Tensors, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            facts = json.loads((opened.metadata() or {}).get("state", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(file.parent, error) from error
    return tensors, facts


def _damaged(place: Path, error: Exception) -> LearnError:
    return LearnError(
        f"{readable(place)}: the checkpoint does not read ({error}). Delete this folder to begin "
        "anew"
    )


def _compare(place: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    remedy = "Give this run a folder of its own with --out, or delete the checkpoint"
    if found.get("version") != wanted["version"]:
        raise LearnError(
            f"{readable(place)}: the checkpoint is of another version of Veduta. {remedy}"
        )
    there, here = found["values"], wanted["values"]
    if not any(key.startswith("input.") for key in here):
        # Checkpoints of older versions have an input where it is not used.
        there = {key: value for key, value in there.items() if not key.startswith("input.")}
    if there != here:
        keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
        listed = "".join(
            f"\n  {key}: {_shown(there, key)} there, {_shown(here, key)} here"
            for key in keys[:_SHOWN]
        )
        more = f"\n  and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise LearnError(
            f"{readable(place)}: the checkpoint is of another recipe, {found['recipe']}:"
            f"{listed}{more}\n{remedy}"
        )
    if found["photos"] != wanted["photos"]:
        there, here = (_numbers(facts["numbers"]) for facts in (found, wanted))
        raise LearnError(
            f"{readable(place)}: the checkpoint is of other photos: {there} there, {here} here; "
            f"paths, labels, parts or content differ ({found['photos']}, {wanted['photos']}). "
            f"{remedy}"
        )


def _numbers(numbers: list[int]) -> str:
    train, val, classes = numbers
    return f"{train} to train on, {val} for validation, {classes} classes"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"


def _flat(values: Any, at: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables and lists, by keys as `--set` has them."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(value, dict | list) and value:
            flat |= _flat(value, f"{at}{key}.")
        else:
            flat[f"{at}{key}"] = value
    return flat
