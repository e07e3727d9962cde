"""The checkpoint of an interrupted run: weights, optimizer state and history of its last epoch."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from veduta.errors import LearnError, readable
from veduta.files import atomic_file, is_disk_full, is_draft
from veduta.learn.training.schedule import Epoch
from veduta.validation import InvalidValue, convert, parse_json

if TYPE_CHECKING:
    from torch import Tensor

    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.recipe import Recipe

__all__ = [
    "CHECKPOINT_FOLDER",
    "Checkpoint",
    "RunIdentity",
    "read_checkpoint",
    "remove_checkpoint",
    "run_identity",
    "write_checkpoint",
]

CHECKPOINT_FOLDER = "checkpoint"
LAST_FILE = "last.safetensors"
# A pattern. The names of a folder that a stranger wrote are compared with it.
_BEST_FILE = r"best-\d{4,}\.safetensors"
FORMAT_VERSION = 1
MAX_LISTED_KEYS = 5

_FIRST_WEIGHTS, _ENCODER = "first weights", "encoder"
"""Among the values of the recipe: the digest of the file that the network begins with, and the
identity of the encoder whose descriptors are its input."""

# The prefixes of the tensors in the file.
_NET, _LOSS, _OPTIMIZER = "weights/net.", "weights/goal.", "optimizer/"

Tensors = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run after an epoch.

    Attributes:
        history: the epochs so far.
        net_weights: the weights of the network by name.
        loss_weights: the weights of the loss by name.
        optimizer_state: the state of the optimizer for each parameter, by "number/name".
        best_weights: the weights of the network after the best epoch, by name.
    """

    history: tuple[Epoch, ...]
    net_weights: Tensors
    loss_weights: Tensors
    optimizer_state: Tensors
    best_weights: Tensors


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a checkpoint and the run that continues it must have in common.

    Attributes:
        version: the version of the format.
        recipe: the name of the recipe.
        values: the values of the recipe that decide the result, by keys as in `--set`.
        photos: the digest of the dataset.
        numbers: the numbers of training photos, validation photos and classes.
    """

    version: int
    recipe: str
    values: Mapping[str, Any]
    photos: str
    numbers: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Header:
    """The metadata of a checkpoint besides its identity."""

    best: Annotated[str, msgspec.Meta(pattern=rf"^{_BEST_FILE}\Z")]
    history: tuple[Epoch, ...]


def run_identity(
    recipe: Recipe, splits: DatasetSplits, first_weights: str = "", encoder: str = ""
) -> RunIdentity:
    """Return the identity of a run.

    Args:
        recipe: its recipe.
        splits: its photos.
        first_weights: the digest of the file whose weights the network begins with; "" for none.
        encoder: the identity of the encoder whose descriptors are the input; "" for none.
    """
    values = recipe.as_json()
    ignored = ["about", "source", "tune"]
    if recipe.network.encoder:  # An encoder prepares photos in its own way.
        ignored.append("input")
    for key in ignored:
        values.pop(key, None)
    if first_weights:
        values[_FIRST_WEIGHTS] = first_weights
    if encoder:
        values[_ENCODER] = encoder
    return RunIdentity(
        version=FORMAT_VERSION,
        recipe=recipe.name,
        values=_flat(values),
        photos=splits.digest,
        numbers=(len(splits.train), len(splits.choosing), len(splits.class_names)),
    )


def write_checkpoint(
    folder: Path, checkpoint: Checkpoint, identity: RunIdentity, best_epoch: int
) -> None:
    """Write `folder`/checkpoint. At any moment there is a whole checkpoint on the disk.

    Args:
        folder: the folder of the run.
        checkpoint: the state after an epoch. Its tensors are on the CPU.
        identity: the identity of the run.
        best_epoch: the number of the best epoch, whose weights are written only once.

    Raises:
        LearnError: the disk is full, or the folder cannot be written.
    """
    target = folder / CHECKPOINT_FOLDER
    best_file = f"best-{best_epoch:04}.safetensors"
    header = _Header(best_file, checkpoint.history)
    tensors = {f"{_NET}{name}": value for name, value in checkpoint.net_weights.items()}
    tensors |= {f"{_LOSS}{name}": value for name, value in checkpoint.loss_weights.items()}
    tensors |= {f"{_OPTIMIZER}{name}": value for name, value in checkpoint.optimizer_state.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        if not (target / best_file).exists():
            _write(target / best_file, checkpoint.best_weights, {})
        metadata = {"state": json.dumps({**asdict(identity), **asdict(header)})}
        _write(target / LAST_FILE, tensors, metadata)
        _remove_other_files(target, best_file)
    except OSError as error:
        if is_disk_full(error):
            raise LearnError(
                f"{readable(target)}: the disk is full, so the checkpoint of epoch "
                f"{len(checkpoint.history)} is not written. The one before it is kept. Free some "
                "space and run the same command again"
            ) from error
        raise LearnError(
            f"{readable(target)}: the checkpoint cannot be written: {error.strerror or error}"
        ) from error


def read_checkpoint(folder: Path, identity: RunIdentity) -> Checkpoint | None:
    """Read the checkpoint of a run. Files of an unfinished checkpoint are removed.

    Args:
        folder: the folder of the run.
        identity: the identity of the run.

    Returns:
        The checkpoint, or None if there is none.

    Raises:
        LearnError: the checkpoint belongs to another recipe or to other photos, or it cannot be
            read.
    """
    source = folder / CHECKPOINT_FOLDER
    if not (source / LAST_FILE).exists():
        remove_checkpoint(folder)
        return None
    tensors, metadata = _read(source / LAST_FILE)
    try:
        if isinstance(metadata, dict) and metadata.get("version") == FORMAT_VERSION:
            _compare(source, convert(metadata, RunIdentity), identity)
            header = convert(metadata, _Header)
        else:
            raise LearnError(
                f"{readable(source)}: the checkpoint belongs to another version of Veduta. "
                f"{_REMEDY}"
            )
    except InvalidValue as error:
        raise _damaged(source, error) from error
    best_weights, _ = _read(source / header.best)
    _remove_other_files(source, header.best)
    return Checkpoint(
        header.history,
        _with_prefix(tensors, _NET),
        _with_prefix(tensors, _LOSS),
        _with_prefix(tensors, _OPTIMIZER),
        best_weights,
    )


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run, if there is one."""
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)


def _with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _remove_other_files(folder: Path, best_file: str) -> None:
    for file in folder.iterdir():
        is_old = re.fullmatch(_BEST_FILE, file.name) is not None or is_draft(file)
        if is_old and file.name != best_file:
            file.unlink()


def _write(file: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_file(file, durable=True) as draft:
            save_file(tensors, draft, metadata)
    except SafetensorError as error:
        # safetensors names the error of the system only in its text.
        match = re.search(r"os error (\d+)", str(error))
        number = int(match[1]) if match else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def _read(file: Path) -> tuple[Tensors, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = parse_json((opened.metadata() or {}).get("state", "{}"), finite=False)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(file.parent, error) from error
    return tensors, metadata


def _damaged(folder: Path, error: Exception) -> LearnError:
    return LearnError(
        f"{readable(folder)}: the checkpoint cannot be read ({error}). Delete this folder to start "
        "again"
    )


_REMEDY = "Give this run its own folder with --out, or delete the checkpoint"


def _compare(folder: Path, stored: RunIdentity, current: RunIdentity) -> None:
    """Raise `LearnError` if a checkpoint does not belong to the run."""
    old, new = dict(stored.values), dict(current.values)
    if _ENCODER not in old:  # Older checkpoints do not name it.
        new.pop(_ENCODER, None)
    if not any(key.startswith("input.") for key in new):
        # Older checkpoints hold the unused input of a run with an encoder.
        old = {key: value for key, value in old.items() if not key.startswith("input.")}
    if old != new:
        keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        listed = "; ".join(
            f"{key}: {_shown(old, key)} in the checkpoint, {_shown(new, key)} in this run"
            for key in keys[:MAX_LISTED_KEYS]
        )
        more = f"; and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
        if keys == [_FIRST_WEIGHTS]:
            raise LearnError(
                f"{readable(folder)}: the checkpoint belongs to a run with other {listed}. Name "
                "the same weights with --from or network.weights, give this run its own folder "
                "with --out, or delete the checkpoint"
            )
        if keys == [_ENCODER]:
            raise LearnError(
                f"{readable(folder)}: the checkpoint belongs to descriptors of another encoder of "
                f"the same name: {listed}. {_REMEDY}"
            )
        raise LearnError(
            f"{readable(folder)}: the checkpoint belongs to another recipe, {stored.recipe}: "
            f"{listed}{more}. {_REMEDY}"
        )
    if stored.photos != current.photos:
        raise LearnError(
            f"{readable(folder)}: the checkpoint belongs to other photos: "
            f"{_counts(stored)} in the checkpoint, {_counts(current)} in this run. Paths, labels, "
            f"splits or contents differ ({stored.photos}, {current.photos}). {_REMEDY}"
        )


def _counts(identity: RunIdentity) -> str:
    train, val, classes = identity.numbers
    return f"{train} for training, {val} for validation, {classes} classes"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables and lists, by keys as in `--set`."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(value, dict | list) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
