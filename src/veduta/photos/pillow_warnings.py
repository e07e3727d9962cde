"""Pillow's warnings go to the log, where they name a photo and stop no program."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["logged_warnings"]

_log = logging.getLogger("veduta.photos")
_thread_local = threading.local()
_lock = threading.Lock()
_filters = contextlib.ExitStack()
_open_blocks = 0


@contextlib.contextmanager
def logged_warnings(name: str) -> Iterator[None]:
    """Log the warnings that Pillow issues in the block (level INFO) under the name of the photo.

    The filters of `warnings` belong to the whole process. The first thread that enters such a block
    sets them, and the last one that leaves restores them. Warnings of other packages are shown as
    usual.

    Args:
        name: of the photo.
    """
    global _open_blocks  # noqa: PLW0603
    with _lock:
        if _open_blocks == 0:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("always", module=r"PIL(\.|$)")
            warnings.showwarning = _with_log(warnings.showwarning)
        _open_blocks += 1
    _thread_local.name = name
    try:
        yield
    finally:
        with _lock:
            _open_blocks -= 1
            if _open_blocks == 0:
                _filters.close()


def _with_log(show: Callable[..., None]) -> Callable[..., None]:
    """Return a replacement of `warnings.showwarning` that logs the warnings of Pillow."""
    import PIL

    folder = str(Path(PIL.__file__).parent)

    def log_or_show(
        message: Warning | str, category: type[Warning], filename: str, *rest: object
    ) -> None:
        if filename.startswith(folder):
            _log.info("%s: %s", getattr(_thread_local, "name", "a photo"), message)
        else:
            show(message, category, filename, *rest)

    return log_or_show
