"""Pillow's warnings go to the log, where they name a photo and stop nobody's program."""

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
_photo = threading.local()
_lock = threading.Lock()
_scope = contextlib.ExitStack()
_inside = 0


@contextlib.contextmanager
def logged_warnings(name: str) -> Iterator[None]:
    """Within it, a warning that Pillow issues is logged (level INFO) under the photo's name.

    The filters of `warnings` belong to the whole process. The first thread that enters sets them
    and the last that leaves puts them back; other packages' warnings go their usual way throughout.
    """
    global _inside  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _scope.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("always", module=r"PIL(\.|$)")
            warnings.showwarning = _logging_instead_of(warnings.showwarning)
        _inside += 1
    _photo.name = name
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _scope.close()


def _logging_instead_of(show: Callable[..., None]) -> Callable[..., None]:
    import PIL

    folder = str(Path(PIL.__file__).parent)

    def log_or_show(
        message: Warning | str, category: type[Warning], filename: str, *rest: object
    ) -> None:
        if filename.startswith(folder):
            _log.info("%s: %s", getattr(_photo, "name", "a photo"), message)
        else:
            show(message, category, filename, *rest)

    return log_or_show
