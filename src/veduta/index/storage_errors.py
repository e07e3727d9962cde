"""What an error of the operating system, or of Lance, means for an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veduta.errors import (
    CannotWrite,
    CollectionError,
    IndexDamaged,
    NotAnIndex,
    StorageError,
    StorageFull,
    VedutaError,
    readable,
)
from veduta.files import system_failure
from veduta.text import veduta_command


def repair_command(index: Path) -> str:
    """Return the command that mends a damaged index, for a message.

    Args:
        index: the folder of the index.
    """
    return veduta_command("repair", "--index", index)


def not_an_index(index: Path) -> NotAnIndex:
    """Return the error for a folder that is no index.

    Args:
        index: the folder, which may be missing.
    """
    if index.exists() and not index.is_dir():
        return NotAnIndex(f"{readable(index)} is a file, not an index.")
    what = "is not an index" if index.is_dir() else "does not exist"
    return NotAnIndex(
        f"{readable(index)} {what} (no index.json in it). Build one with: "
        f"{veduta_command('index', 'FOLDER', '--index', index)}"
    )


@contextmanager
def index_errors(index: Path, action: str) -> Iterator[None]:
    """Turn the errors of the operating system and of Lance into errors of the index.

    Args:
        index: the folder of the index.
        action: "read" or "write".
    """
    try:
        yield
    except CannotWrite as error:
        raise storage_error(error, index, action) from error
    except VedutaError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:  # Lance raises the first 3.
        raise storage_error(error, index, action) from error


@contextmanager
def system_errors(index: Path, action: str) -> Iterator[None]:
    """Turn errors that the operating system explains into errors of the index; let others pass.

    Args:
        index: the folder of the index.
        action: "read" or "write".
    """
    try:
        yield
    except OSError as error:
        # A photo or a file of the user that fails has a class of its own, as `CannotWrite` has.
        own = isinstance(error, VedutaError) and not isinstance(error, CannotWrite)
        if own or system_failure(error) is None:
            raise
        raise storage_error(error, index, action) from error


def storage_error(error: BaseException, index: Path, action: str) -> CollectionError:
    """Return the error of Veduta that says what an error means for an index.

    An error that the operating system explains, such as a full disk, never counts as damage.

    Args:
        error: an error of the operating system or of Lance.
        index: the folder of the index.
        action: "read" or "write".
    """
    failure = system_failure(error)
    if failure is not None:
        kept = " What was committed is kept." if failure.is_full else ""
        kind = StorageFull if failure.is_full else StorageError
        return kind(
            f"{readable(index)}: {failure.reason}, so it cannot {action} here.{kept} "
            f"{failure.remedy}, and run the same command again."
        )
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return IndexDamaged(
        f"{readable(index)}: its files do not {action} ({reason}). "
        f"Repair it with: {repair_command(index)}"
    )
