"""A file that appears complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file"]


@contextmanager
def whole_file(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of an empty file beside `file`, which takes its place at the end.

    An older `file` stays until then, and stays when the block raises.

    Raises `OSError` when it cannot be written.
    """
    target = Path(file)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".draft-", suffix=target.suffix)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        # mkstemp makes files for their owner alone; this one is as public as its folder.
        umask = os.umask(0)
        os.umask(umask)
        draft.chmod(0o666 & ~umask)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
