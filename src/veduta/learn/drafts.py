"""Files that appear together, once all of them are written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["draft_of"]


@contextmanager
def draft_of(folder: Path, *, last: str) -> Iterator[Path]:
    """Yield an empty folder; what is in it at the end moves into `folder`, which is made.

    Nothing moves when the block raises. `last` is what moves last: where it is, all is. One that is
    in `folder` from before goes first, and what is replaced goes with it.

    Raises `OSError` when something cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        yield draft
        (folder / last).unlink(missing_ok=True)
        for made in sorted(draft.iterdir(), key=lambda file: (file.name == last, file.name)):
            target = folder / made.name
            if target.is_dir():
                shutil.rmtree(target)
            made.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
